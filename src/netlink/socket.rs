//! The netlink transport: sends requests and receives results and dumps.
//!
//! The kernel processes a request during `send` and continues a dump during `recv`. Therefore the
//! sockets are non-blocking: an empty queue means that no answer will come, and this is reported as an
//! error. [`NetlinkSocket::send`] sends independent requests, [`NetlinkSocket::transact`] an nftables
//! transaction, [`NetlinkSocket::dump`] and [`NetlinkSocket::ask`] read objects. neli provides the socket
//! and flags only; `message` builds and parses the messages.

use std::{io, os::fd::BorrowedFd};

use neli::{
    consts::{
        nl::NlmF,
        socket::{Msg, NlFamily},
    },
    socket::NlSocket,
    utils::Groups,
};

use super::message::{Outcome, Request, frames};
use crate::sys;

/// The size of the receive buffer in bytes. The kernel sizes the datagrams of a dump by it.
const RECV_BUFFER: usize = 32 * 1024;
/// The number of requests in one batch. About 300 error answers overflow a receive buffer of the
/// default size, so a batch stays well below that.
pub const BATCH: usize = 128;
/// The number of attempts for a dump that changes interrupt (NLM_F_DUMP_INTR).
const DUMP_ATTEMPTS: usize = 20;

/// Returns the socket of a family and opens it on first use. Fails if it can't be opened.
pub fn get_or_open(
    conn: &mut Option<NetlinkSocket>,
    family: NlFamily,
) -> io::Result<&mut NetlinkSocket> {
    Ok(match conn {
        Some(conn) => conn,
        None => conn.insert(NetlinkSocket::open(family)?),
    })
}

/// A socket of one netlink family.
pub struct NetlinkSocket {
    socket: NlSocket,
    seq: u32,
    buffer: Vec<u8>,
}

impl NetlinkSocket {
    /// Opens a socket. On routing sockets it enables strict checking, so that the kernel applies the
    /// filters in dump requests. Fails if the kernel lacks the family or an option.
    pub fn open(family: NlFamily) -> io::Result<NetlinkSocket> {
        let socket = NlSocket::connect(family, None, Groups::empty())?;
        socket.enable_ext_ack(true)?;
        if matches!(family, NlFamily::Route) {
            socket.enable_strict_checking(true)?;
        }
        socket.nonblock()?;
        Ok(NetlinkSocket { socket, seq: 0, buffer: vec![0; RECV_BUFFER] })
    }

    /// Opens a socket in another network namespace, given as a descriptor of a file like
    /// /proc/PID/ns/net or /run/netns/NAME (network_namespaces(7)). The socket stays in that namespace,
    /// and any thread can use it. Fails if the socket can't be opened, or if this process may not enter
    /// the namespace, which needs CAP_SYS_ADMIN.
    ///
    /// A helper thread enters the namespace and opens the socket (`sys::in_netns`). The calling thread
    /// stays in its own namespace, so a failure can't leave it in the wrong one.
    pub fn open_in(netns: BorrowedFd<'_>, family: NlFamily) -> io::Result<NetlinkSocket> {
        sys::in_netns(netns, || NetlinkSocket::open(family))
    }

    /// Returns the netlink port number of this socket, the sender of its messages.
    pub fn port(&self) -> io::Result<u32> {
        self.socket.pid()
    }

    /// Sends requests in batches and returns one result per request, in order. Fails if the socket
    /// fails; a refused request is one of the results.
    pub fn send(&mut self, requests: &[Request]) -> io::Result<Vec<Outcome>> {
        let mut outcomes = Vec::with_capacity(requests.len());
        for batch in requests.chunks(BATCH) {
            outcomes.extend(self.exchange(batch, batch.len() - 1)?);
        }
        Ok(outcomes)
    }

    /// Sends requests as one nfnetlink transaction, between the messages `begin` and `end`. All take
    /// effect or none. They must fit into one send buffer (about 200 KB). Returns the kernel's first
    /// error as the result. Fails if the socket fails.
    pub fn transact(
        &mut self,
        begin: &Request,
        requests: &[Request],
        end: &Request,
    ) -> io::Result<Outcome> {
        if requests.is_empty() {
            return Ok(Ok(()));
        }
        let mut batch = vec![begin.clone()];
        batch.extend_from_slice(requests);
        batch.push(end.clone());
        let outcomes = self.exchange(&batch, requests.len())?;
        Ok(outcomes.into_iter().find(Result::is_err).unwrap_or(Ok(())))
    }

