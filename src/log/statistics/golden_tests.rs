//! Our statistics of every data file of the golden tables, against the files' own rows and against
//! what their writers put into the log.
//!
//! Rows are read by arrow, by none of the code that statistics are made with. Bounds must hold all
//! of them, counts must be exact; where the writer has a bound and we don't, it is counted, as is
//! each file that is left out with its reason.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{self as arrow_types, DataType as ArrowType, TimeUnit};
use chrono::{DateTime, NaiveDate, NaiveDateTime};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use serde_json::value::RawValue;
use tokio::runtime::Runtime;

use super::*;
use crate::log::fit::TableColumns;
use crate::log::golden_tests::{golden, tables};
use crate::log::snapshot::Snapshot;
use crate::log::version::Version;
use crate::store::Store;

#[derive(Default)]
struct Counts {
    files: usize,
    leaves: usize,
    bounds: usize,
    same: usize,
    rounded: usize,
    only_ours: usize,
    only_theirs: BTreeMap<String, usize>,
    skipped: BTreeMap<String, usize>,
    wrong: Vec<String>,
}

/// A value, or a bound, in a form that has an order.
#[derive(Clone, Debug, PartialEq, PartialOrd)]
enum Truth {
    /// Whole numbers, days, microseconds, unscaled decimals.
    Whole(i128),
    Floating(f64),
    Text(Vec<u8>),
}

#[test]
fn bounds_hold_every_row_of_every_golden_file_and_counts_are_exact() {
    let Some(golden) = golden() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let runtime = Runtime::new().unwrap();
    let mut counts = Counts::default();
    for (name, folder) in tables(&golden, scratch.path()) {
        // It has no data files.
        if !name.starts_with("300k") {
            check_table(&runtime, &name, &folder, &mut counts);
        }
    }
    let Counts { files, leaves, bounds, same, rounded, only_ours, .. } = counts;
    println!("{files} files, {leaves} columns, {bounds} bounds hold all rows");
    println!("as the writer's: {same}; rounded otherwise: {rounded}; only ours: {only_ours}");
    for (what, count) in &counts.only_theirs {
        println!("only the writer's: {count} of {what}");
    }
    for (reason, count) in &counts.skipped {
        println!("left out: {count} files: {reason}");
    }
    assert!(counts.wrong.is_empty(), "{}", counts.wrong.join("\n"));
    assert!(files >= 500 && bounds >= 2600, "golden files are missing");
}

fn check_table(runtime: &Runtime, name: &str, folder: &Path, counts: &mut Counts) {
    let store = Store::open(folder.to_str().unwrap()).unwrap();
    let mut seen = BTreeSet::new();
    for version in 0.. {
        let loaded = runtime.block_on(Snapshot::load(&store, Some(Version(version))));
        let Ok(snapshot) = loaded else {
            let newest = runtime.block_on(Snapshot::load(&store, None));
            match newest {
                Ok(newest) if newest.version.0 > version => continue,
                _ => return,
            }
        };
        let columns = match TableColumns::of(&snapshot.protocol, &snapshot.metadata, None) {
            Ok(columns) => columns,
            Err(error) => return skip(counts, &error.to_string()),
        };
        let indexed = match Indexed::of(&snapshot.metadata, &columns, &[]) {
            Ok(indexed) => indexed,
            Err(error) => return skip(counts, &error.to_string()),
        };
        let asked = Asked { indexed, tight_bounds: false };
        for (path, add) in &snapshot.adds {
            if !seen.insert(path.clone()) {
                continue;
            }
            let Ok(file) = File::open(folder.join(path.as_str())) else {
                skip(counts, "its table has lost it");
                continue;
            };
            let place = format!("{name} {path}");
            if let Err(why) = check_file(&file, &columns, &asked, add.stats.as_deref(), counts) {
                match why {
                    Why::Skipped(reason) => skip(counts, &reason),
                    Why::Wrong(what) => counts.wrong.push(format!("{place}: {what}")),
                }
            }
        }
    }
}

enum Why {
    Skipped(String),
    Wrong(String),
}

fn skip(counts: &mut Counts, reason: &str) {
    // Without the file's name and the column's, so that like reasons are counted together.
    let reason = reason.split_once(": ").map_or(reason, |(_, reason)| reason);
    *counts.skipped.entry(reason.to_owned()).or_default() += 1;
}

