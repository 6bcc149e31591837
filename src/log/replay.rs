//! A table's state on its way up through the versions: commits and checkpoints go in, intervals and
//! facts come out.
//!
//! Pure: nothing here reads the store. Follows the protocol's section "Action Reconciliation"; of
//! several actions on one logical file in one commit, which the protocol forbids, the last counts.
//! The identity of a logical file is its path with its deletion vector, so that a commit may remove
//! a file under its old vector and add it under a new one, in either order.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::log::action::{DeletionVector, Metadata, PartitionValues, Protocol, Txn};
use crate::log::commit::{Change, CommitContent, CommitSummary, Place};
use crate::log::facts::VersionFacts;
use crate::log::interval::{Effect, FileState, Intervals};
use crate::log::path::FilePath;
use crate::log::protocol;
use crate::log::timestamp;
use crate::log::version::Version;

/// Everything known at the newest version reached, and the intervals of all before.
#[derive(Clone, Debug, Default)]
pub(super) struct Replay {
    intervals: Intervals,
    /// The newest version reached.
    at: Option<Version>,
    /// Where the unbroken run of versions that ends at `at` began.
    base: Version,
    protocol: Option<Arc<Protocol>>,
    metadata: Option<Arc<Metadata>>,
    /// Why the protocol may not be read, as a sentence.
    refusal: Option<String>,
    commit_time_ms: Option<i64>,
    /// Live files outside the table's folder: their deletion vector, and why they aren't read.
    outside: BTreeMap<String, Outside>,
    /// The versions that each application wrote, and in which versions of the table.
    txns: BTreeMap<String, Vec<(Version, i64)>>,
    /// One of each partition values that any file has.
    values: HashSet<Arc<PartitionValues>>,
}

#[derive(Clone, Debug)]
struct Outside {
    vector: Option<Box<DeletionVector>>,
    why: String,
}

impl Replay {
    pub fn intervals(&self) -> &Intervals {
        &self.intervals
    }

    /// The newest version reached.
    pub fn at(&self) -> Option<Version> {
        self.at
    }

    /// The version that an application had written at a version of the table.
    pub fn txn_version(&self, app_id: &str, version: Version) -> Option<i64> {
        let written = self.txns.get(app_id)?;
        let after = written.partition_point(|(at, _)| *at <= version);
        written[..after].last().map(|(_, app_version)| *app_version)
    }

    /// Shrinks what loading left loose.
    pub fn compact(&mut self) {
        self.intervals.compact();
    }

    /// Goes up by one commit. The caller knows that it is the next one.
    ///
    /// Errors: [`Error::Damaged`] where the log has given no protocol or metadata yet; the version
    /// then has no facts, and the state goes on.
    pub fn apply(
        &mut self,
        version: Version,
        content: CommitContent,
        file_modified_ms: i64,
    ) -> Result<VersionFacts> {
        if self.at.is_none() {
            self.base = version;
        }
        self.at = Some(version);
        let CommitContent { changes, protocol, metadata, txns, info, sidecars: _ } = content;
        let effect = self.change(version, changes);
        self.describe(version, protocol, metadata, txns);
        self.finish(version, info, effect, file_modified_ms)
    }

    /// Starts anew at a checkpoint, with what its version's commit says where there is one.
    ///
    /// Errors: as [`Replay::apply`].
    pub fn rebase(
        &mut self,
        version: Version,
        checkpoint: CommitContent,
        commit: Option<CommitContent>,
        file_modified_ms: i64,
    ) -> Result<VersionFacts> {
        self.at = Some(version);
        self.base = version;
        self.protocol = None;
        self.metadata = None;
        self.outside.clear();
        let CommitContent { changes, protocol, metadata, txns, .. } = checkpoint;
        let mut canonical = Canonical::default();
        let mut files = Vec::with_capacity(changes.len());
        for change in changes {
            match change {
                Change::Add(Place::Inside(path), mut state) => {
                    state.partition_values = canonical.of(&mut self.values, state.partition_values);
                    files.push((path, state));
                }
                Change::Add(Place::Outside(uri, why), state) => {
                    self.outside.insert(uri, Outside { vector: state.deletion_vector, why });
                }
                // Tombstones.
                Change::Remove(..) => {}
            }
        }
        self.intervals.rebase(version, files);
        self.describe(version, protocol, metadata, txns);
        let (info, effect) = match commit {
            Some(commit) => (commit.info, counted(&commit.changes)),
            None => (CommitSummary::default(), Effect::default()),
        };
        self.finish(version, info, effect, file_modified_ms)
    }

