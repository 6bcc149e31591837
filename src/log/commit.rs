//! One commit file, read for the interval table: what it adds and removes, and what it says of
//! itself.
//!
//! Lines are read into projected structs that borrow from the file, so that statistics, most of a
//! commit's bytes, are skipped and never copied. `lines` brings them, some at a time, so that a
//! commit is parsed on several threads. Whole actions are the business of `snapshot`.
//!
//! A line cut short is an error. A file cut exactly at the end of a line can't be told from a whole
//! commit: the protocol gives commits no length. A commit without any action is taken for a torn
//! one, as every writer puts at least a commitInfo or a change into it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::BufRead;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::error::{Error, Result};
use crate::log::action::{
    Action, CommitInfo, DeletionVector, DomainMetadata, Metadata, PartitionValues, Protocol, Txn,
};
use crate::log::file_actions::{FileActions, Stat};
use crate::log::listing::LogFile;
use crate::log::path::FilePath;
use crate::log::values::{PartitionSet, SetWriter, ValuesId};
use crate::store::normalized;

/// No file is larger than this (1 EiB): a greater size in a log is damage.
pub const FILE_BYTES_MAX: u64 = 1 << 60;
/// A line with a schema, properties or a protocol has no more bytes: what is made of it takes many
/// times as many.
const WHOLE_LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What is told of damage.
const SENTENCE_BYTES_MAX: usize = 8 * 1024;

/// One commit file, ready to apply.
#[derive(Clone, Debug)]
pub struct Commit {
    pub(super) file: LogFile,
    pub(super) content: CommitContent,
}

/// What a commit file says.
#[derive(Clone, Debug, Default)]
pub(super) struct CommitContent {
    /// In the order of the lines.
    pub changes: Vec<FileActions>,
    pub protocol: Option<Protocol>,
    pub metadata: Option<Metadata>,
    pub txns: Vec<Txn>,
    pub domains: Vec<DomainMetadata>,
    pub info: CommitSummary,
    /// Paths of the sidecars that the top level of a V2 checkpoint refers to.
    pub sidecars: Vec<String>,
}

/// The few fields of a commitInfo that facts are made of.
#[derive(Clone, Debug, Default)]
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
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        struct Fields<'a> {
            #[serde(borrow)]
            in_commit_timestamp: Option<&'a RawValue>,
            #[serde(borrow)]
            operation: Option<&'a RawValue>,
            #[serde(borrow)]
            engine_info: Option<&'a RawValue>,
            #[serde(borrow)]
            txn_id: Option<&'a RawValue>,
        }
        let fields: Fields<'_> = serde_json::from_str(info.get()).unwrap_or_default();
        let text = |field: Option<&RawValue>| serde_json::from_str(field?.get()).ok();
        let time = fields.in_commit_timestamp;
        CommitSummary {
            in_commit_timestamp: time.and_then(|time| serde_json::from_str(time.get()).ok()),
            operation: text(fields.operation),
            engine_info: text(fields.engine_info),
            txn_id: text(fields.txn_id),
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

/// The path of the sidecar that a line of a V2 checkpoint refers to. Errors: [`Error::Damaged`].
pub(super) fn read_sidecar(line: &[u8]) -> Result<Option<String>> {
    #[derive(Deserialize)]
    struct OnlySidecar {
        sidecar: Option<SidecarLine>,
    }
    let line: OnlySidecar =
        serde_json::from_slice(line).map_err(|error| Error::Damaged(error.to_string()))?;
    Ok(line.sidecar.map(|sidecar| sidecar.path))
}

/// Where a data file is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Inside(FilePath),
    /// By an absolute path or URI, in its one spelling; it may lead into the table's folder.
    Outside(String),
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
    domain_metadata: Option<DomainMetadata>,
    #[serde(borrow)]
    commit_info: Option<&'a RawValue>,
    sidecar: Option<SidecarLine>,
}

