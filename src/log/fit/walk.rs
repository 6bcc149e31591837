//! The walk down a table's schema beside a file's: what matches, what is missing, what is extra.
//!
//! Its errors are sentences without the file's name, which `fit` puts before them.

use serde_json::Value;

use super::{Fit, FitLeaf, LeafSource, Merged, NotNull, TableColumns, Widening};
use crate::log::column_ids::ColumnIds;
use crate::log::file_schema::{FileColumn, FileType, Names, Stored, foreign, to_schema};
use crate::log::schema::{DataType, Field, Mapping, Primitive, Schema};
use crate::log::widening::{TypeChange, is_recorded, record, widens, widens_unasked};

type Verdict<T> = std::result::Result<T, String>;

/// One file's walk.
pub(super) struct Walk<'a> {
    table: &'a TableColumns,
    merge: bool,
    fit: Fit,
    changed: bool,
    ids: Option<ColumnIds>,
    /// Type changes below the field that the walk is in.
    changes: Vec<TypeChange>,
}

/// Where the walk is.
#[derive(Clone, Default)]
struct Place<'a> {
    /// Logical names, for messages.
    shown: String,
    /// Physical field path ("Field Path").
    path: Vec<String>,
    /// Whether a list or a map lies above: there are no statistics.
    is_in_collection: bool,
    /// The nearest field above, and the path from it through lists and maps.
    field: Option<&'a Field>,
    inside: String,
}

impl<'a> Place<'a> {
    fn field(&self, field: &'a Field, physical: &str) -> Place<'a> {
        Place {
            shown: join(&self.shown, &field.name),
            path: [self.path.as_slice(), &[physical.to_owned()]].concat(),
            is_in_collection: self.is_in_collection,
            field: Some(field),
            inside: String::new(),
        }
    }

    /// `element`, `key` or `value`.
    fn part(&self, part: &str) -> Place<'a> {
        Place {
            shown: join(&self.shown, part),
            path: [self.path.as_slice(), &[part.to_owned()]].concat(),
            is_in_collection: true,
            field: self.field,
            inside: join(&self.inside, part),
        }
    }
}

fn join(above: &str, name: &str) -> String {
    if above.is_empty() { name.to_owned() } else { format!("{above}.{name}") }
}

