//! Each rule of its own. First the two that others got wrong.

use super::*;
use crate::log::action::PartitionValues;

/// A commit's lines, as one that read something.
pub(super) fn changes(lines: &[String]) -> Changes {
    Changes::read(lines.join("\n").as_bytes()).unwrap()
}

pub(super) fn blind() -> String {
    r#"{"commitInfo":{"operation":"WRITE","isBlindAppend":true}}"#.into()
}

/// An add or a remove; the partition `p` is the path's first character.
pub(super) fn file(action: &str, path: &str, vector: Option<&str>, data_change: bool) -> String {
    let vector = vector.map_or(String::new(), |vector| {
        format!(
            r#","deletionVector":{{"storageType":"u","pathOrInlineDv":"{vector}","offset":1,"sizeInBytes":1,"cardinality":1}}"#
        )
    });
    format!(
        r#"{{"{action}":{{"path":"{path}","partitionValues":{{"p":"{}"}},"size":1,"modificationTime":1,"dataChange":{data_change}{vector}}}}}"#,
        &path[..1]
    )
}

pub(super) fn add(path: &str) -> String {
    file("add", path, None, true)
}

pub(super) fn remove(path: &str) -> String {
    file("remove", path, None, true)
}

pub(super) fn read_files(paths: &[&str]) -> Read {
    let id = |path: &&str| FileId { path: (*path).to_owned(), vector: None };
    Read::Files(paths.iter().map(id).collect())
}

pub(super) fn read_partition(p: &str) -> Read {
    read_partitions(&[[("p".to_owned(), Some(p.to_owned()))].into()])
}

pub(super) fn read_partitions(values: &[PartitionValues]) -> Read {
    let mut set = PartitionSet::default();
    values.iter().for_each(|values| set.insert(values));
    Read::Partitions(set)
}

fn decide_between(
    mine: &[String],
    read: &Read,
    isolation: Isolation,
    winner: &[String],
) -> Result<(), Conflict> {
    let changes_of_mine = changes(mine);
    decide(&Transaction { changes: &changes_of_mine, read, isolation }, &changes(winner))
}

/// Of a commit that read nothing.
fn decide_blind(mine: &[String], winner: &[String]) -> Result<(), Conflict> {
    decide_between(mine, &Read::Nothing, Isolation::WriteSerializable, winner)
}

/// Were only removes with dataChange looked at, a DELETE would be lost: the rows of `1a` would live
/// on in the file that OPTIMIZE made of it.
#[test]
fn a_file_that_was_only_rearranged_can_not_be_taken_away_any_more() {
    let winner = [file("remove", "1a", None, false), file("add", "1ab", None, false)];
    let conflict = decide_blind(&[remove("1a")], &winner).unwrap_err();
    assert_eq!(conflict, Conflict::DeletedDeleted("1a".into(), Touch::Removed));
    let files = read_files(&["1a"]);
    let conflict = decide_between(&[add("1c")], &files, Isolation::WriteSerializable, &winner);
    assert_eq!(conflict, Err(Conflict::DeletedRead("1a".into(), Touch::Removed)));
}

/// Were only paths of removes looked at, the remove of `1a` would take away a file that is no more,
/// and `1a` with its new deletion vector would stay.
#[test]
fn a_file_with_another_deletion_vector_is_another_file() {
    let with = |vector| [file("add", "1a", vector, true)];
    for (mine, winner, told) in [
        (None, Some("one"), true),
        (Some("one"), Some("two"), true),
        (Some("one"), None, true),
        (None, None, false),
        (Some("one"), Some("one"), false),
    ] {
        let mine = [file("remove", "1a", mine, true)];
        let decided = decide_blind(&mine, &with(winner));
        let conflict = Conflict::DeletedDeleted("1a".into(), Touch::OtherVector);
        assert_eq!(decided, if told { Err(conflict) } else { Ok(()) }, "{mine:?} {winner:?}");
    }
    // The usual form of it, with the remove of what was before.
    let winner = [remove("1a"), file("add", "1a", Some("one"), true)];
    let mine = [remove("1a"), file("add", "1a", Some("two"), true)];
    let conflict = decide_blind(&mine, &winner).unwrap_err();
    assert_eq!(conflict, Conflict::DeletedDeleted("1a".into(), Touch::OtherVector));
    let read = read_files(&["1a"]);
    let conflict = decide_between(&[add("1c")], &read, Isolation::WriteSerializable, &winner);
    assert_eq!(conflict, Err(Conflict::DeletedRead("1a".into(), Touch::OtherVector)));
    // A remove by another vector's name touches the file too, as Delta's engine has it.
    let conflict = decide_blind(&mine, &[file("remove", "1a", Some("old"), true)]).unwrap_err();
    assert_eq!(conflict, Conflict::DeletedDeleted("1a".into(), Touch::Removed));
}

