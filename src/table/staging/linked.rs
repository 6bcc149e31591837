//! The tree that a commit works on: hard links to the staged files, beside what users see.
//!
//! So users go on with the names while a commit reads and publishes the files as they were: taking
//! a name away, or giving it to another file, doesn't reach the links. The bytes themselves are
//! shared, and `activity` keeps everybody from altering them. The links go with the commit, once
//! its outcome is known; what a crash leaves of them is removed before the next.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Gid, Mode, Statx, Uid, fchmod, fchown};
use rustix::io::Errno;

use super::activity::Frozen;
use super::directory::Staging;
use super::disk::{FOLDER_OR_FILE, FOLDER_TO_READ, failed, open_beneath, stat_name, stat_open};
use super::lookup::{DEPTH_MAX, names_in, open_deep, too_deep};
use super::manifest::{StagedIdentity, take_name};
use super::stat::{PERMISSIONS, id_of};
use super::{StagedKind, Stat};
use crate::error::Result;

/// The tree of links, within a staging directory's folder.
pub(super) const SEALED: &str = "sealed";

/// Links the staged files aside, all or only those that still are what a list says. Returns the
/// tree, and what must stay as it is while it is used.
///
/// Errors: [`Error::Refused`] for directories too deep, and the system's.
pub(super) fn make(
    staging: &Staging,
    only: Option<&HashSet<StagedIdentity>>,
) -> Result<(OwnedFd, Frozen)> {
    remove(staging)?;
    let folder = &staging.folder;
    rustix::fs::mkdirat(folder, SEALED, Mode::RWXU).map_err(failed("make directory", SEALED))?;
    let root = open_beneath(folder, Path::new(SEALED), FOLDER_TO_READ, Mode::empty())
        .map_err(failed("open", SEALED))?;
    let mut links = Links { staging, only, frozen: Frozen::default() };
    if let Err(error) = links.link_below(&staging.root, &root, Path::new(""), 0) {
        // Else they keep the space that a user gives back by removing files.
        if let Err(error) = remove(staging) {
            tracing::warn!(staging = staging.name(), "links of a commit stay: {error}");
        }
        return Err(error);
    }
    Ok((root, links.frozen))
}

/// Removes the tree of links, if there is one.
pub(super) fn remove(staging: &Staging) -> Result<()> {
    remove_tree(&staging.folder, OsStr::new(SEALED))
}

struct Links<'a> {
    staging: &'a Staging,
    only: Option<&'a HashSet<StagedIdentity>>,
    frozen: Frozen,
}

impl Links<'_> {
    fn link_below(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        path: &Path,
        depth: usize,
    ) -> Result<()> {
        if depth > DEPTH_MAX {
            return Err(too_deep(path));
        }
        for name in names_in(from)? {
            let here = path.join(&name);
            // The name stands still between the look and the link, where others go on.
            let names = self.staging.names_shared();
            let statx = match stat_name(from, &name) {
                Ok(statx) => statx,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(failed("seal", here)(error)),
            };
            match Stat::of(&statx).map(|stat| stat.kind) {
                Some(StagedKind::File) => self.link(from, to, &here, &statx)?,
                Some(StagedKind::Directory) => {
                    drop(names);
                    self.enter(from, to, &here, &statx, depth)?;
                }
                None => {}
            }
        }
        Ok(())
    }

    fn link(&mut self, from: &OwnedFd, to: &OwnedFd, path: &Path, statx: &Statx) -> Result<()> {
        let name = path.file_name().unwrap_or_default();
        if let Some(only) = self.only {
            let Some(text) = path.to_str() else { return Ok(()) };
            if !only.contains(&StagedIdentity::of(text.to_owned(), statx)) {
                return Ok(());
            }
        }
        rustix::fs::linkat(from, name, to, name, AtFlags::empty()).map_err(failed("seal", path))?;
        self.frozen.files.insert(id_of(statx));
        Ok(())
    }

    fn enter(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        path: &Path,
        statx: &Statx,
        depth: usize,
    ) -> Result<()> {
        let failed = || failed("seal", path);
        let name = Path::new(path.file_name().unwrap_or_default());
        let below = match open_beneath(from, name, FOLDER_TO_READ, Mode::empty()) {
            Ok(below) => below,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(failed()(error)),
        };
        rustix::fs::mkdirat(to, name, Mode::RWXU).map_err(failed())?;
        let made = open_beneath(to, name, FOLDER_TO_READ, Mode::empty()).map_err(failed())?;
        self.frozen.directories.insert(id_of(statx));
        self.link_below(&below, &made, path, depth + 1)?;
        // A staged log becomes the table's as it is, so it has the owner and mode of its original.
        if self.staging.is_root {
            let (user, group) = (Uid::from_raw(statx.stx_uid), Gid::from_raw(statx.stx_gid));
            fchown(&made, Some(user), Some(group)).map_err(failed())?;
        }
        let mode = Mode::from_raw_mode(u32::from(statx.stx_mode) & PERMISSIONS);
        fchmod(&made, mode).map_err(failed())
    }
}

/// What of a list of files is still there as it was, with the directories that lead to it.
pub(super) fn frozen(root: &OwnedFd, files: &[StagedIdentity]) -> Result<Frozen> {
    let mut frozen = Frozen::default();
    for file in files {
        let path = Path::new(&file.path);
        let Some(statx) = look(root, path)? else { continue };
        if StagedIdentity::of(file.path.clone(), &statx) != *file {
            continue;
        }
        frozen.files.insert(id_of(&statx));
        for above in path.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()) {
            frozen.directories.extend(look(root, above)?.map(|statx| id_of(&statx)));
        }
    }
    Ok(frozen)
}

fn look(root: &OwnedFd, path: &Path) -> Result<Option<Statx>> {
    match open_deep(root, path, FOLDER_OR_FILE).and_then(stat_open) {
        Ok(statx) => Ok(Some(statx)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(failed("look at", path)(error)),
    }
}

/// Removes a folder with all that is in it, if it is there.
pub(super) fn remove_tree(parent: &OwnedFd, name: &OsStr) -> Result<()> {
    let folder = match open_beneath(parent, Path::new(name), FOLDER_TO_READ, Mode::empty()) {
        Ok(folder) => folder,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(failed("remove", name)(error)),
    };
    for inner in names_in(&folder)? {
        match take_name(&folder, &inner, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) => remove_tree(&folder, &inner)?,
            Err(error) => return Err(failed("remove", &inner)(error)),
        }
    }
    take_name(parent, name, AtFlags::REMOVEDIR).map_err(failed("remove", name))
}
