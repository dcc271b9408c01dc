//! Netlink as transport: requests out, acknowledgements and dumps back.
//!
//! The socket and the constants are neli's; messages are written and cut here, because a batch is one
//! buffer with many messages, and every refusal must find its way back to the request that caused it.
//! The kernel answers while `send` runs, and goes on with a dump from inside `recv`. So the sockets
//! never block: an empty queue means that no answer will come, which is an error and not a wait.
//! Layouts: linux/netlink.h.

use std::{fmt, io};

use neli::{
    consts::{
        nl::NlmF,
        socket::{Msg, NlFamily},
    },
    socket::NlSocket,
    utils::Groups,
};

/// Largest datagram that the kernel builds for a dump (it sizes its own buffer by ours).
const RECV_BUFFER: usize = 32 * 1024;
/// Acks for more messages than this overflow a receive buffer of the default size (at about 300).
const BATCH: usize = 128;
/// A dump that something else disturbs (NLM_F_DUMP_INTR) is repeated so often.
const REPEATS: usize = 20;
/// struct nlmsghdr { u32 len; u16 type; u16 flags; u32 seq; u32 pid; }
const HEADER: usize = 16;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSGERR_ATTR_MSG: u16 = 1;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLM_F_DUMP_INTR: u16 = 0x10;
/// Marks an attribute that holds attributes.
pub const NLA_F_NESTED: u16 = 0x8000;

/// One message to the kernel.
#[derive(Clone, Debug)]
pub struct Request {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
    /// Error numbers that mean that there was nothing left to do.
    fine: &'static [i32],
}

impl Request {
    /// A request of a type (`RTM_*`, a generic netlink family, `subsystem << 8 | NFT_MSG_*`), whose
    /// body starts with the fixed header of its family.
    pub fn new(kind: impl Into<u16>, flags: NlmF, header: &[u8]) -> Request {
        Request { kind: kind.into(), flags: flags.bits(), body: header.to_vec(), fine: &[] }
    }

    /// These error numbers count as success.
    pub fn fine(mut self, errnos: &'static [i32]) -> Request {
        self.fine = errnos;
        self
    }

    /// Appends an attribute.
    pub fn attr(mut self, kind: impl Into<u16>, payload: &[u8]) -> Request {
        put(&mut self.body, kind.into(), payload);
        self
    }

    /// Appends a string attribute, with the NUL that the kernel wants.
    pub fn text(self, kind: impl Into<u16>, text: &str) -> Request {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        self.attr(kind, &bytes)
    }

    /// Appends an attribute that holds attributes.
    pub fn nest(mut self, kind: u16, inner: impl FnOnce(Request) -> Request) -> Request {
        let at = self.body.len();
        put(&mut self.body, kind, &[]);
        let mut nested = inner(self);
        let len = u16::try_from(nested.body.len() - at).unwrap_or(u16::MAX);
        nested.body[at..at + 2].copy_from_slice(&len.to_ne_bytes());
        nested
    }

    /// Its size on the wire in bytes.
    pub fn size(&self) -> usize {
        HEADER + self.body.len()
    }

    fn write(&self, seq: u32, flags: u16, to: &mut Vec<u8>) {
        to.extend((self.size() as u32).to_ne_bytes());
        to.extend(self.kind.to_ne_bytes());
        to.extend((self.flags | flags | NlmF::REQUEST.bits()).to_ne_bytes());
        to.extend(seq.to_ne_bytes());
        to.extend(0u32.to_ne_bytes());
        to.extend(&self.body);
        to.resize(to.len().next_multiple_of(4), 0);
    }
}

/// struct nlattr { u16 len; u16 type; } and the payload, padded to four bytes.
fn put(to: &mut Vec<u8>, kind: u16, payload: &[u8]) {
    to.extend(u16::try_from(4 + payload.len()).unwrap_or(u16::MAX).to_ne_bytes());
    to.extend(kind.to_ne_bytes());
    to.extend(payload);
    to.resize(to.len().next_multiple_of(4), 0);
}

/// The kernel's no to one request, in its own words.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// A positive error number.
    pub errno: i32,
    /// The extended text; often empty.
    pub text: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", io::Error::from_raw_os_error(self.errno))?;
        if self.text.is_empty() { Ok(()) } else { write!(f, ": {}", self.text) }
    }
}

/// The socket of a family, opened when it is first asked for.
pub fn opened(conn: &mut Option<Conn>, family: NlFamily) -> io::Result<&mut Conn> {
    Ok(match conn {
        Some(conn) => conn,
        None => conn.insert(Conn::open(family)?),
    })
}

