//! Fixtures for the tests of the table and of its policies: configurations, sessions, UPDATEs, and
//! readers of the UPDATEs that the table sends.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;

use super::{PeerSession, Rib};
use crate::family::Family;
use crate::{
    bgp::{
        as_path::Segment,
        attribute::Attributes,
        capability::Negotiated,
        message::Message,
        update::{Reach, Update},
    },
    model::bgp::{Config, Export, Import, LocalSpeaker, Originated, Peer, TtlPolicy},
    rng::Rng,
};

/// Returns a random subset of the families.
pub(crate) fn families(rng: &mut Rng) -> Vec<Family> {
    Family::ALL.into_iter().filter(|_| rng.one_in(2)).collect()
}

/// The AS of this node.
pub(crate) const ASN: u32 = 64512;

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Returns the configuration of a node that has a pod network of each family and a Service address, and
/// advertises pod networks to all peers.
pub(crate) fn config() -> Config {
    Config {
        own: LocalSpeaker {
            asn: ASN,
            id: [10, 0, 0, 1].into(),
            addrs: vec![ip("10.0.0.1"), ip("fd00::1")],
            port: 179,
            families: Family::ALL.into(),
            cluster_id: None,
            restart: None,
        },
        peers: [].into(),
        origin: Originated {
            pods: [net("10.42.1.0/24"), net("fd42:1::/64")].into(),
            services: [net("10.43.0.1/32")].into(),
        },
        export: Export { pods_inside: true, pods_outside: true, ..Export::default() },
        import: Import {
            own: [net("10.42.1.0/24"), net("fd42:1::/64"), net("10.43.0.1/32")].into(),
            ..Import::default()
        },
    }
}

/// Returns [`config`] for a node that is also a route reflector.
pub(crate) fn reflector() -> Config {
    let mut config = config();
    config.own.cluster_id = Some([9, 9, 9, 9].into());
    config
}

/// Returns a session with 10.0.0.`last`: a node of the cluster if `asn` is [`ASN`], otherwise a router
/// outside.
pub(crate) fn session(last: u8, asn: u32) -> PeerSession {
    let internal = asn == ASN;
    PeerSession {
        addr: [10, 0, 0, last].into(),
        asn,
        id: [10, 0, 0, last].into(),
        internal,
        negotiated: Negotiated { four_octet: true, internal },
        families: Family::ALL.to_vec(),
        local_addr: ip("10.0.0.1"),
        external: !internal,
        client: false,
    }
}

/// Returns the configuration of the peer of a session.
pub(crate) fn peer(session: &PeerSession) -> Peer {
    Peer {
        node: (!session.external).then(|| "n".into()),
        asn: session.asn,
        port: 179,
        local: None,
        password: None,
        distance: TtlPolicy::Anywhere,
        hold_time: 90,
        client: session.client,
        bfd: None,
        passive: false,
    }
}

/// Returns attributes with an AS_PATH of these ASes.
pub(crate) fn as_path(ases: &[u32]) -> Attributes {
    let path = if ases.is_empty() { Vec::new() } else { vec![Segment::Sequence(ases.to_vec())] };
    Attributes { as_path: path, ..Attributes::default() }
}

/// Returns an UPDATE that advertises networks.
pub(crate) fn reach(nets: &[&str], next_hop: &str, attributes: Attributes) -> Update {
    let nets = nets.iter().map(|text| net(text)).collect();
    Update { reach: vec![Reach { next_hop: ip(next_hop), nets }], attributes, ..Update::default() }
}

/// Returns an UPDATE that withdraws networks.
pub(crate) fn withdraw(nets: &[&str]) -> Update {
    Update { withdrawn: nets.iter().map(|text| net(text)).collect(), ..Update::default() }
}

/// Returns an End-of-RIB.
pub(crate) fn end_of_rib(family: Family) -> Update {
    Update { end_of_rib: Some(family), ..Update::default() }
}

/// Returns a table in which these sessions are up and have read all UPDATEs.
pub(crate) fn rib_with(config: Config, sessions: &[PeerSession]) -> Rib {
    let mut rib = Rib::new(Arc::new(config));
    for session in sessions {
        rib.session_up(session.clone(), &[]);
    }
    for session in sessions {
        read_updates(&mut rib, session);
    }
    rib.take_routes_changed();
    rib
}

/// Returns all pending UPDATEs for a peer, encoded and decoded again.
pub(crate) fn read_updates(rib: &mut Rib, to: &PeerSession) -> Vec<Update> {
    let mut bytes = Vec::new();
    while rib.write_updates(to.addr, 200, &mut bytes) {}
    assert!(!rib.has_pending_updates(to.addr));
    let negotiated = Negotiated { ..to.negotiated };
    let mut left = &bytes[..];
    let mut all = Vec::new();
    while !left.is_empty() {
        let length = usize::from(u16::from_be_bytes([left[16], left[17]]));
        assert!((19..=4096).contains(&length));
        match Message::read(&left[..length], negotiated).unwrap() {
            Message::Update(update) => {
                assert_eq!(update.faults, [""; 0]);
                all.push(update);
            }
            other => panic!("{other:?}"),
        }
        left = &left[length..];
    }
    all
}

/// Returns the sorted networks in all pending UPDATEs for a peer: those advertised, and those withdrawn.
pub(crate) fn read_nets(rib: &mut Rib, to: &PeerSession) -> (Vec<String>, Vec<String>) {
    let updates = read_updates(rib, to);
    let reach = updates.iter().flat_map(|update| &update.reach);
    let mut advertised: Vec<_> =
        reach.flat_map(|reach| &reach.nets).map(IpNet::to_string).collect();
    let mut withdrawn: Vec<_> =
        updates.iter().flat_map(|update| &update.withdrawn).map(IpNet::to_string).collect();
    advertised.sort();
    withdrawn.sort();
    (advertised, withdrawn)
}
