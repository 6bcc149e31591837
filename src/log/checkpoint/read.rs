//! Parquet batches of a checkpoint's file, read by ranges through the store.
//!
//! A checkpoint is somebody else's bytes: whatever the Parquet reader makes of them, an error or a
//! panic, is damage of that file. What it may take of memory is told by its footer before, and a
//! footer that asks for too much is damage as well. Row groups are decoded side by side.

use std::num::NonZeroUsize;
use std::panic::AssertUnwindSafe;
use std::sync::mpsc as blocking;
use std::sync::{Arc, Mutex};

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, TimeUnit};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::basic::Type as PhysicalType;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};

use super::source::{ColumnBytes, Meter, REPEATED_VALUE_BYTES, RowGroupSource};
use super::{file_bytes, in_file};
use crate::error::{Error, Result};
use crate::log::listing::{LogFile, LogFileKind, log_path};
use crate::store::Store;

/// Rows decoded at a time: some megabytes of file actions.
const BATCH_ROWS: usize = 8 * 1024;
/// Read with the first request, in the hope that the footer is in it.
const FOOTER_BYTES: u64 = 64 * 1024;
/// Largest footer. What is made of it takes many times as much.
const FOOTER_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// The footer's length and `PAR1`.
const TAIL_BYTES: u64 = 8;
/// Each row has an action of its own, which can't be stored in less than a bit.
const ROWS_A_BYTE_MAX: u64 = 8;
/// What the pages of one batch may take.
const BATCH_BYTES_MAX: u64 = 128 * 1024 * 1024;
const BATCH_BYTES_MIN: u64 = 8 * 1024 * 1024;
/// What the pages of all row groups that are decoded side by side may take.
const DECODE_BYTES_MAX: u64 = 256 * 1024 * 1024;
const BUDGET_UNIT_BYTES: u64 = 1024;

/// Memory that row groups of one checkpoint, decoded side by side, may take for their pages.
pub struct DecodeBudget {
    units: Semaphore,
}

impl Default for DecodeBudget {
    fn default() -> DecodeBudget {
        let units = usize::try_from(DECODE_BYTES_MAX / BUDGET_UNIT_BYTES).unwrap_or(usize::MAX);
        DecodeBudget { units: Semaphore::new(units) }
    }
}

/// The batches of one row group on their way to whoever makes something of them.
pub type Batches = blocking::IntoIter<RecordBatch>;

/// The reader of one row group.
struct GroupReader {
    reader: ParquetRecordBatchReader,
    meter: Arc<Meter>,
}

impl Iterator for GroupReader {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Result<RecordBatch>> {
        self.meter.end_batch();
        let batch = self.reader.next()?;
        Some(batch.map_err(|error| translate(error.into())))
    }
}

/// Gives every batch of a checkpoint's file, projected on columns, to `take`. Columns that the file
/// has not are left out. Text comes as views.
///
/// Errors: [`Error::Damaged`] naming file and version; else the store's.
pub async fn for_each_batch(
    store: &Store,
    file: &LogFile,
    columns: &[&str],
    mut take: impl FnMut(&RecordBatch) -> Result<()>,
) -> Result<()> {
    let opened = Opened::open(store, file, columns).await?;
    for group in 0..opened.metadata.metadata().num_row_groups() {
        let (source, _) = opened.source(group).map_err(|error| in_file(file, error))?;
        let (metadata, mask) = (opened.metadata.clone(), opened.mask.clone());
        let (send, mut receive) = mpsc::channel(1);
        let decode = tokio::task::spawn_blocking(move || {
            caught(|| {
                for batch in batches(source, metadata, mask, group)? {
                    if send.blocking_send(batch?).is_err() {
                        break;
                    }
                }
                Ok(())
            })
        });
        let mut taken = Ok(());
        while let Some(batch) = receive.recv().await {
            taken = take(&batch);
            if taken.is_err() {
                break;
            }
        }
        drop(receive);
        taken.and(joined(decode.await)).map_err(|error| in_file(file, error))?;
    }
    Ok(())
}

