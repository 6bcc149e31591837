//! What the tests of staging share: a lake with one table, and calls as the kernel makes them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use tempfile::TempDir;

use super::{
    OpenFor, Owner, Reference, SetAttributes, SetTime, StagedFile, Staging, StagingArea, Stat,
};
use crate::error::{Error, Result};

/// A data file that the table has.
pub(super) const DATA: &str = "date=2026-11-01/part-0.parquet";

pub(super) struct Lake {
    _scratch: TempDir,
    pub folder: PathBuf,
    pub table: PathBuf,
}

impl Lake {
    pub(super) fn new() -> Lake {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("lake");
        let table = folder.join("sales");
        fs::create_dir_all(table.join("_delta_log")).unwrap();
        fs::write(table.join("_delta_log/00000000000000000000.json"), "{}\n").unwrap();
        fs::create_dir_all(table.join(DATA).parent().unwrap()).unwrap();
        fs::write(table.join(DATA), bytes(300_000)).unwrap();
        Lake { _scratch: scratch, folder, table }
    }

    pub(super) fn area(&self) -> StagingArea {
        StagingArea::new(&self.table, false)
    }

    pub(super) fn begin(&self, name: &str) -> Arc<Staging> {
        self.area().begin(OsStr::new(name), 0o755, me()).unwrap()
    }

    /// All that is on disk just now, as a daemon that is killed leaves it.
    pub(super) fn as_left_by_a_kill(&self) -> Lake {
        let scratch = tempfile::tempdir().unwrap();
        let copied = std::process::Command::new("cp")
            .arg("-a")
            .arg(&self.folder)
            .arg(scratch.path().join("lake"))
            .status()
            .unwrap();
        assert!(copied.success());
        let folder = scratch.path().join("lake");
        let table = folder.join("sales");
        Lake { _scratch: scratch, folder, table }
    }

    pub(super) fn spool(&self) -> PathBuf {
        self.folder.join(".deltafs/sales")
    }

    /// A reference to a file of the table, with that file open.
    pub(super) fn reference(&self, path: &str) -> (Reference, File) {
        let source = File::open(self.table.join(path)).unwrap();
        let size = source.metadata().unwrap().len();
        (Reference { path: path.into(), size, modified_ms: 1_700_000_000_123 }, source)
    }
}

/// The user that the tests run as.
pub(super) fn me() -> Owner {
    Owner { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
}

/// Bytes in which no part looks like another, and none is a hole.
pub(super) fn bytes(count: usize) -> Vec<u8> {
    static ALL: OnceLock<Vec<u8>> = OnceLock::new();
    let byte = |at: usize| (at * 31 + at / 251) as u8 | 1;
    ALL.get_or_init(|| (0..1 << 19).map(byte).collect())[..count].to_vec()
}

pub(super) const READ: OpenFor =
    OpenFor { read: true, write: false, append: false, truncate: false, exclusive: false };
pub(super) const WRITE: OpenFor = OpenFor { write: true, ..READ };
pub(super) const NEW: OpenFor = OpenFor { exclusive: true, ..WRITE };
pub(super) const TRUNCATE: OpenFor = OpenFor { truncate: true, ..WRITE };

pub(super) fn name(name: &str) -> &OsStr {
    OsStr::new(name)
}

/// Attributes of a path, found as the kernel does: name by name.
pub(super) fn at(staging: &Staging, path: &str) -> Result<Stat> {
    let mut stat = staging.stat(staging.root_id())?;
    for part in Path::new(path) {
        stat = staging.lookup(stat.id, part)?;
    }
    Ok(stat)
}

/// The number of a path that is there.
pub(super) fn id(staging: &Staging, path: &str) -> u64 {
    at(staging, path).unwrap().id
}

/// Creates a file and leaves it open.
pub(super) fn create(staging: &Arc<Staging>, path: &str) -> StagedFile {
    let path = Path::new(path);
    let parent = id(staging, path.parent().unwrap().to_str().unwrap());
    staging.create(parent, path.file_name().unwrap(), 0o644, me(), NEW).unwrap().1
}

/// Creates a whole file, as a tool does.
pub(super) fn put(staging: &Arc<Staging>, path: &str, content: &[u8]) -> u64 {
    let file = create(staging, path);
    assert_eq!(file.write(0, content, false).unwrap(), content.len());
    file.flush().unwrap();
    file.id()
}

pub(super) fn make_directory(staging: &Staging, path: &str) -> u64 {
    let path = Path::new(path);
    let parent = id(staging, path.parent().unwrap().to_str().unwrap());
    staging.make_directory(parent, path.file_name().unwrap(), 0o755, me()).unwrap().id
}

/// Reads a whole file.
pub(super) fn content(staging: &Arc<Staging>, path: &str) -> Vec<u8> {
    let stat = at(staging, path).unwrap();
    let file = staging.open(stat.id, READ).unwrap();
    file.read(0, stat.size as usize + 1).unwrap()
}

/// Makes `path` refer to the table's data file.
pub(super) fn refer(lake: &Lake, staging: &Staging, path: &str) -> Stat {
    let path = Path::new(path);
    let parent = id(staging, path.parent().unwrap().to_str().unwrap());
    let (reference, source) = lake.reference(DATA);
    staging.link_reference(&reference, &source, parent, path.file_name().unwrap(), me()).unwrap()
}

pub(super) fn set_size(staging: &Arc<Staging>, id: u64, size: u64) -> Result<Stat> {
    staging.set_attributes(id, SetAttributes { size: Some(size), ..SetAttributes::default() })
}

pub(super) fn set_mtime(staging: &Arc<Staging>, id: u64, time: SetTime) -> Result<Stat> {
    staging.set_attributes(id, SetAttributes { mtime: Some(time), ..SetAttributes::default() })
}

/// What the kernel would get.
pub(super) fn errno(error: &Error) -> i32 {
    use rustix::io::Errno;
    let known = match error {
        Error::NotFound(_) => Errno::NOENT,
        Error::Exists(_) => Errno::EXIST,
        Error::NotDirectory(_) => Errno::NOTDIR,
        Error::IsDirectory(_) => Errno::ISDIR,
        Error::NotEmpty(_) => Errno::NOTEMPTY,
        Error::NameTooLong(_) => Errno::NAMETOOLONG,
        Error::Busy(_) => Errno::BUSY,
        Error::Refused(_) => Errno::INVAL,
        Error::NotPermitted(_) => Errno::PERM,
        Error::Damaged(_) => Errno::IO,
        Error::System { code, .. } => return *code,
        other => panic!("not expected here: {other:?}"),
    };
    known.raw_os_error()
}
