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
    /// Services without any endpoint.
    Reject,
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
    /// The TCP ports at which Services are served at this node's own addresses.
    TcpPorts,
    /// The same of UDP.
    UdpPorts,
    /// The same of SCTP.
    SctpPorts,
}

impl Set {
    /// All of them.
    pub const ALL: [Set; 15] = [
        Set::Services,
        Set::Vips,
        Set::Reject,
        Set::Drop,
        Set::DropOutside,
        Set::Outside,
        Set::Restricted,
        Set::Ranges,
        Set::Loops,
        Set::OwnPods,
        Set::PodNets,
        Set::NodeIps,
        Set::TcpPorts,
        Set::UdpPorts,
        Set::SctpPorts,
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
            Set::Reject => "reject",
            Set::Drop => "drop",
            Set::DropOutside => "drop-outside",
            Set::Outside => "outside",
            Set::Restricted => "restricted",
            Set::Ranges => "ranges",
            Set::Loops => "loops",
            Set::OwnPods => "own-pods",
            Set::PodNets => "pod-nets",
            Set::NodeIps => "node-ips",
            Set::TcpPorts => "tcp-ports",
            Set::UdpPorts => "udp-ports",
            Set::SctpPorts => "sctp-ports",
        }
    }

    /// What its keys are made of.
    pub fn key(self) -> &'static [Part] {
        use Part::{Addr, Port, Protocol};
        match self {
            Set::Ranges => &[Addr, Protocol, Port, Addr],
            Set::Loops => &[Addr, Addr],
            Set::TcpPorts | Set::UdpPorts | Set::SctpPorts => &[Port],
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

/// A chain; where it hangs on a hook of netfilter, its policy is accept.
#[derive(Clone, Debug, PartialEq)]
pub struct Chain {
    /// Its name.
    pub name: &'static str,
    /// Where it hangs; `None`: other chains lead there.
    pub base: Option<Base>,
    /// In order.
    pub rules: Vec<Rule>,
}

/// Where a chain hangs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Base {
    /// `filter`, or `nat`.
    pub kind: &'static str,
    /// On which hook.
    pub hook: Hook,
    /// What comes first: the lower one.
    pub priority: i32,
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
    /// It is of a protocol, by its number in the IP header.
    Protocol(u8),
    /// Its connection is new to conntrack.
    New,
    /// Its source address is (not) one of this node's own (`fib saddr type local`).
    FromThisNode(bool),
}

/// Fields that are looked up together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fields {
    /// Destination address, protocol and port.
    Destination,
    /// The destination address as conntrack first saw it, before any translation.
    FirstTo,
    /// The destination port as conntrack first saw it.
    FirstPort,
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
    /// Its sender is told: TCP reset. An ICMP error that comes back while `connect` still holds its
    /// socket, as from the same machine, is only heeded with the next try, a second later.
    Reset,
    /// It leaves with this node's address.
    Masquerade,
    /// It gets the mark that a map has for its destination.
    Mark(Set),
    /// It goes through another chain and comes back.
    Jump(&'static str),
}

/// Priorities of netfilter's own: mangle, filter, srcnat.
const MANGLE: i32 = -150;
const FILTER: i32 = 0;
const SRCNAT: i32 = 100;

/// The chains of a table.
pub fn chains(skeleton: Skeleton) -> Vec<Chain> {
    let both = |rules: &dyn Fn(bool) -> Vec<Rule>| [rules(true), rules(false)].concat();
    let base = |kind, hook, priority| Some(Base { kind, hook, priority });
    let output = |ipv4| {
        let drop = rule(ipv4, [is(Fields::Destination, Set::Drop)], Verdict::Drop);
        vec![drop, unserved(ipv4)]
    };
    let mut chains = vec![
        Chain {
            name: "before-routing",
            base: base("filter", Hook::Prerouting, MANGLE),
            rules: both(&before_routing),
        },
        Chain {
            name: "before-output",
            base: base("filter", Hook::Output, MANGLE),
            rules: both(&output),
        },
    ];
    let input = |ipv4| {
        let mut rules = vec![unserved(ipv4)];
        rules.extend(skeleton.guard.then(|| guard(ipv4)).into_iter().flatten());
        rules
    };
    let hook = base("filter", Hook::Input, FILTER);
    chains.push(Chain { name: "input", base: hook, rules: both(&input) });
    let through = both(&|ipv4| through_service(ipv4, skeleton));
    chains.push(Chain { name: THROUGH, base: None, rules: through });
    chains.push(Chain {
        name: "after-routing",
        base: base("nat", Hook::Postrouting, SRCNAT),
        rules: both(&|ipv4| after_routing(ipv4, skeleton)),
    });
    chains
}

/// The chain for what came through a Service.
const THROUGH: &str = "through-service";

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

/// IPVS rejects what has no endpoint by itself, with ICMP.
fn unserved(ipv4: bool) -> Rule {
    let tests = [is(Fields::Destination, Set::Reject), Test::Protocol(TCP), Test::New];
    rule(ipv4, tests, Verdict::Reset)
}

const TCP: u8 = 6;

