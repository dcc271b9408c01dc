//! Messages for our table: chains, sets and elements.

use ipnet::IpNet;
use neli::consts::nl::NlmF;

use crate::{
    model::{
        items::{Protocol, ServiceAddr, SetElement, addr_from_bytes, addr_to_bytes},
        nftables::{KeyPart, NFT_TABLE, Set},
    },
    netlink::message::{Attrs, NLA_F_NESTED, Request},
};

pub(super) const NFPROTO_INET: u8 = 1;
/// NFNL_SUBSYS_NFTABLES in the upper byte of a message's type.
pub(crate) const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

// NFT_MSG_*
const NEWTABLE: u16 = 0;
const DELTABLE: u16 = 2;
const NEWSET: u16 = 9;
const GETSET: u16 = 10;
const NEWSETELEM: u16 = 12;
const GETSETELEM: u16 = 13;
const DELSETELEM: u16 = 14;

// NFTA_*
const TABLE_NAME: u16 = 1;
const SET_TABLE: u16 = 1;
const SET_NAME: u16 = 2;
const SET_FLAGS: u16 = 3;
const SET_KEY_TYPE: u16 = 4;
const SET_KEY_LEN: u16 = 5;
const SET_DATA_TYPE: u16 = 6;
const SET_DATA_LEN: u16 = 7;
const SET_DESC: u16 = 9;
const SET_ID: u16 = 10;
const SET_USERDATA: u16 = 13;
const SET_DESC_CONCAT: u16 = 2;
const SET_FIELD_LEN: u16 = 1;
const ELEM_LIST_TABLE: u16 = 1;
const ELEM_LIST_SET: u16 = 2;
const ELEM_LIST_ELEMENTS: u16 = 3;
pub(super) const LIST_ELEM: u16 = 1;
const ELEM_KEY: u16 = 1;
const ELEM_DATA: u16 = 2;
const ELEM_FLAGS: u16 = 3;
const ELEM_KEY_END: u16 = 10;
const DATA_VALUE: u16 = 1;

// NFT_SET_*
const INTERVAL: u32 = 0x4;
const MAP: u32 = 0x8;
const CONCAT: u32 = 0x80; // linux 5.6
/// NFT_SET_ELEM_INTERVAL_END: the element is the first key after a network.
const INTERVAL_END: u32 = 1;

// Data type numbers of the nft program, six bits each in a concatenation. `nft list` prints keys by
// them.
const TYPE_IPV4: u32 = 7;
const TYPE_IPV6: u32 = 8;
const TYPE_PROTO: u32 = 12;
const TYPE_SERVICE: u32 = 13;
const TYPE_MARK: u32 = 19;

/// struct nfgenmsg { u8 family; u8 version; be16 res_id; }
pub(crate) const NFGEN: usize = 4;
/// The maximum number of elements in one message, because an attribute can't exceed 64 KiB.
pub const ELEMENTS: usize = 500;

pub(super) fn request(message: u16, flags: NlmF) -> Request {
    Request::new(SUBSYSTEM | message, flags, &[NFPROTO_INET, 0, 0, 0])
}

/// Builds the message at the start or the end of a transaction.
fn batch_message(kind: u16) -> Request {
    // res_id is the number of the subsystem, big-endian.
    Request::new(kind, NlmF::empty(), &[0, 0, 0, 10])
}

/// Begins a transaction.
pub fn begin() -> Request {
    batch_message(BATCH_BEGIN)
}

/// Ends a transaction.
pub fn end() -> Request {
    batch_message(BATCH_END)
}

/// Adds our table; succeeds if it already exists.
pub fn add_table() -> Request {
    request(NEWTABLE, NlmF::CREATE).text(TABLE_NAME, NFT_TABLE)
}

/// Removes our table with everything in it.
pub fn remove_table() -> Request {
    request(DELTABLE, NlmF::empty()).text(TABLE_NAME, NFT_TABLE)
}

/// Adds all sets of our table; succeeds if they already exist.
pub fn add_sets() -> Vec<Request> {
    Set::each().zip(1u32..).map(|((set, ipv4), id)| add_set(set, ipv4, id)).collect()
}

