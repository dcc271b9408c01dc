//! The lock that lets only one kinglet process change a node at a time.
//!
//! The lock is an abstract Unix socket (unix(7)). Like the kernel state that it guards, the socket
//! belongs to the network namespace. The kernel releases it when the holder exits, even after a crash.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
};

/// The lock, held until this value is dropped.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code)] UnixDatagram);

impl Lock {
    /// Takes the lock without waiting. Returns `None` if another kinglet process holds it. Fails if the
    /// socket can't be created.
    pub fn take() -> io::Result<Option<Lock>> {
        let name = SocketAddr::from_abstract_name("kinglet")?;
        match UnixDatagram::bind_addr(&name) {
            Ok(socket) => Ok(Some(Lock(socket))),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => Ok(None),
            Err(e) => Err(e),
        }
    }
}
