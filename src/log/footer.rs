//! A staged Parquet file: whether it is whole, and what its footer tells.
//!
//! A file that an interrupted tool cut short, or whose footer promises bytes that aren't there, is
//! refused before anything is published. Values are decoded only where the footer can't answer:
//! nulls in a column that takes none, and partition columns that are in the file as well.

use std::fs::File;
use std::os::unix::fs::FileExt;

use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{AsBytes, DataType};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaDataReader;
use parquet::file::metadata::{ColumnChunkMetaData, PageIndexPolicy, ParquetMetaData};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;

use crate::error::{Error, Result};
use crate::log::file_schema::{FileColumn, Names, read_columns, to_schema};
use crate::log::fit::NotNull;
use crate::log::scalar::Scalar;
use crate::log::schema::{Primitive, Schema};

const MAGIC: &[u8; 4] = b"PAR1";
const MAGIC_ENCRYPTED: &[u8; 4] = b"PARE";
/// Footer length and magic, at the end of every file.
const TAIL_BYTES: u64 = 8;
/// How many rows are decoded at a time.
const BATCH_ROWS: usize = 8192;

/// What the footer of a whole Parquet file says.
#[derive(Debug)]
pub struct Footer {
    path: String,
    metadata: ParquetMetaData,
    columns: Vec<FileColumn>,
}

/// Whether a file's first bytes are those of Parquet, whatever its name is.
pub fn is_parquet(file: &File) -> bool {
    let mut magic = [0; 4];
    file.read_exact_at(&mut magic, 0).is_ok() && (&magic == MAGIC || &magic == MAGIC_ENCRYPTED)
}

impl Footer {
    /// Reads the footer and checks that the file is whole. Errors: [`Error::Refused`] naming
    /// `path`; the system's own error where the file can't be read.
    pub fn read(file: &File, path: &str) -> Result<Footer> {
        let refuse = |why: &str| Error::Refused(format!("{path}: {why}"));
        let size = file
            .metadata()
            .map_err(|error| Error::from_io(format!("look at {path}"), &error))?
            .len();
        let footer_start = footer_start(file, size, path)?;
        let metadata = ParquetMetaDataReader::new()
            .with_page_index_policy(PageIndexPolicy::Skip)
            .parse_and_finish(file)
            .map_err(|error| refuse(&format!("the Parquet footer can't be read: {error}")))?;
        check_whole(&metadata, footer_start).map_err(|why| refuse(&why))?;
        let columns = read_columns(metadata.file_metadata().schema_descr())
            .map_err(|error| error.during(path))?;
        Ok(Footer { path: path.to_owned(), metadata, columns })
    }

    /// The staged name, for messages.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Rows of the file.
    pub fn rows(&self) -> i64 {
        self.metadata.file_metadata().num_rows()
    }

    /// The columns, in the file's order.
    pub fn columns(&self) -> &[FileColumn] {
        &self.columns
    }

    /// The schema of a table made from this file. Errors: [`Error::Refused`].
    pub fn schema(&self) -> Result<Schema> {
        to_schema(&self.columns, None, Names::Plain).map_err(|error| error.during(&self.path))
    }

    /// The parsed footer, for statistics.
    pub(super) fn metadata(&self) -> &ParquetMetaData {
        &self.metadata
    }

    /// Checks that no value of a leaf is null where the table takes none: by the footer's counts,
    /// else by decoding the column. Errors: [`Error::Refused`] naming the column.
    pub fn check_not_null(&self, file: &File, rule: &NotNull) -> Result<()> {
        let chunks = || self.metadata.row_groups().iter().map(|group| group.column(rule.column));
        let no_nulls = |chunk: &ColumnChunkMetaData| {
            chunk.num_values() == 0
                || chunk.statistics().and_then(|statistics| statistics.null_count_opt()) == Some(0)
        };
        if chunks().all(no_nulls) {
            return Ok(());
        }
        let mut found = false;
        self.scan(file, rule.column, |level, _| {
            found = level == rule.level;
            !found
        })?;
        match found {
            false => Ok(()),
            true => Err(Error::Refused(format!(
                "{}: column {:?} holds a null, and the table takes none there",
                self.path, rule.place
            ))),
        }
    }