/// Makes something of every row group of a checkpoint's file, projected on columns, side by side;
/// in the order of the file. While something is made of a batch the next one is read, so that both
/// cores of a small machine have work to the end. Errors: as [`for_each_batch`].
pub async fn map_row_groups<T: Send + 'static>(
    store: &Store,
    file: &LogFile,
    columns: &[&str],
    budget: &DecodeBudget,
    decode: impl Fn(Batches) -> Result<T> + Copy + Send + 'static,
) -> Result<Vec<T>> {
    let opened = Opened::open(store, file, columns).await?;
    let opened = &opened;
    let at_once = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let groups = stream::iter(0..opened.metadata.metadata().num_row_groups());
    let groups = groups.map(|group| async move {
        let (source, bytes) = opened.source(group)?;
        // Of two batches: one is read while another is looked at.
        let units = u32::try_from(2 * bytes / BUDGET_UNIT_BYTES).unwrap_or(u32::MAX);
        let closed = |_| Error::Damaged("BUG: a budget is never closed".into());
        let _held = budget.units.acquire_many(units).await.map_err(closed)?;
        let (metadata, mask) = (opened.metadata.clone(), opened.mask.clone());
        let (send, receive) = blocking::sync_channel(0);
        let reading = tokio::task::spawn_blocking(move || {
            caught(|| {
                for batch in batches(source, metadata, mask, group)? {
                    if send.send(batch?).is_err() {
                        break;
                    }
                }
                Ok(())
            })
        });
        let decoding = tokio::task::spawn_blocking(move || caught(|| decode(receive.into_iter())));
        let (read, decoded) = tokio::join!(reading, decoding);
        // What was decoded of a row group that can't be read is not all.
        joined(read).and(joined(decoded))
    });
    let decoded = groups.buffered(at_once).try_collect().await;
    decoded.map_err(|error| in_file(file, error))
}

fn joined<T>(ended: std::result::Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    ended.unwrap_or_else(|error| Err(Error::Damaged(format!("BUG: read a checkpoint: {error}"))))
}

/// The Parquet reader panics on some files: that is damage too.
fn caught<T>(read: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(Error::Damaged("the Parquet reader panicked on this file".into())))
}

fn batches(
    source: RowGroupSource,
    metadata: ArrowReaderMetadata,
    mask: ProjectionMask,
    group: usize,
) -> Result<GroupReader> {
    let meter = source.meter.clone();
    let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(source, metadata)
        .with_row_groups(vec![group])
        .with_projection(mask)
        .with_batch_size(BATCH_ROWS);
    Ok(GroupReader { reader: builder.build().map_err(translate)?, meter })
}

/// A file of a checkpoint whose footer was read and found possible.
struct Opened {
    store: Store,
    path: String,
    bytes: u64,
    metadata: ArrowReaderMetadata,
    mask: ProjectionMask,
}

impl Opened {
    async fn open(store: &Store, file: &LogFile, columns: &[&str]) -> Result<Opened> {
        let bytes = file_bytes(store, file).await?;
        let path = log_path(&file.name);
        let footer =
            read_footer(store, &path, bytes).await.map_err(|error| in_file(file, error))?;
        let columns: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
        let (store, kind) = (store.clone(), file.kind.clone());
        let opening = tokio::task::spawn_blocking(move || {
            caught(|| {
                let metadata = decode_footer(&footer, bytes)?;
                let schema = metadata.parquet_schema();
                let mut roots = schema.root_schema().get_fields().iter();
                if !roots.any(|field| holds_files(&kind, field.name())) {
                    return Err(Error::Damaged("no column of file actions".into()));
                }
                let columns = columns.iter().map(String::as_str);
                let mask = ProjectionMask::columns(schema, columns);
                Ok(Opened { store, path, bytes, metadata, mask })
            })
        });
        joined(opening.await).map_err(|error| in_file(file, error))
    }

    /// A row group, and what the pages of a batch may take. Errors: [`Error::Damaged`] where the
    /// footer claims what can't be.
    fn source(&self, group: usize) -> Result<(RowGroupSource, u64)> {
        let group = self.metadata.metadata().row_group(group);
        let mut claimed: u64 = 0;
        let mut columns = Vec::new();
        for (leaf, column) in group.columns().iter().enumerate() {
            if !self.mask.leaf_included(leaf) {
                continue;
            }
            let range = column_bytes(column).filter(|range| range.end <= self.bytes);
            let range = range.ok_or_else(|| {
                let name = column.column_path();
                Error::Damaged(format!("column {name} is not within the file"))
            })?;
            let is_repeated = column.column_descr().max_rep_level() > 0;
            claimed = claimed.saturating_add(claimed_bytes(column, is_repeated));
            columns.push(ColumnBytes { range, is_repeated });
        }
        let bytes_max = claimed.clamp(BATCH_BYTES_MIN, BATCH_BYTES_MAX);
        let source = RowGroupSource {
            store: self.store.clone(),
            runtime: Handle::current(),
            path: self.path.clone(),
            bytes: self.bytes,
            columns,
            meter: Arc::new(Meter::new(bytes_max)),
            windows: Mutex::default(),
        };
        Ok((source, bytes_max))
    }
}

/// What the pages of a column may take by the footer, in the way in which [`Meter`] counts them.
fn claimed_bytes(column: &ColumnChunkMetaData, is_repeated: bool) -> u64 {
    let claim = |number: i64| u64::try_from(number).unwrap_or(u64::MAX);
    let values = if is_repeated { claim(column.num_values()) } else { 0 };
    claim(column.uncompressed_size())
        .saturating_add(claim(column.compressed_size()))
        .saturating_add(values.saturating_mul(REPEATED_VALUE_BYTES))
}

