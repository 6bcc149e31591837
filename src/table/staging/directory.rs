//! One staging directory.
//!
//! On disk, in its folder of the spool:
//!
//! ```text
//! lock     flocked by the daemon that serves the directory
//! files/   what users see
//! sealed/  what a commit works on, while one does: see `linked`
//! attempt  options  properties  result     see `journal`
//! new-N    a reference that has no name yet; left by a crash, it is removed
//! ```
//!
//! Locks, in the order in which they are taken:
//!
//! 1. the content of an inode (`inode`), for as long as a read, a write or a copy takes.
//! 2. `names`: shared by what resolves a path and calls the system on it, exclusive for what
//!    changes names. So a path stands still between being found and being used.
//! 3. `activity`.
//! 4. `tree`, only for the map itself.
//!
//! All are held across local system calls only.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rustix::fs::{AtFlags, Statx};

use super::Space;
use super::activity::{Activity, Frozen, Phase};
use super::disk::{FOLDER_TO_READ, failed, open_beneath, stat_open};
use super::journal::{Attempt, Journal};
use super::linked;
use super::manifest;
use super::mark;
use super::name::StagingName;
use super::stat::id_of;
use super::tree::{Link, Tree};
use crate::error::Result;

/// The tree that users see, within the directory's folder.
pub(super) const FILES: &str = "files";
/// What unfinished references are called, within the directory's folder.
const NEW: &str = "new-";

/// A staging directory, held by this daemon.
#[derive(Debug)]
pub struct Staging {
    name: StagingName,
    /// Absolute path of the tree.
    pub(super) root_path: PathBuf,
    /// The folder of the table, which references are opened beneath.
    pub(super) table_folder: PathBuf,
    pub(super) folder: OwnedFd,
    pub(super) root: OwnedFd,
    root_id: u64,
    /// Held for as long as this value lives.
    _lock: OwnedFd,
    names: RwLock<()>,
    tree: Mutex<Tree>,
    pub(super) activity: Activity,
    pub(super) journal: Journal,
    /// Whether new files can be given to who asked for them.
    pub(super) is_root: bool,
    new_count: AtomicU64,
    /// Files and bytes as of an edition of the tree.
    census: Mutex<Option<(u64, manifest::Totals)>>,
}

impl Staging {
    /// Takes over a folder of the spool whose lock is held.
    pub(super) fn take_over(
        name: StagingName,
        path: &Path,
        table_folder: &Path,
        folder: OwnedFd,
        lock: OwnedFd,
    ) -> Result<Arc<Staging>> {
        let open_again = |path: &str| {
            open_beneath(&folder, Path::new(path), FOLDER_TO_READ, rustix::fs::Mode::empty())
                .map_err(failed("open staging directory", name.as_str()))
        };
        let root = open_again(FILES)?;
        let journal = Journal::open(open_again("")?)?;
        let root_id = id_of(&stat_open(&root).map_err(failed("stat", name.as_str()))?);
        let frozen = |attempt: Attempt| linked::frozen(&root, &attempt.files);
        let unsettled = match journal.attempt().and_then(|found| found.map(frozen).transpose()) {
            Ok(unsettled) => unsettled,
            Err(error) => {
                tracing::warn!(%name, "no staged file can be changed until a sync: {error}");
                Some(Frozen { everything: true, ..Frozen::default() })
            }
        };
        if unsettled.is_none()
            && let Err(error) = linked::remove_tree(&folder, OsStr::new(linked::SEALED))
        {
            tracing::warn!(%name, "links of an earlier commit stay: {error}");
        }
        let failures = mark::left_behind(&root)?;
        Ok(Arc::new(Staging {
            name,
            root_path: path.join(FILES),
            table_folder: table_folder.to_path_buf(),
            folder,
            root,
            root_id,
            _lock: lock,
            names: RwLock::new(()),
            tree: Mutex::new(Tree::new(root_id)),
            activity: Activity::new(unsettled, failures),
            journal,
            is_root: rustix::process::geteuid().is_root(),
            new_count: AtomicU64::new(0),
            census: Mutex::new(None),
        }))
    }

    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Inode number of the directory itself.
    pub fn root_id(&self) -> u64 {
        self.root_id
    }

