//! Names, differences and log entries, on plain values.

use super::*;
use crate::table::staging::{Content, StagedEntry, StagedIdentity};

fn path(text: &str) -> FilePath {
    FilePath::from_decoded(text).unwrap()
}

fn staged(text: &str) -> StagedFile {
    let identity = StagedIdentity { path: text.into(), dev: 0, ino: 0, size: 1, mtime_ns: 0 };
    let entry = StagedEntry {
        path: text.into(),
        size: 1,
        modified_ms: 0,
        content: Content::Spooled(text.into()),
        identity,
    };
    StagedFile { path: path(text), entry }
}

fn facts(presence: Presence, held: bool) -> PathFacts {
    PathFacts { presence, live: None, held, collision: None, published: None }
}

fn add(text: &str, vector: Option<&str>) -> Added {
    let mut value = json!({"path": path(text).to_log(), "size": 1, "dataChange": true});
    if let Some(vector) = vector {
        value["deletionVector"] = json!({"storageType": "u", "pathOrInlineDv": vector,
            "offset": 1, "sizeInBytes": 1, "cardinality": 1});
    }
    Added { add: serde_json::from_value(value).unwrap(), rows: Some(10) }
}

fn newest(properties: &[(&str, &str)], features: &[&str]) -> Newest {
    let configuration: BTreeMap<&str, &str> = properties.iter().copied().collect();
    let metadata = json!({"id": "t", "schemaString": "{}", "configuration": configuration});
    Newest {
        version: Version(4),
        protocol: Arc::new(Protocol {
            min_reader_version: 1,
            min_writer_version: 7,
            reader_features: None,
            writer_features: Some(features.iter().map(|name| name.to_string()).collect()),
        }),
        metadata: Arc::new(serde_json::from_value(metadata).unwrap()),
        commit_time_ms: 1_000,
        snapshot: None,
    }
}

fn draft<'a>(newest: &'a Newest, adds: Vec<Added>, removes: Vec<Remove>) -> Draft<'a> {
    Draft {
        kind: Kind::Append,
        newest: Some(newest),
        protocol: &newest.protocol,
        metadata: &newest.metadata,
        adds,
        removes,
        domains: Vec::new(),
        row_id_mark: -1,
        txn: None,
        operation: Kind::Append.operation(),
        parameters: json!({}),
        now_ms: 500,
    }
}

#[test]
fn a_name_is_kept_where_it_is_free_or_its_bytes_are_there() {
    let mut id = || "id".to_owned();
    let mut of = |presence, held| {
        target(&staged("p=1/a.parquet"), &facts(presence, held), &BTreeSet::new(), &mut id).unwrap()
    };
    let kept = |uploads| Target { path: path("p=1/a.parquet"), uploads };
    let renamed = Target { path: path("p=1/a-id.parquet"), uploads: true };
    assert_eq!(of(Presence::Absent, false), kept(true));
    assert_eq!(of(Presence::Same, true), kept(false));
    // What an earlier attempt left there may not be durable, and may have been written to since.
    assert_eq!(of(Presence::Ours, false), kept(true));
    // The table knows the name of a file that is lost; its statistics are not ours.
    assert_eq!(of(Presence::Absent, true), renamed);
    assert_eq!(of(Presence::Other, true), renamed);
    assert_eq!(of(Presence::Same, false), renamed);
    assert_eq!(of(Presence::SameShared, true), renamed);
    let live = PathFacts { live: Some(None), ..facts(Presence::SameShared, true) };
    let target_of_live =
        target(&staged("p=1/a.parquet"), &live, &BTreeSet::new(), &mut || "id".to_owned());
    assert_eq!(target_of_live.unwrap(), kept(false));
    let collision =
        PathFacts { collision: Some("a folder".into()), ..facts(Presence::Absent, false) };
    let target = target(&staged("p=1/a.parquet"), &collision, &BTreeSet::new(), &mut id).unwrap();
    assert_eq!(target, renamed);
}

