//! Moves each kind of fault through each scripted commit, until it is no longer reached.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::scene::Scene;
use super::session::{Blow, JournalFault};
use super::tally::Tally;
use super::trial::{Expected, Injury, Trial};
use crate::store::fault::{Call, Fault, Late, Mode};
use crate::table::staging::journal_fault::Step;

/// More calls of one kind than any of the commits makes.
const CALLS_MAX: usize = 2000;
/// How many trials go by before the kernel reads a table.
const KERNEL_EVERY: usize = 40;
/// How the journal is stopped or broken.
const BLOWS: [(Step, Blow); 7] = [
    (Step::Before, Blow::Stop),
    (Step::Middle, Blow::Stop),
    (Step::After, Blow::Stop),
    (Step::Before, Blow::Full),
    (Step::Before, Blow::Broken),
    (Step::Middle, Blow::Full),
    (Step::After, Blow::Broken),
];

/// One kind of fault, to be moved through one scene.
#[derive(Clone)]
struct Walk {
    scene: Arc<Scene>,
    expected: Arc<Expected>,
    /// What went wrong with the sync before.
    earlier: Option<Mode>,
    kind: Kind,
    for_good: bool,
    /// The first call, and from one to the next.
    first: usize,
    stride: usize,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Store(Call, Mode),
    Journal(Step, Blow),
}

impl Kind {
    fn all(on_disk: bool) -> Vec<Kind> {
        let calls = Call::ALL.into_iter();
        let modes = |call| Mode::ALL.into_iter().map(move |mode| (call, mode));
        let store = calls.flat_map(modes).filter(|(call, mode)| mode.can(*call, on_disk));
        let store = store.map(|(call, mode)| Kind::Store(call, mode));
        store.chain(BLOWS.map(|(step, blow)| Kind::Journal(step, blow))).collect()
    }

    fn at(self, at: usize, for_good: bool) -> Injury {
        match self {
            Kind::Store(call, mode) => Injury::Store(Fault { call, at, mode, for_good }),
            Kind::Journal(step, blow) => Injury::Journal(JournalFault { at, step, blow, for_good }),
        }
    }

    fn store_call(self) -> Option<Call> {
        match self {
            Kind::Store(call, _) => Some(call),
            Kind::Journal(..) => None,
        }
    }

    fn mode(self) -> String {
        match self {
            Kind::Store(_, mode) => format!("{mode:?}"),
            Kind::Journal(step, blow) => format!("journal {step:?} {blow:?}"),
        }
    }

    fn call(self) -> String {
        match self {
            Kind::Store(call, _) => format!("{call:?}"),
            Kind::Journal(..) => "journal".into(),
        }
    }
}

impl Walk {
    fn mode(&self) -> String {
        match (self.earlier, self.for_good) {
            (None, _) => self.kind.mode(),
            (Some(earlier), false) => format!("{} after {earlier:?}", self.kind.mode()),
            (Some(earlier), true) => format!("{} before {earlier:?}", self.kind.mode()),
        }
    }

    async fn walk(&self, tally: &Mutex<Tally>) {
        for number in 0.. {
            let at = self.first + number * self.stride;
            // Where all are tried, the walk itself tells where it ends.
            if self.stride > 1 && at >= self.expected.calls(self.kind.store_call()) {
                return;
            }
            // The store of a second sync breaks once.
            let for_good = self.for_good && self.earlier.is_none();
            let entry = |mode| Fault { call: Call::Entry, at: 0, mode, for_good: true };
            let trial = Trial {
                scene: &self.scene,
                expected: &self.expected,
                earlier: self.earlier.map(entry),
                lands_between: self.for_good,
                injury: self.kind.at(at, for_good),
                recovers: at % 2 == usize::from(self.for_good),
                asks_kernel: (at + self.first) % KERNEL_EVERY == KERNEL_EVERY - 1,
            };
            let name = self.scene.name;
            match trial.run().await {
                Ok(tried) => {
                    if tried.is_hit {
                        let (mode, call) = (self.mode(), self.kind.call());
                        tally.lock().unwrap().hit(name, mode, call, at, for_good);
                    }
                    if !tried.is_reached {
                        return;
                    }
                }
                Err(why) => {
                    // At once, for a walk through all of it is long.
                    println!("VIOLATION {name:?}: {:?}, {:?}: {why}", trial.earlier, trial.injury);
                    tally.lock().unwrap().violations += 1;
                    // Where a kind of fault breaks one, it breaks the rest in the same way.
                    return;
                }
            }
            assert!(at < CALLS_MAX, "{name}: the commit never ends");
        }
    }
}

/// Tries every fault, or each `stride`-th call of each kind, on as many threads as there are
/// processors.
pub fn through(scenes: Vec<(Arc<Scene>, Arc<Expected>)>, stride: usize) -> Tally {
    let mut walks = VecDeque::new();
    for (index, (scene, expected)) in scenes.into_iter().enumerate() {
        let mut kinds = Kind::all(scene.folder.is_some());
        kinds.retain(|kind| expected.calls(kind.store_call()) > 0);
        // A sync that died before it sent, and one whose entry is on its way for long.
        let earlier = [None, Some(Mode::StopBefore), Some(Mode::Late(Late::Last))];
        let on_disk = scene.folder.is_some();
        let sends = expected.calls(Some(Call::Entry)) > 0;
        let can =
            |mode: &Option<Mode>| mode.is_none_or(|mode| sends && mode.can(Call::Entry, on_disk));
        let mut number = 0;
        for earlier in earlier.into_iter().filter(can) {
            let kinds = kinds.iter().flat_map(|kind| [(*kind, false), (*kind, true)]);
            for (kind, for_good) in kinds {
                if earlier == Some(Mode::StopBefore) && for_good {
                    continue;
                }
                let (scene, expected) = (scene.clone(), expected.clone());
                // Spread, so that over all scenes and kinds every call has its turn.
                let first = (index + number) % stride;
                number += 1;
                walks.push_back(Walk { scene, expected, earlier, kind, for_good, first, stride });
            }
        }
    }
    let (walks, tally) = (Mutex::new(walks), Mutex::new(Tally::default()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                loop {
                    let next = walks.lock().unwrap().pop_front();
                    let Some(walk) = next else { break };
                    runtime.block_on(walk.walk(&tally));
                }
            });
        }
    });
    tally.into_inner().unwrap()
}
