//! The messages of BGP (RFC 4271 section 4), read from bytes and written to them.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::{
    Family,
    attribute::Attributes,
    capability::{self, Capabilities, UNICAST},
    path::to_two,
    update,
    wire::{take_u8, take_u16, take_u32},
};

/// Length of the header: marker, length, type.
pub const HEADER: usize = 19;
/// The longest message.
pub const MAX: usize = 4096;

const MARKER: [u8; 16] = [0xff; 16];
const VERSION: u8 = 4;
const OPEN: u8 = 1;
const UPDATE: u8 = 2;
const NOTIFICATION: u8 = 3;
const KEEPALIVE: u8 = 4;
const REFRESH: u8 = 5;

/// What was agreed on with the other side of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agreed {
    /// AS numbers have four octets (RFC 6793): both sides said so.
    pub four_octet: bool,
    /// It is of the same AS.
    pub internal: bool,
}

/// What is said over a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The first of a connection, from both sides.
    Open(Open),
    /// Routes that came and went.
    Update(Update),
    /// What was wrong; the connection ends with it.
    Notification(Notification),
    /// I am still here.
    Keepalive,
    /// Say again what you have of a family (RFC 2918).
    Refresh(Family),
    /// A refresh of a family that is not spoken of here, or of another SAFI: nothing to do.
    Unknown,
}

/// The first message (RFC 4271 section 4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The speaker's AS, by the four-octet capability where it is there (RFC 6793).
    pub asn: u32,
    /// The hold time that it offers, in seconds: 0, or from 3 on.
    pub hold: u16,
    /// Its BGP Identifier.
    pub id: Ipv4Addr,
    /// What else it can do.
    pub capabilities: Capabilities,
}

/// Routes that came and went (RFC 4271 section 4.3, RFC 4760).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// Those that are gone, of any family; also those whose attributes were broken (RFC 7606).
    pub withdrawn: Vec<IpNet>,
    /// Those that are there, with their next hop: once for each family at most.
    pub reach: Vec<Reach>,
    /// What holds for all of `reach`.
    pub attributes: Attributes,
    /// All that the peer had at first has been said (RFC 4724 section 2).
    pub end: Option<Family>,
    /// What was broken and did not cost more than these routes, in words.
    pub faults: Vec<String>,
}

/// Routes by way of a next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Where they lead, of the family of `nets`.
    pub next_hop: IpAddr,
    /// The routes.
    pub nets: Vec<IpNet>,
}

/// What was wrong (RFC 4271 section 4.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// The error code.
    pub code: u8,
    /// The error subcode.
    pub subcode: u8,
    /// More of it, as the code has it.
    pub data: Vec<u8>,
}

/// The length of the first whole message in `bytes`; `None`: more bytes are needed.
///
/// An error is a Message Header Error (RFC 4271 section 6.1), found as early as can be: what does not
/// begin like BGP is not waited for.
pub fn frame(bytes: &[u8]) -> Result<Option<usize>, Notification> {
    if bytes.iter().zip(MARKER).any(|(&byte, mark)| byte != mark) {
        return Err(Notification::new(1, 1));
    }
    let Some(&[high, low, kind]) = bytes.get(MARKER.len()..HEADER) else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let (least, most) = match kind {
        OPEN => (HEADER + 10, MAX),
        UPDATE => (HEADER + 4, MAX),
        NOTIFICATION => (HEADER + 2, MAX),
        KEEPALIVE => (HEADER, HEADER),
        REFRESH => (HEADER + 4, MAX),
        _ => return Err(Notification::with(1, 3, &[kind])),
    };
    if !(least..=most).contains(&length) {
        return Err(Notification::with(1, 2, &[high, low]));
    }
    Ok((bytes.len() >= length).then_some(length))
}

impl Message {
    /// Reads one whole message, its header included.
    pub fn read(bytes: &[u8], agreed: Agreed) -> Result<Message, Notification> {
        let body = match frame(bytes)? {
            Some(length) if length == bytes.len() => bytes.get(HEADER..).unwrap_or_default(),
            _ => return Err(Notification::with(1, 2, bytes.get(16..18).unwrap_or_default())),
        };
        match bytes.get(HEADER - 1) {
            Some(&OPEN) => Open::read(body).map(Message::Open),
            Some(&UPDATE) => update::read(body, agreed).map(Message::Update),
            Some(&NOTIFICATION) => {
                let (&[code, subcode], data) = body.split_first_chunk().unwrap_or((&[0; 2], &[]));
                Ok(Message::Notification(Notification::with(code, subcode, data)))
            }
            Some(&KEEPALIVE) => Ok(Message::Keepalive),
            _ => Ok(match *body {
                // In the middle is the subtype (RFC 7313): others than 0 are not asked for.
                [high, low, 0, UNICAST, ..] => Family::of_afi(u16::from_be_bytes([high, low]))
                    .map_or(Message::Unknown, Message::Refresh),
                _ => Message::Unknown,
            }),
        }
    }

    /// Appends it. An Update takes as many messages as it needs, and none where it says nothing; what is
    /// [`Message::Unknown`] is not said either.
    pub fn write(&self, agreed: Agreed, out: &mut Vec<u8>) {
        match self {
            Message::Open(open) => frame_up(OPEN, out, &mut |out| open.write(out)),
            Message::Update(update) => update::write(update, agreed, &mut |body| {
                frame_up(UPDATE, out, &mut |out| out.extend_from_slice(body));
            }),
            Message::Notification(notification) => frame_up(NOTIFICATION, out, &mut |out| {
                out.extend([notification.code, notification.subcode]);
                out.extend(notification.data.iter().take(MAX - HEADER - 2));
            }),
            Message::Keepalive => frame_up(KEEPALIVE, out, &mut |_| {}),
            Message::Refresh(family) => frame_up(REFRESH, out, &mut |out| {
                out.extend(family.afi().to_be_bytes());
                out.extend([0, UNICAST]);
            }),
            Message::Unknown => {}
        }
    }
}

/// Appends a message of a type, with its header.
fn frame_up(kind: u8, out: &mut Vec<u8>, body: &mut dyn FnMut(&mut Vec<u8>)) {
    let start = out.len();
    out.extend(MARKER);
    out.extend([0, 0, kind]);
    body(out);
    let length = u16::try_from(out.len() - start).unwrap_or(u16::MAX); // each body keeps below MAX
    out[start + 16..start + 18].copy_from_slice(&length.to_be_bytes());
}

impl Open {
    fn read(mut body: &[u8]) -> Result<Open, Notification> {
        let short = || Notification::new(1, 2); // `frame` has seen to it
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
        out.extend(to_two(self.asn).to_be_bytes());
        out.extend(self.hold.to_be_bytes());
        out.extend(self.id.octets());
        capability::write(&self.capabilities, self.asn, out);
    }
}

#[cfg(test)]
mod tests;
