//! Where the staging directories of a table lie on disk, and which daemon holds each.
//!
//! ```text
//! P/.deltafs/T/NAME/     beside the table P/T, where P takes it and is on T's file system
//! P/T/.deltafs/NAME/     else inside the table
//! ```
//!
//! So staged files are renamed or linked into the table and never copied. Nothing is made before
//! the first staging directory, and the folders go with the last.
//!
//! Daemons that share a table exclude each other twice: the spool's folder is flocked while
//! staging directories come and go in it, and each of them is flocked for as long as a daemon
//! serves it. Both locks end with the process, however it ends.

use std::ffi::OsStr;
use std::fs::DirBuilder;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{Access, AtFlags, FlockOperation, Mode, OFlags, accessat, fchmod, flock};
use rustix::io::Errno;

use super::Owner;
use super::directory::{FILES, Staging};
use super::disk::{FOLDER_TO_READ, failed, open_beneath, stat_name, stat_open, sync_folder};
use super::linked;
use super::lookup::{is_same_file, names_in};
use super::name::StagingName;
use crate::error::{Error, Result};

/// Our folder, beside or inside a table.
pub const SPOOL_DIRECTORY: &str = ".deltafs";
/// A staging directory in the making. No staging directory can have such a name.
const MAKING: &str = ".deltafs-new-";
const LOCK: &str = "lock";
/// How long another daemon may take for beginning or abandoning a staging directory.
const LOCK_SECONDS_MAX: u64 = 5;
/// How long the locks of staging directories are tried, from when the spool is opened: a killed
/// daemon's is let go of a moment after its death, and a child between fork and exec holds its
/// parent's.
const LOCK_GRACE: Duration = Duration::from_millis(500);
const LOCK_POLL: Duration = Duration::from_millis(5);
/// How often the folders are made again when another daemon removes them in between.
const MAKE_TRIES_MAX: u32 = 16;

/// A folder that has, or will have, staging directories.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Exists, or is the user's to make.
    base: PathBuf,
    /// The table's name, where the spool is shared by the tables of one folder.
    table: Option<std::ffi::OsString>,
}

/// Both places of a table's spool, the better one first.
pub(super) fn places(table_folder: &Path) -> Vec<Place> {
    let inside = Place { base: table_folder.to_path_buf(), table: None };
    let (Some(parent), Some(name)) = (table_folder.parent(), table_folder.file_name()) else {
        return vec![inside];
    };
    let beside = Place { base: parent.to_path_buf(), table: Some(name.to_os_string()) };
    if prefers_inside(parent, table_folder) { vec![inside, beside] } else { vec![beside, inside] }
}

/// Whether the spool can't be beside a table, or would be on another file system there.
fn prefers_inside(parent: &Path, table_folder: &Path) -> bool {
    let Ok(table) = table_folder.metadata() else { return false };
    let Ok(beside) = parent.metadata() else { return false };
    let wanted = Access::WRITE_OK | Access::EXEC_OK;
    beside.dev() != table.dev()
        || accessat(rustix::fs::CWD, parent, wanted, AtFlags::EACCESS).is_err()
}

impl Place {
    /// The folders of ours, outermost first.
    fn folders(&self) -> Vec<PathBuf> {
        let ours = self.base.join(SPOOL_DIRECTORY);
        match &self.table {
            None => vec![ours],
            Some(table) => vec![ours.clone(), ours.join(table)],
        }
    }

    /// Opens and locks the spool, if it is there.
    pub(super) fn open(&self) -> Result<Option<Spool>> {
        for _ in 0..MAKE_TRIES_MAX {
            let mut opened = None;
            for path in self.folders() {
                opened = match open_ours(&path) {
                    Ok(folder) => Some((folder, path)),
                    Err(Error::NotFound(_)) => return Ok(None),
                    Err(error) => return Err(error),
                };
            }
            let (folder, path) = opened.expect("BUG: a place has a folder");
            lock_within(&folder, &path)?;
            if is_still_at(&folder, &path)? {
                return Ok(Some(Spool { folder, path, opened: Instant::now() }));
            }
        }
        Err(Error::Busy(format!("{:?}: another daemon keeps removing the spool", self.base)))
    }

