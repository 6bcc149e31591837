//! The daemon in the background: how it is started, and how its starter learns what became of it.
//!
//! The starter runs this program again with `--daemon`, and the new process's standard output is a
//! pipe to it. The new one writes one line: `ready`, or the sentence why it can't be. No fork: a
//! process with threads can't be forked safely. Until then a Ctrl-C reaches both.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Error, Result};

/// What the daemon writes when the mount answers.
const READY: &str = "ready";

/// For glibc's allocator, which reads them when a process begins; others don't. By itself it keeps
/// as much of what was freed as the largest block that ever was, in arenas for every thread: after
/// a large table was loaded that is half of the memory. Smaller numbers cost page faults, for the
/// buffers of a log's reader then go back to the system one by one.
const ALLOCATOR: [(&str, &str); 3] = [
    ("MALLOC_ARENA_MAX", "1"),
    ("MALLOC_MMAP_THRESHOLD_", "2097152"),
    ("MALLOC_TRIM_THRESHOLD_", "4194304"),
];

/// The trace of a daemon that nobody gave a file is moved aside at this size, when one starts.
const TRACE_BYTES_MAX: u64 = 10 << 20;

/// Starts the daemon with these arguments and waits until its mount answers, or is refused.
pub fn spawn(arguments: &[OsString], trace: Option<File>) -> Result<()> {
    let failed = |error| Error::from_io("start the daemon", &error);
    let program = std::env::current_exe().map_err(failed)?;
    let mut child = Command::new(program)
        .args(arguments)
        .envs(ALLOCATOR.iter().filter(|(name, _)| std::env::var_os(name).is_none()).copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(trace.map_or_else(Stdio::null, Stdio::from))
        .spawn()
        .map_err(failed)?;
    let pipe = child.stdout.take().ok_or_else(|| Error::Damaged("BUG: no pipe".into()))?;
    let mut line = String::new();
    BufReader::new(pipe).read_line(&mut line).map_err(failed)?;
    match line.trim_end() {
        READY => Ok(()),
        "" => {
            let status = child.wait().map_err(failed)?;
            Err(Error::Damaged(format!("the daemon ended before its mount answered ({status})")))
        }
        sentence => {
            // It has said why, and is about to end.
            let _ = child.wait();
            Err(Error::Refused(sentence.to_owned()))
        }
    }
}

/// In the daemon: tells the starter that the mount answers, and leaves its session and folder.
pub fn report_ready() -> Result<()> {
    rustix::process::setsid().map_err(|errno| Error::from_io("setsid", &errno.into()))?;
    rustix::process::chdir("/").map_err(|errno| Error::from_io("chdir /", &errno.into()))?;
    report(READY);
    Ok(())
}

/// In the daemon: tells the starter why there is no mount.
pub fn report_failure(error: &Error) {
    report(&error.to_string().replace('\n', " "));
}

fn report(line: &str) {
    let mut out = io::stdout().lock();
    // A starter that is gone doesn't want to know.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Where a daemon traces to that nobody gave a file:
/// `$XDG_STATE_HOME/deltafs/MOUNTPOINT.log`, by default in `~/.local/state`. None without a home.
pub fn default_trace(mountpoint: &Path) -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let state = absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))?;
    Some(state.join("deltafs").join(trace_name(mountpoint)))
}

/// `/mnt/lake` -> `mnt-lake.log`.
fn trace_name(mountpoint: &Path) -> OsString {
    let mut name = OsString::new();
    for part in mountpoint.components().skip(1) {
        if !name.is_empty() {
            name.push("-");
        }
        name.push(part.as_os_str());
    }
    name.push(".log");
    name
}

/// Opens the default trace for appending; a long one is moved to `NAME.old` first.
pub fn open_default_trace(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() > TRACE_BYTES_MAX) {
        let mut old = path.as_os_str().to_owned();
        old.push(".old");
        fs::rename(path, old)?;
    }
    open_trace(path)
}

/// Opens a file to trace to, for its owner's eyes.
pub fn open_trace(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_named_for_its_mountpoint() {
        assert_eq!(trace_name(Path::new("/mnt/lake")), "mnt-lake.log");
        assert_eq!(trace_name(Path::new("/data")), "data.log");
    }

    #[test]
    fn a_long_trace_is_moved_aside() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let path = scratch.path().join("deltafs/x.log");
        open_default_trace(&path).expect("opened").set_len(TRACE_BYTES_MAX + 1).expect("long");
        open_default_trace(&path).expect("opened again");
        assert_eq!(fs::metadata(&path).expect("new").len(), 0);
        assert!(scratch.path().join("deltafs/x.log.old").exists());
    }
}
