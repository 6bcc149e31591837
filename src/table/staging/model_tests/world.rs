//! The two sides: a staging directory of a table on disk, and a plain directory beside it.
//!
//! Each operation is made on both, and its outcome must be the same: there as a process would, by
//! path, here as the kernel does, name by name. What the plain directory has no counterpart for is
//! said there in its own words: a reference is a copy, and a commit takes files away.

use std::any::Any;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustix::fs::XattrFlags;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use super::super::tests::*;
use super::super::{OpenFor, StagedFile, StagedKind, Staging};
use super::commits::{History, Staged};
use super::life::Running;
use super::operation::{At, BLOBS, Operation};
use crate::error::{Error, Result};
use crate::store::Store;
use crate::table::commit::tests::rows;
use crate::table::{Budget, Table};

/// The staging directory's name.
pub(super) const NAME: &str = "load";
/// `errno`, where it failed.
pub(super) type Outcome = std::result::Result<(), i32>;

pub(super) struct World {
    /// Begun and not ended. Before all else, so that it goes first.
    pub running: Option<Running>,
    /// What a killed daemon held. It may not even be dropped while the case goes on: a process
    /// that is killed puts nothing in order.
    pub dead: Vec<Box<dyn Any>>,
    pub open: Vec<(StagedFile, File)>,
    pub staging: Arc<Staging>,
    pub table: Arc<Table>,
    pub runtime: Option<Runtime>,
    pub lake: PathBuf,
    /// The plain directory.
    pub model: PathBuf,
    pub history: History,
    pub overwrite: bool,
    pub txn: Option<i64>,
    /// What a killed daemon had sent, where that is not in the table: the next commit begins so.
    pub earlier: Option<Staged>,
    /// Plain files and directories whose counterparts must stay as they are.
    pub frozen: Frozen,
    /// Plain files, by inode number, that somebody is writing to.
    pub written: HashSet<u64>,
    /// Those of them that a killed daemon left so: no commit may take them.
    pub cut: Inodes,
    /// A commit was stopped half way: what it published may have links, modes and times that the
    /// plain directory's file doesn't have.
    pub was_interrupted: bool,
    _scratch: TempDir,
}

/// Plain files or directories by inode number; open, so that no other one gets the number.
pub(super) type Inodes = HashMap<u64, File>;

#[derive(Default)]
pub(super) struct Frozen {
    pub files: Inodes,
    /// Those that lead to the files.
    pub directories: Inodes,
}

/// Where scratch folders go: a file system in memory is faster, if it keeps references.
fn scratch() -> TempDir {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let said = std::env::var_os("DELTAFS_TEST_TMP").map(PathBuf::from);
        said.unwrap_or_else(|| {
            let keeps = tempfile::NamedTempFile::new_in("/dev/shm").is_ok_and(|file| {
                let value = [0; 3000];
                rustix::fs::fsetxattr(&file, "user.test", &value, XattrFlags::empty()).is_ok()
            });
            if keeps { PathBuf::from("/dev/shm") } else { std::env::temp_dir() }
        })
    });
    tempfile::tempdir_in(folder).unwrap()
}

/// Data files, each with rows of its own.
pub(super) fn blob(number: usize) -> &'static [u8] {
    static ALL: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    let make = |number: usize| {
        let ids: Vec<i64> = (0..=number as i64 * 40).map(|id| id + 1000 * number as i64).collect();
        rows(&ids)
    };
    &ALL.get_or_init(|| (0..BLOBS).map(make).collect())[number]
}

/// With one thread for work on the disk, so that what is begun is done in its order.
pub(super) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().max_blocking_threads(1).build().unwrap()
}

pub(super) fn table(lake: &Path) -> Arc<Table> {
    let store = Store::open(lake.to_str().unwrap()).unwrap();
    Arc::new(Table::new("t".into(), store.child("t"), false, Budget::new(usize::MAX)))
}

pub(super) fn ours<T>(result: &Result<T>) -> Outcome {
    result.as_ref().map(drop).map_err(errno)
}

impl World {
    pub(super) fn new() -> World {
        let scratch = scratch();
        let (lake, model) = (scratch.path().join("lake"), scratch.path().join("model"));
        fs::create_dir_all(&lake).unwrap();
        fs::create_dir(&model).unwrap();
        fs::set_permissions(&model, Permissions::from_mode(0o755)).unwrap();
        let (table, runtime) = (table(&lake), runtime());
        runtime.block_on(table.settled()).unwrap();
        let staging = table.staging().begin(OsStr::new(NAME), 0o755, me()).unwrap();
        World {
            running: None,
            dead: Vec::new(),
            open: Vec::new(),
            staging,
            table,
            runtime: Some(runtime),
            lake,
            model,
            history: History::default(),
            overwrite: false,
            txn: None,
            earlier: None,
            frozen: Frozen::default(),
            written: HashSet::new(),
            cut: Inodes::new(),
            was_interrupted: false,
            _scratch: scratch,
        }
    }

