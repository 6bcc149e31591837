//! The files of one table's versions: in memory, or loaded when somebody looks.
//!
//! Invariants. An era answers rightly for every version between its first and its last, for as long
//! as somebody holds it, whether it was forgotten meanwhile or not; only the one that ends with the
//! newest version grows, by the one look at the log that runs. Who needs a version that no era has
//! waits for the load that runs, or begins one: a table loads one era at a time, so that its memory
//! is bounded too, and gives it to all who wait; none of them asks the budget again, so that two
//! eras that push each other out are both read. `slots.generation` goes up where the log is read
//! anew: what was loaded from the log before that is no longer this table's.
//!
//! Lock order: the table's `history`, `loading`, `slots`, an era, its `vectors`; each is held for a
//! moment and never across a store call.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use lru::LruCache;

use super::budget::{Budget, Loaded, OverBudget, Weight};
use super::vectors::VectorFiles;
use crate::log::history::{Era, Names};
use crate::log::version::Version;

/// How many versions' deletion vector files an era keeps.
const VECTORS_KEPT_MAX: NonZeroUsize = NonZeroUsize::new(8).expect("BUG: not zero");

/// An era in memory, held for as long as it is read.
pub struct Files {
    label: Arc<str>,
    weight: Weight,
    era: RwLock<Era>,
    vectors: Mutex<LruCache<Version, Arc<VectorFiles>>>,
}

/// The names of a log in memory.
pub struct KnownNames {
    label: Arc<str>,
    weight: Weight,
    names: RwLock<Names>,
}

/// What is in memory of one table.
pub struct Eras {
    label: Arc<str>,
    budget: Arc<Budget>,
    slots: Mutex<Slots>,
}

#[derive(Default)]
struct Slots {
    generation: u64,
    /// By first version.
    eras: BTreeMap<Version, Weak<Files>>,
    names: Weak<KnownNames>,
}

impl Files {
    fn new(label: Arc<str>, era: Era) -> Arc<Files> {
        let weight = Weight::default();
        weight.set_bytes(era.bytes());
        let vectors = Mutex::new(LruCache::new(VECTORS_KEPT_MAX));
        Arc::new(Files { label, weight, era: RwLock::new(era), vectors })
    }

    /// Answers from the era.
    pub fn read<T>(&self, answer: impl FnOnce(&Era) -> T) -> T {
        answer(&self.era.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a version is in the era.
    pub fn holds(&self, version: Version) -> bool {
        self.read(|era| era.holds(version))
    }

    /// Changes the era; [`Eras::grown`] then.
    pub(super) fn write<T>(&self, change: impl FnOnce(&mut Era) -> T) -> T {
        let mut era = self.era.write().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut era);
        let vectors = self.vectors.lock().unwrap_or_else(PoisonError::into_inner);
        self.weight.set_bytes(era.bytes() + vectors_bytes(&vectors));
        changed
    }

    /// The deletion vector files of a version.
    pub fn vector_files(&self, version: Version) -> Arc<VectorFiles> {
        let known = {
            let mut vectors = self.vectors.lock().unwrap_or_else(PoisonError::into_inner);
            vectors.get(&version).cloned()
        };
        if let Some(known) = known {
            return known;
        }
        let (paths, bytes) = self.read(|era| (era.deletion_vector_files(version), era.bytes()));
        let files = Arc::new(VectorFiles::new(paths));
        let mut vectors = self.vectors.lock().unwrap_or_else(PoisonError::into_inner);
        vectors.put(version, files.clone());
        self.weight.set_bytes(bytes + vectors_bytes(&vectors));
        files
    }
}

fn vectors_bytes(vectors: &LruCache<Version, Arc<VectorFiles>>) -> usize {
    vectors.iter().map(|(_, files)| files.bytes()).sum()
}

impl Loaded for Files {
    fn weight(&self) -> &Weight {
        &self.weight
    }

    fn what(&self) -> String {
        let (from, last) = self.read(|era| (era.from(), era.last().unwrap_or(era.from())));
        format!("table {}: the files of versions {from} to {last}", self.label)
    }
}

impl KnownNames {
    /// Answers from the names.
    pub fn read<T>(&self, answer: impl FnOnce(&Names) -> T) -> T {
        answer(&self.names.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes in the names of a new commit.
    pub(super) fn write<T>(&self, change: impl FnOnce(&mut Names) -> T) -> T {
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut names);
        self.weight.set_bytes(names.bytes());
        changed
    }
}

impl Loaded for KnownNames {
    fn weight(&self) -> &Weight {
        &self.weight
    }

