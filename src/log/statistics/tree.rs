//! Statistics as JSON: `numRecords`, and trees of values in the table's own nesting.

use serde::Serialize;
use serde_json::value::RawValue;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Whole {
    pub num_records: i64,
    pub min_values: Tree,
    pub max_values: Tree,
    pub null_count: Tree,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tight_bounds: Option<bool>,
}

/// Values by the table's own nesting, in its order.
#[derive(Default)]
pub(super) struct Tree(Vec<(String, Node)>);

enum Node {
    /// JSON text, kept raw so that a decimal of 38 digits stays exact.
    Value(Box<RawValue>),
    Struct(Tree),
}

impl Tree {
    pub fn put(&mut self, path: &[String], json: Option<String>) {
        let (Some(json), Some((name, rest))) = (json, path.split_first()) else { return };
        if rest.is_empty() {
            let value = RawValue::from_string(json).expect("BUG: statistics are valid JSON");
            self.0.push((name.clone(), Node::Value(value)));
            return;
        }
        // Leaves come in the schema's order, so a struct's are next to each other.
        if !matches!(self.0.last(), Some((last, Node::Struct(_))) if last == name) {
            self.0.push((name.clone(), Node::Struct(Tree::default())));
        }
        if let Some((_, Node::Struct(tree))) = self.0.last_mut() {
            tree.put(rest, Some(json));
        }
    }
}

impl Serialize for Tree {
    fn serialize<S: serde::Serializer>(
        &self,
        serializer: S,
    ) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, node)| (name, node)))
    }
}

impl Serialize for Node {
    fn serialize<S: serde::Serializer>(
        &self,
        serializer: S,
    ) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Node::Value(value) => value.serialize(serializer),
            Node::Struct(tree) => tree.serialize(serializer),
        }
    }
}
