//! Address messages (linux/rtnetlink.h, if_addr.h).

use ipnet::IpNet;
use neli::consts::nl::NlmF;

use super::message::{Attrs, Request, u32_at};
use crate::{family::Family, sys};

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;

// IFA_* (linux/if_addr.h)
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

/// IFA_F_NODAD: no duplicate address detection.
pub const IFA_F_NODAD: u8 = 0x02;

/// struct ifaddrmsg { u8 family, prefixlen, flags, scope; u32 index; }
pub const IFADDR: usize = 8;

/// An address of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkAddress {
    /// The index of the link.
    pub index: u32,
    /// The address with its prefix length.
    pub addr: IpNet,
    /// The scope (RT_SCOPE_*, linux/rtnetlink.h).
    pub scope: u8,
    /// The flags (IFA_F_*) that fit into struct ifaddrmsg.
    pub flags: u8,
}

/// Requests the addresses of both families, to be parsed with [`read_address`].
pub fn list_addresses() -> Request {
    Request::new(RTM_GETADDR, NlmF::empty(), &[0; IFADDR])
}

/// Adds an address. The kernel answers EEXIST if the link already has it.
pub fn add_address(address: &LinkAddress) -> Request {
    request(RTM_NEWADDR, NlmF::CREATE | NlmF::EXCL, address)
}

/// Removes an address. The kernel answers EADDRNOTAVAIL if the link does not have it.
pub fn delete_address(address: &LinkAddress) -> Request {
    request(RTM_DELADDR, NlmF::empty(), address)
}

fn request(message: u16, flags: NlmF, address: &LinkAddress) -> Request {
    let addr = address.addr;
    let family = sys::address_family(Family::of(&addr));
    let mut header = [family, addr.prefix_len(), address.flags, address.scope, 0, 0, 0, 0];
    header[4..].copy_from_slice(&address.index.to_ne_bytes());
    Request::new(message, flags, &header).addr(IFA_LOCAL, addr.addr())
}

/// Parses an address from a message's body. Returns `None` if a part is missing or invalid.
pub fn read_address(body: &[u8]) -> Option<LinkAddress> {
    let attrs = Attrs::after(body, IFADDR);
    let header = body.first_chunk::<IFADDR>()?;
    // On a point-to-point link IFA_LOCAL is our address and IFA_ADDRESS the peer's; otherwise both are
    // equal.
    let addr = attrs.addr(IFA_LOCAL).or_else(|| attrs.addr(IFA_ADDRESS))?;
    Some(LinkAddress {
        index: u32_at(body, 4)?,
        addr: IpNet::new(addr, header[1]).ok()?,
        scope: header[3],
        flags: header[2],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::message::{body_of, from_hex, parts_of};

    #[test]
    fn recorded_addresses_are_parsed() {
        // Recorded from Linux 6.18; the last one is on a point-to-point link.
        for (body, addr, scope, flags) in [
            ("02188000 03000000 08000100c0000201 08000200c0000201", "192.0.2.1/24", 0, 0x80),
            (
                "0a408200 03000000 14000100fd770000000000000000000000000001",
                "fd77::1/64",
                0,
                0x80 | IFA_F_NODAD,
            ),
            ("022080fd 03000000 08000100c6336401 08000200c0000207", "192.0.2.7/32", 253, 0x80),
        ] {
            let addr = addr.parse().unwrap();
            let address = LinkAddress { index: 3, addr, scope, flags };
            assert_eq!(read_address(&from_hex(body)), Some(address));
        }
    }

    #[test]
    fn an_address_is_parsed_as_it_was_built() {
        for (addr, body) in [
            ("10.96.0.1/32", "022002fd 07000000 080002000a600001"),
            ("fd96::1/128", "0a8002fd 07000000 14000200fd960000000000000000000000000001"),
        ] {
            let addr = addr.parse().unwrap();
            let address = LinkAddress { index: 7, addr, scope: 253, flags: IFA_F_NODAD };
            assert_eq!(parts_of(&add_address(&address)), (20, 0x600, from_hex(body)));
            assert_eq!(parts_of(&delete_address(&address)), (21, 0, from_hex(body)));
            assert_eq!(read_address(&body_of(&add_address(&address))), Some(address));
        }
    }

    #[test]
    fn an_address_without_its_bytes_or_with_an_impossible_prefix_is_invalid() {
        for body in ["02180000 03000000", "02210000 03000000 080002000a600001", "02180000 030000"] {
            assert_eq!(read_address(&from_hex(body)), None, "{body}");
        }
    }
}
