//! The chains and rules of our nftables table.

use std::borrow::Cow;

use super::set::Set;
use crate::family::Family;
use serde::{Deserialize, Serialize};

/// The name of our nftables table, in the family `inet`, and the comment of our rules in other
/// tables.
pub const NFT_TABLE: &str = "kinglet";
/// The bridge to which the pods of this node are connected.
pub const BRIDGE: &str = "kube-bridge";

/// The options that select the rules of the table. Equal options yield equal tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RulesetOptions {
    /// Virtual addresses accept only the ports of Services (the opposite of `--ipvs-permit-all`).
    pub guard: bool,
    /// All traffic through a Service is masqueraded (`--masquerade-all`).
    pub masquerade_all: bool,
    /// Traffic of pods to destinations outside the cluster is masqueraded (`--enable-pod-egress`).
    pub pod_egress: bool,
    /// Traffic between two pods of this node through a Service is masqueraded. This is needed if
    /// the bridge does not pass its packets to netfilter, because the answer would then bypass
    /// IPVS.
    pub same_node: bool,
    /// Traffic that pods and Services need is marked, for chains of other programs that would drop
    /// it.
    #[serde(default)]
    pub accept: bool,
}

/// A chain. The policy of a base chain is accept.
#[derive(Clone, Debug, PartialEq)]
pub struct Chain {
    /// Its name. A chain that is not part of the skeleton has a name as [`super::is_runtime`]
    /// requires.
    pub name: Cow<'static, str>,
    /// The hook of a base chain; `None` for a chain that is only reached by a jump.
    pub base: Option<Base>,
    /// In order.
    pub rules: Vec<Rule>,
}

/// The hook, type and priority of a base chain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Base {
    /// The chain type: `filter` or `nat`.
    pub kind: &'static str,
    /// The netfilter hook.
    pub hook: Hook,
    /// The priority; lower values run first.
    pub priority: i32,
}

/// The netfilter hooks in use (`NF_INET_*`, linux/netfilter.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Hook {
    Prerouting = 0,
    Input = 1,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

/// A rule: if all tests match, its verdict applies.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// The family of its packets.
    pub family: Family,
    /// The tests, all of which must match.
    pub tests: Vec<Test>,
    /// The verdict if they match.
    pub verdict: RuleVerdict,
}

/// A condition on a packet.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// The fields are an element of the set (`true`), or are not (`false`).
    In(Fields, SetName, bool),
    /// The packet has this protocol number (IP header).
    Protocol(u8),
    /// The packet starts a new connection (`ct state new`).
    New,
    /// The packet has a nonzero mark.
    Marked,
    /// The packet comes in by the pods' bridge.
    FromBridge,
    /// The packet goes out by the pods' bridge.
    ToBridge,
    /// The source address is one of this node's own (`true`; `fib saddr type local`), or is not
    /// (`false`).
    FromThisNode(bool),
}

/// A set, as a rule names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetName {
    /// A set of the skeleton, in the family of the rule.
    Skeleton(Set),
    /// A set that is made at run time, by its whole name.
    Runtime(Box<str>),
}

impl SetName {
    /// Returns its name in the kernel, in a rule of this family.
    pub fn of(&self, family: Family) -> String {
        match self {
            SetName::Skeleton(set) => set.name(family),
            SetName::Runtime(name) => name.to_string(),
        }
    }
}

impl From<Set> for SetName {
    fn from(set: Set) -> SetName {
        SetName::Skeleton(set)
    }
}

/// Packet fields that are looked up in a set as one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fields {
    /// Destination address, protocol and port.
    Destination,
    /// The original destination address from conntrack, before any translation.
    FirstTo,
    /// The original destination port from conntrack.
    FirstPort,
    /// Destination address, protocol, port, and source address.
    DestinationAndSource,
    /// The destination address.
    To,
    /// The source address.
    From,
    /// Source and destination address.
    FromTo,
}

/// The verdict of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleVerdict {
    /// Accepts the packet: the rest of this chain is skipped.
    Accept,
    /// Drops the packet without an answer.
    Drop,
    /// Rejects the packet with ICMP port unreachable.
    Reject,
    /// Rejects the packet with a TCP reset. An ICMP error that arrives while `connect` still holds
    /// its socket, as from the same machine, takes effect only with the next SYN, one second later.
    Reset,
    /// Replaces the source address with an address of this node.
    Masquerade,
    /// Sets the mark that a map holds for the packet's destination.
    Mark(SetName),
    /// Sets the mark [`PASS`].
    Pass,
    /// Jumps to another chain, which returns here.
    Jump(Cow<'static, str>),
    /// Applies the verdict that a verdict map holds for the fields; continues with the next rule if it
    /// has none.
    Map(Fields, SetName),
}