    /// Opens and locks the spool, making it where it isn't there.
    pub(super) fn make(&self) -> Result<Spool> {
        std::fs::create_dir_all(&self.base).map_err(failed("make directory", &self.base))?;
        for _ in 0..MAKE_TRIES_MAX {
            for path in self.folders() {
                match DirBuilder::new().mode(0o700).create(&path) {
                    Ok(()) => sync_parent(&path)?,
                    Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                    // The outer folder was removed in between.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => break,
                    Err(error) => return Err(failed("make spool", path)(error)),
                }
            }
            if let Some(spool) = self.open()? {
                return Ok(spool);
            }
        }
        Err(Error::Busy(format!("{:?}: another daemon keeps removing the spool", self.base)))
    }

    /// Removes the folders of ours that hold nothing. For a caller that holds the spool's lock.
    pub(super) fn remove_if_empty(&self) {
        for path in self.folders().iter().rev() {
            // Mostly it isn't empty, and nothing depends on it: the next `begin` makes it again.
            let _ = std::fs::remove_dir(path);
        }
    }
}

/// An open spool; while it lives no other daemon begins or abandons a staging directory in it.
#[derive(Debug)]
pub(super) struct Spool {
    folder: OwnedFd,
    path: PathBuf,
    opened: Instant,
}

/// What became of taking over a staging directory that lies in the spool.
pub(super) enum Adopted {
    Held(Arc<Staging>),
    /// Another daemon serves it.
    Elsewhere,
    /// It was left half-made or half-removed, and is gone now.
    Nothing,
}

impl Spool {
    /// The names of what may be staging directories. What was left half-made is removed.
    pub(super) fn names(&self) -> Result<Vec<StagingName>> {
        let mut found = Vec::new();
        for name in names_in(&self.folder)? {
            if name.to_str().is_some_and(|name| name.starts_with(MAKING)) {
                if let Err(error) = self.remove_folder(&name) {
                    tracing::warn!(?name, "a half-made staging directory stays: {error}");
                }
            } else if let Ok(name) = StagingName::parse(&name) {
                found.push(name);
            }
        }
        found.sort();
        Ok(found)
    }

    /// Makes a staging directory: aside first, then by one rename.
    pub(super) fn begin(
        &self,
        name: &StagingName,
        table_folder: &Path,
        mode: u32,
        owner: Owner,
    ) -> Result<Arc<Staging>> {
        let making = format!("{MAKING}{name}");
        let making = OsStr::new(if making.len() > 255 { MAKING } else { &making });
        self.remove_folder(making)?;
        rustix::fs::mkdirat(&self.folder, making, Mode::RWXU)
            .map_err(failed("begin staging directory", name))?;
        let begun = self.fill(making, mode, owner).and_then(|(folder, lock)| {
            rustix::fs::renameat(&self.folder, making, &self.folder, name.as_str())
                .map_err(failed("begin staging directory", name))?;
            sync_folder(&self.folder, &self.path)?;
            Staging::take_over(
                name.clone(),
                &self.path.join(name.as_str()),
                table_folder,
                folder,
                lock,
            )
        });
        if begun.is_err() {
            // The error is told; what can't be removed now is when the spool is next opened.
            let _ = self.remove_folder(making);
        }
        begun
    }

    fn fill(&self, making: &OsStr, mode: u32, owner: Owner) -> Result<(OwnedFd, OwnedFd)> {
        let path = Path::new(making);
        let folder = open_beneath(&self.folder, path, FOLDER_TO_READ, Mode::empty())
            .map_err(failed("open", path))?;
        let lock = open_lock(&folder)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(failed("lock", path))?;
        rustix::fs::mkdirat(&folder, FILES, Mode::RWXU).map_err(failed("make directory", FILES))?;
        let files = open_beneath(&folder, Path::new(FILES), FOLDER_TO_READ, Mode::empty())
            .map_err(failed("open", FILES))?;
        if rustix::process::geteuid().is_root() {
            let user = Some(rustix::fs::Uid::from_raw(owner.uid));
            let group = Some(rustix::fs::Gid::from_raw(owner.gid));
            rustix::fs::fchown(&files, user, group).map_err(failed("change owner of", FILES))?;
        }
        fchmod(&files, Mode::from_raw_mode(mode & super::stat::PERMISSIONS))
            .map_err(failed("change mode of", FILES))?;
        sync_folder(&files, FILES)?;
        sync_folder(&folder, path)?;
        Ok((folder, lock))
    }

