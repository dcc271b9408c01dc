//! Netlink messages: [`Request`] builds them, [`frames`] and [`Attrs`] parse them (linux/netlink.h).
//!
//! neli's types are not used here, for three reasons: a batch is one buffer with many messages, an
//! attribute needs no allocation, and an acknowledgement with a text does not hide the next message.
//! Received lengths are never trusted: an invalid length ends the parsing. `socket` sends and
//! receives the bytes.

use std::{fmt, io, net::IpAddr};

use neli::consts::nl::NlmF;

use crate::{error::Error, family::addr_from_bytes};

/// struct nlmsghdr { u32 len; u16 type; u16 flags; u32 seq; u32 pid; }
const HEADER: usize = 16;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSGERR_ATTR_MSG: u16 = 1;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLM_F_DUMP_INTR: u16 = 0x10;
/// The flag in the type of an attribute that contains attributes.
pub const NLA_F_NESTED: u16 = 0x8000;

/// A message to the kernel.
#[derive(Clone, Debug)]
pub struct Request {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
    /// The errno values that count as success, because nothing was left to do.
    ignored: &'static [i32],
}

impl Request {
    /// Creates a request. `kind` is the message type (`RTM_*`, a generic netlink family, or
    /// `subsystem << 8 | NFT_MSG_*`), and `header` the fixed header of its family.
    pub fn new(kind: impl Into<u16>, flags: NlmF, header: &[u8]) -> Request {
        Request { kind: kind.into(), flags: flags.bits(), body: header.to_vec(), ignored: &[] }
    }

    /// Sets the errno values that count as success.
    pub fn ignore_errors(mut self, errnos: &'static [i32]) -> Request {
        self.ignored = errnos;
        self
    }

    /// Appends an attribute.
    pub fn attr(mut self, kind: impl Into<u16>, payload: &[u8]) -> Request {
        put(&mut self.body, kind.into(), payload);
        self
    }

    /// Appends a 32-bit number in native byte order.
    pub fn u32(self, kind: impl Into<u16>, number: u32) -> Request {
        self.attr(kind, &number.to_ne_bytes())
    }

    /// Appends an IP address as 4 or 16 bytes.
    pub fn addr(self, kind: impl Into<u16>, addr: IpAddr) -> Request {
        match addr {
            IpAddr::V4(addr) => self.attr(kind, &addr.octets()),
            IpAddr::V6(addr) => self.attr(kind, &addr.octets()),
        }
    }

    /// Appends raw bytes, for a fixed header inside an attribute.
    pub fn bytes(mut self, bytes: &[u8]) -> Request {
        self.body.extend_from_slice(bytes);
        self
    }

    /// Appends a string attribute with its terminating NUL.
    pub fn text(self, kind: impl Into<u16>, text: &str) -> Request {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        self.attr(kind, &bytes)
    }

    /// Appends an attribute that contains the attributes that `inner` appends.
    pub fn nest(mut self, kind: u16, inner: impl FnOnce(Request) -> Request) -> Request {
        let at = self.body.len();
        put(&mut self.body, kind, &[]);
        let mut nested = inner(self);
        let len = u16::try_from(nested.body.len() - at).unwrap_or(u16::MAX);
        nested.body[at..at + 2].copy_from_slice(&len.to_ne_bytes());
        nested
    }

    /// Returns true if an errno value counts as success for this request.
    pub fn ignores(&self, errno: i32) -> bool {
        self.ignored.contains(&errno)
    }

    /// Returns the size of the message in bytes, header included, without padding.
    pub fn size(&self) -> usize {
        HEADER + self.body.len()
    }

    /// Appends the message to a batch, padded to four bytes. `flags` are added to its own flags.
    pub fn write(&self, seq: u32, flags: u16, to: &mut Vec<u8>) {
        to.extend((self.size() as u32).to_ne_bytes());
        to.extend(self.kind.to_ne_bytes());
        to.extend((self.flags | flags | NlmF::REQUEST.bits()).to_ne_bytes());
        to.extend(seq.to_ne_bytes());
        to.extend(0u32.to_ne_bytes());
        to.extend(&self.body);
        to.resize(to.len().next_multiple_of(4), 0);
    }
}

/// Appends struct nlattr { u16 len; u16 type; } and the payload, padded to four bytes.
fn put(to: &mut Vec<u8>, kind: u16, payload: &[u8]) {
    to.extend(u16::try_from(4 + payload.len()).unwrap_or(u16::MAX).to_ne_bytes());
    to.extend(kind.to_ne_bytes());
    to.extend(payload);
    to.resize(to.len().next_multiple_of(4), 0);
}

/// The error of a request or a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// The kernel answered with an error.
    Kernel {
        /// The errno value, positive.
        errno: i32,
        /// The text of the extended acknowledgement; often empty.
        detail: Box<str>,
    },
    /// The kernel answered with an error for which kinglet has better advice than the error's text.
    Explained {
        /// The errno value, positive.
        errno: i32,
        /// The whole text of the error.
        reason: Box<str>,
    },
    /// kinglet refused the step itself, or the errno value is not known. It has the text of the error.
    Other(Box<str>),
}

