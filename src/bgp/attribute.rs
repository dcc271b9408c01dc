//! Path attributes (RFC 4271 section 5), and what a broken one costs (RFC 7606).

use std::net::Ipv4Addr;

/// What is said of a path. The next hop stands beside the routes that it is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attributes {
    /// Where it comes from.
    pub origin: Origin,
    /// The ASes that it passed, the nearest first.
    pub path: Vec<Segment>,
    /// MULTI_EXIT_DISC: the lower the better, among paths by way of the same AS.
    pub med: Option<u32>,
    /// LOCAL_PREF: the higher the better.
    pub local_pref: Option<u32>,
    /// ATOMIC_AGGREGATE.
    pub atomic: bool,
    /// AGGREGATOR: the AS and router that made one route of several.
    pub aggregator: Option<(u32, Ipv4Addr)>,
    /// COMMUNITIES (RFC 1997), sorted.
    pub communities: Vec<u32>,
    /// ORIGINATOR_ID (RFC 4456).
    pub originator: Option<Ipv4Addr>,
    /// CLUSTER_LIST (RFC 4456), the nearest first.
    pub clusters: Vec<Ipv4Addr>,
    /// Optional transitive ones that mean nothing here and are passed on, by their type.
    pub others: Vec<Other>,
}

/// ORIGIN; the lower the better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// From within an AS.
    #[default]
    Igp,
    /// By EGP.
    Egp,
    /// Otherwise.
    Incomplete,
}

/// A part of an AS_PATH.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Segment {
    /// AS_SEQUENCE: one after another.
    Sequence(Vec<u32>),
    /// AS_SET: in no order; counts as one.
    Set(Vec<u32>),
    /// AS_CONFED_SEQUENCE or AS_CONFED_SET (RFC 5065): counts as nothing. True: a sequence.
    Confederation(bool, Vec<u32>),
}

/// An attribute that is only passed on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Other {
    /// Its type code.
    pub code: u8,
    /// Its flags as they came, without the one for an extended length.
    pub flags: u8,
    /// Its value.
    pub value: Box<[u8]>,
}
