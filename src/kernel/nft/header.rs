//! The header of nftables messages, and what all of them share (linux/netfilter/nf_tables.h).

use neli::consts::nl::NlmF;

use crate::netlink::message::{Attrs, Request};

/// NFTA_LIST_ELEM
pub(super) const LIST_ELEM: u16 = 1;
/// struct nfgenmsg { u8 family; u8 version; be16 res_id; }
pub(crate) const NFGEN: usize = 4;
/// NFNL_SUBSYS_NFTABLES in the upper byte of a message's type.
pub(crate) const SUBSYSTEM: u16 = 10 << 8;
pub(super) const NFPROTO_INET: u8 = 1;

/// Returns a big-endian number of four bytes; `None` if the attribute is missing or too short.
pub(super) fn be32(attrs: Attrs<'_>, kind: u16) -> Option<u32> {
    attrs.get(kind)?.first_chunk().map(|b| u32::from_be_bytes(*b))
}

/// Returns a request about our table's family.
pub(super) fn request(message: u16, flags: NlmF) -> Request {
    Request::new(SUBSYSTEM | message, flags, &[NFPROTO_INET, 0, 0, 0])
}
