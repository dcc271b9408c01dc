//! Chains and rules: encodes the rules of `ruleset` as nf_tables expressions.
//!
//! Each rule has a short fingerprint of itself as its comment. [`read_chain`] and [`read_rule`] return
//! names and fingerprints, which `observe` compares with [`expected`]. Therefore kinglet never has to
//! decode expressions, not even those of foreign rules in our table.

use neli::consts::nl::NlmF;

use super::{
    element::{ElementVerdict, NF_ACCEPT, put_verdict},
    header::{LIST_ELEM, NFGEN, NFPROTO_INET, SUBSYSTEM, be32, request},
};
use crate::{
    family::Family,
    model::nftables::{
        BRIDGE, Base, Chain, Fields, NFT_TABLE, PASS, Rule, RuleVerdict, RulesetOptions, Test,
        chains,
    },
    netlink::message::{Attrs, NLA_F_NESTED, Request, string},
};

// NFT_MSG_*
pub(super) const NEWCHAIN: u16 = 3;
const GETCHAIN: u16 = 4;
const DELCHAIN: u16 = 5;
pub(super) const NEWRULE: u16 = 6;
pub(super) const GETRULE: u16 = 7;
pub(super) const DELRULE: u16 = 8;

// NFTA_CHAIN_*, NFTA_HOOK_*, NFTA_RULE_*, NFTA_EXPR_*
pub(super) const CHAIN_TABLE: u16 = 1;
pub(super) const CHAIN_NAME: u16 = 3;
pub(super) const CHAIN_HOOK: u16 = 4;
pub(super) const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
pub(super) const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
pub(super) const RULE_TABLE: u16 = 1;
pub(super) const RULE_CHAIN: u16 = 2;
pub(super) const RULE_EXPRESSIONS: u16 = 4;
const RULE_USERDATA: u16 = 7;
pub(super) const EXPR_NAME: u16 = 1;
pub(super) const EXPR_DATA: u16 = 2;

/// The first of the four-byte registers (NFT_REG32_00).
pub(super) const REGISTER: u32 = 8;

/// A chain or a rule of our table, reduced to the parts that are compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Found {
    /// A chain: its name, hook, priority and policy, as in nf_tables.
    Chain(String, u32, i32, u32),
    /// A rule: its chain and its fingerprint; the fingerprint is empty if the rule has no comment.
    Rule(String, String),
}

impl Found {
    /// Returns the name of the chain.
    pub fn chain(&self) -> &str {
        match self {
            Found::Chain(name, ..) | Found::Rule(name, _) => name,
        }
    }
}

/// Hook, priority and policy of a chain without a hook.
const NO_HOOK: (u32, i32, u32) = (u32::MAX, 0, u32::MAX);

/// Returns the chains and rules of a table with this skeleton. Each chain stands before its rules, and
/// the rules are in the order of evaluation.
pub fn expected(skeleton: RulesetOptions) -> Vec<Found> {
    let mut found = Vec::new();
    for chain in chains(skeleton) {
        let name = chain.name.into_owned();
        let (hook, priority, policy) = chain
            .base
            .map_or(NO_HOOK, |Base { hook, priority, .. }| (hook as u32, priority, NF_ACCEPT));
        found.push(Found::Chain(name.clone(), hook, priority, policy));
        let rule = |rule: &Rule| Found::Rule(name.clone(), rule.fingerprint());
        found.extend(chain.rules.iter().map(rule));
    }
    found
}

/// Requests the chains of all families. [`read_chain`] parses ours, `accept::read_chain` the others.
pub fn list_chains() -> Request {
    Request::new(SUBSYSTEM | GETCHAIN, NlmF::empty(), &[0; NFGEN]) // NFPROTO_UNSPEC
}

/// Requests the chains of all tables and families, to be parsed with [`read_any_chain`].
pub fn list_all_chains() -> Request {
    const NFPROTO_UNSPEC: u8 = 0;
    Request::new(super::SUBSYSTEM | GETCHAIN, NlmF::empty(), &[NFPROTO_UNSPEC, 0, 0, 0])
}

