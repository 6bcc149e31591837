//! Statistics of files that a Parquet writer wrote.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Date32Array, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray,
    StructArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::datatypes::{DataType as ArrowType, Field as ArrowField};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use serde_json::{Value, json};

use super::*;
use crate::log::action::Protocol;

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
    let columns = TableColumns::of(&Protocol::default(), &metadata).unwrap();
    (metadata, columns)
}

fn fields(columns: &[(&str, &str)]) -> Value {
    let field = |(name, data_type): &(&str, &str)| json!({ "name": name, "type": data_type, "nullable": true, "metadata": {} });
    columns.iter().map(field).collect()
}

fn stats(file: &File, (metadata, columns): &(Metadata, TableColumns)) -> String {
    let footer = Footer::read(file, "f").unwrap();
    let fit = columns.fit(footer.columns(), false, "f").unwrap();
    let indexed = Indexed::of(metadata, columns, &[]).unwrap();
    statistics(&footer, &fit.leaves, &indexed, false)
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
    let parsed = |configuration| -> Value {
        serde_json::from_str(&stats(&file, &table(schema.clone(), configuration))).unwrap()
    };
    let default = parsed(json!({}));
    assert_eq!(default["minValues"]["s"].as_object().unwrap().len(), 32);
    assert_eq!(default["maxValues"]["s"]["x31"], 31);
    let three = parsed(json!({ "delta.dataSkippingNumIndexedCols": "3" }));
    assert_eq!(three["nullCount"]["s"].as_object().unwrap().len(), 3);
    let all = parsed(json!({ "delta.dataSkippingNumIndexedCols": "-1" }));
    assert_eq!(all["nullCount"]["s"].as_object().unwrap().len(), 40);
    let none = parsed(json!({ "delta.dataSkippingNumIndexedCols": "0" }));
    assert_eq!(none["minValues"], json!({}));
    let chosen = parsed(json!({ "delta.dataSkippingStatsColumns": "s.`x39`, nothing" }));
    assert_eq!(chosen["minValues"], json!({ "s": { "x39": 39 } }));
}

#[test]
fn a_maximum_that_could_hide_a_nan_is_left_out() {
    let file =
        file(&[("f", Arc::new(Float64Array::from(vec![1.5, f64::NAN])))], WriterProperties::new());
    let stats: Value =
        serde_json::from_str(&stats(&file, &table(fields(&[("f", "double")]), json!({})))).unwrap();
    assert_eq!(stats["maxValues"], json!({}));
}

#[test]
fn missing_statistics_are_left_out_and_rows_are_not() {
    let properties =
        WriterProperties::builder().set_statistics_enabled(EnabledStatistics::None).build();
    let file = file(&[("a", Arc::new(Int64Array::from(vec![1, 2])))], properties);
    assert_eq!(
        stats(&file, &table(fields(&[("a", "long")]), json!({}))),
        r#"{"numRecords":2,"minValues":{},"maxValues":{},"nullCount":{}}"#
    );
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
    let columns = parse_columns("a, b.c,`d,e`.`f.g`").unwrap();
    assert_eq!(columns, [vec!["a"], vec!["b", "c"], vec!["d,e", "f.g"]]);
    assert!(parse_columns("`a").is_err());
    assert!(parse_columns("").unwrap().is_empty());
}

#[test]
fn tight_bounds_are_said_where_they_are_asked_for() {
    let file = file(&[("a", Arc::new(Int64Array::from(vec![1])))], WriterProperties::new());
    let footer = Footer::read(&file, "f").unwrap();
    let text = statistics(&footer, &[], &Indexed::default(), true);
    assert!(text.ends_with(r#""tightBounds":true}"#), "{text}");
}
