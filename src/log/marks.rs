//! What applications and features had set at every version of a table: transactions (protocol:
//! "Transaction Identifiers") and domains ("Domain Metadata").

use std::collections::BTreeMap;

use crate::log::action::{DomainMetadata, Txn};
use crate::log::version::Version;

/// Values that hold from a version on, ascending.
type Since<T> = Vec<(Version, T)>;

/// All transactions and domains, and in which versions of the table.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks {
    /// By application.
    txns: BTreeMap<String, Since<Txn>>,
    /// By name; `None` where it was removed.
    domains: BTreeMap<String, Since<Option<DomainMetadata>>>,
}

impl Marks {
    /// Takes in what a commit says; versions come in order.
    pub fn note(&mut self, version: Version, txns: Vec<Txn>, domains: Vec<DomainMetadata>) {
        for txn in txns {
            note(self.txns.entry(txn.app_id.clone()).or_default(), version, txn);
        }
        for domain in domains {
            let set = self.domains.entry(domain.domain.clone()).or_default();
            note(set, version, (!domain.removed).then_some(domain));
        }
    }

    /// Takes in a checkpoint, whose domains are all that its version has.
    pub fn rebase(&mut self, version: Version, txns: Vec<Txn>, domains: Vec<DomainMetadata>) {
        for set in self.domains.values_mut() {
            note(set, version, None);
        }
        self.note(version, txns, domains);
    }

    /// The version that an application had written at a version of the table.
    pub fn txn_version(&self, app_id: &str, version: Version) -> Option<i64> {
        at_version(self.txns.get(app_id)?, version).map(|txn| txn.version)
    }

    /// The last transaction of each application at a version of the table, by its id.
    pub fn txns(&self, version: Version) -> impl Iterator<Item = &Txn> {
        self.txns.values().filter_map(move |written| at_version(written, version))
    }

    /// The domains of a version, by name.
    pub fn domains(&self, version: Version) -> impl Iterator<Item = &DomainMetadata> {
        let set = self.domains.values().filter_map(move |set| at_version(set, version));
        set.filter_map(Option::as_ref)
    }
}

/// Notes a value that holds from a version on; of several in one version the last counts.
fn note<T: PartialEq>(values: &mut Since<T>, version: Version, value: T) {
    match values.last_mut() {
        Some(last) if last.0 == version => last.1 = value,
        Some(last) if last.1 == value => {}
        Some(_) | None => values.push((version, value)),
    }
}

/// The value that held at a version.
fn at_version<T>(values: &[(Version, T)], version: Version) -> Option<&T> {
    let after = values.partition_point(|(at, _)| *at <= version);
    values[..after].last().map(|(_, value)| value)
}
