//! The bytes of an open staged file: its own, or, until the first write, those of a reference.
//!
//! All handles of a file share one [`Inode`], so that each sees at once what another made of it.
//!
//! ```text
//! Own (empty) ── refer ──▶ Reference ── own, truncate to 0 ──▶ Own
//! ```
//!
//! `own` breaks away in an order that a crash can't hurt: copy the bytes into the placeholder,
//! make them durable, remove the attribute. Until the last step the file still is the reference.
//! `truncate` to less leaves a reference to less; to more, or a write, breaks away first.
//!
//! The lock is held across the call that reads or writes, so that a read can't see the holes of a
//! file that becomes a reference in between. It comes before the lock of `Activity`.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
    TryLockError,
};

use rustix::buffer::spare_capacity;
use rustix::fs::{SeekFrom, Timespec, Timestamps};
use rustix::io::Errno;

use super::disk::{failed, stat_open};
use super::reference::{self, Reference};
use crate::error::{Error, Result};

#[derive(Debug)]
pub(super) struct Inode {
    pub id: u64,
    content: RwLock<Bytes>,
    /// Whether the file is marked as being written. Locked before the `Activity`, never together
    /// with the content.
    marked: Mutex<bool>,
    /// Whether a commit took the file: it may be the table's own.
    let_go: AtomicBool,
}

#[derive(Debug)]
enum Bytes {
    Own,
    Reference { to: Reference, source: OnceLock<Arc<File>> },
}

impl Bytes {
    /// The open source of a reference; `None` for own bytes.
    fn source(&self, table_folder: &Path) -> Result<Option<Arc<File>>> {
        let Bytes::Reference { to, source } = self else { return Ok(None) };
        if let Some(open) = source.get() {
            return Ok(Some(open.clone()));
        }
        let open = Arc::new(to.open_source(table_folder)?);
        Ok(Some(source.get_or_init(|| open).clone()))
    }
}

impl Inode {
    /// Finds out what an open file's bytes are.
    pub(super) fn load(id: u64, file: impl AsFd) -> Result<Inode> {
        let content = match reference::read(file)? {
            None => Bytes::Own,
            Some(to) => Bytes::Reference { to, source: OnceLock::new() },
        };
        let (marked, let_go) = (Mutex::new(false), AtomicBool::new(false));
        Ok(Inode { id, content: RwLock::new(content), marked, let_go })
    }

    pub(super) fn marked(&self) -> MutexGuard<'_, bool> {
        self.marked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn let_go(&self) {
        self.let_go.store(true, Ordering::Release);
    }

    pub(super) fn is_let_go(&self) -> bool {
        self.let_go.load(Ordering::Acquire)
    }

    /// Whether the bytes are the file's own. Never waits: what changes just now isn't yet.
    pub(super) fn has_own_bytes(&self) -> bool {
        match self.content.try_read() {
            Ok(content) => matches!(*content, Bytes::Own),
            Err(TryLockError::Poisoned(content)) => matches!(**content.get_ref(), Bytes::Own),
            Err(TryLockError::WouldBlock) => false,
        }
    }

    /// Opens a reference's source, so that a lost one fails the open and not the first read.
    pub(super) fn prepare_read(&self, table_folder: &Path) -> Result<()> {
        self.shared().source(table_folder).map(drop)
    }

    /// Reads up to `size` bytes; fewer only at the end of the file.
    pub(super) fn read(
        &self,
        file: &OwnedFd,
        table_folder: &Path,
        offset: u64,
        size: usize,
    ) -> Result<Vec<u8>> {
        let content = self.shared();
        match content.source(table_folder)? {
            None => read_at(file, offset, size),
            Some(source) => {
                let left = size_of(file)?.saturating_sub(offset);
                read_at(&source, offset, usize::try_from(left).unwrap_or(usize::MAX).min(size))
            }
        }
    }

    /// What to read the bytes from, with how many there are.
    pub(super) fn source(
        &self,
        file: &OwnedFd,
        table_folder: &Path,
    ) -> Result<Option<(Arc<File>, u64)>> {
        let content = self.shared();
        match content.source(table_folder)? {
            None => Ok(None),
            Some(source) => Ok(Some((source, size_of(file)?))),
        }
    }

