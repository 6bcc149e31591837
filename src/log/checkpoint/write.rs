//! Writes a checkpoint: the whole state of one version as one Parquet file of the V1 spec.
//!
//! Follows the protocol's "Checkpoints" and "Checkpoint Schema". Which fields are required is as
//! Spark writes it: numbers and flags that every action has are, texts are not. One kind of action
//! fills one column and leaves the others null, so rows are made a kind at a time, in row groups of
//! bounded size.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Int32Array, Int64Array, ListArray, MapArray, RecordBatch,
    StringArray, StructArray, new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields, Schema};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde_json::json;

use crate::error::{Error, Result};
use crate::log::action::{Add, DeletionVector, Metadata, Remove};
use crate::log::snapshot::Snapshot;
use crate::log::version::Version;

/// Most rows of one row group; it bounds what a writer, and a reader, holds in memory.
const ROW_GROUP_ROWS: usize = 50_000;
/// Rows that are turned into columns at a time.
const BATCH_ROWS: usize = 10_000;
/// How long a tombstone is kept where the table doesn't say: a week.
const RETENTION_MS: i64 = 7 * 24 * 60 * 60 * 1000;

/// A checkpoint, ready to be put into `_delta_log`.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The file's name within `_delta_log`.
    pub name: String,
    pub bytes: Bytes,
    /// Content of `_last_checkpoint` for it.
    pub last_checkpoint: String,
}

/// The name of a version's checkpoint in one file.
pub fn checkpoint_name(version: Version) -> String {
    format!("{version:020}.checkpoint.parquet")
}

/// Encodes a snapshot; tombstones that expired by `now_ms` are left out.
/// Errors: [`Error::Damaged`] where the encoder fails, which is a bug and costs no data.
pub fn encode(snapshot: &Snapshot, now_ms: i64) -> Result<Encoded> {
    let failed = |error: &dyn std::fmt::Display| {
        Error::Damaged(format!("write the checkpoint of version {}: {error}", snapshot.version))
    };
    let mut rows = Rows::new(snapshot).map_err(|error| failed(&error))?;
    rows.write_all(snapshot, now_ms).map_err(|error| failed(&error))?;
    let count = rows.count;
    let bytes = rows.writer.into_inner().map_err(|error| failed(&error))?;
    let last_checkpoint = json!({
        "version": snapshot.version.0,
        "size": count,
        "sizeInBytes": bytes.len(),
        "numOfAddFiles": snapshot.adds.len(),
    });
    Ok(Encoded {
        name: checkpoint_name(snapshot.version),
        bytes: bytes.into(),
        last_checkpoint: last_checkpoint.to_string(),
    })
}

/// The file in the making.
struct Rows {
    writer: ArrowWriter<Vec<u8>>,
    schema: Arc<Schema>,
    /// Actions written.
    count: usize,
    keeps_stats: bool,
}

type Written = std::result::Result<(), Box<dyn std::error::Error>>;

