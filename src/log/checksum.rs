//! The version checksum `<version>.crc` (protocol: "Version Checksum File").
//!
//! It says what a version's state must add up to. Here it is read, compared with what the log
//! itself says, and written; a mismatch is a sentence, never an error: a reader goes by the log.
//! Whoever asks for one, and when, is the business of `table`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::log::action::{DeletionVector, DomainMetadata, Metadata, Protocol, Txn};
use crate::log::facts::Totals;
use crate::log::path::FilePath;
use crate::log::protocol::{self, supports};
use crate::log::snapshot::Snapshot;
use crate::log::version::Version;
use crate::store::normalized;

/// Larger checksums are not read: other writers put the files in only where they are few.
pub const CHECKSUM_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Transactions and domains are listed all or not at all, as readers take a list for the whole.
const LISTED_MAX: usize = 100;
/// The first number of deleted rows of each bin ("Deleted Record Counts Histogram Schema").
const DELETED_ROWS_BINS: [i64; 10] =
    [0, 1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 2_147_483_647];

/// The name of a version's checksum file.
pub fn checksum_name(version: Version) -> String {
    format!("{version:020}.crc")
}

/// What the log says of a version, by which its checksum is judged and written.
#[derive(Clone, Debug, PartialEq)]
pub struct VersionState {
    /// From the commit's commitInfo.
    pub txn_id: Option<String>,
    pub live: Totals,
    /// Where in-commit timestamps are on.
    pub in_commit_timestamp: Option<i64>,
    pub protocol: Arc<Protocol>,
    pub metadata: Arc<Metadata>,
    /// The last one of each application.
    pub txns: Vec<Txn>,
    /// Without the removed ones.
    pub domains: Vec<DomainMetadata>,
    /// The files themselves, where they were read.
    pub files: Option<Vec<StateFile>>,
}

/// A live file, as far as checksums are about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StateFile {
    path: String,
    vector: Option<String>,
    size: i64,
    deleted_rows: i64,
}

impl StateFile {
    fn new(path: &str, size: i64, vector: Option<&DeletionVector>) -> StateFile {
        StateFile {
            path: FilePath::from_log(path).map_or_else(
                |_| normalized(path).unwrap_or(path.to_owned()),
                |path| path.as_str().to_owned(),
            ),
            vector: vector.map(DeletionVector::unique_id),
            size,
            deleted_rows: vector.map_or(0, |vector| vector.cardinality),
        }
    }
}

impl VersionState {
    /// The state of a snapshot, its files included.
    pub fn of(snapshot: &Snapshot) -> VersionState {
        let adds = snapshot.live();
        let files =
            adds.map(|add| StateFile::new(&add.path, add.size, add.deletion_vector.as_ref()));
        let files: Vec<StateFile> = files.collect();
        let mut live = Totals::default();
        for file in &files {
            live.files += 1;
            // Saturating, as a log may claim what it likes.
            live.bytes = live.bytes.saturating_add(file.size.unsigned_abs());
            live.vectors += u64::from(file.vector.is_some());
            live.deleted_rows = live.deleted_rows.saturating_add(file.deleted_rows.unsigned_abs());
        }
        VersionState {
            txn_id: None,
            live,
            in_commit_timestamp: snapshot.in_commit_timestamp,
            protocol: Arc::new(snapshot.protocol.clone()),
            metadata: Arc::new(snapshot.metadata.clone()),
            txns: snapshot.txns.values().cloned().collect(),
            domains: snapshot.domains.values().cloned().collect(),
            files: Some(files),
        }
    }
}

