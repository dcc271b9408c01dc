//! Our one nftables table and the elements of its sets, by nfnetlink (linux/netfilter/nf_tables.h).
//!
//! Pure messages and readings. Every number is big endian here. Changes travel between two brackets
//! and take effect together or not at all.

use neli::consts::nl::NlmF;

use super::message::{Attrs, NLA_F_NESTED, Request};
use crate::state::{NFT_TABLE, Protocol, Set, Virtual, addr_from_bytes, addr_to_bytes};

const NFPROTO_INET: u8 = 1;
/// NFNL_SUBSYS_NFTABLES, shifted to where a message's type has it.
const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

// NFT_MSG_*
const NEWTABLE: u16 = 0;
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
const SET_DESC: u16 = 9;
const SET_ID: u16 = 10;
const SET_USERDATA: u16 = 13;
const SET_DESC_CONCAT: u16 = 2;
const SET_FIELD_LEN: u16 = 1;
const ELEM_LIST_TABLE: u16 = 1;
const ELEM_LIST_SET: u16 = 2;
const ELEM_LIST_ELEMENTS: u16 = 3;
const LIST_ELEM: u16 = 1;
const ELEM_KEY: u16 = 1;
const DATA_VALUE: u16 = 1;

/// NFT_SET_CONCAT (linux 5.6): the key is made of several fields.
const NFT_SET_CONCAT: u32 = 0x80;
/// nft's own numbers of the types ipv4_addr, ipv6_addr, inet_proto and inet_service, six bits each
/// in a concatenation: how `nft list` knows what the keys mean.
const TYPE_IPV4: u32 = 7;
const TYPE_IPV6: u32 = 8;
const TYPE_PROTO: u32 = 12;
const TYPE_SERVICE: u32 = 13;

/// struct nfgenmsg { u8 family; u8 version; be16 res_id; }
const NFGEN: usize = 4;
/// Elements in one message: an attribute can't be longer than 64 KiB.
pub const ELEMENTS: usize = 1000;

fn request(message: u16, flags: NlmF) -> Request {
    Request::new(SUBSYSTEM | message, flags, &[NFPROTO_INET, 0, 0, 0])
}

fn bracket(kind: u16) -> Request {
    // res_id names the subsystem, in network order.
    Request::new(kind, NlmF::empty(), &[0, 0, 0, 10])
}

/// Opens a transaction.
pub fn begin() -> Request {
    bracket(BATCH_BEGIN)
}

/// Closes a transaction.
pub fn end() -> Request {
    bracket(BATCH_END)
}

/// Makes the table and its sets where they are not there.
pub fn add_skeleton() -> Vec<Request> {
    let mut requests = vec![request(NEWTABLE, NlmF::CREATE).text(TABLE_NAME, NFT_TABLE)];
    // For `nft list`: NFTNL_UDATA_SET_KEYBYTEORDER, length 4, BYTEORDER_BIG_ENDIAN.
    let mut byteorder = vec![0, 4];
    byteorder.extend(2u32.to_ne_bytes());
    for (id, ipv4) in [(1u32, true), (2, false)] {
        let (addr, len) = if ipv4 { (TYPE_IPV4, 4u32) } else { (TYPE_IPV6, 16) };
        let key = (addr << 6 | TYPE_PROTO) << 6 | TYPE_SERVICE;
        requests.push(
            request(NEWSET, NlmF::CREATE)
                .text(SET_TABLE, NFT_TABLE)
                .text(SET_NAME, &set_name(Set::Services, ipv4))
                .attr(SET_FLAGS, &NFT_SET_CONCAT.to_be_bytes())
                .attr(SET_KEY_TYPE, &key.to_be_bytes())
                .attr(SET_KEY_LEN, &(len + 8).to_be_bytes())
                .attr(SET_ID, &id.to_be_bytes())
                .nest(SET_DESC | NLA_F_NESTED, |desc| {
                    desc.nest(SET_DESC_CONCAT | NLA_F_NESTED, |fields| {
                        [len, 1, 2].iter().fold(fields, |fields, len| {
                            fields.nest(LIST_ELEM | NLA_F_NESTED, |field| {
                                field.attr(SET_FIELD_LEN, &len.to_be_bytes())
                            })
                        })
                    })
                })
                .attr(SET_USERDATA, &byteorder),
        );
    }
    requests
}

