//! System calls that std lacks, behind safe functions. All `unsafe` code of kinglet is in this file.
//!
//! It has no state and no policy: each function follows its man page, and fails with the error that the
//! system call returned.

mod calls;

pub use calls::{
    ENDING, EventFd, HANGUP, Poll, READ_ANY, RIGHTS, Signals, bind, connect, exec,
    ignore_sender_ports, into_owned_fd, is_root, keep_rights, least_ttl, load_module, may_write,
    only_from_neighbours, read_xtables, signals, tcp, tcp_md5, ttl,
};
