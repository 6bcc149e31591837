//! Finding staged files: by name, by inode number, and all of a directory.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, Mode, OFlags, Statx};
use rustix::io::Errno;

use super::directory::Staging;
use super::disk::{
    FOLDER, FOLDER_TO_READ, component, failed, open_beneath, stat_name, stat_open, sync_folder,
};
use super::mark;
use super::reference;
use super::stat::id_of;
use super::tree::Link;
use super::{StagedKind, Stat};
use crate::error::{Error, Result};

/// Directories below each other: more can't be made into paths of a table.
pub(super) const DEPTH_MAX: usize = 128;
/// Names that are listed before others get a turn to change some.
const LISTED_AT_ONCE: usize = 256;

impl Staging {
    /// Finds a name in a directory.
    pub fn lookup(&self, parent: u64, name: &OsStr) -> Result<Stat> {
        let name = component(name)?;
        let _names = self.names_shared();
        let folder = self.open_id(parent, FOLDER)?;
        self.stat_in(parent, &folder, name)
    }

    /// Attributes of a number that the kernel knows; also of a file that was unlinked while open.
    pub fn stat(&self, id: u64) -> Result<Stat> {
        if let Some(handle) = self.activity.handle(id) {
            return stat_file(&handle.file);
        }
        let _names = self.names_shared();
        stat_file(self.open_id(id, OFlags::PATH)?)
    }

