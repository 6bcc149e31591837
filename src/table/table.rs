//! One table: its log in memory, kept fresh, and its staging directories.
//!
//! Invariants. `history` is written only by the one look at the log that runs (`looking`), which
//! holds no lock while it waits for the store; readers hold `history` for a moment and never across
//! a store call. What was read of a version stays true: later looks only add versions, unless the
//! log itself was taken away or replaced, and then all of it is read anew.
//!
//! `history` tells of every version but its files, and stays. The files are in `eras`, within the
//! budget of all tables, and `files` loads again what was forgotten.
//!
//! Lock order: `looking`, `history`, `sightings`, and then those of `eras`; each is held for a
//! moment.

mod files;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::board::CommitBoard;
use super::budget::Budget;
use super::checksum::{self, Checks};
use super::commit::facts::blocking;
use super::eras::Eras;
use super::frozen::{FrozenLog, LastCheckpoint, LogSightings};
use super::staging::{Owner, Staging, StagingArea};
use crate::error::{Error, Result};
use crate::log::history::{Era, History, Timeline};
use crate::log::listing::{self, LogFile};
use crate::log::version::Version;
use crate::store::{Entry, Store};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};

/// Work that many wait for.
type Joint<T> = Shared<BoxFuture<'static, Result<T>>>;
type Look = Joint<()>;

/// Whether a log that is read anew is the one that was read before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Log {
    /// Its damage was mended, or it has more damage.
    Same,
    /// The table was not there, or was dropped and made again.
    Another,
}

/// A folder that holds, or will hold, `_delta_log`.
pub struct Table {
    path: String,
    store: Store,
    looking: Mutex<Option<Look>>,
    looked: Mutex<Option<Instant>>,
    history: RwLock<Option<Timeline>>,
    eras: Eras,
    loading: files::Loading,
    sightings: Mutex<LogSightings>,
    entries: Mutex<HashMap<String, Entry>>,
    staging: StagingArea,
    settling: Mutex<Option<Look>>,
    commits: CommitBoard,
    checks: Checks,
}

impl Table {
    pub(super) fn new(path: String, store: Store, read_only: bool, budget: Arc<Budget>) -> Table {
        let folder = store.local_root().unwrap_or(Path::new("")).to_path_buf();
        let label = if path.is_empty() { store.url() } else { &path };
        Table {
            eras: Eras::new(label, budget),
            loading: files::Loading::default(),
            path,
            staging: StagingArea::new(&folder, read_only),
            store,
            looking: Mutex::default(),
            looked: Mutex::default(),
            history: RwLock::default(),
            sightings: Mutex::default(),
            entries: Mutex::default(),
            settling: Mutex::default(),
            commits: CommitBoard::default(),
            checks: Checks::default(),
        }
    }

    /// The path within the lake; empty where the mount is this one table.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// How messages name the table: its path, or its folder where that is empty.
    pub fn label(&self) -> &str {
        if self.path.is_empty() { self.store.url() } else { &self.path }
    }

    /// The table's folder.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The table's staging directories; [`Table::settled`] first.
    pub fn staging(&self) -> &StagingArea {
        &self.staging
    }

    /// What commits run now.
    pub fn commits(&self) -> &CommitBoard {
        &self.commits
    }

    /// Which checksums were looked at.
    pub(super) fn checks(&self) -> &Checks {
        &self.checks
    }

