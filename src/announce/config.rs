//! Builds the BGP configuration: the local speaker, its peers and their policy.

use crate::family::Family;
use crate::{
    collections::FlatMap,
    desired::{Unmet, has_ipv6},
    hash::fnv1a_32,
    model::{
        bgp::{Config, Export, Import, LocalSpeaker, Originated, Peer, TtlPolicy},
        cluster::{
            Cluster, Node,
            node::{NodeBgp as Annotations, Reflector},
        },
        local::{BgpOptions, Host, Local, RouterId},
    },
};
use std::net::{IpAddr, Ipv4Addr};

/// Returns the configuration of the BGP speaker, and the requests that can't be honoured. The
/// configuration is `None` if BGP is disabled, if this node's Node object is not known yet, or if
/// the speaker would have no AS, BGP Identifier or address.
pub(crate) fn config(cluster: &Cluster, local: &Local) -> (Option<Config>, Vec<Unmet>) {
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
    let mut origin = Originated { pods, ..Originated::default() };
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
pub(super) struct Inputs<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) local: &'a Local,
    pub(super) options: &'a BgpOptions,
    pub(super) node: &'a Node,
    annotations: &'a Annotations,
}

impl Inputs<'_> {
    pub(super) fn host(&self) -> Option<&Host> {
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
    fn local_speaker(&self, unmet: &mut Vec<Unmet>) -> Option<LocalSpeaker> {
        let node = self.node;
        let mut reject = |why: &str| -> Option<LocalSpeaker> {
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
        Some(LocalSpeaker {
            asn,
            id,
            port: self.options.port,
            families: addrs.iter().map(Family::of_addr).collect(),
            addrs,
            cluster_id: cluster,
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

    fn peers(&self, own: &LocalSpeaker, unmet: &mut Vec<Unmet>) -> FlatMap<IpAddr, Peer> {
        let mut peers = FlatMap::new();
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
    fn is_peer(&self, other: &Node, own: &LocalSpeaker) -> bool {
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
        own: &LocalSpeaker,
        peers: &mut FlatMap<IpAddr, Peer>,
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
            distance: TtlPolicy::Anywhere,
            hold_time: self.options.hold,
            client: own.cluster_id.is_some() && matches!(theirs, Some(Reflector::Client(_))),
            bfd: None,
            passive: false,
        };
        peers.insert(addr, peer);
        Ok(())
    }

    /// Adds the external routers. A configured router replaces a node peer of the same address.
    fn add_routers(
        &self,
        own: &LocalSpeaker,
        peers: &mut FlatMap<IpAddr, Peer>,
        unmet: &mut Vec<Unmet>,
    ) {
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
                    hops if self.options.ttl_security => TtlPolicy::Within(hops),
                    hops if router.asn != own.asn => TtlPolicy::Hops(hops),
                    _ => TtlPolicy::Anywhere,
                },
                hold_time: self.options.hold,
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
    fnv1a_32(&bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        collections::FlatSet,
        model::{
            bgp::peer::{RawPeer, Router, Secret},
            cluster::{
                Endpoint, EndpointSlice, Name, Object, Service, ServiceAdvertise, SlicePort,
                node::AnnotationFault,
            },
            items::Protocol,
            local::{HostLink, Options},
        },
    };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn ips(text: &str) -> Vec<IpAddr> {
        text.split_whitespace().map(ip).collect()
    }

    fn node(name: &str, addrs: &str, pods: &str, annotations: Annotations) -> Object {
        Object::Node(Node {
            name: name.into(),
            internal_ips: ips(addrs),
            pod_cidrs: pods.split_whitespace().map(|net| net.parse().unwrap()).collect(),
            bgp: (annotations != Annotations::default()).then(|| Box::new(annotations)),
            ..Node::default()
        })
    }

    /// Returns a cluster of this node, `a`, and the given objects.
    fn cluster(annotations: Annotations, others: impl IntoIterator<Item = Object>) -> Cluster {
        let mut cluster = Cluster::default();
        cluster.insert(node("a", "192.0.2.11 fd00::11", "10.244.0.0/24 fd44::/64", annotations));
        others.into_iter().for_each(|object| cluster.insert(object));
        cluster
    }

    fn plain(name: &str, last: u8) -> Object {
        node(
            name,
            &format!("192.0.2.{last} fd00::{last}"),
            &format!("10.244.{last}.0/24"),
            Annotations::default(),
        )
    }

    fn local(bgp: BgpOptions) -> Local {
        let options = Options { bgp: Some(bgp), ..Options::default() };
        Local { node: "a".into(), options, host: None }
    }

    fn router(addr: &str, asn: &str) -> Router {
        Router::read(RawPeer { addr, asn, ..RawPeer::default() }).unwrap()
    }

    /// Returns options with one external router.
    fn with_router() -> BgpOptions {
        BgpOptions { routers: vec![router("192.0.2.1", "64513")], ..BgpOptions::default() }
    }

    fn of(cluster: &Cluster, local: &Local) -> (Config, Vec<String>) {
        let (config, unmet) = config(cluster, local);
        (config.unwrap(), unmet.into_iter().map(|u| format!("{}: {}", u.what, u.why)).collect())
    }

    fn names(config: &Config) -> Vec<String> {
        let name = |(addr, peer): (&IpAddr, &Peer)| {
            format!("{} {addr}", peer.node.as_deref().unwrap_or("-"))
        };
        config.peers.iter().map(name).collect()
    }

    fn nets(nets: &FlatSet<ipnet::IpNet>) -> Vec<String> {
        nets.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn there_is_no_configuration_if_bgp_is_off_or_this_nodes_object_is_missing() {
        let mut local = local(BgpOptions::default());
        assert_eq!(config(&Cluster::default(), &local), (None, vec![]));
        local.options.bgp = None;
        assert_eq!(config(&cluster(Annotations::default(), []), &local), (None, vec![]));
    }

    #[test]
    fn by_default_all_nodes_form_a_full_mesh_of_one_as_and_advertise_their_pod_networks() {
        let cluster = cluster(Annotations::default(), [plain("b", 12), plain("c", 13)]);
        let (got, unmet) = of(&cluster, &local(BgpOptions::default()));
        assert_eq!(unmet, [""; 0]);
        let own = LocalSpeaker {
            asn: 64_512,
            id: [192, 0, 2, 11].into(),
            addrs: ips("192.0.2.11 fd00::11"),
            port: 179,
            families: Family::ALL.into(),
            cluster_id: None,
            restart: None,
        };
        assert_eq!(got.own, own);
        assert_eq!(names(&got), ["b 192.0.2.12", "c 192.0.2.13"]);
        let peer = Peer {
            node: Some("b".into()),
            asn: 64_512,
            port: 179,
            local: Some(ip("192.0.2.11")),
            password: None,
            distance: TtlPolicy::Anywhere,
            hold_time: 90,
            client: false,
            bfd: None,
            passive: false,
        };
        assert_eq!(*got.peers.get(&ip("192.0.2.12")).unwrap(), peer);
        assert_eq!(nets(&got.origin.pods), ["10.244.0.0/24", "fd44::/64"]);
        assert_eq!(nets(&got.import.own), ["10.244.0.0/24", "fd44::/64"]);
        let export = Export { pods_inside: true, pods_outside: true, ..Export::default() };
        assert_eq!((got.export, got.origin.services.len()), (export, 0));
    }

    #[test]
    fn flags_and_annotations_set_the_identity_and_the_export_policy() {
        let annotations = Annotations {
            communities: vec![7],
            reject: vec!["10.0.0.0/8".parse().unwrap()],
            prepend: Some((64_600, 2)),
            ..Annotations::default()
        };
        let mut bgp = BgpOptions {
            asn: 64_600,
            id: RouterId::Given([9, 9, 9, 9].into()),
            port: 1790,
            restart: Some(120),
            next_hop_self: true,
            ..BgpOptions::default()
        };
        bgp.advertise.pods = false;
        let cluster = cluster(annotations, [plain("b", 12)]);
        let (got, _) = of(&cluster, &local(bgp));
        assert_eq!((got.own.asn, got.own.id, got.own.port), (64_600, [9, 9, 9, 9].into(), 1790));
        assert_eq!(got.own.restart, Some(120));
        let peer = got.peers.get(&ip("192.0.2.12")).unwrap();
        assert_eq!((peer.asn, peer.port), (64_600, 1790));
        let export = Export {
            pods_inside: true,
            pods_outside: false,
            communities: vec![7],
            prepend: Some((64_600, 2)),
            next_hop_self: true,
        };
        assert_eq!(got.export, export);
        assert_eq!(got.import.reject, ["10.0.0.0/8".parse().unwrap()]);
    }

    #[test]
    fn a_node_without_ipv4_needs_a_router_id_which_can_be_generated() {
        let mut cluster = Cluster::default();
        cluster.insert(node("a", "fd00::11", "fd44::/64", Annotations::default()));
        let mut local = local(BgpOptions::default());
        let (none, unmet) = config(&cluster, &local);
        assert!(none.is_none() && unmet[0].why.ends_with("set --router-id=generate"), "{unmet:?}");
        local.options.bgp = Some(BgpOptions { id: RouterId::Hash, ..BgpOptions::default() });
        let (got, _) = of(&cluster, &local);
        assert_eq!(got.own.families, [Family::Ipv6].into());
        assert_eq!(got.own.id, hash_router_id(ip("fd00::11")));
    }

    #[test]
    fn the_generated_router_id_is_fnv_1a_over_the_sixteen_byte_address() {
        // The same hash, written out byte by byte.
        let mut want = 0x811c_9dc5_u32;
        for byte in [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 192, 0, 2, 11] {
            want ^= byte;
            want = want.wrapping_mul(16_777_619);
        }
        assert_eq!(hash_router_id(ip("192.0.2.11")), Ipv4Addr::from(want));
        assert_ne!(hash_router_id(ip("192.0.2.11")), hash_router_id(ip("192.0.2.12")));
    }

    #[test]
    fn without_a_full_mesh_a_node_peers_with_the_nodes_of_its_own_as() {
        let with = |asn| Annotations { asn: Some(asn), ..Annotations::default() };
        let others = || {
            [
                node("b", "192.0.2.12", "", with(64_600)),
                node("c", "192.0.2.13", "", with(64_601)),
                plain("d", 14),
            ]
        };
        let local = local(BgpOptions { mesh: false, asn: 64_999, ..BgpOptions::default() });
        let (got, unmet) = of(&cluster(with(64_600), others()), &local);
        assert_eq!(
            (got.own.asn, names(&got), unmet.len()),
            (64_600, vec!["b 192.0.2.12".to_owned()], 0)
        );
        assert_eq!(got.peers.get(&ip("192.0.2.12")).unwrap().asn, 64_600);
        let (none, unmet) = config(&cluster(Annotations::default(), others()), &local);
        assert!(none.is_none() && unmet[0].why.contains("kube-router.io/node.asn"), "{unmet:?}");
    }

    #[test]
    fn without_ibgp_only_external_routers_are_peers() {
        let local = local(BgpOptions { inside: false, ..with_router() });
        let (got, _) = of(&cluster(Annotations::default(), [plain("b", 12)]), &local);
        assert_eq!(names(&got), ["- 192.0.2.1"]);
        assert!(!got.export.pods_inside && got.export.pods_outside);
    }

    #[test]
    fn a_route_reflector_client_peers_with_reflectors_only_and_a_reflector_with_all() {
        let id = Ipv4Addr::new(0, 0, 0, 1);
        let with = |reflector| Annotations { reflector, ..Annotations::default() };
        let (server, client) = (Some(Reflector::Server(id)), Some(Reflector::Client(id)));
        let others = || {
            [
                node("c", "192.0.2.13", "", with(client)),
                node("n", "192.0.2.14", "", with(None)),
                node("s", "192.0.2.15", "", with(server)),
            ]
        };
        for (ours, speaks, clients, cluster_id) in [
            (client, vec!["s 192.0.2.15"], 0, None),
            (None, vec!["n 192.0.2.14", "s 192.0.2.15"], 0, None),
            (server, vec!["c 192.0.2.13", "n 192.0.2.14", "s 192.0.2.15"], 1, Some(id)),
        ] {
            let (got, _) = of(&cluster(with(ours), others()), &local(BgpOptions::default()));
            assert_eq!(
                (names(&got), got.own.cluster_id),
                (speaks.iter().map(ToString::to_string).collect(), cluster_id)
            );
            assert_eq!(got.peers.values().filter(|peer| peer.client).count(), clients, "{ours:?}");
        }
    }

    #[test]
    fn a_node_is_a_peer_over_ipv4_if_both_have_it_and_else_over_ipv6() {
        let others = [
            node("b", "fd00::12 192.0.2.12", "", Annotations::default()),
            node("c", "fd00::13", "", Annotations::default()),
        ];
        let mut cluster = cluster(Annotations::default(), others);
        let mut local = local(BgpOptions::default());
        let (got, _) = of(&cluster, &local);
        assert_eq!(names(&got), ["b 192.0.2.12", "c fd00::13"]);
        assert_eq!(got.peers.get(&ip("fd00::13")).unwrap().local, Some(ip("fd00::11")));
        local.options.ipv6 = false;
        let (got, unmet) = of(&cluster, &local);
        assert_eq!(
            (names(&got), nets(&got.origin.pods)),
            (vec!["b 192.0.2.12".to_owned()], vec!["10.244.0.0/24".to_owned()])
        );
        assert_eq!(
            unmet,
            ["BGP with node c: it has no address of a family that this node speaks BGP over"]
        );
        local.options =
            Options { ipv4: false, bgp: Some(BgpOptions::default()), ..Options::default() };
        cluster.nodes.remove("c");
        let (got, _) = of(&cluster, &local);
        assert_eq!(
            (names(&got), got.own.id),
            (vec!["b fd00::12".to_owned()], [192, 0, 2, 11].into())
        );
    }

    #[test]
    fn nodes_with_the_same_address_are_one_peer_and_a_node_with_this_nodes_address_is_none() {
        let others = [plain("b", 12), plain("c", 12), plain("d", 11)];
        let (got, unmet) =
            of(&cluster(Annotations::default(), others), &local(BgpOptions::default()));
        assert_eq!(names(&got), ["b 192.0.2.12"]);
        assert_eq!(
            unmet,
            [
                "BGP with node c: node b has the same address 192.0.2.12",
                "BGP with node d: its address 192.0.2.11 is this node's"
            ]
        );
    }

    #[test]
    fn an_address_that_no_link_here_carries_is_no_local_address() {
        let mut cluster = cluster(Annotations::default(), [plain("b", 12)]);
        cluster.nodes.get_mut("a").unwrap().external_ips = ips("203.0.113.11");
        let mut local = local(BgpOptions::default());
        let link = |addr: &str| HostLink {
            name: "eth0".into(),
            mtu: 1500,
            addrs: vec![addr.parse().unwrap()],
        };
        local.host = Some(Host { links: vec![link("192.0.2.11/24")], ..Host::default() });
        let (got, unmet) = of(&cluster, &local);
        assert_eq!((got.own.addrs, unmet.len()), (ips("192.0.2.11"), 0));
        local.host = Some(Host { links: vec![link("198.51.100.1/24")], ..Host::default() });
        let (none, unmet) = config(&cluster, &local);
        assert!(none.is_none() && unmet[0].why.contains("no address to speak from"), "{unmet:?}");
    }

    #[test]
    fn annotated_local_addresses_replace_the_addresses_of_the_node() {
        let annotations = Annotations { addrs: ips("198.51.100.11"), ..Annotations::default() };
        let bgp = with_router();
        let (got, unmet) = of(&cluster(annotations, [plain("b", 12)]), &local(bgp));
        assert_eq!(
            (got.own.addrs, got.own.families),
            (ips("198.51.100.11"), [Family::Ipv4].into())
        );
        assert_eq!(
            got.peers.get(&ip("192.0.2.12")).unwrap().local,
            Some(ip("192.0.2.11")),
            "nodes identify it by its InternalIP"
        );
        assert_eq!(got.peers.get(&ip("192.0.2.1")).unwrap().local, Some(ip("198.51.100.11")));
        assert_eq!(nets(&got.origin.pods), ["10.244.0.0/24"]);
        assert!(unmet.len() == 1 && unmet[0].starts_with("BGP routes of IPv6: "), "{unmet:?}");
    }

    #[test]
    fn external_routers_come_from_flags_and_else_from_annotations() {
        let raw = RawPeer {
            addr: "192.0.2.2",
            asn: "64514",
            port: "1790",
            local: "192.0.2.99",
            password: "czNjcmV0",
            bfd: None,
        };
        let annotations =
            Annotations { routers: vec![Router::read(raw).unwrap()], ..Annotations::default() };
        let (got, unmet) = of(
            &cluster(annotations.clone(), []),
            &local(BgpOptions { hops: 3, hold: 30, ..BgpOptions::default() }),
        );
        let peer = Peer {
            node: None,
            asn: 64_514,
            port: 1790,
            local: Some(ip("192.0.2.99")),
            password: Some(Secret::new("s3cret")),
            distance: TtlPolicy::Hops(3),
            hold_time: 30,
            client: false,
            bfd: None,
            passive: false,
        };
        assert_eq!((got.peers.get(&ip("192.0.2.2")).unwrap(), unmet.len()), (&peer, 0));
        let (got, unmet) = of(&cluster(annotations, []), &local(with_router()));
        assert_eq!(names(&got), ["- 192.0.2.1"]);
        assert_eq!(got.peers.get(&ip("192.0.2.1")).unwrap().local, Some(ip("192.0.2.11")));
        let want = "the 1 BGP peers that node a is annotated with: --peer-router-ips takes their place, as in kube-router";
        assert_eq!(unmet, [want]);
    }

    #[test]
    fn an_external_router_replaces_a_node_peer_and_this_nodes_own_address_is_refused() {
        let routers = vec![
            router("192.0.2.12", "64512"),
            router("192.0.2.11", "64512"),
            router("fd00::99", "64512"),
        ];
        let mut local = local(BgpOptions { routers, ..BgpOptions::default() });
        local.options.ipv6 = false;
        let (got, unmet) = of(&cluster(Annotations::default(), [plain("b", 12)]), &local);
        assert_eq!(names(&got), ["- 192.0.2.12"]);
        assert_eq!(
            unmet,
            [
                "BGP with router 192.0.2.11: it is an address of this node",
                "BGP with router fd00::99: this node speaks BGP from no address of that family"
            ]
        );
    }

    #[test]
    fn an_invalid_annotation_is_reported_on_its_own_node_only() {
        let broken = || Annotations {
            faults: vec![AnnotationFault {
                annotation: "kube-router.io/peers".into(),
                why: "it is no list".into(),
            }],
            ..Annotations::default()
        };
        let (_, unmet) = of(&cluster(broken(), []), &local(BgpOptions::default()));
        assert_eq!(unmet, ["the annotation kube-router.io/peers of node a: it is no list"]);
        let other = node("b", "192.0.2.12", "", broken());
        let (got, unmet) =
            of(&cluster(Annotations::default(), [other]), &local(BgpOptions::default()));
        assert_eq!((unmet.len(), got.peers.len()), (0, 1));
    }

    fn service(name: &str, change: impl FnOnce(&mut Service)) -> Object {
        let mut service = Service {
            name: Name { namespace: "shop".into(), name: name.into() },
            cluster_ips: ips("10.96.0.10"),
            external_ips: ips("203.0.113.10"),
            balancer_ips: ips("198.51.100.10"),
            ..Service::default()
        };
        change(&mut service);
        Object::Service(service)
    }

    fn advertising(cluster_ips: bool, external_ips: bool, balancer_ips: bool) -> Local {
        let mut bgp = with_router();
        bgp.advertise = crate::model::local::AdvertiseOptions {
            pods: true,
            cluster_ips,
            external_ips,
            balancer_ips,
        };
        local(bgp)
    }

    fn advertised(local: &Local, objects: impl IntoIterator<Item = Object>) -> Vec<String> {
        nets(&of(&cluster(Annotations::default(), objects), local).0.origin.services)
    }

    #[test]
    fn each_flag_advertises_its_kind_of_address() {
        for (flags, want) in [
            ((false, false, false), vec![]),
            ((true, false, false), vec!["10.96.0.10/32"]),
            ((false, true, false), vec!["203.0.113.10/32"]),
            ((false, false, true), vec!["198.51.100.10/32"]),
            ((true, true, true), vec!["10.96.0.10/32", "198.51.100.10/32", "203.0.113.10/32"]),
        ] {
            let local = advertising(flags.0, flags.1, flags.2);
            assert_eq!(advertised(&local, [service("web", |_| ())]), want, "{flags:?}");
        }
    }

    #[test]
    fn an_annotation_of_a_service_overrides_the_flags() {
        let annotated = |cluster, balancer| {
            service("web", |s| {
                s.advertise = ServiceAdvertise {
                    cluster_ips: cluster,
                    balancer_ips: balancer,
                    ..ServiceAdvertise::default()
                };
            })
        };
        let (all, none) = (advertising(true, true, true), advertising(false, false, false));
        assert_eq!(advertised(&all, [annotated(Some(false), Some(false))]), ["203.0.113.10/32"]);
        assert_eq!(advertised(&none, [annotated(Some(true), None)]), ["10.96.0.10/32"]);
        assert_eq!(advertised(&none, [annotated(None, Some(true))]), ["198.51.100.10/32"]);
    }

    #[test]
    fn services_are_advertised_only_if_there_is_an_external_router_and_services_are_read() {
        let mut alone = advertising(true, true, true);
        alone.options.bgp.as_mut().unwrap().routers.clear();
        let (got, _) = of(&cluster(Annotations::default(), [service("web", |_| ())]), &alone);
        assert_eq!(nets(&got.import.own), ["10.244.0.0/24", "fd44::/64"]);
        assert!(got.origin.services.is_empty());
        let mut unread = advertising(false, false, false);
        unread.options.services = false;
        let annotated = service("web", |s| s.advertise.cluster_ips = Some(true));
        assert_eq!(advertised(&unread, [annotated]), [""; 0]);
        let mut router_alone = advertising(true, false, false);
        router_alone.options.services = false;
        assert_eq!(advertised(&router_alone, [service("web", |_| ())]), ["10.96.0.10/32"]);
    }

    #[test]
    fn addresses_of_services_are_refused_on_import_even_if_they_are_not_advertised() {
        let (got, _) = of(
            &cluster(Annotations::default(), [service("web", |_| ())]),
            &advertising(true, false, false),
        );
        assert_eq!(
            nets(&got.import.own),
            ["10.96.0.10/32", "10.244.0.0/24", "198.51.100.10/32", "203.0.113.10/32", "fd44::/64"]
        );
    }

    /// Returns a slice of shop/web with one endpoint on a node.
    fn slice(addr: &str, node: &str, ready: bool, terminating: bool) -> Object {
        Object::EndpointSlice(EndpointSlice {
            name: Name { namespace: "shop".into(), name: "web-1".into() },
            service: Some("web".into()),
            endpoints: vec![Endpoint {
                addr: ip(addr),
                ready,
                serving: true,
                terminating,
                node: Some(node.into()),
                hints: None,
            }],
            ports: vec![SlicePort { name: "".into(), protocol: Protocol::Tcp, port: 80 }],
        })
    }

    #[test]
    fn an_address_with_a_local_policy_needs_a_ready_endpoint_of_its_family_on_this_node() {
        let all = advertising(true, true, true);
        let both = |s: &mut Service| {
            s.internal_local = true;
            s.external_local = true;
            s.cluster_ips = ips("10.96.0.10 fd96::10");
        };
        let (four, six) =
            (["10.96.0.10/32", "198.51.100.10/32", "203.0.113.10/32"], ["fd96::10/128"]);
        for (endpoint, want) in [
            (slice("10.244.0.5", "a", true, false), &four[..]),
            (slice("fd44::5", "a", true, false), &six[..]),
            (slice("10.244.12.5", "b", true, false), &[]),
            (slice("10.244.0.5", "a", false, false), &[]),
            (slice("10.244.0.5", "a", false, true), &[]),
        ] {
            let text = format!("{endpoint:?}");
            assert_eq!(advertised(&all, [service("web", both), endpoint]), want, "{text}");
        }
        let inside = service("web", |s| s.internal_local = true);
        assert_eq!(advertised(&all, [inside]), four[1..], "each policy is for its own addresses");
        let outside = service("web", |s| s.external_local = true);
        assert_eq!(advertised(&all, [outside]), four[..1]);
    }

    #[test]
    fn headless_services_and_invalid_or_excluded_addresses_are_not_advertised() {
        let mut all = advertising(true, true, true);
        let headless = service("web", |s| s.cluster_ips.clear());
        assert_eq!(advertised(&all, [headless]), [""; 0]);
        let odd = |s: &mut Service| {
            s.cluster_ips = ips("10.96.0.10 10.97.0.10");
            s.external_ips = ips("192.0.2.11 192.0.2.12 127.0.0.1 203.0.113.10 203.0.114.10");
            s.balancer_ips.clear();
        };
        all.options.excluded = vec!["10.97.0.0/16".parse().unwrap()];
        all.options.external = vec!["203.0.113.0/24".parse().unwrap()];
        let got = advertised(&all, [service("web", odd), plain("b", 12)]);
        assert_eq!(got, ["10.96.0.10/32", "203.0.113.10/32"]);
    }

    #[test]
    fn a_range_replaces_the_clusterips_in_it_except_those_with_a_local_policy() {
        let mut local = advertising(false, false, false);
        let bgp = local.options.bgp.as_mut().unwrap();
        bgp.ranges = vec!["10.96.0.0/16".parse().unwrap(), "fd96::/112".parse().unwrap()];
        let of = |name: &str, addr: &str, local: bool| {
            service(name, |s| {
                s.cluster_ips = ips(addr);
                s.internal_local = local;
            })
        };
        let objects = || {
            [
                of("dns", "10.96.0.20", false),
                of("far", "10.99.0.1", false),
                of("web", "10.96.0.30", true),
                slice("10.244.0.5", "a", true, false),
            ]
        };
        let want = ["10.96.0.0/16", "10.96.0.30/32", "10.99.0.1/32", "fd96::/112"];
        assert_eq!(advertised(&local, objects()), want);
        local.options.ipv6 = false;
        assert_eq!(advertised(&local, objects()), want[..3]);
        assert_eq!(advertised(&local, []), want[..1], "even before any Service is known");
    }
}
