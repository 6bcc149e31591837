//! What a commit tells its user: the summary that the caller gets, and `.deltafs/result`.

use serde_json::{Value, json};

use super::plan::{Counts, Kind};
use crate::error::Error;
use crate::table::Version;

/// What a commit did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommitSummary {
    /// `None`: there was nothing new, and there is no new version.
    pub version: Option<Version>,
    /// append, overwrite, restore or create.
    pub kind: String,
    pub files_added: u64,
    pub files_removed: u64,
    /// Staged files whose bytes the table had already.
    pub files_reused: u64,
    /// Files of the newest version whose lost bytes were put back.
    pub repaired: u64,
    /// Bytes of data that came into the table's folder.
    pub bytes_written: u64,
    /// Staged names that are no part of a table.
    pub left_out: Vec<String>,
    /// The version that a staged log ends with: the one of the backup.
    pub restored: Option<Version>,
    /// Why there is no version, where the files alone don't say it: a sentence.
    pub reason: Option<String>,
}

impl CommitSummary {
    pub fn new(
        version: Option<Version>,
        kind: Kind,
        counts: Counts,
        bytes_written: u64,
        left_out: Vec<String>,
    ) -> CommitSummary {
        CommitSummary {
            version,
            kind: kind.name().to_owned(),
            files_added: counts.added,
            files_removed: counts.removed,
            files_reused: counts.reused,
            repaired: counts.repaired,
            bytes_written,
            left_out,
            restored: None,
            reason: None,
        }
    }

    /// The content of `result`.
    pub fn to_json(&self) -> Value {
        let mut value = json!({
            "state": if self.version.is_some() { "committed" } else { "nothing" },
            "version": self.version,
            "kind": self.kind,
            "files_added": self.files_added,
            "files_removed": self.files_removed,
            "files_reused": self.files_reused,
            "files_repaired": self.repaired,
            "bytes_written": self.bytes_written,
            "left_out": self.left_out,
        });
        if let Some(restored) = self.restored {
            value["restored_version"] = restored.0.into();
        }
        if let Some(reason) = &self.reason {
            value["reason"] = reason.as_str().into();
        }
        value
    }

    /// Reads `to_json` back, from the journal.
    pub fn from_json(value: &Value) -> CommitSummary {
        let number = |key: &str| value.get(key).and_then(Value::as_u64).unwrap_or(0);
        let left_out = value.get("left_out").and_then(Value::as_array);
        CommitSummary {
            version: value.get("version").and_then(Value::as_u64).map(Version),
            kind: value.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned(),
            files_added: number("files_added"),
            files_removed: number("files_removed"),
            files_reused: number("files_reused"),
            repaired: number("files_repaired"),
            bytes_written: number("bytes_written"),
            left_out: left_out
                .into_iter()
                .flatten()
                .filter_map(|path| path.as_str().map(str::to_owned))
                .collect(),
            restored: value.get("restored_version").and_then(Value::as_u64).map(Version),
            reason: value.get("reason").and_then(Value::as_str).map(str::to_owned),
        }
    }
}

/// `result` as text.
pub fn text(value: &Value) -> String {
    format!("{value:#}\n")
}

/// The content of `result` while a commit publishes.
pub fn running() -> Value {
    json!({ "state": "committing" })
}

/// The content of `result` after a commit that failed: the sentence, and what kind of failure.
pub fn failure(error: &Error) -> Value {
    let state = if matches!(error, Error::Unknown(_)) { "unknown" } else { "refused" };
    let remedy = match error {
        Error::NoSpace(_) => "; make space there, then sync again",
        Error::Quota(_) => "; remove files of the same owner or raise the quota, then sync again",
        _ => "",
    };
    json!({ "state": state, "error": format!("{error}{remedy}"), "error_kind": kind(error) })
}

fn kind(error: &Error) -> &'static str {
    match error {
        Error::NotFound(_) => "NotFound",
        Error::Exists(_) => "Exists",
        Error::NotDirectory(_) => "NotDirectory",
        Error::IsDirectory(_) => "IsDirectory",
        Error::NotEmpty(_) => "NotEmpty",
        Error::NameTooLong(_) => "NameTooLong",
        Error::ReadOnly(_) => "ReadOnly",
        Error::Conflict(_) => "Conflict",
        Error::Busy(_) | Error::Sealed(_) => "Busy",
        Error::Refused(_) => "Refused",
        Error::AppendOnly(_) => "AppendOnly",
        Error::CatalogManaged(_) => "CatalogManaged",
        Error::NotPermitted(_) => "NotPermitted",
        Error::Unsupported(_) => "Unsupported",
        Error::Damaged(_) => "Damaged",
        Error::Unreachable(_) => "Unreachable",
        Error::Unknown(_) => "Unknown",
        Error::TimedOut(_) => "TimedOut",
        Error::NoSpace(_) => "NoSpace",
        Error::Quota(_) => "Quota",
        Error::System { .. } => "System",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_comes_back_from_the_journal() {
        let counts = Counts { added: 1, removed: 2, reused: 3, repaired: 4 };
        let summary =
            CommitSummary::new(Some(Version(7)), Kind::Restore, counts, 5, vec!["_x".into()]);
        assert_eq!(CommitSummary::from_json(&summary.to_json()), summary);
        assert_eq!(summary.to_json()["state"], "committed");
        let nothing = CommitSummary { version: None, ..summary };
        assert_eq!(nothing.to_json()["state"], "nothing");
    }

    #[test]
    fn a_failure_has_its_sentence_and_unknown_is_a_state_of_its_own() {
        assert_eq!(failure(&Error::Refused("no".into()))["error"], "no");
        assert_eq!(failure(&Error::Refused("no".into()))["state"], "refused");
        assert_eq!(failure(&Error::Unknown("?".into()))["state"], "unknown");
    }
}
