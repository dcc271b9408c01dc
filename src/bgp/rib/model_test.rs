//! A randomized test of the table against a model. Random events are applied to both; the UPDATEs that
//! each peer decodes must give exactly the routes that the policies make of the best paths.
//!
//! The model does not sort paths as [`decision`](super::decision) does: it eliminates candidates rule
//! by rule, as RFC 4271 section 9.1.2.2 describes the decision process.

use std::{collections::BTreeMap, sync::Arc};

use ipnet::IpNet;

use super::{PeerSession, Rib, fixtures::*, path::RouteAttrs};
use crate::family::Family;
use crate::{
    bgp::{
        attribute::{Attributes, OriginCode},
        message::Message,
        policy::{self, ExportedRoute, LocalKind, RouteSource},
        update::{Reach, Update},
    },
    collections::FlatMap,
    model::{bgp::Config, items::NextHops},
    rng::Rng,
};

/// Routes by network, as received from a peer.
type ModelRoutes = BTreeMap<IpNet, RouteAttrs>;

/// The model of a peer.
struct ModelPeer {
    session: PeerSession,
    up: bool,
    /// The routes that the peer advertised in this session, whether accepted or refused.
    current: ModelRoutes,
    /// The routes from an earlier session that are still valid as stale paths.
    stale: ModelRoutes,
    /// The routes that the peer has received.
    received: BTreeMap<IpNet, ExportedRoute>,
}

/// A path of the model.
struct ModelPath<'a> {
    from: &'a PeerSession,
    attrs: &'a RouteAttrs,
    resolvable: bool,
}

/// The table under test, and the model.
struct Model {
    rng: Rng,
    config: Config,
    rib: Rib,
    peers: Vec<ModelPeer>,
    /// The kernel routes after the last step.
    routes: FlatMap<IpNet, NextHops>,
}

const NETS: [&str; 8] = [
    "10.9.0.0/16",
    "10.9.1.0/24",
    "10.42.2.0/24",
    "10.43.0.1/32",
    "10.43.0.2/32",
    "172.16.0.0/12",
    "fd42:2::/64",
    "fd42:3::/64",
];

impl Model {
    fn new(seed: u64) -> Model {
        let client = |last| PeerSession { client: true, ..session(last, ASN) };
        let mut sessions = vec![
            client(2),
            client(3),
            session(4, ASN),
            session(5, 65001),
            PeerSession { external: true, ..session(6, ASN) },
            session(7, 65001),
            PeerSession { external: false, ..session(8, 65002) },
        ];
        sessions[1].families = vec![Family::Ipv4];
        sessions[3].negotiated.four_octet = false;
        let mut config = reflector();
        config.peers = sessions.iter().map(|session| (session.addr, peer(session))).collect();
        let peers = sessions.into_iter().map(|session| ModelPeer {
            session,
            up: false,
            current: BTreeMap::new(),
            stale: BTreeMap::new(),
            received: BTreeMap::new(),
        });
        Model {
            rng: Rng(seed),
            rib: Rib::new(Arc::new(config.clone())),
            config,
            peers: peers.collect(),
            routes: FlatMap::new(),
        }
    }

    fn step(&mut self) {
        let at = self.rng.below(self.peers.len());
        let addr = self.peers[at].session.addr;
        match self.rng.below(24) {
            0 | 1 => self.up(at),
            2 => self.down(at),
            3 => {
                self.rib.remove_stale(addr);
                self.peers[at].stale.clear();
            }
            4 => self.rib.handle_refresh(addr, *self.rng.pick(&Family::ALL)),
            5 => self.configure(),
            6 => {
                let family = *self.rng.pick(&Family::ALL);
                self.rib.handle_update(addr, end_of_rib(family));
                let peer = &mut self.peers[at];
                peer.stale.retain(|net, _| !peer.up || Family::of(net) != family);
            }
            7..12 => self.withdraw(at),
            12..19 => self.advertise(at),
            _ => self.read(at, 1),
        }
        self.check_routes();
    }

    fn up(&mut self, at: usize) {
        let kept = families(&mut self.rng);
        let peer = &mut self.peers[at];
        let was_up = std::mem::replace(&mut peer.up, true);
        let accepted = accepted_routes(&self.config, peer);
        peer.stale = if was_up { accepted.0 } else { accepted.1 };
        peer.stale.retain(|net, _| kept.contains(&Family::of(net)));
        peer.current.clear();
        peer.received.clear();
        if self.rng.one_in(4) {
            peer.session.id = [10, 0, 0, 100 + self.rng.below(50) as u8].into();
        }
        self.rib.session_up(peer.session.clone(), &kept);
    }

