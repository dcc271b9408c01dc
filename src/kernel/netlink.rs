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
/// Acks for more messages than this overflow a receive buffer of the default size (at about 300).
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
            verdicts.extend(self.exchange(batch, NlmF::ACK.bits(), batch.len())?);
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
        let Some((last, others)) = requests.split_last() else { return Ok(Ok(())) };
        let mut batch = vec![begin.clone()];
        batch.extend_from_slice(others);
        batch.extend([last.clone().acknowledged(), end.clone()]);
        let verdicts = self.exchange(&batch, 0, 1)?;
        Ok(verdicts.into_iter().find(Result::is_err).unwrap_or(Ok(())))
    }

    /// One `send`, and its answers until `awaited` of them have come. A batch that was turned down
    /// whole answers for its first message alone.
    fn exchange(
        &mut self,
        batch: &[Request],
        flags: u16,
        awaited: usize,
    ) -> io::Result<Vec<Verdict>> {
        let first = self.seq.wrapping_add(1);
        let mut bytes = Vec::with_capacity(batch.iter().map(Request::size).sum());
        for request in batch {
            self.seq = self.seq.wrapping_add(1);
            request.write(self.seq, flags, &mut bytes);
        }
        self.socket.send(&bytes, Msg::empty())?;
        let mut verdicts: Vec<Option<Verdict>> = vec![None; batch.len()];
        let mut left = awaited;
        while left > 0 {
            let datagram = match receive(&self.socket, &mut self.buffer) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                datagram => datagram?,
            };
            for frame in frames(datagram) {
                let frame = frame?;
                let Some(answer) = frame.answer() else { continue };
                let index = frame.seq().wrapping_sub(first) as usize;
                let Some(request) = batch.get(index) else { continue }; // of an earlier batch
                verdicts[index] = Some(match answer {
                    Err(no) if request.is_fine(no.errno) => Ok(()),
                    answer => answer,
                });
                left -= 1;
                if left == 0 {
                    break;
                }
            }
        }
        let refused = verdicts.iter().flatten().find_map(|v| v.clone().err());
        if left > 0 && refused.is_none() {
            return Err(io::Error::other("the kernel did not answer every request"));
        }
        let silent = || if flags == 0 { Ok(()) } else { refused.clone().map_or(Ok(()), Err) };
        Ok(verdicts.into_iter().map(|v| v.unwrap_or_else(silent)).collect())
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
