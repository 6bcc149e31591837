//! Attributes in the kernel's form.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo, TimeOrNow};

use crate::namespace::{Attributes, Kind};
use crate::table::staging::SetTime;

/// What `stat` shows as the best size of one read: the kernel asks for this much at a time.
const BLOCK_BYTES: u32 = 1 << 20;

/// A node's attributes as the kernel takes them.
pub fn file_attr(attributes: &Attributes) -> FileAttr {
    FileAttr {
        ino: INodeNo(attributes.inode),
        size: attributes.size,
        blocks: attributes.blocks,
        atime: attributes.atime,
        mtime: attributes.mtime,
        ctime: attributes.ctime,
        crtime: UNIX_EPOCH,
        kind: file_type(attributes.kind),
        perm: attributes.mode,
        nlink: attributes.nlink,
        uid: attributes.uid,
        gid: attributes.gid,
        rdev: 0,
        blksize: BLOCK_BYTES,
        flags: 0,
    }
}

/// The attributes of a name that was listed and not looked up.
pub fn listed_attr(inode: u64, kind: Kind) -> FileAttr {
    file_attr(&Attributes {
        inode,
        kind,
        size: 0,
        blocks: 0,
        mode: if kind == Kind::Directory { 0o755 } else { 0o644 },
        nlink: 1,
        uid: 0,
        gid: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
    })
}

/// A kind as the kernel takes it.
pub fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::Directory => FileType::Directory,
        Kind::File => FileType::RegularFile,
        Kind::Symlink => FileType::Symlink,
    }
}

/// A time to be set.
pub fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(time) => SetTime::At(before_epoch(time)),
    }
}

/// Undoes fuser 0.18's reading of times before 1970. The kernel sends seconds rounded down and
/// nanoseconds counted up from there; fuser subtracts both.
fn before_epoch(time: SystemTime) -> SystemTime {
    match UNIX_EPOCH.duration_since(time) {
        Err(_) => time,
        Ok(wrong) => {
            let nanoseconds = Duration::from_nanos(u64::from(wrong.subsec_nanos()));
            UNIX_EPOCH - Duration::from_secs(wrong.as_secs()) + nanoseconds
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_keep_their_fraction() {
        // -1.2 s travels as (-2 s, 800,000,000 ns).
        let read_by_fuser = UNIX_EPOCH - Duration::new(2, 800_000_000);
        let meant = UNIX_EPOCH - Duration::new(1, 200_000_000);
        assert_eq!(before_epoch(read_by_fuser), meant);

        let whole = UNIX_EPOCH - Duration::from_secs(7);
        assert_eq!(before_epoch(whole), whole);
        let after = UNIX_EPOCH + Duration::new(7, 5);
        assert_eq!(before_epoch(after), after);
    }
}
