//! A Delta version number, parsed at the edge so that inner code never holds a name for one.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Number of a version of a table, from 0.
#[derive(
    Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Version(pub u64);

impl Version {
    /// After every version that a log can hold: `until` of a file that is still live.
    pub const NEVER: Version = Version(u64::MAX);

    /// The version that the next commit makes.
    #[must_use]
    pub fn next(self) -> Version {
        Version(self.0.saturating_add(1))
    }

    /// The version before, but for 0.
    pub fn previous(self) -> Option<Version> {
        self.0.checked_sub(1).map(Version)
    }

    /// Reads a version as users write it: canonical decimal only, so that every version has one
    /// name (`7`; not `07`, not `+7`).
    pub fn parse(text: &str) -> Option<Version> {
        let canonical = text == "0" || (!text.starts_with('0') && is_digits(text));
        if !canonical {
            return None;
        }
        text.parse().ok().map(Version).filter(|version| version.is_commit())
    }

    /// Reads a version as log files write it: 20 digits.
    pub(super) fn parse_padded(text: &str) -> Option<Version> {
        if text.len() != 20 || !is_digits(text) {
            return None;
        }
        text.parse().ok().map(Version).filter(|version| version.is_commit())
    }

    /// Whether a commit may have this number: the protocol's versions are signed 64-bit integers.
    fn is_commit(self) -> bool {
        i64::try_from(self.0).is_ok()
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_name_is_a_version() {
        assert_eq!(Version::parse("0"), Some(Version(0)));
        assert_eq!(Version::parse("42"), Some(Version(42)));
        assert_eq!(Version::parse("9223372036854775807"), Some(Version(i64::MAX as u64)));
        for bad in ["", "07", "00", "+7", "-1", " 7", "7 ", "1e3", "9223372036854775808", "٣"] {
            assert_eq!(Version::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn log_files_have_twenty_digits() {
        assert_eq!(Version::parse_padded("00000000000000000007"), Some(Version(7)));
        for bad in ["7", "0000000000000000007", "0000000000000000000x", "99999999999999999999"] {
            assert_eq!(Version::parse_padded(bad), None, "{bad:?}");
        }
    }
}