/// What became of one request.
pub type Verdict = Result<(), Refusal>;

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
        let mut batch = vec![begin.clone()];
        batch.extend_from_slice(requests);
        if let Some(last) = batch.last_mut() {
            last.flags |= NlmF::ACK.bits();
        }
        batch.push(end.clone());
        let verdicts = self.exchange(&batch, 0, usize::from(!requests.is_empty()))?;
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
                let index = frame.seq.wrapping_sub(first) as usize;
                let Some(request) = batch.get(index) else { continue }; // of an earlier batch
                verdicts[index] = Some(match answer {
                    Err(no) if request.fine.contains(&no.errno) => Ok(()),
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
                if frame.seq != self.seq {
                    continue;
                }
                whole &= frame.flags & NLM_F_DUMP_INTR == 0;
                match (frame.kind, frame.answer()) {
                    (_, Some(Err(no))) => return Err(io::Error::from_raw_os_error(no.errno)),
                    (NLMSG_DONE | NLMSG_ERROR, _) => return Ok(whole),
                    _ => each(frame.body),
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
                if frame.seq != self.seq {
                    continue;
                }
                match frame.answer() {
                    None => found = read(frame.body),
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

/// One message from the kernel.
#[derive(Debug)]
pub struct Frame<'a> {
    kind: u16,
    flags: u16,
    seq: u32,
    body: &'a [u8],
}

impl Frame<'_> {
    /// The verdict that it carries: NLMSG_ERROR (0 is an ack), or the status at the end of a dump.
    fn answer(&self) -> Option<Verdict> {
        if self.kind != NLMSG_ERROR && self.kind != NLMSG_DONE {
            return None;
        }
        // A DONE without a status is what very old families send.
        let errno = self.body.first_chunk::<4>().map_or(0, |b| i32::from_ne_bytes(*b));
        if errno == 0 {
            return Some(Ok(()));
        }
        // NLMSG_ERROR: the error, the header that it answers, and (unless capped) the rest of it.
        let skip = match self.kind {
            NLMSG_DONE => 4,
            _ if self.flags & NLM_F_CAPPED != 0 => 4 + HEADER,
            _ => self.body.get(4..8).map_or(4, |b| {
                let len = u32::from_ne_bytes([b[0], b[1], b[2], b[3]]) as usize;
                len.checked_next_multiple_of(4).map_or(usize::MAX, |len| len.saturating_add(4))
            }),
        };
        let tlvs = self.body.get(skip..).filter(|_| self.flags & NLM_F_ACK_TLVS != 0);
        let text = tlvs.and_then(|tlvs| Attrs(tlvs).get(NLMSGERR_ATTR_MSG)).map(string);
        Some(Err(Refusal { errno: errno.saturating_neg(), text: text.unwrap_or_default() }))
    }
}

/// Cuts a datagram into messages by their own length fields.
pub fn frames(mut datagram: &[u8]) -> impl Iterator<Item = io::Result<Frame<'_>>> {
    std::iter::from_fn(move || {
        let head = *datagram.first_chunk::<HEADER>()?;
        let len = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let Some(body) = datagram.get(HEADER..len) else {
            datagram = &[];
            return Some(Err(io::Error::other("a message of the kernel with a wrong length")));
        };
        datagram = datagram.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(Ok(Frame {
            kind: u16::from_ne_bytes([head[4], head[5]]),
            flags: u16::from_ne_bytes([head[6], head[7]]),
            seq: u32::from_ne_bytes([head[8], head[9], head[10], head[11]]),
            body,
        }))
    })
}

/// A run of attributes. What does not fit its own length ends it.
#[derive(Clone, Copy, Debug)]
pub struct Attrs<'a>(pub &'a [u8]);

impl<'a> Attrs<'a> {
    /// The attributes behind a fixed header of `len` bytes.
    pub fn after(body: &'a [u8], len: usize) -> Attrs<'a> {
        Attrs(body.get(len..).unwrap_or_default())
    }

    /// The payload of the first attribute of a type.
    pub fn get(self, kind: impl Into<u16>) -> Option<&'a [u8]> {
        let kind = kind.into();
        self.into_iter().find(|(k, _)| *k == kind).map(|(_, payload)| payload)
    }

    /// A number in native order.
    pub fn u32(self, kind: impl Into<u16>) -> Option<u32> {
        self.get(kind)?.first_chunk().map(|b| u32::from_ne_bytes(*b))
    }

