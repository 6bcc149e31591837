//! What a Parquet file's columns are, in Delta's terms.
//!
//! Follows the protocol's "Delta Data Type to Parquet Type Mappings" and the format's rules for
//! lists and maps. Read from the Parquet schema itself and not by way of arrow's: an INT96, a field
//! id, a variant's annotation and the level at which a field is null are all needed, and the type
//! that a writer's arrow hint promises is not what other readers see. Whether the columns fit a
//! table is `fit`'s matter.

use parquet::basic::{ConvertedType, LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::schema::types::{SchemaDescriptor, Type};

use crate::error::{Error, Result};
use crate::log::schema::{DEPTH_MAX, DataType, Field, Primitive, Schema};

/// A column of a file, or a part of one.
#[derive(Clone, Debug, PartialEq)]
pub struct FileColumn {
    pub name: String,
    /// The Parquet field id.
    pub id: Option<i32>,
    /// Whether the file can hold a null here.
    pub optional: bool,
    /// Definition level at which this is present; one less, where it is optional, means null.
    pub definition: i16,
    pub kind: FileType,
}

/// The type of a file's column.
#[derive(Clone, Debug, PartialEq)]
pub enum FileType {
    Leaf { column: usize, stored: Stored },
    Struct { fields: Vec<FileColumn>, is_variant: bool },
    List(Box<FileColumn>),
    Map { key: Box<FileColumn>, value: Box<FileColumn> },
}

/// How a leaf's values are stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Stored {
    As(Primitive),
    /// A timestamp of the oldest kind; its statistics have no order.
    Int96,
    /// By a type that Delta doesn't have, as Parquet calls it.
    Foreign(String),
}

impl FileColumn {
    /// The ordinals of the leaves below this column, in order.
    pub fn leaves(&self) -> Vec<usize> {
        match &self.kind {
            FileType::Leaf { column, .. } => vec![*column],
            FileType::Struct { fields, .. } => fields.iter().flat_map(FileColumn::leaves).collect(),
            FileType::List(element) => element.leaves(),
            FileType::Map { key, value } => [key.leaves(), value.leaves()].concat(),
        }
    }

    /// The column's type for a table that is made from it: everything nullable, as Spark has it.
    /// Errors: [`Error::Refused`] naming the column and what Parquet calls its type.
    pub fn data_type(&self, place: &str, names: Names) -> Result<DataType> {
        Ok(match &self.kind {
            FileType::Leaf { stored: Stored::As(primitive), .. } => {
                DataType::Primitive(primitive.clone())
            }
            FileType::Leaf { stored: Stored::Int96, .. } => {
                DataType::Primitive(Primitive::Timestamp)
            }
            FileType::Leaf { stored: Stored::Foreign(name), .. } => {
                return Err(Error::Refused(foreign(place, name)));
            }
            FileType::Struct { is_variant: true, .. } => DataType::Primitive(Primitive::Variant),
            FileType::Struct { fields, .. } => {
                DataType::Struct(to_schema(fields, Some(place), names)?)
            }
            FileType::List(element) => DataType::Array {
                element: Box::new(element.data_type(place, names)?),
                contains_null: true,
            },
            FileType::Map { key, value } => DataType::Map {
                key: Box::new(key.data_type(place, names)?),
                value: Box::new(value.data_type(place, names)?),
                value_contains_null: true,
            },
        })
    }

    /// The type's name for messages.
    pub fn type_name(&self) -> String {
        match &self.kind {
            FileType::Leaf { stored: Stored::As(primitive), .. } => primitive.to_string(),
            FileType::Leaf { stored: Stored::Int96, .. } => "timestamp (INT96)".into(),
            FileType::Leaf { stored: Stored::Foreign(name), .. } => name.clone(),
            FileType::Struct { is_variant: true, .. } => "variant".into(),
            FileType::Struct { .. } => "struct".into(),
            FileType::List(element) => format!("array<{}>", element.type_name()),
            FileType::Map { key, value } => {
                format!("map<{}, {}>", key.type_name(), value.type_name())
            }
        }
    }
}

/// The sentence for a type that Delta doesn't have, with what helps in the usual case.
pub fn foreign(place: &str, name: &str) -> String {
    let hint = if name.contains("nanoseconds") {
        "; write microseconds instead (pyarrow: coerce_timestamps='us')"
    } else {
        ""
    };
    format!("column {place:?} has the Parquet type {name}, which Delta doesn't have{hint}")
}

/// Which names columns may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// Those that Spark takes in a table that doesn't map columns.
    Plain,
    /// All but the empty one: the table maps columns.
    Any,
}

