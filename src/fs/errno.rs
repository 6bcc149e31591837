//! Which errno the kernel gets for an error, and how loud the error is traced.
//!
//! The only place of the project that chooses an errno (DESIGN.md, 6). It decides from the
//! variant alone, never from the text.

use fuser::Errno;
use rustix::io::Errno as SystemErrno;
use tracing::Level;

use crate::error::Error;

/// The errno of an error.
pub fn errno(error: &Error) -> Errno {
    match error {
        Error::NotFound(_) => Errno::ENOENT,
        Error::Exists(_) => Errno::EEXIST,
        Error::NotDirectory(_) => Errno::ENOTDIR,
        Error::IsDirectory(_) => Errno::EISDIR,
        Error::NotEmpty(_) => Errno::ENOTEMPTY,
        Error::NameTooLong(_) => Errno::ENAMETOOLONG,
        Error::ReadOnly(_) => Errno::EROFS,
        Error::Conflict(_) => Errno::ESTALE,
        Error::Busy(_) | Error::Sealed(_) => Errno::EBUSY,
        Error::Refused(_) => Errno::EINVAL,
        Error::AppendOnly(_) | Error::CatalogManaged(_) | Error::NotPermitted(_) => Errno::EPERM,
        Error::Unsupported(_) => Errno::EOPNOTSUPP,
        Error::Damaged(_) | Error::Unreachable(_) | Error::Unknown(_) => Errno::EIO,
        Error::TimedOut(_) => Errno::ETIMEDOUT,
        Error::NoSpace(_) => Errno::ENOSPC,
        Error::Quota(_) => Errno::EDQUOT,
        Error::System { code, .. } => system_errno(*code),
    }
}

/// How loud an error is traced: what damages or loses is a warning, what a user must act on is
/// information, and what every tool runs into all day is for debugging.
pub fn level(error: &Error) -> Level {
    match error {
        Error::Damaged(_)
        | Error::Unreachable(_)
        | Error::Unknown(_)
        | Error::TimedOut(_)
        | Error::NoSpace(_)
        | Error::Quota(_) => Level::WARN,
        Error::Conflict(_)
        | Error::Busy(_)
        | Error::Sealed(_)
        | Error::Refused(_)
        | Error::AppendOnly(_)
        | Error::CatalogManaged(_)
        | Error::Unsupported(_) => Level::INFO,
        Error::NotFound(_)
        | Error::Exists(_)
        | Error::NotDirectory(_)
        | Error::IsDirectory(_)
        | Error::NotEmpty(_)
        | Error::NameTooLong(_)
        | Error::ReadOnly(_)
        | Error::NotPermitted(_) => Level::DEBUG,
        Error::System { code, .. } if *code == SystemErrno::IO.raw_os_error() => Level::WARN,
        Error::System { .. } => Level::DEBUG,
    }
}

/// An inode that the kernel knows and that is gone: the kernel looks its name up again.
pub fn stale(inode: u64) -> Error {
    system(format!("inode {inode:#x} is gone"), SystemErrno::STALE)
}

/// Two places that no rename, link or copy connects: tools copy byte by byte instead.
pub fn across(message: impl Into<String>) -> Error {
    system(message.into(), SystemErrno::XDEV)
}

/// A handle that was not opened for what is asked of it.
pub fn wrong_handle(message: impl Into<String>) -> Error {
    system(message.into(), SystemErrno::BADF)
}

/// A seek beyond the end of the file.
pub fn beyond_end(message: impl Into<String>) -> Error {
    system(message.into(), SystemErrno::NXIO)
}

/// More bytes than what is written to takes.
pub fn too_big(message: impl Into<String>) -> Error {
    system(message.into(), SystemErrno::FBIG)
}

fn system(message: String, errno: SystemErrno) -> Error {
    Error::System { message, code: errno.raw_os_error() }
}

/// Passes an errno of the spool's file system on, but for those that the kernel would take for an
/// answer about us: ENOSYS ("never ask again") and whatever is no errno at all.
fn system_errno(code: i32) -> Errno {
    const ERRNO_MAX: i32 = 4095;
    if code == SystemErrno::NOSYS.raw_os_error() {
        return Errno::EOPNOTSUPP;
    }
    if (1..=ERRNO_MAX).contains(&code) { Errno::from_i32(code) } else { Errno::EIO }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> String {
        "read table a, version 7: commit is cut short".into()
    }

    #[test]
    fn every_error_has_the_errno_of_the_contract() {
        let table = [
            (Error::NotFound(text()), Errno::ENOENT),
            (Error::Exists(text()), Errno::EEXIST),
            (Error::NotDirectory(text()), Errno::ENOTDIR),
            (Error::IsDirectory(text()), Errno::EISDIR),
            (Error::NotEmpty(text()), Errno::ENOTEMPTY),
            (Error::NameTooLong(text()), Errno::ENAMETOOLONG),
            (Error::ReadOnly(text()), Errno::EROFS),
            (Error::Conflict(text()), Errno::ESTALE),
            (Error::Busy(text()), Errno::EBUSY),
            (Error::Refused(text()), Errno::EINVAL),
            (Error::AppendOnly(text()), Errno::EPERM),
            (Error::CatalogManaged(text()), Errno::EPERM),
            (Error::NotPermitted(text()), Errno::EPERM),
            (Error::Unsupported(text()), Errno::EOPNOTSUPP),
            (Error::Damaged(text()), Errno::EIO),
            (Error::Unreachable(text()), Errno::EIO),
            (Error::Unknown(text()), Errno::EIO),
            (Error::TimedOut(text()), Errno::ETIMEDOUT),
            (Error::NoSpace(text()), Errno::ENOSPC),
            (Error::Quota(text()), Errno::EDQUOT),
            (stale(7), Errno::ESTALE),
            (across(text()), Errno::EXDEV),
            (wrong_handle(text()), Errno::EBADF),
            (beyond_end(text()), Errno::ENXIO),
            (too_big(text()), Errno::EFBIG),
        ];
        for (error, expected) in table {
            assert_eq!(errno(&error), expected, "{error:?}");
        }
    }

    #[test]
    fn a_spool_without_a_call_never_makes_the_kernel_stop_asking() {
        let missing = Error::System { message: text(), code: SystemErrno::NOSYS.raw_os_error() };
        assert_eq!(errno(&missing), Errno::EOPNOTSUPP);
        for code in [0, -5, 100_000] {
            assert_eq!(errno(&Error::System { message: text(), code }), Errno::EIO);
        }
    }

    #[test]
    fn damage_is_loud_and_missing_names_are_quiet() {
        assert_eq!(level(&Error::Damaged(text())), Level::WARN);
        assert_eq!(level(&Error::Refused(text())), Level::INFO);
        assert_eq!(level(&Error::NotFound(text())), Level::DEBUG);
        let io = Error::System { message: text(), code: SystemErrno::IO.raw_os_error() };
        assert_eq!(level(&io), Level::WARN);
    }
}