/// The mark of packets that chains of other programs should accept.
pub const PASS: u32 = 0x4b1b_0000;
/// The value and mask of accepted marks: they match [`PASS`] and the marks of IPVS fwmark services.
pub const PASSING: (u32, u32) = (0x4b1a_0000, 0xfffe_0000);

/// The same match in iptables syntax.
pub const PASSING_MATCH: &str = "-m mark --mark 0x4b1a0000/0xfffe0000";

/// Priorities of netfilter (`NF_IP_PRI_MANGLE`, `NF_IP_PRI_FILTER`, `NF_IP_PRI_NAT_SRC`).
const MANGLE: i32 = -150;
const FILTER: i32 = 0;
const SRCNAT: i32 = 100;

/// Returns the chains of the table for the given options.
pub fn chains(skeleton: RulesetOptions) -> Vec<Chain> {
    let both = |rules: &dyn Fn(Family) -> Vec<Rule>| Family::ALL.map(rules).concat();
    let base = |kind, hook, priority| Some(Base { kind, hook, priority });
    let output = |family| {
        let drop = rule(family, vec![in_set(Fields::Destination, Set::Drop)], RuleVerdict::Drop);
        vec![drop, reset_unserved(family)]
    };
    let mut chains = vec![
        Chain {
            name: "before-routing".into(),
            base: base("filter", Hook::Prerouting, MANGLE),
            rules: both(&before_routing),
        },
        Chain {
            name: "before-output".into(),
            base: base("filter", Hook::Output, MANGLE),
            rules: both(&output),
        },
    ];
    if skeleton.accept {
        let before = |hook| base("filter", hook, FILTER - 10);
        let [name, forward] = PASS_CHAINS.map(Cow::from);
        chains.push(Chain { name, base: before(Hook::Input), rules: both(&pass_input) });
        let name = forward;
        chains.push(Chain { name, base: before(Hook::Forward), rules: both(&pass_forward) });
    }
    let input = |family| {
        let mut rules = vec![reset_unserved(family)];
        rules.extend(skeleton.guard.then(|| guard(family)).into_iter().flatten());
        rules
    };
    let hook = base("filter", Hook::Input, FILTER);
    chains.push(Chain { name: "input".into(), base: hook, rules: both(&input) });
    let through = both(&|family| through_service(family, skeleton));
    chains.push(Chain { name: THROUGH_SERVICE.into(), base: None, rules: through });
    chains.push(Chain {
        name: "after-routing".into(),
        base: base("nat", Hook::Postrouting, SRCNAT),
        rules: both(&|family| after_routing(family, skeleton)),
    });
    chains
}

/// The chains that mark packets for other programs' chains; all other chains are always there.
pub(super) const PASS_CHAINS: [&str; 2] = ["pass-input", "pass-forward"];
/// The chain for packets that came through a Service.
const THROUGH_SERVICE: &str = "through-service";

fn rule(family: Family, tests: Vec<Test>, verdict: RuleVerdict) -> Rule {
    Rule { family, tests, verdict }
}

fn in_set(fields: Fields, set: Set) -> Test {
    Test::In(fields, set.into(), true)
}

fn not_in_set(fields: Fields, set: Set) -> Test {
    Test::In(fields, set.into(), false)
}

/// Returns the rules for packets from pods and from outside. Packets that this node itself sends do
/// not pass this hook.
fn before_routing(family: Family) -> Vec<Rule> {
    use super::Fields::{Destination, DestinationAndSource, From};
    let outside = || not_in_set(From, Set::PodNets);
    vec![
        rule(family, vec![in_set(Destination, Set::Drop)], RuleVerdict::Drop),
        rule(family, vec![outside(), in_set(Destination, Set::DropOutside)], RuleVerdict::Drop),
        rule(
            family,
            vec![
                in_set(Destination, Set::Restricted),
                not_in_set(DestinationAndSource, Set::Ranges),
            ],
            RuleVerdict::Drop,
        ),
        // IPVS looks up the fwmark service first; that service has only the endpoints of this node.
        rule(family, vec![outside()], RuleVerdict::Mark(Set::Outside.into())),
    ]
}

/// Returns the rule that resets TCP connections to a Service without endpoints. IPVS itself rejects
/// with ICMP.
fn reset_unserved(family: Family) -> Rule {
    let tests = vec![in_set(Fields::Destination, Set::Reject), Test::Protocol(TCP), Test::New];
    rule(family, tests, RuleVerdict::Reset)
}

