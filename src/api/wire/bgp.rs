//! Reads the annotations of a Node that configure BGP, with the meaning that they have in kube-router.
//!
//! Most Nodes have none. A value that is not valid does not affect the others: [`read`] records it as a
//! [`AnnotationFault`], which the node that it concerns reports. The external routers are read by `from_yaml` from
//! one annotation, or by `from_lists` from five older ones.

use std::net::Ipv4Addr;

use serde_json::Value;

use super::{
    annotations::Annotations,
    fields::{parse_net, push_unique, quote, split_list},
};
use crate::{
    codec::yaml,
    model::{
        bgp::peer::{self, RawPeer, Router},
        cluster::node::{AnnotationFault, NodeBgp, Reflector},
    },
};

/// Reads all BGP annotations; `None` if the Node has none.
pub(super) fn read(annotations: &Annotations) -> Option<Box<NodeBgp>> {
    let mut bgp = NodeBgp::default();
    let mut faults = Faults(Vec::new());
    bgp.asn = faults.value(annotations, "node.asn", |text| {
        peer::asn(text).map_err(|_| format!("{} is not an AS number", quote(text)))
    });
    for part in split_list(annotations.kube_router("node.bgp.communities")) {
        let found = faults.record("node.bgp.communities", community(part));
        found.into_iter().for_each(|community| push_unique(&mut bgp.communities, community));
    }
    for part in split_list(annotations.kube_router("node.bgp.customimportreject")) {
        let found = parse_net("", part).map_err(|_| format!("{} is not a CIDR", quote(part)));
        let found = faults.record("node.bgp.customimportreject", found);
        found.into_iter().for_each(|net| push_unique(&mut bgp.reject, net));
    }
    bgp.prepend = prepend(annotations, &mut faults);
    let server = faults.value(annotations, "rr.server", cluster_id).map(Reflector::Server);
    let client = faults.value(annotations, "rr.client", cluster_id).map(Reflector::Client);
    bgp.reflector = match annotations.kube_router("rr.server") {
        Some(_) => server,
        None => client,
    };
    for part in split_list(annotations.kube_router("bgp-local-addresses")) {
        let found = faults.record("bgp-local-addresses", peer::address(part));
        found.into_iter().for_each(|addr| push_unique(&mut bgp.addrs, addr));
    }
    bgp.routers = match annotations.kube_router("peers") {
        Some(text) => from_yaml(text, &mut faults),
        None => from_lists(annotations, &mut faults),
    };
    bgp.faults = faults.0;
    (bgp != NodeBgp::default()).then(|| Box::new(bgp))
}

/// The annotations that are not valid, in the order in which they are read.
struct Faults(Vec<AnnotationFault>);

impl Faults {
    /// Adds a fault of `kube-router.io/ANNOTATION`.
    fn add(&mut self, annotation: &str, why: String) {
        let annotation = format!("kube-router.io/{annotation}").into();
        self.0.push(AnnotationFault { annotation, why: why.into() });
    }

    /// Returns the value of a result; adds a fault and returns `None` if it is an error.
    fn record<T>(&mut self, annotation: &str, found: Result<T, String>) -> Option<T> {
        found.map_err(|why| self.add(annotation, why)).ok()
    }

    /// Returns the value of an annotation, parsed by `read`; `None` if it is absent or not valid.
    fn value<T>(
        &mut self,
        annotations: &Annotations,
        annotation: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.record(annotation, read(annotations.kube_router(annotation)?.trim()))
    }
}

/// Returns the AS to prepend and the number of times; `None` if the number is 0 or an annotation is absent
/// or not valid. One annotation without the other is a fault.
fn prepend(annotations: &Annotations, faults: &mut Faults) -> Option<(u32, u8)> {
    let (asn_key, times_key) = ("path-prepend.as", "path-prepend.repeat-n");
    match (annotations.kube_router(asn_key), annotations.kube_router(times_key)) {
        (Some(_), None) => faults.add(asn_key, format!("kube-router.io/{times_key} is missing")),
        (None, Some(_)) => faults.add(times_key, format!("kube-router.io/{asn_key} is missing")),
        _ => {}
    }
    let asn = faults.value(annotations, asn_key, peer::asn);
    let times = faults.value(annotations, times_key, |text| {
        text.parse::<u8>().map_err(|_| format!("{} is not a number from 0 to 255", quote(text)))
    });
    asn.zip(times).filter(|(_, times)| *times > 0)
}

/// Parses a cluster id (RFC 4456 section 7): a number of 32 bits, or an IPv4 address.
fn cluster_id(text: &str) -> Result<Ipv4Addr, String> {
    let number = text.parse::<u32>().map(Ipv4Addr::from);
    number.or_else(|_| text.parse()).map_err(|_| {
        format!("{} is not a cluster id: a number of 32 bits, or an IPv4 address", quote(text))
    })
}