/// Parses a chain of any program: family, table and name. `None` if the family is unknown.
pub fn read_any_chain(body: &[u8]) -> Option<(&'static str, String, String)> {
    let attrs = Attrs::after(body, NFGEN);
    // NFPROTO_*
    let family = match body.first()? {
        1 => "inet",
        2 => "ip",
        3 => "arp",
        5 => "netdev",
        7 => "bridge",
        10 => "ip6",
        _ => return None,
    };
    Some((family, attrs.text(CHAIN_TABLE)?, attrs.text(CHAIN_NAME)?))
}

/// Requests the rules of our table, to be parsed with [`read_rule`].
pub fn list_rules() -> Request {
    request(GETRULE, NlmF::empty()).text(RULE_TABLE, NFT_TABLE)
}

/// Parses a chain; `None` if it is not in our table.
pub fn read_chain(body: &[u8]) -> Option<Found> {
    let attrs = Attrs::after(body, NFGEN);
    if body.first() != Some(&NFPROTO_INET) || attrs.text(CHAIN_TABLE)? != NFT_TABLE {
        return None;
    }
    let hook = attrs.nest(CHAIN_HOOK);
    let number = hook.and_then(|h| be32(h, HOOK_NUMBER)).unwrap_or(NO_HOOK.0);
    let priority = hook.and_then(|h| be32(h, HOOK_PRIORITY)).unwrap_or(0);
    let policy = be32(attrs, CHAIN_POLICY).filter(|_| hook.is_some()).unwrap_or(NO_HOOK.2);
    Some(Found::Chain(attrs.text(CHAIN_NAME)?, number, priority.cast_signed(), policy))
}

/// Parses a rule; `None` if it is not in our table.
pub fn read_rule(body: &[u8]) -> Option<Found> {
    let attrs = Attrs::after(body, NFGEN);
    if body.first() != Some(&NFPROTO_INET) || attrs.text(RULE_TABLE)? != NFT_TABLE {
        return None;
    }
    Some(Found::Rule(attrs.text(RULE_CHAIN)?, comment(attrs).unwrap_or_default()))
}

/// Returns the comment of a rule: NFTNL_UDATA_RULE_COMMENT (0), length, text with NUL. `None` if it has
/// none.
pub(super) fn comment(rule: Attrs<'_>) -> Option<String> {
    rule.get(RULE_USERDATA)?.strip_prefix(&[0])?.get(1..).map(string)
}

/// Appends a comment to a rule; 254 bytes at most.
pub(super) fn with_comment(request: Request, comment: &str) -> Request {
    let mut text = comment.as_bytes().to_vec();
    text.push(0);
    request.attr(RULE_USERDATA, &[&[0, text.len() as u8][..], &text].concat())
}

/// Deletes the `existing` chains with their rules, and adds the chains and rules of a skeleton.
pub fn put_chains(skeleton: RulesetOptions, existing: &[String]) -> Vec<Request> {
    // The rules go first, because a chain that a rule jumps to can't be deleted.
    let mut requests: Vec<Request> = existing.iter().map(|name| flush_chain(name)).collect();
    requests.extend(existing.iter().map(|name| delete_chain(name)));
    let chains = chains(skeleton);
    requests.extend(chains.iter().map(add_chain));
    for chain in &chains {
        requests.extend(chain.rules.iter().map(|rule| add_rule(&chain.name, rule)));
    }
    requests
}

/// Deletes a chain with its rules.
pub fn remove_chain(name: &str) -> [Request; 2] {
    [flush_chain(name), delete_chain(name)]
}

fn flush_chain(name: &str) -> Request {
    request(DELRULE, NlmF::empty()).text(RULE_TABLE, NFT_TABLE).text(RULE_CHAIN, name)
}

fn delete_chain(name: &str) -> Request {
    request(DELCHAIN, NlmF::empty()).text(CHAIN_TABLE, NFT_TABLE).text(CHAIN_NAME, name)
}