const TCP: u8 = 6;

/// Returns the rules that mark packets for IPVS. A packet that already has a mark keeps it: a
/// foreign mark is left to the rules of its program, and our own mark is accepted as it is.
fn pass_input(family: Family) -> Vec<Rule> {
    vec![
        rule(family, vec![Test::Marked], RuleVerdict::Accept),
        rule(family, vec![in_set(Fields::Destination, Set::Services)], RuleVerdict::Pass),
        rule(family, vec![in_set(Fields::To, Set::Vips), icmp(family)], RuleVerdict::Pass),
    ]
}

/// Returns the rules that mark packets from and to pods, and answers that go back through a
/// Service.
fn pass_forward(family: Family) -> Vec<Rule> {
    let mut rules = vec![rule(family, vec![Test::Marked], RuleVerdict::Accept)];
    rules.extend(
        [Test::FromBridge, Test::ToBridge].map(|t| rule(family, vec![t], RuleVerdict::Pass)),
    );
    rules.extend(service_rules(family, &RuleVerdict::Pass));
    rules
}

/// Returns the test for ICMP, or for ICMPv6.
fn icmp(family: Family) -> Test {
    Test::Protocol(match family {
        Family::Ipv4 => 1,
        Family::Ipv6 => 58,
    })
}

/// Returns the rules that close virtual addresses except for the ports of Services.
fn guard(family: Family) -> Vec<Rule> {
    use super::Fields::{Destination, To};
    vec![
        rule(family, vec![in_set(Destination, Set::Services)], RuleVerdict::Accept),
        // ICMP errors, for example for path MTU discovery, and ping.
        rule(family, vec![in_set(To, Set::Vips), icmp(family)], RuleVerdict::Accept),
        rule(family, vec![in_set(To, Set::Vips), Test::Protocol(TCP)], RuleVerdict::Reset),
        rule(family, vec![in_set(To, Set::Vips)], RuleVerdict::Reject),
    ]
}

/// Returns the masquerade rules for traffic through a Service.
fn through_service(family: Family, skeleton: RulesetOptions) -> Vec<Rule> {
    use super::Fields::{From, FromTo, To};
    let mut rules = Vec::new();
    if skeleton.masquerade_all {
        rules.push(rule(family, vec![Test::FromThisNode(false)], RuleVerdict::Masquerade));
    }
    // A pod that reaches itself would otherwise answer itself directly.
    rules.push(rule(family, vec![in_set(FromTo, Set::Loops)], RuleVerdict::Masquerade));
    if skeleton.same_node {
        let tests = vec![in_set(From, Set::OwnPods), in_set(To, Set::OwnPods)];
        rules.push(rule(family, tests, RuleVerdict::Masquerade));
    }
    // Neither from a pod of this node nor to one: without masquerading the answer would not come
    // back this way.
    let elsewhere = vec![
        not_in_set(From, Set::OwnPods),
        not_in_set(To, Set::OwnPods),
        Test::FromThisNode(false),
    ];
    rules.push(rule(family, elsewhere, RuleVerdict::Masquerade));
    rules
}

/// Returns rules with a verdict for traffic through a Service. Its original destination is a
/// virtual address, or an address of a node with a port of a Service.
fn service_rules(family: Family, verdict: &RuleVerdict) -> Vec<Rule> {
    use super::Fields::{FirstPort, FirstTo};
    let mut rules = vec![rule(family, vec![in_set(FirstTo, Set::Vips)], verdict.clone())];
    for (protocol, ports) in [(TCP, Set::TcpPorts), (17, Set::UdpPorts), (132, Set::SctpPorts)] {
        let tests =
            vec![in_set(FirstTo, Set::NodeIps), Test::Protocol(protocol), in_set(FirstPort, ports)];
        rules.push(rule(family, tests, verdict.clone()));
    }
    rules
}

/// Returns the rules for packets that leave this node, after routing.
fn after_routing(family: Family, skeleton: RulesetOptions) -> Vec<Rule> {
    use super::Fields::{From, To};
    let mut rules = service_rules(family, &RuleVerdict::Jump(THROUGH_SERVICE.into()));
    if skeleton.pod_egress {
        let out = vec![
            in_set(From, Set::OwnPods),
            not_in_set(To, Set::PodNets),
            not_in_set(To, Set::NodeIps),
        ];
        rules.push(rule(family, out, RuleVerdict::Masquerade));
    }
    rules
}
