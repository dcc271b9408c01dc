//! The messages of BGP (RFC 4271 section 4), read from bytes and written to them.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::{Family, attribute::Attributes, capability::Capabilities};

/// What is said over a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The first of a connection, from both sides.
    Open(Open),
    /// Routes that came and went.
    Update(Update),
    /// What was wrong; the connection ends with it.
    Notification(Notification),
    /// I am still here.
    Keepalive,
    /// Say again what you have of a family (RFC 2918).
    Refresh(Family),
    /// A refresh of a family that is not spoken of here, or of another SAFI: nothing to do.
    Unknown,
}

/// The first message (RFC 4271 section 4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The speaker's AS, by the four-octet capability where it is there (RFC 6793).
    pub asn: u32,
    /// The hold time that it offers, in seconds: 0, or from 3 on.
    pub hold: u16,
    /// Its BGP Identifier.
    pub id: Ipv4Addr,
    /// What else it can do.
    pub capabilities: Capabilities,
}

/// Routes that came and went (RFC 4271 section 4.3, RFC 4760).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// Those that are gone, of any family; also those whose attributes were broken (RFC 7606).
    pub withdrawn: Vec<IpNet>,
    /// Those that are there, with their next hop: once for each family at most.
    pub reach: Vec<Reach>,
    /// What holds for all of `reach`.
    pub attributes: Attributes,
    /// All that the peer had at first has been said (RFC 4724 section 2).
    pub end: Option<Family>,
    /// What was broken and did not cost more than these routes, in words.
    pub faults: Vec<String>,
}

/// Routes by way of a next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Where they lead, of the family of `nets`.
    pub next_hop: IpAddr,
    /// The routes.
    pub nets: Vec<IpNet>,
}

/// What was wrong (RFC 4271 section 4.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// The error code.
    pub code: u8,
    /// The error subcode.
    pub subcode: u8,
    /// More of it, as the code has it.
    pub data: Vec<u8>,
}