    /// Makes the bytes the file's own, and keeps them so while the guard lives.
    pub(super) fn own(&self, file: &OwnedFd, table_folder: &Path) -> Result<Owned<'_>> {
        loop {
            let content = self.shared();
            if matches!(*content, Bytes::Own) {
                return Ok(Owned { _content: content });
            }
            drop(content);
            break_away(&mut self.exclusive(), file, table_folder)?;
        }
    }

    /// As `own`, for a commit: the modification time stays what the user sees.
    pub(super) fn materialize(&self, file: &OwnedFd, table_folder: &Path) -> Result<()> {
        let mut content = self.exclusive();
        let before = stat_open(file).map_err(failed("stat", "staged file"))?;
        break_away(&mut content, file, table_folder)?;
        let time = |time: rustix::fs::StatxTimestamp| Timespec {
            tv_sec: time.tv_sec,
            tv_nsec: i64::from(time.tv_nsec),
        };
        let times = Timestamps {
            last_access: time(before.stx_atime),
            last_modification: time(before.stx_mtime),
        };
        rustix::fs::futimens(file, &times).map_err(failed("set times of", "staged file"))
    }

    /// Sets the size.
    pub(super) fn truncate(&self, file: &OwnedFd, table_folder: &Path, size: u64) -> Result<()> {
        let mut content = self.exclusive();
        if matches!(*content, Bytes::Reference { .. }) && size > size_of(file)? {
            break_away(&mut content, file, table_folder)?;
        }
        rustix::fs::ftruncate(file, size).map_err(failed("truncate", "staged file"))?;
        if size == 0 && matches!(*content, Bytes::Reference { .. }) {
            reference::detach(file)?;
            *content = Bytes::Own;
        }
        Ok(())
    }

    /// Makes the file refer to the first `end` bytes of `to`, if it refers to the first `offset`
    /// bytes now, or is empty. False: it is some other file, and its bytes have to be copied.
    pub(super) fn refer(
        &self,
        file: &OwnedFd,
        to: &Reference,
        offset: u64,
        end: u64,
    ) -> Result<bool> {
        let mut content = self.exclusive();
        if size_of(file)? != offset {
            return Ok(false);
        }
        match &*content {
            Bytes::Reference { to: now, .. } if now == to => {}
            Bytes::Own if offset == 0 => {
                if !reference::attach(file, to)? {
                    return Ok(false);
                }
                *content = Bytes::Reference { to: to.clone(), source: OnceLock::new() };
            }
            Bytes::Own | Bytes::Reference { .. } => return Ok(false),
        }
        rustix::fs::ftruncate(file, end).map_err(failed("extend", "staged file"))?;
        Ok(true)
    }

    /// Finds data (`SEEK_DATA`) or a hole (`SEEK_HOLE`). A reference is all data.
    pub(super) fn seek(&self, file: &OwnedFd, to: SeekFrom) -> Result<u64> {
        let content = self.shared();
        if let (Bytes::Reference { .. }, SeekFrom::Data(from) | SeekFrom::Hole(from)) =
            (&*content, to)
        {
            let size = size_of(file)?;
            return match to {
                _ if from >= size => Err(failed("seek in", "staged file")(Errno::NXIO)),
                SeekFrom::Data(_) => Ok(from),
                _ => Ok(size),
            };
        }
        rustix::fs::seek(file, to).map_err(failed("seek in", "staged file"))
    }

    fn shared(&self) -> RwLockReadGuard<'_, Bytes> {
        self.content.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn exclusive(&self) -> RwLockWriteGuard<'_, Bytes> {
        self.content.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// While it lives the file's bytes are its own.
#[must_use]
pub(super) struct Owned<'a> {
    _content: RwLockReadGuard<'a, Bytes>,
}

/// Copies the source in, durably, and only then ends the reference.
fn break_away(content: &mut Bytes, file: &OwnedFd, table_folder: &Path) -> Result<()> {
    let Bytes::Reference { to, .. } = &*content else { return Ok(()) };
    let size = size_of(file)?;
    if size > 0 {
        let source = content.source(table_folder)?.expect("BUG: a reference has a source");
        let copied = reference::copy(&*source, 0, file, 0, size)?;
        if copied != size {
            return Err(Error::Damaged(format!(
                "data file {} ended after {copied} of {size} bytes",
                to.path
            )));
        }
        rustix::fs::fdatasync(file).map_err(failed("sync", "staged file"))?;
    }
    reference::detach(file)?;
    *content = Bytes::Own;
    Ok(())
}

fn size_of(file: &OwnedFd) -> Result<u64> {
    Ok(stat_open(file).map_err(failed("stat", "staged file"))?.stx_size)
}

fn read_at(file: impl AsFd, offset: u64, size: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(size);
    while bytes.len() < size {
        let at = offset + bytes.len() as u64;
        match rustix::io::pread(&file, spare_capacity(&mut bytes), at) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(failed("read", "staged file")(error)),
        }
    }
    bytes.truncate(size);
    Ok(bytes)
}
