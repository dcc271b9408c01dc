//! Our table in nft's own language.

use std::fmt::{self, Write};

use super::{
    BRIDGE, Base, Chain, Fields, NFT_TABLE, PASS, PASS_CHAINS, Rule, Set, Skeleton, Test, Verdict,
    chains,
};

/// The table in nft's own language, as one transaction. Where it is not `fresh` its sets are there: which
/// flags nft gives them depends on its version, and the kernel takes no other for the same.
pub fn script(skeleton: Skeleton, fresh: bool) -> String {
    let mut text = format!("add table inet {NFT_TABLE}\n");
    for (set, ipv4) in Set::each().filter(|_| fresh) {
        let _ = writeln!(
            text,
            "add {} inet {NFT_TABLE} {} {{ {} }}",
            set.noun(),
            set.name(ipv4),
            set.declaration(ipv4)
        );
    }
    if !fresh && !skeleton.accept {
        for name in PASS_CHAINS {
            let _ = writeln!(text, "add chain inet {NFT_TABLE} {name}");
            let _ = writeln!(text, "delete chain inet {NFT_TABLE} {name}");
        }
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
                Test::Marked => write!(f, " meta mark != 0x00000000")?,
                Test::FromBridge => write!(f, " iifname \"{BRIDGE}\"")?,
                Test::ToBridge => write!(f, " oifname \"{BRIDGE}\"")?,
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
            Verdict::Pass => write!(f, " meta mark set {PASS:#010x}"),
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
