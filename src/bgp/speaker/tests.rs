//! Tests with several speakers, connected by a simulated network with a simulated clock.

use std::collections::BTreeMap;

use super::*;
use crate::{
    bgp::{Export, Family, Import, Origin, Own, Peer, bfd::BfdState, fsm::State, message::frame},
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

/// A network of speakers. `ends` maps each end of a connection to the other end.
#[derive(Default)]
struct Net {
    speakers: BTreeMap<u8, Speaker>,
    ends: BTreeMap<(u8, ConnId), (u8, ConnId)>,
    learned: BTreeMap<u8, Learned>,
    log: Vec<(u8, String)>,
    now: Duration,
    /// True if BFD packets are lost.
    drop_bfd: bool,
    /// True if learned routes are not fetched.
    ignore_learned: bool,
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

    /// Performs actions until no speaker has any left at the current time.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            let nodes: Vec<u8> = self.speakers.keys().copied().collect();
            let mut idle = true;
            for node in nodes {
                let now = self.now;
                let Some(speaker) = self.speakers.get_mut(&node) else { continue };
                speaker.handle_timeout(now);
                for action in speaker.take_actions() {
                    idle = false;
                    self.act(node, action);
                }
                let speaker = self.speakers.get_mut(&node).unwrap();
                if !self.ignore_learned && speaker.has_learned() {
                    self.learned.insert(node, speaker.take_learned());
                }
            }
            if idle {
                return;
            }
        }
        panic!("the speakers never stop sending");
    }

    fn act(&mut self, node: u8, action: Action) {
        let now = self.now;
        match action {
            Action::SendBfd(packet) => {
                let IpAddr::V4(to) = packet.to.ip() else { panic!("{packet:?}") };
                let to = to.octets()[3];
                if !self.drop_bfd
                    && let Some(other) = self.speakers.get_mut(&to)
                {
                    other.handle_event(Event::BfdReceived(addr(node), packet.bytes.to_vec()), now);
                }
            }
            Action::Log(_, text) => self.log.push((node, text)),
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
                    None => Event::ConnectFailed(conn, "refused".to_owned()),
                };
                self.speakers.get_mut(&node).unwrap().handle_event(event, now);
            }
            Action::Send(conn, bytes) => {
                let mut rest = &bytes[..];
                while let Some(len) = frame(rest).unwrap() {
                    if let Some((to, other)) = self.ends.get(&(node, conn)) {
                        let event = Event::Received(*other, rest[..len].to_vec());
                        if let Some(speaker) = self.speakers.get_mut(to) {
                            speaker.handle_event(event, now);
                        }
                    }
                    rest = &rest[len..];
                }
                assert!(rest.is_empty());
                self.speakers.get_mut(&node).unwrap().handle_event(Event::Flushed(conn), now);
            }
            Action::Close(conn) => self.cut(node, conn),
        }
    }

    fn cut(&mut self, node: u8, conn: ConnId) {
        if let Some((to, other)) = self.ends.remove(&(node, conn)) {
            self.ends.remove(&(to, other));
            if let Some(speaker) = self.speakers.get_mut(&to) {
                speaker.handle_event(Event::Closed(other, "closed".to_owned()), self.now);
            }
        }
    }

    /// Stops a node without a NOTIFICATION. If `reset` is true, its kernel closes the connections.
    fn kill(&mut self, node: u8, reset: bool) {
        self.speakers.remove(&node);
        let conns: Vec<ConnId> =
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
            let next = self.speakers.values().filter_map(Speaker::poll_timeout).min();
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
fn a_full_mesh_comes_up_at_once_and_every_node_learns_all_pod_networks() {
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
fn a_day_of_keepalives_causes_no_change_and_no_log_line() {
    let mut net = Net::of(&[1, 2]);
    net.run(s(24 * 3600));
    assert_eq!(net.routes(1), [FROM_2]);
    assert_eq!(net.log.len(), 2, "{:?}", net.log);
}

#[test]
fn routes_of_a_restarting_peer_are_kept_and_removed_if_not_advertised_again() {
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
    assert_eq!(
        net.routes(1),
        ["10.244.3.0/24 via 192.0.2.2"],
        "the route that was not advertised again is removed"
    );
}

#[test]
fn bfd_ends_the_session_long_before_the_hold_time() {
    let mut net = Net::default();
    for (node, other) in [(1, 2), (2, 1)] {
        let bfd = crate::router::Bfd { port: 3784, tx: 300_000, rx: 300_000, times: 3 };
        let mut config = config(node, &[other]);
        config.peers = [(addr(other), Peer { bfd: Some(bfd), ..peer(64512) })].into();
        net.start(node, config);
    }
    net.run(s(60));
    assert_eq!(net.routes(1), [FROM_2]);
    assert_eq!(net.speakers[&1].view(net.now)[0].way, Some(BfdState::Up));
    net.drop_bfd = true;
    net.log.clear();
    net.run(net.now + Duration::from_millis(910));
    assert_eq!(net.routes(1), [""; 0], "no route is kept for a restart");
    let line = "BFD: no packet was received within the detection time";
    assert!(net.log.iter().any(|(node, text)| *node == 1 && text.contains(line)), "{:?}", net.log);
    net.drop_bfd = false;
    net.run(s(120));
    assert_eq!(net.routes(1), [FROM_2]);
    assert_eq!(net.speakers[&2].view(net.now)[0].way, Some(BfdState::Up));
}

#[test]
fn routes_of_a_peer_that_does_not_return_are_removed_after_its_restart_time() {
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
fn routes_of_a_silent_peer_are_removed_at_the_hold_time() {
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
fn a_deconfigured_peer_is_notified_and_only_its_routes_are_removed() {
    let mut net = Net::of(&[1, 2, 3]);
    net.run(s(1));
    let now = net.now;
    net.speakers.get_mut(&1).unwrap().configure(config(1, &[3]), now);
    net.run(s(2));
    assert_eq!(net.routes(1), [FROM_3]);
    assert_eq!(net.routes(2), [FROM_3], "after a NOTIFICATION, routes are not kept for a restart");
    assert_eq!(net.routes(3), ["10.244.1.0/24 via 192.0.2.1", FROM_2]);
    let is_down = |(node, text): &&(u8, String)| *node == 2 && text.contains("down");
    assert_eq!(net.log.iter().filter(is_down).count(), 1, "{:?}", net.log);
}

#[test]
fn originated_routes_change_without_a_session_reset() {
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
    assert_eq!(net.log.len(), 2, "{:?}", net.log);
}

#[test]
fn connections_from_unknown_addresses_are_refused_and_logged_once() {
    let mut net = Net::of(&[1, 2]);
    net.run(s(1));
    for _ in 0..1000 {
        let speaker = net.speakers.get_mut(&1).unwrap();
        assert!(speaker.accept(addr(77), addr(1), s(1)).is_none());
    }
    net.run(s(2));
    let about = |(_, text): &&(u8, String)| text.contains("192.0.2.77");
    assert_eq!(net.log.iter().filter(about).count(), 1);
    assert_eq!(net.routes(1), [FROM_2]);
}

#[test]
fn a_peer_with_a_wrong_as_is_rejected_and_the_error_is_logged_once() {
    let mut net = Net::of(&[1, 2]);
    let mut wrong = config(2, &[1]);
    wrong.own.asn = 64999;
    net.start(2, wrong);
    net.run(s(3600));
    assert_eq!(net.routes(1), [""; 0]);
    let about = net.log.iter().filter(|(node, _)| *node == 1).count();
    assert!((1..=2).contains(&about), "{:?}", net.log);
}

#[test]
fn the_table_is_complete_after_the_restart_time_if_no_peer_answers() {
    let mut net = Net::default();
    net.start(1, config(1, &[2]));
    net.run(s(89));
    assert!(net.learned.get(&1).is_none_or(|learned| !learned.complete));
    net.run(s(91));
    assert!(net.learned[&1].complete);
}

#[test]
fn completeness_is_reported_even_if_earlier_routes_were_not_fetched() {
    let mut net = Net::of(&[1, 2, 3]);
    net.ignore_learned = true;
    net.run(s(20));
    let learned = net.speakers.get_mut(&1).unwrap().take_learned();
    assert_eq!((learned.routes.len(), learned.complete), (2, true));
    let mut net = Net { ignore_learned: true, ..Net::default() };
    net.start(1, config(1, &[2]));
    net.run(s(200));
    assert!(
        net.speakers[&1].poll_timeout().unwrap() > net.now,
        "a busy loop: the next timeout is not in the future"
    );
}

#[test]
fn malformed_bytes_from_a_peer_end_only_its_own_session() {
    let mut net = Net::of(&[1, 2, 3]);
    net.run(s(1));
    let (conn, now) = {
        let speaker = &net.speakers[&1];
        (speaker.peers.get(&addr(2)).unwrap().session.unwrap(), net.now)
    };
    let noise = vec![0xff; 19].into_iter().chain([0; 4]).collect();
    net.speakers.get_mut(&1).unwrap().handle_event(Event::Received(conn, noise), now);
    let speaker = &net.speakers[&1];
    assert!(speaker.peers.get(&addr(2)).unwrap().session.is_none());
    assert!(speaker.peers.get(&addr(3)).unwrap().session.is_some());
    net.run(s(60));
    assert_eq!(net.routes(1), [FROM_2, FROM_3]);
}
