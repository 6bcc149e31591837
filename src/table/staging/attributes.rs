//! Changes of a staged file's attributes: owner, mode, size, times.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid};

use super::activity::{Changing, Handle};
use super::directory::Staging;
use super::disk::{failed, magic_path};
use super::lookup::stat_file;
use super::reference;
use super::stat::PERMISSIONS;
use super::{OpenFor, SetAttributes, SetTime, StagedKind, Stat};
use crate::error::{Error, Result};

/// Permission bits of a file's owner.
const OWNER_READS: u32 = 0o400;
const OWNER_WRITES: u32 = 0o200;

impl SetAttributes {
    /// Whether a reference's source may have to be copied for it, which can take seconds.
    pub fn may_copy(&self) -> bool {
        self.size.is_some() || self.mode.is_some_and(|mode| mode & OWNER_READS == 0)
    }
}

/// A file to change: open already, perhaps without a name, or found by its path.
enum Way {
    Open(Arc<Handle>),
    Found(OwnedFd),
}

impl AsFd for Way {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        match self {
            Way::Open(handle) => handle.file.as_fd(),
            Way::Found(file) => file.as_fd(),
        }
    }
}

impl Staging {
    /// Sets what is asked for, in an order in which no step undoes another: a change of owner
    /// drops set-id bits, and a change of size sets the time.
    pub fn set_attributes(self: &Arc<Self>, id: u64, set: SetAttributes) -> Result<Stat> {
        let change = self.activity.change()?;
        change.alters(id)?;
        let way = match self.activity.handle(id) {
            // What a commit took may be the table's own file, and an open handle can still name it.
            Some(handle) if handle.inode.is_let_go() => {
                return Err(Error::NotFound("a committed file can't be changed".into()));
            }
            Some(handle) => Way::Open(handle),
            None => {
                let _names = self.names_shared();
                Way::Found(self.open_id(id, OFlags::PATH)?)
            }
        };
        if set.uid.is_some() || set.gid.is_some() {
            let (user, group) = (set.uid.map(Uid::from_raw), set.gid.map(Gid::from_raw));
            rustix::fs::chownat(&way, "", user, group, AtFlags::EMPTY_PATH)
                .map_err(failed("change owner of", "staged file"))?;
        }
        if let Some(mode) = set.mode {
            if mode & OWNER_READS == 0 && !self.is_root {
                self.own_bytes(id, &way, &change)?;
            }
            change_mode(&way, mode)?;
        }
        if let Some(size) = set.size {
            self.set_size(id, &way, size, &change)?;
        }
        if set.atime.is_some() || set.mtime.is_some() {
            let times = Timestamps {
                last_access: timespec(set.atime),
                last_modification: timespec(set.mtime),
            };
            rustix::fs::utimensat(&way, "", &times, AtFlags::EMPTY_PATH)
                .map_err(failed("set times of", "staged file"))?;
        }
        stat_file(&way)
    }

    /// Makes a reference a file of its own, for one that its owner can't read can't be told from
    /// other files: its attribute can't be read either.
    fn own_bytes(self: &Arc<Self>, id: u64, way: &Way, change: &Changing<'_>) -> Result<()> {
        let stat = stat_file(way)?;
        if stat.kind != StagedKind::File || reference::read(way)?.is_none() {
            return Ok(());
        }
        change_mode(way, stat.mode | OWNER_READS | OWNER_WRITES)?;
        let open = OpenFor { write: true, ..OpenFor::default() };
        let file = self.open_changing(id, open, change)?;
        file.flush()?;
        file.materialize()
    }

    /// Sets the size through a handle that may write, for `ftruncate` needs no permission any
    /// more; else, as `truncate(2)` does, by opening the file.
    fn set_size(
        self: &Arc<Self>,
        id: u64,
        way: &Way,
        size: u64,
        change: &Changing<'_>,
    ) -> Result<()> {
        if stat_file(way)?.kind != StagedKind::File {
            return Err(Error::IsDirectory("truncate: it is a directory".into()));
        }
        if let Some(handle) = self.activity.writer(id) {
            return self.truncate(&handle, size);
        }
        let open = OpenFor { write: true, ..OpenFor::default() };
        let file = self.open_changing(id, open, change)?;
        // Nobody will close this handle but us: the change that we are in keeps commits away.
        file.flush()?;
        self.truncate(file.handle(), size)
    }

    /// Sets the size of an open file. To nothing, it is a new beginning after failed writes.
    pub(super) fn truncate(&self, handle: &Handle, size: u64) -> Result<()> {
        handle.inode.truncate(&handle.file, &self.table_folder, size)?;
        self.activity.touch();
        if size == 0 {
            self.activity.forgive(handle.inode.id);
            handle.clear_mark()?;
        }
        Ok(())
    }
}

/// By the magic path: `fchmod` takes no `O_PATH` descriptor.
fn change_mode(way: &Way, mode: u32) -> Result<()> {
    rustix::fs::chmod(magic_path(way), Mode::from_raw_mode(mode & PERMISSIONS))
        .map_err(failed("change mode of", "staged file"))
}

/// A time as the system call takes it.
fn timespec(time: Option<SetTime>) -> Timespec {
    match time {
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        Some(SetTime::Now) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        Some(SetTime::At(time)) => match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => since_epoch(after),
            Err(before) => before_epoch(before.duration()),
        },
    }
}

fn since_epoch(after: Duration) -> Timespec {
    let seconds = i64::try_from(after.as_secs()).unwrap_or(i64::MAX);
    Timespec { tv_sec: seconds, tv_nsec: i64::from(after.subsec_nanos()) }
}

/// Nanoseconds count upwards also before the epoch.
fn before_epoch(before: Duration) -> Timespec {
    let seconds = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
    match i64::from(before.subsec_nanos()) {
        0 => Timespec { tv_sec: -seconds, tv_nsec: 0 },
        nanoseconds => Timespec { tv_sec: -seconds - 1, tv_nsec: 1_000_000_000 - nanoseconds },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_that_may_copy_are_told_from_those_that_do_not() {
        let mode = |mode| SetAttributes { mode: Some(mode), ..SetAttributes::default() };
        assert!(SetAttributes { size: Some(0), ..mode(0o644) }.may_copy());
        assert!(mode(0o244).may_copy());
        assert!(!mode(0o400).may_copy());
        let time = Some(SetTime::Now);
        assert!(!SetAttributes { mtime: time, ..SetAttributes::default() }.may_copy());
    }

    #[test]
    fn times_before_the_epoch_count_nanoseconds_upwards() {
        let time = SystemTime::UNIX_EPOCH - Duration::new(1, 250_000_000);
        let spec = timespec(Some(SetTime::At(time)));
        assert_eq!((spec.tv_sec, spec.tv_nsec), (-2, 750_000_000));
        let time = SystemTime::UNIX_EPOCH - Duration::from_secs(7);
        let spec = timespec(Some(SetTime::At(time)));
        assert_eq!((spec.tv_sec, spec.tv_nsec), (-7, 0));
    }
}
