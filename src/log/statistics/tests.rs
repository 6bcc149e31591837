//! Statistics of files that a Parquet writer wrote.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, Date32Array, Decimal128Array, Float64Array, Int64Array, ListArray,
    RecordBatch, StringArray, StructArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType as ArrowType, Field as ArrowField, Int64Type};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use serde_json::{Value, json};

use super::*;
use crate::log::action::{Metadata, Protocol};
use crate::log::fit::TableColumns;

fn file(columns: &[(&str, ArrayRef)], properties: WriterProperties) -> File {
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.iter().map(|(name, array)| (*name, array.clone(), true)),
    )
    .unwrap();
    let mut file = tempfile::tempfile().unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
    // Two row groups, so that ranges are put together.
    for row in 0..batch.num_rows() {
        writer.write(&batch.slice(row, 1)).unwrap();
        writer.flush().unwrap();
    }
    writer.close().unwrap();
    file.write_all(&bytes).unwrap();
    file
}

fn table(schema: Value, configuration: Value) -> (Metadata, TableColumns) {
    let metadata: Metadata = serde_json::from_value(json!({
        "id": "t",
        "schemaString": json!({ "type": "struct", "fields": schema }).to_string(),
        "configuration": configuration,
    }))
    .unwrap();
    let columns = TableColumns::of(&Protocol::default(), &metadata, None).unwrap();
    (metadata, columns)
}

fn fields(columns: &[(&str, &str)]) -> Value {
    let field = |(name, data_type): &(&str, &str)| json!({ "name": name, "type": data_type, "nullable": true, "metadata": {} });
    columns.iter().map(field).collect()
}

fn stats(file: &File, table: &(Metadata, TableColumns)) -> String {
    stats_within(file, table, DECODED_BYTES_MAX, &[])
}

/// Statistics with a bound on what is decoded, and with clustering columns.
fn stats_within(
    file: &File,
    (metadata, columns): &(Metadata, TableColumns),
    bytes_left: u64,
    clustering: &[Vec<String>],
) -> String {
    let footer = Footer::read(file, "f").unwrap();
    let fit = columns.fit(footer.columns(), false, "f").unwrap();
    let indexed = Indexed::of(metadata, columns, clustering).unwrap();
    let asked = Asked { indexed, tight_bounds: false };
    let mut budget = Budget { bytes_left };
    let open = || Ok(file.try_clone().unwrap());
    statistics(&footer, &open, &fit.leaves, &asked, &mut budget).unwrap()
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn without_statistics() -> WriterProperties {
    WriterProperties::builder().set_statistics_enabled(EnabledStatistics::None).build()
}

#[test]
fn the_range_of_every_type_is_written_as_the_log_has_it() {
    let decimal =
        Decimal128Array::from(vec![Some(-5), Some(12345)]).with_precision_and_scale(38, 2).unwrap();
    let time = TimestampMicrosecondArray::from(vec![1_001, 2_001]).with_timezone("UTC");
    let file = file(
        &[
            ("l", Arc::new(Int64Array::from(vec![Some(3), None]))),
            ("s", Arc::new(StringArray::from(vec!["b", "a"]))),
            ("d", Arc::new(decimal)),
            ("day", Arc::new(Date32Array::from(vec![0, 1]))),
            ("t", Arc::new(time)),
        ],
        WriterProperties::new(),
    );
    let table = table(
        fields(&[
            ("l", "long"),
            ("s", "string"),
            ("d", "decimal(38,2)"),
            ("day", "date"),
            ("t", "timestamp"),
        ]),
        json!({}),
    );
    assert_eq!(
        stats(&file, &table),
        concat!(
            r#"{"numRecords":2,"#,
            r#""minValues":{"l":3,"s":"a","d":-0.05,"day":"1970-01-01","t":"1970-01-01T00:00:00.001Z"},"#,
            r#""maxValues":{"l":3,"s":"b","d":123.45,"day":"1970-01-02","t":"1970-01-01T00:00:00.003Z"},"#,
            r#""nullCount":{"l":1,"s":0,"d":0,"day":0,"t":0}}"#
        )
    );
}

#[test]
fn structs_nest_and_the_first_32_leaves_count() {
    let inner: Vec<(Arc<ArrowField>, ArrayRef)> = (0..40)
        .map(|index| {
            let field = ArrowField::new(format!("x{index}"), ArrowType::Int64, true);
            (Arc::new(field), Arc::new(Int64Array::from(vec![index])) as ArrayRef)
        })
        .collect();
    let file = file(&[("s", Arc::new(StructArray::from(inner)))], WriterProperties::new());
    let names: Vec<String> = (0..40).map(|index| format!("x{index}")).collect();
    let pairs: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "long")).collect();
    let schema = json!([{ "name": "s", "nullable": true, "metadata": {},
        "type": { "type": "struct", "fields": fields(&pairs) } }]);
    let parsed = |configuration| parsed(&stats(&file, &table(schema.clone(), configuration)));
    let default = parsed(json!({}));
    assert_eq!(default["minValues"]["s"].as_object().unwrap().len(), 32);
    assert_eq!(default["maxValues"]["s"]["x31"], 31);
    let three = parsed(json!({ "delta.dataSkippingNumIndexedCols": "3" }));
    assert_eq!(three["nullCount"]["s"].as_object().unwrap().len(), 3);
    let all = parsed(json!({ "delta.dataSkippingNumIndexedCols": "-1" }));
    assert_eq!(all["nullCount"]["s"].as_object().unwrap().len(), 40);
    let none = parsed(json!({ "delta.dataSkippingNumIndexedCols": "0" }));
    assert_eq!(none["minValues"], json!({}));
    // The reference compares the names without regard to case.
    let chosen = parsed(json!({ "delta.dataSkippingStatsColumns": "S.`X39` , nothing" }));
    assert_eq!(chosen["minValues"], json!({ "s": { "x39": 39 } }));
    let chosen = parsed(json!({ "delta.dataSkippingStatsColumns": "s" }));
    assert_eq!(chosen["minValues"]["s"].as_object().unwrap().len(), 40);
}

