//! What commits run now, for `TABLE/.deltafs/commits`.
//!
//! The kernel locks a directory while its fsync waits, so a commit's progress can't be told in the
//! staging directory itself; it is told here, in the table's own control directory.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The commits of one table that run now, by staging directory.
#[derive(Debug, Default)]
pub struct CommitBoard {
    running: Mutex<BTreeMap<String, Posted>>,
}

#[derive(Debug)]
struct Posted {
    progress: Progress,
    since: Instant,
}

/// How far something is, told by whoever does it. Clones tell of the same.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Mutex<State>>);

#[derive(Clone, Debug, Default)]
struct State {
    doing: String,
    files: Amount,
    bytes: Amount,
}

/// How much is done, and of how much; nothing of nothing where that is not counted.
#[derive(Clone, Copy, Debug, Default)]
struct Amount {
    done: u64,
    total: u64,
}

/// The name of a staging directory as the board has it: in one field of one line.
pub fn posted_name(name: &str) -> String {
    name.replace(['\t', '\n'], "?")
}

/// A commit's line on the board; dropping it takes the line away.
#[must_use]
#[derive(Debug)]
pub struct BoardLine<'a> {
    board: &'a CommitBoard,
    name: String,
    progress: Progress,
}

impl CommitBoard {
    /// Puts a line up for the commit of staging directory `name`. Where one runs already, that one
    /// is told of: a second can do no more than be refused.
    pub fn begin(&self, name: &str) -> BoardLine<'_> {
        let progress = Progress::default();
        progress.tell("seals the staging directory");
        let posted = Posted { progress: progress.clone(), since: Instant::now() };
        self.running().entry(name.to_string()).or_insert(posted);
        BoardLine { board: self, name: name.to_string(), progress }
    }

    /// One line for each running commit, parted by tabs: `staging/NAME`, what it does, files done
    /// and bytes done of all that this takes, seconds since it began.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (name, posted) in self.running().iter() {
            let name = posted_name(name);
            let State { doing, files, bytes } = posted.progress.state().clone();
            let seconds = posted.since.elapsed().as_secs();
            text += &format!(
                "staging/{name}\t{doing}\t{}/{} files\t{}/{} bytes\t{seconds} s\n",
                files.done, files.total, bytes.done, bytes.total
            );
        }
        text
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<String, Posted>> {
        // A line is put up or taken away whole, so a panic elsewhere can't have left half of one.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress {
    /// Says what is done now, where it can't be counted.
    pub fn tell(&self, doing: impl Into<String>) {
        self.count(doing, 0, 0);
    }

    /// Says what is done now, with how many files and bytes; none of them are done yet.
    pub fn count(&self, doing: impl Into<String>, files: u64, bytes: u64) {
        let of = |total| Amount { done: 0, total };
        *self.state() = State { doing: doing.into(), files: of(files), bytes: of(bytes) };
    }

    /// Says that so much more is done.
    pub fn advance(&self, files: u64, bytes: u64) {
        let mut state = self.state();
        state.files.done = state.files.total.min(state.files.done + files);
        state.bytes.done = state.bytes.total.min(state.bytes.done + bytes);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deref for BoardLine<'_> {
    type Target = Progress;

    fn deref(&self) -> &Progress {
        &self.progress
    }
}

impl Drop for BoardLine<'_> {
    fn drop(&mut self) {
        let mut running = self.board.running();
        let is_ours = |posted: &Posted| Arc::ptr_eq(&posted.progress.0, &self.progress.0);
        if running.get(&self.name).is_some_and(is_ours) {
            running.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_running_commit_has_a_line_until_it_ends() {
        let board = CommitBoard::default();
        let line = board.begin("a");
        let _other = board.begin("b");
        let _odd = board.begin("c\td\ne");
        line.count("publishes files", 3, 100);
        line.advance(1, 40);
        line.advance(1, 90);
        let text = board.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "staging/a\tpublishes files\t2/3 files\t100/100 bytes\t0 s");
        assert!(lines[1].starts_with("staging/b\tseals the staging directory\t0/0 files\t"));
        assert!(lines[2].starts_with("staging/c?d?e\tseals"));
        line.tell("sends version 7");
        assert!(board.text().starts_with("staging/a\tsends version 7\t0/0 files\t0/0 bytes\t"));
        drop(line);
        assert_eq!(board.text().lines().count(), 2);
    }

    #[test]
    fn who_comes_second_takes_nobodys_line_away() {
        let board = CommitBoard::default();
        let first = board.begin("a");
        first.tell("works");
        drop(board.begin("a"));
        assert!(board.text().starts_with("staging/a\tworks\t"));
        drop(first);
        assert_eq!(board.text(), "");
    }
}
