//! `add.stats_parsed` back as the JSON of `add.stats`, for checkpoints that have nothing else.
//!
//! Exact: decimals with all digits, timestamps with all microseconds that are there. Types follow
//! from the file's own columns. What has no form in JSON (bounds of binaries and variants) is left
//! out, and a missing statistic only says that nothing is known.

use arrow::array::{Array, AsArray, StructArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
};
use chrono::{DateTime, Datelike, NaiveDateTime};

use crate::log::scalar::{date_text, decimal_text};

/// The JSON text of one row; `None`: the row has no statistics.
pub fn statistics(array: &StructArray, row: usize) -> Option<String> {
    array.is_valid(row).then(|| object(array, row).unwrap_or_else(|| "{}".into()))
}

/// An object of the fields that are there; `None`: there are none.
fn object(array: &StructArray, row: usize) -> Option<String> {
    let mut text = String::new();
    for (name, column) in array.column_names().into_iter().zip(array.columns()) {
        let Some(value) = value(column.as_ref(), row) else { continue };
        text.push(if text.is_empty() { '{' } else { ',' });
        text.push_str(&quoted(name));
        text.push(':');
        text.push_str(&value);
    }
    (!text.is_empty()).then(|| text + "}")
}

fn value(array: &dyn Array, row: usize) -> Option<String> {
    if array.is_null(row) {
        return None;
    }
    Some(match array.data_type() {
        DataType::Struct(_) => return object(array.as_struct(), row),
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Int8 => array.as_primitive::<Int8Type>().value(row).to_string(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).to_string(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Float32 => {
            let value = array.as_primitive::<Float32Type>().value(row);
            // Not by way of a double: 0.1 would come out with digits that it never had.
            number(value.into()).or_else(|| serde_json::to_string(&value).ok())?
        }
        DataType::Float64 => {
            let value = array.as_primitive::<Float64Type>().value(row);
            number(value).or_else(|| serde_json::to_string(&value).ok())?
        }
        DataType::Decimal128(_, scale) => {
            let unscaled = array.as_primitive::<Decimal128Type>().value(row);
            decimal_text(unscaled, u8::try_from(*scale).ok()?)
        }
        DataType::Utf8 => quoted(array.as_string::<i32>().value(row)),
        DataType::Utf8View => quoted(array.as_string_view().value(row)),
        DataType::Date32 => {
            let days = array.as_primitive::<Date32Type>().value(row);
            quoted(&date_text(days.into())?)
        }
        DataType::Timestamp(unit, zone) => {
            let time = match unit {
                TimeUnit::Microsecond => {
                    let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
                    DateTime::from_timestamp_micros(micros)?
                }
                TimeUnit::Millisecond => {
                    let millis = array.as_primitive::<TimestampMillisecondType>().value(row);
                    DateTime::from_timestamp_millis(millis)?
                }
                TimeUnit::Second | TimeUnit::Nanosecond => return None,
            };
            quoted(&timestamp(time.naive_utc(), zone.is_some())?)
        }
        _ => return None,
    })
}

/// The names of the numbers that JSON has no digits for; `None`: it has.
fn number(value: f64) -> Option<String> {
    let name = match value {
        value if value.is_nan() => "NaN",
        f64::INFINITY => "Infinity",
        f64::NEG_INFINITY => "-Infinity",
        _ => return None,
    };
    Some(quoted(name))
}

/// Milliseconds as all writers have them, or as many digits as it takes.
fn timestamp(time: NaiveDateTime, is_instant: bool) -> Option<String> {
    let micros = time.and_utc().timestamp_subsec_micros();
    let format =
        if micros.is_multiple_of(1000) { "%Y-%m-%dT%H:%M:%S%.3f" } else { "%Y-%m-%dT%H:%M:%S%.6f" };
    let zone = if is_instant { "Z" } else { "" };
    (1..=9999).contains(&time.year()).then(|| format!("{}{zone}", time.format(format)))
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
