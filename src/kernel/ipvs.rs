//! IPVS messages: virtual services, real servers and timeouts, by generic netlink (linux/ip_vs.h).
//!
//! This module builds and parses messages only; `observe` and `apply` do the I/O. Byte order differs by
//! attribute: ports are big-endian; address family, protocol and weight are in native order. An
//! address is sent as 4 or 16 bytes, but the kernel always returns 16 bytes.

use std::net::IpAddr;

use neli::consts::nl::NlmF;

use crate::{
    model::items::{
        Forward, Item, Protocol, ServiceAddr, ServiceKey, Timeout, addr_from_bytes, addr_to_bytes,
    },
    netlink::message::{Attrs, NLA_F_NESTED, Request},
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
/// The first timeout attribute; the others follow in the order of [`Timeout`].
const TIMEOUT: u16 = 4;

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

// IP_VS_SVC_F_*
const PERSISTENT: u32 = 0x1;
const SCHED_FLAGS: u32 = 0x8 | 0x10 | 0x20;

/// struct genlmsghdr { u8 cmd; u8 version; u16 reserved; }
const GENL: usize = 4;
/// The mask of a struct ip_vs_flags that sets all flags.
const EVERY_FLAG: u32 = u32::MAX;

fn request(family: u16, command: u8) -> Request {
    Request::new(family, NlmF::empty(), &[command, 1, 0, 0])
}

/// Requests all virtual services, to be parsed with [`read_service`].
pub fn list_services(family: u16) -> Request {
    request(family, GET_SERVICE)
}

/// Requests one virtual service. The kernel answers ESRCH if it does not exist.
pub fn get_service(family: u16, at: &ServiceKey) -> Request {
    request(family, GET_SERVICE).nest(SERVICE | NLA_F_NESTED, |r| name(r, at))
}

/// Requests the real servers of one virtual service, to be parsed with [`read_real`].
pub fn list_reals(family: u16, of: &ServiceKey) -> Request {
    request(family, GET_DEST).nest(SERVICE | NLA_F_NESTED, |r| name(r, of))
}

/// Requests the timeouts, to be parsed with [`read_timeouts`].
pub fn get_timeouts(family: u16) -> Request {
    request(family, GET_CONFIG)
}

/// Sets one timeout, in seconds; the other timeouts keep their values.
pub fn set_timeout(family: u16, of: Timeout, seconds: u32) -> Request {
    request(family, SET_CONFIG).attr(TIMEOUT + of as u16, &seconds.to_ne_bytes())
}

/// Adds a virtual service; `None` if the item is not a virtual service. Succeeds if it already exists.
pub fn add_service(family: u16, item: &Item) -> Option<Request> {
    Some(service(request(family, NEW_SERVICE), item)?.ignore_errors(&[libc::EEXIST]))
}

/// Changes a virtual service in place; its connections and real servers stay. `None` if the item is not
/// a virtual service.
pub fn change_service(family: u16, item: &Item) -> Option<Request> {
    service(request(family, SET_SERVICE), item)
}

/// Removes a virtual service together with its real servers. Succeeds if it is already gone.
pub fn remove_service(family: u16, at: &ServiceKey) -> Request {
    request(family, DEL_SERVICE)
        .nest(SERVICE | NLA_F_NESTED, |r| name(r, at))
        .ignore_errors(&[libc::ESRCH, libc::ENOENT])
}

/// Adds a real server to its virtual service; `None` if the item is not a real server. Succeeds if it
/// already exists.
pub fn add_real(family: u16, item: &Item) -> Option<Request> {
    Some(real(request(family, NEW_DEST), item)?.ignore_errors(&[libc::EEXIST]))
}

/// Changes a real server in place; its connections stay. `None` if the item is not a real server.
pub fn change_real(family: u16, item: &Item) -> Option<Request> {
    real(request(family, SET_DEST), item)
}

/// Removes a real server; `None` if the item is not a real server. Succeeds if it is already gone.
pub fn remove_real(family: u16, item: &Item) -> Option<Request> {
    Some(real(request(family, DEL_DEST), item)?.ignore_errors(&[libc::ENOENT, libc::ESRCH]))
}

/// Appends the attributes that identify a virtual service.
fn name(request: Request, at: &ServiceKey) -> Request {
    match at {
        ServiceKey::Address(at) => request
            .attr(SVC_AF, &family(at.addr.is_ipv4()).to_ne_bytes())
            .attr(SVC_PROTOCOL, &u16::from(at.protocol.number()).to_ne_bytes())
            .attr(SVC_ADDR, &addr_to_bytes(at.addr))
            .attr(SVC_PORT, &at.port.to_be_bytes()),
        ServiceKey::FwMark { mark, ipv4 } => {
            request.attr(SVC_AF, &family(*ipv4).to_ne_bytes()).attr(SVC_FWMARK, &mark.to_ne_bytes())
        }
    }
}

fn family(ipv4: bool) -> u16 {
    (if ipv4 { libc::AF_INET } else { libc::AF_INET6 }) as u16
}

fn service(request: Request, item: &Item) -> Option<Request> {
    let Item::Service { at, scheduler, flags, persistence } = item else { return None };
    let flags = flags & SCHED_FLAGS | if *persistence > 0 { PERSISTENT } else { 0 };
    let [mut bits, mask] = [flags.to_ne_bytes().to_vec(), EVERY_FLAG.to_ne_bytes().to_vec()];
    bits.extend(mask);
    // Persistence applies to single client addresses; for IPv6 the netmask is a prefix length.
    let netmask: u32 = if at.is_ipv4() { u32::MAX } else { 128 };
    Some(request.nest(SERVICE | NLA_F_NESTED, |r| {
        name(r, at)
            .text(SVC_SCHED_NAME, scheduler)
            .attr(SVC_FLAGS, &bits)
            .attr(SVC_TIMEOUT, &persistence.to_ne_bytes())
            .attr(SVC_NETMASK, &netmask.to_ne_bytes())
    }))
}

fn real(request: Request, item: &Item) -> Option<Request> {
    let Item::Real { of, addr, port, weight, forward } = item else { return None };
    let request = request.nest(SERVICE | NLA_F_NESTED, |r| name(r, of));
    Some(request.nest(DEST | NLA_F_NESTED, |r| {
        r.attr(DEST_ADDR_FAMILY, &family(addr.is_ipv4()).to_ne_bytes())
            .attr(DEST_ADDR, &addr_to_bytes(*addr))
            .attr(DEST_PORT, &port.to_be_bytes())
            .attr(DEST_FWD_METHOD, &method(*forward).to_ne_bytes())
            .attr(DEST_WEIGHT, &weight.to_ne_bytes())
            .attr(DEST_U_THRESH, &0u32.to_ne_bytes())
            .attr(DEST_L_THRESH, &0u32.to_ne_bytes())
    }))
}

/// Returns the forwarding method (IP_VS_CONN_F_FWD_MASK, the lowest three bits of IP_VS_CONN_F_*).
fn method(forward: Forward) -> u32 {
    match forward {
        Forward::Masq => 0,
        Forward::Local => 1,
        Forward::Tunnel => 2,
        Forward::Route => 3,
        Forward::Bypass => 4,
    }
}

/// Parses a virtual service from a message's body. Returns `None` if an attribute is missing or
/// invalid.
pub fn read_service(body: &[u8]) -> Option<Item> {
    let attrs = Attrs::after(body, GENL).nest(SERVICE)?;
    let flags = attrs.u32(SVC_FLAGS)?;
    let af = attrs.u16(SVC_AF)?;
    let at = match attrs.u32(SVC_FWMARK) {
        Some(mark) => ServiceKey::FwMark { mark, ipv4: i32::from(af) == libc::AF_INET },
        None => ServiceKey::Address(ServiceAddr {
            addr: read_addr(af, attrs.get(SVC_ADDR)?)?,
            protocol: Protocol::from_number(attrs.u16(SVC_PROTOCOL)?.try_into().ok()?)?,
            port: attrs.port(SVC_PORT)?,
        }),
    };
    Some(Item::Service {
        at,
        scheduler: attrs.text(SVC_SCHED_NAME)?.into(),
        flags: flags & SCHED_FLAGS,
        persistence: if flags & PERSISTENT != 0 { attrs.u32(SVC_TIMEOUT)? } else { 0 },
    })
}

/// Parses the timeouts. A protocol that this kernel's IPVS does not support is left out.
pub fn read_timeouts(body: &[u8]) -> Vec<Item> {
    let attrs = Attrs::after(body, GENL);
    let read = |of: Timeout| Some(Item::Timeout { of, seconds: attrs.u32(TIMEOUT + of as u16)? });
    Timeout::ALL.into_iter().filter_map(read).collect()
}

/// Parses a real server of the virtual service `of`. Returns `None` if an attribute is missing or
/// invalid.
pub fn read_real(body: &[u8], of: &ServiceKey) -> Option<Item> {
    let attrs = Attrs::after(body, GENL).nest(DEST)?;
    let af = attrs.u16(DEST_ADDR_FAMILY).unwrap_or(family(of.is_ipv4()));
    Some(Item::Real {
        of: *of,
        addr: read_addr(af, attrs.get(DEST_ADDR)?)?,
        port: attrs.port(DEST_PORT)?,
        weight: attrs.u32(DEST_WEIGHT)?,
        forward: match attrs.u32(DEST_FWD_METHOD)? & 7 {
            0 => Forward::Masq,
            1 => Forward::Local,
            2 => Forward::Tunnel,
            3 => Forward::Route,
            _ => Forward::Bypass,
        },
    })
}

/// Returns the number of connections of a real server, from the same body as [`read_real`]: active
/// connections plus those that IPVS counts as inactive (half open, closing). Persistence templates
/// (IPVS_DEST_ATTR_PERSIST_CONNS) carry no packets and are not included. `None` if a counter is
/// missing.
pub fn read_connections(body: &[u8]) -> Option<u32> {
    let attrs = Attrs::after(body, GENL).nest(DEST)?;
    Some(attrs.u32(DEST_ACTIVE_CONNS)?.saturating_add(attrs.u32(DEST_INACT_CONNS)?))
}

fn read_addr(af: u16, bytes: &[u8]) -> Option<IpAddr> {
    let len = match i32::from(af) {
        libc::AF_INET => 4,
        libc::AF_INET6 => 16,
        _ => return None,
    };
    addr_from_bytes(bytes.get(..len)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::message::frames;

    #[test]
    fn connections_include_active_and_inactive_ones_but_no_templates() {
        let counts = |counts: &[(u16, u32)]| {
            let message = request(20, NEW_DEST).nest(DEST | NLA_F_NESTED, |dest| {
                counts.iter().fold(dest, |dest, (kind, n)| dest.attr(*kind, &n.to_ne_bytes()))
            });
            let mut bytes = Vec::new();
            message.write(1, 0, &mut bytes);
            read_connections(frames(&bytes).next().unwrap().unwrap().body())
        };
        assert_eq!(counts(&[(7, 3), (8, 4), (9, 100)]), Some(7));
        assert_eq!(counts(&[(7, 0), (8, 0), (9, 1)]), Some(0));
        assert_eq!(counts(&[(7, u32::MAX), (8, 1)]), Some(u32::MAX));
        assert_eq!(counts(&[(7, 1)]), None);
    }
}
