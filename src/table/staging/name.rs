//! The name of a staging directory, parsed once where it enters.

use std::ffi::OsStr;
use std::fmt;

use crate::error::{Error, Result};
use crate::log::path::NAME_BYTES_MAX;

/// What our own names begin with, in the spool as in the mount (`.deltafs` is the control folder).
const OURS: &str = ".deltafs";

/// A name that is one path component, UTF-8, at most 255 bytes, and none of ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StagingName(Box<str>);

impl StagingName {
    /// Parses a name. Errors: [`Error::Refused`], [`Error::NameTooLong`].
    pub fn parse(name: &OsStr) -> Result<StagingName> {
        let refuse = |why: &str| {
            Err(Error::Refused(format!("staging directory {name:?}: {why}; choose another name")))
        };
        let Some(text) = name.to_str() else { return refuse("the name is not UTF-8") };
        if text.len() > NAME_BYTES_MAX {
            return Err(Error::NameTooLong(format!(
                "staging directory {name:?}: the name is longer than 255 bytes"
            )));
        }
        match text {
            "" | "." | ".." => refuse("the name is not one path component"),
            _ if text.contains(['/', '\0']) => refuse("the name has a slash or a NUL in it"),
            _ if text.starts_with(OURS) => refuse("names that begin with .deltafs are taken"),
            _ => Ok(StagingName(text.into())),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StagingName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn takes_what_is_one_component() {
        for good in ["load", "2026-11-22", "a b", "ä", "...", ".hidden", &"x".repeat(255)] {
            assert_eq!(StagingName::parse(OsStr::new(good)).unwrap().as_str(), good);
        }
    }

    #[test]
    fn refuses_what_leaves_the_spool_or_is_ours() {
        for bad in ["", ".", "..", "a/b", "/", "a\0b", ".deltafs", ".deltafs-new-1"] {
            let error = StagingName::parse(OsStr::new(bad)).unwrap_err();
            assert!(matches!(error, Error::Refused(_)), "{bad:?}: {error:?}");
        }
        let error = StagingName::parse(OsStr::from_bytes(b"a\xff")).unwrap_err();
        assert!(matches!(error, Error::Refused(_)), "{error:?}");
        let error = StagingName::parse(OsStr::new(&"x".repeat(256))).unwrap_err();
        assert!(matches!(error, Error::NameTooLong(_)), "{error:?}");
    }
}
