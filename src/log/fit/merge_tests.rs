//! Files that change a table's schema, and those that may not.

use serde_json::{Value, json};

use super::tests::{column, file, mapped, refused, table};
use super::*;
use crate::log::file_schema::{FileType, Names, Stored, to_schema};

fn shown(fit: &Fit) -> Vec<String> {
    let schema = &fit.merged.as_ref().unwrap().schema;
    schema.fields.iter().map(|field| format!("{} {}", field.name, field.data_type)).collect()
}

fn struct_of(fields: &[Value]) -> Value {
    json!({ "type": "struct", "fields": fields })
}

fn array_of(element: Value) -> Value {
    json!({ "type": "array", "elementType": element, "containsNull": true })
}

fn map_of(key: &str, value: Value) -> Value {
    json!({ "type": "map", "keyType": key, "valueType": value, "valueContainsNull": true })
}

#[test]
fn fields_are_added_inside_structs_lists_and_maps() {
    let x = || struct_of(&[column("x", json!("long"), true)]);
    let table = table(json!([
        column("s", struct_of(&[column("t", x(), true)]), true),
        column("l", array_of(x()), true),
        column("m", map_of("string", x()), true),
    ]));
    let file = file(
        "optional group s { optional group t { optional int32 y; optional int64 x; } }
         optional group l (LIST) { repeated group list { optional group element {
           optional int64 x; optional binary y (STRING); } } }
         optional group m (MAP) { repeated group key_value { required binary key (STRING);
           optional group value { optional int64 x; optional group z { optional int64 w; } } } }",
    );
    refused(table.fit(&file, false, "f.parquet"), &["\"s.t.y\"", "merge_schema"]);
    let fit = table.fit(&file, true, "f.parquet").unwrap();
    assert_eq!(
        shown(&fit),
        [
            "s struct<t: struct<x: long, y: integer>>",
            "l array<struct<x: long, y: string>>",
            "m map<string, struct<x: long, z: struct<w: long>>>",
        ]
    );
    let paths: Vec<String> = fit.leaves.iter().map(|leaf| leaf.path.join(".")).collect();
    assert_eq!(paths, ["s.t.x", "s.t.y", "l", "m"]);
    let field = &fit.merged.unwrap().schema.fields[0];
    let DataType::Struct(s) = &field.data_type else { panic!() };
    let DataType::Struct(t) = &s.fields[0].data_type else { panic!() };
    assert!(t.fields[1].nullable && t.fields[1].metadata.is_empty());
}

#[test]
fn a_field_that_must_not_be_null_is_missing_where_its_struct_is_there() {
    let strict = struct_of(&[column("x", json!("long"), false), column("y", json!("long"), true)]);
    let table = table(json!([column("a", json!("long"), true), column("s", strict, true)]));
    table.fit(&file("optional int64 a;"), true, "f.parquet").unwrap();
    let lacks = file("optional group s { optional int64 y; }");
    refused(table.fit(&lacks, true, "f.parquet"), &["\"s.x\"", "must not be null"]);
}

#[test]
fn columns_keep_their_order_over_several_files() {
    let mut table = table(json!([column("a", json!("long"), true)]));
    let mut metadata = metadata();
    for fields in [
        "optional int64 z; optional int64 a; optional int64 b;",
        "optional int64 c; optional int64 b; optional int64 z;",
    ] {
        let fit = table.fit(&file(fields), true, "f.parquet").unwrap();
        table.merge(fit.merged.unwrap(), &mut metadata);
    }
    let names: Vec<&str> = table.schema.fields.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(names, ["a", "z", "b", "c"]);
    assert_eq!(Schema::from_json(&metadata.schema_string).unwrap(), table.schema);
    assert!(table.fit(&file("optional int64 a;"), true, "f.parquet").unwrap().merged.is_none());
}