impl Rows {
    fn new(snapshot: &Snapshot) -> parquet::errors::Result<Rows> {
        let property = snapshot.metadata.configuration.get("delta.checkpoint.writeStatsAsJson");
        let keeps_stats = property.is_none_or(|value| value != "false");
        let schema = Arc::new(schema(keeps_stats));
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_created_by(concat!("deltafs version ", env!("CARGO_PKG_VERSION")).into())
            .build();
        let writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties))?;
        Ok(Rows { writer, schema, count: 0, keeps_stats })
    }

    fn write_all(&mut self, snapshot: &Snapshot, now_ms: i64) -> Written {
        // Protocol and metadata come first, so that a reader who wants no more finds them early.
        self.write("protocol", protocol(snapshot))?;
        self.write("metaData", metadata(&snapshot.metadata))?;
        let txns: Vec<_> = snapshot.txns.values().collect();
        if !txns.is_empty() {
            let columns: Vec<ArrayRef> = vec![
                texts(txns.iter().map(|txn| Some(txn.app_id.as_str()))),
                longs(txns.iter().map(|txn| txn.version)),
                optional_longs(txns.iter().map(|txn| txn.last_updated)),
            ];
            self.write("txn", StructArray::new(txn_fields(), columns, None))?;
        }
        let domains: Vec<_> = snapshot.domains.values().filter(|d| !d.removed).collect();
        if !domains.is_empty() {
            let columns: Vec<ArrayRef> = vec![
                texts(domains.iter().map(|domain| Some(domain.domain.as_str()))),
                texts(domains.iter().map(|domain| Some(domain.configuration.as_str()))),
                flags(domains.iter().map(|_| false)),
            ];
            self.write("domainMetadata", StructArray::new(domain_fields(), columns, None))?;
        }
        let adds: Vec<&Add> = snapshot.adds.values().collect();
        for adds in adds.chunks(BATCH_ROWS) {
            self.write("add", add_rows(adds, self.keeps_stats))?;
        }
        let expired_by = retention_ms(&snapshot.metadata).map(|kept| now_ms.saturating_sub(kept));
        let is_kept = |remove: &&Remove| {
            expired_by.is_none_or(|limit| remove.deletion_timestamp.unwrap_or(0) > limit)
        };
        let removes: Vec<&Remove> = snapshot.removes.values().filter(is_kept).collect();
        for removes in removes.chunks(BATCH_ROWS) {
            self.write("remove", remove_rows(removes))?;
        }
        Ok(())
    }

    /// Writes actions of one kind; all other columns are null.
    fn write(&mut self, kind: &str, actions: StructArray) -> Written {
        let rows = actions.len();
        let actions: ArrayRef = Arc::new(actions);
        let columns = self.schema.fields().iter().map(|field| {
            if field.name() == kind {
                actions.clone()
            } else {
                new_null_array(field.data_type(), rows)
            }
        });
        let batch = RecordBatch::try_new(self.schema.clone(), columns.collect())?;
        self.writer.write(&batch)?;
        self.count += rows;
        Ok(())
    }
}

/// How long tombstones are kept, in milliseconds; `None`: the property can't be read, so all are.
fn retention_ms(metadata: &Metadata) -> Option<i64> {
    let Some(text) = metadata.configuration.get("delta.deletedFileRetentionDuration") else {
        return Some(RETENTION_MS);
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    let words = match words.as_slice() {
        [first, rest @ ..] if first.eq_ignore_ascii_case("interval") => rest,
        all => all,
    };
    let mut total: i64 = 0;
    for pair in words.chunks(2) {
        let [number, unit] = pair else { return None };
        let unit = unit.to_ascii_lowercase();
        let milliseconds: i64 = match unit.trim_end_matches('s') {
            "millisecond" => 1,
            "second" => 1000,
            "minute" => 60 * 1000,
            "hour" => 60 * 60 * 1000,
            "day" => 24 * 60 * 60 * 1000,
            "week" => RETENTION_MS,
            _ => return None,
        };
        total = total.checked_add(number.parse::<i64>().ok()?.checked_mul(milliseconds)?)?;
    }
    (!words.is_empty()).then_some(total)
}

fn schema(keeps_stats: bool) -> Schema {
    let action = |name: &str, fields: Fields| Field::new(name, DataType::Struct(fields), true);
    Schema::new(vec![
        action("txn", txn_fields()),
        action("add", add_fields(keeps_stats)),
        action("remove", remove_fields()),
        action("metaData", metadata_fields()),
        action("protocol", protocol_fields()),
        action("domainMetadata", domain_fields()),
    ])
}

fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, true)
}

fn long(name: &str) -> Field {
    Field::new(name, DataType::Int64, false)
}

fn optional_long(name: &str) -> Field {
    Field::new(name, DataType::Int64, true)
}

fn flag(name: &str) -> Field {
    Field::new(name, DataType::Boolean, false)
}

fn text_map(name: &str) -> Field {
    Field::new(name, DataType::Map(map_entries(), false), true)
}

fn map_entries() -> Arc<Field> {
    let entry = vec![Field::new("key", DataType::Utf8, false), text("value")];
    Arc::new(Field::new("key_value", DataType::Struct(entry.into()), false))
}

fn list_element() -> Arc<Field> {
    Arc::new(Field::new("element", DataType::Utf8, true))
}

fn text_list(name: &str) -> Field {
    Field::new(name, DataType::List(list_element()), true)
}

fn txn_fields() -> Fields {
    vec![text("appId"), long("version"), optional_long("lastUpdated")].into()
}

fn domain_fields() -> Fields {
    vec![text("domain"), text("configuration"), flag("removed")].into()
}

