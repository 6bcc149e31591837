//! Durations as table properties have them: `interval 1 week 2 days`, the first word or not.
//!
//! Spark's calendar intervals, but for months and years, whose lengths differ.

/// Units, longest first, with their lengths in microseconds.
const UNITS: [(&str, i64); 7] = [
    ("week", 7 * 24 * 3_600_000_000),
    ("day", 24 * 3_600_000_000),
    ("hour", 3_600_000_000),
    ("minute", 60_000_000),
    ("second", 1_000_000),
    ("millisecond", 1_000),
    ("microsecond", 1),
];
const EXAMPLE: &str = "it is an interval such as \"interval 7 days\"";

/// A duration, and the one spelling that every engine reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duration {
    pub microseconds: i64,
    pub text: String,
}

impl Duration {
    /// Reads a property's value. Errors: what it must be, in a few words.
    pub fn parse(value: &str) -> Result<Duration, &'static str> {
        let words: Vec<String> = value.split_whitespace().map(str::to_lowercase).collect();
        let words = match words.as_slice() {
            [first, rest @ ..] if first == "interval" => rest,
            all => all,
        };
        let mut microseconds: i64 = 0;
        for pair in words.chunks(2) {
            let [number, unit] = pair else { return Err(EXAMPLE) };
            let unit = unit.strip_suffix('s').unwrap_or(unit);
            if ["month", "year"].contains(&unit) {
                return Err("months and years have no fixed length; say it in days");
            }
            let length = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, length)| length);
            let number = number.parse::<i64>().ok();
            let part = number.zip(length).and_then(|(number, length)| number.checked_mul(*length));
            let sum = part.and_then(|part| microseconds.checked_add(part));
            microseconds = sum.ok_or(EXAMPLE)?;
        }
        match (words.is_empty(), microseconds) {
            (true, _) => Err(EXAMPLE),
            (false, ..0) => Err("it must not be negative"),
            (false, 0..) => {
                let text = format!("interval {}", words.join(" "));
                Ok(Duration { microseconds, text })
            }
        }
    }

    /// Rounded down.
    pub fn milliseconds(&self) -> i64 {
        self.microseconds / 1000
    }
}
