//! Encoding and decoding of BGP messages (RFC 4271 section 4). All numbers on the wire are big-endian.
//!
//! [`frame`] finds the end of a message in received bytes, [`Message::read`] decodes one message, and
//! [`Message::write`] encodes one. The optional parameters of OPEN are in [`capability`], UPDATE is in
//! `update`, and the codes and texts of NOTIFICATION are in `notification`. An error while decoding is
//! the NOTIFICATION to send to the peer.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::{
    Family,
    attribute::Attributes,
    capability::{self, Capabilities, UNICAST},
    path::to_two_octets,
    update,
    wire::{take_u8, take_u16, take_u32},
};

/// The length of the message header in bytes: marker, length and type.
pub const HEADER_LEN: usize = 19;
/// The maximum length of a message in bytes, including the header.
pub const MAX: usize = 4096;

const MARKER: [u8; 16] = [0xff; 16];
const VERSION: u8 = 4;
const OPEN: u8 = 1;
const UPDATE: u8 = 2;
const NOTIFICATION: u8 = 3;
const KEEPALIVE: u8 = 4;
const ROUTE_REFRESH: u8 = 5;

/// The properties of a connection that change the encoding of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agreed {
    /// True if AS numbers have four octets, because both sides announced that capability (RFC 6793).
    pub four_octet: bool,
    /// True if the peer is in the same AS (iBGP).
    pub internal: bool,
}

/// A BGP message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// OPEN: the first message on a connection, from both sides.
    Open(Open),
    /// UPDATE: advertised and withdrawn routes.
    Update(Update),
    /// NOTIFICATION: an error; the connection is closed after it.
    Notification(Notification),
    /// KEEPALIVE: restarts the hold timer of the receiver.
    Keepalive,
    /// ROUTE-REFRESH: a request to advertise all routes of a family again (RFC 2918).
    Refresh(Family),
    /// A ROUTE-REFRESH that is ignored: of an unsupported family, or of another subtype (RFC 7313).
    Unknown,
}

/// An OPEN message (RFC 4271 section 4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The AS of the sender; taken from the four-octet AS capability if there is one (RFC 6793).
    pub asn: u32,
    /// The proposed hold time in seconds: 0, or at least 3.
    pub hold: u16,
    /// The BGP Identifier of the sender.
    pub id: Ipv4Addr,
    /// The capabilities of the sender (RFC 5492).
    pub capabilities: Capabilities,
}

/// An UPDATE message (RFC 4271 section 4.3, RFC 4760).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// Withdrawn networks of all families, including those treated as withdrawn because of an error
    /// (RFC 7606).
    pub withdrawn: Vec<IpNet>,
    /// Advertised networks with their next hop: at most one element for each family.
    pub reach: Vec<Reach>,
    /// The path attributes of all networks in `reach`.
    pub attributes: Attributes,
    /// The family if this is an End-of-RIB: the peer has sent all of its initial routes (RFC 4724 section
    /// 2). `None` otherwise.
    pub end: Option<Family>,
    /// Descriptions of errors that did not reset the session, for the log.
    pub faults: Vec<String>,
}

/// Networks that are reachable through one next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The next hop, of the family of `nets`.
    pub next_hop: IpAddr,
    /// The networks.
    pub nets: Vec<IpNet>,
}

/// A NOTIFICATION message (RFC 4271 section 4.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// The error code.
    pub code: u8,
    /// The error subcode.
    pub subcode: u8,
    /// Diagnostic data; its content depends on the code and subcode.
    pub data: Vec<u8>,
}

/// Returns the length of the first message in `bytes`, including its header; `None` if the message is not
/// complete yet.
///
/// Fails with a Message Header Error (RFC 4271 section 6.1) if the header is invalid. The marker is
/// checked as it arrives, so that a connection of another protocol fails at its first bytes.
pub fn frame(bytes: &[u8]) -> Result<Option<usize>, Notification> {
    if bytes.iter().zip(MARKER).any(|(&byte, mark)| byte != mark) {
        return Err(Notification::new(1, 1));
    }
    let Some(&[high, low, kind]) = bytes.get(MARKER.len()..HEADER_LEN) else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let (min, max) = match kind {
        OPEN => (HEADER_LEN + 10, MAX),
        UPDATE => (HEADER_LEN + 4, MAX),
        NOTIFICATION => (HEADER_LEN + 2, MAX),
        KEEPALIVE => (HEADER_LEN, HEADER_LEN),
        ROUTE_REFRESH => (HEADER_LEN + 4, MAX),
        _ => return Err(Notification::with(1, 3, &[kind])),
    };
    if !(min..=max).contains(&length) {
        return Err(Notification::with(1, 2, &[high, low]));
    }
    Ok((bytes.len() >= length).then_some(length))
}

