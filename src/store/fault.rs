//! A store that fails when it is told to, for tests of what a commit leaves behind.
//!
//! Its objects are in memory, or on a local disk, where the calls that go past the objects fail by
//! the same plan. Which call fails, and how, is in `plan`. Other writers can be let in at the worst
//! moment, just before a write of ours; and a write of ours that timed out may land much later.

mod plan;

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};

use super::Store;
pub use plan::{Call, Fault, Late, Mode, Plan};

/// What another writer puts down at once.
type Rival = Vec<(Path, Bytes)>;

/// A write that was said to have failed, and is on its way.
#[derive(Clone, Debug)]
struct Delayed {
    location: Path,
    payload: PutPayload,
    options: PutOptions,
    lands: Late,
}

/// Objects; clones share them.
#[derive(Clone, Debug)]
pub struct FaultStore {
    objects: Arc<dyn ObjectStore>,
    /// The same, where they can be copied at once.
    memory: Option<Arc<InMemory>>,
    /// The folder, where they are on a disk.
    disk: Option<Store>,
    plan: Arc<Plan>,
    /// What the failures are, where they are not the usual one.
    error: Option<fn() -> Error>,
    /// What others write, each just before we would write to the first of the names.
    rivals: Arc<Mutex<VecDeque<Rival>>>,
    /// Ours that are on their way.
    delayed: Arc<Mutex<Vec<Delayed>>>,
}

impl Default for FaultStore {
    fn default() -> FaultStore {
        FaultStore::of(Arc::default())
    }
}

impl FaultStore {
    fn of(memory: Arc<InMemory>) -> FaultStore {
        FaultStore {
            objects: memory.clone(),
            memory: Some(memory),
            disk: None,
            plan: Arc::new(Plan::new(None)),
            error: None,
            rivals: Arc::default(),
            delayed: Arc::default(),
        }
    }

    /// A folder on a local disk.
    pub fn on_disk(folder: &str) -> FaultStore {
        let store = Store::open(folder).unwrap();
        let objects = store.objects.clone();
        FaultStore { objects, memory: None, disk: Some(store), ..FaultStore::default() }
    }

    /// A copy of the objects in memory that fails so, with rivals and delayed writes of its own.
    pub fn fork(&self, fault: Option<Fault>) -> FaultStore {
        let memory = self.memory.as_ref().expect("BUG: a disk is copied by its owner");
        let rivals = self.rivals.lock().unwrap().clone();
        let plan = Arc::new(Plan::new(fault));
        let forked = FaultStore::of(Arc::new(memory.fork()));
        FaultStore { plan, rivals: Arc::new(Mutex::new(rivals)), ..forked }
    }

    /// The same objects, rivals and delayed writes, for another daemon, whose calls fail so.
    pub fn again(&self, fault: Option<Fault>) -> FaultStore {
        FaultStore { plan: Arc::new(Plan::new(fault)), error: None, ..self.clone() }
    }

    /// Fails with this error.
    pub fn failing_with(self, error: fn() -> Error) -> FaultStore {
        FaultStore { error: Some(error), ..self }
    }

    /// The same objects, without the fault.
    pub fn mended(&self) -> FaultStore {
        self.again(None)
    }

    /// What fails, and what was counted.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Lets another writer have names just before we would have the first of them.
    pub fn let_in(&self, objects: impl IntoIterator<Item = (String, String)>) {
        let objects = objects.into_iter().map(|(path, text)| (path.into(), text.into()));
        self.rivals.lock().unwrap().push_back(objects.collect());
    }

    /// How many calls there were.
    pub fn calls(&self) -> usize {
        self.plan.calls()
    }

    /// As a store.
    pub fn store(&self) -> Store {
        let objects: Arc<dyn ObjectStore> = Arc::new(self.clone());
        match &self.disk {
            None => Store::from_object_store(objects),
            Some(disk) => Store { objects, faults: Some(self.plan.clone()), ..disk.clone() },
        }
    }

    /// Every object, sorted by name; without the plan.
    pub async fn dump(&self) -> Vec<(String, Bytes)> {
        let listed: Vec<ObjectMeta> = self.objects.list(None).try_collect().await.unwrap();
        let mut objects = Vec::new();
        for meta in listed {
            let bytes = self.objects.get(&meta.location).await.unwrap().bytes().await.unwrap();
            objects.push((meta.location.to_string(), bytes));
        }
        objects.sort();
        objects
    }

    /// Lets writes land that were said to have failed; `last`: all of them.
    pub async fn land(&self, last: bool) {
        self.land_those(|lands| last || matches!(lands, Late::Calls(_) | Late::Over)).await;
    }

    async fn land_those(&self, is_due: impl Fn(Late) -> bool) {
        let due: Vec<Delayed> = {
            let mut delayed = self.delayed.lock().unwrap();
            delayed.extract_if(.., |delayed| is_due(delayed.lands)).collect()
        };
        for Delayed { location, payload, options, .. } in due {
            // It lands where nothing is in its way; nobody waits for the answer.
            let _ = self.objects.put_opts(&location, payload, options).await;
        }
    }

