//! The client of the Kubernetes API server. It only lists and watches; all HTTP is in this folder.
//!
//! [`ApiServer::locate`] finds the server (`auth::find`, `kubeconfig`) and [`ApiServer::open`] makes an
//! [`Api`] of it; `client::Client` sends the requests. A list passes through `list::list`,
//! `page::Lists::next` (one item at a time, never a tree of the whole list) and `wire::parse_item`
//! (keeps only the fields that kinglet uses) into a [`ListResult`]. A watch passes through
//! `watcher::Watcher::watch`, `stream::WatchLines::next` and `stream::read` into [`WatchUpdate`]s;
//! `watch_state::WatchState` decides when to list, to probe, to watch or to wait. [`snapshot`] keeps the
//! last good cluster on disk, and [`from_list`] reads objects from a file.
//!
//! An object that can't be parsed is reported by name and does not stop the others; its kind becomes
//! doubtful.
//!
//! [`ListResult`]: crate::model::cluster::ListResult
//! [`WatchUpdate`]: crate::model::cluster::WatchUpdate

mod access;
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
mod request_stats;
mod server;
pub mod snapshot;
mod stream;
#[cfg(test)]
mod test_server;
mod tls;
mod watch_state;
mod watcher;
mod wire;

pub use auth::Source;
pub use client::Timeouts;
pub use document::from_list;
pub use server::{Api, ApiServer, ExpectedCluster};
pub use stream::from_watch;
pub use watch_state::{Start, SyncPolicy};
pub use watcher::STACK;
