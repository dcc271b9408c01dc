//! Virtual services and real servers of items, as IPVS messages.
//!
//! This module translates between items and the structs of [`netlink`](crate::netlink::ipvs);
//! `observe` and `apply` do the I/O. `family` in a parameter list is the number of the generic netlink
//! family.

use crate::{
    family::Family,
    model::items::{Forward, Item, Protocol, ServiceAddr, ServiceKey, Timeout},
    netlink::{
        ipvs::{self, IpvsDest, IpvsKey, IpvsService},
        message::Request,
    },
    sys::errno,
};

pub use crate::netlink::ipvs::{FAMILY, get_timeouts, list_services, read_connections};

/// Requests one virtual service. The kernel answers ESRCH if it does not exist.
pub fn get_service(family: u16, at: &ServiceKey) -> Request {
    ipvs::get_service(family, &key(at))
}

/// Requests the real servers of one virtual service, to be parsed with [`read_real`].
pub fn list_reals(family: u16, of: &ServiceKey) -> Request {
    ipvs::list_dests(family, &key(of))
}

/// Sets one timeout, in seconds; the other timeouts keep their values.
pub fn set_timeout(family: u16, of: Timeout, seconds: u32) -> Request {
    ipvs::set_timeout(family, of as u16, seconds)
}

/// Adds a virtual service; `None` if the item is not a virtual service. Succeeds if it already exists.
pub fn add_service(family: u16, item: &Item) -> Option<Request> {
    Some(ipvs::add_service(family, &service(item)?).ignore_errors(&[errno::EEXIST]))
}

/// Changes a virtual service in place; its connections and real servers stay. `None` if the item is not
/// a virtual service.
pub fn change_service(family: u16, item: &Item) -> Option<Request> {
    Some(ipvs::set_service(family, &service(item)?))
}

/// Removes a virtual service together with its real servers. Succeeds if it is already gone.
pub fn remove_service(family: u16, at: &ServiceKey) -> Request {
    ipvs::delete_service(family, &key(at)).ignore_errors(&[errno::ESRCH, errno::ENOENT])
}

/// Adds a real server to its virtual service; `None` if the item is not a real server. Succeeds if it
/// already exists.
pub fn add_real(family: u16, item: &Item) -> Option<Request> {
    let (of, dest) = real(item)?;
    Some(ipvs::add_dest(family, &of, &dest).ignore_errors(&[errno::EEXIST]))
}

/// Changes a real server in place; its connections stay. `None` if the item is not a real server.
pub fn change_real(family: u16, item: &Item) -> Option<Request> {
    let (of, dest) = real(item)?;
    Some(ipvs::set_dest(family, &of, &dest))
}

/// Removes a real server; `None` if the item is not a real server. Succeeds if it is already gone.
pub fn remove_real(family: u16, item: &Item) -> Option<Request> {
    let (of, dest) = real(item)?;
    let request = ipvs::delete_dest(family, &of, &dest);
    Some(request.ignore_errors(&[errno::ENOENT, errno::ESRCH]))
}

fn key(at: &ServiceKey) -> IpvsKey {
    match *at {
        ServiceKey::Address(ServiceAddr { addr, protocol, port }) => {
            IpvsKey::Address { addr, protocol: protocol.number(), port }
        }
        ServiceKey::FwMark { mark, ipv4 } => {
            IpvsKey::FwMark { mark, family: Family::from_ipv4(ipv4) }
        }
    }
}

fn service(item: &Item) -> Option<IpvsService<'_>> {
    let Item::Service { at, scheduler, flags, persistence } = item else { return None };
    Some(IpvsService {
        key: key(at),
        scheduler: (&**scheduler).into(),
        flags: *flags,
        persistence: (*persistence > 0).then_some(*persistence),
    })
}

