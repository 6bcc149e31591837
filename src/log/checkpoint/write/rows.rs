//! Rows of a checkpoint as one Parquet file: a kind of action at a time, in row groups of bounded
//! size.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StructArray, new_null_array};
use arrow::datatypes::Schema as Columns;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::columns::{self, AddColumns};
use crate::log::action::{Add, Remove};

/// Most rows of one row group; with the next it bounds what a writer, and a reader, holds in
/// memory.
pub const ROW_GROUP_ROWS: usize = 50_000;
/// Most encoded bytes of one row group, for long statistics.
const ROW_GROUP_BYTES: usize = 64 << 20;
/// Rows that are turned into columns at a time.
pub const BATCH_ROWS: usize = 4096;

/// A Parquet file in the making.
pub struct Rows {
    writer: ArrowWriter<Vec<u8>>,
    columns: Arc<Columns>,
}

pub type Filled = std::result::Result<(), Box<dyn std::error::Error>>;

impl Rows {
    pub fn new(columns: Columns) -> parquet::errors::Result<Rows> {
        let columns = Arc::new(columns);
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
            .set_created_by(concat!("deltafs version ", env!("CARGO_PKG_VERSION")).into())
            .build();
        let writer = ArrowWriter::try_new(Vec::new(), columns.clone(), Some(properties))?;
        Ok(Rows { writer, columns })
    }

    /// Writes file actions, adds with the columns that the checkpoint has.
    pub fn files<'a>(
        &mut self,
        columns: &AddColumns,
        adds: impl Iterator<Item = &'a Add>,
        removes: impl Iterator<Item = &'a Remove>,
    ) -> Filled {
        let adds: Vec<&Add> = adds.collect();
        for adds in adds.chunks(BATCH_ROWS) {
            self.write("add", columns.rows(adds))?;
        }
        let removes: Vec<&Remove> = removes.collect();
        for removes in removes.chunks(BATCH_ROWS) {
            self.write("remove", columns::remove_rows(removes))?;
        }
        Ok(())
    }

    /// Writes actions of one kind; all other columns are null.
    pub fn write(&mut self, kind: &str, actions: StructArray) -> Filled {
        let rows = actions.len();
        let actions: ArrayRef = Arc::new(actions);
        let columns = self.columns.fields().iter().map(|field| {
            if field.name() == kind {
                actions.clone()
            } else {
                new_null_array(field.data_type(), rows)
            }
        });
        let batch = RecordBatch::try_new(self.columns.clone(), columns.collect())?;
        Ok(self.writer.write(&batch)?)
    }

    /// The finished file.
    pub fn finish(self) -> parquet::errors::Result<Vec<u8>> {
        self.writer.into_inner()
    }
}
