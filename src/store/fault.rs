//! A store in memory that fails when it is told to, for tests of what a commit leaves behind.
//!
//! A failure comes before the call took place or after: "applied, then an error" is what a timeout
//! on the way back looks like. It comes once, or the store is gone from then on. Other writers can
//! be let in at the worst moment, just before a write of ours.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::Store;

/// Which call fails, and how.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Number of the call, from 0.
    pub at: usize,
    /// Whether a write takes place all the same.
    pub applied: bool,
    /// Whether every later call fails too.
    pub for_good: bool,
}

/// What another writer puts down at once.
type Rival = Vec<(Path, Bytes)>;

/// Objects in memory; clones share them.
#[derive(Clone, Debug, Default)]
pub struct FaultStore {
    objects: Arc<InMemory>,
    calls: Arc<AtomicUsize>,
    fault: Option<Fault>,
    /// What the failures are, where they are not the usual one.
    error: Option<fn() -> Error>,
    /// What others write, each just before we would write to the first of the names.
    rivals: Arc<Mutex<VecDeque<Rival>>>,
}

impl FaultStore {
    /// A copy of the objects that fails so.
    pub fn fork(&self, fault: Option<Fault>) -> FaultStore {
        FaultStore {
            objects: Arc::new(self.objects.fork()),
            calls: Arc::default(),
            fault,
            error: None,
            rivals: Arc::default(),
        }
    }

    /// Fails with this error.
    pub fn failing_with(self, error: fn() -> Error) -> FaultStore {
        FaultStore { error: Some(error), ..self }
    }

    fn failure(&self) -> Error {
        let usual =
            || Error::Generic { store: "fault", source: "it failed, as it was told to".into() };
        self.error.map_or_else(usual, |error| error())
    }

    /// The same objects, without the fault.
    pub fn mended(&self) -> FaultStore {
        FaultStore {
            objects: self.objects.clone(),
            calls: Arc::default(),
            fault: None,
            error: None,
            rivals: Arc::default(),
        }
    }

    /// Lets another writer have names just before we would have the first of them.
    pub fn let_in(&self, objects: impl IntoIterator<Item = (String, String)>) {
        let objects = objects.into_iter().map(|(path, text)| (path.into(), text.into()));
        self.rivals.lock().unwrap().push_back(objects.collect());
    }

    /// Writes what a rival has for this name.
    async fn rival(&self, location: &Path) -> Result<()> {
        let objects = {
            let mut rivals = self.rivals.lock().unwrap();
            let is_next = |rival: &Rival| rival.first().is_some_and(|(path, _)| path == location);
            if rivals.front().is_some_and(is_next) { rivals.pop_front() } else { None }
        };
        for (path, bytes) in objects.unwrap_or_default() {
            self.objects.put(&path, bytes.into()).await?;
        }
        Ok(())
    }

    /// How many calls there were.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// As a store.
    pub fn store(&self) -> Store {
        Store::from_object_store(Arc::new(self.clone()))
    }

    /// Counts a call; says whether it fails, and whether it is applied all the same.
    fn next(&self) -> Option<Fault> {
        let number = self.calls.fetch_add(1, Ordering::SeqCst);
        self.fault.filter(|fault| match fault.for_good {
            true => number >= fault.at,
            false => number == fault.at,
        })
    }
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("fault store")
    }
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// Written out as `async_trait` would have it, for the sake of one dependency less.
impl ObjectStore for FaultStore {
    fn put_opts<'a, 'b, 'c>(
        &'a self,
        location: &'b Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Answer<'c, PutResult>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        Box::pin(async move {
            self.rival(location).await?;
            match self.next() {
                None => self.objects.put_opts(location, payload, options).await,
                Some(fault) => {
                    // Applied only at the very call; later the store is out of reach.
                    if fault.applied && self.calls() == fault.at + 1 {
                        let _whether_it_was_there =
                            self.objects.put_opts(location, payload, options).await;
                    }
                    Err(self.failure())
                }
            }
        })
    }

    fn put_multipart_opts<'a, 'b, 'c>(
        &'a self,
        location: &'b Path,
        options: PutMultipartOptions,
    ) -> Answer<'c, Box<dyn MultipartUpload>>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        self.objects.put_multipart_opts(location, options)
    }

    fn get_opts<'a, 'b, 'c>(
        &'a self,
        location: &'b Path,
        options: GetOptions,
    ) -> Answer<'c, GetResult>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        Box::pin(async move {
            match self.next() {
                None => self.objects.get_opts(location, options).await,
                Some(_) => Err(self.failure()),
            }
        })
    }

    fn get_ranges<'a, 'b, 'r, 'c>(
        &'a self,
        location: &'b Path,
        ranges: &'r [Range<u64>],
    ) -> Answer<'c, Vec<Bytes>>
    where
        'a: 'c,
        'b: 'c,
        'r: 'c,
        Self: 'c,
    {
        Box::pin(async move {
            match self.next() {
                None => self.objects.get_ranges(location, ranges).await,
                Some(_) => Err(self.failure()),
            }
        })
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.objects.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.next() {
            None => self.objects.list(prefix),
            Some(_) => futures::stream::iter([Err(self.failure())]).boxed(),
        }
    }

    fn list_with_delimiter<'a, 'b, 'c>(&'a self, prefix: Option<&'b Path>) -> Answer<'c, ListResult>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        Box::pin(async move {
            match self.next() {
                None => self.objects.list_with_delimiter(prefix).await,
                Some(_) => Err(self.failure()),
            }
        })
    }

    fn copy_opts<'a, 'b, 'd, 'c>(
        &'a self,
        from: &'b Path,
        to: &'d Path,
        options: CopyOptions,
    ) -> Answer<'c, ()>
    where
        'a: 'c,
        'b: 'c,
        'd: 'c,
        Self: 'c,
    {
        self.objects.copy_opts(from, to, options)
    }
}
