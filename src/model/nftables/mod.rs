//! The nftables table `inet kinglet` as data: its sets ([`Set`]), chains and rules ([`chains`]).
//!
//! `kernel` encodes it for netlink and [`script`] prints it in nft syntax; both yield the same
//! table. The skeleton is the part that depends on options only: the sets of [`Set`] and the chains of
//! [`chains`]. Sets, maps and chains that are made at run time can stand beside it in the same table;
//! [`is_runtime`] recognizes them by name.
//!
//! Everything that depends on a Service is a set element. So a packet costs the same with
//! one Service and with thousands, and a change of one Service changes only its elements.
//!
//! An accept verdict in our table can't override a drop in another table. If a chain of another
//! program drops by its policy, our chains run before it and mark the packets that pods and
//! Services need, and one rule in that chain accepts the mark. That rule is the same for every
//! chain; our table decides what gets the mark.
//!
//! A packet to a virtual address passes `before-routing` (drops and marks), then `input` (the
//! guard, before IPVS, which hooks in at the end of `input`), and on its way out `after-routing`
//! (masquerade), where conntrack still has its original destination.

mod ruleset;
mod set;
mod text;

pub use ruleset::{
    BRIDGE, Base, Chain, Fields, Hook, NFT_TABLE, PASS, PASSING, PASSING_MATCH, Rule, RuleVerdict,
    RulesetOptions, SetName, Test, chains,
};
pub use set::{KeyPart, MapData, Set, SetSpec, is_runtime};
pub use text::script;
