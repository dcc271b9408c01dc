//! IPVS messages: virtual services, real servers and timeouts, by generic netlink (linux/ip_vs.h).
//!
//! Byte order differs by attribute: ports are big-endian; address family, protocol and weight are in
//! native order. An address is sent as 4 or 16 bytes, but the kernel always returns 16 bytes. `family`
//! in a parameter list is the number of the generic netlink family ([`FAMILY`],
//! [`get_family`](super::generic::get_family)).

use std::{borrow::Cow, net::IpAddr};

use super::{
    generic::{GENL, request},
    message::{Attrs, NLA_F_NESTED, Request},
};
use crate::{
    family::{Family, addr_from_bytes},
    sys,
};

/// The name of the generic netlink family.
pub const FAMILY: &str = "IPVS";

// IPVS_CMD_*
const NEW_SERVICE: u8 = 1;
const SET_SERVICE: u8 = 2;
const DEL_SERVICE: u8 = 3;
const GET_SERVICE: u8 = 4;
const NEW_DEST: u8 = 5;
const SET_DEST: u8 = 6;
const DEL_DEST: u8 = 7;
const GET_DEST: u8 = 8;
const SET_CONFIG: u8 = 12;
const GET_CONFIG: u8 = 13;

// IPVS_CMD_ATTR_*
const SERVICE: u16 = 1;
const DEST: u16 = 2;
/// The first of the three timeout attributes: TCP, TCP_FIN, UDP.
const TIMEOUT_TCP: u16 = 4;

// IPVS_SVC_ATTR_*
const SVC_AF: u16 = 1;
const SVC_PROTOCOL: u16 = 2;
const SVC_ADDR: u16 = 3;
const SVC_PORT: u16 = 4;
const SVC_FWMARK: u16 = 5;
const SVC_SCHED_NAME: u16 = 6;
const SVC_FLAGS: u16 = 7;
const SVC_TIMEOUT: u16 = 8;
const SVC_NETMASK: u16 = 9;

// IPVS_DEST_ATTR_*
const DEST_ADDR: u16 = 1;
const DEST_PORT: u16 = 2;
const DEST_FWD_METHOD: u16 = 3;
const DEST_WEIGHT: u16 = 4;
const DEST_U_THRESH: u16 = 5;
const DEST_L_THRESH: u16 = 6;
const DEST_ACTIVE_CONNS: u16 = 7;
const DEST_INACT_CONNS: u16 = 8;
const DEST_ADDR_FAMILY: u16 = 11;

/// IP_VS_SVC_F_PERSISTENT.
const PERSISTENT: u32 = 0x1;
/// IP_VS_SVC_F_SCHED1 to IP_VS_SVC_F_SCHED3.
const SCHED_FLAGS: u32 = 0x8 | 0x10 | 0x20;
/// The mask of a struct ip_vs_flags that sets all flags.
const EVERY_FLAG: u32 = u32::MAX;
/// IP_VS_CONN_F_FWD_MASK.
const FORWARD_MASK: u32 = 7;

/// The key of a virtual service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IpvsKey {
    /// Destination address, protocol (`IPPROTO_*`) and port.
    #[allow(missing_docs)]
    Address { addr: IpAddr, protocol: u8, port: u16 },
    /// The mark of the packets, of one address family.
    #[allow(missing_docs)]
    FwMark { mark: u32, family: Family },
}

impl IpvsKey {
    /// Returns the address family of the packets.
    pub(crate) fn family(&self) -> Family {
        match self {
            IpvsKey::Address { addr, .. } => Family::of_addr(addr),
            IpvsKey::FwMark { family, .. } => *family,
        }
    }
}

/// A virtual service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IpvsService<'a> {
    /// The key of the service.
    pub key: IpvsKey,
    /// The name of the scheduler.
    pub scheduler: Cow<'a, str>,
    /// The flags of the scheduler: IP_VS_SVC_F_SCHED1 to IP_VS_SVC_F_SCHED3.
    pub flags: u32,
    /// The time in seconds for which a client address stays with its real server; `None` without
    /// persistence.
    pub persistence: Option<u32>,
}

