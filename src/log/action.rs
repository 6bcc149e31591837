//! The actions of a commit, as the protocol's section "Actions" has them, and their JSON lines.
//!
//! A field that we don't know is kept in `unknown` and written back as it came, so that an action
//! copied from an older commit (restore, checkpoint) loses nothing. Which actions make up a table's
//! state is the business of `replay`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::log::path::FilePath;

/// Values of partition columns by physical name; `None` is null.
pub type PartitionValues = BTreeMap<String, Option<String>>;

/// Adds a data file, or changes what the log says of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Add {
    /// Percent-encoded, relative to the table's root.
    pub path: String,
    /// Serialized per the protocol's section "Partition Value Serialization".
    #[serde(default)]
    pub partition_values: PartitionValues,
    /// Size of the file in bytes; negative sizes are refused where the log is read.
    pub size: i64,
    /// Milliseconds since the epoch.
    #[serde(default)]
    pub modification_time: i64,
    /// False where the commit only rearranges rows.
    #[serde(default = "yes")]
    pub data_change: bool,
    /// JSON text, per the protocol's section "Per-file Statistics".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, Option<String>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_vector: Option<DeletionVector>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_row_id: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_row_commit_version: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clustering_provider: Option<String>,
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// Takes a data file out of the table; it stays as a tombstone until its retention is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Remove {
    pub path: String,
    /// Milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<i64>,
    #[serde(default = "yes")]
    pub data_change: bool,
    /// True where partitionValues, size and tags are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extended_file_metadata: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_values: Option<PartitionValues>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, Option<String>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_vector: Option<DeletionVector>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_row_id: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_row_commit_version: Option<i64>,
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// Where a deletion vector is (protocol: "Deletion Vector Descriptor Schema").
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeletionVector {
    /// `u` (relative, a UUID), `i` (inline) or `p` (absolute path).
    pub storage_type: String,
    pub path_or_inline_dv: String,
    /// Byte offset in the file; absent for inline ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<i32>,
    /// Serialized size in bytes, before any encoding.
    pub size_in_bytes: i32,
    /// Number of rows deleted.
    pub cardinality: i64,
}

/// What the table is: id, schema, partitioning, properties.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default)]
    pub format: Format,
    /// JSON text, per the protocol's section "Schema Serialization Format".
    pub schema_string: String,
    /// Logical names.
    #[serde(default)]
    pub partition_columns: Vec<String>,
    #[serde(default)]
    pub configuration: BTreeMap<String, String>,
    /// Milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_time: Option<i64>,
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// How data files are written; `parquet` in every table there is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Format {
    pub provider: String,
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

impl Default for Format {
    fn default() -> Format {
        Format { provider: "parquet".into(), options: BTreeMap::new() }
    }
}

/// What a client must be able to do (protocol: "Protocol Evolution").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Protocol {
    pub min_reader_version: i32,
    pub min_writer_version: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reader_features: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer_features: Option<Vec<String>>,
}

/// The last version that an application wrote (protocol: "Transaction Identifiers").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Txn {
    pub app_id: String,
    pub version: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_updated: Option<i64>,
}

/// A named configuration of a feature (protocol: "Domain Metadata").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DomainMetadata {
    pub domain: String,
    pub configuration: String,
    pub removed: bool,
}

/// Who committed what; free-form but for a few fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommitInfo {
    /// Milliseconds since the epoch; where in-commit timestamps are on, required and first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_commit_timestamp: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_info: Option<String>,
    /// Unique to one attempt; by it a writer finds out whether its commit took place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub txn_id: Option<String>,
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// One action, the one key of a line's JSON object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    Add(Add),
    Remove(Remove),
    MetaData(Metadata),
    Protocol(Protocol),
    Txn(Txn),
    DomainMetadata(DomainMetadata),
    CommitInfo(CommitInfo),
    /// A file of the change data feed; not part of the table's state.
    Cdc(Value),
}

impl Action {
    /// Reads one line of a commit. `Ok(None)` is an action that the protocol lets readers ignore.
    /// Errors: [`Error::Damaged`] with the parser's reason; the caller names file and line.
    pub fn from_line(line: &[u8]) -> Result<Option<Action>> {
        match serde_json::from_slice::<Action>(line) {
            Ok(action) => Ok(Some(action)),
            Err(error) => {
                // An unknown action is a valid object with one unknown key; all else is damage.
                match serde_json::from_slice::<Map<String, Value>>(line) {
                    Ok(object) if !object.keys().any(|key| KNOWN.contains(&key.as_str())) => {
                        Ok(None)
                    }
                    Ok(_) | Err(_) => Err(Error::Damaged(error.to_string())),
                }
            }
        }
    }

    /// Writes the action as one line, without its line feed.
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).expect("BUG: an action has only string keys")
    }
}

const KNOWN: [&str; 8] =
    ["add", "remove", "metaData", "protocol", "txn", "domainMetadata", "commitInfo", "cdc"];

impl Add {
    /// The decoded path.
    pub fn file_path(&self) -> Result<FilePath> {
        FilePath::from_log(&self.path)
    }

    /// The tombstone that takes this file out, with all that the protocol wants of one.
    pub fn to_remove(&self, deletion_timestamp: i64) -> Remove {
        Remove {
            path: self.path.clone(),
            deletion_timestamp: Some(deletion_timestamp),
            data_change: true,
            extended_file_metadata: Some(true),
            partition_values: Some(self.partition_values.clone()),
            size: Some(self.size),
            stats: None,
            tags: self.tags.clone(),
            deletion_vector: self.deletion_vector.clone(),
            base_row_id: self.base_row_id,
            default_row_commit_version: self.default_row_commit_version,
            unknown: Map::new(),
        }
    }
}

impl DeletionVector {
    /// What tells two deletion vectors apart: storage type, path or content, and offset
    /// (protocol: "Action Reconciliation").
    pub fn unique_id(&self) -> String {
        match self.offset {
            Some(offset) => format!("{}{}@{offset}", self.storage_type, self.path_or_inline_dv),
            None => format!("{}{}", self.storage_type, self.path_or_inline_dv),
        }
    }
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_add_keeps_fields_that_nobody_knows() {
        let line = br#"{"add":{"path":"a","partitionValues":{"p":null},"size":1,"modificationTime":2,"dataChange":true,"future":{"x":[1]}}}"#;
        let action = Action::from_line(line).unwrap().unwrap();
        assert_eq!(action.to_line().as_bytes(), line);
    }

    #[test]
    fn an_unknown_action_is_ignored_and_a_cut_line_is_not() {
        assert_eq!(Action::from_line(br#"{"newThing":{"x":1}}"#).unwrap(), None);
        assert!(Action::from_line(br#"{"add":{"path":"a","si"#).is_err());
        assert!(Action::from_line(br#"{"add":{"path":"a"}}"#).is_err());
        assert!(Action::from_line(b"7").is_err());
    }
}
