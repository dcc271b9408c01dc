//! What the API says, as little of it as kinglet uses. Pure data: `api` fills it, `desired` reads it.

pub mod endpoints;
pub mod known;
pub mod node;
pub mod service;
pub mod slices;

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::few::{Few, Sorted};
use crate::router::Secret;
pub use endpoints::{Endpoint, EndpointSlice, Hints, SlicePort};
pub use known::{Bad, Changes, Known, News, Reading, What};
pub use node::Node;
pub use service::{Advertise, Service, ServicePort};
pub use slices::Slices;

/// The whole cluster as kinglet knows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// By name.
    #[serde(with = "as_list")]
    pub nodes: Few<Box<str>, Node>,
    /// By namespace and name.
    #[serde(with = "as_list")]
    pub services: Few<Name, Service>,
    /// By name, and by Service.
    pub slices: Slices,
    /// Kinds of which an object could not be understood, and no earlier version of it is known:
    /// nothing that such a kind feeds may be taken away.
    pub doubtful: Sorted<Kind>,
}

/// Namespace (empty for a Node) and name. They sort as the API lists them, by NAMESPACE/NAME: `team-x` is
/// before `team`. So what is listed comes in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    /// The namespace.
    pub namespace: Box<str>,
    /// The name in it.
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
        // No real name has a slash in it; where one has, two of them are not the same all the same.
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

/// The kinds of object that kinglet reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Kind {
    Node,
    Service,
    /// Core Endpoints too, where the server has no EndpointSlices.
    EndpointSlice,
}

impl Kind {
    /// Those that are read: where Services are off, only Nodes.
    pub fn needed(services: bool) -> &'static [Kind] {
        match services {
            true => &[Kind::Node, Kind::Service, Kind::EndpointSlice],
            false => &[Kind::Node],
        }
    }

    /// As in an object's `kind`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Node => "Node",
            Kind::Service => "Service",
            Kind::EndpointSlice => "EndpointSlice",
        }
    }

    /// As in a URL and in an RBAC rule.
    pub fn plural(self) -> &'static str {
        match self {
            Kind::Node => "nodes",
            Kind::Service => "services",
            Kind::EndpointSlice => "endpointslices",
        }
    }
}

/// One object, of whatever kind.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[allow(missing_docs)]
pub enum Object {
    Node(Node),
    Service(Service),
    EndpointSlice(EndpointSlice),
}

impl Cluster {
    /// Takes in an object, in place of the version that was known.
    pub fn insert(&mut self, object: Object) {
        match object {
            Object::Node(node) => drop(self.nodes.insert(node.name.clone(), node)),
            Object::Service(mut service) => {
                service.fit();
                self.services.insert(service.name.clone(), service);
            }
            Object::EndpointSlice(mut slice) => {
                slice.fit();
                self.slices.insert(slice);
            }
        }
    }

    /// Takes out an object of the API, which may stand here as several slices, and gives it.
    pub fn remove(&mut self, kind: Kind, name: &Name) -> Vec<Object> {
        match kind {
            Kind::Node => self.nodes.remove(&name.name).map(Object::Node).into_iter().collect(),
            Kind::Service => self.services.remove(name).map(Object::Service).into_iter().collect(),
            Kind::EndpointSlice => {
                let keys: Vec<Name> = self.parts(name).map(|part| part.name.clone()).collect();
                let removed = keys.iter().filter_map(|key| self.slices.remove(key));
                removed.map(Object::EndpointSlice).collect()
            }
        }
    }

    /// An object of the API as it is known.
    pub fn get(&self, kind: Kind, name: &Name) -> Vec<Object> {
        match kind {
            Kind::Node => {
                self.nodes.get(&name.name).cloned().map(Object::Node).into_iter().collect()
            }
            Kind::Service => {
                self.services.get(name).cloned().map(Object::Service).into_iter().collect()
            }
            Kind::EndpointSlice => self.parts(name).cloned().map(Object::EndpointSlice).collect(),
        }
    }

    /// Whether no object of a kind is known.
    pub fn is_empty_of(&self, kind: Kind) -> bool {
        match kind {
            Kind::Node => self.nodes.is_empty(),
            Kind::Service => self.services.is_empty(),
            Kind::EndpointSlice => self.slices.is_empty(),
        }
    }

    /// Forgets the passwords that Nodes are annotated with, for those who are to see all the rest.
    pub fn forget_passwords(&mut self) {
        let routers = self.nodes.values_mut().filter_map(|node| node.bgp.as_mut());
        let words = routers.flat_map(|bgp| &mut bgp.routers).filter_map(|r| r.password.as_mut());
        words.for_each(Secret::forget);
    }

    /// The slice of a name, or those that core Endpoints of this name became: `name/0`, `name/1`…
    /// (the API lets no name hold a slash, and `/` sorts before all that may follow there but `-`
    /// and `.`).
    fn parts<'a>(&'a self, name: &'a Name) -> impl Iterator<Item = &'a EndpointSlice> {
        let is_part = |part: &str| part.is_empty() || part.starts_with('/');
        let near = self.slices.starting(name);
        near.filter(move |s| s.name.name.strip_prefix(&*name.name).is_some_and(is_part))
    }
}

/// An object that knows its own key.
pub trait Keyed {
    /// Name, or namespace and name.
    type Key: Ord;
    /// Its key.
    fn key(&self) -> Self::Key;
}

/// Maps are written as lists of their values: JSON has no structured keys.
mod as_list {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Few, Keyed};

    pub fn serialize<K, V: Serialize, S: Serializer>(
        map: &Few<K, V>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(map.values())
    }

    pub fn deserialize<'de, V, D>(from: D) -> Result<Few<V::Key, V>, D::Error>
    where
        V: Keyed + Deserialize<'de>,
        D: Deserializer<'de>,
    {
        let values = Vec::<V>::deserialize(from)?;
        Ok(values.into_iter().map(|value| (value.key(), value)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_the_api_lists_them_and_no_two_are_the_same() {
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
