//! The version checksum after a commit.
//!
//! It is written in the background from what is in memory, and whatever becomes of it, the commit
//! stands: readers do without one.
//!
//! Spark refuses a table whose checksum and checkpoint spell protocol or metadata otherwise, be it
//! by a space in the schema. We go by the commits, readers by the newest checkpoint: where the two
//! differ there is no checksum.

use std::sync::Arc;

use crate::error::Result;
use crate::log::checkpoint::read_rules;
use crate::log::checksum::{VersionState, checksum_name, encode};
use crate::log::listing::log_path;
use crate::log::protocol::is_same;
use crate::table::{Table, Version};

/// Writes a version's checksum in the background.
pub fn spawn(table: Arc<Table>, version: Version) {
    tokio::spawn(async move {
        if let Err(error) = write(&table, version).await {
            let table = table.label();
            tracing::warn!(table, %version, "no checksum was written: {error}");
        }
    });
}

/// Writes a version's checksum, unless somebody has.
pub async fn write(table: &Arc<Table>, version: Version) -> Result<()> {
    let Some(state) = table.read(|history| history.version_state(version))? else {
        tracing::debug!(table = table.label(), %version, "no checksum: the version isn't known");
        return Ok(());
    };
    if !is_spelled_alike(table, version, &state).await? {
        let table = table.label();
        tracing::info!(table, %version, "no checksum: the checkpoint spells the rules otherwise");
        return Ok(());
    }
    table.store().create(&log_path(&checksum_name(version)), encode(&state).into()).await?;
    Ok(())
}

/// Whether a reader who begins at the newest checkpoint finds the same protocol and metadata, which
/// a commit after it may have said anew.
async fn is_spelled_alike(
    table: &Arc<Table>,
    version: Version,
    state: &VersionState,
) -> Result<bool> {
    let found = table.read(|history| {
        let found = history.checkpoint_before(version)?;
        let facts = history.facts(found.version);
        let is_kept = |facts: &crate::table::VersionFacts| {
            (facts.protocol == state.protocol, facts.metadata == state.metadata)
        };
        Some((facts.map_or((true, true), is_kept), found))
    })?;
    let Some(((keeps_protocol, keeps_metadata), found)) = found else { return Ok(true) };
    let (protocol, metadata) = read_rules(table.store(), &found).await?;
    let same_protocol = protocol.is_some_and(|protocol| is_same(&protocol, &state.protocol));
    let same_metadata = metadata.is_some_and(|metadata| metadata == *state.metadata);
    Ok((!keeps_protocol || same_protocol) && (!keeps_metadata || same_metadata))
}
