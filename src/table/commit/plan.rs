//! What a commit will be, decided on plain values: which files get which names, what the log entry
//! says, what has to be uploaded first. The store is not asked here, and the clock and randomness
//! are handed in.
//!
//! A plan is made against one newest version and thrown away when another commit gets in between.
//! `write` plans appends, overwrites and new tables, `table::restore` plans restores; what they
//! share is here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::manifest::StagedFile;
use super::row_ids;
use crate::error::{Error, Result};
use crate::log::action::{Action, Add, DeletionVector, DomainMetadata, Metadata, Protocol, Remove};
use crate::log::action::{CommitInfo, Txn};
use crate::log::conflict::Read;
use crate::log::path::NAME_BYTES_MAX;
use crate::log::timestamp::{ENABLEMENT, has_in_commit_timestamps};
use crate::table::{FilePath, Snapshot, Version};

/// What a commit does, as `result` and commitInfo name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Append,
    Overwrite,
    ReplacePartitions,
    Restore,
    Create,
    /// Properties and no file.
    Properties,
}

impl Kind {
    /// The name in `result`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Append => "append",
            Kind::Overwrite => "overwrite",
            Kind::ReplacePartitions => "replace_partitions",
            Kind::Restore => "restore",
            Kind::Create => "create",
            Kind::Properties => "properties",
        }
    }

    /// The name in commitInfo, as other engines know it.
    pub fn operation(self) -> &'static str {
        match self {
            Kind::Append | Kind::Overwrite | Kind::ReplacePartitions => "WRITE",
            Kind::Restore => "RESTORE",
            Kind::Create => "CREATE TABLE AS SELECT",
            Kind::Properties => "SET TBLPROPERTIES",
        }
    }

    /// What of the table such a commit stands on. An absolute one stands on all of it: whatever
    /// slipped in is taken away as well.
    fn read(self) -> Read {
        match self {
            Kind::Append | Kind::Properties => Read::Nothing,
            // Of one that replaces partitions the plan knows better: these.
            Kind::Overwrite | Kind::ReplacePartitions | Kind::Restore | Kind::Create => Read::All,
        }
    }

    /// Whether it overlooks nothing that came before it, whatever the table's isolation level.
    pub fn is_absolute(self) -> bool {
        !matches!(self, Kind::Append | Kind::Properties)
    }
}

/// The version that a commit stands on.
#[derive(Clone, Debug)]
pub struct Newest {
    pub version: Version,
    pub protocol: Arc<Protocol>,
    pub metadata: Arc<Metadata>,
    pub commit_time_ms: i64,
    /// All of it, where the plan needs that much.
    pub snapshot: Option<Arc<Snapshot>>,
}

impl Newest {
    /// Whether files that fit one version fit the other, with the same statistics.
    pub fn has_rules_of(&self, other: &Newest) -> bool {
        let clustering = |newest: &Newest| {
            let snapshot = newest.snapshot.as_ref()?;
            snapshot.domains.get("delta.clustering").cloned()
        };
        self.protocol == other.protocol
            && self.metadata == other.metadata
            && clustering(self) == clustering(other)
    }
}

/// What stands in the store under the name that a staged file would have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    Absent,
    /// The staged file itself, published by an attempt of this commit.
    Ours,
    /// A file with the same bytes.
    Same,
    /// A file with the same bytes that has other names too: one may be in a staging directory, from
    /// which a refused commit published it, and be written to again.
    SameShared,
    /// A file with other bytes.
    Other,
}

/// What the table and the store say of a staged file's own name.
#[derive(Clone, Debug, PartialEq)]
pub struct PathFacts {
    pub presence: Presence,
    /// The deletion vector of the newest version's file of that name, where there is one.
    pub live: Option<Option<DeletionVector>>,
    /// Whether any version had the name, or a deletion vector of it.
    pub held: bool,
    /// Why no file can have the name: a folder is there, or a file is where a folder would be.
    pub collision: Option<String>,
    /// Where an earlier try of this commit put the file.
    pub published: Option<FilePath>,
}

impl PathFacts {
    /// Whether the log says the same of the name. What the store has there is another matter: it
    /// changes with what this commit publishes.
    pub fn says_of_the_log(&self, other: &PathFacts) -> bool {
        self.live == other.live && self.held == other.held && self.collision == other.collision
    }
}

