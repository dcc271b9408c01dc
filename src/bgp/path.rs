//! AS_PATH on the wire (RFC 4271 section 4.3), with AS numbers of four octets and of two (RFC 6793).
//!
//! To a speaker that knows only two octets, AS_TRANS stands for each larger number, and AS4_PATH says
//! what they are; what comes from it is put together again.

use super::{
    attribute::{Segment, length},
    wire::{take_u8, take_u16, take_u32},
};

/// Stands for an AS number that two octets can't hold.
pub(super) const TRANS: u16 = 23456;
/// So many ASes fit in a segment.
pub(super) const FULL: usize = 255;

const SET: u8 = 1;
const SEQUENCE: u8 = 2;
const CONFED_SEQUENCE: u8 = 3;
const CONFED_SET: u8 = 4;

impl Segment {
    fn parts(&self) -> (u8, &[u32]) {
        match self {
            Segment::Set(ases) => (SET, ases),
            Segment::Sequence(ases) => (SEQUENCE, ases),
            Segment::Confederation(true, ases) => (CONFED_SEQUENCE, ases),
            Segment::Confederation(false, ases) => (CONFED_SET, ases),
        }
    }
}

/// Reads a path. `None`: a segment is empty, of an unknown type or does not fit, or an AS is 0 (RFC 7606
/// section 7.2, RFC 7607).
pub(super) fn read(mut bytes: &[u8], four_octet: bool) -> Option<Vec<Segment>> {
    let mut path = Vec::new();
    while let Some(kind) = take_u8(&mut bytes) {
        let count = take_u8(&mut bytes).filter(|&count| count > 0)?;
        let mut ases = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            let asn =
                if four_octet { take_u32(&mut bytes)? } else { u32::from(take_u16(&mut bytes)?) };
            if asn == 0 {
                return None;
            }
            ases.push(asn);
        }
        path.push(match kind {
            SET => Segment::Set(ases),
            SEQUENCE => Segment::Sequence(ases),
            CONFED_SEQUENCE => Segment::Confederation(true, ases),
            CONFED_SET => Segment::Confederation(false, ases),
            _ => return None,
        });
    }
    Some(path)
}

/// Appends a path, with AS_TRANS where two octets are too few.
pub(super) fn write(path: &[Segment], four_octet: bool, out: &mut Vec<u8>) {
    for (kind, ases) in path.iter().map(Segment::parts) {
        for ases in ases.chunks(FULL) {
            out.extend([kind, u8::try_from(ases.len()).unwrap_or(u8::MAX)]);
            for &asn in ases {
                if four_octet {
                    out.extend(asn.to_be_bytes());
                } else {
                    out.extend(to_two(asn).to_be_bytes());
                }
            }
        }
    }
}

/// An AS number in two octets.
pub(super) fn to_two(asn: u32) -> u16 {
    u16::try_from(asn).unwrap_or(TRANS)
}

/// What AS4_PATH has to say of a path: nothing where two octets do. Confederations are not in it.
pub(super) fn as4(path: &[Segment]) -> Option<Vec<Segment>> {
    let path: Vec<Segment> = without_confederations(path).cloned().collect();
    path.iter()
        .any(|segment| segment.parts().1.iter().any(|&asn| asn > u16::MAX.into()))
        .then_some(path)
}

fn without_confederations(path: &[Segment]) -> impl Iterator<Item = &Segment> {
    path.iter().filter(|segment| !matches!(segment, Segment::Confederation(..)))
}

