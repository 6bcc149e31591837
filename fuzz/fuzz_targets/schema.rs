//! A schema string: what is read comes back the same.
#![no_main]

mod alike;

use alike::is_alike;
use deltafs::log::schema::Schema;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(schema) = Schema::from_json(text) {
        let written = schema.to_json();
        let again = Schema::from_json(&written);
        let again = again.unwrap_or_else(|error| panic!("{written}: {error}"));
        assert!(is_alike(&again.to_json(), &written), "{written}");
    }
});