    /// What happens just before a call of ours.
    async fn before(&self, call: Call) {
        let now = self.calls();
        let is_due = |lands| match lands {
            Late::Calls(at) => at <= now,
            Late::NextPut => call.is_put(),
            Late::Over | Late::Last => false,
        };
        self.land_those(is_due).await;
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

    fn failure(&self, mode: Mode, location: &str) -> Error {
        let path = location.to_owned();
        let source = |text: &str| text.to_owned().into();
        let generic = |text: &str| Error::Generic { store: "fault", source: source(text) };
        match mode {
            Mode::TakenByNobody | Mode::TakenByUs => {
                Error::AlreadyExists { path, source: source("412 Precondition Failed") }
            }
            Mode::Conflict => {
                Error::Precondition { path, source: source("409 ConditionalRequestConflict") }
            }
            Mode::Late(_) => {
                let error = std::io::Error::from(std::io::ErrorKind::TimedOut);
                Error::Generic { store: "fault", source: error.into() }
            }
            Mode::Throttled => generic("503 Slow Down, after all retries"),
            _ => match self.error {
                Some(error) => error(),
                None => generic("it failed, as it was told to"),
            },
        }
    }

    /// Fails a call that only reads. `None`: it is made, and its answer is damaged.
    async fn fail_read<T>(
        &self,
        mode: Mode,
        location: &str,
        work: impl Future<Output = Result<T>>,
    ) -> Option<Result<T>> {
        match mode {
            Mode::ShortRead | Mode::StaleNewest | Mode::StaleEarlier => return None,
            Mode::StopBefore => self.plan.stop().await,
            Mode::StopAfter => {
                let _nobody_hears = work.await;
                self.plan.stop().await;
            }
            _ => {}
        }
        Some(Err(self.failure(mode, location)))
    }

    async fn fail_put(
        &self,
        mode: Mode,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        match mode {
            Mode::After | Mode::TakenByUs | Mode::StopAfter => {
                let _whether_it_was_there = self.objects.put_opts(location, payload, options).await;
            }
            Mode::Late(lands) => {
                let lands = match lands {
                    Late::Calls(count) => Late::Calls(self.calls() + count - 1),
                    other => other,
                };
                let location = location.clone();
                let delayed = Delayed { location, payload, options, lands };
                self.delayed.lock().unwrap().push(delayed);
            }
            _ => {}
        }
        if matches!(mode, Mode::StopBefore | Mode::StopAfter) {
            self.plan.stop().await;
        }
        Err(self.failure(mode, location.as_ref()))
    }

    /// The objects of a listing that lacks what came last.
    fn stale(mode: Mode, mut listed: Vec<ObjectMeta>) -> Vec<ObjectMeta> {
        match mode {
            Mode::StaleNewest => {
                let newest = listed.iter().map(|meta| meta.location.clone()).max();
                listed.retain(|meta| Some(&meta.location) != newest.as_ref());
            }
            _ => {
                listed.sort_by_key(|meta| meta.last_modified);
                listed.truncate(listed.len() / 2);
            }
        }
        listed
    }

    fn on_disk_call(&self) -> bool {
        self.disk.is_some()
    }

    /// How a call fails, where it can.
    fn turn(&self, call: Call) -> Option<Mode> {
        self.plan.turn(call).filter(|mode| mode.can(call, self.on_disk_call()))
    }
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("fault store")
    }
}

/// Half of what came, under the size of the whole.
async fn halved(got: GetResult) -> Result<GetResult> {
    let (meta, range) = (got.meta.clone(), got.range.clone());
    let (attributes, extensions) = (got.attributes.clone(), got.extensions.clone());
    let bytes = got.bytes().await?;
    let half = bytes.slice(..bytes.len() / 2);
    let payload = GetResultPayload::Stream(futures::stream::iter([Ok(half)]).boxed());
    Ok(GetResult { payload, meta, range, attributes, extensions })
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
            let call = Call::put(location.as_ref());
            self.before(call).await;
            self.rival(location).await?;
            match self.turn(call) {
                None => self.objects.put_opts(location, payload, options).await,
                Some(mode) => self.fail_put(mode, location, payload, options).await,
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
            let call = if options.head { Call::Head } else { Call::Get };
            self.before(call).await;
            let mode = self.turn(call);
            let work = self.objects.get_opts(location, options);
            let Some(mode) = mode else { return work.await };
            if mode == Mode::ShortRead {
                return halved(work.await?).await;
            }
            let failed = self.fail_read(mode, location.as_ref(), work).await;
            failed.expect("BUG: a read fails in no such way")
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
            self.before(Call::Get).await;
            let mode = self.turn(Call::Get);
            let work = self.objects.get_ranges(location, ranges);
            let Some(mode) = mode else { return work.await };
            if mode == Mode::ShortRead {
                let ranges = work.await?.into_iter().map(|bytes| bytes.slice(..bytes.len() / 2));
                return Ok(ranges.collect());
            }
            let failed = self.fail_read(mode, location.as_ref(), work).await;
            failed.expect("BUG: a read fails in no such way")
        })
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.objects.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix) = (self.clone(), prefix.cloned());
        let listed = async move {
            store.before(Call::List).await;
            let mode = store.turn(Call::List);
            let work = store.objects.list(prefix.as_ref()).try_collect::<Vec<ObjectMeta>>();
            let Some(mode) = mode else { return work.await };
            match store.fail_read(mode, "", async { Ok(Vec::new()) }).await {
                Some(failed) => failed,
                None => work.await.map(|listed| FaultStore::stale(mode, listed)),
            }
        };
        futures::stream::once(listed)
            .map_ok(|listed| futures::stream::iter(listed.into_iter().map(Ok)))
            .try_flatten()
            .boxed()
    }

    fn list_with_delimiter<'a, 'b, 'c>(&'a self, prefix: Option<&'b Path>) -> Answer<'c, ListResult>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        Box::pin(async move {
            self.before(Call::List).await;
            let mode = self.turn(Call::List);
            let work = || self.objects.list_with_delimiter(prefix);
            let Some(mode) = mode else { return work().await };
            if let Some(failed) = self.fail_read(mode, "", work()).await {
                return failed;
            }
            let mut listed = work().await?;
            listed.objects = FaultStore::stale(mode, listed.objects);
            Ok(listed)
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