/// A real server (IPVS: destination) of a virtual service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IpvsDest {
    /// The address.
    pub addr: IpAddr,
    /// The port.
    pub port: u16,
    /// The share of new connections; 0 for none.
    pub weight: u32,
    /// The forwarding method: the lowest three bits of IP_VS_CONN_F_*.
    pub forward: u32,
}

/// Requests all virtual services, to be parsed with [`read_service`].
pub fn list_services(family: u16) -> Request {
    request(family, GET_SERVICE)
}

/// Requests one virtual service. The kernel answers ESRCH if it does not exist.
pub(crate) fn get_service(family: u16, key: &IpvsKey) -> Request {
    of_service(family, GET_SERVICE, key)
}

/// Requests the real servers of one virtual service, to be parsed with [`read_dest`].
pub(crate) fn list_dests(family: u16, of: &IpvsKey) -> Request {
    of_service(family, GET_DEST, of)
}

/// Requests the timeouts, to be parsed with [`read_timeouts`].
pub fn get_timeouts(family: u16) -> Request {
    request(family, GET_CONFIG)
}

/// Sets one timeout in seconds; the other timeouts keep their values. `which` is its index in the order
/// of [`read_timeouts`].
pub(crate) fn set_timeout(family: u16, which: u16, seconds: u32) -> Request {
    request(family, SET_CONFIG).u32(TIMEOUT_TCP + which, seconds)
}

/// Adds a virtual service. The kernel answers EEXIST if one with this key exists.
pub(crate) fn add_service(family: u16, service: &IpvsService) -> Request {
    put_service(family, NEW_SERVICE, service)
}

/// Changes a virtual service in place; its connections and real servers stay.
pub(crate) fn set_service(family: u16, service: &IpvsService) -> Request {
    put_service(family, SET_SERVICE, service)
}

/// Removes a virtual service together with its real servers. The kernel answers ESRCH or ENOENT if it
/// does not exist.
pub(crate) fn delete_service(family: u16, key: &IpvsKey) -> Request {
    of_service(family, DEL_SERVICE, key)
}

/// Adds a real server to a virtual service. The kernel answers EEXIST if the service has it.
pub(crate) fn add_dest(family: u16, of: &IpvsKey, dest: &IpvsDest) -> Request {
    put_dest(family, NEW_DEST, of, dest)
}

/// Changes a real server in place; its connections stay.
pub(crate) fn set_dest(family: u16, of: &IpvsKey, dest: &IpvsDest) -> Request {
    put_dest(family, SET_DEST, of, dest)
}

/// Removes a real server. The kernel answers ENOENT if it does not exist, ESRCH if its service does
/// not.
pub(crate) fn delete_dest(family: u16, of: &IpvsKey, dest: &IpvsDest) -> Request {
    put_dest(family, DEL_DEST, of, dest)
}

/// Creates a request about the service with a key.
fn of_service(family: u16, command: u8, key: &IpvsKey) -> Request {
    request(family, command).nest(SERVICE | NLA_F_NESTED, |r| put_key(r, key))
}

/// Appends the attributes that identify a virtual service.
fn put_key(request: Request, key: &IpvsKey) -> Request {
    let request = request.attr(SVC_AF, &number(key.family()).to_ne_bytes());
    match *key {
        IpvsKey::Address { addr, protocol, port } => request
            .attr(SVC_PROTOCOL, &u16::from(protocol).to_ne_bytes())
            .addr(SVC_ADDR, addr)
            .attr(SVC_PORT, &port.to_be_bytes()),
        IpvsKey::FwMark { mark, .. } => request.u32(SVC_FWMARK, mark),
    }
}

/// Returns an address family as IPVS writes it, in 16 bits.
fn number(family: Family) -> u16 {
    sys::address_family(family).into()
}

