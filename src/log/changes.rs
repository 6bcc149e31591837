//! What one commit does to a table, as far as another commit's fate depends on it.
//!
//! Made from a commit's lines, statistics skipped and never copied, or from the actions of a commit
//! that is still to be sent. What two of them mean for each other is the business of `conflict`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::{Error, Result};
use crate::log::action::{
    Action, CommitInfo, DeletionVector, DomainMetadata, PartitionValues, Protocol, Txn,
};
use crate::log::commit::{self, Place};

/// The domain in which a table keeps the highest row id that it gave out.
pub const ROW_TRACKING: &str = "delta.rowTracking";

/// What a commit changes, apart from the order of its lines.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    pub protocol: bool,
    pub metadata: bool,
    /// Names of the domains whose metadata it writes or removes, but for that of row ids.
    pub domains: BTreeSet<String>,
    /// The highest row id that the table gave out, where the commit says it.
    pub row_id_mark: Option<i64>,
    /// Applications whose transaction it writes.
    pub apps: BTreeSet<String>,
    pub adds: BTreeMap<FileId, FileFacts>,
    /// All of them, also those that only rearrange rows.
    pub removes: BTreeMap<FileId, FileFacts>,
    /// Whether its writer says that it only adds files and read none; false where nothing is said.
    pub is_blind_append: bool,
}

/// A logical file (protocol: "Action Reconciliation"): a data file without the rows that one
/// deletion vector takes from it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileId {
    /// Decoded; a URI where the file is outside the table's folder.
    pub path: String,
    /// [`DeletionVector::unique_id`].
    pub vector: Option<String>,
}

/// What a commit says of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileFacts {
    /// By physical name; `None`: a remove that doesn't say.
    pub partition_values: Option<PartitionValues>,
    /// False where the commit only rearranges rows.
    pub data_change: bool,
    pub base_row_id: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    #[serde(borrow)]
    add: Option<FileLine<'a>>,
    #[serde(borrow)]
    remove: Option<FileLine<'a>>,
    meta_data: Option<IgnoredAny>,
    protocol: Option<Protocol>,
    txn: Option<Txn>,
    domain_metadata: Option<DomainMetadata>,
    #[serde(borrow)]
    commit_info: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileLine<'a> {
    #[serde(borrow)]
    path: Cow<'a, str>,
    partition_values: Option<PartitionValues>,
    #[serde(default = "yes")]
    data_change: bool,
    deletion_vector: Option<DeletionVector>,
    base_row_id: Option<i64>,
}

fn yes() -> bool {
    true
}

impl Changes {
    /// Reads the lines of a commit. Errors: [`Error::Damaged`]; the caller names the file.
    pub fn read(bytes: &[u8]) -> Result<Changes> {
        let mut changes = Changes::default();
        for (number, line) in commit::lines(bytes) {
            changes.take_line(line).map_err(|error| error.during(&format!("line {number}")))?;
        }
        Ok(changes)
    }

    /// The changes of a commit that is still to be sent. Errors: [`Error::Damaged`] for paths that
    /// lead out of the table.
    pub fn of(info: &CommitInfo, actions: &[Action]) -> Result<Changes> {
        let says = info.unknown.get("isBlindAppend").and_then(Value::as_bool);
        let mut changes = Changes { is_blind_append: says.unwrap_or(false), ..Changes::default() };
        for action in actions {
            match action {
                Action::Add(add) => {
                    let id = FileId::of(&add.path, add.deletion_vector.as_ref())?;
                    changes.adds.insert(
                        id,
                        FileFacts {
                            partition_values: Some(add.partition_values.clone()),
                            data_change: add.data_change,
                            base_row_id: add.base_row_id,
                        },
                    );
                }
                Action::Remove(remove) => {
                    let id = FileId::of(&remove.path, remove.deletion_vector.as_ref())?;
                    changes.removes.insert(
                        id,
                        FileFacts {
                            partition_values: remove.partition_values.clone(),
                            data_change: remove.data_change,
                            base_row_id: remove.base_row_id,
                        },
                    );
                }
                Action::MetaData(_) => changes.metadata = true,
                Action::Protocol(_) => changes.protocol = true,
                Action::Txn(txn) => drop(changes.apps.insert(txn.app_id.clone())),
                Action::DomainMetadata(domain) => changes.take_domain(domain),
                Action::CommitInfo(_) | Action::Cdc(_) => {}
            }
        }
        Ok(changes)
    }

