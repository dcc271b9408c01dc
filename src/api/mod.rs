//! The client of the Kubernetes API server. It only lists and watches; all HTTP is in this folder.
//!
//! `auth::find` and `kubeconfig` locate the server and its credentials, and `client::Client` sends
//! the requests. A list passes through `list::list`, `page::Lists::next` (one item at a time, never a
//! tree of the whole list) and `wire::read` (keeps only the fields that kinglet uses) into a
//! [`Reading`]. A watch passes through `follow::Watcher::watch`, `stream::Lines::next` and
//! `stream::read` into [`News`](crate::cluster::News); `watch::WatchState` decides when to list, to
//! probe, to watch or to wait. [`snapshot`] keeps the last good cluster on disk, and [`from_list`]
//! reads objects from a file.
//!
//! An object that can't be parsed is reported by name and does not stop the others; its kind becomes
//! doubtful.

mod access_check;
mod auth;
mod body;
mod client;
mod document;
mod failure;
mod json_scan;
mod kubeconfig;
mod list;
mod page;
mod server;
pub mod snapshot;
mod stream;
#[cfg(test)]
mod test_server;
mod tls;
pub mod traffic;
mod watch_state;
mod watcher;
mod wire;

pub use client::Timeouts;
pub use document::from_list;
pub use server::{Api, Source};
pub use stream::from_watch;
pub use watch_state::{Start, SyncPolicy};
pub use watcher::STACK;
