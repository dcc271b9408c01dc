//! The vocabulary of the desired and the observed state of a node.
//!
//! A [`State`] is a sorted set of flat [`Item`]s. The order of the variants is the order of
//! creation (a route needs its link, a virtual address its service); removal runs in the reverse
//! order. The identifying fields of an item come first, so that sorted items are also sorted by
//! [`Key`]. `desired` computes the one state, `kernel` observes the other, and `plan` compares
//! them. Items are written as JSON by serde, and read back by `read`.

mod flow;
mod item;
mod kinds;
mod next_hops;
mod observed;
mod read;
mod service_addr;

pub use crate::model::nftables::BRIDGE;
pub use flow::{Busy, Flow};
pub use item::{
    DUMMY, Item, Key, State, TABLE_LOCAL, TABLE_MAIN, addr_from_bytes, addr_to_bytes, host_net,
    same_family,
};
pub use kinds::{Forward, Knob, LinkKind, Protocol, Timeout, iptables};
pub use next_hops::Via;
pub use observed::{Have, Seen};
pub use service_addr::{At, RealKey, Value, Virtual, is_our_mark, our_mark};
