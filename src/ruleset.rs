//! Our one nftables table as data: sets, chains and rules.
//!
//! `kernel` encodes it for netlink, `plan --format sh` prints it for nft, and both say the same. All
//! that depends on a Service is an element of a set, so that a packet costs the same with one Service
//! and with thousands, and a change of one Service is a change of its elements.
//!
//! A packet to a virtual address meets `drops` and `marks` before routing, the guard on its way in
//! (before IPVS, which works at the end of `input`), and the masquerade on its way out, where conntrack
//! still knows where it was sent to at first.

use std::fmt::{self, Write};

use serde::{Deserialize, Serialize};

/// Our one nftables table, in the family `inet`.
pub const NFT_TABLE: &str = "kinglet";

/// Which rules the table has in the end. Two equal ones make the same table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Skeleton {
    /// Virtual addresses are closed but for the ports of Services (`--ipvs-permit-all`).
    pub guard: bool,
    /// All that comes through a Service is masqueraded (`--masquerade-all`).
    pub masquerade_all: bool,
    /// What pods send out of the cluster is masqueraded (`--enable-pod-egress`).
    pub pod_egress: bool,
    /// So is what a pod sends to another of this node through a Service, where the bridge does not
    /// show its packets to netfilter and the answer would not pass IPVS.
    pub same_node: bool,
}

/// The sets of the table `inet kinglet`. Each is a pair, one for IPv4 and one for IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Set {
    /// Where a Service of ours listens, and so which IPVS services are ours: written before a service
    /// is made, pruned after it is gone.
    Services,
    /// The virtual addresses on the dummy link.
    Vips,
    /// Services with a Local policy and endpoints elsewhere only.
    Drop,
    /// The same, for the outside alone.
    DropOutside,
    /// Services that have other endpoints for the outside than for the cluster: their marks.
    Outside,
    /// Services that not everybody may ask.
    Restricted,
    /// Who may ask those.
    Ranges,
    /// Endpoints of this node: what reaches itself through a Service.
    Loops,
    /// The pod networks of this node.
    OwnPods,
    /// The pod networks of all nodes.
    PodNets,
    /// The addresses of all nodes.
    NodeIps,
}

impl Set {
    /// All of them.
    pub const ALL: [Set; 11] = [
        Set::Services,
        Set::Vips,
        Set::Drop,
        Set::DropOutside,
        Set::Outside,
        Set::Restricted,
        Set::Ranges,
        Set::Loops,
        Set::OwnPods,
        Set::PodNets,
        Set::NodeIps,
    ];

    /// Each with each family (`true`: IPv4).
    pub fn each() -> impl Iterator<Item = (Set, bool)> {
        Set::ALL.into_iter().flat_map(|set| [(set, true), (set, false)])
    }

    /// Its name in the kernel.
    pub fn name(self, ipv4: bool) -> String {
        format!("{}{}", self.as_str(), if ipv4 { 4 } else { 6 })
    }

    /// Its name, without the family.
    pub fn as_str(self) -> &'static str {
        match self {
            Set::Services => "services",
            Set::Vips => "vips",
            Set::Drop => "drop",
            Set::DropOutside => "drop-outside",
            Set::Outside => "outside",
            Set::Restricted => "restricted",
            Set::Ranges => "ranges",
            Set::Loops => "loops",
            Set::OwnPods => "own-pods",
            Set::PodNets => "pod-nets",
            Set::NodeIps => "node-ips",
        }
    }

    /// What its keys are made of.
    pub fn key(self) -> &'static [Part] {
        use Part::{Addr, Port, Protocol};
        match self {
            Set::Ranges => &[Addr, Protocol, Port, Addr],
            Set::Loops => &[Addr, Addr],
            Set::Vips | Set::OwnPods | Set::PodNets | Set::NodeIps => &[Addr],
            _ => &[Addr, Protocol, Port],
        }
    }

    /// Whether its keys may be whole networks.
    pub fn is_interval(self) -> bool {
        matches!(self, Set::Ranges | Set::OwnPods | Set::PodNets)
    }

    /// Whether its elements have a mark.
    pub fn is_map(self) -> bool {
        self == Set::Outside
    }

    fn noun(self) -> &'static str {
        if self.is_map() { "map" } else { "set" }
    }

    /// Its type and flags, in nft's own language.
    fn declaration(self, ipv4: bool) -> String {
        let name = |part: &Part| match (part, ipv4) {
            (Part::Addr, true) => "ipv4_addr",
            (Part::Addr, false) => "ipv6_addr",
            (Part::Protocol, _) => "inet_proto",
            (Part::Port, _) => "inet_service",
        };
        let key: Vec<&str> = self.key().iter().map(name).collect();
        let data = if self.is_map() { " : mark" } else { "" };
        let flags = if self.is_interval() { " flags interval;" } else { "" };
        format!("type {}{data};{flags}", key.join(" . "))
    }
}

