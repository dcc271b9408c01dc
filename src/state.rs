//! The words for both sides: what a node's kernel should hold, and what it does hold.
//!
//! A [`State`] is a sorted set of flat [`Item`]s. The order of the variants is the order of making
//! (a route needs its link, a virtual address its service); its reverse is the order of taking away.
//! The fields that make an item's identity come first, so that sorted items are sorted by [`Key`].

mod flow;
mod have;
mod kinds;
mod place;
mod read;
mod via;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::Serialize;

pub use crate::ruleset::BRIDGE;
use crate::{
    few::Sorted,
    ruleset::{Set, Skeleton},
};
pub use flow::{Busy, Flow};
pub use have::{Have, Seen};
pub use kinds::{Forward, Knob, LinkKind, Protocol, Timeout, iptables};
pub use place::{At, RealKey, Value, Virtual, is_our_mark, our_mark};
pub use via::Via;

/// All that one side holds of ours: what is gathered in any order is a list first, which is sorted once.
pub type State = Sorted<Item>;

/// The main routing table (`RT_TABLE_MAIN`, linux/rtnetlink.h).
pub const TABLE_MAIN: u32 = 254;
/// The table of the node's own addresses (`RT_TABLE_LOCAL`).
pub const TABLE_LOCAL: u32 = 255;
/// The dummy link that holds the virtual addresses of Services.
pub const DUMMY: &str = "kube-dummy-if";

/// One thing in the kernel or on disk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Item {
    /// A kernel module that is loaded or built in.
    Module {
        /// Its name, with underscores.
        name: Box<str>,
    },
    /// A link that exists and is up.
    Link {
        /// Interface name, 15 bytes at most.
        name: Box<str>,
        /// What kind of device it is.
        #[serde(rename = "type")]
        kind: LinkKind,
        /// In bytes; `None` where it is the kernel's own choice.
        #[serde(skip_serializing_if = "Option::is_none")]
        mtu: Option<u32>,
    },
    /// A port of the pods' bridge by which packets may leave that came in by it.
    Hairpin {
        /// The port's interface name.
        port: Box<str>,
    },
    /// A kernel setting under /proc/sys.
    Sysctl {
        /// Its path there.
        name: Knob,
        /// As it is written and read, without the newline.
        value: Box<str>,
    },
    /// Our one nftables table with its chains, rules and empty sets.
    Table {
        /// Its name in the family `inet`.
        name: Box<str>,
        /// Which rules it has; `None`: others, which are to be replaced.
        skeleton: Option<Skeleton>,
    },
    /// An element of a set in our table.
    Element {
        /// The set that holds it.
        set: Set,
        /// What is in it.
        value: Value,
    },
    /// A rule in a chain of another program that drops by its policy: it accepts what ours marks.
    Accept {
        /// Family, table and name of the chain, as nft writes them.
        chain: Box<str>,
    },
    /// For how long IPVS remembers connections on which nothing happens.
    Timeout {
        /// Which of them.
        of: Timeout,
        /// In seconds.
        seconds: u32,
    },
    /// An IPVS virtual service.
    Service {
        /// Where it listens.
        at: At,
        /// The kernel's name of the scheduler, as in ip_vs_rr.
        scheduler: Box<str>,
        /// The scheduler's flags (`IP_VS_SVC_F_SCHED1`…, linux/ip_vs.h) and no others.
        flags: u32,
        /// Seconds for which a client stays with its real server; 0: it does not.
        persistence: u32,
    },
    /// A real server behind an IPVS virtual service.
    Real {
        /// The service that it stands behind.
        of: At,
        /// Its address.
        addr: IpAddr,
        /// Its port.
        port: u16,
        /// 0 gets no new connections.
        weight: u32,
        /// How packets reach it.
        forward: Forward,
    },
    /// An address on one of our links.
    Addr {
        /// The link's name.
        link: Box<str>,
        /// The address with its prefix length.
        addr: IpNet,
    },
    /// A route. In [`TABLE_LOCAL`] its type is `local` and its link [`DUMMY`]; elsewhere it is `unicast`,
    /// and the kernel finds the link from the gateway.
    Route {
        /// Routing table number.
        table: u32,
        /// Where it leads.
        to: IpNet,
        /// The gateway, or several of them.
        #[serde(skip_serializing_if = "Option::is_none")]
        via: Option<Via>,
        /// The source address that it prefers.
        #[serde(skip_serializing_if = "Option::is_none")]
        src: Option<IpAddr>,
    },
    /// A file that is written whole.
    File {
        /// Absolute path.
        path: Box<str>,
        /// All of its text.
        text: Box<str>,
    },
}

