//! A table's state on its way up through the versions: commits and checkpoints go in, intervals and
//! facts come out.
//!
//! Pure: nothing here reads the store. Follows the protocol's section "Action Reconciliation"; of
//! several actions on one logical file in one commit, which the protocol forbids, the last counts.
//! The identity of a logical file is its path with its deletion vector, so that a commit may remove
//! a file under its old vector and add it under a new one, in either order.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::log::action::{Metadata, Protocol};
use crate::log::commit::{CommitContent, CommitSummary};
use crate::log::facts::{Totals, VersionFacts};
use crate::log::file_actions::{FileActions, OutsideKind};
use crate::log::interval::{Effect, Intervals};
use crate::log::marks::Marks;
use crate::log::outside::OutsideFiles;
use crate::log::protocol;
use crate::log::timestamp::{self, has_in_commit_timestamps};
use crate::log::version::Version;
use crate::store::Reach;

/// What a file outside the table's folder takes.
const OUTSIDE_BYTES: usize = 300;

/// Everything known at the newest version reached, and the intervals of those before it.
#[derive(Clone, Debug, Default)]
pub(super) struct Replay {
    intervals: Intervals,
    /// The newest version reached.
    at: Option<Version>,
    /// The first version whose intervals are held.
    from: Version,
    /// What was left of the intervals the last time that some were forgotten.
    bytes_left: Option<usize>,
    /// Where the unbroken run of versions that ends at `at` began.
    base: Version,
    protocol: Option<Arc<Protocol>>,
    metadata: Option<Arc<Metadata>>,
    /// Why the protocol may not be read, as a sentence.
    refusal: Option<String>,
    commit_time_ms: Option<i64>,
    /// What is live at `at`.
    live: Totals,
    outside: OutsideFiles,
    marks: Marks,
}

impl Replay {
    pub fn new(reach: Reach) -> Replay {
        Replay { outside: OutsideFiles::new(reach), ..Replay::default() }
    }

    /// How far the table's files may be.
    pub fn reach(&self) -> &Reach {
        self.outside.reach()
    }

    pub fn intervals(&self) -> &Intervals {
        &self.intervals
    }

    /// The newest version reached.
    pub fn at(&self) -> Option<Version> {
        self.at
    }

    /// The first version whose intervals are held.
    pub fn from(&self) -> Version {
        self.from
    }

    /// Takes away what applications and features had set.
    pub fn take_marks(&mut self) -> Marks {
        std::mem::take(&mut self.marks)
    }

    /// Goes on from facts that are known of the newest version reached: a way up that began at a
    /// checkpoint doesn't know the commit times before it.
    pub fn agree(&mut self, facts: &VersionFacts) {
        self.commit_time_ms = Some(facts.commit_time_ms);
        self.live = facts.live;
        self.protocol = Some(facts.protocol.clone());
        self.metadata = Some(facts.metadata.clone());
    }

    /// About how many bytes of memory the intervals take.
    pub fn bytes(&self) -> usize {
        let outside = self.outside.len().saturating_mul(OUTSIDE_BYTES);
        self.intervals.bytes().saturating_add(outside)
    }

    /// Forgets the versions before `boundary` where there is more than `bytes_max`; all before the
    /// newest where that is not enough. Done again only once a quarter has come on top of what was
    /// left, so that going up still costs the changes. Returns whether something was forgotten.
    pub fn fit(&mut self, bytes_max: usize, boundary: Version) -> bool {
        let Some(at) = self.at else { return false };
        let left = self.bytes_left.unwrap_or(0);
        if self.bytes() <= bytes_max.max(left.saturating_add(left / 4)) {
            return false;
        }
        self.forget_before(boundary.min(at));
        if self.bytes() > bytes_max {
            self.forget_before(at);
        }
        self.bytes_left = Some(self.bytes());
        true
    }

