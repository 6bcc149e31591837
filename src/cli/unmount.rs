//! `deltafs unmount`.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use crate::cli::{complain, read_within};
use crate::daemon::check::Pulse;
use crate::daemon::mountinfo::Mount;
use crate::daemon::unmount::{Force, unmount};
use crate::daemon::{check, mountinfo};
use crate::error::{Error, Result};

/// Unmount a deltafs mount.
///
/// Returns when the mount and its daemon are gone. What is staged and not committed is kept, and is
/// there again at the next mount. Removes a dead mount ("Transport endpoint is not connected") too,
/// and one whose daemon does not answer.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  deltafs unmount /mnt/lake")]
pub struct Unmount {
    /// Where it is mounted.
    mountpoint: PathBuf,
}

/// How long a daemon that may hang is asked who it is.
const ASK_LIMIT: Duration = Duration::from_secs(2);
/// How long an unmounted daemon may take to end: it may still be finishing commits.
const END_LIMIT: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(10);

impl Unmount {
    /// Unmounts.
    pub fn run(self) -> Result<()> {
        let point = check::absolute(&self.mountpoint)?;
        let shown = point.display();
        let mount = mountinfo::mount_at(&point)?
            .ok_or_else(|| Error::NotFound(format!("unmount {shown}: nothing is mounted there")))?;
        if !mount.is_ours() {
            return Err(Error::Refused(format!(
                "unmount {shown}: it is a mount of {}, not of deltafs",
                mount.kind
            )));
        }
        let status = match check::pulse(&point) {
            Pulse::Answers => read_within(point.join(".deltafs/status"), ASK_LIMIT),
            Pulse::Dead => None,
            Pulse::Silent => return take_away(&mount),
        };
        let daemon = status.and_then(|status| Process::of(pid(&status)?));
        unmount(&mount, Force::WhenUnused)?;
        match daemon {
            Some(daemon) => daemon.wait(),
            None => Ok(()),
        }
    }
}

/// Unmounts what hangs. Lazily, for our own question that has no answer keeps the mount in use.
fn take_away(mount: &Mount) -> Result<()> {
    unmount(mount, Force::Lazily)?;
    complain(&format!(
        "unmount {}: its daemon does not answer; the mount is gone, and the daemon was not waited \
         for",
        mount.point.display()
    ));
    Ok(())
}

/// The number in the line `pid N`.
fn pid(status: &str) -> Option<u32> {
    status.lines().find_map(|line| line.strip_prefix("pid ")?.trim().parse().ok())
}

/// A process, told apart from a later one of the same number by its start time.
struct Process {
    pid: u32,
    started: String,
}

impl Process {
    fn of(pid: u32) -> Option<Process> {
        Some(Process { pid, started: started(pid)? })
    }

    fn wait(&self) -> Result<()> {
        let end = Instant::now() + END_LIMIT;
        while started(self.pid).as_ref() == Some(&self.started) {
            if Instant::now() > end {
                return Err(Error::TimedOut(format!(
                    "unmount: the mount is gone, and its daemon (process {}) still runs: files \
                     that were open keep it alive",
                    self.pid
                )));
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }
}

/// When a living process started. A zombie has ended; that nobody asked for its exit code is not
/// our matter.
fn started(pid: u32) -> Option<String> {
    start_of(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Field 22 of /proc/PID/stat, unless field 3 says that it is dead. Field 2 is a name in
/// parentheses that may hold anything, so fields are counted behind it.
fn start_of(stat: &str) -> Option<String> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemon_is_named_in_the_status() {
        assert_eq!(pid("source /a\npid 417\n"), Some(417));
        assert_eq!(pid("pids 417\npid x\n"), None);
    }

    #[test]
    fn a_process_is_told_by_its_start() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4 1 0 0 0 1 2 0 0 20 0 3 0 98765 1 2 3";
        assert_eq!(start_of(stat).as_deref(), Some("98765"));
        assert_eq!(start_of(&stat.replace(" S ", " Z ")), None);
        assert_eq!(start_of("nonsense"), None);
        assert!(started(std::process::id()).is_some());
    }
}
