//! Reading files: READ and LSEEK.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::error::{Error, Result};
use crate::fs::handle::{Handle, slice};
use crate::fs::{State, errno};

thread_local! {
    /// Where a FUSE thread reads a file into on its way to the kernel; as long as one request.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

const SEEK_DATA: i32 = 3;
const SEEK_HOLE: i32 = 4;

impl State {
    /// Reads a file. What is read is lent to `answer`, so that the kernel makes the only copy.
    pub(super) fn read(
        &self,
        handle: u64,
        offset: u64,
        size: u32,
        answer: impl FnOnce(Result<&[u8]>),
    ) {
        let size = size as usize;
        let handle = match self.handles.get(handle) {
            Ok(handle) => handle,
            Err(error) => return answer(Err(error)),
        };
        match &*handle {
            Handle::Local { file, size: end, .. } => {
                let want = end.saturating_sub(offset).min(size as u64) as usize;
                BUFFER.with_borrow_mut(|buffer| {
                    if buffer.len() < want {
                        buffer.resize(want, 0);
                    }
                    let read = read_exact(file, &mut buffer[..want], offset);
                    answer(read.map(|()| &buffer[..want]));
                });
            }
            Handle::Memory(bytes) => answer(Ok(slice(bytes, offset, size))),
            Handle::Staged(file) => match file.read(offset, size) {
                Ok(bytes) => answer(Ok(&bytes)),
                Err(error) => answer(Err(error)),
            },
            Handle::Control(control) => answer(Ok(&control.read(offset, size))),
            Handle::Directory(_) => {
                answer(Err(errno::wrong_handle("read: the handle is a directory's")));
            }
        }
    }

    /// Finds data or a hole. Only files in staging have holes; all others are data to their end,
    /// where the one hole begins.
    pub(super) async fn seek(
        &self,
        inode: u64,
        handle: u64,
        offset: i64,
        whence: i32,
    ) -> Result<i64> {
        let size = match &*self.handles.get(handle)? {
            Handle::Staged(file) => return file.seek(offset, whence),
            Handle::Local { size, .. } => *size,
            Handle::Memory(bytes) => bytes.len() as u64,
            Handle::Control(_) | Handle::Directory(_) => self.attributes(inode).await?.0.size,
        };
        seek_without_holes(size, offset, whence)
    }
}

/// Reads exactly `buffer`. A file that ends before is shorter than its log says: the reader gets
/// EIO, never zeros or an early end.
fn read_exact(file: &File, buffer: &mut [u8], offset: u64) -> Result<()> {
    file.read_exact_at(buffer, offset).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Error::Damaged(format!(
            "read {} bytes at {offset}: the data file is shorter than its log says",
            buffer.len()
        )),
        _ => Error::from_io(
            format!("read {} bytes at {offset} of a data file", buffer.len()),
            &error,
        ),
    })
}

/// The answer for a file of `size` bytes of data. The kernel seeks by itself but for holes.
fn seek_without_holes(size: u64, offset: i64, whence: i32) -> Result<i64> {
    let end = i64::try_from(size).unwrap_or(i64::MAX);
    if offset < 0 || offset >= end {
        return Err(errno::beyond_end(format!("seek to {offset}: the file has {size} bytes")));
    }
    match whence {
        SEEK_DATA => Ok(offset),
        SEEK_HOLE => Ok(end),
        _ => Err(Error::Refused(format!("seek with whence {whence}: unknown"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_without_holes_is_data_to_its_end() {
        assert_eq!(seek_without_holes(10, 4, SEEK_DATA).expect("in the file"), 4);
        assert_eq!(seek_without_holes(10, 4, SEEK_HOLE).expect("in the file"), 10);
        for (size, offset) in [(10, 10), (10, -1), (0, 0)] {
            let error = seek_without_holes(size, offset, SEEK_DATA).expect_err("no data there");
            assert_eq!(errno::errno(&error), fuser::Errno::ENXIO);
        }
    }

    #[test]
    fn a_short_data_file_is_damaged() {
        let mut file = tempfile::tempfile().expect("a scratch file");
        file.write_all(b"PAR1").expect("written");
        let mut buffer = [0; 8];
        assert!(read_exact(&file, &mut buffer[..4], 0).is_ok());
        let error = read_exact(&file, &mut buffer, 0).expect_err("only 4 bytes are there");
        assert!(matches!(error, Error::Damaged(_)), "{error:?}");
    }
}