    /// The number of a path's parent, and the name in it.
    pub(super) fn parent<'a>(&self, path: &'a str) -> Result<(u64, &'a OsStr)> {
        let path = Path::new(path);
        let parent = at(&self.staging, path.parent().unwrap().to_str().unwrap())?;
        if parent.kind == StagedKind::File {
            // The kernel finds it out while it walks the path.
            return Err(Error::NotDirectory("not a directory".into()));
        }
        Ok((parent.id, path.file_name().unwrap()))
    }

    fn resolve(&self, at: At) -> String {
        match at {
            At::Path(path) => path.into(),
            At::Existing(number) => {
                let mut there = Vec::new();
                names_below(&self.model, Path::new(""), &mut there);
                there.sort();
                match there.len() {
                    0 => "a".into(),
                    count => there.swap_remove(number % count),
                }
            }
        }
    }

    /// Makes a change on both sides. What is frozen may not take it: then it must be refused, be
    /// it for that or for a reason of its own.
    pub(super) fn both<H, T>(
        &mut self,
        is_frozen: bool,
        here: impl FnOnce(&mut World) -> Result<H>,
        there: impl FnOnce(&World) -> std::io::Result<T>,
    ) -> Option<(H, T)> {
        let here = here(self);
        if let Some(running) = &mut self.running {
            running.was_changed = true;
        }
        if is_frozen {
            assert!(here.is_err(), "a frozen file was changed");
            return None;
        }
        let there = there(self);
        let expected = there.as_ref().map(drop).map_err(|error| error.raw_os_error().unwrap());
        assert_eq!(ours(&here), expected, "here, and there; {:?}", here.err());
        here.ok().zip(there.ok())
    }

    /// Whether a file's bytes and attributes must stay.
    pub(super) fn is_frozen(&self, path: &str) -> bool {
        self.inode(path).is_some_and(|inode| self.frozen.files.contains_key(&inode))
    }

    /// Whether a file or directory must keep its name, and get no other.
    pub(super) fn is_held(&self, path: &str) -> bool {
        let is_directory = |inode| self.frozen.directories.contains_key(&inode);
        self.is_frozen(path) || self.inode(path).is_some_and(is_directory)
    }

    pub(super) fn inode(&self, path: &str) -> Option<u64> {
        fs::symlink_metadata(self.model.join(path)).ok().map(|metadata| metadata.ino())
    }

    /// A file begins anew: nothing of an earlier write is left that could have been cut.
    pub(super) fn begins_anew(&mut self, inode: u64) {
        self.written.remove(&inode);
        self.cut.remove(&inode);
    }

    /// Makes one operation on both sides.
    pub(super) fn step(&mut self, operation: &Operation) {
        use Operation::*;
        match *operation {
            Create { path, exclusive, truncate, mode } => {
                let open = OpenFor { exclusive, truncate, ..WRITE };
                self.create(path, mode, open);
            }
            Put { path, blob } => self.put(path, blob),
            MakeDirectory { path } => self.make_directory(path),
            Unlink { at } | RemoveDirectory { at } => {
                self.remove(&self.resolve(at), matches!(operation, Unlink { .. }));
            }
            Rename { from, to, mode } => self.rename(&self.resolve(from), &self.resolve(to), mode),
            Link { from, to } => self.link(&self.resolve(from), to),
            Refer { path, which } => self.refer(path, which),
            Open { at, truncate } => self.open(&self.resolve(at), truncate),
            Truncate { at, size } => self.truncate(&self.resolve(at), size),
            ChangeMode { at, mode } => self.change_mode(&self.resolve(at), mode),
            SetTime { at, seconds } => self.set_time(&self.resolve(at), seconds),
            Write { file, offset, size } => self.write(file, offset, size),
            Allocate { file, offset, size, how } => self.allocate(file, offset, size, how),
            Copy { file, from, offsets, length } => self.copy(file, from, offsets, length),
            SyncFile { file } if !self.open.is_empty() => {
                let file = file % self.open.len();
                self.open[file].0.sync().unwrap();
                self.is_whole(file);
            }
            Close { file } if !self.open.is_empty() => self.close(file % self.open.len()),
            SyncFile { .. } | Close { .. } => {}
            SyncDirectory { at: path } => {
                let stat = at(&self.staging, &self.resolve(path));
                if let Some(stat) = stat.ok().filter(|stat| stat.kind == StagedKind::Directory) {
                    self.staging.sync_directory(stat.id).unwrap();
                }
            }
            Forget { at: path } => {
                if let Ok(stat) = at(&self.staging, &self.resolve(path)) {
                    self.staging.forget(stat.id);
                    assert_eq!(self.staging.stat(stat.id).unwrap(), stat);
                    self.staging.forget(stat.id);
                }
            }
            _ => self.live(operation),
        }
    }
}

/// All names below a folder.
pub(super) fn names_below(folder: &Path, path: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder.join(path)).unwrap() {
        let entry = entry.unwrap();
        let path = path.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            names_below(folder, &path, found);
        }
        found.push(path.to_str().unwrap().into());
    }
}

/// What there is, by path.
pub(super) type Listing = BTreeMap<PathBuf, String>;