#[test]
fn a_maximum_that_could_hide_a_nan_is_left_out() {
    let table = table(fields(&[("f", "double")]), json!({}));
    for properties in [WriterProperties::new(), without_statistics()] {
        let values: ArrayRef = Arc::new(Float64Array::from(vec![1.5, f64::NAN, -2.5]));
        let stats = parsed(&stats(&file(&[("f", values)], properties), &table));
        assert_eq!((&stats["minValues"], &stats["maxValues"]), (&json!({"f": -2.5}), &json!({})));
        assert_eq!(stats["nullCount"], json!({"f": 0}));
    }
    let nans: ArrayRef = Arc::new(Float64Array::from(vec![Some(f64::NAN), None]));
    let stats = parsed(&stats(&file(&[("f", nans)], WriterProperties::new()), &table));
    assert_eq!((&stats["minValues"], &stats["maxValues"]), (&json!({}), &json!({})));
}

#[test]
fn a_maximum_is_there_where_no_value_is_nan() {
    let table = table(fields(&[("f", "double")]), json!({}));
    let values: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.5), None, Some(7.25)]));
    let stats = parsed(&stats(&file(&[("f", values)], WriterProperties::new()), &table));
    assert_eq!(stats["maxValues"], json!({"f": 7.25}));
}

#[test]
fn what_the_footer_lacks_is_decoded_as_far_as_the_budget_goes() {
    let columns: [(&str, ArrayRef); 2] = [
        ("a", Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]))),
        ("b", Arc::new(StringArray::from(vec!["x", "z", "y"]))),
    ];
    let file = file(&columns, without_statistics());
    let table = table(fields(&[("a", "long"), ("b", "string")]), json!({}));
    let whole = r#"{"numRecords":3,"minValues":{"a":1,"b":"x"},"maxValues":{"a":3,"b":"z"},"nullCount":{"a":1,"b":0}}"#;
    assert_eq!(stats(&file, &table), whole);
    assert_eq!(
        stats_within(&file, &table, 0, &[]),
        r#"{"numRecords":3,"minValues":{},"maxValues":{},"nullCount":{}}"#
    );
    // Clustering columns must have theirs, whatever it costs.
    assert_eq!(
        stats_within(&file, &table, 0, &[vec!["b".into()]]),
        r#"{"numRecords":3,"minValues":{"b":"x"},"maxValues":{"b":"z"},"nullCount":{"b":0}}"#
    );
    let footer = Footer::read(&file, "f").unwrap();
    let mut budget = Budget { bytes_left: 1000 };
    let taken = (0..1000).take_while(|_| budget.take(&footer, 0)).count();
    assert!((1..100).contains(&taken), "{taken}");
}

