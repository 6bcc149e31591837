//! Parquet batches of a checkpoint's file, read by ranges through the store.
//!
//! A checkpoint is somebody else's bytes: whatever the Parquet reader makes of them, an error or a
//! panic, is damage of that file.

use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, TryStreamExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use super::{file_bytes, in_file};
use crate::error::{Error, Result};
use crate::log::listing::{LogFile, LogFileKind, log_path};
use crate::store::Store;

/// Rows decoded at a time: some megabytes of file actions.
const BATCH_ROWS: usize = 8 * 1024;
/// Read with the first request, in the hope that the footer is in it.
const FOOTER_BYTES: usize = 64 * 1024;

/// Gives every batch of a checkpoint's file, projected on columns, to `take`. Columns that the file
/// has not are left out.
///
/// Errors: [`Error::Damaged`] naming file and version; else the store's.
pub async fn for_each_batch(
    store: &Store,
    file: &LogFile,
    columns: &[&str],
    mut take: impl FnMut(&RecordBatch) -> Result<()>,
) -> Result<()> {
    let bytes = file_bytes(store, file).await?;
    let source = StoreFile { store: store.clone(), path: log_path(&file.name), bytes };
    let read = async {
        // The writer's arrow schema could ask for dictionaries or views: the Parquet types say all
        // that the protocol does.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let builder = ParquetRecordBatchStreamBuilder::new_with_options(source, options)
            .await
            .map_err(translate)?;
        let schema = builder.parquet_schema();
        if !schema.root_schema().get_fields().iter().any(|field| holds_files(file, field.name())) {
            return Err(Error::Damaged("no column of file actions".into()));
        }
        let mask = ProjectionMask::columns(schema, columns.iter().copied());
        let batches = builder.with_projection(mask).with_batch_size(BATCH_ROWS).build();
        let mut batches = batches.map_err(translate)?;
        while let Some(batch) = batches.try_next().await.map_err(translate)? {
            take(&batch)?;
        }
        Ok(())
    };
    match AssertUnwindSafe(read).catch_unwind().await {
        Ok(result) => result.map_err(|error| in_file(file, error)),
        Err(_) => {
            Err(in_file(file, Error::Damaged("the Parquet reader panicked on this file".into())))
        }
    }
}

/// Whether a root column is one that the protocol wants in such a file: without any of them it is
/// no checkpoint, and would be taken for one of an empty table.
fn holds_files(file: &LogFile, column: &str) -> bool {
    match file.kind {
        LogFileKind::Sidecar => column == "add" || column == "remove",
        _ => column == "add" || column == "sidecar",
    }
}

/// A file of the store, as the Parquet reader wants it.
struct StoreFile {
    store: Store,
    path: String,
    bytes: u64,
}

impl AsyncFileReader for StoreFile {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        async move {
            if range.start > range.end || range.end > self.bytes {
                return Err(ParquetError::EOF(format!(
                    "bytes {range:?} are asked for and the file has {}",
                    self.bytes
                )));
            }
            let read = self.store.read_range(&self.path, range).await;
            read.map_err(|error| ParquetError::External(Box::new(error)))
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        async move {
            let bytes = self.bytes;
            let reader = ParquetMetaDataReader::new().with_prefetch_hint(Some(FOOTER_BYTES));
            Ok(Arc::new(reader.load_and_finish(self, bytes).await?))
        }
        .boxed()
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