    /// A short number in native order.
    pub fn u16(self, kind: impl Into<u16>) -> Option<u16> {
        self.get(kind)?.first_chunk().map(|b| u16::from_ne_bytes(*b))
    }

    /// A port, which is in network order.
    pub fn port(self, kind: impl Into<u16>) -> Option<u16> {
        self.get(kind)?.first_chunk().map(|b| u16::from_be_bytes(*b))
    }

    /// A string, without its NUL.
    pub fn text(self, kind: impl Into<u16>) -> Option<String> {
        self.get(kind).map(string)
    }

    /// The attributes inside of one.
    pub fn nest(self, kind: impl Into<u16>) -> Option<Attrs<'a>> {
        self.get(kind).map(Attrs)
    }
}

impl<'a> IntoIterator for Attrs<'a> {
    type Item = (u16, &'a [u8]);
    type IntoIter = AttrIter<'a>;

    fn into_iter(self) -> AttrIter<'a> {
        AttrIter(self.0)
    }
}

/// Walks over attributes: their type without its flags, and their payload.
#[derive(Debug)]
pub struct AttrIter<'a>(&'a [u8]);

impl<'a> Iterator for AttrIter<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let head = *self.0.first_chunk::<4>()?;
        let len = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let payload = self.0.get(4..len)?;
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([head[2], head[3]]) & 0x3fff, payload))
    }
}

fn string(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let request = Request { kind, flags, body: body.to_vec(), fine: &[] };
        request.write(7, 0, &mut bytes);
        bytes
    }

    #[test]
    fn an_ack_that_carries_a_text_does_not_hide_the_message_behind_it() {
        let mut body = 0i32.to_ne_bytes().to_vec();
        body.extend([0; HEADER]);
        put(&mut body, NLMSGERR_ATTR_MSG, b"careful\0");
        let mut datagram = message(NLMSG_ERROR, NLM_F_CAPPED | NLM_F_ACK_TLVS, &body);
        datagram.extend(message(NLMSG_ERROR, 0, &0i32.to_ne_bytes()));
        let answers: Vec<_> = frames(&datagram).map(|f| f.unwrap().answer()).collect();
        assert_eq!(answers, [Some(Ok(())), Some(Ok(()))]);
    }

    #[test]
    fn a_refusal_reads_as_the_error_and_the_kernels_own_text() {
        let mut body = (-libc::ENETUNREACH).to_ne_bytes().to_vec();
        body.extend(message(24, 5, &[1, 2, 3, 4])); // the request comes back
        put(&mut body, NLMSGERR_ATTR_MSG, b"Nexthop has invalid gateway\0");
        let datagram = message(NLMSG_ERROR, NLM_F_ACK_TLVS, &body);
        let no = frames(&datagram).next().unwrap().unwrap().answer().unwrap().unwrap_err();
        assert_eq!(
            no.to_string(),
            "Network is unreachable (os error 101): Nexthop has invalid gateway"
        );
    }

    #[test]
    fn the_status_of_done_is_an_error_where_it_is_not_zero() {
        let datagram = message(NLMSG_DONE, 2, &(-libc::EINVAL).to_ne_bytes());
        let answer = frames(&datagram).next().unwrap().unwrap().answer();
        assert_eq!(answer, Some(Err(Refusal { errno: libc::EINVAL, text: String::new() })));
    }

    #[test]
    fn a_nested_attribute_reads_back() {
        let request = Request::new(1u16, NlmF::empty(), &[0; 4])
            .text(3u16, "eth0")
            .nest(18 | NLA_F_NESTED, |r| r.text(1u16, "dummy").attr(2u16, &[1, 2, 3]));
        let attrs = Attrs::after(&request.body, 4);
        assert_eq!(attrs.text(3u16).as_deref(), Some("eth0"));
        let inner = attrs.nest(18u16).unwrap();
        assert_eq!(inner.text(1u16).as_deref(), Some("dummy"));
        assert_eq!(inner.get(2u16), Some(&[1, 2, 3][..]));
    }

    #[test]
    fn a_length_that_cannot_be_ends_the_datagram_with_an_error() {
        for len in [0u32, 15, 17, u32::MAX] {
            let mut datagram = message(24, 0, &[]);
            datagram[..4].copy_from_slice(&len.to_ne_bytes());
            let found: Vec<_> = frames(&datagram).collect();
            assert_eq!(found.len(), 1, "length {len}");
            assert!(found[0].is_err(), "length {len}");
        }
    }
}