/// The well-known communities by name, after the IANA registry "BGP Well-known Communities".
const COMMUNITIES: [(&str, u32); 14] = [
    ("internet", 0),
    ("graceful-shutdown", 0xffff_0000),
    ("planned-shut", 0xffff_0000),
    ("accept-own", 0xffff_0001),
    ("route-filter-translated-v4", 0xffff_0002),
    ("route-filter-v4", 0xffff_0003),
    ("route-filter-translated-v6", 0xffff_0004),
    ("route-filter-v6", 0xffff_0005),
    ("llgr-stale", 0xffff_0006),
    ("no-llgr", 0xffff_0007),
    ("blackhole", 0xffff_029a),
    ("no-export", 0xffff_ff01),
    ("no-advertise", 0xffff_ff02),
    ("no-export-subconfed", 0xffff_ff03),
];

/// Parses a community (RFC 1997): a number of 32 bits, two of 16 bits with a colon, or a well-known name.
fn community(text: &str) -> Result<u32, String> {
    let halves = || {
        let (high, low) = text.split_once(':')?;
        Some(u32::from(high.parse::<u16>().ok()?) << 16 | u32::from(low.parse::<u16>().ok()?))
    };
    let named = || COMMUNITIES.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    text.parse().ok().or_else(halves).or_else(named).ok_or_else(|| {
        format!(
            "{} is not a community: a number of 32 bits, two of 16 bits with a colon, or a \
             well-known name",
            quote(text)
        )
    })
}

/// Reads the routers of the annotation `peers`, which is a YAML list of maps.
fn from_yaml(text: &str, faults: &mut Faults) -> Vec<Router> {
    let mut routers = Vec::new();
    let entries = match yaml::read(text) {
        Ok(Value::Array(entries)) => entries,
        Ok(Value::Null) => Vec::new(),
        Ok(_) => {
            faults.add("peers", "it is not a list".to_owned());
            Vec::new()
        }
        Err(why) => {
            faults.add("peers", why);
            Vec::new()
        }
    };
    for (i, entry) in entries.iter().enumerate() {
        let field = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default();
        let bfd = entry.get("bfd").filter(|bfd| bfd.get("enabled") == Some(&Value::Bool(true)));
        let bfd = bfd.map(|bfd| {
            ["port", "desired_min_tx_interval", "required_min_rx_interval", "detection_multiplier"]
                .map(|key| bfd.get(key).and_then(Value::as_str).unwrap_or_default())
        });
        let raw = RawPeer {
            addr: field("remoteip"),
            asn: field("remoteasn"),
            port: field("port"),
            local: field("localip"),
            password: field("password"),
            bfd,
        };
        add_router(&mut routers, raw, i, "peers", faults);
    }
    routers
}

/// Reads the routers of the five older annotations. Each is a list, and their entries at the same index
/// belong to one router. Returns no router if the lengths differ; all but `peer.asns` may be absent.
fn from_lists(annotations: &Annotations, faults: &mut Faults) -> Vec<Router> {
    let parts = |annotation: &str| -> Vec<String> {
        let text = annotations.kube_router(annotation).unwrap_or_default().trim();
        let parts = text.split(',').filter(|_| !text.is_empty());
        parts.map(|part| part.trim().to_owned()).collect()
    };
    let ips = parts("peer.ips");
    let mut lists = [
        ("peer.asns", false),
        ("peer.ports", true),
        ("peer.passwords", true),
        ("peer.localips", true),
    ]
    .map(|(annotation, optional)| (annotation, parts(annotation), optional));
    for (annotation, list, optional) in &mut lists {
        let (len, routers) = (list.len(), ips.len());
        if len != routers && !(*optional && len == 0) {
            let why =
                format!("its length is {len}, but that of kube-router.io/peer.ips is {routers}");
            faults.add(annotation, why);
            return Vec::new();
        }
        list.resize(routers, String::new());
    }
    let [(_, asns, _), (_, ports, _), (_, passwords, _), (_, locals, _)] = &lists;
    let mut routers = Vec::new();
    let rest = asns.iter().zip(ports).zip(passwords).zip(locals);
    for (i, (addr, (((asn, port), password), local))) in ips.iter().zip(rest).enumerate() {
        add_router(
            &mut routers,
            RawPeer { addr, asn, port, local, password, bfd: None },
            i,
            "peer.ips",
            faults,
        );
    }
    routers
}