fn check_file(
    file: &File,
    columns: &TableColumns,
    asked: &Asked,
    theirs: Option<&str>,
    counts: &mut Counts,
) -> std::result::Result<(), Why> {
    let refused = |error: crate::error::Error| Why::Skipped(error.to_string());
    let footer = Footer::read(file, "f").map_err(refused)?;
    let fit = columns.fit(footer.columns(), false, "f").map_err(refused)?;
    let open = || Ok(file.try_clone().unwrap());
    let ours = statistics(&footer, &open, &fit.leaves, asked, &mut Budget::default()).unwrap();
    counts.files += 1;
    let rows: usize = read(file, 0, true).iter().map(|array| array.len()).sum();
    if at(&ours, &["numRecords"]).as_deref() != Some(rows.to_string().as_str()) {
        return Err(Why::Wrong(format!("{rows} rows, and {ours}")));
    }
    let is_indexed = |leaf: &&FitLeaf| asked.indexed.is_required(&leaf.path).is_some();
    for leaf in fit.leaves.iter().filter(is_indexed) {
        check_leaf(file, leaf, rows, &ours, theirs, counts)
            .map_err(|what| Why::Wrong(format!("column {:?}: {what}", leaf.path)))?;
    }
    Ok(())
}

fn check_leaf(
    file: &File,
    leaf: &FitLeaf,
    rows: usize,
    ours: &str,
    theirs: Option<&str>,
    counts: &mut Counts,
) -> std::result::Result<(), String> {
    let path = |root: &'static str| -> Vec<&str> {
        [&[root][..], &leaf.path.iter().map(String::as_str).collect::<Vec<_>>()].concat()
    };
    let arrays = match leaf.source {
        LeafSource::Values { column, .. } => Some(read(file, column, false)),
        LeafSource::Whole { column, .. } => Some(read(file, column, true)),
        LeafSource::Absent => None,
    };
    let below = |array| descend(array, &leaf.path[1..]);
    let arrays: Option<Vec<_>> = arrays.map(|arrays| arrays.into_iter().map(below).collect());
    let nulls = match &arrays {
        Some(arrays) => {
            arrays.iter().map(|(_, nulls)| nulls.as_ref().map_or(0, NullBuffer::null_count)).sum()
        }
        None => rows,
    };
    let said = at(ours, &path("nullCount"));
    if said.as_deref() != Some(nulls.to_string().as_str()) {
        return Err(format!("{nulls} nulls, and nullCount {said:?}"));
    }
    counts.leaves += 1;
    let (LeafSource::Values { .. }, Some(arrays)) = (&leaf.source, arrays) else {
        return Ok(());
    };
    let values: Vec<Truth> =
        arrays.iter().flat_map(|(array, nulls)| values(array, nulls.as_ref())).collect();
    for (root, bound) in [("minValues", Bound::Min), ("maxValues", Bound::Max)] {
        let ours = at(ours, &path(root));
        let theirs = theirs.and_then(|stats| at(stats, &path(root))).filter(|text| text != "null");
        if let Some(text) = &ours {
            counts.bounds += 1;
            let scale = arrays.first().map_or(0, |(array, _)| match array.data_type() {
                ArrowType::Decimal128(_, scale) => *scale,
                _ => 0,
            });
            let limit = truth(text, scale).ok_or_else(|| format!("{root} is {text}"))?;
            let is_held = |value: &Truth| match bound {
                Bound::Min => limit <= *value,
                // NaN is greater than all, and no comparison with it is true.
                Bound::Max => *value <= limit,
            };
            let is_nan = |value: &Truth| matches!(value, Truth::Floating(v) if v.is_nan());
            let mut held = values.iter().filter(|value| bound == Bound::Max || !is_nan(value));
            if let Some(outside) = held.find(|value| !is_held(value)) {
                return Err(format!("{outside:?} lies outside of {root} {text}"));
            }
        }
        match (ours, theirs) {
            (None, None) => {}
            (Some(_), None) => counts.only_ours += 1,
            (None, Some(_)) if is_legacy(file) => {
                *counts.only_theirs.entry("times that readers move".into()).or_default() += 1;
            }
            (None, Some(theirs)) => return Err(format!("no {root}, the writer's is {theirs}")),
            (Some(ours), Some(theirs)) if is_same(&ours, &theirs) => counts.same += 1,
            (Some(_), Some(_)) => counts.rounded += 1,
        }
    }
    Ok(())
}

/// Whether Spark marked the file as one of the old calendar.
fn is_legacy(file: &File) -> bool {
    let footer = Footer::read(file, "f").unwrap();
    let pairs = footer.metadata().file_metadata().key_value_metadata().unwrap();
    pairs.iter().any(|pair| pair.key == "org.apache.spark.legacyINT96")
}

/// A value of statistics by its path, as JSON text.
fn at(stats: &str, path: &[&str]) -> Option<String> {
    let mut here = stats.to_owned();
    for part in path {
        let object: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&here).ok()?;
        here = object.get(*part)?.get().to_owned();
    }
    Some(here)
}

fn is_same(one: &str, other: &str) -> bool {
    one == other || one.parse::<f64>().is_ok_and(|one| other.parse() == Ok(one))
}