    /// Checks that every value of a leaf is that partition value. Readers take the value from the
    /// log, so another one would be lost. Errors: [`Error::Refused`] naming the column.
    pub fn check_partition_column(
        &self,
        file: &File,
        column: usize,
        name: &str,
        value: Option<&str>,
        primitive: &Primitive,
    ) -> Result<()> {
        let mut other = None;
        self.scan(file, column, |_, scalar| {
            let stored = scalar.and_then(|scalar| scalar.to_partition(primitive));
            if !is_same(stored.as_deref(), value, primitive) {
                other = Some(stored);
            }
            other.is_none()
        })?;
        let Some(other) = other else { return Ok(()) };
        let show = |value: Option<&str>| value.map_or("null".into(), |value| format!("{value:?}"));
        Err(Error::Refused(format!(
            "{}: the partition column {name:?} is {} by the directory and {} in the file",
            self.path,
            show(value),
            show(other.as_deref())
        )))
    }

    /// Decodes a leaf and hands each definition level with its value to `visit`, until that
    /// returns false.
    pub(super) fn scan(
        &self,
        file: &File,
        column: usize,
        mut visit: impl FnMut(i16, Option<Scalar>) -> bool,
    ) -> Result<()> {
        let mut scan = || -> std::result::Result<(), ParquetError> {
            let reader = SerializedFileReader::new(file.try_clone()?)?;
            for group in 0..reader.num_row_groups() {
                let chunk = reader.get_row_group(group)?.get_column_reader(column)?;
                if !scan_chunk(chunk, self.leaf(column), &mut visit)? {
                    break;
                }
            }
            Ok(())
        };
        scan().map_err(|error| {
            Error::Refused(format!(
                "{}: column {:?} can't be decoded: {error}",
                self.path,
                self.leaf(column).path().string()
            ))
        })
    }

    /// The descriptor of a leaf.
    pub(super) fn leaf(&self, column: usize) -> &ColumnDescriptor {
        &self.metadata.file_metadata().schema_descr().columns()[column]
    }
}

/// Where the footer begins, after the magic at both ends and the footer's length are checked.
fn footer_start(file: &File, size: u64, path: &str) -> Result<u64> {
    let refuse = |why: &str| Err(Error::Refused(format!("{path}: {why}")));
    if size < 4 + TAIL_BYTES {
        return refuse("is too short to be Parquet; was it cut short?");
    }
    let read = |buffer: &mut [u8], offset| {
        file.read_exact_at(buffer, offset)
            .map_err(|error| Error::from_io(format!("read {path}"), &error))
    };
    let (mut head, mut tail) = ([0; 4], [0; TAIL_BYTES as usize]);
    read(&mut head, 0)?;
    read(&mut tail, size - TAIL_BYTES)?;
    let (length, end) = tail.split_at(4);
    if &head == MAGIC_ENCRYPTED || end == MAGIC_ENCRYPTED {
        return refuse("is encrypted Parquet, which Delta tables don't hold");
    }
    if &head != MAGIC {
        return refuse("is not Parquet");
    }
    if end != MAGIC {
        return refuse("has no Parquet footer at its end; was it cut short?");
    }
    let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]);
    match (size - TAIL_BYTES).checked_sub(length.into()) {
        Some(start) if start >= 4 => Ok(start),
        _ => refuse("has a Parquet footer that is longer than the file"),
    }
}

