//! The statistics of a data file, as the log's `add` carries them.
//!
//! Follows the protocol's "Per-file Statistics". They are taken from the Parquet footer, and where
//! that doesn't tell, from the values, as far as a budget goes. A wrong bound makes engines skip
//! rows that are there; a missing one costs only time. So none is ever guessed: bounds are rounded
//! outward, and a maximum of floating-point numbers is one only where it is known that there is no
//! NaN. `indexed` says which columns have statistics, `range` finds what is known of one.

mod indexed;
mod range;
mod tree;

use std::fs::File;

pub use self::indexed::{Indexed, parse_columns};
use self::range::{Range, decode_whole_nulls, whole_nulls};
use self::tree::{Tree, Whole};
use crate::error::Result;
use crate::log::fit::{FitLeaf, LeafSource};
use crate::log::footer::Footer;
use crate::log::scalar::Bound;

/// How much is decoded for one commit, in bytes: a commit is not to be kept waiting for bounds.
const DECODED_BYTES_MAX: u64 = 128 << 20;
/// What a value costs beside its bytes: a run of equal values has next to none.
const VALUE_COST: u64 = 4;

/// What a table asks of statistics.
#[derive(Debug)]
pub struct Asked {
    pub indexed: Indexed,
    /// The table may have deletion vectors, so it must be said that these bounds are exact.
    pub tight_bounds: bool,
}

/// How much may still be decoded for a commit's statistics.
#[derive(Debug)]
pub struct Budget {
    bytes_left: u64,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { bytes_left: DECODED_BYTES_MAX }
    }
}

impl Budget {
    /// Takes what decoding a leaf costs; false: there isn't that much.
    fn take(&mut self, footer: &Footer, column: usize) -> bool {
        let cost = footer.metadata().row_groups().iter().map(|group| {
            let chunk = group.column(column);
            let bytes = u64::try_from(chunk.uncompressed_size()).ok()?;
            let values = u64::try_from(chunk.num_values()).ok()?;
            bytes.checked_add(values.checked_mul(VALUE_COST)?)
        });
        let cost = cost.sum::<Option<u64>>().and_then(|cost| self.bytes_left.checked_sub(cost));
        self.bytes_left = cost.unwrap_or(self.bytes_left);
        cost.is_some()
    }
}

/// The statistics of a file that fits a table. `open`: opens it for decoding. Errors: those of
/// `open`; [`Error::Refused`](crate::error::Error::Refused) for values that a clustering column
/// must have bounds of, and that can't be decoded.
pub fn statistics(
    footer: &Footer,
    open: &dyn Fn() -> Result<File>,
    leaves: &[FitLeaf],
    asked: &Asked,
    budget: &mut Budget,
) -> Result<String> {
    let mut whole = Whole {
        num_records: footer.rows(),
        min_values: Tree::default(),
        max_values: Tree::default(),
        null_count: Tree::default(),
        tight_bounds: asked.tight_bounds.then_some(true),
    };
    let mut values = Values { footer, open, file: None, budget };
    let string_chars = asked.indexed.string_chars;
    for leaf in leaves {
        let Some(is_required) = asked.indexed.is_required(&leaf.path) else { continue };
        let range = values.range(leaf, is_required)?;
        if let LeafSource::Values { primitive, .. } = &leaf.source {
            let min =
                range.min.and_then(|min| min.to_statistic(primitive, Bound::Min, string_chars));
            let max =
                range.max.and_then(|max| max.to_statistic(primitive, Bound::Max, string_chars));
            whole.min_values.put(&leaf.path, min);
            whole.max_values.put(&leaf.path, max);
        }
        whole.null_count.put(&leaf.path, range.nulls.map(|nulls| nulls.to_string()));
    }
    Ok(serde_json::to_string(&whole).expect("BUG: statistics have only string keys"))
}

/// A file's values, for what its footer doesn't tell.
struct Values<'a> {
    footer: &'a Footer,
    open: &'a dyn Fn() -> Result<File>,
    /// Opened when it is first needed.
    file: Option<File>,
    budget: &'a mut Budget,
}

impl Values<'_> {
    fn range(&mut self, leaf: &FitLeaf, is_required: bool) -> Result<Range> {
        let footer = self.footer;
        match &leaf.source {
            LeafSource::Absent => Ok(Range::of_nulls(u64::try_from(footer.rows()).ok())),
            LeafSource::Whole { column, level } => {
                let nulls = match whole_nulls(footer, *column, *level) {
                    None => self.decode(*column, false, |file| {
                        decode_whole_nulls(footer, file, *column, *level)
                    })?,
                    known => known,
                };
                Ok(Range::of_nulls(nulls))
            }
            LeafSource::Values { column, primitive } => {
                let known = Range::of(footer, *column, primitive);
                if !known.lacks(footer.rows()) {
                    return Ok(known);
                }
                let decode = |file: &File| Range::decode(footer, file, *column);
                let decoded = self.decode(*column, is_required, decode)?;
                Ok(match decoded {
                    Some(decoded) => known.with(decoded),
                    None => known,
                })
            }
        }
    }

    /// Decodes a leaf, if that may be paid for or must be done.
    fn decode<T>(
        &mut self,
        column: usize,
        is_required: bool,
        decode: impl FnOnce(&File) -> Result<T>,
    ) -> Result<Option<T>> {
        if !is_required && !self.budget.take(self.footer, column) {
            return Ok(None);
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert((self.open)()?),
        };
        match decode(file) {
            Ok(decoded) => Ok(Some(decoded)),
            Err(error) if is_required => Err(error),
            // A codec that we lack is no reason to refuse the file.
            Err(_) => Ok(None),
        }
    }
}

#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod tests;
