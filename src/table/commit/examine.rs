//! Looks into staged data files: are they whole, do they fit the table, what are their statistics.
//!
//! Footers are read once for a commit; what follows from a table's schema is worked out again only
//! when another commit changed that. All calls here block on local disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::sync::Arc;

use serde_json::Value;

use super::manifest::StagedFile;
use super::plan::Newest;
use crate::error::{Error, Result};
use crate::log::action::{DomainMetadata, Metadata, PartitionValues, Protocol};
use crate::log::column_ids::PastSchemas;
use crate::log::fit::{Fit, TableColumns};
use crate::log::footer::{Footer, is_parquet};
use crate::log::partition;
use crate::log::protocol::{supports, with_features};
use crate::log::schema::{DataType, Field, Primitive, Schema};
use crate::log::statistics::{Asked, Budget, Indexed, statistics};
use crate::store::Store;
use crate::table::staging::{Content, StagedEntry};
use crate::table::{FilePath, Timeline};

/// The staged files as the table will have them.
#[derive(Debug)]
pub struct Examined {
    /// Those of the version that the commit makes: with added columns and what these need.
    pub protocol: Protocol,
    pub metadata: Metadata,
    /// As many as files, in their order.
    pub files: Vec<ExaminedFile>,
}

impl Examined {
    /// No files, for no table.
    pub fn nothing() -> Examined {
        Examined {
            protocol: Protocol::default(),
            metadata: Metadata {
                id: String::new(),
                name: None,
                description: None,
                format: crate::log::action::Format::default(),
                schema_string: String::new(),
                partition_columns: Vec::new(),
                configuration: BTreeMap::new(),
                created_time: None,
                unknown: serde_json::Map::new(),
            },
            files: Vec::new(),
        }
    }
}

/// What the log will say of a data file, beside its name.
#[derive(Debug, PartialEq)]
pub struct ExaminedFile {
    pub partition_values: PartitionValues,
    pub stats: String,
    pub rows: i64,
}

/// A staged data file with its footer.
#[derive(Clone, Debug)]
pub struct Opened {
    pub path: FilePath,
    pub footer: Arc<Footer>,
    content: Content,
}

/// Opens a staged file's bytes: in the spool, or in the table that it refers to.
pub fn open(content: &Content, store: &Store) -> Result<File> {
    match content {
        Content::Spooled(path) => File::open(path)
            .map_err(|error| Error::from_io(format!("open {}", path.display()), &error)),
        Content::Reference(reference) => match store.open_local(&reference.path) {
            Some(Err(Error::NotFound(_))) => Err(Error::Damaged(format!(
                "data file {} that a staged file refers to is no longer in the table",
                reference.path
            ))),
            Some(file) => file,
            None => Err(Error::Unsupported(format!(
                "data file {} that a staged file refers to is not on a local disk",
                reference.path
            ))),
        },
    }
}

/// Reads the footer of a staged data file. Errors: [`Error::Refused`] for one that isn't whole
/// Parquet.
pub fn read_footer(staged: &StagedFile, store: &Store) -> Result<Opened> {
    let file = open(&staged.entry.content, store)?;
    if !is_parquet(&file) {
        return Err(Error::Refused(format!(
            "{}: is not Parquet, and a table holds nothing else; remove it",
            staged.path
        )));
    }
    let footer = Footer::read(&file, staged.path.as_str()).map_err(|error| match error {
        Error::Refused(text) => Error::Refused(format!("{text}; bring it again, or remove it")),
        error => error,
    })?;
    Ok(Opened {
        path: staged.path.clone(),
        footer: Arc::new(footer),
        content: staged.entry.content.clone(),
    })
}

/// Refuses rows under a name that nobody would read them by: they would be gone with the staging
/// directory. The summaries that Hive and Dask write beside data are no rows, whatever they say.
pub fn check_hidden(entry: &StagedEntry, store: &Store) -> Result<()> {
    let file = open(&entry.content, store)?;
    let name = entry.path.rsplit('/').next().unwrap_or(&entry.path);
    if matches!(name, "_metadata" | "_common_metadata") || !is_parquet(&file) {
        return Ok(());
    }
    // One that can't be read is somebody's data all the same.
    match Footer::read(&file, &entry.path) {
        Ok(footer) if footer.rows() == 0 => Ok(()),
        _ => Err(Error::Refused(format!(
            "{}: is Parquet, and Delta hides names that begin with `_` or `.`; rename it, or \
             remove it",
            entry.path
        ))),
    }
}

