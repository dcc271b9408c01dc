//! Our rule in the chains of other programs: it accepts what our own table marked.
//!
//! Among iptables' chains it is made of the match `mark` of xtables, which every iptables can print and
//! restore; elsewhere of nftables' own words. It is known by its comment, which iptables puts into a
//! match of its own when it restores the rule.

use neli::consts::nl::NlmF;

use super::{NFGEN, SUBSYSTEM, rules::*};
use crate::{
    kernel::message::{Attrs, NLA_F_NESTED, Request},
    ruleset::{Hook, NFT_TABLE, PASSING, Verdict},
    state::iptables,
};

const RULE_HANDLE: u16 = 3; // NFTA_RULE_HANDLE
/// NFPROTO_*, of whose chains we are in need.
const FAMILIES: [(u8, &str); 3] = [(1, "inet"), (2, "ip"), (10, "ip6")];
// NFTA_MATCH_*
const MATCH_NAME: u16 = 1;
const MATCH_REV: u16 = 2;
const MATCH_INFO: u16 = 3;

/// A chain of another program through which all goes that comes to this node or passes it, and whether
/// its policy is to drop.
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

/// Whether news of another program's table are a reason to look: a chain may have begun to drop, or a
/// rule of ours may be gone.
pub fn concerns(message: u16, body: &[u8]) -> bool {
    match message {
        NEWCHAIN => read_chain(body).is_some(),
        DELRULE => read_rule(body).is_some(),
        _ => false,
    }
}

/// A request about rules of a chain.
fn request(message: u16, flags: NlmF, chain: &str) -> Request {
    let mut words = chain.splitn(3, ' ');
    let mut word = || words.next().unwrap_or_default();
    let family = word();
    let family = FAMILIES.iter().find(|(_, name)| *name == family).map_or(0, |(number, _)| *number);
    Request::new(SUBSYSTEM | message, flags, &[family, 0, 0, 0])
        .text(RULE_TABLE, word())
        .text(RULE_CHAIN, word())
}

/// The rules of a chain, to be read with [`read_rule`].
pub fn list_rules(chain: &str) -> Request {
    request(GETRULE, NlmF::empty(), chain)
}

/// The handle of a rule that is ours.
pub fn read_rule(body: &[u8]) -> Option<[u8; 8]> {
    let attrs = Attrs::after(body, NFGEN);
    let remark = |(_, expression): (u16, &[u8])| {
        let found = Attrs(expression).nest(EXPR_DATA)?;
        (found.text(MATCH_NAME)? == "comment").then(|| found.text(MATCH_INFO))?
    };
    let within = || attrs.nest(RULE_EXPRESSIONS)?.into_iter().find_map(remark);
    let ours = comment(attrs).or_else(within)? == NFT_TABLE;
    attrs.get(RULE_HANDLE).filter(|_| ours)?.try_into().ok()
}

/// Puts our rule before all others of a chain.
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
            let list = masked(meta(list, NFT_META_MARK, REGISTER), PASSING.1);
            compare(list, true, &PASSING.0.to_ne_bytes())
        };
        verdict(list, true, Verdict::Accept)
    });
    commented(request, NFT_TABLE)
}

/// Takes the rule of a handle out of a chain.
pub fn remove(chain: &str, handle: [u8; 8]) -> Request {
    request(DELRULE, NlmF::empty(), chain).attr(RULE_HANDLE, &handle)
}
