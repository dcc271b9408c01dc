//! What the kernel says when somebody else changes it: a reason to look again, and nothing more. Messages
//! that were lost (ENOBUFS) are a reason too.

use std::{
    fs::File,
    io::{self, Read},
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd},
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
    message::{Attrs, Frame, frames},
    nft::{NFGEN, SUBSYSTEM, accept},
    route::{self, IFADDR, IFINFO, PROTO_OURS, RTMSG, RTN_LOCAL, SCOPE_LINK},
    sys,
};
use crate::{
    few::Sorted,
    ruleset::NFT_TABLE,
    state::{TABLE_LOCAL, addr_from_bytes},
};

// RTNLGRP_* (linux/rtnetlink.h)
const LINK: u32 = 1;
const IPV4_IFADDR: u32 = 5;
const IPV4_ROUTE: u32 = 7;
const IPV6_IFADDR: u32 = 9;
const IPV6_ROUTE: u32 = 11;
/// NFNLGRP_NFTABLES (linux/netfilter/nfnetlink.h)
const NFTABLES: u32 = 7;

/// Every message of nftables names its table with its first attribute (NFTA_*_TABLE).
const NFTA_TABLE: u16 = 1;

/// The largest datagram that a notification comes in.
const BUFFER: usize = 32 * 1024;

/// A socket on which the kernel tells of changes; it never blocks.
pub struct Events {
    socket: File,
    concerns: fn(&Frame<'_>) -> bool,
    buffer: Vec<u8>,
}

impl Events {
    /// Changes to links, addresses and routes. What our `own` netlink ports ask for is no news: it would
    /// fill the socket.
    pub fn of_network(own: &[u32]) -> io::Result<Events> {
        let groups = [LINK, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE];
        Events::open(NlFamily::Route, &groups, concerns_network, own)
    }

    /// Changes to our nftables table, and those of others that count for it.
    pub fn of_table(own: &[u32]) -> io::Result<Events> {
        Events::open(NlFamily::Netfilter, &[NFTABLES], concerns_table, own)
    }