/// Every column chunk lies between the magic and the footer, and the rows add up.
fn check_whole(metadata: &ParquetMetaData, footer_start: u64) -> std::result::Result<(), String> {
    let mut rows: i64 = 0;
    for (number, group) in metadata.row_groups().iter().enumerate() {
        rows = match group.num_rows() {
            count if count >= 0 => rows.checked_add(count),
            _ => None,
        }
        .ok_or_else(|| format!("row group {number} has an impossible number of rows"))?;
        for chunk in group.columns() {
            let name = chunk.column_path().string();
            if chunk.file_path().is_some() {
                return Err(format!("column {name:?} is kept in another file"));
            }
            // ColumnChunkMetaData::byte_range panics on negative numbers.
            let start = chunk.dictionary_page_offset().unwrap_or_else(|| chunk.data_page_offset());
            let end = u64::try_from(start).ok().zip(u64::try_from(chunk.compressed_size()).ok());
            let end = end.and_then(|(start, size)| start.checked_add(size));
            let is_empty = chunk.compressed_size() == 0 && chunk.num_values() == 0;
            match end {
                _ if is_empty => {}
                Some(end) if start >= 4 && end <= footer_start => {}
                _ => {
                    return Err(format!(
                        "column {name:?} of row group {number} lies outside of the file; was it \
                         cut short?"
                    ));
                }
            }
        }
    }
    let promised = metadata.file_metadata().num_rows();
    if rows != promised {
        return Err(format!("the footer promises {promised} rows and its row groups have {rows}"));
    }
    Ok(())
}

fn is_same(stored: Option<&str>, value: Option<&str>, primitive: &Primitive) -> bool {
    match (stored, value, primitive) {
        (Some(stored), Some(value), Primitive::Float) => {
            stored.parse::<f32>().ok() == value.parse::<f32>().ok()
        }
        (Some(stored), Some(value), Primitive::Double) => {
            stored.parse::<f64>().ok() == value.parse::<f64>().ok()
        }
        // The log can't tell an empty string from null.
        (stored, value, _) => stored.filter(|text| !text.is_empty()) == value,
    }
}

/// Scans one chunk by its physical type; false: `visit` has seen enough.
fn scan_chunk(
    reader: ColumnReader,
    leaf: &ColumnDescriptor,
    visit: &mut impl FnMut(i16, Option<Scalar>) -> bool,
) -> std::result::Result<bool, ParquetError> {
    let integer = |value: i64| Scalar::of_integer(leaf, value);
    let bytes = |value: &[u8]| Scalar::of_bytes(leaf, value);
    match reader {
        ColumnReader::BoolColumnReader(r) => {
            scan_typed(r, leaf, |value| Some(Scalar::Boolean(*value)), visit)
        }
        ColumnReader::Int32ColumnReader(r) => {
            scan_typed(r, leaf, |value| integer((*value).into()), visit)
        }
        ColumnReader::Int64ColumnReader(r) => scan_typed(r, leaf, |value| integer(*value), visit),
        ColumnReader::Int96ColumnReader(r) => scan_typed(r, leaf, Scalar::of_int96, visit),
        ColumnReader::FloatColumnReader(r) => {
            scan_typed(r, leaf, |value| Some(Scalar::Floating((*value).into())), visit)
        }
        ColumnReader::DoubleColumnReader(r) => {
            scan_typed(r, leaf, |value| Some(Scalar::Floating(*value)), visit)
        }
        ColumnReader::ByteArrayColumnReader(r) => {
            scan_typed(r, leaf, |value| bytes(value.as_bytes()), visit)
        }
        ColumnReader::FixedLenByteArrayColumnReader(r) => {
            scan_typed(r, leaf, |value| bytes(value.as_bytes()), visit)
        }
    }
}

fn scan_typed<T: DataType>(
    mut reader: ColumnReaderImpl<T>,
    leaf: &ColumnDescriptor,
    scalar: impl Fn(&T::T) -> Option<Scalar>,
    visit: &mut impl FnMut(i16, Option<Scalar>) -> bool,
) -> std::result::Result<bool, ParquetError> {
    let full = leaf.max_def_level();
    let (mut levels, mut repetitions, mut values) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        levels.clear();
        repetitions.clear();
        values.clear();
        let (_, read, total) = reader.read_records(
            BATCH_ROWS,
            Some(&mut levels),
            Some(&mut repetitions),
            &mut values,
        )?;
        if total == 0 && read == 0 {
            return Ok(true);
        }
        // A required leaf has no levels at all.
        levels.resize(total.max(read), full);
        let mut values = values.iter();
        for level in &levels {
            let value = if *level == full { values.next().and_then(&scalar) } else { None };
            if !visit(*level, value) {
                return Ok(false);
            }
        }
    }
}

#[cfg(test)]
mod tests;
