//! What is known of one leaf's values over all row groups: from the footer, else by decoding.
//!
//! Never guessed: a bound that isn't given, or whose order can't be trusted, is unknown.

use std::cmp::Ordering;
use std::fs::File;

use parquet::basic::{ColumnOrder, SortOrder, Type as Physical};
use parquet::file::metadata::{ColumnChunkMetaData, KeyValue};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescriptor;

use crate::error::Result;
use crate::log::footer::Footer;
use crate::log::scalar::Scalar;
use crate::log::schema::Primitive;

/// What is known of one leaf.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Range {
    pub nulls: Option<u64>,
    pub min: Option<Scalar>,
    pub max: Option<Scalar>,
    /// Whether no more can be had: decoding would bring no other bounds.
    is_settled: bool,
}

impl Range {
    /// A column that is null in that many rows, of which no more is said.
    pub fn of_nulls(nulls: Option<u64>) -> Range {
        Range { nulls, is_settled: true, ..Range::default() }
    }

    /// What the footer tells.
    pub fn of(footer: &Footer, column: usize, primitive: &Primitive) -> Range {
        let metadata = footer.metadata();
        let descriptor = footer.leaf(column);
        let chunks: Vec<&ColumnChunkMetaData> = chunks(footer, column).collect();
        let nulls = chunks
            .iter()
            .map(|chunk| match descriptor.max_def_level() {
                0 => Some(0),
                _ => nulls_of(chunk),
            })
            .sum();
        if !has_bounds(primitive) || is_rebased(footer, descriptor, primitive) {
            return Range::of_nulls(nulls);
        }
        let order = metadata.file_metadata().column_order(column);
        let mut range = Range { nulls, ..Range::default() };
        let mut is_first = true;
        for chunk in chunks.into_iter().filter(|chunk| !is_all_null(chunk)) {
            let (min, max) = bounds(chunk, descriptor, order).unwrap_or_default();
            range.min = outer(range.min.take(), min, is_first, Ordering::Less);
            range.max = outer(range.max.take(), max, is_first, Ordering::Greater);
            range.is_settled |= chunk.statistics().is_some_and(has_nan) && range.min.is_some();
            is_first = false;
        }
        if let (Some(min), Some(max)) = (&range.min, &range.max)
            && min.compare(max).is_none_or(Ordering::is_gt)
        {
            // Whoever wrote such bounds, they aren't.
            (range.min, range.max) = (None, None);
        }
        range
    }

    /// Decodes all values. Errors: [`Error::Refused`](crate::error::Error::Refused) where they
    /// can't be.
    pub fn decode(footer: &Footer, file: &File, column: usize) -> Result<Range> {
        let full = footer.leaf(column).max_def_level();
        let (mut min, mut max): (Option<Scalar>, Option<Scalar>) = (None, None);
        let (mut nulls, mut is_unknown, mut has_nan) = (0, false, false);
        footer.scan(file, column, |level, value| {
            match value {
                None if level < full => nulls += 1,
                None => is_unknown = true,
                Some(Scalar::Floating(value)) if value.is_nan() => has_nan = true,
                Some(value) => {
                    let is_beyond = |bound: &Option<Scalar>, order| {
                        bound.as_ref().is_none_or(|bound| value.compare(bound) == Some(order))
                    };
                    if is_beyond(&min, Ordering::Less) {
                        min = Some(value.clone());
                    }
                    if is_beyond(&max, Ordering::Greater) {
                        max = Some(value);
                    }
                }
            }
            true
        })?;
        // Spark holds NaN for greater than every number.
        let max = max.filter(|_| !is_unknown && !has_nan);
        let min = min.filter(|_| !is_unknown);
        Ok(Range { nulls: Some(nulls), min, max, is_settled: true })
    }

    /// What the footer told, with what the values tell. Bounds that readers would not read as they
    /// are stay unknown.
    pub fn with(self, decoded: Range) -> Range {
        if self.is_settled { Range { nulls: decoded.nulls, ..self } } else { decoded }
    }

