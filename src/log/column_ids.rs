//! Names and ids of columns that a commit adds to a table that maps columns.
//!
//! Follows the protocol's "Writer Requirements for Column Mapping". Data files are taken as they
//! are, so a new column's physical name is the one that it has in its file; in id mode too, where
//! statistics and partition values still go by name. No physical name may ever have been another
//! column's, or that one's values would come back from older files. So a name is taken only where
//! the versions that the log still has prove it fresh.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::log::action::Metadata;
use crate::log::file_schema::{FileColumn, FileType};
use crate::log::schema::{DataType, Field, ID, Mapping, PHYSICAL_NAME, Schema};

/// The property that holds the highest id ever given out.
const MARK: &str = "delta.columnMapping.maxColumnId";
const NESTED_IDS: &str = "delta.columnMapping.nested.ids";

/// The schemas that a table has had.
#[derive(Clone, Debug, Default)]
pub struct PastSchemas {
    /// `schemaString`s, in any order.
    pub texts: BTreeSet<String>,
    /// Whether these are all since version 0.
    pub is_whole: bool,
}

/// What columns have had, and what a new one gets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ColumnIds {
    highest: i64,
    /// Physical field paths in lower case, as some readers know no case.
    used: BTreeSet<Vec<String>>,
    /// Whether `used` has every path that there ever was.
    is_complete: bool,
}

impl ColumnIds {
    /// Gathers what is known. Errors: [`Error::Damaged`] for a property or schema that isn't one.
    pub fn of(metadata: &Metadata, schema: &Schema, past: &PastSchemas) -> Result<ColumnIds> {
        let mut gathered = Gathered::default();
        gathered.fields(&schema.fields, &[]);
        for text in past.texts.iter().filter(|text| **text != metadata.schema_string) {
            gathered.fields(&Schema::from_json(text)?.fields, &[]);
        }
        let mark = match metadata.configuration.get(MARK).map(|text| text.parse()) {
            None => 0,
            Some(Ok(mark)) => mark,
            Some(Err(_)) => {
                return Err(Error::Damaged(format!("the property {MARK} is no number")));
            }
        };
        let highest = gathered.ids.last().copied().unwrap_or(0).max(mark);
        // Each column was given an id, none twice: where no id is missing, no column is.
        let is_gapless = i64::try_from(gathered.ids.range(1..=highest.max(1)).count());
        let is_complete = past.is_whole || is_gapless == Ok(highest);
        Ok(ColumnIds { highest, used: gathered.used, is_complete })
    }

    /// The table's property for the highest id, and its value.
    pub fn property(&self) -> (String, String) {
        (MARK.to_owned(), self.highest.to_string())
    }

    /// Gives an added field, and all fields inside it, ids and physical names. `above`: physical
    /// field path of what holds it. Errors: a sentence naming the column.
    pub fn assign(
        &mut self,
        field: &mut Field,
        column: &FileColumn,
        above: &[String],
        mapping: Mapping,
    ) -> std::result::Result<(), String> {
        let name = &column.name;
        if !self.is_complete {
            return Err(format!(
                "column {name:?} can't be added: the table maps columns, and its log no longer \
                 tells which physical names were used; add it with ALTER TABLE, and write it under \
                 the physical name that it gets"
            ));
        }
        let path = [above, std::slice::from_ref(name)].concat();
        if !self.used.insert(lower(&path)) {
            return Err(format!(
                "column {name:?} can't be added under this name: a column that the table has, or \
                 had, is called so in its files; write it under another name, and rename it with \
                 ALTER TABLE"
            ));
        }
        let id = match column.id.map(i64::from) {
            Some(id) if id > self.highest => id,
            Some(id) => {
                return Err(format!(
                    "column {name:?} is new and has the Parquet field id {id}; the table has given \
                     out the ids up to {}, and a new column needs a higher one",
                    self.highest
                ));
            }
            None if mapping == Mapping::Id => {
                return Err(format!(
                    "column {name:?} has no Parquet field id, and the table finds columns by id"
                ));
            }
            None => self.highest + 1,
        };
        if id > i64::from(i32::MAX) {
            return Err(format!(
                "column {name:?} can't be added: the table has no column ids left"
            ));
        }
        self.highest = id;
        field.metadata.insert(ID.into(), id.into());
        field.metadata.insert(PHYSICAL_NAME.into(), name.as_str().into());
        self.assign_inside(&mut field.data_type, &column.kind, &path, mapping)
    }

