//! The vocabulary of the desired and the observed state of a node.
//!
//! A [`ItemSet`] is a sorted set of flat [`Item`]s. The order of the variants is the order of
//! creation (a route needs its link, a virtual address its service); removal runs in the reverse
//! order. The identifying fields of an item come first, so that sorted items are also sorted by
//! [`ItemKey`]. The kinds of item, with everything in which they differ, are one table ([`ItemKind`]).
//! `desired` computes the one state, `kernel` observes the other, and `plan` compares
//! them. Items are written as JSON by serde, and read back by `read`.

mod flow;
mod item;
mod item_kind;
mod kinds;
mod next_hops;
mod observed;
mod read;
mod service_addr;

pub use crate::{
    family::{addr_from_bytes, addr_to_bytes},
    model::nftables::BRIDGE,
};
pub use flow::{Flow, ServiceStats};
pub use item::{DUMMY, Item, ItemKey, ItemSet, TABLE_LOCAL, TABLE_MAIN, host_net, same_family};
pub use item_kind::{Backend, ItemKind, KindInfo, ObservedPart, Removal};
pub use kinds::{Forward, IpipTunnel, LinkKind, Protocol, SysctlPath, Timeout, iptables};
pub use next_hops::{DeviceHop, NextHops};
pub use observed::{Observed, Observer};
pub use service_addr::{RealKey, ServiceAddr, ServiceKey, SetElement, is_our_mark, our_mark};
