//! Moves a planned commit onto a later version: what every retry does anew, where no winner is in
//! conflict with it.
//!
//! Row ids go up behind those that the winners gave out, the version that rows are said to come
//! from is the new one, and an in-commit timestamp is later than the newest commit's (protocol:
//! "Writer Requirements for Row Tracking", "Writer Requirements for In-Commit Timestamps").

use serde_json::json;

use crate::error::{Error, Result};
use crate::log::action::{Action, CommitInfo};
use crate::log::changes::ROW_TRACKING;
use crate::log::version::Version;

/// The version that a commit stands on, as far as it shows in its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    pub version: Version,
    pub commit_time_ms: i64,
    /// Highest row id given out so far; -1: none.
    pub row_id_mark: i64,
}

/// Moves a commit from one base to another. Errors: [`Error::Damaged`] where the table has no row
/// ids or version numbers left.
pub fn rebase(
    info: &mut CommitInfo,
    actions: &mut [Action],
    from: &Base,
    to: &Base,
    now_ms: i64,
) -> Result<()> {
    let number = |version: Version| {
        i64::try_from(version.next().0)
            .map_err(|_| Error::Damaged("the table has no version numbers left".into()))
    };
    let (old, new) = (number(from.version)?, number(to.version)?);
    let moved = |id: i64| {
        let by = to.row_id_mark.checked_sub(from.row_id_mark);
        let moved = by.and_then(|by| id.checked_add(by));
        moved.ok_or_else(|| Error::Damaged("the table has no row ids left".into()))
    };
    for action in actions {
        match action {
            Action::Add(add) => {
                // A smaller id is not this commit's: the file came back with its own.
                if let Some(id) = add.base_row_id.filter(|id| *id > from.row_id_mark) {
                    add.base_row_id = Some(moved(id)?);
                }
                if add.default_row_commit_version == Some(old) {
                    add.default_row_commit_version = Some(new);
                }
            }
            Action::DomainMetadata(domain) if domain.domain == ROW_TRACKING => {
                if let Some(mark) = domain.row_id_mark() {
                    domain.configuration =
                        json!({ "rowIdHighWaterMark": moved(mark)? }).to_string();
                }
            }
            _ => {}
        }
    }
    if info.unknown.contains_key("readVersion") {
        info.unknown.insert("readVersion".into(), to.version.0.into());
    }
    if info.in_commit_timestamp.is_some() {
        info.in_commit_timestamp = Some(now_ms.max(to.commit_time_ms.saturating_add(1)));
    }
    info.timestamp = Some(info.in_commit_timestamp.unwrap_or(now_ms));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::action::DomainMetadata;

    fn add(path: &str, base_row_id: Option<i64>, version: Option<i64>) -> Action {
        let line = json!({"add": {"path": path, "size": 1, "baseRowId": base_row_id,
            "defaultRowCommitVersion": version}});
        Action::from_line(line.to_string().as_bytes()).unwrap().unwrap()
    }

    fn mark(mark: i64) -> Action {
        Action::DomainMetadata(DomainMetadata {
            domain: ROW_TRACKING.into(),
            configuration: json!({ "rowIdHighWaterMark": mark }).to_string(),
            removed: false,
        })
    }

    fn base(version: u64, commit_time_ms: i64, row_id_mark: i64) -> Base {
        Base { version: Version(version), commit_time_ms, row_id_mark }
    }

    #[test]
    fn row_ids_move_behind_the_winners_and_a_file_that_came_back_keeps_its_own() {
        let before = [
            mark(14),
            add("came back", Some(3), Some(1)),
            add("new", Some(10), Some(6)),
            add("empty", Some(13), Some(6)),
            add("newer", Some(13), Some(6)),
        ];
        let mut actions = before.clone();
        let mut info = CommitInfo::default();
        rebase(&mut info, &mut actions, &base(5, 1, 9), &base(8, 1, 29), 7).unwrap();
        let after = [
            mark(34),
            add("came back", Some(3), Some(1)),
            add("new", Some(30), Some(9)),
            add("empty", Some(33), Some(9)),
            add("newer", Some(33), Some(9)),
        ];
        assert_eq!(actions, after);
        // Back again: nothing is lost on the way.
        rebase(&mut info, &mut actions, &base(8, 1, 29), &base(5, 1, 9), 7).unwrap();
        assert_eq!(actions, before);
    }

    #[test]
    fn without_row_tracking_the_files_stay_as_they_are() {
        let mut actions = [add("a", None, None)];
        let before = actions.clone();
        let mut info = CommitInfo::default();
        rebase(&mut info, &mut actions, &base(5, 1, -1), &base(8, 1, -1), 7).unwrap();
        assert_eq!(actions, before);
        assert_eq!((info.in_commit_timestamp, info.timestamp), (None, Some(7)));
        assert!(!info.unknown.contains_key("readVersion"));
    }

    #[test]
    fn in_commit_timestamps_are_later_than_the_newest_commits_and_than_now() {
        for (newest, now, time) in
            [(10, 7, 11), (10, 50, 50), (10, 10, 11), (i64::MAX, 1, i64::MAX)]
        {
            let mut info = CommitInfo { in_commit_timestamp: Some(3), ..CommitInfo::default() };
            info.unknown.insert("readVersion".into(), 5.into());
            rebase(&mut info, &mut [], &base(5, 1, -1), &base(6, newest, -1), now).unwrap();
            assert_eq!((info.in_commit_timestamp, info.timestamp), (Some(time), Some(time)));
            assert_eq!(info.unknown["readVersion"], 6);
        }
    }

    #[test]
    fn ids_and_versions_that_run_out_are_an_error() {
        let mut info = CommitInfo::default();
        let mut actions = [add("a", Some(i64::MAX - 1), None)];
        let error = rebase(&mut info, &mut actions, &base(5, 1, 9), &base(6, 1, 29), 7);
        assert!(matches!(error, Err(Error::Damaged(_))));
        let last = i64::MAX.unsigned_abs();
        let error = rebase(&mut info, &mut [], &base(5, 1, 9), &base(last, 1, 9), 7);
        assert!(matches!(error, Err(Error::Damaged(_))));
    }
}
