//! Messages for our table and its sets, and the conversion of [`SetElement`]s for the sets of the
//! skeleton.

use std::net::IpAddr;

use ipnet::IpNet;
use neli::consts::nl::NlmF;

use super::{
    element::{ElementData, RawElement, add_raw_elements, remove_raw_elements},
    header::{LIST_ELEM, NFGEN, NFPROTO_INET, be32, request},
};
use crate::{
    collections::FlatSet,
    family::Family,
    model::{
        items::{Protocol, ServiceAddr, SetElement, addr_from_bytes, addr_to_bytes},
        nftables::{KeyPart, MapData, NFT_TABLE, Set, SetSpec},
    },
    netlink::message::{Attrs, NLA_F_NESTED, Request},
};

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

// NFT_MSG_*
const NEWTABLE: u16 = 0;
const DELTABLE: u16 = 2;
const NEWSET: u16 = 9;
const GETSET: u16 = 10;
const DELSET: u16 = 11;

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

// NFT_SET_*
const INTERVAL: u32 = 0x4;
const MAP: u32 = 0x8;
const TIMEOUT: u32 = 0x10;
const CONCAT: u32 = 0x80; // linux 5.6
/// The flags that tell one kind of set from another. The flag CONCAT depends on the version of nft.
const COMPARED: u32 = INTERVAL | MAP | TIMEOUT;

// Data type numbers of the nft program, six bits each in a concatenation. `nft list` prints keys by
// them.
const TYPE_IPV4: u32 = 7;
const TYPE_IPV6: u32 = 8;
const TYPE_PROTO: u32 = 12;
const TYPE_SERVICE: u32 = 13;
const TYPE_MARK: u32 = 19;
/// NFT_DATA_VERDICT, the data type of verdict maps.
const TYPE_VERDICT: u32 = 0xffff_ff00;

/// The maximum number of elements in one message, because an attribute can't exceed 64 KiB.
pub const ELEMENTS: usize = 500;

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

/// Adds all sets of the skeleton; succeeds if they already exist.
pub fn add_sets() -> Vec<Request> {
    Set::each().zip(1u32..).map(|((set, family), id)| add_set(&set.spec(family), id)).collect()
}

/// Adds a set or a map; succeeds if it already exists with the same properties. Messages of the same
/// transaction can name it by `id`, a number that is unique there.
pub fn add_set(set: &SetSpec, id: u32) -> Request {
    let kind = |part: &KeyPart| match (part, set.family) {
        (KeyPart::Addr, Family::Ipv4) => (TYPE_IPV4, 4u32),
        (KeyPart::Addr, Family::Ipv6) => (TYPE_IPV6, 16),
        (KeyPart::Protocol, _) => (TYPE_PROTO, 1),
        (KeyPart::Port, _) => (TYPE_SERVICE, 2),
    };
    let kinds: Vec<(u32, u32)> = set.key.iter().map(kind).collect();
    let key_type = kinds.iter().fold(0, |all, (kind, _)| all << 6 | kind);
    let mut request = request(NEWSET, NlmF::CREATE)
        .text(SET_TABLE, NFT_TABLE)
        .text(SET_NAME, &set.name)
        .attr(SET_FLAGS, &set_flags(set).to_be_bytes())
        .attr(SET_KEY_TYPE, &key_type.to_be_bytes())
        .attr(SET_KEY_LEN, &key_len(set).to_be_bytes())
        .attr(SET_ID, &id.to_be_bytes());
    match set.data {
        None => {}
        Some(MapData::Mark) => {
            request = request
                .attr(SET_DATA_TYPE, &TYPE_MARK.to_be_bytes())
                .attr(SET_DATA_LEN, &4u32.to_be_bytes());
        }
        Some(MapData::Verdict) => {
            request = request.attr(SET_DATA_TYPE, &TYPE_VERDICT.to_be_bytes());
        }
    }
    if kinds.len() > 1 {
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
    if set.data == Some(MapData::Mark) {
        byteorder.extend([1, 4]);
        byteorder.extend(1u32.to_ne_bytes());
    }
    request.attr(SET_USERDATA, &byteorder)
}

/// Removes a set or a map with its elements. Fails if a rule uses it.
pub fn remove_set(name: &str) -> Request {
    request(DELSET, NlmF::empty()).text(SET_TABLE, NFT_TABLE).text(SET_NAME, name)
}

/// Returns the NFT_SET_* flags of a set.
fn set_flags(set: &SetSpec) -> u32 {
    [
        (set.interval, INTERVAL),
        (set.data.is_some(), MAP),
        (set.timeout, TIMEOUT),
        (set.key.len() > 1, CONCAT),
    ]
    .iter()
    .filter(|(applies, _)| *applies)
    .fold(0, |all, (_, flag)| all | flag)
}

/// Returns the length of the set's keys in bytes.
fn key_len(set: &SetSpec) -> u32 {
    let len = |part: &KeyPart| match (part, set.family) {
        (KeyPart::Addr, Family::Ipv6) => 16,
        (KeyPart::Addr, Family::Ipv4) | (KeyPart::Protocol | KeyPart::Port, _) => 4,
    };
    match *set.key {
        // Only the fields of a concatenation are padded to 4 bytes.
        [KeyPart::Port] => 2,
        [KeyPart::Protocol] => 1,
        ref parts => parts.iter().map(len).sum(),
    }
}

/// Requests the sets of our table, to be parsed with [`read_set`].
pub fn list_sets() -> Request {
    request(GETSET, NlmF::empty()).text(SET_TABLE, NFT_TABLE)
}

/// A set as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundSet {
    /// Its name.
    pub name: String,
    key_len: u32,
    flags: u32,
    has_verdicts: bool,
}

