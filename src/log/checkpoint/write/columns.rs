//! The columns of a checkpoint: one struct for each kind of action (protocol: "Checkpoint Schema").
//!
//! Which fields are required is as Spark has long written it: numbers and flags that every action
//! has are, texts are not. Fields that the protocol doesn't know have no column; they come from no
//! feature that we write with, and no other writer keeps them either.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int32Array, Int64Array, ListArray, MapArray, StringArray, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields};

use super::SidecarFile;
use super::statistics::{PartitionColumns, StatisticsColumns};
use crate::log::action::{Add, DeletionVector, DomainMetadata, Metadata, Protocol, Remove, Txn};

/// Which columns the actions of one checkpoint have.
#[derive(Debug)]
pub struct AddColumns {
    /// Whether statistics are there as JSON.
    pub json: bool,
    pub statistics: Option<StatisticsColumns>,
    pub partitions: Option<PartitionColumns>,
}

impl AddColumns {
    pub fn fields(&self) -> Fields {
        let mut fields = vec![
            text("path"),
            text_map("partitionValues"),
            long("size"),
            long("modificationTime"),
            flag("dataChange"),
        ];
        // "When this property is set to false, this field should be omitted."
        if self.json {
            fields.push(text("stats"));
        }
        fields.extend([
            text_map("tags"),
            vector_field(),
            optional_long("baseRowId"),
            optional_long("defaultRowCommitVersion"),
            text("clusteringProvider"),
        ]);
        let parsed = |name: &str, fields| Field::new(name, DataType::Struct(fields), true);
        if let Some(partitions) = &self.partitions {
            fields.push(parsed("partitionValues_parsed", partitions.fields()));
        }
        if let Some(statistics) = &self.statistics {
            fields.push(parsed("stats_parsed", statistics.fields()));
        }
        fields.into()
    }

    pub fn rows(&self, adds: &[&Add]) -> StructArray {
        let mut columns: Vec<ArrayRef> = vec![
            texts(adds.iter().map(|add| Some(add.path.as_str()))),
            maps(adds.iter().map(|add| Some(&add.partition_values)), optional),
            longs(adds.iter().map(|add| add.size)),
            longs(adds.iter().map(|add| add.modification_time)),
            // A checkpoint changes no data, whatever the commits did.
            flags(adds.iter().map(|_| false)),
        ];
        if self.json {
            columns.push(texts(adds.iter().map(|add| add.stats.as_deref())));
        }
        columns.extend([
            maps(adds.iter().map(|add| add.tags.as_ref()), optional),
            vectors(adds.iter().map(|add| add.deletion_vector.as_ref())),
            optional_longs(adds.iter().map(|add| add.base_row_id)),
            optional_longs(adds.iter().map(|add| add.default_row_commit_version)),
            texts(adds.iter().map(|add| add.clustering_provider.as_deref())),
        ]);
        columns.extend(self.partitions.iter().map(|partitions| partitions.rows(adds)));
        columns.extend(self.statistics.iter().map(|statistics| statistics.rows(adds)));
        StructArray::new(self.fields(), columns, None)
    }
}

/// The column of one kind of action, by the protocol's name.
pub fn action(name: &str, fields: Fields) -> Field {
    Field::new(name, DataType::Struct(fields), true)
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

pub fn txn_fields() -> Fields {
    vec![text("appId"), long("version"), optional_long("lastUpdated")].into()
}

pub fn domain_fields() -> Fields {
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

pub fn remove_fields() -> Fields {
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

pub fn protocol_fields() -> Fields {
    vec![
        Field::new("minReaderVersion", DataType::Int32, false),
        Field::new("minWriterVersion", DataType::Int32, false),
        text_list("readerFeatures"),
        text_list("writerFeatures"),
    ]
    .into()
}

pub fn metadata_fields() -> Fields {
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

pub fn protocol(protocol: &Protocol) -> StructArray {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(vec![protocol.min_reader_version])),
        Arc::new(Int32Array::from(vec![protocol.min_writer_version])),
        list(protocol.reader_features.as_ref()),
        list(protocol.writer_features.as_ref()),
    ];
    StructArray::new(protocol_fields(), columns, None)
}

pub fn metadata(metadata: &Metadata) -> StructArray {
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

pub fn remove_rows(removes: &[&Remove]) -> StructArray {
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

pub fn txn_rows(txns: &[&Txn]) -> StructArray {
    let columns: Vec<ArrayRef> = vec![
        texts(txns.iter().map(|txn| Some(txn.app_id.as_str()))),
        longs(txns.iter().map(|txn| txn.version)),
        optional_longs(txns.iter().map(|txn| txn.last_updated)),
    ];
    StructArray::new(txn_fields(), columns, None)
}

pub fn domain_rows(domains: &[&DomainMetadata]) -> StructArray {
    let columns: Vec<ArrayRef> = vec![
        texts(domains.iter().map(|domain| Some(domain.domain.as_str()))),
        texts(domains.iter().map(|domain| Some(domain.configuration.as_str()))),
        flags(domains.iter().map(|_| false)),
    ];
    StructArray::new(domain_fields(), columns, None)
}

pub fn header_fields() -> Fields {
    vec![long("version"), text_map("tags")].into()
}

/// The one `checkpointMetadata` of a V2 checkpoint.
pub fn header(version: i64, tags: &BTreeMap<String, String>) -> StructArray {
    let tags = maps(std::iter::once(Some(tags)), |value| Some(value.as_str()));
    StructArray::new(header_fields(), vec![longs(std::iter::once(version)), tags], None)
}

pub fn sidecar_fields() -> Fields {
    vec![text("path"), long("sizeInBytes"), long("modificationTime"), text_map("tags")].into()
}

pub fn sidecar_rows(sidecars: &[SidecarFile]) -> StructArray {
    let none: Option<&BTreeMap<String, String>> = None;
    let columns: Vec<ArrayRef> = vec![
        texts(sidecars.iter().map(|sidecar| Some(sidecar.name.as_str()))),
        longs(sidecars.iter().map(|sidecar| sidecar.size)),
        longs(sidecars.iter().map(|sidecar| sidecar.modified_ms)),
        maps(sidecars.iter().map(|_| none), |value| Some(value.as_str())),
    ];
    StructArray::new(sidecar_fields(), columns, None)
}