    fn down(&mut self, at: usize) {
        let keep = families(&mut self.rng);
        let peer = &mut self.peers[at];
        let was_up = std::mem::take(&mut peer.up);
        let accepted = accepted_routes(&self.config, peer);
        peer.stale = if was_up { accepted.0 } else { accepted.1 };
        peer.stale.retain(|net, _| keep.contains(&Family::of(net)));
        peer.current.clear();
        peer.received.clear();
        self.rib.session_down(peer.session.addr, &keep);
    }

    fn withdraw(&mut self, at: usize) {
        let text: &&str = self.rng.pick(&NETS);
        let net = net(text);
        let peer = &mut self.peers[at];
        self.rib.handle_update(peer.session.addr, withdraw(&[&net.to_string()]));
        if peer.up {
            peer.current.remove(&net);
            peer.stale.remove(&net);
        }
    }

    fn advertise(&mut self, at: usize) {
        let rng = &mut self.rng;
        let four = !rng.one_in(4);
        let nets = NETS
            .iter()
            .map(|text| net(text))
            .filter(|net| (Family::of(net) == Family::Ipv4) == four);
        let nets: Vec<IpNet> = nets.filter(|_| rng.one_in(2)).collect();
        let last = rng.below(4) + 2;
        let hop = match (four, rng.below(6)) {
            (true, 0) => ip("10.77.0.1"),
            (true, _) => ip(&format!("10.0.0.{last}")),
            (false, _) => ip(&format!("fd00::{last}")),
        };
        let peer = &mut self.peers[at];
        let first =
            if peer.session.internal { *rng.pick(&[65001, 65002]) } else { peer.session.asn };
        let path = match rng.below(5) {
            0 if peer.session.internal => vec![],
            0 | 1 => vec![first, 65003],
            2 => vec![first, 65003, 65004],
            _ => vec![first],
        };
        let attributes = Attributes {
            origin: *rng.pick(&[OriginCode::Igp, OriginCode::Igp, OriginCode::Incomplete]),
            med: *rng.pick(&[None, None, Some(1), Some(2)]),
            local_pref: *rng.pick(&[None, Some(100), Some(100), Some(200)]),
            communities: rng
                .pick(&[
                    vec![],
                    vec![],
                    vec![7],
                    vec![policy::NO_EXPORT],
                    vec![policy::NO_ADVERTISE],
                ])
                .clone(),
            originator: *rng.pick(&[
                None,
                None,
                Some([10, 0, 0, 2].into()),
                Some([1, 1, 1, 1].into()),
            ]),
            clusters: rng
                .pick(&[vec![], vec![[8, 8, 8, 8].into()], vec![[9, 9, 9, 9].into()]])
                .clone(),
            ..as_path(&path)
        };
        if peer.up {
            let attributes = policy::strip_for_ebgp(&peer.session, attributes.clone());
            for net in &nets {
                peer.stale.remove(net);
                peer.current
                    .insert(*net, RouteAttrs { next_hop: hop, attributes: attributes.clone() });
            }
        }
        let reach = vec![Reach { next_hop: hop, nets }];
        self.rib
            .handle_update(peer.session.addr, Update { reach, attributes, ..Update::default() });
    }