impl FoundSet {
    /// Returns true if it is this set: if it has the same name, key length, flags and kind of values.
    pub fn is(&self, set: &SetSpec) -> bool {
        self.name == set.name
            && self.key_len == key_len(set)
            && self.flags & COMPARED == set_flags(set) & COMPARED
            && self.has_verdicts == (set.data == Some(MapData::Verdict))
    }
}

/// Parses a set of our table; `None` if the set belongs to another table.
pub fn read_set(body: &[u8]) -> Option<FoundSet> {
    let attrs = Attrs::after(body, NFGEN);
    if body.first() != Some(&NFPROTO_INET) || attrs.text(SET_TABLE)? != NFT_TABLE {
        return None;
    }
    Some(FoundSet {
        name: attrs.text(SET_NAME)?,
        key_len: be32(attrs, SET_KEY_LEN).unwrap_or(0),
        flags: be32(attrs, SET_FLAGS).unwrap_or(0),
        has_verdicts: be32(attrs, SET_DATA_TYPE) == Some(TYPE_VERDICT),
    })
}

/// Converts all raw elements of a set to values. In an interval set, each start element is combined
/// with the next end element. An element that can't be converted is skipped.
pub fn values(set: Set, family: Family, raw: &[RawElement]) -> Vec<SetElement> {
    if !set.is_interval() || set.key().len() > 1 {
        return raw.iter().filter_map(|raw| value(set, family, raw)).collect();
    }
    let ends: FlatSet<IpAddr> =
        raw.iter().filter(|r| r.end).filter_map(|r| addr_from_bytes(&r.key)).collect();
    let net = |start: &RawElement| {
        let first = addr_from_bytes(&start.key)?;
        // The end of the network before can be the same address.
        let end = ends.tail(&first).iter().find(|end| **end != first);
        let last = end.map(|end| previous_key(&addr_to_bytes(*end)));
        network(&start.key, last.as_deref()).map(SetElement::Net)
    };
    raw.iter().filter(|r| !r.end).filter_map(net).collect()
}

