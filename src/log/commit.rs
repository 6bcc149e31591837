//! One commit file, read for the interval table: what it adds and removes, and what it says of
//! itself.
//!
//! Lines are read into projected structs that borrow from the file, so that statistics, most of a
//! commit's bytes, are skipped and never copied. Whole actions are the business of `snapshot`.
//!
//! A line cut short is an error. A file cut exactly at the end of a line can't be told from a whole
//! commit: the protocol gives commits no length. A commit without any action is taken for a torn
//! one, as every writer puts at least a commitInfo or a change into it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::BufRead;
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::log::action::{
    Action, CommitInfo, DeletionVector, Metadata, PartitionValues, Protocol, Txn,
};
use crate::log::interval::FileState;
use crate::log::listing::LogFile;
use crate::log::path::FilePath;

/// No file is larger than this (1 EiB): a greater size in a log is damage.
pub const FILE_BYTES_MAX: u64 = 1 << 60;

/// One commit file, ready to apply.
#[derive(Clone, Debug)]
pub struct Commit {
    pub(super) file: LogFile,
    pub(super) content: CommitContent,
}

/// What a commit file says, in the order of its lines.
#[derive(Clone, Debug, Default)]
pub(super) struct CommitContent {
    pub changes: Vec<Change>,
    pub protocol: Option<Protocol>,
    pub metadata: Option<Metadata>,
    pub txns: Vec<Txn>,
    pub info: CommitSummary,
    /// Paths of the sidecars that the top level of a V2 checkpoint refers to.
    pub sidecars: Vec<String>,
}

/// The few fields of a commitInfo that facts are made of.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct CommitSummary {
    pub in_commit_timestamp: Option<i64>,
    pub operation: Option<String>,
    pub engine_info: Option<String>,
    pub txn_id: Option<String>,
}

impl CommitSummary {
    /// Reads a commitInfo. The protocol leaves its content to the writers, so a field of another
    /// type is no damage: it is as good as absent.
    fn read(info: &RawValue) -> CommitSummary {
        if let Ok(summary) = serde_json::from_str(info.get()) {
            return summary;
        }
        let fields: Map<String, Value> = serde_json::from_str(info.get()).unwrap_or_default();
        let text = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
        CommitSummary {
            in_commit_timestamp: fields.get("inCommitTimestamp").and_then(Value::as_i64),
            operation: text("operation"),
            engine_info: text("engineInfo"),
            txn_id: text("txnId"),
        }
    }
}

/// Reads a whole action. Errors: as [`Action::from_line`], but for a commitInfo, of which only what
/// a summary has is kept where its fields have other types.
pub(super) fn read_action(line: &[u8]) -> Result<Option<Action>> {
    let error = match Action::from_line(line) {
        Ok(action) => return Ok(action),
        Err(error) => error,
    };
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct OnlyInfo<'a> {
        #[serde(borrow)]
        commit_info: &'a RawValue,
    }
    let info: OnlyInfo<'_> = serde_json::from_slice(line).map_err(|_| error)?;
    let CommitSummary { in_commit_timestamp, operation, engine_info, txn_id } =
        CommitSummary::read(info.commit_info);
    let info =
        CommitInfo { in_commit_timestamp, operation, engine_info, txn_id, ..CommitInfo::default() };
    Ok(Some(Action::CommitInfo(info)))
}

/// One file action.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Add(Place, FileState),
    Remove(Place, Option<Box<DeletionVector>>),
}

/// Where a data file is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Inside(FilePath),
    /// Outside the table's folder, which makes the versions that hold it unreadable: the normalized
    /// URI and why it is not read.
    Outside(String, String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    #[serde(borrow)]
    add: Option<AddLine<'a>>,
    #[serde(borrow)]
    remove: Option<RemoveLine<'a>>,
    meta_data: Option<Metadata>,
    protocol: Option<Protocol>,
    txn: Option<Txn>,
    #[serde(borrow)]
    commit_info: Option<&'a RawValue>,
    sidecar: Option<SidecarLine>,
}

#[derive(Deserialize)]
struct SidecarLine {
    path: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AddLine<'a> {
    #[serde(borrow)]
    path: Cow<'a, str>,
    #[serde(borrow)]
    partition_values: Option<&'a RawValue>,
    size: i64,
    #[serde(default)]
    modification_time: i64,
    deletion_vector: Option<Box<DeletionVector>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RemoveLine<'a> {
    #[serde(borrow)]
    path: Cow<'a, str>,
    deletion_vector: Option<Box<DeletionVector>>,
}

