//! What a table asks of its clients: the protocol's feature table, and whether we meet it.
//!
//! Follows the protocol's sections "Table Features", "Reader Version Requirements" and "Writer
//! Version Requirements". Reading and committing are judged from the protocol action; whether rows
//! that nobody evaluated may be added is judged from what the table really has, so that a legacy
//! writer version 4 without a generated column is no obstacle. Append-only tables and the change
//! data feed are matters of what a commit does, and are judged by its plan.

pub mod upgrade;

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::log::action::{Metadata, Protocol};

/// Highest versions that the protocol defines; from these on, features are listed by name.
pub const READER_VERSION_FEATURES: i32 = 3;
pub const WRITER_VERSION_FEATURES: i32 = 7;

/// Who has to know a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// Listed in readerFeatures and writerFeatures.
    ReaderWriter,
    /// Listed in writerFeatures alone.
    Writer,
}

/// What we do with a table that has a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handling {
    /// Versions are shown and commits are made.
    ReadWrite,
    /// Versions are shown; a commit is refused with this reason.
    Read(&'static str),
    /// Versions are shown; commits belong to a catalog.
    ReadCatalog,
    /// Not even versions are shown, for this reason.
    Refused(&'static str),
}

struct Feature {
    name: &'static str,
    scope: Scope,
    /// The legacy reader and writer versions that imply it; 0: none does.
    since: (i32, i32),
    handling: Handling,
}

const fn both(name: &'static str, handling: Handling) -> Feature {
    Feature { name, scope: Scope::ReaderWriter, since: (0, 0), handling }
}

const fn writer(name: &'static str, since: i32, handling: Handling) -> Feature {
    Feature { name, scope: Scope::Writer, since: (0, since), handling }
}

use Handling::{Read, ReadCatalog, ReadWrite, Refused};

/// Every feature that has a name. What a writer feature asks of a commit beyond this table is
/// noted beside it, with the module that sees to it.
const FEATURES: [Feature; 36] = [
    // Judged by the plan: `Error::AppendOnly`.
    writer("appendOnly", 2, ReadWrite),
    // These four are judged by what the table has: `check_write`.
    writer("invariants", 2, ReadWrite),
    writer("checkConstraints", 3, ReadWrite),
    writer("generatedColumns", 4, ReadWrite),
    writer("identityColumns", 6, ReadWrite),
    // Whole files come and go, and those a change reader reads as inserted and deleted rows.
    writer("changeDataFeed", 4, ReadWrite),
    // Files that lack a column with a default are refused: `schema`.
    writer("allowColumnDefaults", 0, ReadWrite),
    // Files carry physical names or ids, else they don't fit: `schema`.
    Feature {
        name: "columnMapping",
        scope: Scope::ReaderWriter,
        since: (2, 5),
        handling: ReadWrite,
    },
    both("deletionVectors", ReadWrite),
    both("timestampNtz", ReadWrite),
    both("typeWidening", ReadWrite),
    both("typeWidening-preview", ReadWrite),
    both("variantType", ReadWrite),
    both("variantType-preview", ReadWrite),
    both("variantShredding", ReadWrite),
    both("variantShredding-preview", ReadWrite),
    // A classic checkpoint of the V1 spec stays valid beside V2 ones.
    both("v2Checkpoint", ReadWrite),
    // We never vacuum.
    both("vacuumProtocolCheck", ReadWrite),
    both("catalogManaged", ReadCatalog),
    both("catalogOwned", ReadCatalog),
    both("catalogOwned-preview", ReadCatalog),
    // Before it was a reader feature, commits went through a coordinator all the same.
    writer("coordinatedCommits-preview", 0, ReadCatalog),
    writer("domainMetadata", 0, ReadWrite),
    writer("rowTracking", 0, ReadWrite),
    // Clustering columns get their statistics: `statistics`.
    writer("clustering", 0, ReadWrite),
    writer("inCommitTimestamp", 0, ReadWrite),
    // We remove no checkpoint, and write one only for a version that we just committed.
    writer("checkpointProtection", 0, ReadWrite),
    // Files must have the partition columns in them: the commit's plan.
    writer("materializePartitionColumns", 0, ReadWrite),
    writer("icebergCompatV1", 0, Read(ICEBERG)),
    writer("icebergCompatV2", 0, Read(ICEBERG)),
    writer("icebergCompatV3", 0, Read(ICEBERG)),
    writer("icebergWriterCompatV1", 0, Read(ICEBERG)),
    writer("redirectWriterOnly-preview", 0, Read("its writers are sent to another place")),
    both("redirectReaderWriter-preview", Refused("its data is in another place")),
    both("geospatial", Refused("its types are not known to us")),
    both("adaptiveMetadata-preview", Refused("its files are not in this log")),
];

const ICEBERG: &str = "its files must be written to suit Iceberg readers too";

/// Whether versions of a table with this protocol can be shown. Errors: [`Error::Unsupported`],
/// naming the version or feature; [`Error::Damaged`] for a protocol that contradicts itself.
pub fn check_read(protocol: &Protocol) -> Result<()> {
    if protocol.min_reader_version > READER_VERSION_FEATURES {
        return Err(Error::Unsupported(format!(
            "the table needs reader version {}, deltafs knows up to {READER_VERSION_FEATURES}",
            protocol.min_reader_version
        )));
    }
    for name in listed(protocol.min_reader_version >= 3, &protocol.reader_features, "reader")? {
        match find(name).map(|feature| feature.handling) {
            Some(ReadWrite | Read(_) | ReadCatalog) => {}
            Some(Refused(why)) => {
                return Err(Error::Unsupported(format!(
                    "the table uses the feature {name:?}: {why}"
                )));
            }
            None => {
                return Err(Error::Unsupported(format!(
                    "the table uses the reader feature {name:?}, which deltafs doesn't know"
                )));
            }
        }
    }
    Ok(())
}

/// Whether we may commit to a table with this protocol at all, be it only to restore files.
/// Errors: [`Error::CatalogManaged`], [`Error::Unsupported`] and [`Error::Damaged`], by name.
pub fn check_commit(protocol: &Protocol) -> Result<()> {
    check_read(protocol)?;
    if protocol.min_writer_version > WRITER_VERSION_FEATURES {
        return Err(Error::Unsupported(format!(
            "the table needs writer version {}, deltafs knows up to {WRITER_VERSION_FEATURES}",
            protocol.min_writer_version
        )));
    }
    let listed = listed(protocol.min_writer_version >= 7, &protocol.writer_features, "writer")?;
    for name in listed {
        match find(name).map(|feature| feature.handling) {
            Some(ReadWrite) => {}
            Some(ReadCatalog) => {
                return Err(Error::CatalogManaged(format!(
                    "the table is read-only here: a catalog owns its commits (feature {name:?})"
                )));
            }
            Some(Read(why) | Refused(why)) => {
                return Err(Error::Unsupported(format!(
                    "the table is read-only here: it uses the feature {name:?}, {why}"
                )));
            }
            None => {
                return Err(Error::Unsupported(format!(
                    "the table is read-only here: it uses the writer feature {name:?}, which \
                     deltafs doesn't know"
                )));
            }
        }
    }
    Ok(())
}

/// Whether rows that nobody evaluated may be added to the table: [`check_commit`], and no rule of
/// the table's own that a row could break. Errors: as there; [`Error::Unsupported`] naming the
/// constraint or column.
pub fn check_write(protocol: &Protocol, metadata: &Metadata) -> Result<()> {
    check_commit(protocol)?;
    match row_rules(metadata)?.first() {
        None => Ok(()),
        Some(rule) => Err(Error::Unsupported(format!(
            "the table has {rule}, which deltafs can't evaluate: only files that were in the \
             table under the same rule can be restored"
        ))),
    }
}

/// The rules that every row of the table must satisfy, as sentences' parts in a fixed order:
/// CHECK constraints, invariants, generated and identity columns. Two versions with the same
/// rules may exchange their files. Errors: [`Error::Damaged`] for a schema that isn't JSON.
pub fn row_rules(metadata: &Metadata) -> Result<BTreeSet<String>> {
    let mut rules = BTreeSet::new();
    for (key, expression) in &metadata.configuration {
        // Spark looks for constraints without regard to the protocol; so must a careful writer.
        if let Some(name) = key.strip_prefix("delta.constraints.") {
            rules.insert(format!("the CHECK constraint {name:?} ({expression})"));
        }
    }
    let schema: Value = serde_json::from_str(&metadata.schema_string)
        .map_err(|error| Error::Damaged(format!("the table's schema is not JSON: {error}")))?;
    collect_column_rules(&schema, &mut rules);
    Ok(rules)
}

fn collect_column_rules(value: &Value, rules: &mut BTreeSet<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect_column_rules(item, rules)),
        Value::Object(object) => {
            if let (Some(Value::String(name)), Some(Value::Object(metadata))) =
                (object.get("name"), object.get("metadata"))
            {
                column_rules(name, metadata, rules);
            }
            // What stands inside a field's metadata is no field, whatever it looks like.
            for (key, item) in object {
                if key != "metadata" {
                    collect_column_rules(item, rules);
                }
            }
        }
        _ => {}
    }
}