fn put_service(family: u16, command: u8, service: &IpvsService) -> Request {
    let persistent = if service.persistence.is_some() { PERSISTENT } else { 0 };
    let flags = service.flags & SCHED_FLAGS | persistent;
    let [mut bits, mask] = [flags.to_ne_bytes().to_vec(), EVERY_FLAG.to_ne_bytes().to_vec()];
    bits.extend(mask);
    // Persistence applies to single client addresses; for IPv6 the netmask is a prefix length.
    let netmask = if service.key.family().is_ipv4() { u32::MAX } else { 128 };
    request(family, command).nest(SERVICE | NLA_F_NESTED, |r| {
        put_key(r, &service.key)
            .text(SVC_SCHED_NAME, &service.scheduler)
            .attr(SVC_FLAGS, &bits)
            .u32(SVC_TIMEOUT, service.persistence.unwrap_or(0))
            .u32(SVC_NETMASK, netmask)
    })
}

fn put_dest(family: u16, command: u8, of: &IpvsKey, dest: &IpvsDest) -> Request {
    of_service(family, command, of).nest(DEST | NLA_F_NESTED, |r| {
        r.attr(DEST_ADDR_FAMILY, &number(Family::of_addr(&dest.addr)).to_ne_bytes())
            .addr(DEST_ADDR, dest.addr)
            .attr(DEST_PORT, &dest.port.to_be_bytes())
            .u32(DEST_FWD_METHOD, dest.forward)
            .u32(DEST_WEIGHT, dest.weight)
            .u32(DEST_U_THRESH, 0)
            .u32(DEST_L_THRESH, 0)
    })
}

/// Parses a virtual service from a message's body. Returns `None` if an attribute is missing or
/// invalid.
pub(crate) fn read_service(body: &[u8]) -> Option<IpvsService<'static>> {
    let attrs = Attrs::after(body, GENL).nest(SERVICE)?;
    let flags = attrs.u32(SVC_FLAGS)?;
    let family = read_family(attrs.u16(SVC_AF)?)?;
    let key = match attrs.u32(SVC_FWMARK) {
        Some(mark) => IpvsKey::FwMark { mark, family },
        None => IpvsKey::Address {
            addr: read_addr(family, attrs.get(SVC_ADDR)?)?,
            protocol: attrs.u16(SVC_PROTOCOL)?.try_into().ok()?,
            port: attrs.port(SVC_PORT)?,
        },
    };
    let persistent = flags & PERSISTENT != 0;
    Some(IpvsService {
        key,
        scheduler: attrs.text(SVC_SCHED_NAME)?.into(),
        flags: flags & SCHED_FLAGS,
        persistence: if persistent { Some(attrs.u32(SVC_TIMEOUT)?) } else { None },
    })
}

/// Parses the timeouts in seconds: TCP connections, TCP connections after a FIN, UDP. A timeout is
/// `None` if this kernel's IPVS does not support its protocol.
pub(crate) fn read_timeouts(body: &[u8]) -> [Option<u32>; 3] {
    let attrs = Attrs::after(body, GENL);
    [0, 1, 2].map(|which| attrs.u32(TIMEOUT_TCP + which))
}

/// Parses a real server of a virtual service of `family` from a message's body. Returns `None` if an
/// attribute is missing or invalid. Kernels before 3.18 do not return the address family.
pub(crate) fn read_dest(body: &[u8], family: Family) -> Option<IpvsDest> {
    let attrs = Attrs::after(body, GENL).nest(DEST)?;
    let family = attrs.u16(DEST_ADDR_FAMILY).map_or(Some(family), read_family)?;
    Some(IpvsDest {
        addr: read_addr(family, attrs.get(DEST_ADDR)?)?,
        port: attrs.port(DEST_PORT)?,
        weight: attrs.u32(DEST_WEIGHT)?,
        forward: attrs.u32(DEST_FWD_METHOD)? & FORWARD_MASK,
    })
}

/// Returns the number of connections of a real server, from the same body as [`read_dest`]: active
/// connections plus those that IPVS counts as inactive (half open, closing). Persistence templates
/// (IPVS_DEST_ATTR_PERSIST_CONNS) carry no packets and are not included. `None` if a counter is
/// missing.
pub fn read_connections(body: &[u8]) -> Option<u32> {
    let attrs = Attrs::after(body, GENL).nest(DEST)?;
    Some(attrs.u32(DEST_ACTIVE_CONNS)?.saturating_add(attrs.u32(DEST_INACT_CONNS)?))
}

