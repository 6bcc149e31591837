//! One life of a daemon that syncs one staging directory, up to its end or its death.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::store::fault::{FaultStore, Plan};
use crate::table::commit::{CommitSummary, commit, recover};
use crate::table::staging::Staging;
use crate::table::staging::journal_fault::{self, Hook, Step};
use crate::table::{Budget, Table};

/// How long a commit may take before it is said to hang.
const SECONDS_MAX: u64 = 30;

/// How a write of the journal ends badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    /// The daemon dies.
    Stop,
    /// The disk is broken: EIO.
    Broken,
    /// The disk is full: ENOSPC.
    Full,
}

/// Which write of the journal goes wrong, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalFault {
    pub at: usize,
    pub step: Step,
    pub blow: Blow,
    pub for_good: bool,
}

/// Counts the journal's writes and stops one of them.
#[derive(Debug)]
pub struct JournalPlan {
    fault: JournalFault,
    writes: AtomicUsize,
    hits: AtomicUsize,
}

impl JournalPlan {
    pub fn new(fault: JournalFault) -> Arc<JournalPlan> {
        Arc::new(JournalPlan { fault, writes: AtomicUsize::new(0), hits: AtomicUsize::new(0) })
    }

    pub fn writes(&self) -> usize {
        self.writes.load(Ordering::SeqCst)
    }

    pub fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }

    fn step(&self, plan: &Plan, step: Step, name: &str) -> Result<()> {
        if step == Step::Before {
            self.writes.fetch_add(1, Ordering::SeqCst);
        }
        let number = self.writes() - 1;
        let fault = self.fault;
        let is_hit = number == fault.at || (fault.for_good && number > fault.at);
        if !is_hit || step != fault.step {
            return Ok(());
        }
        self.hits.fetch_add(1, Ordering::SeqCst);
        let message = format!("write journal {name}");
        match fault.blow {
            Blow::Stop => {
                plan.stop_blocking();
                Err(Error::System { message, code: 5 })
            }
            Blow::Broken => Err(Error::System { message, code: 5 }),
            Blow::Full => Err(Error::NoSpace(message)),
        }
    }
}

/// How a life ended.
#[derive(Debug)]
pub enum Ended {
    Committed(CommitSummary),
    Failed(Error),
    Stopped,
}

/// Syncs, on a mounted table or, after `recovers`, on one that is mounted again. `spool`: the
/// folder of the staged tree and the journal. Errors: it hangs.
pub async fn run(
    store: &FaultStore,
    (staging, spool): (Arc<Staging>, &Path),
    journal: Option<&Arc<JournalPlan>>,
    recovers: bool,
) -> std::result::Result<Ended, String> {
    let table = Table::new("t".into(), store.store().child("t"), false, Budget::new(usize::MAX));
    let table = Arc::new(table);
    let folder = std::fs::File::open(spool).unwrap();
    let plan = store.plan();
    let hook = journal.map(|journal| -> Hook {
        // Held weakly: the end of the daemon is told by what still holds the plan.
        let (journal, plan) = (journal.clone(), Arc::downgrade(plan));
        let one_at_a_time = Mutex::new(());
        Arc::new(move |step, name| {
            let Some(plan) = plan.upgrade() else { return Ok(()) };
            let _one = one_at_a_time.lock();
            journal.step(&plan, step, name)
        })
    });
    journal_fault::set(&folder, hook);
    let work = async {
        if recovers {
            // What it finds wrong the sync finds as well.
            let _ = recover(&table, &staging).await;
        }
        commit(&table, &staging).await
    };
    let ended = tokio::select! {
        biased;
        () = plan.stopped() => Ok(Ended::Stopped),
        result = tokio::time::timeout(Duration::from_secs(SECONDS_MAX), work) => match result {
            Ok(Ok(summary)) => Ok(Ended::Committed(summary)),
            Ok(Err(error)) => Ok(Ended::Failed(error)),
            Err(_) => Err("it hangs".to_owned()),
        },
    };
    drop(table);
    let weak = Arc::downgrade(&staging);
    drop(staging);
    // The background's work is a part of the daemon's life, and its death the end of it.
    let began = Instant::now();
    while Arc::strong_count(plan) > 1 || weak.strong_count() > 0 {
        if matches!(ended, Ok(Ended::Stopped)) || plan.is_stopped() {
            plan.die();
        }
        if began.elapsed() > Duration::from_secs(SECONDS_MAX) {
            return Err("its background never ends".into());
        }
        tokio::time::sleep(Duration::from_micros(100)).await;
    }
    journal_fault::set(&folder, None);
    ended
}