    /// Sends one batch and returns one result per request. The kernel reports each refused request by
    /// itself. Of the others only the request at index `last` asks for an acknowledgement, which shows
    /// that all of the batch was processed. If the kernel rejects the batch as a whole, it answers the
    /// first request only; then every request has that error. Fails if the answer to `last` is missing
    /// and no request was refused.
    fn exchange(&mut self, batch: &[Request], last: usize) -> io::Result<Vec<Outcome>> {
        let first = self.seq.wrapping_add(1);
        let mut bytes = Vec::with_capacity(batch.iter().map(Request::size).sum());
        for (at, request) in batch.iter().enumerate() {
            let flags = if at == last { NlmF::ACK } else { NlmF::empty() };
            self.seq = self.seq.wrapping_add(1);
            request.write(self.seq, flags.bits(), &mut bytes);
        }
        self.socket.send(&bytes, Msg::empty())?;
        let mut outcomes: Vec<Outcome> = vec![Ok(()); batch.len()];
        let mut refused = None;
        loop {
            let datagram = match receive(&self.socket, &mut self.buffer) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                datagram => datagram?,
            };
            for frame in frames(datagram) {
                let frame = frame?;
                let Some(answer) = frame.answer() else { continue };
                let at = frame.seq().wrapping_sub(first) as usize;
                let Some(request) = batch.get(at) else { continue }; // it belongs to an earlier batch
                if let Err(refusal) = answer
                    && !refusal.errno().is_some_and(|errno| request.ignores(errno))
                {
                    refused.get_or_insert_with(|| refusal.clone());
                    outcomes[at] = Err(refusal);
                }
                if at == last {
                    return Ok(outcomes);
                }
            }
        }
        match refused {
            Some(refusal) => Ok(vec![Err(refusal); batch.len()]),
            None => Err(io::Error::other("the kernel did not answer every request")),
        }
    }

    /// Requests a dump and returns the `Some` results of `read` on each message's body. A dump that was
    /// interrupted by a change is repeated. Fails if the kernel returns an error, or if every attempt
    /// was interrupted.
    pub fn dump<T>(
        &mut self,
        request: &Request,
        mut read: impl FnMut(&[u8]) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        for _ in 0..DUMP_ATTEMPTS {
            let mut found = Vec::new();
            if self.dump_once(request, |body| found.extend(read(body)))? {
                return Ok(found);
            }
        }
        Err(io::Error::other("the data changed during every attempt to read it"))
    }

    /// Requests a dump once. Returns false if it was interrupted by a change.
    fn dump_once(&mut self, request: &Request, mut each: impl FnMut(&[u8])) -> io::Result<bool> {
        self.seq = self.seq.wrapping_add(1);
        let mut bytes = Vec::with_capacity(request.size());
        request.write(self.seq, NlmF::DUMP.bits(), &mut bytes);
        self.socket.send(&bytes, Msg::empty())?;
        let mut consistent = true;
        loop {
            for frame in frames(receive(&self.socket, &mut self.buffer)?) {
                let frame = frame?;
                if frame.seq() != self.seq {
                    continue;
                }
                consistent &= !frame.is_interrupted();
                match frame.answer() {
                    None => each(frame.body()),
                    Some(Ok(())) => return Ok(consistent),
                    Some(Err(refusal)) => return Err(refusal.into()),
                }
            }
        }
    }

    /// Requests one object and returns the result of `read` on it. Returns `None` if the kernel answers
    /// ENOENT. Fails if it returns another error.
    pub fn ask<T>(
        &mut self,
        request: &Request,
        mut read: impl FnMut(&[u8]) -> Option<T>,
    ) -> io::Result<Option<T>> {
        self.seq = self.seq.wrapping_add(1);
        let mut bytes = Vec::with_capacity(request.size());
        request.write(self.seq, NlmF::ACK.bits(), &mut bytes);
        self.socket.send(&bytes, Msg::empty())?;
        let mut found = None;
        loop {
            for frame in frames(receive(&self.socket, &mut self.buffer)?) {
                let frame = frame?;
                if frame.seq() != self.seq {
                    continue;
                }
                match frame.answer() {
                    None => found = read(frame.body()),
                    Some(Ok(())) => return Ok(found),
                    Some(Err(refusal)) if refusal.errno() == Some(sys::errno::ENOENT) => {
                        return Ok(None);
                    }
                    Some(Err(refusal)) => return Err(refusal.into()),
                }
            }
        }
    }
}

/// Receives one datagram. With MSG_TRUNC the kernel returns the full length even if it truncated the
/// datagram, which is an error here.
fn receive<'a>(socket: &NlSocket, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let (len, _) = socket.recv(&mut *buffer, Msg::TRUNC)?;
    buffer
        .get(..len)
        .ok_or_else(|| io::Error::other(format!("the kernel truncated an answer of {len} bytes")))
}