/// Fits files to a table. `merge`: its schema may change, and these are those that it has had.
/// Errors: [`Error::Refused`] naming the file and the column.
pub fn examine(
    files: &[Opened],
    store: &Store,
    newest: &Newest,
    merge: Option<&PastSchemas>,
) -> Result<Examined> {
    let clustering = newest.snapshot.as_ref().map_or(Ok(Vec::new()), |s| clustering(&s.domains))?;
    let mut metadata = (*newest.metadata).clone();
    let mut columns = TableColumns::of(&newest.protocol, &metadata, merge)?;
    if merge.is_some() {
        for file in files {
            let fit = columns.fit(file.footer.columns(), true, file.path.as_str())?;
            fit.merged.into_iter().for_each(|merged| columns.merge(merged, &mut metadata));
        }
    }
    // A type that the table has already may be there by an older name of its feature.
    let known = features_of(&Schema::from_json(&newest.metadata.schema_string)?);
    let wanted = features_of(&columns.schema);
    let new: Vec<&str> = wanted.difference(&known).copied().collect();
    let protocol = with_features(&newest.protocol, &new);
    let asked = Asked {
        indexed: Indexed::of(&metadata, &columns, &clustering)?,
        tight_bounds: supports(&protocol, "deletionVectors"),
    };
    let mut budget = Budget::default();
    let files = files.iter().map(|file| {
        // What the last file made of the schema is what all of them must fit.
        let fit = columns.fit(file.footer.columns(), false, file.path.as_str())?;
        let partition_values = partition_values(file, &columns)?;
        check_values(file, &fit, store, &columns, &partition_values)?;
        let source = || open(&file.content, store);
        Ok(ExaminedFile {
            stats: statistics(&file.footer, &source, &fit.leaves, &asked, &mut budget)?,
            rows: file.footer.rows(),
            partition_values,
        })
    });
    let files = files.collect::<Result<_>>()?;
    Ok(Examined { protocol, metadata, files })
}

/// The schemas that the log still tells of, for names of new columns.
pub fn past_schemas(history: &Timeline) -> PastSchemas {
    let versions = history.versions();
    let mut past = PastSchemas {
        is_whole: versions.iter().zip(0..).all(|(version, number)| version.0 == number),
        ..PastSchemas::default()
    };
    let mut last: Option<Arc<Metadata>> = None;
    for facts in versions.into_iter().filter_map(|version| history.facts(version)) {
        // Most versions share the metadata of the one before.
        if last.as_ref().is_none_or(|last| !Arc::ptr_eq(last, &facts.metadata)) {
            past.texts.insert(facts.metadata.schema_string.clone());
            last = Some(facts.metadata.clone());
        }
    }
    past
}

/// Checks what only the values can tell.
fn check_values(
    opened: &Opened,
    fit: &Fit,
    store: &Store,
    columns: &TableColumns,
    values: &PartitionValues,
) -> Result<()> {
    if fit.not_null.is_empty() && fit.partition_columns.is_empty() {
        return Ok(());
    }
    let file = open(&opened.content, store)?;
    for rule in &fit.not_null {
        opened.footer.check_not_null(&file, rule)?;
    }
    for (name, leaf) in &fit.partition_columns {
        let Some(field) = columns.schema.field(name) else { continue };
        let DataType::Primitive(primitive) = &field.data_type else { continue };
        let value = values.get(field.physical_name(columns.mapping)?).and_then(Option::as_deref);
        opened.footer.check_partition_column(&file, *leaf, name, value, primitive)?;
    }
    Ok(())
}

/// The partition values that a file's directories give it, by physical name.
fn partition_values(file: &Opened, columns: &TableColumns) -> Result<PartitionValues> {
    let refuse = |why: String| Error::Refused(format!("{}: {why}", file.path));
    let mut values = PartitionValues::new();
    for (name, value) in partition::of_path(&file.path)? {
        let field = columns.partition_field(&name).ok_or_else(|| {
            refuse(format!(
                "the directory {name}=… names no partition column of the table; it has {:?}",
                columns.partition_columns
            ))
        })?;
        let DataType::Primitive(primitive) = &field.data_type else {
            return Err(refuse(format!("the partition column {name:?} is {}", field.data_type)));
        };
        let value = match value {
            None if !field.nullable => {
                return Err(refuse(format!("the partition column {name:?} must not be null")));
            }
            None => None,
            Some(value) => Some(partition::canonical(&value, primitive).ok_or_else(|| {
                refuse(format!("{value:?} is no {primitive}, and {name:?} is a column of those"))
            })?),
        };
        values.insert(field.physical_name(columns.mapping)?.to_owned(), value);
    }
    for name in &columns.partition_columns {
        let Some(field) = columns.schema.field(name) else {
            return Err(Error::Damaged(format!(
                "the table's partition column {name:?} is not in its schema"
            )));
        };
        if !values.contains_key(field.physical_name(columns.mapping)?) {
            return Err(refuse(format!(
                "the table is partitioned by {:?}; the file must be in a directory {name}=VALUE",
                columns.partition_columns
            )));
        }
    }
    Ok(values)
}

