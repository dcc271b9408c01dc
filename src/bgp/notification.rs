//! A NOTIFICATION message and its text for logs (RFC 4271 section 4.5, RFC 4486, RFC
//! 9003).
//!
//! The text comes from the peer and is printed on terminals, so control characters in a shutdown
//! communication are escaped. [`message`](super::message) reads and writes the bytes of the message.

use std::fmt::{self, Display, Formatter, Write};

/// Cease subcode of an administrative shutdown (RFC 4486).
const SHUTDOWN: u8 = 2;
/// Cease subcode of an administrative reset (RFC 4486).
const RESET: u8 = 4;
/// The maximum length of a shutdown communication, in bytes (RFC 9003).
const MAX_TEXT: usize = 255;
/// The maximum number of data bytes that are printed for other errors.
const MAX_DATA_PRINTED: usize = 24;

/// The names of the error codes, from code 1, each with the names of its subcodes, from subcode 1. An empty
/// name stands for a deprecated or unassigned subcode.
const NAMES: [(&str, &[&str]); 7] = [
    ("message header error", &["not synchronized", "bad message length", "bad message type"]),
    (
        "OPEN message error",
        &[
            "unsupported version number",
            "bad peer AS",
            "bad BGP identifier",
            "unsupported optional parameter",
            "authentication failure",
            "unacceptable hold time",
            "unsupported capability",
            "",
            "",
            "",
            "role mismatch",
        ],
    ),
    (
        "UPDATE message error",
        &[
            "malformed attribute list",
            "unrecognized well-known attribute",
            "missing well-known attribute",
            "attribute flags error",
            "attribute length error",
            "invalid ORIGIN",
            "AS routing loop",
            "invalid NEXT_HOP",
            "optional attribute error",
            "invalid network field",
            "malformed AS_PATH",
        ],
    ),
    ("hold timer expired", &[]),
    (
        "finite state machine error",
        &[
            "unexpected message in OpenSent",
            "unexpected message in OpenConfirm",
            "unexpected message in Established",
        ],
    ),
    (
        "cease",
        &[
            "maximum number of prefixes reached",
            "administrative shutdown",
            "peer de-configured",
            "administrative reset",
            "connection rejected",
            "other configuration change",
            "connection collision resolution",
            "out of resources",
            "hard reset",
            "BFD down",
        ],
    ),
    ("ROUTE-REFRESH message error", &["invalid message length"]),
];

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

impl Notification {
    /// The OPEN has AS 0 or an AS other than the configured one.
    pub const BAD_PEER_AS: Notification = Notification::new(2, 2);
    /// The BGP Identifier is 0, or equals this speaker's within the same AS (RFC 6286).
    pub const BAD_BGP_ID: Notification = Notification::new(2, 3);
    /// The hold time is 1 or 2 seconds.
    pub const UNACCEPTABLE_HOLD_TIME: Notification = Notification::new(2, 6);
    /// No message was received within the hold time.
    pub const HOLD_TIMER_EXPIRED: Notification = Notification::new(4, 0);
    /// An unexpected message was received in state OpenSent (RFC 6608).
    pub const UNEXPECTED_IN_OPEN_SENT: Notification = Notification::new(5, 1);
    /// An unexpected message was received in state OpenConfirm (RFC 6608).
    pub const UNEXPECTED_IN_OPEN_CONFIRM: Notification = Notification::new(5, 2);
    /// An unexpected message was received in state Established (RFC 6608).
    pub const UNEXPECTED_IN_ESTABLISHED: Notification = Notification::new(5, 3);
    /// The peer was removed from the configuration.
    pub const PEER_DECONFIGURED: Notification = Notification::new(6, 3);
    /// The connection is refused.
    pub const CONNECTION_REJECTED: Notification = Notification::new(6, 5);
    /// The configuration of the peer changed.
    pub const CONFIGURATION_CHANGE: Notification = Notification::new(6, 6);
    /// The connection lost a collision (RFC 4271 section 6.8).
    pub const COLLISION: Notification = Notification::new(6, 7);
    /// BFD detected a failure of the path to the peer (RFC 9384).
    pub const BFD_DOWN: Notification = Notification::new(6, 10);

    /// Returns a notification without data.
    pub const fn new(code: u8, subcode: u8) -> Notification {
        Notification { code, subcode, data: Vec::new() }
    }

    /// Returns a notification with data.
    pub fn with(code: u8, subcode: u8, data: &[u8]) -> Notification {
        Notification { code, subcode, data: data.to_vec() }
    }

    /// Returns an administrative shutdown with a reason. The text is cut at 255 bytes (RFC 9003).
    pub fn shutdown(text: &str) -> Notification {
        Notification::with_text(SHUTDOWN, text)
    }