    /// What a directory holds, in the file system's order, without `.` and `..`.
    pub fn list(&self, directory: u64) -> Result<Vec<(OsString, Stat)>> {
        let folder = self.open_to_read(directory)?;
        let mut found = Vec::new();
        for some in names_in(&folder)?.chunks(LISTED_AT_ONCE) {
            let _names = self.names_shared();
            for name in some {
                match self.stat_in(directory, &folder, name) {
                    Ok(stat) => found.push((name.clone(), stat)),
                    // It went since it was read.
                    Err(Error::NotFound(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(found)
    }

    /// The kernel dropped the number. Asked for again, it is looked for on disk.
    pub fn forget(&self, id: u64) {
        self.tree().forget(id);
    }

    /// Makes a directory's names durable, and the content of all files below it.
    pub fn sync_directory(&self, directory: u64) -> Result<()> {
        self.sync_below(&self.open_to_read(directory)?, 0)
    }

    fn sync_below(&self, folder: &OwnedFd, depth: usize) -> Result<()> {
        for name in names_in(folder)? {
            let path = Path::new(&name);
            let statx = match stat_name(folder, &name) {
                Ok(statx) => statx,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(failed("sync", path)(error)),
            };
            match Stat::of(&statx).map(|stat| stat.kind) {
                Some(StagedKind::Directory) if depth == DEPTH_MAX => return Err(too_deep(path)),
                Some(StagedKind::Directory) => {
                    if let Some(below) = open_if_there(folder, path, FOLDER_TO_READ)? {
                        self.sync_below(&below, depth + 1)?;
                    }
                }
                Some(StagedKind::File) => {
                    if let Some(file) = open_if_there(folder, path, OFlags::RDONLY)? {
                        self.sync_whole(file, path)?;
                    }
                }
                None => {}
            }
        }
        sync_folder(folder, "staged directory")
    }

    /// Makes a file's bytes durable. A failure is remembered, over our end too.
    pub(super) fn sync_whole(&self, file: impl AsFd, path: &Path) -> Result<()> {
        let Err(errno) = rustix::fs::fsync(&file) else { return Ok(()) };
        let error = failed("make durable", path)(errno);
        let statx = stat_open(&file).map_err(failed("stat", path))?;
        self.activity.lost(id_of(&statx), &error);
        mark::set_lost(file);
        Err(error)
    }

    fn open_to_read(&self, directory: u64) -> Result<OwnedFd> {
        let _names = self.names_shared();
        self.open_id(directory, FOLDER_TO_READ)
    }

    /// The path of a number, for messages. Not for a caller that holds `names`.
    pub(super) fn known_path(&self, id: u64) -> String {
        let known = self.tree().path(id);
        let path = known.or_else(|| {
            let _names = self.names_shared();
            self.find(id).ok().flatten()
        });
        match path {
            Some(path) => path.to_string_lossy().into_owned(),
            None => "(a file without a name)".into(),
        }
    }

    /// Opens what a number stands for. For a caller that holds `names`.
    pub(super) fn open_id(&self, id: u64, flags: OFlags) -> Result<OwnedFd> {
        let known = self.tree().path(id);
        if let Some(path) = known
            && let Some(file) = self.open_if(id, &path, flags)?
        {
            return Ok(file);
        }
        // Whatever was known is not so; what is found is learned anew.
        self.tree().forget(id);
        let gone = || Error::NotFound("a staged file is no longer there".into());
        let path = self.find(id)?.ok_or_else(gone)?;
        self.open_if(id, &path, flags)?.ok_or_else(gone)
    }

    /// Opens a path, if it leads to that number.
    fn open_if(&self, id: u64, path: &Path, flags: OFlags) -> Result<Option<OwnedFd>> {
        let file = match open_deep(&self.root, path, flags) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(failed("open", path)(error)),
        };
        let statx = stat_open(&file).map_err(failed("stat", path))?;
        Ok((id_of(&statx) == id).then_some(file))
    }

    /// Attributes of a name, which is learned. For a caller that holds `names`.
    pub(super) fn stat_in(&self, parent: u64, folder: &OwnedFd, name: &OsStr) -> Result<Stat> {
        let statx = stat_name(folder, name).map_err(failed("look up", name))?;
        let mut stat = Stat::of(&statx).ok_or_else(|| not_ours(name))?;
        if stat.is_sparse() {
            let file = open_beneath(folder, Path::new(name), OFlags::PATH, Mode::empty())
                .map_err(failed("look up", name))?;
            if reference::read(file)?.is_some() {
                stat.show_whole();
            }
        }
        self.learn(&stat, parent, name);
        Ok(stat)
    }

    pub(super) fn learn(&self, stat: &Stat, parent: u64, name: &OsStr) {
        let is_directory = stat.kind == StagedKind::Directory;
        self.tree().learn(stat.id, Link::new(parent, name), is_directory);
    }

    /// Looks for a number on disk, learning what it passes. For a caller that holds `names`.
    pub(super) fn find(&self, id: u64) -> Result<Option<PathBuf>> {
        let mut waiting = vec![(self.root_id(), PathBuf::new(), 0)];
        while let Some((parent, path, depth)) = waiting.pop() {
            if parent == id {
                return Ok(Some(path));
            }
            let folder = match open_deep(&self.root, &path, FOLDER_TO_READ) {
                Ok(folder) => folder,
                Err(Errno::NOENT | Errno::ACCESS) => continue,
                Err(error) => return Err(failed("open", &path)(error)),
            };
            for name in names_in(&folder)? {
                let Ok(statx) = stat_name(&folder, &name) else { continue };
                let Some(stat) = Stat::of(&statx) else { continue };
                self.learn(&stat, parent, &name);
                if stat.id == id {
                    return Ok(Some(path.join(&name)));
                }
                if stat.kind == StagedKind::Directory && depth < DEPTH_MAX {
                    waiting.push((stat.id, path.join(&name), depth + 1));
                }
            }
        }
        Ok(None)
    }
}

/// Attributes of an open file of whatever kind.
pub(super) fn stat_file(file: impl AsFd) -> Result<Stat> {
    let statx = stat_open(&file).map_err(failed("stat", "staged file"))?;
    let mut stat = Stat::of(&statx).ok_or_else(|| not_ours(OsStr::new("staged file")))?;
    if stat.is_sparse() && reference::read(&file)?.is_some() {
        stat.show_whole();
    }
    Ok(stat)
}

/// The names in an open folder, without `.` and `..`.
pub(super) fn names_in(folder: &OwnedFd) -> Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder).map_err(failed("list", "staged directory"))? {
        let entry = entry.map_err(failed("list", "staged directory"))?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            names.push(name.to_os_string());
        }
    }
    Ok(names)
}

/// Opens a path of any length: the system takes at most 4095 bytes at once.
pub(super) fn open_deep(root: &OwnedFd, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    const PATH_BYTES_MAX: usize = 3800;
    if path.as_os_str().len() <= PATH_BYTES_MAX {
        return open_beneath(root, path, flags, Mode::empty());
    }
    let mut at: Option<OwnedFd> = None;
    let mut part = PathBuf::new();
    for name in path {
        if part.as_os_str().len() + name.len() >= PATH_BYTES_MAX {
            let from = at.as_ref().unwrap_or(root);
            at = Some(open_beneath(from, &part, FOLDER, Mode::empty())?);
            part.clear();
        }
        part.push(name);
    }
    open_beneath(at.as_ref().unwrap_or(root), &part, flags, Mode::empty())
}

fn open_if_there(folder: &OwnedFd, path: &Path, flags: OFlags) -> Result<Option<OwnedFd>> {
    match open_beneath(folder, path, flags, Mode::empty()) {
        Ok(file) => Ok(Some(file)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(failed("open", path)(error)),
    }
}

pub(super) fn too_deep(path: &Path) -> Error {
    Error::Refused(format!("{path:?} is deeper than {DEPTH_MAX} directories"))
}

/// For what nobody can have made through us.
fn not_ours(name: &OsStr) -> Error {
    Error::NotFound(format!("{name:?} in the spool is neither a file nor a directory"))
}

/// Whether two attributes are of one file.
pub(super) fn is_same_file(one: &Statx, other: &Statx) -> bool {
    id_of(one) == id_of(other)
}
