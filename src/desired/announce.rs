//! What the BGP speaker is told: who it is, whom it knows, and what it has to say. Pure.
//!
//! The rules are kube-router's (its `pkg/controllers/routing`): nodes know each other by their Node
//! objects, routers outside by flags or by annotations of this node's own; nodes are told of pod
//! networks, routers outside of addresses of Services too. An address with a Local policy is announced
//! only while a ready endpoint of its family is on this node. A range that stands for ClusterIPs is
//! the same from every node, so a ClusterIP with a Local policy is announced beside it.

mod services;

use std::net::{IpAddr, Ipv4Addr};

use super::{Unmet, has_ipv6};
use crate::{
    bgp::{Config, Distance, Export, Family, Import, Origin, Own, Peer},
    cluster::{
        Cluster, Node,
        node::{Bgp as Notes, Reflector},
    },
    few::Few,
    local::{Bgp, Host, Local, RouterId},
};

/// What the speaker is told, and what of it can't be had. `None`: BGP is not spoken, or nothing can be
/// said yet.
pub fn config(cluster: &Cluster, local: &Local) -> (Option<Config>, Vec<Unmet>) {
    let mut unmet = Vec::new();
    let (Some(told), Some(node)) = (&local.options.bgp, cluster.nodes.get(&local.node)) else {
        return (None, unmet);
    };
    let none = Notes::default();
    let notes = node.bgp.as_deref().unwrap_or(&none);
    for fault in &notes.faults {
        let what = format!("the annotation {} of node {}", fault.annotation, node.name);
        unmet.push(Unmet::new(what, &*fault.why));
    }
    let view = View { cluster, local, told, node, notes };
    let Some(own) = view.own(&mut unmet) else { return (None, unmet) };
    let peers = view.peers(&own, &mut unmet);
    let used = |net: &&ipnet::IpNet| own.families.contains(&Family::of(net));
    let pods = node.pod_cidrs.iter().filter(used).copied().collect();
    let mut origin = Origin { pods, ..Origin::default() };
    let on_link = local.host.as_ref().map(Host::on_link).unwrap_or_default();
    let mut import = Import { reject: notes.reject.clone(), on_link, ..Import::default() };
    if peers.values().any(Peer::is_outside) {
        view.services(&own, &mut origin, &mut import);
    }
    import.own.extend(origin.pods.iter().chain(&origin.services).copied());
    let export = Export {
        pods_inside: told.inside,
        pods_outside: told.advertise.pods,
        communities: notes.communities.clone(),
        prepend: notes.prepend,
        next_hop_self: told.next_hop_self,
    };
    (Some(Config { own, peers, origin, export, import }), unmet)
}

/// All that there is to know.
struct View<'a> {
    cluster: &'a Cluster,
    local: &'a Local,
    told: &'a Bgp,
    node: &'a Node,
    notes: &'a Notes,
}