#[test]
fn a_column_that_the_file_lacks_is_null_in_every_row() {
    let table = table(
        json!([
            { "name": "s", "nullable": true, "metadata": {}, "type": { "type": "struct",
                "fields": fields(&[("x", "long"), ("y", "string")]) } },
            { "name": "gone", "nullable": true, "metadata": {}, "type": { "type": "struct",
                "fields": fields(&[("z", "long")]) } },
            { "name": "void", "nullable": true, "metadata": {}, "type": "void" },
            { "name": "l", "nullable": true, "metadata": {}, "type": {
                "type": "array", "elementType": "long", "containsNull": true } },
        ]),
        json!({}),
    );
    let x: (Arc<ArrowField>, ArrayRef) = (
        Arc::new(ArrowField::new("x", ArrowType::Int64, true)),
        Arc::new(Int64Array::from(vec![1, 2])),
    );
    let file = file(&[("s", Arc::new(StructArray::from(vec![x])))], WriterProperties::new());
    assert_eq!(
        stats(&file, &table),
        r#"{"numRecords":2,"minValues":{"s":{"x":1}},"maxValues":{"s":{"x":2}},"nullCount":{"s":{"x":0,"y":2},"gone":{"z":2},"l":2}}"#
    );
}

#[test]
fn lists_variants_and_binaries_have_null_counts_and_no_bounds() {
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>(vec![
        Some(vec![Some(1), None]),
        None,
        Some(vec![]),
        None,
    ]);
    let part = |name: &str| -> (Arc<ArrowField>, ArrayRef) {
        let bytes = BinaryArray::from(vec![&b"a"[..], b"b", b"c", b"d"]);
        (Arc::new(ArrowField::new(name, ArrowType::Binary, false)), Arc::new(bytes))
    };
    let (names, parts): (Vec<_>, Vec<_>) = [part("metadata"), part("value")].into_iter().unzip();
    let nulls = NullBuffer::from(vec![true, true, true, false]);
    let variant = StructArray::new(names.into(), parts, Some(nulls));
    let columns: [(&str, ArrayRef); 3] = [
        ("l", Arc::new(list)),
        ("v", Arc::new(variant)),
        ("b", Arc::new(BinaryArray::from(vec![Some(&b"x"[..]), None, None, None]))),
    ];
    let table = table(
        json!([
            { "name": "l", "nullable": true, "metadata": {}, "type": {
                "type": "array", "elementType": "long", "containsNull": true } },
            { "name": "v", "nullable": true, "metadata": {}, "type": "variant" },
            { "name": "b", "nullable": true, "metadata": {}, "type": "binary" },
        ]),
        json!({}),
    );
    let expected =
        r#"{"numRecords":4,"minValues":{},"maxValues":{},"nullCount":{"l":2,"v":1,"b":3}}"#;
    let file_with = |properties| file(&columns, properties);
    assert_eq!(stats(&file_with(WriterProperties::new()), &table), expected);
    // The counts are in the footer.
    let within = |file: &File| stats_within(file, &table, 0, &[]);
    assert_eq!(within(&file_with(WriterProperties::new())), expected);
    // And in the values.
    assert_eq!(stats(&file_with(without_statistics()), &table), expected);
}

