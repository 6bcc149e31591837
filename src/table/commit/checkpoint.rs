//! The checkpoint after a commit, at the table's interval.
//!
//! It runs in the background, and whatever becomes of it, the commit stands: without a checkpoint
//! readers only read more commits.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::error::Result;
use crate::log::action::Metadata;
use crate::log::checkpoint::write as checkpoint;
use crate::log::listing::log_path;
use crate::store::Store;
use crate::table::{LAST_CHECKPOINT, LastCheckpoint, Snapshot, Version};

/// Commits from one checkpoint to the next, where the table doesn't say.
const INTERVAL: u64 = 10;

/// Whether a version is one that the table wants a checkpoint of.
pub fn is_due(version: Version, metadata: &Metadata) -> bool {
    let property = metadata.configuration.get("delta.checkpointInterval");
    let interval = property.and_then(|text| text.parse().ok()).unwrap_or(INTERVAL);
    version.0 > 0 && interval > 0 && version.0.is_multiple_of(interval)
}

/// Writes a version's checkpoint in the background.
pub fn spawn(store: Store, version: Version) {
    tokio::spawn(async move {
        if let Err(error) = write(&store, version).await {
            tracing::warn!(table = store.url(), %version, "no checkpoint was written: {error}");
        }
    });
}

/// Writes a version's checkpoint, and points `_last_checkpoint` to it unless that is further on.
pub async fn write(store: &Store, version: Version) -> Result<()> {
    let snapshot = Arc::new(Snapshot::load(store, Some(version)).await?);
    // Who was first has written the same state.
    let Some(written) = checkpoint::write(store, snapshot, now_ms()).await? else { return Ok(()) };
    tracing::debug!(table = store.url(), %version, name = written.name, "checkpoint written");
    let hint = log_path(LAST_CHECKPOINT);
    let known = store.read(&hint).await.ok().and_then(LastCheckpoint::parse);
    if known.is_none_or(|known| known.version < version) {
        store.replace(&hint, Bytes::from(written.last_checkpoint)).await?;
    }
    Ok(())
}

/// Milliseconds since the epoch.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
