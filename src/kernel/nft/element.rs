//! Elements of sets and maps in the kernel's representation, for any set of our table.

use neli::consts::nl::NlmF;

use super::header::{LIST_ELEM, NFGEN, request};
use crate::{
    model::nftables::NFT_TABLE,
    netlink::message::{Attrs, NLA_F_NESTED, Request},
};

// NFT_MSG_*
const NEWSETELEM: u16 = 12;
const GETSETELEM: u16 = 13;
const DELSETELEM: u16 = 14;

// NFTA_*
const ELEM_LIST_TABLE: u16 = 1;
const ELEM_LIST_SET: u16 = 2;
const ELEM_LIST_ELEMENTS: u16 = 3;
const ELEM_KEY: u16 = 1;
const ELEM_DATA: u16 = 2;
const ELEM_FLAGS: u16 = 3;
const ELEM_KEY_END: u16 = 10;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;

/// NFT_SET_ELEM_INTERVAL_END: the element is the first key after a network.
const INTERVAL_END: u32 = 1;

pub(super) const NF_DROP: u32 = 0;
pub(super) const NF_ACCEPT: u32 = 1;
const NFT_JUMP: u32 = -3i32 as u32;

/// A set element in the kernel's representation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawElement {
    /// Big-endian fields, padded to four bytes in a concatenation.
    pub(super) key: Vec<u8>,
    /// NFTA_SET_ELEM_KEY_END, the last key of a network in a concatenation.
    pub(super) last: Option<Vec<u8>>,
    /// True if the key is the first one after a network.
    pub(super) end: bool,
    /// The value of a map element; `None` in other sets.
    pub(super) data: Option<ElementData>,
}

/// The value of a map element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ElementData {
    /// A packet mark.
    Mark(u32),
    /// A verdict.
    Verdict(ElementVerdict),
}

/// The verdict in an element of a verdict map, or at the end of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ElementVerdict {
    /// Accepts the packet.
    Accept,
    /// Drops the packet.
    Drop,
    /// Jumps to the chain with this name.
    Jump(String),
}

impl RawElement {
    /// Creates an element from the fields of its key, each in network byte order.
    pub fn new(fields: &[&[u8]], data: Option<ElementData>) -> RawElement {
        let mut key = fields.concat();
        if fields.len() > 1 {
            key.clear();
            for field in fields {
                key.extend_from_slice(field);
                key.resize(key.len().next_multiple_of(4), 0);
            }
        }
        RawElement { key, last: None, end: false, data }
    }
}

/// Requests the elements of the set with this name, to be parsed with [`read_elements`].
pub fn list_elements(set: &str) -> Request {
    of_set(GETSETELEM, NlmF::empty(), set)
}

/// Adds elements to the set with this name, [`super::ELEMENTS`] at most.
pub fn add_raw_elements(set: &str, elements: &[RawElement]) -> Request {
    with_elements(of_set(NEWSETELEM, NlmF::CREATE, set), elements)
}

/// Removes elements from the set with this name, [`super::ELEMENTS`] at most.
pub fn remove_raw_elements(set: &str, elements: &[RawElement]) -> Request {
    with_elements(of_set(DELSETELEM, NlmF::empty(), set), elements)
}

fn of_set(message: u16, flags: NlmF, set: &str) -> Request {
    request(message, flags).text(ELEM_LIST_TABLE, NFT_TABLE).text(ELEM_LIST_SET, set)
}

fn with_elements(request: Request, elements: &[RawElement]) -> Request {
    request.nest(ELEM_LIST_ELEMENTS | NLA_F_NESTED, |list| {
        elements.iter().fold(list, |list, raw| {
            list.nest(LIST_ELEM | NLA_F_NESTED, |element| put(element, raw))
        })
    })
}

/// Appends the attributes of one raw element.
fn put(mut element: Request, raw: &RawElement) -> Request {
    if raw.end {
        element = element.attr(ELEM_FLAGS, &INTERVAL_END.to_be_bytes());
    }
    let value = |request: Request, kind: u16, bytes: &[u8]| {
        request.nest(kind | NLA_F_NESTED, |data| data.attr(DATA_VALUE, bytes))
    };
    element = value(element, ELEM_KEY, &raw.key);
    if let Some(last) = &raw.last {
        element = value(element, ELEM_KEY_END, last);
    }
    match &raw.data {
        None => element,
        Some(ElementData::Mark(mark)) => value(element, ELEM_DATA, &mark.to_ne_bytes()),
        Some(ElementData::Verdict(verdict)) => {
            element.nest(ELEM_DATA | NLA_F_NESTED, |data| put_verdict(data, verdict))
        }
    }
}

