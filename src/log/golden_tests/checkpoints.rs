//! Checkpoints of ours, in every form, of every golden table's newest version: a log that holds
//! nothing else is the same table to us and to delta_kernel, and loses no action and no statistic.

use serde_json::Value;

use super::*;
use crate::log::action::{Add, Remove};
use crate::log::checkpoint::write::{Draft, Form, TopLevel, write_draft};
use crate::log::listing::{commit_name, log_path};
use crate::log::protocol::with_features;

const JSON: &str = "delta.checkpoint.writeStatsAsJson";
const STRUCT: &str = "delta.checkpoint.writeStatsAsStruct";

/// Table properties by name.
type Properties = &'static [(&'static str, &'static str)];

/// What a form is called, and how a table asks for it.
const FORMS: &[(&str, Form, Properties)] = &[
    ("V1", Form::Classic, &[(JSON, "true"), (STRUCT, "false")]),
    ("V1, structs", Form::Classic, &[(JSON, "false"), (STRUCT, "true")]),
    ("V2 Parquet", Form::Inline(TopLevel::Parquet), &[(JSON, "true"), (STRUCT, "true")]),
    ("V2 JSON", Form::Inline(TopLevel::Json), &[]),
    ("V2 Parquet with sidecars", Form::Sidecars(TopLevel::Parquet, 2), &[(JSON, "true")]),
    (
        "V2 JSON with sidecars, structs",
        Form::Sidecars(TopLevel::Json, 2),
        &[(JSON, "false"), (STRUCT, "true")],
    ),
];

/// Files from which on a table is large.
const LARGE: usize = 10_000;

#[derive(Default)]
struct Outcome {
    tables: usize,
    checkpoints: usize,
    kernel_refuses: usize,
    /// Statistics that came back from structs.
    statistics: usize,
    wrong: Vec<String>,
}

