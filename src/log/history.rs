//! Every version of a table that its log can rebuild, in one structure.
//!
//! Loading lists the log, reads commits some at a time and in order, and goes up from the earliest
//! base. Versions after a damaged or missing file are left out until a later checkpoint stands in;
//! where none does, [`History::newest`] is the error that names the file. A table is never shown
//! shorter than its log without it.
//!
//! Tailing is split so that no lock is held over a store call: [`History::read_next`] reads,
//! [`History::apply`] is pure.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use futures::{StreamExt, stream};

use crate::error::{Error, Result};
use crate::log::checkpoint;
use crate::log::commit::Commit;
use crate::log::facts::VersionFacts;
use crate::log::interval::Intervals;
use crate::log::listing::{self, LogFile, LogFileKind, LogListing, commit_name, log_path};
use crate::log::path::FilePath;
use crate::log::replay::Replay;
use crate::log::segment::{self, Segments, Step};
use crate::log::version::Version;
use crate::store::Store;

/// Commits that are read at a time, while as many before them are applied.
pub(super) const COMMITS_AT_ONCE: usize = 32;
/// Bytes of commits that are read at a time; a larger commit is read alone.
pub(super) const COMMIT_BYTES_AT_ONCE: u64 = 64 * 1024 * 1024;
/// Larger commits are parsed off the runtime's own threads.
const PARSE_INLINE_BYTES_MAX: usize = 256 * 1024;
/// A log that is cleaned up while it is read is read again, so often.
const LOADS_MAX: usize = 3;

/// A table's versions.
#[derive(Clone, Debug)]
pub struct History {
    replay: Replay,
    /// Of the versions that can be rebuilt, ascending.
    facts: Vec<VersionFacts>,
    /// By name.
    log_files: BTreeMap<String, LogFile>,
    /// Why the newest version can't be rebuilt, where it can't.
    trouble: Option<Error>,
}

impl History {
    /// Lists the log and reads all of it.
    ///
    /// Damage within the log is no error here: see [`History::newest`]. Errors:
    /// [`Error::NotFound`] where there is no log, [`Error::Damaged`] where it is empty, and
    /// whatever keeps the store from answering.
    pub async fn load(store: &Store) -> Result<History> {
        let mut tries_left = LOADS_MAX;
        loop {
            tries_left -= 1;
            let listing = listing::list_log(store).await?;
            let segments = Segments::new(&listing.files);
            let history = History::empty(listing);
            let loading = Loading { store, segments, history, last_try: tries_left == 0 };
            match loading.run().await {
                // A file went away between the listing and its turn, or came while it was taken.
                Err(Error::NotFound(_)) if tries_left > 0 => {}
                result => return result,
            }
        }
    }

    fn empty(listing: LogListing) -> History {
        History {
            replay: Replay::default(),
            facts: Vec::new(),
            log_files: listing.files.into_iter().map(|file| (file.name.clone(), file)).collect(),
            trouble: None,
        }
    }

    fn keep(&mut self, facts: Result<VersionFacts>) {
        match facts {
            Ok(facts) => {
                self.facts.push(facts);
                self.trouble = None;
            }
            Err(error) => self.trouble = Some(error),
        }
    }

    /// Reads the commit after `newest`; `None` where it isn't there yet.
    ///
    /// Errors: [`Error::Damaged`] naming file, version and line. The file may be one that another
    /// writer is still putting down on a store without atomic puts, so the next call may succeed.
    pub async fn read_next(store: &Store, newest: Version) -> Result<Option<Commit>> {
        let version = newest.next();
        let name = commit_name(version);
        let path = log_path(&name);
        let Some(entry) = store.head(&path).await? else { return Ok(None) };
        let (size, modified_ms) = (entry.size, entry.modified_ms);
        let file = LogFile { name, kind: LogFileKind::Commit, version, size, modified_ms };
        match read_commit(store, file).await {
            Err(Error::NotFound(_)) => Ok(None),
            result => result.map(Some),
        }
    }

