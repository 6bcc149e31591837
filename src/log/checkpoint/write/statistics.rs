//! `add.stats_parsed` and `add.partitionValues_parsed`: the texts of adds as typed structs.
//!
//! Columns go by their physical names. The struct of statistics has those columns of the table that
//! any add has statistics of, whatever the table asks for today: so nothing gets lost where the
//! struct is all that a checkpoint has. A bound that isn't one value of its column's type is left
//! null, which says that nothing is known. Left out for good are bounds of binaries and variants,
//! and statistics of columns that the table has no more.
//!
//! A partition value has no such way out: null is a value there, by which readers skip files. Where
//! one value isn't sure (a timestamp without a zone, say) the whole struct is left out.

use std::borrow::{Borrow, Cow};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType as ArrowType, Field as ArrowField, Fields};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::typed::{self, Value};
use crate::error::Result;
use crate::log::action::{Add, Metadata};
use crate::log::schema::{DataType, Field, Mapping, Primitive, Schema};

/// The columns of `stats_parsed`.
#[derive(Debug)]
pub struct StatisticsColumns {
    bounds: Columns,
    null_counts: Columns,
}

/// Columns of one level of nesting.
#[derive(Debug, Default)]
struct Columns {
    columns: Vec<Column>,
    by_name: HashMap<String, usize>,
}

#[derive(Debug)]
struct Column {
    name: String,
    kind: Kind,
    /// Whether any add has a statistic of it.
    is_present: bool,
}

#[derive(Debug)]
enum Kind {
    Leaf(Primitive),
    Struct(Columns),
}

impl StatisticsColumns {
    /// The columns of a table's schema that the adds have statistics of.
    pub fn of<'a>(
        schema: &Schema,
        mapping: Mapping,
        adds: impl Iterator<Item = &'a Add>,
    ) -> Result<StatisticsColumns> {
        let bounds = |data_type: &DataType| match data_type {
            DataType::Primitive(Primitive::Binary) => None,
            DataType::Primitive(primitive) => {
                typed::arrow_type(primitive).map(|_| primitive.clone())
            }
            DataType::Struct(_) | DataType::Array { .. } | DataType::Map { .. } => None,
        };
        let mut bounds = Columns::of(schema, mapping, &bounds)?;
        let mut null_counts = Columns::of(schema, mapping, &|_| Some(Primitive::Long))?;
        for stats in adds.filter_map(|add| add.stats.as_deref()) {
            let Some(whole) = object(stats) else { continue };
            for name in ["minValues", "maxValues"] {
                bounds.mark(whole.get(name));
            }
            null_counts.mark(whole.get("nullCount"));
        }
        bounds.prune();
        null_counts.prune();
        Ok(StatisticsColumns { bounds, null_counts })
    }

    /// The fields of `stats_parsed`.
    pub fn fields(&self) -> Fields {
        let mut fields = vec![ArrowField::new("numRecords", ArrowType::Int64, true)];
        // Parquet has no struct without fields.
        let mut group = |name: &str, columns: &Columns| {
            if !columns.columns.is_empty() {
                fields.push(ArrowField::new(name, ArrowType::Struct(columns.fields()), true));
            }
        };
        group("minValues", &self.bounds);
        group("maxValues", &self.bounds);
        group("nullCount", &self.null_counts);
        fields.push(ArrowField::new("tightBounds", ArrowType::Boolean, true));
        fields.into()
    }

    /// The column `stats_parsed` of some adds; null where one has no statistics.
    pub fn rows(&self, adds: &[&Add]) -> ArrayRef {
        let wholes: Vec<Option<Object<'_>>> =
            adds.iter().map(|add| add.stats.as_deref().and_then(object)).collect();
        let part = |name: &str| -> Vec<Option<&RawValue>> {
            wholes.iter().map(|whole| whole.as_ref()?.get(name).copied()).collect()
        };
        let records = part("numRecords").into_iter().map(|raw| raw?.get().parse::<i64>().ok());
        let mut columns: Vec<ArrayRef> = vec![Arc::new(records.collect::<Int64Array>())];
        for (name, group) in [
            ("minValues", &self.bounds),
            ("maxValues", &self.bounds),
            ("nullCount", &self.null_counts),
        ] {
            if !group.columns.is_empty() {
                columns.push(Arc::new(group.rows(&part(name))));
            }
        }
        let tight = part("tightBounds").into_iter().map(|raw| match raw?.get() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        });
        columns.push(Arc::new(tight.collect::<BooleanArray>()));
        let valid: NullBuffer = wholes.iter().map(Option::is_some).collect();
        Arc::new(StructArray::new(self.fields(), columns, Some(valid)))
    }
}

impl Columns {
    /// A schema's columns, each leaf as what `leaf` makes of its type; those of `None` are left
    /// out.
    fn of(
        schema: &Schema,
        mapping: Mapping,
        leaf: &impl Fn(&DataType) -> Option<Primitive>,
    ) -> Result<Columns> {
        let mut all = Columns::default();
        for field in &schema.fields {
            let kind = match &field.data_type {
                DataType::Struct(schema) => Kind::Struct(Columns::of(schema, mapping, leaf)?),
                data_type => match leaf(data_type) {
                    Some(primitive) => Kind::Leaf(primitive),
                    None => continue,
                },
            };
            let name = field.physical_name(mapping)?.to_owned();
            all.by_name.insert(name.clone(), all.columns.len());
            all.columns.push(Column { name, kind, is_present: false });
        }
        Ok(all)
    }