/// The sets of the family's tables, to be read with [`read_set`].
pub fn list_sets() -> Request {
    request(GETSET, NlmF::empty()).text(SET_TABLE, NFT_TABLE)
}

/// The name of a set of our table.
pub fn read_set(body: &[u8]) -> Option<String> {
    let attrs = Attrs::after(body, NFGEN);
    if body.first() != Some(&NFPROTO_INET) || attrs.text(SET_TABLE)? != NFT_TABLE {
        return None;
    }
    attrs.text(SET_NAME)
}

/// The elements of a set, to be read with [`read_elements`].
pub fn list_elements(set: Set, ipv4: bool) -> Request {
    request(GETSETELEM, NlmF::empty())
        .text(ELEM_LIST_TABLE, NFT_TABLE)
        .text(ELEM_LIST_SET, &set_name(set, ipv4))
}

/// The elements in one message's body.
pub fn read_elements(body: &[u8]) -> Option<Vec<Virtual>> {
    let list = Attrs::after(body, NFGEN).nest(ELEM_LIST_ELEMENTS)?;
    let keys = list
        .into_iter()
        .filter_map(|(_, element)| read_key(Attrs(element).nest(ELEM_KEY)?.get(DATA_VALUE)?));
    Some(keys.collect())
}

/// Adds elements of one set and family, [`ELEMENTS`] at most.
pub fn add_elements(set: Set, ipv4: bool, values: &[Virtual]) -> Request {
    elements(NEWSETELEM, NlmF::CREATE, set, ipv4, values)
}

/// Takes elements of one set and family away, [`ELEMENTS`] at most.
pub fn remove_elements(set: Set, ipv4: bool, values: &[Virtual]) -> Request {
    elements(DELSETELEM, NlmF::empty(), set, ipv4, values)
}

fn elements(message: u16, flags: NlmF, set: Set, ipv4: bool, values: &[Virtual]) -> Request {
    request(message, flags)
        .text(ELEM_LIST_TABLE, NFT_TABLE)
        .text(ELEM_LIST_SET, &set_name(set, ipv4))
        .nest(ELEM_LIST_ELEMENTS | NLA_F_NESTED, |list| {
            values.iter().fold(list, |list, value| {
                list.nest(LIST_ELEM | NLA_F_NESTED, |element| {
                    element.nest(ELEM_KEY | NLA_F_NESTED, |key| {
                        key.attr(DATA_VALUE, &write_key(value))
                    })
                })
            })
        })
}

/// The set's name in the kernel.
pub fn set_name(set: Set, ipv4: bool) -> String {
    format!("{}{}", set.as_str(), if ipv4 { 4 } else { 6 })
}

/// address . protocol . port, each padded to four bytes.
fn write_key(value: &Virtual) -> Vec<u8> {
    let mut key = addr_to_bytes(value.addr);
    key.extend([value.protocol.number(), 0, 0, 0]);
    key.extend(value.port.to_be_bytes());
    key.extend([0, 0]);
    key
}

fn read_key(key: &[u8]) -> Option<Virtual> {
    let (addr, rest) = key.split_at_checked(key.len().checked_sub(8)?)?;
    Some(Virtual {
        addr: addr_from_bytes(addr)?,
        protocol: Protocol::from_number(rest[0])?,
        port: u16::from_be_bytes([rest[4], rest[5]]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_in_both_families() {
        for addr in ["10.96.0.10", "fd96::10"] {
            let value =
                Virtual { addr: addr.parse().unwrap(), protocol: Protocol::Sctp, port: 3868 };
            assert_eq!(read_key(&write_key(&value)), Some(value));
        }
        assert_eq!(read_key(&[1, 2, 3]), None);
    }
}
