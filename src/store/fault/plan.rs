//! Which call of a store fails, and how; the same for objects in memory and for a local disk.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::store::Created;

/// What a call asks of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    Get,
    Head,
    List,
    /// Of a data file, or what follows a commit: one request with all its bytes.
    Put,
    /// The same, of a log entry.
    Entry,
    /// A staged file gets a name on a local disk.
    Link,
    Touch,
    /// A folder is made, removed or renamed on a local disk, or something made durable.
    Folder,
}

impl Call {
    pub const ALL: [Call; 8] = [
        Call::Get,
        Call::Head,
        Call::List,
        Call::Put,
        Call::Entry,
        Call::Link,
        Call::Touch,
        Call::Folder,
    ];

    /// A put under a name.
    pub fn put(location: &str) -> Call {
        let is_entry = location.contains("_delta_log/") && location.ends_with(".json");
        if is_entry { Call::Entry } else { Call::Put }
    }

    pub fn is_put(self) -> bool {
        matches!(self, Call::Put | Call::Entry)
    }

    /// By the words that the message of a call on a local disk begins with.
    fn of(doing: &str) -> Call {
        match doing.split(' ').next() {
            Some("read") => Call::Get,
            Some("look") => Call::Head,
            Some("list") => Call::List,
            Some("publish") => Call::Link,
            Some("touch") => Call::Touch,
            Some("write" | "make" | "remove" | "rename" | "sync") => Call::Folder,
            _ => panic!("no call is known by {doing:?}"),
        }
    }

    fn writes(self) -> bool {
        !matches!(self, Call::Get | Call::Head | Call::List)
    }
}

/// When a write lands that was said to have timed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Late {
    /// So many calls later.
    Calls(usize),
    /// Just before the next put, be it of another commit.
    NextPut,
    /// When the commit is over.
    Over,
    /// When all is over, the repeated commits too.
    Last,
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// It takes no place.
    Before,
    /// It takes place, and then fails.
    After,
    Late(Late),
    /// It is said that the name is taken (412), and it isn't: at least not by this write.
    TakenByNobody,
    /// It is said that the name is taken, by this very write.
    TakenByUs,
    /// 409: another request is under way. It takes no place.
    Conflict,
    /// 503, or a full disk. It takes no place.
    Throttled,
    /// Fewer bytes come than were asked for.
    ShortRead,
    /// The newest name is missing.
    StaleNewest,
    /// A listing of long ago: half of it.
    StaleEarlier,
    /// The daemon dies before it takes place.
    StopBefore,
    /// The daemon dies when it has taken place.
    StopAfter,
}

impl Mode {
    pub const ALL: [Mode; 17] = [
        Mode::Before,
        Mode::After,
        Mode::Late(Late::Calls(1)),
        Mode::Late(Late::Calls(2)),
        Mode::Late(Late::Calls(3)),
        Mode::Late(Late::NextPut),
        Mode::Late(Late::Over),
        Mode::Late(Late::Last),
        Mode::TakenByNobody,
        Mode::TakenByUs,
        Mode::Conflict,
        Mode::Throttled,
        Mode::ShortRead,
        Mode::StaleNewest,
        Mode::StaleEarlier,
        Mode::StopBefore,
        Mode::StopAfter,
    ];

    /// Whether a call can fail so. `on_disk`: a local disk lies less.
    pub fn can(self, call: Call, on_disk: bool) -> bool {
        match self {
            Mode::Before | Mode::StopBefore | Mode::StopAfter => true,
            Mode::After => call.writes(),
            Mode::Late(_) | Mode::Conflict => call.is_put() && !on_disk,
            Mode::TakenByNobody | Mode::TakenByUs => call.is_put() || call == Call::Link,
            Mode::Throttled => call.writes() || !on_disk,
            Mode::ShortRead => call == Call::Get && !on_disk,
            Mode::StaleNewest | Mode::StaleEarlier => call == Call::List && !on_disk,
        }
    }
}

/// Which call fails, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub call: Call,
    /// Number of the call among those of its kind, from 0.
    pub at: usize,
    pub mode: Mode,
    /// Whether every later call of its kind fails so too.
    pub for_good: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Runs,
    /// A call was to be the last one, and waits; so do all others.
    Stopped,
    /// The daemon's futures are dropped; what still runs of it gets errors.
    Dead,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    each: BTreeMap<Call, usize>,
    hits: usize,
}

