//! Computes the items of one Service on this node ([`of`]): its addresses, an IPVS virtual service
//! for each port, its endpoints as real servers, and its nftables set elements.
//!
//! `fronts` lists the addresses, `claim` decides whether this Service may have an address and port,
//! `endpoints::choose` selects the endpoints, and `add_entry` and `add_address` add the items.
//!
//! IPVS has one virtual service for an address and port. If traffic from outside must reach other
//! endpoints than traffic from the cluster (an external address with a Local policy), the plain
//! virtual service has the endpoints for the cluster. nftables then marks packets from outside, and
//! the mark leads to a second virtual service (a fwmark service, ipvsadm(8)).

use std::{collections::BTreeMap, net::IpAddr, rc::Rc};

use ipnet::IpNet;

use super::{
    Unmet,
    endpoints::{Choice, choose},
};
use crate::{
    collections::{FlatMap, FlatSet},
    family::Family,
    hash::fnv1a_32,
    model::{
        cluster::{EndpointSlice, Name, Node, Service, ServicePort},
        items::{
            DUMMY, Forward, Item, Protocol, ServiceAddr, ServiceKey, SetElement, TABLE_LOCAL,
            host_net, our_mark,
        },
        nftables::Set,
    },
};

/// The node on which Services are served, with the addresses and ports that are taken there.
#[derive(Debug)]
pub(crate) struct NodeContext<'a> {
    /// This node.
    pub node: &'a Node,
    /// This node's addresses, at most one of each family.
    pub addrs: Vec<IpAddr>,
    /// The addresses at which NodePorts are served.
    pub node_port_addrs: Vec<IpAddr>,
    /// All addresses of this node.
    pub own: FlatSet<IpAddr>,
    /// The pod networks of this node.
    pub own_pods: Vec<IpNet>,
    /// Networks whose IPVS services belong to another program (`--excluded-cidrs`).
    pub excluded: &'a [IpNet],
    /// The networks that may have externalIPs (`--service-external-ip-range`); empty if all may.
    pub external: &'a [IpNet],
    /// The ports on which a program of this node listens.
    pub listens: &'a FlatSet<(Protocol, u16)>,
    /// The IPVS schedulers that the kernel has; `None` if the host was not inspected.
    pub schedulers: Option<FlatSet<Box<str>>>,
    /// True if there is an nftables table for set elements.
    pub table: bool,
    /// True if a daemon answers at healthCheckNodePorts.
    pub daemon: bool,
}

/// The addresses, ports and marks that Services own. The first Service to claim one gets it, and
/// keeps it.
#[derive(Debug, Default)]
pub struct Claims {
    owners: BTreeMap<ServiceAddr, Rc<Name>>,
    marks: FlatMap<ServiceAddr, u32>,
    /// The addresses of all Nodes and of the links here, which no Service may have on the dummy
    /// link.
    taken: FlatSet<IpAddr>,
    /// True if a Service claimed an address and port that another Service owns.
    contested: bool,
}

impl Claims {
    /// Creates an empty set of claims; `taken` are the addresses of all Nodes and of the links
    /// here.
    pub fn new(taken: FlatSet<IpAddr>) -> Claims {
        Claims { taken, ..Claims::default() }
    }

    /// Replaces the addresses of Nodes and of the links here. The caller must ensure that no
    /// Service claims an address that differs.
    pub fn set_taken(&mut self, taken: FlatSet<IpAddr>) {
        self.taken = taken;
    }

    /// Returns the mark of an address and port, which no other one has. The mark is derived from a
    /// hash, so that it is the same in every run unless it is already in use.
    fn assign_mark(&mut self, at: &ServiceAddr) -> u32 {
        if let Some(mark) = self.marks.get(at) {
            return *mark;
        }
        let hash = fnv1a_32(at.to_string().as_bytes());
        let preferred = (hash >> 16) as u16 ^ hash as u16;
        let mut free = (0..=u16::MAX).map(|i| our_mark(preferred.wrapping_add(i)));
        let mark = free.find(|mark| !self.marks.values().any(|used| used == mark));
        let mark = mark.unwrap_or(our_mark(preferred));
        self.marks.insert(*at, mark);
        mark
    }

