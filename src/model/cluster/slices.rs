//! The EndpointSlices of the cluster, indexed by their own name and by Service.
//!
//! The control plane names a slice SERVICE-…, so the slices of a Service are adjacent in the order of
//! names and need no second index. Slices with other names (for a Service with a very long name, or
//! created by hand) are listed in a small extra index.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{endpoint_slice::EndpointSlice, name::Name};
use crate::collections::{FlatMap, FlatSet};

/// EndpointSlices by namespace and name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slices {
    by_name: FlatMap<Name, EndpointSlice>,
    /// Pairs of a Service and the name of one of its slices, if that does not start with the Service's
    /// name.
    irregular: FlatSet<(Name, Box<str>)>,
}

impl Slices {
    /// Adds a slice, or replaces its earlier version.
    pub fn insert(&mut self, slice: EndpointSlice) {
        let entry = irregular_entry(&slice);
        let last = self.by_name.insert(slice.name.clone(), slice);
        self.remove_entry(last.as_ref());
        self.irregular.extend(entry);
    }

    /// Removes a slice and returns it. `None` if there is none of this name.
    pub fn remove(&mut self, name: &Name) -> Option<EndpointSlice> {
        let last = self.by_name.remove(name);
        self.remove_entry(last.as_ref());
        last
    }

    /// Removes the entry of a slice from the extra index.
    fn remove_entry(&mut self, last: Option<&EndpointSlice>) {
        if let Some(entry) = last.and_then(irregular_entry) {
            self.irregular.remove(&entry);
        }
    }

    /// Adds all slices of another collection.
    pub fn extend(&mut self, other: Slices) {
        other.by_name.into_iter().for_each(|(_, slice)| self.insert(slice));
    }

    /// Returns the slices of a Service, each once.
    pub fn of<'a>(&'a self, service: &'a Name) -> impl Iterator<Item = &'a EndpointSlice> {
        let near =
            self.starting(service).filter(|slice| slice.service.as_ref() == Some(&service.name));
        let least = (service.clone(), "".into());
        let irregular = self.irregular.tail(&least).iter().take_while(move |(of, _)| of == service);
        let irregular = irregular.filter_map(|(of, name)| {
            self.by_name.get(&Name { namespace: of.namespace.clone(), name: name.clone() })
        });
        near.chain(irregular)
    }

    /// Returns the slices of the same namespace whose name starts with the name of `name`, in order.
    pub(super) fn starting<'a>(
        &'a self,
        name: &'a Name,
    ) -> impl Iterator<Item = &'a EndpointSlice> {
        let near = self.by_name.tail(name).map(|(_, slice)| slice);
        near.take_while(move |slice| {
            slice.name.namespace == name.namespace && slice.name.name.starts_with(&*name.name)
        })
    }

    /// Returns all slices in the order of their names.
    pub fn values(&self) -> impl Iterator<Item = &EndpointSlice> {
        self.by_name.values()
    }

    /// Returns the map of all slices by name.
    pub fn by_name(&self) -> &FlatMap<Name, EndpointSlice> {
        &self.by_name
    }

    /// Returns the number of slices.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Returns true if there are no slices.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}

/// Returns the entry of a slice in the extra index. `None` if its name starts with that of its Service,
/// or if it has none.
fn irregular_entry(slice: &EndpointSlice) -> Option<(Name, Box<str>)> {
    let of = slice.of().filter(|of| !slice.name.name.starts_with(&*of.name))?;
    Some((of, slice.name.name.clone()))
}

impl Serialize for Slices {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.values())
    }
}

impl<'de> Deserialize<'de> for Slices {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Slices, D::Error> {
        let mut slices = Slices::default();
        Vec::deserialize(from)?.into_iter().for_each(|slice| slices.insert(slice));
        Ok(slices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        let (namespace, name) = text.split_once('/').unwrap();
        Name { namespace: namespace.into(), name: name.into() }
    }

    fn slice(of: Option<&str>, text: &str) -> EndpointSlice {
        let (endpoints, ports) = (Vec::new(), Vec::new());
        EndpointSlice { name: name(text), service: of.map(Into::into), endpoints, ports }
    }

    #[test]
    fn the_slices_of_a_service_are_found_whatever_their_names_are() {
        let mut slices = Slices::default();
        for (of, text) in [
            (Some("web"), "shop/web-1"),
            (Some("web"), "shop/web"),
            (Some("web"), "shop/by-hand"),
            (Some("web-admin"), "shop/web-admin-1"),
            (Some("web-admin"), "shop/web-2"),
            (Some("web"), "other/web-1"),
            (Some("web"), "other/by-hand"),
            (None, "shop/web-3"),
        ] {
            slices.insert(slice(of, text));
        }
        let of = |slices: &Slices, text: &str| -> Vec<String> {
            let mut names: Vec<_> = slices.of(&name(text)).map(|s| s.name.to_string()).collect();
            names.sort();
            names
        };
        assert_eq!(of(&slices, "shop/web"), ["shop/by-hand", "shop/web", "shop/web-1"]);
        assert_eq!(of(&slices, "shop/web-admin"), ["shop/web-2", "shop/web-admin-1"]);
        assert_eq!(of(&slices, "other/web"), ["other/by-hand", "other/web-1"]);
        assert_eq!(of(&slices, "shop/we"), [] as [String; 0]);
        slices.insert(slice(Some("web-admin"), "shop/by-hand"));
        assert_eq!(
            of(&slices, "shop/web"),
            ["shop/web", "shop/web-1"],
            "the label of by-hand changed"
        );
        slices.insert(slice(Some("by-hand"), "shop/by-hand"));
        assert_eq!(of(&slices, "shop/web-admin"), ["shop/web-2", "shop/web-admin-1"]);
        slices.remove(&name("shop/web-2"));
        assert_eq!(of(&slices, "shop/web-admin"), ["shop/web-admin-1"]);
        assert_eq!((slices.len(), slices.irregular.len()), (7, 1));
    }
}
