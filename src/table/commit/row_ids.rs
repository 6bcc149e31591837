//! Row ids of a commit's files (protocol: "Writer Requirements for Row Tracking").

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::plan::{Added, Draft, is_on};
use crate::error::{Error, Result};
use crate::log::action::{Add, DomainMetadata};
use crate::log::changes::ROW_TRACKING;
use crate::log::properties;
use crate::log::protocol::supports;

/// The highest row id that a table gave out.
pub fn row_id_mark(domains: &BTreeMap<String, DomainMetadata>) -> Option<i64> {
    domains.get(ROW_TRACKING)?.row_id_mark()
}

/// Rows of a file by its statistics.
pub fn rows_of(add: &Add) -> Option<i64> {
    let stats: Value = serde_json::from_str(add.stats.as_deref()?).ok()?;
    stats.get("numRecords")?.as_i64()
}

/// Gives row ids to the files that have none; a file that came back has its own. Where a commit
/// turns row tracking on, files that stay get theirs too, by being said again.
/// Errors: [`Error::Damaged`] where rows can't be counted.
pub(super) fn give(draft: &mut Draft<'_>) -> Result<()> {
    if !supports(draft.protocol, "rowTracking")
        || is_on(draft.metadata, properties::ROW_TRACKING_SUSPENDED)
    {
        return Ok(());
    }
    let version = i64::try_from(draft.version().0)
        .map_err(|_| Error::Damaged("the table has no version numbers left".into()))?;
    let known = draft
        .newest
        .and_then(|newest| newest.snapshot.as_ref())
        .and_then(|snapshot| row_id_mark(&snapshot.domains));
    let again = said_again(draft);
    draft.adds.extend(again);
    let mut mark = draft.row_id_mark;
    for Added { add, rows } in &mut draft.adds {
        let rows = rows.ok_or_else(|| {
            Error::Damaged(format!("{}: nothing tells how many rows it has", add.path))
        })?;
        let base = *add.base_row_id.get_or_insert(mark + 1);
        add.default_row_commit_version.get_or_insert(version);
        let last = base.checked_add(rows).map(|next| next - 1);
        let last = last.ok_or_else(|| Error::Damaged("the table has no row ids left".into()))?;
        mark = mark.max(last);
    }
    if known != Some(mark) && mark >= 0 {
        draft.domains.push(DomainMetadata {
            domain: ROW_TRACKING.into(),
            configuration: json!({ "rowIdHighWaterMark": mark }).to_string(),
            removed: false,
        });
    }
    Ok(())
}

/// The live files without row ids that a draft leaves as they are, where it turns row tracking on.
fn said_again(draft: &Draft<'_>) -> Vec<Added> {
    let is_on = |metadata| is_on(metadata, properties::ROW_TRACKING);
    let before = draft.newest.filter(|newest| is_on(draft.metadata) && !is_on(&newest.metadata));
    let Some(snapshot) = before.and_then(|newest| newest.snapshot.as_ref()) else {
        return Vec::new();
    };
    let added = draft.adds.iter().map(|added| added.add.path.as_str());
    let removed = draft.removes.iter().map(|remove| remove.path.as_str());
    let said: BTreeSet<&str> = added.chain(removed).collect();
    let stays = |add: &&Add| add.base_row_id.is_none() && !said.contains(add.path.as_str());
    let again = snapshot
        .live()
        .filter(stays)
        .map(|add| Added { add: Add { data_change: false, ..add.clone() }, rows: rows_of(add) });
    again.collect()
}
