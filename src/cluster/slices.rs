//! All slices, found by their own name and by the Service that they belong to.
//!
//! Slices are called SERVICE-…, so a Service's stand together in the order of names, and no second
//! index is needed; those that are called otherwise (of a Service with a very long name, or made by
//! hand) are noted apart.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{EndpointSlice, Name};
use crate::few::{Few, Sorted};

/// EndpointSlices by namespace and name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slices {
    named: Few<Name, EndpointSlice>,
    /// Services, with their slices that are not called after them.
    odd: Sorted<(Name, Box<str>)>,
}

impl Slices {
    /// Takes one in, in place of the version that was known.
    pub fn insert(&mut self, slice: EndpointSlice) {
        let note = odd(&slice);
        let last = self.named.insert(slice.name.clone(), slice);
        self.forget(last.as_ref());
        self.odd.extend(note);
    }

    /// Takes one out.
    pub fn remove(&mut self, name: &Name) -> Option<EndpointSlice> {
        let last = self.named.remove(name);
        self.forget(last.as_ref());
        last
    }

    fn forget(&mut self, last: Option<&EndpointSlice>) {
        if let Some(note) = last.and_then(odd) {
            self.odd.remove(&note);
        }
    }

    /// Takes in all of another collection.
    pub fn extend(&mut self, other: Slices) {
        other.named.into_iter().for_each(|(_, slice)| self.insert(slice));
    }

    /// The slices of a Service, each once.
    pub fn of<'a>(&'a self, service: &'a Name) -> impl Iterator<Item = &'a EndpointSlice> {
        let near =
            self.starting(service).filter(|slice| slice.service.as_ref() == Some(&service.name));
        let least = (service.clone(), "".into());
        let odd = self.odd.tail(&least).iter().take_while(move |(of, _)| of == service);
        let odd = odd.filter_map(|(of, name)| {
            self.named.get(&Name { namespace: of.namespace.clone(), name: name.clone() })
        });
        near.chain(odd)
    }

    /// Those whose name starts with a name, in their order.
    pub fn starting<'a>(&'a self, name: &'a Name) -> impl Iterator<Item = &'a EndpointSlice> {
        let near = self.named.tail(name).map(|(_, slice)| slice);
        near.take_while(move |slice| {
            slice.name.namespace == name.namespace && slice.name.name.starts_with(&*name.name)
        })
    }

    /// All, in the order of their names.
    pub fn values(&self) -> impl Iterator<Item = &EndpointSlice> {
        self.named.values()
    }

    /// By name.
    pub fn named(&self) -> &Few<Name, EndpointSlice> {
        &self.named
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.named.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }
}

/// The note of a slice that is not called after its Service.
fn odd(slice: &EndpointSlice) -> Option<(Name, Box<str>)> {
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
    fn a_service_has_its_own_slices_whatever_they_are_called() {
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
        assert_eq!(of(&slices, "shop/web"), ["shop/web", "shop/web-1"], "its label was changed");
        slices.insert(slice(Some("by-hand"), "shop/by-hand"));
        assert_eq!(of(&slices, "shop/web-admin"), ["shop/web-2", "shop/web-admin-1"]);
        slices.remove(&name("shop/web-2"));
        assert_eq!(of(&slices, "shop/web-admin"), ["shop/web-admin-1"]);
        assert_eq!((slices.len(), slices.odd.len()), (7, 1));
    }
}