    fn configure(&mut self) {
        let (config, rng) = (&mut self.config, &mut self.rng);
        match rng.below(12) {
            0 => config.export.pods_inside ^= true,
            1 => config.export.pods_outside ^= true,
            2 => config.export.next_hop_self ^= true,
            3 => config.export.communities = rng.pick(&[vec![], vec![5, 6]]).clone(),
            4 => config.export.prepend = *rng.pick(&[None, Some((65077, 3))]),
            5 => {
                let on = config.own.cluster_id.is_none();
                config.own.cluster_id = on.then(|| [9, 9, 9, 9].into());
            }
            6 | 7 => {
                config.import.reject = [net("10.9.0.0/16"), net("fd42::/16")].into();
                config.import.reject.retain(|_| rng.one_in(2));
            }
            8 => {
                config.import.on_link =
                    rng.pick(&[vec![], vec![net("10.0.0.0/24"), net("fd00::/64")]]).clone();
            }
            9 => {
                let text: &&str = rng.pick(&["10.43.0.1/32", "10.43.0.2/32"]);
                let vip = net(text);
                if !config.origin.services.remove(&vip) {
                    config.origin.services.insert(vip);
                }
                config.import.own.remove(&vip);
                if config.origin.services.contains(&vip) && rng.one_in(2) {
                    config.import.own.insert(vip);
                }
            }
            10 => {
                let pod = net("172.16.0.0/12"); // peers advertise it too, and it may be a Service as well
                let set = if rng.one_in(2) {
                    &mut config.origin.pods
                } else {
                    &mut config.origin.services
                };
                if !set.remove(&pod) {
                    set.insert(pod);
                }
            }
            _ => {
                let at = rng.below(self.peers.len());
                let session = &mut self.peers[at].session;
                session.client ^= true;
                config.peers.insert(session.addr, peer(session));
            }
        }
        for peer in &mut self.peers {
            // A stale route that the new policy refuses is lost: the peer does not send it again.
            let config = &self.config;
            peer.stale.retain(|net, attrs| {
                policy::check_import(config, &peer.session, net, attrs).is_none()
            });
        }
        for addr in self.rib.configure(Arc::new(self.config.clone())) {
            let peer = self.peers.iter().find(|peer| peer.session.addr == addr).unwrap();
            assert!(peer.up);
            for (net, attrs) in &peer.current {
                let attributes = attrs.attributes.clone();
                self.rib.handle_update(
                    addr,
                    reach(&[&net.to_string()], &attrs.next_hop.to_string(), attributes),
                );
            }
        }
    }

    /// Reads and decodes UPDATEs for a peer, at most `times` times.
    fn read(&mut self, at: usize, times: usize) {
        let peer = &mut self.peers[at];
        let addr = peer.session.addr;
        for _ in 0..times {
            let mut bytes = Vec::new();
            let max_bytes = 1 + self.rng.below(150);
            let more = self.rib.write_updates(addr, max_bytes, &mut bytes);
            assert_eq!(more, self.rib.has_pending_updates(addr));
            let mut left = &bytes[..];
            while !left.is_empty() {
                let length = usize::from(u16::from_be_bytes([left[16], left[17]]));
                let message = Message::read(&left[..length], peer.session.negotiated).unwrap();
                left = &left[length..];
                let Message::Update(update) = message else { panic!("{message:?}") };
                for net in update.withdrawn {
                    assert!(peer.received.remove(&net).is_some(), "{addr} never received {net}");
                }
                for Reach { next_hop, nets } in update.reach {
                    for net in nets {
                        let attributes = update.attributes.clone();
                        peer.received.insert(net, ExportedRoute { next_hop, attributes });
                    }
                }
            }
            if !more {
                break;
            }
        }
    }