/// A staged file that goes into the store before the commit.
#[derive(Clone, Debug, PartialEq)]
pub struct Upload {
    /// Index among the manifest's files.
    pub source: usize,
    pub to: FilePath,
    /// An earlier attempt gave the very file that name. It may have ended before that was durable,
    /// and the file may have been written to since.
    pub is_there: bool,
}

/// What a commit will do.
#[derive(Clone, Debug)]
pub struct Plan {
    pub kind: Kind,
    /// The version that it makes.
    pub version: Version,
    pub uploads: Vec<Upload>,
    /// Without commitInfo; empty: there is nothing to commit.
    pub actions: Vec<Action>,
    pub info: CommitInfo,
    pub counts: Counts,
    /// Staged files whose bytes the store has already.
    pub kept: BTreeSet<FilePath>,
    /// Lines of `.deltafs/changes`.
    pub changes: Vec<String>,
    /// Highest row id given out before it; -1: none. Those above are its own.
    pub row_id_mark: i64,
    /// What of the table it stands on.
    pub read: Read,
}

/// What `result` tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub added: u64,
    pub removed: u64,
    /// Staged files that the store has already.
    pub reused: u64,
    /// Live files whose lost bytes are put back.
    pub repaired: u64,
}

/// Where a staged file's bytes will stand.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    pub path: FilePath,
    /// Whether it has to be uploaded, or once more made ready where it is.
    pub uploads: bool,
}

/// Chooses the name of a data file. A name is kept where nobody had it, or where its bytes are
/// there already; no file is ever overwritten. Nor is a name kept that other readers can't open:
/// one with control characters would close the whole table to delta-rs.
/// Errors: [`Error::Refused`] for such a directory, which can't be given another name.
pub fn target(
    file: &StagedFile,
    facts: &PathFacts,
    taken: &BTreeSet<FilePath>,
    fresh_id: &mut dyn FnMut() -> String,
) -> Result<Target> {
    if let Some(path) = &facts.published {
        return Ok(Target { path: path.clone(), uploads: false });
    }
    let keep = |uploads| Ok(Target { path: file.path.clone(), uploads });
    let is_plain = |name: &str| !name.contains(|c: char| c.is_ascii_control());
    let (directory, name) = file.path.as_str().rsplit_once('/').unwrap_or(("", file.path.as_str()));
    if !is_plain(directory) {
        return Err(Error::Refused(format!(
            "{directory:?} has a control character in its name, which other readers of the table \
             can't open; in a partition's directory write it as %0A, or rename the directory"
        )));
    }
    let is_free = facts.collision.is_none() && !taken.contains(&file.path) && is_plain(name);
    match facts.presence {
        Presence::Ours if is_free => keep(true),
        // Bytes of a file that the table had. One that it never had may be another writer's, who
        // will commit it himself: then each has to have his own.
        Presence::Same if is_free && facts.held => keep(false),
        Presence::SameShared if is_free && facts.live.is_some() => keep(false),
        Presence::Absent if is_free && !facts.held => keep(true),
        _ => Ok(Target { path: renamed(&file.path, taken, fresh_id)?, uploads: true }),
    }
}

/// `<stem>-<short id>.parquet`, in the same directory, within the limit of a name; control
/// characters of the stem are written as `_`.
pub fn renamed(
    path: &FilePath,
    taken: &BTreeSet<FilePath>,
    fresh_id: &mut dyn FnMut() -> String,
) -> Result<FilePath> {
    let name = path.file_name();
    let directory = &path.as_str()[..path.as_str().len() - name.len()];
    let stem = name.strip_suffix(".parquet").unwrap_or(name);
    let stem = stem.replace(|c: char| c.is_ascii_control(), "_");
    loop {
        let ending = format!("-{}.parquet", fresh_id());
        let mut end = stem.len().min(NAME_BYTES_MAX - ending.len());
        while !stem.is_char_boundary(end) {
            end -= 1;
        }
        let renamed = FilePath::from_decoded(&format!("{directory}{}{ending}", &stem[..end]))?;
        if !taken.contains(&renamed) {
            return Ok(renamed);
        }
    }
}

/// A file that a commit adds.
#[derive(Clone, Debug)]
pub struct Added {
    pub add: Add,
    /// Rows of the data file, deleted ones too; needed where row ids are given out.
    pub rows: Option<i64>,
}

