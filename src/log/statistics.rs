//! The statistics of a data file, as the log's `add` carries them.
//!
//! Follows the protocol's "Per-file Statistics". They are taken from the Parquet footer and never
//! guessed: a bound that the footer doesn't give, or whose order can't be trusted, is left out.
//! A wrong bound makes engines skip rows that are there; a missing one costs only time.

use std::cmp::Ordering;
use std::collections::HashSet;

use parquet::basic::{ColumnOrder, SortOrder, Type as Physical};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescriptor;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::error::{Error, Result};
use crate::log::action::Metadata;
use crate::log::fit::{FitLeaf, TableColumns};
use crate::log::footer::Footer;
use crate::log::scalar::{Bound, Scalar};
use crate::log::schema::{DataType, Field, Mapping, Primitive};

/// How many leaf columns have statistics where the table doesn't say.
const INDEXED_COLUMNS: usize = 32;

/// The columns that statistics are kept of: physical paths of leaves.
#[derive(Debug, Default, PartialEq)]
pub struct Indexed(HashSet<Vec<String>>);

impl Indexed {
    /// Follows `delta.dataSkippingStatsColumns`, else `delta.dataSkippingNumIndexedCols`, else the
    /// first 32 leaves; clustering columns (physical paths) always have theirs.
    /// Errors: [`Error::Damaged`] for a property that can't be read.
    pub fn of(
        metadata: &Metadata,
        table: &TableColumns,
        clustering: &[Vec<String>],
    ) -> Result<Indexed> {
        let mut leaves = Vec::new();
        for field in &table.schema.fields {
            if !table.partition_columns.contains(&field.name) {
                let root = (Vec::new(), Vec::new());
                collect_leaves(field, table.mapping, &root, &mut leaves)?;
            }
        }
        let property = |name: &str| metadata.configuration.get(name);
        let chosen: Vec<Vec<String>> =
            if let Some(text) = property("delta.dataSkippingStatsColumns") {
                let wanted = parse_columns(text)?;
                let is_wanted =
                    |logical: &[String]| wanted.iter().any(|column| logical.starts_with(column));
                leaves.into_iter().filter(|leaf| is_wanted(&leaf.0)).map(|leaf| leaf.1).collect()
            } else {
                let count =
                    match property("delta.dataSkippingNumIndexedCols").map(|text| text.parse()) {
                        None => INDEXED_COLUMNS,
                        Some(Ok(-1)) => usize::MAX,
                        Some(Ok(count @ 0i64..)) => usize::try_from(count).unwrap_or(usize::MAX),
                        Some(_) => {
                            return Err(Error::Damaged(
                                "the property delta.dataSkippingNumIndexedCols is no number".into(),
                            ));
                        }
                    };
                leaves.into_iter().take(count).map(|leaf| leaf.1).collect()
            };
        Ok(Indexed(chosen.into_iter().chain(clustering.iter().cloned()).collect()))
    }
}

/// A leaf by its logical and its physical path.
type Leaf = (Vec<String>, Vec<String>);

fn collect_leaves(
    field: &Field,
    mapping: Mapping,
    above: &Leaf,
    leaves: &mut Vec<Leaf>,
) -> Result<()> {
    let mut path = above.clone();
    path.0.push(field.name.clone());
    path.1.push(field.physical_name(mapping)?.to_owned());
    match &field.data_type {
        DataType::Struct(schema) => {
            for field in &schema.fields {
                collect_leaves(field, mapping, &path, leaves)?;
            }
        }
        _ => leaves.push(path),
    }
    Ok(())
}

/// Reads a list of column names: commas between columns, dots between the parts of one, backticks
/// around a part that has either in it.
fn parse_columns(text: &str) -> Result<Vec<Vec<String>>> {
    let mut columns = vec![vec![String::new()]];
    let mut is_quoted = false;
    for char in text.chars() {
        let column = columns.last_mut().expect("BUG: there is always a last column");
        let part = column.last_mut().expect("BUG: there is always a last part");
        match char {
            '`' => is_quoted = !is_quoted,
            ',' if !is_quoted => columns.push(vec![String::new()]),
            '.' if !is_quoted => column.push(String::new()),
            ' ' if !is_quoted && part.is_empty() => {}
            _ => part.push(char),
        }
    }
    if is_quoted {
        return Err(Error::Damaged(format!(
            "the property delta.dataSkippingStatsColumns has an open backtick: {text:?}"
        )));
    }
    columns.retain(|column| column.iter().any(|part| !part.is_empty()));
    Ok(columns)
}