fn guard(ipv4: bool) -> Vec<Rule> {
    use Fields::{Destination, To};
    vec![
        rule(ipv4, [is(Destination, Set::Services)], Verdict::Accept),
        // Errors that keep a path working, and ping.
        rule(ipv4, [is(To, Set::Vips), Test::Protocol(if ipv4 { 1 } else { 58 })], Verdict::Accept),
        rule(ipv4, [is(To, Set::Vips), Test::Protocol(TCP)], Verdict::Reset),
        rule(ipv4, [is(To, Set::Vips)], Verdict::Reject),
    ]
}

fn through_service(ipv4: bool, skeleton: Skeleton) -> Vec<Rule> {
    use Fields::{From, FromTo, To};
    let mut rules = Vec::new();
    if skeleton.masquerade_all {
        rules.push(rule(ipv4, [Test::FromThisNode(false)], Verdict::Masquerade));
    }
    // A pod that reaches itself would answer itself.
    rules.push(rule(ipv4, [is(FromTo, Set::Loops)], Verdict::Masquerade));
    if skeleton.same_node {
        let tests = [is(From, Set::OwnPods), is(To, Set::OwnPods)];
        rules.push(rule(ipv4, tests, Verdict::Masquerade));
    }
    // Neither from here nor to here: the answer would not come back this way.
    let elsewhere =
        [is_not(From, Set::OwnPods), is_not(To, Set::OwnPods), Test::FromThisNode(false)];
    rules.push(rule(ipv4, elsewhere, Verdict::Masquerade));
    rules
}

/// What conntrack first saw on its way to a virtual address, or to a port of a Service at an address
/// of a node, came through a Service.
fn after_routing(ipv4: bool, skeleton: Skeleton) -> Vec<Rule> {
    use Fields::{FirstPort, FirstTo, From, To};
    let through = Verdict::Jump(THROUGH);
    let mut rules = vec![rule(ipv4, [is(FirstTo, Set::Vips)], through)];
    for (protocol, ports) in [(TCP, Set::TcpPorts), (17, Set::UdpPorts), (132, Set::SctpPorts)] {
        let tests = [is(FirstTo, Set::NodeIps), Test::Protocol(protocol), is(FirstPort, ports)];
        rules.push(rule(ipv4, tests, through));
    }
    if skeleton.pod_egress {
        let out = [is(From, Set::OwnPods), is_not(To, Set::PodNets), is_not(To, Set::NodeIps)];
        rules.push(rule(ipv4, out, Verdict::Masquerade));
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
    for Chain { name, base, .. } in chains(skeleton) {
        let hung = base.map_or(String::new(), |Base { kind, hook, priority }| {
            let hook = format!("{hook:?}").to_lowercase();
            format!(" {{ type {kind} hook {hook} priority {priority}; }}")
        });
        let _ = writeln!(text, "add chain inet {NFT_TABLE} {name}{hung}");
        let _ = writeln!(text, "flush chain inet {NFT_TABLE} {name}");
    }
    for chain in chains(skeleton) {
        for rule in chain.rules {
            let (name, mark) = (chain.name, rule.fingerprint());
            let _ = writeln!(text, "add rule inet {NFT_TABLE} {name} {rule} comment \"{mark}\"");
        }
    }
    text
}

impl Rule {
    /// What it carries as its comment, and what it is known by: FNV-1a over its own words.
    pub fn fingerprint(&self) -> String {
        let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        format!("kinglet {:08x}", self.to_string().bytes().fold(0x811c_9dc5, step))
    }
}

impl fmt::Display for Rule {
    /// In nft's own language.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ip = if self.ipv4 { "ip" } else { "ip6" };
        write!(f, "meta nfproto ipv{}", if self.ipv4 { 4 } else { 6 })?;
        let fields = |fields: Fields| fields.text(ip);
        for test in &self.tests {
            match test {
                Test::In(what, set, yes) => {
                    let not = if *yes { "" } else { "!= " };
                    write!(f, " {} {not}@{}", fields(*what), set.name(self.ipv4))?;
                }
                Test::Protocol(number) => write!(f, " meta l4proto {number}")?,
                Test::New => write!(f, " ct state new")?,
                Test::FromThisNode(true) => write!(f, " fib saddr type local")?,
                Test::FromThisNode(false) => write!(f, " fib saddr type != local")?,
            }
        }
        match self.verdict {
            Verdict::Accept => write!(f, " accept"),
            Verdict::Drop => write!(f, " drop"),
            Verdict::Reject => write!(f, " reject with icmpx port-unreachable"),
            Verdict::Reset => write!(f, " reject with tcp reset"),
            Verdict::Masquerade => write!(f, " masquerade fully-random"),
            Verdict::Jump(chain) => write!(f, " jump {chain}"),
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
            Fields::FirstTo => format!("ct original {ip} daddr"),
            Fields::FirstPort => "ct original proto-dst".into(),
            Fields::DestinationAndSource => {
                format!("{ip} daddr . meta l4proto . th dport . {ip} saddr")
            }
            Fields::To => format!("{ip} daddr"),
            Fields::From => format!("{ip} saddr"),
            Fields::FromTo => format!("{ip} saddr . {ip} daddr"),
        }
    }
}
