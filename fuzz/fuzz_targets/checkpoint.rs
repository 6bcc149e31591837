//! A checkpoint of any kind. The first byte says which: one file, a V2 top level in Parquet or
//! JSON, or a sidecar.
#![no_main]

mod scratch;

use std::cell::RefCell;
use std::panic::PanicHookInfo;

use libfuzzer_sys::fuzz_target;
use scratch::{FIRST, Scratch};

/// A V2 top level in JSON, but for its protocol and metadata.
const TOP: &str = concat!(
    r#"{"checkpointMetadata":{"version":1}}"#,
    "\n",
    r#"{"sidecar":{"path":"s.parquet","sizeInBytes":1,"modificationTime":1}}"#,
    "\n",
);

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::new());
}

/// The engine's own hook would end the process at a panic of the Parquet reader, which the log
/// engine catches and tells as damage. One of our own code ends it, wherever it would be caught.
fn end_at_our_panics(info: &PanicHookInfo<'_>) {
    let theirs = ["/registry/", "/rustc/", "/library/"];
    let is_theirs = |file: &str| theirs.iter().any(|part| file.contains(part));
    if !info.location().is_some_and(|location| is_theirs(location.file())) {
        eprintln!("{info}");
        std::process::abort();
    }
}

fuzz_target!(
    init: std::panic::set_hook(Box::new(end_at_our_panics)),
    |bytes: &[u8]| {
        let Some((kind, bytes)) = bytes.split_first() else { return };
        const UUID: &str = "00000000-0000-0000-0000-000000000000";
        let top = [FIRST, TOP].concat();
        let (parquet, json) = (
            format!("00000000000000000001.checkpoint.{UUID}.parquet"),
            format!("00000000000000000001.checkpoint.{UUID}.json"),
        );
        let files: &[(&str, &[u8])] = match kind % 4 {
            0 => &[("00000000000000000001.checkpoint.parquet", bytes)],
            1 => &[(&parquet, bytes)],
            2 => &[(&json, bytes)],
            _ => &[(&json, top.as_bytes()), ("_sidecars/s.parquet", bytes)],
        };
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.set(files);
            scratch.read();
        });
    }
);