    /// As [`ColumnIds::assign`], for the fields inside a type.
    pub fn assign_inside(
        &mut self,
        data_type: &mut DataType,
        kind: &FileType,
        path: &[String],
        mapping: Mapping,
    ) -> std::result::Result<(), String> {
        let below = |part: &str| [path, &[part.to_owned()]].concat();
        match (data_type, kind) {
            (DataType::Struct(schema), FileType::Struct { fields, .. }) => schema
                .fields
                .iter_mut()
                .zip(fields)
                .try_for_each(|(field, column)| self.assign(field, column, path, mapping)),
            (DataType::Array { element, .. }, FileType::List(stored)) => {
                self.assign_inside(element, &stored.kind, &below("element"), mapping)
            }
            (DataType::Map { key, value, .. }, FileType::Map { key: k, value: v }) => {
                self.assign_inside(key, &k.kind, &below("key"), mapping)?;
                self.assign_inside(value, &v.kind, &below("value"), mapping)
            }
            _ => Ok(()),
        }
    }
}

fn lower(path: &[String]) -> Vec<String> {
    path.iter().map(|part| part.to_lowercase()).collect()
}

/// Ids and physical field paths of schemas.
#[derive(Default)]
struct Gathered {
    ids: BTreeSet<i64>,
    used: BTreeSet<Vec<String>>,
}

impl Gathered {
    fn fields(&mut self, fields: &[Field], above: &[String]) {
        for field in fields {
            self.ids.extend(field.id());
            if let Some(Value::Object(nested)) = field.metadata.get(NESTED_IDS) {
                self.ids.extend(nested.values().filter_map(Value::as_i64));
            }
            // Before the table mapped columns, files had their display names.
            let name = field.metadata.get(PHYSICAL_NAME).and_then(Value::as_str);
            let path = [above, &[name.unwrap_or(&field.name).to_owned()]].concat();
            self.inside(&field.data_type, &path);
            self.used.insert(lower(&path));
        }
    }