/// A line that is too long to be taken in whole.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LongLine {
    meta_data: Option<IgnoredAny>,
    protocol: Option<IgnoredAny>,
    txn: Option<IgnoredAny>,
    domain_metadata: Option<IgnoredAny>,
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
    /// The version that the commit makes.
    pub fn version(&self) -> crate::log::version::Version {
        self.file.version
    }

    /// The writer's id of the attempt, by which it finds out whether its commit took place.
    pub fn txn_id(&self) -> Option<&str> {
        self.content.info.txn_id.as_deref()
    }
}

/// Some lines of a commit, or of a V2 checkpoint's top level, read.
#[derive(Debug, Default)]
pub(super) struct ParsedLines {
    content: CommitContent,
    has_info: bool,
    /// How many there were, blank ones among them.
    lines: usize,
    /// The last one that isn't blank.
    last: usize,
}

impl ParsedLines {
    /// Reads lines. Errors: the number of the line, from 1, and what is wrong with it.
    pub fn parse(bytes: &[u8]) -> std::result::Result<ParsedLines, (usize, Error)> {
        let mut parsed = ParsedLines::default();
        let mut changes = FileActions::default();
        let mut interner = RawInterner::default();
        let mut all = lines(bytes);
        for (number, line) in &mut all {
            read_line(line, &mut parsed, &mut changes, &mut interner)
                .map_err(|error| (number, error))?;
            parsed.last = number;
        }
        parsed.lines = all.number;
        if !changes.is_empty() {
            parsed.content.changes.push(changes);
        }
        Ok(parsed)
    }

    /// Takes in the lines that follow.
    pub fn append(&mut self, after: ParsedLines) {
        if after.last > 0 {
            self.last = self.lines + after.last;
        }
        self.lines += after.lines;
        if after.has_info {
            self.content.info = after.content.info.clone();
            self.has_info = true;
        }
        self.content.append(after.content);
    }

    pub fn lines(&self) -> usize {
        self.lines
    }

    /// What all lines of the file say. Errors: [`Error::Damaged`] where there was none.
    pub fn finish(self, file: &LogFile) -> Result<CommitContent> {
        if self.last == 0 { Err(empty(file)) } else { Ok(self.content) }
    }
}

impl CommitContent {
    /// Takes in what the next lines, or another file of the same checkpoint, say; not who wrote it.
    pub(super) fn append(&mut self, other: CommitContent) {
        self.changes.extend(other.changes);
        self.protocol = other.protocol.or(self.protocol.take());
        self.metadata = other.metadata.or(self.metadata.take());
        self.txns.extend(other.txns);
        self.domains.extend(other.domains);
        self.sidecars.extend(other.sidecars);
    }
}

/// The error of a log file without a line.
pub(super) fn empty(file: &LogFile) -> Error {
    let (name, version) = (&file.name, file.version);
    Error::Damaged(format!("{name} (version {version}) is empty: it was cut short"))
}

/// The error of one line of a log file; the variant stays damage whatever was wrong in it.
pub(super) fn at_line(file: &LogFile, number: usize, error: &Error) -> Error {
    let told = shortened(error.to_string());
    Error::Damaged(format!("{} (version {}), line {number}: {told}", file.name, file.version))
}

/// A sentence with texts of the log in it, which may be of any length.
pub(super) fn shortened(mut sentence: String) -> String {
    if sentence.len() > SENTENCE_BYTES_MAX {
        let whole = (0..=SENTENCE_BYTES_MAX).rev().find(|at| sentence.is_char_boundary(*at));
        sentence.truncate(whole.unwrap_or(0));
        sentence.push('…');
    }
    sentence
}

/// The lines that aren't blank, with their numbers from 1.
pub(super) fn lines(bytes: &[u8]) -> Lines<'_> {
    Lines { rest: bytes, number: 0 }
}

pub(super) struct Lines<'a> {
    rest: &'a [u8],
    number: usize,
}

