//! The keys of objects.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

/// The key of an object: its namespace (empty for a Node) and its name. Keys sort by NAMESPACE/NAME, as
/// etcd does: `team-x` is before `team`. Objects of a list therefore arrive in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    /// metadata.namespace
    pub namespace: Box<str>,
    /// metadata.name
    pub name: Box<str>,
}

impl Ord for Name {
    fn cmp(&self, other: &Name) -> Ordering {
        if self.namespace == other.namespace {
            return self.name.cmp(&other.name);
        }
        fn whole(name: &Name) -> impl Iterator<Item = u8> {
            name.namespace.bytes().chain([b'/']).chain(name.name.bytes())
        }
        // Valid names have no slash. If one has, two different keys still must not compare as equal.
        whole(self).cmp(whole(other)).then_with(|| self.namespace.cmp(&other.namespace))
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Name) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)
    }
}

/// An object that contains its own key.
pub trait Keyed {
    /// The type of the key: a name, or a namespace and a name.
    type Key: Ord;
    /// Returns the key.
    fn key(&self) -> Self::Key;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_in_a_list_of_the_api_and_only_equal_ones_compare_equal() {
        let listed = [
            "default/kubernetes",
            "team-x/a",
            "team-x/b",
            "team/a",
            "team/a-b",
            "team/a.b",
            "team/b",
            "team0/a",
        ];
        let name = |text: &str| {
            let (namespace, name) = text.split_once('/').unwrap();
            Name { namespace: namespace.into(), name: name.into() }
        };
        assert!(listed.is_sorted());
        assert!(listed.map(name).is_sorted());
        let odd =
            |namespace: &str, name: &str| Name { namespace: namespace.into(), name: name.into() };
        let (one, other) = (odd("a", "b/c"), odd("a/b", "c"));
        assert_eq!((one.cmp(&other), other.cmp(&one)), (Ordering::Less, Ordering::Greater));
        assert_eq!(one.cmp(&one), Ordering::Equal);
    }
}