    /// Takes over what lies in the spool under that name.
    pub(super) fn adopt(&self, name: &StagingName, table_folder: &Path) -> Result<Adopted> {
        let path = Path::new(name.as_str());
        let folder = match open_beneath(&self.folder, path, FOLDER_TO_READ, Mode::empty()) {
            Ok(folder) => folder,
            // Nothing of ours: a file, or nothing at all.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Adopted::Nothing),
            Err(error) => return Err(failed("open staging directory", name)(error)),
        };
        let lock = open_lock(&folder)?;
        match lock_before(&lock, self.opened + LOCK_GRACE) {
            Ok(true) => {}
            Ok(false) => return Ok(Adopted::Elsewhere),
            Err(error) => return Err(failed("lock staging directory", name)(error)),
        }
        if let Err(Errno::NOENT) = stat_name(&folder, OsStr::new(FILES)) {
            self.remove_folder(path.as_os_str())?;
            return Ok(Adopted::Nothing);
        }
        for leftover in names_in(&folder)? {
            if leftover.to_str().is_some_and(super::directory::is_leftover) {
                rustix::fs::unlinkat(&folder, &leftover, AtFlags::empty())
                    .map_err(failed("remove leftover", &leftover))?;
            }
        }
        let path = self.path.join(name.as_str());
        Staging::take_over(name.clone(), &path, table_folder, folder, lock).map(Adopted::Held)
    }

    /// Removes the folder of a staging directory whose tree is gone or empty.
    pub(super) fn remove_folder(&self, name: &OsStr) -> Result<()> {
        let path = Path::new(name);
        let folder = match open_beneath(&self.folder, path, FOLDER_TO_READ, Mode::empty()) {
            Ok(folder) => folder,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(failed("open", path)(error)),
        };
        linked::remove_tree(&folder, OsStr::new(linked::SEALED))?;
        for inner in names_in(&folder)? {
            let flags = if inner == FILES { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            rustix::fs::unlinkat(&folder, &inner, flags).map_err(failed("remove", &inner))?;
        }
        rustix::fs::unlinkat(&self.folder, name, AtFlags::REMOVEDIR)
            .map_err(failed("remove", path))?;
        sync_folder(&self.folder, &self.path)
    }
}

fn open_lock(folder: &OwnedFd) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE;
    open_beneath(folder, Path::new(LOCK), flags, Mode::RUSR | Mode::WUSR)
        .map_err(failed("open", LOCK))
}

/// Opens a folder of ours, and makes sure that it is: no symlink, our user's, closed to others.
fn open_ours(path: &Path) -> Result<OwnedFd> {
    let flags = FOLDER_TO_READ | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder =
        rustix::fs::open(path, flags, Mode::empty()).map_err(failed("open spool", path))?;
    let statx = stat_open(&folder).map_err(failed("stat", path))?;
    let user = rustix::process::geteuid().as_raw();
    if statx.stx_uid != user {
        return Err(Error::NotPermitted(format!(
            "spool {path:?} belongs to user {}; mount as that user, or remove it",
            statx.stx_uid
        )));
    }
    if statx.stx_mode & 0o077 != 0 {
        fchmod(&folder, Mode::RWXU).map_err(failed("change mode of", path))?;
    }
    Ok(folder)
}

fn lock_within(folder: &OwnedFd, path: &Path) -> Result<()> {
    match lock_before(folder, Instant::now() + Duration::from_secs(LOCK_SECONDS_MAX)) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::Busy(format!("{path:?} is locked by another daemon"))),
        Err(error) => Err(failed("lock spool", path)(error)),
    }
}

/// Waits for a lock until a deadline; whether it is had.
fn lock_before(file: &OwnedFd, deadline: Instant) -> rustix::io::Result<bool> {
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(LOCK_POLL),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether an open folder was not removed and made again by another daemon.
fn is_still_at(folder: &OwnedFd, path: &Path) -> Result<bool> {
    let open = stat_open(folder).map_err(failed("stat", path))?;
    match stat_name(rustix::fs::CWD, path.as_os_str()) {
        Ok(now) => Ok(is_same_file(&open, &now)),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(failed("stat", path)(error)),
    }
}

fn sync_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let folder = std::fs::File::open(parent).map_err(failed("open", parent))?;
    sync_folder(folder, parent)
}
