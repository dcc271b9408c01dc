//! Derives the configuration of the BGP speaker from the cluster and the flags: its identity, its
//! peers, the prefixes that it originates, and its import and export policy. Pure.
//!
//! [`config()`] runs `local_speaker` (AS, BGP Identifier, addresses), `peers` (`add_node_peer`,
//! `add_routers`) and `services::add_services` (the addresses of Services). The BGP session, the
//! RIB and the decision process are left to `bgp`.
//!
//! The rules are kube-router's (its `pkg/controllers/routing`). Nodes find each other by their Node
//! objects; external routers come from flags or from annotations of this node's own Node. Pod
//! networks are advertised to nodes, and with the addresses of Services to external routers. An
//! address with a Local policy is advertised only while a ready endpoint of its family is on this
//! node. A range that stands for ClusterIPs is the same from every node, so a ClusterIP with a
//! Local policy is advertised beside it.

mod config;
mod services;

pub(crate) use config::config;
