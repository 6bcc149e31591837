//! Whole actions from a checkpoint's rows, for snapshots.
//!
//! Statistics are taken as JSON where the checkpoint has them so, and are made from `stats_parsed`
//! where a writer put them only there: an add that is written back loses none.

use std::collections::BTreeMap;

use arrow::record_batch::RecordBatch;
use serde_json::Map;

use super::column::{Fields, integer_at, owned_text, text_at};
use super::read::for_each_batch;
use super::{is_json, parsed, state};
use crate::error::{Error, Result};
use crate::log::action::{
    Action, Add, DeletionVector, DomainMetadata, Format, Metadata, Protocol, Remove, Txn,
};
use crate::log::commit;
use crate::log::lines;
use crate::log::listing::LogFile;
use crate::store::Store;

/// Everything but partition values as structs, which are there a second time.
const COLUMNS: [&str; 18] = [
    "protocol",
    "metaData",
    "txn",
    "domainMetadata",
    "remove",
    "sidecar.path",
    "add.path",
    "add.partitionValues",
    "add.size",
    "add.modificationTime",
    "add.dataChange",
    "add.stats",
    "add.stats_parsed",
    "add.tags",
    "add.deletionVector",
    "add.baseRowId",
    "add.defaultRowCommitVersion",
    "add.clusteringProvider",
];

/// Gives the actions of one file of a checkpoint to `take`; returns the paths of the sidecars that
/// it refers to.
pub async fn read(
    store: &Store,
    file: &LogFile,
    take: &mut impl FnMut(Action) -> Result<()>,
) -> Result<Vec<String>> {
    if is_json(file) {
        return read_lines(store, file, take).await;
    }
    let mut sidecars = Vec::new();
    for_each_batch(store, file, &COLUMNS, |batch| {
        state::read_sidecars(batch, &mut sidecars)?;
        read_batch(batch, take)
    })
    .await?;
    Ok(sidecars)
}

async fn read_lines(
    store: &Store,
    file: &LogFile,
    take: &mut impl FnMut(Action) -> Result<()>,
) -> Result<Vec<String>> {
    let parse = |line: &[u8]| {
        let sidecar = commit::read_sidecar(line)?;
        let action = commit::read_action(line)?;
        Ok(Some((sidecar, action)))
    };
    let mut sidecars = Vec::new();
    lines::for_each_action(store, &mut file.clone(), parse, |_, (sidecar, action)| {
        sidecars.extend(sidecar);
        action.map_or(Ok(()), &mut *take)
    })
    .await?;
    Ok(sidecars)
}

fn read_batch(batch: &RecordBatch, take: &mut impl FnMut(Action) -> Result<()>) -> Result<()> {
    let mut each = |name, read: fn(Fields<'_>, usize) -> Result<Action>| -> Result<()> {
        let Some(fields) = Fields::of(batch, name)? else { return Ok(()) };
        for row in fields.rows() {
            take(read(fields, row)?)?;
        }
        Ok(())
    };
    each("protocol", |fields, row| protocol(fields, row).map(Action::Protocol))?;
    each("metaData", |fields, row| metadata(fields, row).map(Action::MetaData))?;
    each("txn", |fields, row| txn(fields, row).map(Action::Txn))?;
    each("domainMetadata", |fields, row| domain(fields, row).map(Action::DomainMetadata))?;
    each("remove", |fields, row| remove(fields, row).map(Action::Remove))?;
    each("add", |fields, row| add(fields, row).map(Action::Add))
}

pub fn protocol(fields: Fields<'_>, row: usize) -> Result<Protocol> {
    let version = |name| {
        let value = fields.integers_required(name)?.get_narrow(row);
        value.ok_or_else(|| fields.null(name))
    };
    let features = |name| Ok::<_, Error>(fields.list(name)?.and_then(|list| list.get(row)));
    Ok(Protocol {
        min_reader_version: version("minReaderVersion")?,
        min_writer_version: version("minWriterVersion")?,
        reader_features: features("readerFeatures")?,
        writer_features: features("writerFeatures")?,
    })
}

pub fn metadata(fields: Fields<'_>, row: usize) -> Result<Metadata> {
    let format = match fields.fields("format")? {
        Some(format) if !format.is_null(row) => Format {
            provider: owned_text(format.text("provider")?, row)
                .unwrap_or_else(|| Format::default().provider),
            options: plain_map(format, "options", row)?,
        },
        Some(_) | None => Format::default(),
    };
    Ok(Metadata {
        id: required_text(fields, "id", row)?,
        name: owned_text(fields.text("name")?, row),
        description: owned_text(fields.text("description")?, row),
        format,
        schema_string: required_text(fields, "schemaString", row)?,
        partition_columns: fields
            .list("partitionColumns")?
            .and_then(|list| list.get(row))
            .unwrap_or_default(),
        configuration: plain_map(fields, "configuration", row)?,
        created_time: integer_at(fields.integers("createdTime")?, row),
        unknown: Map::new(),
    })
}