/// Puts AS_PATH and AS4_PATH together (RFC 6793 section 4.2.3): what speakers of two octets have put in
/// front is in the first alone. An AS4_PATH that is longer than the AS_PATH is not believed.
pub(super) fn merge(path: Vec<Segment>, as4: &[Segment]) -> Vec<Segment> {
    let as4: Vec<Segment> = without_confederations(as4).cloned().collect();
    let Some(mut missing) = length(&path).checked_sub(length(&as4)).filter(|_| !as4.is_empty())
    else {
        return path;
    };
    let mut merged = Vec::new();
    for segment in path {
        match segment {
            Segment::Confederation(..) => merged.push(segment), // leading, or next to one that is kept
            _ if missing == 0 => break,
            Segment::Set(_) => {
                missing -= 1;
                merged.push(segment);
            }
            Segment::Sequence(mut ases) => {
                let cut = ases.len() > missing;
                ases.truncate(missing);
                missing -= ases.len();
                merged.push(Segment::Sequence(ases));
                if cut {
                    break;
                }
            }
        }
    }
    let mut rest = as4.into_iter().peekable();
    // One sequence that was cut in two by the wire, not by its speakers.
    if let (Some(Segment::Sequence(front)), Some(Segment::Sequence(back))) =
        (merged.last_mut(), rest.peek())
        && front.len() + back.len() <= FULL
    {
        front.extend(back);
        rest.next();
    }
    merged.extend(rest);
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use Segment::{Confederation, Sequence, Set};

    #[test]
    fn a_broken_segment_breaks_the_path() {
        for (bytes, why) in [
            (&[2, 0][..], "empty"),
            (&[5, 1, 0, 1], "unknown type"),
            (&[0, 1, 0, 1], "unknown type"),
            (&[2, 2, 0, 1], "overrun"),
            (&[2, 1, 0, 1, 2], "one byte is left"),
            (&[2, 1, 0, 0], "AS 0"),
        ] {
            assert_eq!(read(bytes, false), None, "{why}");
        }
        assert_eq!(read(&[], true), Some(vec![]));
    }

    #[test]
    fn a_path_reads_as_it_was_written() {
        let path = vec![Sequence(vec![1, 70000]), Set(vec![2, 3]), Confederation(true, vec![4])];
        let mut bytes = Vec::new();
        write(&path, true, &mut bytes);
        assert_eq!(read(&bytes, true), Some(path.clone()));
        bytes.clear();
        write(&path, false, &mut bytes);
        assert_eq!(bytes, [2, 2, 0, 1, 0x5b, 0xa0, 1, 2, 0, 2, 0, 3, 3, 1, 0, 4]);
        bytes.clear();
        write(&[Sequence(vec![7; 256])], true, &mut bytes);
        assert_eq!(read(&bytes, true).unwrap(), [Sequence(vec![7; 255]), Sequence(vec![7])]);
    }

    #[test]
    fn what_speakers_of_two_octets_prepended_stays_in_front_of_as4_path() {
        let trans = u32::from(TRANS);
        for (path, as4, merged) in [
            (
                vec![Sequence(vec![1, 2, trans])],
                vec![Sequence(vec![70000])],
                vec![Sequence(vec![1, 2, 70000])],
            ),
            (vec![Sequence(vec![trans])], vec![Sequence(vec![70000])], vec![Sequence(vec![70000])]),
            (vec![Sequence(vec![1])], vec![Sequence(vec![70000, 2])], vec![Sequence(vec![1])]),
            (
                vec![Sequence(vec![1]), Set(vec![2, 3]), Sequence(vec![trans])],
                vec![Sequence(vec![70000])],
                vec![Sequence(vec![1]), Set(vec![2, 3]), Sequence(vec![70000])],
            ),
            (
                vec![Confederation(true, vec![9]), Sequence(vec![trans])],
                vec![Confederation(true, vec![8]), Sequence(vec![70000])],
                vec![Confederation(true, vec![9]), Sequence(vec![70000])],
            ),
            (vec![Sequence(vec![1])], vec![Confederation(true, vec![8])], vec![Sequence(vec![1])]),
        ] {
            assert_eq!(merge(path, &as4), merged);
        }
    }

    #[test]
    fn as4_path_is_said_only_where_two_octets_do_not_do() {
        assert_eq!(as4(&[Sequence(vec![1, 65535])]), None);
        let path = [Confederation(false, vec![70000]), Sequence(vec![1, 65536])];
        assert_eq!(as4(&path), Some(vec![Sequence(vec![1, 65536])]));
        assert_eq!(as4(&path[..1]), None);
    }
}
