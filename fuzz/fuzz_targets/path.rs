//! The path decoder: what it takes comes back the same, and nothing leaves the table's folder.
#![no_main]

use std::path::{Component, Path};

use deltafs::log::path::FilePath;
use libfuzzer_sys::fuzz_target;

fn check(path: &FilePath) {
    let is_plain = |component: Component<'_>| matches!(component, Component::Normal(_));
    assert!(Path::new(path.as_str()).components().all(is_plain), "{path:?}");
    let joined = Path::new("/table").join(path.as_str());
    assert!(joined.starts_with("/table") && joined != Path::new("/table"), "{path:?}");
    assert!(!path.as_str().contains('\0') && !path.as_str().ends_with('/'), "{path:?}");
    let again = FilePath::from_log(&path.to_log());
    assert!(again.as_ref().is_ok_and(|again| again == path), "{path:?} came back as {again:?}");
}

fuzz_target!(|text: &str| {
    if let Ok(path) = FilePath::from_log(text) {
        check(&path);
    }
    if let Ok(path) = FilePath::from_decoded(text) {
        assert_eq!(path.as_str(), text);
        check(&path);
    }
});
