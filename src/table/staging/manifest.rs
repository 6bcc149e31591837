//! What a staging directory holds, as a commit sees it; and taking that away afterwards.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, Statx, fchmod};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::directory::Staging;
use super::disk::{FOLDER_TO_READ, failed, open_beneath, stat_name, stat_open, sync_folder};
use super::lookup::{DEPTH_MAX, names_in, open_deep, too_deep};
use super::reference::{self, Reference};
use super::stat::{id_of, milliseconds, nanoseconds};
use super::{StagedKind, Stat};
use crate::error::{Error, Result};

/// A staged file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagedEntry {
    /// Relative to the staging directory, decoded, components separated by `/`.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Milliseconds since the epoch, rounded down.
    pub modified_ms: i64,
    pub content: Content,
    /// What it is recognised by when it is taken away.
    pub identity: StagedIdentity,
}

/// Where a staged file's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// In the spool, at this absolute path.
    Spooled(PathBuf),
    /// In the table already, whole.
    Reference(Reference),
}

/// One state of one file: any write, or another file under that name, makes it another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StagedIdentity {
    /// Relative to the staging directory.
    pub path: String,
    pub dev: u64,
    pub ino: u64,
    pub size: u64,
    pub mtime_ns: i64,
}

impl StagedIdentity {
    pub(super) fn of(path: String, statx: &Statx) -> StagedIdentity {
        StagedIdentity {
            path,
            dev: rustix::fs::makedev(statx.stx_dev_major, statx.stx_dev_minor),
            ino: statx.stx_ino,
            size: statx.stx_size,
            mtime_ns: nanoseconds(statx.stx_mtime),
        }
    }
}

/// A tree of staged files on disk: what users see, or what was linked aside.
#[derive(Clone, Copy)]
pub(super) struct Root<'a> {
    pub folder: &'a OwnedFd,
    /// Absolute.
    pub path: &'a Path,
}

/// How much is staged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub files: u64,
    pub bytes: u64,
}

/// Counts what is staged. What vanishes while it counts is not counted.
pub(super) fn totals(staging: &Staging) -> Result<Totals> {
    let mut totals = Totals::default();
    walk(&staging.root, Path::new(""), 0, &mut |_, _, statx| {
        totals.files += 1;
        totals.bytes = totals.bytes.saturating_add(statx.stx_size);
        Ok(())
    })?;
    Ok(totals)
}

/// Lists all files below a path of the tree, sorted by path, and makes whole files of the
/// references that can't stay ones. For a caller that holds the seal.
///
/// Errors: [`Error::Refused`] for a name that isn't UTF-8, or directories too deep.
pub(super) fn files(
    staging: &Arc<Staging>,
    root: Root<'_>,
    below: &Path,
) -> Result<Vec<StagedEntry>> {
    list(staging, root, below, true)
}

/// As `files`, and changes nothing: a reference that can't stay one is shown as the file that it is
/// on disk. For a caller without the seal.
pub(super) fn peek(staging: &Arc<Staging>) -> Result<Vec<StagedEntry>> {
    let root = Root { folder: &staging.root, path: &staging.root_path };
    list(staging, root, Path::new(""), false)
}

fn list(
    staging: &Arc<Staging>,
    root: Root<'_>,
    below: &Path,
    materializes: bool,
) -> Result<Vec<StagedEntry>> {
    let mut entries = Vec::new();
    let folder = open_beneath(root.folder, below, FOLDER_TO_READ, Mode::empty())
        .map_err(failed("list", below))?;
    walk(&folder, below, 0, &mut |folder, path, statx| {
        entries.push(entry(staging, (root, folder), path, statx, materializes)?);
        Ok(())
    })?;
    entries.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(entries)
}

