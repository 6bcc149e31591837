//! Logs that are wrong as a whole: files there twice or not at all, hints that point nowhere,
//! checkpoints that lack parts or columns, or have others than the protocol's.

use std::fs;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    StructArray,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{Field, Fields};
use parquet::arrow::ArrowWriter;

use super::tests::{METADATA, PROTOCOL, Scratch, add, assert_damaged, live, versions};
use super::*;
use crate::log::snapshot::Snapshot;

const CHECKPOINT: &str = "00000000000000000002.checkpoint.parquet";

/// A column of a checkpoint: its fields, of which one row of three is there.
type Column = (&'static str, Vec<(&'static str, ArrayRef)>);

fn texts(text: &str) -> ArrayRef {
    Arc::new(StringArray::from(vec![text; 3]))
}

fn longs(number: i64) -> ArrayRef {
    Arc::new(Int64Array::from(vec![number; 3]))
}

fn ints(number: i32) -> ArrayRef {
    Arc::new(Int32Array::from(vec![number; 3]))
}

/// A checkpoint of one file, `f0`.
fn columns() -> Vec<Column> {
    let schema = r#"{"type":"struct","fields":[]}"#;
    vec![
        ("protocol", vec![("minReaderVersion", ints(1)), ("minWriterVersion", ints(2))]),
        ("metaData", vec![("id", texts("t")), ("schemaString", texts(schema))]),
        (
            "add",
            vec![
                ("path", texts("f0")),
                ("size", longs(5)),
                ("modificationTime", longs(1)),
                ("dataChange", Arc::new(BooleanArray::from(vec![false; 3]))),
            ],
        ),
    ]
}