/// The schema of a table that is made from a file's columns. Errors: [`Error::Refused`].
pub fn to_schema(columns: &[FileColumn], place: Option<&str>, names: Names) -> Result<Schema> {
    let mut fields: Vec<Field> = Vec::with_capacity(columns.len());
    for column in columns {
        let path = place.map_or(column.name.clone(), |place| format!("{place}.{}", column.name));
        if fields.iter().any(|field| field.name.to_lowercase() == column.name.to_lowercase()) {
            return Err(Error::Refused(format!(
                "there are two columns {path:?}: names that differ only by case are one in Delta"
            )));
        }
        let is_plain = !column.name.contains(NAME_REFUSED);
        if column.name.is_empty() || (names == Names::Plain && !is_plain) {
            return Err(Error::Refused(format!(
                "column {path:?} can't be named so: Spark takes no names that are empty or have any \
                 of \" ,;{{}}()\\n\\t=\" in them"
            )));
        }
        fields.push(Field::nullable(&column.name, column.data_type(&path, names)?));
    }
    Ok(Schema { fields })
}

/// What Spark refuses in names of tables that don't map columns.
const NAME_REFUSED: &[char] = &[' ', ',', ';', '{', '}', '(', ')', '\n', '\t', '='];

/// Reads a file's columns. Errors: [`Error::Refused`] for nesting that isn't Delta's.
pub fn read_columns(schema: &SchemaDescriptor) -> Result<Vec<FileColumn>> {
    let mut reader = Reader { next_leaf: 0 };
    reader.fields(schema.root_schema(), 0, 0)
}

struct Reader {
    next_leaf: usize,
}

impl Reader {
    fn fields(&mut self, group: &Type, definition: i16, depth: usize) -> Result<Vec<FileColumn>> {
        group.get_fields().iter().map(|field| self.column(field, definition, depth + 1)).collect()
    }

    /// Reads a field below a parent that is present at `parent` levels.
    fn column(&mut self, node: &Type, parent: i16, depth: usize) -> Result<FileColumn> {
        let info = node.get_basic_info();
        if depth > DEPTH_MAX {
            return Err(Error::Refused(format!("column {:?} is nested too deeply", node.name())));
        }
        if info.has_repetition() && info.repetition() == Repetition::REPEATED {
            // A repeated field without an annotation is a list of required elements.
            let element = self.present(node, parent + 1, false, depth)?;
            return Ok(FileColumn {
                name: node.name().to_owned(),
                id: None,
                optional: false,
                definition: parent,
                kind: FileType::List(Box::new(element)),
            });
        }
        let optional = node.is_optional();
        self.present(node, parent + i16::from(optional), optional, depth)
    }

    /// Reads a field whose own definition level is known.
    fn present(
        &mut self,
        node: &Type,
        definition: i16,
        optional: bool,
        depth: usize,
    ) -> Result<FileColumn> {
        let info = node.get_basic_info();
        let kind = if node.is_primitive() {
            let column = self.next_leaf;
            self.next_leaf += 1;
            FileType::Leaf { column, stored: stored(node) }
        } else if is_annotated(node, &LogicalType::List, &[ConvertedType::LIST]) {
            self.list(node, definition, depth)?
        } else if is_annotated(
            node,
            &LogicalType::Map,
            &[ConvertedType::MAP, ConvertedType::MAP_KEY_VALUE],
        ) {
            self.map(node, definition, depth)?
        } else {
            if node.get_fields().is_empty() {
                return Err(Error::Refused(format!("column {:?} has no fields", node.name())));
            }
            let is_variant = matches!(info.logical_type_ref(), Some(LogicalType::Variant(_)));
            FileType::Struct { fields: self.fields(node, definition, depth)?, is_variant }
        };
        let id = info.has_id().then(|| info.id());
        Ok(FileColumn { name: node.name().to_owned(), id, optional, definition, kind })
    }

    /// A list in the three-level form, or in one of the older two-level ones (Parquet format,
    /// "Lists", backward-compatibility rules).
    fn list(&mut self, node: &Type, definition: i16, depth: usize) -> Result<FileType> {
        let [repeated] = node.get_fields() else { return Err(misshapen(node, "list")) };
        if !is_repeated(repeated) {
            return Err(misshapen(node, "list"));
        }
        let is_two_level = repeated.is_primitive()
            || repeated.get_fields().len() != 1
            || repeated.name() == "array"
            || repeated.name() == format!("{}_tuple", node.name())
            || is_annotated(repeated, &LogicalType::List, &[ConvertedType::LIST])
            || is_repeated(&repeated.get_fields()[0]);
        let element = if is_two_level {
            self.present(repeated, definition + 1, false, depth + 1)?
        } else {
            self.column(&repeated.get_fields()[0], definition + 1, depth + 1)?
        };
        Ok(FileType::List(Box::new(element)))
    }

