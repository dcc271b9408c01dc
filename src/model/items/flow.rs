//! Connections: [`Flow`] is an entry of conntrack, [`ServiceStats`] counts the connections of an IPVS
//! service.

use std::net::IpAddr;

use serde::Serialize;

use super::{Protocol, ServiceKey};

/// A conntrack entry: the original direction, and the source of the reply direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The transport protocol.
    pub protocol: Protocol,
    /// Source address of the original direction: the client.
    pub orig_src: IpAddr,
    /// Source port of the original direction.
    pub orig_sport: u16,
    /// Destination address of the original direction.
    pub orig_dst: IpAddr,
    /// Destination port of the original direction.
    pub orig_dport: u16,
    /// Source address of the reply direction: the real server if the destination was translated,
    /// else `orig_dst`.
    pub reply_src: IpAddr,
    /// Source port of the reply direction.
    pub reply_sport: u16,
    /// The kernel's id of the entry (`CTA_ID`), which distinguishes it from a later entry with the
    /// same addresses.
    pub id: u32,
    /// Conntrack zone of the original direction; 0 is the default zone.
    pub zone: u16,
}

/// The load of an IPVS service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServiceStats {
    /// The IPVS service.
    pub at: ServiceKey,
    /// The Kubernetes Service as namespace/name; empty if it is not known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service: String,
    /// The number of its real servers, draining ones included.
    pub reals: usize,
    /// The number of their connections, active and inactive.
    pub connections: u64,
}