    /// Whether versions were ever forgotten.
    pub fn has_forgotten(&self) -> bool {
        self.bytes_left.is_some()
    }

    fn forget_before(&mut self, version: Version) {
        if version > self.from {
            self.from = version;
            self.intervals.forget_before(version);
        }
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
            (self.base, self.from) = (version, version);
        }
        self.at = Some(version);
        let CommitContent { changes, protocol, metadata, txns, domains, info, .. } = content;
        let mut changes = self.outside.place(changes);
        let mut effect = self.intervals.apply(version, &mut changes);
        self.outside.apply(&changes, &mut effect);
        self.live = self.live.after(&effect);
        self.describe(protocol, metadata);
        self.marks.note(version, txns, domains);
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
        if self.at.is_none() {
            self.from = version;
        }
        self.at = Some(version);
        self.base = version;
        self.protocol = None;
        self.metadata = None;
        self.outside.clear();
        let CommitContent { changes, protocol, metadata, txns, domains, .. } = checkpoint;
        let mut changes = self.outside.place(changes);
        let added = self.intervals.rebase(version, &mut changes);
        let mut effect = Effect { added, ..Effect::default() };
        self.outside.rebase(&changes, &mut effect);
        drop(changes);
        self.live = Totals::default().after(&effect);
        self.describe(protocol, metadata);
        self.marks.rebase(version, txns, domains);
        let (info, effect) = match commit {
            Some(commit) => (commit.info, counted(&commit.changes)),
            None => (CommitSummary::default(), Effect::default()),
        };
        self.finish(version, info, effect, file_modified_ms)
    }

    /// Takes in the actions that aren't about files.
    fn describe(&mut self, protocol: Option<Protocol>, metadata: Option<Metadata>) {
        if let Some(protocol) = protocol {
            self.refusal = protocol::check_read(&protocol).err().map(|error| error.to_string());
            self.protocol = Some(Arc::new(protocol));
        }
        if let Some(metadata) = metadata {
            self.metadata = Some(Arc::new(metadata));
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
        let has_in_commit = self.metadata.as_deref().is_some_and(has_in_commit_timestamps);
        let lacks = |what| {
            let base = self.base;
            Error::Damaged(format!("the log has no {what} in versions {base} to {version}"))
        };
        Ok(VersionFacts {
            version,
            commit_time_ms,
            in_commit_timestamp: info.in_commit_timestamp.filter(|_| has_in_commit),
            protocol: self.protocol.clone().ok_or_else(|| lacks("protocol"))?,
            metadata: self.metadata.clone().ok_or_else(|| lacks("metaData"))?,
            operation: info.operation,
            engine: info.engine_info,
            txn_id: info.txn_id,
            files_added: effect.added.files,
            files_removed: effect.removed.files,
            bytes_added: effect.added.bytes,
            bytes_removed: effect.removed.bytes,
            live: self.live,
            unreadable: self.unreadable(version),
        })
    }

    fn unreadable(&self, version: Version) -> Option<String> {
        if let Some(refusal) = &self.refusal {
            return Some(refusal.clone());
        }
        if let Some(refusal) = self.outside.refusal() {
            return Some(refusal);
        }
        let path = self.intervals.collision(version)?;
        Some(format!("{path:?} is both a file and a directory of the table"))
    }
}

/// What a commit does by its own words, where the state before it is not known.
fn counted(pieces: &[FileActions]) -> Effect {
    let mut effect = Effect::default();
    let mut removed = 0;
    for piece in pieces {
        for action in piece.actions() {
            if action.is_add {
                effect.added.put(action.size, piece.vector(action));
            } else {
                removed += 1;
            }
        }
        for action in piece.outside() {
            match action.kind {
                OutsideKind::Add(stat, _) => effect.added.put(stat.size, action.vector.as_ref()),
                OutsideKind::Remove => removed += 1,
            }
        }
    }
    effect.removed.files = removed;
    effect
}
