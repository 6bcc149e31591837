//! What can be at a path of the mount.

use std::fmt;
use std::sync::Arc;

use crate::table::staging::Staging;
use crate::table::{LastCheckpoint, LogFile, Table, Version};

/// A place in the tree. Cloning is cheap.
#[derive(Clone)]
pub enum Node {
    /// A plain directory of the lake, by its path within it; the root's is empty.
    Folder(Arc<str>),
    /// A table's own directory.
    Table(Arc<Table>),
    /// `TABLE/latest`, a symlink.
    Latest(Arc<Table>),
    /// `TABLE/history`, text.
    History(Arc<Table>),
    /// `TABLE/versions/`.
    Versions(Arc<Table>),
    /// A directory within a version; its own root has an empty path.
    VersionFolder { table: Arc<Table>, version: Stamped, path: Arc<str> },
    /// A data file or a deletion vector file: the same node in every version that names it.
    DataFile { table: Arc<Table>, file: Arc<DataFile> },
    /// `versions/N/_delta_log/`, and its `_sidecars/` where `sidecars` is true.
    LogFolder { table: Arc<Table>, version: Stamped, sidecars: bool },
    /// A file of the log: the same node in every version that shows it.
    LogFile { table: Arc<Table>, file: Arc<LogFile>, modified_ms: i64 },
    /// `_delta_log/_last_checkpoint` as it was when the version was first looked at.
    LastCheckpoint { table: Arc<Table>, last: Arc<LastCheckpoint>, modified_ms: i64 },
    /// `TABLE/staging/`.
    StagingArea(Arc<Table>),
    /// Something in a staging directory, by its inode number; its root included.
    Staged { table: Arc<Table>, staging: Arc<Staging>, id: u64 },
    /// A `.deltafs/` directory.
    Control(ControlOf),
    /// A file in a `.deltafs/` directory.
    ControlFile { of: ControlOf, name: &'static str },
}

/// A version of one table: where the table was dropped and made again, the same number is another
/// version, and its commit time tells the two apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamped {
    pub version: Version,
    /// Milliseconds since the epoch.
    pub commit_ms: i64,
}

impl fmt::Display for Stamped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.version, self.commit_ms)
    }
}

/// A file that a version needs, as the log tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFile {
    /// Relative to the table's root, decoded.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Milliseconds since the epoch.
    pub modified_ms: i64,
    /// Deletion vector files can't be linked into staging as data.
    pub is_data: bool,
}

/// Whose control directory it is.
#[derive(Clone)]
pub enum ControlOf {
    Mount,
    Table(Arc<Table>),
    Version(Arc<Table>, Stamped),
    Staging(Arc<Table>, Arc<Staging>),
}

impl ControlOf {
    /// The names of the control files there, sorted.
    pub fn names(&self) -> &'static [&'static str] {
        match self {
            ControlOf::Mount => &["status"],
            ControlOf::Table(_) => &["commits"],
            ControlOf::Version(..) => {
                &["checksum", "commit.json", "files", "missing", "properties", "schema.json"]
            }
            ControlOf::Staging(..) => &["changes", "options", "properties", "result", "status"],
        }
    }
}
