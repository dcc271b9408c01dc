//! The address family and the bytes of addresses, which every layer needs.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Family {
    /// Both families.
    pub const ALL: [Family; 2] = [Family::Ipv4, Family::Ipv6];

    /// Returns the family of a prefix.
    pub fn of(net: &IpNet) -> Family {
        Family::of_addr(&net.addr())
    }

    /// Returns the family of an address.
    pub fn of_addr(addr: &IpAddr) -> Family {
        Family::from_ipv4(addr.is_ipv4())
    }

    /// Returns IPv4 if `ipv4` is true, else IPv6.
    pub fn from_ipv4(ipv4: bool) -> Family {
        if ipv4 { Family::Ipv4 } else { Family::Ipv6 }
    }

    /// Returns true for IPv4.
    pub fn is_ipv4(self) -> bool {
        self == Family::Ipv4
    }

    /// Returns the family with an AFI, or `None` if the AFI is neither IPv4 nor IPv6.
    pub fn of_afi(afi: u16) -> Option<Family> {
        Family::ALL.into_iter().find(|family| family.afi() == afi)
    }

    /// Returns the version of IP, which ends the names of our sets: 4 or 6.
    pub fn version(self) -> u8 {
        match self {
            Family::Ipv4 => 4,
            Family::Ipv6 => 6,
        }
    }

    /// Returns the AFI (IANA Address Family Numbers): 1 or 2.
    pub fn afi(self) -> u16 {
        match self {
            Family::Ipv4 => 1,
            Family::Ipv6 => 2,
        }
    }
}

impl fmt::Display for Family {
    /// Writes `ipv4` or `ipv6`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Ipv4 => "ipv4",
            Family::Ipv6 => "ipv6",
        })
    }
}

/// Returns the address of 4 or 16 bytes in network order; `None` for any other length.
pub fn addr_from_bytes(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
        _ => None,
    }
}

/// Returns the 4 or 16 bytes of an address in network order.
pub fn addr_to_bytes(addr: IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

/// Returns true if an address is link-local: 169.254.0.0/16 (RFC 3927) or fe80::/10 (RFC 4291).
pub fn is_link_local(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => addr.is_link_local(),
        IpAddr::V6(addr) => addr.is_unicast_link_local(),
    }
}
