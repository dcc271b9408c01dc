//! Netlink: requests to the kernel, and the parsing of its answers.
//!
//! [`socket`] sends [`Request`](message::Request)s and receives the answers; [`message`] builds and
//! parses messages of any family. The other modules have one subject each, as plain structs with
//! builders and parsers that do no I/O: [`link`], [`address`], [`route`], [`rule`] and [`neighbour`]
//! (rtnetlink), [`generic`] and [`ipvs`] (generic netlink), [`conntrack`] (nfnetlink). A builder sends
//! what it is given; the caller decides which errors count as success
//! ([`Request::ignore_errors`](message::Request::ignore_errors)).
//!
//! Nothing here knows the items of kinglet: `kernel` translates between items and these structs. neli
//! provides sockets and flags only; each module defines the attributes of its kernel header.

pub mod address;
pub(crate) mod conntrack;
pub(crate) mod generic;
pub(crate) mod ipvs;
pub mod link;
pub mod message;
pub mod neighbour;
pub mod route;
pub mod rule;
pub mod socket;
