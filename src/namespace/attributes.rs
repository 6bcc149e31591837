//! What `stat` says of a node, and for how long the kernel may believe it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::table::staging::{StagedKind, Stat};

/// Immutable: the longest time the kernel's clock takes without overflow.
pub const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);
/// Directories that others may make or remove. Every path of a version leads through some, so that
/// asking the store for each of them each time would be most of the work of `ls -l`.
pub const BRIEF: Duration = Duration::from_secs(1);
/// What may be another thing the next time somebody looks.
pub const NEVER: Duration = Duration::ZERO;
/// Attributes of staged files: only this mount changes them, and the kernel sees each change.
pub const STAGED: Duration = Duration::from_secs(1);

/// The kind of a directory entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Directory,
    File,
    Symlink,
}

/// What `stat` answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    pub inode: u64,
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
    /// Of 512 bytes.
    pub blocks: u64,
    /// Permission bits.
    pub mode: u16,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub atime: SystemTime,
    pub mtime: SystemTime,
    pub ctime: SystemTime,
}

/// Who owns all that has no owner of its own: whoever mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mounter {
    pub uid: u32,
    pub gid: u32,
}

impl Mounter {
    /// A directory: 0755, its times all the same.
    pub fn directory(self, inode: u64, modified_ms: i64) -> Attributes {
        self.attributes(inode, Kind::Directory, 0o755, 0, modified_ms, 2)
    }

    /// A file: 0644, its times all the same.
    pub fn file(self, inode: u64, size: u64, modified_ms: i64) -> Attributes {
        self.attributes(inode, Kind::File, 0o644, size, modified_ms, 1)
    }

    /// A file that stands under several names: told to the tools by a link count of 2.
    pub fn shared_file(self, inode: u64, size: u64, modified_ms: i64) -> Attributes {
        self.attributes(inode, Kind::File, 0o644, size, modified_ms, 2)
    }

    /// A symlink whose target is `size` bytes long.
    pub fn symlink(self, inode: u64, size: u64, modified_ms: i64) -> Attributes {
        self.attributes(inode, Kind::Symlink, 0o777, size, modified_ms, 1)
    }

    fn attributes(
        self,
        inode: u64,
        kind: Kind,
        mode: u16,
        size: u64,
        modified_ms: i64,
        nlink: u32,
    ) -> Attributes {
        let time = time(modified_ms);
        Attributes {
            inode,
            kind,
            size,
            blocks: size.div_ceil(512),
            mode,
            nlink,
            uid: self.uid,
            gid: self.gid,
            atime: time,
            mtime: time,
            ctime: time,
        }
    }
}

impl From<Stat> for Attributes {
    fn from(stat: Stat) -> Attributes {
        Attributes {
            inode: stat.id,
            kind: match stat.kind {
                StagedKind::Directory => Kind::Directory,
                StagedKind::File => Kind::File,
            },
            size: stat.size,
            blocks: stat.blocks,
            mode: (stat.mode & 0o7777) as u16,
            nlink: stat.nlink,
            uid: stat.uid,
            gid: stat.gid,
            atime: stat.atime,
            mtime: stat.mtime,
            ctime: stat.ctime,
        }
    }
}

/// Milliseconds since the epoch, before it too, as a time.
pub fn time(ms: i64) -> SystemTime {
    let distance = Duration::from_millis(ms.unsigned_abs());
    let moved =
        if ms < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    moved.unwrap_or(UNIX_EPOCH)
}
