//! Encoding and decoding of networks in an UPDATE (RFC 4271 section 4.3): a prefix length in bits,
//! followed by only as many bytes of the address as the prefix needs. `update` uses [`read`], and its
//! submodule `encode` uses [`pack`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::wire::{take, take_u8};
use crate::family::Family;

/// The most bytes of an encoded network.
pub(super) const MAX_ENCODED_LEN: usize = 17;

/// The networks of a decoded field.
#[derive(Default)]
pub(super) struct Nets {
    /// The unicast networks, with host bits cleared.
    pub(super) nets: Vec<IpNet>,
    /// The number of multicast networks, which are ignored: they are no destinations of a unicast route.
    pub(super) multicast: usize,
}

/// Decodes a field of networks. `None` if a prefix is too long for its family or for the field, because
/// the networks after it cannot be found then (RFC 7606 section 5.3).
pub(super) fn read(mut bytes: &[u8], family: Family) -> Option<Nets> {
    let mut found = Nets::default();
    while let Some(length) = take_u8(&mut bytes) {
        let taken = take(&mut bytes, usize::from(length).div_ceil(8))?;
        let mut octets = [0; 16];
        octets.get_mut(..taken.len())?.copy_from_slice(taken);
        let addr = match family {
            Family::Ipv4 => IpAddr::from(Ipv4Addr::from(*octets.first_chunk::<4>()?)),
            Family::Ipv6 => IpAddr::from(Ipv6Addr::from(octets)),
        };
        let net = IpNet::new(addr, length).ok()?.trunc();
        if net.addr().is_multicast() {
            found.multicast += 1;
        } else {
            found.nets.push(net);
        }
    }
    Some(found)
}

/// Appends an encoded network.
fn write(net: &IpNet, out: &mut Vec<u8>) {
    let count = usize::from(net.prefix_len()).div_ceil(8);
    out.push(net.prefix_len());
    match net.network() {
        IpAddr::V4(addr) => out.extend(addr.octets().iter().take(count)),
        IpAddr::V6(addr) => out.extend(addr.octets().iter().take(count)),
    }
}

/// Calls `emit` with encoded fields of at most `max_bytes` bytes, which together have all networks of one
/// family. `max_bytes` must be at least [`MAX_ENCODED_LEN`].
pub(super) fn pack(nets: &[IpNet], family: Family, max_bytes: usize, emit: &mut dyn FnMut(&[u8])) {
    let mut field = Vec::new();
    for net in nets.iter().filter(|net| Family::of(net) == family) {
        let before = field.len();
        write(net, &mut field);
        if field.len() > max_bytes {
            emit(&field[..before]);
            field.drain(..before);
        }
    }
    if !field.is_empty() {
        emit(&field);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(bytes: &[u8], family: Family) -> Option<Vec<String>> {
        read(bytes, family).map(|found| found.nets.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn host_bits_are_cleared() {
        assert_eq!(nets(&[9, 10, 255], Family::Ipv4).unwrap(), ["10.128.0.0/9"]);
        assert_eq!(
            nets(&[33, 0x20, 1, 0xd, 0xb8, 0xff], Family::Ipv6).unwrap(),
            ["2001:db8:8000::/33"]
        );
        assert_eq!(nets(&[0, 32, 1, 2, 3, 4], Family::Ipv4).unwrap(), ["0.0.0.0/0", "1.2.3.4/32"]);
    }

    #[test]
    fn a_prefix_that_exceeds_its_family_or_its_field_makes_the_field_malformed() {
        assert_eq!(nets(&[33, 1, 2, 3, 4, 5], Family::Ipv4), None);
        assert_eq!(nets(&[129; 18], Family::Ipv6), None);
        assert_eq!(nets(&[255; 40], Family::Ipv6), None);
        assert_eq!(nets(&[24, 1, 2], Family::Ipv4), None);
    }

    #[test]
    fn multicast_networks_are_ignored_and_others_are_kept() {
        let found = read(&[8, 230, 8, 10], Family::Ipv4).unwrap();
        assert_eq!((found.nets, found.multicast), (vec!["10.0.0.0/8".parse().unwrap()], 1));
        assert_eq!(read(&[16, 0xff, 2], Family::Ipv6).unwrap().multicast, 1);
    }

    #[test]
    fn pack_fills_each_field_up_to_the_limit() {
        let nets: Vec<IpNet> = (0..10).map(|n| format!("10.{n}.0.0/16").parse().unwrap()).collect();
        let mut sizes = Vec::new();
        pack(&nets, Family::Ipv4, 20, &mut |field| sizes.push(field.len()));
        assert_eq!(sizes, [18, 12]); // each network has three bytes
        pack(&nets, Family::Ipv6, 20, &mut |_| panic!("no network is of this family"));
    }
}
