//! A Service as this node serves it: its addresses, a virtual service per port in IPVS, its endpoints
//! as real servers, and what nftables has to know of it.
//!
//! IPVS has one entry for an address and port. Where the outside must get other endpoints than the
//! cluster (an external address with a Local policy), the plain entry has those for the cluster, and a
//! mark that nftables gives to packets from outside leads to an entry of its own.

use std::{collections::BTreeMap, net::IpAddr, rc::Rc};

use ipnet::IpNet;

use super::{
    Unmet,
    endpoints::{Choice, choose},
};
use crate::{
    cluster::{EndpointSlice, Name, Node, Service, ServicePort},
    few::{Few, Sorted},
    ruleset::Set,
    state::{At, DUMMY, Forward, Item, Protocol, TABLE_LOCAL, Value, Virtual, host_net, our_mark},
};

/// Where Services are to be served, and what is taken there.
#[derive(Debug)]
pub struct Place<'a> {
    /// This node.
    pub node: &'a Node,
    /// This node's addresses, one of each family that it has.
    pub addrs: Vec<IpAddr>,
    /// The addresses at which NodePorts are served.
    pub node_port_addrs: Vec<IpAddr>,
    /// The addresses that this node has.
    pub own: Sorted<IpAddr>,
    /// The pod networks of this node.
    pub own_pods: Vec<IpNet>,
    /// IPVS services of these networks are somebody else's.
    pub excluded: &'a [IpNet],
    /// External addresses must be of these networks, where there are any.
    pub external: &'a [IpNet],
    /// Ports on which a program of this node listens.
    pub listens: &'a Sorted<(Protocol, u16)>,
    /// Schedulers that the kernel is known to have; `None`: it was not asked.
    pub schedulers: Option<Sorted<Box<str>>>,
    /// Whether there is a table for sets.
    pub table: bool,
    /// Whether a daemon answers at healthCheckNodePorts.
    pub daemon: bool,
}

/// What Services have for themselves: the first one that asks gets it, and keeps it.
#[derive(Debug, Default)]
pub struct Claims {
    owners: BTreeMap<Virtual, Rc<Name>>,
    marks: Few<Virtual, u32>,
    /// All addresses of Nodes and of links here: no Service gets one on the dummy link.
    taken: Sorted<IpAddr>,
    /// Somebody asked for what another Service has.
    contested: bool,
}

impl Claims {
    /// No Service has anything, and `taken` are the addresses of Nodes and of links here.
    pub fn new(taken: Sorted<IpAddr>) -> Claims {
        Claims { taken, ..Claims::default() }
    }

    /// Other addresses are those of Nodes and of links here; no Service may have asked for any of them.
    pub fn taken(&mut self, taken: Sorted<IpAddr>) {
        self.taken = taken;
    }

    /// A mark that nobody else has: where it can be the same one as always for this place.
    fn mark(&mut self, at: &Virtual) -> u32 {
        if let Some(mark) = self.marks.get(at) {
            return *mark;
        }
        let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        let hash = at.to_string().bytes().fold(0x811c_9dc5, step);
        let first = (hash >> 16) as u16 ^ hash as u16;
        let mut free = (0..=u16::MAX).map(|i| our_mark(first.wrapping_add(i)));
        let mark = free.find(|mark| !self.marks.values().any(|had| had == mark));
        let mark = mark.unwrap_or(our_mark(first));
        self.marks.insert(*at, mark);
        mark
    }

    /// The Service that has an entry of IPVS.
    pub fn owner(&self, at: &At) -> Option<&Name> {
        let at = match at {
            At::Virtual(at) => at,
            At::Mark { mark, .. } => self.marks.iter().find(|(_, had)| *had == mark)?.0,
        };
        self.owners.get(at).map(|name| &**name)
    }

    /// Whether any Service has an entry at an address.
    pub fn has(&self, addr: IpAddr) -> bool {
        let least = Virtual { addr, protocol: Protocol::ALL[0], port: 0 };
        self.owners.range(least..).next().is_some_and(|(at, _)| at.addr == addr)
    }

    /// Whether what one Service gives up may be what another one waits for.
    pub fn is_contested(&self) -> bool {
        self.contested
    }

    /// A Service has no use for this any more.
    pub fn release(&mut self, at: &Virtual) {
        self.owners.remove(at);
        self.marks.remove(at);
    }
}

/// Which addresses of a Service an entry is for.
#[derive(Clone, Copy, PartialEq)]
enum Front {
    Cluster,
    External,
    Balancer,
    NodePort,
}