    /// Space of the file system that takes the files.
    pub fn statfs(&self) -> Result<Space> {
        Space::of(&self.root)
    }

    /// What was last set, or nothing.
    pub fn options_text(&self) -> String {
        self.journal.options()
    }

    /// Replaces the options, durably; the caller has checked them.
    pub fn set_options(&self, text: &str) -> Result<()> {
        self.journal.set_options(text)
    }

    /// The properties that the next commit sets, or nothing.
    pub fn properties_text(&self) -> String {
        self.journal.properties()
    }

    /// Replaces the properties, durably; the caller has checked them.
    pub fn set_properties(&self, text: &str) -> Result<()> {
        self.journal.set_properties(text)
    }

    /// JSON of the last commit, or nothing before the first.
    pub fn result_text(&self) -> String {
        self.journal.result()
    }

    /// `key=value` lines: what is staged, and what is in the way of a commit.
    pub fn status_text(&self) -> String {
        let now = self.activity.census();
        let state = match now.phase {
            Phase::Open if now.unsettled => "unsettled",
            phase => phase.word(),
        };
        let totals = self.totals();
        let mut text = format!("state={state}\n");
        match &totals {
            Ok(totals) => {
                text += &format!("files={}\nbytes={}\n", totals.files, totals.bytes);
            }
            Err(error) => text += &format!("error={error}\n"),
        }
        text += &format!("open_writers={}\n", now.writers);
        text += &format!("failed_files={}\n", now.failures.len());
        for failure in &now.failures {
            let path = self.known_path(failure.id);
            text += &format!("failed={path:?}: {}\n", failure.error);
        }
        for line in self.options_text().lines() {
            text += &format!("option.{line}\n");
        }
        for line in self.properties_text().lines() {
            text += &format!("property.{line}\n");
        }
        text
    }

    /// Takes the tree off the disk, if it is empty. Errors: the system's ENOTEMPTY, and Busy.
    pub(super) fn retire(&self) -> Result<()> {
        let _names = self.names_exclusive();
        self.activity.abandon(|| {
            rustix::fs::unlinkat(&self.folder, FILES, AtFlags::REMOVEDIR)
                .map_err(failed("abandon staging directory", self.name()))
        })
    }

    /// Counts what is staged; the tree is walked only after a change.
    pub(super) fn totals(&self) -> Result<manifest::Totals> {
        let edition = self.activity.edition();
        let mut kept = self.census.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, totals)) = &*kept
            && *of == edition
        {
            return Ok(totals.clone());
        }
        let totals = manifest::totals(self)?;
        *kept = Some((edition, totals.clone()));
        Ok(totals)
    }

    /// Notes that a name was taken away for a commit: the file may be the table's own now. For a
    /// caller that holds `names`.
    pub(super) fn let_go(&self, folder: &OwnedFd, name: &OsStr, was: &Statx) -> Result<()> {
        let parent = id_of(&stat_open(folder).map_err(failed("stat", name))?);
        self.tree().lose(id_of(was), &Link::new(parent, name));
        self.activity.let_go(id_of(was));
        Ok(())
    }

    /// A name in the folder for a file that isn't in the tree yet.
    pub(super) fn new_name(&self) -> String {
        format!("{NEW}{}", self.new_count.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn names_shared(&self) -> RwLockReadGuard<'_, ()> {
        self.names.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn names_exclusive(&self) -> RwLockWriteGuard<'_, ()> {
        self.names.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tree(&self) -> MutexGuard<'_, Tree> {
        // A poisoned tree is at worst incomplete, and what it lacks is found on disk.
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a file of the folder is left from a crash.
pub(super) fn is_leftover(name: &str) -> bool {
    name.starts_with(NEW)
}
