//! Unmounting, and only what is ours.

use std::path::Path;
use std::process::Command;

use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use crate::daemon::mount::run;
use crate::daemon::mountinfo::{Mount, mount_at};
use crate::error::{Error, Result};

/// Whether a mount goes only when nobody uses it, or now, and its last user takes it away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    /// Refused with `Busy` while a file is open or a shell stands in it.
    WhenUnused,
    /// Out of the tree at once; open files go on while the daemon lives.
    Lazily,
}

/// Unmounts `mount` if it is still what is at its path, and says whether it was.
pub fn unmount(mount: &Mount, force: Force) -> Result<bool> {
    let still = mount_at(&mount.point)?.is_some_and(|now| same(&now, mount));
    if !still {
        return Ok(false);
    }
    if rustix::process::geteuid().is_root() {
        unmount_as_root(&mount.point, force)?;
    } else {
        unmount_as_user(&mount.point, force)?;
    }
    Ok(true)
}

/// Whether two entries of the table are one mount.
pub fn same(one: &Mount, other: &Mount) -> bool {
    one.id == other.id && one.device == other.device
}

fn unmount_as_root(point: &Path, force: Force) -> Result<()> {
    let flags = match force {
        Force::WhenUnused => UnmountFlags::NOFOLLOW,
        Force::Lazily => UnmountFlags::NOFOLLOW | UnmountFlags::DETACH,
    };
    rustix::mount::unmount(point, flags).map_err(|errno| match errno {
        Errno::BUSY => busy(point),
        _ => Error::from_io(format!("unmount {}", point.display()), &errno.into()),
    })
}

fn unmount_as_user(point: &Path, force: Force) -> Result<()> {
    let mut command = Command::new("fusermount3");
    command.arg("-u");
    if force == Force::Lazily {
        command.arg("-z");
    }
    let output = run(command.arg("--").arg(point).env("LC_ALL", "C"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().trim_start_matches("fusermount3: ");
    if said.contains("busy") {
        return Err(busy(point));
    }
    Err(Error::NotPermitted(format!("unmount {}: {said}", point.display())))
}

fn busy(point: &Path) -> Error {
    let point = point.display();
    let lazily = if rustix::process::geteuid().is_root() { "umount -l" } else { "fusermount3 -uz" };
    Error::Busy(format!(
        "unmount {point}: it is in use: close its files and leave its directories \
         (`fuser -vm {point}` shows whose they are), or take it away under them with \
         `{lazily} {point}`"
    ))
}