/// The batches of one leaf, or of all of the column that it is in.
fn read(file: &File, leaf: usize, whole: bool) -> Vec<ArrayRef> {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder =
        ParquetRecordBatchReaderBuilder::try_new_with_options(file.try_clone().unwrap(), options)
            .unwrap();
    let schema = builder.parquet_schema();
    let mask = match whole {
        true => ProjectionMask::roots(schema, [schema.get_column_root_idx(leaf)]),
        false => ProjectionMask::leaves(schema, [leaf]),
    };
    let reader = builder.with_projection(mask).build().unwrap();
    reader.map(|batch| batch.unwrap().column(0).clone()).collect()
}

/// Goes down structs; a value is null where any of them is.
fn descend(mut array: ArrayRef, path: &[String]) -> (ArrayRef, Option<NullBuffer>) {
    let mut nulls = array.logical_nulls();
    for name in path {
        let holder = array.as_struct();
        array = holder.column_by_name(name).unwrap_or_else(|| holder.column(0)).clone();
        nulls = NullBuffer::union(nulls.as_ref(), array.logical_nulls().as_ref());
    }
    (array, nulls)
}

fn values(array: &ArrayRef, nulls: Option<&NullBuffer>) -> Vec<Truth> {
    macro_rules! whole {
        ($type:ty, $convert:expr) => {{
            let values = array.as_primitive::<$type>().values().iter();
            values.map(|value| Truth::Whole($convert(i128::from(*value)))).collect()
        }};
    }
    let all: Vec<Truth> = match array.data_type() {
        ArrowType::Int8 => whole!(arrow_types::Int8Type, |v| v),
        ArrowType::Int16 => whole!(arrow_types::Int16Type, |v| v),
        ArrowType::Int32 => whole!(arrow_types::Int32Type, |v| v),
        ArrowType::Int64 => whole!(arrow_types::Int64Type, |v| v),
        ArrowType::Date32 => whole!(arrow_types::Date32Type, |v: i128| v * 86_400_000_000),
        ArrowType::Decimal128(..) => whole!(arrow_types::Decimal128Type, |v| v),
        ArrowType::Timestamp(TimeUnit::Millisecond, _) => {
            whole!(arrow_types::TimestampMillisecondType, |v: i128| v * 1000)
        }
        ArrowType::Timestamp(TimeUnit::Microsecond, _) => {
            whole!(arrow_types::TimestampMicrosecondType, |v| v)
        }
        ArrowType::Timestamp(TimeUnit::Nanosecond, _) => {
            whole!(arrow_types::TimestampNanosecondType, |v: i128| v.div_euclid(1000))
        }
        ArrowType::Float32 => {
            let values = array.as_primitive::<arrow_types::Float32Type>().values().iter();
            values.map(|value| Truth::Floating((*value).into())).collect()
        }
        ArrowType::Float64 => {
            let values = array.as_primitive::<arrow_types::Float64Type>().values().iter();
            values.map(|value| Truth::Floating(*value)).collect()
        }
        ArrowType::Utf8 => {
            let array = array.as_string::<i32>();
            (0..array.len()).map(|row| Truth::Text(array.value(row).into())).collect()
        }
        ArrowType::Boolean | ArrowType::Binary => Vec::new(),
        other => panic!("a golden file has a column of {other}"),
    };
    let is_there = |row: usize| nulls.is_none_or(|nulls| nulls.is_valid(row));
    all.into_iter().enumerate().filter(|(row, _)| is_there(*row)).map(|(_, value)| value).collect()
}

/// A bound as statistics have it; dates and times in microseconds.
fn truth(json: &str, scale: i8) -> Option<Truth> {
    if let Ok(text) = serde_json::from_str::<String>(json) {
        if let Ok(date) = NaiveDate::parse_from_str(&text, "%Y-%m-%d") {
            let midnight = date.and_hms_opt(0, 0, 0)?.and_utc();
            return Some(Truth::Whole(midnight.timestamp_micros().into()));
        }
        if let Ok(time) = DateTime::parse_from_rfc3339(&text) {
            return Some(Truth::Whole(time.timestamp_micros().into()));
        }
        if let Ok(time) = NaiveDateTime::parse_from_str(&text, "%Y-%m-%dT%H:%M:%S%.f") {
            return Some(Truth::Whole(time.and_utc().timestamp_micros().into()));
        }
        return Some(Truth::Text(text.into_bytes()));
    }
    match json.split_once('.') {
        None if scale == 0 => json.parse().ok().map(Truth::Whole),
        Some((whole, fraction))
            if scale > 0 && fraction.len() == usize::try_from(scale).ok()? =>
        {
            format!("{whole}{fraction}").parse().ok().map(Truth::Whole)
        }
        _ => json.parse().ok().map(Truth::Floating),
    }
}
