//! Whatever happens to the table, in whatever order: what each peer believes after it read all its bytes
//! is what the rules say of the best paths. The best paths are chosen here by striking out, as RFC 4271
//! section 9.1.2.2 has it, and not by putting them in a row.

use std::{collections::BTreeMap, sync::Arc};

use ipnet::IpNet;

use super::world::*;
use crate::bgp::{
    Config, Family,
    attribute::{Attributes, Origin},
    choice::Said,
    message::{Message, Reach, Update},
    policy::{self, Kind, Source, Told},
    rib::Rib,
    slot::Session,
};
use crate::{few::Few, state::Via};

/// A peer as it sees itself.
struct Far {
    session: Session,
    up: bool,
    /// What it said in this session.
    says: BTreeMap<IpNet, Said>,
    /// What it said in one before, and what of that counts still.
    said: BTreeMap<IpNet, Said>,
    /// What it was told.
    believes: BTreeMap<IpNet, Told>,
}

/// A path of the model.
struct Way<'a> {
    from: &'a Session,
    said: &'a Said,
    usable: bool,
}

struct World {
    dice: Dice,
    config: Config,
    rib: Rib,
    far: Vec<Far>,
    routes: Few<IpNet, Via>,
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

impl World {
    fn new(seed: u64) -> World {
        let client = |last| Session { client: true, ..session(last, ASN) };
        let mut sessions = vec![
            client(2),
            client(3),
            session(4, ASN),
            session(5, 65001),
            Session { outside: true, ..session(6, ASN) },
            session(7, 65001),
            Session { outside: false, ..session(8, 65002) },
        ];
        sessions[1].families = vec![Family::Ipv4];
        sessions[3].agreed.four_octet = false;
        let mut config = reflector();
        config.peers = sessions.iter().map(|session| (session.addr, peer(session))).collect();
        let far = sessions.into_iter().map(|session| Far {
            session,
            up: false,
            says: BTreeMap::new(),
            said: BTreeMap::new(),
            believes: BTreeMap::new(),
        });
        World {
            dice: Dice(seed),
            rib: Rib::new(Arc::new(config.clone())),
            config,
            far: far.collect(),
            routes: Few::new(),
        }
    }

    fn step(&mut self) {
        let at = self.dice.below(self.far.len());
        let addr = self.far[at].session.addr;
        match self.dice.below(24) {
            0 | 1 => self.up(at),
            2 => self.down(at),
            3 => {
                self.rib.expire(addr);
                self.far[at].said.clear();
            }
            4 => self.rib.refresh(addr, *self.dice.of(&Family::ALL)),
            5 => self.configure(),
            6 => {
                let family = *self.dice.of(&Family::ALL);
                self.rib.hear(addr, end(family));
                let far = &mut self.far[at];
                far.said.retain(|net, _| !far.up || Family::of(net) != family);
            }
            7..12 => self.withdraw(at),
            12..19 => self.announce(at),
            _ => self.read(at, 1),
        }
        self.check_routes();
    }

    fn up(&mut self, at: usize) {
        let kept = self.dice.families();
        let far = &mut self.far[at];
        let was_up = std::mem::replace(&mut far.up, true);
        let held = held(&self.config, far);
        far.said = if was_up { held.0 } else { held.1 };
        far.said.retain(|net, _| kept.contains(&Family::of(net)));
        far.says.clear();
        far.believes.clear();
        if self.dice.one_in(4) {
            far.session.id = [10, 0, 0, 100 + self.dice.below(50) as u8].into();
        }
        self.rib.up(far.session.clone(), &kept);
    }

    fn down(&mut self, at: usize) {
        let keep = self.dice.families();
        let far = &mut self.far[at];
        let was_up = std::mem::take(&mut far.up);
        let held = held(&self.config, far);
        far.said = if was_up { held.0 } else { held.1 };
        far.said.retain(|net, _| keep.contains(&Family::of(net)));
        far.says.clear();
        far.believes.clear();
        self.rib.down(far.session.addr, &keep);
    }

    fn withdraw(&mut self, at: usize) {
        let text: &&str = self.dice.of(&NETS);
        let net = net(text);
        let far = &mut self.far[at];
        self.rib.hear(far.session.addr, gone(&[&net.to_string()]));
        if far.up {
            far.says.remove(&net);
            far.said.remove(&net);
        }
    }

