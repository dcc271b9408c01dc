//! Encoding and decoding of AS_PATH (RFC 4271 section 4.3), with AS numbers of four or two octets (RFC
//! 6793).
//!
//! In an AS_PATH for a two-octet AS speaker, AS_TRANS replaces each larger number, and `as4_path`
//! gives the AS4_PATH with the real numbers. `merge_as4_path` combines both when they are received.

use super::wire::{take_u8, take_u16, take_u32};

/// Replaces an AS number that does not fit in two octets (RFC 6793).
pub(super) const AS_TRANS: u16 = 23456;
/// The most ASes in a segment: the count has one byte.
pub(super) const MAX_SEGMENT_LEN: usize = 255;

const SET: u8 = 1;
const SEQUENCE: u8 = 2;
const CONFED_SEQUENCE: u8 = 3;
const CONFED_SET: u8 = 4;

/// A segment of an AS_PATH.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Segment {
    /// AS_SEQUENCE: ASes in the order of the path, the nearest first.
    Sequence(Vec<u32>),
    /// AS_SET: ASes in no order; its length counts as 1.
    Set(Vec<u32>),
    /// AS_CONFED_SET (RFC 5065): member ASes of a confederation in no order; its length counts as 0.
    ConfedSet(Vec<u32>),
    /// AS_CONFED_SEQUENCE (RFC 5065): member ASes of a confederation in the order of the path; its length
    /// counts as 0.
    ConfedSequence(Vec<u32>),
}

impl Segment {
    /// Returns the ASes of the segment.
    pub fn ases(&self) -> &[u32] {
        self.type_and_ases().1
    }

    /// Returns true if the segment has member ASes of a confederation (RFC 5065).
    pub fn is_confederation(&self) -> bool {
        matches!(self, Segment::ConfedSet(_) | Segment::ConfedSequence(_))
    }

    /// Returns the segment type on the wire, and the ASes.
    fn type_and_ases(&self) -> (u8, &[u32]) {
        match self {
            Segment::Set(ases) => (SET, ases),
            Segment::Sequence(ases) => (SEQUENCE, ases),
            Segment::ConfedSequence(ases) => (CONFED_SEQUENCE, ases),
            Segment::ConfedSet(ases) => (CONFED_SET, ases),
        }
    }
}

/// Returns the length of an AS_PATH for the decision process: a set counts 1 (RFC 4271 section
/// 9.1.2.2), a confederation segment 0 (RFC 5065 section 5.3).
pub(super) fn path_len(path: &[Segment]) -> usize {
    path.iter()
        .map(|segment| match segment {
            Segment::Sequence(ases) => ases.len(),
            Segment::Set(_) => 1,
            Segment::ConfedSet(_) | Segment::ConfedSequence(_) => 0,
        })
        .sum()
}

/// Decodes an AS_PATH. `None` if it is malformed: a segment is empty, of an unknown type or longer than
/// the value, or an AS is 0 (RFC 7606 section 7.2, RFC 7607).
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
            CONFED_SEQUENCE => Segment::ConfedSequence(ases),
            CONFED_SET => Segment::ConfedSet(ases),
            _ => return None,
        });
    }
    Some(path)
}

/// Appends an encoded AS_PATH. If `four_octet` is false, AS_TRANS replaces each AS number above 65,535.
pub(super) fn write(path: &[Segment], four_octet: bool, out: &mut Vec<u8>) {
    for (kind, ases) in path.iter().map(Segment::type_and_ases) {
        for ases in ases.chunks(MAX_SEGMENT_LEN) {
            out.extend([kind, u8::try_from(ases.len()).unwrap_or(u8::MAX)]);
            for &asn in ases {
                if four_octet {
                    out.extend(asn.to_be_bytes());
                } else {
                    out.extend(to_two_octets(asn).to_be_bytes());
                }
            }
        }
    }
}

/// Returns an AS number in two octets, or AS_TRANS if it does not fit.
pub(super) fn to_two_octets(asn: u32) -> u16 {
    u16::try_from(asn).unwrap_or(AS_TRANS)
}