    /// Returns the Service that owns an IPVS virtual service; `None` if none does.
    pub fn owner(&self, at: &ServiceKey) -> Option<&Name> {
        let at = match at {
            ServiceKey::Address(at) => at,
            ServiceKey::FwMark { mark, .. } => self.marks.iter().find(|(_, used)| *used == mark)?.0,
        };
        self.owners.get(at).map(|name| &**name)
    }

    /// Returns true if any Service owns a virtual service at an address.
    pub fn has(&self, addr: IpAddr) -> bool {
        let least = ServiceAddr { addr, protocol: Protocol::ALL[0], port: 0 };
        self.owners.range(least..).next().is_some_and(|(at, _)| at.addr == addr)
    }

    /// Returns true if a Service waits for an address and port that another Service owns.
    pub fn is_contested(&self) -> bool {
        self.contested
    }

    /// Releases an address and port, and its mark.
    pub fn release(&mut self, at: &ServiceAddr) {
        self.owners.remove(at);
        self.marks.remove(at);
    }
}

/// The kind of address that a virtual service is for.
#[derive(Clone, Copy, PartialEq)]
enum AddressKind {
    Cluster,
    External,
    Balancer,
    NodePort,
}

/// Returns all items of one Service, and its requests that can't be honoured. Addresses of a family
/// that the node lacks are left out.
pub(crate) fn of(
    service: &Service,
    slices: &[&EndpointSlice],
    place: &NodeContext<'_>,
    claims: &mut Claims,
) -> (Vec<Item>, Vec<Unmet>) {
    let name = Rc::new(service.name.clone());
    let mut builder =
        ServiceBuilder { service, name, place, claims, items: Vec::new(), unmet: Vec::new() };
    builder.report_unsupported();
    let scheduler = builder.scheduler();
    let mut choices: FlatMap<(usize, Family), Choice> = FlatMap::new();
    for (kind, vip) in fronts(service, place) {
        let family = Family::of_addr(&vip);
        if !place.addrs.iter().any(|a| Family::of_addr(a) == family) {
            continue;
        }
        let mut served = false;
        for (i, port) in service.ports.iter().enumerate() {
            let number =
                if kind == AddressKind::NodePort { port.node_port } else { Some(port.port) };
            let Some(number) = number else { continue };
            let at = ServiceAddr { addr: vip, protocol: port.protocol, port: number };
            if let Err(why) = builder.claim(kind, &at) {
                let what = format!("{at} of Service {}", service.name);
                builder.unmet.extend(why.map(|why| Unmet::new(what, why)));
                continue;
            }
            let choice = choices.or_insert_with((i, family), || {
                choose(slices.iter().copied(), port, family, place.node)
            });
            builder.add_entry(kind, at, choice, &scheduler);
            served = true;
        }
        if served && kind != AddressKind::NodePort && !builder.claims.taken.contains(&vip) {
            builder.add_address(vip);
        }
    }
    (builder.items, builder.unmet)
}

/// Returns the addresses of a Service on this node, with the kind of each.
fn fronts(service: &Service, place: &NodeContext<'_>) -> Vec<(AddressKind, IpAddr)> {
    let all = |kind, addrs: &[IpAddr]| -> Vec<(AddressKind, IpAddr)> {
        addrs.iter().map(|addr| (kind, *addr)).collect()
    };
    let mut fronts = all(AddressKind::Cluster, &service.cluster_ips);
    fronts.extend(all(AddressKind::External, &service.external_ips));
    fronts.extend(all(AddressKind::Balancer, &service.balancer_ips));
    if service.ports.iter().any(|port: &ServicePort| port.node_port.is_some()) {
        fronts.extend(all(AddressKind::NodePort, &place.node_port_addrs));
    }
    fronts
}

