//! Whether a Parquet file's columns fit a table, and what a table becomes that takes them.
//!
//! Types must be the same ("Consistency Between Table Metadata and Data Files"), narrower ones only
//! where type widening is enabled. A missing column reads as null, so it must be nullable. Extra
//! columns are refused, or merged into the schema where the commit asks for it. All is decided on
//! schemas alone; what only the values can tell is handed back in [`Fit`].

use serde_json::Value;

use crate::error::{Error, Result};
use crate::log::action::{Metadata, Protocol};
use crate::log::file_schema::{FileColumn, FileType, Stored, foreign, to_schema};
use crate::log::protocol::supports;
use crate::log::schema::{DataType, Field, Mapping, Primitive, Schema};

/// What a table asks of its files' columns.
#[derive(Clone, Debug, PartialEq)]
pub struct TableColumns {
    pub schema: Schema,
    /// Logical names.
    pub partition_columns: Vec<String>,
    pub mapping: Mapping,
    widening: bool,
    shredding: bool,
    /// Whether partition columns must be in the files too.
    materialized: bool,
}

/// A file that fits, and what remains to be looked up in its values.
#[derive(Debug, Default)]
pub struct Fit {
    /// The leaves that statistics can tell of, in the table's order.
    pub leaves: Vec<FitLeaf>,
    /// Where the table takes no null and the file's schema allows one.
    pub not_null: Vec<NotNull>,
    /// Partition columns that are in the file as well: logical name, leaf ordinal.
    pub partition_columns: Vec<(String, usize)>,
    /// The table's schema with the file's extra columns, where there are any.
    pub merged: Option<Schema>,
}

/// A leaf of the file that is no part of a list, a map or a variant.
#[derive(Clone, Debug, PartialEq)]
pub struct FitLeaf {
    /// Physical names from the root.
    pub path: Vec<String>,
    /// Ordinal in the file.
    pub column: usize,
    /// The table's type.
    pub primitive: Primitive,
}

/// A place that must hold no null: no value of that leaf may have that definition level.
#[derive(Clone, Debug, PartialEq)]
pub struct NotNull {
    pub place: String,
    pub column: usize,
    pub level: i16,
}

