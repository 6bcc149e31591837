//! What is to be mounted, checked: flags become this, and this is all that the daemon knows.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::daemon::check;
use crate::error::{Error, Result};
use crate::store::{Store, allowed_place};

/// What the command line asked for, as it was written.
#[derive(Clone, Debug)]
pub struct MountRequest {
    /// A path or a URL.
    pub source: OsString,
    /// Where to mount.
    pub mountpoint: PathBuf,
    /// Refuse every change.
    pub read_only: bool,
    /// Let other users in.
    pub allow_other: bool,
    /// How much of it the files of all versions may take.
    pub memory: Memory,
    /// Absolute paths or URIs beneath which tables may name files outside of their own folders.
    pub allow_outside: Vec<OsString>,
}

/// An amount of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory(usize);

impl Memory {
    /// In bytes.
    pub fn bytes(self) -> usize {
        self.0
    }
}

impl FromStr for Memory {
    type Err = String;

    /// Reads a number of bytes, or of KiB, MiB, GiB or TiB with the letter K, M, G or T behind it.
    fn from_str(text: &str) -> std::result::Result<Memory, String> {
        let wrong =
            || format!("{text:?} is no amount of memory; write 500M, 2G or a number of bytes");
        let units = [('K', 10), ('M', 20), ('G', 30), ('T', 40)];
        let unit = units.into_iter().find_map(|(letter, bits)| {
            let number = text.strip_suffix([letter, letter.to_ascii_lowercase()])?;
            Some((number, bits))
        });
        let (number, bits) = unit.unwrap_or((text, 0));
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        let number: usize = number.parse().map_err(|_| wrong())?;
        number.checked_mul(1 << bits).map(Memory).ok_or_else(wrong)
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A mount that can be made: the source is there, the mountpoint is free, and they don't overlap.
#[derive(Clone, Debug)]
pub struct MountConfig {
    /// The opened source.
    pub store: Store,
    /// Where to mount; canonical.
    pub mountpoint: PathBuf,
    /// Refuse every change.
    pub read_only: bool,
    /// Let other users in.
    pub allow_other: bool,
    /// How much of it the files of all versions may take.
    pub memory: Memory,
}

impl MountRequest {
    /// Checks everything that can be known before mounting.
    pub fn check(&self) -> Result<MountConfig> {
        let source = self.source.to_str().ok_or_else(|| {
            Error::Refused(format!(
                "mount {}: a source is named in UTF-8",
                self.source.to_string_lossy()
            ))
        })?;
        let places: Result<Vec<String>> =
            self.allow_outside.iter().map(|place| outside_place(place)).collect();
        let store = Store::open(source)?.allowing(places?);
        let mountpoint = check::mountpoint(&self.mountpoint)?;
        if let Some(root) = store.local_root() {
            check::overlap(&check::source(root)?, &mountpoint)?;
        }
        Ok(MountConfig {
            store,
            mountpoint,
            read_only: self.read_only,
            allow_other: self.allow_other,
            memory: self.memory,
        })
    }
}

fn outside_place(place: &OsStr) -> Result<String> {
    let text = place.to_str().ok_or_else(|| {
        Error::Refused(format!(
            "--allow-outside {}: a place is named in UTF-8",
            place.to_string_lossy()
        ))
    })?;
    allowed_place(text)
}

impl MountConfig {
    /// What the tables of mounts show as the source: a folder's path, or a URL.
    pub fn source_name(&self) -> OsString {
        match self.store.local_root() {
            Some(root) => root.as_os_str().to_owned(),
            None => self.store.url().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(source: &std::path::Path, mountpoint: &std::path::Path) -> MountRequest {
        MountRequest {
            source: source.into(),
            mountpoint: mountpoint.into(),
            read_only: false,
            allow_other: false,
            memory: Memory(1 << 30),
            allow_outside: Vec::new(),
        }
    }

    #[test]
    fn memory_is_a_number_with_or_without_a_unit() {
        let bytes = |text: &str| text.parse::<Memory>().map(Memory::bytes);
        assert_eq!(bytes("0"), Ok(0));
        assert_eq!(bytes("1234"), Ok(1234));
        assert_eq!(bytes("3k"), Ok(3 << 10));
        assert_eq!(bytes("500M"), Ok(500 << 20));
        assert_eq!(bytes("2G"), Ok(2 << 30));
        assert_eq!(bytes("1T"), Ok(1 << 40));
        for bad in ["", "G", "-1", "+1", "1.5G", "1GB", "1 G", "G1", "99999999999T", "٣M"] {
            assert!(bytes(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_mount_that_can_be_made_has_canonical_paths() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let (source, point) = (scratch.path().join("source"), scratch.path().join("point"));
        std::fs::create_dir(&source).expect("made");
        std::fs::create_dir(&point).expect("made");
        let config = request(&source, &point.join("../point")).check().expect("can be made");
        assert_eq!(config.mountpoint, point.canonicalize().expect("there"));
    }

    #[test]
    fn a_mountpoint_inside_the_source_is_refused_through_a_symlink_too() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let (source, link) = (scratch.path().join("source"), scratch.path().join("link"));
        std::fs::create_dir_all(source.join("inside")).expect("made");
        std::os::unix::fs::symlink(source.join("inside"), &link).expect("linked");
        let refused = request(&source, &link).check().expect_err("overlaps");
        assert!(refused.to_string().contains("inside the source"), "{refused}");
    }

    #[test]
    fn a_place_outside_is_absolute_or_refused() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let (source, point) = (scratch.path().join("source"), scratch.path().join("point"));
        std::fs::create_dir(&source).expect("made");
        std::fs::create_dir(&point).expect("made");
        let with = |place: &str| MountRequest {
            allow_outside: vec!["/data".into(), place.into()],
            ..request(&source, &point)
        };
        let refused = with("../lake").check().expect_err("is relative");
        assert!(refused.to_string().contains("--allow-outside ../lake"), "{refused}");
        with("s3://bucket/lake").check().expect("can be made");
    }

    #[test]
    fn a_source_that_is_not_there_is_refused() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let refused = request(&scratch.path().join("none"), scratch.path()).check();
        assert!(refused.is_err());
    }
}
