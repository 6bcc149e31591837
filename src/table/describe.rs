//! A version told as text, for its control files.

use std::fmt::Write as _;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use serde_json::json;

use super::table::Table;
use crate::error::Result;
use crate::log::facts::VersionFacts;
use crate::log::snapshot::Snapshot;
use crate::log::version::Version;

/// How many files of a version are looked at in the store at once.
const LOOKS_AT_ONCE: usize = 32;

/// `commit.json`: who made the version, when, and what it changed.
pub fn commit(facts: &VersionFacts) -> String {
    let value = json!({
        "version": facts.version.0,
        "timestamp": rfc3339(facts.commit_time_ms),
        "operation": facts.operation,
        "engine": facts.engine,
        "txnId": facts.txn_id,
        "filesAdded": facts.files_added,
        "filesRemoved": facts.files_removed,
        "bytesAdded": facts.bytes_added,
        "bytesRemoved": facts.bytes_removed,
        "tableId": facts.metadata.id,
        "minReaderVersion": facts.protocol.min_reader_version,
        "minWriterVersion": facts.protocol.min_writer_version,
        "readerFeatures": facts.protocol.reader_features,
        "writerFeatures": facts.protocol.writer_features,
        "partitionColumns": facts.metadata.partition_columns,
    });
    format!("{value}\n")
}

/// `properties`: the table's properties, `key=value`, sorted.
pub fn properties(facts: &VersionFacts) -> String {
    facts.metadata.configuration.iter().map(|(key, value)| format!("{key}={value}\n")).collect()
}

/// `files`: a header, then a line for each live file: path, size in bytes, rows, partition values;
/// separated by tabs. Rows are empty where the log has no statistics. Files outside of the table's
/// folder come last, by their URI: no directory shows them.
pub fn files(snapshot: &Snapshot) -> String {
    let mut text = String::from("path\tsize\trows\tpartition\n");
    let inside = snapshot.adds.iter().map(|(path, add)| (path.as_str(), add));
    let outside = snapshot.outside.iter().map(|(uri, add)| (uri.as_str(), add));
    for (path, add) in inside.chain(outside) {
        let rows =
            add.stats.as_deref().and_then(live_rows).map(|rows| {
                rows - add.deletion_vector.as_ref().map_or(0, |vector| vector.cardinality)
            });
        let partition: Vec<String> = add
            .partition_values
            .iter()
            .map(|(name, value)| match value {
                Some(value) => format!("{name}={}", escaped(value)),
                None => format!("{name}="),
            })
            .collect();
        let rows = rows.map_or(String::new(), |rows| rows.to_string());
        writeln!(text, "{}\t{}\t{rows}\t{}", escaped(path), add.size, partition.join(","))
            .expect("BUG: a String takes all that is written");
    }
    text
}

/// `missing`: the files of a version that the store has lost or cut short, a path a line.
pub async fn missing(table: &Arc<Table>, version: Version) -> Result<String> {
    let files = table.files(version).await?;
    let mut wanted: Vec<(String, Option<u64>)> = files.read(|era| {
        let live = era.intervals().live_files(version);
        let data = live.map(|file| (file.path.to_string(), Some(file.size)));
        let vectors = era.deletion_vector_files(version).into_iter();
        data.chain(vectors.map(|path| (path.as_str().to_string(), None))).collect()
    });
    wanted.sort();
    let looks = wanted.into_iter().map(|(path, size)| async move {
        let found = table.store().head(&path).await?;
        let is_whole = found.is_some_and(|entry| size.is_none_or(|size| entry.size == size));
        Ok::<_, crate::error::Error>((!is_whole).then(|| format!("{}\n", escaped(&path))))
    });
    let lines: Vec<Option<String>> =
        futures::stream::iter(looks).buffered(LOOKS_AT_ONCE).try_collect().await?;
    Ok(lines.into_iter().flatten().collect())
}

/// A time of the log as RFC 3339 in UTC with milliseconds; times out of its range as they are.
pub fn rfc3339(ms: i64) -> String {
    match chrono::DateTime::from_timestamp_millis(ms) {
        Some(time) => time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        None => format!("@{ms}ms"),
    }
}

fn live_rows(stats: &str) -> Option<i64> {
    let stats: serde_json::Value = serde_json::from_str(stats).ok()?;
    stats.get("numRecords")?.as_i64()
}

/// Keeps a line a line and a field a field.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n")
}
