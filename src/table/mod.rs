//! What versions, staging directories and commits mean: a [`Table`] for each table of a lake.
//!
//! This layer is async and runs on the one runtime; what is in memory is answered at once. Paths
//! that users see are the business of `namespace`, the protocol that of `log`.

mod board;
mod budget;
pub mod checksum;
pub mod commit;
pub mod describe;
mod eras;
mod frozen;
mod registry;
mod restore;
pub mod staging;
#[allow(clippy::module_inception)]
mod table;
mod vectors;

pub use crate::log::facts::VersionFacts;
pub use crate::log::history::{Era, Timeline};
pub use crate::log::interval::{Child, LiveFile};
pub use crate::log::listing::{LAST_CHECKPOINT, LOG_DIRECTORY, LogFile, SIDECAR_DIRECTORY};
pub use crate::log::path::FilePath;
pub use crate::log::snapshot::Snapshot;
pub use crate::log::version::Version;
pub use board::{BoardLine, CommitBoard, Progress, posted_name};
pub use budget::Budget;
pub use eras::{Files, KnownNames};
pub use frozen::{FrozenLog, LastCheckpoint};
pub use registry::{Folder, Registry, is_hidden};
pub use table::Table;
pub use vectors::VectorFiles;
