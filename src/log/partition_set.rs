//! Partitions of a table, compared by value: two writers spell a timestamp, or no value, each in
//! his own way, and mean one partition.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};
use crate::log::action::{Metadata, PartitionValues, Protocol};
use crate::log::partition::comparable;
use crate::log::schema::{DataType, Mapping, Primitive, Schema};

/// A set of partitions, each given by values of some partition columns, mostly of all. By physical
/// names, as the log has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionSet {
    types: BTreeMap<String, Primitive>,
    /// By the columns that they name.
    wanted: BTreeMap<Vec<String>, BTreeSet<Vec<Option<String>>>>,
}

impl PartitionSet {
    /// An empty set for a table. Errors: [`Error::Damaged`] where the schema lacks a partition
    /// column, or can't be read.
    pub fn of_table(protocol: &Protocol, metadata: &Metadata) -> Result<PartitionSet> {
        let mapping = Mapping::of(protocol, metadata)?;
        let schema = Schema::from_json(&metadata.schema_string)?;
        let mut types = BTreeMap::new();
        for name in &metadata.partition_columns {
            let field = schema.field(name).ok_or_else(|| {
                Error::Damaged(format!(
                    "the table's partition column {name:?} is not in its schema"
                ))
            })?;
            if let DataType::Primitive(primitive) = &field.data_type {
                types.insert(field.physical_name(mapping)?.to_owned(), primitive.clone());
            }
        }
        Ok(PartitionSet { types, wanted: BTreeMap::new() })
    }

    /// Adds the partition that has these values; without any, that is the whole table.
    pub fn insert(&mut self, values: &PartitionValues) {
        let columns: Vec<String> = values.keys().cloned().collect();
        let key = self.key(&columns, values);
        self.wanted.entry(columns).or_default().insert(key);
    }

    /// Whether a file with these values is in one of the partitions.
    pub fn holds(&self, values: &PartitionValues) -> bool {
        self.wanted.iter().any(|(columns, wanted)| wanted.contains(&self.key(columns, values)))
    }

    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    fn key(&self, columns: &[String], values: &PartitionValues) -> Vec<Option<String>> {
        let of = |column: &String| {
            // The protocol reads an empty string of any type as null, and some writers leave out
            // what is null.
            let value = values.get(column)?.as_deref().filter(|value| !value.is_empty())?;
            Some(match self.types.get(column) {
                Some(primitive) => comparable(value, primitive),
                None => value.to_owned(),
            })
        };
        columns.iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn values(pairs: &[(&str, Option<&str>)]) -> PartitionValues {
        pairs.iter().map(|(name, value)| ((*name).into(), value.map(str::to_owned))).collect()
    }

    fn set(primitive: &str) -> PartitionSet {
        let mapped = json!({"delta.columnMapping.physicalName": "p", "delta.columnMapping.id": 1});
        let field = json!({"name": "shown", "type": primitive, "nullable": true,
            "metadata": mapped});
        let schema = json!({"type": "struct", "fields": [field]}).to_string();
        let metadata = serde_json::from_value(json!({"id": "t", "schemaString": schema,
            "partitionColumns": ["shown"],
            "configuration": {"delta.columnMapping.mode": "name"}}));
        let protocol =
            Protocol { min_reader_version: 2, min_writer_version: 5, ..Protocol::default() };
        PartitionSet::of_table(&protocol, &metadata.unwrap()).unwrap()
    }

    #[test]
    fn one_value_in_two_spellings_is_one_partition() {
        for (primitive, one, other, is_same) in [
            ("string", "a", "a", true),
            ("string", "1", "01", false),
            ("string", "a", "A", false),
            ("integer", "1", "01", true),
            ("date", "2026-11-01", "2026-11-02", false),
            ("timestamp", "2026-11-01 00:00:00", "2026-11-01T00:00:00.000000Z", true),
            ("timestamp", "2026-11-01T02:00:00+02:00", "2026-11-01T00:00:00.000000Z", true),
            ("timestamp", "2026-11-01 00:00:00", "2026-11-01 00:00:01", false),
            ("timestamp_ntz", "2026-11-01 00:00:00.5", "2026-11-01T00:00:00.500000", true),
            // A column that was made wider keeps its old files' values.
            ("timestamp_ntz", "2026-11-01", "2026-11-01 00:00:00", true),
            ("double", "1", "1.0", true),
            ("double", "-0.0", "0", true),
            ("double", "NaN", "NaN", true),
            ("float", "0.1", "0.10000000149011612", true),
            ("double", "0.1", "0.10000000149011612", false),
            ("decimal(5,2)", "1.5", "1.50", true),
            ("boolean", "TRUE", "true", true),
            ("date", "no date", "no date", true),
        ] {
            let mut set = set(primitive);
            set.insert(&values(&[("p", Some(one))]));
            let held = set.holds(&values(&[("p", Some(other))]));
            assert_eq!(held, is_same, "{primitive} {one} {other}");
            assert!(!set.holds(&values(&[("p", None)])), "{primitive} {one} null");
        }
    }

    #[test]
    fn null_is_a_partition_however_it_is_said() {
        let said = [values(&[("p", None)]), values(&[("p", Some(""))])];
        for one in &said {
            let mut set = set("string");
            set.insert(one);
            assert!(said.iter().all(|other| set.holds(other)) && set.holds(&values(&[])));
            assert!(!set.holds(&values(&[("p", Some("a"))])));
        }
    }

    #[test]
    fn a_partition_may_be_given_by_some_of_its_columns() {
        let mut set = PartitionSet::default();
        assert!(set.is_empty() && !set.holds(&values(&[])));
        set.insert(&values(&[("p", Some("1"))]));
        set.insert(&values(&[("p", Some("2")), ("q", Some("x"))]));
        for (p, q, is_held) in [("1", "y", true), ("2", "x", true), ("2", "y", false)] {
            assert_eq!(set.holds(&values(&[("p", Some(p)), ("q", Some(q))])), is_held, "{p} {q}");
        }
        set.insert(&PartitionValues::new());
        assert!(set.holds(&values(&[])));
    }
}
