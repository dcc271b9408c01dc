//! Messages about neighbour entries, the ARP and NDP tables (linux/neighbour.h).

use std::net::IpAddr;

use neli::consts::nl::NlmF;

use super::{
    link::MacAddr,
    message::{Attrs, Request, u32_at},
};
use crate::{family::Family, sys};

const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_GETNEIGH: u16 = 30;

// NDA_*
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;

/// NUD_REACHABLE: the address was confirmed not long ago.
pub const NUD_REACHABLE: u16 = 0x02;
/// NUD_PERMANENT: the entry never expires.
pub const NUD_PERMANENT: u16 = 0x80;

/// struct ndmsg { u8 family, pad; u16 pad; i32 ifindex; u16 state; u8 flags, type; }
const NDMSG: usize = 12;

/// A neighbour entry: the link-layer address of an IP address on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The index of the link.
    pub index: u32,
    /// The IP address.
    pub addr: IpAddr,
    /// The Ethernet address; `None` if it is not known.
    pub mac: Option<MacAddr>,
    /// The state (NUD_*).
    pub state: u16,
}

/// Requests the entries of one family, to be parsed with [`read_neighbour`].
pub fn list_neighbours(family: Family) -> Request {
    let mut header = [0; NDMSG];
    header[0] = sys::address_family(family);
    Request::new(RTM_GETNEIGH, NlmF::empty(), &header)
}

/// Adds an entry, or replaces the one of the same address.
pub fn put_neighbour(neighbour: &Neighbour) -> Request {
    request(RTM_NEWNEIGH, NlmF::CREATE | NlmF::REPLACE, neighbour)
}

/// Removes an entry by its link and its IP address. The kernel answers ENOENT if it does not exist.
pub fn delete_neighbour(neighbour: &Neighbour) -> Request {
    request(RTM_DELNEIGH, NlmF::empty(), neighbour)
}

fn request(message: u16, flags: NlmF, neighbour: &Neighbour) -> Request {
    let mut header = [0; NDMSG];
    header[0] = sys::address_family(Family::of_addr(&neighbour.addr));
    header[4..8].copy_from_slice(&neighbour.index.to_ne_bytes());
    header[8..10].copy_from_slice(&neighbour.state.to_ne_bytes());
    let request = Request::new(message, flags, &header).addr(NDA_DST, neighbour.addr);
    match neighbour.mac {
        Some(mac) => request.attr(NDA_LLADDR, &mac),
        None => request,
    }
}

/// Parses an entry from a message's body. Returns `None` if it has no IP address or is invalid.
pub fn read_neighbour(body: &[u8]) -> Option<Neighbour> {
    let attrs = Attrs::after(body, NDMSG);
    let header = body.first_chunk::<NDMSG>()?;
    Some(Neighbour {
        index: u32_at(body, 4)?,
        addr: attrs.addr(NDA_DST)?,
        mac: attrs.get(NDA_LLADDR).and_then(|mac| mac.try_into().ok()),
        state: u16::from_ne_bytes([header[8], header[9]]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::message::{body_of, from_hex, parts_of};

    #[test]
    fn a_recorded_entry_is_parsed_and_parses_again_after_it_was_built() {
        // Recorded from Linux 6.18.
        for (body, addr, last, state) in [
            (
                "02000000 03000000 80000001 08000100c0000209 0a00020002000000000900 00
                 0800040000000000",
                "192.0.2.9",
                9,
                NUD_PERMANENT,
            ),
            (
                "0a000000 03000000 02000001 14000100fd770000000000000000000000000009
                 0a00020002000000000a0000 0800040000000000",
                "fd77::9",
                10,
                NUD_REACHABLE,
            ),
        ] {
            let (addr, mac) = (addr.parse().unwrap(), Some([2, 0, 0, 0, 0, last]));
            let neighbour = Neighbour { index: 3, addr, mac, state };
            assert_eq!(read_neighbour(&from_hex(body)), Some(neighbour));
            assert_eq!(read_neighbour(&body_of(&put_neighbour(&neighbour))), Some(neighbour));
        }
    }

    #[test]
    fn a_request_has_link_address_and_state() {
        let addr = [192, 0, 2, 9].into();
        let (mac, state) = (Some([2, 0, 0, 0, 0, 9]), NUD_PERMANENT);
        let neighbour = Neighbour { index: 3, addr, mac, state };
        let body =
            from_hex("02000000 03000000 80000000 08000100c0000209 0a00020002000000000900 00");
        assert_eq!(parts_of(&put_neighbour(&neighbour)), (28, 0x500, body));
        let body = from_hex("02000000 03000000 80000000 08000100c0000209");
        let unknown = Neighbour { mac: None, ..neighbour };
        assert_eq!(parts_of(&delete_neighbour(&unknown)), (29, 0, body));
        assert_eq!(read_neighbour(&body_of(&delete_neighbour(&unknown))), Some(unknown));
        let body = from_hex("0a000000 00000000 00000000");
        assert_eq!(parts_of(&list_neighbours(Family::Ipv6)), (30, 0, body));
    }

    #[test]
    fn an_entry_without_an_address_is_invalid() {
        assert_eq!(read_neighbour(&from_hex("02000000 03000000 80000001")), None);
    }
}
