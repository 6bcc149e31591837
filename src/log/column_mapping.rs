//! Gives the columns of a table the ids and physical names of column mapping, when it is turned on.
//!
//! Physical names are the columns' own names, as the data files have them already (protocol:
//! "Column Mapping"); ids are those of the files where they have some, else counted from one.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::log::file_schema::{FileColumn, FileType};
use crate::log::schema::{DataType, Field, ID, PHYSICAL_NAME, Schema};

const PREFIX: &str = "delta.columnMapping.";

/// Gives each column and each field of a struct, however deep, an id and a physical name. `mark`:
/// the highest id that the table gave out. `file`: columns of the first data file of a new table,
/// whose field ids are taken over where each has its own. Returns the new mark.
///
/// Errors: [`Error::Refused`] for a schema that has some already: from what time they are, and
/// what they were given for, nobody knows.
pub fn assign(schema: &mut Schema, file: &[FileColumn], mark: i64) -> Result<i64> {
    if let Some(name) = mapped(schema) {
        return Err(Error::Refused(format!(
            "column mapping can't be turned on: column {name:?} has an id or a physical name from \
             an earlier time"
        )));
    }
    let mut next = Next { mark };
    let file = match highest_id(file) {
        Some(highest) => {
            next.mark = mark.max(highest);
            file
        }
        None => &[],
    };
    next.fields(&mut schema.fields, file);
    match next.mark {
        mark if i32::try_from(mark).is_ok() => Ok(mark),
        _ => Err(Error::Refused("the table has no column ids left".into())),
    }
}

/// Whether every column of a file has a field id of its own, by which readers can find it.
pub fn has_ids(file: &[FileColumn]) -> bool {
    highest_id(file).is_some()
}

/// The highest field id of a file; `None`: not every column has one of its own.
fn highest_id(file: &[FileColumn]) -> Option<i64> {
    let mut ids = Vec::new();
    collect_ids(file, &mut ids);
    let distinct: BTreeSet<i32> = ids.iter().filter_map(|id| *id).filter(|id| *id > 0).collect();
    let highest = distinct.last().filter(|_| distinct.len() == ids.len());
    highest.map(|highest| i64::from(*highest))
}

struct Next {
    mark: i64,
}

impl Next {
    /// A column before its parts, as Spark counts.
    fn fields(&mut self, fields: &mut [Field], file: &[FileColumn]) {
        for field in fields {
            let column = file.iter().find(|column| column.name == field.name);
            let id = match column.and_then(|column| column.id) {
                Some(id) => i64::from(id),
                None => {
                    self.mark += 1;
                    self.mark
                }
            };
            field.metadata.insert(ID.into(), id.into());
            field.metadata.insert(PHYSICAL_NAME.into(), Value::String(field.name.clone()));
            self.data_type(&mut field.data_type, column);
        }
    }

    fn data_type(&mut self, data_type: &mut DataType, column: Option<&FileColumn>) {
        match (data_type, column.map(|column| &column.kind)) {
            (DataType::Primitive(_), _) => {}
            (DataType::Struct(schema), Some(FileType::Struct { fields, .. })) => {
                self.fields(&mut schema.fields, fields);
            }
            (DataType::Struct(schema), _) => self.fields(&mut schema.fields, &[]),
            (DataType::Array { element, .. }, Some(FileType::List(stored))) => {
                self.data_type(element, Some(stored));
            }
            (DataType::Array { element, .. }, _) => self.data_type(element, None),
            (
                DataType::Map { key, value, .. },
                Some(FileType::Map { key: stored_key, value: stored_value }),
            ) => {
                self.data_type(key, Some(stored_key));
                self.data_type(value, Some(stored_value));
            }
            (DataType::Map { key, value, .. }, _) => {
                self.data_type(key, None);
                self.data_type(value, None);
            }
        }
    }
}

/// The ids of columns and fields of structs, `None` where one has none; those of list elements and
/// of keys and values only where they are there, for mapping gives these none.
fn collect_ids(columns: &[FileColumn], ids: &mut Vec<Option<i32>>) {
    for column in columns {
        ids.push(column.id);
        collect_inner(&column.kind, ids);
    }
}

fn collect_inner(kind: &FileType, ids: &mut Vec<Option<i32>>) {
    let mut part = |part: &FileColumn| {
        ids.extend(part.id.map(Some));
        collect_inner(&part.kind, ids);
    };
    match kind {
        FileType::Leaf { .. } | FileType::Struct { is_variant: true, .. } => {}
        FileType::Struct { fields, .. } => collect_ids(fields, ids),
        FileType::List(element) => part(element),
        FileType::Map { key, value } => {
            part(key);
            part(value);
        }
    }
}

/// A column that has an id or a physical name.
fn mapped(schema: &Schema) -> Option<&str> {
    schema.fields.iter().find_map(|field| {
        let is_mapped = field.metadata.keys().any(|key| key.starts_with(PREFIX));
        if is_mapped { Some(field.name.as_str()) } else { mapped_inside(&field.data_type) }
    })
}

