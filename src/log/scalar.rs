//! One value of a Parquet leaf, as Delta means it: for statistics and for partition columns.

use std::cmp::Ordering;

use chrono::{DateTime, Datelike, NaiveDate};
use parquet::basic::{ConvertedType, LogicalType, TimeUnit};
use parquet::data_type::Int96;
use parquet::schema::types::ColumnDescriptor;

use crate::log::partition::canonical;
use crate::log::schema::Primitive;

/// Longest string in statistics, in characters, before its tie-breaker, where the table says no
/// other length; as Spark has it.
pub const STRING_CHARS_MAX: usize = 32;

/// A value that is not null.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    Boolean(bool),
    Integer(i64),
    Decimal {
        unscaled: i128,
        scale: u8,
    },
    /// Days since the epoch.
    Days(i64),
    /// Microseconds since the epoch.
    Micros(i64),
    Floating(f64),
    Bytes(Vec<u8>),
}

/// Which end of a range a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    Min,
    Max,
}

impl Scalar {
    /// Reads a 32-bit or 64-bit integer by the leaf's annotation; `None`: out of range.
    pub fn of_integer(leaf: &ColumnDescriptor, value: i64) -> Option<Scalar> {
        let micros = |unit: &TimeUnit| match unit {
            TimeUnit::MILLIS => value.checked_mul(1000),
            TimeUnit::MICROS => Some(value),
            TimeUnit::NANOS => None,
        };
        match (leaf.logical_type_ref(), leaf.converted_type()) {
            (Some(LogicalType::Timestamp(timestamp)), _) => {
                micros(&timestamp.unit).map(Scalar::Micros)
            }
            (Some(LogicalType::Date), _) | (None, ConvertedType::DATE) => Some(Scalar::Days(value)),
            (Some(LogicalType::Decimal(_)), _) | (None, ConvertedType::DECIMAL) => {
                decimal(leaf, value.into())
            }
            (None, ConvertedType::TIMESTAMP_MILLIS) => {
                micros(&TimeUnit::MILLIS).map(Scalar::Micros)
            }
            (None, ConvertedType::TIMESTAMP_MICROS) => Some(Scalar::Micros(value)),
            _ => Some(Scalar::Integer(value)),
        }
    }

    /// Reads the oldest kind of timestamp; `None`: out of range.
    pub fn of_int96(value: &Int96) -> Option<Scalar> {
        const EPOCH_DAY: i64 = 2_440_588;
        const DAY_MICROS: i64 = 86_400_000_000;
        let [low, high, day] = value.data() else { return None };
        let day = i64::from(day.cast_signed()) - EPOCH_DAY;
        let nanos = (u64::from(*high) << 32 | u64::from(*low)).cast_signed();
        day.checked_mul(DAY_MICROS)?.checked_add(nanos / 1000).map(Scalar::Micros)
    }

    /// Reads a byte array by the leaf's annotation; `None`: too long for a decimal.
    pub fn of_bytes(leaf: &ColumnDescriptor, value: &[u8]) -> Option<Scalar> {
        let is_decimal = match leaf.logical_type_ref() {
            Some(annotation) => matches!(annotation, LogicalType::Decimal(_)),
            None => leaf.converted_type() == ConvertedType::DECIMAL,
        };
        if !is_decimal {
            return Some(Scalar::Bytes(value.to_vec()));
        }
        let sign = if value.first()? & 0x80 == 0 { 0 } else { 0xff };
        let (head, tail) = value.split_at(value.len().saturating_sub(16));
        if head.iter().any(|byte| *byte != sign) || tail[0] & 0x80 != sign & 0x80 {
            return None;
        }
        let mut whole = [sign; 16];
        whole[16 - tail.len()..].copy_from_slice(tail);
        decimal(leaf, i128::from_be_bytes(whole))
    }

    /// The value in the one form that a partition value of that type has.
    pub fn to_partition(&self, primitive: &Primitive) -> Option<String> {
        let text = match self {
            Scalar::Boolean(value) => value.to_string(),
            Scalar::Integer(value) => value.to_string(),
            Scalar::Decimal { unscaled, scale } => decimal_text(*unscaled, *scale),
            Scalar::Days(days) => date_text(*days)?,
            Scalar::Micros(micros) => {
                let time = DateTime::from_timestamp_micros(*micros)?.naive_utc();
                time.format("%Y-%m-%d %H:%M:%S%.6f").to_string()
            }
            // The shortest text that reads back as the same number; compared as a number.
            Scalar::Floating(value) => return Some(value.to_string()),
            Scalar::Bytes(bytes) => String::from_utf8(bytes.clone()).ok()?,
        };
        canonical(&text, primitive)
    }