/// Returns the AS4_PATH for an AS_PATH, without confederation segments; `None` if all its AS numbers
/// fit in two octets, so that no AS4_PATH is needed.
pub(super) fn as4_path(path: &[Segment]) -> Option<Vec<Segment>> {
    let path: Vec<Segment> = without_confederations(path).cloned().collect();
    path.iter()
        .any(|segment| segment.ases().iter().any(|&asn| asn > u16::MAX.into()))
        .then_some(path)
}

fn without_confederations(path: &[Segment]) -> impl Iterator<Item = &Segment> {
    path.iter().filter(|segment| !segment.is_confederation())
}

/// Merges AS_PATH and AS4_PATH (RFC 6793 section 4.2.3). Two-octet AS speakers prepend to AS_PATH only,
/// so its first ASes are kept before those of AS4_PATH. Returns AS_PATH unchanged if AS4_PATH is empty
/// or longer.
pub(super) fn merge_as4_path(path: Vec<Segment>, as4: &[Segment]) -> Vec<Segment> {
    let as4: Vec<Segment> = without_confederations(as4).cloned().collect();
    let Some(mut missing) = path_len(&path).checked_sub(path_len(&as4)).filter(|_| !as4.is_empty())
    else {
        return path;
    };
    let mut merged = Vec::new();
    for segment in path {
        match segment {
            Segment::ConfedSet(_) | Segment::ConfedSequence(_) => merged.push(segment), // it leads, or follows a kept segment
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
    // Both halves come from one sequence, which only the merge has split.
    if let (Some(Segment::Sequence(front)), Some(Segment::Sequence(back))) =
        (merged.last_mut(), rest.peek())
        && front.len() + back.len() <= MAX_SEGMENT_LEN
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
    use Segment::{ConfedSequence, ConfedSet, Sequence, Set};

    #[test]
    fn a_malformed_segment_makes_the_path_malformed() {
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
    fn reading_a_written_path_returns_the_same_path() {
        let path = vec![
            Sequence(vec![1, 70000]),
            Set(vec![2, 3]),
            ConfedSequence(vec![4]),
            ConfedSet(vec![5]),
        ];
        let mut bytes = Vec::new();
        write(&path, true, &mut bytes);
        assert_eq!(read(&bytes, true), Some(path.clone()));
        bytes.clear();
        write(&path, false, &mut bytes);
        assert_eq!(bytes, [2, 2, 0, 1, 0x5b, 0xa0, 1, 2, 0, 2, 0, 3, 3, 1, 0, 4, 4, 1, 0, 5]);
        bytes.clear();
        write(&[Sequence(vec![7; 256])], true, &mut bytes);
        assert_eq!(read(&bytes, true).unwrap(), [Sequence(vec![7; 255]), Sequence(vec![7])]);
    }

    #[test]
    fn merge_keeps_ases_that_two_octet_speakers_prepended_before_as4_path() {
        let trans = u32::from(AS_TRANS);
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
                vec![ConfedSequence(vec![9]), Sequence(vec![trans])],
                vec![ConfedSequence(vec![8]), Sequence(vec![70000])],
                vec![ConfedSequence(vec![9]), Sequence(vec![70000])],
            ),
            (vec![Sequence(vec![1])], vec![ConfedSequence(vec![8])], vec![Sequence(vec![1])]),
        ] {
            assert_eq!(merge_as4_path(path, &as4), merged);
        }
    }

    #[test]
    fn as4_path_is_sent_only_if_an_as_does_not_fit_in_two_octets() {
        assert_eq!(as4_path(&[Sequence(vec![1, 65535])]), None);
        let path = [ConfedSet(vec![70000]), Sequence(vec![1, 65536])];
        assert_eq!(as4_path(&path), Some(vec![Sequence(vec![1, 65536])]));
        assert_eq!(as4_path(&path[..1]), None);
    }
}