fn real(item: &Item) -> Option<(IpvsKey, IpvsDest)> {
    let Item::Real { of, addr, port, weight, forward } = item else { return None };
    let forward = method(*forward);
    Some((key(of), IpvsDest { addr: *addr, port: *port, weight: *weight, forward }))
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
/// invalid, or if the protocol is not TCP, UDP or SCTP.
pub fn read_service(body: &[u8]) -> Option<Item> {
    let service = ipvs::read_service(body)?;
    let at = match service.key {
        IpvsKey::FwMark { mark, family } => ServiceKey::FwMark { mark, ipv4: family.is_ipv4() },
        IpvsKey::Address { addr, protocol, port } => {
            let protocol = Protocol::from_number(protocol)?;
            ServiceKey::Address(ServiceAddr { addr, protocol, port })
        }
    };
    Some(Item::Service {
        at,
        scheduler: service.scheduler.into(),
        flags: service.flags,
        persistence: service.persistence.unwrap_or(0),
    })
}

/// Parses the timeouts. A protocol that this kernel's IPVS does not support is left out.
pub fn read_timeouts(body: &[u8]) -> Vec<Item> {
    let of_kernel = ipvs::read_timeouts(body);
    let read = |of: Timeout| Some(Item::Timeout { of, seconds: of_kernel[of as usize]? });
    Timeout::ALL.into_iter().filter_map(read).collect()
}

/// Parses a real server of the virtual service `of`. Returns `None` if an attribute is missing or
/// invalid.
pub fn read_real(body: &[u8], of: &ServiceKey) -> Option<Item> {
    let dest = ipvs::read_dest(body, Family::from_ipv4(of.is_ipv4()))?;
    Some(Item::Real {
        of: *of,
        addr: dest.addr,
        port: dest.port,
        weight: dest.weight,
        forward: match dest.forward {
            0 => Forward::Masq,
            1 => Forward::Local,
            2 => Forward::Tunnel,
            3 => Forward::Route,
            _ => Forward::Bypass,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::message::frames;

    fn body_of(request: &Request) -> Vec<u8> {
        let mut message = Vec::new();
        request.write(1, 0, &mut message);
        frames(&message).next().unwrap().unwrap().body().to_vec()
    }

    fn keys() -> [ServiceKey; 3] {
        let (addr, protocol) = ("10.96.0.1".parse().unwrap(), Protocol::Sctp);
        let address = ServiceKey::Address(ServiceAddr { addr, protocol, port: 80 });
        [
            address,
            ServiceKey::FwMark { mark: 7, ipv4: true },
            ServiceKey::FwMark { mark: 7, ipv4: false },
        ]
    }

    #[test]
    fn a_virtual_service_is_parsed_as_it_was_built() {
        for (at, persistence) in keys().into_iter().zip([0, 1, 600]) {
            let item = Item::Service { at, scheduler: "mh".into(), flags: 0x18, persistence };
            for build in [add_service, change_service] {
                let request = build(20, &item).unwrap();
                assert_eq!(read_service(&body_of(&request)), Some(item.clone()));
            }
        }
    }

    #[test]
    fn a_real_server_is_parsed_as_it_was_built() {
        use Forward::*;
        for (of, forward) in keys().into_iter().cycle().zip([Masq, Local, Tunnel, Route, Bypass]) {
            let addr = "10.244.1.2".parse().unwrap();
            let item = Item::Real { of, addr, port: 8080, weight: 3, forward };
            for build in [add_real, change_real, remove_real] {
                let request = build(20, &item).unwrap();
                assert_eq!(read_real(&body_of(&request), &of), Some(item.clone()));
            }
        }
    }

    #[test]
    fn a_timeout_is_parsed_as_it_was_built() {
        for of in Timeout::ALL {
            let items = read_timeouts(&body_of(&set_timeout(20, of, 30)));
            assert_eq!(items, [Item::Timeout { of, seconds: 30 }]);
        }
    }

    #[test]
    fn an_object_that_is_already_there_or_already_gone_is_no_error() {
        let [at, ..] = keys();
        let service = Item::Service { at, scheduler: "rr".into(), flags: 0, persistence: 0 };
        let (addr, forward) = ("10.244.1.2".parse().unwrap(), Forward::Masq);
        let real = Item::Real { of: at, addr, port: 80, weight: 1, forward };
        let adds = [add_service(20, &service), add_real(20, &real)];
        assert!(adds.into_iter().all(|request| request.unwrap().ignores(errno::EEXIST)));
        for request in [remove_service(20, &at), remove_real(20, &real).unwrap()] {
            assert!(request.ignores(errno::ESRCH) && request.ignores(errno::ENOENT));
        }
        assert!(!change_service(20, &service).unwrap().ignores(errno::ENOENT));
        assert!(!change_real(20, &real).unwrap().ignores(errno::ENOENT));
    }
}