/// All items of one Service, and what of it can't be had. An address of a family that the node lacks
/// is left out.
pub fn of(
    service: &Service,
    slices: &[&EndpointSlice],
    place: &Place<'_>,
    claims: &mut Claims,
) -> (Vec<Item>, Vec<Unmet>) {
    let name = Rc::new(service.name.clone());
    let mut made = Made { service, name, place, claims, items: Vec::new(), unmet: Vec::new() };
    made.beyond();
    let scheduler = made.scheduler();
    let mut choices: Few<(usize, bool), Choice> = Few::new();
    for (front, vip) in fronts(service, place) {
        let ipv4 = vip.is_ipv4();
        if !place.addrs.iter().any(|a| a.is_ipv4() == ipv4) {
            continue;
        }
        let mut served = false;
        for (i, port) in service.ports.iter().enumerate() {
            let number = if front == Front::NodePort { port.node_port } else { Some(port.port) };
            let Some(number) = number else { continue };
            let at = Virtual { addr: vip, protocol: port.protocol, port: number };
            if let Err(why) = made.claim(front, &at) {
                let what = format!("{at} of Service {}", service.name);
                made.unmet.extend(why.map(|why| Unmet::new(what, why)));
                continue;
            }
            let choice = choices.or_insert_with((i, ipv4), || {
                choose(slices.iter().copied(), port, ipv4, place.node)
            });
            made.entry(front, at, choice, &scheduler);
            served = true;
        }
        if served && front != Front::NodePort && !made.claims.taken.contains(&vip) {
            made.address(vip);
        }
    }
    let of = |unmet: Unmet| Unmet { of: Some(service.name.clone()), ..unmet };
    (made.items, made.unmet.into_iter().map(of).collect())
}

fn fronts(service: &Service, place: &Place<'_>) -> Vec<(Front, IpAddr)> {
    let all = |front, addrs: &[IpAddr]| -> Vec<(Front, IpAddr)> {
        addrs.iter().map(|addr| (front, *addr)).collect()
    };
    let mut fronts = all(Front::Cluster, &service.cluster_ips);
    fronts.extend(all(Front::External, &service.external_ips));
    fronts.extend(all(Front::Balancer, &service.balancer_ips));
    if service.ports.iter().any(|port: &ServicePort| port.node_port.is_some()) {
        fronts.extend(all(Front::NodePort, &place.node_port_addrs));
    }
    fronts
}

struct Made<'a, 'b> {
    service: &'a Service,
    name: Rc<Name>,
    place: &'a Place<'a>,
    claims: &'b mut Claims,
    items: Vec<Item>,
    unmet: Vec<Unmet>,
}

impl Made<'_, '_> {
    /// Whether a virtual service may be made here. `Err(None)`: it is another node's business.
    fn claim(&mut self, front: Front, at: &Virtual) -> Result<(), Option<&'static str>> {
        let place = self.place;
        let taken = self.claims.taken.contains(&at.addr);
        if front == Front::Cluster && taken {
            return Err(Some(
                "it is the address of a Node or of a link here, which no Service may take",
            ));
        }
        if matches!(front, Front::External | Front::Balancer)
            && taken
            && !place.own.contains(&at.addr)
        {
            return Err(None);
        }
        if at.addr.is_unspecified() || at.addr.is_loopback() || at.addr.is_multicast() {
            return Err(Some("no Service can have such an address"));
        }
        if place.excluded.iter().any(|net| net.contains(&at.addr)) {
            return Err(Some("--excluded-cidrs leaves its address to somebody else"));
        }
        if front == Front::External
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

    fn element(&mut self, set: Set, value: Value) {
        if self.place.table {
            self.items.push(Item::Element { set, value });
        }
    }

    fn entry(&mut self, front: Front, at: Virtual, choice: &Choice, scheduler: &Scheduler) {
        self.element(Set::Services, Value::At(at));
        if self.claims.taken.contains(&at.addr) {
            let ports = match at.protocol {
                Protocol::Tcp => Set::TcpPorts,
                Protocol::Udp => Set::UdpPorts,
                Protocol::Sctp => Set::SctpPorts,
            };
            self.element(ports, Value::Port { port: at.port, ipv4: at.addr.is_ipv4() });
            self.element(Set::NodeIps, Value::Addr(at.addr));
        }
        let inside = match front {
            Front::Cluster if self.service.internal_local => &choice.local,
            _ => &choice.cluster,
        };
        self.virtual_service(at.into(), inside, scheduler);
        if inside.is_empty() && !choice.any {
            self.element(Set::Reject, Value::At(at));
        }
        if front == Front::Cluster {
            if self.service.internal_local && choice.local.is_empty() && choice.any {
                self.element(Set::Drop, Value::At(at));
            }
            return;
        }
        if front == Front::Balancer && !self.service.source_ranges.is_empty() {
            self.element(Set::Restricted, Value::At(at));
            for from in outermost(&self.service.source_ranges) {
                if from.addr().is_ipv4() == at.addr.is_ipv4() {
                    self.element(Set::Ranges, Value::Ranged { at, from });
                }
            }
        }
        if !self.service.external_local || choice.local == choice.cluster {
            return;
        }
        if choice.local.is_empty() {
            if choice.any {
                self.element(Set::DropOutside, Value::At(at));
            }
        } else if self.place.table {
            let mark = self.claims.mark(&at);
            self.element(Set::Outside, Value::Marked { at, mark });
            let by_mark = At::Mark { mark, ipv4: at.addr.is_ipv4() };
            let scheduler = self.hashing().unwrap_or_else(|| scheduler.clone());
            self.virtual_service(by_mark, &choice.local, &scheduler);
        }
    }