/// What stands in the file. Fields that we don't know are passed over.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Checksum {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    txn_id: Option<String>,
    table_size_bytes: i64,
    num_files: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    num_deleted_records_opt: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    num_deletion_vectors_opt: Option<i64>,
    num_metadata: i64,
    num_protocol: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    in_commit_timestamp_opt: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    set_transactions: Option<Vec<Txn>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    domain_metadata: Option<Vec<DomainMetadata>>,
    /// Required today; older writers left it out.
    #[serde(default)]
    metadata: Option<Metadata>,
    #[serde(default)]
    protocol: Option<Protocol>,
    /// Spark has long written it under the other name.
    #[serde(default, alias = "histogramOpt", skip_serializing)]
    file_size_histogram: Option<SizeHistogram>,
    #[serde(default, skip_serializing)]
    deleted_record_counts_histogram_opt: Option<DeletedHistogram>,
    #[serde(default, skip_serializing)]
    all_files: Option<Vec<ListedFile>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SizeHistogram {
    sorted_bin_boundaries: Vec<i64>,
    file_counts: Vec<i64>,
    total_bytes: Vec<i64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeletedHistogram {
    deleted_record_counts: Vec<i64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListedFile {
    path: String,
    size: i64,
    deletion_vector: Option<DeletionVector>,
}

/// Encodes the checksum of a version that was committed. The files, and what is counted by their
/// sizes, are left out: the protocol wants neither, and they would cost a walk over the table.
pub fn encode(state: &VersionState) -> String {
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let has_vectors = supports(&state.protocol, "deletionVectors");
    // Which transactions are past their retention depends on when one asks, so no list is given.
    let is_listed = !may_expire(&state.metadata) && state.txns.len() <= LISTED_MAX;
    let checksum = Checksum {
        txn_id: state.txn_id.clone(),
        table_size_bytes: number(state.live.bytes),
        num_files: number(state.live.files),
        num_deleted_records_opt: has_vectors.then(|| number(state.live.deleted_rows)),
        num_deletion_vectors_opt: has_vectors.then(|| number(state.live.vectors)),
        num_metadata: 1,
        num_protocol: 1,
        in_commit_timestamp_opt: state.in_commit_timestamp,
        set_transactions: is_listed.then(|| state.txns.clone()),
        domain_metadata: (state.domains.len() <= LISTED_MAX).then(|| state.domains.clone()),
        metadata: Some((*state.metadata).clone()),
        protocol: Some((*state.protocol).clone()),
        file_size_histogram: None,
        deleted_record_counts_histogram_opt: None,
        all_files: None,
    };
    serde_json::to_string(&checksum).expect("BUG: a checksum has only string keys") + "\n"
}

/// What a checksum file says otherwise than the log, a sentence each; none where it matches.
pub fn mismatches(bytes: &[u8], state: &VersionState) -> Vec<String> {
    let checksum: Checksum = match serde_json::from_slice(bytes) {
        Ok(checksum) => checksum,
        Err(error) => return vec![format!("it is torn, or no checksum: {error}")],
    };
    let mut found = Found::default();
    found.number("tableSizeBytes", Some(checksum.table_size_bytes), state.live.bytes);
    found.number("numFiles", Some(checksum.num_files), state.live.files);
    found.number("numDeletedRecordsOpt", checksum.num_deleted_records_opt, state.live.deleted_rows);
    found.number("numDeletionVectorsOpt", checksum.num_deletion_vectors_opt, state.live.vectors);
    found.number("numMetadata", Some(checksum.num_metadata), 1);
    found.number("numProtocol", Some(checksum.num_protocol), 1);
    if let (Some(said), Some(known)) = (&checksum.txn_id, &state.txn_id) {
        found.pair("txnId", said, known);
    }
    if let Some(known) = state.in_commit_timestamp {
        let said = checksum.in_commit_timestamp_opt;
        found.pair("inCommitTimestampOpt", &text(said), &text(Some(known)));
    }
    if let Some(protocol) = &checksum.protocol
        && !protocol::is_same(protocol, &state.protocol)
    {
        found.0.push("protocol is another than the log's".into());
    }
    if let Some(metadata) = &checksum.metadata {
        found.metadata(metadata, &state.metadata);
    }
    if let Some(txns) = &checksum.set_transactions {
        found.txns(txns, state);
    }
    if let Some(domains) = &checksum.domain_metadata {
        let of = |domains: &[DomainMetadata]| -> BTreeMap<String, String> {
            let pairs = domains.iter().filter(|domain| !domain.removed);
            pairs.map(|domain| (domain.domain.clone(), domain.configuration.clone())).collect()
        };
        found.map("domainMetadata", &of(domains), &of(&state.domains));
    }
    if let Some(files) = &state.files {
        found.files(&checksum, files);
    }
    found.0
}

/// Sentences about what differs.
#[derive(Default)]
struct Found(Vec<String>);

impl Found {
    fn number(&mut self, field: &str, said: Option<i64>, known: u64) {
        if let Some(said) = said
            && u64::try_from(said) != Ok(known)
        {
            self.0.push(format!("{field} is {said}, by the log it is {known}"));
        }
    }

    fn pair(&mut self, field: &str, said: &str, known: &str) {
        if said != known {
            self.0.push(format!("{field} is {said}, by the log it is {known}"));
        }
    }

    fn metadata(&mut self, said: &Metadata, known: &Metadata) {
        let json = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
        let fields = [
            ("id", said.id == known.id),
            ("name", said.name == known.name),
            ("description", said.description == known.description),
            ("format", said.format == known.format),
            // A checkpoint may space it otherwise.
            ("schemaString", json(&said.schema_string) == json(&known.schema_string)),
            ("partitionColumns", said.partition_columns == known.partition_columns),
            ("configuration", said.configuration == known.configuration),
            ("createdTime", said.created_time == known.created_time),
        ];
        let differ: Vec<&str> =
            fields.iter().filter(|(_, same)| !same).map(|(name, _)| *name).collect();
        if !differ.is_empty() {
            self.0.push(format!("metadata is another than the log's in {}", differ.join(", ")));
        }
    }

    /// Those past their retention may be missing on either side.
    fn txns(&mut self, said: &[Txn], state: &VersionState) {
        let of = |txns: &[Txn]| -> BTreeMap<String, String> {
            txns.iter().map(|txn| (txn.app_id.clone(), txn.version.to_string())).collect()
        };
        let (said, mut known) = (of(said), of(&state.txns));
        if may_expire(&state.metadata) {
            known.retain(|app_id, _| said.contains_key(app_id));
        }
        self.map("setTransactions", &said, &known);
    }

    fn map(
        &mut self,
        field: &str,
        said: &BTreeMap<String, String>,
        known: &BTreeMap<String, String>,
    ) {
        let keys: BTreeSet<&String> = said.keys().chain(known.keys()).collect();
        let differs = |key: &&&String| said.get(**key) != known.get(**key);
        let Some(first) = keys.iter().find(differs) else { return };
        let of = |map: &BTreeMap<String, String>| {
            map.get(*first).map_or("nothing".to_owned(), |value| format!("{value:?}"))
        };
        let (said, known) = (of(said), of(known));
        self.0.push(format!("{field} says {said} of {first:?}, the log says {known}"));
    }

    fn files(&mut self, checksum: &Checksum, files: &[StateFile]) {
        if let Some(listed) = &checksum.all_files {
            let said: BTreeSet<StateFile> = listed
                .iter()
                .map(|file| StateFile::new(&file.path, file.size, file.deletion_vector.as_ref()))
                .collect();
            let known: BTreeSet<StateFile> = files.iter().cloned().collect();
            if let Some(file) = said.symmetric_difference(&known).next() {
                let whose = if said.contains(file) { "not live by the log" } else { "not in it" };
                self.0.push(format!("allFiles: {:?} is {whose}", file.path));
            }
        }
        if let Some(histogram) = &checksum.file_size_histogram {
            let bins = &histogram.sorted_bin_boundaries;
            let counted = |weight: fn(i64) -> i64| {
                counts(bins, files.iter().map(|file| (file.size, weight(file.size))))
            };
            if counted(|_| 1).as_ref() != Some(&histogram.file_counts)
                || counted(|size| size).as_ref() != Some(&histogram.total_bytes)
            {
                self.0.push("fileSizeHistogram doesn't add up to the live files".into());
            }
        }
        if let Some(histogram) = &checksum.deleted_record_counts_histogram_opt {
            let rows = files.iter().map(|file| (file.deleted_rows, 1));
            if counts(&DELETED_ROWS_BINS, rows).as_ref() != Some(&histogram.deleted_record_counts) {
                let what = "deletedRecordCountsHistogramOpt doesn't add up to the deletion vectors";
                self.0.push(what.into());
            }
        }
    }
}

/// Adds weights up by bin; `None` where the first bins are no bins for a value.
fn counts(bins: &[i64], values: impl Iterator<Item = (i64, i64)>) -> Option<Vec<i64>> {
    let mut counts = vec![0i64; bins.len()];
    for (value, weight) in values {
        let bin = bins.partition_point(|first| *first <= value).checked_sub(1)?;
        let count = counts.get_mut(bin)?;
        *count = count.saturating_add(weight);
    }
    Some(counts)
}

/// Whether the table forgets transactions by their age.
fn may_expire(metadata: &Metadata) -> bool {
    metadata.configuration.contains_key("delta.setTransactionRetentionDuration")
}

fn text(number: Option<i64>) -> String {
    number.map_or("absent".to_owned(), |number| number.to_string())
}

#[cfg(test)]
mod tests;
