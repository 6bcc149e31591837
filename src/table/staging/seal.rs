//! A commit's hold on a staging directory: begun, then sealed, then let go.
//!
//! [`Held`] settles what an earlier attempt left; nothing stands still meanwhile. [`Sealed`] has
//! the files as they were at one moment, linked aside, and users go on beside it. Dropping either
//! ends the commit; `activity` has the states.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::activity::{Obstacle, Phase};
use super::directory::Staging;
use super::disk::{failed, open_beneath, stat_name};
use super::handle::StagedFile;
use super::journal::Attempt;
use super::linked;
use super::manifest::{self, Root, StagedEntry, StagedIdentity};
use super::reference::LOG_FOLDER;
use super::stat::id_of;
use super::{OpenFor, StagedKind, Stat};
use crate::error::{Error, Result};
use crate::store::Store;

/// How long the kernel's release of a closed file may take to arrive.
const RELEASE_SECONDS_MAX: u64 = 2;

impl Staging {
    /// Begins a commit. Errors: [`Error::Busy`] while another one runs.
    pub fn hold(self: &Arc<Self>) -> Result<Held> {
        self.activity.begin()?;
        Ok(Held { staging: self.clone() })
    }

    /// Begins a commit and seals all that is staged; for tests, where no attempt is to be settled.
    #[cfg(test)]
    pub async fn seal(self: &Arc<Self>) -> Result<Sealed> {
        self.hold()?.seal(None).await
    }

    /// Absolute path of what users see; for tests, which put files there.
    #[cfg(test)]
    pub fn files_path(&self) -> &Path {
        &self.root_path
    }

    /// The moments at which a change that [`Error::Sealed`] refused may be tried again.
    pub fn turns(&self) -> Turns {
        Turns(self.activity.turns())
    }