/// The statistics of a file that fits a table. `tight_bounds`: the table has deletion vectors, so
/// it must be said that these bounds are exact.
pub fn statistics(
    footer: &Footer,
    leaves: &[FitLeaf],
    indexed: &Indexed,
    tight_bounds: bool,
) -> String {
    let mut whole = Whole {
        num_records: footer.rows(),
        min_values: Tree::default(),
        max_values: Tree::default(),
        null_count: Tree::default(),
        tight_bounds: tight_bounds.then_some(true),
    };
    for leaf in leaves.iter().filter(|leaf| indexed.0.contains(&leaf.path)) {
        let range = Range::of(footer, leaf);
        let min = range.min.and_then(|min| min.to_statistic(&leaf.primitive, Bound::Min));
        let max = range.max.and_then(|max| max.to_statistic(&leaf.primitive, Bound::Max));
        whole.min_values.put(&leaf.path, min);
        whole.max_values.put(&leaf.path, max);
        whole.null_count.put(&leaf.path, range.nulls.map(|nulls| nulls.to_string()));
    }
    serde_json::to_string(&whole).expect("BUG: statistics have only string keys")
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Whole {
    num_records: i64,
    min_values: Tree,
    max_values: Tree,
    null_count: Tree,
    #[serde(skip_serializing_if = "Option::is_none")]
    tight_bounds: Option<bool>,
}

/// Values by the table's own nesting, in its order.
#[derive(Default)]
struct Tree(Vec<(String, Node)>);

enum Node {
    /// JSON text, kept raw so that a decimal of 38 digits stays exact.
    Value(Box<RawValue>),
    Struct(Tree),
}

impl Tree {
    fn put(&mut self, path: &[String], json: Option<String>) {
        let (Some(json), Some((name, rest))) = (json, path.split_first()) else { return };
        if rest.is_empty() {
            let value = RawValue::from_string(json).expect("BUG: statistics are valid JSON");
            self.0.push((name.clone(), Node::Value(value)));
            return;
        }
        // Leaves come in the schema's order, so a struct's are next to each other.
        if !matches!(self.0.last(), Some((last, Node::Struct(_))) if last == name) {
            self.0.push((name.clone(), Node::Struct(Tree::default())));
        }
        if let Some((_, Node::Struct(tree))) = self.0.last_mut() {
            tree.put(rest, Some(json));
        }
    }
}

impl Serialize for Tree {
    fn serialize<S: serde::Serializer>(
        &self,
        serializer: S,
    ) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, node)| (name, node)))
    }
}

impl Serialize for Node {
    fn serialize<S: serde::Serializer>(
        &self,
        serializer: S,
    ) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Node::Value(value) => value.serialize(serializer),
            Node::Struct(tree) => tree.serialize(serializer),
        }
    }
}

/// What the footer tells of one leaf over all row groups.
#[derive(Debug, Default, PartialEq)]
struct Range {
    nulls: Option<u64>,
    min: Option<Scalar>,
    max: Option<Scalar>,
}

impl Range {
    fn of(footer: &Footer, leaf: &FitLeaf) -> Range {
        let metadata = footer.metadata();
        let descriptor = footer.leaf(leaf.column);
        let chunks: Vec<&ColumnChunkMetaData> = metadata
            .row_groups()
            .iter()
            .filter(|group| group.num_rows() > 0)
            .map(|group| group.column(leaf.column))
            .collect();
        let nulls = chunks
            .iter()
            .map(|chunk| match descriptor.max_def_level() {
                0 => Some(0),
                _ => chunk.statistics().and_then(Statistics::null_count_opt),
            })
            .sum();
        let order = metadata.file_metadata().column_order(leaf.column);
        // Spark 2 and earlier wrote dates of another calendar, and marks its files.
        let is_rebased = metadata
            .file_metadata()
            .key_value_metadata()
            .is_some_and(|pairs| pairs.iter().any(|pair| pair.key.contains("legacyDateTime")));
        if is_rebased && matches!(leaf.primitive, Primitive::Date | Primitive::Timestamp) {
            return Range { nulls, min: None, max: None };
        }
        let mut range = Range { nulls, min: None, max: None };
        let mut is_first = true;
        for chunk in chunks.into_iter().filter(|chunk| !is_all_null(chunk)) {
            let (min, max) = bounds(chunk, descriptor, order).unwrap_or_default();
            range.min = outer(range.min.take(), min, is_first, Ordering::Less);
            range.max = outer(range.max.take(), max, is_first, Ordering::Greater);
            is_first = false;
        }
        range
    }
}

