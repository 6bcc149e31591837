//! The small files of a staging directory: each is replaced whole, and durable before we go on.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::disk::{failed, open_beneath, sync_folder};
use super::manifest::StagedIdentity;
use crate::error::{Error, Result};

const ATTEMPT: &str = "attempt";
const OPTIONS: &str = "options";
const PROPERTIES: &str = "properties";
const RESULT: &str = "result";
/// What the next content of a file is written under.
const NEXT: &str = ".next";
/// Options and properties are a few lines; more is somebody's mistake.
const LINES_BYTES_MAX: usize = 64 << 10;

/// A commit that was sent, or was about to be: what recovery needs to settle it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// The commit's unique `commitInfo.txnId`.
    pub txn_id: String,
    /// The version that it was sent as.
    pub version: u64,
    /// What `result` will say once the commit is known to be there.
    pub result: serde_json::Value,
    /// The options that it was made with; they are cleared with it.
    #[serde(default)]
    pub options: String,
    /// The properties that it sets; they are cleared with it too.
    #[serde(default)]
    pub properties: String,
    /// Device and inode of the staged log, where the commit is its rename into place.
    #[serde(default)]
    pub log_folder: Option<(u64, u64)>,
    /// The staged files that are in the commit.
    pub files: Vec<StagedIdentity>,
}

#[derive(Debug)]
pub(super) struct Journal {
    folder: OwnedFd,
    options: Mutex<String>,
    properties: Mutex<String>,
    result: Mutex<String>,
}

impl Journal {
    /// Reads what an earlier daemon left.
    pub(super) fn open(folder: OwnedFd) -> Result<Journal> {
        let options = read(&folder, OPTIONS)?.unwrap_or_default();
        let properties = read(&folder, PROPERTIES)?.unwrap_or_default();
        let result = read(&folder, RESULT)?.unwrap_or_default();
        Ok(Journal {
            folder,
            options: Mutex::new(options),
            properties: Mutex::new(properties),
            result: Mutex::new(result),
        })
    }

    pub(super) fn options(&self) -> String {
        locked(&self.options).clone()
    }

    /// Errors: [`Error::Refused`] for more than 64 KiB.
    pub(super) fn set_options(&self, text: &str) -> Result<()> {
        self.replace(&self.options, OPTIONS, None, text)
    }

    /// As `set_options`, where they still are what they were.
    pub(super) fn change_options(&self, was: &str, text: &str) -> Result<()> {
        self.replace(&self.options, OPTIONS, Some(was), text)
    }

    pub(super) fn properties(&self) -> String {
        locked(&self.properties).clone()
    }

    /// Errors: [`Error::Refused`] for more than 64 KiB.
    pub(super) fn set_properties(&self, text: &str) -> Result<()> {
        self.replace(&self.properties, PROPERTIES, None, text)
    }

    /// As `set_properties`, where they still are what they were.
    pub(super) fn change_properties(&self, was: &str, text: &str) -> Result<()> {
        self.replace(&self.properties, PROPERTIES, Some(was), text)
    }

    pub(super) fn result(&self) -> String {
        locked(&self.result).clone()
    }

    /// Kept in memory whatever becomes of the disk: on a full one the sentence still has readers.
    pub(super) fn set_result(&self, json: &str) -> Result<()> {
        let mut kept = locked(&self.result);
        *kept = json.to_string();
        write(&self.folder, RESULT, json)
    }

    pub(super) fn has_attempt(&self) -> Result<bool> {
        Ok(read(&self.folder, ATTEMPT)?.is_some())
    }

    /// Errors: [`Error::Damaged`] where it can't be read.
    pub(super) fn attempt(&self) -> Result<Option<Attempt>> {
        let Some(text) = read(&self.folder, ATTEMPT)? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|error| {
            Error::Damaged(format!("the journal of the last commit can't be read: {error}"))
        })
    }

    pub(super) fn record_attempt(&self, attempt: &Attempt) -> Result<()> {
        let text = serde_json::to_string(attempt)
            .map_err(|error| Error::Refused(format!("journal a commit: {error}")))?;
        write(&self.folder, ATTEMPT, &text)
    }

    pub(super) fn clear_attempt(&self) -> Result<()> {
        #[cfg(test)]
        fault::step(&self.folder, ATTEMPT, fault::Step::Before)?;
        match rustix::fs::unlinkat(&self.folder, ATTEMPT, AtFlags::empty()) {
            Ok(()) => {
                #[cfg(test)]
                fault::step(&self.folder, ATTEMPT, fault::Step::After)?;
                sync_folder(&self.folder, ATTEMPT)
            }
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(failed("clear journal", ATTEMPT)(error)),
        }
    }

    /// The lock is held while the file is written, so that two writers can't cross.
    fn replace(
        &self,
        kept: &Mutex<String>,
        name: &str,
        was: Option<&str>,
        text: &str,
    ) -> Result<()> {
        if text.len() > LINES_BYTES_MAX {
            return Err(Error::Refused(format!("{name} are longer than 64 KiB")));
        }
        let mut kept = locked(kept);
        if was.is_some_and(|was| *kept != was || was == text) {
            return Ok(());
        }
        write(&self.folder, name, text)?;
        *kept = text.to_string();
        Ok(())
    }
}

fn locked(text: &Mutex<String>) -> MutexGuard<'_, String> {
    text.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(folder: impl AsFd, name: &str) -> Result<Option<String>> {
    let file = match open_beneath(folder, Path::new(name), OFlags::RDONLY, Mode::empty()) {
        Ok(file) => std::fs::File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(failed("open journal", name)(error)),
    };
    std::io::read_to_string(file).map(Some).map_err(failed("read journal", name))
}

/// Writes under another name, syncs, renames, syncs the folder: a crash leaves the old or the new.
fn write(folder: impl AsFd, name: &str, text: &str) -> Result<()> {
    let next = format!("{name}{NEXT}");
    #[cfg(test)]
    fault::step(&folder, name, fault::Step::Before)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
    let mode = Mode::RUSR | Mode::WUSR;
    let file = open_beneath(&folder, Path::new(&next), flags, mode)
        .map_err(failed("create journal", &next))?;
    let mut file = std::fs::File::from(file);
    std::io::Write::write_all(&mut file, text.as_bytes())
        .map_err(failed("write journal", &next))?;
    file.sync_all().map_err(failed("sync journal", &next))?;
    #[cfg(test)]
    fault::step(&folder, name, fault::Step::Middle)?;
    rustix::fs::renameat(&folder, &next, &folder, name).map_err(failed("replace journal", name))?;
    #[cfg(test)]
    fault::step(&folder, name, fault::Step::After)?;
    sync_folder(&folder, name)
}

#[cfg(test)]
pub mod fault;
