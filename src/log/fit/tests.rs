//! Files that fit a table and files that do not.

use std::sync::Arc;

use parquet::schema::parser::parse_message_type;
use parquet::schema::types::SchemaDescriptor;
use serde_json::{Value, json};

use super::*;
use crate::log::file_schema::read_columns;

pub(super) fn file(fields: &str) -> Vec<FileColumn> {
    let parsed = parse_message_type(&format!("message m {{ {fields} }}")).unwrap();
    read_columns(&SchemaDescriptor::new(Arc::new(parsed))).unwrap()
}

pub(super) fn table(fields: Value) -> TableColumns {
    let schema = json!({ "type": "struct", "fields": fields }).to_string();
    TableColumns {
        schema: Schema::from_json(&schema).unwrap(),
        partition_columns: Vec::new(),
        mapping: Mapping::None,
        widening: Widening::Off,
        shredding: false,
        materialized: false,
        reserved: Vec::new(),
        ids: None,
    }
}

pub(super) fn column(name: &str, data_type: Value, nullable: bool) -> Value {
    json!({ "name": name, "type": data_type, "nullable": nullable, "metadata": {} })
}

pub(super) fn mapped(name: &str, physical: &str, id: i64) -> Value {
    json!({ "name": name, "type": "long", "nullable": true, "metadata": {
        "delta.columnMapping.physicalName": physical, "delta.columnMapping.id": id } })
}

#[track_caller]
pub(super) fn refused(result: Result<Fit>, words: &[&str]) {
    let Err(Error::Refused(text)) = result else { panic!("not refused: {result:?}") };
    for word in words.iter().chain(&["f.parquet"]) {
        assert!(text.contains(word), "{text:?} lacks {word:?}");
    }
}

#[test]
fn the_same_types_fit_and_give_their_leaves() {
    let table = table(json!([
        column("a", json!("long"), true),
        column("s", json!({"type":"struct","fields":[column("x", json!("string"), true)]}), true),
        column("l", json!({"type":"array","elementType":"integer","containsNull":true}), true),
    ]));
    let file = file(
        "optional group l (LIST) { repeated group list { optional int32 element; } }
         optional int64 a; optional group s { optional binary x (STRING); }",
    );
    let fit = table.fit(&file, false, "f.parquet").unwrap();
    let values = |column, primitive| LeafSource::Values { column, primitive };
    let leaves: Vec<(String, LeafSource)> =
        fit.leaves.iter().map(|leaf| (leaf.path.join("."), leaf.source.clone())).collect();
    assert_eq!(
        leaves,
        [
            ("a".into(), values(1, Primitive::Long)),
            ("s.x".into(), values(2, Primitive::String)),
            ("l".into(), LeafSource::Whole { column: 0, level: 1 }),
        ]
    );
    assert!(fit.not_null.is_empty() && fit.merged.is_none());
}

#[test]
fn another_type_is_refused_with_both_names() {
    let table = table(json!([column("a", json!("long"), true)]));
    let narrow = file("optional int32 a;");
    refused(table.fit(&narrow, false, "f.parquet"), &["\"a\"", "long", "integer"]);
    let group = file("optional group a { optional int64 b; }");
    refused(table.fit(&group, false, "f.parquet"), &["\"a\"", "struct"]);
    let nanos = file("optional int64 a (TIMESTAMP(NANOS,true));");
    refused(table.fit(&nanos, false, "f.parquet"), &["nanoseconds"]);
    let int96 = file("optional int96 a;");
    refused(table.fit(&int96, false, "f.parquet"), &["INT96"]);
}

#[test]
fn int96_is_a_timestamp() {
    let table = table(json!([column("a", json!("timestamp"), true)]));
    table.fit(&file("optional int96 a;"), false, "f.parquet").unwrap();
}

#[test]
fn a_missing_column_must_be_nullable_and_without_a_default() {
    let nullable =
        table(json!([column("a", json!("long"), true), column("b", json!("long"), true)]));
    let fit = nullable.fit(&file("optional int64 a;"), false, "f.parquet").unwrap();
    assert_eq!(fit.leaves[1], FitLeaf { path: vec!["b".into()], source: LeafSource::Absent });
    let strict =
        table(json!([column("a", json!("long"), true), column("b", json!("long"), false)]));
    refused(strict.fit(&file("optional int64 a;"), false, "f.parquet"), &["\"b\"", "missing"]);
    let default = table(json!([
        column("a", json!("long"), true),
        {"name":"b","type":"long","nullable":true,"metadata":{"CURRENT_DEFAULT":"42"}}
    ]));
    refused(default.fit(&file("optional int64 a;"), false, "f.parquet"), &["\"b\"", "default"]);
}

#[test]
fn what_must_not_be_null_is_named_with_its_level() {
    let table = table(json!([
        column("a", json!("long"), false),
        column("r", json!("long"), false),
        column("s", json!({"type":"struct","fields":[column("x", json!("string"), false)]}), true),
        column("l", json!({"type":"array","elementType":"integer","containsNull":false}), true),
    ]));
    let file = file(
        "optional int64 a; required int64 r; optional group s { optional binary x (STRING); }
         optional group l (LIST) { repeated group list { optional int32 element; } }",
    );
    let fit = table.fit(&file, false, "f.parquet").unwrap();
    let found: Vec<(&str, usize, i16)> =
        fit.not_null.iter().map(|null| (null.place.as_str(), null.column, null.level)).collect();
    assert_eq!(found, [("a", 0, 0), ("s.x", 2, 1), ("l.element", 3, 2)]);
}