/// Counts the calls of one daemon, and picks the one that fails.
#[derive(Debug)]
pub struct Plan {
    fault: Option<Fault>,
    counts: Mutex<Counts>,
    phase: watch::Sender<Phase>,
}

impl Plan {
    pub fn new(fault: Option<Fault>) -> Plan {
        Plan { fault, counts: Mutex::default(), phase: watch::Sender::new(Phase::Runs) }
    }

    /// Counts a call; says how it fails.
    pub fn turn(&self, call: Call) -> Option<Mode> {
        if *self.phase.borrow() != Phase::Runs {
            return Some(Mode::StopBefore);
        }
        let mut counts = self.counts();
        counts.all += 1;
        let each = counts.each.entry(call).or_default();
        let number = *each;
        *each += 1;
        let fault = self.fault.filter(|fault| fault.call == call)?;
        let is_hit = number == fault.at || (fault.for_good && number > fault.at);
        counts.hits += usize::from(is_hit);
        is_hit.then_some(fault.mode)
    }

    /// How many calls there were.
    pub fn calls(&self) -> usize {
        self.counts().all
    }

    /// How many of a kind there were.
    pub fn calls_of(&self, call: Call) -> usize {
        self.counts().each.get(&call).copied().unwrap_or(0)
    }

    /// How many calls failed as they were told to.
    pub fn hits(&self) -> usize {
        self.counts().hits
    }

    /// Is called in place of an answer: nothing comes until the daemon is dead.
    pub async fn stop(&self) {
        self.phase.send_if_modified(|phase| {
            let runs = *phase == Phase::Runs;
            *phase = (*phase).max(Phase::Stopped);
            runs
        });
        let mut seen = self.phase.subscribe();
        // It closes with us alone.
        drop(seen.wait_for(|phase| *phase == Phase::Dead).await);
    }

    /// As `stop`, for a thread that may block.
    pub fn stop_blocking(&self) {
        self.phase.send_if_modified(|phase| {
            let runs = *phase == Phase::Runs;
            *phase = (*phase).max(Phase::Stopped);
            runs
        });
        let began = std::time::Instant::now();
        while *self.phase.borrow() != Phase::Dead {
            // Nobody can drop the daemon's futures while one of them is what blocks here.
            assert!(began.elapsed().as_secs() < 60, "a journal write blocks the runtime");
            std::thread::sleep(std::time::Duration::from_micros(50));
        }
    }

    /// Waits until a call was the last one.
    pub async fn stopped(&self) {
        let mut seen = self.phase.subscribe();
        drop(seen.wait_for(|phase| *phase != Phase::Runs).await);
    }

    pub fn is_stopped(&self) -> bool {
        *self.phase.borrow() != Phase::Runs
    }

    /// The daemon's futures are dropped: what still runs may end.
    pub fn die(&self) {
        self.phase.send_replace(Phase::Dead);
    }

    /// Makes a call on a local disk, or fails it. `doing`: the words of its message.
    pub async fn around<T: 'static>(
        &self,
        doing: &str,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let call = Call::of(doing);
        let broken = || Err(Error::System { message: doing.to_owned(), code: 5 });
        // What a mount over a network says of a link whose answer was lost.
        let taken = || {
            let answer: Box<dyn Any> = Box::new(Created::ExistsAlready);
            Ok(*answer.downcast::<T>().expect("BUG: this call answers otherwise"))
        };
        match self.turn(call).filter(|mode| mode.can(call, true)) {
            None => work.await,
            Some(Mode::After) => work.await.and(broken()),
            Some(Mode::TakenByNobody) => taken(),
            Some(Mode::TakenByUs) => work.await.and(taken()),
            Some(Mode::Throttled) => Err(Error::NoSpace(format!("{doing}: no space left"))),
            Some(Mode::StopBefore) => {
                self.stop().await;
                broken()
            }
            Some(Mode::StopAfter) => {
                let _nobody_hears = work.await;
                self.stop().await;
                broken()
            }
            Some(_) => broken(),
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
