//! Logs that are written while they are read: what a listing missed, what was looked at too early.

use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::load::LOADS_MAX;
use super::tests::{Scratch, add, assert_damaged, versions};
use super::*;
use crate::log::listing;
use crate::log::snapshot::Snapshot;

/// A store on disk whose first answers on one commit are of a moment before.
#[derive(Debug)]
struct RacingStore {
    objects: LocalFileSystem,
    commit: String,
    /// Listings that miss the commit.
    listings: AtomicUsize,
    /// Looks at the commit, listings among them, that find it a byte shorter.
    looks: AtomicUsize,
}

impl RacingStore {
    fn open(scratch: &Scratch, commit: u64, listings: usize, looks: usize) -> Store {
        Store::from_object_store(Arc::new(RacingStore {
            objects: LocalFileSystem::new_with_prefix(scratch.folder.path()).unwrap(),
            commit: log_path(&commit_name(Version(commit))),
            listings: AtomicUsize::new(listings),
            looks: AtomicUsize::new(looks),
        }))
    }
}

/// Counts down; whether there was one left.
fn take(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

impl fmt::Display for RacingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("racing store")
    }
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// Written out as `async_trait` would have it, for the sake of one dependency less.
impl ObjectStore for RacingStore {
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
        self.objects.put_opts(location, payload, options)
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
            let is_look = options.head && location.as_ref() == self.commit;
            let mut found = self.objects.get_opts(location, options).await?;
            if is_look && take(&self.looks) {
                found.meta.size -= 1;
            }
            Ok(found)
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
        self.objects.get_ranges(location, ranges)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.objects.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.objects.list(prefix)
    }

    fn list_with_delimiter<'a, 'b, 'c>(&'a self, prefix: Option<&'b Path>) -> Answer<'c, ListResult>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        Box::pin(async move {
            let mut listed = self.objects.list_with_delimiter(prefix).await?;
            if take(&self.listings) {
                listed.objects.retain(|meta| meta.location.as_ref() != self.commit);
            }
            let mut files = listed.objects.iter_mut();
            let found = files.find(|meta| meta.location.as_ref() == self.commit);
            if let Some(found) = found.filter(|_| take(&self.looks)) {
                found.size -= 1;
            }
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

#[tokio::test]
async fn a_commit_that_a_listing_missed_is_no_gap() {
    let scratch = Scratch::with_commits(1..=4);
    for commit in [0, 2, 3] {
        for listings in 1..LOADS_MAX {
            let racing = || RacingStore::open(&scratch, commit, listings, 0);
            let history = History::load(&racing()).await.unwrap();
            assert_eq!(history.newest().unwrap(), Version(4), "commit {commit}");
            assert_eq!(versions(&history), [0, 1, 2, 3, 4]);
            let snapshot = Snapshot::load(&racing(), None).await.unwrap();
            assert_eq!((snapshot.version, snapshot.adds.len()), (Version(4), 5));
            assert!(Snapshot::load(&racing(), Some(Version(commit))).await.is_ok());
        }
    }
}

#[tokio::test]
async fn a_commit_that_every_listing_misses_is_damage_and_not_called_missing() {
    let scratch = Scratch::with_commits(1..=4);
    let store = RacingStore::open(&scratch, 2, usize::MAX, 0);
    let history = History::load(&store).await.unwrap();
    assert_eq!(versions(&history), [0, 1]);
    assert_damaged(&history, &["version 4", "commit 2 is in the log, but not in its listing"]);
    let error = Snapshot::load(&store, None).await.unwrap_err();
    assert!(matches!(error, Error::Damaged(_)), "{error:?}");
}

#[tokio::test]
async fn a_commit_missed_after_a_tail_is_read_by_the_next_one() {
    let scratch = Scratch::table();
    let mut history = scratch.load().await;
    for version in 1..=2 {
        scratch.commit(version, &[&add(&format!("f{version}"))]);
    }
    let store = RacingStore::open(&scratch, 1, 1, 0);
    history.note_log_files(listing::list_log(&store).await.unwrap().files);
    assert_eq!(history.newest().unwrap(), Version(0));
    for newest in 0..=1 {
        let commit = History::read_next(&store, Version(newest)).await.unwrap().unwrap();
        history.apply(commit).unwrap();
    }
    assert_eq!(history.newest().unwrap(), Version(2));
    assert_eq!(history.log_files(Version(2)).len(), 3);
}

#[tokio::test]
async fn the_size_that_is_kept_of_a_commit_is_that_of_the_bytes_read() {
    let scratch = Scratch::with_commits(1..=1);
    let size = add("f1").len() as u64 + 1;
    let store = RacingStore::open(&scratch, 1, 0, 1);
    let commit = History::read_next(&store, Version(0)).await.unwrap().unwrap();
    assert_eq!(commit.file.size, size);
    let store = RacingStore::open(&scratch, 1, 0, 1);
    let history = History::load(&store).await.unwrap();
    assert_eq!(history.log_files(Version(1))[1].size, size);
    let store = RacingStore::open(&scratch, 1, 0, 2);
    let error = History::read_next(&store, Version(0)).await.unwrap_err();
    assert!(matches!(error, Error::Damaged(_)), "{error:?}");
    assert!(error.to_string().contains("version 1) is still being written"), "{error}");
    assert!(History::read_next(&store, Version(0)).await.is_ok(), "once it is whole");
}
