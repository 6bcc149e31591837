//! What the value of a table property can be, and the one spelling in which it is kept.
//!
//! Engines read the same value by code of their own: some know booleans only in lower case, some an
//! interval only with the word before it. So a value is kept as all of them read it.

use crate::log::duration::Duration;
use crate::log::statistics::parse_columns;

/// A kind of values.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Boolean,
    /// A calendar interval without months and years, whose lengths differ.
    Interval,
    /// A whole number that fits 32 bits.
    Whole {
        least: i64,
    },
    OneOf(&'static [&'static str]),
    /// A list of columns, as the property of the statistics has it.
    Columns,
    Text,
}

impl Kind {
    /// The value as it is kept, or what it must be.
    pub(super) fn canonical(self, value: &str) -> Result<String, String> {
        match self {
            Kind::Boolean => one_of(value, &["true", "false"]),
            Kind::OneOf(values) => one_of(value, values),
            Kind::Interval => match Duration::parse(value) {
                Ok(duration) => Ok(duration.text),
                Err(why) => Err(why.to_owned()),
            },
            Kind::Whole { least } => match value.parse::<i32>() {
                Ok(number) if i64::from(number) >= least => Ok(number.to_string()),
                _ => Err(format!("it is a whole number from {least} to {}", i32::MAX)),
            },
            Kind::Columns => match parse_columns(value) {
                Ok(_) => Ok(value.to_owned()),
                Err(_) => Err("a backtick is open".to_owned()),
            },
            Kind::Text => Ok(value.to_owned()),
        }
    }
}

fn one_of(value: &str, values: &[&str]) -> Result<String, String> {
    let found = values.iter().find(|known| known.eq_ignore_ascii_case(value));
    found.map(|known| (*known).to_owned()).ok_or_else(|| match values {
        [only] => format!("it can only be {only}"),
        _ => format!("it is one of {}", values.join(", ")),
    })
}

/// The name that takes the fewest changes of letters, their case aside; `None`: nothing is near.
pub(super) fn nearest<'a>(name: &str, names: &[&'a str]) -> Option<&'a str> {
    let of = |other: &&&str| distance(&name.to_lowercase(), &other.to_lowercase());
    let found = names.iter().min_by_key(of)?;
    (of(&found) <= found.chars().count() / 2).then_some(*found)
}

/// Letters to insert, take out or exchange.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], line + 1);
        for (column, against) in other.iter().enumerate() {
            let exchanged = diagonal + usize::from(letter != *against);
            diagonal = row[column + 1];
            row[column + 1] = exchanged.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_kept_in_one_spelling() {
        for (kind, value, kept) in [
            (Kind::Boolean, "TRUE", "true"),
            (Kind::OneOf(&["classic", "v2"]), "V2", "v2"),
            (Kind::Interval, "7 days", "interval 7 days"),
            (Kind::Interval, "INTERVAL 1 Week 2 days", "interval 1 week 2 days"),
            (Kind::Interval, "interval 0 seconds", "interval 0 seconds"),
            (Kind::Whole { least: -1 }, "-1", "-1"),
            (Kind::Whole { least: 1 }, "010", "10"),
            (Kind::Columns, "a, `b.c`", "a, `b.c`"),
        ] {
            assert_eq!(kind.canonical(value).as_deref(), Ok(kept), "{value}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_what_it_must_be() {
        for (kind, value, word) in [
            (Kind::Boolean, "yes", "true, false"),
            (Kind::Boolean, "", "true, false"),
            (Kind::OneOf(&["Serializable"]), "Snapshot", "only be Serializable"),
            (Kind::Interval, "", "interval 7 days"),
            (Kind::Interval, "interval", "interval 7 days"),
            (Kind::Interval, "7", "interval 7 days"),
            (Kind::Interval, "days 7", "interval 7 days"),
            (Kind::Interval, "1 month", "days"),
            (Kind::Interval, "interval 2 years", "days"),
            (Kind::Interval, "-1 day", "negative"),
            (Kind::Interval, "9223372036854775807 weeks", "interval 7 days"),
            (Kind::Whole { least: 1 }, "0", "from 1"),
            (Kind::Whole { least: -1 }, "-2", "from -1"),
            (Kind::Whole { least: 0 }, "1.5", "whole"),
            (Kind::Whole { least: 0 }, "2147483648", "2147483647"),
            (Kind::Columns, "`a", "backtick"),
        ] {
            let why = kind.canonical(value).unwrap_err();
            assert!(why.contains(word), "{value}: {why}");
        }
    }

    #[test]
    fn the_nearest_name_is_near() {
        let names = ["appendOnly", "checkpointInterval"];
        assert_eq!(nearest("apendonly", &names), Some("appendOnly"));
        assert_eq!(nearest("checkpointIntervall", &names), Some("checkpointInterval"));
        assert_eq!(nearest("xyz", &names), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
