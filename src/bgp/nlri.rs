//! Networks as UPDATE has them (RFC 4271 section 4.3): a prefix length, and no more bytes than it needs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::{
    Family,
    wire::{take, take_u8},
};

/// The most bytes that one takes.
pub(super) const LONGEST: usize = 17;

/// What a field of networks holds.
#[derive(Default)]
pub(super) struct Nets {
    /// The unicast networks, without host bits.
    pub(super) nets: Vec<IpNet>,
    /// How many others there were: multicast is no destination of a unicast route.
    pub(super) passed_over: usize,
}

/// Reads a field of networks. `None`: a prefix is too long for its family or for the field, so that what
/// follows can't be found (RFC 7606 section 5.3).
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
            found.passed_over += 1;
        } else {
            found.nets.push(net);
        }
    }
    Some(found)
}

/// Appends a network.
fn write(net: &IpNet, out: &mut Vec<u8>) {
    let count = usize::from(net.prefix_len()).div_ceil(8);
    out.push(net.prefix_len());
    match net.network() {
        IpAddr::V4(addr) => out.extend(addr.octets().iter().take(count)),
        IpAddr::V6(addr) => out.extend(addr.octets().iter().take(count)),
    }
}

/// Gives the networks of one family in fields of at most `room` bytes, which is no less than [`LONGEST`].
pub(super) fn pack(nets: &[IpNet], family: Family, room: usize, emit: &mut dyn FnMut(&[u8])) {
    let mut field = Vec::new();
    for net in nets.iter().filter(|net| Family::of(net) == family) {
        let before = field.len();
        write(net, &mut field);
        if field.len() > room {
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
    fn host_bits_are_masked() {
        assert_eq!(nets(&[9, 10, 255], Family::Ipv4).unwrap(), ["10.128.0.0/9"]);
        assert_eq!(
            nets(&[33, 0x20, 1, 0xd, 0xb8, 0xff], Family::Ipv6).unwrap(),
            ["2001:db8:8000::/33"]
        );
        assert_eq!(nets(&[0, 32, 1, 2, 3, 4], Family::Ipv4).unwrap(), ["0.0.0.0/0", "1.2.3.4/32"]);
    }

    #[test]
    fn a_prefix_longer_than_its_family_or_its_field_breaks_the_field() {
        assert_eq!(nets(&[33, 1, 2, 3, 4, 5], Family::Ipv4), None);
        assert_eq!(nets(&[129; 18], Family::Ipv6), None);
        assert_eq!(nets(&[255; 40], Family::Ipv6), None);
        assert_eq!(nets(&[24, 1, 2], Family::Ipv4), None);
    }

    #[test]
    fn multicast_is_passed_over_and_the_rest_is_kept() {
        let found = read(&[8, 230, 8, 10], Family::Ipv4).unwrap();
        assert_eq!((found.nets, found.passed_over), (vec!["10.0.0.0/8".parse().unwrap()], 1));
        assert_eq!(read(&[16, 0xff, 2], Family::Ipv6).unwrap().passed_over, 1);
    }

    #[test]
    fn a_field_is_as_full_as_the_room_allows() {
        let nets: Vec<IpNet> = (0..10).map(|n| format!("10.{n}.0.0/16").parse().unwrap()).collect();
        let mut sizes = Vec::new();
        pack(&nets, Family::Ipv4, 20, &mut |field| sizes.push(field.len()));
        assert_eq!(sizes, [18, 12]); // of three bytes each
        pack(&nets, Family::Ipv6, 20, &mut |_| panic!("none is of this family"));
    }
}
