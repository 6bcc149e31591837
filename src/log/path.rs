//! Paths of data files as the log writes them, decoded once and proven to stay inside the table.
//!
//! The protocol ("Add File and Remove File") stores a path as an RFC 2396 URI: percent-encoded and
//! relative to the table's root, or absolute for a shallow clone. A [`FilePath`] is the decoded
//! relative path; whoever holds one may join it to the table's root without another check.

use std::borrow::Borrow;
use std::fmt;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use crate::error::{Error, Result};

/// Longest name of one path component in bytes, as POSIX file systems have it.
pub const NAME_BYTES_MAX: usize = 255;
/// Longest path in bytes (Linux PATH_MAX, less its terminator).
pub const PATH_BYTES_MAX: usize = 4095;

/// What Hadoop's `Path.toUri` escapes beside the controls, so that our paths look like Spark's.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Whether a path of the log is a decoded one as it stands: nothing is escaped, and it would pass
/// [`FilePath::from_log`]. A `false` says nothing.
pub(super) fn is_plain(encoded: &str) -> bool {
    // All components are short enough where the whole is. One that is empty or begins with a dot is
    // known by the byte after a slash.
    let bytes = encoded.as_bytes();
    let [first, rest @ ..] = bytes else { return false };
    if bytes.len() > NAME_BYTES_MAX || matches!(first, b'/' | b'.') || bytes.ends_with(b"/") {
        return false;
    }
    // No early end, so that the compiler looks at many bytes at a time.
    let special = |byte: u8| (byte == b'%') | (byte == b':') | (byte == 0);
    let odd = |before: u8, byte: u8| (before == b'/') & ((byte == b'/') | (byte == b'.'));
    let pairs = bytes.iter().zip(rest);
    let any = pairs
        .fold(special(*first), |any, (before, byte)| any | special(*byte) | odd(*before, *byte));
    !any
}

/// A decoded path relative to a table's root: not absolute; no NUL; no component that is empty,
/// `.` or `..`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilePath(Box<str>);

impl FilePath {
    /// Decodes a path of the log. Errors: [`Error::Unsupported`] for absolute paths (shallow
    /// clones), [`Error::Damaged`] for anything that would leave the table's root.
    pub fn from_log(encoded: &str) -> Result<FilePath> {
        // Before it is put into any sentence. An escaped byte takes three.
        if encoded.len() > 3 * PATH_BYTES_MAX {
            return Err(Error::Damaged(format!("a path of {} bytes in the log", encoded.len())));
        }
        if has_scheme(encoded) || encoded.starts_with('/') {
            return Err(Error::Unsupported(format!(
                "absolute path {encoded:?} in the log: tables that point outside their own \
                 folder (shallow clones) are not read"
            )));
        }
        let decoded = percent_decode_str(encoded).decode_utf8().map_err(|_| {
            Error::Damaged(format!("path {encoded:?} in the log is not UTF-8 when decoded"))
        })?;
        FilePath::from_decoded(&decoded)
            .map_err(|error| Error::Damaged(format!("path {encoded:?} in the log: {error}")))
    }

    /// Checks a path that is decoded already. Errors: [`Error::Refused`], [`Error::NameTooLong`].
    pub fn from_decoded(decoded: &str) -> Result<FilePath> {
        let refuse = |why: &str| Err(Error::Refused(format!("{decoded:?} {why}")));
        if decoded.contains('\0') {
            return refuse("has a NUL in it");
        }
        if decoded.len() > PATH_BYTES_MAX {
            return Err(Error::NameTooLong(format!("{decoded:?} is longer than 4095 bytes")));
        }
        for component in decoded.split('/') {
            match component {
                "" => return refuse("has an empty component"),
                "." | ".." => return refuse("has a component '.' or '..'"),
                name if name.len() > NAME_BYTES_MAX => {
                    return Err(Error::NameTooLong(format!(
                        "{decoded:?} has a name longer than 255 bytes"
                    )));
                }
                _ => {}
            }
        }
        Ok(FilePath(decoded.into()))
    }

    /// The decoded path, components separated by `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path as the log writes it.
    pub fn to_log(&self) -> String {
        let encoded = utf8_percent_encode(&self.0, ESCAPED).to_string();
        // Else a colon in the first component would make it an absolute URI.
        if has_scheme(&encoded) { encoded.replacen(':', "%3A", 1) } else { encoded }
    }

    /// The last component.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

/// Orders and hashes as its text does, so that maps by path are asked with borrowed text.
impl Borrow<str> for FilePath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a URI begins with a scheme (RFC 2396, 3.1): a letter, then letters, digits, `+-.`, `:`.
fn has_scheme(uri: &str) -> bool {
    let Some((scheme, _)) = uri.split_once(':') else { return false };
    let mut bytes = scheme.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_and_encodes_what_spark_writes() {
        let path = FilePath::from_log("p=2021-11-18%2002%253A30/a%20b.parquet").unwrap();
        assert_eq!(path.as_str(), "p=2021-11-18 02%3A30/a b.parquet");
        assert_eq!(path.to_log(), "p=2021-11-18%2002%253A30/a%20b.parquet");
    }

    #[test]
    fn a_plain_path_is_what_it_would_be_decoded_to() {
        let long = "n".repeat(255);
        let deep = "d/".repeat(2047) + "x";
        for plain in ["a", "p=x y/b.parquet", "a.b/c..", "ü/é", &long] {
            assert!(is_plain(plain), "{plain}");
            assert_eq!(FilePath::from_log(plain).unwrap().as_str(), plain);
        }
        // Rare, and not worth a look of their own: they are decoded, to the same.
        for rare in ["a/.b/..c", ".a", &deep] {
            assert!(!is_plain(rare), "{rare}");
            assert_eq!(FilePath::from_log(rare).unwrap().as_str(), rare);
        }
        let too_long = format!("{long}n");
        let too_deep = format!("{deep}/y");
        for other in
            ["", "/a", "a/", "a//b", ".", "a/../b", "a%20b", "s3:x", "a\0b", &too_long, &too_deep]
        {
            assert!(!is_plain(other), "{other:?}");
        }
    }

    #[test]
    fn keeps_an_equals_and_a_colon_after_a_slash() {
        let path = FilePath::from_log("p=a:b/f").unwrap();
        assert_eq!(path.as_str(), "p=a:b/f");
    }

    #[test]
    fn a_name_that_looks_like_a_scheme_is_written_so_that_it_is_none() {
        for (decoded, encoded) in [("a:b", "a%3Ab"), ("s3:", "s3%3A"), ("a:b:c/d:e", "a%3Ab:c/d:e")]
        {
            let path = FilePath::from_decoded(decoded).unwrap();
            assert_eq!(path.to_log(), encoded);
            assert_eq!(FilePath::from_log(encoded).unwrap(), path);
        }
        assert_eq!(FilePath::from_decoded("1:b").unwrap().to_log(), "1:b");
    }

    #[test]
    fn refuses_every_way_out_of_the_table() {
        for bad in ["../x", "a/../x", "%2e%2e/x", "a//b", "", ".", "a/./b", "a%00b", "a/"] {
            let error = FilePath::from_log(bad).unwrap_err();
            assert!(matches!(error, Error::Damaged(_)), "{bad}: {error:?}");
        }
    }

    #[test]
    fn refuses_absolute_paths_by_name() {
        for bad in ["/etc/passwd", "file:///etc/passwd", "s3://bucket/x"] {
            let error = FilePath::from_log(bad).unwrap_err();
            assert!(matches!(error, Error::Unsupported(_)), "{bad}: {error:?}");
        }
    }
}