impl<'a> Iterator for Lines<'a> {
    type Item = (usize, &'a [u8]);

    fn next(&mut self) -> Option<(usize, &'a [u8])> {
        loop {
            let all = self.rest;
            // Reading from memory never fails; skip_until is the standard library's memchr.
            let length = self.rest.skip_until(b'\n').unwrap_or(0);
            if length == 0 {
                return None;
            }
            self.number += 1;
            let line = all[..length].trim_ascii();
            if !line.is_empty() {
                return Some((self.number, line));
            }
        }
    }
}

fn read_line<'a>(
    bytes: &'a [u8],
    parsed: &mut ParsedLines,
    changes: &mut FileActions,
    interner: &mut RawInterner<'a>,
) -> Result<()> {
    // Derived readers take arrays for structs too; an action is an object.
    if !bytes.starts_with(b"{") {
        return Err(Error::Damaged("a line is not a JSON object".into()));
    }
    let damaged = |error: serde_json::Error| Error::Damaged(error.to_string());
    if bytes.len() > WHOLE_LINE_BYTES_MAX {
        let line: LongLine = serde_json::from_slice(bytes).map_err(damaged)?;
        if [line.meta_data, line.protocol, line.txn, line.domain_metadata]
            .iter()
            .any(Option::is_some)
        {
            return Err(Error::Damaged(format!("an action of {} bytes", bytes.len())));
        }
    }
    let line: Line<'a> = serde_json::from_slice(bytes).map_err(damaged)?;
    if let Some(add) = line.add {
        let values = interner.values(add.partition_values, changes)?;
        let stat =
            Stat { size: file_size(&add.path, add.size)?, modified_ms: add.modification_time };
        match add.deletion_vector {
            None => changes.add_encoded(&add.path, stat, values)?,
            Some(vector) => {
                let place = place_of(&add.path, Some(&vector))?;
                changes.add(place, stat, values, Some(*vector))?;
            }
        }
    }
    if let Some(remove) = line.remove {
        let place = place(&remove.path)?;
        changes.remove(place, remove.deletion_vector.map(|vector| *vector))?;
    }
    let content = &mut parsed.content;
    if let Some(info) = line.commit_info {
        content.info = CommitSummary::read(info);
        parsed.has_info = true;
    }
    content.metadata = line.meta_data.or(content.metadata.take());
    content.protocol = line.protocol.or(content.protocol.take());
    content.txns.extend(line.txn);
    content.domains.extend(line.domain_metadata);
    content.sidecars.extend(line.sidecar.map(|sidecar| sidecar.path));
    Ok(())
}

/// Where an added file is; its deletion vector must be somewhere too. Errors: [`Error::Damaged`].
pub(super) fn place_of(path: &str, vector: Option<&DeletionVector>) -> Result<Place> {
    if let Some(vector) = vector {
        vector.check()?;
        vector.place()?;
    }
    place(path)
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
        Err(Error::Unsupported(_)) => normalized(encoded).map(Place::Outside),
        path => path.map(Place::Inside),
    }
}

/// Shares the partition values of adds by their JSON text: few differ, so nearly none is parsed.
#[derive(Default)]
struct RawInterner<'a> {
    by_text: HashMap<&'a str, ValuesId>,
    none: Option<ValuesId>,
    writer: SetWriter,
}

impl<'a> RawInterner<'a> {
    fn values(&mut self, raw: Option<&'a RawValue>, changes: &mut FileActions) -> Result<ValuesId> {
        let Some(raw) = raw.map(RawValue::get).filter(|text| *text != "{}" && *text != "null")
        else {
            let none = || changes.intern(PartitionSet::default());
            return Ok(*self.none.get_or_insert_with(none));
        };
        if let Some(values) = self.by_text.get(raw) {
            return Ok(*values);
        }
        let values: PartitionValues = serde_json::from_str(raw)
            .map_err(|error| Error::Damaged(format!("partitionValues: {error}")))?;
        let entries = values.iter().map(|(key, value)| (key.as_str(), value.as_deref()));
        let values = changes.intern_entries(&mut self.writer, &mut entries.collect())?;
        self.by_text.insert(raw, values);
        Ok(values)
    }
}

#[cfg(test)]
mod tests;
