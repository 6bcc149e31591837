//! One call to a store: its time limit, what its failure means, whether its answer is whole.

use std::time::Duration;

use bytes::Bytes;
use object_store::GetResult;

use crate::error::{Error, Result};

/// How long one call to the store may take.
const CALL_SECONDS_MAX: u64 = 60;

/// Runs a local system call away from the runtime's own threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Damaged(format!("BUG: a store call panicked: {error}"))),
    }
}

pub(super) async fn limited<T>(doing: &str, call: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(Duration::from_secs(CALL_SECONDS_MAX), call).await {
        Ok(result) => result,
        Err(_) => Err(Error::TimedOut(format!("{doing}: no answer in {CALL_SECONDS_MAX} s"))),
    }
}

/// The bytes of an answer, as many as it was said to have. Fewer are no damage of the file: it may
/// be read again, and must not be taken for a shorter one.
pub(super) async fn whole(doing: &str, got: GetResult) -> Result<Bytes> {
    let wanted = got.range.end - got.range.start;
    let bytes = got.bytes().await.map_err(|error| translate(doing, error))?;
    match bytes.len() as u64 == wanted {
        true => Ok(bytes),
        false => Err(Error::Unreachable(format!(
            "{doing}: {wanted} bytes were promised and {} came",
            bytes.len()
        ))),
    }
}

/// Tells a failure of `object_store` by what the caller can do.
pub(super) fn translate(doing: &str, error: object_store::Error) -> Error {
    match &error {
        object_store::Error::NotFound { .. } => Error::NotFound(format!("{doing}: not found")),
        object_store::Error::AlreadyExists { .. } => {
            Error::Exists(format!("{doing}: exists already"))
        }
        object_store::Error::InvalidPath { .. } => Error::Refused(format!("{doing}: {error}")),
        _ => {
            // A full disk or a read-only one is told by the system's own error, deep inside.
            let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
            while let Some(cause) = source {
                if let Some(io) = cause.downcast_ref::<std::io::Error>() {
                    return Error::from_io(doing, io);
                }
                source = cause.source();
            }
            Error::Unreachable(format!("{doing}: {error}"))
        }
    }
}