    /// Whether the commit changes no row: it only rearranges files (protocol: "dataChange").
    pub fn only_rearranges(&self) -> bool {
        let mut files = self.adds.values().chain(self.removes.values()).peekable();
        let is_plain =
            !self.protocol && !self.metadata && self.domains.is_empty() && self.apps.is_empty();
        is_plain && files.peek().is_some() && files.all(|file| !file.data_change)
    }

    /// What is added under a path; one logical file, but for a commit that breaks the protocol.
    pub fn added<'a>(&'a self, path: &'a str) -> impl Iterator<Item = (&'a FileId, &'a FileFacts)> {
        at_path(&self.adds, path)
    }

    /// What is removed under a path.
    pub fn removed<'a>(
        &'a self,
        path: &'a str,
    ) -> impl Iterator<Item = (&'a FileId, &'a FileFacts)> {
        at_path(&self.removes, path)
    }

    fn take_line(&mut self, line: &[u8]) -> Result<()> {
        if !line.starts_with(b"{") {
            return Err(Error::Damaged("a line is not a JSON object".into()));
        }
        let line: Line<'_> =
            serde_json::from_slice(line).map_err(|error| Error::Damaged(error.to_string()))?;
        if let Some(add) = line.add {
            let (id, facts) = add.file()?;
            self.adds.insert(id, facts);
        }
        if let Some(remove) = line.remove {
            let (id, facts) = remove.file()?;
            self.removes.insert(id, facts);
        }
        self.metadata |= line.meta_data.is_some();
        self.protocol |= line.protocol.is_some();
        self.apps.extend(line.txn.map(|txn| txn.app_id));
        if let Some(domain) = line.domain_metadata {
            self.take_domain(&domain);
        }
        if let Some(info) = line.commit_info {
            // What a commitInfo holds is left to its writer, so nothing in it is damage.
            let info: Value = serde_json::from_str(info.get()).unwrap_or_default();
            self.is_blind_append =
                info.get("isBlindAppend").and_then(Value::as_bool).unwrap_or(false);
        }
        Ok(())
    }

    fn take_domain(&mut self, domain: &DomainMetadata) {
        if domain.domain == ROW_TRACKING {
            self.row_id_mark = domain.row_id_mark();
        } else {
            self.domains.insert(domain.domain.clone());
        }
    }
}

impl FileLine<'_> {
    fn file(self) -> Result<(FileId, FileFacts)> {
        let id = FileId::of(&self.path, self.deletion_vector.as_ref())?;
        let (partition_values, data_change) = (self.partition_values, self.data_change);
        Ok((id, FileFacts { partition_values, data_change, base_row_id: self.base_row_id }))
    }
}

impl FileId {
    /// The file of an action. Errors: [`Error::Damaged`] for a path that leads out of the table.
    pub fn of(encoded: &str, vector: Option<&DeletionVector>) -> Result<FileId> {
        let path = match commit::place(encoded)? {
            Place::Inside(path) => path.as_str().to_owned(),
            Place::Outside(uri) => uri,
        };
        Ok(FileId { path, vector: vector.map(DeletionVector::unique_id) })
    }
}