/// Appends a verdict as data (NFTA_DATA_VERDICT).
pub(super) fn put_verdict(data: Request, verdict: &ElementVerdict) -> Request {
    let (code, chain) = match verdict {
        ElementVerdict::Accept => (NF_ACCEPT, None),
        ElementVerdict::Drop => (NF_DROP, None),
        ElementVerdict::Jump(chain) => (NFT_JUMP, Some(chain)),
    };
    data.nest(DATA_VERDICT | NLA_F_NESTED, |v| {
        let v = v.attr(VERDICT_CODE, &code.to_be_bytes());
        match chain {
            None => v,
            Some(chain) => v.text(VERDICT_CHAIN, chain),
        }
    })
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
        Some(RawElement {
            key: value(ELEM_KEY)?.to_vec(),
            last: value(ELEM_KEY_END).map(<[u8]>::to_vec),
            end: flags.unwrap_or(0) & INTERVAL_END != 0,
            data: element.nest(ELEM_DATA).and_then(read_data),
        })
    };
    Some(list.into_iter().filter_map(raw).collect())
}

/// Parses the value of a map element; `None` if it is neither a mark nor a verdict of
/// [`ElementVerdict`].
fn read_data(data: Attrs<'_>) -> Option<ElementData> {
    let Some(verdict) = data.nest(DATA_VERDICT) else {
        let mark = data.get(DATA_VALUE)?.first_chunk()?;
        return Some(ElementData::Mark(u32::from_ne_bytes(*mark)));
    };
    let code = u32::from_be_bytes(*verdict.get(VERDICT_CODE)?.first_chunk()?);
    Some(ElementData::Verdict(match code {
        NF_ACCEPT => ElementVerdict::Accept,
        NF_DROP => ElementVerdict::Drop,
        NFT_JUMP => ElementVerdict::Jump(verdict.text(VERDICT_CHAIN)?),
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the bytes of a request after its netlink header.
    fn body(request: &Request) -> Vec<u8> {
        let mut bytes = Vec::new();
        request.write(1, 0, &mut bytes);
        bytes.split_off(16)
    }

    #[test]
    fn each_kind_of_map_value_survives_encoding() {
        let key: &[&[u8]] = &[&[10, 244, 1, 2], &[6], &8080u16.to_be_bytes()];
        let jump = ElementVerdict::Jump("run-web".into());
        let verdicts = [ElementVerdict::Accept, ElementVerdict::Drop, jump];
        let data = verdicts.map(|verdict| Some(ElementData::Verdict(verdict)));
        for data in data.into_iter().chain([None, Some(ElementData::Mark(0x4b1a_0001))]) {
            let elements = [RawElement::new(key, data)];
            assert_eq!(elements[0].key, [10, 244, 1, 2, 6, 0, 0, 0, 0x1f, 0x90, 0, 0]);
            let request = add_raw_elements("run-web", &elements);
            assert_eq!(read_elements(&body(&request)), Some(elements.to_vec()));
        }
        assert_eq!(
            RawElement::new(&[&[0x1f, 0x90]], None).key,
            [0x1f, 0x90],
            "one field, unpadded"
        );
    }

    /// Returns a netlink attribute, padded to four bytes.
    fn nla(kind: u16, payload: &[u8]) -> Vec<u8> {
        let len = (payload.len() as u16 + 4).to_ne_bytes();
        let mut attr = [&len[..], &kind.to_ne_bytes(), payload].concat();
        attr.resize(attr.len().next_multiple_of(4), 0);
        attr
    }

    #[test]
    fn an_element_of_a_verdict_map_has_the_attributes_of_nf_tables_h() {
        let jump = ElementData::Verdict(ElementVerdict::Jump("run-a".into()));
        let request = add_raw_elements("run-m", &[RawElement::new(&[&[10, 0, 0, 1]], Some(jump))]);
        let verdict = [nla(1, &(-3i32).to_be_bytes()), nla(2, b"run-a\0")].concat();
        let element =
            [nla(0x8001, &nla(1, &[10, 0, 0, 1])), nla(0x8002, &nla(0x8002, &verdict))].concat();
        let want = [
            vec![1, 0, 0, 0], // struct nfgenmsg
            nla(1, b"kinglet\0"),
            nla(2, b"run-m\0"),
            nla(0x8003, &nla(0x8001, &element)),
        ];
        assert_eq!(body(&request), want.concat());
    }
}
