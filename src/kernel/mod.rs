//! Reads and changes this node's kernel state, and the few files that belong to it.
//!
//! It is the only module that applies items. It defines which kernel objects are ours, so an `ItemSet`
//! never contains an object of another program. `desired` decides what should exist, and `plan` which
//! steps lead there.
//!
//! A pass calls [`Kernel::host`] for the facts about this node, [`Kernel::observe`] for our objects,
//! and [`Kernel::apply`] for the planned steps. `route`, `ipvs`, `nft` and `conntrack` translate between
//! items and the messages of [`netlink`](crate::netlink), without any I/O; `events` receives
//! notifications. Sysctls and files can't be listed, so they are read by name if they are wanted.

mod apply;
pub mod conntrack;
pub(crate) mod events;
pub(crate) mod files;
mod handle;
pub mod ipvs;
pub mod lock;
pub mod nft;
mod observe;
mod query;
pub mod route;
pub(crate) mod xtables;

pub use crate::netlink::message::{Outcome, Refusal};
pub use apply::OnStep;
pub use handle::Kernel;
pub use observe::Scope;
