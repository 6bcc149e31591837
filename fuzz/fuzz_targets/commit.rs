//! A commit's lines: as actions, as changes, and as the second version of a table.
#![no_main]

mod alike;
mod scratch;

use std::cell::RefCell;

use alike::is_alike;
use deltafs::log::action::Action;
use deltafs::log::changes::Changes;
use libfuzzer_sys::fuzz_target;
use scratch::{FIRST, Scratch};

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::new());
}

fuzz_target!(|bytes: &[u8]| {
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Ok(Some(action)) = Action::from_line(line) {
            let written = action.to_line();
            let again = Action::from_line(written.as_bytes()).unwrap().unwrap();
            assert!(is_alike(&again.to_line(), &written), "{written}");
        }
    }
    let changes = Changes::read(bytes);
    SCRATCH.with_borrow_mut(|scratch| {
        let files =
            [("00000000000000000000.json", FIRST.as_bytes()), ("00000000000000000001.json", bytes)];
        scratch.set(&files);
        if scratch.read() {
            assert!(changes.is_ok(), "only {changes:?}");
        }
    });
});