#[test]
fn extra_columns_are_refused_or_merged_at_the_end() {
    let table = table(json!([
        column("a", json!("long"), true),
        column("s", json!({"type":"struct","fields":[column("x", json!("long"), true)]}), true),
    ]));
    let file = file(
        "optional int64 new; optional int64 a; optional group s { optional int64 y; optional int64 x; }",
    );
    refused(table.fit(&file, false, "f.parquet"), &["\"s.y\"", "merge_schema"]);
    let fit = table.fit(&file, true, "f.parquet").unwrap();
    let merged = fit.merged.unwrap().schema;
    let shown: Vec<String> =
        merged.fields.iter().map(|field| format!("{} {}", field.name, field.data_type)).collect();
    assert_eq!(shown, ["a long", "s struct<x: long, y: long>", "new long"]);
    let leaves: Vec<String> = fit.leaves.iter().map(|leaf| leaf.path.join(".")).collect();
    assert_eq!(leaves, ["a", "s.x", "s.y", "new"]);
}

#[test]
fn a_column_that_differs_by_case_is_refused_even_when_merging() {
    let table = table(json!([column("Id", json!("long"), true)]));
    refused(table.fit(&file("optional int64 id;"), true, "f.parquet"), &["case"]);
}

#[test]
fn a_mapped_table_is_matched_by_physical_name_or_by_id() {
    let mut table = table(json!([mapped("a", "col-1", 1), mapped("b", "col-2", 2)]));
    table.mapping = Mapping::Name;
    let mut columns = file("optional int64 x = 1; optional int64 y = 2;");
    columns[0].name = "col-1".into();
    columns[1].name = "col-2".into();
    let fit = table.fit(&columns, false, "f.parquet").unwrap();
    assert_eq!(fit.leaves[1].path, ["col-2"]);
    columns[1].id = Some(9);
    refused(table.fit(&columns, false, "f.parquet"), &["field id 9"]);
    refused(table.fit(&file("optional int64 a;"), false, "f.parquet"), &["physical names"]);
    refused(table.fit(&file("optional int64 z;"), false, "f.parquet"), &["merge_schema"]);

    table.mapping = Mapping::Id;
    columns[1].id = Some(2);
    columns[1].name = "whatever".into();
    let fit = table.fit(&columns, false, "f.parquet").unwrap();
    let source = LeafSource::Values { column: 1, primitive: Primitive::Long };
    assert_eq!(fit.leaves[1], FitLeaf { path: vec!["col-2".into()], source });
    columns[0].id = Some(2);
    refused(table.fit(&columns, false, "f.parquet"), &["two columns", "col-2"]);
    columns[0].id = None;
    refused(table.fit(&columns, false, "f.parquet"), &["no Parquet field id"]);
}

#[test]
fn partition_columns_need_not_be_in_the_file_unless_the_table_says_so() {
    let mut table =
        table(json!([column("p", json!("string"), true), column("a", json!("long"), true)]));
    table.partition_columns = vec!["p".into()];
    let without = file("optional int64 a;");
    let with = file("optional int64 a; optional binary p (STRING);");
    table.fit(&without, false, "f.parquet").unwrap();
    let fit = table.fit(&with, false, "f.parquet").unwrap();
    assert_eq!(fit.partition_columns, [("p".to_owned(), 1)]);
    assert_eq!(fit.leaves.len(), 1);
    table.materialized = true;
    refused(table.fit(&without, false, "f.parquet"), &["\"p\"", "too"]);
}

#[test]
fn variants_are_known_by_their_parts() {
    let mut table = table(json!([column("v", json!("variant"), true)]));
    let plain = "optional group v { required binary metadata; required binary value; }";
    let fit = table.fit(&file(plain), false, "f.parquet").unwrap();
    assert_eq!(fit.leaves[0].source, LeafSource::Whole { column: 0, level: 1 });
    let shredded = "optional group v { required binary metadata; optional binary value; \
                    optional int64 typed_value; }";
    refused(table.fit(&file(shredded), false, "f.parquet"), &["shredded"]);
    table.shredding = true;
    table.fit(&file(shredded), false, "f.parquet").unwrap();
    refused(
        table.fit(&file("optional group v { optional int64 x; }"), false, "f.parquet"),
        &["no variant"],
    );
}

#[test]
fn void_columns_stay_out_of_files() {
    let table = |data_type: Value| {
        table(json!([column("a", json!("long"), true), column("n", data_type, true)]))
    };
    let void = table(json!("void"));
    void.fit(&file("optional int64 a;"), false, "f.parquet").unwrap();
    refused(void.fit(&file("optional int64 a; optional int32 n;"), false, "f.parquet"), &["void"]);
    let inside = table(json!({"type":"array","elementType":"void","containsNull":true}));
    refused(inside.fit(&file("optional int64 a;"), false, "f.parquet"), &["void"]);
    // No statistics are kept of what is in no file.
    assert_eq!(void.fit(&file("optional int64 a;"), false, "f.parquet").unwrap().leaves.len(), 1);
}
