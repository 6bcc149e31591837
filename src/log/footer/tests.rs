//! Footers of whole, cut and broken files.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{DataType as ArrowType, Field as ArrowField, Fields};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use super::*;

fn write(columns: Vec<(&str, ArrayRef)>, properties: WriterProperties) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, array, true)),
    )
    .unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn numbers() -> Vec<u8> {
    write(vec![("a", Arc::new(Int64Array::from(vec![1, 2, 3])))], WriterProperties::new())
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T>, word: &str) {
    let Err(Error::Refused(text)) = result else { panic!("not refused: {result:?}") };
    assert!(text.contains("f.parquet") && text.contains(word), "{text}");
}

#[test]
fn a_whole_file_gives_its_rows_and_schema() {
    let footer = Footer::read(&file(&numbers()), "f.parquet").unwrap();
    assert_eq!(footer.rows(), 3);
    assert_eq!(footer.schema().unwrap().fields[0].data_type.to_string(), "long");
}

#[test]
fn a_file_without_rows_is_whole() {
    let empty: ArrayRef = Arc::new(Int64Array::from(Vec::<i64>::new()));
    let bytes = write(vec![("a", empty)], WriterProperties::new());
    assert_eq!(Footer::read(&file(&bytes), "f.parquet").unwrap().rows(), 0);
}

#[test]
fn every_cut_of_a_file_is_refused() {
    let bytes = numbers();
    for length in 0..bytes.len() {
        let result = Footer::read(&file(&bytes[..length]), "f.parquet");
        assert!(matches!(result, Err(Error::Refused(_))), "{length}: {result:?}");
    }
}

#[test]
fn bytes_missing_in_the_middle_are_noticed() {
    let bytes = numbers();
    let footer = u32::from_le_bytes(bytes[bytes.len() - 8..][..4].try_into().unwrap()) as usize + 8;
    let mut cut = bytes[..4].to_vec();
    cut.extend_from_slice(&bytes[bytes.len() - footer..]);
    refused(Footer::read(&file(&cut), "f.parquet"), "outside of the file");
}

#[test]
fn what_is_not_parquet_is_told_apart() {
    refused(Footer::read(&file(b"hello, this is a text"), "f.parquet"), "is not Parquet");
    refused(Footer::read(&file(b"PARE and then some PARE"), "f.parquet"), "encrypted");
    let mut long = numbers();
    let end = long.len();
    long[end - 8..end - 4].copy_from_slice(&u32::MAX.to_le_bytes());
    refused(Footer::read(&file(&long), "f.parquet"), "longer than the file");
    assert!(is_parquet(&file(&numbers())) && !is_parquet(&file(b"text")));
}

#[test]
fn garbage_in_a_footer_never_panics() {
    let bytes = numbers();
    let start = bytes.len() - 8 - 200;
    for place in start..bytes.len() - 8 {
        for value in [0x00, 0x7f, 0x80, 0xff] {
            let mut broken = bytes.clone();
            broken[place] = value;
            let _whether_it_is_refused_depends = Footer::read(&file(&broken), "f.parquet");
        }
    }
}

fn without_statistics() -> WriterProperties {
    WriterProperties::builder().set_statistics_enabled(EnabledStatistics::None).build()
}

#[test]
fn nulls_are_found_by_the_footer_or_by_decoding() {
    for properties in [WriterProperties::new(), without_statistics()] {
        let column = |values: Vec<Option<i64>>| -> ArrayRef { Arc::new(Int64Array::from(values)) };
        let bytes = write(
            vec![("full", column(vec![Some(1), Some(2)])), ("holed", column(vec![Some(1), None]))],
            properties,
        );
        let file = file(&bytes);
        let footer = Footer::read(&file, "f.parquet").unwrap();
        let rule = |column, place: &str| NotNull { place: place.into(), column, level: 0 };
        footer.check_not_null(&file, &rule(0, "full")).unwrap();
        refused(footer.check_not_null(&file, &rule(1, "holed")), "\"holed\"");
    }
}

#[test]
fn a_null_struct_is_no_null_of_its_field() {
    let x = Int32Array::from(vec![Some(1), None]);
    let fields = Fields::from(vec![ArrowField::new("x", ArrowType::Int32, true)]);
    let outer_null =
        StructArray::new(fields.clone(), vec![Arc::new(x.clone())], Some(vec![true, false].into()));
    let inner_null = StructArray::new(fields, vec![Arc::new(x)], None);
    let rule = NotNull { place: "s.x".into(), column: 0, level: 1 };
    for (array, holds) in [(outer_null, true), (inner_null, false)] {
        let file = file(&write(vec![("s", Arc::new(array))], WriterProperties::new()));
        let footer = Footer::read(&file, "f.parquet").unwrap();
        assert_eq!(footer.check_not_null(&file, &rule).is_ok(), holds);
    }
}

#[test]
fn a_partition_column_in_the_file_must_say_what_the_directory_says() {
    let text: ArrayRef = Arc::new(StringArray::from(vec![Some("x"), Some("x")]));
    let mixed: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), None]));
    let file = file(&write(vec![("p", text), ("q", mixed)], WriterProperties::new()));
    let footer = Footer::read(&file, "f.parquet").unwrap();
    let check = |column, value, primitive| {
        footer.check_partition_column(&file, column, "p", value, &primitive)
    };
    check(0, Some("x"), Primitive::String).unwrap();
    refused(check(0, Some("y"), Primitive::String), "\"x\" in the file");
    refused(check(0, None, Primitive::String), "null by the directory");
    refused(check(1, Some("7"), Primitive::Long), "null in the file");
}