fn add_set(set: Set, ipv4: bool, id: u32) -> Request {
    let parts = set.key();
    let kind = |part: &KeyPart| match (part, ipv4) {
        (KeyPart::Addr, true) => (TYPE_IPV4, 4u32),
        (KeyPart::Addr, false) => (TYPE_IPV6, 16),
        (KeyPart::Protocol, _) => (TYPE_PROTO, 1),
        (KeyPart::Port, _) => (TYPE_SERVICE, 2),
    };
    let kinds: Vec<(u32, u32)> = parts.iter().map(kind).collect();
    let key_type = kinds.iter().fold(0, |all, (kind, _)| all << 6 | kind);
    let mut request = request(NEWSET, NlmF::CREATE)
        .text(SET_TABLE, NFT_TABLE)
        .text(SET_NAME, &set.name(ipv4))
        .attr(SET_FLAGS, &set_flags(set).to_be_bytes())
        .attr(SET_KEY_TYPE, &key_type.to_be_bytes())
        .attr(SET_KEY_LEN, &key_len(set, ipv4).to_be_bytes())
        .attr(SET_ID, &id.to_be_bytes());
    if set.is_map() {
        request = request
            .attr(SET_DATA_TYPE, &TYPE_MARK.to_be_bytes())
            .attr(SET_DATA_LEN, &4u32.to_be_bytes());
    }
    if parts.len() > 1 {
        request = request.nest(SET_DESC | NLA_F_NESTED, |desc| {
            desc.nest(SET_DESC_CONCAT | NLA_F_NESTED, |fields| {
                kinds.iter().fold(fields, |fields, (_, len)| {
                    fields.nest(LIST_ELEM | NLA_F_NESTED, |field| {
                        field.attr(SET_FIELD_LEN, &len.to_be_bytes())
                    })
                })
            })
        });
    }
    // For `nft list`: NFTNL_UDATA_SET_KEYBYTEORDER (0), length 4, BYTEORDER_BIG_ENDIAN (2). The data of
    // a map (NFTNL_UDATA_SET_DATABYTEORDER, 1) have BYTEORDER_HOST_ENDIAN (1).
    let mut byteorder = vec![0, 4];
    byteorder.extend(2u32.to_ne_bytes());
    if set.is_map() {
        byteorder.extend([1, 4]);
        byteorder.extend(1u32.to_ne_bytes());
    }
    request.attr(SET_USERDATA, &byteorder)
}

/// Returns the NFT_SET_* flags of a set.
fn set_flags(set: Set) -> u32 {
    [(set.is_interval(), INTERVAL), (set.is_map(), MAP), (set.key().len() > 1, CONCAT)]
        .iter()
        .filter(|(applies, _)| *applies)
        .fold(0, |all, (_, flag)| all | flag)
}

/// Returns the length of the set's keys in bytes.
fn key_len(set: Set, ipv4: bool) -> u32 {
    let len = |part: &KeyPart| if *part == KeyPart::Addr && !ipv4 { 16 } else { 4 };
    match set.key() {
        [KeyPart::Port] => 2, // only the fields of a concatenation are padded to 4 bytes
        parts => parts.iter().map(len).sum(),
    }
}

/// Requests the sets of our table, to be parsed with [`read_set`].
pub fn list_sets() -> Request {
    request(GETSET, NlmF::empty()).text(SET_TABLE, NFT_TABLE)
}

/// Parses a set of our table. Returns its name, and true if it has the key length and flags that this
/// version gives it. `None` if the set belongs to another table.
pub fn read_set(body: &[u8]) -> Option<(String, bool)> {
    let attrs = Attrs::after(body, NFGEN);
    if body.first() != Some(&NFPROTO_INET) || attrs.text(SET_TABLE)? != NFT_TABLE {
        return None;
    }
    let name = attrs.text(SET_NAME)?;
    let number =
        |kind: u16| attrs.get(kind).and_then(|b| b.first_chunk()).map(|b| u32::from_be_bytes(*b));
    let known = Set::each().find(|(set, ipv4)| set.name(*ipv4) == name);
    let fits = known.is_some_and(|(set, ipv4)| {
        number(SET_KEY_LEN) == Some(key_len(set, ipv4))
            && number(SET_FLAGS).unwrap_or(0) & (INTERVAL | MAP)
                == set_flags(set) & (INTERVAL | MAP)
    });
    Some((name, fits))
}

/// Requests the elements of a set, to be parsed with [`read_elements`].
pub fn list_elements(set: Set, ipv4: bool) -> Request {
    request(GETSETELEM, NlmF::empty())
        .text(ELEM_LIST_TABLE, NFT_TABLE)
        .text(ELEM_LIST_SET, &set.name(ipv4))
}

/// A set element in the kernel's representation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RawElement {
    /// Big-endian fields, padded to four bytes in a concatenation.
    key: Vec<u8>,
    /// NFTA_SET_ELEM_KEY_END, the last key of a network in a concatenation.
    last: Option<Vec<u8>>,
    /// True if the key is the first one after a network.
    end: bool,
    /// The value of a map element; 0 in other sets.
    mark: u32,
}