/// Collects the items of one Service.
struct ServiceBuilder<'a, 'b> {
    service: &'a Service,
    name: Rc<Name>,
    place: &'a NodeContext<'a>,
    claims: &'b mut Claims,
    items: Vec<Item>,
    unmet: Vec<Unmet>,
}

impl ServiceBuilder<'_, '_> {
    /// Claims an address and port for the Service. Fails with the reason if the Service can't have
    /// it. `Err(None)` means that another node serves the address, which is not reported.
    fn claim(&mut self, kind: AddressKind, at: &ServiceAddr) -> Result<(), Option<&'static str>> {
        let place = self.place;
        let taken = self.claims.taken.contains(&at.addr);
        if kind == AddressKind::Cluster && taken {
            return Err(Some(
                "it is the address of a Node or of a link here, which no Service may have",
            ));
        }
        if matches!(kind, AddressKind::External | AddressKind::Balancer)
            && taken
            && !place.own.contains(&at.addr)
        {
            return Err(None);
        }
        if at.addr.is_unspecified() || at.addr.is_loopback() || at.addr.is_multicast() {
            return Err(Some("a Service can't have an unspecified, loopback or multicast address"));
        }
        if place.excluded.iter().any(|net| net.contains(&at.addr)) {
            return Err(Some("--excluded-cidrs leaves its address to another program"));
        }
        if kind == AddressKind::External
            && !place.external.is_empty()
            && !place.external.iter().any(|net| net.contains(&at.addr))
        {
            return Err(Some("it is in none of the networks of --service-external-ip-range"));
        }
        if place.own.contains(&at.addr) && place.listens.contains(&(at.protocol, at.port)) {
            return Err(Some("a program of this node listens on that port"));
        }
        let owner = self.claims.owners.entry(*at).or_insert_with(|| self.name.clone());
        if *owner == self.name {
            return Ok(());
        }
        self.claims.contested = true;
        Err(Some("another Service has the same address and port"))
    }

    /// Adds a set element if there is an nftables table.
    fn add_element(&mut self, set: Set, value: SetElement) {
        if self.place.table {
            self.items.push(Item::Element { set, value });
        }
    }

    /// Adds the virtual service of an address and port, its real servers, and the set elements that
    /// carry out its traffic policies.
    fn add_entry(
        &mut self,
        kind: AddressKind,
        at: ServiceAddr,
        choice: &Choice,
        scheduler: &Scheduler,
    ) {
        self.add_element(Set::Services, SetElement::Service(at));
        if self.claims.taken.contains(&at.addr) {
            let ports = match at.protocol {
                Protocol::Tcp => Set::TcpPorts,
                Protocol::Udp => Set::UdpPorts,
                Protocol::Sctp => Set::SctpPorts,
            };
            self.add_element(ports, SetElement::port(at.port, Family::of_addr(&at.addr)));
            self.add_element(Set::NodeIps, SetElement::Addr(at.addr));
        }
        let inside = match kind {
            AddressKind::Cluster if self.service.internal_local => &choice.local,
            _ => &choice.cluster,
        };
        self.add_virtual_service(at.into(), inside, scheduler);
        if inside.is_empty() && !choice.any {
            self.add_element(Set::Reject, SetElement::Service(at));
        }
        if kind == AddressKind::Cluster {
            if self.service.internal_local && choice.local.is_empty() && choice.any {
                self.add_element(Set::Drop, SetElement::Service(at));
            }
            return;
        }
        if kind == AddressKind::Balancer && !self.service.source_ranges.is_empty() {
            self.add_element(Set::Restricted, SetElement::Service(at));
            for from in outermost(&self.service.source_ranges) {
                if from.addr().is_ipv4() == at.addr.is_ipv4() {
                    self.add_element(Set::Ranges, SetElement::Ranged { at, from });
                }
            }
        }
        if !self.service.external_local || choice.local == choice.cluster {
            return;
        }
        if choice.local.is_empty() {
            if choice.any {
                self.add_element(Set::DropOutside, SetElement::Service(at));
            }
        } else if self.place.table {
            let mark = self.claims.assign_mark(&at);
            self.add_element(Set::Outside, SetElement::Marked { at, mark });
            let by_mark = ServiceKey::FwMark { mark, ipv4: at.addr.is_ipv4() };
            let scheduler = self.hash_scheduler().unwrap_or_else(|| scheduler.clone());
            self.add_virtual_service(by_mark, &choice.local, &scheduler);
        }
    }

    /// Adds an IPVS virtual service and its real servers.
    fn add_virtual_service(
        &mut self,
        at: ServiceKey,
        reals: &FlatSet<(IpAddr, u16)>,
        scheduler: &Scheduler,
    ) {
        let persistence = if scheduler.replaces_persistence { 0 } else { self.service.affinity };
        let (scheduler, flags) = (scheduler.name.clone(), scheduler.flags);
        self.items.push(Item::Service { at, scheduler, flags, persistence });
        for &(addr, port) in reals {
            let (weight, forward) = (1, Forward::Masq);
            self.items.push(Item::Real { of: at, addr, port, weight, forward });
            if self.place.own_pods.iter().any(|net| net.contains(&addr)) {
                self.add_element(Set::Loops, SetElement::Addr(addr));
            }
        }
    }

    /// Adds a virtual address to the dummy link, with its local route.
    fn add_address(&mut self, vip: IpAddr) {
        let src = self.place.addrs.iter().find(|a| a.is_ipv4() == vip.is_ipv4()).copied();
        self.add_element(Set::Vips, SetElement::Addr(vip));
        self.items.push(Item::Addr { link: DUMMY.into(), addr: host_net(vip) });
        // Without this route the node would use the virtual address itself as the source address,
        // and a real server on another node could not answer.
        self.items.push(Item::Route { table: TABLE_LOCAL, to: host_net(vip), via: None, src });
    }

    /// Returns the scheduler that an annotation requests. If the kernel lacks it, returns rr and
    /// reports that.
    fn scheduler(&mut self) -> Scheduler {
        let name = self.service.scheduler.as_deref().unwrap_or("rr");
        let is_available = |all: &FlatSet<Box<str>>| all.contains(name);
        let why = if !SCHEDULERS.contains(&name) {
            "IPVS has no scheduler of this name, so rr is used"
        } else if name != "rr" && !self.place.schedulers.as_ref().is_none_or(is_available) {
            "this kernel lacks it (a module ip_vs_*), so rr is used"
        } else {
            if name != "rr" {
                self.items.push(Item::Module { name: format!("ip_vs_{name}").into() });
            }
            // Only these two schedulers have flags.
            let flags = if ["mh", "sh"].contains(&name) { self.service.scheduler_flags } else { 0 };
            return Scheduler { name: name.into(), flags, replaces_persistence: false };
        };
        let what = format!("scheduler {name} of Service {}", self.service.name);
        self.unmet.push(Unmet::new(what, why));
        Scheduler { name: "rr".into(), flags: 0, replaces_persistence: false }
    }

    /// Returns a scheduler that hashes the client's address, for a fwmark service with session
    /// affinity; `None` if the Service has no affinity. A persistent fwmark service does not
    /// translate ports (`ip_vs_sched_persist`, net/netfilter/ipvs/ip_vs_core.c), so there hashing
    /// keeps a client at its endpoint.
    fn hash_scheduler(&mut self) -> Option<Scheduler> {
        if self.service.affinity == 0 {
            return None;
        }
        let is_available = |name: &&str| {
            let all = self.place.schedulers.as_ref();
            all.is_none_or(|all| all.contains(*name))
        };
        let name = ["mh", "sh"].into_iter().find(is_available).unwrap_or("sh");
        self.items.push(Item::Module { name: format!("ip_vs_{name}").into() });
        Some(Scheduler { name: name.into(), flags: 0, replaces_persistence: true })
    }

    /// Reports the features that the Service requests and that are not available.
    fn report_unsupported(&mut self) {
        let name = &self.service.name;
        if self.service.health_port != 0 && !self.place.daemon {
            self.unmet.push(Unmet::new(
                format!("healthCheckNodePort {} of Service {name}", self.service.health_port),
                "only the daemon (kinglet run) can answer it",
            ));
        }
        if self.service.dsr {
            self.unmet.push(Unmet::new(
                format!("direct server return of Service {name}"),
                "this version lacks it, so answers come back through this node",
            ));
        }
    }
}