    fn map(&mut self, node: &Type, definition: i16, depth: usize) -> Result<FileType> {
        let [entries] = node.get_fields() else { return Err(misshapen(node, "map")) };
        if !is_repeated(entries) || entries.is_primitive() {
            return Err(misshapen(node, "map"));
        }
        let [key, value] = entries.get_fields() else { return Err(misshapen(node, "map")) };
        Ok(FileType::Map {
            key: Box::new(self.column(key, definition + 1, depth + 1)?),
            value: Box::new(self.column(value, definition + 1, depth + 1)?),
        })
    }
}

fn misshapen(node: &Type, what: &str) -> Error {
    Error::Refused(format!("column {:?} is called a {what} and isn't built as one", node.name()))
}

fn is_repeated(node: &Type) -> bool {
    let info = node.get_basic_info();
    info.has_repetition() && info.repetition() == Repetition::REPEATED
}

fn is_annotated(node: &Type, logical: &LogicalType, converted: &[ConvertedType]) -> bool {
    let info = node.get_basic_info();
    match info.logical_type_ref() {
        Some(annotation) => annotation == logical,
        None => converted.contains(&info.converted_type()),
    }
}

/// How a primitive field's values are stored: by its logical type, else by the older converted
/// type, else by the physical one.
fn stored(node: &Type) -> Stored {
    let info = node.get_basic_info();
    let physical = node.get_physical_type();
    match info.logical_type_ref() {
        Some(LogicalType::String | LogicalType::Json | LogicalType::Enum) => {
            Stored::As(Primitive::String)
        }
        Some(LogicalType::Integer(integer)) => integer_type(integer.bit_width, integer.is_signed),
        Some(LogicalType::Decimal(_)) => decimal(node),
        Some(LogicalType::Date) => Stored::As(Primitive::Date),
        Some(LogicalType::Timestamp(timestamp)) => {
            match (&timestamp.unit, timestamp.is_adjusted_to_u_t_c) {
                (TimeUnit::NANOS, _) => Stored::Foreign("timestamp of nanoseconds".into()),
                (_, true) => Stored::As(Primitive::Timestamp),
                (_, false) => Stored::As(Primitive::TimestampNtz),
            }
        }
        Some(LogicalType::Bson) => Stored::As(Primitive::Binary),
        Some(other) => Stored::Foreign(format!("{other:?}").to_lowercase()),
        None => match info.converted_type() {
            ConvertedType::NONE => by_physical_type(physical),
            ConvertedType::UTF8 | ConvertedType::JSON | ConvertedType::ENUM => {
                Stored::As(Primitive::String)
            }
            ConvertedType::DECIMAL => decimal(node),
            ConvertedType::DATE => Stored::As(Primitive::Date),
            // The converted types know only timestamps adjusted to UTC.
            ConvertedType::TIMESTAMP_MILLIS | ConvertedType::TIMESTAMP_MICROS => {
                Stored::As(Primitive::Timestamp)
            }
            ConvertedType::INT_8 => Stored::As(Primitive::Byte),
            ConvertedType::INT_16 => Stored::As(Primitive::Short),
            ConvertedType::INT_32 => Stored::As(Primitive::Integer),
            ConvertedType::INT_64 => Stored::As(Primitive::Long),
            ConvertedType::BSON => Stored::As(Primitive::Binary),
            other => Stored::Foreign(other.to_string().to_lowercase()),
        },
    }
}

fn integer_type(bits: i8, is_signed: bool) -> Stored {
    match (bits, is_signed) {
        (8, true) => Stored::As(Primitive::Byte),
        (16, true) => Stored::As(Primitive::Short),
        (32, true) => Stored::As(Primitive::Integer),
        (64, true) => Stored::As(Primitive::Long),
        (bits, _) => Stored::Foreign(format!("unsigned integer of {bits} bits")),
    }
}

fn decimal(node: &Type) -> Stored {
    let (precision, scale) = (node.get_precision(), node.get_scale());
    match (u8::try_from(precision), u8::try_from(scale)) {
        (Ok(precision @ 1..=38), Ok(scale)) if scale <= precision => {
            Stored::As(Primitive::Decimal { precision, scale })
        }
        _ => Stored::Foreign(format!("decimal({precision},{scale})")),
    }
}

