//! Writing files in staging: WRITE, FLUSH, FSYNC, FALLOCATE, COPY_FILE_RANGE.

use std::sync::Arc;

use fuser::WriteFlags;

use crate::error::{Error, Result};
use crate::fs::handle::Handle;
use crate::fs::serve::on_disk;
use crate::fs::{State, errno};

/// One side of a copy.
#[derive(Clone, Copy)]
pub struct Side {
    pub inode: u64,
    pub handle: u64,
    pub offset: u64,
}

/// A reply has 32 bits for the count; whole pages, so that the next call starts on one.
const COPY_BYTES_MAX: u64 = (u32::MAX as u64) & !4095;

impl State {
    /// Whether a write would keep its thread for long: the first one to a reference copies all of
    /// the source.
    pub(super) fn write_waits(&self, handle: u64) -> bool {
        let handle = self.handles.get(handle);
        matches!(handle.as_deref(), Ok(Handle::Staged(file)) if !file.has_own_bytes())
    }

    /// Writes to a file. The flags say whether its setuid bits are dropped, and whether the bytes
    /// are mapped pages, whose writer is told of a failure only when a descriptor is closed.
    pub(super) fn write(
        &self,
        handle: u64,
        offset: u64,
        data: &[u8],
        flags: WriteFlags,
    ) -> Result<usize> {
        match &*self.handles.get(handle)? {
            Handle::Staged(file) => {
                let kill_privileges = flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
                let written = file.write(offset, data, kill_privileges);
                if flags.contains(WriteFlags::FUSE_WRITE_CACHE)
                    && let Err(error) = &written
                {
                    file.tell_at_close(error);
                }
                written
            }
            Handle::Control(control) => control.write(offset, data),
            Handle::Local { .. } | Handle::Memory(_) | Handle::Directory(_) => {
                Err(errno::wrong_handle("write: the file is not open for writing"))
            }
        }
    }

    /// A descriptor of the file is closed: the last moment to tell its user what went wrong.
    pub(super) async fn flush(&self, handle: u64) -> Result<()> {
        let handle = self.handles.get(handle)?;
        match &*handle {
            Handle::Staged(file) => file.flush(),
            Handle::Control(_) => self.take_control(handle).await,
            Handle::Local { .. } | Handle::Memory(_) | Handle::Directory(_) => Ok(()),
        }
    }

    /// The kernel is done with an open file.
    pub(super) fn release(&self, handle: u64) {
        if let Ok(Handle::Staged(file)) = self.handles.get(handle).as_deref() {
            file.release();
        }
        self.handles.release(handle);
    }

    /// Hands the text of a control file over, which makes it durable.
    async fn take_control(&self, handle: Arc<Handle>) -> Result<()> {
        let namespace = Arc::clone(&self.namespace);
        on_disk(move || match &*handle {
            Handle::Control(control) => control.flush(&namespace),
            _ => Ok(()),
        })
        .await
    }

    /// Makes a file durable.
    pub(super) async fn sync(&self, handle: u64) -> Result<()> {
        let handle = self.handles.get(handle)?;
        match &*handle {
            Handle::Control(_) => return self.take_control(handle).await,
            Handle::Local { .. } | Handle::Memory(_) | Handle::Directory(_) => return Ok(()),
            Handle::Staged(_) => {}
        }
        on_disk(move || match &*handle {
            Handle::Staged(file) => file.sync(),
            _ => Ok(()),
        })
        .await
    }

    /// Reserves space, or gives it back.
    pub(super) async fn allocate(
        &self,
        handle: u64,
        offset: u64,
        length: u64,
        mode: i32,
    ) -> Result<()> {
        let handle = self.handles.get(handle)?;
        on_disk(move || match &*handle {
            Handle::Staged(file) => file.allocate(offset, length, mode),
            _ => Err(Error::Unsupported("allocate: only files in staging take space".into())),
        })
        .await
    }

    /// Copies into a file in staging. From a version's data file of the same table nothing is
    /// copied: staging refers to the file. All else is EXDEV, on which tools read and write.
    pub(super) async fn copy(&self, from: Side, to: Side, length: u64) -> Result<u64> {
        let length = length.min(COPY_BYTES_MAX);
        let (source, target) = (self.handles.get(from.handle)?, self.handles.get(to.handle)?);
        let reference = match (&*source, &*target) {
            (Handle::Staged(_), Handle::Staged(_)) => None,
            (Handle::Local { .. }, Handle::Staged(_)) => {
                let place = self.writable(to.inode, "copy_file_range")?;
                let (table, reference) =
                    self.namespace
                        .reference(&self.inodes.node(from.inode)?)
                        .ok_or_else(|| errno::across("copy_file_range: not a data file"))?;
                if !Arc::ptr_eq(&table, &place.table) {
                    return Err(errno::across("copy_file_range: from another table"));
                }
                Some(reference)
            }
            _ => return Err(errno::across("copy_file_range: not into staging")),
        };
        on_disk(move || match (&*source, &*target, reference) {
            (Handle::Staged(source), Handle::Staged(target), _) => {
                target.copy_from_staged(source, from.offset, to.offset, length)
            }
            (Handle::Local { file, .. }, Handle::Staged(target), Some(reference)) => {
                target.copy_from_reference(&reference, file, from.offset, to.offset, length)
            }
            _ => Err(errno::across("copy_file_range: not into staging")),
        })
        .await
    }
}
