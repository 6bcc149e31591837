//! The staging directories of one table.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Owner;
use super::directory::Staging;
use super::name::StagingName;
use super::spool::{self, Adopted, Place};
use crate::error::{Error, Result};

/// The staging directories of one table that this daemon holds.
#[derive(Debug)]
pub struct StagingArea {
    table_folder: PathBuf,
    read_only: bool,
    /// Held while one comes or goes, on disk too, where another daemon may keep us waiting. It
    /// comes before all other locks.
    changing: Mutex<()>,
    /// For the map alone, so that nobody who looks waits for that.
    members: Mutex<BTreeMap<StagingName, Member>>,
}

#[derive(Clone, Debug)]
struct Member {
    staging: Arc<Staging>,
    place: Place,
}

impl StagingArea {
    /// The area of a table that lies, or will lie, in a folder. Touches nothing on disk.
    pub fn new(table_folder: &Path, read_only: bool) -> StagingArea {
        // A daemon changes its working directory; without one the path stays as it is.
        let table_folder =
            std::path::absolute(table_folder).unwrap_or_else(|_| table_folder.to_path_buf());
        StagingArea {
            table_folder,
            read_only,
            changing: Mutex::default(),
            members: Mutex::default(),
        }
    }

    /// Takes over what an earlier daemon left and no other one holds. May be repeated.
    ///
    /// What can't be opened is told in the trace and left alone, so that one damaged staging
    /// directory doesn't keep the others away.
    pub fn open_all(&self) -> Result<Vec<Arc<Staging>>> {
        if self.read_only {
            return Ok(Vec::new());
        }
        let _changing = self.changing();
        for place in spool::places(&self.table_folder) {
            if let Err(error) = self.adopt_all(&place) {
                tracing::warn!(table = ?self.table_folder, %error, "spool can't be opened");
            }
        }
        Ok(self.list())
    }

    fn adopt_all(&self, place: &Place) -> Result<()> {
        let Some(spool) = place.open()? else { return Ok(()) };
        for name in spool.names()? {
            if self.members().contains_key(&name) {
                continue;
            }
            match spool.adopt(&name, &self.table_folder) {
                Ok(Adopted::Held(staging)) => self.hold(name, staging, place),
                Ok(Adopted::Elsewhere | Adopted::Nothing) => {}
                Err(error) => {
                    tracing::warn!(%name, %error, "staging directory can't be opened");
                }
            }
        }
        Ok(())
    }

    fn hold(&self, name: StagingName, staging: Arc<Staging>, place: &Place) {
        self.members().insert(name, Member { staging, place: place.clone() });
    }

    /// All that this daemon holds, sorted by name.
    pub fn list(&self) -> Vec<Arc<Staging>> {
        self.members().values().map(|member| member.staging.clone()).collect()
    }

    pub fn get(&self, name: &OsStr) -> Option<Arc<Staging>> {
        let name = StagingName::parse(name).ok()?;
        self.members().get(&name).map(|member| member.staging.clone())
    }

    /// Begins a staging directory.
    ///
    /// Errors: [`Error::Exists`]; [`Error::Busy`] while another daemon holds one of that name;
    /// [`Error::Refused`] for the name; [`Error::ReadOnly`].
    pub fn begin(&self, name: &OsStr, mode: u32, owner: Owner) -> Result<Arc<Staging>> {
        if self.read_only {
            return Err(Error::ReadOnly("begin staging: the mount is read-only".into()));
        }
        let name = StagingName::parse(name)?;
        let _changing = self.changing();
        if self.members().contains_key(&name) {
            return Err(exists(&name));
        }
        let places = spool::places(&self.table_folder);
        for place in &places {
            self.check_free(&name, place)?;
        }
        let place = places.first().expect("BUG: a table has a place for its spool");
        let staging = place.make()?.begin(&name, &self.table_folder, mode, owner)?;
        self.hold(name, staging.clone(), place);
        Ok(staging)
    }

    /// Errors where a place has a staging directory of that name: an earlier daemon may have used
    /// the other place, or another one have died while we run, whose directory is adopted here.
    fn check_free(&self, name: &StagingName, place: &Place) -> Result<()> {
        let Some(spool) = place.open()? else { return Ok(()) };
        match spool.adopt(name, &self.table_folder)? {
            Adopted::Nothing => Ok(()),
            Adopted::Elsewhere => Err(Error::Busy(format!(
                "staging directory {name} is held by another deltafs daemon; choose another \
                 name, or unmount that one"
            ))),
            Adopted::Held(staging) => {
                self.hold(name.clone(), staging, place);
                Err(exists(name))
            }
        }
    }

    /// Ends a staging directory that holds no files. Errors: the system's ENOTEMPTY, and Busy.
    pub fn abandon(&self, name: &OsStr) -> Result<()> {
        let name = StagingName::parse(name)?;
        let _changing = self.changing();
        let Some(Member { staging, place }) = self.members().get(&name).cloned() else {
            return Err(Error::NotFound(format!("no staging directory {name}")));
        };
        // Locked to the end, for who locks it next must find out that it is gone.
        let spool = place.open()?;
        staging.retire()?;
        self.members().remove(&name);
        if let Some(spool) = &spool
            && let Err(error) = spool.remove_folder(OsStr::new(name.as_str()))
        {
            // Without its tree it is a leftover, and goes when the spool is next opened.
            tracing::warn!(%name, %error, "abandoned staging directory is left in the spool");
        }
        place.remove_if_empty();
        drop(spool);
        Ok(())
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn members(&self) -> MutexGuard<'_, BTreeMap<StagingName, Member>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn exists(name: &StagingName) -> Error {
    Error::Exists(format!("staging directory {name} exists already"))
}
