//! The data that the other modules exchange: the cluster, the items of the kernel, the nftables table,
//! BGP's configuration, and the facts about this host. There is no I/O and no logging here, and
//! only `collections`, `codec` and `family` are imported.

pub mod bgp;
pub mod cluster;
pub mod items;
pub mod local;
pub mod nftables;