impl Refusal {
    /// Returns the positive errno value; `None` if the error has none.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Refusal::Kernel { errno, .. } | Refusal::Explained { errno, .. } => Some(*errno),
            Refusal::Other(_) => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Kernel { errno, detail } => {
                write!(f, "{}", io::Error::from_raw_os_error(*errno))?;
                if detail.is_empty() { Ok(()) } else { write!(f, ": {detail}") }
            }
            Refusal::Explained { reason, .. } | Refusal::Other(reason) => f.write_str(reason),
        }
    }
}

impl From<&str> for Refusal {
    fn from(reason: &str) -> Refusal {
        Refusal::Other(reason.into())
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal::Other(error.to_string().into())
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Refusal {
        match error.raw_os_error() {
            Some(errno) => Refusal::Kernel { errno, detail: Box::default() },
            None => Refusal::Other(error.to_string().into()),
        }
    }
}

/// Keeps the errno value; the detail of a kernel error is lost.
impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> io::Error {
        match refusal.errno() {
            Some(errno) => io::Error::from_raw_os_error(errno),
            None => io::Error::other(refusal.to_string()),
        }
    }
}

/// The result of a request or a step.
pub type Outcome = Result<(), Refusal>;

/// A message from the kernel.
#[derive(Debug)]
pub struct Frame<'a> {
    kind: u16,
    flags: u16,
    seq: u32,
    body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Returns the part after struct nlmsghdr.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// Returns the message type: RTM_*, or a netfilter subsystem and its message.
    pub fn kind(&self) -> u16 {
        self.kind
    }

    /// Returns the sequence number of the request that the message answers.
    pub fn seq(&self) -> u32 {
        self.seq
    }

    /// Returns true if the data changed during the dump that this message belongs to.
    pub fn is_interrupted(&self) -> bool {
        self.flags & NLM_F_DUMP_INTR != 0
    }

    /// Returns the result in an NLMSG_ERROR message (an acknowledgement if its code is 0) or in the
    /// NLMSG_DONE at the end of a dump. `None` if this is another kind of message.
    pub fn answer(&self) -> Option<Outcome> {
        if self.kind != NLMSG_ERROR && self.kind != NLMSG_DONE {
            return None;
        }
        // Very old families send NLMSG_DONE without a status.
        let errno = self.body.first_chunk::<4>().map_or(0, |b| i32::from_ne_bytes(*b));
        if errno == 0 {
            return Some(Ok(()));
        }
        // NLMSG_ERROR contains the code, the header of the request and, unless capped, its body.
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
        let detail = text.unwrap_or_default().into();
        Some(Err(Refusal::Kernel { errno: errno.saturating_neg(), detail }))
    }
}