/// What takes one set of live files to another, by path and deletion vector: the adds that are not
/// live yet, the removes of those that no longer shall be.
pub fn difference<P: Ord>(
    live: &BTreeMap<P, Add>,
    wanted: BTreeMap<P, Added>,
    now_ms: i64,
) -> (Vec<Added>, Vec<Remove>) {
    let is_same = |one: &Add, other: &Add| match (&one.deletion_vector, &other.deletion_vector) {
        (None, None) => true,
        (Some(one), Some(other)) => one.is_same(other),
        (None, Some(_)) | (Some(_), None) => false,
    };
    let stays =
        |path: &P, add: &Add| wanted.get(path).is_some_and(|wanted| is_same(&wanted.add, add));
    let removes = live
        .iter()
        .filter(|(path, add)| !stays(path, add))
        .map(|(_, add)| add.to_remove(now_ms))
        .collect();
    let is_new = |path: &P, add: &Add| live.get(path).is_none_or(|live| !is_same(live, add));
    let adds = wanted
        .into_iter()
        .filter(|(path, added)| is_new(path, &added.add))
        .map(|(_, added)| added)
        .collect();
    (adds, removes)
}

/// The parts of a log entry, before row ids and times.
pub struct Draft<'a> {
    pub kind: Kind,
    /// `None`: the table is new.
    pub newest: Option<&'a Newest>,
    /// Those of the version that the commit makes.
    pub protocol: &'a Protocol,
    pub metadata: &'a Metadata,
    pub adds: Vec<Added>,
    pub removes: Vec<Remove>,
    /// Without that of row ids, which the draft's end brings.
    pub domains: Vec<DomainMetadata>,
    /// Highest row id given out so far; -1: none.
    pub row_id_mark: i64,
    pub txn: Option<Txn>,
    /// In commitInfo.
    pub operation: &'static str,
    pub parameters: Value,
    pub now_ms: i64,
}

impl Draft<'_> {
    /// The version that the commit makes.
    pub fn version(&self) -> Version {
        self.newest.map_or(Version(0), |newest| newest.version.next())
    }

    /// Ends the draft: what it changes, in the order in which the log has it. Errors:
    /// [`Error::AppendOnly`]; [`Error::Damaged`] where rows can't be counted for their ids.
    pub fn finish(mut self) -> Result<(Vec<Action>, CommitInfo)> {
        let is_append_only = |newest: &Newest| is_on(&newest.metadata, "delta.appendOnly");
        if let Some(remove) = self.removes.first()
            && self.newest.is_some_and(is_append_only)
        {
            return Err(Error::AppendOnly(format!(
                "the table takes only appends, and this would remove {}{}; append, or set \
                 delta.appendOnly to false first",
                remove.path,
                match self.removes.len() - 1 {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                }
            )));
        }
        row_ids::give(&mut self)?;
        let info = self.info();
        let mut actions = Vec::new();
        let newest = self.newest;
        if newest.is_none_or(|newest| *newest.protocol != *self.protocol) {
            actions.push(Action::Protocol(self.protocol.clone()));
        }
        if newest.is_none_or(|newest| *newest.metadata != *self.metadata) {
            actions.push(Action::MetaData(self.stamped()));
        }
        actions.extend(self.txn.map(Action::Txn));
        actions.extend(self.domains.into_iter().map(Action::DomainMetadata));
        actions.extend(self.removes.into_iter().map(Action::Remove));
        actions.extend(self.adds.into_iter().map(|added| Action::Add(added.add)));
        Ok((actions, info))
    }

    /// The time that the commit carries, where the table's commits do.
    fn in_commit_timestamp(&self) -> Option<i64> {
        let time =
            || self.newest.map_or(self.now_ms, |newest| self.now_ms.max(newest.commit_time_ms + 1));
        has_in_commit_timestamps(self.metadata).then(time)
    }

    /// The metadata as the log has it. Where commits of a table begin to carry their times, it says
    /// from which on (protocol: "Writer Requirements for In-Commit Timestamps").
    fn stamped(&self) -> Metadata {
        let mut metadata = self.metadata.clone();
        let begins = self.newest.filter(|newest| !has_in_commit_timestamps(&newest.metadata));
        if let (Some(_), Some(time)) = (begins, self.in_commit_timestamp()) {
            let [version_key, time_key] = ENABLEMENT.map(str::to_owned);
            metadata.configuration.insert(version_key, self.version().to_string());
            metadata.configuration.insert(time_key, time.to_string());
        }
        metadata
    }

    fn info(&self) -> CommitInfo {
        // Those that are said again, for their row ids, are nothing new.
        let new = || self.adds.iter().filter(|added| added.add.data_change);
        let rows: Option<i64> = new().map(|added| added.rows).sum();
        let bytes: i64 = new().map(|added| added.add.size).sum();
        let removed: i64 = self.removes.iter().filter_map(|remove| remove.size).sum();
        let metrics = match self.kind {
            Kind::Restore => json!({
                "numRestoredFiles": new().count().to_string(),
                "restoredFilesSize": bytes.to_string(),
                "numRemovedFiles": self.removes.len().to_string(),
                "removedFilesSize": removed.to_string(),
            }),
            Kind::Append | Kind::Overwrite | Kind::ReplacePartitions | Kind::Create => json!({
                "numFiles": new().count().to_string(),
                "numOutputRows": rows.unwrap_or(0).to_string(),
                "numOutputBytes": bytes.to_string(),
                "numRemovedFiles": self.removes.len().to_string(),
            }),
            Kind::Properties => json!({}),
        };
        let mut unknown = serde_json::Map::new();
        unknown.insert("operationParameters".into(), self.parameters.clone());
        unknown.insert("operationMetrics".into(), metrics);
        let is_blind = matches!(self.kind, Kind::Append | Kind::Properties)
            && new().count() == self.adds.len();
        unknown.insert("isBlindAppend".into(), is_blind.into());
        if let Some(newest) = self.newest {
            unknown.insert("readVersion".into(), newest.version.0.into());
        }
        if is_on(self.metadata, "delta.enableRowTracking") {
            // No row is copied or updated here, so every id is what it was.
            unknown.insert("tags".into(), json!({ "delta.rowTracking.preserved": "true" }));
        }
        let in_commit_timestamp = self.in_commit_timestamp();
        CommitInfo {
            in_commit_timestamp,
            timestamp: Some(in_commit_timestamp.unwrap_or(self.now_ms)),
            operation: Some(self.operation.into()),
            engine_info: Some(concat!("deltafs/", env!("CARGO_PKG_VERSION")).into()),
            txn_id: None,
            unknown,
        }
    }
}

