//! Where tests stop the journal, or break it: a hook for each folder, told before each step.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Result;

/// Where a write of the journal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing is done.
    Before,
    /// The next content is there and durable, under its other name.
    Middle,
    /// It has its name, which is not durable yet; or the name is gone.
    After,
}

/// Is told a step and the file's name, and says whether the journal goes on.
pub type Hook = Arc<dyn Fn(Step, &str) -> Result<()> + Send + Sync>;

/// By device and inode of the folder.
static HOOKS: Mutex<BTreeMap<(u64, u64), Hook>> = Mutex::new(BTreeMap::new());

/// Sets the hook of a folder, or takes it away.
pub fn set(folder: impl AsFd, hook: Option<Hook>) {
    let mut hooks = HOOKS.lock().unwrap_or_else(PoisonError::into_inner);
    match hook {
        Some(hook) => drop(hooks.insert(identity(folder), hook)),
        None => drop(hooks.remove(&identity(folder))),
    }
}

pub(super) fn step(folder: impl AsFd, name: &str, step: Step) -> Result<()> {
    let hook = {
        let hooks = HOOKS.lock().unwrap_or_else(PoisonError::into_inner);
        if hooks.is_empty() {
            return Ok(());
        }
        hooks.get(&identity(folder)).cloned()
    };
    hook.map_or(Ok(()), |hook| hook(step, name))
}

fn identity(folder: impl AsFd) -> (u64, u64) {
    let stat = rustix::fs::fstat(folder).unwrap();
    (stat.st_dev, stat.st_ino)
}
