//! Reads the older xtables (linux/netfilter_ipv4/ip_tables.h, netfilter_ipv6/ip6_tables.h).
//!
//! It finds chains that drop the packets of pods and Services, and lists the chains of other programs.
//! It never changes a table, because xtables can only replace a table as a whole. `nft` handles the
//! chains of iptables-nft; `sys::read_xtables` makes the system calls.

use super::files;
use crate::{
    family::Family,
    model::nftables::{Hook, PASSING},
    sys,
};

/// The program that writes the tables of each family.
const PROGRAMS: [(Family, &str); 2] =
    [(Family::Ipv4, "iptables-legacy"), (Family::Ipv6, "ip6tables-legacy")];

/// Returns the chains whose policy is to drop and that have no rule for our mark, each after the name
/// of its program. Also returns true if there is a dropping chain that has such a rule.
pub(crate) fn dropping_chains() -> (Vec<Box<str>>, bool) {
    let (mut dropping, mut passing) = (Vec::new(), false);
    for (family, program) in PROGRAMS {
        if !table_names(family).iter().any(|name| name == "filter") {
            continue;
        }
        let Ok((info, entries)) = sys::read_xtables(family, "filter") else { continue };
        for (hook, chain) in [(Hook::Input, "INPUT"), (Hook::Forward, "FORWARD")] {
            match passes_mark(&info, &entries, hook, family) {
                Some(false) => dropping.push(format!("{program} {chain}").into()),
                passes => passing |= passes.is_some(),
            }
        }
    }
    (dropping, passing)
}

/// Returns the names of the existing tables. A request for another table would create it.
fn table_names(family: Family) -> Vec<String> {
    let names = match family {
        Family::Ipv4 => "/proc/net/ip_tables_names",
        Family::Ipv6 => "/proc/net/ip6_tables_names",
    };
    files::read(names).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Returns the names of the user-defined chains of all tables, of both families.
pub(crate) fn chains() -> Vec<String> {
    let mut chains = Vec::new();
    for family in Family::ALL {
        for table in table_names(family) {
            let entries =
                sys::read_xtables(family, &table).map_or(Vec::new(), |(_, entries)| entries);
            chains.extend(chain_names(&entries, family));
        }
    }
    chains
}

/// Returns the names of the user-defined chains in a table. The first entry of such a chain has the
/// target ERROR (struct xt_error_target), which contains the chain's name. The last entry of the table
/// has this target too, with the name ERROR. Parsing ends at an invalid offset.
fn chain_names(entries: &[u8], family: Family) -> Vec<String> {
    // struct ipt_entry, struct ip6t_entry { …; u16 target_offset, next_offset; … }
    let offsets = match family {
        Family::Ipv4 => 88,
        Family::Ipv6 => 140,
    };
    let u16_at =
        |entry: &[u8], at| Some(usize::from(u16::from_ne_bytes(*entry.get(at..)?.first_chunk()?)));
    let (mut names, mut rest) = (Vec::new(), entries);
    while let (Some(target), Some(next @ 1..)) = (u16_at(rest, offsets), u16_at(rest, offsets + 2))
    {
        let text = |at: usize| {
            let text = rest.get(target + at..)?.split(|byte| *byte == 0).next()?;
            std::str::from_utf8(text).ok()
        };
        // struct xt_entry_target { u16 size; char name[29]; u8 revision; }
        if let (Some("ERROR"), Some(name)) = (text(2), text(32))
            && name != "ERROR"
        {
            names.push(name.to_owned());
        }
        rest = rest.get(next..).unwrap_or_default();
    }
    names
}

/// Returns true if a chain whose policy is to drop has a rule for our mark; `None` if its policy is not
/// to drop, or if the table is invalid.
///
/// In `struct ipt_getinfo { char name[32]; u32 valid_hooks, hook_entry[5], underflow[5], …; }` the
/// `hook_entry` is the offset of a chain's first entry, and `underflow` the offset of its policy.
fn passes_mark(info: &[u8], entries: &[u8], hook: Hook, family: Family) -> Option<bool> {
    let u32_at =
        |bytes: &[u8], at: usize| bytes.get(at..)?.first_chunk().map(|b| u32::from_ne_bytes(*b));
    let begin = u32_at(info, 36 + 4 * hook as usize)? as usize;
    let policy = u32_at(info, 56 + 4 * hook as usize)? as usize;
    // After struct ipt_entry or ip6t_entry comes a standard target: 32 bytes, then the verdict.
    let target = match family {
        Family::Ipv4 => 112,
        Family::Ipv6 => 168,
    };
    let verdict = u32_at(entries, policy + target + 32)?;
    let (mark, mask) = PASSING;
    let pass = [mark.to_ne_bytes(), mask.to_ne_bytes()].concat(); // struct xt_mark_mtinfo1
    let passes = entries.get(begin..policy)?.windows(pass.len()).any(|part| part == pass);
    (verdict.cast_signed() == -1).then_some(passes) // -NF_DROP - 1
}
