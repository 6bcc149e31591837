//! Values of the log's texts as arrow columns of their own types: partition values and bounds of
//! statistics.
//!
//! A text that isn't one value of its type, written as the protocol has it, is no value: what a
//! reader can't be sure of is never put down as sure.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array,
    Int8Array, Int16Array, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, TimeUnit};
use chrono::{DateTime, NaiveDate, NaiveDateTime};

use crate::log::schema::Primitive;

/// The zone of instants in Parquet, which are all in UTC.
const UTC: &str = "UTC";

/// A value that is not null, in the widest form of its kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Boolean(bool),
    Integer(i64),
    /// Unscaled, by the scale of its column.
    Decimal(i128),
    /// Days since the epoch.
    Days(i32),
    /// Microseconds since the epoch, of an instant or of a wall clock.
    Micros(i64),
    Float(f32),
    Double(f64),
    Text(String),
}

/// The arrow type of a column; `None`: a type that no such column can have.
pub fn arrow_type(primitive: &Primitive) -> Option<DataType> {
    Some(match primitive {
        Primitive::String => DataType::Utf8,
        Primitive::Long => DataType::Int64,
        Primitive::Integer => DataType::Int32,
        Primitive::Short => DataType::Int16,
        Primitive::Byte => DataType::Int8,
        Primitive::Float => DataType::Float32,
        Primitive::Double => DataType::Float64,
        Primitive::Decimal { precision, scale } => {
            DataType::Decimal128(*precision, i8::try_from(*scale).ok()?)
        }
        Primitive::Boolean => DataType::Boolean,
        Primitive::Binary => DataType::Binary,
        Primitive::Date => DataType::Date32,
        Primitive::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        Primitive::TimestampNtz => DataType::Timestamp(TimeUnit::Microsecond, None),
        Primitive::Variant | Primitive::Void | Primitive::Other(_) => return None,
    })
}

/// Reads a text as the protocol writes values of that type; `None`: it isn't one.
pub fn parse(text: &str, primitive: &Primitive) -> Option<Value> {
    let integer = |min: i64, max: i64| {
        let value: i64 = text.parse().ok()?;
        (min..=max).contains(&value).then_some(Value::Integer(value))
    };
    match primitive {
        Primitive::String => Some(Value::Text(text.to_owned())),
        // Escaped bytes: above ASCII, writers differ in what a character stands for.
        Primitive::Binary => text.is_ascii().then(|| Value::Text(text.to_owned())),
        Primitive::Byte => integer(i8::MIN.into(), i8::MAX.into()),
        Primitive::Short => integer(i16::MIN.into(), i16::MAX.into()),
        Primitive::Integer => integer(i32::MIN.into(), i32::MAX.into()),
        Primitive::Long => integer(i64::MIN, i64::MAX),
        Primitive::Float => floating(text).and_then(|_| {
            let value: f32 = named(text).map_or_else(|| text.parse().ok(), |v| Some(v as f32))?;
            (value.is_finite() || named(text).is_some()).then_some(Value::Float(value))
        }),
        Primitive::Double => floating(text).map(Value::Double),
        Primitive::Decimal { precision, scale } => decimal(text, *precision, *scale),
        Primitive::Boolean => match text {
            "true" => Some(Value::Boolean(true)),
            "false" => Some(Value::Boolean(false)),
            _ => None,
        },
        Primitive::Date => days(text).map(Value::Days),
        Primitive::Timestamp => {
            // Without a zone it is the writer's own zone, which nobody knows any more.
            let time = DateTime::parse_from_rfc3339(text).ok()?;
            micros(time.naive_utc())
        }
        Primitive::TimestampNtz => {
            let formats = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"];
            let parse = |format: &&str| NaiveDateTime::parse_from_str(text, format).ok();
            // Statistics of a column that was a date once have dates still.
            let midnight = || date(text)?.and_hms_opt(0, 0, 0);
            micros(formats.iter().find_map(parse).or_else(midnight)?)
        }
        Primitive::Variant | Primitive::Void | Primitive::Other(_) => None,
    }
}