/// Parses the elements in a message's body. An element without a key is skipped. `None` if there is no
/// list of elements.
pub fn read_elements(body: &[u8]) -> Option<Vec<RawElement>> {
    let list = Attrs::after(body, NFGEN).nest(ELEM_LIST_ELEMENTS)?;
    let raw = |(_, element): (u16, &[u8])| {
        let element = Attrs(element);
        let value = |kind: u16| element.nest(kind).and_then(|data| data.get(DATA_VALUE));
        let flags =
            element.get(ELEM_FLAGS).and_then(|b| b.first_chunk()).map(|b| u32::from_be_bytes(*b));
        let mark = value(ELEM_DATA).and_then(|b| b.first_chunk()).map(|b| u32::from_ne_bytes(*b));
        Some(RawElement {
            key: value(ELEM_KEY)?.to_vec(),
            last: value(ELEM_KEY_END).map(<[u8]>::to_vec),
            end: flags.unwrap_or(0) & INTERVAL_END != 0,
            mark: mark.unwrap_or(0),
        })
    };
    Some(list.into_iter().filter_map(raw).collect())
}

/// Converts all raw elements of a set to values. In an interval set, each start element is combined
/// with the next end element. An element that can't be converted is skipped.
pub fn values(set: Set, ipv4: bool, mut raw: Vec<RawElement>) -> Vec<SetElement> {
    if !set.is_interval() || set.key().len() > 1 {
        return raw.iter().filter_map(|raw| value(set, ipv4, raw)).collect();
    }
    raw.sort();
    let ends: Vec<&RawElement> = raw.iter().filter(|r| r.end).collect();
    let starts = raw.iter().filter(|r| !r.end);
    let net = |start: &RawElement| {
        let end = ends.get(ends.partition_point(|e| e.key <= start.key));
        network(&start.key, end.map(|e| previous_key(&e.key)).as_deref()).map(SetElement::Net)
    };
    starts.filter_map(net).collect()
}

/// Converts one raw element, except in interval sets with one field.
fn value(set: Set, ipv4: bool, raw: &RawElement) -> Option<SetElement> {
    if set.key() == [KeyPart::Port] {
        return Some(SetElement::Port { port: u16::from_be_bytes(*raw.key.first_chunk()?), ipv4 });
    }
    let addr_len = if ipv4 { 4 } else { 16 };
    let (addr, rest) = raw.key.split_at_checked(addr_len)?;
    let addr = addr_from_bytes(addr)?;
    if set.key().iter().all(|part| *part == KeyPart::Addr) {
        return Some(SetElement::Addr(addr));
    }
    let protocol = Protocol::from_number(*rest.first()?)?;
    let at =
        ServiceAddr { addr, protocol, port: u16::from_be_bytes(*rest.get(4..)?.first_chunk()?) };
    Some(match set {
        Set::Outside => SetElement::Marked { at, mark: raw.mark },
        Set::Ranges => {
            let last = raw.last.as_ref().and_then(|last| last.get(addr_len + 8..));
            SetElement::Ranged { at, from: network(rest.get(8..)?, last)? }
        }
        _ => SetElement::Service(at),
    })
}

/// Returns the network from the first to the last address. `last` is `None` for the end of the address
/// space. Returns `None` if the range is not a network.
fn network(first: &[u8], last: Option<&[u8]>) -> Option<IpNet> {
    let addr = addr_from_bytes(first)?;
    let bits = first.len() * 8;
    let last = last.map_or_else(|| vec![0xff; first.len()], <[u8]>::to_vec);
    (0..=bits).rev().find_map(|len| {
        let net = IpNet::new(addr, u8::try_from(len).ok()?).ok()?;
        let fits = net.network() == addr && addr_to_bytes(net.broadcast()) == last;
        fits.then_some(net)
    })
}

/// Returns the previous key; keys are big-endian numbers.
fn previous_key(key: &[u8]) -> Vec<u8> {
    step_key(key, |b| b.overflowing_sub(1))
}

/// Returns the next key; `None` if this is the last one.
fn next_key(key: &[u8]) -> Option<Vec<u8>> {
    if key.iter().all(|b| *b == 0xff) {
        None
    } else {
        Some(step_key(key, |b| b.overflowing_add(1)))
    }
}

/// Applies `by_one` to the last byte, and to each byte before it while there is a carry.
fn step_key(key: &[u8], by_one: impl Fn(u8) -> (u8, bool)) -> Vec<u8> {
    let mut key = key.to_vec();
    for byte in key.iter_mut().rev() {
        let (next, carry) = by_one(*byte);
        *byte = next;
        if !carry {
            break;
        }
    }
    key
}

/// Adds elements to the set of one family, [`ELEMENTS`] at most.
pub fn add_elements(set: Set, ipv4: bool, values: &[SetElement]) -> Request {
    elements(NEWSETELEM, NlmF::CREATE, set, ipv4, values)
}