    /// Whether decoding would tell more.
    pub fn lacks(&self, rows: i64) -> bool {
        let is_all_null = self.nulls.is_some_and(|nulls| i64::try_from(nulls) == Ok(rows));
        let is_bounded = self.is_settled || (self.min.is_some() && self.max.is_some());
        self.nulls.is_none() || !(is_all_null || is_bounded)
    }
}

/// In how many rows a list, a map or a variant is null, as its leaf's footer has it.
pub(super) fn whole_nulls(footer: &Footer, column: usize, level: i16) -> Option<u64> {
    if level == 0 {
        return Some(0);
    }
    let descriptor = footer.leaf(column);
    let is_leafs_own = descriptor.max_rep_level() == 0 && descriptor.max_def_level() == level;
    chunks(footer, column)
        .map(|chunk| match chunk.definition_level_histogram() {
            _ if is_leafs_own => nulls_of(chunk),
            None => None,
            Some(histogram) => {
                // A histogram that isn't of all values tells nothing.
                let values = histogram.values();
                let is_whole = values.iter().sum::<i64>() == chunk.num_values();
                let below = values.get(..usize::try_from(level).ok()?).filter(|_| is_whole)?;
                u64::try_from(below.iter().sum::<i64>()).ok()
            }
        })
        .sum()
}

/// As [`whole_nulls`], by decoding.
pub(super) fn decode_whole_nulls(
    footer: &Footer,
    file: &File,
    column: usize,
    level: i16,
) -> Result<u64> {
    let mut nulls = 0;
    footer.scan(file, column, |found, _| {
        nulls += u64::from(found < level);
        true
    })?;
    Ok(nulls)
}

/// The chunks of one leaf, without those of empty row groups.
fn chunks(footer: &Footer, column: usize) -> impl Iterator<Item = &ColumnChunkMetaData> {
    let groups = footer.metadata().row_groups().iter();
    groups.filter(|group| group.num_rows() > 0).map(move |group| group.column(column))
}

/// The reference has no bounds of booleans and binaries.
fn has_bounds(primitive: &Primitive) -> bool {
    !matches!(
        primitive,
        Primitive::Boolean
            | Primitive::Binary
            | Primitive::Variant
            | Primitive::Void
            | Primitive::Other(_)
    )
}

/// Whether readers move the values to another calendar: Spark 2 wrote the old one and later ones
/// may, and mark their files.
fn is_rebased(footer: &Footer, leaf: &ColumnDescriptor, primitive: &Primitive) -> bool {
    const VERSION: &str = "org.apache.spark.version";
    if !matches!(primitive, Primitive::Date | Primitive::Timestamp | Primitive::TimestampNtz) {
        return false;
    }
    // As Spark reads its own mark: versions are compared as text.
    let (first_new, mark) = match leaf.physical_type() {
        Physical::INT96 => ("3.1.0", "org.apache.spark.legacyINT96"),
        _ => ("3.0.0", "org.apache.spark.legacyDateTime"),
    };
    let is_old = |pair: &KeyValue| {
        pair.key == VERSION && pair.value.as_deref().is_some_and(|version| version < first_new)
    };
    let pairs = footer.metadata().file_metadata().key_value_metadata();
    pairs.is_some_and(|pairs| pairs.iter().any(|pair| pair.key == mark || is_old(pair)))
}

fn has_nan(statistics: &Statistics) -> bool {
    statistics.nan_count_opt().is_some_and(|nans| nans > 0)
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

/// The nulls that a chunk says it has, where it has room for them.
fn nulls_of(chunk: &ColumnChunkMetaData) -> Option<u64> {
    let nulls = chunk.statistics().and_then(Statistics::null_count_opt)?;
    i64::try_from(nulls).is_ok_and(|nulls| nulls <= chunk.num_values()).then_some(nulls)
}

fn is_all_null(chunk: &ColumnChunkMetaData) -> bool {
    let nulls = nulls_of(chunk);
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
