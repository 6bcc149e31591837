//! Partition values: what a directory `name=value` says, and what the log writes for it.
//!
//! Follows the protocol's "Partition Value Serialization". A directory name is escaped as Hive
//! does it (`%XX`); the log holds the value itself. Two spellings of one value are one value, so
//! every value is brought to one form before it is written.

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use percent_encoding::percent_decode_str;

use crate::error::{Error, Result};
use crate::log::path::FilePath;
use crate::log::schema::Primitive;

/// The directory value that stands for null.
const HIVE_NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// The directories `name=value` above a file, outermost first, decoded; `None` is null.
/// Errors: [`Error::Refused`] for a value that isn't UTF-8, or a name that comes twice.
pub fn of_path(path: &FilePath) -> Result<Vec<(String, Option<String>)>> {
    let mut values: Vec<(String, Option<String>)> = Vec::new();
    let Some((directories, _)) = path.as_str().rsplit_once('/') else { return Ok(values) };
    for directory in directories.split('/') {
        let Some((name, value)) = directory.split_once('=') else { continue };
        if name.is_empty() {
            continue;
        }
        let decode = |text: &str| {
            percent_decode_str(text).decode_utf8().map(|text| text.into_owned()).map_err(|_| {
                Error::Refused(format!("{path}: the directory {directory:?} isn't UTF-8 inside"))
            })
        };
        let (name, value) = (decode(name)?, decode(value)?);
        if values.iter().any(|(earlier, _)| *earlier == name) {
            return Err(Error::Refused(format!(
                "{path}: the partition column {name:?} is given twice"
            )));
        }
        // The protocol reads an empty string of any type as null.
        let value = (value != HIVE_NULL && !value.is_empty()).then_some(value);
        values.push((name, value));
    }
    Ok(values)
}

/// The one form of a value of that type, as the log writes it; `None`: it isn't one.
///
/// A timestamp without a zone is taken as UTC: the writer's own zone, which the protocol means
/// there, is not to be known.
pub fn canonical(value: &str, primitive: &Primitive) -> Option<String> {
    let integer = |min: i64, max: i64| {
        let parsed: i64 = value.parse().ok()?;
        (min..=max).contains(&parsed).then(|| parsed.to_string())
    };
    match primitive {
        Primitive::String | Primitive::Binary => Some(value.to_owned()),
        Primitive::Byte => integer(i8::MIN.into(), i8::MAX.into()),
        Primitive::Short => integer(i16::MIN.into(), i16::MAX.into()),
        Primitive::Integer => integer(i32::MIN.into(), i32::MAX.into()),
        Primitive::Long => integer(i64::MIN, i64::MAX),
        Primitive::Float | Primitive::Double => {
            let is_name = matches!(value, "NaN" | "Infinity" | "-Infinity");
            // Rust's own names for these ("inf") are nobody else's.
            let is_number = value.bytes().all(|byte| b"+-.eE0123456789".contains(&byte))
                && value.parse::<f64>().is_ok_and(f64::is_finite);
            (is_name || is_number).then(|| value.to_owned())
        }
        Primitive::Decimal { precision, scale } => decimal(value, *precision, *scale),
        Primitive::Boolean => match value.to_ascii_lowercase().as_str() {
            text @ ("true" | "false") => Some(text.to_owned()),
            _ => None,
        },
        Primitive::Date => date(value).map(|_| value.to_owned()),
        Primitive::Timestamp => timestamp(value),
        Primitive::TimestampNtz => {
            let parsed = local_time(value)?;
            let format = if parsed.and_utc().timestamp_subsec_micros() == 0 {
                "%Y-%m-%d %H:%M:%S"
            } else {
                "%Y-%m-%d %H:%M:%S%.6f"
            };
            Some(parsed.format(format).to_string())
        }
        Primitive::Variant | Primitive::Void | Primitive::Other(_) => None,
    }
}

/// A value as another of that type is compared with: as [`canonical`] has it, and by what it means
/// where that leaves several spellings, or was written when the column had a narrower type.
pub fn comparable(value: &str, primitive: &Primitive) -> String {
    let midnight = || date(value).map(|_| format!("{value} 00:00:00"));
    let form = match primitive {
        // Adding zero makes one zero of the two.
        Primitive::Float => value.parse::<f32>().ok().map(|number| (number + 0.0).to_string()),
        Primitive::Double => value.parse::<f64>().ok().map(|number| (number + 0.0).to_string()),
        Primitive::TimestampNtz | Primitive::Timestamp => {
            canonical(midnight().as_deref().unwrap_or(value), primitive)
        }
        _ => canonical(value, primitive),
    };
    form.unwrap_or_else(|| value.to_owned())
}

