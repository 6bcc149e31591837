//! Compacted commits in the place of single ones that are missing or damaged.

use std::collections::BTreeSet;
use std::fs;

use super::tests::{Scratch, add, assert_damaged, live, remove, versions};
use super::*;

const COMPACTED: &str = "00000000000000000004.00000000000000000006.compacted.json";

/// The protocol's own example ("Log Compaction Files"), on top of versions 0 to 3.
fn example() -> Scratch {
    let scratch = Scratch::with_commits(1..=3);
    let txn = |version: u64| format!(r#"{{"txn":{{"appId":"app","version":{version}}}}}"#);
    scratch.commit(4, &[r#"{"commitInfo":{}}"#, &add("g2"), &remove("f1")]);
    scratch.commit(5, &[r#"{"commitInfo":{}}"#, &add("g3"), &add("g4"), &txn(4389)]);
    let info = r#"{"commitInfo":{"operation":"sixth","txnId":"six"}}"#;
    scratch.commit(6, &[info, &remove("g3"), &txn(4390)]);
    scratch.commit(7, &[&add("h")]);
    let lines = [add("g2"), add("g4"), remove("f1"), remove("g3"), txn(4390)];
    fs::write(scratch.file(COMPACTED), lines.join("\n")).unwrap();
    scratch
}

fn assert_same(found: &History, whole: &History, version: u64) {
    let version = Version(version);
    assert_eq!(live(found, version.0), live(whole, version.0));
    let (found_facts, facts) = (found.facts(version).unwrap(), whole.facts(version).unwrap());
    assert_eq!((found_facts.live, &found_facts.txn_id), (facts.live, &facts.txn_id));
    assert_eq!(found_facts.operation, facts.operation);
    let txn = |history: &History| history.txn_version("app", version);
    assert_eq!(txn(found), txn(whole));
}

#[tokio::test]
async fn compacted_commits_stand_in_for_one_that_is_missing_or_torn() {
    for (version, is_torn) in [(4, false), (5, false), (5, true), (6, true)] {
        let scratch = example();
        let whole = scratch.load().await;
        assert_eq!(versions(&whole), [0, 1, 2, 3, 4, 5, 6, 7]);
        let name = commit_name(Version(version));
        match is_torn {
            true => fs::write(scratch.file(&name), r#"{"add":{"path":"g"#).unwrap(),
            false => fs::remove_file(scratch.file(&name)).unwrap(),
        }
        let found = scratch.load().await;
        let known: BTreeSet<u64> = versions(&found).into_iter().collect();
        let expected = (0..=7).filter(|known| *known < version || *known >= 6);
        assert_eq!(known, expected.collect(), "without {version}");
        for at in [6, 7] {
            let snapshot = scratch.snapshot(at).await.unwrap();
            let paths: Vec<&str> = snapshot.adds.keys().map(FilePath::as_str).collect();
            assert_eq!(paths, live(&whole, at), "without {version}");
            assert_eq!(snapshot.txns["app"].version, 4390);
            // A torn commit tells nothing of itself.
            if version != 6 {
                assert_same(&found, &whole, at);
            }
            if !is_torn {
                let facts = found.facts(Version(at)).unwrap();
                assert_eq!(snapshot.commit_time_ms, facts.commit_time_ms);
            }
        }
    }
}

#[tokio::test]
async fn a_gap_that_no_compacted_commits_cover_stays_damage() {
    let scratch = example();
    fs::remove_file(scratch.file(&commit_name(Version(3)))).unwrap();
    let history = scratch.load().await;
    assert_eq!(versions(&history), [0, 1, 2]);
    assert_damaged(&history, &["commit 3 is missing"]);
    assert!(matches!(scratch.snapshot(6).await, Err(Error::Damaged(_))));
    // Nor do torn ones.
    let scratch = example();
    fs::remove_file(scratch.file(&commit_name(Version(5)))).unwrap();
    fs::write(scratch.file(COMPACTED), r#"{"add":"#).unwrap();
    let history = scratch.load().await;
    assert_eq!(versions(&history), [0, 1, 2, 3, 4]);
    assert_damaged(&history, &[COMPACTED]);
}
