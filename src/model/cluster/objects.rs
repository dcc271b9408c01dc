//! The cluster as a whole: the kinds, and the maps of all objects.

use serde::{Deserialize, Serialize};

use super::{
    endpoint_slice::EndpointSlice, name::Name, node::Node, service::Service, slices::Slices,
};
use crate::{
    collections::{FlatMap, FlatSet},
    model::bgp::peer::Secret,
};

/// All objects of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// Nodes by name.
    #[serde(with = "as_list")]
    pub nodes: FlatMap<Box<str>, Node>,
    /// Services by namespace and name.
    #[serde(with = "as_list")]
    pub services: FlatMap<Name, Service>,
    /// EndpointSlices by name and by Service.
    pub slices: Slices,
    /// Kinds of which not every object is known, for example because one could not be parsed and there is
    /// no earlier version of it. Nothing in the kernel that derives from such a kind may be removed.
    pub doubtful: FlatSet<Kind>,
}

/// The kinds of object that kinglet reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Kind {
    Node,
    Service,
    /// Also core Endpoints, if the server has no EndpointSlices.
    EndpointSlice,
}

impl Kind {
    /// Returns the kinds that are read: only Nodes if `services` is false.
    pub fn needed(services: bool) -> &'static [Kind] {
        match services {
            true => &[Kind::Node, Kind::Service, Kind::EndpointSlice],
            false => &[Kind::Node],
        }
    }

    /// Returns the name as in an object's `kind` field.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Node => "Node",
            Kind::Service => "Service",
            Kind::EndpointSlice => "EndpointSlice",
        }
    }

    /// Returns the plural as in a URL and in an RBAC rule.
    pub fn plural(self) -> &'static str {
        match self {
            Kind::Node => "nodes",
            Kind::Service => "services",
            Kind::EndpointSlice => "endpointslices",
        }
    }
}

/// An object of any kind.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[allow(missing_docs)]
pub enum Object {
    Node(Node),
    Service(Service),
    EndpointSlice(EndpointSlice),
}

impl Cluster {
    /// Adds an object, or replaces its earlier version.
    pub fn insert(&mut self, object: Object) {
        match object {
            Object::Node(node) => drop(self.nodes.insert(node.name.clone(), node)),
            Object::Service(mut service) => {
                service.shrink_to_fit();
                self.services.insert(service.name.clone(), service);
            }
            Object::EndpointSlice(mut slice) => {
                slice.shrink_to_fit();
                self.slices.insert(slice);
            }
        }
    }

    /// Removes an object of the API and returns it. Core Endpoints may be several slices here; the vector
    /// is empty if the object is not known.
    pub fn remove(&mut self, kind: Kind, name: &Name) -> Vec<Object> {
        match kind {
            Kind::Node => self.nodes.remove(&name.name).map(Object::Node).into_iter().collect(),
            Kind::Service => self.services.remove(name).map(Object::Service).into_iter().collect(),
            Kind::EndpointSlice => {
                let keys: Vec<Name> =
                    self.slices_of_object(name).map(|part| part.name.clone()).collect();
                let removed = keys.iter().filter_map(|key| self.slices.remove(key));
                removed.map(Object::EndpointSlice).collect()
            }
        }
    }

    /// Returns an object of the API. Core Endpoints may be several slices here; the vector is empty if the
    /// object is not known.
    pub fn get(&self, kind: Kind, name: &Name) -> Vec<Object> {
        match kind {
            Kind::Node => {
                self.nodes.get(&name.name).cloned().map(Object::Node).into_iter().collect()
            }
            Kind::Service => {
                self.services.get(name).cloned().map(Object::Service).into_iter().collect()
            }
            Kind::EndpointSlice => {
                self.slices_of_object(name).cloned().map(Object::EndpointSlice).collect()
            }
        }
    }

    /// Returns true if no object of a kind is known.
    pub fn is_empty_of(&self, kind: Kind) -> bool {
        match kind {
            Kind::Node => self.nodes.is_empty(),
            Kind::Service => self.services.is_empty(),
            Kind::EndpointSlice => self.slices.is_empty(),
        }
    }

    /// Removes the BGP passwords from the annotations of Nodes, so that the rest can be shown.
    pub fn forget_passwords(&mut self) {
        let routers = self.nodes.values_mut().filter_map(|node| node.bgp.as_mut());
        let words = routers.flat_map(|bgp| &mut bgp.routers).filter_map(|r| r.password.as_mut());
        words.for_each(Secret::forget);
    }

    /// Returns the slice of a name, or the slices `name/0`, `name/1`… that core Endpoints of this name
    /// were split into. A name of the API has no slash. `/` sorts before every character that may follow
    /// in a name, except `-` and `.`.
    fn slices_of_object<'a>(&'a self, name: &'a Name) -> impl Iterator<Item = &'a EndpointSlice> {
        let is_part = |part: &str| part.is_empty() || part.starts_with('/');
        let near = self.slices.starting(name);
        near.filter(move |s| s.name.name.strip_prefix(&*name.name).is_some_and(is_part))
    }
}

/// Serializes a map as the list of its values, because a JSON key can only be a string.
mod as_list {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::super::name::Keyed;
    use crate::collections::FlatMap;

    pub(super) fn serialize<K, V: Serialize, S: Serializer>(
        map: &FlatMap<K, V>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(map.values())
    }

    pub(super) fn deserialize<'de, V, D>(from: D) -> Result<FlatMap<V::Key, V>, D::Error>
    where
        V: Keyed + Deserialize<'de>,
        D: Deserializer<'de>,
    {
        let values = Vec::<V>::deserialize(from)?;
        Ok(values.into_iter().map(|value| (value.key(), value)).collect())
    }
}