impl<'a> Walk<'a> {
    pub(super) fn new(table: &'a TableColumns, merge: bool) -> Walk<'a> {
        let ids = table.ids.clone();
        Walk { table, merge, fit: Fit::default(), changed: false, ids, changes: Vec::new() }
    }

    /// The fit; `schema`: what [`Walk::top`] gave.
    pub(super) fn finish(self, schema: Schema) -> Fit {
        let merged = self.changed.then_some(Merged { schema, ids: self.ids });
        Fit { merged, ..self.fit }
    }

    /// Matches the table's columns; returns its schema with what was added and widened.
    pub(super) fn top(&mut self, columns: &[FileColumn]) -> Verdict<Schema> {
        let table = self.table;
        let is_partition = |field: &Field| table.partition_columns.contains(&field.name);
        let mut taken = vec![false; columns.len()];
        for field in table.schema.fields.iter().filter(|field| is_partition(field)) {
            match self.find(field, columns)? {
                Some(index) => {
                    taken[index] = true;
                    let leaf = self.partition_column(field, &columns[index])?;
                    self.fit.partition_columns.push((field.name.clone(), leaf));
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
        let data: Vec<&Field> =
            table.schema.fields.iter().filter(|field| !is_partition(field)).collect();
        let merged = self.fields(&data, columns, taken, &Place::default())?;
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

    /// A partition column's values come from the log; in a file it is only looked at.
    fn partition_column(&self, field: &Field, column: &FileColumn) -> Verdict<usize> {
        if let (DataType::Primitive(wanted), FileType::Leaf { column: leaf, stored }) =
            (&field.data_type, &column.kind)
        {
            let fits = match stored {
                Stored::Foreign(name) => return Err(foreign(&field.name, name)),
                Stored::Int96 => *wanted == Primitive::Timestamp,
                Stored::As(narrow) if self.table.widening != Widening::Off => {
                    narrow == wanted || widens(narrow, wanted)
                }
                Stored::As(stored) => stored == wanted,
            };
            if fits {
                return Ok(*leaf);
            }
        }
        Err(format!("partition {}", mismatch(&field.data_type, column, &field.name)))
    }

    /// Matches the fields of one struct; returns them with what was added.
    fn fields(
        &mut self,
        fields: &[&Field],
        columns: &[FileColumn],
        mut taken: Vec<bool>,
        place: &Place<'_>,
    ) -> Verdict<Vec<Field>> {
        let mut merged = Vec::with_capacity(fields.len());
        for field in fields {
            let physical =
                field.physical_name(self.table.mapping).map_err(|error| error.to_string())?;
            let below = place.field(field, physical);
            let Some(index) = self.find(field, columns)? else {
                missing(field, &below)?;
                self.absent(&field.data_type, &below.path, below.is_in_collection)?;
                merged.push((*field).clone());
                continue;
            };
            let column = &columns[index];
            taken[index] = true;
            if !field.nullable {
                self.must_not_be_null(column, &below);
            }
            let above = std::mem::take(&mut self.changes);
            let data_type = self.data_type(&field.data_type, column, &below)?;
            let changes = std::mem::replace(&mut self.changes, above);
            self.changed |= !changes.is_empty();
            let mut field = Field { data_type, ..(*field).clone() };
            record(&mut field, &changes);
            merged.push(field);
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
                let is_it = |column: &FileColumn| column.id.map(i64::from) == field.id();
                if columns.iter().filter(|column| is_it(column)).count() > 1 {
                    return Err(format!("two columns have the Parquet field id of {physical:?}"));
                }
                columns.iter().position(is_it)
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

    fn must_not_be_null(&mut self, column: &FileColumn, place: &Place<'_>) {
        if column.optional {
            self.fit.not_null.push(NotNull {
                place: place.shown.clone(),
                column: column.leaves()[0],
                level: column.definition - 1,
            });
        }
    }

    /// Notes the leaves of a column that the file lacks.
    fn absent(&mut self, data_type: &DataType, path: &[String], skip: bool) -> Verdict<()> {
        match data_type {
            // Nothing is ever said of void columns.
            DataType::Primitive(Primitive::Void) => {}
            _ if skip => {}
            DataType::Struct(schema) => {
                for field in &schema.fields {
                    let name = field.physical_name(self.table.mapping);
                    let name = name.map_err(|error| error.to_string())?.to_owned();
                    self.absent(&field.data_type, &[path, &[name]].concat(), false)?;
                }
            }
            _ => self.fit.leaves.push(FitLeaf { path: path.to_vec(), source: LeafSource::Absent }),
        }
        Ok(())
    }

    fn leaf(&mut self, place: &Place<'_>, source: LeafSource) {
        if !place.is_in_collection {
            self.fit.leaves.push(FitLeaf { path: place.path.clone(), source });
        }
    }

    /// A list, map or variant: only whether it is null can be told.
    fn whole(&mut self, column: &FileColumn, place: &Place<'_>) {
        let level = column.definition;
        self.leaf(place, LeafSource::Whole { column: column.leaves()[0], level });
    }

    fn extra(&mut self, column: &FileColumn, known: &[Field], place: &Place<'_>) -> Verdict<Field> {
        let shown = join(&place.shown, &column.name);
        self.check_name(column, known, place)?;
        if !self.merge {
            return Err(match self.table.mapping {
                Mapping::None => format!(
                    "column {shown:?} is not in the table; merge_schema=true in .deltafs/options \
                     would add it"
                ),
                Mapping::Name | Mapping::Id => format!(
                    "column {shown:?} is none of the table's: this table maps columns, and its \
                     files must carry the physical names (and ids) of its schema; \
                     merge_schema=true in .deltafs/options would add a column of this name"
                ),
            });
        }
        self.changed = true;
        let names = if self.table.mapping == Mapping::None { Names::Plain } else { Names::Any };
        let above = (!place.shown.is_empty()).then_some(place.shown.as_str());
        let added = to_schema(std::slice::from_ref(column), above, names);
        let added = added.map_err(|error| error.to_string())?;
        let mut field = added.fields.into_iter().next().expect("BUG: one column makes one field");
        if let Some(ids) = &mut self.ids {
            ids.assign(&mut field, column, &place.path, self.table.mapping)?;
        }
        // The added column's own leaves have statistics like any other's.
        self.data_type(&field.data_type, column, &place.field(&field, &column.name))?;
        Ok(field)
    }

    /// Whether a column that the table lacks may be called so.
    fn check_name(&self, column: &FileColumn, known: &[Field], place: &Place<'_>) -> Verdict<()> {
        let shown = join(&place.shown, &column.name);
        let is_top = place.field.is_none();
        let mut reserved = self.table.reserved.iter().filter(|_| is_top);
        if let Some((_, what)) = reserved.find(|(name, _)| *name == column.name) {
            return Err(format!(
                "column {shown:?} holds {what}, which can't be appended as rows of the table; \
                 write the file without it"
            ));
        }
        let name = column.name.to_lowercase();
        let top = self.table.schema.fields.iter().filter(|_| is_top);
        let twin = known.iter().chain(top).find(|field| {
            let physical = field.physical_name(self.table.mapping).unwrap_or(&field.name);
            field.name.to_lowercase() == name || physical.to_lowercase() == name
        });
        let Some(twin) = twin else { return Ok(()) };
        let physical = twin.physical_name(self.table.mapping).unwrap_or(&twin.name);
        Err(if physical == column.name {
            format!("column {shown:?} is there twice")
        } else if self.table.mapping != Mapping::None && twin.name.to_lowercase() == name {
            format!(
                "column {shown:?} is called {physical:?} in the files of this table, which maps \
                 columns: its files must carry the physical names (and ids) of its schema"
            )
        } else {
            format!("column {shown:?} differs from the table's column {physical:?} only by case")
        })
    }

    fn data_type(
        &mut self,
        wanted: &DataType,
        column: &FileColumn,
        place: &Place<'_>,
    ) -> Verdict<DataType> {
        match (wanted, &column.kind) {
            (DataType::Primitive(Primitive::Void), _) => self.void(column, place),
            (DataType::Primitive(Primitive::Variant), FileType::Struct { fields, .. }) => {
                self.variant(fields, place)?;
                self.whole(column, place);
                Ok(wanted.clone())
            }
            (DataType::Primitive(primitive), FileType::Leaf { column: leaf, stored }) => {
                let primitive = self.holds(primitive, stored, column, place)?;
                let source = LeafSource::Values { column: *leaf, primitive: primitive.clone() };
                self.leaf(place, source);
                Ok(DataType::Primitive(primitive))
            }
            (DataType::Struct(schema), FileType::Struct { fields, .. }) => {
                let wanted: Vec<&Field> = schema.fields.iter().collect();
                let fields = self.fields(&wanted, fields, vec![false; fields.len()], place)?;
                Ok(DataType::Struct(Schema { fields }))
            }
            (DataType::Array { element, contains_null }, FileType::List(stored)) => {
                self.whole(column, place);
                let below = place.part("element");
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
                self.whole(column, place);
                let below = place.part("value");
                if !value_contains_null {
                    self.must_not_be_null(stored_value, &below);
                }
                let key = Box::new(self.data_type(key, stored_key, &place.part("key"))?);
                let value = Box::new(self.data_type(value, stored_value, &below)?);
                Ok(DataType::Map { key, value, value_contains_null: *value_contains_null })
            }
            _ => Err(mismatch(wanted, column, &place.shown)),
        }
    }

    /// A void column may take any type ("Void Type").
    fn void(&mut self, column: &FileColumn, place: &Place<'_>) -> Verdict<DataType> {
        let void = DataType::Primitive(Primitive::Void);
        if !self.merge {
            return Err(format!(
                "{}; merge_schema=true in .deltafs/options would give it that type",
                mismatch(&void, column, &place.shown)
            ));
        }
        self.changed = true;
        let names = if self.table.mapping == Mapping::None { Names::Plain } else { Names::Any };
        let mut data_type =
            column.data_type(&place.shown, names).map_err(|error| error.to_string())?;
        if let Some(ids) = &mut self.ids {
            let mapping = self.table.mapping;
            ids.assign_inside(&mut data_type, &column.kind, &place.path, mapping)?;
        }
        self.data_type(&data_type, column, place)
    }

    /// The column's type in the table, where a leaf stored so is a value of it to every reader.
    fn holds(
        &mut self,
        wanted: &Primitive,
        stored: &Stored,
        column: &FileColumn,
        place: &Place<'_>,
    ) -> Verdict<Primitive> {
        let refuse = |hint: &str| {
            let wanted = DataType::Primitive(wanted.clone());
            Err(format!("{}{hint}", mismatch(&wanted, column, &place.shown)))
        };
        let stored = match stored {
            Stored::Foreign(name) => return Err(foreign(&place.shown, name)),
            Stored::Int96 => &Primitive::Timestamp,
            Stored::As(stored) => stored,
        };
        if stored == wanted {
            return Ok(wanted.clone());
        }
        let (is_narrower, is_wider) = (widens(stored, wanted), widens(wanted, stored));
        let widening = self.table.widening;
        let is_recorded =
            || place.field.is_some_and(|field| is_recorded(field, &place.inside, stored));
        match widening {
            // Previews knew other changes; what is recorded, readers of the table can do.
            Widening::On | Widening::Preview if is_recorded() => Ok(wanted.clone()),
            _ if !is_narrower && !is_wider => refuse(""),
            Widening::Off => refuse(
                "; only where type widening is on (delta.enableTypeWidening) can the two meet",
            ),
            _ if is_wider && !widens_unasked(wanted, stored) => {
                refuse("; such a change is not made by a file: ALTER TABLE can make it")
            }
            Widening::Preview => {
                refuse("; the table has the preview of type widening: ALTER TABLE can make it meet")
            }
            Widening::On if !self.merge => refuse(if is_wider {
                "; merge_schema=true in .deltafs/options would widen the table's"
            } else {
                "; merge_schema=true in .deltafs/options would let the narrower type in"
            }),
            Widening::On => {
                let (from, to) = if is_wider { (wanted, stored) } else { (stored, wanted) };
                let (from, to, path) = (from.clone(), to.clone(), place.inside.clone());
                self.changes.push(TypeChange { from, to: to.clone(), path });
                Ok(to)
            }
        }
    }

    fn variant(&self, fields: &[FileColumn], place: &Place<'_>) -> Verdict<()> {
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

fn missing(field: &Field, place: &Place<'_>) -> Verdict<()> {
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

fn mismatch(wanted: &DataType, column: &FileColumn, shown: &str) -> String {
    format!("column {shown:?} is {wanted} in the table and {} in the file", column.type_name())
}
