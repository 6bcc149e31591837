//! Inode numbers: a hash of what a node is, the same on every mount, so that backup tools see
//! "unchanged".
//!
//! The high bit is clear; numbers with it set are those of staged files (`table::staging`). The
//! number 1 is the root's, as FUSE has it. The store's URL is part of the hash, so that two copies
//! of one table in one lake share nothing.

use sha2::{Digest, Sha256};

/// The inode number of FUSE's root.
pub const ROOT: u64 = 1;

/// Hashes the parts that make up a node's identity; their order and their bounds count.
pub fn inode(kind: &str, parts: &[&str]) -> u64 {
    let mut hash = Sha256::new();
    hash.update(kind);
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    let number = u64::from_le_bytes(first) & (u64::MAX >> 1);
    // 0 is no inode and 1 is the root.
    number.max(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_bounds_and_kinds_differ() {
        assert_ne!(inode("data", &["ab", "c"]), inode("data", &["a", "bc"]));
        assert_ne!(inode("data", &["ab"]), inode("log", &["ab"]));
        assert_eq!(inode("data", &["ab"]), inode("data", &["ab"]));
    }

    #[test]
    fn numbers_stay_the_same_over_releases() {
        // A backup made with an earlier release must still see "unchanged".
        assert_eq!(inode("data", &["file:///lake/t", "part-0.parquet"]), 9081960195891174695);
    }

    #[test]
    fn the_high_bit_is_for_staged_files() {
        for n in 0..1000 {
            let number = inode("data", &[&n.to_string()]);
            assert!(number > ROOT && number >> 63 == 0);
        }
    }
}