    /// Returns the paths that the table must have: for each network those that form its multipath route.
    fn paths(&self) -> BTreeMap<IpNet, Vec<ModelPath<'_>>> {
        let mut paths: BTreeMap<IpNet, Vec<ModelPath>> = BTreeMap::new();
        for peer in &self.peers {
            for (net, attrs) in peer.stale.iter().chain(&peer.current) {
                if policy::check_import(&self.config, &peer.session, net, attrs).is_none() {
                    let resolvable = policy::is_on_link(&self.config, &attrs.next_hop);
                    paths.entry(*net).or_default().push(ModelPath {
                        from: &peer.session,
                        attrs,
                        resolvable,
                    });
                }
            }
        }
        paths.values_mut().for_each(eliminate);
        paths
    }

    fn check_routes(&mut self) {
        let kinds = |net: &IpNet| LocalKind::of(&self.config, net);
        let routes = self
            .paths()
            .into_iter()
            .filter(|(net, paths)| kinds(net) == LocalKind::default() && paths[0].resolvable);
        let routes: FlatMap<IpNet, NextHops> = routes
            .map(|(net, paths)| {
                (net, NextHops::new(paths.iter().map(|path| path.attrs.next_hop)).unwrap())
            })
            .collect();
        assert_eq!(self.rib.routes(), routes);
        let changed = self.rib.take_routes_changed();
        assert!(changed || routes == self.routes, "a change of the routes was not reported");
        let gone: Vec<&IpNet> =
            self.routes.keys().filter(|net| !routes.contains_key(net)).collect();
        let reported: Vec<&IpNet> = self.rib.removed_routes().collect();
        assert!(
            gone.iter().all(|net| reported.contains(net)),
            "{gone:?} lost their route, reported were {reported:?}"
        );
        self.routes = routes;
    }

    fn check_peers(&mut self) {
        for at in 0..self.peers.len() {
            self.read(at, usize::MAX);
        }
        let paths = self.paths();
        for peer in &self.peers {
            let to = &peer.session;
            let mut expected = BTreeMap::new();
            let origin = &self.config.origin;
            let originated = origin.pods.iter().chain(&origin.services);
            for net in originated.chain(paths.keys()) {
                let kind = LocalKind::of(&self.config, net);
                let source = if kind != LocalKind::default() {
                    RouteSource::Local(kind)
                } else {
                    let tie_breakers = |path: &&ModelPath| {
                        let attributes = &path.attrs.attributes;
                        let id = attributes.originator.unwrap_or(path.from.id);
                        (id, attributes.clusters.len(), path.from.addr)
                    };
                    let best = paths[net].iter().min_by_key(tie_breakers).unwrap();
                    RouteSource::Learned {
                        from: best.from,
                        attrs: best.attrs,
                        resolvable: best.resolvable,
                    }
                };
                if let Some(route) = policy::export(&self.config, to, Family::of(net), source) {
                    expected.insert(*net, route);
                }
            }
            if !peer.up {
                expected.clear();
            }
            assert_eq!(peer.received, expected, "{}", to.addr);
            let counts = self.rib.counts(to.addr);
            assert_eq!(counts.advertised, expected.len());
            assert_eq!(
                counts.accepted,
                accepted_routes(&self.config, peer).0.len()
                    + accepted_routes(&self.config, peer).1.len()
            );
            if peer.up {
                assert_eq!(
                    counts.received,
                    peer.current.len() + accepted_routes(&self.config, peer).1.len()
                );
            }
        }
    }
}

/// Returns the routes of a peer that the import policy accepts: those of this session, and the stale
/// ones.
fn accepted_routes(config: &Config, peer: &ModelPeer) -> (ModelRoutes, ModelRoutes) {
    let is_accepted = |(net, attrs): &(&IpNet, &RouteAttrs)| {
        policy::check_import(config, &peer.session, net, attrs).is_none()
    };
    let owned = |(net, attrs): (&IpNet, &RouteAttrs)| (*net, attrs.clone());
    (
        peer.current.iter().filter(is_accepted).map(owned).collect(),
        peer.stale.iter().filter(is_accepted).map(owned).collect(),
    )
}

/// Eliminates the paths that are not part of the multipath route.
fn eliminate(paths: &mut Vec<ModelPath>) {
    let attributes = |path: &ModelPath| path.attrs.attributes.clone();
    let rules: [&dyn Fn(&ModelPath) -> u32; 4] = [
        &|path| u32::from(!path.resolvable),
        &|path| u32::MAX - attributes(path).local_pref.unwrap_or(100),
        &|path| attributes(path).path_len() as u32,
        &|path| attributes(path).origin as u32,
    ];
    for rule in rules {
        let best = paths.iter().map(rule).min().unwrap();
        paths.retain(|path| rule(path) == best);
    }
    let meds: Vec<_> = paths
        .iter()
        .map(|path| (attributes(path).neighbor_as(), attributes(path).med.unwrap_or(0)))
        .collect();
    paths.retain(|path| {
        let med = attributes(path).med.unwrap_or(0);
        !meds
            .iter()
            .any(|(neighbor, other)| *neighbor == attributes(path).neighbor_as() && *other < med)
    });
    let external = paths.iter().any(|path| !path.from.internal);
    paths.retain(|path| path.from.internal != external);
}

#[test]
fn every_peer_receives_the_routes_that_the_policies_make_of_the_best_paths() {
    let mut received = 0;
    for seed in 1..=30_u64 {
        let mut model = Model::new(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        for at in 0..model.peers.len() {
            model.up(at);
        }
        for step in 0..300 {
            model.step();
            if step % 25 == 24 {
                model.check_peers();
                received += model.peers.iter().map(|peer| peer.received.len()).sum::<usize>();
            }
        }
    }
    assert!(received > 1000, "the peers received only {received} routes");
}
