//! The feature table, judged.

use super::*;

fn legacy(reader: i32, writer: i32) -> Protocol {
    Protocol { min_reader_version: reader, min_writer_version: writer, ..Protocol::default() }
}

fn features(readers: &[&str], writers: &[&str]) -> Protocol {
    let own = |names: &[&str]| Some(names.iter().map(|name| name.to_string()).collect());
    Protocol {
        min_reader_version: if readers.is_empty() { 1 } else { 3 },
        min_writer_version: 7,
        reader_features: if readers.is_empty() { None } else { own(readers) },
        writer_features: own(writers),
    }
}

fn metadata(configuration: &[(&str, &str)], field_metadata: &str) -> Metadata {
    let configuration: Map<String, Value> =
        configuration.iter().map(|(key, value)| (key.to_string(), Value::from(*value))).collect();
    serde_json::from_value(serde_json::json!({
        "id": "t",
        "schemaString": format!(
            r#"{{"type":"struct","fields":[{{"name":"c","type":"long","nullable":true,"metadata":{field_metadata}}}]}}"#
        ),
        "configuration": configuration,
    }))
    .unwrap()
}

#[test]
fn reads_every_legacy_version_and_names_a_newer_one() {
    for version in 1..=2 {
        check_read(&legacy(version, 6)).unwrap();
    }
    let error = check_read(&legacy(99, 7)).unwrap_err();
    assert!(matches!(&error, Error::Unsupported(text) if text.contains("99")), "{error:?}");
    let error = check_commit(&legacy(1, 8)).unwrap_err();
    assert!(matches!(&error, Error::Unsupported(text) if text.contains('8')), "{error:?}");
}

#[test]
fn an_unknown_reader_feature_refuses_reading_by_name() {
    let protocol = features(&["deletionVectors", "teleport"], &["deletionVectors", "teleport"]);
    let error = check_read(&protocol).unwrap_err();
    assert!(matches!(&error, Error::Unsupported(text) if text.contains("\"teleport\"")));
}

#[test]
fn an_unknown_writer_feature_makes_the_table_read_only_by_name() {
    let protocol = features(&[], &["appendOnly", "teleport"]);
    check_read(&protocol).unwrap();
    let error = check_commit(&protocol).unwrap_err();
    assert!(matches!(&error, Error::Unsupported(text) if text.contains("\"teleport\"")));
}

#[test]
fn a_catalogs_table_is_read_and_not_written() {
    for name in ["catalogManaged", "catalogOwned", "catalogOwned-preview"] {
        let protocol = features(&[name], &[name]);
        check_read(&protocol).unwrap();
        assert!(matches!(check_commit(&protocol), Err(Error::CatalogManaged(_))));
    }
}

#[test]
fn a_feature_version_without_its_list_is_damage() {
    assert!(matches!(check_read(&legacy(3, 7)), Err(Error::Damaged(_))));
    assert!(matches!(check_commit(&legacy(1, 7)), Err(Error::Damaged(_))));
}

