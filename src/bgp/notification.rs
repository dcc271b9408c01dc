//! The message that ends a connection, and its words (RFC 4271 section 4.5, RFC 4486, RFC 9003).
//!
//! What comes from the other side is shown to people and to their terminals: the text of a shutdown is
//! escaped before it is.

use std::fmt::{self, Display, Formatter, Write};

use super::message::Notification;

/// Subcodes of a Cease.
const SHUTDOWN: u8 = 2;
const RESET: u8 = 4;
/// So long may the text of a shutdown be, in bytes (RFC 9003).
const TEXT: usize = 255;
/// So much of other data is shown.
const SHOWN: usize = 24;

/// The names of the codes and, from subcode 1 on, of their subcodes.
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

impl Notification {
    /// Another AS than the one that was configured, or 0.
    pub const BAD_PEER_AS: Notification = Notification::new(2, 2);
    /// A BGP Identifier that is 0, or this speaker's own within its AS.
    pub const BAD_BGP_ID: Notification = Notification::new(2, 3);
    /// A hold time of one or two seconds.
    pub const UNACCEPTABLE_HOLD_TIME: Notification = Notification::new(2, 6);
    /// Nothing was heard for the hold time.
    pub const HOLD_TIMER_EXPIRED: Notification = Notification::new(4, 0);
    /// An unexpected message in OpenSent (RFC 6608).
    pub const UNEXPECTED_IN_OPEN_SENT: Notification = Notification::new(5, 1);
    /// An unexpected message in OpenConfirm (RFC 6608).
    pub const UNEXPECTED_IN_OPEN_CONFIRM: Notification = Notification::new(5, 2);
    /// An unexpected message in Established (RFC 6608).
    pub const UNEXPECTED_IN_ESTABLISHED: Notification = Notification::new(5, 3);
    /// This peer is no longer configured.
    pub const PEER_DECONFIGURED: Notification = Notification::new(6, 3);
    /// No connection is wanted.
    pub const CONNECTION_REJECTED: Notification = Notification::new(6, 5);
    /// What is configured of the peer has changed.
    pub const CONFIGURATION_CHANGE: Notification = Notification::new(6, 6);
    /// The other one of two connections is kept.
    pub const COLLISION: Notification = Notification::new(6, 7);

    /// The way to the peer is broken (RFC 9384).
    pub const BFD_DOWN: Notification = Notification::new(6, 10);

    /// One without data.
    pub const fn new(code: u8, subcode: u8) -> Notification {
        Notification { code, subcode, data: Vec::new() }
    }

    /// One with data.
    pub fn with(code: u8, subcode: u8, data: &[u8]) -> Notification {
        Notification { code, subcode, data: data.to_vec() }
    }

    /// Administrative shutdown, and why; of the text only what fits is said.
    pub fn shutdown(text: &str) -> Notification {
        Notification::with_text(SHUTDOWN, text)
    }

    /// Administrative reset, and why; of the text only what fits is said.
    pub fn reset(text: &str) -> Notification {
        Notification::with_text(RESET, text)
    }

    fn with_text(subcode: u8, text: &str) -> Notification {
        if text.is_empty() {
            return Notification::new(6, subcode);
        }
        let text = &text.as_bytes()[..text.floor_char_boundary(TEXT)];
        let mut data = vec![u8::try_from(text.len()).unwrap_or(u8::MAX)];
        data.extend_from_slice(text);
        Notification { code: 6, subcode, data }
    }

    /// The bytes of the text of a shutdown or reset.
    fn text(&self) -> Option<&[u8]> {
        if self.code != 6 || !matches!(self.subcode, SHUTDOWN | RESET) {
            return None;
        }
        let (&length, text) = self.data.split_first()?;
        Some(text.get(..usize::from(length)).unwrap_or(text)).filter(|text| !text.is_empty())
    }
}

impl Display for Notification {
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
            for byte in self.data.iter().take(SHOWN) {
                write!(f, "{byte:02x}")?;
            }
            f.write_str(if self.data.len() > SHOWN { "...)" } else { ")" })?;
        }
        Ok(())
    }
}

/// Writes a character that can be trusted with a terminal: no control, no change of direction, no end
/// of the quotes.
fn write_escaped(c: char, f: &mut Formatter<'_>) -> fmt::Result {
    let turns =
        matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    match c {
        '"' | '\\' => write!(f, "\\{c}"),
        _ if c.is_control() || turns => write!(f, "{}", c.escape_unicode()),
        _ => f.write_char(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_shutdown_is_shown_without_what_a_terminal_obeys() {
        let said = |text: &str| Notification::shutdown(text).to_string();
        assert_eq!(said("maintenance"), "cease: administrative shutdown: \"maintenance\"");
        assert_eq!(said(""), "cease: administrative shutdown");
        assert_eq!(said("\x1b[2J\"\\"), "cease: administrative shutdown: \"\\u{1b}[2J\\\"\\\\\"");
        assert_eq!(said("Größe\u{202e}"), "cease: administrative shutdown: \"Größe\\u{202e}\"");
        let broken = Notification::with(6, 4, &[200, b'a', 0xff]);
        assert_eq!(broken.to_string(), "cease: administrative reset: \"a\u{fffd}\"");
        assert_eq!(Notification::with(6, 2, &[0, 1]).to_string(), "cease: administrative shutdown");
    }

    #[test]
    fn a_long_text_is_cut_between_two_characters() {
        let data = Notification::reset(&"ü".repeat(200)).data;
        assert_eq!((data[0], data.len()), (254, 255));
        assert!(std::str::from_utf8(&data[1..]).is_ok());
    }

    #[test]
    fn every_code_has_words_and_an_unknown_one_its_number() {
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
