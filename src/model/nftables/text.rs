//! Prints our table in nft syntax, for `plan --format sh` and as the rule fingerprint by which
//! `kernel` recognizes its rules. The data comes from [`chains`].

use std::fmt::{self, Write};

use super::{
    BRIDGE, Base, Chain, Fields, NFT_TABLE, PASS, Rule, RuleVerdict, RulesetOptions, Set, Test,
    chains, ruleset::PASS_CHAINS,
};
use crate::{family::Family, hash::fnv1a_32};

/// Returns the table in nft syntax, as one transaction. If the table is not `fresh`, its sets exist
/// and are not declared again: nft's set flags depend on its version, and the kernel refuses to add
/// an existing set with other flags.
pub fn script(skeleton: RulesetOptions, fresh: bool) -> String {
    let mut text = format!("add table inet {NFT_TABLE}\n");
    for (set, family) in Set::each().filter(|_| fresh) {
        let set = set.spec(family);
        let (noun, declaration) = (set.noun(), set.declaration());
        let _ = writeln!(text, "add {noun} inet {NFT_TABLE} {} {{ {declaration} }}", set.name);
    }
    if !fresh && !skeleton.accept {
        for name in PASS_CHAINS {
            let _ = writeln!(text, "add chain inet {NFT_TABLE} {name}");
            let _ = writeln!(text, "delete chain inet {NFT_TABLE} {name}");
        }
    }
    for Chain { name, base, .. } in chains(skeleton) {
        let hook_spec = base.map_or(String::new(), |Base { kind, hook, priority }| {
            let hook = format!("{hook:?}").to_lowercase();
            format!(" {{ type {kind} hook {hook} priority {priority}; }}")
        });
        let _ = writeln!(text, "add chain inet {NFT_TABLE} {name}{hook_spec}");
        let _ = writeln!(text, "flush chain inet {NFT_TABLE} {name}");
    }
    for chain in chains(skeleton) {
        for rule in chain.rules {
            let (name, mark) = (&chain.name, rule.fingerprint());
            let _ = writeln!(text, "add rule inet {NFT_TABLE} {name} {rule} comment \"{mark}\"");
        }
    }
    text
}

impl Rule {
    /// Returns the comment by which the rule is recognized: 32-bit FNV-1a over its nft text.
    pub fn fingerprint(&self) -> String {
        format!("kinglet {:08x}", fnv1a_32(self.to_string().as_bytes()))
    }
}

impl fmt::Display for Rule {
    /// Writes the rule in nft syntax.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ip = match self.family {
            Family::Ipv4 => "ip",
            Family::Ipv6 => "ip6",
        };
        write!(f, "meta nfproto {}", self.family)?;
        let fields = |fields: Fields| fields.text(ip);
        for test in &self.tests {
            match test {
                Test::In(key, set, yes) => {
                    let not = if *yes { "" } else { "!= " };
                    write!(f, " {} {not}@{}", fields(*key), set.of(self.family))?;
                }
                Test::Protocol(number) => write!(f, " meta l4proto {number}")?,
                Test::New => write!(f, " ct state new")?,
                Test::Marked => write!(f, " meta mark != 0x00000000")?,
                Test::FromBridge => write!(f, " iifname \"{BRIDGE}\"")?,
                Test::ToBridge => write!(f, " oifname \"{BRIDGE}\"")?,
                Test::FromThisNode(true) => write!(f, " fib saddr type local")?,
                Test::FromThisNode(false) => write!(f, " fib saddr type != local")?,
            }
        }
        match &self.verdict {
            RuleVerdict::Accept => write!(f, " accept"),
            RuleVerdict::Drop => write!(f, " drop"),
            RuleVerdict::Reject => write!(f, " reject with icmpx port-unreachable"),
            RuleVerdict::Reset => write!(f, " reject with tcp reset"),
            RuleVerdict::Masquerade => write!(f, " masquerade fully-random"),
            RuleVerdict::Pass => write!(f, " meta mark set {PASS:#010x}"),
            RuleVerdict::Jump(chain) => write!(f, " jump {chain}"),
            RuleVerdict::Map(key, map) => {
                write!(f, " {} vmap @{}", fields(*key), map.of(self.family))
            }
            RuleVerdict::Mark(map) => write!(
                f,
                " meta mark set {} map @{}",
                fields(Fields::Destination),
                map.of(self.family)
            ),
        }
    }
}

impl Fields {
    /// Returns the fields in nft syntax; `ip` is `ip` or `ip6`.
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