    fn open(
        family: NlFamily,
        groups: &[u32],
        concerns: fn(&Frame<'_>) -> bool,
        own: &[u32],
    ) -> io::Result<Events> {
        let socket = NlSocket::connect(family, None, Groups::empty())?;
        sys::deaf_to(&socket, own)?;
        socket.add_mcast_membership(Groups::new_groups(groups))?;
        socket.nonblock()?;
        let socket = File::from(sys::owned(socket));
        Ok(Events { socket, concerns, buffer: vec![0; BUFFER] })
    }

    /// Reads all that has come, and says whether any of it is a reason to look. Word of our `own` addresses
    /// is none: whoever gave them, the kernel tells of IPv6's as of itself.
    pub fn read(&mut self, own: &Sorted<IpAddr>) -> io::Result<bool> {
        let mut news = false;
        loop {
            let len = match self.socket.read(&mut self.buffer) {
                Ok(len) => len,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(news),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {
                    news = true;
                    continue;
                }
                Err(e) => return Err(e),
            };
            let datagram = self.buffer.get(..len).unwrap_or_default();
            news |= frames(datagram).any(|frame| match frame {
                Ok(frame) => (self.concerns)(&frame) && !tells_of(&frame, own),
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

fn tells_of(frame: &Frame<'_>, addrs: &Sorted<IpAddr>) -> bool {
    let attrs = Attrs::after(frame.body(), IFADDR);
    matches!(Rtm::from(frame.kind()), Rtm::Newaddr | Rtm::Deladdr)
        && attrs.get(Ifa::Address).and_then(addr_from_bytes).is_some_and(|a| addrs.contains(&a))
}

/// Pods come and go with links of their own, which are ports of a bridge: no route of ours leads
/// through one, and once it sends packets back it is done with.
fn concerns_network(frame: &Frame<'_>) -> bool {
    let body = frame.body();
    match Rtm::from(frame.kind()) {
        Rtm::Newlink | Rtm::Dellink => {
            let attrs = Attrs::after(body, IFINFO);
            let bridge = body.first() == Some(&(libc::AF_BRIDGE as u8));
            let port = attrs.get(Ifla::Master).is_some();
            let done = port && route::read_link(body).is_none_or(|link| link.hairpin);
            !bridge && !done && attrs.get(Ifla::Wireless).is_none()
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
            let link_local = to.is_some_and(super::is_link_local);
            head[5] == PROTO_OURS || local && !link_local
        }
        _ => false,
    }
}

fn concerns_table(frame: &Frame<'_>) -> bool {
    let table = Attrs::after(frame.body(), NFGEN).text(NFTA_TABLE);
    frame.kind() & 0xff00 == SUBSYSTEM
        && table.is_some_and(|name| {
            name == NFT_TABLE || accept::concerns(frame.kind() & 0xff, frame.body())
        })
}

#[cfg(test)]
mod tests {
    use neli::consts::nl::NlmF;

    use super::{
        super::message::{NLA_F_NESTED, Request},
        *,
    };

    fn told(request: &Request, concerns: fn(&Frame<'_>) -> bool) -> bool {
        let mut bytes = Vec::new();
        request.write(1, 0, &mut bytes);
        frames(&bytes).all(|frame| concerns(&frame.unwrap()))
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
    fn links_count_but_for_the_ports_of_bridges_and_what_a_radio_says() {
        let told = |request: &Request| told(request, concerns_network);
        assert!(told(&link(libc::AF_UNSPEC)));
        assert!(!told(&link(libc::AF_BRIDGE)));
        assert!(!told(&link(libc::AF_UNSPEC).attr(Ifla::Master, &[4, 0, 0, 0])));
        assert!(!told(&link(libc::AF_UNSPEC).attr(Ifla::Wireless, &[0; 8])));
    }

    #[test]
    fn addresses_count_but_for_those_that_ipv6_gives_to_every_link() {
        let addr = |family: i32, scope: u8| {
            let header = [family as u8, 64, 0, scope, 9, 0, 0, 0];
            told(&Request::new(Rtm::Deladdr, NlmF::empty(), &header), concerns_network)
        };
        assert!(addr(libc::AF_INET, 0) && addr(libc::AF_INET, SCOPE_LINK));
        assert!(addr(libc::AF_INET6, 0) && !addr(libc::AF_INET6, SCOPE_LINK));
    }

    #[test]
    fn routes_count_where_they_may_be_ours() {
        let told = |request: &Request| told(request, concerns_network);
        assert!(told(&route(Rtm::Delroute, 254, PROTO_OURS, 1, &[10, 244, 1, 0])));
        assert!(!told(&route(Rtm::Delroute, 254, 16, 1, &[10, 244, 1, 0])));
        assert!(told(&route(Rtm::Newroute, 255, 2, RTN_LOCAL, &[10, 96, 0, 10])));
        let link_local = "fe80::1".parse::<std::net::Ipv6Addr>().unwrap().octets();
        assert!(!told(&route(Rtm::Newroute, 255, 2, RTN_LOCAL, &link_local)));
    }

    #[test]
    fn our_own_table_counts_and_another_one_where_it_may_drop() {
        let of = |table: &str| {
            let request = Request::new(SUBSYSTEM | 2, NlmF::empty(), &[1, 0, 0, 0]);
            told(&request.text(NFTA_TABLE, table), concerns_table)
        };
        assert!(of("kinglet") && !of("filter") && !of("kinglet2"));
        let generation = Request::new(SUBSYSTEM | 15, NlmF::empty(), &[0, 0, 0, 0]);
        assert!(!told(&generation, concerns_table));
        // NFT_MSG_NEWCHAIN of a chain that hangs on a hook, and of one that does not.
        let chain = || {
            let request = Request::new(SUBSYSTEM | 3, NlmF::empty(), &[2, 0, 0, 0]);
            request.text(NFTA_TABLE, "filter").text(3u16, "FORWARD")
        };
        let hung =
            |hook: u32| chain().nest(4 | NLA_F_NESTED, |r| r.attr(1u16, &hook.to_be_bytes()));
        assert!(told(&hung(2), concerns_table) && told(&hung(1), concerns_table));
        assert!(!told(&hung(4), concerns_table) && !told(&chain(), concerns_table));
    }
}
