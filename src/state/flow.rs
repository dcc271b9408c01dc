//! Connections: one as the kernel's conntrack knows it, and how many IPVS counts.

use std::net::IpAddr;

use serde::Serialize;

use super::{At, Protocol};

/// One flow: what its first packet asked for, and who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The transport protocol.
    pub protocol: Protocol,
    /// The client.
    pub orig_src: IpAddr,
    /// The client's port.
    pub orig_sport: u16,
    /// Whom the client speaks to.
    pub orig_dst: IpAddr,
    /// The port that the client speaks to.
    pub orig_dport: u16,
    /// Who answers: the real server where the destination was translated, else `orig_dst`.
    pub reply_src: IpAddr,
    /// The port that answers.
    pub reply_sport: u16,
    /// The kernel's number for it, so that a later flow of the same addresses is not taken for it.
    pub id: u32,
    /// The conntrack zone of its first packet; 0 where nobody chose one.
    pub zone: u16,
}

/// How busy an IPVS service is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Busy {
    /// The service.
    pub at: At,
    /// namespace/name of the Service that it is; empty: not known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service: String,
    /// How many real servers stand behind it; draining ones too.
    pub reals: usize,
    /// Their connections, active and inactive.
    pub connections: u64,
}
