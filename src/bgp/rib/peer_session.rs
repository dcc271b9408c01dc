//! The parameters of a session, on which the policies and the decision process depend.

use std::net::{IpAddr, Ipv4Addr};

use crate::{bgp::capability::Negotiated, family::Family};

/// The parameters of an established session with a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerSession {
    /// The address of the peer, by which callers identify it.
    pub addr: IpAddr,
    /// The AS of the peer.
    pub asn: u32,
    /// The BGP Identifier of the peer.
    pub id: Ipv4Addr,
    /// True if the peer is in the same AS (iBGP).
    pub internal: bool,
    /// The encoding of messages that both sides negotiated on.
    pub negotiated: Negotiated,
    /// The address families that both sides announced (RFC 4760).
    pub families: Vec<Family>,
    /// This node's address on the connection.
    pub local_addr: IpAddr,
    /// True if the peer is a router outside the cluster.
    pub external: bool,
    /// True if the peer is a client of this route reflector (RFC 4456).
    pub client: bool,
}
