//! The reconciler's knowledge about the kernel, and the pure half of an incremental pass.
//!
//! After a full pass without errors the kernel holds the desired state ([`Knowledge::Synced`]), and no
//! copy of it is kept. [`Knowledge::remember`] records the items of the units that an event dirties, as
//! they are before the cluster changes; [`Synced::difference`] computes the same units from the changed
//! cluster. The reconciler applies the difference.

use crate::{
    collections::{FlatMap, FlatSet, changed_keys},
    desired::{
        ClusterView, NodeExports, Unmet, release_claims,
        services::Claims,
        unit::{Unit, dirtied_by},
    },
    error::Result,
    model::{
        bgp::Learned,
        cluster::{Cluster, Delta, Service},
        items::{Item, ItemSet, ServiceKey},
        local::Local,
    },
};

/// More dirty Services than this cost more than a full pass.
const MAX_DIRTY: usize = 200;

/// The reconciler's knowledge about the kernel of this node.
#[derive(Debug, Default)]
pub(super) enum Knowledge {
    /// Nothing is certain: the next pass is a full one.
    #[default]
    Unknown,
    /// The kernel holds the desired state.
    Synced(Synced),
    /// The kernel holds the desired state of before some events: [`Remembered`] has the items of the units
    /// that these events dirtied, all other units are up to date.
    Dirty(Synced, Remembered),
}

/// The facts from which the state in the kernel was computed, beside the cluster and BGP's routes.
#[derive(Debug)]
pub(super) struct Synced {
    /// The host and the options.
    pub(super) local: Local,
    /// The addresses, ports and marks that Services have.
    pub(super) claims: Claims,
    /// True if the kernel has no routes and Node elements of ours beside the desired ones: none was kept
    /// because somebody may still claim it.
    pub(super) routes_exact: bool,
}

/// The dirty units as they were before the first event that dirtied them.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    units: FlatMap<Unit, ItemSet>,
    /// Set if a unit of the Nodes is dirty.
    exports: Option<NodeExports>,
}

/// The difference that some events made.
#[derive(Debug, Default)]
pub(super) struct Difference {
    /// The items of the Nodes before the events and now; `None` if no Node changed.
    pub(super) nodes: Option<(ItemSet, ItemSet)>,
    /// The items of the other dirty units before the events, which the kernel holds.
    pub(super) have: ItemSet,
    /// The items of these units now.
    pub(super) want: ItemSet,
    /// True if a Service is among the dirty units.
    pub(super) has_services: bool,
    /// The dirty units, sorted.
    pub(super) units: Vec<Unit>,
    /// The requests of the dirty units that cannot be honoured.
    pub(super) unmet: Vec<Unmet>,
}

impl Knowledge {
    /// Returns the facts of the last synchronization, or `None` if nothing is certain.
    pub(super) fn synced(&self) -> Option<&Synced> {
        match self {
            Knowledge::Unknown => None,
            Knowledge::Synced(synced) | Knowledge::Dirty(synced, _) => Some(synced),
        }
    }

    /// As [`Knowledge::synced`], to be changed.
    pub(super) fn synced_mut(&mut self) -> Option<&mut Synced> {
        match self {
            Knowledge::Unknown => None,
            Knowledge::Synced(synced) | Knowledge::Dirty(synced, _) => Some(synced),
        }
    }

    /// Records the units that an event dirties. `cluster` is the cluster before the event. After that
    /// the knowledge is `Dirty`, or `Unknown` if the event needs a full pass.
    pub(super) fn remember(&mut self, cluster: &Cluster, learned: &Learned, delta: &Delta) {
        let (mut synced, mut before) = match std::mem::take(self) {
            Knowledge::Unknown => return,
            Knowledge::Synced(synced) => (synced, Remembered::default()),
            Knowledge::Dirty(synced, before) => (synced, before),
        };
        let Some(mut units) = dirtied_by(delta) else { return };
        units.retain(|unit| !before.units.contains_key(unit));
        if !units.is_empty() {
            let services = units.iter().any(|unit| matches!(unit, Unit::Service(_)));
            if before.units.len() + units.len() > MAX_DIRTY
                || services && synced.claims.is_contested()
            {
                return;
            }
            let Ok(view) = ClusterView::new(cluster, learned, &synced.local) else { return };
            for unit in units {
                let items = view.items_of(&unit, &mut synced.claims).items;
                if unit == Unit::NodeRoutes {
                    before.exports = Some(view.node_exports());
                }
                before.units.insert(unit, items);
            }
        }
        *self = match before.units.is_empty() {
            true => Knowledge::Synced(synced),
            false => Knowledge::Dirty(synced, before),
        };
    }
}

