//! Who may commit a staging directory: who may write to it.
//!
//! The kernel checks modes before it asks for any other change (`default_permissions`), but
//! fsync(2) takes a descriptor that was opened to read: where others may look into a mount, a
//! backup user's fsync of a half-brought directory would publish it.

use fuser::Request;

use crate::error::{Error, Result};
use crate::table::staging::Stat;

/// The process that asks.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    uid: u32,
    gid: u32,
    pid: u32,
}

impl Caller {
    pub fn of(request: &Request) -> Caller {
        Caller { uid: request.uid(), gid: request.gid(), pid: request.pid() }
    }

    /// Errors: EACCES for a directory that the caller may not write to.
    pub fn check_may_commit(self, directory: &Stat) -> Result<()> {
        if self.may_write(directory, || groups_of(self.pid)) {
            return Ok(());
        }
        Err(Error::System {
            message:
                "sync: only who may write to a staging directory commits it; ask its owner, or \
                      have its mode changed"
                    .into(),
            code: rustix::io::Errno::ACCESS.raw_os_error(),
        })
    }

    /// path_resolution(7), step 5. `groups`: the supplementary ones, which a request doesn't tell.
    fn may_write(self, directory: &Stat, groups: impl FnOnce() -> Vec<u32>) -> bool {
        let allows = |class: u32| directory.mode & (0o2 << class) != 0;
        match self.uid {
            0 => true,
            uid if uid == directory.uid => allows(6),
            _ if self.gid == directory.gid || groups().contains(&directory.gid) => allows(3),
            _ => allows(0),
        }
    }
}

/// The supplementary groups of a process, from proc_pid_status(5); none where it can't be seen.
fn groups_of(pid: u32) -> Vec<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let groups = status.lines().find_map(|line| line.strip_prefix("Groups:"));
    groups.unwrap_or("").split_whitespace().filter_map(|group| group.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::table::staging::StagedKind;

    #[test]
    fn whoever_may_write_may_commit() {
        let directory = |mode| Stat {
            id: 1,
            kind: StagedKind::Directory,
            size: 0,
            blocks: 0,
            mode,
            uid: 10,
            gid: 20,
            nlink: 2,
            atime: SystemTime::UNIX_EPOCH,
            mtime: SystemTime::UNIX_EPOCH,
            ctime: SystemTime::UNIX_EPOCH,
        };
        let may = |uid, gid, mode| {
            let caller = Caller { uid, gid, pid: 0 };
            caller.may_write(&directory(mode), || vec![30, gid + 1])
        };
        assert!(may(0, 0, 0o000));
        assert!(may(10, 1, 0o755) && !may(10, 20, 0o575));
        assert!(may(11, 20, 0o775) && !may(11, 20, 0o757));
        assert!(may(11, 19, 0o775) && !may(11, 18, 0o775));
        assert!(may(11, 18, 0o777) && !may(11, 18, 0o755));
    }

    #[test]
    fn groups_are_those_of_the_process() {
        let own: Vec<u32> =
            rustix::process::getgroups().unwrap().iter().map(|group| group.as_raw()).collect();
        assert_eq!(groups_of(std::process::id()), own);
        assert_eq!(groups_of(u32::MAX), Vec::<u32>::new());
    }
}
