//! The decoders of external data do not panic, neither on noise nor on mutations of real data.
//!
//! The seed is fixed, so that a failure repeats. `KINGLET_ROUNDS` multiplies the number of rounds
//! (`tests/run long` sets it).

use kinglet::{
    api::{from_list, from_watch, snapshot},
    commands::dump::Dump,
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
    netlink::{
        link::{self, IpipParameters, LinkSettings, LinkType},
        message,
        neighbour::{self, Neighbour},
        rule::{self, FibRule},
    },
};

/// The xorshift64* generator: small, fast, and the same on every machine.
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

    /// Returns a copy in which a few bytes are changed, cut, repeated or inserted.
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

/// Gives each message of a datagram to every netlink decoder. Returns how often each decoder accepted one: frames, links,
/// addresses, routes, services, real servers, flows, sets, chains, rules, lists of elements.
fn read_everything(datagram: &[u8]) -> [usize; 11] {
    let mut read = [0; 11];
    for frame in message::frames(datagram).flatten() {
        let _ = frame.answer();
        let body = frame.body();
        let _ = (link::read_ipip(body), rule::read_rule(body), neighbour::read_neighbour(body));
        let _ = ipvs::read_connections(body);
        let elements = nft::read_elements(body).filter(|raw| !raw.is_empty());
        let accepted = [
            true,
            route::read_link(body).is_some(),
            route::read_address(body).is_some(),
            route::read_route(body).is_some(),
            ipvs::read_service(body).is_some(),
            ipvs::read_real(body, &AT.into()).is_some(),
            conntrack::read_flow(body).is_some(),
            nft::read_set(body).is_some(),
            nft::read_chain(body).is_some(),
            nft::read_rule(body).is_some(),
            elements.is_some(),
        ];
        if let Some(raw) = elements {
            for (set, family) in Set::each() {
                let _ = nft::values(set, family, &raw);
            }
        }
        read.iter_mut().zip(accepted).for_each(|(count, accepted)| *count += usize::from(accepted));
    }
    read
}

#[test]
fn noise_from_netlink_never_panics() {
    let mut noise = Noise(7);
    for _ in 0..rounds(50_000) {
        let mut datagram = noise.bytes(200);
        read_everything(&datagram);
        // With a correct length, the later stages of the decoders are reached.
        if datagram.len() >= 16 {
            let len = datagram.len() as u32;
            datagram[..4].copy_from_slice(&len.to_ne_bytes());
            read_everything(&datagram);
        }
    }
}