    /// Makes everything stand still, waiting at most so long for files that are closed but not yet
    /// released.
    async fn quiet_within(&self, wait: Duration) -> Result<()> {
        let deadline = Instant::now() + wait;
        loop {
            // Made ready before the look, so that a release right after it is not missed.
            let quieter = self.activity.quieter.notified();
            tokio::pin!(quieter);
            quieter.as_mut().enable();
            match self.activity.try_seal() {
                Ok(()) => return Ok(()),
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
        log_in(Root { folder: &self.root, path: &self.root_path })
    }

    /// Whether nothing is staged that another commit could make a version of.
    pub fn is_spent(&self) -> Result<bool> {
        Ok(self.totals()?.files == 0 && self.properties_text().is_empty())
    }

    /// Replaces `result`, durably.
    pub fn set_result(&self, json: &str) -> Result<()> {
        self.journal.set_result(json)
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

/// Waits for a commit's end.
#[derive(Debug)]
pub struct Turns(watch::Receiver<()>);

impl Turns {
    /// Returns when a commit was sealed or has ended since the last look.
    pub async fn next(&mut self) {
        // The sender lives as long as the staging directory; without one nobody has to wait.
        let _ = self.0.changed().await;
    }
}

/// A staging directory that a commit has begun in; dropping it ends the commit.
#[must_use]
#[derive(Debug)]
pub struct Held {
    staging: Arc<Staging>,
}

/// The files of a staging directory as they were at one moment, and stay while this lives.
#[must_use]
#[derive(Debug)]
pub struct Sealed {
    held: Held,
    /// The tree of links.
    root: OwnedFd,
    path: PathBuf,
    options: String,
    properties: String,
    /// Of the tree that users see, at that moment.
    edition: u64,
}

impl std::ops::Deref for Sealed {
    type Target = Held;

    fn deref(&self) -> &Held {
        &self.held
    }
}

impl Held {
    /// Seals what is staged. Of an attempt that was sent and may still arrive only its own files,
    /// with the options that it was sent with: else what arrives could be taken for more.
    ///
    /// Errors: [`Error::Busy`] while a file is open for writing; the kind of the failure, where an
    /// earlier write failed; [`Error::Refused`] for directories too deep.
    pub async fn seal(self, attempt: Option<Attempt>) -> Result<Sealed> {
        self.seal_within(attempt, Duration::from_secs(RELEASE_SECONDS_MAX)).await
    }

    /// As `seal`, waiting at most so long for files that are closed but not yet released.
    pub(super) async fn seal_within(
        self,
        attempt: Option<Attempt>,
        wait: Duration,
    ) -> Result<Sealed> {
        if attempt.is_none() {
            self.staging.quiet_within(wait).await?;
        }
        match tokio::task::spawn_blocking(move || self.link_aside(attempt)).await {
            Ok(sealed) => sealed,
            Err(error) => Err(Error::Damaged(format!("BUG: sealing panicked: {error}"))),
        }
    }

    fn link_aside(self, attempt: Option<Attempt>) -> Result<Sealed> {
        let staging = &self.staging;
        let edition = staging.activity.edition();
        let (root, frozen, (options, properties)) = match attempt {
            None => {
                let (root, frozen) = linked::make(staging, None)?;
                (root, frozen, (staging.options_text(), staging.properties_text()))
            }
            Some(attempt) => {
                let only = attempt.files.into_iter().collect();
                let (root, frozen) = linked::make(staging, Some(&only))?;
                (root, frozen, (attempt.options, attempt.properties))
            }
        };
        let path = staging.root_path.with_file_name(linked::SEALED);
        staging.activity.freeze(frozen);
        Ok(Sealed { held: self, root, path, options, properties, edition })
    }

    /// The commit that was sent last and not yet settled.
    pub fn attempt(&self) -> Result<Option<Attempt>> {
        self.staging.journal.attempt()
    }

    /// Journals a commit, durably, before it is sent. Until it is cleared its files can be removed
    /// and read, and nothing else, even after the seal.
    pub fn record_attempt(&self, attempt: &Attempt) -> Result<()> {
        let recorded = self.staging.journal.record_attempt(attempt);
        self.look_at_journal();
        self.staging.activity.enter(Phase::Publishing);
        recorded
    }

    /// Takes the journaled commit back: it is known not to be in the table. After one that is,
    /// `empty` does this when the files are gone, for else a crash in between sends them again.
    pub fn clear_attempt(&self) -> Result<()> {
        let cleared = self.staging.journal.clear_attempt();
        self.look_at_journal();
        cleared
    }

    /// A call can fail after it has changed the journal; what is there counts.
    fn look_at_journal(&self) {
        let unsettled = self.staging.journal.has_attempt().unwrap_or(true);
        self.staging.activity.set_unsettled(unsettled);
    }

    /// Takes out of the options that the journaled commit was made with what was meant for it
    /// alone, for it is in the table; `keep` says what stays. Options that were set since stay.
    pub fn spend_options(&self, keep: impl FnOnce(&str) -> String) -> Result<()> {
        let Some(Attempt { options, .. }) = self.attempt()? else { return Ok(()) };
        self.staging.journal.change_options(&options, &keep(&options))
    }

    /// Forgets the properties that a commit set, or found in the table. Those that were set since
    /// stay.
    pub fn spend_properties(&self, spent: &str) -> Result<()> {
        self.staging.journal.change_properties(spent, "")
    }

    /// Replaces `result`, durably.
    pub fn set_result(&self, json: &str) -> Result<()> {
        self.staging.set_result(json)
    }

    /// Takes away what was committed, as far as each file still is what it was, and the directories
    /// that are left empty, if nothing else was changed since `edition`; then settles the attempt.
    ///
    /// May be repeated, also after a crash, with the list of the journal.
    pub fn empty(&self, committed: &[StagedIdentity], edition: u64) -> Result<()> {
        manifest::remove(&self.staging, committed.iter(), edition)?;
        self.clear_attempt()?;
        self.remove_links();
        Ok(())
    }

    /// Takes away what was linked aside, once the outcome is known: until then it keeps the inode
    /// numbers by which the files, and a log that was to be renamed into place, are recognised.
    pub fn remove_links(&self) {
        if self.staging.activity.is_unsettled() {
            return;
        }
        if let Err(error) = linked::remove(&self.staging) {
            // It is in nobody's way, and goes before the next commit.
            tracing::warn!(staging = self.staging.name(), %error, "links of a commit stay");
        }
    }

    /// The edition of the tree that users see.
    pub fn edition(&self) -> u64 {
        self.staging.activity.edition()
    }
}

impl Sealed {
    /// All files, sorted by path. References that aren't whole, or lie in the staged log, become
    /// files of their own first.
    ///
    /// Errors: [`Error::Refused`] for a name that is not UTF-8, [`Error::Damaged`] where a source
    /// of such a reference is lost.
    pub fn files(&self) -> Result<Vec<StagedEntry>> {
        manifest::files(&self.staging, self.tree(), Path::new(""))
    }

    /// The sealed tree as a store, where it is a Delta table: it has a log.
    ///
    /// Only the log may be read from it; data files can be references, which it shows as holes.
    pub fn log_store(&self) -> Result<Option<Store>> {
        let store = log_in(self.tree())?;
        if store.is_some() {
            manifest::files(&self.staging, self.tree(), Path::new(LOG_FOLDER))?;
        }
        Ok(store)
    }

    /// Makes a file's bytes durable, by its absolute path in the sealed tree. A failure is
    /// remembered: the file has to be brought again.
    pub fn make_durable(&self, path: &Path) -> Result<()> {
        let file = std::fs::File::open(path).map_err(failed("read", path))?;
        self.staging.sync_whole(file, path)
    }

    /// Absolute path of the sealed tree.
    pub fn root(&self) -> &Path {
        &self.path
    }

    /// What was set by `set_options` when it was sealed.
    pub fn options(&self) -> &str {
        &self.options
    }

    /// What was set by `set_properties` when it was sealed.
    pub fn properties(&self) -> &str {
        &self.properties
    }

    /// Notes that data is on its way into the table.
    pub fn uploading(&self) {
        self.staging.activity.enter(Phase::Uploading);
    }

    /// Ends the seal and keeps the hold; gives the edition of the tree that was sealed.
    pub fn open(self) -> (Held, u64) {
        self.held.remove_links();
        (self.held, self.edition)
    }

    fn tree(&self) -> Root<'_> {
        Root { folder: &self.root, path: &self.path }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.staging.activity.unseal();
    }
}

fn log_in(root: Root<'_>) -> Result<Option<Store>> {
    match stat_name(root.folder, OsStr::new(LOG_FOLDER)) {
        Ok(statx) if Stat::of(&statx).is_some_and(|stat| stat.kind == StagedKind::Directory) => {}
        Ok(_) | Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(failed("stat", LOG_FOLDER)(error)),
    }
    let path = root
        .path
        .to_str()
        .ok_or_else(|| Error::Refused(format!("the spool's path {:?} is not UTF-8", root.path)))?;
    Store::open(path).map(Some)
}
