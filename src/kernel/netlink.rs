//! Netlink as transport: requests out, verdicts and dumps back.
//!
//! The kernel answers while `send` runs, and goes on with a dump from inside `recv`. So the sockets
//! never block: an empty queue means that no answer will come, which is an error and not a wait.

use std::io;

use neli::{
    consts::{
        nl::NlmF,
        socket::{Msg, NlFamily},
    },
    socket::NlSocket,
    utils::Groups,
};

use super::message::{Request, Verdict, frames};

/// Largest datagram that the kernel builds for a dump (it sizes its own buffer by ours).
const RECV_BUFFER: usize = 32 * 1024;
/// Refusals of more messages than this overflow a receive buffer of the default size (at about 300).
pub const BATCH: usize = 128;
/// A dump that something else disturbs (NLM_F_DUMP_INTR) is repeated so often.
const REPEATS: usize = 20;

/// The socket of a family, opened when it is first asked for.
pub fn opened(conn: &mut Option<Conn>, family: NlFamily) -> io::Result<&mut Conn> {
    Ok(match conn {
        Some(conn) => conn,
        None => conn.insert(Conn::open(family)?),
    })
}

/// A socket of one netlink family.
pub struct Conn {
    socket: NlSocket,
    seq: u32,
    buffer: Vec<u8>,
}

impl Conn {
    /// Opens it; on routing sockets the kernel is told to filter dumps as it is asked.
    pub fn open(family: NlFamily) -> io::Result<Conn> {
        let socket = NlSocket::connect(family, None, Groups::empty())?;
        socket.enable_ext_ack(true)?;
        if matches!(family, NlFamily::Route) {
            socket.enable_strict_checking(true)?;
        }
        socket.nonblock()?;
        Ok(Conn { socket, seq: 0, buffer: vec![0; RECV_BUFFER] })
    }

    /// The netlink port that its messages come from.
    pub fn port(&self) -> io::Result<u32> {
        self.socket.pid()
    }

    /// Sends requests in batches and gives the verdict on each, in their order.
    pub fn send(&mut self, requests: &[Request]) -> io::Result<Vec<Verdict>> {
        let mut verdicts = Vec::with_capacity(requests.len());
        for batch in requests.chunks(BATCH) {
            verdicts.extend(self.exchange(batch, batch.len() - 1)?);
        }
        Ok(verdicts)
    }

    /// Sends requests that take effect together or not at all, between the two brackets of nfnetlink.
    /// They must fit into one send buffer (about 200 KB).
    pub fn transact(
        &mut self,
        begin: &Request,
        requests: &[Request],
        end: &Request,
    ) -> io::Result<Verdict> {
        if requests.is_empty() {
            return Ok(Ok(()));
        }
        let mut batch = vec![begin.clone()];
        batch.extend_from_slice(requests);
        batch.push(end.clone());
        let verdicts = self.exchange(&batch, requests.len())?;
        Ok(verdicts.into_iter().find(Result::is_err).unwrap_or(Ok(())))
    }

    /// One `send`, and what the kernel says to it. It names each request that it refuses, unasked; of the
    /// others only that at `last` is to be answered, which says that it came so far. A batch that is
    /// turned down whole has an answer to its first request and no other.
    fn exchange(&mut self, batch: &[Request], last: usize) -> io::Result<Vec<Verdict>> {
        let first = self.seq.wrapping_add(1);
        let mut bytes = Vec::with_capacity(batch.iter().map(Request::size).sum());
        for (at, request) in batch.iter().enumerate() {
            let flags = if at == last { NlmF::ACK } else { NlmF::empty() };
            self.seq = self.seq.wrapping_add(1);
            request.write(self.seq, flags.bits(), &mut bytes);
        }
        self.socket.send(&bytes, Msg::empty())?;
        let mut verdicts: Vec<Verdict> = vec![Ok(()); batch.len()];
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
                let Some(request) = batch.get(at) else { continue }; // of an earlier batch
                if let Err(no) = answer
                    && !request.is_fine(no.errno)
                {
                    refused.get_or_insert_with(|| no.clone());
                    verdicts[at] = Err(no);
                }
                if at == last {
                    return Ok(verdicts);
                }
            }
        }
        match refused {
            Some(no) => Ok(vec![Err(no); batch.len()]),
            None => Err(io::Error::other("the kernel did not answer every request")),
        }
    }

    /// Asks for a dump and keeps what `read` makes of each message's body; a dump that was disturbed
    /// by a change is asked for again.
    pub fn dump<T>(
        &mut self,
        request: &Request,
        mut read: impl FnMut(&[u8]) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        for _ in 0..REPEATS {
            let mut found = Vec::new();
            if self.dump_once(request, |body| found.extend(read(body)))? {
                return Ok(found);
            }
        }
        Err(io::Error::other("the table changes faster than it can be read"))
    }

    fn dump_once(&mut self, request: &Request, mut each: impl FnMut(&[u8])) -> io::Result<bool> {
        self.seq = self.seq.wrapping_add(1);
        let mut bytes = Vec::with_capacity(request.size());
        request.write(self.seq, NlmF::DUMP.bits(), &mut bytes);
        self.socket.send(&bytes, Msg::empty())?;
        let mut whole = true;
        loop {
            for frame in frames(receive(&self.socket, &mut self.buffer)?) {
                let frame = frame?;
                if frame.seq() != self.seq {
                    continue;
                }
                whole &= !frame.is_disturbed();
                match frame.answer() {
                    None => each(frame.body()),
                    Some(Ok(())) => return Ok(whole),
                    Some(Err(no)) => return Err(io::Error::from_raw_os_error(no.errno)),
                }
            }
        }
    }

    /// Asks for one object: the body of the answer, or `None` where the kernel says ENOENT.
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
                    Some(Err(no)) if no.errno == libc::ENOENT => return Ok(None),
                    Some(Err(no)) => return Err(io::Error::from_raw_os_error(no.errno)),
                }
            }
        }
    }
}

/// With MSG_TRUNC the kernel tells the true length even of a datagram that it had to cut.
fn receive<'a>(socket: &NlSocket, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let (len, _) = socket.recv(&mut *buffer, Msg::TRUNC)?;
    buffer
        .get(..len)
        .ok_or_else(|| io::Error::other(format!("an answer of {len} bytes was cut by the kernel")))
}
