//! BGP as data: the speaker's configuration ([`Config`]), the peers as flags and annotations name them,
//! and the options. `announce` computes the configuration, and `bgp` runs it.

mod config;
pub(super) mod options;
pub mod peer;

pub use config::{Config, Export, Import, LocalSpeaker, Originated, PORT, Peer, TtlPolicy};