    fn what(&self) -> String {
        format!("table {}: the names of its files", self.label)
    }
}

impl Eras {
    pub fn new(label: &str, budget: Arc<Budget>) -> Eras {
        Eras { label: label.into(), budget, slots: Mutex::default() }
    }

    pub fn bytes_max(&self) -> usize {
        self.budget.bytes_max()
    }

    /// The era in memory that has a version.
    pub fn resident(&self, version: Version) -> Option<Arc<Files>> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let before = slots.eras.range(..=version).rev();
        let files = before.filter_map(|(_, era)| era.upgrade()).find(|era| era.holds(version))?;
        drop(slots);
        self.budget.touch(&files.weight);
        Some(files)
    }

    /// The names, where those of all versions up to one are in memory.
    pub fn resident_names(&self, newest: Version) -> Option<Arc<KnownNames>> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let names = slots.names.upgrade()?;
        drop(slots);
        if names.read(Names::newest) < newest {
            return None;
        }
        self.budget.touch(&names.weight);
        Some(names)
    }

    /// Which reading of the log what is loaded now belongs to.
    pub fn generation(&self) -> u64 {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).generation
    }

    /// Forgets everything, for the log was read anew; the new generation.
    pub fn clear(&self) -> u64 {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.generation += 1;
        let generation = slots.generation;
        let (eras, names) = (std::mem::take(&mut slots.eras), std::mem::take(&mut slots.names));
        drop(slots);
        for era in eras.into_values().filter_map(|era| era.upgrade()) {
            self.budget.release(&(era as Arc<dyn Loaded>));
        }
        if let Some(names) = names.upgrade() {
            self.budget.release(&(names as Arc<dyn Loaded>));
        }
        generation
    }

    /// Takes an era in; `None` where the log was read anew since `generation`.
    pub fn admit(&self, era: Era, generation: u64) -> Option<Arc<Files>> {
        let files = Files::new(self.label.clone(), era);
        let (from, bytes) = (files.read(Era::from), files.weight.bytes());
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.generation != generation {
            return None;
        }
        slots.eras.retain(|_, era| era.strong_count() > 0);
        let replaced = slots.eras.insert(from, Arc::downgrade(&files));
        drop(slots);
        if let Some(replaced) = replaced.and_then(|era| era.upgrade()) {
            self.budget.release(&(replaced as Arc<dyn Loaded>));
        }
        tracing::debug!("loaded {}: {bytes} bytes", files.what());
        if self.budget.admit(files.clone()) == Err(OverBudget) {
            self.trace_over(&files.what(), bytes);
        }
        Some(files)
    }

    /// Takes the names in; `None` where the log was read anew since `generation`.
    pub fn admit_names(&self, names: Names, generation: u64) -> Option<Arc<KnownNames>> {
        let weight = Weight::default();
        weight.set_bytes(names.bytes());
        let names = KnownNames { label: self.label.clone(), weight, names: RwLock::new(names) };
        let names = Arc::new(names);
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.generation != generation {
            return None;
        }
        slots.names = Arc::downgrade(&names);
        drop(slots);
        let bytes = names.weight.bytes();
        tracing::debug!("loaded {}: {bytes} bytes", names.what());
        if self.budget.admit(names.clone()) == Err(OverBudget) {
            self.trace_over(&names.what(), bytes);
        }
        Some(names)
    }

    /// Makes room for what an era has grown by; where it is too much alone, its old versions are
    /// forgotten, from `boundary` backwards.
    pub fn grown(&self, files: &Arc<Files>, boundary: impl FnOnce() -> Version) {
        let loaded: Arc<dyn Loaded> = files.clone();
        if self.budget.grown(&loaded) == Ok(()) {
            return;
        }
        let (max, boundary) = (self.budget.bytes_max(), boundary());
        let before = files.read(Era::from);
        if !files.write(|era| era.fit(max, boundary)) {
            return;
        }
        let (from, bytes) = (files.read(Era::from), files.weight.bytes());
        tracing::debug!("forgot table {}: the files before version {from}", self.label);
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |era: &Weak<Files>| std::ptr::eq(era.as_ptr(), Arc::as_ptr(files));
        if slots.eras.get(&before).is_some_and(is_same) {
            slots.eras.remove(&before);
            slots.eras.insert(from, Arc::downgrade(files));
        }
        drop(slots);
        if bytes > max {
            self.trace_over(&files.what(), bytes);
        }
    }

    fn trace_over(&self, what: &str, bytes: usize) {
        let max = self.budget.bytes_max();
        tracing::info!("{what} take {bytes} bytes, which is over the budget of {max}");
    }
}

impl Drop for Eras {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests;