/// What the kernel takes for "the same thing".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // the fields of `Item` by their names
pub enum Key<'a> {
    Module { name: &'a str },
    Link { name: &'a str },
    Hairpin { port: &'a str },
    Sysctl { name: &'a Knob },
    Table { name: &'a str },
    Element { set: Set, value: Value },
    Accept { chain: &'a str },
    Timeout { of: Timeout },
    Service { at: At },
    Real { of: At, addr: IpAddr, port: u16 },
    Addr { link: &'a str, addr: IpNet },
    Route { table: u32, to: IpNet },
    File { path: &'a str },
}

impl Item {
    /// The fields that make its identity; the others can be changed in place.
    pub fn key(&self) -> Key<'_> {
        match self {
            Item::Module { name } => Key::Module { name },
            Item::Link { name, .. } => Key::Link { name },
            Item::Hairpin { port } => Key::Hairpin { port },
            Item::Sysctl { name, .. } => Key::Sysctl { name },
            Item::Table { name, .. } => Key::Table { name },
            Item::Element { set, value } => Key::Element { set: *set, value: *value },
            Item::Accept { chain } => Key::Accept { chain },
            Item::Timeout { of, .. } => Key::Timeout { of: *of },
            Item::Service { at, .. } => Key::Service { at: *at },
            Item::Real { of, addr, port, .. } => Key::Real { of: *of, addr: *addr, port: *port },
            Item::Addr { link, addr } => Key::Addr { link, addr: *addr },
            Item::Route { table, to, .. } => Key::Route { table: *table, to: *to },
            Item::File { path, .. } => Key::File { path },
        }
    }

    /// Whether what the kernel holds (`self`) is all that `want` asks for.
    pub fn meets(&self, want: &Item) -> bool {
        match (self, want) {
            // A bridge takes its MTU from its ports where nobody chose one.
            (Item::Link { name, kind, .. }, Item::Link { name: n, kind: k, mtu: None }) => {
                name == n && kind == k
            }
            // IPVS turns masquerading into local delivery where the real is this node itself.
            (
                Item::Real { forward: Forward::Local, .. },
                Item::Real { forward: Forward::Masq, .. },
            ) => {
                let mut masq = self.clone();
                if let Item::Real { forward, .. } = &mut masq {
                    *forward = Forward::Masq;
                }
                masq == *want
            }
            _ => self == want,
        }
    }
}

/// The prefix that holds just this address.
pub fn host_net(addr: IpAddr) -> IpNet {
    IpNet::from(addr)
}

/// Whether both are of one family.
pub fn same_family(a: IpAddr, b: IpAddr) -> bool {
    a.is_ipv4() == b.is_ipv4()
}

/// An address from its bytes in network order: 4 or 16 of them.
pub fn addr_from_bytes(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
        _ => None,
    }
}

/// An address as bytes in network order.
pub fn addr_to_bytes(addr: IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_small_for_there_are_very_many() {
        assert!(size_of::<Item>() <= 64, "{}", size_of::<Item>());
    }

    #[test]
    fn items_sort_in_the_order_of_making() {
        let at = Virtual { addr: [10, 96, 0, 1].into(), protocol: Protocol::Tcp, port: 443 };
        let mut state = State::new();
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
    fn an_item_reads_as_the_contract_of_the_json_plan_says() {
        let at = Virtual { addr: [10, 96, 0, 10].into(), protocol: Protocol::Tcp, port: 80 };
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

    #[test]
    fn every_item_survives_json() {
        for text in [
            r#"{"kind":"link","name":"eth0","type":"","mtu":1500}"#,
            r#"{"kind":"link","name":"kube-bridge","type":"bridge"}"#,
            r#"{"kind":"route","table":254,"to":"10.244.2.0/24","via":"192.0.2.12"}"#,
            r#"{"kind":"route","table":254,"to":"10.244.2.0/24","via":["192.0.2.12","192.0.2.13"]}"#,
            r#"{"kind":"hairpin","port":"veth0a1b2c3d"}"#,
            r#"{"kind":"sysctl","name":"net/ipv4/ip_forward","value":"1"}"#,
            r#"{"kind":"accept","chain":"ip6 filter FORWARD"}"#,
            r#"{"kind":"timeout","of":"tcpfin","seconds":120}"#,
        ] {
            let item: Item = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&item).unwrap(), text);
        }
    }
}
