//! Whatever comes from outside, no decoder panics: noise, and mutations of the real thing.
//!
//! The seed is fixed, so a failure repeats; `KINGLET_ROUNDS` multiplies the rounds (`tests/run long`).

use kinglet::{
    api::{from_list, from_watch, snapshot},
    commands::dump_file::Dump,
    desired::cni_config,
    family::Family,
    kernel::{conntrack, ipvs, nft, route},
    model::{
        cluster::{ClusterStore, Kind},
        items::{
            BRIDGE, Flow, Forward, Item, LinkKind, NextHops, Protocol, ServiceAddr, SetElement,
            TABLE_MAIN,
        },
        nftables::{RulesetOptions, Set},
    },
    netlink::message,
};

/// xorshift64*: small, fast, the same everywhere.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most)).map(|_| self.next() as u8).collect()
    }

    /// Flips, cuts, doubles or inserts a few bytes.
    fn mutate(&mut self, real: &[u8]) -> Vec<u8> {
        let mut bytes = real.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(5) {
                0 if !bytes.is_empty() => bytes[at] = self.next() as u8,
                1 => bytes.truncate(at),
                2 => drop(bytes.splice(at..at, self.bytes(9))),
                3 if !bytes.is_empty() => drop(
                    bytes.drain(at..(at + self.below(40)).min(real.len().max(at)).min(bytes.len())),
                ),
                _ => {
                    let piece = bytes[at..bytes.len().min(at + 64)].to_vec();
                    bytes.splice(at..at, piece);
                }
            }
        }
        bytes
    }
}

fn rounds(base: usize) -> usize {
    base * std::env::var("KINGLET_ROUNDS").ok().and_then(|r| r.parse::<usize>().ok()).unwrap_or(1)
}

const AT: ServiceAddr = ServiceAddr {
    addr: std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 96, 0, 1)),
    protocol: Protocol::Tcp,
    port: 80,
};

fn read_everything(datagram: &[u8]) {
    for frame in message::frames(datagram).flatten() {
        let _ = frame.answer();
        let body = frame.body();
        let _ = (route::read_link(body), route::read_address(body), route::read_route(body));
        let _ = (ipvs::read_service(body), ipvs::read_real(body, &AT.into()));
        let _ = (ipvs::read_connections(body), conntrack::read_flow(body));
        let _ = (nft::read_set(body), nft::read_chain(body), nft::read_rule(body));
        if let Some(raw) = nft::read_elements(body).filter(|raw| !raw.is_empty()) {
            for (set, family) in Set::each() {
                let _ = nft::values(set, family, &raw);
            }
        }
    }
}

#[test]
fn noise_from_netlink_is_never_a_panic() {
    let mut noise = Noise(7);
    for _ in 0..rounds(50_000) {
        let mut datagram = noise.bytes(200);
        read_everything(&datagram);
        // With a right length it gets further in.
        if datagram.len() >= 16 {
            let len = datagram.len() as u32;
            datagram[..4].copy_from_slice(&len.to_ne_bytes());
            read_everything(&datagram);
        }
    }
}

/// Messages as the kernel sends them: it answers in the words in which it is asked.
fn real_datagram() -> Vec<u8> {
    let service =
        Item::Service { at: AT.into(), scheduler: "rr".into(), flags: 0, persistence: 600 };
    let (addr, weight, forward) = ([10, 244, 1, 2].into(), 1, Forward::Masq);
    let real = Item::Real { of: AT.into(), addr, port: 8080, weight, forward };
    let pods = Item::Route {
        table: TABLE_MAIN,
        to: "10.244.1.0/24".parse().unwrap(),
        via: Some(NextHops::One("192.0.2.12".parse().unwrap())),
        src: None,
    };
    let flow = Flow {
        protocol: Protocol::Udp,
        orig_src: "fd44:1::7".parse().unwrap(),
        orig_sport: 40_000,
        orig_dst: "fd96::10".parse().unwrap(),
        orig_dport: 53,
        reply_src: "fd44:1::2".parse().unwrap(),
        reply_sport: 5353,
        id: 1,
        zone: 7,
    };
    let mut requests = vec![
        conntrack::remove(&flow),
        route::put_link(BRIDGE, &LinkKind::Bridge, Some(1500)),
        route::add_address("10.96.0.1/32".parse().unwrap(), 7),
        ipvs::add_service(20, &service).unwrap(),
        ipvs::add_real(20, &real).unwrap(),
        nft::add_elements(
            Set::Services,
            Family::Ipv4,
            &[SetElement::Service(AT), SetElement::Service(AT)],
        ),
    ];
    requests.extend(route::add_route(&pods, |_| Some(2)).unwrap());
    let hops = ["fd77::12", "fd77::13"].map(|hop| hop.parse().unwrap());
    let (to, via) = ("fd44:1::/64".parse().unwrap(), NextHops::new(hops));
    let shared = Item::Route { table: TABLE_MAIN, to, via, src: None };
    requests.extend(route::change_route(&shared, |_| Some(2)).unwrap());
    requests.extend(nft::add_sets());
    requests.extend(nft::put_chains(RulesetOptions::default(), &[]));
    let mut datagram = Vec::new();
    requests.iter().for_each(|r| r.write(1, 0, &mut datagram));
    datagram
}