    /// The value as JSON text in `minValues` or `maxValues` of a column of that type, strings cut
    /// to `string_chars`; `None`: this value, or this type, has no place there.
    pub fn to_statistic(
        &self,
        primitive: &Primitive,
        bound: Bound,
        string_chars: usize,
    ) -> Option<String> {
        match (self, primitive) {
            (Scalar::Integer(value), _) => Some(value.to_string()),
            (Scalar::Decimal { unscaled, scale }, _) => Some(decimal_text(*unscaled, *scale)),
            (Scalar::Days(days), Primitive::TimestampNtz) => {
                date_text(*days).map(|date| format!("\"{date}T00:00:00.000\""))
            }
            (Scalar::Days(days), _) => date_text(*days).map(|date| format!("\"{date}\"")),
            (Scalar::Micros(micros), _) => timestamp_text(*micros, primitive, bound),
            (Scalar::Floating(value), _) => floating_text(*value, bound),
            (Scalar::Bytes(_), Primitive::String) if string_chars == 0 => None,
            (Scalar::Bytes(bytes), Primitive::String) => {
                let text = std::str::from_utf8(bytes).ok()?;
                let cut = match bound {
                    Bound::Min => text.chars().take(string_chars).collect(),
                    Bound::Max => cut_max(text, string_chars)?,
                };
                Some(serde_json::Value::String(cut).to_string())
            }
            // The reference has no bounds of booleans and binaries.
            (Scalar::Boolean(_) | Scalar::Bytes(_), _) => None,
        }
    }

    /// Orders two values of one leaf; `None` for NaN and for values of different kinds.
    pub fn compare(&self, other: &Scalar) -> Option<Ordering> {
        match (self, other) {
            (Scalar::Boolean(one), Scalar::Boolean(two)) => Some(one.cmp(two)),
            (Scalar::Integer(one), Scalar::Integer(two)) => Some(one.cmp(two)),
            (Scalar::Days(one), Scalar::Days(two)) => Some(one.cmp(two)),
            (Scalar::Micros(one), Scalar::Micros(two)) => Some(one.cmp(two)),
            (Scalar::Decimal { unscaled: one, .. }, Scalar::Decimal { unscaled: two, .. }) => {
                Some(one.cmp(two))
            }
            (Scalar::Floating(one), Scalar::Floating(two)) => one.partial_cmp(two),
            (Scalar::Bytes(one), Scalar::Bytes(two)) => Some(one.cmp(two)),
            _ => None,
        }
    }
}

fn decimal(leaf: &ColumnDescriptor, unscaled: i128) -> Option<Scalar> {
    u8::try_from(leaf.type_scale()).ok().map(|scale| Scalar::Decimal { unscaled, scale })
}

/// A decimal with all digits of its scale: exact, as no binary number could be.
pub fn decimal_text(unscaled: i128, scale: u8) -> String {
    let sign = if unscaled < 0 { "-" } else { "" };
    let scale = usize::from(scale);
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let point = if scale == 0 { "" } else { "." };
    format!("{sign}{whole}{point}{fraction}")
}

/// `yyyy-MM-dd`; `None`: a year that has not four digits.
pub fn date_text(days: i64) -> Option<String> {
    let epoch = NaiveDate::from_ymd_opt(1970, 1, 1)?;
    let date = epoch.checked_add_signed(chrono::TimeDelta::try_days(days)?)?;
    (1..=9999).contains(&date.year()).then(|| date.format("%Y-%m-%d").to_string())
}

/// Milliseconds hold a range only if its ends are rounded outward.
fn timestamp_text(micros: i64, primitive: &Primitive, bound: Bound) -> Option<String> {
    let millis = match bound {
        Bound::Min => micros.div_euclid(1000),
        Bound::Max => micros.checked_add(999)?.div_euclid(1000),
    };
    let time = DateTime::from_timestamp_millis(millis)?.naive_utc();
    let zone = if *primitive == Primitive::TimestampNtz { "" } else { "Z" };
    (1..=9999)
        .contains(&time.year())
        .then(|| format!("\"{}{zone}\"", time.format("%Y-%m-%dT%H:%M:%S%.3f")))
}

fn floating_text(value: f64, bound: Bound) -> Option<String> {
    // JSON has no infinity. Parquet lets a writer give either zero for a range that holds both.
    match (value, bound) {
        (value, _) if !value.is_finite() => None,
        (0.0, Bound::Min) => Some("-0.0".into()),
        (0.0, Bound::Max) => Some("0.0".into()),
        (value, _) => serde_json::Number::from_f64(value).map(|number| number.to_string()),
    }
}

