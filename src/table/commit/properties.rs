//! `.deltafs/properties` of a staging directory: table properties that its next commit sets and
//! takes away, and what the table's protocol and metadata become by them.
//!
//! `KEY=VALUE` sets, `-KEY` takes away. What a property is and what its value must be is
//! `log::properties`; here is what follows from the table that it meets. All is decided on plain
//! values, anew against each newest version.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::examine::Opened;
use super::plan::{Newest, is_on};
use crate::error::{Error, Result};
use crate::log::action::{Metadata, Protocol};
use crate::log::column_mapping;
use crate::log::properties::{
    COLUMN_MAPPING_MARK, COLUMN_MAPPING_MODE as MODE, ROW_ID_COLUMN, ROW_TRACKING,
    ROW_TRACKING_SUSPENDED, ROW_VERSION_COLUMN, Setting, check_columns, is_internal,
    needed_feature, setting, unsetting,
};
use crate::log::protocol::supports;
use crate::log::protocol::upgrade::{with_required, with_versions};
use crate::log::schema::Schema;
use crate::log::timestamp;
use crate::table::Table;

/// What is to be set and taken away, checked as far as the lines alone tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    set: BTreeMap<String, String>,
    reader: Option<i32>,
    writer: Option<i32>,
    features: BTreeSet<&'static str>,
    /// As they were written.
    unset: BTreeSet<String>,
}