#[test]
fn mutations_of_real_netlink_are_never_a_panic() {
    let (real, mut noise) = (real_datagram(), Noise(11));
    read_everything(&real);
    for _ in 0..rounds(50_000) {
        read_everything(&noise.mutate(&real));
    }
}

/// Mutations of a recorded file, as bytes.
fn mutations(of: &[u8], count: usize, mut read: impl FnMut(&[u8])) {
    let mut noise = Noise(13);
    for _ in 0..rounds(count) {
        read(&noise.mutate(of));
    }
    for _ in 0..rounds(count) {
        read(&noise.bytes(300));
    }
}

#[test]
fn mutations_of_a_list_of_the_api_are_never_a_panic() {
    for list in [
        &include_bytes!("objects/three-nodes/nodes.json")[..],
        include_bytes!("objects/three-nodes/services.json"),
        include_bytes!("objects/three-nodes/endpointslices.json"),
        include_bytes!("objects/three-nodes/endpoints.json"),
    ] {
        mutations(list, 150, |bytes| drop(from_list(bytes)));
    }
}

#[test]
fn mutations_of_a_watch_are_never_a_panic() {
    for (kind, events) in [
        (Kind::Service, &include_bytes!("api/watch/services.changes.ndjson")[..]),
        (Kind::Service, include_bytes!("api/watch/services.bookmarks150.ndjson")),
        (Kind::Service, include_bytes!("api/watch/services.410-error-event.ndjson")),
        (Kind::EndpointSlice, include_bytes!("api/watch/endpointslices.pod-ready-flap.ndjson")),
    ] {
        let count = if events.len() > 10_000 { 300 } else { 3000 };
        mutations(events, count, |bytes| drop(from_watch(kind, bytes, drop)));
    }
}

#[test]
fn mutations_of_a_snapshot_are_never_a_panic_and_never_taken_for_a_good_one() {
    let cluster = from_list(&include_bytes!("objects/three-nodes/nodes.json")[..]).unwrap().cluster;
    let folder = std::env::temp_dir().join(format!("kinglet-decoders-{}", std::process::id()));
    let path = folder.join("snapshot");
    let known = ClusterStore::new(cluster, [(Kind::Node, "411".to_owned())].into(), &[]);
    let mut file = snapshot::SnapshotFile::new(Some(path.clone()), snapshot::Identity::default());
    assert!(file.save(&known, 1, &snapshot::Contact::default()).unwrap());
    assert!(file.settle().unwrap());
    let good = std::fs::read(&path).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(snapshot::from_snapshot(&good[..]), Ok(known.cluster));
    mutations(&good, 5000, |bytes| {
        let read = snapshot::from_snapshot(bytes);
        assert!(read.is_err() || bytes.starts_with(&good), "{}", String::from_utf8_lossy(bytes));
    });
}

#[test]
fn mutations_of_a_dump_are_never_a_panic() {
    let cluster = from_list(&include_bytes!("objects/three-nodes/nodes.json")[..]).unwrap().cluster;
    let kernel = [Item::Module { name: "ip_vs".into() }].into();
    let (kinglet, node) = ("0".into(), "node-1".into());
    let dump = Dump { kinglet, node, cluster, host: None, kernel };
    let text = serde_json::to_vec(&dump).unwrap();
    mutations(&text, 3000, |bytes| drop(Dump::read(&String::from_utf8_lossy(bytes))));
}

#[test]
fn mutations_of_a_cni_configuration_are_never_a_panic() {
    let pods = ["10.244.1.0/24".parse().unwrap(), "fd44:1::/64".parse().unwrap()];
    let text = br#"{"cniVersion":"0.3.0","name":"mynet","plugins":[{"name":"kubernetes","type":"bridge",
        "bridge":"kube-bridge","isDefaultGateway":true,"ipam":{"type":"host-local","subnet":"10.1.0.0/24",
        "ranges":[[{"subnet":"10.244.1.0/24","rangeStart":"10.244.1.9"}]]}},{"type":"portmap"}]}"#;
    for path in ["10-kuberouter.conflist", "10-kuberouter.conf"] {
        mutations(text, 5000, |bytes| {
            drop(cni_config::conf(path, Some(&String::from_utf8_lossy(bytes)), &pods, Some(1500)));
        });
    }
}