impl Synced {
    /// Computes the dirty units from the cluster as it is now. Returns `None` if more may have changed
    /// than these units, so that a full pass is needed. Fails if this node's own Node is not known.
    pub(super) fn difference(
        &mut self,
        mut before: Remembered,
        cluster: &Cluster,
        learned: &Learned,
    ) -> Result<Option<Difference>> {
        let view = ClusterView::new(cluster, learned, &self.local)?;
        let mut node_routes = None;
        if let Some(old) = before.exports.take() {
            // First, because the exports follow from them.
            node_routes = Some(view.items_of(&Unit::NodeRoutes, &mut self.claims));
            if !follow_exports(&view, &old, &mut before, &mut self.claims) {
                return Ok(None);
            }
        }
        let (mut had_nodes, mut nodes) = (Vec::new(), Vec::new());
        let (mut have, mut want, mut unmet) = (Vec::new(), Vec::new(), Vec::new());
        let mut units = Vec::new();
        for (unit, was) in before.units {
            let routes = if unit == Unit::NodeRoutes { node_routes.take() } else { None };
            let mut now = routes.unwrap_or_else(|| view.items_of(&unit, &mut self.claims));
            match unit {
                Unit::NodeRoutes | Unit::NodeElements => {
                    had_nodes.extend(was);
                    nodes.extend(now.items);
                }
                Unit::Base | Unit::Service(_) | Unit::LearnedRoutes => {
                    release_claims(&was, &now.items, &mut self.claims);
                    have.extend(was);
                    want.extend(now.items);
                }
            }
            unmet.append(&mut now.unmet);
            units.push(unit);
        }
        let known = |item: &&Item| {
            let Item::Module { name } = item else { return false };
            self.local.host.as_ref().is_some_and(|host| host.modules.contains_key(name))
        };
        let want = ItemSet::from(want);
        have.extend(want.iter().filter(known).cloned());
        let have = ItemSet::from(have);
        // A learned route to a virtual address gives way to the Service that is served there.
        let moved = |a: &ItemSet, b: &ItemSet| {
            a.iter().any(|item| {
                let Item::Addr { addr, .. } = item else { return false };
                learned.routes.contains_key(addr) && !b.contains(item)
            })
        };
        if moved(&have, &want) || moved(&want, &have) {
            return Ok(None);
        }
        Ok(Some(Difference {
            nodes: units.contains(&Unit::NodeRoutes).then(|| (had_nodes.into(), nodes.into())),
            have,
            want,
            has_services: units.iter().any(|unit| matches!(unit, Unit::Service(_))),
            units,
            unmet,
        }))
    }

    /// Returns the routes to the prefixes that `old` and `new` lead to differently, before and after.
    /// `None` if other items depend on the difference.
    pub(super) fn learned_difference(
        &self,
        cluster: &Cluster,
        (old, new): (&Learned, &Learned),
    ) -> Option<(ItemSet, ItemSet)> {
        let [old_routes, new_routes] =
            [old, new].map(|learned| learned.routes.iter().map(|(net, hops)| (*net, hops)));
        let prefixes = changed_keys(old_routes, new_routes);
        let [then, now] = [old, new].map(|learned| ClusterView::new(cluster, learned, &self.local));
        now.ok()?.routes_difference(&then.ok()?, &prefixes, &self.claims)
    }
}

impl Difference {
    /// Returns the IPVS services before and now.
    pub(super) fn service_keys(&self) -> FlatSet<ServiceKey> {
        self.have.iter().chain(&self.want).filter_map(service_key).collect()
    }
}

/// Returns the IPVS service that an item is or belongs to.
pub(super) fn service_key(item: &Item) -> Option<ServiceKey> {
    let (Item::Service { at, .. } | Item::Real { of: at, .. }) = item else { return None };
    Some(*at)
}

/// Adds the Services that depend on addresses of Nodes which changed to the dirty units, and gives the
/// claims the new addresses. Returns false if a full pass is needed.
fn follow_exports(
    view: &ClusterView<'_>,
    old: &NodeExports,
    before: &mut Remembered,
    claims: &mut Claims,
) -> bool {
    let new = view.node_exports();
    let addrs = only_in_one(&old.taken, &new.taken);
    let claimed = only_in_one(&old.claimed, &new.claimed);
    if old.own != new.own || view.learned_depends_on(&addrs, &claimed) {
        return false;
    }
    if !addrs.is_empty() {
        let uses = |service: &&Service| service.addrs().any(|addr| addrs.contains(&addr));
        for service in view.node.cluster.services.values().filter(uses) {
            let unit = Unit::Service(service.name.clone());
            if claims.is_contested() || before.units.len() > MAX_DIRTY {
                return false;
            }
            if !before.units.contains_key(&unit) {
                // The Service itself did not change, and the claims still have the old addresses.
                let items = view.items_of(&unit, claims).items;
                before.units.insert(unit, items);
            }
        }
        claims.set_taken(new.taken);
    }
    true
}

