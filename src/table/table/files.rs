//! How a table gets at the files of a version: from memory at once, else by loading them.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Joint, Table, task};
use crate::error::{Error, Result};
use crate::log::commit::Commit;
use crate::log::history::{Era, Names};
use crate::log::version::Version;
use crate::table::eras::{Files, KnownNames};

/// What becomes of a load; `None` where the log was read anew meanwhile.
type Load<T> = Joint<Option<Arc<T>>>;

/// What is loaded now: an era for a version, and the names. Each takes itself away from here
/// when it ends, for a shared outcome would hold what the budget forgets.
#[derive(Default)]
pub(super) struct Loading {
    era: Mutex<Option<(Version, Load<Files>)>>,
    names: Mutex<Option<Load<KnownNames>>>,
}

impl Table {
    /// The files of a version, in memory for as long as they are held. Ready at once where they are
    /// in memory already.
    ///
    /// Errors: [`Error::NotFound`] where there is no such version, [`Error::Damaged`] where its log
    /// files are there no more, [`Error::Conflict`] where the table was replaced.
    pub async fn files(self: &Arc<Self>, version: Version) -> Result<Arc<Files>> {
        if let Some(files) = self.eras.resident(version) {
            return Ok(files);
        }
        loop {
            let (wanted, load) = {
                let mut loading = self.loading.era.lock().unwrap_or_else(PoisonError::into_inner);
                let running = loading.as_ref().filter(|(_, load)| load.peek().is_none());
                match (running, self.eras.resident(version)) {
                    (_, Some(files)) => return Ok(files),
                    (Some(running), None) => running.clone(),
                    (None, None) => loading.insert((version, self.begin_era(version))).clone(),
                }
            };
            // A load for another version may have this one too; its failure is its own.
            match load.await {
                Ok(Some(files)) if files.holds(version) => return Ok(files),
                Err(error) if wanted == version => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
    }

    fn begin_era(self: &Arc<Self>, version: Version) -> Load<Files> {
        let table = self.clone();
        task("load the files of a version", async move {
            let loaded = table.load_era(version).await;
            table.loading.era.lock().unwrap_or_else(PoisonError::into_inner).take();
            loaded.map_err(|error| error.during(&format!("table {}", table.label())))
        })
    }

    async fn load_era(&self, version: Version) -> Result<Option<Arc<Files>>> {
        let (plan, newest, generation) = self.read(|timeline| {
            let newest = timeline.versions().last().copied();
            (timeline.plan_era(version), newest, self.eras.generation())
        })?;
        let (Some(plan), Some(newest)) = (plan, newest) else {
            return Err(Error::NotFound(format!("there is no version {version}")));
        };
        let era = Era::load(&self.store, &plan, self.eras.bytes_max()).await?;
        self.check_same_log(newest).await?;
        Ok(self.eras.admit(era, generation))
    }

    /// Refuses what was read from the log of another table, made since in this one's place.
    async fn check_same_log(&self, newest: Version) -> Result<()> {
        match self.is_still_there(newest).await? {
            true => Ok(()),
            false => Err(Error::Conflict(
                "the table was dropped or made again; open the directory again".into(),
            )),
        }
    }

    /// Every name that the log ever gave to a file of a version up to `newest`; `None` where
    /// `files` have all of them. Errors: the store's, and as [`Table::files`].
    pub async fn names(
        self: &Arc<Self>,
        files: &Files,
        newest: Version,
    ) -> Result<Option<Arc<KnownNames>>> {
        if files.read(Era::is_whole) {
            return Ok(None);
        }
        loop {
            let load = {
                let mut loading = self.loading.names.lock().unwrap_or_else(PoisonError::into_inner);
                let running = loading.as_ref().filter(|load| load.peek().is_none());
                match (running, self.eras.resident_names(newest)) {
                    (_, Some(names)) => return Ok(Some(names)),
                    (Some(running), None) => running.clone(),
                    (None, None) => loading.insert(self.begin_names()).clone(),
                }
            };
            let names = load.await?.filter(|names| names.read(Names::newest) >= newest);
            if names.is_some() {
                return Ok(names);
            }
        }
    }

    fn begin_names(self: &Arc<Self>) -> Load<KnownNames> {
        let table = self.clone();
        task("load the names of a log", async move {
            let loaded = table.load_names().await;
            table.loading.names.lock().unwrap_or_else(PoisonError::into_inner).take();
            loaded.map_err(|error| error.during(&format!("table {}", table.label())))
        })
    }

    async fn load_names(&self) -> Result<Option<Arc<KnownNames>>> {
        let (plan, generation) =
            self.read(|timeline| (timeline.plan_names(), self.eras.generation()))?;
        let Some(plan) = plan else {
            return Err(Error::Damaged("no version of the log can be rebuilt".into()));
        };
        let names = Names::load(&self.store, &plan).await?;
        self.check_same_log(names.newest()).await?;
        Ok(self.eras.admit_names(names, generation))
    }

    /// Goes up by the commit after `newest`; false where its files can't be told from those of
    /// `newest`, so that the log has to be read anew.
    pub(super) async fn take_in(self: &Arc<Self>, newest: Version, commit: Commit) -> Result<bool> {
        let files = match self.files(newest).await {
            Ok(files) => files,
            Err(Error::Damaged(_) | Error::NotFound(_)) => return Ok(false),
            Err(error) => return Err(error),
        };
        if let Some(names) = self.eras.resident_names(newest) {
            names.write(|names| names.take_in(&commit));
        }
        let Some(applied) = files.write(|era| era.apply(commit))? else { return Ok(false) };
        {
            let mut history = self.history.write().unwrap_or_else(PoisonError::into_inner);
            let Some(timeline) = history.as_mut() else { return Ok(false) };
            timeline.take_in(applied)?;
        }
        let boundary = || {
            let checkpoint = self.read(crate::table::Timeline::newest_checkpoint).ok().flatten();
            checkpoint.unwrap_or(newest.next())
        };
        self.eras.grown(&files, boundary);
        Ok(true)
    }
}