#[test]
fn strings_are_cut_to_the_tables_own_length() {
    let file = file(&[("s", Arc::new(StringArray::from(vec!["abcdef"])))], WriterProperties::new());
    for (length, min, max) in
        [("3", json!({"s":"abc"}), json!({"s":"abc\u{7f}"})), ("0", json!({}), json!({}))]
    {
        let configuration = json!({ "delta.dataSkippingStringPrefixLength": length });
        let stats = parsed(&stats(&file, &table(fields(&[("s", "string")]), configuration)));
        assert_eq!((&stats["minValues"], &stats["maxValues"]), (&min, &max));
    }
}

#[test]
fn files_of_the_old_calendar_have_no_bounds_of_times() {
    let old = |key: &str, value: &str| {
        let pair = parquet::file::metadata::KeyValue::new(key.to_owned(), value.to_owned());
        WriterProperties::builder().set_key_value_metadata(Some(vec![pair])).build()
    };
    for (key, value, has_bounds) in [
        ("org.apache.spark.legacyDateTime", "", false),
        ("org.apache.spark.version", "2.4.8", false),
        ("org.apache.spark.version", "3.0.0", true),
        ("org.apache.spark.legacyINT96", "", true),
    ] {
        let columns: [(&str, ArrayRef); 2] = [
            ("day", Arc::new(Date32Array::from(vec![0]))),
            ("a", Arc::new(Int64Array::from(vec![0]))),
        ];
        let file = file(&columns, old(key, value));
        let table = table(fields(&[("day", "date"), ("a", "long")]), json!({}));
        let stats = parsed(&stats(&file, &table));
        assert_eq!(stats["minValues"].get("day").is_some(), has_bounds, "{key} {value}");
        assert_eq!((&stats["minValues"]["a"], &stats["nullCount"]["day"]), (&json!(0), &json!(0)));
    }
}

#[test]
fn properties_that_are_no_numbers_are_named() {
    for (key, value) in [
        ("delta.dataSkippingNumIndexedCols", "-2"),
        ("delta.dataSkippingNumIndexedCols", "all"),
        ("delta.dataSkippingStringPrefixLength", "-1"),
    ] {
        let (metadata, columns) = table(fields(&[("a", "long")]), json!({ key: value }));
        let error = Indexed::of(&metadata, &columns, &[]).unwrap_err();
        assert!(error.to_string().contains(key) && error.to_string().contains(value), "{error}");
    }
}

#[test]
fn a_column_of_nulls_has_a_count_and_no_range() {
    let nulls: ArrayRef = Arc::new(Int64Array::from(vec![None, None]));
    let file = file(&[("a", nulls)], WriterProperties::new());
    assert_eq!(
        stats(&file, &table(fields(&[("a", "long")]), json!({}))),
        r#"{"numRecords":2,"minValues":{},"maxValues":{},"nullCount":{"a":2}}"#
    );
}

#[test]
fn unsigned_columns_have_no_place_in_a_table() {
    let file = file(&[("a", Arc::new(UInt64Array::from(vec![1])))], WriterProperties::new());
    assert!(Footer::read(&file, "f").unwrap().schema().is_err());
}

#[test]
fn column_lists_are_read_with_their_quotes() {
    let columns = parse_columns("a, B . c ,`d,e`.`f.g`,` h``i`").unwrap();
    assert_eq!(columns, [vec!["a"], vec!["B", "c"], vec!["d,e", "f.g"], vec![" h`i"]]);
    assert!(parse_columns("`a").is_err());
    assert!(parse_columns("").unwrap().is_empty());
}

#[test]
fn tight_bounds_are_said_where_they_are_asked_for() {
    let file = file(&[("a", Arc::new(Int64Array::from(vec![1])))], WriterProperties::new());
    let footer = Footer::read(&file, "f").unwrap();
    let (metadata, columns) = table(fields(&[("a", "long")]), json!({}));
    let indexed = Indexed::of(&metadata, &columns, &[]).unwrap();
    let asked = Asked { indexed, tight_bounds: true };
    let open = || panic!("nothing is to be decoded");
    let text = statistics(&footer, &open, &[], &asked, &mut Budget::default()).unwrap();
    assert!(text.ends_with(r#""tightBounds":true}"#), "{text}");
}