fn vector_fields() -> Fields {
    vec![
        text("storageType"),
        text("pathOrInlineDv"),
        Field::new("offset", DataType::Int32, true),
        Field::new("sizeInBytes", DataType::Int32, false),
        long("cardinality"),
    ]
    .into()
}

fn vector_field() -> Field {
    Field::new("deletionVector", DataType::Struct(vector_fields()), true)
}

fn add_fields(keeps_stats: bool) -> Fields {
    let mut fields = vec![
        text("path"),
        text_map("partitionValues"),
        long("size"),
        long("modificationTime"),
        flag("dataChange"),
    ];
    // "When this property is set to false, this field should be omitted."
    if keeps_stats {
        fields.push(text("stats"));
    }
    fields.extend([
        text_map("tags"),
        vector_field(),
        optional_long("baseRowId"),
        optional_long("defaultRowCommitVersion"),
        text("clusteringProvider"),
    ]);
    fields.into()
}

fn remove_fields() -> Fields {
    vec![
        text("path"),
        optional_long("deletionTimestamp"),
        flag("dataChange"),
        Field::new("extendedFileMetadata", DataType::Boolean, true),
        text_map("partitionValues"),
        optional_long("size"),
        vector_field(),
        optional_long("baseRowId"),
        optional_long("defaultRowCommitVersion"),
    ]
    .into()
}

fn protocol_fields() -> Fields {
    vec![
        Field::new("minReaderVersion", DataType::Int32, false),
        Field::new("minWriterVersion", DataType::Int32, false),
        text_list("readerFeatures"),
        text_list("writerFeatures"),
    ]
    .into()
}

fn metadata_fields() -> Fields {
    let format = vec![text("provider"), text_map("options")];
    vec![
        text("id"),
        text("name"),
        text("description"),
        Field::new("format", DataType::Struct(format.into()), true),
        text("schemaString"),
        text_list("partitionColumns"),
        text_map("configuration"),
        optional_long("createdTime"),
    ]
    .into()
}

fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(StringArray::from_iter(values))
}

fn longs(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

fn optional_longs(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(Int64Array::from_iter(values))
}

fn flags(values: impl Iterator<Item = bool>) -> ArrayRef {
    Arc::new(values.map(Some).collect::<BooleanArray>())
}

/// Maps of texts by text; `None` is a null map.
fn maps<'a, V>(
    maps: impl Iterator<Item = Option<&'a BTreeMap<String, V>>>,
    value: impl Fn(&'a V) -> Option<&'a str>,
) -> ArrayRef
where
    V: 'a,
{
    let (mut keys, mut values, mut lengths, mut valid) = (vec![], vec![], vec![], vec![]);
    for map in maps {
        valid.push(map.is_some());
        lengths.push(map.map_or(0, BTreeMap::len));
        for (key, held) in map.into_iter().flatten() {
            keys.push(Some(key.as_str()));
            values.push(value(held));
        }
    }
    let entries = map_entries();
    let DataType::Struct(fields) = entries.data_type() else {
        unreachable!("BUG: entries of a map are a struct")
    };
    let columns = vec![texts(keys.into_iter()), texts(values.into_iter())];
    let rows = StructArray::new(fields.clone(), columns, None);
    let offsets = OffsetBuffer::from_lengths(lengths);
    let nulls = Some(NullBuffer::from(valid));
    Arc::new(MapArray::new(entries.clone(), offsets, rows, nulls, false))
}

fn optional<V: AsRef<str>>(value: &Option<V>) -> Option<&str> {
    value.as_ref().map(AsRef::as_ref)
}

/// One list of texts; `None` is a null list.
fn list(values: Option<&Vec<String>>) -> ArrayRef {
    let length = values.map_or(0, Vec::len);
    let elements = texts(values.into_iter().flatten().map(|value| Some(value.as_str())));
    let offsets = OffsetBuffer::from_lengths([length]);
    let nulls = Some(NullBuffer::from(vec![values.is_some()]));
    Arc::new(ListArray::new(list_element(), offsets, elements, nulls))
}

fn protocol(snapshot: &Snapshot) -> StructArray {
    let protocol = &snapshot.protocol;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(vec![protocol.min_reader_version])),
        Arc::new(Int32Array::from(vec![protocol.min_writer_version])),
        list(protocol.reader_features.as_ref()),
        list(protocol.writer_features.as_ref()),
    ];
    StructArray::new(protocol_fields(), columns, None)
}

