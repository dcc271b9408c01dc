//! Notifications of kernel changes by other programs.
//!
//! [`Events::read`] only returns whether a new observation is needed; it does not return the changes.
//! Lost messages (ENOBUFS) require a new observation too. Our own changes are filtered out: by netlink
//! port in the socket (`ignore_sender_ports`), and by address (`Echo`) for IPv6 addresses, which the
//! kernel reports with port 0. `observe` reads the actual state.

use std::{
    cell::RefCell,
    fs::File,
    io::{self, Read},
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd},
    rc::Rc,
};

use neli::{
    consts::{
        rtnl::{Ifa, Ifla, Rta, Rtm},
        socket::NlFamily,
    },
    socket::NlSocket,
    utils::Groups,
};

use super::{
    nft::{NFGEN, SUBSYSTEM, accept},
    route::{self, IFADDR, IFINFO, PROTO_OURS, RTMSG, RTN_LOCAL, SCOPE_LINK},
};
use crate::{
    collections::FlatSet,
    family::is_link_local,
    model::{
        items::{TABLE_LOCAL, addr_from_bytes},
        nftables::NFT_TABLE,
    },
    netlink::message::{Attrs, Frame, frames},
    sys,
};

// RTNLGRP_* (linux/rtnetlink.h)
const LINK: u32 = 1;
const IPV4_IFADDR: u32 = 5;
const IPV4_ROUTE: u32 = 7;
const IPV6_IFADDR: u32 = 9;
const IPV6_ROUTE: u32 = 11;
/// NFNLGRP_NFTABLES (linux/netfilter/nfnetlink.h)
const NFTABLES: u32 = 7;

/// NFTA_*_TABLE, the first attribute of each nftables message: the name of its table.
const NFTA_TABLE: u16 = 1;

/// The size of the largest notification datagram, in bytes.
const BUFFER: usize = 32 * 1024;

/// The IPv6 addresses that kinglet added or removed and whose notifications were not read yet. [`Kernel`](super::Kernel)
/// fills the list, and the [`Events`] that it opened drain it.
pub(super) type Echo = Rc<RefCell<Vec<IpAddr>>>;

/// A non-blocking netlink socket that receives notifications of changes.
pub struct Events {
    socket: File,
    is_relevant: fn(&Frame<'_>) -> bool,
    buffer: Vec<u8>,
    echo: Echo,
}

impl Events {
    /// Subscribes to changes of links, addresses and routes. Changes requested by the netlink ports in
    /// `own` are ignored; otherwise they would fill the socket. Fails if the socket can't be opened.
    pub(super) fn of_network(own: &[u32], echo: Echo) -> io::Result<Events> {
        let groups = [LINK, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE];
        Events::open(NlFamily::Route, &groups, is_relevant_to_network, own, echo)
    }

    /// Subscribes to changes of our nftables table, and of other tables as far as they affect ours.
    /// Changes requested by the netlink ports in `own` are ignored. Fails if the socket can't be
    /// opened.
    pub(super) fn of_table(own: &[u32]) -> io::Result<Events> {
        let echo = Echo::default();
        Events::open(NlFamily::Netfilter, &[NFTABLES], is_relevant_to_table, own, echo)
    }

