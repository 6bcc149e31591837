//! `_last_checkpoint`: where the newest checkpoint is (protocol: "Last Checkpoint File Schema").
//!
//! Holds what Spark writes there too: the checkpoint's schema, and for a V2 checkpoint its top
//! level, sidecars and other actions, which save a reader from opening files. What gets long is
//! left out, at Spark's own bounds.

use arrow::datatypes::{DataType as ArrowType, Field as ArrowField, Schema as Columns, TimeUnit};
use md5::{Digest, Md5};
use serde_json::{Value, json};

use super::draft::{Draft, sidecar_json};
use super::{Form, SidecarFile};
use crate::log::schema::{DataType, Field, Primitive, Schema};
use crate::store::Entry;

/// Most sidecars, and most other actions, that are told.
const TOLD_MAX: usize = 30;
/// Longest schema, in characters of JSON.
const SCHEMA_CHARS_MAX: usize = 20_000;

/// The content of `_last_checkpoint` for a checkpoint whose top level is in the store.
pub fn last_checkpoint(draft: &Draft, top: &Entry, sidecars: &[SidecarFile]) -> String {
    let heads = draft.head_actions(sidecars);
    let is_classic = draft.form() == Form::Classic;
    // V1 has no `checkpointMetadata`.
    let others = heads.len() - usize::from(is_classic);
    let sidecar_bytes: i64 = sidecars.iter().map(|sidecar| sidecar.size).sum();
    let top_bytes = i64::try_from(top.size).unwrap_or(i64::MAX);
    let mut hint = json!({
        "version": draft.version().0,
        "size": draft.file_actions() + others + sidecars.len(),
        "sizeInBytes": top_bytes.saturating_add(sidecar_bytes),
        "numOfAddFiles": draft.add_files(),
    });
    let schema = draft.top_columns().and_then(|columns| schema_of(&columns));
    let schema = schema.map(|schema| schema.to_json());
    if let Some(schema) = schema.filter(|schema| schema.chars().count() <= SCHEMA_CHARS_MAX) {
        hint["checkpointSchema"] = serde_json::from_str(&schema).unwrap_or_default();
    }
    if !is_classic {
        let mut top = json!({
            "path": top.name(),
            "sizeInBytes": top.size,
            "modificationTime": top.modified_ms,
        });
        if heads.len() <= TOLD_MAX {
            let actions = heads.iter().map(|line| serde_json::from_str(line).unwrap_or_default());
            top["nonFileActions"] = Value::Array(actions.collect());
        }
        if sidecars.len() <= TOLD_MAX {
            top["sidecarFiles"] = sidecars.iter().map(sidecar_json).collect();
        }
        hint["v2Checkpoint"] = top;
    }
    if let Some(checksum) = checksum(&hint) {
        hint["checksum"] = Value::String(checksum);
    }
    hint.to_string()
}

/// A Parquet file's columns as a Delta schema, each nullable as readers take them; `None`: a type
/// that Delta has not.
fn schema_of(columns: &Columns) -> Option<Schema> {
    let fields = columns.fields().iter().map(|field| delta_field(field));
    Some(Schema { fields: fields.collect::<Option<_>>()? })
}

fn delta_field(field: &ArrowField) -> Option<Field> {
    Some(Field::nullable(field.name(), delta_type(field.data_type())?))
}

fn delta_type(data_type: &ArrowType) -> Option<DataType> {
    Some(DataType::Primitive(match data_type {
        ArrowType::Utf8 => Primitive::String,
        ArrowType::Int64 => Primitive::Long,
        ArrowType::Int32 => Primitive::Integer,
        ArrowType::Int16 => Primitive::Short,
        ArrowType::Int8 => Primitive::Byte,
        ArrowType::Float32 => Primitive::Float,
        ArrowType::Float64 => Primitive::Double,
        ArrowType::Boolean => Primitive::Boolean,
        ArrowType::Binary => Primitive::Binary,
        ArrowType::Date32 => Primitive::Date,
        ArrowType::Timestamp(TimeUnit::Microsecond, Some(_)) => Primitive::Timestamp,
        ArrowType::Timestamp(TimeUnit::Microsecond, None) => Primitive::TimestampNtz,
        ArrowType::Decimal128(precision, scale) => {
            Primitive::Decimal { precision: *precision, scale: u8::try_from(*scale).ok()? }
        }
        ArrowType::Struct(fields) => {
            let fields = fields.iter().map(|field| delta_field(field));
            return Some(DataType::Struct(Schema { fields: fields.collect::<Option<_>>()? }));
        }
        ArrowType::List(element) => {
            let element = Box::new(delta_type(element.data_type())?);
            return Some(DataType::Array { element, contains_null: true });
        }
        ArrowType::Map(entries, _) => {
            let ArrowType::Struct(fields) = entries.data_type() else { return None };
            let part = |at: usize| Some(Box::new(delta_type(fields.get(at)?.data_type())?));
            let (key, value) = (part(0)?, part(1)?);
            return Some(DataType::Map { key, value, value_contains_null: true });
        }
        _ => return None,
    }))
}

/// The protocol's "JSON checksum". `None` where Spark, which orders the pairs of path and value and
/// not the paths, would check another one: its readers then take the file for damaged.
fn checksum(hint: &Value) -> Option<String> {
    let mut pairs = Vec::new();
    canonical(hint, &mut Vec::new(), &mut pairs);
    pairs.retain(|(path, _)| path != "\"checksum\"");
    pairs.sort();
    let pairs: Vec<String> = pairs.iter().map(|(path, value)| format!("{path}={value}")).collect();
    let digest = Md5::digest(pairs.join(","));
    pairs.is_sorted().then(|| digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Collects the canonical path and value of each leaf.
fn canonical(value: &Value, path: &mut Vec<String>, pairs: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                path.push(url_encoded(name));
                canonical(value, path, pairs);
                path.pop();
            }
        }
        Value::Array(elements) => {
            for (at, value) in elements.iter().enumerate() {
                path.push(at.to_string());
                canonical(value, path, pairs);
                path.pop();
            }
        }
        Value::String(text) => pairs.push((path.join("+"), url_encoded(text))),
        Value::Null | Value::Bool(_) | Value::Number(_) => {
            pairs.push((path.join("+"), value.to_string()));
        }
    }
}

/// A text between quotes, with everything but the unreserved octets escaped.
fn url_encoded(text: &str) -> String {
    let mut encoded = String::from("\"");
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded.push('"');
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_protocols() {
        // The protocol's own sample.
        let sample = json!({"k0": "'v 0'", "checksum": "adsaskfljadfkjadfkj", "k1": {"k2": 2,
            "k3": ["v3", [1, 2], {"k4": "v4", "k5": ["v5", "v6", "v7"]}]}});
        assert_eq!(checksum(&sample).unwrap(), "6a92d155a59bf2eecbd4b4ec7fd1f875");
    }

    #[test]
    fn there_is_none_where_spark_would_order_otherwise() {
        let list = |length: usize| json!({"k": (0..length).collect::<Vec<_>>()});
        assert!(checksum(&list(10)).is_some());
        // "k"+1 comes before "k"+10, and "k"+10=10 before "k"+1=1.
        assert_eq!(checksum(&list(11)), None);
    }
}
