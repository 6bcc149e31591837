//! A version's checksum, `<version>.crc`: whatever is in it, it is compared and never believed.
#![no_main]

mod scratch;

use std::cell::LazyCell;

use deltafs::log::checksum::{VersionState, encode, mismatches};
use libfuzzer_sys::fuzz_target;
use scratch::{FIRST, Scratch};

thread_local! {
    static STATE: LazyCell<VersionState> = LazyCell::new(|| {
        let mut scratch = Scratch::new();
        scratch.set(&[("00000000000000000000.json", FIRST.as_bytes())]);
        let state = VersionState::of(&scratch.snapshot());
        assert_eq!(mismatches(encode(&state).as_bytes(), &state), Vec::<String>::new());
        state
    });
}

fuzz_target!(|bytes: &[u8]| {
    STATE.with(|state| {
        for sentence in mismatches(bytes, state) {
            assert!(sentence.len() > 10, "{sentence}");
        }
    });
});
