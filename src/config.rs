//! What is to be mounted, checked: flags become this, and this is all that the daemon knows.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::daemon::check;
use crate::error::{Error, Result};
use crate::store::Store;

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
        let store = Store::open(source)?;
        let mountpoint = check::mountpoint(&self.mountpoint)?;
        if let Some(root) = store.local_root() {
            check::overlap(&check::source(root)?, &mountpoint)?;
        }
        Ok(MountConfig {
            store,
            mountpoint,
            read_only: self.read_only,
            allow_other: self.allow_other,
        })
    }
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
    fn a_source_that_is_not_there_is_refused() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let refused = request(&scratch.path().join("none"), scratch.path()).check();
        assert!(refused.is_err());
    }
}