/// The outer one of two bounds; an unknown bound makes the whole unknown.
fn outer(
    known: Option<Scalar>,
    new: Option<Scalar>,
    is_first: bool,
    wanted: Ordering,
) -> Option<Scalar> {
    if is_first {
        return new;
    }
    let (known, new) = (known?, new?);
    let order = new.compare(&known)?;
    Some(if order == wanted { new } else { known })
}

fn is_all_null(chunk: &ColumnChunkMetaData) -> bool {
    let nulls = chunk.statistics().and_then(Statistics::null_count_opt);
    nulls.is_some_and(|nulls| i64::try_from(nulls) == Ok(chunk.num_values()))
}

/// A chunk's bounds, where their order is known to be the one that readers compare by.
fn bounds(
    chunk: &ColumnChunkMetaData,
    leaf: &ColumnDescriptor,
    order: ColumnOrder,
) -> Option<(Option<Scalar>, Option<Scalar>)> {
    let statistics = chunk.statistics()?;
    // The deprecated fields, and files that name no order, compared everything as signed.
    let is_signed = matches!(
        leaf.physical_type(),
        Physical::BOOLEAN | Physical::INT32 | Physical::INT64 | Physical::FLOAT | Physical::DOUBLE
    );
    let is_trusted = match order {
        ColumnOrder::TYPE_DEFINED_ORDER(sort) => {
            sort != SortOrder::UNDEFINED && (is_signed || !statistics.is_min_max_deprecated())
        }
        ColumnOrder::IEEE_754_TOTAL_ORDER => true,
        ColumnOrder::UNDEFINED => is_signed,
        ColumnOrder::INT96_TIMESTAMP_ORDER | ColumnOrder::UNKNOWN => false,
    };
    if !is_trusted {
        return None;
    }
    let integer = |value: i64| Scalar::of_integer(leaf, value);
    let both = match statistics {
        Statistics::Int32(s) => (
            s.min_opt().and_then(|value| integer((*value).into())),
            s.max_opt().and_then(|value| integer((*value).into())),
        ),
        Statistics::Int64(s) => (
            s.min_opt().and_then(|value| integer(*value)),
            s.max_opt().and_then(|value| integer(*value)),
        ),
        Statistics::Float(s) => floating(
            s.min_opt().map(|value| f64::from(*value)),
            s.max_opt().map(|value| f64::from(*value)),
            s.nan_count_opt(),
        ),
        Statistics::Double(s) => {
            floating(s.min_opt().copied(), s.max_opt().copied(), s.nan_count_opt())
        }
        Statistics::ByteArray(s) => (
            s.min_opt().and_then(|value| Scalar::of_bytes(leaf, value.data())),
            s.max_opt().and_then(|value| Scalar::of_bytes(leaf, value.data())),
        ),
        Statistics::FixedLenByteArray(_) => {
            // A bound that was cut short is no number any more.
            let length = usize::try_from(leaf.type_length()).ok()?;
            let whole = |bytes: Option<&[u8]>| {
                bytes
                    .filter(|bytes| bytes.len() == length)
                    .and_then(|bytes| Scalar::of_bytes(leaf, bytes))
            };
            (whole(statistics.min_bytes_opt()), whole(statistics.max_bytes_opt()))
        }
        Statistics::Boolean(_) | Statistics::Int96(_) => (None, None),
    };
    Some(both)
}

/// Writers leave NaN out of their bounds, and Spark holds it for greater than every number: a
/// maximum is one only where it is known that there is no NaN.
fn floating(
    min: Option<f64>,
    max: Option<f64>,
    nans: Option<u64>,
) -> (Option<Scalar>, Option<Scalar>) {
    let number = |value: Option<f64>| value.filter(|value| !value.is_nan()).map(Scalar::Floating);
    (number(min), if nans == Some(0) { number(max) } else { None })
}

#[cfg(test)]
mod tests;