fn entry(
    staging: &Arc<Staging>,
    (root, folder): (Root<'_>, &OwnedFd),
    path: &Path,
    statx: &Statx,
    materializes: bool,
) -> Result<StagedEntry> {
    let text = path.to_str().ok_or_else(|| {
        Error::Refused(format!("{path:?}: the name is not UTF-8; rename or remove the file"))
    })?;
    let name = path.file_name().unwrap_or_default();
    let mut content = Content::Spooled(root.path.join(path));
    let mut statx = *statx;
    if let Some(to) = reference_at(folder, name)? {
        if to.size == statx.stx_size && to.may_stand_at(path) {
            content = Content::Reference(to);
        } else if materializes {
            staging.materialize(folder, name)?;
            statx = stat_name(folder, name).map_err(failed("stat", path))?;
        }
    }
    Ok(StagedEntry {
        path: text.to_string(),
        size: statx.stx_size,
        modified_ms: milliseconds(statx.stx_mtime),
        content,
        identity: StagedIdentity::of(text.to_string(), &statx),
    })
}

fn reference_at(folder: &OwnedFd, name: &OsStr) -> Result<Option<Reference>> {
    let file = open_beneath(folder, Path::new(name), OFlags::PATH, Mode::empty())
        .map_err(failed("open", name))?;
    reference::read(file)
}

/// Calls `visit` with each file below an open folder: the folder it is in, its path, attributes.
fn walk(
    folder: &OwnedFd,
    path: &Path,
    depth: usize,
    visit: &mut impl FnMut(&OwnedFd, &Path, &Statx) -> Result<()>,
) -> Result<()> {
    if depth > DEPTH_MAX {
        return Err(too_deep(path));
    }
    for name in names_in(folder)? {
        let here = path.join(&name);
        let statx = match stat_name(folder, &name) {
            Ok(statx) => statx,
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(failed("stat", here)(error)),
        };
        match Stat::of(&statx).map(|stat| stat.kind) {
            Some(StagedKind::File) => visit(folder, &here, &statx)?,
            Some(StagedKind::Directory) => {
                match open_beneath(folder, Path::new(&name), FOLDER_TO_READ, Mode::empty()) {
                    Ok(below) => walk(&below, &here, depth + 1, visit)?,
                    Err(Errno::NOENT) => {}
                    Err(error) => return Err(failed("open", here)(error)),
                }
            }
            None => {}
        }
    }
    Ok(())
}

/// Removes the files that still are what the list says, then the directories that hold nothing,
/// durably; but directories stay where something was changed since `edition` of the tree, for who
/// made that change may be about to use them. What was done before is not an error, so it can be
/// done again after a crash.
pub(super) fn remove<'a>(
    staging: &Staging,
    files: impl Iterator<Item = &'a StagedIdentity>,
    edition: u64,
) -> Result<()> {
    let mut changed = BTreeSet::new();
    for file in files {
        remove_file(staging, file)?;
        changed.insert(Path::new(&file.path).parent().unwrap_or(Path::new("")));
    }
    prune(staging, &staging.root, edition, 0)?;
    let mut synced = BTreeSet::new();
    for folder in changed {
        // Where it went too, the one it was in lost its name.
        for folder in folder.ancestors() {
            if !synced.insert(folder) {
                break;
            }
            match open_deep(&staging.root, folder, FOLDER_TO_READ) {
                Ok(open) => {
                    sync_folder(open, folder)?;
                    break;
                }
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(errno) => return Err(failed("open", folder)(errno)),
            }
        }
    }
    sync_folder(&staging.root, "staging directory")
}

fn remove_file(staging: &Staging, file: &StagedIdentity) -> Result<()> {
    let path = Path::new(&file.path);
    let (parent, Some(name)) = (path.parent().unwrap_or(Path::new("")), path.file_name()) else {
        return Err(Error::Damaged(format!("the journal names {path:?}, which is no file")));
    };
    // Names stand still between the look and the removal: a user may be putting another file there.
    let _names = staging.names_exclusive();
    let folder = match open_deep(&staging.root, parent, FOLDER_TO_READ) {
        Ok(folder) => folder,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        Err(error) => return Err(failed("open", parent)(error)),
    };
    let statx = match stat_name(&folder, name) {
        Ok(statx) => statx,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(failed("stat", path)(error)),
    };
    if StagedIdentity::of(file.path.clone(), &statx) != *file {
        tracing::debug!(path = %file.path, "another file has a committed one's name now; it stays");
        return Ok(());
    }
    take_name(&folder, name, AtFlags::empty()).map_err(failed("remove", path))?;
    staging.let_go(&folder, name, &statx)?;
    staging.activity.forgive(id_of(&statx));
    Ok(())
}

/// Removes a name, also from a directory that its owner made read-only.
pub(super) fn take_name(folder: &OwnedFd, name: &OsStr, flags: AtFlags) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(folder, name, flags) {
        Err(Errno::ACCESS) => {
            let mode = Mode::from_raw_mode(u32::from(stat_open(folder)?.stx_mode));
            fchmod(folder, mode | Mode::RWXU)?;
            rustix::fs::unlinkat(folder, name, flags)
        }
        result => result,
    }
}

/// Removes the directories below a folder that hold no file.
fn prune(staging: &Staging, folder: &OwnedFd, edition: u64, depth: usize) -> Result<()> {
    for name in names_in(folder)? {
        let path = Path::new(&name);
        let Ok(below) = open_beneath(folder, path, FOLDER_TO_READ, Mode::empty()) else {
            continue;
        };
        if depth < DEPTH_MAX {
            prune(staging, &below, edition, depth + 1)?;
        }
        let _names = staging.names_exclusive();
        if staging.activity.is_changed_since(edition) {
            return Ok(());
        }
        let Ok(statx) = stat_name(folder, &name) else { continue };
        match take_name(folder, &name, AtFlags::REMOVEDIR) {
            Ok(()) => staging.let_go(folder, &name, &statx)?,
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT) => {}
            Err(error) => return Err(failed("remove directory", name)(error)),
        }
    }
    Ok(())
}