/// The IPVS schedulers of Linux, by the names of their modules (`ip_vs_*`).
pub(crate) const SCHEDULERS: [&str; 13] =
    ["rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "mh", "fo", "ovf"];

#[derive(Clone)]
struct Scheduler {
    name: Box<str>,
    flags: u32,
    /// True if the scheduler replaces persistence.
    replaces_persistence: bool,
}

/// Returns the networks that are in no other one of them, in order.
pub(crate) fn outermost(nets: &[IpNet]) -> Vec<IpNet> {
    let nets: FlatSet<IpNet> = nets.iter().map(IpNet::trunc).collect();
    let mut outer: Vec<IpNet> = Vec::new();
    for net in nets {
        // A network sorts before all networks that it contains.
        if !outer.last().is_some_and(|last| last.contains(&net)) {
            outer.push(net);
        }
    }
    outer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cluster::{Endpoint, SlicePort};

    const NODE: &str = "192.0.2.11";

    /// Returns a Service `shop/web` with a NodePort, and a slice with endpoints by address and node.
    fn web(endpoints: &[(&str, &str)]) -> (Service, EndpointSlice) {
        let name = Name { namespace: "shop".into(), name: "web".into() };
        let port = ServicePort {
            name: "".into(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: Some(30080),
        };
        let service = Service {
            name: name.clone(),
            cluster_ips: vec!["10.96.0.10".parse().unwrap()],
            ports: vec![port],
            ..Service::default()
        };
        let endpoint = |(addr, node): &(&str, &str)| Endpoint {
            addr: addr.parse().unwrap(),
            ready: true,
            serving: true,
            terminating: false,
            node: Some((*node).into()),
            hints: None,
        };
        let slice = EndpointSlice {
            name,
            service: Some("web".into()),
            endpoints: endpoints.iter().map(endpoint).collect(),
            ports: vec![SlicePort { name: "".into(), protocol: Protocol::Tcp, port: 8080 }],
        };
        (service, slice)
    }

    /// Returns the items of the Service on node-1 as lines of text, and its unmet requests.
    fn items_of(service: &Service, slice: &EndpointSlice) -> (Vec<String>, Vec<String>) {
        let node = Node {
            name: "node-1".into(),
            internal_ips: vec![NODE.parse().unwrap()],
            ..Node::default()
        };
        let own: FlatSet<IpAddr> = [NODE.parse().unwrap()].into();
        let mut taken = own.clone();
        taken.insert("192.0.2.12".parse().unwrap());
        let place = NodeContext {
            node: &node,
            addrs: vec![NODE.parse().unwrap()],
            node_port_addrs: vec![NODE.parse().unwrap()],
            own,
            own_pods: vec!["10.244.0.0/24".parse().unwrap()],
            excluded: &[],
            external: &[],
            listens: &FlatSet::from([(Protocol::Tcp, 22)]),
            schedulers: Some(["rr".into(), "mh".into()].into()),
            table: true,
            daemon: false,
        };
        let (items, unmet) = of(service, &[slice], &place, &mut Claims::new(taken));
        let items: FlatSet<Item> = items.into_iter().collect();
        let unmet = unmet.iter().map(|u| format!("{}: {}", u.what, u.why));
        (items.iter().map(ToString::to_string).collect(), unmet.collect())
    }

    fn has(lines: &[String], line: &str) -> bool {
        lines.iter().any(|l| l.starts_with(line))
    }

    const BOTH: [(&str, &str); 2] = [("10.244.0.2", "node-1"), ("10.244.1.2", "node-2")];

    #[test]
    fn a_cluster_ip_and_a_node_port_have_the_same_endpoints() {
        let (service, slice) = web(&BOTH);
        let (lines, unmet) = items_of(&service, &slice);
        for at in ["10.96.0.10:80", "192.0.2.11:30080"] {
            for real in ["10.244.0.2:8080", "10.244.1.2:8080"] {
                assert!(has(&lines, &format!("real tcp {at} -> {real} weight 1")), "{lines:#?}");
            }
        }
        assert!(has(&lines, "addr 10.96.0.10/32") && !has(&lines, "addr 192.0.2.11"));
        assert!(has(&lines, "element vips 10.96.0.10") && !has(&lines, "element vips 192.0.2.11"));
        assert!(has(&lines, "element tcp-ports 30080"), "{lines:#?}");
        assert!(
            has(&lines, "element loops 10.244.0.2") && !has(&lines, "element loops 10.244.1.2")
        );
        assert!(unmet.is_empty(), "{unmet:?}");
    }

    #[test]
    fn a_local_external_policy_adds_a_marked_service_for_traffic_from_outside() {
        let (service, slice) = web(&BOTH);
        let (lines, _) = items_of(&Service { external_local: true, ..service }, &slice);
        let marked: Vec<_> = lines.iter().filter(|l| l.starts_with("real mark ")).collect();
        assert_eq!(marked.len(), 1, "{lines:#?}");
        assert!(marked[0].contains("-> 10.244.0.2:8080"), "{marked:?}");
        assert!(has(&lines, "element outside tcp 192.0.2.11:30080 : 0x4b1a"), "{lines:#?}");
        assert!(
            has(&lines, "real tcp 192.0.2.11:30080 -> 10.244.1.2:8080"),
            "for traffic from the cluster"
        );
    }

    #[test]
    fn a_local_policy_drops_without_a_local_endpoint_and_rejects_without_any_endpoint() {
        let (service, slice) = web(&BOTH[1..]);
        let service = Service { external_local: true, internal_local: true, ..service };
        let (lines, _) = items_of(&service, &slice);
        assert!(has(&lines, "element drop tcp 10.96.0.10:80"), "{lines:#?}");
        assert!(has(&lines, "element drop-outside tcp 192.0.2.11:30080"), "{lines:#?}");
        assert!(!has(&lines, "element reject"), "{lines:#?}");
        let (lines, _) = items_of(&service, &EndpointSlice { endpoints: vec![], ..slice });
        assert!(has(&lines, "element reject tcp 10.96.0.10:80"), "{lines:#?}");
        assert!(has(&lines, "element reject tcp 192.0.2.11:30080"), "{lines:#?}");
        assert!(!has(&lines, "element drop"), "{lines:#?}");
    }

    #[test]
    fn an_external_ip_that_is_a_node_address_is_served_by_that_node_only_and_added_to_no_link() {
        let (service, slice) = web(&BOTH);
        let addrs = [NODE, "192.0.2.12"].map(|a| a.parse().unwrap()).to_vec();
        let (lines, unmet) = items_of(&Service { external_ips: addrs, ..service }, &slice);
        assert!(has(&lines, "service tcp 192.0.2.11:80 rr"), "{lines:#?}");
        assert!(!has(&lines, "service tcp 192.0.2.12:80"), "another node serves it");
        assert!(!has(&lines, "addr 192.0.2.") && !has(&lines, "element vips 192.0.2."));
        assert!(unmet.is_empty(), "{unmet:?}");
    }

    #[test]
    fn a_port_on_which_a_program_of_the_node_listens_is_not_served() {
        let (mut service, slice) = web(&BOTH);
        service.external_ips = vec![NODE.parse().unwrap()];
        service.ports[0].port = 22;
        let (lines, unmet) = items_of(&service, &slice);
        assert!(!has(&lines, "service tcp 192.0.2.11:22"), "{lines:#?}");
        assert!(has(&lines, "service tcp 10.96.0.10:22"), "its other addresses are served");
        assert!(unmet[0].contains("a program of this node listens on that port"), "{unmet:?}");
    }

    #[test]
    fn source_ranges_restrict_the_load_balancer_address_only() {
        let (mut service, slice) = web(&BOTH);
        service.balancer_ips = vec!["203.0.113.9".parse().unwrap()];
        service.source_ranges =
            ["10.0.0.0/8", "10.1.0.0/16", "fd00::/8"].map(|n| n.parse().unwrap()).to_vec();
        let (lines, _) = items_of(&service, &slice);
        let ranges: Vec<_> = lines.iter().filter(|l| l.starts_with("element r")).collect();
        assert_eq!(
            ranges,
            [
                "element restricted tcp 203.0.113.9:80",
                "element ranges tcp 203.0.113.9:80 from 10.0.0.0/8"
            ]
        );
    }

    #[test]
    fn an_unavailable_scheduler_is_reported_and_replaced_by_rr() {
        let (service, slice) = web(&BOTH);
        for (asked, got, unmet_count) in [("mh", "mh", 0), ("wrr", "rr", 1), ("best", "rr", 1)] {
            let service = Service { scheduler: Some(asked.into()), ..service.clone() };
            let (lines, unmet) = items_of(&service, &slice);
            assert!(
                has(&lines, &format!("service tcp 10.96.0.10:80 {got}")),
                "{asked}: {lines:#?}"
            );
            assert_eq!(unmet.len(), unmet_count, "{asked}: {unmet:?}");
        }
    }

    #[test]
    fn affinity_with_a_local_external_policy_uses_a_hash_scheduler() {
        let (service, slice) = web(&BOTH);
        let service = Service { external_local: true, affinity: 600, ..service };
        let (lines, _) = items_of(&service, &slice);
        let by_mark = lines.iter().find(|l| l.starts_with("service mark ")).unwrap();
        assert!(by_mark.ends_with(" ipv4 mh"), "{by_mark}");
        assert!(has(&lines, "service tcp 192.0.2.11:30080 rr persistent 600 s"), "{lines:#?}");
    }

    #[test]
    fn each_address_and_port_gets_a_mark_of_its_own() {
        let mut claims = Claims::default();
        let at = |port| ServiceAddr { addr: [10, 0, 0, 1].into(), protocol: Protocol::Tcp, port };
        let marks: FlatSet<u32> = (1..=5000).map(|port| claims.assign_mark(&at(port))).collect();
        assert_eq!(marks.len(), 5000);
        assert_eq!(Claims::default().assign_mark(&at(7)), Claims::default().assign_mark(&at(7)));
    }

    #[test]
    fn outermost_returns_the_networks_that_are_in_no_other() {
        let mut random = 0x9e37_79b9_u32; // xorshift
        for _ in 0..2000 {
            let mut nets: Vec<IpNet> = Vec::new();
            while nets.len() < 12 {
                random ^= random << 13;
                random ^= random >> 17;
                random ^= random << 5;
                let addr = IpAddr::from([10, 0, 0, (random >> 8) as u8]);
                nets.push(IpNet::new(addr, 24 + (random >> 3) as u8 % 9).unwrap());
            }
            nets.push("fd00::/8".parse().unwrap());
            let truncated: FlatSet<IpNet> = nets.iter().map(IpNet::trunc).collect();
            let inner = |net: &IpNet| truncated.iter().any(|o| o != net && o.contains(net));
            let expected: Vec<_> = truncated.iter().copied().filter(|net| !inner(net)).collect();
            assert_eq!(outermost(&nets), expected);
        }
    }

    #[test]
    fn the_mark_of_an_address_is_the_same_in_every_release() {
        let at = ServiceAddr { addr: [192, 0, 2, 13].into(), protocol: Protocol::Tcp, port: 124 };
        let mut claims = Claims::default();
        assert_eq!(claims.assign_mark(&at), 1_260_027_701);
        assert_eq!(claims.assign_mark(&at), 1_260_027_701, "it keeps its mark");
        let next = ServiceAddr { port: 125, ..at };
        assert_eq!(claims.assign_mark(&next), 1_260_024_262);
    }
}
