//! Conntrack on a real kernel: which flows of UDP Services are stale, and that removing them frees
//! their clients and touches no other flow. nftables translates addresses here in place of IPVS.

use std::{
    net::{TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use crate::common::{namespace::in_namespace_with, sh};
use kinglet::{
    collections::FlatSet,
    family::Family,
    kernel::conntrack,
    model::items::{Flow, Protocol, ServiceAddr},
    netlink::socket::NetlinkSocket,
    reconcile::stale_flows::{Serving, is_stale},
};
use neli::consts::socket::NlFamily;

/// The loopback address and a virtual address of each family.
const FAMILIES: [(&str, &str); 2] = [("127.0.0.1", "10.96.0.10"), ("::1", "fd96::10")];

/// Runs a test in a new network namespace whose loopback has the virtual addresses, with conntrack
/// on.
fn in_namespace(body: impl FnOnce()) {
    let setup = "ip addr add 10.96.0.10/32 dev lo; ip addr add fd96::10/128 dev lo
        nft 'table inet t {
            chain raw { type filter hook output priority raw; }
            chain nat { type nat hook output priority -100; }
            chain in { type filter hook input priority filter; ct state established accept; }
        }'";
    in_namespace_with(setup, body);
}

fn nft(rules: &str) {
    sh(&format!("nft '{rules}'"));
}

/// Sends new flows to port 53 of the virtual addresses to this port of the loopback from now on.
fn serve_at(port: u16) {
    nft("flush chain inet t nat");
    nft(&format!(
        "add rule inet t nat ip daddr 10.96.0.10 udp dport 53 dnat ip to 127.0.0.1:{port}"
    ));
    nft(&format!("add rule inet t nat ip6 daddr fd96::10 udp dport 53 dnat ip6 to [::1]:{port}"));
}

/// Returns the Services that [`serve_at`] stands for.
fn services(port: u16) -> Serving {
    let service = |(loopback, vip): (&str, &str)| {
        let at = ServiceAddr { addr: vip.parse().unwrap(), protocol: Protocol::Udp, port: 53 };
        (at, FlatSet::from([(loopback.parse().unwrap(), port)]))
    };
    FAMILIES.into_iter().map(service).collect()
}

/// Starts a UDP server on the loopback that answers with its own port. It runs until the process
/// ends.
fn echo(port: u16) {
    for (loopback, _) in FAMILIES {
        let socket = UdpSocket::bind((loopback, port)).unwrap();
        std::thread::spawn(move || {
            while let Ok((_, from)) = socket.recv_from(&mut [0; 8]) {
                let _ = socket.send_to(&port.to_be_bytes(), from);
            }
        });
    }
}

/// A UDP client that keeps its port.
struct Client(UdpSocket);

impl Client {
    fn new(loopback: &str) -> Client {
        let socket = UdpSocket::bind((loopback, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        Client(socket)
    }

    fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    fn send(&self, to: &str, port: u16) {
        self.0.send_to(b"?", (to, port)).unwrap();
    }

    /// Returns the port of the server that answers at port 53 of an address. Fails if none answers
    /// within 2 s.
    fn ask(&self, to: &str) -> u16 {
        self.send(to, 53);
        let mut answer = [0; 2];
        self.0.recv_from(&mut answer).unwrap_or_else(|e| panic!("no answer from {to}: {e}"));
        u16::from_be_bytes(answer)
    }
}

fn flows(conn: &mut NetlinkSocket) -> Vec<Flow> {
    let mut flows = Vec::new();
    for family in Family::ALL {
        flows.extend(conn.dump(&conntrack::list_flows(family), conntrack::read_flow).unwrap());
    }
    flows.sort_by_key(|flow| (flow.orig_sport, flow.orig_dport, flow.id));
    flows
}

fn remove(conn: &mut NetlinkSocket, flows: &[Flow]) {
    let requests: Vec<_> = flows.iter().map(conntrack::remove).collect();
    for verdict in conn.send(&requests).unwrap() {
        verdict.unwrap();
    }
}

#[test]
fn only_flows_to_a_removed_real_server_are_removed() {
    in_namespace(|| {
        echo(5301);
        echo(5302);
        let listener = TcpListener::bind("127.0.0.1:5300").unwrap();
        let _tcp = (TcpStream::connect("127.0.0.1:5300").unwrap(), listener.accept().unwrap());
        let [old, new, others] =
            [(); 3].map(|()| FAMILIES.map(|(loopback, _)| Client::new(loopback)));
        serve_at(5301);
        for (client, (_, vip)) in old.iter().zip(FAMILIES) {
            assert_eq!(client.ask(vip), 5301);
        }
        serve_at(5302);
        for (at, (loopback, vip)) in FAMILIES.into_iter().enumerate() {
            assert_eq!(new[at].ask(vip), 5302);
            assert_eq!(old[at].ask(vip), 5301, "its flow outlives the rule");
            others[at].send(vip, 54); // a port that no Service has
            others[at].send(loopback, 5301); // the old real server, addressed directly
        }
        let mut conn = NetlinkSocket::open(NlFamily::Netfilter).unwrap();
        let before = flows(&mut conn);
        assert!(before.iter().all(|f| f.protocol == Protocol::Udp), "{before:?}");
        assert_eq!(before.len(), 8, "{before:?}");
        let (stale, good): (Vec<_>, Vec<_>) =
            before.into_iter().partition(|flow| is_stale(flow, &services(5302)));
        let mut ports = old.each_ref().map(Client::port);
        ports.sort_unstable();
        assert_eq!(stale.iter().map(|f| f.orig_sport).collect::<Vec<_>>(), ports, "{stale:?}");
        assert!(stale.iter().all(|f| f.reply_sport == 5301 && f.orig_dport == 53), "{stale:?}");

        remove(&mut conn, &stale);
        assert_eq!(flows(&mut conn), good);
        for (client, (_, vip)) in old.iter().zip(FAMILIES) {
            assert_eq!(client.ask(vip), 5302, "the same client from the same port");
        }
        assert!(!flows(&mut conn).iter().any(|flow| is_stale(flow, &services(5302))));
    });
}

#[test]
fn a_flow_that_is_older_than_its_service_is_removed() {
    in_namespace(|| {
        echo(5301);
        let clients = FAMILIES.map(|(loopback, _)| Client::new(loopback));
        for (client, (_, vip)) in clients.iter().zip(FAMILIES) {
            client.send(vip, 53);
        }
        serve_at(5301);
        let mut conn = NetlinkSocket::open(NlFamily::Netfilter).unwrap();
        let found = flows(&mut conn);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().all(|f| f.reply_src == f.orig_dst && is_stale(f, &services(5301))));
        remove(&mut conn, &found);
        for (client, (_, vip)) in clients.iter().zip(FAMILIES) {
            assert_eq!(client.ask(vip), 5301);
        }
    });
}

#[test]
fn a_removal_removes_one_flow_in_its_zone_and_never_a_later_one() {
    in_namespace(|| {
        nft("add rule inet t raw udp dport 55 ct zone set 7");
        nft("add rule inet t raw udp dport 56 ct original zone set 8");
        nft("add rule inet t raw udp dport 57 ct reply zone set 9");
        for (loopback, vip) in FAMILIES {
            let client = Client::new(loopback);
            (54..=57).for_each(|port| client.send(vip, port));
        }
        let mut conn = NetlinkSocket::open(NlFamily::Netfilter).unwrap();
        let found = flows(&mut conn);
        assert_eq!(found.len(), 8, "{found:?}");
        for flow in &found {
            let zone = [0, 7, 8, 0][usize::from(flow.orig_dport - 54)];
            assert_eq!(flow.zone, zone, "{flow:?}");
            // Both return ENOENT, which counts as removed.
            let later = Flow { id: flow.id ^ 1, ..*flow };
            let elsewhere = Flow { zone: 99, ..*flow };
            remove(&mut conn, &[later, elsewhere]);
        }
        assert_eq!(flows(&mut conn), found);
        let (first, rest) = found.split_first().unwrap();
        remove(&mut conn, &[*first, *first]);
        assert_eq!(flows(&mut conn), rest);
        remove(&mut conn, rest);
        assert_eq!(flows(&mut conn), []);
    });
}

#[test]
fn one_stale_flow_is_found_among_sixty_thousand() {
    in_namespace(|| {
        let client = Client::new("127.0.0.1");
        (1..60_000).for_each(|port| client.send("10.96.0.10", port));
        let (mut conn, services, mut all) =
            (NetlinkSocket::open(NlFamily::Netfilter).unwrap(), services(5301), 0);
        let stale = conn
            .dump(&conntrack::list_flows(Family::Ipv4), |body| {
                all += 1;
                conntrack::read_flow(body).filter(|flow| is_stale(flow, &services))
            })
            .unwrap();
        assert_eq!(all, 59_999);
        assert_eq!(stale.iter().map(|f| f.orig_dport).collect::<Vec<_>>(), [53]);
    });
}
