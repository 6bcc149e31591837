//! A folder on local disk: every access resolves beneath it and follows no symlink.
//!
//! `object_store` reads and writes whole files; what it can't do is here: listing without following
//! links, opening a file for passthrough, publishing by a link, renaming a folder into place.

use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::{self, Read};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::fs::{Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;

use super::{Created, Entry, Listing, join};
use crate::error::{Error, Result};

/// Modes of a table's folders and files.
const FOLDER_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;

/// A folder beneath an opened root.
#[derive(Clone, Debug)]
pub(super) struct LocalRoot {
    root: Arc<OwnedFd>,
    /// Of this folder beneath `root`; empty for the root itself.
    prefix: String,
    path: PathBuf,
}

/// The path that a source names. Errors: [`Error::Refused`] for schemes other than `file`.
pub(super) fn source_path(source: &str) -> Result<PathBuf> {
    if let Some((scheme, _)) = source.split_once("://") {
        if scheme != "file" {
            return Err(Error::Refused(format!(
                "{source}: the scheme {scheme}:// is not served; give a folder on local disk"
            )));
        }
        let parsed = url::Url::parse(source)
            .map_err(|error| Error::Refused(format!("{source}: not a URL: {error}")))?;
        return parsed
            .to_file_path()
            .map_err(|()| Error::Refused(format!("{source}: not the URL of a local folder")));
    }
    Ok(PathBuf::from(source))
}

impl LocalRoot {
    /// Opens a folder; its own path may pass through symlinks, nothing beneath it may.
    pub fn open(path: &Path) -> Result<LocalRoot> {
        let path = std::fs::canonicalize(path)
            .map_err(|error| Error::from_io(format!("open {}", path.display()), &error))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&path, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::NOTDIR => Error::Refused(format!("{}: not a folder", path.display())),
            errno => Error::from_io(format!("open {}", path.display()), &errno.into()),
        })?;
        Ok(LocalRoot { root: Arc::new(root), prefix: String::new(), path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn child(&self, relative: &str) -> LocalRoot {
        LocalRoot {
            root: self.root.clone(),
            prefix: join(&self.prefix, relative),
            path: self.path.join(relative),
        }
    }

    /// Opens a regular file for reading.
    pub fn open_file(&self, path: &str) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let file = File::from(self.open_beneath(path, flags, "open")?);
        let is_file = file
            .metadata()
            .map_err(|error| Error::from_io(self.message("open", path), &error))?
            .is_file();
        if !is_file {
            return Err(Error::Damaged(format!("{}: not a file", self.message("open", path))));
        }
        Ok(file)
    }

    /// Reads a whole file.
    pub fn read(&self, path: &str) -> Result<Bytes> {
        let mut bytes = Vec::new();
        self.open_file(path)?
            .read_to_end(&mut bytes)
            .map_err(|error| Error::from_io(self.message("read", path), &error))?;
        Ok(bytes.into())
    }

    /// Reads exactly the bytes of `range`.
    pub fn read_range(&self, path: &str, range: Range<u64>) -> Result<Bytes> {
        let file = self.open_file(path)?;
        let failed = |error: io::Error| Error::from_io(self.message("read", path), &error);
        let length = file.metadata().map_err(failed)?.len();
        if range.end > length {
            return Err(Error::Damaged(format!(
                "{}: it has {length} bytes and those up to {} were asked for: cut short",
                self.message("read", path),
                range.end
            )));
        }
        let mut bytes = vec![0; range.end.saturating_sub(range.start) as usize];
        file.read_exact_at(&mut bytes, range.start).map_err(failed)?;
        Ok(bytes.into())
    }

    /// Reads the bytes of `range` that the file has.
    pub fn read_up_to(&self, path: &str, range: Range<u64>) -> Result<Bytes> {
        let file = self.open_file(path)?;
        let failed = |error: io::Error| Error::from_io(self.message("read", path), &error);
        // As many as there are, so that nothing is allocated for what isn't.
        let length = file.metadata().map_err(failed)?.len();
        let wanted = range.end.min(length).saturating_sub(range.start);
        let mut bytes = vec![0; wanted as usize];
        let mut read = 0;
        while read < bytes.len() {
            match file.read_at(&mut bytes[read..], range.start + read as u64) {
                Ok(0) => break,
                Ok(count) => read += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        bytes.truncate(read);
        Ok(bytes.into())
    }

    pub fn head(&self, path: &str) -> Result<Option<Entry>> {
        let opened = match self.open_beneath(path, OFlags::PATH | OFlags::NOFOLLOW, "look at") {
            Err(Error::NotFound(_)) => return Ok(None),
            // A file in the place of a folder: there is nothing at that path.
            Err(Error::System { code, .. }) if code == Errno::NOTDIR.raw_os_error() => {
                return Ok(None);
            }
            opened => opened?,
        };
        let stat = rustix::fs::fstat(&opened).map_err(|errno| self.failed("stat", path, errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        Ok(Some(entry(path.to_string(), &stat)))
    }

    pub fn has_directory(&self, path: &str) -> Result<bool> {
        match self.open_beneath(path, OFlags::PATH | OFlags::DIRECTORY, "look at") {
            Ok(_) => Ok(true),
            Err(Error::NotFound(_)) => Ok(false),
            Err(Error::System { code, .. }) if code == Errno::NOTDIR.raw_os_error() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Lists one level. Symlinks, special files and names that are not UTF-8 are passed over.
    pub fn list(&self, directory: &str) -> Result<Listing> {
        let opened = match self.open_beneath(directory, OFlags::RDONLY | OFlags::DIRECTORY, "list")
        {
            Err(Error::NotFound(_)) => return Ok(Listing::default()),
            opened => opened?,
        };
        let failed = |errno| self.failed("list", directory, errno);
        let mut listing = Listing::default();
        for found in rustix::fs::Dir::read_from(&opened).map_err(failed)? {
            let found = found.map_err(failed)?;
            let Ok(name) = found.file_name().to_str() else { continue };
            if name == "." || name == ".." {
                continue;
            }
            if found.file_type() == FileType::Directory {
                listing.directories.push(name.to_string());
                continue;
            }
            let stat = match rustix::fs::statat(&opened, name, AtFlags::SYMLINK_NOFOLLOW) {
                // Gone since the directory was read.
                Err(Errno::NOENT) => continue,
                stat => stat.map_err(failed)?,
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => listing.files.push(entry(join(directory, name), &stat)),
                // File systems that don't tell types in listings.
                FileType::Directory => listing.directories.push(name.to_string()),
                _ => {}
            }
        }
        listing.directories.sort();
        listing.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(listing)
    }

    /// Whether what is written by path comes beneath the folder that was opened. Errors: ESTALE,
    /// where that one was moved or replaced since.
    pub fn check_in_place(&self) -> Result<()> {
        let names = self.prefix.split('/').filter(|name| !name.is_empty()).count();
        let root = self.path.ancestors().nth(names).unwrap_or(&self.path);
        let opened = rustix::fs::fstat(&self.root).map_err(|e| self.failed("stat", "", e))?;
        match rustix::fs::stat(root) {
            Ok(found) if (found.st_dev, found.st_ino) == (opened.st_dev, opened.st_ino) => Ok(()),
            _ => Err(Error::System {
                message: format!(
                    "{}: the folder was moved or replaced since it was mounted; unmount, and mount \
                     it where it is now; what is staged is kept",
                    root.display()
                ),
                code: Errno::STALE.raw_os_error(),
            }),
        }
    }

    /// Checks that the folder of `path` is there. Errors: ESTALE, where it was moved or removed.
    pub fn check_parent(&self, path: &str) -> Result<()> {
        match self.parent_of(path) {
            Err(Error::NotFound(message)) => Err(Error::System {
                message: format!(
                    "{message}: the table was moved or removed meanwhile; what is staged is kept"
                ),
                code: Errno::STALE.raw_os_error(),
            }),
            found => found.map(drop),
        }
    }

    /// Makes the folders above `path`, durably.
    pub fn make_parents(&self, path: &str) -> Result<()> {
        let whole = join(&self.prefix, path);
        let Some((parents, _)) = whole.rsplit_once('/') else { return Ok(()) };
        self.make_from_root(parents, path)
    }

    /// Makes a folder and those above it, durably.
    pub fn make_directory(&self, path: &str) -> Result<()> {
        self.make_from_root(&join(&self.prefix, path), path)
    }

    fn make_from_root(&self, directory: &str, path: &str) -> Result<()> {
        if self.open_from_root(directory, OFlags::PATH | OFlags::DIRECTORY).is_ok() {
            return Ok(());
        }
        let failed = |errno| self.failed("make the folders of", path, errno);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let mut parent = self.open_from_root("", flags).map_err(failed)?;
        for name in directory.split('/') {
            match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(FOLDER_MODE)) {
                Ok(()) => rustix::fs::fsync(&parent).map_err(failed)?,
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(failed(errno)),
            }
            let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            parent = rustix::fs::openat(&parent, name, flags, Mode::empty()).map_err(failed)?;
        }
        Ok(())
    }

    pub fn remove_directory(&self, path: &str) -> Result<()> {
        let (parent, name) = self.parent_of(path)?;
        rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR)
            .map_err(|errno| self.failed("remove", path, errno))
    }

    /// Links or copies `staged`, whose bytes are durable, to `path` if nothing is there; the folder
    /// is fsynced. `copies`: the bytes must be its own.
    pub fn publish(&self, staged: &Path, path: &str, copies: bool) -> Result<Created> {
        self.make_parents(path)?;
        let (parent, name) = self.parent_of(path)?;
        let read = |error: io::Error| Error::from_io(format!("read {}", staged.display()), &error);
        let source = File::open(staged).map_err(read)?;
        let linked = match copies {
            true => Err(Errno::XDEV),
            false => rustix::fs::linkat(CWD, staged, &parent, name, AtFlags::empty()),
        };
        match linked {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(Created::ExistsAlready),
            // Another file system, one without links, or a file whose owner we are not.
            Err(Errno::XDEV | Errno::PERM | Errno::OPNOTSUPP | Errno::MLINK) => {
                if self.copy_in(source, &parent, name, path)? == Created::ExistsAlready {
                    return Ok(Created::ExistsAlready);
                }
            }
            Err(errno) => return Err(self.failed("publish", path, errno)),
        }
        rustix::fs::fsync(&parent).map_err(|errno| self.failed("publish", path, errno))?;
        Ok(Created::Created)
    }

    /// Copies under a hidden temporary name, then links it to its own: never seen half written.
    fn copy_in(
        &self,
        mut source: File,
        parent: &OwnedFd,
        name: &OsStr,
        path: &str,
    ) -> Result<Created> {
        let failed = |errno| self.failed("publish", path, errno);
        let temporary = format!(".deltafs-{}", uuid::Uuid::new_v4().simple());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let target = rustix::fs::openat(parent, &temporary, flags, Mode::from_raw_mode(FILE_MODE))
            .map_err(failed)?;
        let mut target = File::from(target);
        let copied = io::copy(&mut source, &mut target)
            .and_then(|_| target.sync_all())
            .map_err(|error| Error::from_io(self.message("publish", path), &error));
        let linked = copied.and_then(|()| {
            match rustix::fs::renameat_with(
                parent,
                &temporary,
                parent,
                name,
                RenameFlags::NOREPLACE,
            ) {
                Ok(()) => Ok(Created::Created),
                Err(Errno::EXIST) => Ok(Created::ExistsAlready),
                Err(errno) => Err(failed(errno)),
            }
        });
        if !matches!(linked, Ok(Created::Created)) {
            // Ours alone, and of no use; where this fails it stays as a hidden file.
            let _ = rustix::fs::unlinkat(parent, &temporary, AtFlags::empty());
        }
        linked
    }

    /// Makes what is at a path durable, and its name.
    pub fn make_durable(&self, path: &str) -> Result<()> {
        let failed = |errno| self.failed("sync", path, errno);
        rustix::fs::fsync(self.open_beneath(path, OFlags::RDONLY, "open")?).map_err(failed)?;
        let (parent, _) = self.parent_of(path)?;
        rustix::fs::fsync(parent).map_err(failed)
    }

    /// Sets a file's time to now; returns the one that it had. Errors: [`Error::NotFound`].
    pub fn touch(&self, path: &str) -> Result<SystemTime> {
        let failed = |error: io::Error| Error::from_io(self.message("touch", path), &error);
        let file = self.open_file(path)?;
        let was = file.metadata().and_then(|metadata| metadata.modified()).map_err(failed)?;
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let kept = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        let times = Timestamps { last_access: kept, last_modification: now };
        rustix::fs::futimens(&file, &times).map_err(|errno| self.failed("touch", path, errno))?;
        Ok(was)
    }

    /// Renames a folder into place, readable to all; an empty folder that is there gives way.
    pub fn publish_directory(&self, staged: &Path, path: &str) -> Result<Created> {
        self.make_parents(path)?;
        let (parent, name) = self.parent_of(path)?;
        publish_tree(staged)
            .map_err(|error| Error::from_io(format!("sync {}", staged.display()), &error))?;
        match rustix::fs::renameat(CWD, staged, &parent, name) {
            Ok(()) => {}
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {
                return Ok(Created::ExistsAlready);
            }
            Err(errno) => return Err(self.failed("publish", path, errno)),
        }
        rustix::fs::fsync(&parent).map_err(|errno| self.failed("publish", path, errno))?;
        Ok(Created::Created)
    }

    fn parent_of<'a>(&self, path: &'a str) -> Result<(OwnedFd, &'a OsStr)> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        Ok((self.open_beneath(parent, flags, "open")?, OsStr::from_bytes(name.as_bytes())))
    }

    fn open_beneath(&self, path: &str, flags: OFlags, doing: &str) -> Result<OwnedFd> {
        self.open_from_root(&join(&self.prefix, path), flags)
            .map_err(|errno| self.failed(doing, path, errno))
    }

    fn open_from_root(&self, whole: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let whole = if whole.is_empty() { "." } else { whole };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let flags = flags | OFlags::CLOEXEC;
        loop {
            // EAGAIN: a rename raced with the resolution (openat2(2)).
            match rustix::fs::openat2(&self.root, whole, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                opened => return opened,
            }
        }
    }

    fn failed(&self, doing: &str, path: &str, errno: Errno) -> Error {
        match errno {
            Errno::LOOP | Errno::XDEV => Error::Damaged(format!(
                "{}: a symlink, or a path out of the folder; neither is followed",
                self.message(doing, path)
            )),
            errno => Error::from_io(self.message(doing, path), &errno.into()),
        }
    }

    fn message(&self, doing: &str, path: &str) -> String {
        format!("{doing} {}", self.path.join(path).display())
    }
}

fn entry(path: String, stat: &rustix::fs::Stat) -> Entry {
    let modified_ms = stat.st_mtime * 1000 + stat.st_mtime_nsec as i64 / 1_000_000;
    Entry { path, size: stat.st_size as u64, modified_ms }
}

/// Lets everybody read a folder's files and the folder itself, and makes them durable.
fn publish_tree(directory: &Path) -> io::Result<()> {
    std::fs::set_permissions(directory, Permissions::from_mode(FOLDER_MODE))?;
    for found in std::fs::read_dir(directory)? {
        let found = found?;
        if found.file_type()?.is_dir() {
            publish_tree(&found.path())?;
        } else {
            // By its path first: what its owner closed to himself can't be opened.
            std::fs::set_permissions(found.path(), Permissions::from_mode(FILE_MODE))?;
            File::open(found.path())?.sync_all()?;
        }
    }
    File::open(directory)?.sync_all()
}
