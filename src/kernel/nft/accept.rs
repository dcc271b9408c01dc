//! Our rule in the chains of other programs, which accepts the packets that our table marked.
//!
//! In a chain of iptables the rule uses the xtables match `mark`, which every iptables can print and
//! restore. In other chains it uses native nftables expressions. The rule is recognised by its comment.
//! If iptables has restored the rule, the comment is in a match of its own. Chains are named by family,
//! table and name, as nft prints them; `desired` decides which chains need the rule.

use neli::consts::nl::NlmF;

use super::{
    element::NF_DROP,
    header::{NFGEN, SUBSYSTEM, be32},
    rules::*,
};
use crate::{
    family::Family,
    model::{
        items::iptables,
        nftables::{Hook, NFT_TABLE, PASSING, RuleVerdict},
    },
    netlink::message::{Attrs, NLA_F_NESTED, Request},
};

const RULE_HANDLE: u16 = 3; // NFTA_RULE_HANDLE
/// The families whose chains can need our rule: NFPROTO_* number and name.
const FAMILIES: [(u8, &str); 3] = [(1, "inet"), (2, "ip"), (10, "ip6")];
// NFTA_MATCH_*
const MATCH_NAME: u16 = 1;
const MATCH_REV: u16 = 2;
const MATCH_INFO: u16 = 3;

/// Parses a chain of another program at the hook `input` or `forward`. Returns its family, table and
/// name, and true if its policy is to drop. `None` for every other chain.
pub fn read_chain(body: &[u8]) -> Option<(Box<str>, bool)> {
    let attrs = Attrs::after(body, NFGEN);
    let hook = be32(attrs.nest(CHAIN_HOOK)?, HOOK_NUMBER)?;
    let (_, family) = FAMILIES.iter().find(|(number, _)| body.first() == Some(number))?;
    let (table, name) = (attrs.text(CHAIN_TABLE)?, attrs.text(CHAIN_NAME)?);
    if table == NFT_TABLE || ![Hook::Input as u32, Hook::Forward as u32].contains(&hook) {
        return None;
    }
    let drops = be32(attrs, CHAIN_POLICY) == Some(NF_DROP);
    Some((format!("{family} {table} {name}").into(), drops))
}

/// Returns true if a notification about another program's table requires a new observation: a chain may
/// drop now, or our rule may have been deleted. `message` is the NFT_MSG_* number.
pub fn is_relevant(message: u16, body: &[u8]) -> bool {
    match message {
        NEWCHAIN => read_chain(body).is_some(),
        DELRULE => read_rule(body).is_some(),
        _ => false,
    }
}

/// Builds a request about the rules of a chain, which is named `family table name`.
fn request(message: u16, flags: NlmF, chain: &str) -> Request {
    let mut parts = chain.splitn(3, ' ');
    let mut part = || parts.next().unwrap_or_default();
    let family = part();
    let family = FAMILIES.iter().find(|(_, name)| *name == family).map_or(0, |(number, _)| *number);
    Request::new(SUBSYSTEM | message, flags, &[family, 0, 0, 0])
        .text(RULE_TABLE, part())
        .text(RULE_CHAIN, part())
}

/// Requests the rules of a chain, to be parsed with [`read_rule`].
pub fn list_rules(chain: &str) -> Request {
    request(GETRULE, NlmF::empty(), chain)
}

/// Parses a rule and returns its handle; `None` if the rule is not ours.
pub fn read_rule(body: &[u8]) -> Option<[u8; 8]> {
    let attrs = Attrs::after(body, NFGEN);
    let comment_match = |(_, expression): (u16, &[u8])| {
        let found = Attrs(expression).nest(EXPR_DATA)?;
        (found.text(MATCH_NAME)? == "comment").then(|| found.text(MATCH_INFO))?
    };
    let within = || attrs.nest(RULE_EXPRESSIONS)?.into_iter().find_map(comment_match);
    let ours = comment(attrs).or_else(within)? == NFT_TABLE;
    attrs.get(RULE_HANDLE).filter(|_| ours)?.try_into().ok()
}

/// Inserts our rule before all other rules of a chain.
pub fn insert(chain: &str) -> Request {
    let request = request(NEWRULE, NlmF::CREATE, chain);
    let request = request.nest(RULE_EXPRESSIONS | NLA_F_NESTED, |list| {
        let list = if iptables(chain).is_some() {
            // struct xt_mark_mtinfo1 { u32 mark, mask; u8 invert; }, of revision 1
            let info = [PASSING.0.to_ne_bytes(), PASSING.1.to_ne_bytes(), [0; 4], [0; 4]].concat();
            expr_with(list, "match", |data| {
                data.text(MATCH_NAME, "mark")
                    .attr(MATCH_REV, &1u32.to_be_bytes())
                    .attr(MATCH_INFO, &info)
            })
        } else {
            let list = bitwise_and(meta(list, NFT_META_MARK, REGISTER), PASSING.1);
            compare(list, true, &PASSING.0.to_ne_bytes())
        };
        verdict(list, Family::Ipv4, &RuleVerdict::Accept)
    });
    with_comment(request, NFT_TABLE)
}

/// Deletes the rule with this handle from a chain.
pub fn remove(chain: &str, handle: [u8; 8]) -> Request {
    request(DELRULE, NlmF::empty(), chain).attr(RULE_HANDLE, &handle)
}
