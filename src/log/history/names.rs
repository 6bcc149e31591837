//! Every name that a log ever gave to a file, for tables whose old versions are not in memory: a
//! new file must not take the name of one that an old version has.
//!
//! Eight bytes of each name are kept. Two names with the same eight would be taken for one, and
//! then a new file gets another name than its own: nothing worse.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use futures::StreamExt;

use super::era::read_commits;
use super::timeline::Timeline;
use crate::error::{Error, Result};
use crate::log::checkpoint::{self, Checkpoint};
use crate::log::commit::{Commit, CommitContent};
use crate::log::listing::LogFile;
use crate::log::path::FilePath;
use crate::log::segment::Segments;
use crate::log::version::Version;
use crate::store::{Reach, Store};

/// What a name takes: the table is between half and nearly full.
const NAME_BYTES: usize = 14;

/// The names of files and of deletion vectors' files.
#[derive(Clone, Debug)]
pub struct Names {
    hashes: HashSet<u64>,
    hasher: RandomState,
    reach: Reach,
    newest: Version,
}

/// Where the names are read from.
#[derive(Debug)]
pub struct NamesPlan {
    segments: Segments,
    newest: Version,
}

impl Timeline {
    /// How to read every name of the log; `None` where no version can be rebuilt.
    pub fn plan_names(&self) -> Option<NamesPlan> {
        let newest = self.facts.last()?.version;
        Some(NamesPlan { segments: Segments::new(self.log_files.values()), newest })
    }
}

impl Names {
    /// Reads all commits, and the checkpoints that stand in for missing ones. What can't be read
    /// belongs to no version that is shown. Errors: the store's.
    pub async fn load(store: &Store, plan: &NamesPlan) -> Result<Names> {
        let (hashes, hasher) = (HashSet::new(), RandomState::new());
        let mut names = Names { hashes, hasher, reach: store.reach(), newest: plan.newest };
        let steps = plan.segments.steps();
        let files: Vec<LogFile> = steps.iter().filter_map(|step| step.commit.clone()).collect();
        let mut read = HashSet::new();
        let mut commits = std::pin::pin!(read_commits(store, files));
        while let Some((file, commit)) = commits.next().await {
            if let Some(commit) = readable(commit)? {
                names.insert_all(&commit.content);
                read.insert(file.version);
            }
        }
        let mut before = None;
        for step in steps {
            // A version that doesn't follow from the one before stands on a checkpoint.
            let follows = step.version.previous() == before && read.contains(&step.version);
            before = read.contains(&step.version).then_some(step.version);
            if !follows {
                names.take_in_checkpoint(store, plan.segments.checkpoints_at(step.version)).await?;
            }
        }
        Ok(names)
    }

    async fn take_in_checkpoint(&mut self, store: &Store, found: &[Checkpoint]) -> Result<()> {
        for checkpoint in found {
            if let Some(state) = readable(checkpoint::read_state(store, checkpoint).await)? {
                self.insert_all(&state);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes in the names of the next commit; any other is left out.
    pub fn take_in(&mut self, commit: &Commit) {
        if commit.version() == self.newest.next() {
            self.newest = commit.version();
            self.insert_all(&commit.content);
        }
    }

    /// The newest version whose names are in.
    pub fn newest(&self) -> Version {
        self.newest
    }

    fn insert_all(&mut self, content: &CommitContent) {
        for piece in &content.changes {
            let placed;
            let piece = match piece.outside() {
                [] => piece,
                _ => {
                    placed = piece.clone().seen_from(&self.reach);
                    &placed
                }
            };
            for action in piece.actions().iter().filter(|action| action.is_add) {
                self.insert(piece.path(action));
                let vector = piece.vector(action);
                if let Some(file) = vector.and_then(|vector| vector.file(&self.reach).ok()?) {
                    self.insert(file.as_str());
                }
            }
            for vector in piece.outside().iter().filter_map(|action| action.vector.as_ref()) {
                if let Ok(Some(file)) = vector.file(&self.reach) {
                    self.insert(file.as_str());
                }
            }
        }
    }

    fn insert(&mut self, path: &str) {
        self.hashes.insert(self.hasher.hash_one(path));
    }

    /// Whether the log ever gave the name.
    pub fn contains(&self, path: &FilePath) -> bool {
        self.hashes.contains(&self.hasher.hash_one(path.as_str()))
    }

    /// About how many bytes of memory it takes.
    pub fn bytes(&self) -> usize {
        self.hashes.len() * NAME_BYTES
    }
}

/// `None` for what the log has lost or damaged.
fn readable<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::NotFound(_) | Error::Damaged(_) | Error::Unsupported(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
