//! One row group of a checkpoint's file as the Parquet reader asks for it: page by page, and no
//! page before its header was looked at.
//!
//! Memory is bounded by what the pages of one batch may take. The reader asks for a `Read` where a
//! page header begins, and for bytes where a page's content does; the header is checked in between.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes};
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};
use tokio::runtime::Handle;

use super::page::{PageClaims, Unclear};
use crate::store::Store;

/// Bytes of a column that are read at a time.
const WINDOW_BYTES: u64 = 2 * 1024 * 1024;
/// Longest page header: most is statistics.
const HEADER_BYTES_MAX: u64 = 256 * 1024;
/// What a value of a list or map takes while it is put together: levels, a view, offsets.
pub const REPEATED_VALUE_BYTES: u64 = 48;

/// Counts what the pages of a batch take.
#[derive(Debug)]
pub struct Meter {
    taken: AtomicU64,
    bytes_max: u64,
}

impl Meter {
    pub fn new(bytes_max: u64) -> Meter {
        Meter { taken: AtomicU64::new(0), bytes_max }
    }

    /// A batch is done and its pages are let go.
    pub fn end_batch(&self) {
        self.taken.store(0, Ordering::Relaxed);
    }

    fn take(&self, bytes: u64) -> Result<()> {
        let before = self.taken.fetch_add(bytes, Ordering::Relaxed);
        match before.checked_add(bytes) {
            Some(taken) if taken <= self.bytes_max => Ok(()),
            Some(_) | None => Err(ParquetError::General(format!(
                "pages of some thousand rows claim {before} and {bytes} bytes: more than {}",
                self.bytes_max
            ))),
        }
    }
}

/// A column's bytes in the row group.
#[derive(Clone, Debug)]
pub struct ColumnBytes {
    pub range: Range<u64>,
    /// Whether it is within a list or map: then a row has any number of values.
    pub is_repeated: bool,
}

/// The file, for one row group.
pub struct RowGroupSource {
    pub store: Store,
    pub runtime: Handle,
    pub path: String,
    pub bytes: u64,
    pub columns: Vec<ColumnBytes>,
    pub meter: Arc<Meter>,
    /// What was read last of each column.
    pub windows: Mutex<Vec<Window>>,
}

/// Bytes of the file, and where they begin.
#[derive(Clone, Debug, Default)]
pub struct Window {
    start: u64,
    bytes: Bytes,
}

impl Window {
    fn get(&self, start: u64, wanted: u64) -> Option<Bytes> {
        let from = start.checked_sub(self.start)?;
        let to = from.checked_add(wanted)?;
        if to > self.bytes.len() as u64 {
            return None;
        }
        Some(self.bytes.slice(from as usize..to as usize))
    }

    fn from(&self, start: u64) -> Option<Bytes> {
        let from = start.checked_sub(self.start)?;
        (from < self.bytes.len() as u64).then(|| self.bytes.slice(from as usize..))
    }
}

impl RowGroupSource {
    fn column_at(&self, start: u64) -> Result<usize> {
        let column = self.columns.iter().position(|column| column.range.contains(&start));
        column.ok_or_else(|| ParquetError::EOF(format!("byte {start} is in no column")))
    }

    fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let reading = self.store.read_range(&self.path, range);
        let read = self.runtime.block_on(reading);
        read.map_err(|error| ParquetError::External(Box::new(error)))
    }

    /// Bytes from a place on: as many as wanted, or up to the column's end.
    fn window(&self, start: u64, wanted: u64) -> Result<Window> {
        let column = self.column_at(start)?;
        let end = self.columns[column].range.end;
        let wanted = wanted.min(end - start);
        let known = {
            let windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
            windows.get(column).cloned().unwrap_or_default()
        };
        if known.get(start, wanted).is_some() {
            return Ok(known);
        }
        let bytes = self.read(start..end.min(start + wanted.max(WINDOW_BYTES)))?;
        let window = Window { start, bytes };
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        windows.resize(self.columns.len(), Window::default());
        windows[column] = window.clone();
        Ok(window)
    }
}

impl Length for RowGroupSource {
    fn len(&self) -> u64 {
        self.bytes
    }
}

impl ChunkReader for RowGroupSource {
    type T = PageHead;

    fn get_read(&self, start: u64) -> Result<PageHead> {
        let column = self.column_at(start)?;
        let is_repeated = self.columns[column].is_repeated;
        let window = self.window(start, HEADER_BYTES_MAX)?;
        let bytes = window.from(start).unwrap_or_default();
        Ok(PageHead { bytes, is_repeated, meter: self.meter.clone(), is_checked: false })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let wanted = length as u64;
        if wanted == 0 {
            return Ok(Bytes::new());
        }
        let end = self.columns[self.column_at(start)?].range.end;
        if wanted > end - start {
            return Err(ParquetError::EOF(format!(
                "a page of {length} bytes ends behind its column"
            )));
        }
        if wanted > WINDOW_BYTES {
            self.meter.take(wanted)?;
            return self.read(start..start + wanted);
        }
        let bytes = self.window(start, wanted)?.get(start, wanted);
        bytes.ok_or_else(|| ParquetError::EOF(format!("byte {start} can't be read")))
    }
}

/// A page header that is checked when it is read.
pub struct PageHead {
    bytes: Bytes,
    is_repeated: bool,
    meter: Arc<Meter>,
    is_checked: bool,
}

impl PageHead {
    fn check(&self) -> io::Result<()> {
        let claims = PageClaims::read(&self.bytes).map_err(|unclear| {
            io::Error::other(match unclear {
                Unclear::Cut => "a page header is cut short or too long",
                Unclear::Damaged => "a page header is damaged",
            })
        })?;
        let repeated = if self.is_repeated { claims.values } else { 0 };
        let bytes =
            repeated.saturating_mul(REPEATED_VALUE_BYTES).saturating_add(claims.uncompressed_bytes);
        self.meter.take(bytes).map_err(io::Error::other)
    }
}

impl Read for PageHead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !std::mem::replace(&mut self.is_checked, true) {
            self.check()?;
        }
        let count = buffer.len().min(self.bytes.len());
        self.bytes.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}
