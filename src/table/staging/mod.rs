//! Staging directories: files that any tool brought and that no commit has published yet.
//!
//! A staging directory is a real directory tree in the spool, so that every rule of POSIX comes
//! from the file system beneath. This module adds what a plain directory lacks: inode numbers and
//! paths for the kernel, references to data files that the table has already, who is still
//! writing, and a seal under which a commit reads a tree that nobody changes. What a commit makes
//! of the files is the business of `table::commit`.
//!
//! ```text
//! area       the staging directories of one table; begin, adopt, abandon
//! spool      where they lie on disk, and which daemon holds each
//! directory  one staging directory; what its state is, and its locks
//! tree       inode numbers and the names that lead to them
//! lookup     stat, list        operations  create, rename, unlink …     attributes  chmod …
//! handle     an open file      inode       its bytes, its own or a reference's
//! activity   who is at work: open writers, running changes, failures; the state machine
//! mark       on disk: a file that is being written
//! seal       a commit's hold               linked    what it works on, beside what users see
//! manifest   the list of files, and emptying the directory again
//! journal    attempt, options, properties, result: small files, replaced whole and durable
//! ```
//!
//! All calls are local system calls and block the calling thread; only [`Held::seal`] and [`Turns`]
//! wait for others, and they are async.

mod activity;
mod area;
mod attributes;
mod directory;
mod disk;
mod handle;
mod inode;
mod journal;
mod linked;
mod lookup;
mod manifest;
mod mark;
mod name;
mod operations;
mod reference;
mod seal;
mod spool;
mod stat;
mod tree;

#[cfg(test)]
mod area_tests;
#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod file_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod reference_tests;
#[cfg(test)]
mod seal_tests;
#[cfg(test)]
mod tests;

use std::time::SystemTime;

pub use area::StagingArea;
pub use directory::Staging;
pub use handle::StagedFile;
pub use journal::Attempt;
#[cfg(test)]
pub use journal::fault as journal_fault;
pub use manifest::{Content, StagedEntry, StagedIdentity};
pub use name::StagingName;
pub use reference::Reference;
pub use seal::{Held, Sealed, Turns};
pub use spool::SPOOL_DIRECTORY;
pub use stat::{Space, StagedKind, Stat};

/// Who asked the kernel for a new file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenFor {
    pub read: bool,
    pub write: bool,
    /// Told, and not acted on: the kernel gives each appending write its offset. Handing it down
    /// would send mapped pages to the end too, for those come by any handle of the file.
    pub append: bool,
    pub truncate: bool,
    /// The name must be new.
    pub exclusive: bool,
}

/// Changes of attributes; what is `None` stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetAttributes {
    /// Permission bits, set-id and sticky bits included.
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// Bytes.
    pub size: Option<u64>,
    pub atime: Option<SetTime>,
    pub mtime: Option<SetTime>,
}

/// A time to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// The file system's clock, which the caller's can differ from.
    Now,
    At(SystemTime),
}

/// What a rename does with a name that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameMode {
    Replace,
    NoReplace,
    Exchange,
}