fn by_physical_type(physical: Physical) -> Stored {
    match physical {
        Physical::BOOLEAN => Stored::As(Primitive::Boolean),
        Physical::INT32 => Stored::As(Primitive::Integer),
        Physical::INT64 => Stored::As(Primitive::Long),
        Physical::INT96 => Stored::Int96,
        Physical::FLOAT => Stored::As(Primitive::Float),
        Physical::DOUBLE => Stored::As(Primitive::Double),
        Physical::BYTE_ARRAY => Stored::As(Primitive::Binary),
        Physical::FIXED_LEN_BYTE_ARRAY => Stored::Foreign("fixed-length byte array".into()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parquet::schema::parser::parse_message_type;

    use super::*;

    fn columns(message: &str) -> Vec<FileColumn> {
        let parsed = parse_message_type(message).unwrap();
        read_columns(&SchemaDescriptor::new(Arc::new(parsed))).unwrap()
    }

    #[test]
    fn every_type_of_the_protocol_is_known() {
        let columns = columns(
            "message m {
               required boolean a; optional int32 b (INTEGER(8,true)); optional int32 c (INT_16);
               optional int32 d; optional int64 e (INTEGER(64,true)); optional int32 f (DATE);
               optional int64 g (TIMESTAMP(MICROS,true));
               optional int64 h (TIMESTAMP(MILLIS,false));
               optional int96 i; optional float j; optional double k;
               optional fixed_len_byte_array(16) l (DECIMAL(38,18)); optional binary m (STRING);
               optional binary n; optional int64 o (TIMESTAMP_MICROS); optional binary p (UTF8);
             }",
        );
        let schema = to_schema(&columns, None, Names::Plain).unwrap();
        let names: Vec<String> =
            schema.fields.iter().map(|field| field.data_type.to_string()).collect();
        assert_eq!(
            names,
            [
                "boolean",
                "byte",
                "short",
                "integer",
                "long",
                "date",
                "timestamp",
                "timestamp_ntz",
                "timestamp",
                "float",
                "double",
                "decimal(38,18)",
                "string",
                "binary",
                "timestamp",
                "string"
            ]
        );
        assert!(schema.fields.iter().all(|field| field.nullable));
    }

    #[test]
    fn a_type_that_delta_lacks_is_refused_by_name() {
        for (field, word) in [
            ("optional int32 x (INTEGER(32,false))", "unsigned"),
            ("optional int64 x (TIMESTAMP(NANOS,true))", "coerce_timestamps"),
            ("optional int64 x (TIME(MICROS,true))", "time"),
            ("optional fixed_len_byte_array(16) x (UUID)", "uuid"),
            ("optional fixed_len_byte_array(2) x (FLOAT16)", "float16"),
        ] {
            let columns = columns(&format!("message m {{ {field}; }}"));
            let error = to_schema(&columns, None, Names::Plain).unwrap_err();
            assert!(
                matches!(&error, Error::Refused(text) if text.contains(word) && text.contains("\"x\"")),
                "{error:?}"
            );
        }
    }

    #[test]
    fn lists_and_maps_of_every_age_are_read_with_their_levels() {
        let columns = columns(
            "message m {
               optional group new (LIST) { repeated group list { optional int32 element; } }
               optional group old (LIST) { repeated int32 array; }
               optional group tuple (LIST) { repeated group tuple_tuple { optional int32 x; } }
               repeated int32 bare;
               optional group map (MAP) {
                 repeated group key_value { required binary key (STRING); optional int64 value; }
               }
             }",
        );
        let types: Vec<String> = columns
            .iter()
            .map(|c| c.data_type(&c.name, Names::Plain).unwrap().to_string())
            .collect();
        assert_eq!(
            types,
            [
                "array<integer>",
                "array<integer>",
                "array<struct<x: integer>>",
                "array<integer>",
                "map<string, long>"
            ]
        );
        let FileType::List(element) = &columns[0].kind else { panic!() };
        assert_eq!((element.optional, element.definition), (true, 3));
        let FileType::List(element) = &columns[1].kind else { panic!() };
        assert_eq!((element.optional, element.definition), (false, 2));
        let leaves: Vec<usize> = columns.iter().flat_map(FileColumn::leaves).collect();
        assert_eq!(leaves, [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn names_that_a_new_table_cannot_have_are_refused() {
        let twice = columns("message m { optional int32 a; optional int32 A; }");
        assert!(matches!(to_schema(&twice, None, Names::Any), Err(Error::Refused(_))));
        let mut space = columns("message m { optional int32 a; }");
        space[0].name = "a b".into();
        assert!(matches!(to_schema(&space, None, Names::Plain), Err(Error::Refused(_))));
        to_schema(&space, None, Names::Any).unwrap();
    }
}
