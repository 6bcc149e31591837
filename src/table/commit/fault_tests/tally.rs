//! What the fault loop counted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Faults by what went wrong, and how often something didn't hold.
#[derive(Debug, Default)]
pub struct Tally {
    /// By kind of fault: once and for good.
    faults: BTreeMap<String, [u64; 2]>,
    /// By scene.
    scenes: BTreeMap<&'static str, u64>,
    calls: BTreeSet<(&'static str, String, usize)>,
    pub violations: usize,
}

impl Tally {
    /// A fault that took place, at a call of a scene.
    pub fn hit(&mut self, scene: &'static str, mode: String, call: String, at: usize, good: bool) {
        self.faults.entry(mode).or_default()[usize::from(good)] += 1;
        *self.scenes.entry(scene).or_default() += 1;
        self.calls.insert((scene, call, at));
    }

    pub fn faults(&self) -> u64 {
        self.faults.values().flatten().sum()
    }

    /// Prints the counts, a line a kind.
    pub fn print(&self, took: Duration) {
        println!("{:<34} {:>8} {:>8}", "fault", "once", "for good");
        for (mode, [once, good]) in &self.faults {
            println!("{mode:<34} {once:>8} {good:>8}");
        }
        for (scene, faults) in &self.scenes {
            println!("{scene:<50} {faults:>8} faults");
        }
        println!(
            "{} commits, {} modes, {} calls and journal writes, {} faults injected, {} violations, \
             {:.0} s",
            self.scenes.len(),
            self.faults.len(),
            self.calls.len(),
            self.faults(),
            self.violations,
            took.as_secs_f64()
        );
    }
}
