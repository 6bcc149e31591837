//! Every version of a table that its log can rebuild, in one structure.
//!
//! `load` goes up through the log. Versions after a damaged or missing file are left out until a
//! later checkpoint stands in; where none does, [`History::newest`] is the error that names the
//! file. A table is never shown shorter than its log without it.
//!
//! Tailing is split so that no lock is held over a store call: [`History::read_next`] reads,
//! [`History::apply`] is pure.
//!
//! A history holds the files of every version. Where that is too much, its two parts live apart:
//! the [`Timeline`] stays, an [`Era`] is forgotten and loaded again.

mod era;
mod load;
mod names;
mod timeline;

use std::ops::{Deref, DerefMut};

use crate::error::{Error, Result};
use crate::log::commit::Commit;
use crate::log::interval::Intervals;
use crate::log::listing::{LogFile, LogFileKind, LogListing, commit_name, log_path};
use crate::log::path::FilePath;
use crate::log::replay::Replay;
use crate::log::version::Version;
use crate::store::{Reach, Store};

pub use era::{Applied, Era, EraPlan};
pub(super) use load::{COMMIT_BYTES_AT_ONCE, COMMITS_AT_ONCE, gap_before};
pub use names::{Names, NamesPlan};
pub use timeline::Timeline;

/// A table's versions and their files.
#[derive(Clone, Debug)]
pub struct History {
    timeline: Timeline,
    replay: Replay,
}

impl History {
    fn empty(listing: LogListing, reach: Reach) -> History {
        History { timeline: Timeline::empty(listing), replay: Replay::new(reach) }
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
        match load::read_commit(store, file).await {
            Err(Error::NotFound(_)) => Ok(None),
            result => result.map(Some),
        }
    }

    /// Goes up by a commit of [`History::read_next`]. One that is in already changes nothing, so
    /// that two readers may race.
    ///
    /// Errors: [`Error::Damaged`] where a version between is missing.
    pub fn apply(&mut self, commit: Commit) -> Result<()> {
        match era::apply(&mut self.replay, commit)? {
            Some(applied) => self.timeline.take_in(applied),
            None => Ok(()),
        }
    }

    /// The files of all versions.
    pub fn intervals(&self) -> &Intervals {
        self.replay.intervals()
    }

    /// The files in the table's folder that hold deletion vectors of live files, sorted.
    pub fn deletion_vector_files(&self, version: Version) -> Vec<FilePath> {
        era::deletion_vector_files(&self.replay, version)
    }

    /// What stays in memory, and the files of the newest versions, which may be forgotten.
    pub fn into_parts(self) -> (Timeline, Era) {
        (self.timeline, Era::whole(self.replay))
    }
}

/// A history is a timeline with all files: whatever a timeline tells, it tells too.
impl Deref for History {
    type Target = Timeline;

    fn deref(&self) -> &Timeline {
        &self.timeline
    }
}

impl DerefMut for History {
    fn deref_mut(&mut self) -> &mut Timeline {
        &mut self.timeline
    }
}

#[cfg(test)]
mod compaction_tests;
#[cfg(test)]
mod cut_tests;
#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod era_tests;
#[cfg(test)]
mod race_tests;
#[cfg(test)]
mod tests;