impl DomainMetadata {
    /// The highest row id that a table gave out, where this is the domain that has it.
    pub fn row_id_mark(&self) -> Option<i64> {
        if self.domain != ROW_TRACKING || self.removed {
            return None;
        }
        let configuration: Value = serde_json::from_str(&self.configuration).ok()?;
        configuration.get("rowIdHighWaterMark")?.as_i64()
    }
}

fn at_path<'a>(
    files: &'a BTreeMap<FileId, FileFacts>,
    path: &'a str,
) -> impl Iterator<Item = (&'a FileId, &'a FileFacts)> {
    let first = FileId { path: path.to_owned(), vector: None };
    files.range(first..).take_while(move |(id, _)| id.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = r#"{"commitInfo":{"operation":"DELETE","isBlindAppend":false,"x":[1]}}
{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":[],"writerFeatures":[]}}
{"metaData":{"id":"t","format":{"provider":"parquet","options":{}},"schemaString":"{}","partitionColumns":[],"configuration":{}}}
{"txn":{"appId":"app","version":7}}
{"domainMetadata":{"domain":"delta.rowTracking","configuration":"{\"rowIdHighWaterMark\":9}","removed":false}}
{"domainMetadata":{"domain":"mine","configuration":"","removed":true}}
{"remove":{"path":"p=1/a%20b","deletionTimestamp":1,"dataChange":true}}
{"remove":{"path":"c","dataChange":false,"partitionValues":{"p":null},"baseRowId":4,"deletionVector":{"storageType":"u","pathOrInlineDv":"ab","offset":1,"sizeInBytes":3,"cardinality":1}}}
{"add":{"path":"p=1/a%20b","partitionValues":{"p":"1"},"size":3,"modificationTime":1,"dataChange":true,"stats":"{}","deletionVector":{"storageType":"i","pathOrInlineDv":"x","sizeInBytes":3,"cardinality":1}}}
{"cdc":{"path":"_change_data/x","size":1,"dataChange":false,"partitionValues":{}}}
{"unknown":{"path":7}}
"#;

    #[test]
    fn lines_and_actions_say_the_same() {
        let read = Changes::read(LINES.as_bytes()).unwrap();
        let mut actions = Vec::new();
        for line in LINES.lines() {
            actions.extend(Action::from_line(line.as_bytes()).unwrap());
        }
        assert_eq!(read, Changes::of(&CommitInfo::default(), &actions).unwrap());
        assert!(read.protocol && read.metadata && !read.is_blind_append);
        assert_eq!((read.row_id_mark, read.domains.len()), (Some(9), 1));
        assert!(read.apps.contains("app") && read.domains.contains("mine"));
        let (id, facts) = read.removed("c").next().unwrap();
        assert_eq!((id.vector.as_deref(), facts.base_row_id), (Some("uab@1"), Some(4)));
        assert!(!facts.data_change && read.removed("p=1/a b").all(|(_, file)| file.data_change));
        let (id, _) = read.added("p=1/a b").next().unwrap();
        assert_eq!(id.vector.as_deref(), Some("ix"));
        assert_eq!(read.added("p=1").count() + read.added("p=1/a b/").count(), 0);
    }

    #[test]
    fn a_blind_append_is_one_that_says_so() {
        let read = |info: &str| Changes::read(format!("{{\"commitInfo\":{info}}}").as_bytes());
        assert!(read(r#"{"isBlindAppend":true}"#).unwrap().is_blind_append);
        for info in ["{}", r#"{"isBlindAppend":"true"}"#, "7", r#"{"isBlindAppend":null}"#] {
            assert!(!read(info).unwrap().is_blind_append, "{info}");
        }
    }

    #[test]
    fn damage_names_the_line() {
        for bad in ["[]", "{\"add\":{}}", "{\"remove\":{\"path\":\"../x\"}}", "{\"txn\":"] {
            let error = Changes::read(format!("{{}}\n{bad}\n").as_bytes()).unwrap_err();
            assert!(matches!(&error, Error::Damaged(why) if why.contains("line 2")), "{error:?}");
        }
    }
}