#[test]
fn a_name_that_others_can_not_open_is_not_kept() {
    let free = facts(Presence::Absent, false);
    let mut id = || "id".to_owned();
    let of = target(&staged("p=1/a\nb\u{7f}.parquet"), &free, &BTreeSet::new(), &mut id).unwrap();
    assert_eq!(of, Target { path: path("p=1/a_b_-id.parquet"), uploads: true });
    let error = target(&staged("p=a\nb/c.parquet"), &free, &BTreeSet::new(), &mut id).unwrap_err();
    assert!(matches!(&error, Error::Refused(why) if why.contains("p=a\\nb")), "{error:?}");
}

#[test]
fn a_new_name_stays_within_255_bytes_and_is_not_taken() {
    let mut ids = ["one", "two"].into_iter().map(str::to_owned);
    let mut id = || ids.next().unwrap();
    let long = path(&format!("d/{}.parquet", "é".repeat(120)));
    let taken = [renamed(&long, &BTreeSet::new(), &mut || "one".into()).unwrap()].into();
    let new = renamed(&long, &taken, &mut id).unwrap();
    assert!(new.file_name().len() <= 255 && new.as_str().ends_with("-two.parquet"));
}

#[test]
fn the_difference_is_by_path_and_deletion_vector() {
    let live: BTreeMap<FilePath, Add> = [("a", None), ("b", None), ("c", Some("old"))]
        .map(|(text, vector)| (path(text), add(text, vector).add))
        .into();
    let wanted: BTreeMap<FilePath, Added> = [("b", None), ("c", Some("new")), ("d", None)]
        .map(|(text, vector)| (path(text), add(text, vector)))
        .into();
    let (adds, removes) = difference(&live, wanted, 7);
    let adds: Vec<&str> = adds.iter().map(|added| added.add.path.as_str()).collect();
    let removes: Vec<&str> = removes.iter().map(|remove| remove.path.as_str()).collect();
    assert_eq!((adds, removes), (vec!["c", "d"], vec!["a", "c"]));
}

