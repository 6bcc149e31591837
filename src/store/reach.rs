//! How far a table may reach: its own folder, and the places beside it that the mount allows.
//!
//! Logs may name files by absolute paths and URIs, as shallow clones do. This is text alone, to
//! tell whose files they are: nothing outside of a store's root is opened.

use std::sync::Arc;

use percent_encoding::percent_decode_str;

use crate::error::{Error, Result};

/// A folder, and the places outside of it that may be named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// The folder's own place in its one spelling.
    root: Arc<str>,
    allowed: Arc<[String]>,
}

/// Where a URI leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Located<'a> {
    /// Into the folder: the path beneath it.
    Inside(&'a str),
    /// To an allowed place outside.
    Allowed,
    /// To a place outside that nobody allowed.
    Beyond,
}

impl Reach {
    /// The reach of a folder, from one spelling each.
    pub(super) fn new(root: &str, allowed: Arc<[String]>) -> Reach {
        Reach { root: root.into(), allowed }
    }

    /// Where a place leads that [`normalized`] gave.
    pub fn locate<'a>(&self, place: &'a str) -> Located<'a> {
        if let Some(path) = beneath(place, &self.root).filter(|path| !path.is_empty()) {
            return Located::Inside(path);
        }
        match self.allowed.iter().any(|prefix| beneath(place, prefix).is_some()) {
            true => Located::Allowed,
            false => Located::Beyond,
        }
    }
}

/// The path beneath a prefix; whole names only.
fn beneath<'a>(place: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = place.strip_prefix(prefix.trim_end_matches('/'))?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

/// The one spelling of an absolute path or URI, decoded: engines write `/a`, `file:/a` and
/// `file:///a` for one file, and `s3a:` for `s3:`.
///
/// Errors: [`Error::Damaged`] for what isn't UTF-8 when decoded, or has a NUL, `.` or `..` in it:
/// such a path could say that it is somewhere else than it is.
pub fn normalized(uri: &str) -> Result<String> {
    let damaged = |why: &str| Error::Damaged(format!("absolute path {uri:?} {why}"));
    let decoded = percent_decode_str(uri).decode_utf8();
    let decoded = decoded.map_err(|_| damaged("is not UTF-8 when decoded"))?;
    if decoded.contains('\0') || decoded.split('/').any(|name| name == "." || name == "..") {
        return Err(damaged("has a NUL, '.' or '..' in it"));
    }
    let path = decoded.strip_prefix("file:").unwrap_or(&decoded);
    let path = path.strip_prefix("//").filter(|rest| rest.starts_with('/')).unwrap_or(path);
    for alias in ["s3a://", "s3n://"] {
        if let Some(rest) = path.strip_prefix(alias) {
            return Ok(format!("s3://{rest}"));
        }
    }
    Ok(path.to_owned())
}

/// A place that a mount allows, from its absolute path, taken as it is, or its URI.
///
/// Errors: [`Error::Refused`] for anything else.
pub fn allowed_place(text: &str) -> Result<String> {
    let refuse = |why: &str| Err(Error::Refused(format!("--allow-outside {text}: {why}")));
    let is_uri = text.split_once(':').is_some_and(|(scheme, rest)| {
        scheme.len() > 1
            && rest.starts_with('/')
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    });
    if !text.starts_with('/') && !is_uri {
        return refuse("give an absolute path, or a URI");
    }
    let encoded = if is_uri { text.to_owned() } else { text.replace('%', "%25") };
    match normalized(&encoded) {
        Ok(place) => Ok(place),
        Err(_) => refuse("it must not have '.' or '..' in it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(root: &str, allowed: &[&str]) -> Reach {
        let allowed: Vec<String> =
            allowed.iter().map(|text| allowed_place(text).unwrap()).collect();
        Reach::new(root, allowed.into())
    }

    #[test]
    fn every_spelling_of_one_place_is_one() {
        for path in ["/a/b%20c", "file:/a/b%20c", "file:///a/b%20c"] {
            assert_eq!(normalized(path).unwrap(), "/a/b c");
        }
        assert_eq!(normalized("s3a://bucket/x").unwrap(), "s3://bucket/x");
        assert_eq!(normalized("s3://bucket/x").unwrap(), "s3://bucket/x");
    }

    #[test]
    fn a_place_that_hides_where_it_is_is_damage() {
        for bad in ["/a/../b", "file:///a/%2e%2e/b", "/a/./b", "/a%00", "/%ff", "s3://b/../c"] {
            assert!(matches!(normalized(bad), Err(Error::Damaged(_))), "{bad}");
        }
    }

    #[test]
    fn whole_names_are_compared() {
        let reach = reach("/lake/t", &["/clones/a", "s3://bucket/", "file:///x%20y"]);
        assert_eq!(reach.locate("/lake/t/p=1/f"), Located::Inside("p=1/f"));
        for outside in ["/lake/t", "/lake/t2/f", "/lake", "/clones/ab/f", "s3://bucket2/f", "/x"] {
            assert_eq!(reach.locate(outside), Located::Beyond, "{outside}");
        }
        for allowed in ["/clones/a/f", "/clones/a", "s3://bucket/f", "/x y/f"] {
            assert_eq!(reach.locate(allowed), Located::Allowed, "{allowed}");
        }
    }

    #[test]
    fn an_allowed_place_is_absolute() {
        for bad in ["", "a/b", "../a", "/a/../b", "C:", "s3:"] {
            assert!(matches!(allowed_place(bad), Err(Error::Refused(_))), "{bad}");
        }
        assert_eq!(allowed_place("/a%20b").unwrap(), "/a%20b");
        assert_eq!(reach("/t", &["/"]).locate("/any/where"), Located::Allowed);
    }
}
