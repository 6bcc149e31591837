//! Whether a source may be mounted at a place, with the reason why not.
//!
//! Everything that can be known before mounting is refused here, in a sentence, instead of being
//! found out in a mount that hangs or hides files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use crate::daemon::mountinfo;
use crate::error::{Error, Result};

/// How long a mount that may hang is waited for.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Checks a source folder: there, a folder, and readable. Gives its canonical path.
pub fn source(path: &Path) -> Result<PathBuf> {
    let shown = path.display();
    let canonical = fs::canonicalize(path)
        .map_err(|error| Error::from_io(format!("mount {shown}: the source"), &error))?;
    if !canonical.is_dir() {
        return Err(Error::NotDirectory(format!("mount {shown}: the source is not a directory")));
    }
    fs::read_dir(&canonical)
        .map_err(|error| Error::from_io(format!("mount {shown}: list the source"), &error))?;
    Ok(canonical)
}

/// Checks a mountpoint: there, a folder, empty, and nothing mounted on it. Gives its canonical
/// path.
pub fn mountpoint(path: &Path) -> Result<PathBuf> {
    let shown = path.display();
    refuse_mounted(path)?;
    let canonical = fs::canonicalize(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::NotFound(format!(
            "mount at {shown}: the mountpoint is not there: make it with `mkdir {shown}`"
        )),
        _ => Error::from_io(format!("mount at {shown}: the mountpoint"), &error),
    })?;
    if !canonical.is_dir() {
        return Err(Error::NotDirectory(format!(
            "mount at {shown}: the mountpoint is not a directory"
        )));
    }
    let mut names = fs::read_dir(&canonical)
        .map_err(|error| Error::from_io(format!("mount at {shown}: list it"), &error))?;
    if let Some(name) = names.next() {
        let name = name.map(|entry| entry.file_name().to_string_lossy().into_owned());
        return Err(Error::Busy(format!(
            "mount at {shown}: the directory is not empty (it has {}); its files would be hidden: \
             choose an empty one",
            name.unwrap_or_default()
        )));
    }
    Ok(canonical)
}

fn refuse_mounted(path: &Path) -> Result<()> {
    let shown = path.display();
    let Some(mount) = mountinfo::mount_at(&absolute(path)?)? else { return Ok(()) };
    let removal = format!("`deltafs unmount {shown}` removes it");
    let reason = if !mount.is_ours() {
        format!("a {} is mounted there already", mount.kind)
    } else {
        match pulse(path) {
            Pulse::Dead => format!("a dead deltafs mount is there (its daemon is gone): {removal}"),
            Pulse::Silent => format!("a deltafs mount is there that does not answer: {removal}"),
            Pulse::Answers => {
                format!("{} is mounted there already: {removal}", mount.source.to_string_lossy())
            }
        }
    };
    Err(Error::Busy(format!("mount at {shown}: {reason}")))
}

/// Refuses to mount a folder over itself or into itself, and to serve a folder that has the mount
/// inside: the daemon would wait for its own answer. Both paths are canonical.
pub fn overlap(source: &Path, mountpoint: &Path) -> Result<()> {
    let (from, to) = (source.display(), mountpoint.display());
    let reason = if source == mountpoint {
        "the source and the mountpoint are the same directory"
    } else if mountpoint.starts_with(source) {
        "the mountpoint is inside the source"
    } else if source.starts_with(mountpoint) {
        "the source is inside the mountpoint"
    } else {
        return Ok(());
    };
    Err(Error::Refused(format!(
        "mount {from} at {to}: {reason}; choose a mountpoint outside of the tables"
    )))
}

/// What becomes of a request to a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulse {
    Answers,
    /// The daemon is gone.
    Dead,
    /// The daemon hangs, or is stopped.
    Silent,
}

/// Asks a mount for its space.
pub fn pulse(point: &Path) -> Pulse {
    let point = point.to_owned();
    pulse_of(move || rustix::fs::statfs(point).map(drop))
}

