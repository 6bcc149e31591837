//! Whether a Parquet file's columns fit a table, and what a table becomes that takes them.
//!
//! Types must be the same ("Consistency Between Table Metadata and Data Files"), narrower ones only
//! where the schema's record of type changes has them. A missing column reads as null, so it must
//! be nullable. Where the commit asks for it, the schema is merged: extra columns and fields are
//! added at the end of what holds them, types are widened where the table allows it, and void
//! columns take the file's type. All is decided on schemas alone; what only the values can tell is
//! handed back in [`Fit`]. `walk` is the walk down both schemas.

mod walk;

use self::walk::Walk;
use crate::error::{Error, Result};
use crate::log::action::{Metadata, Protocol};
use crate::log::column_ids::{ColumnIds, PastSchemas};
use crate::log::file_schema::FileColumn;
use crate::log::protocol::supports;
use crate::log::schema::{DataType, Field, Mapping, Primitive, Schema};

/// What a table asks of its files' columns.
#[derive(Clone, Debug, PartialEq)]
pub struct TableColumns {
    pub schema: Schema,
    /// Logical names.
    pub partition_columns: Vec<String>,
    pub mapping: Mapping,
    widening: Widening,
    shredding: bool,
    /// Whether partition columns must be in the files too.
    materialized: bool,
    /// Names that the table uses for what is no column, with what that is.
    reserved: Vec<(String, &'static str)>,
    /// For columns that are added; `None`: the table doesn't map columns, or none may be added.
    ids: Option<ColumnIds>,
}

/// Whether a table's types may be widened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Widening {
    Off,
    /// By the preview of the feature, whose records have a field more: files of recorded types fit.
    Preview,
    On,
}

/// A file that fits, and what remains to be looked up in its values.
#[derive(Debug, Default)]
pub struct Fit {
    /// What statistics can tell of, in the table's order.
    pub leaves: Vec<FitLeaf>,
    /// Where the table takes no null and the file's schema allows one.
    pub not_null: Vec<NotNull>,
    /// Partition columns that are in the file as well: logical name, leaf ordinal.
    pub partition_columns: Vec<(String, usize)>,
    /// What the table becomes, where the file changes its schema.
    pub merged: Option<Merged>,
}

/// A schema that a file changed.
#[derive(Debug)]
pub struct Merged {
    schema: Schema,
    ids: Option<ColumnIds>,
}

/// A column of the table, or a field of its structs, that has no fields of its own and is no part
/// of a list, a map or a variant.
#[derive(Clone, Debug, PartialEq)]
pub struct FitLeaf {
    /// Physical names from the root.
    pub path: Vec<String>,
    pub source: LeafSource,
}

/// Where a leaf's values are in the file.
#[derive(Clone, Debug, PartialEq)]
pub enum LeafSource {
    /// The Parquet leaf of that ordinal; values of the table's type.
    Values { column: usize, primitive: Primitive },
    /// A list, map or variant: null where this Parquet leaf's definition level is below `level`.
    Whole { column: usize, level: i16 },
    /// Nowhere: it reads as null.
    Absent,
}

/// A place that must hold no null: no value of that leaf may have that definition level.
#[derive(Clone, Debug, PartialEq)]
pub struct NotNull {
    pub place: String,
    pub column: usize,
    pub level: i16,
}

impl TableColumns {
    /// `past`: the schemas that the table has had, where columns may be added and it maps them.
    /// Errors: [`Error::Damaged`] for a schema that isn't one, [`Error::Unsupported`] for a
    /// mapping mode that nobody knows.
    pub fn of(
        protocol: &Protocol,
        metadata: &Metadata,
        past: Option<&PastSchemas>,
    ) -> Result<TableColumns> {
        let is_on = |property: &str| {
            let value = metadata.configuration.get(property);
            value.is_some_and(|value| value.eq_ignore_ascii_case("true"))
        };
        let schema = Schema::from_json(&metadata.schema_string)?;
        let mapping = Mapping::of(protocol, metadata)?;
        let ids = match past {
            Some(past) if mapping != Mapping::None => Some(ColumnIds::of(metadata, &schema, past)?),
            _ => None,
        };
        let widening = match is_on("delta.enableTypeWidening") {
            true if supports(protocol, "typeWidening-preview") => Widening::Preview,
            true if supports(protocol, "typeWidening") => Widening::On,
            _ => Widening::Off,
        };
        Ok(TableColumns {
            schema,
            partition_columns: metadata.partition_columns.clone(),
            mapping,
            widening,
            shredding: is_on("delta.enableVariantShredding")
                && ["variantShredding", "variantShredding-preview"]
                    .iter()
                    .any(|feature| supports(protocol, feature)),
            materialized: supports(protocol, "materializePartitionColumns"),
            reserved: reserved(metadata, is_on("delta.enableChangeDataFeed")),
            ids,
        })
    }

