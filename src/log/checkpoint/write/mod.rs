//! Writes checkpoints: the whole state of one version (protocol: "Checkpoints").
//!
//! Which form a checkpoint has follows from the table alone ([`Form::of`]):
//! - V1, one Parquet file under the classic name, unless the table has the feature `v2Checkpoint`
//!   and its property `delta.checkpointPolicy` is `v2`. Tables whose policy is classic stay with
//!   what every reader knows.
//! - V2 else, under a UUID's name. File actions that fit into one sidecar stand in the top level,
//!   which is Parquet: a reader opens one file. More of them go into sidecars of
//!   [`SIDECAR_ACTIONS`] each, as Spark and delta_kernel have it, and the top level is JSON as
//!   Spark's: a few lines, which a reader of protocol and metadata gets by one small request.
//!   Classic names for V2, by which old clients fail with grace, are due when commits are cleaned
//!   up; who cleans up writes them.
//!
//! Statistics are JSON, structs or both by `delta.checkpoint.writeStatsAsJson` and
//! `…writeStatsAsStruct`. A table that turns JSON off and says nothing of structs gets structs:
//! some engines mean them by default there, and else its statistics would be lost. One that turns
//! both off gets none.
//!
//! Tombstones past their retention are left out; so are what the protocol keeps out of tombstones
//! (statistics, tags), commitInfo and change data. `hint` is `_last_checkpoint`.
//!
//! One kind of action fills one column and leaves the others null, so rows are made a kind at a
//! time. In memory there are the snapshot and one encoded file, never two, and columns of one
//! batch.

mod columns;
mod draft;
mod hint;
mod rows;
mod statistics;
mod typed;

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::log::action::{Metadata, Protocol};
use crate::log::listing::{self, log_path};
use crate::log::snapshot::Snapshot;
use crate::store::{Created, Entry, Store};

pub use draft::Draft;

/// File actions of one sidecar, and the most that a V2 top level holds itself.
pub const SIDECAR_ACTIONS: usize = 50_000;

/// What files a checkpoint is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// V1: one Parquet file under the classic name.
    Classic,
    /// V2 with the file actions in the top level.
    Inline(TopLevel),
    /// V2 with the file actions in sidecars, so many in each.
    Sidecars(TopLevel, usize),
}

/// The format of a V2 checkpoint's top level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopLevel {
    Parquet,
    Json,
}

impl Form {
    /// The form that a table wants, with so many file actions.
    pub fn of(protocol: &Protocol, metadata: &Metadata, file_actions: usize) -> Form {
        let lists = |features: &Option<Vec<String>>| {
            features.as_ref().is_some_and(|all| all.iter().any(|name| name == "v2Checkpoint"))
        };
        let is_wanted = property(metadata, "delta.checkpointPolicy").is_some_and(|p| p == "v2");
        if !is_wanted || !lists(&protocol.reader_features) || !lists(&protocol.writer_features) {
            return Form::Classic;
        }
        if file_actions <= SIDECAR_ACTIONS {
            return Form::Inline(TopLevel::Parquet);
        }
        Form::Sidecars(TopLevel::Json, SIDECAR_ACTIONS)
    }
}

/// A file of a checkpoint, ready to be put into `_delta_log`.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The name within `_delta_log`.
    pub name: String,
    pub bytes: Bytes,
}

/// A sidecar that is in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SidecarFile {
    /// The name within `_sidecars`.
    pub name: String,
    /// Bytes.
    pub size: i64,
    /// Milliseconds since the epoch.
    pub modified_ms: i64,
}

/// A checkpoint that is in the store.
#[derive(Clone, Debug)]
pub struct Written {
    /// The name of its top level within `_delta_log`.
    pub name: String,
    /// Content of `_last_checkpoint` for it.
    pub last_checkpoint: String,
}

/// Writes a checkpoint of a snapshot in the form that the table wants. `None`: somebody else has
/// written one of that version.
///
/// Errors: the store's; [`Error::Damaged`] where the table's schema can't be read, or the encoder
/// fails.
pub async fn write(store: &Store, snapshot: Arc<Snapshot>, now_ms: i64) -> Result<Option<Written>> {
    let log = listing::list_log(store).await?;
    if super::complete(&log.files).contains_key(&snapshot.version) {
        return Ok(None);
    }
    let draft = encoding(move || Draft::new(snapshot, now_ms)).await?;
    write_draft(store, draft).await
}

/// Puts a draft's files into the store: sidecars first, so that whoever sees the top level finds
/// them.
pub async fn write_draft(store: &Store, draft: Draft) -> Result<Option<Written>> {
    let draft = Arc::new(draft);
    let mut sidecars = Vec::new();
    for index in 0..draft.sidecars() {
        let from = draft.clone();
        let file = encoding(move || from.sidecar(index, Uuid::new_v4())).await?;
        let Some(entry) = put(store, &file).await? else { return Ok(None) };
        sidecars.push(SidecarFile {
            name: entry.name().to_owned(),
            size: i64::try_from(entry.size).unwrap_or(i64::MAX),
            modified_ms: entry.modified_ms,
        });
    }
    let (from, known) = (draft.clone(), sidecars.clone());
    let top = encoding(move || from.top_level(&known, Uuid::new_v4())).await?;
    let Some(entry) = put(store, &top).await? else { return Ok(None) };
    let last_checkpoint = hint::last_checkpoint(&draft, &entry, &sidecars);
    Ok(Some(Written { name: top.name, last_checkpoint }))
}

/// Creates a file and asks the store for its size and time; `None`: the name is taken.
async fn put(store: &Store, file: &Encoded) -> Result<Option<Entry>> {
    let path = log_path(&file.name);
    if store.create(&path, file.bytes.clone()).await? == Created::ExistsAlready {
        return Ok(None);
    }
    match store.head(&path).await? {
        Some(entry) => Ok(Some(entry)),
        None => Err(Error::Damaged(format!("{} went away as soon as it was written", file.name))),
    }
}

async fn encoding<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Damaged(format!("BUG: a checkpoint's encoder panicked: {error}"))),
    }
}

/// A table property without the spaces around it.
fn property<'a>(metadata: &'a Metadata, name: &str) -> Option<&'a str> {
    metadata.configuration.get(name).map(|value| value.trim())
}

#[cfg(test)]
mod tests;