/// A UDP flow over IPv6 in zone 7, as Linux 6.1 sends it.
fn recorded_flow() -> Vec<u8> {
    let hex = include_str!("../fixtures/conntrack-flow.hex").trim();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// Returns messages as the kernel sends them. The kernel answers in the format of the requests, so
/// these are kinglet's requests.
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
    let ipip =
        IpipParameters { local: [192, 0, 2, 1].into(), remote: [192, 0, 2, 9].into(), ttl: 64 };
    let rule = FibRule {
        family: Family::Ipv4,
        priority: 100,
        table: 1000,
        fwmark: Some((1, u32::MAX)),
        from: Some("10.244.1.0/24".parse().unwrap()),
        to: None,
    };
    let (index, mac) = (3, Some([2, 0, 0, 0, 0, 9]));
    let neighbour = Neighbour { index, addr: [192, 0, 2, 9].into(), mac, state: 0x80 };
    let mut requests = vec![
        link::add_link(&LinkType::Ipip(ipip), &LinkSettings::default()),
        rule::add_rule(&rule),
        neighbour::put_neighbour(&neighbour),
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
    let mut datagram = recorded_flow(); // first, because a mutation may hide all that follows it
    requests.iter().for_each(|r| r.write(1, 0, &mut datagram));
    datagram
}

#[test]
fn mutations_of_real_netlink_never_panic() {
    let (real, mut noise) = (real_datagram(), Noise(11));
    let whole = read_everything(&real);
    let mut read = [0; 11];
    for _ in 0..rounds(50_000) {
        let some = read_everything(&noise.mutate(&real));
        read.iter_mut().zip(some).for_each(|(sum, some)| *sum += some);
    }
    let least = whole.map(|count| count * rounds(50_000) / 4);
    assert!(whole.iter().all(|count| *count > 0), "a decoder accepts nothing: {whole:?}");
    assert!(
        read.iter().zip(least).all(|(sum, least)| *sum > least),
        "{read:?}, {least:?} expected"
    );
}

/// Gives mutations of a recorded file, and noise, to a decoder, which returns true if it accepts them. Fails if the decoder
/// refuses the file itself, or accepts fewer than one in `rarity` of the mutations: then hardly any reached its later stages.
fn mutations(of: &[u8], count: usize, rarity: usize, mut read: impl FnMut(&[u8]) -> bool) {
    assert!(read(of), "the decoder refuses the file as it was recorded");
    let mut noise = Noise(13);
    let mutated = (0..rounds(count)).filter(|_| read(&noise.mutate(of))).count();
    assert!(
        mutated * rarity >= rounds(count),
        "it accepts {mutated} of {} mutations",
        rounds(count)
    );
    for _ in 0..rounds(count) {
        read(&noise.bytes(300));
    }
}

#[test]
fn mutations_of_an_api_list_never_panic() {
    for list in [
        &include_bytes!("../fixtures/objects/three-nodes/nodes.json")[..],
        include_bytes!("../fixtures/objects/three-nodes/services.json"),
        include_bytes!("../fixtures/objects/three-nodes/endpointslices.json"),
        include_bytes!("../fixtures/objects/three-nodes/endpoints.json"),
    ] {
        mutations(list, 150, 20, |bytes| from_list(bytes).is_ok());
    }
}

#[test]
fn mutations_of_a_watch_never_panic() {
    for (kind, events) in [
        (Kind::Service, &include_bytes!("../fixtures/recorded/watch/services.changes.ndjson")[..]),
        (Kind::Service, include_bytes!("../fixtures/recorded/watch/services.bookmarks150.ndjson")),
        (
            Kind::Service,
            include_bytes!("../fixtures/recorded/watch/services.410-error-event.ndjson"),
        ),
        (
            Kind::EndpointSlice,
            include_bytes!("../fixtures/recorded/watch/endpointslices.pod-ready-flap.ndjson"),
        ),
    ] {
        let count = if events.len() > 10_000 { 300 } else { 3000 };
        mutations(events, count, 25, |bytes| {
            let mut news = 0;
            let _ = from_watch(kind, bytes, |_| news += 1);
            news > 0
        });
    }
}

#[test]
fn mutations_of_a_snapshot_never_panic_and_are_never_accepted() {
    let cluster = from_list(&include_bytes!("../fixtures/objects/three-nodes/nodes.json")[..])
        .unwrap()
        .cluster;
    let folder = std::env::temp_dir().join(format!("kinglet-decoders-{}", std::process::id()));
    let path = folder.join("snapshot");
    let known = ClusterStore::new(cluster, [(Kind::Node, "411".to_owned())].into(), &[]);
    let mut file = snapshot::SnapshotFile::new(Some(path.clone()), snapshot::Identity::default());
    assert!(file.save(&known, 1, &snapshot::Contact::default()).unwrap());
    assert!(file.settle().unwrap());
    let good = std::fs::read(&path).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(snapshot::from_snapshot(&good[..]), Ok(known.cluster));
    mutations(&good, 5000, 200, |bytes| {
        let read = snapshot::from_snapshot(bytes);
        assert!(read.is_err() || bytes.starts_with(&good), "{}", String::from_utf8_lossy(bytes));
        read.is_ok()
    });
}

#[test]
fn mutations_of_a_dump_never_panic() {
    let cluster = from_list(&include_bytes!("../fixtures/objects/three-nodes/nodes.json")[..])
        .unwrap()
        .cluster;
    let kernel = [Item::Module { name: "ip_vs".into() }].into();
    let (kinglet, node) = ("0".into(), "node-1".into());
    let dump = Dump { kinglet, node, cluster, host: None, kernel };
    let text = serde_json::to_vec(&dump).unwrap();
    mutations(&text, 3000, 50, |bytes| {
        matches!(Dump::read(&String::from_utf8_lossy(bytes)), Ok(Some(_)))
    });
}

#[test]
fn mutations_of_a_cni_configuration_never_panic() {
    let pods = ["10.244.1.0/24".parse().unwrap(), "fd44:1::/64".parse().unwrap()];
    let bridge = r#"{"name":"kubernetes","type":"bridge","bridge":"kube-bridge","isDefaultGateway":true,
        "ipam":{"type":"host-local","subnet":"10.1.0.0/24","ranges":[[{"subnet":"10.244.1.0/24","rangeStart":"10.244.1.9"}]]}}"#;
    let list = format!(
        r#"{{"cniVersion":"0.3.0","name":"mynet","plugins":[{bridge},{{"type":"portmap"}}]}}"#
    );
    for (path, text) in [("10-kuberouter.conflist", &*list), ("10-kuberouter.conf", bridge)] {
        mutations(text.as_bytes(), 5000, 50, |bytes| {
            cni_config::conf(path, Some(&String::from_utf8_lossy(bytes)), &pods, Some(1500)).is_ok()
        });
    }
}