fn column_rules(column: &str, metadata: &Map<String, Value>, rules: &mut BTreeSet<String>) {
    if let Some(expression) = metadata.get("delta.invariants") {
        rules.insert(format!("an invariant on column {column:?} ({expression})"));
    }
    if let Some(expression) = metadata.get("delta.generationExpression") {
        rules.insert(format!("the generated column {column:?} ({expression})"));
    }
    // The high-water mark moves with every insert and is no part of the rule.
    if let (Some(start), Some(step)) =
        (metadata.get("delta.identity.start"), metadata.get("delta.identity.step"))
    {
        rules.insert(format!("the identity column {column:?} (start {start}, step {step})"));
    }
}

/// Whether the table supports a feature, listed or implied by a legacy version.
pub fn supports(protocol: &Protocol, name: &str) -> bool {
    let is_listed = |list: &Option<Vec<String>>| {
        list.as_ref().is_some_and(|names| names.iter().any(|listed| listed == name))
    };
    if is_listed(&protocol.writer_features) || is_listed(&protocol.reader_features) {
        return true;
    }
    find(name).is_some_and(|feature| is_implied(feature, protocol))
}

/// Whether a protocol's legacy versions, both of them where the feature concerns readers too, imply
/// a feature.
fn is_implied(feature: &Feature, protocol: &Protocol) -> bool {
    let (reader_since, writer_since) = feature.since;
    writer_since > 0
        && (writer_since..WRITER_VERSION_FEATURES).contains(&protocol.min_writer_version)
        && protocol.min_reader_version >= reader_since
}

