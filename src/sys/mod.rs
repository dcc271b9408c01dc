//! System calls that std lacks, behind safe functions. All `unsafe` code of kinglet is in this folder.
//!
//! There is no state and no policy here. Each function follows its man page, and fails with the error
//! that the system call returned. One file has one subject: [`poll`], [`eventfd`] and [`signal`] are
//! the descriptors of an event loop; [`socket`], [`bpf`] and [`xtables`] are sockets and their options;
//! [`netns`] opens sockets in another network namespace; [`capability`], [`module`] and [`process`] are
//! the rest. [`errno`] holds the error numbers that callers compare with.

#![allow(unsafe_code)]

mod bpf;
mod capability;
pub mod errno;
mod eventfd;
mod module;
mod netns;
mod poll;
mod process;
mod signal;
mod socket;
mod xtables;

pub use bpf::{ignore_sender_ports, require_ttl_255};
pub use capability::{CAP_DAC_READ_SEARCH, CAPS, limit_capabilities};
pub use eventfd::EventFd;
pub use module::load_module;
pub use netns::in_netns;
pub use poll::Poll;
pub use process::{exec, is_writable};
pub use signal::{RELOAD_SIGNAL, Signals, TERMINATION_SIGNALS, signals};
pub use socket::{
    AF_BRIDGE, address_family, bind, connect, from_address_family, into_owned_fd, set_min_ttl,
    set_tcp_md5, set_ttl, tcp_socket,
};
pub use xtables::read_xtables;
