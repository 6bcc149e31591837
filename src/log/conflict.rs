//! Delta's conflict rules: whether a commit that was planned against one version may still follow
//! another commit, the winner, that got in between.
//!
//! The rules and their order are those of Delta's own engine: protocol, metadata, domain metadata,
//! transaction, row ids, added files, deleted files that were read, deleted files that are deleted
//! again, in-commit timestamp. Row ids and the timestamp are no conflicts: `rebase` moves them on.
//! All is decided on values; who reads the winners, and what is done about a
//! conflict, is the business of `table`.
//!
//! Where this is stricter than Delta's engine: every protocol or metaData of a winner is a conflict
//! (the engine lets some properties and features pass), and a file that is brought back may not be
//! one that the winner touched (the engine gives every file a new name and needs no such rule).

use std::collections::BTreeSet;

use crate::log::action::Metadata;
use crate::log::changes::{Changes, FileFacts, FileId};
use crate::log::partition_set::PartitionSet;

/// A commit on its way.
#[derive(Clone, Copy, Debug)]
pub struct Transaction<'a> {
    pub changes: &'a Changes,
    pub read: &'a Read,
    pub isolation: Isolation,
}

/// What of the table a commit stands on: were it otherwise, it would do something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// A blind append.
    Nothing,
    /// These logical files, whatever else is in the table.
    Files(BTreeSet<FileId>),
    /// All files of these partitions.
    Partitions(PartitionSet),
    /// The whole table.
    All,
}

/// How much a commit may overlook (the table's property `delta.isolationLevel`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Blind appends of a winner may be taken for later than they were: Delta's default.
    WriteSerializable,
    /// The table is as if commits had come one by one in the order of their versions.
    Serializable,
}

/// Why a commit may not follow a winner.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    #[error("another commit changed the table's protocol")]
    Protocol,
    #[error("another commit changed the table's schema or properties")]
    Metadata,
    #[error("another commit changed the metadata of the domain {0:?} too")]
    Domain(String),
    #[error("another commit wrote a transaction of the application {0:?} too")]
    Txn(String),
    #[error("another commit added {0}, which this one would have had to read")]
    Added(String),
    #[error("another commit {1} {0}, which this one read")]
    DeletedRead(String, Touch),
    #[error("another commit {1} {0}, which this one takes away")]
    DeletedDeleted(String, Touch),
    #[error("another commit {1} {0}, which this one brings back")]
    Readded(String, Touch),
}

/// What a winner did to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Touch {
    #[error("took away")]
    Removed,
    #[error("added")]
    Added,
    #[error("changed the deleted rows of")]
    OtherVector,
    #[error("gave other row ids to")]
    OtherRowIds,
}

impl Isolation {
    /// The table's own; what can't be read is the stricter one.
    pub fn of(metadata: &Metadata) -> Isolation {
        match metadata.configuration.get("delta.isolationLevel") {
            None => Isolation::WriteSerializable,
            Some(level) if level.eq_ignore_ascii_case("WriteSerializable") => {
                Isolation::WriteSerializable
            }
            Some(_) => Isolation::Serializable,
        }
    }
}

/// Decides whether a commit may follow a winner as it is, but for its version, row ids and times.
/// Winners are asked one by one, in the order of their versions.
pub fn decide(mine: &Transaction<'_>, winner: &Changes) -> Result<(), Conflict> {
    if winner.protocol {
        return Err(Conflict::Protocol);
    }
    if winner.metadata {
        return Err(Conflict::Metadata);
    }
    if let Some(domain) = mine.changes.domains.intersection(&winner.domains).next() {
        return Err(Conflict::Domain(domain.clone()));
    }
    if let Some(app) = mine.changes.apps.intersection(&winner.apps).next() {
        return Err(Conflict::Txn(app.clone()));
    }
    added_files(mine, winner)?;
    deleted_read(mine.read, winner)?;
    deleted_deleted(mine.changes, winner)?;
    readded(mine.changes, winner)
}

/// Files that the winner added and this commit would have read.
fn added_files(mine: &Transaction<'_>, winner: &Changes) -> Result<(), Conflict> {
    // Rows that only move are the same before and after whatever was added beside them.
    if mine.changes.only_rearranges() {
        return Ok(());
    }
    // Whoever changes the schema must have seen every file, for the files are read by it.
    let overlooks_appends =
        mine.isolation == Isolation::WriteSerializable && !mine.changes.metadata;
    if winner.is_blind_append && overlooks_appends {
        return Ok(());
    }
    match winner.adds.iter().find(|(_, file)| mine.read.covers(file)) {
        Some((id, _)) => Err(Conflict::Added(id.path.clone())),
        None => Ok(()),
    }
}

/// Files that this commit read and the winner took away, also where it only rearranged rows.
fn deleted_read(read: &Read, winner: &Changes) -> Result<(), Conflict> {
    if let Read::Files(files) = read {
        for id in files {
            if let Some(touch) = touch(winner, id) {
                return Err(Conflict::DeletedRead(id.path.clone(), touch));
            }
        }
        return Ok(());
    }
    match winner.removes.iter().find(|(_, file)| read.covers(file)) {
        Some((id, _)) => Err(Conflict::DeletedRead(id.path.clone(), Touch::Removed)),
        None => Ok(()),
    }
}

/// Files that both take away, or that this commit takes away by a name they no longer have: of a
/// file with another deletion vector, that remove would leave the rows in the table.
fn deleted_deleted(mine: &Changes, winner: &Changes) -> Result<(), Conflict> {
    for (id, file) in &mine.removes {
        let other_ids = || {
            let mut added = winner.added(&id.path);
            added.any(|(_, added)| added.base_row_id != file.base_row_id)
        };
        let touch = touch(winner, id).or_else(|| other_ids().then_some(Touch::OtherRowIds));
        if let Some(touch) = touch {
            return Err(Conflict::DeletedDeleted(id.path.clone(), touch));
        }
    }
    Ok(())
}

/// Files that this commit adds and the winner had its hands on: brought back by both, with other
/// deletion vectors perhaps, or taken away while this commit only restates them.
fn readded(mine: &Changes, winner: &Changes) -> Result<(), Conflict> {
    for id in mine.adds.keys() {
        // What it takes away as well was decided with that.
        if mine.removed(&id.path).next().is_some() {
            continue;
        }
        let added = || winner.added(&id.path).next().map(|_| Touch::Added);
        if let Some(touch) = touch(winner, id).or_else(added) {
            return Err(Conflict::Readded(id.path.clone(), touch));
        }
    }
    Ok(())
}

/// What a winner did to a logical file. One that it states again as it is was not touched.
fn touch(winner: &Changes, file: &FileId) -> Option<Touch> {
    let other_vector = winner.added(&file.path).any(|(id, _)| id.vector != file.vector);
    let is_removed = winner.removed(&file.path).next().is_some();
    match (other_vector, is_removed) {
        (true, _) => Some(Touch::OtherVector),
        (false, true) => Some(Touch::Removed),
        (false, false) => None,
    }
}

impl Read {
    /// Whether a file would have been read, had it been there; of one that doesn't tell its
    /// partition that can't be ruled out.
    fn covers(&self, file: &FileFacts) -> bool {
        match self {
            Read::Nothing | Read::Files(_) => false,
            Read::All => true,
            Read::Partitions(wanted) => match &file.partition_values {
                Some(values) => wanted.holds(values),
                None => !wanted.is_empty(),
            },
        }
    }
}

#[cfg(test)]
mod pair_tests;
#[cfg(test)]
mod tests;
