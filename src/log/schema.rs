//! A table's schema: the protocol's "Schema Serialization Format", read and written back whole.
//!
//! Field metadata is kept as it came. What a Parquet file's columns are is `file_schema`'s matter,
//! and whether they fit a table is `fit`'s.

use std::fmt;

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::log::action::{Metadata, Protocol};
use crate::log::protocol::supports;

/// Where a mapped column's field metadata has its id and its physical name.
pub const ID: &str = "delta.columnMapping.id";
pub const PHYSICAL_NAME: &str = "delta.columnMapping.physicalName";

/// Deepest nesting of types that is read; the recursion of this module is bounded by it.
pub const DEPTH_MAX: usize = 64;

/// The columns of a table or the fields of a struct, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schema {
    pub fields: Vec<Field>,
}

/// A column, or a field of a struct.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    pub name: String,
    pub data_type: DataType,
    pub nullable: bool,
    pub metadata: Map<String, Value>,
}

/// A type of the protocol.
#[derive(Clone, Debug, PartialEq)]
pub enum DataType {
    Primitive(Primitive),
    Struct(Schema),
    Array { element: Box<DataType>, contains_null: bool },
    Map { key: Box<DataType>, value: Box<DataType>, value_contains_null: bool },
}

/// A type without parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Primitive {
    String,
    Long,
    Integer,
    Short,
    Byte,
    Float,
    Double,
    Decimal {
        precision: u8,
        scale: u8,
    },
    Boolean,
    Binary,
    Date,
    Timestamp,
    TimestampNtz,
    Variant,
    /// A column of nulls that is in no data file.
    Void,
    /// A type by a name that we don't know; kept, and no file fits it.
    Other(String),
}

/// How columns are found in data files (protocol: "Column Mapping").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// By their display names.
    None,
    /// By physical names.
    Name,
    /// By Parquet field ids.
    Id,
}

impl Mapping {
    /// The mode that a table is in; the property counts only where the protocol supports it.
    pub fn of(protocol: &Protocol, metadata: &Metadata) -> Result<Mapping> {
        let mode = metadata.configuration.get("delta.columnMapping.mode").map(String::as_str);
        match mode {
            None | Some("none") => Ok(Mapping::None),
            Some(_) if !supports(protocol, "columnMapping") => Ok(Mapping::None),
            Some("name") => Ok(Mapping::Name),
            Some("id") => Ok(Mapping::Id),
            Some(other) => {
                Err(Error::Unsupported(format!("the table has the column mapping mode {other:?}")))
            }
        }
    }
}

impl Schema {
    /// Reads a `schemaString`. Errors: [`Error::Damaged`] with the place.
    pub fn from_json(text: &str) -> Result<Schema> {
        let value: Value = serde_json::from_str(text)
            .map_err(|error| Error::Damaged(format!("the table's schema is not JSON: {error}")))?;
        match read_type(&value, "", 0)? {
            DataType::Struct(schema) => Ok(schema),
            _ => Err(damaged("", "is not a struct")),
        }
    }

    /// Writes a `schemaString`.
    pub fn to_json(&self) -> String {
        write_struct(self).to_string()
    }

    /// The field of that name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

impl Field {
    /// A nullable field without metadata.
    pub fn nullable(name: &str, data_type: DataType) -> Field {
        Field { name: name.to_owned(), data_type, nullable: true, metadata: Map::new() }
    }

    /// The name by which data files, partition values and statistics know the column.
    /// Errors: [`Error::Damaged`] where a mapped table's field has none.
    pub fn physical_name(&self, mapping: Mapping) -> Result<&str> {
        if mapping == Mapping::None {
            return Ok(&self.name);
        }
        self.metadata
            .get(PHYSICAL_NAME)
            .and_then(Value::as_str)
            .ok_or_else(|| damaged(&self.name, "has no physical name in a table that maps columns"))
    }

