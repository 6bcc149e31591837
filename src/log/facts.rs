//! What is known of a version beside its files: when, who, how much, and by which rules to read it.

use std::sync::Arc;

use crate::log::action::{Metadata, Protocol};
use crate::log::version::Version;

/// One version of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct VersionFacts {
    pub version: Version,
    /// Milliseconds since the epoch; strictly ascending but for in-commit timestamps that aren't.
    pub commit_time_ms: i64,
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
    /// Why the version's data is not shown, as a sentence: a reader feature that we don't have, or
    /// files outside the table's folder.
    pub unreadable: Option<String>,
}
