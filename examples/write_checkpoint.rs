//! Writes a checkpoint of a table's newest version in a form of the caller's choice, as deltafs
//! would write it for a table that is large enough: what tests let other engines read.
//!
//! `write_checkpoint TABLE FORM` with FORM one of classic, v2-parquet, v2-json, sidecars-parquet and
//! sidecars-json (two file actions in each sidecar). Which statistics there are follows from the
//! table's properties. Prints the checkpoint's name.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use deltafs::log::checkpoint::write::{Draft, Form, TopLevel, write_draft};
use deltafs::log::listing::{LAST_CHECKPOINT, log_path};
use deltafs::log::snapshot::Snapshot;
use deltafs::store::Store;

type Failure = Box<dyn std::error::Error>;

const ACTIONS_A_SIDECAR: usize = 2;

fn form(name: &str) -> Option<Form> {
    Some(match name {
        "classic" => Form::Classic,
        "v2-parquet" => Form::Inline(TopLevel::Parquet),
        "v2-json" => Form::Inline(TopLevel::Json),
        "sidecars-parquet" => Form::Sidecars(TopLevel::Parquet, ACTIONS_A_SIDECAR),
        "sidecars-json" => Form::Sidecars(TopLevel::Json, ACTIONS_A_SIDECAR),
        _ => return None,
    })
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [table, name] = arguments.as_slice() else {
        return Err("two arguments: TABLE and FORM".into());
    };
    let form = form(name).ok_or_else(|| format!("there is no form {name:?}"))?;
    let store = Store::open(table)?;
    let snapshot = Arc::new(Snapshot::load(&store, None).await?);
    // No tombstone has expired at the epoch.
    let draft = Draft::in_form(snapshot, form, 0)?;
    let written = write_draft(&store, draft).await?.ok_or("there is a checkpoint already")?;
    store.replace(&log_path(LAST_CHECKPOINT), Bytes::from(written.last_checkpoint)).await?;
    writeln!(std::io::stdout(), "{}", written.name)?;
    Ok(())
}