/// Splits a datagram into messages by their length fields. A wrong length yields one error and ends the
/// iteration.
pub fn frames(mut datagram: &[u8]) -> impl Iterator<Item = io::Result<Frame<'_>>> {
    std::iter::from_fn(move || {
        let head = *datagram.first_chunk::<HEADER>()?;
        let len = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let Some(body) = datagram.get(HEADER..len) else {
            datagram = &[];
            return Some(Err(io::Error::other("the kernel sent a message with a wrong length")));
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

/// A sequence of attributes. An attribute with an invalid length ends the sequence.
#[derive(Clone, Copy, Debug)]
pub struct Attrs<'a>(pub &'a [u8]);

impl<'a> Attrs<'a> {
    /// Returns the attributes after a fixed header of `len` bytes; none if the body is shorter.
    pub fn after(body: &'a [u8], len: usize) -> Attrs<'a> {
        Attrs(body.get(len..).unwrap_or_default())
    }

    /// Returns the payload of the first attribute of a type; `None` if there is none.
    pub fn get(self, kind: impl Into<u16>) -> Option<&'a [u8]> {
        let kind = kind.into();
        self.into_iter().find(|(k, _)| *k == kind).map(|(_, payload)| payload)
    }

    /// Returns a 32-bit number in native byte order; `None` if it is missing or too short.
    pub fn u32(self, kind: impl Into<u16>) -> Option<u32> {
        self.get(kind)?.first_chunk().map(|b| u32::from_ne_bytes(*b))
    }

    /// Returns a 16-bit number in native byte order; `None` if it is missing or too short.
    pub fn u16(self, kind: impl Into<u16>) -> Option<u16> {
        self.get(kind)?.first_chunk().map(|b| u16::from_ne_bytes(*b))
    }

    /// Returns a big-endian port; `None` if it is missing or too short.
    pub fn port(self, kind: impl Into<u16>) -> Option<u16> {
        self.get(kind)?.first_chunk().map(|b| u16::from_be_bytes(*b))
    }

    /// Returns an IP address; `None` if it is missing or does not have 4 or 16 bytes.
    pub fn addr(self, kind: impl Into<u16>) -> Option<IpAddr> {
        self.get(kind).and_then(addr_from_bytes)
    }

    /// Returns a string without its NUL; `None` if it is missing.
    pub fn text(self, kind: impl Into<u16>) -> Option<String> {
        self.get(kind).map(string)
    }

    /// Returns the attributes inside an attribute; `None` if it is missing.
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

/// An iterator over attributes: each type without its flags, and the payload.
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

/// Returns the text before the first NUL; invalid UTF-8 is replaced.
pub fn string(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// Returns a 32-bit number in native byte order from a fixed header; `None` if the header is too short.
pub fn u32_at(body: &[u8], at: usize) -> Option<u32> {
    body.get(at..)?.first_chunk().map(|b| u32::from_ne_bytes(*b))
}

/// Returns the body of a request, for the unit tests of its parser.
#[cfg(test)]
pub(super) fn body_of(request: &Request) -> Vec<u8> {
    request.body.clone()
}

/// Returns type, flags and body of a request, for the unit tests of its builder.
#[cfg(test)]
pub(super) fn parts_of(request: &Request) -> (u16, u16, Vec<u8>) {
    (request.kind, request.flags, request.body.clone())
}

/// Returns the bytes of hexadecimal digits; all other characters are ignored.
#[cfg(test)]
pub(super) fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let request = Request { kind, flags, body: body.to_vec(), ignored: &[] };
        request.write(7, 0, &mut bytes);
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes()); // the kernel does not set NLM_F_REQUEST
        bytes
    }

    #[test]
    fn an_ack_with_a_text_does_not_hide_the_next_message() {
        let mut body = 0i32.to_ne_bytes().to_vec();
        body.extend([0; HEADER]);
        put(&mut body, NLMSGERR_ATTR_MSG, b"careful\0");
        let mut datagram = message(NLMSG_ERROR, NLM_F_CAPPED | NLM_F_ACK_TLVS, &body);
        datagram.extend(message(NLMSG_ERROR, 0, &0i32.to_ne_bytes()));
        let answers: Vec<_> = frames(&datagram).map(|f| f.unwrap().answer()).collect();
        assert_eq!(answers, [Some(Ok(())), Some(Ok(()))]);
    }

    #[test]
    fn a_refusal_displays_the_error_and_the_extended_ack_text() {
        let mut body = (-libc::ENETUNREACH).to_ne_bytes().to_vec();
        body.extend(message(24, 5, &[1, 2, 3, 4])); // the kernel repeats the request
        put(&mut body, NLMSGERR_ATTR_MSG, b"Nexthop has invalid gateway\0");
        let datagram = message(NLMSG_ERROR, NLM_F_ACK_TLVS, &body);
        let refusal = frames(&datagram).next().unwrap().unwrap().answer().unwrap().unwrap_err();
        assert_eq!(refusal.errno(), Some(libc::ENETUNREACH));
        let error = io::Error::from_raw_os_error(libc::ENETUNREACH); // C libraries have different texts
        assert_eq!(refusal.to_string(), format!("{error}: Nexthop has invalid gateway"));
    }

    #[test]
    fn a_refusal_keeps_errno_and_text_of_an_io_error() {
        let missing = io::Error::from_raw_os_error(libc::ENOENT);
        let text = missing.to_string();
        let refusal = Refusal::from(missing);
        assert_eq!((refusal.errno(), refusal.to_string()), (Some(libc::ENOENT), text));
        assert_eq!(io::Error::from(refusal).raw_os_error(), Some(libc::ENOENT));
        let refusal = Refusal::from(io::Error::other("it is full"));
        assert_eq!((refusal.errno(), refusal.to_string()), (None, "it is full".into()));
        assert_eq!(io::Error::from(refusal).to_string(), "it is full");
    }

    #[test]
    fn a_nonzero_status_at_the_end_of_a_dump_is_an_error() {
        let datagram = message(NLMSG_DONE, 2, &(-libc::EINVAL).to_ne_bytes());
        let answer = frames(&datagram).next().unwrap().unwrap().answer();
        assert_eq!(answer, Some(Err(Refusal::Kernel { errno: libc::EINVAL, detail: "".into() })));
    }

    #[test]
    fn a_nested_attribute_is_parsed_as_it_was_built() {
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
    fn an_impossible_length_ends_the_datagram_with_an_error() {
        for len in [0u32, 15, 17, u32::MAX] {
            let mut datagram = message(24, 0, &[]);
            datagram[..4].copy_from_slice(&len.to_ne_bytes());
            let found: Vec<_> = frames(&datagram).collect();
            assert_eq!(found.len(), 1, "length {len}");
            assert!(found[0].is_err(), "length {len}");
        }
    }
}
