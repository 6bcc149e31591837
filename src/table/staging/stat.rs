//! Attributes of staged files as the kernel is told them.

use std::os::fd::AsFd;
use std::time::{Duration, SystemTime};

use rustix::fs::{FileType, Statx, StatxFlags, StatxTimestamp};
use sha2::{Digest, Sha256};

use super::disk::failed;
use crate::error::Result;

/// Inode numbers of staged files have this bit, those of versions do not.
pub(super) const STAGED_BIT: u64 = 1 << 63;
/// Permission, set-id and sticky bits.
pub(super) const PERMISSIONS: u32 = 0o7777;

/// What a staging directory holds; symlinks and device nodes can't be made in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StagedKind {
    Directory,
    File,
}

/// Attributes of a staged file or directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// FUSE inode number, with its highest bit set.
    pub id: u64,
    pub kind: StagedKind,
    /// Bytes.
    pub size: u64,
    /// Units of 512 bytes.
    pub blocks: u64,
    /// Permission bits, set-id and sticky bits included.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u32,
    pub atime: SystemTime,
    pub mtime: SystemTime,
    pub ctime: SystemTime,
}

impl Stat {
    /// Translates attributes; `None` for what no call of ours can have made.
    pub(super) fn of(statx: &Statx) -> Option<Stat> {
        let kind = match FileType::from_raw_mode(u32::from(statx.stx_mode)) {
            FileType::RegularFile => StagedKind::File,
            FileType::Directory => StagedKind::Directory,
            _ => return None,
        };
        Some(Stat {
            id: id_of(statx),
            kind,
            size: statx.stx_size,
            blocks: statx.stx_blocks,
            mode: u32::from(statx.stx_mode) & PERMISSIONS,
            uid: statx.stx_uid,
            gid: statx.stx_gid,
            nlink: statx.stx_nlink,
            atime: system_time(statx.stx_atime),
            mtime: system_time(statx.stx_mtime),
            ctime: system_time(statx.stx_ctime),
        })
    }

    /// Whether tools would take a part of the file for a hole. A reference can be without this:
    /// its attribute counts as a block, and so does what a break-away that died had copied.
    pub(super) fn is_sparse(&self) -> bool {
        self.kind == StagedKind::File && self.blocks.saturating_mul(512) < self.size
    }

    /// Shows a reference as the whole file it stands for: `tar -S`, `cp` and `rsync` take a file
    /// without blocks for one hole and would never read it.
    pub(super) fn show_whole(&mut self) {
        self.blocks = self.size.div_ceil(512);
    }
}

/// The inode number of a file on disk: the same after a remount, and another one when the file
/// system gives the inode of a removed file to a new one, for the birth time is part of it.
pub(super) fn id_of(statx: &Statx) -> u64 {
    let mut hash = Sha256::new();
    hash.update(statx.stx_dev_major.to_le_bytes());
    hash.update(statx.stx_dev_minor.to_le_bytes());
    hash.update(statx.stx_ino.to_le_bytes());
    if statx.stx_mask & StatxFlags::BTIME.bits() != 0 {
        hash.update(statx.stx_btime.tv_sec.to_le_bytes());
        hash.update(statx.stx_btime.tv_nsec.to_le_bytes());
    }
    let digest = hash.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_le_bytes(first) | STAGED_BIT
}

/// Space of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes of the unit in which blocks are counted.
    pub block_size: u64,
    pub blocks: u64,
    pub blocks_free: u64,
    /// Free for those who are not root.
    pub blocks_available: u64,
    pub files: u64,
    pub files_free: u64,
    /// Bytes of the longest name.
    pub name_max: u64,
}

impl Space {
    /// The space that is left where an open file or folder lies.
    pub fn of(file: impl AsFd) -> Result<Space> {
        let space = rustix::fs::fstatvfs(file).map_err(failed("statfs", "spool"))?;
        Ok(Space {
            block_size: space.f_frsize,
            blocks: space.f_blocks,
            blocks_free: space.f_bfree,
            blocks_available: space.f_bavail,
            files: space.f_files,
            files_free: space.f_ffree,
            name_max: space.f_namemax,
        })
    }
}

/// Nanoseconds since the epoch, bounded to what fits (the years 1677 to 2262).
pub(super) fn nanoseconds(time: StatxTimestamp) -> i64 {
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(i64::from(time.tv_nsec))
}

/// Milliseconds since the epoch, rounded down.
pub(super) fn milliseconds(time: StatxTimestamp) -> i64 {
    time.tv_sec.saturating_mul(1000).saturating_add(i64::from(time.tv_nsec) / 1_000_000)
}

fn system_time(time: StatxTimestamp) -> SystemTime {
    let seconds = Duration::from_secs(time.tv_sec.unsigned_abs());
    let whole = if time.tv_sec < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(seconds)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(seconds)
    };
    whole.unwrap_or(SystemTime::UNIX_EPOCH) + Duration::from_nanos(u64::from(time.tv_nsec))
}
