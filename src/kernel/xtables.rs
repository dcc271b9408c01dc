//! The older xtables (linux/netfilter_ipv4/ip_tables.h, netfilter_ipv6/ip6_tables.h), as far as to tell
//! whether they drop what pods and Services need. Nothing is changed there: a table is written whole.

use super::{files, sys};
use crate::ruleset::{Hook, PASSING};

/// The chains that drop by their policy and have no rule for what our table marks, with their program;
/// and whether there are such that have one.
pub fn closed() -> (Vec<Box<str>>, bool) {
    let (mut closed, mut passing) = (Vec::new(), false);
    for (ipv4, names, program) in [
        (true, "/proc/net/ip_tables_names", "iptables-legacy"),
        (false, "/proc/net/ip6_tables_names", "ip6tables-legacy"),
    ] {
        // Asking would make the table.
        if !files::read(names).is_some_and(|names| names.lines().any(|name| name == "filter")) {
            continue;
        }
        let Ok((info, entries)) = sys::xtables_filter(ipv4) else { continue };
        for (hook, chain) in [(Hook::Input, "INPUT"), (Hook::Forward, "FORWARD")] {
            match passes(&info, &entries, hook, ipv4) {
                Some(false) => closed.push(format!("{program} {chain}").into()),
                passes => passing |= passes.is_some(),
            }
        }
    }
    (closed, passing)
}

/// Whether a chain that drops by its policy has a rule for what our table marks; `None`: it does not drop.
///
/// struct ipt_getinfo { char name[32]; u32 valid_hooks, hook_entry[5], underflow[5], …; }: where a
/// chain begins, and where the entry is that stands for its policy.
fn passes(info: &[u8], entries: &[u8], hook: Hook, ipv4: bool) -> Option<bool> {
    let word =
        |bytes: &[u8], at: usize| bytes.get(at..)?.first_chunk().map(|b| u32::from_ne_bytes(*b));
    let begin = word(info, 36 + 4 * hook as usize)? as usize;
    let policy = word(info, 56 + 4 * hook as usize)? as usize;
    // struct ipt_entry, or ip6t_entry, is followed by a standard target: 32 bytes and the verdict.
    let verdict = word(entries, policy + if ipv4 { 112 } else { 168 } + 32)?;
    let (mark, mask) = PASSING;
    let pass = [mark.to_ne_bytes(), mask.to_ne_bytes()].concat(); // struct xt_mark_mtinfo1
    let passes = entries.get(begin..policy)?.windows(pass.len()).any(|part| part == pass);
    (verdict.cast_signed() == -1).then_some(passes) // -NF_DROP - 1
}
