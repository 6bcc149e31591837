//! What is known of a table's versions beside their files: which there are, their facts, the files
//! of the log. It stays in memory for every version, whatever becomes of the intervals.

use std::collections::BTreeMap;

use super::era::{Applied, EraPlan};
use crate::error::{Error, Result};
use crate::log::checkpoint::{self, Checkpoint};
use crate::log::checksum::VersionState;
use crate::log::facts::VersionFacts;
use crate::log::listing::{LogFile, LogFileKind, LogListing};
use crate::log::marks::Marks;
use crate::log::segment::Segments;
use crate::log::version::Version;

/// A table's versions, without their files.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// Of the versions that can be rebuilt, ascending.
    pub(super) facts: Vec<VersionFacts>,
    /// By name.
    pub(super) log_files: BTreeMap<String, LogFile>,
    /// Why the newest version can't be rebuilt, where it can't.
    pub(super) trouble: Option<Error>,
    pub(super) marks: Marks,
}

impl Timeline {
    pub(super) fn empty(listing: LogListing) -> Timeline {
        Timeline {
            facts: Vec::new(),
            log_files: listing.files.into_iter().map(|file| (file.name.clone(), file)).collect(),
            trouble: None,
            marks: Marks::default(),
        }
    }

    pub(super) fn keep(&mut self, facts: Result<VersionFacts>) {
        match facts {
            Ok(facts) => {
                self.facts.push(facts);
                self.trouble = None;
            }
            Err(error) => self.trouble = Some(error),
        }
    }

    /// Goes up by a commit that an era took in. Errors: as [`History::apply`](super::History).
    pub fn take_in(&mut self, applied: Applied) -> Result<()> {
        let Applied { version, file, txns, domains, facts } = applied;
        self.log_files.insert(file.name.clone(), file);
        self.marks.note(version, txns, domains);
        self.keep(facts);
        self.trouble.clone().map_or(Ok(()), Err)
    }

    /// Takes in log files that a later listing saw: checkpoints, checksums, compacted commits.
    /// Files that it no longer saw stay, as versions that were shown don't change. Commits after
    /// the newest version wait for [`History::read_next`](super::History::read_next): that the
    /// listing lacks one before them says nothing, as they may have been made while it was taken.
    pub fn note_log_files(&mut self, listing: Vec<LogFile>) {
        self.log_files.extend(listing.into_iter().map(|file| (file.name.clone(), file)));
    }

    /// The newest version. Errors: [`Error::Damaged`] or [`Error::Unsupported`] where the newest
    /// version of the log can't be rebuilt, naming the missing or damaged file; load again once it
    /// was mended.
    pub fn newest(&self) -> Result<Version> {
        if let Some(trouble) = &self.trouble {
            return Err(trouble.clone());
        }
        let newest = self.facts.last().map(|facts| facts.version);
        newest.ok_or_else(|| Error::Damaged("no version of the log can be rebuilt".into()))
    }

    /// Every version that can be rebuilt, ascending.
    pub fn versions(&self) -> Vec<Version> {
        self.facts.iter().map(|facts| facts.version).collect()
    }

    /// What is known of a version; `None` where it can't be rebuilt.
    pub fn facts(&self, version: Version) -> Option<&VersionFacts> {
        let at = self.facts.binary_search_by_key(&version, |facts| facts.version).ok()?;
        self.facts.get(at)
    }

    /// The files of the log up to a version, sorted by name; sidecars have their folder before it.
    pub fn log_files(&self, version: Version) -> Vec<&LogFile> {
        self.log_files.values().filter(|file| file.shown_from() <= version).collect()
    }

    /// A file of the log by its name.
    pub fn log_file(&self, name: &str) -> Option<&LogFile> {
        self.log_files.get(name)
    }

    /// The newest version that a checksum was seen of.
    pub fn newest_checksum(&self) -> Option<Version> {
        let mut files = self.log_files.values().rev();
        files.find(|file| file.kind == LogFileKind::Checksum).map(|file| file.version)
    }

    /// What the log says of a version, but for its single files; `None` where it can't be rebuilt.
    pub fn version_state(&self, version: Version) -> Option<VersionState> {
        let facts = self.facts(version)?;
        Some(VersionState {
            txn_id: facts.txn_id.clone(),
            live: facts.live,
            in_commit_timestamp: facts.in_commit_timestamp,
            protocol: facts.protocol.clone(),
            metadata: facts.metadata.clone(),
            txns: self.marks.txns(version).cloned().collect(),
            domains: self.marks.domains(version).cloned().collect(),
            files: None,
        })
    }

    /// The checkpoint that readers of a version begin at, where there is one.
    pub fn checkpoint_before(&self, version: Version) -> Option<Checkpoint> {
        let is_part = |file: &&LogFile| match file.kind {
            LogFileKind::Checkpoint
            | LogFileKind::CheckpointPart { .. }
            | LogFileKind::CheckpointUuid { .. } => file.version <= version,
            LogFileKind::Commit
            | LogFileKind::Compacted { .. }
            | LogFileKind::Checksum
            | LogFileKind::Sidecar => false,
        };
        let parts: Vec<LogFile> = self.log_files.values().filter(is_part).cloned().collect();
        checkpoint::complete(&parts).pop_last()?.1.into_iter().next()
    }

    /// The version that an application had written (protocol: "Transaction Identifiers").
    pub fn txn_version(&self, app_id: &str, version: Version) -> Option<i64> {
        self.marks.txn_version(app_id, version)
    }

    /// How to load the files of a version again, from the log files that are known; `None` where
    /// there is no such version.
    pub fn plan_era(&self, version: Version) -> Option<EraPlan> {
        self.facts(version)?;
        let newest = self.facts.last()?.clone();
        Some(EraPlan::new(Segments::new(self.log_files.values()), version, newest))
    }

    /// The newest version with a checkpoint.
    pub fn newest_checkpoint(&self) -> Option<Version> {
        Some(self.checkpoint_before(self.facts.last()?.version)?.version)
    }
}
