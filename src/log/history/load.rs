//! Goes up through a log and makes its [`History`].
//!
//! Lists the log, reads commits some at a time and in order, and goes up from the earliest base.
//! What can't be read is left out until a later checkpoint stands in.

use futures::future::join_all;
use futures::{StreamExt, stream};

use super::History;
use crate::error::{Error, Result};
use crate::log::checkpoint;
use crate::log::commit::{Commit, CommitContent};
use crate::log::lines;
use crate::log::listing::{self, LogFile, commit_name, log_path};
use crate::log::segment::{self, Segments, Step};
use crate::log::version::Version;
use crate::store::Store;

/// Commits that are read at a time, while as many before them are applied.
pub(in crate::log) const COMMITS_AT_ONCE: usize = 32;
/// Bytes of commits that are read at a time; a larger commit is read alone.
pub(in crate::log) const COMMIT_BYTES_AT_ONCE: u64 = 64 * 1024 * 1024;
/// A log that is cleaned up while it is read is read again, so often.
pub(super) const LOADS_MAX: usize = 3;

impl History {
    /// Lists the log and reads all of it.
    ///
    /// Damage within the log is no error here: see [`History::newest`]. Errors:
    /// [`Error::NotFound`] where there is no log, [`Error::Damaged`] where it is empty, and
    /// whatever keeps the store from answering.
    pub async fn load(store: &Store) -> Result<History> {
        History::load_within(store, usize::MAX).await
    }

    /// The same, but forgets the files of old versions on the way up where there are more than
    /// `bytes_max` of them: what is known of the versions themselves stays.
    pub async fn load_within(store: &Store, bytes_max: usize) -> Result<History> {
        let mut tries_left = LOADS_MAX;
        loop {
            tries_left -= 1;
            let listing = listing::list_log(store).await?;
            let segments = Segments::new(&listing.files);
            let history = History::empty(listing, store.reach());
            let last_try = tries_left == 0;
            let loading = Loading { store, segments, history, bytes_max, last_try };
            match loading.run().await {
                // A file went away between the listing and its turn, or came while it was taken.
                Err(Error::NotFound(_)) if tries_left > 0 => {}
                result => return result,
            }
        }
    }
}

/// A history on its way up through the log.
struct Loading<'a> {
    store: &'a Store,
    segments: Segments,
    history: History,
    bytes_max: usize,
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
                let boundary = self.segments.checkpoint_up_to(version).unwrap_or(version);
                self.history.replay.fit(self.bytes_max, boundary);
            }
        }
        drop(batches);
        self.look_for_gap().await?;
        self.history.marks = self.history.replay.take_marks();
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

    /// Tries the checkpoints of a version, then compacted commits that end there. Where none can be
    /// read the version is left out.
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
        self.leap(version, commit).await
    }

    /// Goes over a gap by compacted commits. What the version changed is then told of all of them.
    async fn leap(&mut self, version: Version, commit: Option<Commit>) -> Result<()> {
        let next = self.history.replay.at().map_or(Version(0), Version::next);
        let found: Vec<LogFile> = self.segments.compactions_to(version, next).cloned().collect();
        for file in found {
            match read_commit(self.store, file).await {
                Ok(compacted) => {
                    let modified_ms = match &commit {
                        Some(commit) => commit.file.modified_ms,
                        None => compacted.file.modified_ms,
                    };
                    // Who committed the version, and when, is in its own commit alone.
                    let info = commit.map(|commit| commit.content.info).unwrap_or_default();
                    let content = CommitContent { info, ..compacted.content };
                    let facts = self.history.replay.apply(version, content, modified_ms);
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
pub(in crate::log) async fn gap_before(
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

/// Reads and parses one commit file. Errors: as [`lines::read_content`].
pub(super) async fn read_commit(store: &Store, mut file: LogFile) -> Result<Commit> {
    let content = lines::read_content(store, &mut file).await?;
    Ok(Commit { file, content })
}
