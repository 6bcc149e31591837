//! The seal: a staging directory that nobody changes, while a commit reads it.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use tokio::time::{Instant, timeout_at};

use super::activity::{Obstacle, abandoned, commit_running};
use super::directory::Staging;
use super::disk::{failed, open_beneath, stat_name};
use super::handle::StagedFile;
use super::journal::Attempt;
use super::manifest::{self, StagedEntry, StagedIdentity};
use super::reference::LOG_FOLDER;
use super::stat::id_of;
use super::{OpenFor, StagedKind, Stat};
use crate::error::{Error, Result};
use crate::store::Store;

/// How long the kernel's release of a closed file may take to arrive.
const RELEASE_SECONDS_MAX: u64 = 2;

impl Staging {
    /// Seals the directory, for a commit.
    ///
    /// Errors: [`Error::Busy`] while a file is open for writing or another commit runs; the kind
    /// of the failure, where an earlier write failed.
    pub async fn seal(self: &Arc<Self>) -> Result<Sealed> {
        self.seal_within(Duration::from_secs(RELEASE_SECONDS_MAX)).await
    }

    /// As `seal`, waiting at most so long for files that are closed but not yet released.
    pub(super) async fn seal_within(self: &Arc<Self>, wait: Duration) -> Result<Sealed> {
        let deadline = Instant::now() + wait;
        loop {
            // Made ready before the look, so that a release right after it is not missed.
            let quieter = self.activity.quieter.notified();
            tokio::pin!(quieter);
            quieter.as_mut().enable();
            match self.activity.try_seal() {
                Ok(()) => return Ok(Sealed { staging: self.clone() }),
                Err(Obstacle::Leaving(id)) => {
                    if timeout_at(deadline, quieter).await.is_err() {
                        return Err(self.told(Obstacle::Leaving(id)));
                    }
                }
                Err(obstacle) => return Err(self.told(obstacle)),
            }
        }
    }

    fn told(&self, obstacle: Obstacle) -> Error {
        match obstacle {
            Obstacle::CommitRunning => commit_running(),
            Obstacle::Abandoned => abandoned(),
            Obstacle::Failed(failure) => {
                let path = self.known_path(failure.id);
                failure.error.during(&format!(
                    "{path:?} is not whole, because an earlier write failed; write it again or \
                     remove it, then sync"
                ))
            }
            Obstacle::Writing(id) | Obstacle::Leaving(Some(id)) => Error::Busy(format!(
                "{:?} is open for writing; close it, then sync again",
                self.known_path(id)
            )),
            Obstacle::Leaving(None) => {
                Error::Busy("the staging directory is being changed; sync again".into())
            }
        }
    }

    /// All files, sorted by path, without the seal: for a look that gets into nobody's way.
    pub fn peek(self: &Arc<Self>) -> Result<Vec<StagedEntry>> {
        manifest::peek(self)
    }

    /// The staged tree as a store, where it has a log; without the seal, and of whoever writes
    /// to it just now it may see half.
    pub fn peek_log(&self) -> Result<Option<Store>> {
        match stat_name(&self.root, OsStr::new(LOG_FOLDER)) {
            Ok(statx)
                if Stat::of(&statx).is_some_and(|stat| stat.kind == StagedKind::Directory) => {}
            Ok(_) | Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(error) => return Err(failed("stat", LOG_FOLDER)(error)),
        }
        let path = self.root_path.to_str().ok_or_else(|| {
            Error::Refused(format!("the spool's path {:?} is not UTF-8", self.root_path))
        })?;
        Store::open(path).map(Some)
    }

    /// Writes `result` for a commit that could not even be sealed.
    pub fn tell_result(&self, json: &str) {
        if let Err(error) = self.journal.set_result(json) {
            tracing::warn!("the result of a commit could not be kept: {error}");
        }
    }

    /// Copies the bytes of a reference in. For a caller that holds the seal.
    pub(super) fn materialize(self: &Arc<Self>, folder: &OwnedFd, name: &OsStr) -> Result<()> {
        let open = |flags| {
            open_beneath(folder, Path::new(name), flags, Mode::empty())
                .map_err(failed("copy in", name))
        };
        let file = open(OFlags::RDWR)?;
        let id = id_of(&stat_name(folder, name).map_err(failed("stat", name))?);
        // Not `write`, for it is the seal's own.
        StagedFile::new(self, id, file, OpenFor::default())?.materialize()
    }
}

