//! Speakers that talk with each other through memory, in a time of their own.

use std::collections::BTreeMap;

use super::*;
use crate::{
    bgp::{Export, Family, Import, Origin, Own, Peer, fsm::State, message::frame},
    state::Via,
};

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn addr(node: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, node])
}

fn pods(node: u8) -> ipnet::IpNet {
    format!("10.244.{node}.0/24").parse().unwrap()
}

fn peer(asn: u32) -> Peer {
    Peer {
        node: Some("other".into()),
        asn,
        port: 179,
        local: None,
        password: None,
        distance: Distance::Anywhere,
        hold: 90,
        client: false,
        bfd: None,
        passive: false,
    }
}

fn config(node: u8, peers: &[u8]) -> Config {
    Config {
        own: Own {
            asn: 64512,
            id: [192, 0, 2, node].into(),
            addrs: vec![addr(node)],
            port: 179,
            families: [Family::Ipv4].into(),
            cluster: None,
            restart: Some(90),
        },
        peers: peers.iter().map(|peer_of| (addr(*peer_of), peer(64512))).collect(),
        origin: Origin { pods: [pods(node)].into(), ..Origin::default() },
        export: Export { pods_inside: true, pods_outside: true, ..Export::default() },
        import: Import::default(),
    }
}

/// The network: whose end of which connection is whose.
#[derive(Default)]
struct Net {
    speakers: BTreeMap<u8, Speaker>,
    ends: BTreeMap<(u8, Conn), (u8, Conn)>,
    learned: BTreeMap<u8, Learned>,
    said: Vec<(u8, String)>,
    now: Duration,
    /// Whether packets of BFD get lost.
    deaf: bool,
    /// Whether nobody fetches what was learned.
    slow: bool,
}

impl Net {
    fn of(nodes: &[u8]) -> Net {
        let mut net = Net::default();
        for node in nodes {
            let peers: Vec<u8> = nodes.iter().copied().filter(|other| other != node).collect();
            net.start(*node, config(*node, &peers));
        }
        net
    }

    fn start(&mut self, node: u8, config: Config) {
        self.speakers.insert(node, Speaker::new(config, u32::from(node)));
    }

