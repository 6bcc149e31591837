//! What is known of a version beside its files: when, who, how much, and by which rules to read it.
//!
//! Sums over live files are carried from version to version, so that asking for them costs no walk.

use std::sync::Arc;

use crate::log::action::{DeletionVector, Metadata, Protocol};
use crate::log::interval::Effect;
use crate::log::version::Version;

/// Sums over logical files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub files: u64,
    pub bytes: u64,
    /// Files that have a deletion vector.
    pub vectors: u64,
    /// Rows that deletion vectors take out.
    pub deleted_rows: u64,
}

impl Totals {
    /// Takes a file in.
    pub fn put(&mut self, bytes: u64, vector: Option<&DeletionVector>) {
        *self = self.plus(&Totals::of(bytes, vector));
    }

    /// Takes a file out again.
    pub fn take(&mut self, bytes: u64, vector: Option<&DeletionVector>) {
        *self = self.less(&Totals::of(bytes, vector));
    }

    /// The sums after a commit.
    pub fn after(&self, effect: &Effect) -> Totals {
        self.plus(&effect.added).less(&effect.removed)
    }

    fn of(bytes: u64, vector: Option<&DeletionVector>) -> Totals {
        let rows = vector.map_or(0, |vector| u64::try_from(vector.cardinality).unwrap_or(0));
        Totals { files: 1, bytes, vectors: u64::from(vector.is_some()), deleted_rows: rows }
    }

    // Saturating, as a log may claim what it likes.
    pub(super) fn plus(&self, other: &Totals) -> Totals {
        Totals {
            files: self.files.saturating_add(other.files),
            bytes: self.bytes.saturating_add(other.bytes),
            vectors: self.vectors.saturating_add(other.vectors),
            deleted_rows: self.deleted_rows.saturating_add(other.deleted_rows),
        }
    }

    fn less(&self, other: &Totals) -> Totals {
        Totals {
            files: self.files.saturating_sub(other.files),
            bytes: self.bytes.saturating_sub(other.bytes),
            vectors: self.vectors.saturating_sub(other.vectors),
            deleted_rows: self.deleted_rows.saturating_sub(other.deleted_rows),
        }
    }
}

/// One version of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct VersionFacts {
    pub version: Version,
    /// Milliseconds since the epoch; strictly ascending but for in-commit timestamps that aren't.
    pub commit_time_ms: i64,
    /// What the commit says of its own time, where in-commit timestamps are on.
    pub in_commit_timestamp: Option<i64>,
    pub protocol: Arc<Protocol>,
    pub metadata: Arc<Metadata>,
    /// From the commit's commitInfo, where it has one.
    pub operation: Option<String>,
    pub engine: Option<String>,
    pub txn_id: Option<String>,
    /// Logical files that the commit put in and took out: a new deletion vector is one of each.
    /// Zero for a version that is known only from a checkpoint.
    pub files_added: u64,
    pub files_removed: u64,
    pub bytes_added: u64,
    pub bytes_removed: u64,
    /// What is live in the version, files outside the table's folder among it.
    pub live: Totals,
    /// Why the version's data is not shown, as a sentence: a reader feature that we don't have, or
    /// files outside the table's folder.
    pub unreadable: Option<String>,
}