/// A sealed staging directory: nothing in it changes while this lives, and dropping it opens the
/// directory again.
#[must_use]
#[derive(Debug)]
pub struct Sealed {
    staging: Arc<Staging>,
}

impl Sealed {
    /// All files, sorted by path. References that aren't whole, or lie in the staged log, become
    /// files of their own first.
    ///
    /// Errors: [`Error::Refused`] for a name that is not UTF-8 or a tree too deep,
    /// [`Error::Damaged`] where a source of such a reference is lost.
    pub fn files(&self) -> Result<Vec<StagedEntry>> {
        manifest::files(&self.staging, Path::new(""))
    }

    /// The staged tree as a store, where it is a Delta table: it has a log.
    ///
    /// Only the log may be read from it; data files can be references, which it shows as holes.
    pub fn log_store(&self) -> Result<Option<Store>> {
        let store = self.staging.peek_log()?;
        if store.is_some() {
            manifest::files(&self.staging, Path::new(LOG_FOLDER))?;
        }
        Ok(store)
    }

    /// Absolute path of the staged tree.
    pub fn root(&self) -> &Path {
        &self.staging.root_path
    }

    /// What was set by `set_options`.
    pub fn options_text(&self) -> String {
        self.staging.options_text()
    }

    /// What was set by `set_properties`.
    pub fn properties_text(&self) -> String {
        self.staging.properties_text()
    }

    /// The commit that was sent last and not yet settled.
    pub fn attempt(&self) -> Result<Option<Attempt>> {
        self.staging.journal.attempt()
    }

    /// Journals a commit, durably, before it is sent. Until it is cleared the files can be
    /// removed and read, and nothing else, even after the seal.
    pub fn record_attempt(&self, attempt: &Attempt) -> Result<()> {
        let recorded = self.staging.journal.record_attempt(attempt);
        // A failure can have come after the rename; what is there counts.
        let journal = &self.staging.journal;
        let unsettled = recorded.is_ok() || journal.has_attempt().unwrap_or(true);
        self.staging.activity.set_unsettled(unsettled);
        recorded
    }

    /// Takes the journaled commit back: it is known not to be in the table. After one that is,
    /// `empty` does this when the files are gone, for else a crash in between sends them again.
    pub fn clear_attempt(&self) -> Result<()> {
        self.staging.journal.clear_attempt()?;
        self.staging.activity.set_unsettled(false);
        Ok(())
    }

    /// Takes out of the options that the journaled commit was made with what was meant for it
    /// alone, for it is in the table; `keep` says what stays. Options that were set since stay.
    pub fn spend_options(&self, keep: impl FnOnce(&str) -> String) -> Result<()> {
        let attempt = self.attempt()?.filter(|attempt| !attempt.options.is_empty());
        match attempt {
            Some(attempt) if attempt.options == self.options_text() => {
                self.staging.journal.set_options(&keep(&attempt.options))
            }
            _ => Ok(()),
        }
    }

    /// Forgets the properties that the journaled commit set, or that the table was found to have
    /// where no commit was needed. Those that were set since stay.
    pub fn spend_properties(&self) -> Result<()> {
        let held = self.properties_text();
        let is_since = self.attempt()?.is_some_and(|attempt| attempt.properties != held);
        match held.is_empty() || is_since {
            true => Ok(()),
            false => self.staging.journal.set_properties(""),
        }
    }

    /// Replaces `result`, durably.
    pub fn set_result(&self, json: &str) -> Result<()> {
        self.staging.journal.set_result(json)
    }

    /// Takes away what was committed and what was left out, as far as each file still is what it
    /// was, and the directories that are left empty; then settles the attempt.
    ///
    /// May be repeated, also after a crash, with the list of the journal.
    pub fn empty(self, committed: &[StagedIdentity], left_out: &[StagedIdentity]) -> Result<()> {
        manifest::remove(&self.staging, committed.iter().chain(left_out))?;
        self.clear_attempt()
    }
}

impl Drop for Sealed {
    fn drop(&mut self) {
        self.staging.activity.unseal();
    }
}
