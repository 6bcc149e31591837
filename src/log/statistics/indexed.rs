//! Which columns of a table have statistics, and how long their strings may be.
//!
//! Follows the table properties of the reference: `delta.dataSkippingStatsColumns`, else
//! `delta.dataSkippingNumIndexedCols`, and `delta.dataSkippingStringPrefixLength`.

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::log::action::Metadata;
use crate::log::fit::TableColumns;
use crate::log::scalar::STRING_CHARS_MAX;
use crate::log::schema::{DataType, Field, Mapping};

const STATS_COLUMNS: &str = "delta.dataSkippingStatsColumns";
const INDEXED_COLUMNS: &str = "delta.dataSkippingNumIndexedCols";
const STRING_CHARS: &str = "delta.dataSkippingStringPrefixLength";
/// How many leaf columns have statistics where the table doesn't say.
const INDEXED_COLUMNS_UNSAID: usize = 32;

/// The columns that statistics are kept of.
#[derive(Debug)]
pub struct Indexed {
    /// Physical paths of leaves; true for those that must have statistics.
    leaves: HashMap<Vec<String>, bool>,
    /// Longest string, in characters, before its tie-breaker.
    pub(super) string_chars: usize,
}

impl Indexed {
    /// Follows the table's properties, else the first 32 leaves. Partition columns are no leaves,
    /// a list, a map or a variant is one. Clustering columns (physical paths) must have statistics
    /// ("Writer Requirements for Clustered Table"). Errors: [`Error::Damaged`] for a property that
    /// can't be read.
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
        let chosen: Vec<Vec<String>> = match metadata.configuration.get(STATS_COLUMNS) {
            Some(text) => {
                let lower =
                    |path: Vec<String>| path.iter().map(|part| part.to_lowercase()).collect();
                let wanted: Vec<Vec<String>> =
                    parse_columns(text)?.into_iter().map(lower).collect();
                let is_wanted =
                    |logical: &[String]| wanted.iter().any(|column| logical.starts_with(column));
                leaves.into_iter().filter(|leaf| is_wanted(&leaf.0)).map(|leaf| leaf.1).collect()
            }
            None => {
                let count = match number(metadata, INDEXED_COLUMNS)? {
                    None => INDEXED_COLUMNS_UNSAID,
                    Some(-1) => usize::MAX,
                    Some(count) => count_of(count, INDEXED_COLUMNS)?,
                };
                leaves.into_iter().take(count).map(|leaf| leaf.1).collect()
            }
        };
        let string_chars = match number(metadata, STRING_CHARS)? {
            None => STRING_CHARS_MAX,
            Some(chars) => count_of(chars, STRING_CHARS)?,
        };
        let chosen = chosen.into_iter().map(|path| (path, false));
        let clustering = clustering.iter().map(|path| (path.clone(), true));
        Ok(Indexed { leaves: chosen.chain(clustering).collect(), string_chars })
    }

    /// Whether the leaf's statistics are required; `None`: it has none.
    pub(super) fn is_required(&self, path: &[String]) -> Option<bool> {
        self.leaves.get(path).copied()
    }
}

fn number(metadata: &Metadata, property: &str) -> Result<Option<i64>> {
    let parse = |text: &String| {
        text.parse()
            .map_err(|_| Error::Damaged(format!("the property {property} is no number: {text:?}")))
    };
    metadata.configuration.get(property).map(parse).transpose()
}

fn count_of(number: i64, property: &str) -> Result<usize> {
    usize::try_from(number)
        .map_err(|_| Error::Damaged(format!("the property {property} can't be {number}")))
}

/// A leaf by its logical path in lower case, as the property has no case, and its physical path.
type Leaf = (Vec<String>, Vec<String>);

fn collect_leaves(
    field: &Field,
    mapping: Mapping,
    above: &Leaf,
    leaves: &mut Vec<Leaf>,
) -> Result<()> {
    let mut path = above.clone();
    path.0.push(field.name.to_lowercase());
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
/// around a part that has any of these, or a space, in it; two stand for one.
pub fn parse_columns(text: &str) -> Result<Vec<Vec<String>>> {
    let mut columns = vec![vec![Part::default()]];
    let mut chars = text.chars().peekable();
    let mut is_open = false;
    while let Some(char) = chars.next() {
        let column = columns.last_mut().expect("BUG: there is always a last column");
        let part = column.last_mut().expect("BUG: there is always a last part");
        match char {
            '`' if is_open && chars.next_if_eq(&'`').is_some() => part.text.push('`'),
            '`' => {
                is_open = !is_open;
                part.is_quoted = true;
            }
            ',' if !is_open => columns.push(vec![Part::default()]),
            '.' if !is_open => column.push(Part::default()),
            // Spaces around names are nothing's part.
            char if !is_open && char.is_whitespace() => {}
            char => part.text.push(char),
        }
    }
    if is_open {
        return Err(Error::Damaged(format!(
            "the property {STATS_COLUMNS} has an open backtick: {text:?}"
        )));
    }
    columns.retain(|column| column.iter().any(|part| part.is_quoted || !part.text.is_empty()));
    let names = |column: Vec<Part>| column.into_iter().map(|part| part.text).collect();
    Ok(columns.into_iter().map(names).collect())
}

#[derive(Default)]
struct Part {
    text: String,
    is_quoted: bool,
}
