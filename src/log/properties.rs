//! Delta's table properties as one table: what a value must be, what table feature it needs, or why
//! it can't be set here.
//!
//! Follows the protocol's sections on each feature, and Spark's list of properties where the
//! protocol has none. A name begins with `delta.`, and its case doesn't count; any other name is a
//! user's own, and free. What a table becomes by a property is worked out in `table::commit`.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};
use crate::log::action::{Metadata, Protocol};
use crate::log::protocol::supports;
use crate::log::protocol::upgrade::feature;
use crate::log::schema::{DataType, Field, Primitive, Schema};
use crate::log::statistics::parse_columns;

use self::value::{Kind, nearest};

mod value;

pub const COLUMN_MAPPING_MODE: &str = "delta.columnMapping.mode";
pub const COLUMN_MAPPING_MARK: &str = "delta.columnMapping.maxColumnId";
pub const ROW_TRACKING: &str = "delta.enableRowTracking";
pub const ROW_TRACKING_SUSPENDED: &str = "delta.rowTrackingSuspended";
pub const ROW_ID_COLUMN: &str = "delta.rowTracking.materializedRowIdColumnName";
pub const ROW_VERSION_COLUMN: &str = "delta.rowTracking.materializedRowCommitVersionColumnName";
pub const CHANGE_DATA_FEED: &str = "delta.enableChangeDataFeed";
pub const STATISTICS_COLUMNS: &str = "delta.dataSkippingStatsColumns";
const CONSTRAINT: &str = "delta.constraints.";
const FEATURE: &str = "delta.feature.";
/// Whatever comes after it speaks of other formats' metadata.
const OTHER_FORMATS: &str = "delta.universalFormat.";

