//! Labels and annotations of an object, reduced to the keys that kinglet uses.
//!
//! An object may have many large annotations. All keys other than those in [`RECOGNIZED`] are skipped
//! while parsing, without an allocation.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

/// The prefix of the annotations of kube-router.
const KUBE_ROUTER: &str = "kube-router.io/";

/// All keys that are kept: labels, the annotations of kube-router for Nodes and Services, and an
/// annotation of Kubernetes that a field of Service replaced.
const RECOGNIZED: [&str; 29] = [
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

/// The recognized labels or annotations of an object, unordered, without duplicates.
#[derive(Default)]
pub(super) struct Annotations(Vec<(&'static str, Box<str>)>);

impl Annotations {
    /// Returns the value of a full key, which must be in [`RECOGNIZED`]; `None` if it is absent or null.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        debug_assert!(RECOGNIZED.contains(&name), "{name} is not recognized");
        self.0.iter().find(|(own, _)| *own == name).map(|(_, text)| &**text)
    }

    /// Returns the value of the key `kube-router.io/NAME`; `None` if it is absent or null.
    pub(super) fn kube_router(&self, name: &str) -> Option<&str> {
        debug_assert!(
            RECOGNIZED.iter().any(|own| own.strip_prefix(KUBE_ROUTER) == Some(name)),
            "{name}"
        );
        let matches = |own: &str| own.strip_prefix(KUBE_ROUTER) == Some(name);
        self.0.iter().find(|(own, _)| matches(own)).map(|(_, text)| &**text)
    }
}

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Annotations, D::Error> {
        struct MapVisitor;

        impl<'de> Visitor<'de> for MapVisitor {
            type Value = Annotations;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Annotations, A::Error> {
                let mut annotations = Annotations::default();
                while let Some(AnnotationKey(name)) = from.next_key()? {
                    match name {
                        Some(name) => {
                            let text: Option<Box<str>> = from.next_value()?;
                            annotations.0.retain(|(own, _)| *own != name); // the last duplicate wins
                            annotations.0.extend(text.map(|text| (name, text)));
                        }
                        None => drop(from.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(annotations)
            }
        }

        from.deserialize_map(MapVisitor)
    }
}

/// A key; `None` if it is not in [`RECOGNIZED`].
struct AnnotationKey(Option<&'static str>);

impl<'de> Deserialize<'de> for AnnotationKey {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<AnnotationKey, D::Error> {
        struct KeyVisitor;

        impl Visitor<'_> for KeyVisitor {
            type Value = AnnotationKey;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E>(self, text: &str) -> Result<AnnotationKey, E> {
                Ok(AnnotationKey(RECOGNIZED.into_iter().find(|name| *name == text)))
            }
        }

        from.deserialize_identifier(KeyVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_dropped_and_the_last_duplicate_wins() {
        let text = r#"{"app":"web","kube-router.io/node.asn":"1","other":[{}],
            "kube-router.io/node.\u0061sn":"2","topology.kubernetes.io/zone":null}"#;
        let annotations: Annotations = crate::codec::json::from_str(text).unwrap();
        assert_eq!(annotations.0.len(), 1);
        assert_eq!(
            (annotations.kube_router("node.asn"), annotations.get("kube-router.io/node.asn")),
            (Some("2"), Some("2"))
        );
        assert_eq!(annotations.get("topology.kubernetes.io/zone"), None);
    }
}