/// The column of some values; those of another kind than the column's are null.
/// `None`: a type without an arrow type.
pub fn column(values: &[Option<Value>], primitive: &Primitive) -> Option<ArrayRef> {
    // What `parse` gave for the type fits it, so no conversion below cuts anything.
    let integers = || values.iter().map(|value| as_integer(value.as_ref()));
    let micros = || {
        values.iter().map(|value| match value {
            Some(Value::Micros(micros)) => Some(*micros),
            _ => None,
        })
    };
    let texts = || {
        values.iter().map(|value| match value {
            Some(Value::Text(text)) => Some(text.as_str()),
            _ => None,
        })
    };
    macro_rules! of_kind {
        ($array:ty, $kind:path) => {
            Arc::new(<$array>::from_iter(values.iter().map(|value| match value {
                Some($kind(value)) => Some(*value),
                _ => None,
            })))
        };
    }
    macro_rules! of_width {
        ($array:ty, $width:ty) => {
            Arc::new(<$array>::from_iter(
                integers().map(|value| value.and_then(|value| <$width>::try_from(value).ok())),
            ))
        };
    }
    Some(match primitive {
        Primitive::String => Arc::new(StringArray::from_iter(texts())),
        Primitive::Binary => Arc::new(BinaryArray::from_iter(texts())),
        Primitive::Byte => of_width!(Int8Array, i8),
        Primitive::Short => of_width!(Int16Array, i16),
        Primitive::Integer => of_width!(Int32Array, i32),
        Primitive::Long => Arc::new(Int64Array::from_iter(integers())),
        Primitive::Float => of_kind!(Float32Array, Value::Float),
        Primitive::Double => of_kind!(Float64Array, Value::Double),
        Primitive::Decimal { precision, scale } => {
            let values = values.iter().map(|value| match value {
                Some(Value::Decimal(unscaled)) => Some(*unscaled),
                _ => None,
            });
            let array = Decimal128Array::from_iter(values);
            Arc::new(array.with_precision_and_scale(*precision, i8::try_from(*scale).ok()?).ok()?)
        }
        Primitive::Boolean => of_kind!(BooleanArray, Value::Boolean),
        Primitive::Date => of_kind!(Date32Array, Value::Days),
        Primitive::Timestamp => {
            Arc::new(TimestampMicrosecondArray::from_iter(micros()).with_timezone(UTC))
        }
        Primitive::TimestampNtz => Arc::new(TimestampMicrosecondArray::from_iter(micros())),
        Primitive::Variant | Primitive::Void | Primitive::Other(_) => return None,
    })
}

fn as_integer(value: Option<&Value>) -> Option<i64> {
    match value {
        Some(Value::Integer(value)) => Some(*value),
        _ => None,
    }
}