    /// The column's id in a table that maps columns.
    pub fn id(&self) -> Option<i64> {
        self.metadata.get(ID).and_then(Value::as_i64)
    }
}

impl DataType {
    /// Calls `visit` with each primitive in the type.
    pub fn for_each_primitive(&self, visit: &mut impl FnMut(&Primitive)) {
        match self {
            DataType::Primitive(primitive) => visit(primitive),
            DataType::Struct(schema) => {
                schema.fields.iter().for_each(|field| field.data_type.for_each_primitive(visit));
            }
            DataType::Array { element, .. } => element.for_each_primitive(visit),
            DataType::Map { key, value, .. } => {
                key.for_each_primitive(visit);
                value.for_each_primitive(visit);
            }
        }
    }
}

impl Primitive {
    /// Reads a type's name; one that we don't know is kept. `None`: an impossible decimal.
    pub fn parse(name: &str) -> Option<Primitive> {
        Some(match name {
            "string" => Primitive::String,
            "long" | "bigint" => Primitive::Long,
            "integer" | "int" => Primitive::Integer,
            "short" | "smallint" => Primitive::Short,
            "byte" | "tinyint" => Primitive::Byte,
            "float" => Primitive::Float,
            "double" => Primitive::Double,
            "boolean" => Primitive::Boolean,
            "binary" => Primitive::Binary,
            "date" => Primitive::Date,
            "timestamp" => Primitive::Timestamp,
            "timestamp_ntz" => Primitive::TimestampNtz,
            "variant" => Primitive::Variant,
            // Spark calls it "null" in old schemas.
            "void" | "null" => Primitive::Void,
            // Spark's own shorthand for decimal(10,0).
            "decimal" => Primitive::Decimal { precision: 10, scale: 0 },
            _ => match name.strip_prefix("decimal(").and_then(|rest| rest.strip_suffix(')')) {
                Some(numbers) => read_decimal(numbers)?,
                None => Primitive::Other(name.to_owned()),
            },
        })
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataType::Primitive(primitive) => write!(f, "{primitive}"),
            DataType::Struct(schema) => {
                f.write_str("struct<")?;
                for (index, field) in schema.fields.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{}: {}", field.name, field.data_type)?;
                }
                f.write_str(">")
            }
            DataType::Array { element, .. } => write!(f, "array<{element}>"),
            DataType::Map { key, value, .. } => write!(f, "map<{key}, {value}>"),
        }
    }
}

impl fmt::Display for Primitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Primitive::Decimal { precision, scale } = self {
            return write!(f, "decimal({precision},{scale})");
        }
        f.write_str(match self {
            Primitive::String => "string",
            Primitive::Long => "long",
            Primitive::Integer => "integer",
            Primitive::Short => "short",
            Primitive::Byte => "byte",
            Primitive::Float => "float",
            Primitive::Double => "double",
            Primitive::Boolean => "boolean",
            Primitive::Binary => "binary",
            Primitive::Date => "date",
            Primitive::Timestamp => "timestamp",
            Primitive::TimestampNtz => "timestamp_ntz",
            Primitive::Variant => "variant",
            Primitive::Void => "void",
            Primitive::Other(name) => name,
            Primitive::Decimal { .. } => unreachable!("BUG: decimals are written above"),
        })
    }
}

fn damaged(place: &str, what: &str) -> Error {
    let place = if place.is_empty() { "its root" } else { place };
    Error::Damaged(format!("the table's schema is not one: {place} {what}"))
}

fn read_type(value: &Value, place: &str, depth: usize) -> Result<DataType> {
    if depth > DEPTH_MAX {
        return Err(damaged(place, "is nested too deeply"));
    }
    let object = match value {
        Value::String(name) => {
            return Primitive::parse(name)
                .map(DataType::Primitive)
                .ok_or_else(|| damaged(place, &format!("has the impossible type {name:?}")));
        }
        Value::Object(object) => object,
        _ => return Err(damaged(place, "has a type that is neither a name nor an object")),
    };
    let part = |key: &str| object.get(key).ok_or_else(|| damaged(place, &format!("lacks {key}")));
    // Spark's own reader takes a missing flag for true.
    let flag = |key: &str| object.get(key).and_then(Value::as_bool).unwrap_or(true);
    match part("type")?.as_str() {
        Some("struct") => {
            let Value::Array(fields) = part("fields")? else {
                return Err(damaged(place, "has fields that are no list"));
            };
            let fields = fields.iter().map(|field| read_field(field, place, depth + 1));
            Ok(DataType::Struct(Schema { fields: fields.collect::<Result<_>>()? }))
        }
        // The protocol's own example of a variant in a list has it so.
        Some("variant") => Ok(DataType::Primitive(Primitive::Variant)),
        Some("array") => Ok(DataType::Array {
            element: Box::new(read_type(part("elementType")?, place, depth + 1)?),
            contains_null: flag("containsNull"),
        }),
        Some("map") => Ok(DataType::Map {
            key: Box::new(read_type(part("keyType")?, place, depth + 1)?),
            value: Box::new(read_type(part("valueType")?, place, depth + 1)?),
            value_contains_null: flag("valueContainsNull"),
        }),
        Some(other) => Err(damaged(place, &format!("has the unknown type {other:?}"))),
        None => Err(damaged(place, "has a type without a name")),
    }
}

fn read_field(value: &Value, place: &str, depth: usize) -> Result<Field> {
    let name = value.get("name").and_then(Value::as_str);
    let name = name.ok_or_else(|| damaged(place, "has a field without a name"))?;
    let place = if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") };
    let data_type = value.get("type").ok_or_else(|| damaged(&place, "has no type"))?;
    Ok(Field {
        name: name.to_owned(),
        data_type: read_type(data_type, &place, depth)?,
        nullable: value.get("nullable").and_then(Value::as_bool).unwrap_or(true),
        metadata: value.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default(),
    })
}

