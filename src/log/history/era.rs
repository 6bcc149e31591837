//! The files of a run of versions: what is forgotten where memory is short, and loaded again from
//! the nearest checkpoint when somebody looks.
//!
//! An era answers for every version between its first and its last. One whose last version is the
//! table's newest goes on with its commits; any other never changes.

use std::collections::BTreeSet;
use std::mem;

use futures::future::join_all;
use futures::{Stream, StreamExt, stream};

use super::load::{COMMIT_BYTES_AT_ONCE, COMMITS_AT_ONCE, read_commit};
use crate::error::{Error, Result};
use crate::log::action::{DeletionVector, DomainMetadata, Txn};
use crate::log::checkpoint;
use crate::log::commit::Commit;
use crate::log::facts::VersionFacts;
use crate::log::interval::Intervals;
use crate::log::listing::LogFile;
use crate::log::path::FilePath;
use crate::log::replay::Replay;
use crate::log::segment::{self, Route, Segments};
use crate::log::version::Version;
use crate::store::Store;

/// The files of versions that follow each other.
#[derive(Clone, Debug)]
pub struct Era {
    replay: Replay,
    /// Whether nothing of what the log told was ever forgotten.
    is_whole: bool,
}

/// What a commit made of an era, for the timeline.
#[derive(Debug)]
pub struct Applied {
    pub(super) version: Version,
    pub(super) file: LogFile,
    pub(super) txns: Vec<Txn>,
    pub(super) domains: Vec<DomainMetadata>,
    pub(super) facts: Result<VersionFacts>,
}

/// Where an era is loaded from, told from the names of the log's files.
#[derive(Debug)]
pub struct EraPlan {
    segments: Segments,
    version: Version,
    last: Version,
    /// What is known of the newest version.
    newest: VersionFacts,
}

impl Era {
    pub(super) fn whole(replay: Replay) -> Era {
        Era { is_whole: !replay.has_forgotten(), replay }
    }

