//! The checkpoint after a commit, at the table's interval.
//!
//! It runs in the background, and whatever becomes of it, the commit stands: without a checkpoint
//! readers only read more commits.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::facts::blocking;
use crate::error::Result;
use crate::log::action::Metadata;
use crate::log::checkpoint::write::encode;
use crate::log::listing::log_path;
use crate::store::{Created, Store};
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
        match write(&store, version).await {
            Ok(()) => tracing::debug!(table = store.url(), %version, "checkpoint written"),
            Err(error) => {
                tracing::warn!(table = store.url(), %version, "no checkpoint was written: {error}");
            }
        }
    });
}

/// Writes a version's checkpoint, and points `_last_checkpoint` to it unless that is further on.
/// Writes none where files would lose their statistics by it: another engine's checkpoint keeps
/// them, and once the log before ours is cleaned up nothing would.
pub async fn write(store: &Store, version: Version) -> Result<()> {
    let snapshot = Snapshot::load(store, Some(version)).await?;
    if let Some(why) = loss(&snapshot) {
        tracing::info!(table = store.url(), %version, "no checkpoint is written: {why}");
        return Ok(());
    }
    let encoded = blocking(move || encode(&snapshot, now_ms())).await?;
    // Who was first has written the same state.
    if store.create(&log_path(&encoded.name), encoded.bytes).await? == Created::ExistsAlready {
        return Ok(());
    }
    let hint = log_path(LAST_CHECKPOINT);
    let known = store.read(&hint).await.ok().and_then(LastCheckpoint::parse);
    if known.is_none_or(|known| known.version < version) {
        store.replace(&hint, Bytes::from(encoded.last_checkpoint)).await?;
    }
    Ok(())
}

/// Why a checkpoint of ours, which has statistics as JSON alone, would lose some.
fn loss(snapshot: &Snapshot) -> Option<String> {
    let is = |property: &str, value: &str| {
        let set = snapshot.metadata.configuration.get(property);
        set.is_some_and(|set| set.trim().eq_ignore_ascii_case(value))
    };
    for (property, value) in [("writeStatsAsJson", "false"), ("writeStatsAsStruct", "true")] {
        let property = format!("delta.checkpoint.{property}");
        if is(&property, value) {
            return Some(format!("the table wants statistics as structs ({property}={value})"));
        }
    }
    // An earlier checkpoint may have them as structs, which no snapshot holds.
    let without = snapshot.adds.iter().find(|(_, add)| add.stats.is_none());
    without.map(|(path, _)| format!("{path} has no statistics as JSON"))
}

/// Milliseconds since the epoch.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