impl View<'_> {
    fn host(&self) -> Option<&Host> {
        self.local.host.as_ref()
    }

    fn uses(&self, family: Family) -> bool {
        match family {
            Family::Ipv4 => self.local.options.ipv4,
            Family::Ipv6 => has_ipv6(self.local),
        }
    }

    /// Whether a link here has an address: a cloud's external one is on none.
    fn is_here(&self, addr: IpAddr) -> bool {
        self.host().is_none_or(|host| host.link_of(addr).is_some())
    }

    fn own(&self, unmet: &mut Vec<Unmet>) -> Option<Own> {
        let node = self.node;
        let mut lacks = |why: &str| -> Option<Own> {
            unmet.push(Unmet::new(format!("BGP of node {}", node.name), why));
            None
        };
        let Some(asn) = (if self.told.mesh { Some(self.told.asn) } else { self.notes.asn }) else {
            return lacks(
                "with --nodes-full-mesh=false a node needs an AS: annotate it with \
                 kube-router.io/node.asn",
            );
        };
        let Some(id) = self.id() else {
            return lacks(
                "the node has no IPv4 address that could be its BGP Identifier: set \
                 --router-id=generate",
            );
        };
        let used = |addr: &IpAddr| self.uses(Family::of_addr(addr));
        let mut addrs: Vec<IpAddr> = Vec::new();
        for addr in node.addrs().filter(used).filter(|addr| self.is_here(*addr)) {
            if !addrs.contains(&addr) {
                addrs.push(addr);
            }
        }
        if !self.notes.addrs.is_empty() {
            let given: Vec<IpAddr> = self.notes.addrs.iter().copied().filter(used).collect();
            for family in Family::ALL {
                let has = |addrs: &[IpAddr]| addrs.iter().any(|a| Family::of_addr(a) == family);
                if has(&addrs) && !has(&given) {
                    unmet.push(Unmet::new(
                        format!("BGP routes of {}", name(family)),
                        "the annotation kube-router.io/bgp-local-addresses has no address of it that \
                         could be their next hop",
                    ));
                }
            }
            addrs = given;
        }
        if addrs.is_empty() {
            let why = "it has no address to speak from, of a family that is used and on a link that is up";
            unmet.push(Unmet::new(format!("BGP of node {}", node.name), why));
            return None;
        }
        let cluster = match self.notes.reflector {
            Some(Reflector::Server(cluster)) => Some(cluster),
            _ => None,
        };
        Some(Own {
            asn,
            id,
            port: self.told.port,
            families: addrs.iter().map(Family::of_addr).collect(),
            addrs,
            cluster,
            restart: self.told.restart,
        })
    }

    fn id(&self) -> Option<Ipv4Addr> {
        let id = match self.told.id {
            RouterId::Given(id) => id,
            RouterId::Hash => hashed(self.node.addrs().next()?),
            RouterId::Addr => match self.node.addr(true)? {
                IpAddr::V4(v4) => v4,
                IpAddr::V6(_) => return None,
            },
        };
        Some(id).filter(|id| !id.is_unspecified())
    }

    fn peers(&self, own: &Own, unmet: &mut Vec<Unmet>) -> Few<IpAddr, Peer> {
        let mut peers = Few::new();
        if self.told.inside {
            let others = self.cluster.nodes.values().filter(|other| other.name != self.node.name);
            for node in others.filter(|other| self.speaks_with(other, own)) {
                if let Err(why) = self.inside(node, own, &mut peers) {
                    unmet.push(Unmet::new(format!("BGP with node {}", node.name), why));
                }
            }
        }
        self.outside(own, &mut peers, unmet);
        peers
    }

    /// Whether another node is to be spoken with: one of our AS, and where one of us is a client of
    /// reflectors, the other has to be one.
    fn speaks_with(&self, other: &Node, own: &Own) -> bool {
        let notes = other.bgp.as_deref();
        let (ours, theirs) = (self.notes.reflector, notes.and_then(|notes| notes.reflector));
        let serves = |of| matches!(of, Some(Reflector::Server(_)));
        let fits = |of, other| !matches!(of, Some(Reflector::Client(_))) || serves(other);
        let same = self.told.mesh || notes.is_some_and(|notes| notes.asn == Some(own.asn));
        same && fits(ours, theirs) && fits(theirs, ours)
    }

    fn inside(&self, node: &Node, own: &Own, peers: &mut Few<IpAddr, Peer>) -> Result<(), String> {
        // IPv4 comes first.
        let shared = own.families.iter().find_map(|family| node.addr(*family == Family::Ipv4));
        let addr = shared.ok_or("it has no address of a family that this node speaks BGP over")?;
        if self.node.addrs().any(|ours| ours == addr) {
            return Err(format!("its address {addr} is this node's"));
        }
        if let Some(Peer { node: Some(first), .. }) = peers.get(&addr) {
            return Err(format!("node {first} has the same address {addr}"));
        }
        let theirs = node.bgp.as_deref().and_then(|notes| notes.reflector);
        let peer = Peer {
            node: Some(node.name.clone()),
            asn: own.asn,
            port: self.told.port,
            // The one that they know us by.
            local: self.node.addr(addr.is_ipv4()).filter(|addr| self.is_here(*addr)),
            password: None,
            distance: Distance::Anywhere,
            hold: self.told.hold,
            client: own.cluster.is_some() && matches!(theirs, Some(Reflector::Client(_))),
            bfd: None,
            passive: false,
        };
        peers.insert(addr, peer);
        Ok(())
    }

    /// What is configured for a router outside counts, even where a node has its address.
    fn outside(&self, own: &Own, peers: &mut Few<IpAddr, Peer>, unmet: &mut Vec<Unmet>) {
        let noted = &self.notes.routers;
        let by_flags = !self.told.routers.is_empty();
        if by_flags && !noted.is_empty() {
            unmet.push(Unmet::new(
                format!(
                    "the {} BGP peers that node {} is annotated with",
                    noted.len(),
                    self.node.name
                ),
                "--peer-router-ips takes their place, as in kube-router",
            ));
        }
        for router in if by_flags { &self.told.routers } else { noted } {
            let mut lacks = |why: &str| {
                unmet.push(Unmet::new(format!("BGP with router {}", router.addr), why));
            };
            let family = Family::of_addr(&router.addr);
            if self.node.addrs().chain(own.addrs.iter().copied()).any(|ours| ours == router.addr) {
                lacks("it is this node");
                continue;
            }
            if !own.families.contains(&family) {
                lacks("this node has no address of its family that BGP is spoken from");
                continue;
            }
            let first = || own.addrs.iter().copied().find(|addr| Family::of_addr(addr) == family);
            let peer = Peer {
                node: None,
                asn: router.asn,
                port: router.port,
                local: router.local.or_else(first),
                password: router.password.clone(),
                distance: match self.told.hops {
                    hops if self.told.ttl_security => Distance::Within(hops),
                    hops if router.asn != own.asn => Distance::Hops(hops),
                    _ => Distance::Anywhere,
                },
                hold: self.told.hold,
                client: false,
                bfd: router.bfd,
                passive: false,
            };
            peers.insert(router.addr, peer);
        }
    }
}

fn name(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "IPv4",
        Family::Ipv6 => "IPv6",
    }
}

/// FNV-1a of 32 bits over an address as Go keeps it, an IPv4 one within IPv6: kube-router's
/// `--router-id=generate`.
fn hashed(addr: IpAddr) -> Ipv4Addr {
    let bytes = match addr {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    let step = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    bytes.iter().fold(0x811c_9dc5, step).into()
}

#[cfg(test)]
mod tests;
