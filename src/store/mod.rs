//! Where the bytes are: one handle on a folder of a store, whatever the store is.
//!
//! A [`Store`] is rooted at a lake, a table or a staged tree. Paths are relative to that root,
//! decoded, separated by `/`. Every call has a time limit. What the bytes mean is the business of
//! `log`; which of them become visible, and when, is the business of `table`.

mod call;
mod local;
mod reach;

use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures::StreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use crate::error::{Error, Result};
use call::{blocking, limited, translate, whole};
use local::LocalRoot;
pub use reach::{Located, Reach, allowed_place, normalized};

/// A folder of a store. Cloning is cheap and shares the connection.
#[derive(Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    /// Path of this root within `objects`; empty, or without slashes at its ends.
    prefix: String,
    url: Arc<str>,
    local: Option<LocalRoot>,
    /// Places outside that tables of this store may name, in their one spelling.
    allowed: Arc<[String]>,
    /// Whose reach a log of this store has, where it is another folder's.
    reach: Option<Reach>,
    /// What fails of the calls on a local disk.
    #[cfg(test)]
    faults: Option<Arc<fault::Plan>>,
}

/// A file of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the store's root, decoded.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Milliseconds since the epoch.
    pub modified_ms: i64,
}

impl Entry {
    /// The last component of the path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

/// One level of a folder, each part sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Bare names.
    pub directories: Vec<String>,
    pub files: Vec<Entry>,
}

/// What became of a put-if-absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    Created,
    /// Something has that name already; it was left as it is.
    ExistsAlready,
}

impl Store {
    /// Opens a folder on local disk, by path or `file://` URL.
    ///
    /// Errors: [`Error::Refused`] for other schemes and for what is no folder,
    /// [`Error::NotFound`] where nothing is.
    pub fn open(source: &str) -> Result<Store> {
        let path = local::source_path(source)?;
        let root = LocalRoot::open(&path)?;
        let objects = LocalFileSystem::new_with_prefix(root.path())
            .map_err(|error| translate(&format!("open {source}"), error))?
            .with_fsync(true);
        let url = format!("file://{}", root.path().display());
        let local = Some(root);
        Ok(Store { url: url.into(), local, ..Store::bare(Arc::new(objects)) })
    }

    /// Wraps any object store, so that tests can put faults between us and the bytes.
    #[cfg(test)]
    pub fn from_object_store(objects: Arc<dyn ObjectStore>) -> Store {
        Store { url: "test://".into(), ..Store::bare(objects) }
    }

    fn bare(objects: Arc<dyn ObjectStore>) -> Store {
        Store {
            objects,
            prefix: String::new(),
            url: "".into(),
            local: None,
            allowed: Arc::default(),
            reach: None,
            #[cfg(test)]
            faults: None,
        }
    }

    /// The same store, whose tables may name files at places outside of their folders; each as
    /// [`allowed_place`] gave it.
    pub fn allowing(mut self, places: Vec<String>) -> Store {
        self.allowed = places.into();
        self
    }

    /// The same store, whose log is a copy of another folder's, or to be brought there: what its
    /// absolute paths mean is told from there.
    pub fn seen_from(mut self, folder: &Store) -> Store {
        self.reach = Some(folder.reach());
        self
    }

    /// How far the files of a log in this folder may be.
    pub fn reach(&self) -> Reach {
        if let Some(reach) = &self.reach {
            return reach.clone();
        }
        let root = match self.local_root() {
            Some(path) => path.to_string_lossy(),
            None => self.url.as_ref().into(),
        };
        Reach::new(&root, self.allowed.clone())
    }

    /// The store of a subfolder, which need not exist.
    pub fn child(&self, relative: &str) -> Store {
        let mut child = self.clone();
        child.prefix = join(&self.prefix, relative);
        child.url = join(self.url.trim_end_matches('/'), relative).into();
        child.local = self.local.as_ref().map(|local| local.child(relative));
        child
    }

    /// The URL, for messages; it carries no secret.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The folder on local disk, where it is one.
    pub fn local_root(&self) -> Option<&Path> {
        self.local.as_ref().map(LocalRoot::path)
    }

    /// Checks that the folder is still where it was when it was opened. Errors: ESTALE.
    pub fn check_in_place(&self) -> Result<()> {
        self.local.as_ref().map_or(Ok(()), LocalRoot::check_in_place)
    }

