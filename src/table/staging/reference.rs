//! References: staged files whose bytes are those of a data file that the table has already.
//!
//! On disk a reference is a placeholder: a sparse file of the right size with an extended
//! attribute that names the source. Its content is the first *size* bytes of the source, so that
//! the size alone says how much was copied: copying on, and cutting short, is one `ftruncate`,
//! and a crash at any point leaves a state that one of the two sides of the step had.

use std::fs::File;
use std::io::IoSliceMut;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::fs::{Mode, OFlags, ResolveFlags, XattrFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::disk::{failed, is_unsupported, magic_path, stat_open};
use crate::error::{Error, Result};
use crate::log::path::FilePath;

/// The extended attribute of a placeholder.
const ATTRIBUTE: &str = "user.deltafs.reference";
/// Longest value of it that is believed: a path of 4095 bytes with each one escaped.
const ATTRIBUTE_BYTES_MAX: usize = 32 << 10;
/// Files below it are read by their path in the spool, so they are always real copies.
pub(super) const LOG_FOLDER: &str = "_delta_log";
/// How much of a file is copied through memory at once.
const COPY_BYTES: usize = 1 << 20;

/// A data file of the same table whose bytes stand in for a staged file's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// Within the table's folder, decoded.
    pub path: String,
    /// Bytes of the whole file.
    pub size: u64,
    /// What the log says; milliseconds since the epoch.
    pub modified_ms: i64,
}

impl Reference {
    /// Whether a file at `path` of the staging directory may be a reference to this at all.
    pub(super) fn may_stand_at(&self, path: &Path) -> bool {
        self.size > 0 && !is_in_log(Path::new(&self.path)) && !is_in_log(path)
    }

    /// Opens the source beneath the table's folder.
    ///
    /// Errors: [`Error::Damaged`] where it is gone or shorter than the log says.
    pub(super) fn open_source(&self, table_folder: &Path) -> Result<File> {
        let path = FilePath::from_decoded(&self.path)?;
        let folder = rustix::fs::open(
            table_folder,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(failed("open table", table_folder))?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let beneath =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let file = rustix::fs::openat2(&folder, path.as_str(), flags, Mode::empty(), beneath)
            .map_err(|error| match error {
                Errno::NOENT | Errno::NOTDIR => Error::Damaged(format!(
                    "data file {path} that a staged file refers to is no longer in the table"
                )),
                error => failed("open data file", path.as_str())(error),
            })?;
        let file = File::from(file);
        self.check_source(&file)?;
        Ok(file)
    }

    /// Errors: [`Error::Damaged`] where an open source isn't what the log says.
    pub(super) fn check_source(&self, source: &File) -> Result<()> {
        let metadata = source
            .metadata()
            .map_err(|error| Error::from_io(format!("stat data file {}", self.path), &error))?;
        if !metadata.is_file() || metadata.len() != self.size {
            return Err(Error::Damaged(format!(
                "data file {} has {} bytes, and the log says {}",
                self.path,
                metadata.len(),
                self.size
            )));
        }
        Ok(())
    }
}

/// What a file refers to, if it is a placeholder. Takes any descriptor, `O_PATH` ones too.
pub(super) fn read(file: impl AsFd) -> Result<Option<Reference>> {
    let path = magic_path(&file);
    let mut value = Vec::with_capacity(ATTRIBUTE_BYTES_MAX);
    match rustix::fs::getxattr(&path, ATTRIBUTE, spare_capacity(&mut value)) {
        Ok(_) => {}
        // Nor is it one where we may not read the attribute: a placeholder that its owner closes to
        // himself becomes a file of its own first (`set_attributes`).
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::ACCESS) => return Ok(None),
        Err(error) => return Err(failed("read reference of", "staged file")(error)),
    }
    let reference = serde_json::from_slice(&value).map_err(|error| {
        Error::Damaged(format!("reference of a staged file can't be read: {error}"))
    })?;
    Ok(Some(reference))
}

/// Makes an empty file a placeholder. False: the file system keeps no such attribute here, or not
/// one as long as this; the caller copies instead.
pub(super) fn attach(file: impl AsFd, reference: &Reference) -> Result<bool> {
    let value = serde_json::to_vec(reference)
        .map_err(|error| Error::Refused(format!("reference to {}: {error}", reference.path)))?;
    match rustix::fs::fsetxattr(file, ATTRIBUTE, &value, XattrFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS) => Ok(false),
        Err(Errno::NOSPC | Errno::TOOBIG | Errno::RANGE) => Ok(false),
        Err(error) => Err(failed("refer to", &reference.path)(error)),
    }
}

/// Makes a placeholder an ordinary file.
pub(super) fn detach(file: impl AsFd) -> Result<()> {
    let removed = match rustix::fs::fremovexattr(&file, ATTRIBUTE) {
        Err(Errno::ACCESS) => {
            with_owner_access(&file, || rustix::fs::fremovexattr(&file, ATTRIBUTE))
        }
        removed => removed,
    };
    match removed {
        Ok(()) | Err(Errno::NODATA) => Ok(()),
        Err(error) => Err(failed("end reference of", "staged file")(error)),
    }
}

/// Runs a call that asks for permissions which an open descriptor has and the mode denies.
pub(super) fn with_owner_access(
    file: impl AsFd,
    call: impl FnOnce() -> rustix::io::Result<()>,
) -> rustix::io::Result<()> {
    let mode = Mode::from_raw_mode(u32::from(stat_open(&file)?.stx_mode));
    rustix::fs::fchmod(&file, mode | Mode::RUSR | Mode::WUSR)?;
    let result = call();
    rustix::fs::fchmod(&file, mode)?;
    result
}

/// Copies up to `length` bytes and says how many; fewer only at the end of `source`.
pub(super) fn copy(
    source: impl AsFd,
    mut from: u64,
    target: impl AsFd,
    mut to: u64,
    length: u64,
) -> Result<u64> {
    let mut copied = 0;
    let mut in_kernel = true;
    while copied < length {
        let left = usize::try_from(length - copied).unwrap_or(usize::MAX).min(1 << 30);
        let step = if in_kernel {
            let (mut off_in, mut off_out) = (from, to);
            match rustix::fs::copy_file_range(
                &source,
                Some(&mut off_in),
                &target,
                Some(&mut off_out),
                left,
            ) {
                // Some file systems answer 0 where they can't; reading tells it from the end.
                Ok(0) => {
                    in_kernel = false;
                    continue;
                }
                Err(error) if is_unsupported(error) && copied == 0 => {
                    in_kernel = false;
                    continue;
                }
                step => step,
            }
        } else {
            copy_by_hand(&source, from, &target, to, left.min(COPY_BYTES))
        };
        match step {
            Ok(0) => break,
            Ok(step) => {
                let step = step as u64;
                (copied, from, to) = (copied + step, from + step, to + step);
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(failed("copy into", "staged file")(error)),
        }
    }
    Ok(copied)
}

/// One step of a copy through memory.
fn copy_by_hand(
    source: impl AsFd,
    from: u64,
    target: impl AsFd,
    to: u64,
    length: usize,
) -> rustix::io::Result<usize> {
    let mut buffer = vec![0; length];
    let read = rustix::io::preadv(source, &mut [IoSliceMut::new(&mut buffer)], from)?;
    let mut written = 0;
    while written < read {
        written += rustix::io::pwrite(&target, &buffer[written..read], to + written as u64)?;
    }
    Ok(read)
}

fn is_in_log(path: &Path) -> bool {
    path.starts_with(LOG_FOLDER)
}
