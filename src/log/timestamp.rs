//! When a version was committed (protocol: "In-Commit Timestamps"; else Delta's rule for files).

use crate::log::action::Metadata;

/// The table property that turns in-commit timestamps on.
const ENABLE: &str = "delta.enableInCommitTimestamps";
/// Where a table that had versions before tells from which version, and from when, each carries its
/// own commit time.
pub const ENABLEMENT: [&str; 2] =
    ["delta.inCommitTimestampEnablementVersion", "delta.inCommitTimestampEnablementTimestamp"];

/// Whether the version that this metadata stands in carries its own commit time.
pub fn has_in_commit_timestamps(metadata: &Metadata) -> bool {
    metadata.configuration.get(ENABLE).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// The commit time in milliseconds since the epoch.
///
/// Where in-commit timestamps are on it is the commit's own. Else it is the file's modified time,
/// moved to one millisecond after the version before when clocks or copies put them out of order,
/// as Delta does: an instant must name one version. An enabled table whose commit has no timestamp
/// breaks the protocol, yet its files are known; the file's time is the best there is.
pub fn commit_time(
    metadata: Option<&Metadata>,
    in_commit: Option<i64>,
    file_modified_ms: i64,
    previous: Option<i64>,
) -> i64 {
    if let Some(time) = in_commit.filter(|_| metadata.is_some_and(has_in_commit_timestamps)) {
        return time;
    }
    match previous {
        Some(previous) => file_modified_ms.max(previous.saturating_add(1)),
        None => file_modified_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(enabled: bool) -> Metadata {
        let line = format!(
            r#"{{"id":"x","schemaString":"{{}}","configuration":{{"{ENABLE}":"{enabled}"}}}}"#
        );
        serde_json::from_str(&line).unwrap()
    }

    #[test]
    fn file_times_are_made_monotonic() {
        assert_eq!(commit_time(None, None, 100, None), 100);
        assert_eq!(commit_time(None, None, 100, Some(100)), 101);
        assert_eq!(commit_time(None, None, 50, Some(101)), 102);
        assert_eq!(commit_time(None, None, 500, Some(102)), 500);
    }

    #[test]
    fn the_in_commit_time_counts_only_where_it_is_on() {
        assert_eq!(commit_time(Some(&metadata(true)), Some(7), 100, Some(5)), 7);
        assert_eq!(commit_time(Some(&metadata(false)), Some(7), 100, Some(5)), 100);
        assert_eq!(commit_time(Some(&metadata(true)), None, 100, Some(200)), 201);
    }
}