    /// Until nothing happens any more at this moment.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            let nodes: Vec<u8> = self.speakers.keys().copied().collect();
            let mut idle = true;
            for node in nodes {
                let now = self.now;
                let Some(speaker) = self.speakers.get_mut(&node) else { continue };
                speaker.turn(now);
                for action in speaker.actions() {
                    idle = false;
                    self.act(node, action);
                }
                let speaker = self.speakers.get_mut(&node).unwrap();
                if !self.slow && speaker.has_learned() {
                    self.learned.insert(node, speaker.learned());
                }
            }
            if idle {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    fn act(&mut self, node: u8, action: Action) {
        let now = self.now;
        match action {
            Action::Probe(probe) => {
                let IpAddr::V4(to) = probe.to.ip() else { panic!("{probe:?}") };
                let to = to.octets()[3];
                if !self.deaf
                    && let Some(other) = self.speakers.get_mut(&to)
                {
                    other.hear(Event::Probe(addr(node), probe.bytes.to_vec()), now);
                }
            }
            Action::Say(_, text) => self.said.push((node, text)),
            Action::Dial(conn, dial) => {
                let IpAddr::V4(to) = dial.to.ip() else { panic!("{dial:?}") };
                let to = to.octets()[3];
                let accepted = self.speakers.get_mut(&to);
                let accepted = accepted.and_then(|s| s.accept(addr(node), addr(to), now));
                let event = match accepted {
                    Some((other, _)) => {
                        self.ends.insert((node, conn), (to, other));
                        self.ends.insert((to, other), (node, conn));
                        Event::Connected(conn, addr(node))
                    }
                    None => Event::Failed(conn, "refused".to_owned()),
                };
                self.speakers.get_mut(&node).unwrap().hear(event, now);
            }
            Action::Send(conn, bytes) => {
                let mut rest = &bytes[..];
                while let Some(len) = frame(rest).unwrap() {
                    if let Some((to, other)) = self.ends.get(&(node, conn)) {
                        let event = Event::Message(*other, rest[..len].to_vec());
                        if let Some(speaker) = self.speakers.get_mut(to) {
                            speaker.hear(event, now);
                        }
                    }
                    rest = &rest[len..];
                }
                assert!(rest.is_empty());
                self.speakers.get_mut(&node).unwrap().hear(Event::Sent(conn), now);
            }
            Action::Close(conn) => self.cut(node, conn),
        }
    }

    fn cut(&mut self, node: u8, conn: Conn) {
        if let Some((to, other)) = self.ends.remove(&(node, conn)) {
            self.ends.remove(&(to, other));
            if let Some(speaker) = self.speakers.get_mut(&to) {
                speaker.hear(Event::Closed(other, "closed".to_owned()), self.now);
            }
        }
    }

    /// A node is gone without a word; `reset`: but its kernel ends the connections.
    fn kill(&mut self, node: u8, reset: bool) {
        self.speakers.remove(&node);
        let conns: Vec<Conn> =
            self.ends.keys().filter(|(of, _)| *of == node).map(|(_, conn)| *conn).collect();
        for conn in conns {
            if reset {
                self.cut(node, conn);
            } else if let Some(end) = self.ends.remove(&(node, conn)) {
                self.ends.remove(&end);
            }
        }
    }

    fn run(&mut self, until: Duration) {
        self.settle();
        loop {
            let next = self.speakers.values().filter_map(Speaker::deadline).min();
            self.now = next.unwrap_or(until).max(self.now).min(until);
            self.settle();
            if self.now >= until {
                return;
            }
        }
    }

    fn routes(&self, node: u8) -> Vec<String> {
        let routes = self.learned.get(&node).map(|learned| &learned.routes);
        let text = |(net, via): (&ipnet::IpNet, &Via)| {
            let via: Vec<String> = via.addrs().iter().map(ToString::to_string).collect();
            format!("{net} via {}", via.join(" "))
        };
        routes.into_iter().flatten().map(text).collect()
    }
}

const FROM_2: &str = "10.244.2.0/24 via 192.0.2.2";
const FROM_3: &str = "10.244.3.0/24 via 192.0.2.3";

#[test]
fn a_full_mesh_is_up_at_once_and_everybody_knows_all_pods() {
    let mut net = Net::of(&[1, 2, 3]);
    net.run(s(1));
    assert_eq!(net.routes(1), [FROM_2, FROM_3]);
    assert_eq!(net.routes(3), ["10.244.1.0/24 via 192.0.2.1", FROM_2]);
    assert!(net.learned.values().all(|learned| learned.complete));
    for speaker in net.speakers.values() {
        for view in speaker.view(net.now) {
            assert_eq!(view.state, State::Established);
            assert_eq!((view.counts.received, view.counts.accepted, view.counts.told), (1, 1, 1));
        }
    }
}

#[test]
fn a_day_of_keepalives_changes_nothing() {
    let mut net = Net::of(&[1, 2]);
    net.run(s(24 * 3600));
    assert_eq!(net.routes(1), [FROM_2]);
    assert_eq!(net.said.len(), 2, "{:?}", net.said);
}

#[test]
fn a_peer_that_restarts_keeps_its_routes_and_says_them_again() {
    let mut net = Net::of(&[1, 2]);
    net.run(s(60));
    net.kill(2, true);
    net.run(s(100));
    assert_eq!(net.routes(1), [FROM_2]);
    assert!(net.learned[&1].lost.is_empty());
    let mut changed = config(2, &[1]);
    changed.origin.pods = [pods(3)].into();
    net.start(2, changed);
    net.run(s(200));
    assert_eq!(net.routes(1), ["10.244.3.0/24 via 192.0.2.2"], "what it did not say again is gone");
}

#[test]
fn a_way_that_is_broken_is_known_by_bfd_long_before_the_hold_time_is_over() {
    let mut net = Net::default();
    for (node, other) in [(1, 2), (2, 1)] {
        let bfd = crate::router::Bfd { port: 3784, tx: 300_000, rx: 300_000, times: 3 };
        let mut config = config(node, &[other]);
        config.peers = [(addr(other), Peer { bfd: Some(bfd), ..peer(64512) })].into();
        net.start(node, config);
    }
    net.run(s(60));
    assert_eq!(net.routes(1), [FROM_2]);
    assert_eq!(net.speakers[&1].view(net.now)[0].way, Some(bfd::State::Up));
    net.deaf = true;
    net.said.clear();
    net.run(net.now + Duration::from_millis(910));
    assert_eq!(net.routes(1), [""; 0], "and nothing of it is kept for a restart");
    let word = "BFD: nothing was heard for the detection time";
    assert!(
        net.said.iter().any(|(node, text)| *node == 1 && text.contains(word)),
        "{:?}",
        net.said
    );
    net.deaf = false;
    net.run(s(120));
    assert_eq!(net.routes(1), [FROM_2]);
    assert_eq!(net.speakers[&2].view(net.now)[0].way, Some(bfd::State::Up));
}

#[test]
fn a_peer_that_does_not_come_back_loses_its_routes_at_the_end_of_its_restart_time() {
    let mut net = Net::of(&[1, 2]);
    net.run(s(60));
    net.kill(2, true);
    net.run(s(149));
    assert_eq!(net.routes(1), [FROM_2]);
    net.run(s(151));
    assert_eq!(net.routes(1), [""; 0]);
    assert_eq!(net.learned[&1].lost, [addr(2)].into());
}

#[test]
fn a_peer_that_is_silent_loses_its_routes_at_the_hold_time() {
    let mut net = Net::of(&[1, 2]);
    net.run(s(60));
    net.kill(2, false);
    net.run(s(149));
    assert_eq!(net.routes(1), [FROM_2]);
    net.run(s(151));
    assert_eq!(net.routes(1), [""; 0]);
    assert_eq!(net.learned[&1].lost, [addr(2)].into());
}

#[test]
fn a_peer_that_is_configured_no_more_is_told_and_only_its_routes_go() {
    let mut net = Net::of(&[1, 2, 3]);
    net.run(s(1));
    let now = net.now;
    net.speakers.get_mut(&1).unwrap().configure(config(1, &[3]), now);
    net.run(s(2));
    assert_eq!(net.routes(1), [FROM_3]);
    assert_eq!(net.routes(2), [FROM_3], "it was told, so there is nothing to wait for");
    assert_eq!(net.routes(3), ["10.244.1.0/24 via 192.0.2.1", FROM_2]);
    let told = |(node, text): &&(u8, String)| *node == 2 && text.contains("down");
    assert_eq!(net.said.iter().filter(told).count(), 1, "{:?}", net.said);
}

#[test]
fn what_begins_here_changes_without_a_new_session() {
    let mut net = Net::of(&[1, 2]);
    net.run(s(1));
    let mut changed = config(2, &[1]);
    changed.origin.pods = [pods(2), pods(3)].into();
    let now = net.now;
    net.speakers.get_mut(&2).unwrap().configure(changed.clone(), now);
    net.run(s(2));
    assert_eq!(net.routes(1), [FROM_2, "10.244.3.0/24 via 192.0.2.2"]);
    changed.origin.pods = [pods(3)].into();
    net.speakers.get_mut(&2).unwrap().configure(changed, s(2));
    net.run(s(3));
    assert_eq!(net.routes(1), ["10.244.3.0/24 via 192.0.2.2"]);
    assert_eq!(net.said.len(), 2, "{:?}", net.said);
}

#[test]
fn strangers_are_refused_and_each_is_spoken_of_once() {
    let mut net = Net::of(&[1, 2]);
    net.run(s(1));
    for _ in 0..1000 {
        let speaker = net.speakers.get_mut(&1).unwrap();
        assert!(speaker.accept(addr(77), addr(1), s(1)).is_none());
    }
    net.run(s(2));
    let about = |(_, text): &&(u8, String)| text.contains("192.0.2.77");
    assert_eq!(net.said.iter().filter(about).count(), 1);
    assert_eq!(net.routes(1), [FROM_2]);
}

#[test]
fn a_peer_of_another_as_is_refused_and_that_is_said_once() {
    let mut net = Net::of(&[1, 2]);
    let mut wrong = config(2, &[1]);
    wrong.own.asn = 64999;
    net.start(2, wrong);
    net.run(s(3600));
    assert_eq!(net.routes(1), [""; 0]);
    let about = net.said.iter().filter(|(node, _)| *node == 1).count();
    assert!((1..=2).contains(&about), "{:?}", net.said);
}

#[test]
fn without_an_answer_all_is_complete_after_the_restart_time() {
    let mut net = Net::default();
    net.start(1, config(1, &[2]));
    net.run(s(89));
    assert!(net.learned.get(&1).is_none_or(|learned| !learned.complete));
    net.run(s(91));
    assert!(net.learned[&1].complete);
}

#[test]
fn that_all_is_complete_is_known_though_nobody_fetched_what_was_learned_before() {
    let mut net = Net::of(&[1, 2, 3]);
    net.slow = true;
    net.run(s(20));
    let learned = net.speakers.get_mut(&1).unwrap().learned();
    assert_eq!((learned.routes.len(), learned.complete), (2, true));
    let mut net = Net { slow: true, ..Net::default() };
    net.start(1, config(1, &[2]));
    net.run(s(200));
    assert!(net.speakers[&1].deadline().unwrap() > net.now, "it sleeps");
}

#[test]
fn noise_from_a_peer_ends_its_session_and_nobody_elses() {
    let mut net = Net::of(&[1, 2, 3]);
    net.run(s(1));
    let (conn, now) = {
        let speaker = &net.speakers[&1];
        (speaker.peers.get(&addr(2)).unwrap().up.unwrap(), net.now)
    };
    let noise = vec![0xff; 19].into_iter().chain([0; 4]).collect();
    net.speakers.get_mut(&1).unwrap().hear(Event::Message(conn, noise), now);
    let speaker = &net.speakers[&1];
    assert!(speaker.peers.get(&addr(2)).unwrap().up.is_none());
    assert!(speaker.peers.get(&addr(3)).unwrap().up.is_some());
    net.run(s(60));
    assert_eq!(net.routes(1), [FROM_2, FROM_3]);
}
