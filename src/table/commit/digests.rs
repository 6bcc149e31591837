//! `SHA256SUMS`, where a backup brought it along: every digest must be that of the file.
//!
//! Its lines are as `sha256sum` writes them, from the staging directory's point of view. A name
//! that leads out of it is another folder's, and says nothing here; every other one must be there:
//! a file that got lost on the way is what the list is for. One that was not brought because the
//! table has it still is looked up there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;

use sha2::{Digest, Sha256};

use super::examine;
use super::manifest::DIGESTS;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::table::Progress;
use crate::table::staging::StagedEntry;

/// Largest list that is read.
const LIST_BYTES_MAX: u64 = 256 << 20;

/// Checks all files that the list names, and says which those are. `files`: all that was staged.
/// Errors: [`Error::Refused`] naming the line, or the file.
pub fn check(
    list: &StagedEntry,
    files: &[StagedEntry],
    store: &Store,
    progress: &Progress,
) -> Result<BTreeSet<String>> {
    if list.size > LIST_BYTES_MAX {
        return Err(Error::Refused(format!("{DIGESTS}: is longer than 256 MiB")));
    }
    let mut bytes = Vec::new();
    examine::open(&list.content, store)?
        .read_to_end(&mut bytes)
        .map_err(|error| Error::from_io(format!("read {DIGESTS}"), &error))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Error::Refused(format!("{DIGESTS}: has a name that is not UTF-8")))?;
    let files: BTreeMap<&str, &StagedEntry> =
        files.iter().map(|file| (file.path.as_str(), file)).collect();
    let (mut listed, mut elsewhere) = (Vec::new(), None);
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let (digest, name) = parse(line).ok_or_else(|| {
            Error::Refused(format!(
                "{DIGESTS}: line {} is not sha256sum's; mend the list, or remove it",
                number + 1
            ))
        })?;
        match beneath(&name) {
            // Of itself no list has the digest: a shell made it before its names were read.
            Some(path) if path == DIGESTS => {}
            Some(path) => listed.push((digest, path)),
            None => elsewhere = elsewhere.or(Some(name)),
        }
    }
    if let (Some(name), true) = (elsewhere, listed.is_empty()) {
        // Whoever made the list of another folder believes that this one is checked.
        return Err(Error::Refused(format!(
            "{DIGESTS}: none of its lines names a file of this directory (one is {name}); make it \
             within the folder that it lists, or remove it"
        )));
    }
    let bytes = |path: &String| files.get(path.as_str()).map_or(0, |file| file.size);
    let bytes = listed.iter().map(|(_, path)| bytes(path)).sum();
    progress.count(format!("checks {DIGESTS}"), listed.len() as u64, bytes);
    for (digest, path) in &listed {
        let file = match files.get(path.as_str()) {
            Some(file) => examine::open(&file.content, store)?,
            None => in_table(store, path)?,
        };
        if of(file, path, progress)? != digest.to_ascii_lowercase() {
            return Err(Error::Refused(format!(
                "{path}: its bytes are not those that {DIGESTS} has the digest of; bring it again"
            )));
        }
        progress.advance(1, 0);
    }
    Ok(listed.into_iter().map(|(_, path)| path).collect())
}

/// The table's own file, where one that is listed was not brought.
fn in_table(store: &Store, path: &str) -> Result<File> {
    match store.open_local(path) {
        Some(Ok(file)) if file.metadata().is_ok_and(|metadata| metadata.is_file()) => Ok(file),
        _ => Err(Error::Refused(format!(
            "{path}: {DIGESTS} has its digest, and it is neither here nor in the table; bring it, \
             or take its line out of {DIGESTS}"
        ))),
    }
}

/// Digest and name: 64 hexadecimal digits, a space, a space or an asterisk, the name; or with
/// `--tag`, `SHA256 (NAME) = DIGEST`. A backslash before it all says that the name has escapes.
fn parse(line: &str) -> Option<(&str, String)> {
    let (is_escaped, line) = match line.strip_prefix('\\') {
        Some(line) => (true, line),
        None => (false, line),
    };
    let (digest, name) = match line.strip_prefix("SHA256 (") {
        Some(tagged) => {
            let (name, digest) = tagged.rsplit_once(") = ")?;
            (digest, name)
        }
        None => {
            let (digest, rest) = line.split_at_checked(64)?;
            (digest, rest.strip_prefix("  ").or_else(|| rest.strip_prefix(" *"))?)
        }
    };
    let is_digest = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    let name = if is_escaped { unescaped(name)? } else { name.to_owned() };
    (is_digest && !name.is_empty()).then_some((digest, name))
}

fn unescaped(name: &str) -> Option<String> {
    let mut plain = String::with_capacity(name.len());
    let mut characters = name.chars();
    while let Some(character) = characters.next() {
        plain.push(match character {
            '\\' => match characters.next()? {
                '\\' => '\\',
                'n' => '\n',
                'r' => '\r',
                _ => return None,
            },
            plain => plain,
        });
    }
    Some(plain)
}

/// The path of a name beneath the folder that the list lies in; `None`: it leads out of it.
fn beneath(name: &str) -> Option<String> {
    if name.starts_with('/') {
        return None;
    }
    let mut parts = Vec::new();
    for part in name.split('/').filter(|part| !part.is_empty() && *part != ".") {
        match part {
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

fn of(mut bytes: File, path: &str, progress: &Progress) -> Result<String> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = bytes
            .read(&mut buffer)
            .map_err(|error| Error::from_io(format!("read {path}"), &error))?;
        if read == 0 {
            break;
        }
        digest.update(&buffer[..read]);
        progress.advance(0, read as u64);
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
        let read = |line: &str| parse(&line.replace('@', &digest)).map(|(_, name)| name);
        for (line, name) in [
            ("@  a b", Some("a b")),
            ("@ *a", Some("a")),
            ("@  *a", Some("*a")),
            ("SHA256 (a) (b)) = @", Some("a) (b)")),
            (r"\@  a\\b\nc\rd", Some("a\\b\nc\rd")),
            (r"\SHA256 (a\nb) = @", Some("a\nb")),
            (r"@  a\nb", Some(r"a\nb")),
            (r"\@  a\tb", None),
            (r"\@  a\", None),
            ("@ a", None),
            ("@  ", None),
            ("short  a", None),
            ("SHA256 (a) = short", None),
        ] {
            assert_eq!(read(line).as_deref(), name, "{line}");
        }
        assert_eq!(parse(&format!("{}  a", "x".repeat(64))), None);
    }

    #[test]
    fn names_are_taken_from_the_lists_own_folder() {
        for (name, path) in [
            ("a", Some("a")),
            ("./p=1//a", Some("p=1/a")),
            ("p=1/../a", Some("a")),
            ("../t/a", None),
            ("p/../../a", None),
            ("/t/a", None),
            (".", None),
        ] {
            assert_eq!(beneath(name).as_deref(), path, "{name}");
        }
    }
}