    fn open(
        family: NlFamily,
        groups: &[u32],
        is_relevant: fn(&Frame<'_>) -> bool,
        own: &[u32],
        echo: Echo,
    ) -> io::Result<Events> {
        let socket = NlSocket::connect(family, None, Groups::empty())?;
        sys::ignore_sender_ports(&socket, own)?;
        socket.add_mcast_membership(Groups::new_groups(groups))?;
        socket.nonblock()?;
        let socket = File::from(sys::into_owned_fd(socket));
        Ok(Events { socket, is_relevant, buffer: vec![0; BUFFER], echo })
    }

    /// Returns true if kinglet added or removed IPv6 addresses whose notifications were not read yet. The
    /// next [`Events::read`] ignores these addresses, so it should follow at once: after it, a change by
    /// another program is seen again.
    pub fn has_echo(&self) -> bool {
        !self.echo.borrow().is_empty()
    }

    /// Drains the socket and returns true if any notification requires a new observation, or if messages
    /// were lost. The echo of our own IPv6 addresses is ignored: the kernel reports them with port 0 even
    /// if kinglet added them, so the sender filter can't catch them. Fails if the socket can't be read.
    pub fn read(&mut self) -> io::Result<bool> {
        let own = FlatSet::from(std::mem::take(&mut *self.echo.borrow_mut()));
        let mut changed = false;
        loop {
            let len = match self.socket.read(&mut self.buffer) {
                Ok(len) => len,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(changed),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {
                    changed = true;
                    continue;
                }
                Err(e) => return Err(e),
            };
            let datagram = self.buffer.get(..len).unwrap_or_default();
            changed |= frames(datagram).any(|frame| match frame {
                Ok(frame) => (self.is_relevant)(&frame) && !is_about_address(&frame, &own),
                Err(_) => true,
            });
        }
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Returns true if the message reports that one of `addrs` was added or removed.
fn is_about_address(frame: &Frame<'_>, addrs: &FlatSet<IpAddr>) -> bool {
    let attrs = Attrs::after(frame.body(), IFADDR);
    matches!(Rtm::from(frame.kind()), Rtm::Newaddr | Rtm::Deladdr)
        && attrs.get(Ifa::Address).and_then(addr_from_bytes).is_some_and(|a| addrs.contains(&a))
}

/// Returns true if a message about a link, an address or a route may affect our objects. A pod's link
/// is a port of a bridge, and none of our routes uses it. Such a link is relevant only until its
/// hairpin mode is on.
fn is_relevant_to_network(frame: &Frame<'_>) -> bool {
    let body = frame.body();
    match Rtm::from(frame.kind()) {
        Rtm::Newlink | Rtm::Dellink => {
            let attrs = Attrs::after(body, IFINFO);
            let bridge = body.first() == Some(&(libc::AF_BRIDGE as u8));
            let port = attrs.get(Ifla::Master).is_some();
            let finished = port && route::read_link(body).is_none_or(|link| link.hairpin);
            !bridge && !finished && attrs.get(Ifla::Wireless).is_none()
        }
        // struct ifaddrmsg { u8 family, prefixlen, flags, scope; u32 index; }
        Rtm::Newaddr | Rtm::Deladdr => {
            let ipv4 = body.first() == Some(&(libc::AF_INET as u8));
            body.len() >= IFADDR && (ipv4 || body[3] != SCOPE_LINK)
        }
        // struct rtmsg { u8 family, dst_len, src_len, tos, table, protocol, scope, type; u32 flags; }
        Rtm::Newroute | Rtm::Delroute => {
            let Some(head) = body.first_chunk::<RTMSG>() else { return true };
            let local = u32::from(head[4]) == TABLE_LOCAL && head[7] == RTN_LOCAL;
            let to = Attrs::after(body, RTMSG).get(Rta::Dst).and_then(addr_from_bytes);
            let link_local = to.is_some_and(is_link_local);
            head[5] == PROTO_OURS || local && !link_local
        }
        _ => false,
    }
}

/// Returns true if an nftables message is about our table, or if `accept` needs it.
fn is_relevant_to_table(frame: &Frame<'_>) -> bool {
    let table = Attrs::after(frame.body(), NFGEN).text(NFTA_TABLE);
    frame.kind() & 0xff00 == SUBSYSTEM
        && table.is_some_and(|name| {
            name == NFT_TABLE || accept::is_relevant(frame.kind() & 0xff, frame.body())
        })
}

#[cfg(test)]
mod tests {
    use neli::consts::nl::NlmF;

    use super::*;
    use crate::netlink::message::{NLA_F_NESTED, Request};

    fn is_relevant(request: &Request, filter: fn(&Frame<'_>) -> bool) -> bool {
        let mut bytes = Vec::new();
        request.write(1, 0, &mut bytes);
        frames(&bytes).all(|frame| filter(&frame.unwrap()))
    }

    fn link(family: i32) -> Request {
        let mut header = [0; IFINFO];
        header[0] = family as u8;
        Request::new(Rtm::Newlink, NlmF::empty(), &header)
    }

    fn route(kind: Rtm, table: u8, protocol: u8, of: u8, to: &[u8]) -> Request {
        let family = if to.len() == 4 { libc::AF_INET } else { libc::AF_INET6 } as u8;
        let header = [family, 32, 0, 0, table, protocol, 0, of, 0, 0, 0, 0];
        Request::new(kind, NlmF::empty(), &header).attr(Rta::Dst, to)
    }

    #[test]
    fn links_are_relevant_except_bridge_ports_and_wireless_events() {
        let is_relevant = |request: &Request| is_relevant(request, is_relevant_to_network);
        assert!(is_relevant(&link(libc::AF_UNSPEC)));
        assert!(!is_relevant(&link(libc::AF_BRIDGE)));
        assert!(!is_relevant(&link(libc::AF_UNSPEC).attr(Ifla::Master, &[4, 0, 0, 0])));
        assert!(!is_relevant(&link(libc::AF_UNSPEC).attr(Ifla::Wireless, &[0; 8])));
    }

    #[test]
    fn addresses_are_relevant_except_ipv6_link_local_ones() {
        let addr = |family: i32, scope: u8| {
            let header = [family as u8, 64, 0, scope, 9, 0, 0, 0];
            is_relevant(&Request::new(Rtm::Deladdr, NlmF::empty(), &header), is_relevant_to_network)
        };
        assert!(addr(libc::AF_INET, 0) && addr(libc::AF_INET, SCOPE_LINK));
        assert!(addr(libc::AF_INET6, 0) && !addr(libc::AF_INET6, SCOPE_LINK));
    }

    #[test]
    fn routes_are_relevant_if_they_may_be_ours() {
        let is_relevant = |request: &Request| is_relevant(request, is_relevant_to_network);
        assert!(is_relevant(&route(Rtm::Delroute, 254, PROTO_OURS, 1, &[10, 244, 1, 0])));
        assert!(!is_relevant(&route(Rtm::Delroute, 254, 16, 1, &[10, 244, 1, 0])));
        assert!(is_relevant(&route(Rtm::Newroute, 255, 2, RTN_LOCAL, &[10, 96, 0, 10])));
        let link_local = "fe80::1".parse::<std::net::Ipv6Addr>().unwrap().octets();
        assert!(!is_relevant(&route(Rtm::Newroute, 255, 2, RTN_LOCAL, &link_local)));
    }

    #[test]
    fn our_table_is_relevant_and_another_table_only_if_it_may_drop() {
        let of_table = |table: &str| {
            let request = Request::new(SUBSYSTEM | 2, NlmF::empty(), &[1, 0, 0, 0]);
            is_relevant(&request.text(NFTA_TABLE, table), is_relevant_to_table)
        };
        assert!(of_table("kinglet") && !of_table("filter") && !of_table("kinglet2"));
        let generation = Request::new(SUBSYSTEM | 15, NlmF::empty(), &[0, 0, 0, 0]);
        assert!(!is_relevant(&generation, is_relevant_to_table));
        // NFT_MSG_NEWCHAIN of a chain with a hook, and of a chain without.
        let chain = || {
            let request = Request::new(SUBSYSTEM | 3, NlmF::empty(), &[2, 0, 0, 0]);
            request.text(NFTA_TABLE, "filter").text(3u16, "FORWARD")
        };
        let hooked =
            |hook: u32| chain().nest(4 | NLA_F_NESTED, |r| r.attr(1u16, &hook.to_be_bytes()));
        let is_relevant = |request: &Request| is_relevant(request, is_relevant_to_table);
        assert!(is_relevant(&hooked(2)) && is_relevant(&hooked(1)));
        assert!(!is_relevant(&hooked(4)) && !is_relevant(&chain()));
    }
}