#[test]
fn row_ids_are_given_above_the_mark_and_kept_where_they_are() {
    let newest = newest(&[], &["rowTracking", "domainMetadata"]);
    let mut back = add("back", None);
    (back.add.base_row_id, back.add.default_row_commit_version) = (Some(3), Some(1));
    let draft = Draft { row_id_mark: 99, ..draft(&newest, vec![back, add("new", None)], vec![]) };
    let (actions, _) = draft.finish().unwrap();
    let [Action::DomainMetadata(domain), Action::Add(back), Action::Add(new)] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(domain.configuration, r#"{"rowIdHighWaterMark":109}"#);
    assert_eq!((back.base_row_id, back.default_row_commit_version), (Some(3), Some(1)));
    assert_eq!((new.base_row_id, new.default_row_commit_version), (Some(100), Some(5)));
}

#[test]
fn suspended_row_tracking_gives_no_ids() {
    let newest = newest(&[("delta.rowTrackingSuspended", "true")], &["rowTracking"]);
    let (actions, _) = draft(&newest, vec![add("new", None)], vec![]).finish().unwrap();
    assert!(matches!(&actions[..], [Action::Add(add)] if add.base_row_id.is_none()));
}

#[test]
fn an_append_only_table_loses_nothing() {
    let newest = newest(&[("delta.appendOnly", "true")], &["appendOnly"]);
    let remove = add("a", None).add.to_remove(1);
    let result = draft(&newest, vec![], vec![remove.clone(), remove]).finish();
    assert!(matches!(&result, Err(Error::AppendOnly(text)) if text.contains("1 more")));
    assert!(draft(&newest, vec![add("b", None)], vec![]).finish().is_ok());
}

#[test]
fn in_commit_times_go_up_whatever_the_clock_says() {
    let on = newest(&[("delta.enableInCommitTimestamps", "true")], &["inCommitTimestamp"]);
    let (_, info) = draft(&on, vec![add("a", None)], vec![]).finish().unwrap();
    assert_eq!(info.in_commit_timestamp, Some(1_001));
    let off = newest(&[], &[]);
    let (_, info) = draft(&off, vec![add("a", None)], vec![]).finish().unwrap();
    assert_eq!((info.in_commit_timestamp, info.timestamp), (None, Some(500)));
}

#[test]
fn the_entry_begins_with_commit_info_and_ends_with_a_line_feed() {
    let newest = newest(&[], &[]);
    let (actions, info) = draft(&newest, vec![add("a", None)], vec![]).finish().unwrap();
    let plan = Plan { actions, info, ..Plan::empty(Kind::Append, Some(&newest)) };
    let entry = String::from_utf8(plan.entry("tx")).unwrap();
    let lines: Vec<&str> = entry.lines().collect();
    assert!(lines[0].starts_with("{\"commitInfo\":{") && lines[0].contains("\"txnId\":\"tx\""));
    assert!(lines[1].starts_with("{\"add\":") && lines.len() == 2 && entry.ends_with('\n'));
}

#[test]
fn a_commit_that_begins_in_commit_times_says_from_when() {
    let before = newest(&[], &["inCommitTimestamp"]);
    let metadata = newest(&[("delta.enableInCommitTimestamps", "true")], &[]).metadata;
    let begins = Draft { metadata: &metadata, ..draft(&before, Vec::new(), Vec::new()) };
    let (actions, info) = begins.finish().unwrap();
    // The clock is behind the version before.
    assert_eq!(info.in_commit_timestamp, Some(1_001));
    let [Action::MetaData(told)] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!(ENABLEMENT.map(|key| told.configuration[key].as_str()), ["5", "1001"]);
    let goes_on = Newest { metadata: metadata.clone(), ..before };
    let (actions, info) = draft(&goes_on, Vec::new(), Vec::new()).finish().unwrap();
    assert_eq!((actions.len(), info.in_commit_timestamp), (0, Some(1_001)));
}

#[test]
fn files_without_row_ids_are_said_again_where_tracking_begins() {
    let features = ["rowTracking", "domainMetadata"];
    let mut before = newest(&[], &features);
    let live = ["a", "b", "c"].map(|text| {
        let mut add = add(text, None).add;
        add.stats = Some(r#"{"numRecords":10}"#.into());
        add.base_row_id = (text == "b").then_some(0);
        (path(text), add)
    });
    let mut outside = add("a", None).add;
    outside.path = "file:///o".into();
    outside.stats = Some(r#"{"numRecords":10}"#.into());
    let mut snapshot = Snapshot {
        commit_time_ms: 0,
        in_commit_timestamp: None,
        version: Version(4),
        protocol: (*before.protocol).clone(),
        metadata: (*before.metadata).clone(),
        adds: live.into(),
        outside: BTreeMap::from([("file:///o".to_owned(), outside)]),
        reach: Default::default(),
        removes: BTreeMap::new(),
        txns: BTreeMap::new(),
        domains: BTreeMap::new(),
    };
    before.snapshot = Some(Arc::new(snapshot.clone()));
    let metadata = newest(&[("delta.enableRowTracking", "true")], &[]).metadata;
    let remove = snapshot.adds[&path("c")].to_remove(7);
    let begins = Draft {
        metadata: &metadata,
        row_id_mark: 9,
        ..draft(&before, vec![add("d", None)], vec![remove])
    };
    let (actions, info) = begins.finish().unwrap();
    let mut given = Vec::new();
    for action in actions {
        if let Action::Add(add) = action {
            given.push((add.path, add.base_row_id, add.data_change));
        }
    }
    let new = ("d".to_owned(), Some(10), true);
    let [a, outside] =
        [("a", 20), ("file:///o", 30)].map(|(name, id)| (name.into(), Some(id), false));
    assert_eq!(given, [new, a, outside]);
    assert_eq!(info.unknown["isBlindAppend"], false);
    // Rows that nobody counted can't be given ids.
    snapshot.adds.get_mut(&path("a")).unwrap().stats = None;
    before.snapshot = Some(Arc::new(snapshot));
    let begins = Draft { metadata: &metadata, ..draft(&before, Vec::new(), Vec::new()) };
    assert!(begins.finish().unwrap_err().to_string().contains("how many rows"));
}
