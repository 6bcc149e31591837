//! deltafs mounts Delta Lake tables as directories.
//!
//! ```text
//! kernel ── fs ── namespace ── table ── log ── store ── bytes
//! ```
//!
//! | layer | answers |
//! |---|---|
//! | [`fs`] | what did the kernel ask; how is it answered |
//! | [`namespace`] | what is at this path |
//! | [`table`] | what do versions, staging directories and commits mean |
//! | [`log`] | what does the Delta protocol say |
//! | [`store`] | where are the bytes |
//!
//! Each layer imports only those to its right, and [`error`]; the `tidy` test checks it. Above them
//! stand [`cli`], [`config`] and [`daemon`].
//!
//! What always holds:
//!
//! 1. A version directory never changes, and is never shown smaller than it is.
//! 2. A change becomes visible only through one put-if-absent of one log entry, after all its data
//!    is durable. "Committed" is said only on proof.
//! 3. Staged bytes are kept until the outcome is known. An unknown outcome is a third one.
//! 4. No lock is held across a store call, and no thread that answers the kernel waits for a store.
//! 5. No path of a log entry leaves the table's folder, and no symlink is followed.
//! 6. No data or log file of a table is ever deleted.

pub mod cli;
pub mod config;
pub mod daemon;
pub mod error;
pub mod fs;
pub mod log;
pub mod namespace;
pub mod store;
pub mod table;

#[cfg(test)]
mod tidy;