impl Commit {
    /// Reads a commit file. Errors: [`Error::Damaged`] naming file, version and line.
    pub(super) fn parse(file: LogFile, bytes: &[u8]) -> Result<Commit> {
        let content = parse_content(&file, bytes)?;
        Ok(Commit { file, content })
    }

    /// The version that the commit makes.
    pub fn version(&self) -> crate::log::version::Version {
        self.file.version
    }

    /// The writer's id of the attempt, by which it finds out whether its commit took place.
    pub fn txn_id(&self) -> Option<&str> {
        self.content.info.txn_id.as_deref()
    }
}

/// Reads the lines of a commit, or of a V2 checkpoint's top level. Errors: as [`Commit::parse`].
pub(super) fn parse_content(file: &LogFile, bytes: &[u8]) -> Result<CommitContent> {
    let mut content = CommitContent::default();
    let mut interner = RawInterner::default();
    let mut last = 0;
    for (number, line) in lines(bytes) {
        read_line(line, &mut content, &mut interner)
            .map_err(|error| at_line(file, number, &error))?;
        last = number;
    }
    if last == 0 { Err(empty(file)) } else { Ok(content) }
}

/// The error of a log file without a line.
pub(super) fn empty(file: &LogFile) -> Error {
    let (name, version) = (&file.name, file.version);
    Error::Damaged(format!("{name} (version {version}) is empty: it was cut short"))
}

/// The error of one line of a log file; the variant stays damage whatever was wrong in it.
pub(super) fn at_line(file: &LogFile, number: usize, error: &Error) -> Error {
    Error::Damaged(format!("{} (version {}), line {number}: {error}", file.name, file.version))
}

/// The lines that aren't blank, with their numbers from 1.
pub(super) fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut rest = bytes;
    let mut number = 0;
    std::iter::from_fn(move || {
        loop {
            let all = rest;
            // Reading from memory never fails; skip_until is the standard library's memchr.
            let length = rest.skip_until(b'\n').unwrap_or(0);
            if length == 0 {
                return None;
            }
            number += 1;
            let line = all[..length].trim_ascii();
            if !line.is_empty() {
                return Some((number, line));
            }
        }
    })
}

fn read_line<'a>(
    line: &'a [u8],
    content: &mut CommitContent,
    interner: &mut RawInterner<'a>,
) -> Result<()> {
    // Derived readers take arrays for structs too; an action is an object.
    if !line.starts_with(b"{") {
        return Err(Error::Damaged("a line is not a JSON object".into()));
    }
    let line: Line<'a> =
        serde_json::from_slice(line).map_err(|error| Error::Damaged(error.to_string()))?;
    if let Some(add) = line.add {
        let partition_values = interner.values(add.partition_values)?;
        let (place, state) = file_added(
            &add.path,
            add.size,
            add.modification_time,
            partition_values,
            add.deletion_vector,
        )?;
        content.changes.push(Change::Add(place, state));
    }
    if let Some(remove) = line.remove {
        let place = place_removed(&remove.path, remove.deletion_vector.as_deref())?;
        content.changes.push(Change::Remove(place, remove.deletion_vector));
    }
    if let Some(info) = line.commit_info {
        content.info = CommitSummary::read(info);
    }
    content.metadata = line.meta_data.or(content.metadata.take());
    content.protocol = line.protocol.or(content.protocol.take());
    content.txns.extend(line.txn);
    content.sidecars.extend(line.sidecar.map(|sidecar| sidecar.path));
    Ok(())
}

/// Checks an added file, from a commit or a checkpoint. Errors: [`Error::Damaged`].
pub(super) fn file_added(
    path: &str,
    size: i64,
    modified_ms: i64,
    partition_values: Arc<PartitionValues>,
    deletion_vector: Option<Box<DeletionVector>>,
) -> Result<(Place, FileState)> {
    let size = file_size(path, size)?;
    let place = place_of(path, deletion_vector.as_deref())?;
    Ok((place, FileState { size, modified_ms, partition_values, deletion_vector }))
}

