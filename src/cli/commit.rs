//! `deltafs commit`: what `sync DIR` does, with its progress and its result in words.

use std::fs::{self, File};
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use crate::cli::bar::{Bar, Line};
use crate::cli::print;
use crate::daemon::mountinfo;
use crate::error::{Error, Result};
use crate::table::posted_name;

/// Commit a staging directory.
///
/// Does what `sync DIR` does, draws a progress bar where standard error is a terminal, and prints
/// the result as JSON. If the commit is refused, the reason is printed, the exit code is 1, and
/// what is staged is kept.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  deltafs commit /mnt/lake/sales/staging/november")]
pub struct Commit {
    /// A directory made in `staging/` of a table.
    directory: PathBuf,
}

const POLL: Duration = Duration::from_millis(100);

impl Commit {
    /// Commits.
    pub fn run(self) -> Result<()> {
        let directory = Directory::find(&self.directory)?;
        let before = directory.result();
        let synced = directory.sync(io::stderr().is_terminal())?;
        let result = directory.result();
        let shown = directory.path.display();
        match (synced, result) {
            (Ok(()), Some(text)) => print(&text),
            (Ok(()), None) => {
                Err(Error::Damaged(format!("commit {shown}: done, but there is no result")))
            }
            (Err(error), result) => {
                if let Some(text) = result.as_ref().filter(|_| result != before) {
                    print(text)?;
                }
                let reason = reason(before.as_deref(), result.as_deref(), &error);
                Err(Error::Refused(format!("commit {shown}: {reason}")))
            }
        }
    }
}

/// Why a commit failed: the sentence of its result; or what the kernel says, if the daemon could
/// write none. A result that is as it was `before` can be an earlier commit's, or the same again.
fn reason(before: Option<&str>, result: Option<&str>, error: &io::Error) -> String {
    let sentence = result.and_then(|text| {
        let result: Value = serde_json::from_str(text).ok()?;
        Some(result.get("error")?.as_str()?.to_owned())
    });
    let traced = "the daemon's trace has the reason";
    match sentence {
        Some(sentence) if result != before => sentence,
        Some(sentence) => format!("{error}; {traced}, or it is that of last time: {sentence}"),
        None => format!("{error}; {traced}"),
    }
}

/// A staging directory.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
    name: String,
    /// What runs in the whole table; the kernel locks the staging directory itself.
    board: PathBuf,
}

impl Directory {
    fn find(path: &Path) -> Result<Directory> {
        let shown = path.display();
        let canonical = fs::canonicalize(path)
            .map_err(|error| Error::from_io(format!("commit {shown}"), &error))?;
        let ours = mountinfo::mount_of(&canonical)?.is_some_and(|mount| mount.is_ours());
        let table = canonical.parent().and_then(Path::parent);
        let looked = std::fs::metadata(canonical.join(".deltafs/changes"));
        if looked.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotConnected) {
            return Err(Error::Unreachable(format!(
                "commit {shown}: the mount's daemon is dead; `deltafs unmount`, then mount again: \
                 what is staged is kept"
            )));
        }
        let staged = looked.is_ok();
        match table.filter(|_| ours && staged) {
            Some(table) => {
                let board = table.join(".deltafs/commits");
                let name = canonical.file_name().unwrap_or_default();
                let name = posted_name(&name.to_string_lossy());
                Ok(Directory { path: canonical, name, board })
            }
            None => Err(Error::Refused(format!(
                "commit {shown}: not a staging directory of a deltafs mount: make one with \
                 `mkdir TABLE/staging/NAME`"
            ))),
        }
    }

    /// The result of the last commit, if there was one.
    fn result(&self) -> Option<String> {
        fs::read_to_string(self.path.join(".deltafs/result")).ok()
    }

    /// Opens and fsyncs the directory, as `sync DIR` does. The outer result is about us, the inner
    /// one is the commit's.
    fn sync(&self, progress: bool) -> Result<io::Result<()>> {
        let (sender, outcome) = channel();
        let path = self.path.clone();
        let sync = move || {
            // Nobody listens any more if the process is ending.
            let _ = sender.send(File::open(path).and_then(|directory| directory.sync_all()));
        };
        std::thread::Builder::new()
            .spawn(sync)
            .map_err(|error| Error::from_io("start a thread", &error))?;
        Ok(self.wait(&outcome, progress))
    }

    fn wait(&self, outcome: &Receiver<io::Result<()>>, progress: bool) -> io::Result<()> {
        let bar = progress.then(Bar::new);
        loop {
            match outcome.recv_timeout(POLL) {
                Ok(outcome) => return outcome,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(io::Error::other("BUG: the thread that syncs is gone"));
                }
                Err(RecvTimeoutError::Timeout) => {
                    // Progress that can't be read is no reason to stop.
                    if let Some(bar) = &bar
                        && let Ok(board) = fs::read_to_string(&self.board)
                        && let Some(line) = Line::find(&board, &self.name)
                    {
                        bar.show(&line);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_the_words_of_the_result() {
        let error = io::Error::from(io::ErrorKind::InvalidInput);
        let result = Some(r#"{"error": "a.parquet: no footer"}"#);
        let old = Some(r#"{"version": 7}"#);
        assert_eq!(reason(None, result, &error), "a.parquet: no footer");
        assert_eq!(reason(old, result, &error), "a.parquet: no footer");
        assert!(reason(None, old, &error).contains("trace"));
        assert!(reason(None, None, &error).contains("trace"));
    }

    #[test]
    fn the_reason_of_an_earlier_commit_is_not_told_as_this_ones() {
        let error = io::Error::from(rustix::io::Errno::NOSPC);
        let old = Some(r#"{"error": "a.parquet: no footer"}"#);
        let told = reason(old, old, &error);
        assert!(told.starts_with("No space left on device (os error 28); the daemon's"), "{told}");
        assert!(told.ends_with("last time: a.parquet: no footer"), "{told}");
    }

    #[test]
    fn a_directory_that_is_no_staging_directory_is_refused() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let refused = Directory::find(scratch.path()).expect_err("on no mount of ours");
        assert!(refused.to_string().contains("not a staging directory"), "{refused}");
    }
}