#[test]
fn legacy_writers_are_judged_by_what_the_table_has() {
    for version in 2..=6 {
        check_write(&legacy(1, version), &metadata(&[], "{}")).unwrap();
    }
    let rules = [
        (metadata(&[("delta.constraints.positive", "c > 0")], "{}"), "\"positive\""),
        (metadata(&[], r#"{"delta.invariants":"{}"}"#), "invariant"),
        (metadata(&[], r#"{"delta.generationExpression":"1"}"#), "generated"),
        (metadata(&[], r#"{"delta.identity.start":1,"delta.identity.step":1}"#), "identity"),
    ];
    for (metadata, word) in rules {
        let error = check_write(&legacy(1, 6), &metadata).unwrap_err();
        assert!(matches!(&error, Error::Unsupported(text) if text.contains(word)), "{error:?}");
        check_commit(&legacy(1, 6)).unwrap();
    }
}

#[test]
fn a_high_water_mark_is_no_part_of_the_rule() {
    let at = |mark: i64| {
        metadata(
            &[],
            &format!(
                r#"{{"delta.identity.start":1,"delta.identity.step":1,"delta.identity.highWaterMark":{mark}}}"#
            ),
        )
    };
    assert_eq!(row_rules(&at(1)).unwrap(), row_rules(&at(9)).unwrap());
}

#[test]
fn union_goes_up_and_spells_legacy_features_out() {
    assert_eq!(union(&legacy(1, 2), &legacy(2, 5)), legacy(2, 5));
    let both = union(&legacy(2, 5), &features(&["deletionVectors"], &["deletionVectors"]));
    assert_eq!(both.min_reader_version, 3);
    assert_eq!(both.reader_features.unwrap(), ["columnMapping", "deletionVectors"]);
    let writers = both.writer_features.unwrap();
    for name in ["appendOnly", "invariants", "columnMapping", "deletionVectors"] {
        assert!(writers.iter().any(|writer| writer == name), "{name}");
    }
    // Writer version 5 alone maps no columns; reader version 2 beside a list does.
    let half = union(&legacy(1, 5), &features(&["timestampNtz"], &["timestampNtz"]));
    assert_eq!(half.reader_features.unwrap(), ["timestampNtz"]);
    assert!(!half.writer_features.unwrap().iter().any(|name| name == "columnMapping"));
    let mixed =
        Protocol { min_reader_version: 2, ..features(&[], &["appendOnly", "columnMapping"]) };
    let mixed = union(&mixed, &features(&["timestampNtz"], &["timestampNtz"]));
    assert_eq!(mixed.reader_features.unwrap(), ["columnMapping", "timestampNtz"]);
    let same = features(&[], &["appendOnly"]);
    assert_eq!(union(&same, &same), same);
    let unsorted = features(&["v2Checkpoint", "deletionVectors"], &["v2Checkpoint", "appendOnly"]);
    let sorted = features(&["deletionVectors", "v2Checkpoint"], &["appendOnly", "v2Checkpoint"]);
    assert_eq!(union(&unsorted, &sorted), unsorted);
}

#[test]
fn adding_a_feature_that_is_there_changes_nothing() {
    assert_eq!(with_features(&legacy(1, 2), &["appendOnly"]), legacy(1, 2));
    let ntz = with_features(&legacy(1, 2), &["timestampNtz"]);
    assert_eq!(ntz.reader_features.as_deref(), Some(&["timestampNtz".to_owned()][..]));
    assert_eq!(ntz.min_writer_version, 7);
}

#[test]
fn supports_knows_lists_and_legacy_versions() {
    assert!(supports(&legacy(2, 5), "columnMapping"));
    assert!(!supports(&legacy(1, 4), "columnMapping"));
    assert!(!supports(&legacy(1, 5), "columnMapping"));
    assert!(!supports(&features(&[], &["domainMetadata"]), "appendOnly"));
    assert!(supports(&features(&[], &["domainMetadata"]), "domainMetadata"));
}

/// Every name of the protocol's section "Valid Feature Names in Table Features", and those that its
/// other sections define.
#[test]
fn every_feature_of_the_protocol_has_its_place_in_the_table() {
    const WRITERS: [&str; 13] = [
        "appendOnly",
        "invariants",
        "checkConstraints",
        "generatedColumns",
        "allowColumnDefaults",
        "changeDataFeed",
        "identityColumns",
        "rowTracking",
        "domainMetadata",
        "icebergCompatV1",
        "icebergCompatV2",
        "clustering",
        "inCommitTimestamp",
    ];
    const BOTH: [&str; 10] = [
        "columnMapping",
        "deletionVectors",
        "timestampNtz",
        "v2Checkpoint",
        "catalogManaged",
        "vacuumProtocolCheck",
        "typeWidening",
        "variantType",
        "variantShredding",
        "variantType-preview",
    ];
    for (names, scope) in [(&WRITERS[..], Scope::Writer), (&BOTH[..], Scope::ReaderWriter)] {
        for name in names {
            let feature = find(name).unwrap_or_else(|| panic!("{name} is not in the table"));
            assert_eq!(feature.scope, scope, "{name}");
            let readers: &[&str] = if scope == Scope::ReaderWriter { &[name] } else { &[] };
            // All of them can be read.
            check_read(&features(readers, &[name])).unwrap_or_else(|error| panic!("{error}"));
        }
    }
    let names: BTreeSet<&str> = FEATURES.iter().map(|feature| feature.name).collect();
    assert_eq!(names.len(), FEATURES.len(), "a feature is there twice");
}