/// Where an added file is: outside the table too if its deletion vector is. Errors:
/// [`Error::Damaged`].
pub(super) fn place_of(path: &str, vector: Option<&DeletionVector>) -> Result<Place> {
    if let Some(vector) = vector {
        vector.check()?;
        if let Err(error) = vector.file() {
            let Error::Unsupported(why) = error else { return Err(error) };
            return Ok(Place::Outside(normalize_uri(path), why));
        }
    }
    place(path)
}

/// Where a removed file is, by the same rule; its deletion vector may be past reading. Errors:
/// [`Error::Damaged`].
pub(super) fn place_removed(path: &str, vector: Option<&DeletionVector>) -> Result<Place> {
    match vector {
        Some(vector) if vector.storage_type == "p" => {
            Ok(Place::Outside(normalize_uri(path), String::new()))
        }
        Some(_) | None => place(path),
    }
}

/// Checks a file's size. Errors: [`Error::Damaged`].
pub(super) fn file_size(path: &str, size: i64) -> Result<u64> {
    u64::try_from(size)
        .ok()
        .filter(|size| *size <= FILE_BYTES_MAX)
        .ok_or_else(|| Error::Damaged(format!("{path:?} can't have a size of {size} bytes")))
}

/// Decodes a path of the log. Errors: [`Error::Damaged`].
pub(super) fn place(encoded: &str) -> Result<Place> {
    match FilePath::from_log(encoded) {
        Ok(path) => Ok(Place::Inside(path)),
        Err(Error::Unsupported(why)) => Ok(Place::Outside(normalize_uri(encoded), why)),
        Err(error) => Err(error),
    }
}

/// One spelling of an absolute path: engines write `/a`, `file:/a` and `file:///a` for one file.
fn normalize_uri(encoded: &str) -> String {
    let path = encoded.strip_prefix("file:").unwrap_or(encoded);
    let path = path.strip_prefix("//").filter(|rest| rest.starts_with('/')).unwrap_or(path);
    percent_decode_str(path).decode_utf8_lossy().into_owned()
}

/// Shares the partition values of one file's adds, by their JSON text: few differ, so nearly none
/// is parsed.
#[derive(Default)]
struct RawInterner<'a> {
    by_text: HashMap<&'a str, Arc<PartitionValues>>,
    none: Arc<PartitionValues>,
}

