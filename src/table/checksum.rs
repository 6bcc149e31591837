//! Version checksums beside a table's commits: looked at, told, and never in the way.
//!
//! A mismatch is told once in the trace, and each time in the version's `.deltafs/checksum`; the
//! version is shown all the same. The newest checksum is looked at when the table is, those of
//! other versions when somebody asks: thousands of small files would cost more than they tell.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::table::Table;
use crate::error::{Error, Result};
use crate::log::checksum::{CHECKSUM_BYTES_MAX, VersionState, checksum_name, mismatches};
use crate::log::listing::log_path;
use crate::log::snapshot::Snapshot;
use crate::log::version::Version;

/// The versions whose checksums were looked at, and those that were told of.
#[derive(Debug, Default)]
pub(super) struct Checks(Mutex<Checked>);

#[derive(Debug, Default)]
struct Checked {
    newest: Option<Version>,
    told: BTreeSet<Version>,
}

impl Checks {
    /// Whether a newest checksum is one that wasn't looked at.
    fn begin(&self, version: Version) -> bool {
        let mut checked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = checked.newest.is_none_or(|newest| newest < version);
        checked.newest = checked.newest.max(Some(version));
        is_new
    }

    fn tell(&self, table: &Table, version: Version, found: &[String]) {
        let mut checked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !found.is_empty() && checked.told.insert(version) {
            tracing::warn!(
                table = table.label(),
                %version,
                "{} doesn't match its version: {}",
                checksum_name(version),
                found.join("; ")
            );
        }
    }

    /// The log is another one.
    pub fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Checked::default();
    }
}

/// What `.deltafs/checksum` of a version says: `absent`, `matches`, or a line for each mismatch.
///
/// Errors: [`Error::NotFound`] where there is no such version, and the store's.
pub async fn text(table: &Arc<Table>, version: Version) -> Result<String> {
    let Some(bytes) = read(table, version).await? else { return Ok("absent\n".into()) };
    let found = match bytes {
        Err(why) => vec![why],
        Ok(bytes) => mismatches(&bytes, &whole_state(table, version).await?),
    };
    table.checks().tell(table, version, &found);
    Ok(match found.is_empty() {
        true => "matches\n".into(),
        false => found.iter().map(|line| format!("{line}\n")).collect(),
    })
}

/// Looks at the newest checksum that the log has, unless that was done. The files are not gone
/// through: their sums are known. What it finds is in the trace.
pub(super) async fn look(table: &Arc<Table>) -> Vec<String> {
    let newest = table.read(|history| {
        let version = history.newest_checksum().filter(|version| table.checks().begin(*version))?;
        Some((version, history.version_state(version)?))
    });
    let Ok(Some((version, state))) = newest else { return Vec::new() };
    let found = match read(table, version).await {
        Ok(Some(Ok(bytes))) => mismatches(&bytes, &state),
        Ok(Some(Err(why))) => vec![why],
        Ok(None) => Vec::new(),
        Err(error) => {
            let name = checksum_name(version);
            tracing::debug!(table = table.label(), "{name} can't be read: {error}");
            Vec::new()
        }
    };
    table.checks().tell(table, version, &found);
    found
}

type Readable = std::result::Result<Bytes, String>;

/// The file's bytes, or why it isn't read.
async fn read(table: &Table, version: Version) -> Result<Option<Readable>> {
    let path = log_path(&checksum_name(version));
    let Some(entry) = table.store().head(&path).await? else { return Ok(None) };
    if entry.size > CHECKSUM_BYTES_MAX {
        let size = entry.size;
        return Ok(Some(Err(format!("it has {size} bytes, too many to be a checksum"))));
    }
    match table.store().read(&path).await {
        Ok(bytes) => Ok(Some(Ok(bytes))),
        Err(Error::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the log says of a version, its files included where it can be read.
async fn whole_state(table: &Arc<Table>, version: Version) -> Result<VersionState> {
    let (state, is_readable) = table.read(|history| {
        let facts = history.facts(version);
        let is_readable = facts.is_some_and(|facts| facts.unreadable.is_none());
        (history.version_state(version), is_readable)
    })?;
    let state =
        state.ok_or_else(|| Error::NotFound(format!("version {version} can't be rebuilt")))?;
    if !is_readable {
        return Ok(state);
    }
    let snapshot = Snapshot::load(table.store(), Some(version)).await?;
    Ok(VersionState { txn_id: state.txn_id, ..VersionState::of(&snapshot) })
}

#[cfg(test)]
mod tests;
