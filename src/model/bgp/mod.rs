//! BGP as data: the speaker's configuration ([`Config`]), the peers as flags and annotations name them,
//! the options, and the learned routes ([`Learned`]). `announce` computes the configuration, `bgp` runs
//! it and learns routes, and `desired` turns these into kernel routes.

mod config;
mod learned;
pub(super) mod options;
pub mod peer;

pub use config::{Config, Export, Import, LocalSpeaker, Originated, PORT, Peer, TtlPolicy};
pub use learned::Learned;