impl Properties {
    /// Reads the lines; empty ones and those that begin with `#` say nothing.
    /// Errors: [`Error::Refused`] naming the line or the property.
    pub fn parse(text: &str) -> Result<Properties> {
        let mut properties = Properties::default();
        let mut seen = BTreeSet::new();
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (key, value) = match (line.strip_prefix('-'), line.split_once('=')) {
                (Some(key), None) => (key.trim(), None),
                (None, Some((key, value))) => (key.trim(), Some(value.trim())),
                (Some(_), Some(_)) | (None, None) => {
                    return Err(Error::Refused(format!(
                        "property line {line:?} is neither KEY=VALUE, which sets a property, nor \
                         -KEY, which takes one away"
                    )));
                }
            };
            if key.is_empty() {
                return Err(Error::Refused(format!("property line {line:?} has no name")));
            }
            if matches!(key, "mode" | "merge_schema" | "txn") {
                return Err(Error::Refused(format!(
                    "{key} is an option of the commit; write it to .deltafs/options"
                )));
            }
            let is_deltas = key.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("delta."));
            let name = if is_deltas { key.to_lowercase() } else { key.to_owned() };
            if !seen.insert(name) {
                return Err(Error::Refused(format!("property {key} is given twice")));
            }
            match value {
                Some(value) => properties.set(setting(key, value)?),
                None => drop(properties.unset.insert(key.to_owned())),
            }
        }
        Ok(properties)
    }

    fn set(&mut self, setting: Setting) {
        match setting {
            Setting::Property { key, value } => drop(self.set.insert(key, value)),
            Setting::ReaderVersion(version) => self.reader = Some(version),
            Setting::WriterVersion(version) => self.writer = Some(version),
            Setting::Feature(name) => drop(self.features.insert(name)),
        }
    }

    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        *self == Properties::default()
    }

    /// Whether all files of the table must be known: those without row ids get some.
    pub fn needs_files(&self) -> bool {
        self.set.get(ROW_TRACKING).is_some_and(|value| value == "true")
    }

    /// The table as it is with the properties. `new`: the first file of a table that the commit
    /// makes. `unique`: never the same again for another table.
    /// Errors: [`Error::Refused`] naming what the table can't have or give up.
    pub fn applied(&self, table: &Newest, new: Option<&Opened>, unique: &str) -> Result<Newest> {
        if self.is_empty() {
            return Ok(table.clone());
        }
        let mut metadata = (*table.metadata).clone();
        for key in &self.unset {
            if let Some(held) = unsetting(key, &metadata.configuration)? {
                metadata.configuration.remove(&held);
            }
        }
        metadata.configuration.extend(self.set.clone());
        let protocol = self.protocol(table)?;
        let mut schema = Schema::from_json(&metadata.schema_string)?;
        for (key, value) in &self.set {
            check_columns(key, value, &metadata, &schema)?;
        }
        // As of a reader, for which a mode without its feature is none.
        let is_mode = supports(&protocol, "columnMapping") || self.set.contains_key(MODE);
        let mode = metadata.configuration.get(MODE).filter(|_| is_mode).cloned();
        let before = table.metadata.configuration.get(MODE);
        let before = before.filter(|_| supports(&table.protocol, "columnMapping")).cloned();
        let modes = [before, mode].map(|mode| mode.unwrap_or_else(|| "none".into()));
        let protocol = map_columns(&protocol, &mut metadata, &mut schema, modes, new)?;
        track_rows(&protocol, &mut metadata, unique)?;
        if timestamp::has_in_commit_timestamps(&table.metadata)
            && !timestamp::has_in_commit_timestamps(&metadata)
        {
            // When they begin again, another version is the first.
            metadata.configuration.retain(|key, _| !timestamp::ENABLEMENT.contains(&key.as_str()));
        }
        Ok(Newest { protocol: Arc::new(protocol), metadata: Arc::new(metadata), ..table.clone() })
    }

    /// The protocol that the properties ask for, by the smallest step.
    fn protocol(&self, table: &Newest) -> Result<Protocol> {
        let protocol = with_versions(&table.protocol, self.reader, self.writer)?;
        let needed =
            self.set.iter().filter_map(|(key, value)| needed_feature(key, value, &protocol));
        let wanted = self.features.iter().copied().filter(|name| !supports(&protocol, name));
        let features: Vec<&str> = needed.chain(wanted).collect();
        Ok(with_required(&protocol, &features))
    }

    /// What commitInfo calls a commit of properties alone, as Spark does.
    pub fn operation(&self) -> &'static str {
        match self.set.is_empty() && self.protocol_settings().is_empty() {
            true => "UNSET TBLPROPERTIES",
            false => "SET TBLPROPERTIES",
        }
    }

    /// Its operationParameters.
    pub fn parameters(&self) -> Value {
        let text = |value: Value| Value::String(value.to_string());
        if self.operation().starts_with("UNSET") {
            return json!({ "properties": text(json!(self.unset)), "ifExists": true });
        }
        let mut set = self.set.clone();
        set.extend(self.protocol_settings());
        let mut parameters = json!({ "properties": text(json!(set)) });
        if !self.unset.is_empty() {
            // Spark needs a second commit for these.
            parameters["unset"] = text(json!(self.unset));
        }
        parameters
    }

    fn protocol_settings(&self) -> BTreeMap<String, String> {
        let version = |name: &str, version: Option<i32>| {
            version.map(|version| (format!("delta.{name}"), version.to_string()))
        };
        let features = self.features.iter();
        let features = features.map(|name| (format!("delta.feature.{name}"), "supported".into()));
        let versions =
            [version("minReaderVersion", self.reader), version("minWriterVersion", self.writer)];
        versions.into_iter().flatten().chain(features).collect()
    }
}

/// Checks the lines, and what follows from them for the table as it is known now, without a look at
/// the store. Errors: [`Error::Refused`]; the next sync would end with the same.
pub fn check(table: &Table, text: &str) -> Result<()> {
    let properties = Properties::parse(text)?;
    let known = table.read(|history| {
        let version = history.newest().ok()?;
        let facts = history.facts(version)?;
        Some(Newest {
            version,
            protocol: facts.protocol.clone(),
            metadata: facts.metadata.clone(),
            commit_time_ms: facts.commit_time_ms,
            snapshot: None,
        })
    });
    match known {
        Ok(Some(newest)) => properties.applied(&newest, None, "").map(drop),
        // There is no table yet, or none that can be read; the sync says which.
        Ok(None) | Err(_) => Ok(()),
    }
}

