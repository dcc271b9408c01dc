//! System calls that std lacks, behind safe functions. All `unsafe` code of kinglet is in this folder.
//!
//! There is no state and no policy here. Each function follows its man page, and fails with the error
//! that the system call returned. One file has one subject: `poll`, `eventfd` and `signal` are for an
//! event loop; `socket`, `bpf` and `xtables` are sockets and their options; `netns` runs a function in
//! another network namespace; `capability`, `module` and `process` change this process or the kernel.
//! [`errno`] holds the error numbers that callers compare with.

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

pub(crate) use bpf::{ignore_sender_ports, require_ttl_255};
pub(crate) use capability::{CAP_DAC_READ_SEARCH, CAPS, limit_capabilities};
pub use eventfd::EventFd;
pub(crate) use module::load_module;
pub(crate) use netns::in_netns;
pub use poll::Poll;
pub use process::exec;
pub(crate) use process::is_writable;
pub use signal::Signals;
pub(crate) use signal::{RELOAD_SIGNAL, TERMINATION_SIGNALS, signals};
pub(crate) use socket::{
    AF_BRIDGE, address_family, bind, connect, from_address_family, into_owned_fd, set_min_ttl,
    set_tcp_md5, set_ttl, tcp_socket,
};
pub(crate) use xtables::read_xtables;
