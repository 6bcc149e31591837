//! Sends a log entry, and finds out whether it is there.
//!
//! "Committed" is said only on proof. A store may say that the name exists already because our own
//! write was sent twice, and may fail after it wrote; so whatever is not a plain yes is looked up,
//! and told by the commit's txnId. What can't be looked up is unknown, and says so.

use std::time::Duration;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::log::action::Action;
use crate::log::listing::{commit_name, log_path};
use crate::store::{Created, Store};
use crate::table::Version;

/// How often one entry is sent while nobody can say what became of it.
const SENDS_MAX: u32 = 3;
/// How long is waited before it is sent again.
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 100 });

/// What became of a log entry.
#[derive(Debug)]
pub enum Sent {
    /// It is in the table.
    Committed,
    /// Another commit has that version.
    Lost,
    /// It is not in the table and won't be.
    NotThere(Error),
}

/// Whose commit a version is.
#[derive(Debug, PartialEq, Eq)]
pub enum Author {
    Nobody,
    Us,
    Another,
}

/// Sends the entry of one attempt. `in_flight`: it was sent before, and that may still arrive.
/// Errors: [`Error::Unknown`], where nobody can say.
pub async fn send(
    store: &Store,
    version: Version,
    entry: Bytes,
    txn_id: &str,
    mut in_flight: bool,
) -> Result<Sent> {
    let path = log_path(&commit_name(version));
    let mut last = None;
    for attempt in 0..SENDS_MAX {
        if attempt > 0 {
            tokio::time::sleep(PAUSE * attempt).await;
        }
        let sent = match version {
            Version(0) => store.create(&path, entry.clone()).await,
            _ => store.create_beside(&path, entry.clone()).await,
        };
        let failure = match sent {
            Ok(Created::Created) => return Ok(Sent::Committed),
            Ok(Created::ExistsAlready) => None,
            Err(error) => Some(error),
        };
        in_flight |= !failure.as_ref().is_some_and(is_final);
        match (author(store, version, txn_id).await, failure) {
            (Ok(Author::Us), _) => return Ok(Sent::Committed),
            (Ok(Author::Another), _) => return Ok(Sent::Lost),
            (Ok(Author::Nobody), Some(error)) if !in_flight => {
                return Ok(Sent::NotThere(error));
            }
            // Sent again under the same txnId: whichever of the two lands is ours.
            (Ok(Author::Nobody), failure) => last = failure.or(last),
            (Err(error), _) => last = Some(error),
        }
    }
    let why = last.map_or("the store says that it exists and has nothing there".to_owned(), |e| {
        e.to_string()
    });
    Err(Error::Unknown(format!(
        "whether version {version} was committed can't be told yet: {why}; sync again, and it will \
         be looked up before anything is sent"
    )))
}

/// Looks a version up and tells whose it is; what is ours is durable then, for whoever wrote it may
/// have ended, or failed, before that.
pub async fn author(store: &Store, version: Version, txn_id: &str) -> Result<Author> {
    let bytes = match store.read(&log_path(&commit_name(version))).await {
        Ok(bytes) => bytes,
        Err(Error::NotFound(_)) => return Ok(Author::Nobody),
        Err(error) => return Err(error),
    };
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        // Ours are whole, so what can't be read is another's.
        if let Ok(Some(Action::CommitInfo(info))) = Action::from_line(line) {
            let is_ours = info.txn_id.as_deref() == Some(txn_id);
            if !is_ours {
                return Ok(Author::Another);
            }
            store.make_durable(&log_path(&commit_name(version))).await?;
            return Ok(Author::Us);
        }
    }
    Ok(Author::Another)
}

/// Whether an error says that this write took no place and is not on its way.
fn is_final(error: &Error) -> bool {
    match error {
        Error::NotFound(_)
        | Error::NotDirectory(_)
        | Error::IsDirectory(_)
        | Error::NameTooLong(_)
        | Error::ReadOnly(_)
        | Error::Refused(_)
        | Error::NotPermitted(_)
        | Error::Unsupported(_)
        | Error::NoSpace(_)
        | Error::Quota(_)
        | Error::System { .. } => true,
        Error::Exists(_)
        | Error::NotEmpty(_)
        | Error::Conflict(_)
        | Error::Busy(_)
        | Error::Sealed(_)
        | Error::AppendOnly(_)
        | Error::CatalogManaged(_)
        | Error::Damaged(_)
        | Error::Unreachable(_)
        | Error::Unknown(_)
        | Error::TimedOut(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fault::{Call, Fault, FaultStore, Mode};

    fn full() -> object_store::Error {
        let source = std::io::Error::from(std::io::ErrorKind::StorageFull).into();
        object_store::Error::Generic { store: "full", source }
    }

    #[tokio::test]
    async fn what_may_still_arrive_is_not_said_to_be_not_there() {
        let fault = Fault { call: Call::Entry, at: 0, mode: Mode::Before, for_good: false };
        for in_flight in [false, true] {
            let store = FaultStore::default().fork(Some(fault)).failing_with(full).store();
            let entry = Bytes::from_static(b"{\"commitInfo\":{\"txnId\":\"t\"}}\n");
            let sent = send(&store, Version(0), entry, "t", in_flight).await.unwrap();
            match in_flight {
                false => assert!(matches!(sent, Sent::NotThere(Error::NoSpace(_))), "{sent:?}"),
                true => assert!(matches!(sent, Sent::Committed), "{sent:?}"),
            }
        }
    }
}
