//! What went wrong, told by what the caller can do about it.
//!
//! Every layer returns this one enum. A message is a sentence in lower case without a full stop;
//! it names the operation, the path and the version, and says what to do where something can be
//! done. Which errno the kernel gets is chosen in `fs::errno`, from the variant alone.

use std::io;

/// The result of every operation below `fs`.
pub type Result<T> = std::result::Result<T, Error>;

/// The failure of an operation; the variant says what the caller can do.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Nothing is at that path.
    #[error("{0}")]
    NotFound(String),
    /// Something is at that path already.
    #[error("{0}")]
    Exists(String),
    /// A directory was needed, or a file was.
    #[error("{0}")]
    NotDirectory(String),
    /// A file was needed.
    #[error("{0}")]
    IsDirectory(String),
    /// A directory that holds something.
    #[error("{0}")]
    NotEmpty(String),
    /// A name longer than the file system's limit of 255 bytes.
    #[error("{0}")]
    NameTooLong(String),
    /// The path is read-only: a version, or the whole mount.
    #[error("{0}")]
    ReadOnly(String),
    /// Another commit took away what this one stands on.
    #[error("{0}")]
    Conflict(String),
    /// Try again: open writers, a running commit, an interrupted tool's temporary file.
    #[error("{0}")]
    Busy(String),
    /// A commit works on the staged file: wait for its end, then try again.
    #[error("{0}")]
    Sealed(String),
    /// The content, a name or an option doesn't fit; change it and try again.
    #[error("{0}")]
    Refused(String),
    /// The table only takes appends (`delta.appendOnly`).
    #[error("{0}")]
    AppendOnly(String),
    /// A catalog owns the table's commits.
    #[error("{0}")]
    CatalogManaged(String),
    /// Never possible here: symlinks, device nodes, removing what we must not.
    #[error("{0}")]
    NotPermitted(String),
    /// A table feature, or an operation, that we don't support; the text names it.
    #[error("{0}")]
    Unsupported(String),
    /// Log or data is missing, corrupt or unreadable.
    #[error("{0}")]
    Damaged(String),
    /// The store can't be reached or refuses us.
    #[error("{0}")]
    Unreachable(String),
    /// A write was sent and nobody can say whether it took place.
    #[error("{0}")]
    Unknown(String),
    /// The time limit of a store call passed.
    #[error("{0}")]
    TimedOut(String),
    /// No space left.
    #[error("{0}")]
    NoSpace(String),
    /// Over quota.
    #[error("{0}")]
    Quota(String),
    /// A call on the spool failed; the system's own error goes to the caller as it is.
    #[error("{message}: {}", io::Error::from_raw_os_error(*code))]
    System {
        /// Operation and path.
        message: String,
        /// The system's errno.
        code: i32,
    },
}

impl Error {
    /// Tells a failed system call on local disk by its kind; `message` names operation and path.
    pub fn from_io(message: impl Into<String>, source: &io::Error) -> Error {
        let message = message.into();
        match source.kind() {
            io::ErrorKind::NotFound => Error::NotFound(format!("{message}: not found")),
            io::ErrorKind::AlreadyExists => Error::Exists(format!("{message}: exists already")),
            io::ErrorKind::StorageFull => Error::NoSpace(format!("{message}: no space left")),
            io::ErrorKind::QuotaExceeded => Error::Quota(format!("{message}: over quota")),
            io::ErrorKind::ReadOnlyFilesystem => {
                Error::ReadOnly(format!("{message}: the file system is read-only"))
            }
            io::ErrorKind::TimedOut => Error::TimedOut(format!("{message}: timed out")),
            _ => match source.raw_os_error() {
                Some(code) => Error::System { message, code },
                None => Error::Damaged(format!("{message}: {source}")),
            },
        }
    }

    /// Puts what was being done in front of the message and keeps the variant.
    #[must_use]
    pub fn during(mut self, doing: &str) -> Error {
        let message = match &mut self {
            Error::NotFound(message)
            | Error::Exists(message)
            | Error::NotDirectory(message)
            | Error::IsDirectory(message)
            | Error::NotEmpty(message)
            | Error::NameTooLong(message)
            | Error::ReadOnly(message)
            | Error::Conflict(message)
            | Error::Busy(message)
            | Error::Sealed(message)
            | Error::Refused(message)
            | Error::AppendOnly(message)
            | Error::CatalogManaged(message)
            | Error::NotPermitted(message)
            | Error::Unsupported(message)
            | Error::Damaged(message)
            | Error::Unreachable(message)
            | Error::Unknown(message)
            | Error::TimedOut(message)
            | Error::NoSpace(message)
            | Error::Quota(message)
            | Error::System { message, .. } => message,
        };
        *message = format!("{doing}: {message}");
        self
    }
}
