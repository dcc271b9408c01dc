//! Derives the configuration of the BGP speaker from the cluster and the flags: its identity, its
//! peers, the prefixes that it originates, and its import and export policy. Pure.
//!
//! [`config`] runs `local_speaker` (AS, BGP Identifier, addresses), `peers` (`add_node_peer`,
//! `add_routers`) and `services::add_services` (the addresses of Services). The BGP session, the
//! RIB and the decision process are left to `bgp`.
//!
//! The rules are kube-router's (its `pkg/controllers/routing`). Nodes find each other by their Node
//! objects; external routers come from flags or from annotations of this node's own Node. Pod
//! networks are advertised to nodes, and with the addresses of Services to external routers. An
//! address with a Local policy is advertised only while a ready endpoint of its family is on this
//! node. A range that stands for ClusterIPs is the same from every node, so a ClusterIP with a
//! Local policy is advertised beside it.

mod services;

use std::net::{IpAddr, Ipv4Addr};

use super::{Unmet, has_ipv6};
use crate::{
    bgp::{Config, Distance, Export, Family, Import, Origin, Own, Peer},
    cluster::{
        Cluster, Node,
        node::{Bgp as Annotations, Reflector},
    },
    few::Few,
    local::{Bgp, Host, Local, RouterId},
};

/// Returns the configuration of the BGP speaker, and the requests that can't be honoured. The
/// configuration is `None` if BGP is disabled, if this node's Node object is not known yet, or if
/// the speaker would have no AS, BGP Identifier or address.
pub fn config(cluster: &Cluster, local: &Local) -> (Option<Config>, Vec<Unmet>) {
    let mut unmet = Vec::new();
    let (Some(options), Some(node)) = (&local.options.bgp, cluster.nodes.get(&local.node)) else {
        return (None, unmet);
    };
    let none = Annotations::default();
    let annotations = node.bgp.as_deref().unwrap_or(&none);
    for fault in &annotations.faults {
        let what = format!("the annotation {} of node {}", fault.annotation, node.name);
        unmet.push(Unmet::new(what, &*fault.why));
    }
    let inputs = Inputs { cluster, local, options, node, annotations };
    let Some(own) = inputs.local_speaker(&mut unmet) else { return (None, unmet) };
    let peers = inputs.peers(&own, &mut unmet);
    let used = |net: &&ipnet::IpNet| own.families.contains(&Family::of(net));
    let pods = node.pod_cidrs.iter().filter(used).copied().collect();
    let mut origin = Origin { pods, ..Origin::default() };
    let on_link = local.host.as_ref().map(Host::on_link).unwrap_or_default();
    let mut import = Import { reject: annotations.reject.clone(), on_link, ..Import::default() };
    if peers.values().any(Peer::is_outside) {
        inputs.add_services(&own, &mut origin, &mut import);
    }
    import.own.extend(origin.pods.iter().chain(&origin.services).copied());
    let export = Export {
        pods_inside: options.inside,
        pods_outside: options.advertise.pods,
        communities: annotations.communities.clone(),
        prepend: annotations.prepend,
        next_hop_self: options.next_hop_self,
    };
    (Some(Config { own, peers, origin, export, import }), unmet)
}

/// The input that all parts of the configuration share.
struct Inputs<'a> {
    cluster: &'a Cluster,
    local: &'a Local,
    options: &'a Bgp,
    node: &'a Node,
    annotations: &'a Annotations,
}

