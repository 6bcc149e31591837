//! System calls on the spool: beneath a folder, through no symlink, with errors that name a path.

use std::ffi::OsStr;
use std::fmt::Debug;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// The way to a folder on which `*at` calls are made; needs no permission to read it.
pub(super) const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);
/// The way to whatever is there.
pub(super) const FOLDER_OR_FILE: OFlags = OFlags::PATH;
/// A folder that is listed or synced.
pub(super) const FOLDER_TO_READ: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

/// Never out of the folder, never through a symlink, never onto another file system.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// Makes an [`Error`] of a failed call: what was done, and to which path.
pub(super) fn failed<E: Into<io::Error>>(doing: &str, path: impl Debug) -> impl FnOnce(E) -> Error {
    move |source| Error::from_io(format!("{doing} {path:?}"), &source.into())
}

/// Opens what is at a relative path beneath `folder`; the empty path is the folder itself.
pub(super) fn open_beneath(
    folder: impl AsFd,
    path: &Path,
    flags: OFlags,
    mode: Mode,
) -> rustix::io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let mut flags = flags | OFlags::CLOEXEC;
    if !flags.contains(OFlags::PATH) {
        // Regular files ignore O_NONBLOCK; a FIFO that somebody put into the spool can't hang us.
        flags |= OFlags::NONBLOCK | OFlags::NOCTTY;
    }
    rustix::fs::openat2(folder, path, flags, mode, BENEATH)
}

/// Attributes of what a descriptor stands for.
pub(super) fn stat_open(file: impl AsFd) -> rustix::io::Result<Statx> {
    rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, wanted())
}

/// Attributes of a name in a folder; a symlink is not followed.
pub(super) fn stat_name(folder: impl AsFd, name: &OsStr) -> rustix::io::Result<Statx> {
    rustix::fs::statx(folder, name, AtFlags::SYMLINK_NOFOLLOW, wanted())
}

fn wanted() -> StatxFlags {
    StatxFlags::BASIC_STATS | StatxFlags::BTIME
}

/// The path that leads to an open descriptor's file, even to an unlinked one or an `O_PATH` one.
pub(super) fn magic_path(file: impl AsFd) -> String {
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())
}

/// Makes a folder's names durable.
pub(super) fn sync_folder(folder: impl AsFd, path: impl Debug) -> Result<()> {
    rustix::fs::fsync(folder).map_err(failed("sync directory", path))
}

/// Checks that a name from outside is one path component.
pub(super) fn component(name: &OsStr) -> Result<&OsStr> {
    use std::os::unix::ffi::OsStrExt;
    let bytes = name.as_bytes();
    if matches!(bytes, b"" | b"." | b"..") || bytes.contains(&b'/') || bytes.contains(&0) {
        return Err(Error::Refused(format!("{name:?} is not the name of a file")));
    }
    Ok(name)
}

/// Whether a call failed because the file system, or the pair of files, can't do it.
pub(super) fn is_unsupported(error: Errno) -> bool {
    matches!(error, Errno::OPNOTSUPP | Errno::NOSYS | Errno::XDEV | Errno::INVAL)
}
