//! Basics of the wire format that the codecs of BGP messages share: limits of a message, and readers of
//! unsigned big-endian numbers.
//!
//! Each reader removes the bytes that it reads from the front of a slice. It returns `None` and leaves
//! the slice unchanged if the slice is too short.

/// The length of the message header in bytes: marker, length and type.
pub(super) const HEADER_LEN: usize = 19;
/// The maximum length of a message in bytes, including the header.
pub(super) const MAX_MESSAGE_LEN: usize = 4096;
/// The SAFI of unicast routes (RFC 4760).
pub(super) const UNICAST: u8 = 1;

/// Removes and returns the first `count` bytes.
pub(super) fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

/// Removes and returns a number of one byte.
pub(super) fn take_u8(bytes: &mut &[u8]) -> Option<u8> {
    let (&taken, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(taken)
}

/// Removes and returns a number of two bytes.
pub(super) fn take_u16(bytes: &mut &[u8]) -> Option<u16> {
    let (&taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u16::from_be_bytes(taken))
}

/// Removes and returns a number of four bytes.
pub(super) fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    let (&taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u32::from_be_bytes(taken))
}