    /// An entry of IPVS and its real servers.
    fn virtual_service(&mut self, at: At, reals: &Sorted<(IpAddr, u16)>, scheduler: &Scheduler) {
        let persistence = if scheduler.hashes { 0 } else { self.service.affinity };
        let (scheduler, flags) = (scheduler.name.clone(), scheduler.flags);
        self.items.push(Item::Service { at, scheduler, flags, persistence });
        for &(addr, port) in reals {
            let (weight, forward) = (1, Forward::Masq);
            self.items.push(Item::Real { of: at, addr, port, weight, forward });
            if self.place.own_pods.iter().any(|net| net.contains(&addr)) {
                self.element(Set::Loops, Value::Addr(addr));
            }
        }
    }

    /// A virtual address, on the dummy link.
    fn address(&mut self, vip: IpAddr) {
        let src = self.place.addrs.iter().find(|a| a.is_ipv4() == vip.is_ipv4()).copied();
        self.element(Set::Vips, Value::Addr(vip));
        self.items.push(Item::Addr { link: DUMMY.into(), addr: host_net(vip) });
        // Without it the node would take the virtual address itself as source, and a real server
        // elsewhere could not answer.
        self.items.push(Item::Route { table: TABLE_LOCAL, to: host_net(vip), via: None, src });
    }

    /// The scheduler that an annotation asks for, where the kernel has it.
    fn scheduler(&mut self) -> Scheduler {
        let name = self.service.scheduler.as_deref().unwrap_or("rr");
        let had = |all: &Sorted<Box<str>>| all.contains(name);
        let why = if !SCHEDULERS.contains(&name) {
            "there is no such scheduler, so it is rr"
        } else if name != "rr" && !self.place.schedulers.as_ref().is_none_or(had) {
            "this kernel does not have it (a module ip_vs_*), so it is rr"
        } else {
            if name != "rr" {
                self.items.push(Item::Module { name: format!("ip_vs_{name}").into() });
            }
            // Only these two read them.
            let flags = if ["mh", "sh"].contains(&name) { self.service.scheduler_flags } else { 0 };
            return Scheduler { name: name.into(), flags, hashes: false };
        };
        let what = format!("scheduler {name} of Service {}", self.service.name);
        self.unmet.push(Unmet::new(what, why));
        Scheduler { name: "rr".into(), flags: 0, hashes: false }
    }

    /// A persistent service that is found by its mark does not translate ports (ip_vs_sched_persist,
    /// linux net/netfilter/ipvs/ip_vs_core.c): there a scheduler that hashes the client's address
    /// keeps it at its endpoint.
    fn hashing(&mut self) -> Option<Scheduler> {
        if self.service.affinity == 0 {
            return None;
        }
        let had = |name: &&str| {
            let all = self.place.schedulers.as_ref();
            all.is_none_or(|all| all.contains(*name))
        };
        let name = ["mh", "sh"].into_iter().find(had).unwrap_or("sh");
        self.items.push(Item::Module { name: format!("ip_vs_{name}").into() });
        Some(Scheduler { name: name.into(), flags: 0, hashes: true })
    }

    /// What it asks for that this version does not do.
    fn beyond(&mut self) {
        let name = &self.service.name;
        if self.service.health_port != 0 && !self.place.daemon {
            self.unmet.push(Unmet::new(
                format!("healthCheckNodePort {} of Service {name}", self.service.health_port),
                "answering it takes a daemon (kinglet run)",
            ));
        }
        if self.service.dsr {
            self.unmet.push(Unmet::new(
                format!("direct server return of Service {name}"),
                "it is not in this version, so answers come back through this node",
            ));
        }
    }
}

/// The schedulers of IPVS (`ip_vs_*` of Linux).
pub const SCHEDULERS: [&str; 13] =
    ["rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "mh", "fo", "ovf"];

#[derive(Clone)]
struct Scheduler {
    name: Box<str>,
    flags: u32,
    /// It stands for affinity.
    hashes: bool,
}

/// Those networks that are in no other one of them.
pub fn outermost(nets: &[IpNet]) -> Vec<IpNet> {
    let nets: Sorted<IpNet> = nets.iter().map(IpNet::trunc).collect();
    let mut outer: Vec<IpNet> = Vec::new();
    for net in nets {
        // In their order each stands before all that are in it.
        if !outer.last().is_some_and(|last| last.contains(&net)) {
            outer.push(net);
        }
    }
    outer
}

#[cfg(test)]
mod tests;