    fn announce(&mut self, at: usize) {
        let dice = &mut self.dice;
        let four = !dice.one_in(4);
        let nets = NETS
            .iter()
            .map(|text| net(text))
            .filter(|net| (Family::of(net) == Family::Ipv4) == four);
        let nets: Vec<IpNet> = nets.filter(|_| dice.one_in(2)).collect();
        let last = dice.below(4) + 2;
        let hop = match (four, dice.below(6)) {
            (true, 0) => ip("10.77.0.1"),
            (true, _) => ip(&format!("10.0.0.{last}")),
            (false, _) => ip(&format!("fd00::{last}")),
        };
        let far = &mut self.far[at];
        let first = if far.session.internal { *dice.of(&[65001, 65002]) } else { far.session.asn };
        let path = match dice.below(5) {
            0 if far.session.internal => vec![],
            0 | 1 => vec![first, 65003],
            2 => vec![first, 65003, 65004],
            _ => vec![first],
        };
        let attributes = Attributes {
            origin: *dice.of(&[Origin::Igp, Origin::Igp, Origin::Incomplete]),
            med: *dice.of(&[None, None, Some(1), Some(2)]),
            local_pref: *dice.of(&[None, Some(100), Some(100), Some(200)]),
            communities: dice
                .of(&[vec![], vec![], vec![7], vec![policy::NO_EXPORT], vec![policy::NO_ADVERTISE]])
                .clone(),
            originator: *dice.of(&[
                None,
                None,
                Some([10, 0, 0, 2].into()),
                Some([1, 1, 1, 1].into()),
            ]),
            clusters: dice
                .of(&[vec![], vec![[8, 8, 8, 8].into()], vec![[9, 9, 9, 9].into()]])
                .clone(),
            ..through(&path)
        };
        if far.up {
            let attributes = policy::receive(&far.session, attributes.clone());
            for net in &nets {
                far.said.remove(net);
                far.says.insert(*net, Said { next_hop: hop, attributes: attributes.clone() });
            }
        }
        let reach = vec![Reach { next_hop: hop, nets }];
        self.rib.hear(far.session.addr, Update { reach, attributes, ..Update::default() });
    }

    fn configure(&mut self) {
        let (config, dice) = (&mut self.config, &mut self.dice);
        match dice.below(12) {
            0 => config.export.pods_inside ^= true,
            1 => config.export.pods_outside ^= true,
            2 => config.export.next_hop_self ^= true,
            3 => config.export.communities = dice.of(&[vec![], vec![5, 6]]).clone(),
            4 => config.export.prepend = *dice.of(&[None, Some((65077, 3))]),
            5 => {
                let on = config.own.cluster.is_none();
                config.own.cluster = on.then(|| [9, 9, 9, 9].into());
            }
            6 | 7 => {
                config.import.reject = [net("10.9.0.0/16"), net("fd42::/16")].into();
                config.import.reject.retain(|_| dice.one_in(2));
            }
            8 => {
                config.import.on_link =
                    dice.of(&[vec![], vec![net("10.0.0.0/24"), net("fd00::/64")]]).clone();
            }
            9 => {
                let text: &&str = dice.of(&["10.43.0.1/32", "10.43.0.2/32"]);
                let vip = net(text);
                if !config.origin.services.remove(&vip) {
                    config.origin.services.insert(vip);
                }
                config.import.own.remove(&vip);
                if config.origin.services.contains(&vip) && dice.one_in(2) {
                    config.import.own.insert(vip);
                }
            }
            10 => {
                let pod = net("172.16.0.0/12"); // wherever it is from, and may be a Service too
                let set = if dice.one_in(2) {
                    &mut config.origin.pods
                } else {
                    &mut config.origin.services
                };
                if !set.remove(&pod) {
                    set.insert(pod);
                }
            }
            _ => {
                let at = dice.below(self.far.len());
                let session = &mut self.far[at].session;
                session.client ^= true;
                config.peers.insert(session.addr, peer(session));
            }
        }
        for far in &mut self.far {
            // What was stale and is refused can't be had again.
            let config = &self.config;
            far.said.retain(|net, said| policy::refuse(config, &far.session, net, said).is_none());
        }
        for addr in self.rib.configure(Arc::new(self.config.clone())) {
            let far = self.far.iter().find(|far| far.session.addr == addr).unwrap();
            assert!(far.up);
            for (net, said) in &far.says {
                let attributes = said.attributes.clone();
                self.rib
                    .hear(addr, reach(&[&net.to_string()], &said.next_hop.to_string(), attributes));
            }
        }
    }

    /// Has a peer read so many times.
    fn read(&mut self, at: usize, times: usize) {
        let far = &mut self.far[at];
        let addr = far.session.addr;
        for _ in 0..times {
            let mut bytes = Vec::new();
            let room = 1 + self.dice.below(150);
            let more = self.rib.tell(addr, room, &mut bytes);
            assert_eq!(more, self.rib.has_news(addr));
            let mut left = &bytes[..];
            while !left.is_empty() {
                let length = usize::from(u16::from_be_bytes([left[16], left[17]]));
                let message = Message::read(&left[..length], far.session.agreed).unwrap();
                left = &left[length..];
                let Message::Update(update) = message else { panic!("{message:?}") };
                for net in update.withdrawn {
                    assert!(far.believes.remove(&net).is_some(), "{addr} never believed in {net}");
                }
                for Reach { next_hop, nets } in update.reach {
                    for net in nets {
                        let attributes = update.attributes.clone();
                        far.believes.insert(net, Told { next_hop, attributes });
                    }
                }
            }
            if !more {
                break;
            }
        }
    }

