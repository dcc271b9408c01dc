//! Our one nftables table as data: sets, chains and rules.
//!
//! `kernel` encodes it for netlink, `plan --format sh` prints it for nft, and both say the same. All
//! that depends on a Service is an element of a set, so that a packet costs the same with one Service
//! and with thousands, and a change of one Service is a change of its elements.
//!
//! An accept of ours can't overrule the drop of another table. So where another program's chain drops by
//! its policy, ours marks before it what pods and Services need, and one rule in that chain accepts the
//! mark: it is the same for every chain, and what it lets pass is decided here.
//!
//! A packet to a virtual address meets `drops` and `marks` before routing, the guard on its way in
//! (before IPVS, which works at the end of `input`), and the masquerade on its way out, where conntrack
//! still knows where it was sent to at first.

mod set;
mod text;

use serde::{Deserialize, Serialize};

pub use set::{Part, Set};
pub use text::script;

/// Our one nftables table, in the family `inet`; and the comment of our rules in others.
pub const NFT_TABLE: &str = "kinglet";
/// The bridge that the pods of this node are connected to.
pub const BRIDGE: &str = "kube-bridge";

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
    /// What pods and Services need is marked, for the chains of others that would drop it.
    #[serde(default)]
    pub accept: bool,
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
    Forward = 2,
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
    /// It carries a mark.
    Marked,
    /// It comes from the pods' bridge.
    FromBridge,
    /// It goes to the pods' bridge.
    ToBridge,
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
    /// It gets the mark [`PASS`].
    Pass,
    /// It goes through another chain and comes back.
    Jump(&'static str),
}

/// The mark of what is to be accepted.
pub const PASS: u32 = 0x4b1b_0000;
/// What is accepted, under a mask: [`PASS`], and the marks of those IPVS services that are found by one.
pub const PASSING: (u32, u32) = (0x4b1a_0000, 0xfffe_0000);

/// The same in iptables' words.
pub const PASSING_MATCH: &str = "-m mark --mark 0x4b1a0000/0xfffe0000";

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
    if skeleton.accept {
        let before = |hook| base("filter", hook, FILTER - 10);
        let [name, forward] = PASS_CHAINS;
        chains.push(Chain { name, base: before(Hook::Input), rules: both(&pass_input) });
        let name = forward;
        chains.push(Chain { name, base: before(Hook::Forward), rules: both(&pass_forward) });
    }
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

/// The chains that mark for others; the only ones that are not always there.
const PASS_CHAINS: [&str; 2] = ["pass-input", "pass-forward"];
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

/// What IPVS is to take in. Somebody's mark stays, and so does what his rules say of it; one of ours
/// passes as it is.
fn pass_input(ipv4: bool) -> Vec<Rule> {
    vec![
        rule(ipv4, [Test::Marked], Verdict::Accept),
        rule(ipv4, [is(Fields::Destination, Set::Services)], Verdict::Pass),
        rule(ipv4, [is(Fields::To, Set::Vips), icmp(ipv4)], Verdict::Pass),
    ]
}

/// From and to pods, and the answers that go back through a Service.
fn pass_forward(ipv4: bool) -> Vec<Rule> {
    let mut rules = vec![rule(ipv4, [Test::Marked], Verdict::Accept)];
    rules.extend([Test::FromBridge, Test::ToBridge].map(|t| rule(ipv4, [t], Verdict::Pass)));
    rules.extend(to_service(ipv4, Verdict::Pass));
    rules
}

fn icmp(ipv4: bool) -> Test {
    Test::Protocol(if ipv4 { 1 } else { 58 })
}

fn guard(ipv4: bool) -> Vec<Rule> {
    use Fields::{Destination, To};
    vec![
        rule(ipv4, [is(Destination, Set::Services)], Verdict::Accept),
        // Errors that keep a path working, and ping.
        rule(ipv4, [is(To, Set::Vips), icmp(ipv4)], Verdict::Accept),
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
fn to_service(ipv4: bool, verdict: Verdict) -> Vec<Rule> {
    use Fields::{FirstPort, FirstTo};
    let mut rules = vec![rule(ipv4, [is(FirstTo, Set::Vips)], verdict)];
    for (protocol, ports) in [(TCP, Set::TcpPorts), (17, Set::UdpPorts), (132, Set::SctpPorts)] {
        let tests = [is(FirstTo, Set::NodeIps), Test::Protocol(protocol), is(FirstPort, ports)];
        rules.push(rule(ipv4, tests, verdict));
    }
    rules
}

fn after_routing(ipv4: bool, skeleton: Skeleton) -> Vec<Rule> {
    use Fields::{From, To};
    let mut rules = to_service(ipv4, Verdict::Jump(THROUGH));
    if skeleton.pod_egress {
        let out = [is(From, Set::OwnPods), is_not(To, Set::PodNets), is_not(To, Set::NodeIps)];
        rules.push(rule(ipv4, out, Verdict::Masquerade));
    }
    rules
}
