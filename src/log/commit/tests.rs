//! What a commit file says, and what no commit may say.

use super::*;
use crate::log::listing::LogFileKind;
use crate::log::version::Version;

const COMMIT: &str = concat!(
    r#"{"commitInfo":{"inCommitTimestamp":7,"operation":"WRITE","txnId":"t"}}"#,
    "\n",
    r#"{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}"#,
    "\n\n",
    r#"{"add":{"path":"p=1/a%20b","partitionValues":{"p":"1"},"size":3,"modificationTime":4,"dataChange":true,"stats":"{\"numRecords\":1}"}}"#,
    "\r\n",
    r#"{"remove":{"path":"p=1/c","dataChange":true,"deletionVector":{"storageType":"u","pathOrInlineDv":"^-aqEH.-t@S}K{vb[*k^","offset":1,"sizeInBytes":2,"cardinality":3}}}"#,
    "\n",
    r#"{"futureAction":{"x":1}}"#,
    "\n",
    r#"{"txn":{"appId":"app","version":5}}"#,
);

fn parse(text: &[u8]) -> Result<Commit> {
    let name = "00000000000000000003.json".to_owned();
    let (version, size) = (Version(3), text.len() as u64);
    let file = LogFile { name, kind: LogFileKind::Commit, version, size, modified_ms: 9 };
    let parsed =
        ParsedLines::parse(text).map_err(|(number, error)| at_line(&file, number, &error))?;
    let content = parsed.finish(&file)?;
    Ok(Commit { file, content })
}

fn actions(commit: &Commit) -> usize {
    commit.content.changes.iter().map(|piece| piece.actions().len()).sum()
}

#[test]
fn a_commit_is_read_without_its_statistics() {
    let commit = parse(COMMIT.as_bytes()).unwrap();
    assert_eq!(commit.version(), Version(3));
    assert_eq!(commit.txn_id(), Some("t"));
    assert_eq!(commit.content.info.in_commit_timestamp, Some(7));
    assert_eq!(commit.content.txns[0].version, 5);
    let mut pieces = commit.content.changes;
    let values = pieces[0].take_values();
    let [changes] = pieces.as_slice() else { panic!("pieces") };
    let [added, removed] = changes.actions() else { panic!("{changes:?}") };
    assert_eq!((changes.path(added), changes.path(removed)), ("p=1/a b", "p=1/c"));
    assert_eq!((added.is_add, removed.is_add), (true, false));
    assert_eq!((added.size, added.modified_ms), (3, 4));
    assert_eq!(values.get(added.values).get("p"), Some("1"));
    assert!(changes.vector(added).is_none() && changes.vector(removed).is_some());
}

#[test]
fn a_commit_info_may_hold_what_it_likes() {
    let line = r#"{"commitInfo":{"operation":7,"txnId":"t","timestamp":"today","x":[1]}}"#;
    let commit = parse(line.as_bytes()).unwrap();
    assert_eq!((commit.content.info.operation.as_deref(), commit.txn_id()), (None, Some("t")));
    let Some(Action::CommitInfo(info)) = read_action(line.as_bytes()).unwrap() else {
        panic!("no commitInfo")
    };
    assert_eq!(info.txn_id.as_deref(), Some("t"));
    assert!(read_action(br#"{"commitInfo":{"txnId":"t"}"#).is_err());
    assert!(read_action(br#"{"add":{"path":1}}"#).is_err());
}

#[test]
fn a_cut_at_any_offset_is_an_error_or_falls_on_the_end_of_a_line() {
    let whole = actions(&parse(COMMIT.as_bytes()).unwrap());
    for cut in 0..COMMIT.len() {
        let text = &COMMIT.as_bytes()[..cut];
        let at_line_end = COMMIT[..cut].ends_with('}') && COMMIT[cut..].starts_with(['\n', '\r']);
        let after_line_end = COMMIT[..cut].ends_with(['\n', '\r']);
        match parse(text) {
            Ok(commit) => {
                assert!(at_line_end || after_line_end, "cut at {cut} passed");
                assert!(actions(&commit) <= whole);
            }
            Err(Error::Damaged(message)) => {
                assert!(!(at_line_end || (after_line_end && cut > 0)), "cut at {cut}: {message}");
                assert!(message.contains("00000000000000000003.json"), "{message}");
                assert!(message.contains("version 3"), "{message}");
            }
            Err(error) => panic!("cut at {cut}: {error:?}"),
        }
    }
}

#[test]
fn damage_names_file_version_and_line() {
    for bad in [
        r#"{"add":{"path":"../x","size":1}}"#,
        r#"{"add":{"path":"a%00b","size":1}}"#,
        r#"{"add":{"path":"a","size":-1}}"#,
        r#"{"add":{"path":"a","size":9223372036854775808}}"#,
        r#"{"add":{"path":"a","size":9223372036854775807}}"#,
        r#"{"add":{"path":"a","size":"1"}}"#,
        r#"{"add":{"size":1}}"#,
        r#"{"add":{"path":"a","size":1,"partitionValues":{"p":1}}}"#,
        r#"{"add":{"path":"a","size":1,"deletionVector":{"storageType":"u","pathOrInlineDv":"x","sizeInBytes":1,"cardinality":1}}}"#,
        r#"{"add":{"path":"a","size":1}}{"add":{"path":"b","size":1}}"#,
        r#"{"remove":{"path":"a/../../b"}}"#,
        "[1]",
        "7",
        "null",
    ] {
        let text = format!("{{\"txn\":{{\"appId\":\"a\",\"version\":1}}}}\n{bad}\n");
        let error = parse(text.as_bytes()).unwrap_err();
        let Error::Damaged(message) = &error else { panic!("{bad}: {error:?}") };
        assert!(message.contains("00000000000000000003.json (version 3), line 2"), "{message}");
    }
}

#[test]
fn absolute_paths_are_outside_under_one_spelling() {
    for path in ["/a/b%20c", "file:/a/b%20c", "file:///a/b%20c"] {
        assert_eq!(place(path).unwrap(), Place::Outside("/a/b c".into()));
    }
    assert_eq!(place("s3://bucket/x").unwrap(), Place::Outside("s3://bucket/x".into()));
    assert!(matches!(place("/a/../b"), Err(Error::Damaged(_))));
}
