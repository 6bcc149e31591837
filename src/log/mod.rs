//! What the Delta protocol says: actions, paths, schemas, and a table's state at every version.

pub mod action;
pub mod changes;
pub mod checkpoint;
pub mod checksum;
pub mod column_ids;
pub mod column_mapping;
pub mod commit;
pub mod conflict;
pub mod deletion_vector;
mod duration;
pub mod facts;
mod file_actions;
pub mod file_schema;
pub mod fit;
pub mod footer;
pub mod history;
pub mod interval;
mod lines;
pub mod listing;
mod marks;
mod outside;
pub mod partition;
pub mod partition_set;
pub mod path;
pub mod properties;
pub mod protocol;
pub mod rebase;
pub mod replay;
pub mod scalar;
pub mod schema;
pub mod segment;
pub mod snapshot;
pub mod statistics;
pub mod timestamp;
pub mod values;
pub mod version;
pub mod widening;

#[cfg(test)]
pub(crate) mod golden_tests;