impl Message {
    /// Decodes one complete message, including its header. Fails if the message is invalid; the error
    /// is the NOTIFICATION to send.
    pub fn read(bytes: &[u8], agreed: Agreed) -> Result<Message, Notification> {
        let body = match frame(bytes)? {
            Some(length) if length == bytes.len() => bytes.get(HEADER_LEN..).unwrap_or_default(),
            _ => return Err(Notification::with(1, 2, bytes.get(16..18).unwrap_or_default())),
        };
        match bytes.get(HEADER_LEN - 1) {
            Some(&OPEN) => Open::read(body).map(Message::Open),
            Some(&UPDATE) => update::read(body, agreed).map(Message::Update),
            Some(&NOTIFICATION) => {
                let (&[code, subcode], data) = body.split_first_chunk().unwrap_or((&[0; 2], &[]));
                Ok(Message::Notification(Notification::with(code, subcode, data)))
            }
            Some(&KEEPALIVE) => Ok(Message::Keepalive),
            _ => Ok(match *body {
                // The third byte is the subtype (RFC 7313); only 0, the request, is supported.
                [high, low, 0, UNICAST, ..] => Family::of_afi(u16::from_be_bytes([high, low]))
                    .map_or(Message::Unknown, Message::Refresh),
                _ => Message::Unknown,
            }),
        }
    }

    /// Appends the encoded message to `out`. An UPDATE becomes as many messages as it needs, or none if
    /// it is empty. [`Message::Unknown`] becomes no message.
    pub fn write(&self, agreed: Agreed, out: &mut Vec<u8>) {
        match self {
            Message::Open(open) => write_framed(OPEN, out, &mut |out| open.write(out)),
            Message::Update(update) => update::write(update, agreed, &mut |body| {
                write_framed(UPDATE, out, &mut |out| out.extend_from_slice(body));
            }),
            Message::Notification(notification) => write_framed(NOTIFICATION, out, &mut |out| {
                out.extend([notification.code, notification.subcode]);
                out.extend(notification.data.iter().take(MAX - HEADER_LEN - 2));
            }),
            Message::Keepalive => write_framed(KEEPALIVE, out, &mut |_| {}),
            Message::Refresh(family) => write_framed(ROUTE_REFRESH, out, &mut |out| {
                out.extend(family.afi().to_be_bytes());
                out.extend([0, UNICAST]);
            }),
            Message::Unknown => {}
        }
    }
}

/// Appends a message of a type: the header, and the body that `body` appends.
fn write_framed(kind: u8, out: &mut Vec<u8>, body: &mut dyn FnMut(&mut Vec<u8>)) {
    let start = out.len();
    out.extend(MARKER);
    out.extend([0, 0, kind]);
    body(out);
    let length = u16::try_from(out.len() - start).unwrap_or(u16::MAX); // no body exceeds MAX
    out[start + 16..start + 18].copy_from_slice(&length.to_be_bytes());
}

impl Open {
    /// Decodes the body of an OPEN. Fails if a field is invalid (RFC 4271 section 6.2).
    fn read(mut body: &[u8]) -> Result<Open, Notification> {
        let short = || Notification::new(1, 2); // does not happen after `frame`
        if take_u8(&mut body) != Some(VERSION) {
            return Err(Notification::with(2, 1, &[0, VERSION]));
        }
        let asn = take_u16(&mut body).ok_or_else(short)?;
        let hold = take_u16(&mut body).ok_or_else(short)?;
        let id = Ipv4Addr::from(take_u32(&mut body).ok_or_else(short)?);
        let (capabilities, four) = capability::read(body)?;
        let asn = four.unwrap_or(asn.into());
        if asn == 0 {
            return Err(Notification::BAD_PEER_AS); // RFC 7607
        }
        if id.is_unspecified() {
            return Err(Notification::BAD_BGP_ID);
        }
        if matches!(hold, 1 | 2) {
            return Err(Notification::UNACCEPTABLE_HOLD_TIME);
        }
        Ok(Open { asn, hold, id, capabilities })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.extend(to_two_octets(self.asn).to_be_bytes());
        out.extend(self.hold.to_be_bytes());
        out.extend(self.id.octets());
        capability::write(&self.capabilities, self.asn, out);
    }
}

#[cfg(test)]
mod tests;