    fn inside(&mut self, data_type: &DataType, path: &[String]) {
        let below = |part: &str| [path, &[part.to_owned()]].concat();
        match data_type {
            DataType::Primitive(_) => {}
            DataType::Struct(schema) => self.fields(&schema.fields, path),
            DataType::Array { element, .. } => self.inside(element, &below("element")),
            DataType::Map { key, value, .. } => {
                self.inside(key, &below("key"));
                self.inside(value, &below("value"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mapped(name: &str, physical: &str, id: i64, data_type: Value) -> Value {
        json!({ "name": name, "type": data_type, "nullable": true,
            "metadata": { ID: id, PHYSICAL_NAME: physical } })
    }

    fn text(fields: &[Value]) -> String {
        json!({ "type": "struct", "fields": fields }).to_string()
    }

    fn ids(mark: &str, now: &[Value], past: &[String], is_whole: bool) -> Result<ColumnIds> {
        let metadata: Metadata = serde_json::from_value(json!({
            "id": "t", "schemaString": text(now), "configuration": { MARK: mark } }))
        .unwrap();
        let schema = Schema::from_json(&metadata.schema_string)?;
        let past = PastSchemas { texts: past.iter().cloned().collect(), is_whole };
        ColumnIds::of(&metadata, &schema, &past)
    }

    fn leaf(name: &str, id: Option<i32>) -> FileColumn {
        let stored = crate::log::file_schema::Stored::As(crate::log::schema::Primitive::Long);
        let kind = FileType::Leaf { column: 0, stored };
        FileColumn { name: name.into(), id, optional: true, definition: 1, kind }
    }

    fn assign(ids: &mut ColumnIds, column: &FileColumn, mapping: Mapping) -> Result<Field> {
        let names = crate::log::file_schema::Names::Any;
        let mut field = Field::nullable(&column.name, column.data_type(&column.name, names)?);
        ids.assign(&mut field, column, &[], mapping).map_err(Error::Refused)?;
        Ok(field)
    }

    #[track_caller]
    fn refused<T: std::fmt::Debug>(result: Result<T>, word: &str) {
        assert!(matches!(&result, Err(Error::Refused(why)) if why.contains(word)), "{result:?}");
    }

    #[test]
    fn ids_go_on_after_the_mark_and_names_are_the_files() {
        let now = [mapped("a", "col-a", 1, json!("long"))];
        let mut ids = ids("4", &now, &[], true).unwrap();
        let inner = FileType::Struct { fields: vec![leaf("y", None)], is_variant: false };
        let list = FileType::List(Box::new(FileColumn { kind: inner, ..leaf("element", None) }));
        let column = FileColumn { kind: list, ..leaf("x", None) };
        let field = assign(&mut ids, &column, Mapping::Name).unwrap();
        assert_eq!((field.id(), field.physical_name(Mapping::Name).unwrap()), (Some(5), "x"));
        let DataType::Array { element, .. } = &field.data_type else { panic!() };
        let DataType::Struct(schema) = &**element else { panic!() };
        assert_eq!(schema.fields[0].id(), Some(6));
        assert_eq!(ids.property(), (MARK.to_owned(), "6".to_owned()));
        assert!(ids.used.contains(&vec!["x".to_owned(), "element".into(), "y".into()]));
    }

    #[test]
    fn a_name_that_a_column_ever_had_in_files_is_not_given_again() {
        let now = [mapped("a", "col-a", 1, json!("long"))];
        let dropped = text(&[
            mapped("a", "col-a", 1, json!("long")),
            json!({ "name": "Email",
            "type": "long", "nullable": true, "metadata": { ID: 2, PHYSICAL_NAME: "Email" } }),
        ]);
        let before = text(&[json!({ "name": "old", "type": "long", "nullable": true,
            "metadata": {} })]);
        let mut ids = ids("2", &now, &[dropped, before], false).unwrap();
        for name in ["email", "old", "col-a"] {
            refused(assign(&mut ids, &leaf(name, None), Mapping::Name), "ALTER TABLE");
        }
        assert_eq!(assign(&mut ids, &leaf("a", None), Mapping::Name).unwrap().id(), Some(3));
    }

    #[test]
    fn where_the_log_forgot_columns_no_name_is_proved_fresh() {
        let now = [mapped("a", "col-a", 1, json!("long")), mapped("c", "col-c", 3, json!("long"))];
        let mut forgot = ids("3", &now, &[], false).unwrap();
        refused(assign(&mut forgot, &leaf("x", None), Mapping::Name), "no longer tells");
        let second = text(&[mapped("b", "col-b", 2, json!("long"))]);
        let mut proved = ids("3", &now, &[second], false).unwrap();
        assign(&mut proved, &leaf("x", None), Mapping::Name).unwrap();
        let mut whole = ids("3", &now, &[], true).unwrap();
        assign(&mut whole, &leaf("x", None), Mapping::Name).unwrap();
        assert!(ids("many", &now, &[], true).is_err());
    }

    #[test]
    fn ids_of_files_must_be_new_and_are_needed_in_id_mode() {
        let now = [mapped("a", "col-a", 1, json!("long"))];
        let mut ids = ids("1", &now, &[], true).unwrap();
        refused(assign(&mut ids.clone(), &leaf("x", None), Mapping::Id), "no Parquet field id");
        refused(assign(&mut ids.clone(), &leaf("x", Some(1)), Mapping::Id), "up to 1");
        assert_eq!(assign(&mut ids, &leaf("x", Some(7)), Mapping::Id).unwrap().id(), Some(7));
        assert_eq!(assign(&mut ids, &leaf("y", None), Mapping::Name).unwrap().id(), Some(8));
        let mut full = ids.clone();
        full.highest = i32::MAX.into();
        refused(assign(&mut full, &leaf("z", None), Mapping::Name), "no column ids left");
    }
}