    /// Returns an administrative reset with a reason. The text is cut at 255 bytes (RFC 9003).
    pub fn reset(text: &str) -> Notification {
        Notification::with_text(RESET, text)
    }

    fn with_text(subcode: u8, text: &str) -> Notification {
        if text.is_empty() {
            return Notification::new(6, subcode);
        }
        let text = &text.as_bytes()[..text.floor_char_boundary(MAX_TEXT)];
        let mut data = vec![u8::try_from(text.len()).unwrap_or(u8::MAX)];
        data.extend_from_slice(text);
        Notification { code: 6, subcode, data }
    }

    /// Returns the shutdown communication, which should be UTF-8. `None` if it is empty or if this is not a
    /// shutdown or reset.
    fn text(&self) -> Option<&[u8]> {
        if self.code != 6 || !matches!(self.subcode, SHUTDOWN | RESET) {
            return None;
        }
        let (&length, text) = self.data.split_first()?;
        Some(text.get(..usize::from(length)).unwrap_or(text)).filter(|text| !text.is_empty())
    }
}

impl Display for Notification {
    /// Writes the names of the code and subcode, then the shutdown communication or the data in
    /// hexadecimal, for example `cease: administrative shutdown: "maintenance"`.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Some((name, subnames)) =
            usize::from(self.code).checked_sub(1).and_then(|at| NAMES.get(at))
        else {
            return write!(f, "error {}/{}", self.code, self.subcode);
        };
        f.write_str(name)?;
        let subname = usize::from(self.subcode).checked_sub(1).and_then(|at| subnames.get(at));
        match subname {
            Some(subname) if !subname.is_empty() => write!(f, ": {subname}")?,
            _ if self.subcode == 0 => {}
            _ => write!(f, ": subcode {}", self.subcode)?,
        }
        if let Some(text) = self.text() {
            f.write_str(": \"")?;
            for c in String::from_utf8_lossy(text).chars() {
                write_escaped(c, f)?;
            }
            f.write_char('"')?;
        } else if !self.data.is_empty() && self.code != 6 {
            f.write_str(" (")?;
            for byte in self.data.iter().take(MAX_DATA_PRINTED) {
                write!(f, "{byte:02x}")?;
            }
            f.write_str(if self.data.len() > MAX_DATA_PRINTED { "...)" } else { ")" })?;
        }
        Ok(())
    }
}

/// Writes a character so that it is safe on a terminal and within quotes: quotes, backslashes, control
/// characters, and characters that are invisible or change the direction of text are escaped.
fn write_escaped(c: char, f: &mut Formatter<'_>) -> fmt::Result {
    let invisible =
        matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    match c {
        '"' | '\\' => write!(f, "\\{c}"),
        _ if c.is_control() || invisible => write!(f, "{}", c.escape_unicode()),
        _ => f.write_char(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shutdown_communication_is_printed_with_terminal_control_characters_escaped() {
        let printed = |text: &str| Notification::shutdown(text).to_string();
        assert_eq!(printed("maintenance"), "cease: administrative shutdown: \"maintenance\"");
        assert_eq!(printed(""), "cease: administrative shutdown");
        assert_eq!(
            printed("\x1b[2J\"\\"),
            "cease: administrative shutdown: \"\\u{1b}[2J\\\"\\\\\""
        );
        assert_eq!(printed("Größe\u{202e}"), "cease: administrative shutdown: \"Größe\\u{202e}\"");
        let broken = Notification::with(6, 4, &[200, b'a', 0xff]);
        assert_eq!(broken.to_string(), "cease: administrative reset: \"a\u{fffd}\"");
        assert_eq!(Notification::with(6, 2, &[0, 1]).to_string(), "cease: administrative shutdown");
    }

    #[test]
    fn a_long_shutdown_communication_is_cut_at_a_character_boundary() {
        let data = Notification::reset(&"ü".repeat(200)).data;
        assert_eq!((data[0], data.len()), (254, 255));
        assert!(std::str::from_utf8(&data[1..]).is_ok());
    }

    #[test]
    fn known_codes_are_printed_by_name_and_unknown_codes_by_number() {
        assert_eq!(Notification::HOLD_TIMER_EXPIRED.to_string(), "hold timer expired");
        assert_eq!(Notification::BAD_PEER_AS.to_string(), "OPEN message error: bad peer AS");
        assert_eq!(Notification::COLLISION.to_string(), "cease: connection collision resolution");
        assert_eq!(Notification::new(2, 8).to_string(), "OPEN message error: subcode 8");
        assert_eq!(Notification::new(9, 1).to_string(), "error 9/1");
        assert_eq!(Notification::new(0, 0).to_string(), "error 0/0");
        let bad_type = Notification::with(1, 3, &[9]);
        assert_eq!(bad_type.to_string(), "message header error: bad message type (09)");
    }
}