/// Parses router number `i` of an annotation and adds it. An invalid router, or a second one with the
/// same address, becomes a fault.
fn add_router(
    routers: &mut Vec<Router>,
    raw: RawPeer<'_>,
    i: usize,
    annotation: &str,
    faults: &mut Faults,
) {
    let read = Router::read(raw).map_err(|why| format!("number {}: {why}", i + 1));
    if let Some(router) = faults.record(annotation, read) {
        if routers.iter().any(|other| other.addr == router.addr) {
            faults.add(annotation, format!("number {}: {} occurs twice", i + 1, router.addr));
        } else {
            routers.push(router);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::bgp::peer::Secret;

    fn annotations(json: &Value) -> Option<Box<NodeBgp>> {
        let mut map = serde_json::Map::new();
        for (key, value) in json.as_object().unwrap() {
            map.insert(format!("kube-router.io/{key}"), value.clone());
        }
        read(&crate::api::wire::fields::parse(&Value::from(map).to_string()).unwrap())
    }

    fn faults(bgp: &NodeBgp) -> Vec<String> {
        bgp.faults.iter().map(|f| format!("{}: {}", f.annotation, f.why)).collect()
    }

    #[test]
    fn a_node_without_bgp_annotations_has_no_bgp_settings() {
        assert_eq!(annotations(&serde_json::json!({})), None);
        assert_eq!(annotations(&serde_json::json!({"node.asn": null, "peers": null})), None);
        assert_eq!(
            annotations(
                &serde_json::json!({"pod-cidr": "10.0.0.0/24", "node.bgp.communities": ","})
            ),
            None
        );
    }

    #[test]
    fn each_annotation_sets_its_own_field() {
        let got = annotations(&serde_json::json!({
            "node.asn": " 64513",
            "node.bgp.communities": "4259840101, 65000:100,no-export,no-export",
            "node.bgp.customimportreject": "10.0.0.0/16, fd00::/8 ,10.0.0.0/16",
            "path-prepend.as": "64513",
            "path-prepend.repeat-n": "3",
            "rr.server": "42",
            "rr.client": "43",
            "bgp-local-addresses": "192.0.2.11, fd00::11",
        }))
        .unwrap();
        assert_eq!(got.asn, Some(64_513));
        assert_eq!(got.communities, [4_259_840_101, 65_000 << 16 | 100, 0xffff_ff01]);
        assert_eq!(format!("{:?}", got.reject), "[10.0.0.0/16, fd00::/8]");
        assert_eq!(got.prepend, Some((64_513, 3)));
        assert_eq!(got.reflector, Some(Reflector::Server([0, 0, 0, 42].into())), "a server first");
        assert_eq!(format!("{:?}", got.addrs), "[192.0.2.11, fd00::11]");
        assert_eq!(faults(&got), [""; 0]);
        let got = annotations(&serde_json::json!({"rr.client": "198.51.100.1"})).unwrap();
        assert_eq!(got.reflector, Some(Reflector::Client([198, 51, 100, 1].into())));
    }

    #[test]
    fn routers_are_read_from_a_yaml_list_of_maps() {
        let text = "- remoteip: 192.0.2.1\n  remoteasn: 64513\n  password: czNjcmV0\n  port: 1790\n  localip: 192.0.2.11\n- {remoteip: 'fd00::1', remoteasn: 64514, bfd: {enabled: false}}\n- {remoteip: fd00::2, remoteasn: 64514, bfd: {enabled: true, desired_min_tx_interval: 300, detection_multiplier: 5}}\n";
        let got = annotations(&serde_json::json!({"peers": text, "peer.ips": "10.0.0.1"})).unwrap();
        assert_eq!(faults(&got), [""; 0]);
        let first = Router {
            addr: [192, 0, 2, 1].into(),
            asn: 64_513,
            port: 1790,
            local: Some([192, 0, 2, 11].into()),
            password: Some(Secret::new("s3cret")),
            bfd: None,
        };
        assert_eq!(got.routers[0], first);
        assert_eq!(
            (got.routers[1].addr.to_string(), got.routers[1].port),
            ("fd00::1".to_owned(), 179)
        );
        assert_eq!(got.routers[1].bfd, None);
        let bfd = crate::model::bgp::peer::Bfd {
            port: 3784,
            min_tx: 300_000,
            min_rx: 1_000_000,
            detect_mult: 5,
        };
        assert_eq!(got.routers[2].bfd, Some(bfd));
        assert_eq!(got.routers.len(), 3, "the older annotations are ignored beside it");
    }

    #[test]
    fn routers_are_read_from_the_older_parallel_lists() {
        let got = annotations(&serde_json::json!({
            "peer.ips": "192.0.2.1,192.0.2.2", "peer.asns": "64513,64514", "peer.ports": ",1790",
            "peer.passwords": ",czNjcmV0", "peer.localips": "192.0.2.11,",
        }))
        .unwrap();
        assert_eq!(faults(&got), [""; 0]);
        let word = |r: &Router| r.password.as_ref().map(|p| p.reveal().to_owned());
        let all: Vec<_> =
            got.routers.iter().map(|r| (r.asn, r.port, word(r), r.local.is_some())).collect();
        let want = [(64_513, 179, None, true), (64_514, 1790, Some("s3cret".to_owned()), false)];
        assert_eq!(all, want);
    }

    #[test]
    fn an_invalid_annotation_is_reported_without_its_password_and_alone_ignored() {
        for (json, want) in [
            (
                serde_json::json!({"node.asn": "x"}),
                "kube-router.io/node.asn: \"x\" is not an AS number",
            ),
            (
                serde_json::json!({"node.asn": "0"}),
                "kube-router.io/node.asn: \"0\" is not an AS number",
            ),
            (
                serde_json::json!({"node.bgp.communities": "65536:1"}),
                "kube-router.io/node.bgp.communities: \"65536:1\" is not a community: a number",
            ),
            (
                serde_json::json!({"node.bgp.customimportreject": "10.0.0.0"}),
                "kube-router.io/node.bgp.customimportreject: \"10.0.0.0\" is not a CIDR",
            ),
            (
                serde_json::json!({"path-prepend.as": "64513"}),
                "kube-router.io/path-prepend.as: kube-router.io/path-prepend.repeat-n is missing",
            ),
            (
                serde_json::json!({"path-prepend.as": "64513", "path-prepend.repeat-n": "256"}),
                "kube-router.io/path-prepend.repeat-n: \"256\" is not a number from 0 to 255",
            ),
            (
                serde_json::json!({"rr.client": "fd00::1"}),
                "kube-router.io/rr.client: \"fd00::1\" is not a cluster id",
            ),
            (
                serde_json::json!({"bgp-local-addresses": "0.0.0.0"}),
                "kube-router.io/bgp-local-addresses: 0.0.0.0 is not the address of a host",
            ),
            (serde_json::json!({"peers": "a: b"}), "kube-router.io/peers: it is not a list"),
            (serde_json::json!({"peers": "- [a"}), "kube-router.io/peers: line "),
            (
                serde_json::json!({"peers": "- x"}),
                "kube-router.io/peers: number 1: \"\" is not an IP address",
            ),
            (
                serde_json::json!({"peers": "- {remoteip: 192.0.2.1, remoteasn: 1, password: 's3cret'}"}),
                "kube-router.io/peers: number 1: its password is not base64",
            ),
            (
                serde_json::json!({"peer.ips": "192.0.2.1", "peer.asns": "1,2"}),
                "kube-router.io/peer.asns: its length is 2, but that of kube-router.io/peer.ips is 1",
            ),
            (
                serde_json::json!({"peer.asns": "1"}),
                "kube-router.io/peer.asns: its length is 1, but that of kube-router.io/peer.ips is 0",
            ),
        ] {
            let text = json.to_string();
            let got = annotations(&json).unwrap();
            let found = faults(&got);
            assert!(found.len() == 1 && found[0].starts_with(want), "{text}: {found:?}");
            assert!(!found[0].contains("s3cret"));
            assert_eq!(
                *got,
                NodeBgp { faults: got.faults.clone(), ..NodeBgp::default() },
                "{text}"
            );
        }
    }

    #[test]
    fn an_invalid_client_annotation_beside_a_server_one_is_reported() {
        let json = serde_json::json!({"rr.server": "42", "rr.client": "x"});
        let got = annotations(&json).unwrap();
        assert_eq!(got.reflector, Some(Reflector::Server([0, 0, 0, 42].into())));
        assert_eq!(
            faults(&got),
            [
                "kube-router.io/rr.client: \"x\" is not a cluster id: a number of 32 bits, or an IPv4 address"
            ]
        );
        let got = annotations(&serde_json::json!({"rr.server": "x", "rr.client": "43"})).unwrap();
        assert_eq!((got.reflector, got.faults.len()), (None, 1), "no client in place of a server");
    }

    #[test]
    fn valid_entries_of_a_list_are_kept_beside_invalid_ones() {
        let got = annotations(&serde_json::json!({
            "node.bgp.communities": "x,65000:1",
            "node.bgp.customimportreject": "10.0.0.0/16,y",
            "peers": "- {remoteip: 192.0.2.1, remoteasn: 64513}\n- {remoteip: 192.0.2.1, remoteasn: 2}\n- {remoteip: 192.0.2.3, remoteasn: 2, bfd: {enabled: true, port: x}}\n- {remoteip: z}\n",
        }))
        .unwrap();
        assert_eq!((got.communities.len(), got.reject.len(), got.routers.len()), (1, 1, 1));
        assert_eq!(
            faults(&got)[2..],
            [
                "kube-router.io/peers: number 2: 192.0.2.1 occurs twice",
                "kube-router.io/peers: number 3: BFD: \"x\" is not a number from 1 to 65535",
                "kube-router.io/peers: number 4: \"z\" is not an IP address",
            ]
        );
    }
}