/// The numbers that JSON has no digits for, by the names that Delta's writers give them.
fn named(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

fn floating(text: &str) -> Option<f64> {
    // Rust's own names of numbers are nobody else's.
    let is_number = || text.bytes().all(|byte| b"+-.eE0123456789".contains(&byte));
    named(text).or_else(|| text.parse().ok().filter(|value: &f64| is_number() && value.is_finite()))
}

/// An exact decimal, also with an exponent, as Java writes small ones. One that would have to be
/// rounded is none.
fn decimal(text: &str, precision: u8, scale: u8) -> Option<Value> {
    let (digits, exponent) = match text.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (is_negative, digits) = match digits.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, digits.strip_prefix('+').unwrap_or(digits)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all: String = [whole, fraction].concat();
    if whole.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction_digits = i32::try_from(fraction.len()).ok()?;
    let shift = i32::from(scale).checked_add(exponent)?.checked_sub(fraction_digits)?;
    let all = all.trim_start_matches('0');
    let kept = match usize::try_from(shift) {
        Ok(_) if all.is_empty() => String::new(),
        Ok(zeros) if zeros <= usize::from(precision) => format!("{all}{}", "0".repeat(zeros)),
        Ok(_) => return None,
        Err(_) => {
            let dropped = usize::try_from(shift.unsigned_abs()).ok()?;
            let kept = all.len().saturating_sub(dropped);
            if all[kept..].bytes().any(|digit| digit != b'0') {
                return None;
            }
            all[..kept].to_owned()
        }
    };
    if kept.len() > usize::from(precision) {
        return None;
    }
    let unscaled: i128 = if kept.is_empty() { 0 } else { kept.parse().ok()? };
    Some(Value::Decimal(if is_negative { -unscaled } else { unscaled }))
}

fn date(text: &str) -> Option<NaiveDate> {
    // chrono takes "2026-1-1" too; four, two and two digits are what the log has.
    (text.len() == 10).then(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()).flatten()
}

fn days(text: &str) -> Option<i32> {
    let days = date(text)?.signed_duration_since(NaiveDate::default()).num_days();
    i32::try_from(days).ok()
}

/// Whole microseconds; a leap second, which no column holds, is none.
fn micros(time: NaiveDateTime) -> Option<Value> {
    let time = time.and_utc();
    let nanos = time.timestamp_subsec_nanos();
    (nanos < 1_000_000_000 && nanos.is_multiple_of(1000))
        .then(|| Value::Micros(time.timestamp_micros()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_reads_its_own_form_and_nothing_else() {
        let decimal = Primitive::Decimal { precision: 5, scale: 2 };
        let wide = Primitive::Decimal { precision: 38, scale: 18 };
        let micros = |micros| Some(Value::Micros(micros));
        for (text, primitive, expected) in [
            ("127", Primitive::Byte, Some(Value::Integer(127))),
            ("128", Primitive::Byte, None),
            ("1.0", Primitive::Long, None),
            ("-9223372036854775808", Primitive::Long, Some(Value::Integer(i64::MIN))),
            ("9223372036854775808", Primitive::Long, None),
            ("1.5", decimal.clone(), Some(Value::Decimal(150))),
            ("-0.05", decimal.clone(), Some(Value::Decimal(-5))),
            ("1.500", decimal.clone(), Some(Value::Decimal(150))),
            ("1.505", decimal.clone(), None),
            ("1E+2", decimal.clone(), Some(Value::Decimal(10_000))),
            ("1E+3", decimal.clone(), None),
            ("0E-18", wide.clone(), Some(Value::Decimal(0))),
            ("0E+99", wide.clone(), Some(Value::Decimal(0))),
            ("1E-19", wide.clone(), None),
            ("1E+999999999", wide.clone(), None),
            ("1E-999999999", wide.clone(), None),
            (
                "-12345678901234567890.123456789012345678",
                wide,
                Some(Value::Decimal(-12345678901234567890123456789012345678)),
            ),
            (".5", decimal, None),
            ("NaN", Primitive::Double, None),
            ("inf", Primitive::Double, None),
            ("1e999", Primitive::Double, None),
            ("-Infinity", Primitive::Float, Some(Value::Float(f32::NEG_INFINITY))),
            ("1e39", Primitive::Float, None),
            ("0.1", Primitive::Float, Some(Value::Float(0.1))),
            ("true", Primitive::Boolean, Some(Value::Boolean(true))),
            ("True", Primitive::Boolean, None),
            ("1969-12-31", Primitive::Date, Some(Value::Days(-1))),
            ("2026-02-30", Primitive::Date, None),
            ("2026-1-1", Primitive::Date, None),
            ("1970-01-01T00:00:00.001Z", Primitive::Timestamp, micros(1_000)),
            ("1970-01-01T01:00:00.000001+01:00", Primitive::Timestamp, micros(1)),
            ("1969-12-31T23:59:59.999Z", Primitive::Timestamp, micros(-1_000)),
            ("1970-01-01T00:00:00.0000001Z", Primitive::Timestamp, None),
            ("1970-01-01T00:00:00", Primitive::Timestamp, None),
            ("1970-01-01 00:00:00", Primitive::Timestamp, None),
            ("1970-01-01 00:00:00.5", Primitive::TimestampNtz, micros(500_000)),
            ("1970-01-01T00:00:01", Primitive::TimestampNtz, micros(1_000_000)),
            ("1970-01-02", Primitive::TimestampNtz, micros(86_400_000_000)),
            ("1970-01-01T00:00:00Z", Primitive::TimestampNtz, None),
            ("\u{1}a", Primitive::Binary, Some(Value::Text("\u{1}a".into()))),
            ("é", Primitive::Binary, None),
            ("a", Primitive::Variant, None),
        ] {
            let parsed = parse(text, &primitive);
            // NaN equals nothing, itself included.
            if text == "NaN" {
                assert!(matches!(parsed, Some(Value::Double(value)) if value.is_nan()));
                continue;
            }
            assert_eq!(parsed, expected, "{text} {primitive}");
            if let Some(value) = parsed {
                let array = column(&[Some(value), None], &primitive).unwrap();
                assert_eq!(Some(array.data_type().clone()), arrow_type(&primitive));
                assert_eq!((array.len(), array.null_count()), (2, 1), "{text} {primitive}");
            }
        }
    }
}
