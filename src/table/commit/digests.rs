//! `SHA256SUMS`, where a backup brought it along: every digest must be that of the staged file.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read;

use sha2::{Digest, Sha256};

use super::examine;
use super::manifest::DIGESTS;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::table::staging::StagedEntry;

/// Largest list that is read.
const LIST_BYTES_MAX: u64 = 256 << 20;

/// Checks the staged files that the list names. Lines are as `sha256sum` writes them; names of
/// files that were not staged say nothing here.
pub fn check(list: &StagedEntry, files: &[StagedEntry], store: &Store) -> Result<()> {
    if list.size > LIST_BYTES_MAX {
        return Err(Error::Refused(format!("{DIGESTS}: is longer than 256 MiB")));
    }
    let mut text = String::new();
    examine::open(&list.content, store)?
        .read_to_string(&mut text)
        .map_err(|error| Error::from_io(format!("read {DIGESTS}"), &error))?;
    let files: BTreeMap<&str, &StagedEntry> =
        files.iter().map(|file| (file.path.as_str(), file)).collect();
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let (digest, name) = parse(line).ok_or_else(|| {
            Error::Refused(format!("{DIGESTS}: line {} is not sha256sum's", number + 1))
        })?;
        let Some(file) = files.get(name.strip_prefix("./").unwrap_or(name)) else { continue };
        if of(file, store)? != digest.to_ascii_lowercase() {
            return Err(Error::Refused(format!(
                "{}: its bytes are not those that {DIGESTS} has the digest of",
                file.path
            )));
        }
    }
    Ok(())
}

/// Digest and name: 64 hexadecimal digits, a space, a space or an asterisk, the name.
fn parse(line: &str) -> Option<(&str, &str)> {
    let (digest, rest) = line.split_at_checked(64)?;
    let name = rest.strip_prefix("  ").or_else(|| rest.strip_prefix(" *"))?;
    let is_digest = digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_digest && !name.is_empty()).then_some((digest, name))
}

fn of(file: &StagedEntry, store: &Store) -> Result<String> {
    let mut bytes = examine::open(&file.content, store)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = bytes
            .read(&mut buffer)
            .map_err(|error| Error::from_io(format!("read {}", file.path), &error))?;
        if read == 0 {
            break;
        }
        digest.update(&buffer[..read]);
    }
    let mut text = String::with_capacity(64);
    for byte in digest.finalize() {
        write!(text, "{byte:02x}").expect("BUG: a String takes all that is written");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_sha256sum_are_read() {
        let digest = "0".repeat(64);
        assert_eq!(parse(&format!("{digest}  a b")), Some((digest.as_str(), "a b")));
        assert_eq!(parse(&format!("{digest} *a")), Some((digest.as_str(), "a")));
        assert_eq!(parse(&format!("{digest} a")), None);
        assert_eq!(parse("short  a"), None);
        assert_eq!(parse(&format!("{}  a", "x".repeat(64))), None);
    }
}