#[test]
fn protocol_and_metadata_come_first_and_let_nobody_pass() {
    let protocol = r#"{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}"#.to_owned();
    let metadata = r#"{"metaData":{"id":"t"}}"#.to_owned();
    let all = [remove("1a"), metadata.clone(), protocol];
    assert_eq!(decide_blind(&[remove("1a")], &all), Err(Conflict::Protocol));
    assert_eq!(decide_blind(&[remove("1a")], &all[..2]), Err(Conflict::Metadata));
    assert_eq!(decide_blind(&[], std::slice::from_ref(&metadata)), Err(Conflict::Metadata));
    // It is the winner's that counts: mine is made on top of whatever files there are.
    assert_eq!(decide_blind(&[metadata], &[remove("1a"), add("1b")]), Ok(()));
}

#[test]
fn a_domain_is_written_by_one_but_row_ids_by_both() {
    let domain = |name: &str| {
        format!(
            r#"{{"domainMetadata":{{"domain":"{name}","configuration":"{{\"rowIdHighWaterMark\":1}}","removed":false}}}}"#
        )
    };
    let conflict = decide_blind(&[domain("mine")], &[domain("mine")]).unwrap_err();
    assert_eq!(conflict, Conflict::Domain("mine".into()));
    assert_eq!(decide_blind(&[domain("mine")], &[domain("yours")]), Ok(()));
    let row_ids = domain("delta.rowTracking");
    assert_eq!(
        decide_blind(std::slice::from_ref(&row_ids), std::slice::from_ref(&row_ids)),
        Ok(())
    );
}

