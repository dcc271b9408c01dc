//! The output for people and monitors: health, metrics, `kinglet status`, and the answer to a load balancer
//! that asks if it may send traffic to this node.
//!
//! The daemon's loop writes the status ([`SharedStatus`]), and a thread of its own serves it
//! ([`StatusServer`]). A long pass therefore never looks like a dead node: a kubelet kills a pod that does
//! not answer for nine seconds, and the first pass of a small board may take longer. `/healthz` answers 500
//! if the loop has had no heartbeat for longer than it ever sleeps.

pub mod bgp;
pub mod client;
pub mod http;
mod lines;
pub mod metrics;
mod pages;
mod shared_status;
pub mod status;
pub mod status_server;
pub mod text;

pub use shared_status::{RUN_DIR, SOCKET, SharedStatus, unix};
pub use status::Status;
pub use status_server::StatusServer;
