//! The mark of a file that somebody is writing to, or could not write to.
//!
//! It is set on disk before the first write, and taken away when all who write have closed or
//! synced the file and none of their writes failed. So what a daemon's death cuts short, or a full
//! disk, is known to the next daemon, and no commit takes the file for a whole one: a log file that
//! is cut at a line's end shows it in no other way. Where a file system keeps no such attribute,
//! nothing is marked.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::buffer::spare_capacity;
use rustix::fs::{Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use super::activity::{Failure, Handle};
use super::disk::{FOLDER_TO_READ, failed, magic_path, open_beneath, stat_name};
use super::lookup::{names_in, open_deep};
use super::reference::with_owner_access;
use super::stat::id_of;
use super::{StagedKind, Stat};
use crate::error::{Error, Result};

const ATTRIBUTE: &str = "user.deltafs.writing";

/// Marks a file. A full disk takes no mark, and the write that follows says so.
pub(super) fn set(file: impl AsFd) -> Result<()> {
    let set = || rustix::fs::fsetxattr(&file, ATTRIBUTE, b"", XattrFlags::empty());
    let result = match set() {
        Err(Errno::ACCESS) => with_owner_access(&file, set),
        result => result,
    };
    match result {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSPC | Errno::DQUOT) => Ok(()),
        Err(error) => Err(failed("mark", "staged file")(error)),
    }
}

/// Marks a file of which the system told that it could not write all: it tells so once, and takes
/// the pages for written then.
pub(super) fn set_lost(file: impl AsFd) {
    if let Err(error) = set(file) {
        tracing::warn!("lost bytes of a staged file are remembered until the daemon ends: {error}");
    }
}

/// Takes the mark away.
pub(super) fn clear(file: impl AsFd) -> Result<()> {
    let remove = || rustix::fs::fremovexattr(&file, ATTRIBUTE);
    let result = match remove() {
        Err(Errno::ACCESS) => with_owner_access(&file, remove),
        result => result,
    };
    match result {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NODATA) => Ok(()),
        Err(error) => Err(failed("unmark", "staged file")(error)),
    }
}

impl Handle {
    /// Marks the file before a write; `flushed` says already that one is on its way.
    pub(super) fn mark(&self) -> Result<()> {
        let mut marked = self.inode.marked();
        if !*marked {
            set(&self.file)?;
            *marked = true;
        }
        Ok(())
    }

    /// Takes a mark away that an earlier daemon left, or a failed write: the file begins anew.
    pub(super) fn clear_mark(&self) -> Result<()> {
        let mut marked = self.inode.marked();
        *marked = false;
        clear(&self.file)
    }
}

/// The files below a folder that an earlier daemon left marked, however deep; but for those in
/// directories that their owner closed to us.
pub(super) fn left_behind(root: &OwnedFd) -> Result<Vec<Failure>> {
    let mut found = Vec::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(path) = waiting.pop() {
        let folder = match open_deep(root, &path, FOLDER_TO_READ) {
            Ok(folder) => folder,
            Err(Errno::ACCESS) => continue,
            Err(error) => return Err(failed("list", path)(error)),
        };
        for name in names_in(&folder)? {
            let here = path.join(&name);
            let statx = match stat_name(&folder, &name) {
                Ok(statx) => statx,
                Err(Errno::ACCESS) => continue,
                Err(error) => return Err(failed("look at", here)(error)),
            };
            match Stat::of(&statx).map(|stat| stat.kind) {
                Some(StagedKind::Directory) => waiting.push(here),
                Some(StagedKind::File) if is_set(&folder, &name)? => found.push(Failure {
                    id: id_of(&statx),
                    error: Error::Damaged("the daemon ended while it was being written".into()),
                }),
                Some(StagedKind::File) | None => {}
            }
        }
    }
    Ok(found)
}

fn is_set(folder: &OwnedFd, name: &OsStr) -> Result<bool> {
    let file = open_beneath(folder, Path::new(name), OFlags::PATH, Mode::empty())
        .map_err(failed("open", name))?;
    let mut value = Vec::with_capacity(1);
    match rustix::fs::getxattr(magic_path(&file), ATTRIBUTE, spare_capacity(&mut value)) {
        Ok(_) => Ok(true),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::ACCESS) => Ok(false),
        Err(error) => Err(failed("look at", name)(error)),
    }
}
