//! A deletion vector's descriptor, as a line of JSON or as raw fields.
#![no_main]

use std::cell::LazyCell;

use deltafs::log::action::{Action, DeletionVector};
use deltafs::store::{Reach, Store};
use libfuzzer_sys::fuzz_target;

thread_local! {
    static TABLE: LazyCell<(String, Reach)> = LazyCell::new(|| {
        let store = Store::open(std::env::temp_dir().to_str().unwrap()).unwrap();
        (store.local_root().unwrap().to_str().unwrap().to_owned(), store.reach())
    });
}

fn check(vector: &DeletionVector, reach: &Reach) {
    if let Ok(Some(file)) = vector.file(reach) {
        assert!(!file.as_str().split('/').any(|part| part == ".."), "{file:?}");
        if vector.storage_type == "u" {
            assert!(file.file_name().starts_with("deletion_vector_"), "{file:?}");
            assert!(file.file_name().ends_with(".bin"), "{file:?}");
        }
    }
    assert!(vector.file_bytes_min() >= 8);
    assert!(vector.is_same(&vector.clone()), "{vector:?}");
}

fuzz_target!(|bytes: &[u8]| TABLE.with(|table| run(bytes, &table.0, &table.1)));

fn run(bytes: &[u8], root: &str, reach: &Reach) {
    let line = [br#"{"add":{"path":"f","size":1,"deletionVector":"#, bytes, b"}}"].concat();
    if let Ok(Some(Action::Add(add))) = Action::from_line(&line)
        && let Some(vector) = &add.deletion_vector
    {
        check(vector, reach);
    }
    let Some((numbers, text)) = bytes.split_at_checked(16) else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let number = |at: usize| i32::from_le_bytes([0, 1, 2, 3].map(|byte| numbers[at + byte]));
    let beneath = format!("file:{root}/{text}");
    for (storage_type, place) in [("u", text), ("i", text), ("p", text), ("p", &beneath)] {
        let vector = DeletionVector {
            storage_type: storage_type.to_owned(),
            path_or_inline_dv: place.to_owned(),
            offset: (number(0) != 0).then_some(number(4)),
            size_in_bytes: number(8),
            cardinality: number(12).into(),
        };
        check(&vector, reach);
    }
}
