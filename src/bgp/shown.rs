//! The table as people look at it. Pure.

use std::{fmt::Write, net::IpAddr};

use ipnet::IpNet;

use super::{
    attribute::{Attributes, Origin, Segment},
    choice::{LOCAL, Path, hops},
    out::told,
    policy::Refusal,
    rib::{Dest, Rib},
    update::LARGE_COMMUNITY,
    wire::take_u32,
};

/// What of the table is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All paths.
    All,
    /// What came from a peer, what was refused too.
    From(IpAddr),
    /// What a peer is told, in the shape in which it is told.
    To(IpAddr),
}

/// A path, or a network that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The network that it leads to.
    pub net: IpNet,
    /// The next hop; `None`: this node.
    pub next_hop: Option<IpAddr>,
    /// The peer that it came from; `None`: it begins here.
    pub from: Option<IpAddr>,
    /// AS_PATH, the nearest first: sets in `{}`, confederations in `()` and `[]` (RFC 5065).
    pub path: String,
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// COMMUNITIES as two numbers, then LARGE_COMMUNITY as three (RFC 8092 section 5).
    pub communities: Vec<String>,
    /// ORIGIN.
    pub origin: Origin,
    /// Its peer restarts and has not said it again yet.
    pub stale: bool,
    /// The best path to its network: the one that is passed on.
    pub best: bool,
    /// A route of the kernel has its next hop.
    pub used: bool,
    /// Why it was not let in.
    pub refused: Option<Refusal>,
}

impl Shown {
    fn new(net: IpNet, next_hop: Option<IpAddr>, from: Option<IpAddr>, said: &Attributes) -> Shown {
        Shown {
            net,
            next_hop,
            from,
            path: text(&said.path),
            local_pref: said.local_pref,
            med: said.med,
            communities: communities(said),
            origin: said.origin,
            stale: false,
            best: false,
            used: false,
            refused: None,
        }
    }
}

impl Rib {
    /// The table, for people to look at, in the order of networks and, of each, of preference.
    pub fn shown(&self, which: Which) -> Vec<Shown> {
        let at = match which {
            Which::All => None,
            Which::From(addr) | Which::To(addr) => match self.slots.find(addr) {
                Some(at) => Some(at),
                None => return Vec::new(),
            },
        };
        let mut all = Vec::new();
        for (net, dest) in &self.table {
            let hops = hops(&dest.paths, &self.slots);
            for (index, path) in dest.paths.iter().enumerate() {
                let from = self.slots.session(path.from).map(|from| from.addr);
                let mut shown = match which {
                    Which::From(_) if at != Some(path.from) => continue,
                    Which::From(_) | Which::All => {
                        let hop = (path.from != LOCAL).then_some(path.said.next_hop);
                        Shown::new(*net, hop, from, &path.said.attributes)
                    }
                    Which::To(_) if index > 0 => break,
                    Which::To(_) => match self.shown_to(at, net, path, dest) {
                        Some(shown) => Shown { from, ..shown },
                        None => break,
                    },
                };
                shown.stale = path.stale;
                shown.best = index == 0;
                shown.used = path.from != LOCAL
                    && path.usable
                    && !path.beaten
                    && hops.as_ref().is_some_and(|via| via.addrs().contains(&path.said.next_hop));
                all.push(shown);
            }
        }
        if let (Which::From(addr), Some(slot)) = (which, at.and_then(|at| self.slots.get(at))) {
            all.extend(slot.refused.iter().map(|(net, refusal)| Shown {
                refused: Some(*refusal),
                ..Shown::new(*net, None, Some(addr), &Attributes::default())
            }));
            all.sort_by_key(|shown| shown.net);
        }
        all
    }

    /// What a peer is told of a path, where it was told of the network.
    fn shown_to(&self, at: Option<u16>, net: &IpNet, path: &Path, dest: &Dest) -> Option<Shown> {
        let at = at.filter(|at| dest.was_told(*at))?;
        let told = told(&self.config, &self.slots, self.slots.session(at)?, net, path)?;
        Some(Shown::new(*net, Some(told.next_hop), None, &told.attributes))
    }
}

/// All communities as text.
fn communities(said: &Attributes) -> Vec<String> {
    let two = said.communities.iter().map(|c| format!("{}:{}", c >> 16, c & 0xffff));
    let large = said.others.iter().filter(|other| other.code == LARGE_COMMUNITY);
    let large = large.flat_map(|other| other.value.chunks_exact(12));
    let three = large.map(|mut value| {
        let mut number = || take_u32(&mut value).unwrap_or_default();
        format!("{}:{}:{}", number(), number(), number())
    });
    two.chain(three).collect()
}

/// An AS_PATH as text.
fn text(path: &[Segment]) -> String {
    let mut text = String::new();
    for segment in path {
        let (open, ases, close) = match segment {
            Segment::Sequence(ases) => ("", ases, ""),
            Segment::Set(ases) => ("{", ases, "}"),
            Segment::Confederation(true, ases) => ("(", ases, ")"),
            Segment::Confederation(false, ases) => ("[", ases, "]"),
        };
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(open);
        for (at, asn) in ases.iter().enumerate() {
            let _ = write!(text, "{}{asn}", if at > 0 { " " } else { "" });
        }
        text.push_str(close);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bgp::attribute::Other;

    #[test]
    fn a_path_reads_as_routers_print_it() {
        let path = [
            Segment::Confederation(true, vec![64512]),
            Segment::Sequence(vec![65001, 65001]),
            Segment::Set(vec![1, 2]),
        ];
        assert_eq!(text(&path), "(64512) 65001 65001 {1 2}");
        assert_eq!(text(&[]), "");
    }

    #[test]
    fn communities_read_as_routers_print_them_the_large_ones_last() {
        let two = [[65001u32, 1, 2], [4_200_000_001, 0, 7]].as_flattened().iter();
        let large = Other {
            code: LARGE_COMMUNITY,
            flags: 0xc0,
            value: two.flat_map(|number| number.to_be_bytes()).collect(),
        };
        let others = vec![Other { code: 99, flags: 0xc0, value: [0; 12].into() }, large];
        let said =
            Attributes { communities: vec![65001 << 16 | 7], others, ..Attributes::default() };
        assert_eq!(communities(&said), ["65001:7", "65001:1:2", "4200000001:0:7"]);
    }
}