    /// Whether the table had a log at the last look.
    pub fn exists(&self) -> bool {
        self.history.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Answers from what is in memory of every version. Errors: [`Error::NotFound`] where the table
    /// has no log.
    pub fn read<T>(&self, answer: impl FnOnce(&Timeline) -> T) -> Result<T> {
        let history = self.history.read().unwrap_or_else(PoisonError::into_inner);
        match history.as_ref() {
            Some(history) => Ok(answer(history)),
            None => Err(Error::NotFound(format!("table {} has no log", self.label()))),
        }
    }

    /// The newest version at the last look. Errors: [`Error::Damaged`] where the log can't tell it.
    pub fn newest(&self) -> Result<Version> {
        self.read(Timeline::newest)?
            .map_err(|error| error.during(&format!("table {}", self.label())))
    }

    /// Looks at the log, unless that was done within `age_max`.
    pub async fn fresh(self: &Arc<Self>, age_max: Duration) -> Result<()> {
        let looked = *self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        match looked {
            Some(at) if at.elapsed() < age_max => Ok(()),
            _ => self.join_look().await,
        }
    }

    /// Looks at the log now: what was committed before this call is known after it.
    pub async fn refresh(self: &Arc<Self>) -> Result<()> {
        let running = self.looking.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(running) = running {
            // It began before this call and may have looked too early; its failure is its own.
            let _ = running.await;
        }
        self.join_look().await
    }

    /// Waits for the look that runs, or begins one: many callers cost one look.
    async fn join_look(self: &Arc<Self>) -> Result<()> {
        let look = {
            let mut looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
            match looking.as_ref().filter(|look| look.peek().is_none()) {
                Some(look) => look.clone(),
                None => {
                    let table = self.clone();
                    let look = task("look at the log", async move { table.look().await });
                    *looking = Some(look.clone());
                    look
                }
            }
        };
        look.await
    }

    async fn look(self: &Arc<Self>) -> Result<()> {
        let began = Instant::now();
        match self.read(Timeline::newest) {
            Ok(Ok(newest)) if self.is_still_there(newest).await? => self.tail(newest).await?,
            Ok(Err(_)) if !self.has_changed().await? => {}
            Ok(Err(_)) => self.load(Log::Same).await?,
            Ok(Ok(_)) | Err(_) => {
                self.load(Log::Another).await?;
                // A listing may lack what was committed just before it; asking by name doesn't.
                if let Ok(Ok(newest)) = self.read(Timeline::newest) {
                    self.tail(newest).await?;
                }
            }
        }
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = Some(began);
        let table = self.clone();
        // Nobody waits for it: it says nothing that a version depends on.
        tokio::spawn(async move { checksum::look(&table).await });
        Ok(())
    }

    /// Whether the newest commit is the file it was: else the table was dropped or replaced.
    async fn is_still_there(&self, newest: Version) -> Result<bool> {
        let known = self.read(|history| {
            // Asked at every look, so by its name; only a cleaned up log needs the search.
            let commit = history.log_file(&listing::commit_name(newest));
            let any = || history.log_files(newest).into_iter().rfind(|file| file.version == newest);
            commit.or_else(any).cloned()
        })?;
        let Some(known) = known else { return Ok(false) };
        let found = self.store.head(&known.path()).await?;
        Ok(found.is_some_and(|entry| {
            entry.size == known.size && entry.modified_ms == known.modified_ms
        }))
    }

    /// Whether the files of a damaged log are others than when it was read: else reading it again
    /// finds the same damage.
    async fn has_changed(&self) -> Result<bool> {
        let listing = listing::list_log(&self.store).await?;
        self.read(|history| {
            let same = |file: &LogFile| {
                history.log_file(&file.name).is_some_and(|known| {
                    known.size == file.size && known.modified_ms == file.modified_ms
                })
            };
            let known = history.log_files(Version::NEVER).len();
            known != listing.files.len() || !listing.files.iter().all(same)
        })
    }

    async fn load(&self, log: Log) -> Result<()> {
        let loaded = match History::load_within(&self.store, self.eras.bytes_max()).await {
            Ok(history) => Some(history.into_parts()),
            Err(Error::NotFound(_)) => None,
            Err(error) => return Err(error.during(&format!("table {}", self.label()))),
        };
        let (loaded, era): (Option<Timeline>, Option<Era>) = loaded.unzip();
        let last_checkpoint = self.read_last_checkpoint().await;
        let mut history = self.history.write().unwrap_or_else(PoisonError::into_inner);
        let mut sightings = self.sightings.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fresh = LogSightings::default();
        match log {
            // What a version shows was fixed before and stays.
            Log::Same => fresh.keep(std::mem::take(&mut *sightings)),
            Log::Another => self.checks.forget(),
        }
        let new = match (&*history, &loaded) {
            (Some(known), Some(loaded)) if log == Log::Same => loaded
                .log_files(Version::NEVER)
                .into_iter()
                .filter(|file| known.log_file(&file.name).is_none())
                .map(|file| file.name.clone())
                .collect(),
            _ => Vec::new(),
        };
        fresh.note(new.iter().map(String::as_str), last_checkpoint);
        (*history, *sightings) = (loaded, fresh);
        let generation = self.eras.clear();
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clear();
        drop((history, sightings));
        if let Some(era) = era {
            self.eras.admit(era, generation);
        }
        Ok(())
    }

    async fn tail(self: &Arc<Self>, mut newest: Version) -> Result<()> {
        let began_at = newest;
        loop {
            let mut next = History::read_next(&self.store, newest).await?;
            if next.is_none() && self.has_commit(newest.next().next()).await? {
                // Both came between the two looks, or the one in between was lost.
                next = History::read_next(&self.store, newest).await?;
                if next.is_none() {
                    return self.load(Log::Same).await;
                }
            }
            let Some(commit) = next else { break };
            if !self.take_in(newest, commit).await? {
                return self.load(Log::Same).await;
            }
            newest = newest.next();
        }
        if newest > began_at {
            self.note_log_files().await?;
        }
        Ok(())
    }

    async fn has_commit(&self, version: Version) -> Result<bool> {
        let path = listing::log_path(&listing::commit_name(version));
        Ok(self.store.head(&path).await?.is_some())
    }

    /// Takes in checkpoints and checksums that others wrote since the last look.
    async fn note_log_files(&self) -> Result<()> {
        let listing = listing::list_log(&self.store).await?;
        let last_checkpoint = self.read_last_checkpoint().await;
        let mut history = self.history.write().unwrap_or_else(PoisonError::into_inner);
        let Some(history) = history.as_mut() else { return Ok(()) };
        let new = listing.files.iter().map(|file| file.name.as_str());
        let new: Vec<&str> = new.filter(|name| history.log_file(name).is_none()).collect();
        self.sightings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .note(new.into_iter(), last_checkpoint);
        history.note_log_files(listing.files);
        Ok(())
    }

    /// The table's `_last_checkpoint`; whatever is wrong with it, it is only a hint.
    async fn read_last_checkpoint(&self) -> Option<LastCheckpoint> {
        let path = format!("{}/{}", listing::LOG_DIRECTORY, listing::LAST_CHECKPOINT);
        self.store.read(&path).await.ok().and_then(LastCheckpoint::parse)
    }

    /// The log files that the directory of `version` shows, now and for ever.
    pub fn frozen_log(&self, version: Version) -> Result<FrozenLog> {
        self.read(|history| {
            let mut sightings = self.sightings.lock().unwrap_or_else(PoisonError::into_inner);
            sightings.freeze(history, version)
        })
    }

    /// One file of `frozen_log`.
    pub fn frozen_log_file(&self, version: Version, name: &str) -> Result<Option<LogFile>> {
        self.read(|history| {
            let mut sightings = self.sightings.lock().unwrap_or_else(PoisonError::into_inner);
            sightings.freeze_file(history, version, name)
        })
    }

    /// The `_last_checkpoint` of `frozen_log`.
    pub fn frozen_last_checkpoint(&self, version: Version) -> Result<Option<LastCheckpoint>> {
        self.read(|history| {
            let mut sightings = self.sightings.lock().unwrap_or_else(PoisonError::into_inner);
            sightings.freeze_last_checkpoint(history, version)
        })
    }

    /// What the store says of a file that the log names without size and time (a deletion vector),
    /// asked once; `None` where the store has lost it.
    pub async fn entry(&self, path: &str) -> Result<Option<Entry>> {
        let known = {
            let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            entries.get(path).cloned()
        };
        if known.is_some() {
            return Ok(known);
        }
        let found = self.store.head(path).await?;
        if let Some(entry) = &found {
            let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            entries.insert(path.to_string(), entry.clone());
        }
        Ok(found)
    }

    /// Opens a file of the table whose size the log tells. Errors: [`Error::Damaged`] where it is
    /// missing or has another size, so that a copy fails loudly.
    pub fn open_file(&self, path: &str, size: u64) -> Result<File> {
        let lost =
            |why: String| Err(Error::Damaged(format!("table {}: {path}: {why}", self.label())));
        let file = match self.store.open_local(path) {
            Some(Ok(file)) => file,
            Some(Err(Error::NotFound(_))) => {
                return lost("named by the log and missing in the store (vacuumed?)".into());
            }
            Some(Err(error)) => return Err(error),
            None => return lost("not on a local disk".into()),
        };
        let found = match file.metadata() {
            Ok(metadata) => metadata.len(),
            Err(error) => return Err(Error::from_io(format!("stat {path}"), &error)),
        };
        if found != size {
            return lost(format!("has {found} bytes and the log says {size}"));
        }
        Ok(file)
    }

    /// Adopts the staging directories of an earlier daemon and settles the commits that it left
    /// in the middle; done once, before anybody sees them.
    pub async fn settled(self: &Arc<Self>) -> Result<()> {
        let settling = {
            let mut settling = self.settling.lock().unwrap_or_else(PoisonError::into_inner);
            match settling.as_ref().filter(|look| !matches!(look.peek(), Some(Err(_)))) {
                Some(look) => look.clone(),
                None => {
                    let table = self.clone();
                    let look = task("settle", async move { table.settle().await });
                    *settling = Some(look.clone());
                    look
                }
            }
        };
        settling.await
    }

    /// Begins a staging directory: `mkdir staging/NAME`.
    pub async fn begin_staging(
        self: &Arc<Self>,
        name: &OsStr,
        mode: u32,
        owner: Owner,
    ) -> Result<Arc<Staging>> {
        self.settled().await?;
        let (table, name) = (self.clone(), name.to_owned());
        let begin = move || {
            table.store.check_in_place()?;
            table.staging.begin(&name, mode, owner)
        };
        blocking(begin).await
    }

    /// Removes an empty staging directory: `rmdir staging/NAME`.
    pub async fn abandon_staging(self: &Arc<Self>, name: &OsStr) -> Result<()> {
        self.settled().await?;
        let (table, name) = (self.clone(), name.to_owned());
        blocking(move || table.staging.abandon(&name)).await
    }

    async fn settle(self: &Arc<Self>) -> Result<()> {
        let table = self.clone();
        for staging in blocking(move || table.staging.open_all()).await? {
            if let Err(error) = super::commit::recover(self, &staging).await {
                tracing::warn!(
                    table = self.label(),
                    staging = staging.name(),
                    "an earlier commit could not be settled; `sync` will try again: {error}"
                );
            }
        }
        Ok(())
    }
}

/// Runs work that many wait for on the runtime's own threads, for whoever polls a shared future
/// first does its work: a thread that answers the kernel must not. A panic becomes an error.
fn task<T: Clone + Send + Sync + 'static>(
    what: &'static str,
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Joint<T> {
    let running = tokio::spawn(work);
    let ended = running.map(move |ended| {
        ended.unwrap_or_else(|error| Err(Error::Damaged(format!("BUG: {what}: {error}"))))
    });
    ended.boxed().shared()
}
