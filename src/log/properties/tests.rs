//! The table of properties, and what it says of names and values.

use super::*;

fn refused<T: std::fmt::Debug>(result: Result<T>, words: &[&str]) {
    let error = result.expect_err("not refused");
    assert!(matches!(error, Error::Refused(_)), "{error:?}");
    for word in words {
        assert!(error.to_string().contains(word), "{error} lacks {word:?}");
    }
}

fn property(key: &str, value: &str) -> Setting {
    Setting::Property { key: key.into(), value: value.into() }
}

fn legacy() -> Protocol {
    Protocol { min_reader_version: 1, min_writer_version: 2, ..Protocol::default() }
}

#[test]
fn the_table_is_sorted_and_its_features_are_known() {
    assert!(PROPERTIES.is_sorted_by_key(|(name, _)| *name));
    for (name, rule) in &PROPERTIES {
        if let Needs(kind, when, needed) = rule {
            assert_eq!(feature(needed).unwrap(), *needed, "{name}");
            assert_eq!(kind.canonical(when).unwrap(), *when, "{name}");
        }
    }
    let constants = [COLUMN_MAPPING_MODE, ROW_TRACKING, CHANGE_DATA_FEED, STATISTICS_COLUMNS];
    let internal = [COLUMN_MAPPING_MARK, ROW_ID_COLUMN, ROW_VERSION_COLUMN];
    for key in constants.into_iter().chain(internal) {
        assert!(find(delta_name(key).unwrap()).is_some_and(|(name, _)| key.ends_with(name)));
    }
    assert!(internal.into_iter().all(is_internal) && !constants.into_iter().any(is_internal));
}

#[test]
fn deltas_names_are_spelled_as_delta_does_and_a_users_own_are_free() {
    assert_eq!(setting("DELTA.appendonly", "True").unwrap(), property("delta.appendOnly", "true"));
    assert_eq!(setting("team", "Finance = 7").unwrap(), property("team", "Finance = 7"));
    assert_eq!(setting("deltaX", "").unwrap(), property("deltaX", ""));
    assert_eq!(setting("delta.minWriterVersion", "7").unwrap(), Setting::WriterVersion(7));
    assert_eq!(
        setting("delta.feature.deletionvectors", "supported").unwrap(),
        Setting::Feature("deletionVectors")
    );
}

#[test]
fn what_cant_be_set_is_refused_by_name() {
    for (key, value, words) in [
        ("delta.apendOnly", "true", &["delta.apendOnly", "nearest is delta.appendOnly"][..]),
        ("delta.xyz", "1", &["delta.xyz", "not known"]),
        ("delta.appendOnly", "yes", &["delta.appendOnly", "\"yes\"", "true, false"]),
        ("delta.constraints.positive", "c > 0", &["constraint", "check"]),
        ("delta.enableIcebergCompatV2", "true", &["enableIcebergCompatV2", "Iceberg"]),
        ("delta.universalFormat.enabledFormats", "iceberg", &["Iceberg"]),
        ("delta.columnMapping.maxColumnId", "7", &["writers keep it"]),
        ("delta.minReaderVersion", "4", &["from 1 to 3"]),
        ("delta.minWriterVersion", "x", &["from 1 to 7"]),
        ("delta.feature.deletionVectors", "yes", &["supported"]),
        ("delta.feature.teleport", "supported", &["teleport"]),
        ("delta.rowTrackingSuspended", "true", &["rowTracking"]),
    ] {
        refused(setting(key, value), words);
    }
}

#[test]
fn a_property_is_taken_away_under_the_name_that_the_table_has() {
    let held: BTreeMap<String, String> = [
        ("delta.appendOnly", "true"),
        ("delta.constraints.positive", "c > 0"),
        ("delta.made.up", "1"),
        ("delta.rowTrackingSuspended", "true"),
        ("mine", "1"),
    ]
    .map(|(key, value)| (key.into(), value.into()))
    .into();
    for (key, found) in [
        ("delta.APPENDONLY", Some("delta.appendOnly")),
        ("delta.constraints.Positive", Some("delta.constraints.positive")),
        ("delta.made.up", Some("delta.made.up")),
        ("delta.rowTrackingSuspended", Some("delta.rowTrackingSuspended")),
        ("mine", Some("mine")),
        ("Mine", None),
        ("delta.checkpointInterval", None),
        ("delta.constraints.other", None),
    ] {
        assert_eq!(unsetting(key, &held).unwrap().as_deref(), found, "{key}");
    }
    refused(unsetting("delta.appendOnl", &held), &["nearest is delta.appendOnly"]);
    refused(unsetting("delta.feature.appendOnly", &held), &["dropped"]);
    refused(unsetting("delta.minWriterVersion", &held), &["only go up"]);
    refused(unsetting("delta.columnMapping.maxColumnId", &held), &["writers keep it"]);
}

#[test]
fn a_feature_is_needed_for_the_value_that_needs_it_unless_it_is_there() {
    let needed = |key, value| needed_feature(key, value, &legacy());
    assert_eq!(needed("delta.checkpointPolicy", "v2"), Some("v2Checkpoint"));
    assert_eq!(needed("delta.checkpointPolicy", "classic"), None);
    assert_eq!(needed("delta.enableDeletionVectors", "false"), None);
    assert_eq!(needed("delta.appendOnly", "true"), None);
    assert_eq!(needed("team", "true"), None);
    let preview = Protocol {
        min_writer_version: 7,
        writer_features: Some(vec!["typeWidening-preview".into()]),
        ..legacy()
    };
    assert_eq!(needed_feature("delta.enableTypeWidening", "true", &preview), None);
    assert_eq!(needed_feature("delta.appendOnly", "true", &preview), Some("appendOnly"));
}

#[test]
fn columns_of_statistics_must_be_there_and_have_some() {
    let schema = Schema::from_json(
        r#"{"type":"struct","fields":[
        {"name":"id","type":"long","nullable":true,"metadata":{}},
        {"name":"day","type":"date","nullable":true,"metadata":{}},
        {"name":"a.b","type":"string","nullable":true,"metadata":{}},
        {"name":"flag","type":"boolean","nullable":true,"metadata":{}},
        {"name":"s","type":{"type":"struct","fields":[
            {"name":"x","type":"binary","nullable":true,"metadata":{}}]},"nullable":true,"metadata":{}}
        ]}"#,
    )
    .unwrap();
    let metadata: Metadata =
        serde_json::from_str(r#"{"id":"t","schemaString":"","partitionColumns":["day"]}"#).unwrap();
    let check = |value: &str| check_columns(STATISTICS_COLUMNS, value, &metadata, &schema);
    for value in ["id", "ID, S", "s.x", "`a.b`", ""] {
        check(value).unwrap();
    }
    refused(check("ids"), &["\"ids\"", "there is \"id\""]);
    refused(check("id.x"), &["id.x"]);
    refused(check("Day"), &["partition"]);
    refused(check("flag"), &["boolean"]);
    refused(check("id,Id"), &["twice"]);
    let feed = |schema: &Schema| check_columns(CHANGE_DATA_FEED, "true", &metadata, schema);
    feed(&schema).unwrap();
    let taken = Schema { fields: vec![Field::nullable("_change_type", DataType::Struct(schema))] };
    refused(feed(&taken), &["_change_type"]);
}