fn metadata() -> Metadata {
    serde_json::from_str(r#"{"id":"t","schemaString":"{}"}"#).unwrap()
}

#[test]
fn a_wider_file_widens_the_table_and_leaves_a_record() {
    let mut table = table(json!([
        column("a", json!("short"), false),
        column("d", json!("decimal(10,2)"), true),
        column("day", json!("date"), true),
        column("l", array_of(map_of("float", json!("integer"))), true),
    ]));
    let wider = file(
        "required int64 a; optional int64 d (DECIMAL(14,4));
         optional int64 day (TIMESTAMP(MICROS,false));
         optional group l (LIST) { repeated group list { optional group element (MAP) {
           repeated group key_value { required double key; optional int64 value; } } } }",
    );
    refused(table.fit(&wider, true, "f.parquet"), &["\"a\"", "short", "long", "enableTypeWid"]);
    table.widening = Widening::Preview;
    refused(table.fit(&wider, true, "f.parquet"), &["preview", "ALTER TABLE"]);
    table.widening = Widening::On;
    refused(table.fit(&wider, false, "f.parquet"), &["\"a\"", "merge_schema"]);
    let fit = table.fit(&wider, true, "f.parquet").unwrap();
    assert_eq!(
        shown(&fit),
        ["a long", "d decimal(14,4)", "day timestamp_ntz", "l array<map<double, long>>"]
    );
    let schema = fit.merged.unwrap().schema;
    assert!(!schema.fields[0].nullable);
    let change = |from: &str, to: &str| json!({ "fromType": from, "toType": to });
    let at = |path: &str, mut change: Value| {
        change["fieldPath"] = path.into();
        change
    };
    for (field, changes) in schema.fields.iter().zip([
        json!([change("short", "long")]),
        json!([change("decimal(10,2)", "decimal(14,4)")]),
        json!([change("date", "timestamp_ntz")]),
        json!([
            at("element.key", change("float", "double")),
            at("element.value", change("integer", "long")),
        ]),
    ]) {
        assert_eq!(Value::Object(field.metadata.clone()), json!({ "delta.typeChanges": changes }));
    }
    // What the table was is recorded now, so its older files' types fit.
    table.schema = schema;
    let older = file("required int32 a (INTEGER(16,true)); optional int64 d (DECIMAL(10,2));");
    assert!(table.fit(&older, false, "f.parquet").unwrap().merged.is_none());
}

#[test]
fn a_narrower_file_fits_by_the_record_of_the_table_or_makes_one() {
    let mut table = table(json!([column("a", json!("long"), true)]));
    let narrow = file("optional int32 a;");
    refused(table.fit(&narrow, true, "f.parquet"), &["\"a\"", "long", "integer"]);
    table.widening = Widening::On;
    refused(table.fit(&narrow, false, "f.parquet"), &["\"a\"", "merge_schema"]);
    let fit = table.fit(&narrow, true, "f.parquet").unwrap();
    assert_eq!(shown(&fit), ["a long"]);
    table.merge(fit.merged.unwrap(), &mut metadata());
    assert!(table.fit(&narrow, true, "f.parquet").unwrap().merged.is_none());
    let byte = file("optional int32 a (INTEGER(8,true));");
    refused(table.fit(&byte, false, "f.parquet"), &["byte"]);
}

#[test]
fn no_file_narrows_a_table_or_turns_whole_numbers_into_others() {
    let mut table =
        table(json!([column("a", json!("integer"), true), column("s", json!("string"), true),]));
    table.widening = Widening::On;
    for (fields, words) in [
        ("optional double a;", &["\"a\"", "integer", "double", "ALTER TABLE"][..]),
        ("optional int64 a (DECIMAL(18,0));", &["decimal(18,0)", "ALTER TABLE"]),
        ("optional boolean a;", &["boolean"]),
        ("optional binary s;", &["\"s\"", "string", "binary"]),
        ("optional int64 s;", &["\"s\"", "long"]),
    ] {
        refused(table.fit(&file(fields), true, "f.parquet"), words);
    }
}

#[test]
fn partition_columns_are_not_widened_by_files() {
    let mut table =
        table(json!([column("p", json!("integer"), true), column("a", json!("long"), true)]));
    table.partition_columns = vec!["p".into()];
    table.widening = Widening::On;
    let wide = file("optional int64 a; optional int64 p;");
    refused(table.fit(&wide, true, "f.parquet"), &["partition column \"p\"", "integer", "long"]);
    let narrow = file("optional int64 a; optional int32 p (INTEGER(8,true));");
    assert!(table.fit(&narrow, true, "f.parquet").unwrap().merged.is_none());
}

#[test]
fn a_void_column_takes_the_files_type() {
    let void_list = array_of(json!("void"));
    let table = table(json!([
        column("a", json!("long"), true),
        column("n", json!("void"), true),
        column("l", void_list, true),
    ]));
    let typed = file(
        "optional int64 a; optional group n { optional int64 x; }
         optional group l (LIST) { repeated group list { optional int96 element; } }",
    );
    refused(table.fit(&typed, false, "f.parquet"), &["\"n\"", "void", "merge_schema"]);
    let fit = table.fit(&typed, true, "f.parquet").unwrap();
    assert_eq!(shown(&fit), ["a long", "n struct<x: long>", "l array<timestamp>"]);
    assert!(fit.merged.unwrap().schema.fields.iter().all(|field| field.metadata.is_empty()));
    // A list of void is still in the way where no file says anything of it.
    let mut half = table.clone();
    let named = file("optional int64 n;");
    half.merge(half.fit(&named, true, "f.parquet").unwrap().merged.unwrap(), &mut metadata());
    refused(half.fit(&named, false, "f.parquet"), &["\"l\"", "void"]);
}

#[test]
fn names_that_the_table_uses_otherwise_are_not_added() {
    let metadata: Metadata = serde_json::from_value(json!({
        "id": "t",
        "schemaString": struct_of(&[column("a", json!("long"), true)]).to_string(),
        "configuration": {
            "delta.enableChangeDataFeed": "true",
            "delta.rowTracking.materializedRowIdColumnName": "_row-id-1",
        },
    }))
    .unwrap();
    let table = TableColumns::of(&Protocol::default(), &metadata, None).unwrap();
    let mut hidden = file("optional int64 a; optional int64 rows;");
    hidden[1].name = "_row-id-1".into();
    refused(table.fit(&hidden, true, "f.parquet"), &["_row-id-1", "row ids"]);
    let changes = file("optional int64 a; optional binary _change_type (STRING);");
    refused(table.fit(&changes, true, "f.parquet"), &["_change_type", "change data feed"]);
    let inner = file("optional group s { optional int64 _commit_version; }");
    table.fit(&inner, true, "f.parquet").unwrap();
    let twice = file("optional int64 b; optional int64 B;");
    refused(table.fit(&twice, true, "f.parquet"), &["\"B\"", "case"]);
}

#[test]
fn a_mapped_table_takes_new_columns_under_the_files_names() {
    let text = struct_of(&[mapped("a", "col-1", 1)]).to_string();
    let mut metadata: Metadata = serde_json::from_value(json!({ "id": "t", "schemaString": text,
        "configuration": { "delta.columnMapping.mode": "name",
            "delta.columnMapping.maxColumnId": "4" } }))
    .unwrap();
    let protocol = Protocol { min_reader_version: 2, min_writer_version: 5, ..Protocol::default() };
    let past = PastSchemas { texts: [text].into(), is_whole: true };
    let mut table = TableColumns::of(&protocol, &metadata, Some(&past)).unwrap();
    let mut columns =
        file("optional int64 x; optional group s { optional int64 y; } optional int64 z = 9;");
    columns[0].name = "col-1".into();
    columns[2].name = "with space".into();
    let merged = table.fit(&columns, true, "f.parquet").unwrap().merged.unwrap();
    table.merge(merged, &mut metadata);
    assert_eq!(metadata.configuration["delta.columnMapping.maxColumnId"], "9");
    let added = |name: &str| table.schema.field(name).unwrap();
    assert_eq!((added("s").id(), added("with space").id()), (Some(5), Some(9)));
    let DataType::Struct(s) = &added("s").data_type else { panic!() };
    assert_eq!(s.fields[0].physical_name(Mapping::Name).unwrap(), "y");
    // It is the table's now, by that name and that id.
    assert!(table.fit(&columns, true, "f.parquet").unwrap().merged.is_none());
    columns[2].id = Some(8);
    refused(table.fit(&columns, true, "f.parquet"), &["with space", "field id 8"]);
    // A column under the name that users see would be another column.
    let logical = file("optional int64 a;");
    for merge in [false, true] {
        refused(table.fit(&logical, merge, "f.parquet"), &["col-1", "physical names"]);
    }
}

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % sides
    }

    fn columns(&mut self, depth: u64) -> Vec<FileColumn> {
        let names = ["a", "b", "c", "d"];
        let mut chosen: Vec<&str> = names.into_iter().filter(|_| self.roll(3) > 0).collect();
        if chosen.is_empty() {
            chosen.push("a");
        }
        if self.roll(2) == 0 {
            chosen.reverse();
        }
        chosen.into_iter().map(|name| self.column(name, depth)).collect()
    }

    fn column(&mut self, name: &str, depth: u64) -> FileColumn {
        let part = |dice: &mut Dice, name: &str| Box::new(dice.column(name, depth - 1));
        // Mostly one shape for a name, so that two files often fit each other.
        let shape = if self.roll(8) == 0 { self.roll(4) } else { name.len() as u64 + depth % 2 };
        let kind = match shape {
            2 if depth > 0 => {
                FileType::Struct { fields: self.columns(depth - 1), is_variant: false }
            }
            0 if depth > 0 => FileType::List(part(self, "element")),
            3 if depth > 0 => FileType::Map { key: part(self, "key"), value: part(self, "value") },
            _ => {
                let types = [Primitive::Short, Primitive::Integer, Primitive::Long];
                let stored = Stored::As(types[self.roll(3) as usize].clone());
                FileType::Leaf { column: 0, stored }
            }
        };
        FileColumn { name: name.into(), id: None, optional: true, definition: 1, kind }
    }
}