/// Where a column of a row group is.
fn column_bytes(column: &ColumnChunkMetaData) -> Option<std::ops::Range<u64>> {
    let start = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
    let start = u64::try_from(start).ok()?;
    let bytes = u64::try_from(column.compressed_size()).ok()?;
    Some(start..start.checked_add(bytes)?)
}

async fn read_footer(store: &Store, path: &str, bytes: u64) -> Result<Bytes> {
    if bytes < TAIL_BYTES {
        return Err(Error::Damaged(format!("{bytes} bytes are no Parquet file")));
    }
    let end = store.read_range(path, bytes.saturating_sub(FOOTER_BYTES)..bytes).await?;
    let (rest, tail) = end.split_at(end.len() - TAIL_BYTES as usize);
    let (length, magic) = tail.split_at(4);
    if magic != b"PAR1" {
        return Err(Error::Damaged("it does not end as a Parquet file does".into()));
    }
    let length = length.iter().rev().fold(0, |length, byte| length << 8 | u64::from(*byte));
    if length > FOOTER_BYTES_MAX.min(bytes - TAIL_BYTES) {
        return Err(Error::Damaged(format!("its footer can't have {length} bytes")));
    }
    match rest.len().checked_sub(length as usize) {
        Some(start) => Ok(end.slice(start..rest.len())),
        None => store.read_range(path, bytes - TAIL_BYTES - length..bytes - TAIL_BYTES).await,
    }
}

fn decode_footer(footer: &[u8], bytes: u64) -> Result<ArrowReaderMetadata> {
    let metadata = ParquetMetaDataReader::decode_metadata(footer).map_err(translate)?;
    check_rows(&metadata, bytes)?;
    let metadata = Arc::new(metadata);
    // The writer's arrow schema could ask for dictionaries: the Parquet types say all that the
    // protocol does.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let plain =
        ArrowReaderMetadata::try_new(metadata.clone(), options.clone()).map_err(translate)?;
    let columns = plain.parquet_schema().columns();
    let has_int96 = columns.iter().any(|column| column.physical_type() == PhysicalType::INT96);
    let schema = Arc::new(Schema::new(as_read(plain.schema().fields(), has_int96)));
    ArrowReaderMetadata::try_new(metadata, options.with_schema(schema)).map_err(translate)
}

fn check_rows(metadata: &ParquetMetaData, bytes: u64) -> Result<()> {
    let mut rows: u64 = 0;
    for group in metadata.row_groups() {
        let more = u64::try_from(group.num_rows()).unwrap_or(u64::MAX);
        rows = rows.saturating_add(more);
    }
    if rows > bytes.saturating_mul(ROWS_A_BYTE_MAX) {
        return Err(Error::Damaged(format!("{bytes} bytes can't hold the {rows} rows it claims")));
    }
    Ok(())
}

/// The columns as they are read. Text comes as views, because a page's text is then shared by all
/// rows that have it: a dictionary with one long text would else be written out for each of them.
/// Spark's old timestamps (INT96) come as microseconds: as nanoseconds, which is arrow's choice,
/// years after 2262 would silently become others.
fn as_read(fields: &Fields, has_int96: bool) -> Fields {
    fields.iter().map(|field| field_as_read(field, has_int96)).collect()
}

fn field_as_read(field: &FieldRef, has_int96: bool) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Utf8 => DataType::Utf8View,
        DataType::Timestamp(TimeUnit::Nanosecond, None) if has_int96 => {
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
        }
        DataType::Struct(fields) => DataType::Struct(as_read(fields, has_int96)),
        DataType::List(item) => DataType::List(field_as_read(item, has_int96)),
        DataType::Map(entries, sorted) => DataType::Map(field_as_read(entries, has_int96), *sorted),
        other => other.clone(),
    };
    Arc::new(Field::clone(field).with_data_type(data_type))
}

/// Whether a root column is one that the protocol wants in such a file: without any of them it is
/// no checkpoint, and would be taken for one of an empty table.
fn holds_files(kind: &LogFileKind, column: &str) -> bool {
    match kind {
        LogFileKind::Sidecar => column == "add" || column == "remove",
        _ => column == "add" || column == "sidecar",
    }
}

/// The store's own error where one is at the bottom, else damage.
fn translate(error: ParquetError) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(at) = cause {
        if let Some(stored) = at.downcast_ref::<Error>() {
            return stored.clone();
        }
        cause = at.source();
    }
    match error {
        ParquetError::NYI(what) => Error::Unsupported(format!("Parquet: {what}")),
        other => Error::Damaged(other.to_string()),
    }
}
