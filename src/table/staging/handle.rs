//! An open staged file, as the kernel reads, writes and closes it.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{FallocateFlags, Mode, SeekFrom};
use rustix::io::Errno;

use super::activity::Handle;
use super::directory::Staging;
use super::disk::{failed, is_unsupported, stat_open};
use super::mark;
use super::reference::{self, Reference};
use super::{OpenFor, Stat};
use crate::error::{Error, Result};

/// `lseek(2)`: the whences that the kernel leaves to us.
const SEEK_DATA: i32 = 3;
const SEEK_HOLE: i32 = 4;
/// Most bytes one `copy_file_range` refers to: what the kernel takes for one call.
const REFER_BYTES_MAX: u64 = 0x7fff_f000;
/// Most bytes that one request copies, so that none takes seconds; the caller asks again.
const COPY_BYTES_MAX: u64 = 64 << 20;

/// An open file of a staging directory. Dropping it is its release.
#[derive(Debug)]
pub struct StagedFile {
    staging: Arc<Staging>,
    handle: Arc<Handle>,
}

impl StagedFile {
    /// Registers an open descriptor; it ends with this value. For a caller that may hold `names`.
    pub(super) fn new(
        staging: &Arc<Staging>,
        id: u64,
        file: OwnedFd,
        open: OpenFor,
    ) -> Result<StagedFile> {
        let handle = staging.activity.opened(id, file, open)?;
        Ok(StagedFile { staging: staging.clone(), handle })
    }

    /// Finds out whether what it is opened for can be read.
    pub(super) fn prepare(&self) -> Result<()> {
        match self.handle.open {
            OpenFor { read: true, truncate: false, .. } => {
                self.handle.inode.prepare_read(self.table_folder())
            }
            _ => Ok(()),
        }
    }

    /// The file's inode number.
    pub fn id(&self) -> u64 {
        self.handle.inode.id
    }

    /// The file's attributes, which it has even when its names are gone.
    pub fn stat(&self) -> Result<Stat> {
        self.staging.stat(self.id())
    }

    /// Whether a write moves no bytes but its own, rather than to copy a reference's source first.
    pub fn has_own_bytes(&self) -> bool {
        self.handle.inode.has_own_bytes()
    }

    /// Reads up to `size` bytes; fewer only at the end of the file.
    pub fn read(&self, offset: u64, size: usize) -> Result<Vec<u8>> {
        self.handle.inode.read(&self.handle.file, self.table_folder(), offset, size)
    }

    /// Writes, and says how many bytes; fewer than given where the next one fails.
    ///
    /// `kill_privileges` drops the set-id bits, as a write by an ordinary user does. Errors are
    /// remembered: the next commit refuses the file.
    pub fn write(&self, offset: u64, data: &[u8], kill_privileges: bool) -> Result<usize> {
        let mut written = 0;
        let result = self.writing(|| self.write_all(offset, data, kill_privileges, &mut written));
        match result {
            // The caller hears of the rest when it tries again; the commit knows already.
            Err(_) if written > 0 => Ok(written),
            result => result.map(|()| written),
        }
    }

    fn write_all(
        &self,
        offset: u64,
        data: &[u8],
        kill_privileges: bool,
        written: &mut usize,
    ) -> Result<()> {
        let _owned = self.handle.inode.own(&self.handle.file, self.table_folder())?;
        if kill_privileges {
            self.drop_privileges()?;
        }
        while *written < data.len() {
            let at = offset + *written as u64;
            match rustix::io::pwrite(&self.handle.file, &data[*written..], at) {
                Ok(0) => return Err(self.failed("write", Errno::IO)),
                Ok(step) => *written += step,
                Err(Errno::INTR) => {}
                Err(error) => return Err(self.failed("write", error)),
            }
        }
        Ok(())
    }

    /// Keeps the error of a write of mapped pages for `flush`: the kernel passes it on to whoever
    /// syncs the file, and to nobody else.
    pub fn tell_at_close(&self, error: &Error) {
        self.staging.activity.tell_at_close(&self.handle, error);
    }