/// The least protocol that satisfies both: versions and features only go up (RESTORE). It is `one`
/// itself, in its own order, where that is enough.
pub fn union(one: &Protocol, other: &Protocol) -> Protocol {
    let reader = one.min_reader_version.max(other.min_reader_version);
    let writer = one.min_writer_version.max(other.min_writer_version);
    if writer < WRITER_VERSION_FEATURES {
        return Protocol {
            min_reader_version: reader,
            min_writer_version: writer,
            reader_features: None,
            writer_features: None,
        };
    }
    let mut readers = BTreeSet::new();
    let mut writers = BTreeSet::new();
    for protocol in [one, other] {
        let (reads, writes) = spelled_out(protocol);
        readers.extend(reads);
        writers.extend(writes);
    }
    let has_reader_list = reader >= READER_VERSION_FEATURES;
    let both = Protocol {
        min_reader_version: reader,
        min_writer_version: writer,
        reader_features: has_reader_list.then(|| readers.into_iter().collect()),
        writer_features: Some(writers.into_iter().collect()),
    };
    if is_same(one, &both) { one.clone() } else { both }
}

/// Whether versions and sets of features are equal.
pub fn is_same(one: &Protocol, other: &Protocol) -> bool {
    let set = |list: &Option<Vec<String>>| -> Option<BTreeSet<String>> {
        list.as_ref().map(|names| names.iter().cloned().collect())
    };
    let versions = |protocol: &Protocol| (protocol.min_reader_version, protocol.min_writer_version);
    versions(one) == versions(other)
        && set(&one.reader_features) == set(&other.reader_features)
        && set(&one.writer_features) == set(&other.writer_features)
}

/// The protocol with features added by name; unknown names are our own bug.
pub fn with_features(protocol: &Protocol, names: &[&str]) -> Protocol {
    if names.iter().all(|name| supports(protocol, name)) {
        return protocol.clone();
    }
    let reads = |name: &&&str| find(name).is_some_and(|f| f.scope == Scope::ReaderWriter);
    let readers: Vec<String> = names.iter().filter(reads).map(|name| name.to_string()).collect();
    let needs_reader = !readers.is_empty();
    let added = Protocol {
        min_reader_version: if needs_reader { READER_VERSION_FEATURES } else { 1 },
        min_writer_version: WRITER_VERSION_FEATURES,
        reader_features: needs_reader.then_some(readers),
        writer_features: Some(names.iter().map(|name| name.to_string()).collect()),
    };
    union(protocol, &added)
}

/// A protocol's features by name, with those that its legacy versions imply.
fn spelled_out(protocol: &Protocol) -> (Vec<String>, Vec<String>) {
    let mut readers = protocol.reader_features.clone().unwrap_or_default();
    let mut writers = protocol.writer_features.clone().unwrap_or_default();
    for feature in &FEATURES {
        let (reader_since, _) = feature.since;
        let is_listed = writers.iter().any(|name| name == feature.name);
        let is_implied = is_implied(feature, protocol);
        // A reader version 2 has no list, and may stand beside a list of writer features.
        if reader_since > 0
            && protocol.min_reader_version == reader_since
            && (is_implied || is_listed)
        {
            readers.push(feature.name.to_owned());
        }
        if is_implied {
            writers.push(feature.name.to_owned());
        }
    }
    (readers, writers)
}

/// A feature list, or none below the version that has lists.
fn listed<'a>(
    needed: bool,
    list: &'a Option<Vec<String>>,
    side: &str,
) -> Result<impl Iterator<Item = &'a str>> {
    if needed && list.is_none() {
        return Err(Error::Damaged(format!(
            "the table's protocol has a {side} version with features and no {side}Features"
        )));
    }
    // A list beside a lower version is no part of the protocol, but whoever wrote it meant it.
    Ok(list.iter().flatten().map(String::as_str))
}

fn find(name: &str) -> Option<&'static Feature> {
    FEATURES.iter().find(|feature| feature.name == name)
}

#[cfg(test)]
mod tests;