fn metadata(metadata: &Metadata) -> StructArray {
    let one = |value: Option<&str>| texts(std::iter::once(value));
    let fields = metadata_fields();
    let DataType::Struct(format_fields) = fields[3].data_type() else {
        unreachable!("BUG: the format is a struct")
    };
    let format = StructArray::new(
        format_fields.clone(),
        vec![
            one(Some(&metadata.format.provider)),
            maps(std::iter::once(Some(&metadata.format.options)), |value| Some(value.as_str())),
        ],
        None,
    );
    let columns: Vec<ArrayRef> = vec![
        one(Some(&metadata.id)),
        one(metadata.name.as_deref()),
        one(metadata.description.as_deref()),
        Arc::new(format),
        one(Some(&metadata.schema_string)),
        list(Some(&metadata.partition_columns)),
        maps(std::iter::once(Some(&metadata.configuration)), |value| Some(value.as_str())),
        optional_longs(std::iter::once(metadata.created_time)),
    ];
    StructArray::new(fields, columns, None)
}

fn vectors<'a>(vectors: impl Iterator<Item = Option<&'a DeletionVector>> + Clone) -> ArrayRef {
    let number = |field: fn(&DeletionVector) -> i32| -> ArrayRef {
        Arc::new(Int32Array::from_iter_values(vectors.clone().map(|v| v.map_or(0, field))))
    };
    let columns: Vec<ArrayRef> = vec![
        texts(vectors.clone().map(|v| v.map(|v| v.storage_type.as_str()))),
        texts(vectors.clone().map(|v| v.map(|v| v.path_or_inline_dv.as_str()))),
        Arc::new(Int32Array::from_iter(vectors.clone().map(|v| v.and_then(|v| v.offset)))),
        number(|vector| vector.size_in_bytes),
        longs(vectors.clone().map(|v| v.map_or(0, |vector| vector.cardinality))),
    ];
    let valid: Vec<bool> = vectors.map(|vector| vector.is_some()).collect();
    Arc::new(StructArray::new(vector_fields(), columns, Some(NullBuffer::from(valid))))
}

fn add_rows(adds: &[&Add], keeps_stats: bool) -> StructArray {
    let mut columns: Vec<ArrayRef> = vec![
        texts(adds.iter().map(|add| Some(add.path.as_str()))),
        maps(adds.iter().map(|add| Some(&add.partition_values)), optional),
        longs(adds.iter().map(|add| add.size)),
        longs(adds.iter().map(|add| add.modification_time)),
        // A checkpoint changes no data, whatever the commits did.
        flags(adds.iter().map(|_| false)),
    ];
    if keeps_stats {
        columns.push(texts(adds.iter().map(|add| add.stats.as_deref())));
    }
    columns.extend([
        maps(adds.iter().map(|add| add.tags.as_ref()), optional),
        vectors(adds.iter().map(|add| add.deletion_vector.as_ref())),
        optional_longs(adds.iter().map(|add| add.base_row_id)),
        optional_longs(adds.iter().map(|add| add.default_row_commit_version)),
        texts(adds.iter().map(|add| add.clustering_provider.as_deref())),
    ]);
    StructArray::new(add_fields(keeps_stats), columns, None)
}

fn remove_rows(removes: &[&Remove]) -> StructArray {
    let columns: Vec<ArrayRef> = vec![
        texts(removes.iter().map(|remove| Some(remove.path.as_str()))),
        optional_longs(removes.iter().map(|remove| remove.deletion_timestamp)),
        flags(removes.iter().map(|_| false)),
        Arc::new(removes.iter().map(|r| r.extended_file_metadata).collect::<BooleanArray>()),
        maps(removes.iter().map(|remove| remove.partition_values.as_ref()), optional),
        optional_longs(removes.iter().map(|remove| remove.size)),
        vectors(removes.iter().map(|remove| remove.deletion_vector.as_ref())),
        optional_longs(removes.iter().map(|remove| remove.base_row_id)),
        optional_longs(removes.iter().map(|remove| remove.default_row_commit_version)),
    ];
    StructArray::new(remove_fields(), columns, None)
}

#[cfg(test)]
mod tests;