impl Plan {
    /// Nothing yet, on top of a version.
    pub fn empty(kind: Kind, newest: Option<&Newest>) -> Plan {
        Plan {
            kind,
            version: newest.map_or(Version(0), |newest| newest.version.next()),
            uploads: Vec::new(),
            actions: Vec::new(),
            info: CommitInfo::default(),
            counts: Counts::default(),
            kept: BTreeSet::new(),
            changes: Vec::new(),
            row_id_mark: -1,
            read: kind.read(),
        }
    }

    /// The log entry of one attempt: one action a line, commitInfo first.
    pub fn entry(&self, txn_id: &str) -> Vec<u8> {
        let info = CommitInfo { txn_id: Some(txn_id.to_owned()), ..self.info.clone() };
        let mut bytes = Action::CommitInfo(info).to_line().into_bytes();
        for action in &self.actions {
            bytes.push(b'\n');
            bytes.extend_from_slice(action.to_line().as_bytes());
        }
        bytes.push(b'\n');
        bytes
    }
}

/// The lines of `.deltafs/changes`, sorted by path: what the log entry adds and removes, and the
/// staged files that neither is said of, because the table has them as they are.
pub fn changes(adds: &[Added], removes: &[Remove], kept: BTreeSet<FilePath>) -> Vec<String> {
    let shown = |path: &str| {
        FilePath::from_log(path).map_or_else(|_| path.to_owned(), |path| path.as_str().to_owned())
    };
    let added = adds.iter().map(|added| (shown(&added.add.path), '+'));
    let removed = removes.iter().map(|remove| (shown(&remove.path), '-'));
    let mut lines: Vec<(String, char)> = removed.chain(added).collect();
    let said: BTreeSet<String> = lines.iter().map(|(path, _)| path.clone()).collect();
    let kept = kept.into_iter().map(|path| (path.as_str().to_owned(), '='));
    lines.extend(kept.filter(|(path, _)| !said.contains(path)));
    lines.sort_by(|one, other| one.0.cmp(&other.0));
    lines.into_iter().map(|(path, sign)| format!("{sign} {path}")).collect()
}

/// Whether a property of the table is set to true.
pub fn is_on(metadata: &Metadata, property: &str) -> bool {
    metadata.configuration.get(property).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

#[cfg(test)]
mod tests;