    /// All paths that should be there.
    fn ways(&self) -> BTreeMap<IpNet, Vec<Way<'_>>> {
        let mut ways: BTreeMap<IpNet, Vec<Way>> = BTreeMap::new();
        for far in &self.far {
            for (net, said) in far.said.iter().chain(&far.says) {
                if policy::refuse(&self.config, &far.session, net, said).is_none() {
                    let usable = policy::is_on_link(&self.config, &said.next_hop);
                    ways.entry(*net).or_default().push(Way { from: &far.session, said, usable });
                }
            }
        }
        ways.values_mut().for_each(strike_out);
        ways
    }

    fn check_routes(&mut self) {
        let kinds = |net: &IpNet| Kind::of(&self.config, net);
        let routes = self
            .ways()
            .into_iter()
            .filter(|(net, ways)| kinds(net) == Kind::default() && ways[0].usable);
        let routes: Few<IpNet, Via> = routes
            .map(|(net, ways)| (net, Via::new(ways.iter().map(|way| way.said.next_hop)).unwrap()))
            .collect();
        assert_eq!(self.rib.routes(), routes);
        let changed = self.rib.take_changes();
        assert!(changed || routes == self.routes, "a change was not told");
        let gone: Vec<&IpNet> =
            self.routes.keys().filter(|net| !routes.contains_key(net)).collect();
        let told: Vec<&IpNet> = self.rib.gone().collect();
        assert!(gone.iter().all(|net| told.contains(net)), "{gone:?} went, told were {told:?}");
        self.routes = routes;
    }

    fn check_peers(&mut self) {
        for at in 0..self.far.len() {
            self.read(at, usize::MAX);
        }
        let ways = self.ways();
        for far in &self.far {
            let to = &far.session;
            let mut expected = BTreeMap::new();
            let origin = &self.config.origin;
            let own = origin.pods.iter().chain(&origin.services);
            for net in own.chain(ways.keys()) {
                let kind = Kind::of(&self.config, net);
                let source = if kind != Kind::default() {
                    Source::Local(kind)
                } else {
                    let last = |way: &&Way| {
                        let said = &way.said.attributes;
                        let id = said.originator.unwrap_or(way.from.id);
                        (id, said.clusters.len(), way.from.addr)
                    };
                    let best = ways[net].iter().min_by_key(last).unwrap();
                    Source::Learned { from: best.from, said: best.said, usable: best.usable }
                };
                if let Some(told) = policy::export(&self.config, to, Family::of(net), source) {
                    expected.insert(*net, told);
                }
            }
            if !far.up {
                expected.clear();
            }
            assert_eq!(far.believes, expected, "{}", to.addr);
            let counts = self.rib.counts(to.addr);
            assert_eq!(counts.told, expected.len());
            assert_eq!(
                counts.accepted,
                held(&self.config, far).0.len() + held(&self.config, far).1.len()
            );
            if far.up {
                assert_eq!(counts.received, far.says.len() + held(&self.config, far).1.len());
            }
        }
    }
}

/// What the table holds of a peer: what it said in this session, and what is stale.
fn held(config: &Config, far: &Far) -> (BTreeMap<IpNet, Said>, BTreeMap<IpNet, Said>) {
    let let_in =
        |(net, said): &(&IpNet, &Said)| policy::refuse(config, &far.session, net, said).is_none();
    let owned = |(net, said): (&IpNet, &Said)| (*net, said.clone());
    (
        far.says.iter().filter(let_in).map(owned).collect(),
        far.said.iter().filter(let_in).map(owned).collect(),
    )
}

/// Leaves those that are equally good as routes.
fn strike_out(ways: &mut Vec<Way>) {
    let attributes = |way: &Way| way.said.attributes.clone();
    let rules: [&dyn Fn(&Way) -> u32; 4] = [
        &|way| u32::from(!way.usable),
        &|way| u32::MAX - attributes(way).local_pref.unwrap_or(100),
        &|way| attributes(way).length() as u32,
        &|way| attributes(way).origin as u32,
    ];
    for rule in rules {
        let best = ways.iter().map(rule).min().unwrap();
        ways.retain(|way| rule(way) == best);
    }
    let meds: Vec<_> = ways
        .iter()
        .map(|way| (attributes(way).first(), attributes(way).med.unwrap_or(0)))
        .collect();
    ways.retain(|way| {
        let med = attributes(way).med.unwrap_or(0);
        !meds.iter().any(|(first, other)| *first == attributes(way).first() && *other < med)
    });
    let external = ways.iter().any(|way| !way.from.internal);
    ways.retain(|way| way.from.internal != external);
}

#[test]
fn every_peer_believes_what_the_rules_say_of_the_best_paths() {
    let mut told = 0;
    for seed in 1..=30_u64 {
        let mut world = World::new(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        for at in 0..world.far.len() {
            world.up(at);
        }
        for step in 0..300 {
            world.step();
            if step % 25 == 24 {
                world.check_peers();
                told += world.far.iter().map(|far| far.believes.len()).sum::<usize>();
            }
        }
    }
    assert!(told > 1000, "nobody was told much: {told}");
}
