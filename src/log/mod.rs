//! What the Delta protocol says: actions, paths, schemas, and a table's state at every version.

pub mod action;
pub mod checkpoint;
pub mod commit;
pub mod deletion_vector;
pub mod facts;
pub mod file_schema;
pub mod fit;
pub mod footer;
pub mod history;
pub mod interval;
pub mod listing;
pub mod partition;
pub mod path;
pub mod protocol;
pub mod replay;
pub mod scalar;
pub mod schema;
pub mod segment;
pub mod snapshot;
pub mod statistics;
pub mod timestamp;
pub mod version;

#[cfg(test)]
mod golden_tests;