/// The type of a new table's partition column, from all its values: integer or long where each is
/// written as one, date where each is `yyyy-MM-dd`, else string.
pub fn infer<'a>(values: impl Iterator<Item = &'a str> + Clone) -> Primitive {
    let all = |test: &dyn Fn(&str) -> bool| {
        let mut values = values.clone().peekable();
        values.peek().is_some() && values.all(test)
    };
    // "007" and "+7" are no numbers: they would not come back as they were written.
    if all(&|value| value.parse::<i32>().is_ok_and(|number| number.to_string() == value)) {
        Primitive::Integer
    } else if all(&|value| value.parse::<i64>().is_ok_and(|number| number.to_string() == value)) {
        Primitive::Long
    } else if all(&|value| date(value).is_some()) {
        Primitive::Date
    } else {
        Primitive::String
    }
}

fn date(value: &str) -> Option<NaiveDate> {
    // chrono takes "2026-1-1" too; four, two and two digits are what the log has.
    (value.len() == 10).then(|| NaiveDate::parse_from_str(value, "%Y-%m-%d").ok()).flatten()
}

fn local_time(value: &str) -> Option<NaiveDateTime> {
    ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(value, format).ok())
        .filter(|time| time.and_utc().timestamp_subsec_nanos() % 1000 == 0)
}

fn timestamp(value: &str) -> Option<String> {
    let utc = match DateTime::parse_from_rfc3339(value) {
        Ok(time) => time.naive_utc(),
        Err(_) => local_time(value)?,
    };
    Some(utc.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string())
}

/// A decimal with all digits of its scale, as Spark writes it.
fn decimal(value: &str, precision: u8, scale: u8) -> Option<String> {
    let (sign, digits) = match value.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", value.strip_prefix('+').unwrap_or(value)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let whole = whole.trim_start_matches('0');
    let (precision, scale) = (usize::from(precision), usize::from(scale));
    if whole.len() > precision - scale || fraction.trim_end_matches('0').len() > scale {
        return None;
    }
    let whole = if whole.is_empty() { "0" } else { whole };
    let fraction = &fraction[..fraction.len().min(scale)];
    Some(match scale {
        0 => format!("{sign}{whole}"),
        _ => format!("{sign}{whole}.{fraction:0<scale$}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(path: &str) -> Vec<(String, Option<String>)> {
        of_path(&FilePath::from_decoded(path).unwrap()).unwrap()
    }

    #[test]
    fn directories_give_values_and_escapes_are_undone() {
        assert_eq!(
            values("p=2021-11-18 02%3A30%3A00/sub/q=a%3Db=c/f.parquet"),
            [("p".into(), Some("2021-11-18 02:30:00".into())), ("q".into(), Some("a=b=c".into()))]
        );
        assert_eq!(values("p=__HIVE_DEFAULT_PARTITION__/q=/f")[0].1, None);
        assert_eq!(values("p=__HIVE_DEFAULT_PARTITION__/q=/f")[1].1, None);
        assert!(values("plain/=x/a=1.parquet").is_empty());
        assert!(of_path(&FilePath::from_decoded("a=1/a=2/f").unwrap()).is_err());
        assert!(of_path(&FilePath::from_decoded("a=%ff/f").unwrap()).is_err());
    }

    #[test]
    fn every_type_has_one_form() {
        let decimal = Primitive::Decimal { precision: 5, scale: 2 };
        for (value, primitive, expected) in [
            ("007", Primitive::Integer, Some("7")),
            ("128", Primitive::Byte, None),
            ("1.5", decimal.clone(), Some("1.50")),
            ("-0001.500", decimal.clone(), Some("-1.50")),
            ("1.505", decimal.clone(), None),
            ("1000", decimal, None),
            ("TRUE", Primitive::Boolean, Some("true")),
            ("yes", Primitive::Boolean, None),
            ("2026-11-01", Primitive::Date, Some("2026-11-01")),
            ("2026-02-30", Primitive::Date, None),
            ("2026-1-1", Primitive::Date, None),
            ("1970-01-01 00:00:00", Primitive::Timestamp, Some("1970-01-01T00:00:00.000000Z")),
            (
                "1970-01-01T02:00:00.5+02:00",
                Primitive::Timestamp,
                Some("1970-01-01T00:00:00.500000Z"),
            ),
            ("1970-01-01T00:00:00", Primitive::TimestampNtz, Some("1970-01-01 00:00:00")),
            ("inf", Primitive::Double, None),
            ("1e3", Primitive::Double, Some("1e3")),
            (" a", Primitive::String, Some(" a")),
        ] {
            assert_eq!(canonical(value, &primitive).as_deref(), expected, "{value} {primitive}");
        }
    }

    #[test]
    fn a_new_columns_type_follows_from_all_its_values() {
        let infer = |values: &[&str]| infer(values.iter().copied());
        assert_eq!(infer(&["1", "-2"]), Primitive::Integer);
        assert_eq!(infer(&["1", "3000000000"]), Primitive::Long);
        assert_eq!(infer(&["1", "007"]), Primitive::String);
        assert_eq!(infer(&["2026-11-01", "2026-12-31"]), Primitive::Date);
        assert_eq!(infer(&["2026-11-01", "x"]), Primitive::String);
        assert_eq!(infer(&[]), Primitive::String);
    }
}
