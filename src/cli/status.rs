//! `deltafs status`.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::{print, read_within};
use crate::daemon::check::Pulse;
use crate::daemon::mountinfo::Mount;
use crate::daemon::{check, mountinfo};
use crate::error::{Error, Result};

/// Show the mounts of deltafs: where, of what, and what each says of itself.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  deltafs status\n  deltafs status /mnt/lake")]
pub struct Status {
    /// Show this mount only.
    mountpoint: Option<PathBuf>,
}

/// How long a daemon that may hang is waited for.
const LIMIT: Duration = Duration::from_secs(2);

impl Status {
    /// Prints a block for each mount.
    pub fn run(self) -> Result<()> {
        let mut mounts = mountinfo::mounts()?;
        mounts.retain(Mount::is_ours);
        if let Some(point) = &self.mountpoint {
            let point = check::absolute(point)?;
            mounts.retain(|mount| mount.point == point);
            if mounts.is_empty() {
                return Err(Error::NotFound(format!(
                    "status {}: no deltafs mount is there",
                    point.display()
                )));
            }
        }
        let blocks: Vec<_> = mounts.iter().map(describe).collect();
        print(&blocks.join("\n"))
    }
}

fn describe(mount: &Mount) -> String {
    let point = mount.point.display();
    let removal = format!("`deltafs unmount {point}` removes the mount");
    match check::pulse(&mount.point) {
        Pulse::Answers => {}
        Pulse::Dead => {
            return block(mount, &format!("state dead: its daemon is gone; {removal}\n"));
        }
        Pulse::Silent => {
            return block(mount, &format!("state hung: its daemon does not answer; {removal}\n"));
        }
    }
    match read_within(mount.point.join(".deltafs/status"), LIMIT) {
        Some(text) => block(mount, &text),
        None => block(mount, "state unknown: the daemon gives no status\n"),
    }
}

/// A heading, and a text two columns in.
fn block(mount: &Mount, text: &str) -> String {
    let mut block = format!("{} on {}\n", mount.source.to_string_lossy(), mount.point.display());
    for line in text.lines() {
        // Writing to a String can't fail.
        let _ = writeln!(block, "  {line}");
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_has_a_heading_and_the_text_below() {
        let mount = Mount {
            id: 1,
            device: "0:1".into(),
            point: "/mnt/lake".into(),
            kind: mountinfo::TYPE.into(),
            source: "/data/lake".into(),
        };
        assert_eq!(block(&mount, "pid 7\nx\n"), "/data/lake on /mnt/lake\n  pid 7\n  x\n");
    }
}
