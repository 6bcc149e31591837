//! One bound on the memory that the files of all tables' versions take.
//!
//! The budget alone owns what can be loaded again; tables hold it weakly, so that to forget
//! something is to let it go here, without a table's lock. Whoever reads holds it meanwhile.
//!
//! What was used longest ago goes first, in ticks: the clock goes on when something is admitted or
//! grows, so that a use costs one store of a number and no lock.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What something takes, and when it was used.
#[derive(Debug, Default)]
pub struct Weight {
    bytes: AtomicUsize,
    used: AtomicU64,
}

impl Weight {
    /// Says how many bytes it takes now; the budget looks when it is told to.
    pub fn set_bytes(&self, bytes: usize) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// Something that is loaded again when it was forgotten.
pub trait Loaded: Send + Sync {
    fn weight(&self) -> &Weight;

    /// What it is, for the trace.
    fn what(&self) -> String;
}

/// The bound, and what is held within it.
pub struct Budget {
    bytes_max: usize,
    clock: AtomicU64,
    held: Mutex<Vec<Arc<dyn Loaded>>>,
}

impl Budget {
    pub fn new(bytes_max: usize) -> Arc<Budget> {
        Arc::new(Budget { bytes_max, clock: AtomicU64::new(0), held: Mutex::default() })
    }

    /// The most that may be held, in bytes.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Notes that something was looked at.
    pub fn touch(&self, weight: &Weight) {
        weight.used.store(self.clock.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Takes something in. Errors: as [`Budget::grown`].
    pub fn admit(&self, loaded: Arc<dyn Loaded>) -> Result<(), OverBudget> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).push(loaded.clone());
        self.grown(&loaded)
    }

    /// Forgets what was used longest ago until all fits, but for `fresh`, which was just admitted
    /// or has grown. Errors: [`OverBudget`] where `fresh` alone doesn't fit; it stays.
    pub fn grown(&self, fresh: &Arc<dyn Loaded>) -> Result<(), OverBudget> {
        let now = self.clock.fetch_add(1, Ordering::Relaxed) + 1;
        fresh.weight().used.store(now, Ordering::Relaxed);
        let (forgotten, bytes) = {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            forget(&mut held, fresh, self.bytes_max)
        };
        for loaded in &forgotten {
            tracing::debug!("forgot {}: {} bytes", loaded.what(), loaded.weight().bytes());
        }
        // What is large takes a while to free: not under the lock.
        drop(forgotten);
        if bytes > self.bytes_max { Err(OverBudget) } else { Ok(()) }
    }

    /// Lets something go that nobody will ask for again.
    pub fn release(&self, loaded: &Arc<dyn Loaded>) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|other| !is_one(other, loaded));
    }

    /// What is held now, in bytes.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter().map(|loaded| loaded.weight().bytes()).sum()
    }
}

/// Something alone is more than the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverBudget;

fn is_one(one: &Arc<dyn Loaded>, other: &Arc<dyn Loaded>) -> bool {
    std::ptr::addr_eq(Arc::as_ptr(one), Arc::as_ptr(other))
}

/// Takes out what goes, and says what is left in bytes.
fn forget(
    held: &mut Vec<Arc<dyn Loaded>>,
    fresh: &Arc<dyn Loaded>,
    bytes_max: usize,
) -> (Vec<Arc<dyn Loaded>>, usize) {
    let mut bytes: usize = held.iter().map(|loaded| loaded.weight().bytes()).sum();
    let mut forgotten = Vec::new();
    if bytes <= bytes_max {
        return (forgotten, bytes);
    }
    // Ascending by use; the fresh one was used last.
    held.sort_by_key(|loaded| loaded.weight().used.load(Ordering::Relaxed));
    let mut kept = Vec::with_capacity(held.len());
    for loaded in held.drain(..) {
        if bytes > bytes_max && !is_one(&loaded, fresh) {
            bytes -= loaded.weight().bytes().min(bytes);
            forgotten.push(loaded);
        } else {
            kept.push(loaded);
        }
    }
    *held = kept;
    (forgotten, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Piece(&'static str, Weight);

    impl Loaded for Piece {
        fn weight(&self) -> &Weight {
            &self.1
        }

        fn what(&self) -> String {
            self.0.into()
        }
    }

    fn piece(name: &'static str, bytes: usize) -> Arc<dyn Loaded> {
        let piece = Piece(name, Weight::default());
        piece.1.set_bytes(bytes);
        Arc::new(piece)
    }

    fn names(budget: &Budget) -> Vec<String> {
        let held = budget.held.lock().unwrap();
        let mut names: Vec<String> = held.iter().map(|loaded| loaded.what()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_used_longest_ago_is_forgotten_first() {
        let budget = Budget::new(10);
        let pieces = ["a", "b", "c"].map(|name| piece(name, 3));
        for piece in &pieces {
            assert_eq!(budget.admit(piece.clone()), Ok(()));
        }
        budget.touch(pieces[0].weight());
        assert_eq!(budget.admit(piece("d", 3)), Ok(()));
        assert_eq!(names(&budget), ["a", "c", "d"]);
        assert_eq!(budget.bytes(), 9);
    }

    #[test]
    fn what_grows_pushes_others_out_and_stays_even_where_it_alone_is_too_much() {
        let budget = Budget::new(10);
        let (old, new) = (piece("old", 4), piece("new", 4));
        assert_eq!(budget.admit(old.clone()), Ok(()));
        assert_eq!(budget.admit(new.clone()), Ok(()));
        old.weight().set_bytes(8);
        assert_eq!(budget.grown(&old), Ok(()));
        assert_eq!(names(&budget), ["old"]);
        old.weight().set_bytes(11);
        assert_eq!(budget.grown(&old), Err(OverBudget));
        assert_eq!(names(&budget), ["old"]);
        budget.release(&old);
        assert_eq!(budget.bytes(), 0);
    }
}