/// Converts one raw element, except in interval sets with one field.
fn value(set: Set, family: Family, raw: &RawElement) -> Option<SetElement> {
    if set.key() == [KeyPart::Port] {
        return Some(SetElement::port(u16::from_be_bytes(*raw.key.first_chunk()?), family));
    }
    let addr_len = match family {
        Family::Ipv4 => 4,
        Family::Ipv6 => 16,
    };
    let (addr, rest) = raw.key.split_at_checked(addr_len)?;
    let addr = addr_from_bytes(addr)?;
    if set.key().iter().all(|part| *part == KeyPart::Addr) {
        return Some(SetElement::Addr(addr));
    }
    let protocol = Protocol::from_number(*rest.first()?)?;
    let at =
        ServiceAddr { addr, protocol, port: u16::from_be_bytes(*rest.get(4..)?.first_chunk()?) };
    if set.is_map() {
        let Some(ElementData::Mark(mark)) = raw.data else { return None };
        return Some(SetElement::Marked { at, mark });
    }
    if set.is_interval() {
        let last = raw.last.as_ref().and_then(|last| last.get(addr_len + 8..));
        return Some(SetElement::Ranged { at, from: network(rest.get(8..)?, last)? });
    }
    Some(SetElement::Service(at))
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
pub fn add_elements(set: Set, family: Family, values: &[SetElement]) -> Request {
    add_raw_elements(&set.name(family), &all_raw(set, values))
}

/// Removes elements from the set of one family, [`ELEMENTS`] at most.
pub fn remove_elements(set: Set, family: Family, values: &[SetElement]) -> Request {
    remove_raw_elements(&set.name(family), &all_raw(set, values))
}

fn all_raw(set: Set, values: &[SetElement]) -> Vec<RawElement> {
    let mut raw = Vec::with_capacity(values.len());
    values.iter().for_each(|value| push_raw(set, value, &mut raw));
    raw
}

/// Converts a value to raw elements. A network in a set with one field becomes two elements: its first
/// key, and the first key after it unless it ends the address space.
fn push_raw(set: Set, value: &SetElement, raw: &mut Vec<RawElement>) {
    let (mut last, mut data) = (None, None);
    let key = match *value {
        SetElement::Service(at) => key_of(&at),
        SetElement::Marked { at, mark } => {
            data = Some(ElementData::Mark(mark));
            key_of(&at)
        }
        SetElement::Port { port, .. } => port.to_be_bytes().to_vec(),
        SetElement::Addr(addr) => addr_to_bytes(addr).repeat(set.key().len()),
        SetElement::Ranged { at, from } => {
            let key = |addr| [key_of(&at), addr_to_bytes(addr)].concat();
            last = Some(key(from.broadcast()));
            key(from.network())
        }
        SetElement::Net(net) => addr_to_bytes(net.network()),
    };
    raw.push(RawElement { key, last, end: false, data });
    if let SetElement::Net(net) = value
        && let Some(key) = next_key(&addr_to_bytes(net.broadcast()))
    {
        raw.push(RawElement { key, last: None, end: true, data: None });
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
    use super::*;
    use crate::kernel::nft::header::SUBSYSTEM;

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
                (Set::TcpPorts, SetElement::port(30080, Family::of_addr(&addr))),
            ] {
                let raw = all_raw(set, &[value]);
                assert_eq!(values(set, value.family(), &raw), [value], "{set:?}");
            }
        }
    }

    fn runtime(name: &'static str, key: &[KeyPart], data: Option<MapData>) -> SetSpec {
        SetSpec {
            name: name.into(),
            family: Family::Ipv6,
            key: key.to_vec().into(),
            interval: false,
            timeout: false,
            data,
        }
    }

    /// Returns the attributes of a set after the nfgenmsg, without its name.
    fn attributes(set: &SetSpec) -> Vec<(u16, Vec<u8>)> {
        let mut bytes = Vec::new();
        add_set(set, 7).write(1, 0, &mut bytes);
        assert_eq!(bytes[4..6], (SUBSYSTEM | NEWSET).to_ne_bytes());
        let attrs = Attrs::after(&bytes[16..], NFGEN);
        let is_named = attrs.text(SET_TABLE).unwrap() == NFT_TABLE;
        assert!(is_named && attrs.text(SET_NAME).unwrap() == set.name);
        let attrs = attrs.into_iter().filter(|(kind, _)| ![SET_TABLE, SET_NAME].contains(kind));
        attrs.map(|(kind, value)| (kind & !NLA_F_NESTED, value.to_vec())).collect()
    }

    #[test]
    fn a_verdict_map_has_the_attributes_of_nf_tables_h() {
        use KeyPart::{Addr, Port, Protocol};
        let map = runtime("run-web6", &[Addr, Protocol, Port], Some(MapData::Verdict));
        let be = |n: u32| n.to_be_bytes().to_vec();
        let field = |len: u32| [&[12, 0, 1, 0x80, 8, 0, 1, 0][..], &len.to_be_bytes()].concat();
        let fields = [16, 1, 2].map(field).concat();
        assert_eq!(
            attributes(&map),
            [
                (3, be(0x88)),                   // map, concatenation
                (4, be(8 << 12 | 12 << 6 | 13)), // ipv6_addr . inet_proto . inet_service
                (5, be(24)),                     // bytes of a key
                (10, be(7)),                     // id
                (6, be(0xffff_ff00)),            // verdicts
                (9, [&[40, 0, 2, 0x80][..], &fields].concat()),
                (13, vec![0, 4, 2, 0, 0, 0]), // keys are big-endian
            ]
        );
    }

    #[test]
    fn a_set_that_expires_or_holds_networks_has_the_flags_for_it() {
        let mut set = runtime("run-nets6", &[KeyPart::Addr], None);
        let flags = |set: &SetSpec| attributes(set)[0].1.clone();
        assert_eq!(flags(&set), [0, 0, 0, 0]);
        set.interval = true;
        assert_eq!(flags(&set), [0, 0, 0, 0x04]);
        set.timeout = true;
        assert_eq!(flags(&set), [0, 0, 0, 0x14]);
        assert_eq!(set.declaration(), "type ipv6_addr; flags interval,timeout;");
        set.data = Some(MapData::Verdict);
        assert_eq!(flags(&set), [0, 0, 0, 0x1c]);
        assert_eq!(
            (set.noun(), &*set.declaration()),
            ("map", "type ipv6_addr : verdict; flags interval,timeout;")
        );
    }

    #[test]
    fn a_set_is_recognised_by_its_name_keys_flags_and_values() {
        let set = runtime("run-a6", &[KeyPart::Addr], None);
        let found = |set: &SetSpec| {
            let mut bytes = Vec::new();
            add_set(set, 1).write(1, 0, &mut bytes);
            read_set(&bytes[16..]).unwrap()
        };
        assert!(found(&set).is(&set));
        for other in [
            runtime("run-b6", &[KeyPart::Addr], None),
            runtime("run-a6", &[KeyPart::Addr, KeyPart::Port], None),
            runtime("run-a6", &[KeyPart::Addr], Some(MapData::Mark)),
            SetSpec { family: Family::Ipv4, ..set.clone() },
            SetSpec { interval: true, ..set.clone() },
            SetSpec { timeout: true, ..set.clone() },
        ] {
            assert!(!found(&other).is(&set), "{other:?}");
        }
        let [marks, verdicts] = [MapData::Mark, MapData::Verdict]
            .map(|data| runtime("run-a6", &[KeyPart::Addr], Some(data)));
        assert!(!found(&marks).is(&verdicts) && !found(&verdicts).is(&marks));
    }

    #[test]
    fn adjacent_networks_and_the_last_network_survive_encoding() {
        let nets: Vec<SetElement> = ["10.244.0.0/24", "10.244.1.0/24", "255.0.0.0/8"]
            .iter()
            .map(|net| SetElement::Net(net.parse().unwrap()))
            .collect();
        let raw = all_raw(Set::PodNets, &nets);
        assert_eq!(values(Set::PodNets, Family::Ipv4, &raw), nets);
    }
}