#[test]
fn whatever_was_merged_fits_afterwards_and_changes_nothing_more() {
    let (mut merges, mut refusals) = (0, 0);
    for seed in 0..3000 {
        let mut dice = Dice(seed);
        let files: Vec<Vec<FileColumn>> = (0..3).map(|_| dice.columns(3)).collect();
        let mut table = table(json!([]));
        table.schema = to_schema(&files[0], None, Names::Plain).unwrap();
        table.widening = Widening::On;
        let (mut metadata, mut fitting) = (metadata(), vec![&files[0]]);
        for file in &files[1..] {
            let before = table.schema.clone();
            let Ok(fit) = table.fit(file, true, "f.parquet") else {
                refusals += 1;
                continue;
            };
            fitting.push(file);
            if let Some(merged) = fit.merged {
                table.merge(merged, &mut metadata);
                assert_ne!(table.schema, before, "seed {seed}");
                merges += 1;
            }
            let kept = before.fields.iter().zip(&table.schema.fields);
            assert!(kept.into_iter().all(|(old, new)| old.name == new.name), "seed {seed}");
        }
        let leaves = |file: &[FileColumn]| -> Vec<Vec<String>> {
            let fit = table.fit(file, false, "f.parquet").unwrap_or_else(|e| panic!("{seed}: {e}"));
            fit.leaves.into_iter().map(|leaf| leaf.path).collect()
        };
        // Each file has each leaf of the table, there or absent, in one order.
        let first = leaves(files[0].as_slice());
        for file in fitting {
            assert_eq!(leaves(file), first, "seed {seed}");
        }
    }
    println!("{merges} merges, {refusals} refusals");
    assert!(merges > 1000 && refusals > 500, "{merges} merges, {refusals} refusals");
}