    /// Notes the columns that an object of values by name has.
    fn mark(&mut self, values: Option<&&RawValue>) {
        // By the object's names: it has a few, and a table may have thousands of columns.
        for (name, value) in values.and_then(|raw| object(raw.get())).unwrap_or_default() {
            let Some(at) = self.by_name.get(name.0.as_ref()) else { continue };
            let column = &mut self.columns[*at];
            match &mut column.kind {
                Kind::Leaf(_) => column.is_present |= value.get() != "null",
                Kind::Struct(columns) => {
                    columns.mark(Some(&value));
                    column.is_present = columns.columns.iter().any(|column| column.is_present);
                }
            }
        }
    }

    /// Drops the columns that nothing was noted of.
    fn prune(&mut self) {
        self.columns.retain(|column| column.is_present);
        for column in &mut self.columns {
            if let Kind::Struct(columns) = &mut column.kind {
                columns.prune();
            }
        }
        self.by_name.clear();
    }

    fn fields(&self) -> Fields {
        let field = |column: &Column| {
            let data_type = match &column.kind {
                Kind::Leaf(primitive) => typed::arrow_type(primitive)?,
                Kind::Struct(columns) => ArrowType::Struct(columns.fields()),
            };
            Some(ArrowField::new(&column.name, data_type, true))
        };
        self.columns.iter().filter_map(field).collect()
    }

    /// The values of each row by column.
    fn rows(&self, values: &[Option<&RawValue>]) -> StructArray {
        let objects: Vec<Option<Object<'_>>> =
            values.iter().map(|value| object((*value)?.get())).collect();
        let column = |column: &Column| -> Option<ArrayRef> {
            let values: Vec<Option<&RawValue>> = objects
                .iter()
                .map(|object| object.as_ref()?.get(column.name.as_str()).copied())
                .collect();
            match &column.kind {
                Kind::Leaf(primitive) => {
                    let values = values.iter().map(|value| bound((*value)?.get(), primitive));
                    typed::column(&values.collect::<Vec<_>>(), primitive)
                }
                Kind::Struct(columns) => Some(Arc::new(columns.rows(&values))),
            }
        };
        let columns = self.columns.iter().filter_map(column).collect();
        let valid: NullBuffer = objects.iter().map(Option::is_some).collect();
        StructArray::new(self.fields(), columns, Some(valid))
    }
}

/// Reads one JSON value as a statistic. Decimals and names of numbers may come quoted; a string
/// column's bound always does.
fn bound(json: &str, primitive: &Primitive) -> Option<Value> {
    if json.starts_with('"') {
        let text: Cow<'_, str> = serde_json::from_str(json).ok()?;
        return typed::parse(&text, primitive);
    }
    let is_bare = matches!(json.as_bytes().first(), Some(b'-' | b'0'..=b'9' | b't' | b'f'));
    (is_bare && *primitive != Primitive::String).then(|| typed::parse(json, primitive)).flatten()
}

/// An object's values as they are written, by name.
type Object<'a> = BTreeMap<Name<'a>, &'a RawValue>;

/// A name within JSON, borrowed where it has no escapes.
#[derive(Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl Borrow<str> for Name<'_> {
    fn borrow(&self) -> &str {
        &self.0
    }
}

fn object(json: &str) -> Option<Object<'_>> {
    serde_json::from_str(json).ok()
}

/// The columns of `partitionValues_parsed`.
#[derive(Debug)]
pub struct PartitionColumns(Vec<(String, Primitive)>);

impl PartitionColumns {
    /// A table's partition columns; `None` where it has none, or where one add has a value that
    /// isn't sure.
    pub fn of<'a>(
        metadata: &Metadata,
        schema: &Schema,
        mapping: Mapping,
        mut adds: impl Iterator<Item = &'a Add>,
    ) -> Result<Option<PartitionColumns>> {
        let mut columns = Vec::new();
        for name in &metadata.partition_columns {
            let Some(Field { data_type: DataType::Primitive(primitive), .. }) = schema.field(name)
            else {
                return Ok(None);
            };
            if typed::arrow_type(primitive).is_none() {
                return Ok(None);
            }
            let field = schema.field(name).map(|field| field.physical_name(mapping));
            columns.push((field.transpose()?.unwrap_or(name).to_owned(), primitive.clone()));
        }
        let columns = PartitionColumns(columns);
        let is_sure = |add: &Add| {
            columns.0.iter().all(|(name, primitive)| {
                text_of(add, name).is_none_or(|text| typed::parse(text, primitive).is_some())
            })
        };
        Ok((!columns.0.is_empty() && adds.all(is_sure)).then_some(columns))
    }

    /// The fields of `partitionValues_parsed`.
    pub fn fields(&self) -> Fields {
        let field = |(name, primitive): &(String, Primitive)| {
            Some(ArrowField::new(name, typed::arrow_type(primitive)?, true))
        };
        self.0.iter().filter_map(field).collect()
    }

    /// The column `partitionValues_parsed` of some adds.
    pub fn rows(&self, adds: &[&Add]) -> ArrayRef {
        let column = |(name, primitive): &(String, Primitive)| {
            let value = |add: &&Add| typed::parse(text_of(add, name)?, primitive);
            typed::column(&adds.iter().map(value).collect::<Vec<_>>(), primitive)
        };
        let columns = self.0.iter().filter_map(column).collect();
        Arc::new(StructArray::new(self.fields(), columns, None))
    }
}

/// An add's value of a partition column; an empty one is null, whatever its type.
fn text_of<'a>(add: &'a Add, column: &str) -> Option<&'a str> {
    add.partition_values.get(column)?.as_deref().filter(|text| !text.is_empty())
}