impl<'a> RawInterner<'a> {
    fn values(&mut self, raw: Option<&'a RawValue>) -> Result<Arc<PartitionValues>> {
        let Some(raw) = raw.map(RawValue::get).filter(|text| *text != "{}" && *text != "null")
        else {
            return Ok(self.none.clone());
        };
        if let Some(values) = self.by_text.get(raw) {
            return Ok(values.clone());
        }
        let values: PartitionValues = serde_json::from_str(raw)
            .map_err(|error| Error::Damaged(format!("partitionValues: {error}")))?;
        let values = Arc::new(values);
        self.by_text.insert(raw, values.clone());
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::listing::LogFileKind;
    use crate::log::version::Version;

    const COMMIT: &str = concat!(
        r#"{"commitInfo":{"inCommitTimestamp":7,"operation":"WRITE","txnId":"t"}}"#,
        "\n",
        r#"{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}"#,
        "\n\n",
        r#"{"add":{"path":"p=1/a%20b","partitionValues":{"p":"1"},"size":3,"modificationTime":4,"dataChange":true,"stats":"{\"numRecords\":1}"}}"#,
        "\r\n",
        r#"{"remove":{"path":"p=1/c","dataChange":true,"deletionVector":{"storageType":"u","pathOrInlineDv":"^-aqEH.-t@S}K{vb[*k^","offset":1,"sizeInBytes":2,"cardinality":3}}}"#,
        "\n",
        r#"{"futureAction":{"x":1}}"#,
        "\n",
        r#"{"txn":{"appId":"app","version":5}}"#,
    );

    fn parse(text: &[u8]) -> Result<Commit> {
        let name = "00000000000000000003.json".to_owned();
        let (version, size) = (Version(3), text.len() as u64);
        let file = LogFile { name, kind: LogFileKind::Commit, version, size, modified_ms: 9 };
        Commit::parse(file, text)
    }

    #[test]
    fn a_commit_is_read_without_its_statistics() {
        let commit = parse(COMMIT.as_bytes()).unwrap();
        assert_eq!(commit.version(), Version(3));
        assert_eq!(commit.txn_id(), Some("t"));
        assert_eq!(commit.content.info.in_commit_timestamp, Some(7));
        assert_eq!(commit.content.txns[0].version, 5);
        let [
            Change::Add(Place::Inside(added), state),
            Change::Remove(Place::Inside(removed), vector),
        ] = commit.content.changes.as_slice()
        else {
            panic!("{:?}", commit.content.changes);
        };
        assert_eq!((added.as_str(), removed.as_str()), ("p=1/a b", "p=1/c"));
        assert_eq!((state.size, state.modified_ms), (3, 4));
        assert_eq!(state.partition_values["p"].as_deref(), Some("1"));
        assert!(vector.is_some());
    }

    #[test]
    fn a_commit_info_may_hold_what_it_likes() {
        let line = r#"{"commitInfo":{"operation":7,"txnId":"t","timestamp":"today","x":[1]}}"#;
        let commit = parse(line.as_bytes()).unwrap();
        assert_eq!((commit.content.info.operation.as_deref(), commit.txn_id()), (None, Some("t")));
        let Some(Action::CommitInfo(info)) = read_action(line.as_bytes()).unwrap() else {
            panic!("no commitInfo")
        };
        assert_eq!(info.txn_id.as_deref(), Some("t"));
        assert!(read_action(br#"{"commitInfo":{"txnId":"t"}"#).is_err());
        assert!(read_action(br#"{"add":{"path":1}}"#).is_err());
    }

    #[test]
    fn a_cut_at_any_offset_is_an_error_or_falls_on_the_end_of_a_line() {
        let whole = parse(COMMIT.as_bytes()).unwrap().content.changes.len();
        for cut in 0..COMMIT.len() {
            let text = &COMMIT.as_bytes()[..cut];
            let at_line_end =
                COMMIT[..cut].ends_with('}') && COMMIT[cut..].starts_with(['\n', '\r']);
            let after_line_end = COMMIT[..cut].ends_with(['\n', '\r']);
            match parse(text) {
                Ok(commit) => {
                    assert!(at_line_end || after_line_end, "cut at {cut} passed");
                    assert!(commit.content.changes.len() <= whole);
                }
                Err(Error::Damaged(message)) => {
                    assert!(
                        !(at_line_end || (after_line_end && cut > 0)),
                        "cut at {cut}: {message}"
                    );
                    assert!(message.contains("00000000000000000003.json"), "{message}");
                    assert!(message.contains("version 3"), "{message}");
                }
                Err(error) => panic!("cut at {cut}: {error:?}"),
            }
        }
    }

    #[test]
    fn damage_names_file_version_and_line() {
        for bad in [
            r#"{"add":{"path":"../x","size":1}}"#,
            r#"{"add":{"path":"a%00b","size":1}}"#,
            r#"{"add":{"path":"a","size":-1}}"#,
            r#"{"add":{"path":"a","size":9223372036854775808}}"#,
            r#"{"add":{"path":"a","size":9223372036854775807}}"#,
            r#"{"add":{"path":"a","size":"1"}}"#,
            r#"{"add":{"size":1}}"#,
            r#"{"add":{"path":"a","size":1,"partitionValues":{"p":1}}}"#,
            r#"{"add":{"path":"a","size":1,"deletionVector":{"storageType":"u","pathOrInlineDv":"x","sizeInBytes":1,"cardinality":1}}}"#,
            r#"{"add":{"path":"a","size":1}}{"add":{"path":"b","size":1}}"#,
            r#"{"remove":{"path":"a/../../b"}}"#,
            "[1]",
            "7",
            "null",
        ] {
            let text = format!("{{\"txn\":{{\"appId\":\"a\",\"version\":1}}}}\n{bad}\n");
            let error = parse(text.as_bytes()).unwrap_err();
            let Error::Damaged(message) = &error else { panic!("{bad}: {error:?}") };
            assert!(message.contains("00000000000000000003.json (version 3), line 2"), "{message}");
        }
    }

    #[test]
    fn absolute_paths_are_outside_under_one_spelling() {
        for path in ["/a/b%20c", "file:/a/b%20c", "file:///a/b%20c"] {
            let Place::Outside(uri, _) = place(path).unwrap() else { panic!("{path}") };
            assert_eq!(uri, "/a/b c");
        }
        let Place::Outside(uri, _) = place("s3://bucket/x").unwrap() else { panic!() };
        assert_eq!(uri, "s3://bucket/x");
    }
}