fn read_decimal(numbers: &str) -> Option<Primitive> {
    let (precision, scale) = numbers.split_once(',')?;
    let precision: u8 = precision.trim().parse().ok()?;
    let scale: u8 = scale.trim().parse().ok()?;
    ((1..=38).contains(&precision) && scale <= precision)
        .then_some(Primitive::Decimal { precision, scale })
}

fn write_type(data_type: &DataType) -> Value {
    match data_type {
        DataType::Primitive(primitive) => Value::String(primitive.to_string()),
        DataType::Struct(schema) => write_struct(schema),
        DataType::Array { element, contains_null } => json!({
            "type": "array",
            "elementType": write_type(element),
            "containsNull": contains_null,
        }),
        DataType::Map { key, value, value_contains_null } => json!({
            "type": "map",
            "keyType": write_type(key),
            "valueType": write_type(value),
            "valueContainsNull": value_contains_null,
        }),
    }
}

fn write_struct(schema: &Schema) -> Value {
    let fields: Vec<Value> = schema
        .fields
        .iter()
        .map(|field| {
            json!({
                "name": field.name,
                "type": write_type(&field.data_type),
                "nullable": field.nullable,
                "metadata": field.metadata,
            })
        })
        .collect();
    json!({ "type": "struct", "fields": fields })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERYTHING: &str = concat!(
        r#"{"type":"struct","fields":["#,
        r#"{"name":"a","type":"integer","nullable":false,"metadata":{"comment":"x","delta.columnMapping.id":7,"delta.columnMapping.physicalName":"col-a"}},"#,
        r#"{"name":"d","type":"decimal(38,18)","nullable":true,"metadata":{}},"#,
        r#"{"name":"s","type":{"type":"struct","fields":[{"name":"x","type":"timestamp_ntz","nullable":true,"metadata":{}}]},"nullable":true,"metadata":{}},"#,
        r#"{"name":"l","type":{"type":"array","elementType":"variant","containsNull":false},"nullable":true,"metadata":{}},"#,
        r#"{"name":"m","type":{"type":"map","keyType":"string","valueType":{"type":"array","elementType":"void","containsNull":true},"valueContainsNull":true},"nullable":true,"metadata":{}},"#,
        r#"{"name":"g","type":"geometry(OGC:CRS84)","nullable":true,"metadata":{}}"#,
        r#"]}"#
    );

    #[test]
    fn a_schema_comes_back_as_it_was() {
        let schema = Schema::from_json(EVERYTHING).unwrap();
        assert_eq!(schema.to_json(), EVERYTHING);
        assert_eq!(schema.fields[0].physical_name(Mapping::Name).unwrap(), "col-a");
        assert_eq!(schema.fields[0].physical_name(Mapping::None).unwrap(), "a");
        assert_eq!(schema.fields[0].id(), Some(7));
    }

    #[test]
    fn damage_names_its_place() {
        let cases = [
            ("[]", "its root"),
            ("{", "not JSON"),
            (r#""string""#, "its root"),
            (r#"{"type":"struct"}"#, "fields"),
            (r#"{"type":"struct","fields":[{"name":"a"}]}"#, "a has no type"),
            (r#"{"type":"struct","fields":[{"name":"a","type":"decimal(39,0)"}]}"#, "decimal(39"),
            (r#"{"type":"struct","fields":[{"name":"a","type":{"type":"bag"}}]}"#, "bag"),
        ];
        for (text, word) in cases {
            let error = Schema::from_json(text).unwrap_err();
            assert!(matches!(&error, Error::Damaged(why) if why.contains(word)), "{error:?}");
        }
    }

    #[test]
    fn a_bottomless_schema_is_refused_without_a_stack_overflow() {
        let mut text = String::from(r#""long""#);
        for _ in 0..DEPTH_MAX + 2 {
            text = format!(r#"{{"type":"array","elementType":{text},"containsNull":true}}"#);
        }
        let text = format!(r#"{{"type":"struct","fields":[{{"name":"a","type":{text}}}]}}"#);
        assert!(matches!(Schema::from_json(&text), Err(Error::Damaged(_))));
    }

    #[test]
    fn the_mapping_counts_only_where_the_protocol_supports_it() {
        let mut metadata: Metadata =
            serde_json::from_str(r#"{"id":"t","schemaString":"{}"}"#).unwrap();
        metadata.configuration.insert("delta.columnMapping.mode".into(), "id".into());
        let old = Protocol { min_reader_version: 1, min_writer_version: 2, ..Protocol::default() };
        let new = Protocol { min_reader_version: 2, min_writer_version: 5, ..Protocol::default() };
        assert_eq!(Mapping::of(&old, &metadata).unwrap(), Mapping::None);
        assert_eq!(Mapping::of(&new, &metadata).unwrap(), Mapping::Id);
    }
}