/// Adds a chain to our table, without its rules.
pub fn add_chain(chain: &Chain) -> Request {
    let request =
        request(NEWCHAIN, NlmF::CREATE).text(CHAIN_TABLE, NFT_TABLE).text(CHAIN_NAME, &chain.name);
    let Some(Base { kind, hook, priority }) = chain.base else { return request };
    request
        .nest(CHAIN_HOOK | NLA_F_NESTED, |nested| {
            nested
                .attr(HOOK_NUMBER, &(hook as u32).to_be_bytes())
                .attr(HOOK_PRIORITY, &priority.to_be_bytes())
        })
        .attr(CHAIN_POLICY, &NF_ACCEPT.to_be_bytes())
        .text(CHAIN_TYPE, kind)
}

/// Appends a rule to a chain of our table.
pub fn add_rule(chain: &str, rule: &Rule) -> Request {
    let request = request(NEWRULE, NlmF::CREATE | NlmF::APPEND)
        .text(RULE_TABLE, NFT_TABLE)
        .text(RULE_CHAIN, chain)
        .nest(RULE_EXPRESSIONS | NLA_F_NESTED, |list| {
            let mut list = nfproto(list, rule.family);
            for t in &rule.tests {
                list = test(list, rule.family, t);
            }
            verdict(list, rule.family, &rule.verdict)
        });
    with_comment(request, &rule.fingerprint())
}

/// Appends an expression whose attributes are all big-endian numbers of four bytes.
pub(super) fn expr(list: Request, name: &str, attrs: &[(u16, u32)]) -> Request {
    expr_with(list, name, |data| {
        attrs.iter().fold(data, |data, (kind, n)| data.attr(*kind, &n.to_be_bytes()))
    })
}

/// Appends an expression; `fill` appends its attributes.
pub(super) fn expr_with(
    list: Request,
    name: &str,
    fill: impl FnOnce(Request) -> Request,
) -> Request {
    list.nest(LIST_ELEM | NLA_F_NESTED, |e| {
        e.text(EXPR_NAME, name).nest(EXPR_DATA | NLA_F_NESTED, fill)
    })
}

/// Loads a meta key into a register: NFTA_META_DREG 1, NFTA_META_KEY 2, NFTA_META_SREG 3.
pub(super) fn meta(list: Request, key: u32, register: u32) -> Request {
    expr(list, "meta", &[(2, key), (1, register)])
}

/// Compares [`REGISTER`] with bytes: NFTA_CMP_SREG 1, NFTA_CMP_OP 2 (0: equal, 1: not equal),
/// NFTA_CMP_DATA 3.
pub(super) fn compare(list: Request, equal: bool, bytes: &[u8]) -> Request {
    expr_with(list, "cmp", |data| {
        data.attr(1u16, &REGISTER.to_be_bytes())
            .attr(2u16, &u32::from(!equal).to_be_bytes())
            .nest(3 | NLA_F_NESTED, |value| value.attr(1u16, bytes))
    })
}

/// Masks [`REGISTER`]: NFTA_BITWISE_SREG 1, DREG 2, LEN 3, MASK 4, XOR 5.
pub(super) fn bitwise_and(list: Request, mask: u32) -> Request {
    expr_with(list, "bitwise", |data| {
        data.attr(1u16, &REGISTER.to_be_bytes())
            .attr(2u16, &REGISTER.to_be_bytes())
            .attr(3u16, &4u32.to_be_bytes())
            .nest(4 | NLA_F_NESTED, |value| value.attr(1u16, &mask.to_ne_bytes()))
            .nest(5 | NLA_F_NESTED, |xor| xor.attr(1u16, &0u32.to_ne_bytes()))
    })
}

/// Tests the address family of a packet.
fn nfproto(list: Request, family: Family) -> Request {
    const NFT_META_NFPROTO: u32 = 15;
    // NFPROTO_* are the same.
    let number = match family {
        Family::Ipv4 => libc::AF_INET,
        Family::Ipv6 => libc::AF_INET6,
    };
    compare(meta(list, NFT_META_NFPROTO, REGISTER), true, &[number as u8])
}