/// A table that doesn't exist yet: the schema of its files, partitioned by their directories.
/// `id` is the new table's. Errors: [`Error::Refused`] naming file and column.
pub fn new_table(files: &[Opened], id: String, now_ms: i64) -> Result<Newest> {
    let Some(first) = files.first() else {
        return Err(Error::Refused("a table can't be made of no file".into()));
    };
    let mut schema = first.footer.schema()?;
    let directories: Vec<_> =
        files.iter().map(|file| partition::of_path(&file.path)).collect::<Result<_>>()?;
    let names = |at: usize| directories[at].iter().map(|(name, _)| name.as_str());
    for (at, file) in files.iter().enumerate() {
        if !names(at).eq(names(0)) {
            return Err(Error::Refused(format!(
                "{}: its directories name the partition columns {:?}, and those of {} name {:?}",
                file.path,
                names(at).collect::<Vec<_>>(),
                first.path,
                names(0).collect::<Vec<_>>(),
            )));
        }
    }
    for (column, name) in names(0).enumerate() {
        if schema.field(name).is_some() {
            continue;
        }
        if let Some(twin) =
            schema.fields.iter().find(|field| field.name.to_lowercase() == name.to_lowercase())
        {
            return Err(Error::Refused(format!(
                "{}: the directory {name}=… and the column {:?} differ only by case",
                first.path, twin.name
            )));
        }
        let values = directories.iter().filter_map(|values| values[column].1.as_deref());
        schema.fields.push(Field::nullable(name, DataType::Primitive(partition::infer(values))));
    }
    let metadata = Metadata {
        id,
        name: None,
        description: None,
        format: crate::log::action::Format::default(),
        schema_string: schema.to_json(),
        partition_columns: names(0).map(str::to_owned).collect(),
        configuration: BTreeMap::new(),
        created_time: Some(now_ms),
        unknown: serde_json::Map::new(),
    };
    let plain = Protocol { min_reader_version: 1, min_writer_version: 2, ..Protocol::default() };
    let features: Vec<&str> = features_of(&schema).into_iter().collect();
    Ok(Newest {
        version: crate::table::Version(0),
        protocol: Arc::new(with_features(&plain, &features)),
        metadata: Arc::new(metadata),
        commit_time_ms: 0,
        snapshot: None,
    })
}

/// Features that the types of a schema need.
fn features_of(schema: &Schema) -> BTreeSet<&'static str> {
    let mut features = BTreeSet::new();
    for field in &schema.fields {
        field.data_type.for_each_primitive(&mut |primitive| match primitive {
            Primitive::TimestampNtz => drop(features.insert("timestampNtz")),
            Primitive::Variant => drop(features.insert("variantType")),
            _ => {}
        });
    }
    features
}

/// The physical paths of a table's clustering columns.
fn clustering(domains: &BTreeMap<String, DomainMetadata>) -> Result<Vec<Vec<String>>> {
    let Some(domain) = domains.get("delta.clustering") else { return Ok(Vec::new()) };
    let configuration: Value = serde_json::from_str(&domain.configuration)
        .map_err(|error| Error::Damaged(format!("the domain delta.clustering: {error}")))?;
    let columns = configuration.get("clusteringColumns").and_then(Value::as_array);
    let path = |column: &Value| -> Option<Vec<String>> {
        match column {
            // Some writers give a nested column as one string, others as the list of its parts.
            Value::String(name) => Some(vec![name.clone()]),
            Value::Array(parts) => {
                parts.iter().map(|part| part.as_str().map(str::to_owned)).collect()
            }
            _ => None,
        }
    };
    Ok(columns.into_iter().flatten().filter_map(path).collect())
}