fn parquet(columns: Vec<Column>) -> Vec<u8> {
    let columns = columns.into_iter().enumerate().map(|(at, (name, children))| {
        let fields: Fields = children
            .iter()
            .map(|(name, array)| Field::new(*name, array.data_type().clone(), true))
            .collect();
        let arrays = children.into_iter().map(|(_, array)| array).collect();
        let is_there = NullBuffer::from([0, 1, 2].map(|row| row == at).to_vec());
        let column: ArrayRef = Arc::new(StructArray::new(fields, arrays, Some(is_there)));
        (name, column, true)
    });
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

/// A table whose only way to its newest version is this checkpoint.
fn table_of(checkpoint: &[u8]) -> Scratch {
    let scratch = Scratch::table();
    fs::remove_file(scratch.file(&commit_name(Version(0)))).unwrap();
    fs::write(scratch.file(CHECKPOINT), checkpoint).unwrap();
    scratch
}

async fn assert_refused(scratch: &Scratch, words: &[&str]) {
    assert_damaged(&scratch.load().await, words);
    let error = Snapshot::load(&scratch.store(), None).await.unwrap_err();
    assert!(matches!(error, Error::Damaged(_)), "{error:?}");
    for word in words {
        assert!(error.to_string().contains(word), "{error} says nothing of {word:?}");
    }
}

#[tokio::test]
async fn the_checkpoint_that_these_tests_break_can_be_read() {
    let scratch = table_of(&parquet(columns()));
    assert_eq!(live(&scratch.load().await, 2), ["f0"]);
    assert_eq!(scratch.snapshot(2).await.unwrap().adds.len(), 1);
}

#[tokio::test]
async fn a_checkpoint_that_lacks_a_column_is_damage() {
    for (column, field, words) in [
        ("protocol", "", &["no protocol"][..]),
        ("metaData", "", &["no metaData"]),
        ("add", "", &[CHECKPOINT, "version 2"]),
        ("metaData", "id", &[CHECKPOINT, "version 2", "id"]),
        ("metaData", "schemaString", &[CHECKPOINT, "version 2", "schemaString"]),
        ("protocol", "minReaderVersion", &[CHECKPOINT, "version 2", "minReaderVersion"]),
        ("add", "path", &[CHECKPOINT, "version 2", "path"]),
        ("add", "size", &[CHECKPOINT, "version 2", "size"]),
    ] {
        println!("without {column}.{field}");
        let mut columns = columns();
        match field {
            "" => columns.retain(|(name, _)| *name != column),
            _ => {
                let (_, fields) = columns.iter_mut().find(|(name, _)| *name == column).unwrap();
                fields.retain(|(name, _)| *name != field);
            }
        }
        assert_refused(&table_of(&parquet(columns)), words).await;
    }
}

#[tokio::test]
async fn a_column_of_another_type_is_damage() {
    let is_there: ArrayRef = Arc::new(BooleanArray::from(vec![true; 3]));
    for (column, field, wrong) in [
        ("add", "path", longs(1)),
        ("add", "size", texts("5")),
        ("add", "size", is_there.clone()),
        // 2^63 is no long, so it can only come as a double.
        ("add", "size", Arc::new(Float64Array::from(vec![9_223_372_036_854_775_808.0; 3]))),
        ("add", "partitionValues", texts("{}")),
        ("add", "deletionVector", texts("u")),
        ("metaData", "schemaString", ints(1)),
        ("metaData", "configuration", texts("{}")),
        ("protocol", "minReaderVersion", texts("1")),
    ] {
        println!("{column}.{field} as {}", wrong.data_type());
        let mut columns = columns();
        let (_, fields) = columns.iter_mut().find(|(name, _)| *name == column).unwrap();
        fields.retain(|(name, _)| *name != field);
        fields.push((field, wrong));
        assert_refused(&table_of(&parquet(columns)), &[CHECKPOINT, "version 2", field]).await;
    }
}

#[tokio::test]
async fn a_size_that_can_not_be_is_damage_in_commit_and_checkpoint() {
    let line = |size: &str| add("f1").replace("\"size\":5", &format!("\"size\":{size}"));
    for size in ["-1", "9223372036854775807", "9223372036854775808", "1e30", "null", "\"5\""] {
        let scratch = Scratch::table();
        scratch.commit(1, &[&line(size)]);
        assert_refused(&scratch, &[&commit_name(Version(1)), "version 1", "line 1"]).await;
    }
    for size in [-1, i64::MAX, i64::MIN] {
        let mut columns = columns();
        columns[2].1[1].1 = longs(size);
        assert_refused(&table_of(&parquet(columns)), &[CHECKPOINT, &size.to_string()]).await;
    }
}

#[tokio::test]
async fn a_multi_part_checkpoint_needs_every_part() {
    let part = |part: u64| format!("00000000000000000005.checkpoint.{part:010}.{:010}.parquet", 3);
    for lost in 1..=3 {
        for is_torn in [false, true] {
            let golden = Scratch::golden("v1-multi-part-partitioned-struct-stats-only");
            let Some(scratch) = golden else { return };
            for version in 0..5 {
                fs::remove_file(scratch.file(&commit_name(Version(version)))).unwrap();
            }
            assert_eq!(scratch.load().await.newest().unwrap(), Version(5));
            let name = part(lost);
            if is_torn {
                fs::write(scratch.file(&name), "PAR1").unwrap();
                assert_refused(&scratch, &[&name, "version 5"]).await;
            } else {
                fs::remove_file(scratch.file(&name)).unwrap();
                assert_refused(&scratch, &["version 5"]).await;
            }
        }
    }
}

#[tokio::test]
async fn a_second_checkpoint_of_a_version_stands_in_for_a_damaged_one() {
    let scratch = table_of(b"PAR1");
    let second = "00000000000000000002.checkpoint.0000000001.0000000001.parquet";
    fs::write(scratch.file(second), parquet(columns())).unwrap();
    assert_eq!(live(&scratch.load().await, 2), ["f0"]);
    assert!(scratch.snapshot(2).await.is_ok());
    fs::write(scratch.file(CHECKPOINT), parquet(columns())).unwrap();
    assert_eq!(live(&scratch.load().await, 2), ["f0"], "both are whole");
}

#[tokio::test]
async fn copies_under_names_that_no_log_has_are_nothing() {
    let scratch = Scratch::with_commits(1..=2);
    let name = commit_name(Version(2));
    for copy in [
        "2.json",
        "00000000000000000003.json.tmp",
        "00000000000000000003 (1).json",
        "00000000000000000003.JSON",
        ".00000000000000000003.json",
        "000000000000000000003.json",
        "00000000000000000003.checkpoint.json",
        "00000000000000000003.checkpoint.0000000000.0000000001.parquet",
        "99999999999999999999.json",
    ] {
        fs::copy(scratch.file(&name), scratch.file(copy)).unwrap();
    }
    fs::create_dir(scratch.file("00000000000000000003.json")).unwrap();
    let history = scratch.load().await;
    assert_eq!((versions(&history), history.newest().unwrap()), (vec![0, 1, 2], Version(2)));
    assert_eq!(live(&history, 2), ["f0", "f1", "f2"]);
    assert_eq!(Snapshot::load(&scratch.store(), None).await.unwrap().version, Version(2));
}

#[tokio::test]
async fn a_commit_that_says_a_thing_twice_says_it_once() {
    let scratch = Scratch::table();
    scratch.commit(1, &[PROTOCOL, METADATA, &add("f1"), &add("f1"), &add("f0"), METADATA]);
    let history = scratch.load().await;
    assert_eq!(live(&history, 1), ["f0", "f1"]);
    assert_eq!(scratch.snapshot(1).await.unwrap().adds.len(), 2);
}

#[tokio::test]
async fn a_wrong_hint_changes_nothing() {
    let scratch = Scratch::with_commits(1..=3);
    fs::write(scratch.file(CHECKPOINT), parquet(columns())).unwrap();
    let expected = live(&scratch.load().await, 3).len();
    for hint in [
        "",
        "{",
        "[]",
        "7",
        "\0\0\0",
        "{}",
        r#"{"version":-1}"#,
        r#"{"version":0}"#,
        r#"{"version":2,"size":-1,"parts":9223372036854775808}"#,
        r#"{"version":2,"parts":7}"#,
        r#"{"version":3,"size":1}"#,
        r#"{"version":99}"#,
        r#"{"version":9223372036854775808}"#,
        r#"{"version":18446744073709551615}"#,
        r#"{"version":"2"}"#,
        r#"{"version":2,"v2Checkpoint":{"path":"../../x"}}"#,
    ] {
        fs::write(scratch.file("_last_checkpoint"), hint).unwrap();
        let history = scratch.load().await;
        assert_eq!(history.newest().unwrap(), Version(3), "{hint}");
        assert_eq!(live(&history, 3).len(), expected, "{hint}");
        assert!(scratch.snapshot(3).await.is_ok(), "{hint}");
    }
    fs::remove_file(scratch.file("_last_checkpoint")).unwrap();
    fs::create_dir(scratch.file("_last_checkpoint")).unwrap();
    assert_eq!(scratch.load().await.newest().unwrap(), Version(3), "a folder of that name");
}