pub(super) const NFT_META_MARK: u32 = 3;
const NFT_META_IIFNAME: u32 = 6;
const NFT_META_OIFNAME: u32 = 7;
const NFT_META_L4PROTO: u32 = 16;

/// Returns the bridge's name, padded with NUL to IFNAMSIZ.
fn bridge() -> [u8; 16] {
    let mut name = [0; 16];
    name[..BRIDGE.len()].copy_from_slice(BRIDGE.as_bytes());
    name
}

/// Appends the expressions of a test.
fn test(list: Request, family: Family, test: &Test) -> Request {
    match test {
        Test::In(fields, set, yes) => {
            // NFTA_LOOKUP_SET 1, NFTA_LOOKUP_SREG 2, NFTA_LOOKUP_FLAGS 5 (1: inverted)
            let list = load(list, family, *fields);
            expr_with(list, "lookup", |data| {
                let data = data.text(1u16, &set.of(family)).attr(2u16, &REGISTER.to_be_bytes());
                if *yes { data } else { data.attr(5u16, &1u32.to_be_bytes()) }
            })
        }
        Test::Protocol(number) => compare(meta(list, NFT_META_L4PROTO, REGISTER), true, &[*number]),
        Test::New => {
            // NFT_CT_STATE 0; NF_CT_STATE_BIT(IP_CT_NEW) is 8
            let list = expr(list, "ct", &[(1, REGISTER), (2, 0)]);
            let list = bitwise_and(list, 8);
            compare(list, false, &0u32.to_ne_bytes())
        }
        Test::Marked => compare(meta(list, NFT_META_MARK, REGISTER), false, &[0; 4]),
        Test::FromBridge => compare(meta(list, NFT_META_IIFNAME, REGISTER), true, &bridge()),
        Test::ToBridge => compare(meta(list, NFT_META_OIFNAME, REGISTER), true, &bridge()),
        Test::FromThisNode(yes) => {
            // NFTA_FIB_DREG 1, NFTA_FIB_RESULT 2 (3: the address's type), NFTA_FIB_FLAGS 3 (1: source)
            let list = expr(list, "fib", &[(1, REGISTER), (2, 3), (3, 1)]);
            compare(list, *yes, &u32::from(libc::RTN_LOCAL).to_ne_bytes())
        }
    }
}

/// Loads fields into consecutive registers, in the layout of a set's key.
fn load(list: Request, family: Family, fields: Fields) -> Request {
    let next = after_addr(family);
    match fields {
        Fields::To => addr(list, family, true, REGISTER),
        Fields::From => addr(list, family, false, REGISTER),
        Fields::FromTo => addr(addr(list, family, false, REGISTER), family, true, next),
        Fields::Destination => destination(list, family),
        Fields::DestinationAndSource => addr(destination(list, family), family, false, next + 2),
        // NFT_CT_DST_IP 20, NFT_CT_DST_IP6 22, NFT_CT_PROTO_DST 12
        Fields::FirstTo => match family {
            Family::Ipv4 => conntrack(list, 20),
            Family::Ipv6 => conntrack(list, 22),
        },
        Fields::FirstPort => conntrack(list, 12),
    }
}

/// Returns the first register after an address, in registers of four bytes.
fn after_addr(family: Family) -> u32 {
    match family {
        Family::Ipv4 => REGISTER + 1,
        Family::Ipv6 => REGISTER + 4,
    }
}

/// Loads destination address, protocol and destination port.
fn destination(list: Request, family: Family) -> Request {
    let next = after_addr(family);
    let list = meta(addr(list, family, true, REGISTER), NFT_META_L4PROTO, next);
    payload(list, 2, 2, 2, next + 1)
}