    /// Opens a file for reading where the store is a local disk: beneath the root, no symlinks.
    pub fn open_local(&self, path: &str) -> Option<Result<File>> {
        self.local.as_ref().map(|local| local.open_file(path))
    }

    /// Lists one level of a folder (`""` is the root). A missing folder is an empty listing.
    pub async fn list(&self, directory: &str) -> Result<Listing> {
        let doing = format!("list {}/{directory}", self.url);
        if let Some(local) = &self.local {
            let directory = directory.to_string();
            let work = self.on_disk(local, &doing, move |local| local.list(&directory));
            return limited(&doing, work).await;
        }
        let prefix = self.object_path(directory)?;
        let prefix = (!prefix.as_ref().is_empty()).then_some(prefix);
        let listed = limited(&doing, async {
            self.objects
                .list_with_delimiter(prefix.as_ref())
                .await
                .map_err(|error| translate(&doing, error))
        })
        .await?;
        let mut directories: Vec<String> = listed
            .common_prefixes
            .iter()
            .filter_map(|path| path.filename().map(str::to_string))
            .collect();
        directories.sort();
        let mut files: Vec<Entry> =
            listed.objects.into_iter().filter_map(|meta| self.entry(meta)).collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Listing { directories, files })
    }

    /// Whether something is in a folder; on a local disk, whether there is one.
    pub async fn has_directory(&self, path: &str) -> Result<bool> {
        if let Some(local) = &self.local {
            let doing = format!("look at {}/{path}", self.url);
            let path = path.to_string();
            let work = self.on_disk(local, &doing, move |local| local.has_directory(&path));
            return limited(&doing, work).await;
        }
        let listing = self.list(path).await?;
        Ok(!listing.files.is_empty() || !listing.directories.is_empty())
    }

    /// Lists the files of a folder whose names come after `after_name`, sorted.
    pub async fn list_after(&self, directory: &str, after_name: &str) -> Result<Vec<Entry>> {
        let after = join(directory, after_name);
        if self.local.is_some() {
            let mut files = self.list(directory).await?.files;
            files.retain(|entry| entry.path > after);
            return Ok(files);
        }
        let doing = format!("list {}/{directory}", self.url);
        let (prefix, offset) = (self.object_path(directory)?, self.object_path(&after)?);
        limited(&doing, async {
            let mut listed = self.objects.list_with_offset(Some(&prefix), &offset);
            let mut files = Vec::new();
            while let Some(meta) = listed.next().await {
                let meta = meta.map_err(|error| translate(&doing, error))?;
                files.extend(
                    self.entry(meta)
                        .filter(|entry| !entry.path[directory.len() + 1..].contains('/')),
                );
            }
            files.sort_by(|a, b| a.path.cmp(&b.path));
            Ok(files)
        })
        .await
    }

    /// Looks at one file; `None` where nothing is.
    pub async fn head(&self, path: &str) -> Result<Option<Entry>> {
        let doing = format!("look at {}/{path}", self.url);
        if let Some(local) = &self.local {
            let path = path.to_string();
            let work = self.on_disk(local, &doing, move |local| local.head(&path));
            return limited(&doing, work).await;
        }
        let object = self.object_path(path)?;
        limited(&doing, async {
            match self.objects.head(&object).await {
                Ok(meta) => Ok(self.entry(meta)),
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(translate(&doing, error)),
            }
        })
        .await
    }

    /// Reads a whole file.
    pub async fn read(&self, path: &str) -> Result<Bytes> {
        let doing = format!("read {}/{path}", self.url);
        if let Some(local) = &self.local {
            let path = path.to_string();
            let work = self.on_disk(local, &doing, move |local| local.read(&path));
            return limited(&doing, work).await;
        }
        let object = self.object_path(path)?;
        limited(&doing, async {
            let got = self.objects.get(&object).await.map_err(|error| translate(&doing, error))?;
            whole(&doing, got).await
        })
        .await
    }

    /// Reads exactly the bytes of `range`; fewer are [`Error::Damaged`].
    pub async fn read_range(&self, path: &str, range: Range<u64>) -> Result<Bytes> {
        let doing = format!("read {}/{path}", self.url);
        if let Some(local) = &self.local {
            let path = path.to_string();
            let work = self.on_disk(local, &doing, move |local| local.read_range(&path, range));
            return limited(&doing, work).await;
        }
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let object = self.object_path(path)?;
        let wanted = range.end - range.start;
        let options = GetOptions { range: Some(range.into()), ..GetOptions::default() };
        let bytes = limited(&doing, async {
            let got = self.objects.get_opts(&object, options).await;
            whole(&doing, got.map_err(|error| translate(&doing, error))?).await
        })
        .await?;
        if bytes.len() as u64 != wanted {
            return Err(Error::Damaged(format!(
                "{doing}: {wanted} bytes were asked for and {} came: the file is cut short",
                bytes.len()
            )));
        }
        Ok(bytes)
    }

    /// Reads the bytes of `range` that the file has: fewer where it ends before.
    pub async fn read_up_to(&self, path: &str, range: Range<u64>) -> Result<Bytes> {
        let doing = format!("read {}/{path}", self.url);
        if let Some(local) = &self.local {
            let path = path.to_string();
            let work = self.on_disk(local, &doing, move |local| local.read_up_to(&path, range));
            return limited(&doing, work).await;
        }
        let object = self.object_path(path)?;
        let start = range.start;
        let options = GetOptions { range: Some(range.into()), ..GetOptions::default() };
        let got = limited(&doing, async {
            let got = self.objects.get_opts(&object, options).await;
            let got = got.map_err(|error| translate(&doing, error))?;
            whole(&doing, got).await
        });
        match got.await {
            // Stores refuse a range that begins at the end, each in words of its own.
            Err(error) => match self.head(path).await? {
                Some(entry) if entry.size <= start => Ok(Bytes::new()),
                Some(_) | None => Err(error),
            },
            Ok(bytes) => Ok(bytes),
        }
    }

    /// Writes a file if nothing has its name, durably. The one way a commit becomes visible.
    pub async fn create(&self, path: &str, bytes: Bytes) -> Result<Created> {
        self.put(path, bytes, PutMode::Create, true).await
    }

    /// As `create`, in a folder that must be there, where the store has any. Errors: ESTALE.
    pub async fn create_beside(&self, path: &str, bytes: Bytes) -> Result<Created> {
        self.put(path, bytes, PutMode::Create, false).await
    }

    /// Replaces a file whole. Only for `_last_checkpoint`, which is a hint and never the truth.
    pub async fn replace(&self, path: &str, bytes: Bytes) -> Result<()> {
        self.put(path, bytes, PutMode::Overwrite, true).await.map(|_| ())
    }

    async fn put(
        &self,
        path: &str,
        bytes: Bytes,
        mode: PutMode,
        makes_folders: bool,
    ) -> Result<Created> {
        let doing = format!("write {}/{path}", self.url);
        if let Some(local) = &self.local {
            let path = path.to_string();
            let work = self.on_disk(local, &doing, move |local| {
                local.check_in_place()?;
                match makes_folders {
                    true => local.make_parents(&path),
                    false => local.check_parent(&path),
                }
            });
            limited(&doing, work).await?;
        }
        let object = self.object_path(path)?;
        let options = PutOptions { mode, ..PutOptions::default() };
        limited(&doing, async {
            match self.objects.put_opts(&object, PutPayload::from_bytes(bytes), options).await {
                Ok(_) => Ok(Created::Created),
                Err(object_store::Error::AlreadyExists { .. }) => Ok(Created::ExistsAlready),
                Err(error) => Err(translate(&doing, error)),
            }
        })
        .await
    }

    /// Gives a local file's content a name in the store if nothing has that name: by a link on the
    /// same file system, by a copy else. The file's own bytes must be durable; the rest is when it
    /// returns.
    pub async fn publish(&self, staged: &Path, path: &str) -> Result<Created> {
        self.publish_as(staged, path, false).await
    }

    /// As `publish`, by a copy always: for a file that another name can still change.
    pub async fn publish_copy(&self, staged: &Path, path: &str) -> Result<Created> {
        self.publish_as(staged, path, true).await
    }

    async fn publish_as(&self, staged: &Path, path: &str, copies: bool) -> Result<Created> {
        let doing = format!("publish {}/{path}", self.url);
        if let Some(local) = &self.local {
            let (staged, path) = (staged.to_path_buf(), path.to_string());
            // No time limit: a copy across file systems takes as long as its bytes do, and a
            // local disk that hangs can't be hurried.
            let publish = move |local: LocalRoot| local.publish(&staged, &path, copies);
            return self.on_disk(local, &doing, publish).await;
        }
        let staged = staged.to_path_buf();
        let bytes = blocking(move || {
            std::fs::read(&staged)
                .map_err(|error| Error::from_io(format!("read {}", staged.display()), &error))
        })
        .await
        .map_err(|error| error.during(&doing))?;
        self.create(path, bytes.into()).await
    }

    /// Makes a file or folder and its name durable, where somebody else may have left it half way.
    pub async fn make_durable(&self, path: &str) -> Result<()> {
        let Some(local) = &self.local else { return Ok(()) };
        let doing = format!("sync {}/{path}", self.url);
        let path = path.to_string();
        let work = self.on_disk(local, &doing, move |local| local.make_durable(&path));
        limited(&doing, work).await
    }

    /// Sets a file's time to now, where a file's time can be set; returns the one that it had.
    /// Errors: [`Error::NotFound`].
    pub async fn touch(&self, path: &str) -> Result<Option<SystemTime>> {
        let Some(local) = &self.local else { return Ok(None) };
        let doing = format!("touch {}/{path}", self.url);
        let path = path.to_string();
        let work = self.on_disk(local, &doing, move |local| local.touch(&path));
        limited(&doing, work).await.map(Some)
    }

    /// Gives a whole local folder a name in the store if nothing but an empty folder has it.
    /// Errors: [`Error::Unsupported`] where the store can't rename a folder at once.
    pub async fn publish_directory(&self, staged: &Path, path: &str) -> Result<Created> {
        let Some(local) = &self.local else {
            return Err(Error::Unsupported(format!(
                "publish {}/{path}: this store can't make a folder appear at once",
                self.url
            )));
        };
        let (staged, path) = (staged.to_path_buf(), path.to_string());
        let rename = move |local: LocalRoot| local.publish_directory(&staged, &path);
        self.on_disk(local, "rename a folder into place", rename).await
    }

    /// Makes an empty folder, where the store is one that has them.
    pub async fn make_directory(&self, path: &str) -> Result<()> {
        let Some(local) = &self.local else { return Ok(()) };
        let path = path.to_string();
        self.on_disk(local, "make a folder", move |local| local.make_directory(&path)).await
    }

    /// Removes an empty folder, where the store is one that has them.
    pub async fn remove_directory(&self, path: &str) -> Result<()> {
        let Some(local) = &self.local else { return Ok(()) };
        let path = path.to_string();
        self.on_disk(local, "remove a folder", move |local| local.remove_directory(&path)).await
    }

    /// Makes a call on the local disk, away from the runtime's own threads.
    async fn on_disk<T: Send + 'static>(
        &self,
        local: &LocalRoot,
        _doing: &str,
        work: impl FnOnce(LocalRoot) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let local = local.clone();
        let work = blocking(move || work(local));
        #[cfg(test)]
        if let Some(faults) = &self.faults {
            return faults.around(_doing, work).await;
        }
        work.await
    }

    fn object_path(&self, path: &str) -> Result<ObjectPath> {
        let whole = join(&self.prefix, path);
        ObjectPath::parse(&whole)
            .map_err(|error| Error::Refused(format!("{}/{path}: {error}", self.url)))
    }

    fn entry(&self, meta: object_store::ObjectMeta) -> Option<Entry> {
        let path = meta.location.as_ref();
        let path = match self.prefix.as_str() {
            "" => path,
            prefix => path.strip_prefix(prefix)?.strip_prefix('/')?,
        };
        let modified_ms = meta.last_modified.timestamp_millis();
        Some(Entry { path: path.to_string(), size: meta.size, modified_ms })
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Joins two relative paths; either may be empty.
pub fn join(parent: &str, child: &str) -> String {
    match parent.is_empty() || child.is_empty() {
        true => format!("{parent}{child}"),
        false => format!("{parent}/{child}"),
    }
}

#[cfg(test)]
pub mod fault;
#[cfg(test)]
mod tests;