/// A part of a set's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// 4 or 16 bytes.
    Addr,
    /// One byte.
    Protocol,
    /// Two bytes, big endian.
    Port,
}

/// A chain that hangs on a hook of netfilter; its policy is accept.
#[derive(Clone, Debug, PartialEq)]
pub struct Chain {
    /// Its name.
    pub name: &'static str,
    /// `filter`, or `nat`.
    pub kind: &'static str,
    /// Where it hangs.
    pub hook: Hook,
    /// What comes first: the lower one.
    pub priority: i32,
    /// In order.
    pub rules: Vec<Rule>,
}

/// The hooks that are used (`NF_INET_*`, linux/netfilter.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Hook {
    Prerouting = 0,
    Input = 1,
    Output = 3,
    Postrouting = 4,
}

/// If all of the tests hold, the verdict falls.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Packets of which family it is for.
    pub ipv4: bool,
    /// All must hold.
    pub tests: Vec<Test>,
    /// What happens then.
    pub verdict: Verdict,
}

/// Something about a packet.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// Fields of the packet are (not) an element of a set.
    In(Fields, Set, bool),
    /// It is of the family's ICMP.
    Icmp,
    /// Its source address is (not) one of this node's own (`fib saddr type local`).
    FromThisNode(bool),
}

/// Fields that are looked up together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fields {
    /// Destination address, protocol and port.
    Destination,
    /// The same as conntrack first saw them, before any translation.
    FirstDestination,
    /// Destination, protocol, port, and the source address.
    DestinationAndSource,
    /// The destination address.
    To,
    /// The source address.
    From,
    /// Source and destination address.
    FromTo,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on, past the rest of this chain.
    Accept,
    /// Nobody hears of it again.
    Drop,
    /// Its sender is told: ICMP port unreachable.
    Reject,
    /// It leaves with this node's address.
    Masquerade,
    /// It gets the mark that a map has for its destination.
    Mark(Set),
}

/// Priorities of netfilter's own: mangle, filter, srcnat.
const MANGLE: i32 = -150;
const FILTER: i32 = 0;
const SRCNAT: i32 = 100;

/// The chains of a table.
pub fn chains(skeleton: Skeleton) -> Vec<Chain> {
    let both = |rules: &dyn Fn(bool) -> Vec<Rule>| [rules(true), rules(false)].concat();
    let mut chains = vec![
        Chain {
            name: "before-routing",
            kind: "filter",
            hook: Hook::Prerouting,
            priority: MANGLE,
            rules: both(&before_routing),
        },
        Chain {
            name: "before-output",
            kind: "filter",
            hook: Hook::Output,
            priority: MANGLE,
            rules: both(&|ipv4| {
                vec![rule(ipv4, [is(Fields::Destination, Set::Drop)], Verdict::Drop)]
            }),
        },
    ];
    if skeleton.guard {
        chains.push(Chain {
            name: "guard",
            kind: "filter",
            hook: Hook::Input,
            priority: FILTER,
            rules: both(&guard),
        });
    }
    chains.push(Chain {
        name: "masquerade",
        kind: "nat",
        hook: Hook::Postrouting,
        priority: SRCNAT,
        rules: both(&|ipv4| masquerade(ipv4, skeleton)),
    });
    chains
}

fn rule(ipv4: bool, tests: impl IntoIterator<Item = Test>, verdict: Verdict) -> Rule {
    Rule { ipv4, tests: tests.into_iter().collect(), verdict }
}

fn is(fields: Fields, set: Set) -> Test {
    Test::In(fields, set, true)
}

fn is_not(fields: Fields, set: Set) -> Test {
    Test::In(fields, set, false)
}

/// From pods and from outside: what this node itself sends does not pass here.
fn before_routing(ipv4: bool) -> Vec<Rule> {
    use Fields::{Destination, DestinationAndSource, From};
    let outside = || is_not(From, Set::PodNets);
    vec![
        rule(ipv4, [is(Destination, Set::Drop)], Verdict::Drop),
        rule(ipv4, [outside(), is(Destination, Set::DropOutside)], Verdict::Drop),
        rule(
            ipv4,
            [is(Destination, Set::Restricted), is_not(DestinationAndSource, Set::Ranges)],
            Verdict::Drop,
        ),
        // IPVS looks for a service by its mark first: that one has the endpoints of this node only.
        rule(ipv4, [outside()], Verdict::Mark(Set::Outside)),
    ]
}