#[test]
fn every_golden_table_comes_back_from_a_checkpoint_of_each_form() {
    let Some(golden) = golden() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let runtime = Runtime::new().unwrap();
    let tables = tables(&golden, scratch.path());
    let mut all = Outcome::default();
    std::thread::scope(|scope| {
        let threads = tables.chunks(tables.len().div_ceil(THREADS)).map(|tables| {
            let runtime = &runtime;
            scope.spawn(move || {
                let mut outcome = Outcome::default();
                for (name, folder) in tables {
                    check_table(runtime, name, folder, &mut outcome);
                }
                outcome
            })
        });
        for thread in threads.collect::<Vec<_>>() {
            let one = thread.join().unwrap();
            all.tables += one.tables;
            all.checkpoints += one.checkpoints;
            all.kernel_refuses += one.kernel_refuses;
            all.statistics += one.statistics;
            all.wrong.extend(one.wrong);
        }
    });
    let Outcome { tables, checkpoints, kernel_refuses, statistics, wrong } = all;
    println!(
        "{tables} tables, {checkpoints} checkpoints, {kernel_refuses} of tables that the kernel \
         refuses; {statistics} statistics came back from structs"
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(tables >= 140 && statistics >= 1000, "golden tables are missing");
}

fn check_table(runtime: &Runtime, name: &str, folder: &Path, outcome: &mut Outcome) {
    let store = Store::open(folder.to_str().unwrap()).unwrap();
    // What can't be read has no checkpoint.
    let Ok(snapshot) = runtime.block_on(Snapshot::load(&store, None)) else { return };
    outcome.tables += 1;
    let is_read = kernel(runtime, folder, &snapshot).is_ok();
    // One form is enough of a table of 300,000 files.
    let forms = if snapshot.adds.len() > LARGE { &FORMS[FORMS.len() - 1..] } else { FORMS };
    for (form_name, form, properties) in forms {
        // Three sidecars, or as many as there are files.
        let form = match form {
            Form::Sidecars(top, least) => {
                Form::Sidecars(*top, snapshot.adds.len().div_ceil(3).max(*least))
            }
            form => *form,
        };
        let mut snapshot = snapshot.clone();
        let pairs = properties.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        snapshot.metadata.configuration.extend(pairs);
        if form != Form::Classic {
            snapshot.protocol = with_features(&snapshot.protocol, &["v2Checkpoint"]);
        }
        let target = tempfile::tempdir().unwrap();
        write_alone(runtime, &store, &snapshot, form, target.path());
        outcome.checkpoints += 1;
        let mut wrong = |how: String| outcome.wrong.push(format!("{name}, {form_name}: {how}"));
        let mut expected = state_of(&snapshot);
        let target_store = Store::open(target.path().to_str().unwrap()).unwrap();
        let history = runtime.block_on(History::load(&target_store));
        match ours(runtime, &target_store, history.as_ref(), snapshot.version) {
            Ok(ours) if ours.iter().all(|ours| *ours == expected) => {}
            other => wrong(format!("we read {other:#?}, not {expected:#?}")),
        }
        match kernel(runtime, target.path(), &snapshot) {
            Ok(mut theirs) => {
                // The kernel takes transactions past their retention for none.
                if name.starts_with("app-txn-with-last-updated") {
                    theirs.txns.clear();
                    expected.txns.clear();
                }
                if theirs != expected {
                    wrong(format!("the kernel reads {theirs:#?}, not {expected:#?}"));
                }
            }
            Err(error) if is_read => wrong(format!("the kernel reads nothing: {error}")),
            Err(_) => outcome.kernel_refuses += 1,
        }
        let back = runtime.block_on(Snapshot::load(&target_store, None));
        let is_struct = properties.contains(&(JSON, "false"));
        match back {
            Ok(back) => compare_actions(name, form_name, &snapshot, &back, is_struct, outcome),
            Err(error) => outcome.wrong.push(format!("{name}, {form_name}: {error}")),
        }
    }
}

fn kernel(runtime: &Runtime, folder: &Path, snapshot: &Snapshot) -> Result<State, String> {
    let url = Url::from_directory_path(folder).unwrap();
    let engine = DefaultEngineBuilder::new(store_from_url(&url).unwrap())
        .with_task_executor(Arc::new(TokioMultiThreadExecutor::new(runtime.handle().clone())))
        .build();
    theirs(&engine, &url, snapshot.version, snapshot.txns.keys().cloned().collect())
}

/// A log that holds a checkpoint and nothing else; only a version's own commit knows its in-commit
/// timestamp.
fn write_alone(runtime: &Runtime, from: &Store, snapshot: &Snapshot, form: Form, target: &Path) {
    let store = Store::open(target.to_str().unwrap()).unwrap();
    runtime.block_on(async {
        let draft = Draft::in_form(Arc::new(snapshot.clone()), form, 0).unwrap();
        write_draft(&store, draft).await.unwrap().unwrap();
        if snapshot.in_commit_timestamp.is_some() {
            let path = log_path(&commit_name(snapshot.version));
            let bytes = from.read(&path).await.unwrap();
            store.create(&path, bytes).await.unwrap();
        }
    });
}

fn compare_actions(
    name: &str,
    form: &str,
    expected: &Snapshot,
    back: &Snapshot,
    is_struct: bool,
    outcome: &mut Outcome,
) {
    let mut wrong = |how: String| outcome.wrong.push(format!("{name}, {form}: {how}"));
    let mut came_back = 0;
    // Columns hold only what the protocol knows.
    let is_json = form == "V2 JSON";
    let add = |add: &Add| {
        let unknown = if is_json { add.unknown.clone() } else { serde_json::Map::new() };
        Add { data_change: false, stats: None, unknown, ..add.clone() }
    };
    let remove = |remove: &Remove| {
        let unknown = if is_json { remove.unknown.clone() } else { serde_json::Map::new() };
        Remove { data_change: false, stats: None, tags: None, unknown, ..remove.clone() }
    };
    let adds = |snapshot: &Snapshot| snapshot.adds.values().map(add).collect::<Vec<_>>();
    if adds(expected) != adds(back) {
        wrong(format!("adds {:#?}, not {:#?}", adds(back), adds(expected)));
    }
    let removes: BTreeMap<_, _> =
        expected.removes.iter().map(|(key, one)| (key.clone(), remove(one))).collect();
    if removes != back.removes {
        wrong(format!("removes {:#?}, not {removes:#?}", back.removes));
    }
    if (&expected.txns, &expected.domains) != (&back.txns, &back.domains) {
        wrong("transactions or domains".into());
    }
    for (path, add) in &expected.adds {
        let (stats, back) = (&add.stats, back.adds.get(path).and_then(|add| add.stats.as_ref()));
        if !is_struct {
            if stats.as_ref() != back {
                wrong(format!("statistics of {path} {back:?}, not {stats:?}"));
            }
            continue;
        }
        let (stats, back) = (leaves(stats.as_ref()), leaves(back));
        if let Some((leaf, value)) = back.iter().find(|(leaf, _)| !stats.contains_key(*leaf)) {
            wrong(format!("{path} has a new statistic {leaf} {value}"));
        }
        for (leaf, value) in &stats {
            match back.get(leaf) {
                Some(back) if is_same(value, back) => came_back += 1,
                other => wrong(format!("{path} {leaf} is {other:?}, not {value}")),
            }
        }
    }
    outcome.statistics += came_back;
}

/// The single statistics of a file by their place.
fn leaves(stats: Option<&String>) -> BTreeMap<String, Value> {
    let mut leaves = BTreeMap::new();
    if let Some(stats) = stats {
        collect_leaves(&serde_json::from_str(stats).unwrap(), "", &mut leaves);
    }
    leaves
}

fn collect_leaves(value: &Value, path: &str, leaves: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                collect_leaves(value, &format!("{path}/{name}"), leaves);
            }
        }
        Value::Null => {}
        leaf => drop(leaves.insert(path.to_owned(), leaf.clone())),
    }
}

