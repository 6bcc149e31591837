//! `_last_checkpoint`, which stands beside the log and is never believed.
#![no_main]

use bytes::Bytes;
use deltafs::table::LastCheckpoint;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(hint) = LastCheckpoint::parse(Bytes::copy_from_slice(bytes)) {
        assert!(i64::try_from(hint.version.0).is_ok(), "{:?}", hint.version);
    }
});
