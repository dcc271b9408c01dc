//! One item: a thing in the kernel or on disk.

use super::{
    kinds::{Forward, LinkKind, SysctlPath, Timeout},
    next_hops::NextHops,
    service_addr::{ServiceKey, SetElement},
};
use crate::{
    collections::FlatSet,
    model::nftables::{RulesetOptions, Set},
};
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Serialize, Serializer, ser::SerializeStruct};

/// The items of one side. Items that are collected in any order go into a `Vec` first, which is
/// then sorted once.
pub type ItemSet = FlatSet<Item>;

/// The main routing table (`RT_TABLE_MAIN`, linux/rtnetlink.h).
pub const TABLE_MAIN: u32 = 254;
/// The routing table of the node's own addresses (`RT_TABLE_LOCAL`).
pub const TABLE_LOCAL: u32 = 255;
/// The dummy link that holds the virtual addresses of Services.
pub const DUMMY: &str = "kube-dummy-if";

/// A resource in the kernel or on disk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Item {
    /// A kernel module that is loaded or built in.
    Module {
        /// Module name, with underscores.
        name: Box<str>,
    },
    /// A link that exists and is up.
    Link {
        /// Interface name, 15 bytes at most.
        name: Box<str>,
        /// Device type.
        #[serde(rename = "type")]
        kind: LinkKind,
        /// MTU in bytes; `None` if the kernel chooses it.
        #[serde(skip_serializing_if = "Option::is_none")]
        mtu: Option<u32>,
    },
    /// A port of the pods' bridge in hairpin mode: packets may leave by the port that they came in
    /// by.
    Hairpin {
        /// The port's interface name.
        port: Box<str>,
    },
    /// A sysctl.
    Sysctl {
        /// Its path below /proc/sys.
        name: SysctlPath,
        /// Its value, without the newline.
        value: Box<str>,
    },
    /// Our one nftables table with its chains, rules and empty sets.
    Table {
        /// Table name in the family `inet`.
        name: Box<str>,
        /// The options that select its rules; `None` if it has other rules, which must be replaced.
        skeleton: Option<RulesetOptions>,
    },
    /// An element of a set in our table.
    Element {
        /// The set that holds it.
        set: Set,
        /// The element's key, and its mark in a map.
        value: SetElement,
    },
    /// A rule that accepts our mark, in a chain of another program that drops by its policy.
    Accept {
        /// Family, table and name of the chain, as nft writes them.
        chain: Box<str>,
    },
    /// A timeout of idle IPVS connections.
    Timeout {
        /// The connections that it applies to.
        of: Timeout,
        /// Timeout in seconds.
        seconds: u32,
    },
    /// An IPVS virtual service.
    Service {
        /// The address, protocol and port, or the mark, that identifies it.
        at: ServiceKey,
        /// Scheduler name in the kernel, as in ip_vs_rr.
        scheduler: Box<str>,
        /// Flags of the scheduler (`IP_VS_SVC_F_SCHED1`…, linux/ip_vs.h); no other flags.
        flags: u32,
        /// Session persistence in seconds; 0 disables it.
        persistence: u32,
    },
    /// A real server behind an IPVS virtual service.
    Real {
        /// The virtual service that it belongs to.
        of: ServiceKey,
        /// IP address.
        addr: IpAddr,
        /// Port number.
        port: u16,
        /// Weight; a server of weight 0 gets no new connections.
        weight: u32,
        /// Forwarding method.
        forward: Forward,
    },
    /// An address on one of our links.
    Addr {
        /// Interface name.
        link: Box<str>,
        /// The address with its prefix length.
        addr: IpNet,
    },
    /// A route. In [`TABLE_LOCAL`] its type is `local` and its link [`DUMMY`]; elsewhere it is
    /// `unicast`. The device of the next hop is the field `dev` in JSON.
    #[serde(serialize_with = "serialize_route")]
    Route {
        /// Routing table number.
        table: u32,
        /// Destination prefix.
        to: IpNet,
        /// The gateways or the device; `None` for a route in [`TABLE_LOCAL`].
        via: Option<NextHops>,
        /// Preferred source address; `None` if the kernel chooses it.
        src: Option<IpAddr>,
    },
    /// A file, which is replaced as a whole.
    File {
        /// Absolute path.
        path: Box<str>,
        /// The complete text.
        text: Box<str>,
    },
}