    /// Goes up by a commit of [`History::read_next`]. One that is in already changes nothing, so
    /// that two readers may race.
    ///
    /// Errors: [`Error::Damaged`] where a version between is missing.
    pub fn apply(&mut self, commit: Commit) -> Result<()> {
        let version = commit.version();
        if self.replay.at().is_some_and(|at| version <= at) {
            return Ok(());
        }
        let next = self.replay.at().map_or(Version(0), Version::next);
        if version != next {
            return Err(Error::Damaged(format!(
                "commit {version} can't be applied: version {next} comes before it"
            )));
        }
        let facts = self.replay.apply(version, commit.content, commit.file.modified_ms);
        self.log_files.insert(commit.file.name.clone(), commit.file);
        self.keep(facts);
        self.trouble.clone().map_or(Ok(()), Err)
    }

    /// Takes in log files that a later listing saw: checkpoints, checksums, compacted commits.
    /// Files that it no longer saw stay, as versions that were shown don't change. Commits after
    /// the newest version wait for [`History::read_next`]: that the listing lacks one before them
    /// says nothing, as they may have been made while it was taken.
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

    /// The files of all versions.
    pub fn intervals(&self) -> &Intervals {
        self.replay.intervals()
    }

    /// The files of the deletion vectors that live files name, sorted.
    pub fn deletion_vector_files(&self, version: Version) -> Vec<FilePath> {
        let live = self.intervals().live_files_with_vectors(version);
        // What is no path in the table was refused when its commit was read.
        let files: BTreeSet<FilePath> =
            live.filter_map(|(_, vector)| vector.file().ok().flatten()).collect();
        files.into_iter().collect()
    }

    /// The files of the log up to a version, sorted by name; sidecars have their folder before it.
    pub fn log_files(&self, version: Version) -> Vec<&LogFile> {
        self.log_files.values().filter(|file| file.shown_from() <= version).collect()
    }

    /// A file of the log by its name.
    pub fn log_file(&self, name: &str) -> Option<&LogFile> {
        self.log_files.get(name)
    }

    /// The version that an application had written (protocol: "Transaction Identifiers").
    pub fn txn_version(&self, app_id: &str, version: Version) -> Option<i64> {
        self.replay.txn_version(app_id, version)
    }
}

/// A history on its way up through the log.
struct Loading<'a> {
    store: &'a Store,
    segments: Segments,
    history: History,
    /// A file that is listed and not there, or there and not listed, is damage the last time, else
    /// a reason to list again.
    last_try: bool,
}

