//! One kinglet at a time changes a node.
//!
//! The lock is an abstract Unix socket (unix(7)): it belongs to the network namespace, as what it
//! guards does, and it ends with its holder, however that ends.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
};

/// Held as long as it lives.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code)] UnixDatagram);

impl Lock {
    /// Takes the lock; `None`: another kinglet has it.
    pub fn take() -> io::Result<Option<Lock>> {
        let name = SocketAddr::from_abstract_name("kinglet")?;
        match UnixDatagram::bind_addr(&name) {
            Ok(socket) => Ok(Some(Lock(socket))),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => Ok(None),
            Err(e) => Err(e),
        }
    }
}