    /// Takes note of a `close`. The descriptor may live on in other processes.
    pub fn flush(&self) -> Result<()> {
        self.handle.flushed.store(true, Ordering::Release);
        let unmarked = self.unmark();
        self.staging.activity.quieter.notify_waiters();
        self.remembered(unmarked)?;
        self.staging.activity.take_untold(self.id()).map_or(Ok(()), Err)
    }

    /// Takes note that the kernel is done with the open file. Pages of a mapping are written after
    /// the `close` that was the last one. Not for `drop`: ours may come while a tool is at work.
    pub fn release(&self) {
        if let Err(error) = self.remembered(self.unmark()) {
            tracing::warn!("release a staged file: {error}");
        }
    }

    /// Takes the mark away, if nobody else is writing and nothing failed.
    fn unmark(&self) -> Result<()> {
        let mut marked = self.handle.inode.marked();
        if *marked && self.staging.activity.is_whole_beside(&self.handle) {
            mark::clear(&self.handle.file)?;
            *marked = false;
        }
        Ok(())
    }

    /// Makes the file durable. A failure is remembered.
    ///
    /// Never its data alone, as `fdatasync(2)` does: by an attribute that came back with the next
    /// start of the machine the bytes would be a reference's again, or half written.
    pub fn sync(&self) -> Result<()> {
        // What its user called durable is a file to go on with: the mark goes first.
        self.remembered(self.unmark())?;
        let file = &self.handle.file;
        self.remembered(rustix::fs::fsync(file).map_err(|error| {
            mark::set_lost(file);
            self.failed("sync", error)
        }))
    }

    /// Does what `fallocate(2)` does with that mode.
    pub fn allocate(&self, offset: u64, length: u64, mode: i32) -> Result<()> {
        let flags = FallocateFlags::from_bits_retain(mode.cast_unsigned());
        // Some tools begin with it, and the file then has its size before its bytes.
        self.handle.mark()?;
        self.changing(|| {
            let _owned = self.handle.inode.own(&self.handle.file, self.table_folder())?;
            rustix::fs::fallocate(&self.handle.file, flags, offset, length)
                .map_err(|error| self.failed("allocate", error))
        })
    }

    /// Does `lseek(2)` for `SEEK_DATA` and `SEEK_HOLE`.
    pub fn seek(&self, offset: i64, whence: i32) -> Result<i64> {
        let negative = || self.failed("seek in", Errno::NXIO);
        let from = u64::try_from(offset).map_err(|_| negative())?;
        let to = match whence {
            SEEK_DATA => SeekFrom::Data(from),
            SEEK_HOLE => SeekFrom::Hole(from),
            _ => return Err(self.failed("seek in", Errno::INVAL)),
        };
        let found = self.handle.inode.seek(&self.handle.file, to)?;
        i64::try_from(found).map_err(|_| self.failed("seek in", Errno::OVERFLOW))
    }

    /// Copies from a data file of the same table, and says how many bytes: none at its end.
    ///
    /// Copying a whole file in order moves no bytes: the staged file becomes a reference.
    pub fn copy_from_reference(
        &self,
        reference: &Reference,
        source: &File,
        offset_in: u64,
        offset_out: u64,
        length: u64,
    ) -> Result<u64> {
        reference.check_source(source)?;
        let left = reference.size.saturating_sub(offset_in).min(length);
        if left == 0 {
            return Ok(0);
        }
        self.writing(|| {
            let path = self.staging.known_path(self.id());
            if offset_in == offset_out && reference.may_stand_at(Path::new(&path)) {
                let end = offset_out + left.min(REFER_BYTES_MAX);
                if self.handle.inode.refer(&self.handle.file, reference, offset_out, end)? {
                    return Ok(end - offset_out);
                }
            }
            self.copy_in(source, offset_in, offset_out, left)
        })
    }