#[test]
fn a_transaction_of_the_same_application_is_a_conflict_whatever_its_version() {
    let txn =
        |app: &str, version: u64| format!(r#"{{"txn":{{"appId":"{app}","version":{version}}}}}"#);
    for version in [1, 7, 9] {
        let conflict = decide_blind(&[txn("app", 7)], &[txn("app", version)]).unwrap_err();
        assert_eq!(conflict, Conflict::Txn("app".into()));
    }
    assert_eq!(decide_blind(&[txn("app", 7)], &[txn("other", 7)]), Ok(()));
    assert_eq!(decide_blind(&[], &[txn("app", 7)]), Ok(()));
}

#[test]
fn an_added_file_is_a_conflict_where_it_would_have_been_read() {
    let mine = [add("1new")];
    let added = Err(Conflict::Added("1w".into()));
    for (read, expected) in [
        (Read::Nothing, Ok(())),
        (read_files(&["1a"]), Ok(())),
        (read_partition("2"), Ok(())),
        (read_partitions(&[]), Ok(())),
        (read_partition("1"), added.clone()),
        (read_partitions(&[PartitionValues::new()]), added.clone()),
        (Read::All, added.clone()),
    ] {
        for isolation in [Isolation::WriteSerializable, Isolation::Serializable] {
            let winner = [add("1w")];
            assert_eq!(decide_between(&mine, &read, isolation, &winner), expected, "{read:?}");
            // A blind append may be taken for later, where the table doesn't forbid it.
            let blind = [blind(), add("1w")];
            let expected = match isolation {
                Isolation::WriteSerializable => Ok(()),
                Isolation::Serializable => expected.clone(),
            };
            assert_eq!(decide_between(&mine, &read, isolation, &blind), expected, "{read:?}");
        }
    }
}

#[test]
fn who_changes_the_schema_overlooks_no_blind_append() {
    let winner = [blind(), add("1w")];
    let metadata = r#"{"metaData":{"id":"t"}}"#.to_owned();
    let isolation = Isolation::WriteSerializable;
    let decided = decide_between(&[metadata, add("1new")], &Read::All, isolation, &winner);
    assert_eq!(decided, Err(Conflict::Added("1w".into())));
    assert_eq!(decide_between(&[add("1new")], &Read::All, isolation, &winner), Ok(()));
}

#[test]
fn who_only_rearranges_rows_minds_no_added_file_but_every_deleted_one() {
    let rearranged = [file("remove", "1a", None, false), file("add", "1ab", None, false)];
    let txn = r#"{"txn":{"appId":"app","version":7}}"#.to_owned();
    let isolation = Isolation::Serializable;
    let all =
        |mine: &[String], winner: &[String]| decide_between(mine, &Read::All, isolation, winner);
    assert_eq!(all(&rearranged, &[add("1w")]), Ok(()));
    let removed = Err(Conflict::DeletedRead("1x".into(), Touch::Removed));
    assert_eq!(all(&rearranged, &[remove("1x")]), removed);
    // One row that changed, or a transaction, and it is a commit like others.
    let more = [rearranged[0].clone(), add("1ab")];
    assert_eq!(all(&more, &[add("1w")]), Err(Conflict::Added("1w".into())));
    let more = [rearranged.to_vec(), vec![txn]].concat();
    assert_eq!(all(&more, &[add("1w")]), Err(Conflict::Added("1w".into())));
}

#[test]
fn a_deleted_file_is_a_conflict_where_it_was_read() {
    let mine = [add("1new")];
    let unknown = r#"{"remove":{"path":"1a","dataChange":true}}"#.to_owned();
    let decide = |read: &Read, winner: &String| {
        decide_between(&mine, read, Isolation::WriteSerializable, std::slice::from_ref(winner))
    };
    let removed = Err(Conflict::DeletedRead("1a".into(), Touch::Removed));
    assert_eq!(decide(&read_partition("1"), &remove("1a")), removed);
    assert_eq!(decide(&read_partition("2"), &remove("1a")), Ok(()));
    // A remove need not say where its file was, and then it may have been anywhere.
    assert_eq!(decide(&read_partition("2"), &unknown), removed);
    assert_eq!(decide(&read_partitions(&[]), &unknown), Ok(()));
    assert_eq!(decide(&Read::All, &unknown), removed);
    assert_eq!(decide(&read_files(&["1a"]), &unknown), removed);
    assert_eq!(decide(&read_files(&["1b"]), &unknown), Ok(()));
    assert_eq!(decide(&Read::Nothing, &unknown), Ok(()));
}

#[test]
fn null_and_empty_are_one_partition() {
    let null = r#"{"add":{"path":"x","partitionValues":{"p":null},"size":1}}"#.to_owned();
    let empty = r#"{"add":{"path":"x","partitionValues":{"p":""},"size":1}}"#.to_owned();
    let absent = r#"{"add":{"path":"x","partitionValues":{},"size":1}}"#.to_owned();
    for winner in [null, empty, absent] {
        for (p, conflicts) in [(None, true), (Some(String::new()), true), (Some("1".into()), false)]
        {
            let read = read_partitions(&[[("p".to_owned(), p)].into()]);
            let isolation = Isolation::WriteSerializable;
            let decided = decide_between(&[], &read, isolation, std::slice::from_ref(&winner));
            assert_eq!(decided.is_err(), conflicts, "{winner} {read:?}");
        }
    }
}

#[test]
fn other_row_ids_of_a_file_are_a_conflict_for_who_takes_it_away() {
    let with = |action: &str, id: u64| {
        format!(r#"{{"{action}":{{"path":"1a","size":1,"dataChange":false,"baseRowId":{id}}}}}"#)
    };
    let decided = decide_blind(&[with("remove", 7)], &[with("add", 8)]);
    assert_eq!(decided, Err(Conflict::DeletedDeleted("1a".into(), Touch::OtherRowIds)));
    assert_eq!(decide_blind(&[with("remove", 7)], &[with("add", 7)]), Ok(()));
}

#[test]
fn a_file_that_is_brought_back_is_nobody_elses() {
    let mine = [add("1a")];
    let conflict = |touch| Err(Conflict::Readded("1a".into(), touch));
    assert_eq!(decide_blind(&mine, &[add("1a")]), conflict(Touch::Added));
    // Both logical files would live on, and every row of theirs twice.
    let with_vector = file("add", "1a", Some("one"), true);
    assert_eq!(decide_blind(&mine, &[with_vector]), conflict(Touch::OtherVector));
    // Mine may only state it again, and would bring the deleted rows back.
    assert_eq!(decide_blind(&mine, &[remove("1a")]), conflict(Touch::Removed));
    assert_eq!(decide_blind(&mine, &[add("1b"), remove("1c")]), Ok(()));
}

#[test]
fn files_outside_the_table_are_told_by_one_spelling() {
    let conflict = decide_blind(&[remove("file:///x/1a")], &[remove("/x/1a")]).unwrap_err();
    assert_eq!(conflict, Conflict::DeletedDeleted("/x/1a".into(), Touch::Removed));
    let conflict = decide_blind(&[remove("1%20a")], &[remove("1 a")]).unwrap_err();
    assert_eq!(conflict, Conflict::DeletedDeleted("1 a".into(), Touch::Removed));
}

#[test]
fn the_isolation_is_the_tables_own() {
    let of = |level: Option<&str>| {
        let line = r#"{"metaData":{"id":"t","schemaString":"{}"}}"#;
        let action = crate::log::action::Action::from_line(line.as_bytes()).unwrap();
        let Some(crate::log::action::Action::MetaData(mut metadata)) = action else { panic!() };
        let level = level.map(|level| ("delta.isolationLevel".to_owned(), level.to_owned()));
        metadata.configuration.extend(level);
        Isolation::of(&metadata)
    };
    assert_eq!(of(None), Isolation::WriteSerializable);
    assert_eq!(of(Some("writeserializable")), Isolation::WriteSerializable);
    assert_eq!(of(Some("Serializable")), Isolation::Serializable);
    assert_eq!(of(Some("SnapshotIsolation")), Isolation::Serializable);
}

#[test]
fn every_conflict_is_a_sentence_that_names_the_file() {
    let path = || "p=1/a".to_owned();
    for (conflict, sentence) in [
        (
            Conflict::Added(path()),
            "another commit added p=1/a, which this one would have had to read",
        ),
        (
            Conflict::DeletedRead(path(), Touch::OtherVector),
            "another commit changed the deleted rows of p=1/a, which this one read",
        ),
        (
            Conflict::DeletedDeleted(path(), Touch::Removed),
            "another commit took away p=1/a, which this one takes away",
        ),
        (
            Conflict::Readded(path(), Touch::Added),
            "another commit added p=1/a, which this one brings back",
        ),
    ] {
        assert_eq!(conflict.to_string(), sentence);
    }
}
