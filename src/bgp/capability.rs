//! What a speaker can do (RFC 5492): the optional parameters of its OPEN.

use super::Family;

/// The capabilities that mean something here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// The families of unicast routes that it speaks of (RFC 4760); none named is IPv4 alone.
    pub families: Vec<Family>,
    /// Whether it can be asked to say all again (RFC 2918).
    pub refresh: bool,
    /// Whether its AS numbers have four octets (RFC 6793).
    pub four_octet: bool,
    /// How it restarts (RFC 4724).
    pub restart: Option<Restart>,
}

/// How a speaker restarts (RFC 4724 section 3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restart {
    /// It has just restarted (the R bit): do not wait for its End-of-RIB.
    pub restarting: bool,
    /// For how many seconds its routes may be kept; 0..=4095.
    pub time: u16,
    /// The families that it does this for, and whether it went on forwarding (the F bit).
    pub families: Vec<(Family, bool)>,
}