    /// Copies from another staged file, and says how many bytes: none at its end.
    pub fn copy_from_staged(
        &self,
        source: &StagedFile,
        offset_in: u64,
        offset_out: u64,
        length: u64,
    ) -> Result<u64> {
        let from = &source.handle;
        if source.stat()?.size <= offset_in || length == 0 {
            // Copying nothing changes nothing, times neither.
            return Ok(0);
        }
        self.writing(|| match from.inode.source(&from.file, self.table_folder())? {
            None => self.copy_in(&from.file, offset_in, offset_out, length),
            Some((data, size)) => {
                let left = size.saturating_sub(offset_in).min(length);
                self.copy_in(&*data, offset_in, offset_out, left)
            }
        })
    }

    fn copy_in(
        &self,
        source: impl std::os::fd::AsFd,
        offset_in: u64,
        offset_out: u64,
        length: u64,
    ) -> Result<u64> {
        let _owned = self.handle.inode.own(&self.handle.file, self.table_folder())?;
        let length = length.min(COPY_BYTES_MAX);
        reference::copy(source, offset_in, &self.handle.file, offset_out, length)
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Makes the bytes the file's own and keeps its times.
    pub(super) fn materialize(&self) -> Result<()> {
        self.handle.inode.materialize(&self.handle.file, self.table_folder())
    }

    /// Runs a change of content, and says that no `close` came after it.
    fn changing<T>(&self, change: impl FnOnce() -> Result<T>) -> Result<T> {
        let result = change();
        // After the call, so that a flush by another descriptor can't slip in between.
        self.handle.flushed.store(false, Ordering::Release);
        self.staging.activity.touch();
        result
    }

    /// As `changing`, for one whose failure means that the file lacks bytes. Said before and
    /// after: a commit that begins while it runs must not take the file for a finished one.
    fn writing<T>(&self, change: impl FnOnce() -> Result<T>) -> Result<T> {
        self.handle.flushed.store(false, Ordering::Release);
        self.remembered(self.handle.mark().and_then(|()| self.changing(change)))
    }

    fn remembered<T>(&self, result: Result<T>) -> Result<T> {
        if let Err(error) = &result
            && loses_bytes(error)
        {
            self.staging.activity.failed(&self.handle, error);
        }
        result
    }

    /// As a write by an ordinary user does: the set-user bit goes, and the set-group bit where it
    /// stands for a program and not for mandatory locking.
    fn drop_privileges(&self) -> Result<()> {
        let statx = stat_open(&self.handle.file).map_err(|error| self.failed("stat", error))?;
        let mode = Mode::from_raw_mode(u32::from(statx.stx_mode));
        let mut kept = mode - Mode::SUID;
        if mode.contains(Mode::XGRP) {
            kept -= Mode::SGID;
        }
        if kept != mode {
            rustix::fs::fchmod(&self.handle.file, kept)
                .map_err(|error| self.failed("change mode of", error))?;
        }
        Ok(())
    }

    fn table_folder(&self) -> &Path {
        &self.staging.table_folder
    }

    fn failed(&self, doing: &str, error: Errno) -> Error {
        failed(doing, self.staging.known_path(self.id()))(error)
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        self.staging.activity.closed(&self.handle);
    }
}

/// Whether the caller lost bytes with the error, rather than being told to write another way.
fn loses_bytes(error: &Error) -> bool {
    match error {
        Error::System { code, .. } => !is_unsupported(Errno::from_raw_os_error(*code)),
        Error::Unsupported(_) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_loses_bytes_but_those_on_which_tools_write_another_way() {
        let system =
            |errno: Errno| Error::System { message: "".into(), code: errno.raw_os_error() };
        for errno in [Errno::IO, Errno::NOMEM, Errno::MFILE, Errno::PERM, Errno::FBIG] {
            assert!(loses_bytes(&system(errno)), "{errno}");
        }
        assert!(loses_bytes(&Error::NoSpace("".into())));
        for errno in [Errno::XDEV, Errno::OPNOTSUPP, Errno::INVAL] {
            assert!(!loses_bytes(&system(errno)), "{errno}");
        }
    }
}