/// Cuts a maximum so that it stays one, by Spark's rule: the prefix and a character that is greater
/// than the first one cut off. `None`: there is none within twice the length.
fn cut_max(text: &str, string_chars: usize) -> Option<String> {
    const LAST: char = char::MAX;
    const LAST_ASCII: char = '\u{7f}';
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= string_chars {
        return Some(text.to_owned());
    }
    for length in string_chars..=string_chars.saturating_mul(2) {
        let Some(cut) = chars.get(length) else { return Some(text.to_owned()) };
        let breaker = match *cut {
            LAST => continue,
            cut if cut < LAST_ASCII => LAST_ASCII,
            _ => LAST,
        };
        return Some(chars[..length].iter().chain([&breaker]).collect());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(text: &str, bound: Bound) -> Option<String> {
        Scalar::Bytes(text.into())
            .to_statistic(&Primitive::String, bound, STRING_CHARS_MAX)
            .map(|json| serde_json::from_str(&json).unwrap())
    }

    #[test]
    fn strings_are_cut_outward() {
        let long = "a".repeat(40);
        assert_eq!(string(&long, Bound::Min).unwrap(), "a".repeat(32));
        assert_eq!(string(&long, Bound::Max).unwrap(), "a".repeat(32) + "\u{7f}");
        assert_eq!(string("short", Bound::Max).unwrap(), "short");
        let wide = "é".repeat(40);
        assert_eq!(string(&wide, Bound::Max).unwrap(), "é".repeat(32) + "\u{10ffff}");
        let last = "a".repeat(32) + "\u{10ffff}" + "b" + &"c".repeat(40);
        assert_eq!(string(&last, Bound::Max).unwrap(), "a".repeat(32) + "\u{10ffff}" + "\u{7f}");
        assert_eq!(string(&"\u{10ffff}".repeat(100), Bound::Max), None);
        for text in [&long, &wide, &last] {
            assert!(string(text, Bound::Min).unwrap().as_bytes() <= text.as_bytes());
            assert!(string(text, Bound::Max).unwrap().as_bytes() >= text.as_bytes());
        }
    }

    #[test]
    fn timestamps_are_rounded_outward_to_milliseconds() {
        let text = |micros, bound| {
            Scalar::Micros(micros).to_statistic(&Primitive::Timestamp, bound, 32).unwrap()
        };
        assert_eq!(text(1_001, Bound::Min), "\"1970-01-01T00:00:00.001Z\"");
        assert_eq!(text(1_001, Bound::Max), "\"1970-01-01T00:00:00.002Z\"");
        assert_eq!(text(-1, Bound::Min), "\"1969-12-31T23:59:59.999Z\"");
        assert_eq!(text(-1, Bound::Max), "\"1970-01-01T00:00:00.000Z\"");
        let ntz = Scalar::Micros(0).to_statistic(&Primitive::TimestampNtz, Bound::Min, 32).unwrap();
        assert_eq!(ntz, "\"1970-01-01T00:00:00.000\"");
        assert_eq!(
            Scalar::Micros(i64::MAX).to_statistic(&Primitive::Timestamp, Bound::Max, 32),
            None
        );
    }

    #[test]
    fn numbers_are_exact_and_zeros_and_infinities_are_safe() {
        let text = |scalar: Scalar, bound| scalar.to_statistic(&Primitive::Double, bound, 32);
        let decimal =
            Scalar::Decimal { unscaled: -12345678901234567890123456789012345678, scale: 18 };
        assert_eq!(text(decimal, Bound::Min).unwrap(), "-12345678901234567890.123456789012345678");
        assert_eq!(text(Scalar::Decimal { unscaled: 5, scale: 2 }, Bound::Max).unwrap(), "0.05");
        assert_eq!(text(Scalar::Decimal { unscaled: -5, scale: 0 }, Bound::Max).unwrap(), "-5");
        assert_eq!(text(Scalar::Floating(0.0), Bound::Min).unwrap(), "-0.0");
        assert_eq!(text(Scalar::Floating(-0.0), Bound::Max).unwrap(), "0.0");
        assert_eq!(text(Scalar::Floating(f64::INFINITY), Bound::Max), None);
        assert_eq!(text(Scalar::Floating(f64::NAN), Bound::Max), None);
        assert_eq!(text(Scalar::Floating(0.1), Bound::Min).unwrap(), "0.1");
        assert_eq!(text(Scalar::Integer(i64::MIN), Bound::Min).unwrap(), "-9223372036854775808");
        assert_eq!(text(Scalar::Boolean(true), Bound::Min), None);
        assert_eq!(text(Scalar::Days(0), Bound::Min).unwrap(), "\"1970-01-01\"");
        assert_eq!(text(Scalar::Days(i64::MAX), Bound::Min), None);
    }

    #[test]
    fn a_partition_value_has_one_form() {
        let micros = Scalar::Micros(1_500_000);
        assert_eq!(
            micros.to_partition(&Primitive::Timestamp).unwrap(),
            "1970-01-01T00:00:01.500000Z"
        );
        assert_eq!(Scalar::Days(1).to_partition(&Primitive::Date).unwrap(), "1970-01-02");
    }
}
