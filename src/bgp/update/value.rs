//! The values of path attributes, and what a broken one costs (RFC 7606).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::code::EXTENDED_LENGTH;
use crate::bgp::wire::{take, take_u8, take_u16, take_u32};

use Cost::{Discard, Withdraw};

/// What an error costs (RFC 7606 section 2); the number is the subcode that says so to the peer.
pub(super) enum Cost {
    /// The attribute is left out.
    Discard,
    /// The routes of the message count as withdrawn; the connection, where it has none.
    Withdraw(u8),
    /// The connection.
    Reset(u8),
}

/// What is wrong with an attribute, and its cost.
pub(super) type Fault = (Cost, &'static str);

pub(super) const LENGTH: &str = "wrong length";

/// Takes an attribute off and gives its value; `None`: it does not fit.
pub(super) fn take_value<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (flags, _code) = (take_u8(bytes)?, take_u8(bytes)?);
    let length =
        if flags & EXTENDED_LENGTH != 0 { take_u16(bytes)? } else { u16::from(take_u8(bytes)?) };
    take(bytes, length.into())
}

/// A value of four bytes.
pub(super) fn number(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

/// A list of numbers of four bytes, and not an empty one.
pub(super) fn numbers(value: &[u8]) -> Result<Vec<u32>, Fault> {
    let (numbers, rest) = value.as_chunks();
    if numbers.is_empty() || !rest.is_empty() {
        return Err((Withdraw(9), LENGTH));
    }
    Ok(numbers.iter().map(|&number| u32::from_be_bytes(number)).collect())
}

/// An AS and an address.
pub(super) fn aggregator(mut value: &[u8], four_octet: bool) -> Result<(u32, Ipv4Addr), Fault> {
    let asn = if four_octet { take_u32(&mut value) } else { take_u16(&mut value).map(u32::from) };
    match (asn, number(value)) {
        (Some(0), Some(_)) => Err((Discard, "AS 0")), // RFC 7607
        (Some(asn), Some(addr)) => Ok((asn, addr.into())),
        _ => Err((Discard, LENGTH)),
    }
}

/// A next hop of one address, or of two, the second of which is link-local (RFC 2545 section 3).
pub(super) fn next_hop_v6(value: &[u8]) -> Option<Ipv6Addr> {
    let (&[first, ref more @ ..], []) = value.as_chunks::<16>() else { return None };
    let first = Ipv6Addr::from(first);
    match *more {
        [] => Some(first),
        // Who has no other address sends this.
        [second] if first.is_unspecified() => Some(second.into()),
        [_] => Some(first),
        _ => None,
    }
}

/// Whether an address can be that of a router.
pub(super) fn is_host(addr: IpAddr) -> bool {
    let special = match addr {
        IpAddr::V4(addr) => matches!(addr.octets()[0], 0 | 240..),
        IpAddr::V6(addr) => addr.is_unspecified() || addr.to_ipv4_mapped().is_some(),
    };
    !(special || addr.is_multicast() || addr.is_loopback())
}
