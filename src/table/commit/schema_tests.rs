//! Commits that change a table's schema, read back by delta_kernel.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float32Array, Float64Array, Int32Array, Int64Array, ListArray,
    RecordBatch, StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{Field, Int64Type, Schema as ArrowSchema};
use arrow::util::display::array_value_to_string;
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

use super::tests::*;
use crate::log::action::{Action, Metadata, Protocol};
use crate::log::schema::Schema;

fn long(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

fn text(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn struct_of(fields: Vec<(&str, ArrayRef)>) -> StructArray {
    let field = |(name, array): (&str, ArrayRef)| {
        (Arc::new(Field::new(name, array.data_type().clone(), true)), array)
    };
    StructArray::from(fields.into_iter().map(field).collect::<Vec<_>>())
}

/// A file whose columns have Parquet field ids.
fn parquet_with_ids(columns: Vec<(&str, i32, ArrayRef)>) -> Vec<u8> {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, id, array)| {
            let id = HashMap::from([("PARQUET:field_id".to_owned(), id.to_string())]);
            Field::new(*name, array.data_type().clone(), true).with_metadata(id)
        })
        .collect();
    let schema = Arc::new(ArrowSchema::new(fields));
    let arrays = columns.into_iter().map(|(_, _, array)| array).collect();
    let batch = RecordBatch::try_new(schema.clone(), arrays).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, schema, None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

/// The rows as the kernel reads them: `name=value` of each column, sorted.
fn read(lake: &Lake) -> Vec<String> {
    let mut rows = Vec::new();
    for batch in kernel(&lake.path()).unwrap() {
        for row in 0..batch.num_rows() {
            let schema = batch.schema();
            let cells = schema.fields().iter().zip(batch.columns()).map(|(field, array)| {
                let value = match array.is_null(row) {
                    true => "null".to_owned(),
                    false => array_value_to_string(array, row).unwrap(),
                };
                format!("{}={value}", field.name())
            });
            rows.push(cells.collect::<Vec<_>>().join(" "));
        }
    }
    rows.sort();
    rows
}

async fn schema(lake: &Lake) -> Schema {
    Schema::from_json(&lake.snapshot().await.metadata.schema_string).unwrap()
}

/// Changes properties and protocol as another engine would.
async fn alter(lake: &Lake, version: u64, protocol: Value, properties: &[(&str, &str)]) {
    let mut metadata = lake.snapshot().await.metadata;
    for (key, value) in properties {
        metadata.configuration.insert(key.to_string(), value.to_string());
    }
    lake.commit_foreign(
        version,
        &[json!({ "protocol": protocol }), json!({ "metaData": metadata })],
    );
}

fn metadata_of(actions: &[Action]) -> Vec<&Metadata> {
    let metadata = actions.iter().map(|action| match action {
        Action::MetaData(metadata) => Some(metadata),
        _ => None,
    });
    metadata.flatten().collect()
}

fn stats(actions: &[Action]) -> Vec<Value> {
    let stats = actions.iter().filter_map(|action| match action {
        Action::Add(add) => add.stats.as_deref(),
        _ => None,
    });
    stats.map(|stats| serde_json::from_str(stats).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nested_fields_are_added_by_several_files_at_once() {
    let lake = Lake::new();
    let list = |element: StructArray| -> ArrayRef {
        let offsets = arrow::buffer::OffsetBuffer::from_lengths([1]);
        let field = Arc::new(Field::new("element", element.data_type().clone(), true));
        Arc::new(ListArray::new(field, offsets, Arc::new(element), None))
    };
    let s = |fields| -> ArrayRef { Arc::new(struct_of(fields)) };
    let first = parquet_of(vec![
        ("s", s(vec![("x", long(&[1]))])),
        ("l", list(struct_of(vec![("x", long(&[1]))]))),
    ]);
    lake.sync(&[("a.parquet", first)]).await.unwrap();
    let second = parquet_of(vec![
        ("l", list(struct_of(vec![("y", text(&["b"])), ("x", long(&[2]))]))),
        ("s", s(vec![("x", long(&[2])), ("y", long(&[20]))])),
    ]);
    let third = parquet_of(vec![("new", text(&["c"])), ("s", s(vec![("z", long(&[30]))]))]);
    let files = [("b.parquet", second), ("c.parquet", third)];
    refused(lake.sync(&files).await, &["b.parquet", "\"s.y\"", "merge_schema"]);
    lake.sync_with("merge_schema=true", &files).await.unwrap();
    let shown: Vec<String> =
        schema(&lake).await.fields.iter().map(|f| f.data_type.to_string()).collect();
    assert_eq!(
        shown,
        ["struct<x: long, y: long, z: long>", "array<struct<x: long, y: string>>", "string",]
    );
    assert_eq!(
        read(&lake),
        [
            "s={x: , y: , z: 30} l=null new=c",
            "s={x: 1, y: , z: } l=[{x: 1, y: }] new=null",
            "s={x: 2, y: 20, z: } l=[{x: 2, y: b}] new=null",
        ]
    );
    let actions = lake.actions(1);
    assert_eq!(metadata_of(&actions).len(), 1);
    // Each file's statistics are those of the schema that the commit makes.
    let counts: Vec<Value> =
        stats(&actions).iter().map(|stats| stats["nullCount"].clone()).collect();
    assert_eq!(
        counts,
        [
            json!({"s": {"x": 0, "y": 0, "z": 1}, "l": 0, "new": 1}),
            json!({"s": {"x": 1, "y": 1, "z": 0}, "l": 1, "new": 0}),
        ]
    );
}

fn widening() -> Value {
    let features = ["typeWidening", "timestampNtz"];
    json!({ "minReaderVersion": 3, "minWriterVersion": 7,
        "readerFeatures": features, "writerFeatures": features })
}

#[tokio::test(flavor = "multi_thread")]
async fn types_are_widened_and_all_rows_read_back() {
    let lake = Lake::new();
    let ints = |values: &[i32]| -> ArrayRef { Arc::new(Int32Array::from(values.to_vec())) };
    let days = |days: i32| -> ArrayRef { Arc::new(arrow::array::Date32Array::from(vec![days])) };
    let narrow = |id: i32, day: i32| {
        let float: ArrayRef = Arc::new(Float32Array::from(vec![0.5]));
        let list: ArrayRef =
            Arc::new(ListArray::from_iter_primitive::<arrow::datatypes::Int32Type, _, _>([Some(
                [Some(id)],
            )]));
        parquet_of(vec![("id", ints(&[id])), ("f", float), ("day", days(day)), ("l", list)])
    };
    lake.sync(&[("a.parquet", narrow(1, 0))]).await.unwrap();
    let wide = {
        let list = ListArray::from_iter_primitive::<Int64Type, _, _>([Some([Some(1_i64 << 40)])]);
        let day = TimestampMicrosecondArray::from(vec![1_500_000]);
        parquet_of(vec![
            ("id", long(&[1 << 40])),
            ("f", Arc::new(Float64Array::from(vec![0.1]))),
            ("day", Arc::new(day)),
            ("l", Arc::new(list)),
        ])
    };
    let both = [("b.parquet", wide.clone()), ("c.parquet", narrow(2, 1))];
    refused(
        lake.sync_with("merge_schema=true", &both).await,
        &["b.parquet", "\"id\"", "integer", "long", "delta.enableTypeWidening"],
    );
    alter(&lake, 1, widening(), &[("delta.enableTypeWidening", "true")]).await;
    refused(lake.sync(&both).await, &["merge_schema"]);
    lake.sync_with("merge_schema=true", &both).await.unwrap();
    let shown: Vec<String> =
        schema(&lake).await.fields.iter().map(|f| f.data_type.to_string()).collect();
    assert_eq!(shown, ["long", "double", "timestamp_ntz", "array<long>"]);
    let fields = schema(&lake).await.fields;
    assert_eq!(
        fields[3].metadata["delta.typeChanges"],
        json!([{ "fromType": "integer", "toType": "long", "fieldPath": "element" }])
    );
    assert_eq!(
        read(&lake),
        [
            "id=1 f=0.5 day=1970-01-01T00:00:00 l=[1]",
            "id=1099511627776 f=0.1 day=1970-01-01T00:00:01.500 l=[1099511627776]",
            "id=2 f=0.5 day=1970-01-02T00:00:00 l=[2]",
        ]
    );
    let stats = stats(&lake.actions(2));
    assert_eq!(stats[1]["minValues"]["day"], "1970-01-02T00:00:00.000");
    // From now on narrower files fit as they are.
    lake.sync(&[("d.parquet", narrow(3, 2))]).await.unwrap();
    assert!(metadata_of(&lake.actions(3)).is_empty());
    assert_eq!(read(&lake).len(), 4);
}

/// Makes a table that maps columns, by hand: the logical columns `id` and `name` are `col-1` and
/// `col-2` in its files.
fn mapped(lake: &Lake, mode: &str) {
    let field = |name: &str, data_type: &str, id: i64| {
        json!({ "name": name, "type": data_type, "nullable": true, "metadata": {
            "delta.columnMapping.id": id, "delta.columnMapping.physicalName": format!("col-{id}") } })
    };
    let fields = [field("id", "long", 1), field("name", "string", 2)];
    let schema = json!({ "type": "struct", "fields": fields }).to_string();
    lake.commit_foreign(
        0,
        &[
            json!({ "protocol": { "minReaderVersion": 2, "minWriterVersion": 5 } }),
            json!({ "metaData": { "id": "t", "format": { "provider": "parquet", "options": {} },
                "schemaString": schema, "partitionColumns": [], "configuration": {
                    "delta.columnMapping.mode": mode, "delta.columnMapping.maxColumnId": "2" } } }),
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_added_to_tables_that_map_them() {
    for mode in ["name", "id"] {
        let lake = Lake::new();
        mapped(&lake, mode);
        let old =
            |id: i64, name: &str| vec![("col-1", 1, long(&[id])), ("col-2", 2, text(&[name]))];
        lake.sync(&[("a.parquet", parquet_with_ids(old(1, "one")))]).await.unwrap();
        let mail = text(&["x@example.org"]);
        let new = [old(2, "two"), vec![("e-mail of it", 3, mail.clone())]].concat();
        let files = [("b.parquet", parquet_with_ids(new))];
        refused(lake.sync(&files).await, &["b.parquet", "e-mail", "merge_schema"]);
        lake.sync_with("merge_schema=true", &files).await.unwrap();
        let metadata = lake.snapshot().await.metadata;
        assert_eq!(metadata.configuration["delta.columnMapping.maxColumnId"], "3");
        assert_eq!(
            read(&lake),
            ["id=1 name=one e-mail of it=null", "id=2 name=two e-mail of it=x@example.org",],
            "{mode}"
        );
        let stats = stats(&lake.actions(2));
        assert_eq!(stats[0]["maxValues"]["e-mail of it"], "x@example.org");
        assert_eq!(stats[0]["maxValues"]["col-1"], 2);
        // A second file of that shape needs no option.
        let again = [old(3, "three"), vec![("e-mail of it", 3, mail)]].concat();
        lake.sync(&[("c.parquet", parquet_with_ids(again))]).await.unwrap();
        assert_eq!(read(&lake).len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_columns_name_is_not_taken_again() {
    let lake = Lake::new();
    mapped(&lake, "name");
    let row = |id: i64, column: &str| {
        parquet_of(vec![("col-1", long(&[id])), (column, text(&["value"]))])
    };
    lake.sync_with("merge_schema=true", &[("a.parquet", row(1, "mail"))]).await.unwrap();
    let mut metadata = lake.snapshot().await.metadata;
    let mut schema = schema(&lake).await;
    assert_eq!(schema.fields.pop().unwrap().name, "mail");
    metadata.schema_string = schema.to_json();
    lake.commit_foreign(2, &[json!({ "metaData": metadata })]);
    let error = lake.sync_with("merge_schema=true", &[("b.parquet", row(2, "Mail"))]).await;
    refused(error, &["b.parquet", "\"Mail\"", "another name"]);
    lake.sync_with("merge_schema=true", &[("b.parquet", row(2, "mail2"))]).await.unwrap();
    assert_eq!(
        lake.snapshot().await.metadata.configuration["delta.columnMapping.maxColumnId"],
        "4"
    );
    assert_eq!(read(&lake), ["id=1 name=null mail2=null", "id=2 name=null mail2=value"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_that_is_new_to_a_legacy_table_spells_its_features_out() {
    for (reader, writer, readers, writers) in [
        (1, 2, &["timestampNtz"][..], &["appendOnly", "invariants", "timestampNtz"][..]),
        (
            1,
            4,
            &["timestampNtz"],
            &[
                "appendOnly",
                "changeDataFeed",
                "checkConstraints",
                "generatedColumns",
                "invariants",
                "timestampNtz",
            ],
        ),
        (
            2,
            6,
            &["columnMapping", "timestampNtz"],
            &[
                "appendOnly",
                "changeDataFeed",
                "checkConstraints",
                "columnMapping",
                "generatedColumns",
                "identityColumns",
                "invariants",
                "timestampNtz",
            ],
        ),
    ] {
        let lake = Lake::new();
        lake.sync(&[("a.parquet", rows(&[1]))]).await.unwrap();
        let old = json!({ "minReaderVersion": reader, "minWriterVersion": writer });
        alter(&lake, 1, old, &[]).await;
        let time: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1]));
        let file = parquet_of(vec![("id", long(&[2])), ("seen", time)]);
        lake.sync_with("merge_schema=true", &[("b.parquet", file)]).await.unwrap();
        let Protocol {
            min_reader_version,
            min_writer_version,
            reader_features,
            writer_features,
            ..
        } = lake.snapshot().await.protocol;
        assert_eq!((min_reader_version, min_writer_version), (3, 7));
        assert_eq!(reader_features.unwrap(), readers);
        assert_eq!(writer_features.unwrap(), writers);
        let protocols = |action: &&Action| matches!(action, Action::Protocol(_));
        assert_eq!(lake.actions(2).iter().filter(protocols).count(), 1);
        assert_eq!(lake.ids(), [1, 2]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_names_a_new_column_is_no_partition() {
    let lake = Lake::new();
    lake.sync(&[("a.parquet", rows(&[1]))]).await.unwrap();
    let file = parquet_of(vec![("id", long(&[2])), ("region", text(&["eu"]))]);
    let files = [("region=eu/b.parquet", file)];
    refused(
        lake.sync_with("merge_schema=true", &files).await,
        &["region=…", "no partition column"],
    );
    assert!(schema(&lake).await.field("region").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fields_own_metadata_is_kept_when_its_table_changes() {
    let lake = Lake::new();
    lake.sync(&[("a.parquet", rows(&[1]))]).await.unwrap();
    let mut metadata = lake.snapshot().await.metadata;
    let mut before = schema(&lake).await;
    let varchar = [("__CHAR_VARCHAR_TYPE_STRING", "varchar(9)"), ("comment", "who")];
    for (key, value) in varchar {
        before.fields[1].metadata.insert(key.into(), value.into());
    }
    metadata.schema_string = before.to_json();
    lake.commit_foreign(1, &[json!({ "metaData": metadata })]);
    let file = parquet_of(vec![("id", long(&[2])), ("new", long(&[2]))]);
    lake.sync_with("merge_schema=true", &[("b.parquet", file)]).await.unwrap();
    let after = schema(&lake).await;
    assert_eq!(after.fields[..2], before.fields[..]);
    assert_eq!(after.fields[2].name, "new");
    assert_eq!(lake.snapshot().await.metadata.id, metadata.id);
    let ids = kernel(&lake.path()).unwrap();
    assert_eq!(
        ids.iter().map(|batch| batch.column(0).as_primitive::<Int64Type>().len()).sum::<usize>(),
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_table_has_the_columns_of_all_its_files_where_that_is_asked_for() {
    let lake = Lake::new();
    let files = [
        ("p=1/a.parquet", parquet_of(vec![("id", long(&[1]))])),
        ("p=2/b.parquet", parquet_of(vec![("new", text(&["b"])), ("id", long(&[2]))])),
    ];
    refused(lake.sync(&files).await, &["b.parquet", "\"new\"", "merge_schema"]);
    lake.sync_with("merge_schema=true", &files).await.unwrap();
    assert_eq!(read(&lake), ["id=1 p=1 new=null", "id=2 p=2 new=b"]);
    assert_eq!(metadata_of(&lake.actions(0)).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn domains_are_kept_and_clustering_columns_have_statistics() {
    let lake = Lake::new();
    let names: Vec<String> = (0..40).map(|column| format!("c{column}")).collect();
    let file = |value: i64| {
        let id: (&str, ArrayRef) = ("id", long(&[value]));
        let columns = names.iter().map(|name| (name.as_str(), long(&[value])));
        parquet_of(std::iter::once(id).chain(columns).collect())
    };
    lake.sync(&[("a.parquet", file(1))]).await.unwrap();
    let domain = |name: &str, configuration: &str| {
        json!({ "domainMetadata": {
            "domain": name, "configuration": configuration, "removed": false } })
    };
    lake.commit_foreign(
        1,
        &[
            json!({ "protocol": { "minReaderVersion": 1, "minWriterVersion": 7,
                "writerFeatures": ["domainMetadata", "clustering"] } }),
            domain("delta.clustering", r#"{"clusteringColumns":[["c39"]],"domainName":"x"}"#),
            domain("of.a.user", "anything"),
        ],
    );
    let before = lake.snapshot().await.domains;
    assert_eq!(before.len(), 2);
    lake.sync(&[("b.parquet", file(2))]).await.unwrap();
    lake.sync_with("mode=overwrite", &[("c.parquet", file(3))]).await.unwrap();
    assert_eq!(lake.snapshot().await.domains, before);
    for (version, value) in [(2, 2), (3, 3)] {
        let stats = &stats(&lake.actions(version))[0];
        let maximums = stats["maxValues"].as_object().unwrap();
        assert_eq!((maximums.len(), &maximums["c39"]), (33, &json!(value)));
        assert!(!maximums.contains_key("c38"));
    }
    assert_eq!(lake.ids(), [3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn void_columns_take_the_types_of_several_files() {
    let lake = Lake::new();
    lake.sync(&[("a.parquet", rows(&[1]))]).await.unwrap();
    let mut metadata = lake.snapshot().await.metadata;
    let void = r#"{"name":"v","type":"void","nullable":true,"metadata":{}}"#;
    let list = r#"{"type":"array","elementType":"void","containsNull":true}"#;
    let list = format!(r#"{{"name":"l","type":{list},"nullable":true,"metadata":{{}}}}"#);
    let text = metadata.schema_string.replacen("]}", &format!(",{void},{list}]}}"), 1);
    metadata.schema_string = text;
    lake.commit_foreign(1, &[json!({ "metaData": metadata })]);
    let ints: ArrayRef =
        Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([Some([Some(7)])]));
    let files = [
        ("b.parquet", parquet_of(vec![("id", long(&[2])), ("v", long(&[20]))])),
        ("c.parquet", parquet_of(vec![("id", long(&[3])), ("l", ints)])),
    ];
    refused(lake.sync_with("merge_schema=true", &files[..1]).await, &["\"l\"", "void"]);
    lake.sync_with("merge_schema=true", &files).await.unwrap();
    assert_eq!(
        read(&lake),
        [
            "id=1 name=row 1 v=null l=null",
            "id=2 name=null v=20 l=null",
            "id=3 name=null v=null l=[7]"
        ]
    );
}