impl Inputs<'_> {
    fn host(&self) -> Option<&Host> {
        self.local.host.as_ref()
    }

    fn uses_family(&self, family: Family) -> bool {
        match family {
            Family::Ipv4 => self.local.options.ipv4,
            Family::Ipv6 => has_ipv6(self.local),
        }
    }

    /// Returns true if a link here carries the address, or if the host was not inspected. The
    /// external address that a cloud provider gives a node is on no link.
    fn is_on_link(&self, addr: IpAddr) -> bool {
        self.host().is_none_or(|host| host.link_of(addr).is_some())
    }

    /// Returns the local speaker; `None` if it can't have an AS, a BGP Identifier or an address,
    /// which is then added to `unmet`.
    fn local_speaker(&self, unmet: &mut Vec<Unmet>) -> Option<Own> {
        let node = self.node;
        let mut reject = |why: &str| -> Option<Own> {
            unmet.push(Unmet::new(format!("BGP of node {}", node.name), why));
            None
        };
        let Some(asn) =
            (if self.options.mesh { Some(self.options.asn) } else { self.annotations.asn })
        else {
            return reject(
                "with --nodes-full-mesh=false a node needs an AS: annotate it with \
                 kube-router.io/node.asn",
            );
        };
        let Some(id) = self.router_id() else {
            return reject(
                "the node has no IPv4 address that could be its BGP Identifier: set \
                 --router-id=generate",
            );
        };
        let used = |addr: &IpAddr| self.uses_family(Family::of_addr(addr));
        let mut addrs: Vec<IpAddr> = Vec::new();
        for addr in node.addrs().filter(used).filter(|addr| self.is_on_link(*addr)) {
            if !addrs.contains(&addr) {
                addrs.push(addr);
            }
        }
        if !self.annotations.addrs.is_empty() {
            let given: Vec<IpAddr> = self.annotations.addrs.iter().copied().filter(used).collect();
            for family in Family::ALL {
                let has = |addrs: &[IpAddr]| addrs.iter().any(|a| Family::of_addr(a) == family);
                if has(&addrs) && !has(&given) {
                    unmet.push(Unmet::new(
                        format!("BGP routes of {}", family_name(family)),
                        "the annotation kube-router.io/bgp-local-addresses has no address of this \
                         family, which these routes need as their next hop",
                    ));
                }
            }
            addrs = given;
        }
        if addrs.is_empty() {
            let why = "it has no address to speak from: no address of an enabled family is on a link that is up";
            unmet.push(Unmet::new(format!("BGP of node {}", node.name), why));
            return None;
        }
        let cluster = match self.annotations.reflector {
            Some(Reflector::Server(cluster)) => Some(cluster),
            _ => None,
        };
        Some(Own {
            asn,
            id,
            port: self.options.port,
            families: addrs.iter().map(Family::of_addr).collect(),
            addrs,
            cluster,
            restart: self.options.restart,
        })
    }

    /// Returns the BGP Identifier (RFC 4271 section 4.2, RFC 6286); `None` if the node has no
    /// address to derive it from, or if it would be 0.
    fn router_id(&self) -> Option<Ipv4Addr> {
        let id = match self.options.id {
            RouterId::Given(id) => id,
            RouterId::Hash => hash_router_id(self.node.addrs().next()?),
            RouterId::Addr => match self.node.addr(true)? {
                IpAddr::V4(v4) => v4,
                IpAddr::V6(_) => return None,
            },
        };
        Some(id).filter(|id| !id.is_unspecified())
    }

    fn peers(&self, own: &Own, unmet: &mut Vec<Unmet>) -> Few<IpAddr, Peer> {
        let mut peers = Few::new();
        if self.options.inside {
            let others = self.cluster.nodes.values().filter(|other| other.name != self.node.name);
            for node in others.filter(|other| self.is_peer(other, own)) {
                if let Err(why) = self.add_node_peer(node, own, &mut peers) {
                    unmet.push(Unmet::new(format!("BGP with node {}", node.name), why));
                }
            }
        }
        self.add_routers(own, &mut peers, unmet);
        peers
    }

    /// Returns true if another node is a peer: it is in our AS, and if one of the two is a client
    /// of route reflectors, the other one is a reflector (RFC 4456).
    fn is_peer(&self, other: &Node, own: &Own) -> bool {
        let annotations = other.bgp.as_deref();
        let (ours, theirs) = (self.annotations.reflector, annotations.and_then(|a| a.reflector));
        let serves = |of| matches!(of, Some(Reflector::Server(_)));
        let fits = |of, other| !matches!(of, Some(Reflector::Client(_))) || serves(other);
        let same = self.options.mesh || annotations.is_some_and(|a| a.asn == Some(own.asn));
        same && fits(ours, theirs) && fits(theirs, ours)
    }

    /// Adds another node as a peer. Fails if the two share no family, or if this node or an earlier
    /// peer has the same address.
    fn add_node_peer(
        &self,
        node: &Node,
        own: &Own,
        peers: &mut Few<IpAddr, Peer>,
    ) -> Result<(), String> {
        // `families` lists IPv4 first.
        let shared = own.families.iter().find_map(|family| node.addr(*family == Family::Ipv4));
        let addr = shared.ok_or("it has no address of a family that this node speaks BGP over")?;
        if self.node.addrs().any(|ours| ours == addr) {
            return Err(format!("its address {addr} is this node's"));
        }
        if let Some(Peer { node: Some(first), .. }) = peers.get(&addr) {
            return Err(format!("node {first} has the same address {addr}"));
        }
        let theirs = node.bgp.as_deref().and_then(|a| a.reflector);
        let peer = Peer {
            node: Some(node.name.clone()),
            asn: own.asn,
            port: self.options.port,
            // The address by which the other nodes identify this one.
            local: self.node.addr(addr.is_ipv4()).filter(|addr| self.is_on_link(*addr)),
            password: None,
            distance: Distance::Anywhere,
            hold: self.options.hold,
            client: own.cluster.is_some() && matches!(theirs, Some(Reflector::Client(_))),
            bfd: None,
            passive: false,
        };
        peers.insert(addr, peer);
        Ok(())
    }

    /// Adds the external routers. A configured router replaces a node peer of the same address.
    fn add_routers(&self, own: &Own, peers: &mut Few<IpAddr, Peer>, unmet: &mut Vec<Unmet>) {
        let annotated = &self.annotations.routers;
        let by_flags = !self.options.routers.is_empty();
        if by_flags && !annotated.is_empty() {
            unmet.push(Unmet::new(
                format!(
                    "the {} BGP peers that node {} is annotated with",
                    annotated.len(),
                    self.node.name
                ),
                "--peer-router-ips takes their place, as in kube-router",
            ));
        }
        for router in if by_flags { &self.options.routers } else { annotated } {
            let mut reject = |why: &str| {
                unmet.push(Unmet::new(format!("BGP with router {}", router.addr), why));
            };
            let family = Family::of_addr(&router.addr);
            if self.node.addrs().chain(own.addrs.iter().copied()).any(|ours| ours == router.addr) {
                reject("it is an address of this node");
                continue;
            }
            if !own.families.contains(&family) {
                reject("this node speaks BGP from no address of that family");
                continue;
            }
            let first = || own.addrs.iter().copied().find(|addr| Family::of_addr(addr) == family);
            let peer = Peer {
                node: None,
                asn: router.asn,
                port: router.port,
                local: router.local.or_else(first),
                password: router.password.clone(),
                distance: match self.options.hops {
                    hops if self.options.ttl_security => Distance::Within(hops),
                    hops if router.asn != own.asn => Distance::Hops(hops),
                    _ => Distance::Anywhere,
                },
                hold: self.options.hold,
                client: false,
                bfd: router.bfd,
                passive: false,
            };
            peers.insert(router.addr, peer);
        }
    }
}

fn family_name(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "IPv4",
        Family::Ipv6 => "IPv6",
    }
}

/// Returns the BGP Identifier that kube-router derives with `--router-id=generate`: 32-bit FNV-1a
/// over the 16 bytes of the address in network order. An IPv4 address is hashed in its IPv4-mapped
/// form, as Go stores it.
fn hash_router_id(addr: IpAddr) -> Ipv4Addr {
    let bytes = match addr {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    let step = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    bytes.iter().fold(0x811c_9dc5, step).into()
}

#[cfg(test)]
mod tests;