impl Loading<'_> {
    async fn run(mut self) -> Result<History> {
        let store = self.store;
        let size = |step: &Step| step.commit.as_ref().map_or(0, |file| file.size);
        let batches =
            segment::batches(self.segments.steps(), COMMITS_AT_ONCE, COMMIT_BYTES_AT_ONCE, size);
        let mut batches = stream::iter(batches)
            .map(|batch| join_all(batch.into_iter().map(|step| read_step(store, step))))
            .buffered(2);
        while let Some(batch) = batches.next().await {
            for (version, commit) in batch {
                self.step(version, commit).await?;
            }
        }
        drop(batches);
        self.look_for_gap().await?;
        self.history.replay.compact();
        Ok(self.history)
    }

    /// Goes to one version: by its commit where that follows, else by its checkpoint.
    async fn step(&mut self, version: Version, commit: Option<Result<Commit>>) -> Result<()> {
        let commit = match commit {
            Some(Err(error)) => {
                self.note_trouble(error)?;
                None
            }
            Some(Ok(commit)) => {
                // The listing may have seen it before it was whole.
                self.history.log_files.insert(commit.file.name.clone(), commit.file.clone());
                Some(commit)
            }
            None => None,
        };
        let replay = &mut self.history.replay;
        let follows = replay.at().map_or(Version(0), Version::next) == version;
        match commit {
            Some(commit) if follows => {
                let facts = replay.apply(version, commit.content, commit.file.modified_ms);
                self.history.keep(facts);
                Ok(())
            }
            commit => self.rebase(version, commit).await,
        }
    }

    /// Tries the checkpoints of a version. Where none can be read the version is left out.
    async fn rebase(&mut self, version: Version, mut commit: Option<Commit>) -> Result<()> {
        for found in self.segments.checkpoints_at(version).to_vec() {
            match checkpoint::read_state(self.store, &found).await {
                Ok(state) => {
                    let modified_ms = match &commit {
                        Some(commit) => commit.file.modified_ms,
                        None => found.modified_ms(),
                    };
                    let commit = commit.take().map(|commit| commit.content);
                    let facts = self.history.replay.rebase(version, state, commit, modified_ms);
                    self.history.keep(facts);
                    return Ok(());
                }
                Err(error) => self.note_trouble(error)?,
            }
        }
        Ok(())
    }

    /// Says why the newest version wasn't reached, where no file told.
    async fn look_for_gap(&mut self) -> Result<()> {
        let Some(newest) = self.segments.newest() else { return Ok(()) };
        if self.history.trouble.is_some() || self.history.replay.at() >= Some(newest) {
            return Ok(());
        }
        let gap = gap_before(self.store, &self.segments, newest).await?;
        self.note_trouble(gap)
    }

    /// Keeps the first damage since the last version that was whole; what isn't damage goes up.
    fn note_trouble(&mut self, error: Error) -> Result<()> {
        let error = match error {
            Error::NotFound(message) if self.last_try => Error::Damaged(message),
            Error::Damaged(_) | Error::Unsupported(_) => error,
            error => return Err(error),
        };
        tracing::warn!(%error, "a log file can't be used");
        self.history.trouble.get_or_insert(error);
        Ok(())
    }
}

async fn read_step(store: &Store, step: Step) -> (Version, Option<Result<Commit>>) {
    match step.commit {
        Some(file) => (step.version, Some(read_commit(store, file).await)),
        None => (step.version, None),
    }
}

/// Why a version can't be rebuilt though every listed file could be read: [`Error::Damaged`] where
/// a commit is missing, [`Error::NotFound`] where it is only the listing that lacks it. A listing
/// is no single moment: of two commits made while it is taken it may hold the later one alone.
pub(super) async fn gap_before(
    store: &Store,
    segments: &Segments,
    version: Version,
) -> Result<Error> {
    let missing = segments.missing_before(version);
    Ok(match store.head(&log_path(&commit_name(missing))).await? {
        Some(_) => Error::NotFound(format!(
            "version {version} can't be rebuilt: commit {missing} is in the log, but not in its \
             listing"
        )),
        None => segments.gap_before(version),
    })
}

/// Reads and parses one commit file. One that grew since it was looked at is looked at again, so
/// that what is known of a file is of the bytes that were read.
async fn read_commit(store: &Store, mut file: LogFile) -> Result<Commit> {
    let path = file.path();
    let bytes = store.read(&path).await?;
    if bytes.len() as u64 != file.size {
        let entry = store.head(&path).await?;
        let entry = entry.filter(|entry| entry.size == bytes.len() as u64).ok_or_else(|| {
            Error::Damaged(format!(
                "{} (version {}) is still being written",
                file.name, file.version
            ))
        })?;
        (file.size, file.modified_ms) = (entry.size, entry.modified_ms);
    }
    if bytes.len() <= PARSE_INLINE_BYTES_MAX {
        return Commit::parse(file, &bytes);
    }
    let parsing = tokio::task::spawn_blocking(move || Commit::parse(file, &bytes));
    parsing.await.map_err(|error| Error::Damaged(format!("parse a commit: {error}")))?
}

#[cfg(test)]
mod race_tests;
#[cfg(test)]
mod tests;