fn mapped_inside(data_type: &DataType) -> Option<&str> {
    match data_type {
        DataType::Primitive(_) => None,
        DataType::Struct(schema) => mapped(schema),
        DataType::Array { element, .. } => mapped_inside(element),
        DataType::Map { key, value, .. } => mapped_inside(key).or_else(|| mapped_inside(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::file_schema::Stored;
    use crate::log::schema::Primitive;

    const LONG: DataType = DataType::Primitive(Primitive::Long);

    /// `a: struct<x, y: array<struct<z>>>, b`
    fn nested() -> Schema {
        let inner = Schema { fields: vec![Field::nullable("z", LONG)] };
        let list =
            DataType::Array { element: Box::new(DataType::Struct(inner)), contains_null: true };
        let fields = vec![Field::nullable("x", LONG), Field::nullable("y", list)];
        Schema {
            fields: vec![
                Field::nullable("a", DataType::Struct(Schema { fields })),
                Field::nullable("b", LONG),
            ],
        }
    }

    fn given(fields: &[Field], found: &mut Vec<(String, i64)>) {
        for field in fields {
            let name = field.metadata[PHYSICAL_NAME].as_str().unwrap();
            assert_eq!(name, field.name);
            found.push((name.to_owned(), field.id().unwrap()));
            match &field.data_type {
                DataType::Struct(schema) => given(&schema.fields, found),
                DataType::Array { element, .. } => {
                    let DataType::Struct(schema) = &**element else { continue };
                    given(&schema.fields, found);
                }
                _ => {}
            }
        }
    }

    fn ids(file: &[FileColumn], mark: i64) -> (Vec<(String, i64)>, i64) {
        let mut schema = nested();
        let mark = assign(&mut schema, file, mark).unwrap();
        let mut found = Vec::new();
        given(&schema.fields, &mut found);
        (found, mark)
    }

    fn leaf(name: &str, id: Option<i32>) -> FileColumn {
        let kind = FileType::Leaf { column: 0, stored: Stored::As(Primitive::Long) };
        FileColumn { name: name.into(), id, optional: true, definition: 1, kind }
    }

    fn file(ids: [Option<i32>; 5], element: Option<i32>) -> Vec<FileColumn> {
        let fields = vec![leaf("z", ids[3])];
        let inner = FileColumn {
            kind: FileType::Struct { fields, is_variant: false },
            ..leaf("element", element)
        };
        let list = FileColumn { kind: FileType::List(Box::new(inner)), ..leaf("y", ids[2]) };
        let fields = vec![leaf("x", ids[1]), list];
        let first = FileColumn {
            kind: FileType::Struct { fields, is_variant: false },
            ..leaf("a", ids[0])
        };
        vec![first, leaf("b", ids[4])]
    }

    fn named(ids: [i64; 5]) -> Vec<(String, i64)> {
        ["a", "x", "y", "z", "b"].into_iter().map(str::to_owned).zip(ids).collect()
    }

    #[test]
    fn every_field_gets_an_id_and_its_own_name() {
        assert_eq!(ids(&[], 0), (named([1, 2, 3, 4, 5]), 5));
        assert_eq!(ids(&[], 10), (named([11, 12, 13, 14, 15]), 15));
    }

    #[test]
    fn the_ids_of_the_file_are_taken_where_each_column_has_its_own() {
        let own = [9, 3, 4, 5, 2].map(Some);
        assert!(has_ids(&file(own, None)));
        assert_eq!(ids(&file(own, Some(20)), 0), (named([9, 3, 4, 5, 2]), 20));
        let twice = [9, 3, 4, 5, 3].map(Some);
        let missing = [Some(9), Some(3), None, Some(5), Some(2)];
        let negative = [-1, 3, 4, 5, 2].map(Some);
        for unusable in [twice, missing, negative] {
            assert!(!has_ids(&file(unusable, None)));
            assert_eq!(ids(&file(unusable, None), 0), (named([1, 2, 3, 4, 5]), 5));
        }
        assert!(!has_ids(&[]));
    }

    #[test]
    fn a_column_that_no_file_has_gets_the_next_id() {
        let mut schema = nested();
        schema.fields.push(Field::nullable("p", LONG));
        assert_eq!(assign(&mut schema, &file([9, 3, 4, 5, 2].map(Some), None), 0).unwrap(), 10);
        assert_eq!(schema.fields[2].id(), Some(10));
    }

    #[test]
    fn a_schema_with_ids_is_refused_and_so_is_one_beyond_them() {
        let mut schema = nested();
        assign(&mut schema, &[], 0).unwrap();
        let error = assign(&mut schema, &[], 5).unwrap_err();
        assert!(matches!(&error, Error::Refused(why) if why.contains("\"a\"")), "{error:?}");
        let error = assign(&mut nested(), &[], i64::from(i32::MAX) - 4).unwrap_err();
        assert!(matches!(&error, Error::Refused(why) if why.contains("left")), "{error:?}");
    }
}