/// What setting a property does.
enum Rule {
    /// It stands in the table's metadata, and no more.
    Plain(Kind),
    /// As long as it has this value, the table supports that feature.
    Needs(Kind, &'static str, &'static str),
    /// It stands in the protocol.
    ReaderVersion,
    WriterVersion,
    /// Writers keep it for themselves; it is neither set nor taken away.
    Internal,
    /// It can be taken away, and not set, for this reason.
    Refused(&'static str),
}

use Kind::{Boolean, Columns, Interval, OneOf, Text, Whole};
use Rule::{Internal, Needs, Plain, ReaderVersion, Refused, WriterVersion};

/// Every property by its name after `delta.`, sorted.
const PROPERTIES: [(&str, Rule); 58] = [
    ("appendOnly", Needs(Boolean, "true", "appendOnly")),
    ("autoOptimize", Plain(Boolean)),
    ("autoOptimize.autoCompact", Plain(Boolean)),
    ("autoOptimize.optimizeWrite", Plain(Boolean)),
    ("castIcebergTimeType", Refused(ICEBERG)),
    ("checkpoint.writeStatsAsJson", Plain(Boolean)),
    ("checkpoint.writeStatsAsStruct", Plain(Boolean)),
    ("checkpointInterval", Plain(Whole { least: 1 })),
    ("checkpointPolicy", Needs(OneOf(&["classic", "v2"]), "v2", "v2Checkpoint")),
    ("checkpointRetentionDuration", Plain(Interval)),
    ("columnMapping.maxColumnId", Internal),
    ("columnMapping.mode", Plain(OneOf(&["none", "name", "id"]))),
    ("compatibility.symlinkFormatManifest.enabled", Refused(MANIFEST)),
    ("coordinatedCommits.commitCoordinator-preview", Refused(CATALOG)),
    ("coordinatedCommits.commitCoordinatorConf-preview", Refused(CATALOG)),
    ("coordinatedCommits.tableConf-preview", Refused(CATALOG)),
    ("dataSkippingNumIndexedCols", Plain(Whole { least: -1 })),
    ("dataSkippingStatsColumns", Plain(Columns)),
    ("dataSkippingStringPrefixLength", Plain(Whole { least: 0 })),
    ("deletedFileRetentionDuration", Plain(Interval)),
    ("dropFeatureTruncateHistory.retentionDuration", Plain(Interval)),
    ("enableChangeDataCapture", Refused("its name today is delta.enableChangeDataFeed")),
    ("enableChangeDataFeed", Needs(Boolean, "true", "changeDataFeed")),
    ("enableDeletionVectors", Needs(Boolean, "true", "deletionVectors")),
    ("enableExpiredLogCleanup", Plain(Boolean)),
    ("enableFullRetentionRollback", Plain(Boolean)),
    ("enableIcebergCompatV1", Refused(ICEBERG)),
    ("enableIcebergCompatV2", Refused(ICEBERG)),
    ("enableIcebergCompatV3", Refused(ICEBERG)),
    ("enableIcebergWriterCompatV1", Refused(ICEBERG)),
    ("enableInCommitTimestamps", Needs(Boolean, "true", "inCommitTimestamp")),
    (
        "enableMaterializePartitionColumnsFeature",
        Needs(Boolean, "true", "materializePartitionColumns"),
    ),
    ("enableRowTracking", Needs(Boolean, "true", "rowTracking")),
    ("enableTypeWidening", Needs(Boolean, "true", "typeWidening")),
    ("enableVariantShredding", Needs(Boolean, "true", "variantShredding")),
    ("ignoreIcebergBucketPartition", Refused(ICEBERG)),
    ("ignoreProtocolDefaults", Refused("it speaks to a Spark session, not of a table")),
    ("inCommitTimestampEnablementTimestamp", Internal),
    ("inCommitTimestampEnablementVersion", Internal),
    ("isolationLevel", Plain(OneOf(&["Serializable"]))),
    ("logRetentionDuration", Plain(Interval)),
    ("minReaderVersion", ReaderVersion),
    ("minWriterVersion", WriterVersion),
    ("parquet.compression.codec", Plain(Text)),
    ("parquet.format.version", Plain(OneOf(&["1.0.0", "2.12.0"]))),
    ("randomPrefixLength", Plain(Whole { least: 1 })),
    ("randomizeFilePrefixes", Plain(Boolean)),
    ("redirectReaderWriter-preview", Refused(REDIRECT)),
    ("redirectWriterOnly-preview", Refused(REDIRECT)),
    ("requireCheckpointProtectionBeforeVersion", Internal),
    ("rowTracking.materializedRowCommitVersionColumnName", Internal),
    ("rowTracking.materializedRowIdColumnName", Internal),
    ("rowTrackingSuspended", Refused("it is a step of dropping the feature rowTracking")),
    ("sampleRetentionDuration", Plain(Interval)),
    ("setTransactionRetentionDuration", Plain(Interval)),
    ("targetFileSize", Plain(Text)),
    ("tuneFileSizesForRewrites", Plain(Boolean)),
    ("writePartitionColumnsToParquet", Plain(Boolean)),
];

const ICEBERG: &str = "deltafs writes nothing for Iceberg's readers";
const MANIFEST: &str = "deltafs writes no manifests, so they would be out of date";
const CATALOG: &str = "deltafs commits to the log itself, and to no coordinator";
const REDIRECT: &str = "the table would be in another place";

/// Something to set, checked, in Delta's own spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    Property { key: String, value: String },
    ReaderVersion(i32),
    WriterVersion(i32),
    Feature(&'static str),
}

/// Checks a property and its value. Errors: [`Error::Refused`] naming the property.
pub fn setting(key: &str, value: &str) -> Result<Setting> {
    let refuse = |why: &str| Err(Error::Refused(format!("property {key} {why}")));
    let Some(name) = delta_name(key) else {
        return Ok(Setting::Property { key: key.to_owned(), value: value.to_owned() });
    };
    if let Some(named) = after(key, FEATURE) {
        return match ["supported", "enabled"].contains(&value) {
            true => feature(named).map(Setting::Feature),
            false => refuse(&format!("can only be supported, not {value:?}")),
        };
    }
    if after(key, CONSTRAINT).is_some() {
        return refuse(
            "can't be set: deltafs can't check that the table's rows fit a constraint; let an \
             engine that runs SQL add it",
        );
    }
    if after(key, OTHER_FORMATS).is_some() {
        return refuse(&format!("can't be set: {ICEBERG}"));
    }
    let Some((name, rule)) = find(name) else { return Err(unknown(key)) };
    let version = |most| match value.parse() {
        Ok(version) if (1..=most).contains(&version) => Ok(version),
        _ => refuse(&format!("can't be {value:?}: it is a number from 1 to {most}"))
            .map(|_: Setting| 0),
    };
    match rule {
        Plain(kind) | Needs(kind, ..) => match kind.canonical(value) {
            Ok(value) => Ok(Setting::Property { key: format!("delta.{name}"), value }),
            Err(why) => refuse(&format!("can't be {value:?}: {why}")),
        },
        ReaderVersion => version(3).map(Setting::ReaderVersion),
        WriterVersion => version(7).map(Setting::WriterVersion),
        Internal => refuse("can't be set: writers keep it for themselves"),
        Refused(why) => refuse(&format!("can't be set: {why}")),
    }
}

/// Finds what a table calls a property that is to be taken away; `None`: it has none of the name.
/// Errors: [`Error::Refused`] for one that can't be, or that neither Delta nor the table knows.
pub fn unsetting(key: &str, held: &BTreeMap<String, String>) -> Result<Option<String>> {
    let refuse =
        |why: &str| Err(Error::Refused(format!("property {key} can't be taken away{why}")));
    let Some(name) = delta_name(key) else {
        return Ok(held.contains_key(key).then(|| key.to_owned()));
    };
    if after(key, FEATURE).is_some() {
        return refuse(": a feature is dropped by an engine that can rewrite the table's files");
    }
    let held = held.keys().find(|held| held.eq_ignore_ascii_case(key)).cloned();
    match find(name) {
        Some((_, Internal)) => refuse(": writers keep it for themselves"),
        Some((_, ReaderVersion | WriterVersion)) => refuse(": protocol versions only go up"),
        None if held.is_none() && after(key, CONSTRAINT).is_none() => Err(unknown(key)),
        _ => Ok(held),
    }
}

/// Whether a property is one that no user sets.
pub fn is_internal(key: &str) -> bool {
    let rule = delta_name(key).and_then(find);
    matches!(rule, Some((_, Internal)))
}

/// The feature that a property needs, where it has this value and the table lacks it. A feature
/// that the table has by its preview's name is there.
pub fn needed_feature(key: &str, value: &str, protocol: &Protocol) -> Option<&'static str> {
    let (_, rule) = delta_name(key).and_then(find)?;
    match rule {
        Needs(_, when, feature) if value == *when => {
            let has = |name: &str| supports(protocol, name);
            (!has(feature) && !has(&format!("{feature}-preview"))).then_some(*feature)
        }
        _ => None,
    }
}