impl TableColumns {
    /// Errors: [`Error::Damaged`] for a schema that isn't one, [`Error::Unsupported`] for a
    /// mapping mode that nobody knows.
    pub fn of(protocol: &Protocol, metadata: &Metadata) -> Result<TableColumns> {
        let is_on = |property: &str| {
            metadata.configuration.get(property).is_some_and(|value| value == "true")
        };
        Ok(TableColumns {
            schema: Schema::from_json(&metadata.schema_string)?,
            partition_columns: metadata.partition_columns.clone(),
            mapping: Mapping::of(protocol, metadata)?,
            widening: is_on("delta.enableTypeWidening"),
            shredding: is_on("delta.enableVariantShredding"),
            materialized: supports(protocol, "materializePartitionColumns"),
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

    /// Fits a file's columns to the table. `merge`: extra columns are added, nullable, at the end.
    /// Errors: [`Error::Refused`] naming `path` and the column.
    pub fn fit(&self, columns: &[FileColumn], merge: bool, path: &str) -> Result<Fit> {
        if merge && self.mapping != Mapping::None {
            return Err(Error::Refused(format!(
                "{path}: merge_schema can't be used where the table maps columns; add the column \
                 to the table first"
            )));
        }
        let mut walk = Walk { table: self, merge, fit: Fit::default(), changed: false };
        walk.check_writable().map_err(|why| Error::Refused(format!("{path}: {why}")))?;
        let merged = walk.top(columns).map_err(|why| Error::Refused(format!("{path}: {why}")))?;
        let mut fit = walk.fit;
        fit.merged = walk.changed.then_some(merged);
        Ok(fit)
    }
}

/// A walk down a table's schema beside a file's. Its errors are sentences without the file's name.
struct Walk<'a> {
    table: &'a TableColumns,
    merge: bool,
    fit: Fit,
    changed: bool,
}

type Verdict<T> = std::result::Result<T, String>;

/// Where the walk is.
#[derive(Clone, Default)]
struct Place {
    /// Logical names, for messages.
    shown: String,
    /// Physical names; `None` inside a list or a map, where there are no statistics.
    physical: Option<Vec<String>>,
}

impl Place {
    fn below(&self, shown: &str, physical: Option<&str>) -> Place {
        let dot = if self.shown.is_empty() { "" } else { "." };
        let physical = match (&self.physical, physical) {
            (Some(path), Some(name)) => Some([path.as_slice(), &[name.to_owned()]].concat()),
            _ => None,
        };
        Place { shown: format!("{}{dot}{shown}", self.shown), physical }
    }
}

impl Walk<'_> {
    /// The protocol's rules for void columns ("Void Type"), which are rules of the table's schema.
    fn check_writable(&self) -> Verdict<()> {
        let is_void = |field: &Field| field.data_type == DataType::Primitive(Primitive::Void);
        let fields = &self.table.schema.fields;
        if !fields.is_empty() && fields.iter().all(is_void) {
            return Err("all columns of the table are void: give one another type first".into());
        }
        for field in fields {
            void_inside(&field.data_type, false)
                .map_err(|why| format!("column {:?} of the table {why}", field.name))?;
        }
        Ok(())
    }

    fn top(&mut self, columns: &[FileColumn]) -> Verdict<Schema> {
        let root = Place { shown: String::new(), physical: Some(Vec::new()) };
        let table = self.table;
        let is_partition = |field: &Field| table.partition_columns.contains(&field.name);
        let mut taken = vec![false; columns.len()];
        let mut partitions = Vec::new();
        for field in table.schema.fields.iter().filter(|field| is_partition(field)) {
            match self.find(field, columns)? {
                Some(index) => {
                    taken[index] = true;
                    self.data_type(
                        &field.data_type,
                        &columns[index],
                        &root.below(&field.name, None),
                    )?;
                    partitions.push((field.name.clone(), columns[index].leaves()[0]));
                }
                None if table.materialized => {
                    return Err(format!(
                        "the table wants its partition column {:?} in the files too",
                        field.name
                    ));
                }
                None => {}
            }
        }
        self.fit.partition_columns = partitions;
        let data: Vec<&Field> =
            table.schema.fields.iter().filter(|field| !is_partition(field)).collect();
        let merged = self.fields(&data, columns, taken, &root)?;
        // Partition columns keep their places; what was added comes last.
        let mut merged = merged.into_iter();
        let mut fields = Vec::new();
        for field in &table.schema.fields {
            match is_partition(field) {
                true => fields.push(field.clone()),
                false => fields.extend(merged.next()),
            }
        }
        fields.extend(merged);
        Ok(Schema { fields })
    }

    /// Matches the fields of one struct; returns them with what was added.
    fn fields(
        &mut self,
        fields: &[&Field],
        columns: &[FileColumn],
        mut taken: Vec<bool>,
        place: &Place,
    ) -> Verdict<Vec<Field>> {
        let mut merged = Vec::with_capacity(fields.len());
        for field in fields {
            let physical =
                field.physical_name(self.table.mapping).map_err(|error| error.to_string())?;
            let below = place.below(&field.name, Some(physical));
            let Some(index) = self.find(field, columns)? else {
                missing(field, &below)?;
                merged.push((*field).clone());
                continue;
            };
            let column = &columns[index];
            taken[index] = true;
            if !field.nullable {
                self.must_not_be_null(column, &below);
            }
            let data_type = self.data_type(&field.data_type, column, &below)?;
            merged.push(Field { data_type, ..(*field).clone() });
        }
        for (column, _) in columns.iter().zip(taken).filter(|(_, taken)| !taken) {
            merged.push(self.extra(column, &merged, place)?);
        }
        Ok(merged)
    }

    /// Finds a field's column, as readers of this table will.
    fn find(&self, field: &Field, columns: &[FileColumn]) -> Verdict<Option<usize>> {
        let physical =
            field.physical_name(self.table.mapping).map_err(|error| error.to_string())?;
        let found = match self.table.mapping {
            Mapping::Id => {
                if let Some(column) = columns.iter().find(|column| column.id.is_none()) {
                    return Err(format!(
                        "column {:?} has no Parquet field id, and the table finds columns by id",
                        column.name
                    ));
                }
                columns.iter().position(|column| column.id.map(i64::from) == field.id())
            }
            Mapping::None | Mapping::Name => columns.iter().position(|c| c.name == physical),
        };
        if let (Mapping::Name, Some(index)) = (self.table.mapping, found)
            && let (Some(id), Some(wanted)) = (columns[index].id, field.id())
            && i64::from(id) != wanted
        {
            return Err(format!(
                "column {physical:?} has the Parquet field id {id}, the table's has {wanted}"
            ));
        }
        Ok(found)
    }

    fn must_not_be_null(&mut self, column: &FileColumn, place: &Place) {
        if column.optional {
            self.fit.not_null.push(NotNull {
                place: place.shown.clone(),
                column: column.leaves()[0],
                level: column.definition - 1,
            });
        }
    }

    fn extra(&mut self, column: &FileColumn, known: &[Field], place: &Place) -> Verdict<Field> {
        let shown = place.below(&column.name, None).shown;
        if self.table.mapping != Mapping::None {
            return Err(format!(
                "column {shown:?} is none of the table's: this table maps columns, and its files \
                 must carry the physical names (and ids) of its schema"
            ));
        }
        if let Some(twin) = known
            .iter()
            .chain(self.table.schema.fields.iter().filter(|_| place.shown.is_empty()))
            .find(|field| field.name.to_lowercase() == column.name.to_lowercase())
        {
            return Err(format!(
                "column {shown:?} differs from the table's column {:?} only by case",
                twin.name
            ));
        }
        if !self.merge {
            return Err(format!(
                "column {shown:?} is not in the table; merge_schema=true in .deltafs/options \
                 would add it"
            ));
        }
        self.changed = true;
        let added = to_schema(std::slice::from_ref(column), None).map_err(|e| e.to_string())?;
        let field = added.fields.into_iter().next().expect("BUG: one column makes one field");
        // The added column's own leaves have statistics like any other's.
        self.data_type(&field.data_type, column, &place.below(&column.name, Some(&column.name)))?;
        Ok(field)
    }

    fn data_type(
        &mut self,
        wanted: &DataType,
        column: &FileColumn,
        place: &Place,
    ) -> Verdict<DataType> {
        match (wanted, &column.kind) {
            (DataType::Primitive(Primitive::Variant), FileType::Struct { fields, .. }) => {
                self.variant(fields, place)?;
                Ok(wanted.clone())
            }
            (DataType::Primitive(primitive), FileType::Leaf { column: leaf, stored }) => {
                if !self.holds(primitive, stored, place)? {
                    return Err(mismatch(wanted, column, place));
                }
                if let Some(path) = &place.physical {
                    let primitive = primitive.clone();
                    self.fit.leaves.push(FitLeaf { path: path.clone(), column: *leaf, primitive });
                }
                Ok(wanted.clone())
            }
            (DataType::Struct(schema), FileType::Struct { fields, .. }) => {
                let wanted: Vec<&Field> = schema.fields.iter().collect();
                let fields = self.fields(&wanted, fields, vec![false; fields.len()], place)?;
                Ok(DataType::Struct(Schema { fields }))
            }
            (DataType::Array { element, contains_null }, FileType::List(stored)) => {
                let below = place.below("element", None);
                if !contains_null {
                    self.must_not_be_null(stored, &below);
                }
                let element = Box::new(self.data_type(element, stored, &below)?);
                Ok(DataType::Array { element, contains_null: *contains_null })
            }
            (
                DataType::Map { key, value, value_contains_null },
                FileType::Map { key: stored_key, value: stored_value },
            ) => {
                let below = place.below("value", None);
                if !value_contains_null {
                    self.must_not_be_null(stored_value, &below);
                }
                let key = Box::new(self.data_type(key, stored_key, &place.below("key", None))?);
                let value = Box::new(self.data_type(value, stored_value, &below)?);
                Ok(DataType::Map { key, value, value_contains_null: *value_contains_null })
            }
            _ => Err(mismatch(wanted, column, place)),
        }
    }

    /// Whether a leaf stored so is a value of that type to every reader of the table.
    fn holds(&self, wanted: &Primitive, stored: &Stored, place: &Place) -> Verdict<bool> {
        match stored {
            Stored::Foreign(name) => Err(foreign(&place.shown, name)),
            Stored::Int96 => Ok(*wanted == Primitive::Timestamp),
            Stored::As(_) if *wanted == Primitive::Void => Ok(false),
            Stored::As(narrow) if narrow == wanted => Ok(true),
            Stored::As(narrow) => Ok(self.table.widening && widens(narrow, wanted)),
        }
    }

    fn variant(&self, fields: &[FileColumn], place: &Place) -> Verdict<()> {
        let is_binary = |name: &str| {
            fields.iter().any(|field| {
                field.name == name
                    && matches!(
                        field.kind,
                        FileType::Leaf { stored: Stored::As(Primitive::Binary), .. }
                    )
            })
        };
        let is_shredded = fields.iter().any(|field| field.name == "typed_value");
        if is_shredded && !self.table.shredding {
            return Err(format!(
                "column {:?} is a shredded variant, which the table doesn't allow \
                 (delta.enableVariantShredding)",
                place.shown
            ));
        }
        if !is_binary("metadata") || !(is_binary("value") || is_shredded) {
            return Err(format!(
                "column {:?} is no variant: it needs the binary fields \"metadata\" and \"value\"",
                place.shown
            ));
        }
        Ok(())
    }
}

fn missing(field: &Field, place: &Place) -> Verdict<()> {
    let default = field.metadata.get("CURRENT_DEFAULT").and_then(Value::as_str);
    if default.is_some_and(|default| !default.eq_ignore_ascii_case("null")) {
        return Err(format!(
            "column {:?} is missing and has a default value in the table, which deltafs can't \
             evaluate: write the column",
            place.shown
        ));
    }
    if !field.nullable {
        return Err(format!("column {:?} is missing and must not be null", place.shown));
    }
    Ok(())
}

fn mismatch(wanted: &DataType, column: &FileColumn, place: &Place) -> String {
    format!(
        "column {:?} is {wanted} in the table and {} in the file",
        place.shown,
        column.type_name()
    )
}

/// Finds the shapes with void that no writer may write beside.
fn void_inside(data_type: &DataType, in_collection: bool) -> Verdict<()> {
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

/// The protocol's list of type changes ("Type Widening").
fn widens(narrow: &Primitive, wide: &Primitive) -> bool {
    use Primitive::{Byte, Date, Decimal, Double, Float, Integer, Long, Short, TimestampNtz};
    match (narrow, wide) {
        (Byte, Short | Integer | Long | Double)
        | (Short, Integer | Long | Double)
        | (Integer, Long | Double)
        | (Float, Double)
        | (Date, TimestampNtz) => true,
        (Decimal { precision: p, scale: s }, Decimal { precision, scale }) => {
            scale >= s && precision >= p && precision - p >= scale - s
        }
        (Byte | Short | Integer, Decimal { precision, scale }) => *precision >= 10 + scale,
        (Long, Decimal { precision, scale }) => *precision >= 20 + scale,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