/// Loads the destination address if `to`, else the source address.
fn addr(list: Request, family: Family, to: bool, register: u32) -> Request {
    let (offset, len) = match (family, to) {
        (Family::Ipv4, false) => (12, 4),
        (Family::Ipv4, true) => (16, 4),
        (Family::Ipv6, false) => (8, 16),
        (Family::Ipv6, true) => (24, 16),
    };
    payload(list, 1, offset, len, register)
}

/// Loads bytes of a header: NFTA_PAYLOAD_DREG 1, NFTA_PAYLOAD_BASE 2 (1: network, 2: transport), OFFSET
/// 3, LEN 4; both in bytes.
fn payload(list: Request, base: u32, offset: u32, len: u32, register: u32) -> Request {
    expr(list, "payload", &[(1, register), (2, base), (3, offset), (4, len)])
}

/// Loads a conntrack key of the original direction: NFTA_CT_DREG 1, NFTA_CT_KEY 2, NFTA_CT_DIRECTION 3
/// (one byte; 0: original).
fn conntrack(list: Request, key: u32) -> Request {
    expr_with(list, "ct", |data| {
        data.attr(1u16, &REGISTER.to_be_bytes()).attr(2u16, &key.to_be_bytes()).attr(3u16, &[0])
    })
}

/// Appends the expressions of a verdict.
pub(super) fn verdict(list: Request, family: Family, verdict: &RuleVerdict) -> Request {
    let immediate = |list, verdict: &ElementVerdict| {
        // NFTA_IMMEDIATE_DREG 1 (0: the verdict), NFTA_IMMEDIATE_DATA 2
        expr_with(list, "immediate", |data| {
            data.attr(1u16, &0u32.to_be_bytes())
                .nest(2 | NLA_F_NESTED, |data| put_verdict(data, verdict))
        })
    };
    match verdict {
        RuleVerdict::Jump(chain) => immediate(list, &ElementVerdict::Jump(chain.to_string())),
        RuleVerdict::Accept => immediate(list, &ElementVerdict::Accept),
        RuleVerdict::Drop => immediate(list, &ElementVerdict::Drop),
        // NFTA_REJECT_TYPE 1 (2: ICMP of either family), NFTA_REJECT_ICMP_CODE 2 (1: port)
        RuleVerdict::Reject => {
            expr_with(list, "reject", |data| data.attr(1u16, &2u32.to_be_bytes()).attr(2u16, &[1]))
        }
        // NFTA_REJECT_TYPE 1 (1: TCP reset)
        RuleVerdict::Reset => {
            expr_with(list, "reject", |data| data.attr(1u16, &1u32.to_be_bytes()).attr(2u16, &[0]))
        }
        // NFTA_MASQ_FLAGS 1: NF_NAT_RANGE_PROTO_RANDOM_FULLY
        RuleVerdict::Masquerade => expr(list, "masq", &[(1, 0x10)]),
        RuleVerdict::Pass => {
            let list = expr_with(list, "immediate", |data| {
                data.attr(1u16, &REGISTER.to_be_bytes())
                    .nest(2 | NLA_F_NESTED, |value| value.attr(1u16, &PASS.to_ne_bytes()))
            });
            expr(list, "meta", &[(2, NFT_META_MARK), (3, REGISTER)])
        }
        RuleVerdict::Map(fields, map) => {
            let list = load(list, family, *fields);
            // NFTA_LOOKUP_DREG 3 (0: the verdict)
            expr_with(list, "lookup", |data| {
                data.text(1u16, &map.of(family))
                    .attr(2u16, &REGISTER.to_be_bytes())
                    .attr(3u16, &0u32.to_be_bytes())
            })
        }
        RuleVerdict::Mark(map) => {
            let list = load(list, family, Fields::Destination);
            let list = expr_with(list, "lookup", |data| {
                data.text(1u16, &map.of(family))
                    .attr(2u16, &REGISTER.to_be_bytes())
                    .attr(3u16, &REGISTER.to_be_bytes())
            });
            expr(list, "meta", &[(2, NFT_META_MARK), (3, REGISTER)])
        }
    }
}
