//! The content of an UPDATE message.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{bgp::attribute::Attributes, family::Family};

/// An UPDATE message (RFC 4271 section 4.3, RFC 4760).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// Withdrawn networks of all families, including those treated as withdrawn because of an error
    /// (RFC 7606).
    pub withdrawn: Vec<IpNet>,
    /// Advertised networks with their next hop: at most one element for each family.
    pub reach: Vec<Reach>,
    /// The path attributes of all networks in `reach`.
    pub attributes: Attributes,
    /// The family if this is an End-of-RIB: the peer has sent all of its initial routes (RFC 4724 section
    /// 2). `None` otherwise.
    pub end_of_rib: Option<Family>,
    /// Descriptions of errors that did not reset the session, for the log.
    pub faults: Vec<String>,
}

/// Networks that are reachable through one next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The next hop, of the family of `nets`.
    pub next_hop: IpAddr,
    /// The networks.
    pub nets: Vec<IpNet>,
}