/// Checks what a property says of the table's columns. Errors: [`Error::Refused`] by name.
pub fn check_columns(key: &str, value: &str, metadata: &Metadata, schema: &Schema) -> Result<()> {
    let refuse = |why: String| Err(Error::Refused(format!("property {key}={value}: {why}")));
    if key == CHANGE_DATA_FEED && value == "true" {
        let reserved = ["_change_type", "_commit_version", "_commit_timestamp"];
        return match reserved.iter().find(|name| schema.field(name).is_some()) {
            Some(name) => refuse(format!("the table has a column {name:?} already")),
            None => Ok(()),
        };
    }
    if key != STATISTICS_COLUMNS {
        return Ok(());
    }
    let mut leaves = BTreeSet::new();
    for path in parse_columns(value).map_err(|error| Error::Refused(error.to_string()))? {
        let shown = path.join(".");
        if metadata.partition_columns.iter().any(|name| is_same(name, &shown)) {
            return refuse(format!("{shown:?} is a partition column, which has no statistics"));
        }
        let Some(field) = column(schema, &path) else {
            let names: Vec<&str> = schema.fields.iter().map(|field| field.name.as_str()).collect();
            let nearest = nearest(&shown, &names).map(|name| format!("; there is {name:?}"));
            return refuse(format!("there is no column {shown:?}{}", nearest.unwrap_or_default()));
        };
        if path.len() == 1 && !has_statistics(&field.data_type) {
            return refuse(format!("{shown:?} is {}, which has none", field.data_type));
        }
        if !leaves.insert(shown.to_lowercase()) {
            return refuse(format!("{shown:?} is named twice"));
        }
    }
    Ok(())
}

/// Whether two names are the same to Delta, for which their case doesn't count.
fn is_same(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}

/// The column of that path through structs.
fn column<'a>(schema: &'a Schema, path: &[String]) -> Option<&'a Field> {
    let (first, rest) = path.split_first()?;
    let field = schema.fields.iter().find(|field| is_same(&field.name, first))?;
    match &field.data_type {
        _ if rest.is_empty() => Some(field),
        DataType::Struct(inner) => column(inner, rest),
        _ => None,
    }
}

/// Whether Spark takes a column of the type by its name; parts of a named struct may be of others.
fn has_statistics(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(_) => true,
        DataType::Primitive(primitive) => !matches!(
            primitive,
            Primitive::Boolean | Primitive::Binary | Primitive::Void | Primitive::Other(_)
        ),
        DataType::Array { .. } | DataType::Map { .. } => false,
    }
}

fn unknown(key: &str) -> Error {
    let names: Vec<&str> = PROPERTIES.iter().map(|(name, _)| *name).collect();
    let near = delta_name(key).and_then(|name| nearest(name, &names));
    Error::Refused(format!(
        "property {key} is not known; {}names without the prefix delta. are free",
        near.map(|name| format!("the nearest is delta.{name}; ")).unwrap_or_default()
    ))
}

fn find(name: &str) -> Option<(&'static str, &'static Rule)> {
    let found = PROPERTIES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
    Some((found.0, &found.1))
}

/// A name of Delta's without its prefix.
fn delta_name(key: &str) -> Option<&str> {
    after(key, "delta.")
}

fn after<'a>(key: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = key.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

#[cfg(test)]
mod tests;