/// Numbers by value, instants whatever their zone, and a date is its midnight where the column was
/// widened since; all else to the letter.
fn is_same(one: &Value, other: &Value) -> bool {
    let instant =
        |value: &Value| chrono::DateTime::parse_from_rfc3339(value.as_str().unwrap_or("")).ok();
    let number = |value: &Value| value.is_f64().then(|| value.as_f64()).flatten();
    let midnight = |value: &Value| format!("{}T00:00:00.000", value.as_str().unwrap_or(""));
    one == other
        || other.as_str() == Some(&midnight(one))
        || instant(one).is_some_and(|one| instant(other) == Some(one))
        || number(one).is_some_and(|one| other.as_f64() == Some(one))
        || number(other).is_some_and(|other| one.as_f64() == Some(other))
}

#[test]
fn statistics_of_foreign_checkpoints_are_those_of_the_commits() {
    let Some(golden) = golden() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let runtime = Runtime::new().unwrap();
    let (mut tables_compared, mut statistics) = (0, 0);
    for (name, folder) in tables(&golden, scratch.path()) {
        let store = Store::open(folder.to_str().unwrap()).unwrap();
        let Ok(files) = runtime.block_on(crate::log::listing::list_log(&store)) else { continue };
        let is_commit = |file: &&crate::log::listing::LogFile| {
            file.kind == crate::log::listing::LogFileKind::Commit
        };
        let commits: Vec<_> = files.files.iter().filter(is_commit).collect();
        let has_all = commits.iter().enumerate().all(|(at, file)| file.version.0 == at as u64);
        if !has_all || commits.len() > 1000 || !folder.join("_delta_log/_last_checkpoint").exists()
        {
            continue;
        }
        let alone = tempfile::tempdir().unwrap();
        std::fs::create_dir(alone.path().join("_delta_log")).unwrap();
        for file in commits {
            std::fs::copy(folder.join(file.path()), alone.path().join(file.path())).unwrap();
        }
        let alone = Store::open(alone.path().to_str().unwrap()).unwrap();
        let (Ok(by_checkpoint), Ok(by_commits)) = (
            runtime.block_on(Snapshot::load(&store, None)),
            runtime.block_on(Snapshot::load(&alone, None)),
        ) else {
            continue;
        };
        tables_compared += 1;
        for (path, add) in &by_commits.adds {
            let ours = leaves(by_checkpoint.adds[path].stats.as_ref());
            let theirs = leaves(add.stats.as_ref());
            assert_eq!(
                ours.keys().collect::<Vec<_>>(),
                theirs.keys().collect::<Vec<_>>(),
                "{name}"
            );
            for (leaf, value) in theirs {
                assert!(is_same(&value, &ours[&leaf]), "{name} {path} {leaf}: {}", ours[&leaf]);
                statistics += 1;
            }
        }
    }
    println!("{tables_compared} tables, {statistics} statistics");
    assert!(tables_compared >= 10 && statistics >= 100, "golden tables are missing");
}