/// Removes elements from the set of one family, [`ELEMENTS`] at most.
pub fn remove_elements(set: Set, ipv4: bool, values: &[SetElement]) -> Request {
    elements(DELSETELEM, NlmF::empty(), set, ipv4, values)
}

fn elements(message: u16, flags: NlmF, set: Set, ipv4: bool, values: &[SetElement]) -> Request {
    request(message, flags)
        .text(ELEM_LIST_TABLE, NFT_TABLE)
        .text(ELEM_LIST_SET, &set.name(ipv4))
        .nest(ELEM_LIST_ELEMENTS | NLA_F_NESTED, |list| {
            values.iter().flat_map(|value| raw_elements(set, value)).fold(list, |list, raw| {
                list.nest(LIST_ELEM | NLA_F_NESTED, |element| put(element, set, &raw))
            })
        })
}

/// Appends the attributes of one raw element.
fn put(mut element: Request, set: Set, raw: &RawElement) -> Request {
    if raw.end {
        element = element.attr(ELEM_FLAGS, &INTERVAL_END.to_be_bytes());
    }
    let data = |request: Request, kind: u16, bytes: &[u8]| {
        request.nest(kind | NLA_F_NESTED, |data| data.attr(DATA_VALUE, bytes))
    };
    element = data(element, ELEM_KEY, &raw.key);
    if let Some(last) = &raw.last {
        element = data(element, ELEM_KEY_END, last);
    }
    if set.is_map() {
        element = data(element, ELEM_DATA, &raw.mark.to_ne_bytes());
    }
    element
}

/// Converts a value to raw elements. A network in a set with one field becomes two elements: its first
/// key, and the first key after it unless it ends the address space.
fn raw_elements(set: Set, value: &SetElement) -> Vec<RawElement> {
    let one = |key, last, mark| vec![RawElement { key, last, end: false, mark }];
    match *value {
        SetElement::Service(at) => one(key_of(&at), None, 0),
        SetElement::Marked { at, mark } => one(key_of(&at), None, mark),
        SetElement::Port { port, .. } => one(port.to_be_bytes().to_vec(), None, 0),
        SetElement::Addr(addr) => one(addr_to_bytes(addr).repeat(set.key().len()), None, 0),
        SetElement::Ranged { at, from } => {
            let key = |addr| [key_of(&at), addr_to_bytes(addr)].concat();
            one(key(from.network()), Some(key(from.broadcast())), 0)
        }
        SetElement::Net(net) => {
            let mut raw = one(addr_to_bytes(net.network()), None, 0);
            let end = next_key(&addr_to_bytes(net.broadcast()));
            raw.extend(end.map(|key| RawElement { key, last: None, end: true, mark: 0 }));
            raw
        }
    }
}

/// Returns the key `address . protocol . port`, each field padded to four bytes.
fn key_of(at: &ServiceAddr) -> Vec<u8> {
    let mut key = addr_to_bytes(at.addr);
    key.extend([at.protocol.number(), 0, 0, 0]);
    key.extend(at.port.to_be_bytes());
    key.extend([0, 0]);
    key
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn every_kind_of_value_survives_encoding_in_both_families() {
        for (addr, net) in [("10.96.0.10", "10.244.1.0/24"), ("fd96::10", "fd44:1::/64")] {
            let addr: IpAddr = addr.parse().unwrap();
            let net: IpNet = net.parse().unwrap();
            let at = ServiceAddr { addr, protocol: Protocol::Sctp, port: 3868 };
            for (set, value) in [
                (Set::Services, SetElement::Service(at)),
                (Set::Outside, SetElement::Marked { at, mark: 0x4b1a_0001 }),
                (Set::Ranges, SetElement::Ranged { at, from: net }),
                (Set::Vips, SetElement::Addr(addr)),
                (Set::Loops, SetElement::Addr(addr)),
                (Set::OwnPods, SetElement::Net(net)),
                (Set::TcpPorts, SetElement::Port { port: 30080, ipv4: addr.is_ipv4() }),
            ] {
                let raw = raw_elements(set, &value);
                assert_eq!(values(set, value.is_ipv4(), raw), [value], "{set:?}");
            }
        }
    }

    #[test]
    fn adjacent_networks_and_the_last_network_survive_encoding() {
        let nets: Vec<SetElement> = ["10.244.0.0/24", "10.244.1.0/24", "255.0.0.0/8"]
            .iter()
            .map(|net| SetElement::Net(net.parse().unwrap()))
            .collect();
        let raw = nets.iter().flat_map(|net| raw_elements(Set::PodNets, net)).collect();
        assert_eq!(values(Set::PodNets, true, raw), nets);
    }
}