fn only_in_one<T: Ord + Copy>(a: &FlatSet<T>, b: &FlatSet<T>) -> FlatSet<T> {
    let [a, b] = [a, b].map(|values| values.iter().map(|value| (*value, ())));
    changed_keys(a, b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        collections::FlatMap,
        desired::{self, is_removable, is_removable_service_item},
        model::{
            cluster::{
                Change, ClusterStore, Endpoint, EndpointSlice, Kind, Name, Node, Object,
                ServicePort, SlicePort, WatchUpdate,
            },
            items::{DUMMY, Forward, NextHops, Protocol, ServiceAddr, SetElement, TABLE_MAIN},
            local::{Host, HostLink, Module, Options},
            nftables::Set,
        },
        plan::{Step, plan},
    };

    /// A xorshift generator: pseudo-random numbers that are the same in every run.
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % limit
        }

        fn one_in(&mut self, n: u64) -> bool {
            self.below(n) == 0
        }

        fn pick<T: Copy>(&mut self, values: &[T]) -> T {
            values[self.below(values.len() as u64) as usize]
        }
    }

    fn local(last_port: Option<&str>) -> Local {
        let addrs = vec!["192.0.2.11/24".parse().unwrap()];
        let link = HostLink { name: "eth0".into(), mtu: 1500, addrs };
        let ports = last_port.into_iter().map(Into::into).collect();
        let host = Host { links: vec![link], ports, ..Host::default() };
        let options = Options { peers: true, ..Options::default() };
        Local { node: "a".into(), options, host: Some(host) }
    }

    /// Two Nodes may have the same network or address. One is behind a router, and one has an address in
    /// a pod network.
    fn node(name: &str, random: &mut Random) -> Node {
        let addr = match name {
            "a" => "192.0.2.11",
            _ => random.pick(&[
                "192.0.2.12",
                "192.0.2.13",
                "192.0.2.14",
                "198.51.100.1",
                "10.244.1.9",
            ]),
        };
        let pods = match name {
            "a" => "10.244.0.0/24",
            _ => random.pick(&["10.244.1.0/24", "10.244.2.0/24", "10.244.2.0/25", "fd44:1::/64"]),
        };
        Node {
            name: name.into(),
            internal_ips: vec![addr.parse().unwrap()],
            pod_cidrs: vec![pods.parse().unwrap()],
            ready: random.below(3) > 0,
            ..Node::default()
        }
    }

    fn name(number: u64) -> Name {
        Name { namespace: "shop".into(), name: format!("s{number}").into() }
    }

    /// A Service whose addresses are seldom those of another one, a Node or a learned route; its ports
    /// often are.
    fn service(number: u64, random: &mut Random) -> Service {
        let mut ports = Vec::new();
        for i in 0..1 + random.below(3) {
            let protocol = if random.one_in(3) { Protocol::Udp } else { Protocol::Tcp };
            let node_port = random.one_in(3).then(|| 30_000 + (number * 4 + i) as u16);
            let port = 80 + (number * 4 + i) as u16;
            ports.push(ServicePort { name: format!("p{i}").into(), protocol, port, node_port });
        }
        let external = ["192.0.2.11", "198.51.100.7", "192.0.2.13", "203.0.113.7"];
        let external = external.iter().filter(|_| random.one_in(6));
        Service {
            external_ips: external.map(|addr| addr.parse().unwrap()).collect(),
            name: name(number),
            cluster_ips: vec![[10, 96, 0, number as u8].into()],
            ports,
            affinity: if random.one_in(4) { 600 } else { 0 },
            internal_local: random.one_in(5),
            external_local: random.one_in(3),
            ..Service::default()
        }
    }

    fn slice(number: u64, of: u64, random: &mut Random) -> EndpointSlice {
        let endpoint = |random: &mut Random| {
            let (ready, here) = (!random.one_in(4), random.one_in(3));
            Endpoint {
                addr: [10, 244, u8::from(!here), 1 + random.below(9) as u8].into(),
                ready,
                serving: true,
                terminating: !ready,
                node: Some(if here { "a".into() } else { "b".into() }),
                hints: None,
            }
        };
        let port = |i: u16| {
            let (name, port): (Box<str>, u16) = (format!("p{i}").into(), 8080 + i);
            [Protocol::Tcp, Protocol::Udp].map(|protocol| SlicePort {
                name: name.clone(),
                protocol,
                port,
            })
        };
        EndpointSlice {
            name: Name { namespace: "shop".into(), name: format!("x{number}").into() },
            service: Some(name(of).name),
            endpoints: (0..random.below(4)).map(|_| endpoint(random)).collect(),
            ports: (0..3).flat_map(port).collect(),
        }
    }

    fn learned(random: &mut Random) -> Learned {
        let mut learned = Learned { complete: !random.one_in(3), ..Learned::default() };
        let prefixes =
            ["10.244.1.0/24", "10.244.2.0/24", "192.0.2.16/30", "203.0.113.0/24", "203.0.113.7/32"];
        for prefix in prefixes {
            if random.one_in(4) {
                let hop = random.pick(&["192.0.2.12", "192.0.2.20"]).parse().unwrap();
                learned.routes.insert(prefix.parse().unwrap(), NextHops::new([hop]).unwrap());
            }
        }
        if random.one_in(3) {
            learned.lost.insert("192.0.2.13".parse().unwrap());
        }
        learned
    }

    /// One node without a kernel: the items that it would hold, and the reconciler's knowledge of them.
    struct Model {
        store: ClusterStore,
        learned: Learned,
        local: Local,
        knowledge: Knowledge,
        kernel: ItemSet,
        unmet: Vec<Unmet>,
        /// The passes that were full and incremental since the start.
        full: usize,
        incremental: usize,
    }

    impl Model {
        fn apply(&mut self, steps: &[Step]) {
            let gone: Vec<_> = steps.iter().map(|step| step.item().key()).collect();
            let added = steps.iter().filter(|step| !matches!(step, Step::Remove(_)));
            let added: Vec<Item> = added.map(|step| step.item().clone()).collect();
            self.kernel.retain(|item| !gone.contains(&item.key()));
            self.kernel.extend(added);
        }

        /// As `Reconciler::full`.
        fn full(&mut self) {
            let cluster = &self.store.cluster;
            let wanted = desired::desired(cluster, &self.learned, &self.local).unwrap();
            let removable =
                |item: &Item| is_removable(item, &cluster.doubtful, &self.learned, &self.local);
            let have = self.kernel.clone();
            let steps = plan(&have, &wanted.state, |_| true);
            let kept = steps.iter().any(|s| matches!(s, Step::Remove(item) if !removable(item)));
            let steps = plan(&have, &wanted.state, removable);
            self.apply(&steps);
            (self.full, self.unmet) = (self.full + 1, wanted.unmet);
            self.knowledge = Knowledge::Synced(Synced {
                local: self.local.clone(),
                claims: wanted.claims,
                routes_exact: !kept,
            });
        }

        /// As `Reconciler::incremental`.
        fn incremental(&mut self) {
            let (mut synced, before) = match std::mem::take(&mut self.knowledge) {
                Knowledge::Dirty(synced, before) => (synced, before),
                Knowledge::Unknown => return self.full(),
                synced @ Knowledge::Synced(_) => {
                    self.knowledge = synced;
                    return;
                }
            };
            let cluster = &self.store.cluster;
            let Some(mut change) = synced.difference(before, cluster, &self.learned).unwrap()
            else {
                return self.full();
            };
            let (had_nodes, nodes) = change.nodes.take().unwrap_or_default();
            for item in change.have.iter().chain(&had_nodes) {
                let known = self.kernel.contains(item) || matches!(item, Item::Module { .. });
                assert!(known, "the kernel does not hold {item:?}");
            }
            let removable =
                |item: &Item| is_removable(item, &cluster.doubtful, &self.learned, &self.local);
            let is_wanted = |item: &Item| change.want.contains(item);
            let node_steps = plan(&had_nodes, &nodes, |item| !is_wanted(item));
            let keeps =
                node_steps.iter().any(|s| matches!(s, Step::Remove(item) if !removable(item)));
            if change.units.contains(&Unit::NodeRoutes) && (keeps || !synced.routes_exact) {
                return self.full();
            }
            self.apply(&node_steps);
            let cluster = &self.store.cluster;
            self.unmet.retain(|unmet| change.units.binary_search(&unmet.unit).is_err());
            self.unmet.append(&mut change.unmet);
            let want = std::mem::take(&mut change.want);
            let have = std::mem::take(&mut change.have);
            let steps = plan(&have, &want, |item| {
                is_removable_service_item(item, cluster, &synced.local, &synced.claims)
            });
            self.apply(&steps);
            self.incremental += 1;
            if !(change.has_services && synced.claims.is_contested()) {
                self.knowledge = Knowledge::Synced(synced);
            }
        }

        /// As `Reconciler::learn`.
        fn learn(&mut self, new: Learned) {
            self.incremental();
            let old = std::mem::replace(&mut self.learned, new);
            let new = &self.learned;
            if (&old.lost, old.complete) != (&new.lost, new.complete) {
                return self.full();
            }
            let synced = self.knowledge.synced().filter(|synced| synced.routes_exact);
            let change = synced
                .and_then(|synced| synced.learned_difference(&self.store.cluster, (&old, new)));
            let Some((have, want)) = change else { return self.full() };
            let doubtful = &self.store.cluster.doubtful;
            let removable = |item: &Item| is_removable(item, doubtful, new, &self.local);
            let steps = plan(&have, &want, |_| true);
            if steps.iter().any(|s| matches!(s, Step::Remove(item) if !removable(item))) {
                return self.full();
            }
            self.apply(&steps);
            self.incremental += 1;
        }

        fn update(&mut self, kind: Kind, change: Change) {
            let Model { store, knowledge, learned, .. } = self;
            let delta = store.apply(WatchUpdate { kind, change }, |cluster, delta| {
                knowledge.remember(cluster, learned, delta);
            });
            if delta.all {
                self.knowledge = Knowledge::Unknown;
            }
        }

        /// Compares the model with a full computation. Returns false if that is not possible now.
        fn check(&self) -> bool {
            let cluster = &self.store.cluster;
            let wanted = desired::desired(cluster, &self.learned, &self.local).unwrap();
            if matches!(self.knowledge, Knowledge::Unknown) || wanted.claims.is_contested() {
                return false;
            }
            let missing = wanted.state.iter().filter(|item| !self.kernel.contains(*item));
            assert_eq!(missing.collect::<Vec<_>>(), [] as [&Item; 0]);
            // Items that Services share go with the next full pass, uncertain ones later.
            let shared = |item: &Item| match item {
                Item::Module { .. } => true,
                Item::Element { set, .. } => matches!(
                    set,
                    Set::Loops | Set::NodeIps | Set::TcpPorts | Set::UdpPorts | Set::SctpPorts
                ),
                _ => false,
            };
            let may_stay = |item: &Item| {
                shared(item) || !is_removable(item, &cluster.doubtful, &self.learned, &self.local)
            };
            let more = |item: &&Item| !wanted.state.contains(*item) && !may_stay(item);
            let more: Vec<_> = self.kernel.iter().filter(more).filter(|i| !stays(i)).collect();
            assert_eq!(more, [] as [&Item; 0]);
            let lines = |unmet: &[Unmet]| {
                let mut lines: Vec<_> = unmet.iter().map(|u| format!("{u:?}")).collect();
                lines.sort();
                lines
            };
            assert_eq!(lines(&self.unmet), lines(&wanted.unmet));
            if let Some(synced) = self.knowledge.synced() {
                assert_eq!(without_marks(&synced.claims), without_marks(&wanted.claims));
            }
            true
        }
    }

    /// An incremental pass may keep the mark of an address that needs none any more.
    fn without_marks(claims: &Claims) -> String {
        let text = format!("{claims:?}");
        let (owners, rest) = text.split_once(", marks: ").unwrap();
        format!("{owners} {}", rest.split_once(", taken: ").unwrap().1)
    }

    /// No pass removes these.
    fn stays(item: &Item) -> bool {
        matches!(
            item,
            Item::Link { .. }
                | Item::Hairpin { .. }
                | Item::Sysctl { .. }
                | Item::Table { .. }
                | Item::Timeout { .. }
                | Item::File { .. }
        )
    }

    fn object(name: Name, now: Vec<Object>) -> Change {
        Change::Object { name, now: Ok(now), version: "1".into() }
    }

    #[test]
    fn incremental_passes_equal_full_passes_after_10_000_events_of_every_kind() {
        let mut random = Random(0x6b69_6e67_6c65_7431);
        let mut cluster = Cluster::default();
        for name in ["a", "b"] {
            cluster.insert(Object::Node(node(name, &mut random)));
        }
        let kinds = [Kind::Node, Kind::Service, Kind::EndpointSlice];
        let mut model = Model {
            store: ClusterStore::new(cluster, FlatMap::new(), &kinds),
            learned: Learned::default(),
            local: local(None),
            knowledge: Knowledge::Unknown,
            kernel: ItemSet::new(),
            unmet: Vec::new(),
            full: 0,
            incremental: 0,
        };
        for kind in kinds {
            model.update(kind, Change::UpToDate("1".into()));
        }
        model.full();
        // For each kind of event: events, those after which an incremental pass was enough, and checks.
        let mut counts = [[0usize; 3]; 6];
        let mut spoiled = None;
        for _ in 0..10_000 {
            let before = model.incremental;
            let (number, row) = (random.below(12), random.below(100));
            let row = match row {
                0..40 => {
                    let now = Object::Service(service(number, &mut random));
                    let now = if random.one_in(5) { vec![] } else { vec![now] };
                    model.update(Kind::Service, object(name(number), now));
                    0
                }
                40..70 => {
                    let slice = slice(random.below(20), number, &mut random);
                    let name = slice.name.clone();
                    let now =
                        if random.one_in(4) { vec![] } else { vec![Object::EndpointSlice(slice)] };
                    model.update(Kind::EndpointSlice, object(name, now));
                    1
                }
                70..85 => {
                    let which = random.pick(&["a", "b", "c", "d", "d"]);
                    let now = Object::Node(node(which, &mut random));
                    let gone = which != "a" && random.one_in(3);
                    let name = Name { namespace: "".into(), name: which.into() };
                    model.update(Kind::Node, object(name, if gone { vec![] } else { vec![now] }));
                    2
                }
                85..95 => {
                    let learned = learned(&mut random);
                    let complete = random.one_in(2);
                    let kept = Learned { lost: model.learned.lost.clone(), ..learned.clone() };
                    let kept = Learned { complete: model.learned.complete, ..kept };
                    model.learn(if complete { learned } else { kept });
                    3
                }
                95..98 => {
                    // An object that cannot be read makes its kind incomplete; later it is readable again.
                    let (kind, name) = match spoiled.take() {
                        Some(spoiled) => spoiled,
                        None => {
                            let kind = random.pick(&kinds);
                            let name = Name { namespace: "shop".into(), name: "odd".into() };
                            spoiled = Some((kind, name.clone()));
                            let error = Err("odd".to_owned());
                            model.update(
                                kind,
                                Change::Object {
                                    name: name.clone(),
                                    now: error,
                                    version: "1".into(),
                                },
                            );
                            (kind, name)
                        }
                    };
                    if spoiled.is_none() {
                        model.update(kind, object(name, vec![]));
                    }
                    4
                }
                _ => {
                    model.local = local(random.pick(&[None, Some("veth1"), Some("veth2")]));
                    model.knowledge = Knowledge::Unknown; // a full pass finds the host changed
                    5
                }
            };
            counts[row][0] += 1;
            if random.one_in(3) && row != 3 {
                continue; // several events before one pass
            }
            model.incremental();
            counts[row][1] += usize::from(model.incremental > before);
            if model.check() {
                counts[row][2] += 1;
            }
        }
        let [services, slices, nodes, learned, incomplete, host] = counts;
        assert!(services[1] > 800 && slices[1] > 500, "{counts:?}");
        assert!(nodes[1] > 150 && learned[1] > 150, "{counts:?}");
        assert!(services[2] > 800 && slices[2] > 500 && nodes[2] > 150, "{counts:?}");
        assert!(learned[2] > 150 && incomplete[2] > 50 && host[2] > 50, "{counts:?}");
    }

    #[test]
    fn an_event_that_may_dirty_any_unit_leaves_nothing_certain() {
        let all = Delta { all: true, ..Delta::default() };
        assert_eq!(dirtied_by(&all), None);
    }

    fn fixed_node(name: &str, addr: &str, pods: &str) -> Object {
        Object::Node(Node {
            name: name.into(),
            internal_ips: vec![addr.parse().unwrap()],
            pod_cidrs: vec![pods.parse().unwrap()],
            ready: true,
            ..Node::default()
        })
    }

    /// A Service with one TCP port at its ClusterIP and at `external`.
    fn fixed_service(number: u16, external: &[&str]) -> Service {
        let (protocol, name) = (Protocol::Tcp, "".into());
        let [high, low] = number.to_be_bytes();
        Service {
            name: Name { namespace: "shop".into(), name: format!("s{number}").into() },
            cluster_ips: vec![[10, 96, high, low].into()],
            external_ips: external.iter().map(|addr| addr.parse().unwrap()).collect(),
            ports: vec![ServicePort { name, protocol, port: 80, node_port: None }],
            ..Service::default()
        }
    }

    /// This node a, Node b at 192.0.2.12 with the pods 10.244.1.0/24, and some Services.
    fn cluster_with(services: impl IntoIterator<Item = Service>) -> Cluster {
        let mut cluster = Cluster::default();
        cluster.insert(fixed_node("a", "192.0.2.11", "10.244.0.0/24"));
        cluster.insert(fixed_node("b", "192.0.2.12", "10.244.1.0/24"));
        services.into_iter().for_each(|service| cluster.insert(Object::Service(service)));
        cluster
    }

    fn learned_route(to: &str, via: &str) -> Learned {
        let route = (to.parse().unwrap(), NextHops::new([via.parse().unwrap()]).unwrap());
        Learned { routes: [route].into_iter().collect(), complete: true, ..Learned::default() }
    }

    /// The knowledge after a full pass that applied everything.
    fn after_full_pass(cluster: &Cluster, learned: &Learned) -> Knowledge {
        let local = local(None);
        let claims = desired::desired(cluster, learned, &local).unwrap().claims;
        Knowledge::Synced(Synced { local, claims, routes_exact: true })
    }

    fn dirty_units(knowledge: &Knowledge) -> Option<Vec<Unit>> {
        match knowledge {
            Knowledge::Unknown => None,
            Knowledge::Synced(_) => Some(Vec::new()),
            Knowledge::Dirty(_, before) => Some(before.units.keys().cloned().collect()),
        }
    }

    fn of_services(services: impl IntoIterator<Item = u16>) -> Delta {
        let names = services.into_iter().map(|number| name(number.into()));
        Delta { services: names.collect(), ..Delta::default() }
    }

    const NODES: Delta = Delta { all: false, nodes: true, services: FlatSet::new() };

    /// Changes a cluster after a full pass and returns the difference; `None` if a full pass is needed.
    fn difference_after(
        mut cluster: Cluster,
        learned: &Learned,
        delta: &Delta,
        change: impl FnOnce(&mut Cluster),
    ) -> Option<Difference> {
        let mut knowledge = after_full_pass(&cluster, learned);
        knowledge.remember(&cluster, learned, delta);
        change(&mut cluster);
        let Knowledge::Dirty(mut synced, before) = knowledge else {
            panic!("{delta:?} dirties no unit: {knowledge:?}")
        };
        synced.difference(before, &cluster, learned).unwrap()
    }

    fn tcp(addr: &str, port: u16) -> ServiceKey {
        ServiceAddr { addr: addr.parse().unwrap(), protocol: Protocol::Tcp, port }.into()
    }

    #[test]
    fn an_ipvs_service_and_its_real_servers_have_the_key_of_the_service() {
        let at = ServiceAddr { addr: [10, 96, 0, 1].into(), protocol: Protocol::Tcp, port: 80 };
        for key in [at.into(), ServiceKey::FwMark { mark: 1 << 16, ipv4: true }] {
            let addr = [10, 244, 0, 2].into();
            let real = Item::Real { of: key, addr, port: 8080, weight: 0, forward: Forward::Masq };
            let scheduler = "rr".into();
            let service = Item::Service { at: key, scheduler, flags: 0, persistence: 0 };
            assert_eq!([&real, &service].map(service_key), [Some(key); 2]);
        }
        let others = [
            Item::Element { set: Set::Services, value: SetElement::Service(at) },
            Item::Addr { link: DUMMY.into(), addr: at.addr.into() },
            Item::Module { name: "ip_vs_rr".into() },
        ];
        assert_eq!(others.each_ref().map(service_key), [None; 3]);
    }

    #[test]
    fn a_delta_dirties_its_units_and_an_empty_one_leaves_all_synced() {
        let cluster = cluster_with([fixed_service(1, &[])]);
        let nothing = Learned::default();
        let dirtied = |deltas: &[&Delta]| {
            let mut knowledge = after_full_pass(&cluster, &nothing);
            for delta in deltas {
                knowledge.remember(&cluster, &nothing, delta);
            }
            dirty_units(&knowledge)
        };
        let (nodes, service) = ([Unit::NodeElements, Unit::NodeRoutes], Unit::Service(name(1)));
        let all = || nodes.clone().into_iter().chain([service.clone()]).collect();
        assert_eq!(dirtied(&[&Delta::default()]), Some(vec![]));
        assert_eq!(dirtied(&[&NODES]), Some(nodes.to_vec()));
        assert_eq!(dirtied(&[&of_services([1]), &Delta::default()]), Some(vec![service.clone()]));
        assert_eq!(dirtied(&[&of_services([1]), &NODES]), Some(all()));
        assert_eq!(dirtied(&[&of_services([1]), &NODES, &of_services([1]), &NODES]), Some(all()));
        let everything = Delta { all: true, ..of_services([1]) };
        assert_eq!(dirtied(&[&everything]), None);
        assert_eq!(
            dirtied(&[&everything, &of_services([1])]),
            None,
            "nothing is certain until a pass"
        );
    }

    #[test]
    fn the_items_before_the_first_event_are_remembered_and_not_those_before_a_later_one() {
        let mut cluster = cluster_with([fixed_service(1, &["203.0.113.1"])]);
        let nothing = Learned::default();
        let mut knowledge = after_full_pass(&cluster, &nothing);
        for addr in ["203.0.113.2", "203.0.113.3"] {
            knowledge.remember(&cluster, &nothing, &of_services([1]));
            cluster.insert(Object::Service(fixed_service(1, &[addr])));
        }
        let Knowledge::Dirty(mut synced, before) = knowledge else { panic!("{knowledge:?}") };
        let change = synced.difference(before, &cluster, &nothing).unwrap().unwrap();
        let keys = |items: &ItemSet| items.iter().filter_map(service_key).collect::<Vec<_>>();
        let always = tcp("10.96.0.1", 80);
        assert_eq!(keys(&change.have), [always, tcp("203.0.113.1", 80)]);
        assert_eq!(keys(&change.want), [always, tcp("203.0.113.3", 80)]);
        assert_eq!((change.units, change.has_services), (vec![Unit::Service(name(1))], true));
        assert!(change.nodes.is_none());
    }

    #[test]
    fn more_dirty_units_than_the_maximum_need_a_full_pass() {
        let most = MAX_DIRTY as u16;
        let cluster = cluster_with((0..2 * most).map(|number| fixed_service(number, &[])));
        let dirtied = |deltas: &[Delta]| {
            let mut knowledge = after_full_pass(&cluster, &Learned::default());
            for delta in deltas {
                knowledge.remember(&cluster, &Learned::default(), delta);
            }
            dirty_units(&knowledge).map(|units| units.len())
        };
        assert_eq!(dirtied(&[of_services(0..most)]), Some(MAX_DIRTY));
        assert_eq!(dirtied(&[of_services(0..=most)]), None);
        let half = most / 2;
        assert_eq!(dirtied(&[of_services(0..half), of_services(half..most)]), Some(MAX_DIRTY));
        assert_eq!(dirtied(&[of_services(0..half), of_services(half..=most)]), None);
        let again = [of_services(0..most), of_services(0..most)];
        assert_eq!(dirtied(&again), Some(MAX_DIRTY), "a dirty unit counts once");
        assert_eq!(dirtied(&[of_services(0..most), NODES]), None);
    }

    #[test]
    fn a_service_that_changes_while_two_contest_an_address_needs_a_full_pass() {
        let contested = cluster_with([1, 2].map(|number| fixed_service(number, &["203.0.113.1"])));
        for (delta, dirty) in [
            (of_services([1]), None),
            (of_services([3]), None),
            (Delta { nodes: true, ..of_services([1]) }, None),
            (NODES, Some(vec![Unit::NodeElements, Unit::NodeRoutes])),
            (Delta::default(), Some(vec![])),
        ] {
            let mut knowledge = after_full_pass(&contested, &Learned::default());
            knowledge.remember(&contested, &Learned::default(), &delta);
            assert_eq!(dirty_units(&knowledge), dirty, "{delta:?}");
        }
    }

    #[test]
    fn without_this_nodes_own_node_an_event_needs_a_full_pass() {
        let mut cluster = cluster_with([fixed_service(1, &[])]);
        let after = after_full_pass(&cluster, &Learned::default());
        let Knowledge::Synced(synced) = after else { panic!("{after:?}") };
        cluster.nodes.remove("a");
        let mut knowledge = Knowledge::Synced(synced);
        knowledge.remember(&cluster, &Learned::default(), &Delta::default());
        assert_eq!(dirty_units(&knowledge), Some(vec![]));
        knowledge.remember(&cluster, &Learned::default(), &of_services([1]));
        assert!(matches!(knowledge, Knowledge::Unknown), "{knowledge:?}");
    }

    #[test]
    fn a_service_that_names_an_address_of_a_node_that_changed_is_recomputed() {
        // 192.0.2.12 is Node b's at first, so that Node b serves it; then it is 192.0.2.13.
        let services = [(1, "192.0.2.12"), (2, "192.0.2.13"), (3, "203.0.113.1")];
        let cluster = cluster_with(services.map(|(number, addr)| fixed_service(number, &[addr])));
        let nothing = Learned::default();
        let change = difference_after(cluster, &nothing, &NODES, |cluster| {
            cluster.insert(fixed_node("b", "192.0.2.13", "10.244.1.0/24"));
        });
        let change = change.expect("no full pass");
        let nodes = [Unit::NodeElements, Unit::NodeRoutes];
        let units: Vec<_> =
            nodes.into_iter().chain([1, 2].map(|n| Unit::Service(name(n)))).collect();
        assert_eq!((&change.units, change.has_services), (&units, true));
        let keys = |items: &ItemSet| items.iter().filter_map(service_key).collect::<Vec<_>>();
        let always = [tcp("10.96.0.1", 80), tcp("10.96.0.2", 80)];
        assert_eq!(keys(&change.have), [&always[..], &[tcp("192.0.2.13", 80)]].concat());
        assert_eq!(keys(&change.want), [&always[..], &[tcp("192.0.2.12", 80)]].concat());
        let (had, now) = change.nodes.unwrap();
        assert!(had.iter().ne(&now));
    }

    #[test]
    fn nodes_that_change_without_their_addresses_recompute_no_service() {
        let cluster = cluster_with([fixed_service(1, &["192.0.2.12"])]);
        let change = difference_after(cluster, &Learned::default(), &NODES, |cluster| {
            cluster.insert(fixed_node("b", "192.0.2.12", "10.244.2.0/24"));
        });
        let change = change.expect("no full pass");
        assert_eq!(change.units, [Unit::NodeElements, Unit::NodeRoutes]);
        assert_eq!((change.has_services, change.have.len(), change.want.len()), (false, 0, 0));
    }

    #[test]
    fn a_change_of_nodes_on_which_other_units_depend_needs_a_full_pass() {
        type Change = fn(&mut Cluster);
        let moved: Change =
            |cluster| cluster.insert(fixed_node("b", "192.0.2.13", "10.244.1.0/24"));
        let other_pods: Change =
            |cluster| cluster.insert(fixed_node("b", "192.0.2.12", "10.244.2.0/24"));
        let own: Change = |cluster| cluster.insert(fixed_node("a", "192.0.2.11", "10.244.9.0/24"));
        let named =
            |count: u16| cluster_with((1..=count).map(|n| fixed_service(n, &["192.0.2.12"])));
        let each_a_port = |count: u16| {
            let mut cluster = named(count);
            for service in cluster.services.values_mut() {
                service.ports[0].port = u16::from_be_bytes(match service.cluster_ips[0] {
                    std::net::IpAddr::V4(addr) => [addr.octets()[2], addr.octets()[3]],
                    std::net::IpAddr::V6(_) => unreachable!(),
                });
            }
            cluster
        };
        let most = MAX_DIRTY as u16;
        let none = Learned::default();
        for (sentence, cluster, learned, change, incremental) in [
            ("another Node moved", named(1), &none, moved, true),
            ("this node's own Node changed", named(1), &none, own, false),
            (
                "a learned route to the podCIDR that a Node has now",
                named(0),
                &learned_route("10.244.2.0/24", "192.0.2.12"),
                other_pods,
                false,
            ),
            (
                "a learned route to the podCIDR that a Node had",
                named(0),
                &learned_route("10.244.1.0/24", "192.0.2.12"),
                other_pods,
                false,
            ),
            (
                "a learned route to another network",
                named(0),
                &learned_route("10.244.3.0/24", "192.0.2.12"),
                other_pods,
                true,
            ),
            (
                "a learned route within the link, and an address of a Node changed",
                named(0),
                &learned_route("192.0.2.16/30", "192.0.2.12"),
                moved,
                false,
            ),
            (
                "a learned route within the link, and a podCIDR changed",
                named(0),
                &learned_route("192.0.2.16/30", "192.0.2.12"),
                other_pods,
                true,
            ),
            ("many Services name the address", each_a_port(most / 2), &none, moved, true),
            ("more than the maximum name it", each_a_port(most + 1), &none, moved, false),
        ] {
            let change = difference_after(cluster, learned, &NODES, change);
            assert_eq!(change.is_some(), incremental, "{sentence}");
        }
    }

    #[test]
    fn while_two_services_contest_an_address_one_that_names_a_moved_node_needs_a_full_pass() {
        let moved = |external: &str| {
            let contested = [1, 2].map(|number| fixed_service(number, &["203.0.113.1"]));
            let cluster =
                cluster_with(contested.into_iter().chain([fixed_service(3, &[external])]));
            difference_after(cluster, &Learned::default(), &NODES, |cluster| {
                cluster.insert(fixed_node("b", "192.0.2.13", "10.244.1.0/24"));
            })
        };
        assert!(moved("192.0.2.12").is_none());
        assert!(moved("203.0.113.9").is_some());
    }

    #[test]
    fn a_service_that_takes_or_releases_the_address_of_a_learned_route_needs_a_full_pass() {
        let learned = learned_route("203.0.113.7/32", "192.0.2.12");
        for (before, after, incremental) in [
            (&["203.0.113.8"][..], &["203.0.113.9"][..], true),
            (&[], &["203.0.113.7"], false),
            (&["203.0.113.7"], &[], false),
            (&["203.0.113.7"], &["203.0.113.7", "203.0.113.8"], true),
        ] {
            let cluster = cluster_with([fixed_service(1, before)]);
            let change = difference_after(cluster, &learned, &of_services([1]), |cluster| {
                cluster.insert(Object::Service(fixed_service(1, after)));
            });
            assert_eq!(change.is_some(), incremental, "{before:?} -> {after:?}");
        }
    }

    #[test]
    fn a_change_is_refused_if_this_nodes_own_node_is_gone() {
        let mut cluster = cluster_with([fixed_service(1, &[])]);
        let mut knowledge = after_full_pass(&cluster, &Learned::default());
        knowledge.remember(&cluster, &Learned::default(), &NODES);
        cluster.nodes.remove("a");
        let Knowledge::Dirty(mut synced, before) = knowledge else { panic!("{knowledge:?}") };
        let error = synced.difference(before, &cluster, &Learned::default()).unwrap_err();
        assert!(error.to_string().contains("finding node a"), "{error}");
    }

    #[test]
    fn a_module_that_the_host_has_is_not_loaded_again_for_a_service() {
        let cluster = cluster_with([]);
        let mut knowledge = after_full_pass(&cluster, &Learned::default());
        let modules = [("ip_vs_mh", Module::Present), ("ip_vs_sh", Module::Loadable)];
        let host = knowledge.synced_mut().unwrap().local.host.as_mut().unwrap();
        host.modules = modules.into_iter().map(|(name, state)| (name.into(), state)).collect();
        knowledge.remember(&cluster, &Learned::default(), &of_services([1]));
        let scheduler = Some("mh".into());
        let cluster = cluster_with([Service { scheduler, ..fixed_service(1, &[]) }]);
        let Knowledge::Dirty(mut synced, before) = knowledge else { panic!("{knowledge:?}") };
        let change = synced.difference(before, &cluster, &Learned::default()).unwrap().unwrap();
        let mh = Item::Module { name: "ip_vs_mh".into() };
        assert!(change.want.contains(&mh), "{:?}", change.want);
        assert_eq!(change.have, ItemSet::from([mh]));
    }

    #[test]
    fn routes_that_bgp_learned_differ_by_prefix_unless_other_items_follow_from_them() {
        let cluster = cluster_with([]);
        let difference = |old: &Learned, new: &Learned| {
            let synced = after_full_pass(&cluster, old);
            synced.synced().unwrap().learned_difference(&cluster, (old, new))
        };
        let route = |via: &str| Item::Route {
            table: TABLE_MAIN,
            to: "198.51.100.0/24".parse().unwrap(),
            via: NextHops::new([via.parse().unwrap()]),
            src: None,
        };
        let [old, new] =
            ["192.0.2.12", "192.0.2.13"].map(|via| learned_route("198.51.100.0/24", via));
        let (have, want) = difference(&old, &new).unwrap();
        assert_eq!(have, ItemSet::from([route("192.0.2.12")]));
        assert_eq!(want, ItemSet::from([route("192.0.2.13")]));
        let (have, want) = difference(&old, &old).unwrap();
        assert_eq!((have.len(), want.len()), (0, 0));
        // A refused route is a request that cannot be honoured, which only a full pass reports.
        let off_link = learned_route("198.51.100.0/24", "198.18.0.1");
        assert!(difference(&old, &off_link).is_none());
    }
}