    fn change(&mut self, version: Version, changes: Vec<Change>) -> Effect {
        let mut effect = Effect::default();
        let mut canonical = Canonical::default();
        for change in changes {
            match change {
                Change::Add(Place::Inside(path), mut state) => {
                    state.partition_values = canonical.of(&mut self.values, state.partition_values);
                    self.intervals.add(version, path, state, &mut effect);
                }
                Change::Remove(Place::Inside(path), vector) => {
                    self.remove(version, &path, vector.as_deref(), &mut effect);
                }
                Change::Add(Place::Outside(uri, why), state) => {
                    self.outside.insert(uri, Outside { vector: state.deletion_vector, why });
                }
                Change::Remove(Place::Outside(uri, _), vector) => {
                    self.remove_outside(&uri, vector.as_deref());
                }
            }
        }
        effect
    }

    fn remove(
        &mut self,
        version: Version,
        path: &FilePath,
        vector: Option<&DeletionVector>,
        effect: &mut Effect,
    ) {
        self.intervals.remove(version, path.as_str(), vector, effect);
    }

    fn remove_outside(&mut self, uri: &str, vector: Option<&DeletionVector>) {
        let same = self.outside.get(uri).is_some_and(|held| match (&held.vector, vector) {
            (None, None) => true,
            (Some(one), Some(other)) => one.is_same(other),
            (None, Some(_)) | (Some(_), None) => false,
        });
        if same {
            self.outside.remove(uri);
        }
    }

    /// Takes in the actions that aren't about files.
    fn describe(
        &mut self,
        version: Version,
        protocol: Option<Protocol>,
        metadata: Option<Metadata>,
        txns: Vec<Txn>,
    ) {
        if let Some(protocol) = protocol {
            self.refusal = protocol::check_read(&protocol).err().map(|error| error.to_string());
            self.protocol = Some(Arc::new(protocol));
        }
        if let Some(metadata) = metadata {
            self.metadata = Some(Arc::new(metadata));
        }
        for txn in txns {
            let written = self.txns.entry(txn.app_id).or_default();
            match written.last_mut() {
                Some(last) if last.0 == version => last.1 = txn.version,
                Some(last) if last.1 == txn.version => {}
                Some(_) | None => written.push((version, txn.version)),
            }
        }
    }

    fn finish(
        &mut self,
        version: Version,
        info: CommitSummary,
        effect: Effect,
        file_modified_ms: i64,
    ) -> Result<VersionFacts> {
        let commit_time_ms = timestamp::commit_time(
            self.metadata.as_deref(),
            info.in_commit_timestamp,
            file_modified_ms,
            self.commit_time_ms,
        );
        self.commit_time_ms = Some(commit_time_ms);
        let lacks = |what| {
            let base = self.base;
            Error::Damaged(format!("the log has no {what} in versions {base} to {version}"))
        };
        Ok(VersionFacts {
            version,
            commit_time_ms,
            protocol: self.protocol.clone().ok_or_else(|| lacks("protocol"))?,
            metadata: self.metadata.clone().ok_or_else(|| lacks("metaData"))?,
            operation: info.operation,
            engine: info.engine_info,
            txn_id: info.txn_id,
            files_added: effect.files_added,
            files_removed: effect.files_removed,
            bytes_added: effect.bytes_added,
            bytes_removed: effect.bytes_removed,
            unreadable: self.unreadable(version),
        })
    }

    fn unreadable(&self, version: Version) -> Option<String> {
        if let Some(refusal) = &self.refusal {
            return Some(refusal.clone());
        }
        if let Some(outside) = self.outside.values().next() {
            return Some(outside.why.clone());
        }
        let path = self.intervals.collision(version)?;
        Some(format!("{path:?} is both a file and a directory of the table"))
    }
}

/// What a commit does by its own words, where the state before it is not known.
fn counted(changes: &[Change]) -> Effect {
    let mut effect = Effect::default();
    for change in changes {
        match change {
            Change::Add(_, FileState { size, .. }) => {
                effect.files_added = effect.files_added.saturating_add(1);
                effect.bytes_added = effect.bytes_added.saturating_add(*size);
            }
            Change::Remove(..) => effect.files_removed = effect.files_removed.saturating_add(1),
        }
    }
    effect
}

/// Finds the one shared copy of partition values. Within a file of the log equal values are shared
/// already, so a pointer tells them apart and nearly none is hashed as a whole.
#[derive(Default)]
struct Canonical {
    by_address: HashMap<usize, Arc<PartitionValues>>,
    /// Keeps the addresses taken while they are keys.
    held: Vec<Arc<PartitionValues>>,
}

impl Canonical {
    fn of(
        &mut self,
        values: &mut HashSet<Arc<PartitionValues>>,
        given: Arc<PartitionValues>,
    ) -> Arc<PartitionValues> {
        let address = Arc::as_ptr(&given).addr();
        if let Some(shared) = self.by_address.get(&address) {
            return shared.clone();
        }
        let shared = match values.get(&given) {
            Some(shared) => shared.clone(),
            None => {
                values.insert(given.clone());
                given.clone()
            }
        };
        self.held.push(given);
        self.by_address.insert(address, shared.clone());
        shared
    }
}
