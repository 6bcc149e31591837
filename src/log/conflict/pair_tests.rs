//! Every pair of kinds of commits, both ways round, against a table that was written by hand from
//! Delta's rules.
//!
//! The table before has the files `1a` and `1b` in partition 1 and `2c` in partition 2; `2r` was in
//! partition 2 once. Row: the commit on its way; column: the winner.

use super::tests::*;
use super::*;

/// A kind of commit; what it adds under a fresh name differs between mine and the winner's.
struct Kind {
    name: &'static str,
    lines: fn(fresh: &str) -> Vec<String>,
    read: fn() -> Read,
    /// Whether it is absolute: then it never overlooks a blind append.
    is_absolute: bool,
}

const fn kind(name: &'static str, lines: fn(&str) -> Vec<String>, read: fn() -> Read) -> Kind {
    Kind { name, lines, read, is_absolute: false }
}

const fn absolute(name: &'static str, lines: fn(&str) -> Vec<String>) -> Kind {
    Kind { name, lines, read: || Read::All, is_absolute: true }
}

fn rearranged(action: &str, path: &str) -> String {
    file(action, path, None, false)
}

const KINDS: [Kind; 15] = [
    kind("append", |fresh| vec![blind(), add(&format!("1{fresh}"))], || Read::Nothing),
    absolute("overwrite", |fresh| {
        vec![remove("1a"), remove("1b"), remove("2c"), add(&format!("1{fresh}"))]
    }),
    absolute("restore", |_| vec![remove("2c"), add("2r")]),
    kind("delete p=1", |_| vec![remove("1a"), remove("1b")], || read_partition("1")),
    kind(
        "delete by vector",
        |fresh| vec![remove("1a"), file("add", "1a", Some(fresh), true)],
        || read_partition("1"),
    ),
    kind("metadata", |_| vec![r#"{"metaData":{"id":"t"}}"#.into()], || Read::Nothing),
    kind(
        "protocol",
        |_| vec![r#"{"protocol":{"minReaderVersion":1,"minWriterVersion":7}}"#.into()],
        || Read::Nothing,
    ),
    kind(
        "optimize p=1",
        |fresh| {
            let new = rearranged("add", &format!("1{fresh}"));
            vec![rearranged("remove", "1a"), rearranged("remove", "1b"), new]
        },
        || read_files(&["1a", "1b"]),
    ),
    kind(
        "append with txn",
        |fresh| {
            let txn = r#"{"txn":{"appId":"app","version":7}}"#.into();
            vec![blind(), txn, add(&format!("1{fresh}"))]
        },
        || Read::Nothing,
    ),
    kind(
        "domain",
        |_| {
            let domain = r#"{"domain":"mine","configuration":"","removed":false}"#;
            vec![format!(r#"{{"domainMetadata":{domain}}}"#)]
        },
        || Read::Nothing,
    ),
    kind(
        "append with row ids",
        |fresh| {
            let mark = r#"{\"rowIdHighWaterMark\":9}"#;
            let domain = format!(
                r#"{{"domain":"delta.rowTracking","configuration":"{mark}","removed":false}}"#
            );
            let add = format!(
                r#"{{"path":"1{fresh}","partitionValues":{{"p":"1"}},"size":1,"baseRowId":9}}"#
            );
            vec![
                blind(),
                format!(r#"{{"domainMetadata":{domain}}}"#),
                format!(r#"{{"add":{add}}}"#),
            ]
        },
        || Read::Nothing,
    ),
    kind(
        "update p=2",
        |fresh| vec![remove("2c"), add(&format!("2{fresh}"))],
        || read_partition("2"),
    ),
    kind("rm 1a", |_| vec![remove("1a")], || Read::Nothing),
    kind("append of 2r", |_| vec![blind(), add("2r")], || Read::Nothing),
    Kind {
        name: "replace p=1",
        lines: |fresh| vec![remove("1a"), remove("1b"), add(&format!("1{fresh}"))],
        read: || read_partition("1"),
        is_absolute: true,
    },
];

/// `.` none, `P` protocol, `M` metadata, `D` domain, `T` transaction, `A` added, `R` deleted and
/// read, `X` deleted and deleted, `B` brought back.
///
/// What may surprise:
/// - An append passes everything but a protocol and metadata: it is right after whatever it is.
/// - Overwrite and restore mind blind appends too: the table becomes what they say, and no file
///   that slipped in may stay. Delta's engine never lets a RESTORE pass at all.
/// - Whoever replaces a partition minds its blind appends too, and nothing in other partitions.
/// - `A` comes before `R` and `X`: who removes and adds is told of for what he added.
/// - DELETE and OPTIMIZE of one partition are in conflict both ways, though one changes no row.
/// - OPTIMIZE minds no added file: it moves the rows that it read, and only those. So the deletes
///   by vector are `R` for it, not `A`.
/// - A winner's metadata stops even a commit that only changes the protocol or a domain; the other
///   way round nothing is stopped, for files are added and removed under any of them.
/// - Row ids are in nobody's way.
const TABLE: [(&str, &str); 15] = [
    //  winner:              append overwrite restore delete vector metadata protocol
    //                       optimize txn domain row-ids update rm back replace
    ("append", ". . . . . M P . . . . . . . ."),
    ("overwrite", "A A A R A M P A A . A A R A A"),
    ("restore", "A A A R A M P A A . A A R A A"),
    ("delete p=1", ". A . R A M P A . . . . R . A"),
    ("delete by vector", ". A . R A M P A . . . . R . A"),
    ("metadata", ". . . . . M P . . . . . . . ."),
    ("protocol", ". . . . . M P . . . . . . . ."),
    ("optimize p=1", ". R . R R M P R . . . . R . R"),
    ("append with txn", ". . . . . M P . T . . . . . ."),
    ("domain", ". . . . . M P . . D . . . . ."),
    ("append with row ids", ". . . . . M P . . . . . . . ."),
    ("update p=2", ". R A . . M P . . . . A . . ."),
    ("rm 1a", ". X . X X M P X . . . . X . X"),
    ("append of 2r", ". . B . . M P . . . . . . B ."),
    ("replace p=1", "A A . R A M P A A . A . R . A"),
];

/// Where a table is Serializable, blind appends into what was read are seen.
const MORE_WHERE_SERIALIZABLE: [(&str, &str); 7] = [
    ("delete p=1", "append"),
    ("delete p=1", "append with txn"),
    ("delete p=1", "append with row ids"),
    ("delete by vector", "append"),
    ("delete by vector", "append with txn"),
    ("delete by vector", "append with row ids"),
    ("update p=2", "append of 2r"),
];

fn letter(decided: &Result<(), Conflict>) -> &'static str {
    match decided {
        Ok(()) => ".",
        Err(Conflict::Protocol) => "P",
        Err(Conflict::Metadata) => "M",
        Err(Conflict::Domain(_)) => "D",
        Err(Conflict::Txn(_)) => "T",
        Err(Conflict::Added(_)) => "A",
        Err(Conflict::DeletedRead(..)) => "R",
        Err(Conflict::DeletedDeleted(..)) => "X",
        Err(Conflict::Readded(..)) => "B",
    }
}

#[test]
fn every_pair_is_decided_as_the_table_says() {
    let mut wrong = Vec::new();
    for isolation in [Isolation::WriteSerializable, Isolation::Serializable] {
        for (mine, (row, expected)) in KINDS.iter().zip(TABLE) {
            assert_eq!(mine.name, row);
            let expected: Vec<&str> = expected.split(' ').collect();
            assert_eq!(expected.len(), KINDS.len(), "{row}");
            let (changes_of_mine, read) = (changes(&(mine.lines)("mine")), (mine.read)());
            let transaction = Transaction {
                changes: &changes_of_mine,
                read: &read,
                isolation: if mine.is_absolute { Isolation::Serializable } else { isolation },
            };
            for (winner, mut expected) in KINDS.iter().zip(expected) {
                let pair = (mine.name, winner.name);
                if isolation == Isolation::Serializable && MORE_WHERE_SERIALIZABLE.contains(&pair) {
                    expected = "A";
                }
                let decided = decide(&transaction, &changes(&(winner.lines)("winner")));
                if letter(&decided) != expected {
                    wrong.push(format!("{pair:?} {isolation:?}: {expected}, not {decided:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
