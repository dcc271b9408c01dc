//! Labels and annotations: of all that an object carries, the few that mean something here.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

/// What kube-router's own begin with.
const KUBE_ROUTER: &str = "kube-router.io/";

/// All that are read: labels, what kube-router lets a Node and a Service be annotated with, and what
/// Kubernetes itself once did where a Service has a field now.
const READ: [&str; 29] = [
    "kubernetes.io/service-name",
    "service.kubernetes.io/headless",
    "service.kubernetes.io/service-proxy-name",
    "topology.kubernetes.io/zone",
    "service.beta.kubernetes.io/load-balancer-source-ranges",
    "kube-router.io/pod-cidrs",
    "kube-router.io/pod-cidr",
    "kube-router.io/node.asn",
    "kube-router.io/node.bgp.communities",
    "kube-router.io/node.bgp.customimportreject",
    "kube-router.io/path-prepend.as",
    "kube-router.io/path-prepend.repeat-n",
    "kube-router.io/peers",
    "kube-router.io/peer.ips",
    "kube-router.io/peer.asns",
    "kube-router.io/peer.ports",
    "kube-router.io/peer.passwords",
    "kube-router.io/peer.localips",
    "kube-router.io/rr.server",
    "kube-router.io/rr.client",
    "kube-router.io/bgp-local-addresses",
    "kube-router.io/service.advertise.clusterip",
    "kube-router.io/service.advertise.externalip",
    "kube-router.io/service.advertise.loadbalancerip",
    "kube-router.io/service.scheduler",
    "kube-router.io/service.schedflags",
    "kube-router.io/service.dsr",
    "kube-router.io/service.local",
    "kube-router.io/service.skiplbips",
];

/// What stands there, in no order.
#[derive(Default)]
pub struct Notes(Vec<(&'static str, Box<str>)>);

impl Notes {
    /// The text of one by its whole name, which must be one of those that are read.
    pub fn get(&self, name: &str) -> Option<&str> {
        debug_assert!(READ.contains(&name), "{name} is not read");
        self.0.iter().find(|(own, _)| *own == name).map(|(_, text)| &**text)
    }

    /// The text of one of kube-router's own, by what follows `kube-router.io/`.
    pub fn of(&self, name: &str) -> Option<&str> {
        debug_assert!(READ.iter().any(|own| own.strip_prefix(KUBE_ROUTER) == Some(name)), "{name}");
        let of = |own: &str| own.strip_prefix(KUBE_ROUTER) == Some(name);
        self.0.iter().find(|(own, _)| of(own)).map(|(_, text)| &**text)
    }
}

impl<'de> Deserialize<'de> for Notes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Notes, D::Error> {
        struct All;

        impl<'de> Visitor<'de> for All {
            type Value = Notes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Notes, A::Error> {
                let mut notes = Notes::default();
                while let Some(Key(name)) = from.next_key()? {
                    match name {
                        Some(name) => {
                            let text: Option<Box<str>> = from.next_value()?;
                            notes.0.retain(|(own, _)| *own != name); // the last one counts
                            notes.0.extend(text.map(|text| (name, text)));
                        }
                        None => drop(from.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(notes)
            }
        }

        from.deserialize_map(All)
    }
}

/// A name, where it is one of those that are read.
struct Key(Option<&'static str>);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Key, D::Error> {
        struct Name;

        impl Visitor<'_> for Name {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_str<E>(self, text: &str) -> Result<Key, E> {
                Ok(Key(READ.into_iter().find(|name| *name == text)))
            }
        }

        from.deserialize_identifier(Name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_nothing_is_left_out_and_the_last_of_two_counts() {
        let text = r#"{"app":"web","kube-router.io/node.asn":"1","other":[{}],
            "kube-router.io/node.\u0061sn":"2","topology.kubernetes.io/zone":null}"#;
        let notes: Notes = crate::json::from_str(text).unwrap();
        assert_eq!(notes.0.len(), 1);
        assert_eq!(
            (notes.of("node.asn"), notes.get("kube-router.io/node.asn")),
            (Some("2"), Some("2"))
        );
        assert_eq!(notes.get("topology.kubernetes.io/zone"), None);
    }
}
