//! The type codes, flags and names of path attributes (RFC 4271 section 4.3, and the IANA registry of BGP
//! path attributes).

pub(super) const OPTIONAL: u8 = 0x80;
pub(super) const TRANSITIVE: u8 = 0x40;
pub(super) const PARTIAL: u8 = 0x20;
pub(super) const EXTENDED_LENGTH: u8 = 0x10;

pub(super) const ORIGIN: u8 = 1;
pub(super) const AS_PATH: u8 = 2;
pub(super) const NEXT_HOP: u8 = 3;
pub(super) const MULTI_EXIT_DISC: u8 = 4;
pub(super) const LOCAL_PREF: u8 = 5;
pub(super) const ATOMIC_AGGREGATE: u8 = 6;
pub(super) const AGGREGATOR: u8 = 7;
pub(super) const COMMUNITIES: u8 = 8;
pub(super) const ORIGINATOR_ID: u8 = 9;
pub(super) const CLUSTER_LIST: u8 = 10;
pub(super) const MP_REACH_NLRI: u8 = 14;
pub(super) const MP_UNREACH_NLRI: u8 = 15;
pub(super) const EXTENDED_COMMUNITIES: u8 = 16;
pub(super) const AS4_PATH: u8 = 17;
pub(super) const AS4_AGGREGATOR: u8 = 18;
pub(super) const IPV6_EXTENDED_COMMUNITIES: u8 = 25;
pub(crate) const LARGE_COMMUNITY: u8 = 32;

/// Returns the flags and the name of a recognized attribute, including those that are only passed on;
/// `None` if the type code is not recognized.
pub(super) fn flags_and_name(code: u8) -> Option<(u8, &'static str)> {
    const BOTH: u8 = OPTIONAL | TRANSITIVE;
    Some(match code {
        ORIGIN => (TRANSITIVE, "ORIGIN"),
        AS_PATH => (TRANSITIVE, "AS_PATH"),
        NEXT_HOP => (TRANSITIVE, "NEXT_HOP"),
        MULTI_EXIT_DISC => (OPTIONAL, "MULTI_EXIT_DISC"),
        LOCAL_PREF => (TRANSITIVE, "LOCAL_PREF"),
        ATOMIC_AGGREGATE => (TRANSITIVE, "ATOMIC_AGGREGATE"),
        AGGREGATOR => (BOTH, "AGGREGATOR"),
        COMMUNITIES => (BOTH, "COMMUNITIES"),
        ORIGINATOR_ID => (OPTIONAL, "ORIGINATOR_ID"),
        CLUSTER_LIST => (OPTIONAL, "CLUSTER_LIST"),
        MP_REACH_NLRI => (OPTIONAL, "MP_REACH_NLRI"),
        MP_UNREACH_NLRI => (OPTIONAL, "MP_UNREACH_NLRI"),
        EXTENDED_COMMUNITIES => (BOTH, "EXTENDED COMMUNITIES"),
        AS4_PATH => (BOTH, "AS4_PATH"),
        AS4_AGGREGATOR => (BOTH, "AS4_AGGREGATOR"),
        IPV6_EXTENDED_COMMUNITIES => (BOTH, "IPv6 EXTENDED COMMUNITIES"),
        LARGE_COMMUNITY => (BOTH, "LARGE_COMMUNITY"),
        _ => return None,
    })
}

/// Returns true if an attribute of this type contains routes.
pub(super) fn has_routes(code: u8) -> bool {
    matches!(code, MP_REACH_NLRI | MP_UNREACH_NLRI)
}