fn read_family(number: u16) -> Option<Family> {
    sys::from_address_family(number.try_into().ok()?)
}

fn read_addr(family: Family, bytes: &[u8]) -> Option<IpAddr> {
    let len = if family.is_ipv4() { 4 } else { 16 };
    addr_from_bytes(bytes.get(..len)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::message::body_of;

    #[test]
    fn connections_include_active_and_inactive_ones_but_no_templates() {
        let counts = |counts: &[(u16, u32)]| {
            let message = request(20, NEW_DEST).nest(DEST | NLA_F_NESTED, |dest| {
                counts.iter().fold(dest, |dest, (kind, n)| dest.attr(*kind, &n.to_ne_bytes()))
            });
            read_connections(&body_of(&message))
        };
        assert_eq!(counts(&[(7, 3), (8, 4), (9, 100)]), Some(7));
        assert_eq!(counts(&[(7, 0), (8, 0), (9, 1)]), Some(0));
        assert_eq!(counts(&[(7, u32::MAX), (8, 1)]), Some(u32::MAX));
        assert_eq!(counts(&[(7, 1)]), None);
    }

    fn keys() -> [IpvsKey; 3] {
        let at =
            |addr: &str| IpvsKey::Address { addr: addr.parse().unwrap(), protocol: 6, port: 80 };
        [at("10.96.0.1"), at("fd96::1"), IpvsKey::FwMark { mark: 7, family: Family::Ipv6 }]
    }

    #[test]
    fn a_virtual_service_is_parsed_as_it_was_built() {
        for (key, persistence) in keys().into_iter().zip([None, Some(600), Some(0)]) {
            let service = IpvsService { key, scheduler: "mh".into(), flags: 0x18, persistence };
            let body = body_of(&add_service(20, &service));
            assert_eq!(body[..4], [NEW_SERVICE, 1, 0, 0]);
            assert_eq!(read_service(&body), Some(service));
        }
    }

    #[test]
    fn flags_that_are_not_the_schedulers_are_not_sent() {
        let service =
            IpvsService { key: keys()[0], scheduler: "rr".into(), flags: 0x47, persistence: None };
        let body = body_of(&set_service(20, &service));
        assert_eq!(read_service(&body), Some(IpvsService { flags: 0, ..service }));
    }

    #[test]
    fn a_real_server_is_parsed_as_it_was_built() {
        for (key, addr) in keys().iter().zip(["10.244.1.2", "10.244.1.2", "fd44::2"]) {
            let dest = IpvsDest { addr: addr.parse().unwrap(), port: 8080, weight: 3, forward: 2 };
            let body = body_of(&add_dest(20, key, &dest));
            assert_eq!(read_dest(&body, Family::Ipv4), Some(dest));
            assert_eq!(read_dest(&body, Family::Ipv6), Some(dest));
        }
    }

    #[test]
    fn the_address_of_a_real_server_without_a_family_is_of_the_services_family() {
        let mut padded = [0; 16];
        padded[..4].copy_from_slice(&[10, 244, 1, 2]);
        let message = request(20, NEW_DEST).nest(DEST | NLA_F_NESTED, |r| {
            r.attr(DEST_ADDR, &padded)
                .attr(DEST_PORT, &80u16.to_be_bytes())
                .u32(DEST_FWD_METHOD, 0x103)
                .u32(DEST_WEIGHT, 1)
        });
        let dest = IpvsDest { addr: [10, 244, 1, 2].into(), port: 80, weight: 1, forward: 3 };
        assert_eq!(read_dest(&body_of(&message), Family::Ipv4), Some(dest));
    }

    #[test]
    fn timeouts_are_in_the_order_of_the_header() {
        let body = body_of(&set_timeout(20, 1, 30).u32(6u16, 60));
        assert_eq!(read_timeouts(&body), [None, Some(30), Some(60)]);
    }
}