    /// The partition column of that directory name: logical, or physical where the table maps.
    pub fn partition_field(&self, directory: &str) -> Option<&Field> {
        let is_partition = |field: &&Field| self.partition_columns.contains(&field.name);
        let mut fields = self.schema.fields.iter().filter(is_partition);
        fields.clone().find(|field| field.name == directory).or_else(|| {
            fields.find(|field| field.physical_name(self.mapping).is_ok_and(|p| p == directory))
        })
    }

    /// Fits a file's columns to the table. `merge`: the schema may change, and what it becomes by
    /// all files has to fit each of them in turn. Errors: [`Error::Refused`] naming `path` and the
    /// column.
    pub fn fit(&self, columns: &[FileColumn], merge: bool, path: &str) -> Result<Fit> {
        let refuse = |why: String| Error::Refused(format!("{path}: {why}"));
        let mut walk = Walk::new(self, merge);
        let schema = walk.top(columns).map_err(refuse)?;
        if !merge {
            check_writable(&schema).map_err(refuse)?;
        }
        Ok(walk.finish(schema))
    }

    /// Becomes what a file made of it; `metadata` says so.
    pub fn merge(&mut self, merged: Merged, metadata: &mut Metadata) {
        metadata.schema_string = merged.schema.to_json();
        self.schema = merged.schema;
        if self.ids != merged.ids {
            metadata.configuration.extend(merged.ids.as_ref().map(ColumnIds::property));
            self.ids = merged.ids;
        }
    }
}

/// Names of columns that files may have in them and tables may not.
fn reserved(metadata: &Metadata, has_change_feed: bool) -> Vec<(String, &'static str)> {
    const OF_ROW_TRACKING: [&str; 2] = [
        "delta.rowTracking.materializedRowIdColumnName",
        "delta.rowTracking.materializedRowCommitVersionColumnName",
    ];
    const OF_CHANGE_FEED: [&str; 3] = ["_change_type", "_commit_version", "_commit_timestamp"];
    let of_rows = OF_ROW_TRACKING.iter().filter_map(|key| metadata.configuration.get(*key));
    let of_rows = of_rows.map(|name| (name.clone(), "the row ids of other rows"));
    let of_changes = OF_CHANGE_FEED.iter().filter(|_| has_change_feed);
    of_rows.chain(of_changes.map(|name| (name.to_string(), "the change data feed"))).collect()
}

/// The protocol's rules for void columns ("Void Type"), which are rules of the table's schema.
fn check_writable(schema: &Schema) -> std::result::Result<(), String> {
    let is_void = |field: &Field| field.data_type == DataType::Primitive(Primitive::Void);
    let fields = &schema.fields;
    if !fields.is_empty() && fields.iter().all(is_void) {
        return Err("all columns of the table are void: give one another type first".into());
    }
    for field in fields {
        void_inside(&field.data_type, false)
            .map_err(|why| format!("column {:?} of the table {why}", field.name))?;
    }
    Ok(())
}

/// Finds the shapes with void that no writer may write beside.
fn void_inside(data_type: &DataType, in_collection: bool) -> std::result::Result<(), String> {
    match data_type {
        DataType::Primitive(Primitive::Void) if in_collection => {
            Err("has void inside an array or a map, which no file can hold".into())
        }
        DataType::Primitive(_) => Ok(()),
        DataType::Struct(schema) => {
            let is_void = |f: &Field| f.data_type == DataType::Primitive(Primitive::Void);
            if !schema.fields.is_empty() && schema.fields.iter().all(is_void) {
                return Err("has a struct of nothing but void, which no file can hold".into());
            }
            schema.fields.iter().try_for_each(|f| void_inside(&f.data_type, in_collection))
        }
        DataType::Array { element, .. } => void_inside(element, true),
        DataType::Map { key, value, .. } => {
            void_inside(key, true)?;
            void_inside(value, true)
        }
    }
}

#[cfg(test)]
mod merge_tests;
#[cfg(test)]
mod tests;