/// Serializes the fields of a route; a field without a value is left out.
fn serialize_route<S: Serializer>(
    table: &u32,
    dest: &IpNet,
    via: &Option<NextHops>,
    src: &Option<IpAddr>,
    to: S,
) -> Result<S::Ok, S::Error> {
    let mut route = to.serialize_struct("Item", 5)?;
    route.serialize_field("table", table)?;
    route.serialize_field("to", dest)?;
    if let Some(via) = via.as_ref().filter(|via| !via.addrs().is_empty()) {
        route.serialize_field("via", via)?;
    }
    if let Some(dev) = via.as_ref().and_then(NextHops::dev) {
        route.serialize_field("dev", dev)?;
    }
    if let Some(src) = src {
        route.serialize_field("src", src)?;
    }
    route.end()
}

/// The identity of an item. The kernel holds at most one item of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // the fields of `Item` by their names
pub enum ItemKey<'a> {
    Module { name: &'a str },
    Link { name: &'a str },
    Hairpin { port: &'a str },
    Sysctl { name: &'a SysctlPath },
    Table { name: &'a str },
    Element { set: Set, value: SetElement },
    Accept { chain: &'a str },
    Timeout { of: Timeout },
    Service { at: ServiceKey },
    Real { of: ServiceKey, addr: IpAddr, port: u16 },
    Addr { link: &'a str, addr: IpNet },
    Route { table: u32, to: IpNet },
    File { path: &'a str },
}

impl Item {
    /// Returns the fields that identify the item; the other fields can be changed in place.
    pub fn key(&self) -> ItemKey<'_> {
        match self {
            Item::Module { name } => ItemKey::Module { name },
            Item::Link { name, .. } => ItemKey::Link { name },
            Item::Hairpin { port } => ItemKey::Hairpin { port },
            Item::Sysctl { name, .. } => ItemKey::Sysctl { name },
            Item::Table { name, .. } => ItemKey::Table { name },
            Item::Element { set, value } => ItemKey::Element { set: *set, value: *value },
            Item::Accept { chain } => ItemKey::Accept { chain },
            Item::Timeout { of, .. } => ItemKey::Timeout { of: *of },
            Item::Service { at, .. } => ItemKey::Service { at: *at },
            Item::Real { of, addr, port, .. } => {
                ItemKey::Real { of: *of, addr: *addr, port: *port }
            }
            Item::Addr { link, addr } => ItemKey::Addr { link, addr: *addr },
            Item::Route { table, to, .. } => ItemKey::Route { table: *table, to: *to },
            Item::File { path, .. } => ItemKey::File { path },
        }
    }

    /// Returns true if an observed item (`self`) fulfils the desired item `want`, so that no change
    /// is needed.
    pub fn meets(&self, want: &Item) -> bool {
        // A bridge takes its MTU from its ports unless one was set.
        if let (Item::Link { name, kind, .. }, Item::Link { name: n, kind: k, mtu: None }) =
            (self, want)
        {
            return name == n && kind == k;
        }
        // IPVS replaces masquerading by local delivery if the real server is this node itself.
        if let (
            Item::Real { forward: Forward::Local, .. },
            Item::Real { forward: Forward::Masq, .. },
        ) = (self, want)
        {
            let mut masq = self.clone();
            if let Item::Real { forward, .. } = &mut masq {
                *forward = Forward::Masq;
            }
            return masq == *want;
        }
        self == want
    }
}

/// Returns the prefix that contains only this address.
pub fn host_net(addr: IpAddr) -> IpNet {
    IpNet::from(addr)
}

/// Returns true if both addresses are of the same family.
pub fn same_family(a: IpAddr, b: IpAddr) -> bool {
    a.is_ipv4() == b.is_ipv4()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::items::{BRIDGE, ItemKind, kinds::Protocol, service_addr::ServiceAddr};

    #[test]
    fn an_item_has_at_most_64_bytes() {
        assert!(size_of::<Item>() <= 64, "{}", size_of::<Item>());
    }

    #[test]
    fn items_sort_in_the_order_of_creation() {
        let at = ServiceAddr { addr: [10, 96, 0, 1].into(), protocol: Protocol::Tcp, port: 443 };
        let mut state = ItemSet::new();
        state.insert(Item::File { path: "/x".into(), text: "".into() });
        state.insert(Item::Route {
            table: TABLE_MAIN,
            to: "10.0.0.0/24".parse().unwrap(),
            via: None,
            src: None,
        });
        state.insert(Item::Service {
            at: at.into(),
            scheduler: "rr".into(),
            flags: 0,
            persistence: 0,
        });
        state.insert(Item::Link { name: DUMMY.into(), kind: LinkKind::Dummy, mtu: None });
        let kinds: Vec<_> = state
            .iter()
            .map(|i| serde_json::to_value(i).unwrap()["kind"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(kinds, ["link", "service", "route", "file"]);
    }

    #[test]
    fn ports_sort_by_number_and_then_with_ipv6_first() {
        use crate::{family::Family, model::items::SetElement};
        let element = |port, family| {
            let value = SetElement::port(port, family);
            Item::Element { set: Set::TcpPorts, value }
        };
        let order = [
            element(30080, Family::Ipv6),
            element(30080, Family::Ipv4),
            element(30081, Family::Ipv6),
        ];
        assert!(order.is_sorted(), "a plan has this order");
    }

    #[test]
    fn an_item_has_the_documented_json_form() {
        let at = ServiceAddr { addr: [10, 96, 0, 10].into(), protocol: Protocol::Tcp, port: 80 };
        let real = Item::Real {
            of: at.into(),
            addr: [10, 244, 1, 10].into(),
            port: 8080,
            weight: 1,
            forward: Forward::Masq,
        };
        assert_eq!(
            serde_json::to_string(&real).unwrap(),
            r#"{"kind":"real","of":{"addr":"10.96.0.10","protocol":"tcp","port":80},"addr":"10.244.1.10","port":8080,"weight":1,"forward":"masq"}"#
        );
        let addr = Item::Addr { link: DUMMY.into(), addr: host_net(at.addr) };
        assert_eq!(
            serde_json::to_string(&addr).unwrap(),
            r#"{"kind":"addr","link":"kube-dummy-if","addr":"10.96.0.10/32"}"#
        );
    }

    /// Defines the examples of each kind of item. It does not compile if a kind has none, because the
    /// match in `variant` is then not exhaustive.
    macro_rules! examples {
        ($($kind:ident: $($text:literal)+;)*) => {
            const EXAMPLES: &[(&str, &[&str])] = &[$((stringify!($kind), &[$($text),+])),*];

            fn variant(item: &Item) -> &'static str {
                match item {
                    $(Item::$kind { .. } => stringify!($kind),)*
                }
            }
        };
    }

    examples! {
        Module: r#"{"kind":"module","name":"ip_vs_rr"}"#;
        Link:
            r#"{"kind":"link","name":"eth0","type":"","mtu":1500}"#
            r#"{"kind":"link","name":"kube-bridge","type":"bridge"}"#
            r#"{"kind":"link","name":"kube-dummy-if","type":"dummy"}"#
            r#"{"kind":"link","name":"tun0","type":"ipip","mtu":1480}"#
            r#"{"kind":"link","name":"tun1","type":{"ipip":{"local":"192.0.2.11","remote":"192.0.2.12"}}}"#
            r#"{"kind":"link","name":"tun2","type":{"ipip":{"local":"fd77::11"}},"mtu":1460}"#;
        Hairpin: r#"{"kind":"hairpin","port":"veth0a1b2c3d"}"#;
        Sysctl: r#"{"kind":"sysctl","name":"net/ipv4/ip_forward","value":"1"}"#;
        Table:
            r#"{"kind":"table","name":"kinglet","skeleton":null}"#
            r#"{"kind":"table","name":"kinglet","skeleton":{"guard":true,"masquerade_all":false,"pod_egress":true,"same_node":false,"accept":true}}"#;
        Element:
            r#"{"kind":"element","set":"services","value":{"addr":"10.96.0.10","protocol":"tcp","port":80}}"#
            r#"{"kind":"element","set":"outside","value":{"at":{"addr":"fd77::11","protocol":"sctp","port":30080},"mark":1259995137}}"#
            r#"{"kind":"element","set":"ranges","value":{"at":{"addr":"203.0.113.9","protocol":"udp","port":53},"from":"10.0.0.0/8"}}"#
            r#"{"kind":"element","set":"tcp-ports","value":{"port":30080,"ipv4":false}}"#
            r#"{"kind":"element","set":"vips","value":"10.96.0.10"}"#
            r#"{"kind":"element","set":"pod-nets","value":"fd44::/64"}"#;
        Accept: r#"{"kind":"accept","chain":"ip6 filter FORWARD"}"#;
        Timeout:
            r#"{"kind":"timeout","of":"tcp","seconds":900}"#
            r#"{"kind":"timeout","of":"tcpfin","seconds":120}"#
            r#"{"kind":"timeout","of":"udp","seconds":300}"#;
        Service:
            r#"{"kind":"service","at":{"addr":"10.96.0.10","protocol":"tcp","port":80},"scheduler":"mh","flags":24,"persistence":600}"#
            r#"{"kind":"service","at":{"mark":1259995137,"ipv4":true},"scheduler":"rr","flags":0,"persistence":0}"#;
        Real:
            r#"{"kind":"real","of":{"addr":"fd96::10","protocol":"sctp","port":80},"addr":"fd44::1","port":8080,"weight":0,"forward":"tunnel"}"#
            r#"{"kind":"real","of":{"mark":1259995137,"ipv4":false},"addr":"fd44::1","port":8080,"weight":1,"forward":"local"}"#;
        Addr: r#"{"kind":"addr","link":"kube-dummy-if","addr":"10.96.0.10/32"}"#;
        Route:
            r#"{"kind":"route","table":254,"to":"10.244.2.0/24","via":"192.0.2.12"}"#
            r#"{"kind":"route","table":254,"to":"10.244.2.0/24","via":["192.0.2.12","192.0.2.13"]}"#
            r#"{"kind":"route","table":254,"to":"10.244.2.0/24","dev":"kube-ipip"}"#
            r#"{"kind":"route","table":254,"to":"10.244.2.0/24","via":"192.0.2.12","dev":"kube-ipip","src":"10.244.0.1"}"#
            r#"{"kind":"route","table":255,"to":"10.96.0.10/32","src":"192.0.2.11"}"#;
        File: r#"{"kind":"file","path":"/etc/cni/net.d/10-kuberouter.conflist","text":"{\"plugins\":[]}\n"}"#;
    }

    #[test]
    fn every_kind_of_item_survives_a_json_round_trip() {
        let mut items = Vec::new();
        for (kind, texts) in EXAMPLES {
            for text in *texts {
                let item: Item = serde_json::from_str(text).unwrap();
                assert_eq!(variant(&item), *kind, "{text}");
                assert_eq!(serde_json::to_string(&item).unwrap(), *text);
                assert!(
                    text.starts_with(&format!(r#"{{"kind":"{}","#, item.info().name)),
                    "{text}"
                );
                items.push(item);
            }
        }
        let distinct: ItemSet = items.iter().cloned().collect();
        assert_eq!(distinct.len(), items.len(), "every example is read as an item of its own");
        let mut kinds: Vec<ItemKind> = distinct.iter().map(Item::kind).collect();
        kinds.dedup();
        assert_eq!(kinds, ItemKind::ALL, "the kinds sort as their items do");
    }

    fn real(weight: u32, forward: Forward) -> Item {
        let at = ServiceAddr { addr: [10, 96, 0, 10].into(), protocol: Protocol::Tcp, port: 80 };
        Item::Real { of: at.into(), addr: [192, 0, 2, 11].into(), port: 8080, weight, forward }
    }

    #[test]
    fn a_real_server_with_local_delivery_meets_one_with_masquerading_and_the_same_weight() {
        use Forward::{Bypass, Local, Masq, Route, Tunnel};
        assert!(real(1, Local).meets(&real(1, Masq)));
        assert!(!real(0, Local).meets(&real(1, Masq)), "another weight");
        assert!(!real(1, Masq).meets(&real(1, Local)), "only the observed side may be local");
        for forward in [Tunnel, Route, Bypass] {
            assert!(!real(1, forward).meets(&real(1, Masq)), "{forward:?}");
            assert!(!real(1, Local).meets(&real(1, forward)), "{forward:?}");
        }
        for forward in [Masq, Local, Tunnel, Route, Bypass] {
            assert!(real(1, forward).meets(&real(1, forward)), "{forward:?}");
        }
    }

    #[test]
    fn a_link_meets_a_desired_one_without_an_mtu_whatever_its_own_is() {
        let link = |name: &str, kind, mtu| Item::Link { name: name.into(), kind, mtu };
        let (bridge, dummy) = (|| LinkKind::Bridge, || LinkKind::Dummy);
        for mtu in [None, Some(1450)] {
            assert!(link(BRIDGE, bridge(), mtu).meets(&link(BRIDGE, bridge(), None)), "{mtu:?}");
            assert!(!link(BRIDGE, dummy(), mtu).meets(&link(BRIDGE, bridge(), None)), "{mtu:?}");
            assert!(!link(DUMMY, bridge(), mtu).meets(&link(BRIDGE, bridge(), None)), "{mtu:?}");
            assert!(!link(BRIDGE, bridge(), mtu).meets(&link(BRIDGE, bridge(), Some(1500))));
        }
        assert!(link(BRIDGE, bridge(), Some(1500)).meets(&link(BRIDGE, bridge(), Some(1500))));
    }
}