/// Turns column mapping on, where the mode goes so.
/// Errors: [`Error::Refused`] for any other change of it.
fn map_columns(
    protocol: &Protocol,
    metadata: &mut Metadata,
    schema: &mut Schema,
    [from, to]: [String; 2],
    new: Option<&Opened>,
) -> Result<Protocol> {
    if from == to {
        return Ok(protocol.clone());
    }
    let refuse =
        |why: &str| Err(Error::Refused(format!("{MODE} can't go from {from} to {to}: {why}")));
    let columns = new.map_or(&[][..], |file| file.footer.columns());
    match (from.as_str(), to.as_str(), new) {
        ("none", "name", _) => {}
        ("none", "id", Some(_)) if column_mapping::has_ids(columns) => {}
        ("none", "id", Some(_)) => {
            return refuse("the staged files have no Parquet field ids to find their columns by");
        }
        ("none", "id", None) => {
            return refuse(
                "the files of this table were not written with ids; the mode name works",
            );
        }
        _ => {
            return refuse("its files can only be read with the mode that they were written in");
        }
    }
    let mark = metadata.configuration.get(COLUMN_MAPPING_MARK).and_then(|mark| mark.parse().ok());
    let mark = column_mapping::assign(schema, columns, mark.unwrap_or(0))?;
    metadata.schema_string = schema.to_json();
    metadata.configuration.insert(COLUMN_MAPPING_MARK.into(), mark.to_string());
    Ok(with_required(protocol, &["columnMapping"]))
}

/// Names the columns in which engines keep the ids of rows that they move (protocol: "Row
/// Tracking").
fn track_rows(protocol: &Protocol, metadata: &mut Metadata, unique: &str) -> Result<()> {
    if is_on(metadata, ROW_TRACKING) && is_on(metadata, ROW_TRACKING_SUSPENDED) {
        return Err(Error::Refused(format!(
            "{ROW_TRACKING} can't be set while row ids are suspended; take that away too, by a \
             line -{ROW_TRACKING_SUSPENDED}"
        )));
    }
    if !supports(protocol, "rowTracking") {
        return Ok(());
    }
    let columns = [(ROW_ID_COLUMN, "_row-id-col"), (ROW_VERSION_COLUMN, "_row-commit-version-col")];
    for (key, prefix) in columns {
        let name = || format!("{prefix}-{unique}");
        metadata.configuration.entry(key.into()).or_insert_with(name);
    }
    Ok(())
}

/// The lines of `.deltafs/changes` about what a table is: properties, columns, protocol.
pub fn changes(newest: Option<&Newest>, protocol: &Protocol, metadata: &Metadata) -> Vec<String> {
    let none = BTreeMap::new();
    let before = newest.map_or(&none, |newest| &newest.metadata.configuration);
    let now = &metadata.configuration;
    let set = now.iter().filter(|(key, value)| before.get(*key) != Some(value));
    let set = set.map(|(key, value)| (key, format!("~ {key}={value}")));
    let unset = before.keys().filter(|key| !now.contains_key(*key));
    let unset = unset.map(|key| (key, format!("~ -{key}")));
    let mut lines: Vec<(&String, String)> =
        set.chain(unset).filter(|(key, _)| !is_internal(key)).collect();
    lines.sort();
    let mut lines: Vec<String> = lines.into_iter().map(|(_, line)| line).collect();
    if newest.is_some_and(|newest| newest.metadata.schema_string != metadata.schema_string) {
        lines.push("~ schema".to_owned());
    }
    if newest.is_some_and(|newest| *newest.protocol != *protocol) {
        let names: BTreeSet<&str> = [&protocol.reader_features, &protocol.writer_features]
            .into_iter()
            .flatten()
            .flatten()
            .map(String::as_str)
            .collect();
        let names: Vec<&str> = names.into_iter().collect();
        lines.push(format!(
            "~ protocol: reader {}, writer {}{}{}",
            protocol.min_reader_version,
            protocol.min_writer_version,
            if names.is_empty() { "" } else { ": " },
            names.join(", ")
        ));
    }
    lines
}

#[cfg(test)]
mod tests;
