//! The older xtables (linux/netfilter_ipv4/ip_tables.h, netfilter_ipv6/ip6_tables.h), as far as to tell
//! whether they drop what pods and Services need. Nothing is changed there: a table is written whole.

use super::{files, sys};
use crate::ruleset::{Hook, PASSING};

/// The chains that drop by their policy and have no rule for what our table marks, with their program;
/// and whether there are such that have one.
pub fn closed() -> (Vec<Box<str>>, bool) {
    let (mut closed, mut passing) = (Vec::new(), false);
    for (ipv4, program) in [(true, "iptables-legacy"), (false, "ip6tables-legacy")] {
        if !tables(ipv4).iter().any(|name| name == "filter") {
            continue;
        }
        let Ok((info, entries)) = sys::xtables(ipv4, "filter") else { continue };
        for (hook, chain) in [(Hook::Input, "INPUT"), (Hook::Forward, "FORWARD")] {
            match passes(&info, &entries, hook, ipv4) {
                Some(false) => closed.push(format!("{program} {chain}").into()),
                passes => passing |= passes.is_some(),
            }
        }
    }
    (closed, passing)
}

/// The tables that there are: to ask for another one would make it.
fn tables(ipv4: bool) -> Vec<String> {
    let names = if ipv4 { "/proc/net/ip_tables_names" } else { "/proc/net/ip6_tables_names" };
    files::read(names).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// The chains that somebody made, of all tables.
pub fn chains() -> Vec<String> {
    let mut chains = Vec::new();
    for ipv4 in [true, false] {
        for table in tables(ipv4) {
            let entries = sys::xtables(ipv4, &table).map_or(Vec::new(), |(_, entries)| entries);
            chains.extend(heads(&entries, ipv4));
        }
    }
    chains
}

/// The names of the chains that begin in a table. The entry at a chain's head has the target ERROR
/// (struct xt_error_target), which holds its name; the entry at the table's end is called ERROR itself.
fn heads(entries: &[u8], ipv4: bool) -> Vec<String> {
    // struct ipt_entry, struct ip6t_entry { …; u16 target_offset, next_offset; … }
    let offsets = if ipv4 { 88 } else { 140 };
    let half =
        |entry: &[u8], at| Some(usize::from(u16::from_ne_bytes(*entry.get(at..)?.first_chunk()?)));
    let (mut heads, mut rest) = (Vec::new(), entries);
    while let (Some(target), Some(next @ 1..)) = (half(rest, offsets), half(rest, offsets + 2)) {
        let text = |at: usize| {
            let text = rest.get(target + at..)?.split(|byte| *byte == 0).next()?;
            std::str::from_utf8(text).ok()
        };
        // struct xt_entry_target { u16 size; char name[29]; u8 revision; }
        if let (Some("ERROR"), Some(name)) = (text(2), text(32))
            && name != "ERROR"
        {
            heads.push(name.to_owned());
        }
        rest = rest.get(next..).unwrap_or_default();
    }
    heads
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