fn guard(ipv4: bool) -> Vec<Rule> {
    use Fields::{Destination, To};
    vec![
        rule(ipv4, [is(Destination, Set::Services)], Verdict::Accept),
        // Errors that keep a path working, and ping.
        rule(ipv4, [is(To, Set::Vips), Test::Icmp], Verdict::Accept),
        rule(ipv4, [is(To, Set::Vips)], Verdict::Reject),
    ]
}

fn masquerade(ipv4: bool, skeleton: Skeleton) -> Vec<Rule> {
    use Fields::{FirstDestination, From, FromTo, To};
    let service = || is(FirstDestination, Set::Services);
    let mut rules = Vec::new();
    if skeleton.masquerade_all {
        rules.push(rule(ipv4, [service(), Test::FromThisNode(false)], Verdict::Masquerade));
    }
    // A pod that reaches itself would answer itself.
    rules.push(rule(ipv4, [is(FromTo, Set::Loops), service()], Verdict::Masquerade));
    if skeleton.same_node {
        let tests = [is(From, Set::OwnPods), is(To, Set::OwnPods), service()];
        rules.push(rule(ipv4, tests, Verdict::Masquerade));
    }
    // Neither from here nor to here: the answer would not come back this way.
    rules.push(rule(
        ipv4,
        [
            is_not(From, Set::OwnPods),
            is_not(To, Set::OwnPods),
            Test::FromThisNode(false),
            service(),
        ],
        Verdict::Masquerade,
    ));
    if skeleton.pod_egress {
        rules.push(rule(
            ipv4,
            [is(From, Set::OwnPods), is_not(To, Set::PodNets), is_not(To, Set::NodeIps)],
            Verdict::Masquerade,
        ));
    }
    rules
}

/// The table in nft's own language, as one transaction; the elements of its sets stay.
pub fn script(skeleton: Skeleton) -> String {
    let mut text = format!("add table inet {NFT_TABLE}\n");
    for (set, ipv4) in Set::each() {
        let _ = writeln!(
            text,
            "add {} inet {NFT_TABLE} {} {{ {} }}",
            set.noun(),
            set.name(ipv4),
            set.declaration(ipv4)
        );
    }
    for chain in chains(Skeleton { guard: true, ..skeleton }) {
        let Chain { name, kind, hook, priority, .. } = chain;
        let hook = format!("{hook:?}").to_lowercase();
        let _ = writeln!(
            text,
            "add chain inet {NFT_TABLE} {name} {{ type {kind} hook {hook} priority {priority}; }}\n\
             flush chain inet {NFT_TABLE} {name}"
        );
    }
    for chain in chains(skeleton) {
        for rule in chain.rules {
            let _ = writeln!(text, "add rule inet {NFT_TABLE} {} {rule}", chain.name);
        }
    }
    text
}

impl fmt::Display for Rule {
    /// In nft's own language.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ip, icmp) = if self.ipv4 { ("ip", "icmp") } else { ("ip6", "ipv6-icmp") };
        write!(f, "meta nfproto ipv{}", if self.ipv4 { 4 } else { 6 })?;
        let fields = |fields: Fields| fields.text(ip);
        for test in &self.tests {
            match test {
                Test::In(what, set, yes) => {
                    let not = if *yes { "" } else { "!= " };
                    write!(f, " {} {not}@{}", fields(*what), set.name(self.ipv4))?;
                }
                Test::Icmp => write!(f, " meta l4proto {icmp}")?,
                Test::FromThisNode(true) => write!(f, " fib saddr type local")?,
                Test::FromThisNode(false) => write!(f, " fib saddr type != local")?,
            }
        }
        match self.verdict {
            Verdict::Accept => write!(f, " accept"),
            Verdict::Drop => write!(f, " drop"),
            Verdict::Reject => write!(f, " reject with icmpx port-unreachable"),
            Verdict::Masquerade => write!(f, " masquerade fully-random"),
            Verdict::Mark(map) => write!(
                f,
                " meta mark set {} map @{}",
                fields(Fields::Destination),
                map.name(self.ipv4)
            ),
        }
    }
}

impl Fields {
    fn text(self, ip: &str) -> String {
        match self {
            Fields::Destination => format!("{ip} daddr . meta l4proto . th dport"),
            Fields::FirstDestination => {
                format!("ct original {ip} daddr . ct original protocol . ct original proto-dst")
            }
            Fields::DestinationAndSource => {
                format!("{ip} daddr . meta l4proto . th dport . {ip} saddr")
            }
            Fields::To => format!("{ip} daddr"),
            Fields::From => format!("{ip} saddr"),
            Fields::FromTo => format!("{ip} saddr . {ip} daddr"),
        }
    }
}
