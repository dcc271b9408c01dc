//! Decoding of the values of path attributes. A value that is malformed is an [`AttributeError`] with the
//! error handling of RFC 7606. All numbers are big-endian.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use self::ErrorHandling::{AttributeDiscard, TreatAsWithdraw};
use super::codes::EXTENDED_LENGTH;
use crate::bgp::wire::{take, take_u8, take_u16, take_u32};

/// The consequence of an error in an attribute (RFC 7606 section 2). The number is the subcode of the
/// NOTIFICATION "UPDATE message error" (RFC 4271 section 4.5).
pub(super) enum ErrorHandling {
    /// Discard the attribute and use the routes.
    AttributeDiscard,
    /// Treat the routes of the message as withdrawn. If the message has no routes, reset the session.
    TreatAsWithdraw(u8),
    /// Reset the session.
    SessionReset(u8),
}

/// An error in an attribute: its consequence, and a description for the log.
pub(super) type AttributeError = (ErrorHandling, &'static str);

pub(super) const WRONG_LENGTH: &str = "wrong length";

/// Removes an attribute from the front of `bytes` and returns its value; `None` if the attribute is
/// longer than `bytes`.
pub(super) fn take_value<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (flags, _code) = (take_u8(bytes)?, take_u8(bytes)?);
    let length =
        if flags & EXTENDED_LENGTH != 0 { take_u16(bytes)? } else { u16::from(take_u8(bytes)?) };
    take(bytes, length.into())
}

/// Reads a value of four bytes; `None` if it has another length.
pub(super) fn read_u32(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

/// Reads a list of numbers of four bytes. Fails if it is empty or its length is no multiple of four.
pub(super) fn read_u32_list(value: &[u8]) -> Result<Vec<u32>, AttributeError> {
    let (numbers, rest) = value.as_chunks();
    if numbers.is_empty() || !rest.is_empty() {
        return Err((TreatAsWithdraw(9), WRONG_LENGTH));
    }
    Ok(numbers.iter().map(|&number| u32::from_be_bytes(number)).collect())
}

/// Reads the value of AGGREGATOR or AS4_AGGREGATOR: an AS of two or four bytes and an IPv4 address. Fails
/// if the length is wrong or the AS is 0.
pub(super) fn read_aggregator(
    mut value: &[u8],
    four_octet: bool,
) -> Result<(u32, Ipv4Addr), AttributeError> {
    let asn = if four_octet { take_u32(&mut value) } else { take_u16(&mut value).map(u32::from) };
    match (asn, read_u32(value)) {
        (Some(0), Some(_)) => Err((AttributeDiscard, "AS 0")), // RFC 7607
        (Some(asn), Some(addr)) => Ok((asn, addr.into())),
        _ => Err((AttributeDiscard, WRONG_LENGTH)),
    }
}

/// Reads an IPv6 next hop: a global address, or a global and a link-local address (RFC 2545 section 3).
/// Returns the global one; `None` if the length is wrong.
pub(super) fn read_next_hop_v6(value: &[u8]) -> Option<Ipv6Addr> {
    let (&[first, ref more @ ..], []) = value.as_chunks::<16>() else { return None };
    let first = Ipv6Addr::from(first);
    match *more {
        [] => Some(first),
        // A router without a global address sends :: and its link-local address.
        [second] if first.is_unspecified() => Some(second.into()),
        [_] => Some(first),
        _ => None,
    }
}

/// Returns true if an address can be the address of a router.
pub(super) fn is_valid_next_hop(addr: IpAddr) -> bool {
    let special = match addr {
        IpAddr::V4(addr) => matches!(addr.octets()[0], 0 | 240..),
        IpAddr::V6(addr) => addr.is_unspecified() || addr.to_ipv4_mapped().is_some(),
    };
    !(special || addr.is_multicast() || addr.is_loopback())
}
