//! The output for people and monitors: health, metrics, `kinglet status`, and the answer to a load balancer
//! that asks if it may send traffic to this node.
//!
//! The daemon's loop writes the status ([`SharedStatus`]), and a thread of its own serves it
//! ([`StatusServer`]). A long pass therefore never looks like a dead node: a kubelet kills a pod that does
//! not answer for nine seconds, and the first pass of a small board may take longer. `/healthz` answers 500
//! if the loop has had no heartbeat for longer than it ever sleeps.
//!
//! A request passes through `http::parse` and `pages::response`, which renders the status with
//! `text::page`, `metrics::page` or `bgp::page`; `Response::to_bytes` gives the reply. `client::ask` is the
//! other end of the status socket, for `kinglet status` and `kinglet bgp`.

mod bgp;
mod client;
mod http;
mod metrics;
mod pages;
mod problem_lines;
mod shared_status;
mod span;
pub mod status;
mod status_server;
pub(crate) mod text;

pub use bgp::PeerRow;
pub(crate) use client::{StatusReply, ask};
pub use shared_status::SharedStatus;
pub(crate) use shared_status::{SOCKET, unix};
pub use status::Status;
pub use status_server::StatusServer;
pub(crate) use status_server::try_port;