pub fn txn(fields: Fields<'_>, row: usize) -> Result<Txn> {
    let version = fields.integers_required("version")?.get(row);
    Ok(Txn {
        app_id: required_text(fields, "appId", row)?,
        version: version.ok_or_else(|| fields.null("version"))?,
        last_updated: integer_at(fields.integers("lastUpdated")?, row),
    })
}

pub fn deletion_vector(fields: Fields<'_>, row: usize) -> Result<DeletionVector> {
    let size = fields.integers_required("sizeInBytes")?.get_narrow(row);
    let cardinality = fields.integers_required("cardinality")?.get(row);
    let offset = match integer_at(fields.integers("offset")?, row).map(i32::try_from) {
        Some(Ok(offset)) => Some(offset),
        Some(Err(_)) => return Err(Error::Damaged("deletionVector.offset is too large".into())),
        None => None,
    };
    Ok(DeletionVector {
        storage_type: required_text(fields, "storageType", row)?,
        path_or_inline_dv: required_text(fields, "pathOrInlineDv", row)?,
        offset,
        size_in_bytes: size.ok_or_else(|| fields.null("sizeInBytes"))?,
        cardinality: cardinality.ok_or_else(|| fields.null("cardinality"))?,
    })
}

pub fn domain(fields: Fields<'_>, row: usize) -> Result<DomainMetadata> {
    let removed = fields.booleans("removed")?;
    Ok(DomainMetadata {
        domain: required_text(fields, "domain", row)?,
        configuration: required_text(fields, "configuration", row)?,
        removed: boolean(removed, row).unwrap_or(false),
    })
}

fn add(fields: Fields<'_>, row: usize) -> Result<Add> {
    let size = fields.integers_required("size")?.get(row);
    let data_change = fields.booleans("dataChange")?;
    let stats = match owned_text(fields.text("stats")?, row) {
        Some(stats) => Some(stats),
        None => fields.structs("stats_parsed")?.and_then(|all| parsed::statistics(all, row)),
    };
    Ok(Add {
        path: required_text(fields, "path", row)?,
        partition_values: text_map(fields, "partitionValues", row)?.unwrap_or_default(),
        size: size.ok_or_else(|| fields.null("size"))?,
        modification_time: integer_at(fields.integers("modificationTime")?, row).unwrap_or(0),
        data_change: boolean(data_change, row).unwrap_or(false),
        stats,
        tags: text_map(fields, "tags", row)?,
        deletion_vector: vector_of(fields, row)?,
        base_row_id: integer_at(fields.integers("baseRowId")?, row),
        default_row_commit_version: integer_at(fields.integers("defaultRowCommitVersion")?, row),
        clustering_provider: owned_text(fields.text("clusteringProvider")?, row),
        unknown: Map::new(),
    })
}

fn remove(fields: Fields<'_>, row: usize) -> Result<Remove> {
    let data_change = fields.booleans("dataChange")?;
    Ok(Remove {
        path: required_text(fields, "path", row)?,
        deletion_timestamp: integer_at(fields.integers("deletionTimestamp")?, row),
        data_change: boolean(data_change, row).unwrap_or(false),
        extended_file_metadata: boolean(fields.booleans("extendedFileMetadata")?, row),
        partition_values: text_map(fields, "partitionValues", row)?,
        size: integer_at(fields.integers("size")?, row),
        stats: owned_text(fields.text("stats")?, row),
        tags: text_map(fields, "tags", row)?,
        deletion_vector: vector_of(fields, row)?,
        base_row_id: integer_at(fields.integers("baseRowId")?, row),
        default_row_commit_version: integer_at(fields.integers("defaultRowCommitVersion")?, row),
        unknown: Map::new(),
    })
}

fn vector_of(fields: Fields<'_>, row: usize) -> Result<Option<DeletionVector>> {
    match fields.fields("deletionVector")? {
        Some(vectors) if !vectors.is_null(row) => deletion_vector(vectors, row).map(Some),
        Some(_) | None => Ok(None),
    }
}

fn required_text(fields: Fields<'_>, name: &str, row: usize) -> Result<String> {
    let text = text_at(fields.text_required(name)?, row);
    text.map(str::to_owned).ok_or_else(|| fields.null(name))
}

fn text_map(
    fields: Fields<'_>,
    name: &str,
    row: usize,
) -> Result<Option<BTreeMap<String, Option<String>>>> {
    Ok(fields.map(name)?.and_then(|map| map.get(row)))
}

/// A map whose values are never null; a null one says as much as a missing one.
fn plain_map(fields: Fields<'_>, name: &str, row: usize) -> Result<BTreeMap<String, String>> {
    let map = text_map(fields, name, row)?.unwrap_or_default();
    Ok(map.into_iter().filter_map(|(key, value)| Some((key, value?))).collect())
}

fn boolean(array: Option<&arrow::array::BooleanArray>, row: usize) -> Option<bool> {
    use arrow::array::Array;
    array.filter(|array| array.is_valid(row)).map(|array| array.value(row))
}