    /// Loads the files of the plan's version, and of those before and after it up to the next
    /// checkpoint as long as all take no more than `bytes_max`.
    ///
    /// Errors: [`Error::Damaged`] where no way leads to the version any more, because log files
    /// were cleaned up or damaged; else the store's.
    pub async fn load(store: &Store, plan: &EraPlan, bytes_max: usize) -> Result<Era> {
        let version = plan.version;
        let mut first = None;
        for route in plan.segments.routes(version) {
            match plan.go(store, route, bytes_max).await {
                Ok(replay) => return Ok(Era { replay, is_whole: false }),
                Err(error @ (Error::NotFound(_) | Error::Damaged(_) | Error::Unsupported(_))) => {
                    first.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        let why = first.map_or("no checkpoint or commit leads there".into(), |why| why.to_string());
        Err(Error::Damaged(format!(
            "the files of version {version} were forgotten to save memory and can't be read from \
             the log again, which was cleaned up or damaged: {why}"
        )))
    }

    /// The first version.
    pub fn from(&self) -> Version {
        self.replay.from()
    }

    /// The last version; `None` where there is none.
    pub fn last(&self) -> Option<Version> {
        self.replay.at()
    }

    /// Whether a version of the table is among them.
    pub fn holds(&self, version: Version) -> bool {
        self.from() <= version && self.last().is_some_and(|last| version <= last)
    }

    /// Whether it has every file that any version of the log ever named.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// About how many bytes of memory it takes.
    pub fn bytes(&self) -> usize {
        self.replay.bytes()
    }

    /// Forgets old versions where all take more than `bytes_max`: those before `boundary`, and if
    /// that is not enough all but the last. Returns whether it did.
    pub fn fit(&mut self, bytes_max: usize, boundary: Version) -> bool {
        let fitted = self.replay.fit(bytes_max, boundary);
        self.is_whole &= !fitted;
        fitted
    }

    /// The files of its versions; asked for another version they answer wrongly.
    pub fn intervals(&self) -> &Intervals {
        self.replay.intervals()
    }

    /// The files in the table's folder that hold deletion vectors of live files, sorted.
    pub fn deletion_vector_files(&self, version: Version) -> Vec<FilePath> {
        deletion_vector_files(&self.replay, version)
    }

    /// Whether any of its versions had a deletion vector in a file at a path.
    pub fn ever_named_vector(&self, path: &FilePath) -> bool {
        let reach = self.replay.reach();
        let is_there = |vector: &DeletionVector| {
            vector.file(reach).is_ok_and(|file| file.as_ref() == Some(path))
        };
        self.intervals().any_vector(is_there)
    }

    /// Goes up by a commit; `None` where it is in already. Errors: [`Error::Damaged`] where a
    /// version between is missing.
    pub fn apply(&mut self, commit: Commit) -> Result<Option<Applied>> {
        apply(&mut self.replay, commit)
    }
}

impl EraPlan {
    pub(super) fn new(segments: Segments, version: Version, newest: VersionFacts) -> EraPlan {
        let next = segments.checkpoint_after(version).and_then(Version::previous);
        let last = next.map_or(newest.version, |before| before.min(newest.version));
        EraPlan { segments, version, last, newest }
    }

    /// Goes one way to the version, and on to the last.
    async fn go(&self, store: &Store, route: Route, bytes_max: usize) -> Result<Replay> {
        let mut replay = Replay::new(store.reach());
        if let Some(base) = &route.checkpoint {
            let state = checkpoint::read_state(store, base).await?;
            replay.rebase(base.version, state, None, base.modified_ms())?;
        }
        let mut files = route.commits;
        let mut after = self.version.next();
        while after <= self.last
            && let Some(file) = self.segments.commit_at(after)
        {
            files.push(file.clone());
            after = after.next();
        }
        let mut commits = std::pin::pin!(read_commits(store, files));
        while let Some((file, commit)) = commits.next().await {
            let is_beyond = file.version > self.version;
            let commit = match commit {
                Ok(commit) if commit.file == file => commit,
                Ok(_) => return Err(Error::Damaged(format!("{} was replaced", file.name))),
                // What is there without it is whole.
                Err(_) if is_beyond => break,
                Err(error) => return Err(error),
            };
            if is_beyond && replay.bytes() > bytes_max {
                break;
            }
            // The facts are known; where they lacked something there is no such version.
            let _ = replay.apply(file.version, commit.content, file.modified_ms);
            if !is_beyond {
                replay.fit(bytes_max, file.version);
            }
        }
        drop(replay.take_marks());
        if replay.at() == Some(self.newest.version) {
            replay.agree(&self.newest);
        }
        Ok(replay)
    }
}

/// Reads commits some at a time, and gives them in order.
pub(super) fn read_commits(
    store: &Store,
    files: Vec<LogFile>,
) -> impl Stream<Item = (LogFile, Result<Commit>)> {
    let batches =
        segment::batches(files, COMMITS_AT_ONCE, COMMIT_BYTES_AT_ONCE, |file: &LogFile| file.size);
    let read = async move |file: LogFile| {
        let commit = read_commit(store, file.clone()).await;
        (file, commit)
    };
    let batches = stream::iter(batches).map(move |batch| join_all(batch.into_iter().map(read)));
    batches.buffered(2).flat_map(stream::iter)
}

pub(super) fn apply(replay: &mut Replay, commit: Commit) -> Result<Option<Applied>> {
    let Commit { file, mut content } = commit;
    let version = file.version;
    if replay.at().is_some_and(|at| version <= at) {
        return Ok(None);
    }
    let next = replay.at().map_or(Version(0), Version::next);
    if version != next {
        return Err(Error::Damaged(format!(
            "commit {version} can't be applied: version {next} comes before it"
        )));
    }
    let (txns, domains) = (mem::take(&mut content.txns), mem::take(&mut content.domains));
    let facts = replay.apply(version, content, file.modified_ms);
    Ok(Some(Applied { version, file, txns, domains, facts }))
}

pub(super) fn deletion_vector_files(replay: &Replay, version: Version) -> Vec<FilePath> {
    let (live, reach) = (replay.intervals().live_files_with_vectors(version), replay.reach());
    // What is no path at all was refused when its commit was read.
    let files: BTreeSet<FilePath> =
        live.filter_map(|(_, vector)| vector.file(reach).ok().flatten()).collect();
    files.into_iter().collect()
}