/// Asks from a thread, because a request to a mount that doesn't answer can't be taken back. The
/// thread then stays in the mount as its user until the process ends.
fn pulse_of(ask: impl FnOnce() -> rustix::io::Result<()> + Send + 'static) -> Pulse {
    use rustix::io::Errno;
    let (sender, answer) = mpsc::channel();
    std::thread::spawn(move || {
        // Nobody listens any more after the limit.
        let _ = sender.send(ask());
    });
    match answer.recv_timeout(ANSWER_LIMIT) {
        Ok(Err(Errno::NOTCONN | Errno::CONNABORTED)) => Pulse::Dead,
        Ok(_) => Pulse::Answers,
        Err(_) => Pulse::Silent,
    }
}

/// The absolute path of a place that may not be asked about itself, such as a dead mount: what is
/// above it is resolved, its own name is not.
pub fn absolute(path: &Path) -> Result<PathBuf> {
    if let Ok(canonical) = fs::canonicalize(path) {
        return Ok(canonical);
    }
    let failed = |error| Error::from_io(format!("resolve {}", path.display()), &error);
    let absolute = std::path::absolute(path).map_err(failed)?;
    match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) => match fs::canonicalize(parent) {
            Ok(parent) => Ok(parent.join(name)),
            Err(_) => Ok(absolute),
        },
        _ => Ok(absolute),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal<T: std::fmt::Debug>(result: Result<T>) -> String {
        result.expect_err("refused").to_string()
    }

    #[test]
    fn a_source_must_be_a_readable_directory() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        assert!(source(scratch.path()).is_ok());
        assert!(refusal(source(&scratch.path().join("none"))).contains("not found"));
        let file = scratch.path().join("file");
        fs::write(&file, "x").expect("written");
        assert!(refusal(source(&file)).contains("not a directory"));
    }

    #[test]
    fn a_mountpoint_must_be_an_empty_directory() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        assert!(mountpoint(scratch.path()).is_ok());
        assert!(refusal(mountpoint(&scratch.path().join("none"))).contains("mkdir"));
        let file = scratch.path().join("file");
        fs::write(&file, "x").expect("written");
        assert!(refusal(mountpoint(&file)).contains("not a directory"));
        assert!(refusal(mountpoint(scratch.path())).contains("not empty (it has file)"));
    }

    #[test]
    fn a_place_where_something_is_mounted_is_refused() {
        assert!(refusal(mountpoint(Path::new("/proc"))).contains("a proc is mounted there"));
    }

    #[test]
    fn a_mount_that_does_not_answer_is_not_waited_for() {
        use rustix::io::Errno;
        assert_eq!(pulse(Path::new("/proc")), Pulse::Answers);
        assert_eq!(pulse_of(|| Err(Errno::NOTCONN)), Pulse::Dead);
        // What it may not tell us, it has answered.
        assert_eq!(pulse_of(|| Err(Errno::ACCESS)), Pulse::Answers);
        let (_held, never) = mpsc::channel::<()>();
        let silent = pulse_of(move || never.recv().map_err(|_| Errno::NOTCONN));
        assert_eq!(silent, Pulse::Silent);
    }

    #[test]
    fn source_and_mountpoint_do_not_overlap() {
        let check = |source, mountpoint| overlap(Path::new(source), Path::new(mountpoint));
        assert!(check("/data/lake", "/mnt/lake").is_ok());
        assert!(check("/data/lake", "/data/lake2").is_ok());
        assert!(refusal(check("/data/lake", "/data/lake")).contains("the same"));
        assert!(refusal(check("/data/lake", "/data/lake/mnt")).contains("inside the source"));
        assert!(refusal(check("/data/lake/t", "/data/lake")).contains("inside the mountpoint"));
        assert!(refusal(check("/", "/mnt")).contains("inside the source"));
    }

    #[test]
    fn a_path_that_is_not_there_is_resolved_up_to_its_name() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let link = scratch.path().join("link");
        std::os::unix::fs::symlink("/proc", &link).expect("linked");
        let resolved = absolute(&link.join("none")).expect("resolved");
        assert_eq!(resolved, Path::new("/proc/none"));
    }
}
