//! Path attributes (RFC 4271 section 5). The module `update` encodes and decodes them; `as_path` does
//! so for the AS_PATH.

use std::{iter, net::Ipv4Addr};

use super::as_path::{self, MAX_SEGMENT_LEN, Segment};

/// The path attributes of a route, except the next hop, which stands beside the networks.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attributes {
    /// ORIGIN.
    pub origin: OriginCode,
    /// AS_PATH, the nearest AS first.
    pub as_path: Vec<Segment>,
    /// MULTI_EXIT_DISC: the lower value is preferred among paths through the same neighbouring AS.
    pub med: Option<u32>,
    /// LOCAL_PREF: the higher value is preferred.
    pub local_pref: Option<u32>,
    /// True if ATOMIC_AGGREGATE is present.
    pub atomic: bool,
    /// AGGREGATOR: the AS and the BGP Identifier of the router that aggregated the route.
    pub aggregator: Option<(u32, Ipv4Addr)>,
    /// COMMUNITIES (RFC 1997), sorted, without duplicates.
    pub communities: Vec<u32>,
    /// ORIGINATOR_ID (RFC 4456).
    pub originator: Option<Ipv4Addr>,
    /// CLUSTER_LIST (RFC 4456), the nearest cluster first.
    pub clusters: Vec<Ipv4Addr>,
    /// Optional transitive attributes that this speaker only passes on, sorted by type code.
    pub unrecognized: Vec<RawAttribute>,
}

/// The value of ORIGIN (RFC 4271 section 5.1.1); the lower one is preferred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum OriginCode {
    /// IGP: learned within the originating AS.
    #[default]
    Igp,
    /// EGP: learned through the protocol EGP.
    Egp,
    /// INCOMPLETE: learned by other means.
    Incomplete,
}

/// A path attribute that this speaker passes on without interpreting it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RawAttribute {
    /// The type code.
    pub code: u8,
    /// The flags, without Extended Length. Partial is set if this speaker does not recognize the
    /// attribute.
    pub flags: u8,
    /// The value as received.
    pub value: Box<[u8]>,
}

impl Attributes {
    /// Returns the length of the AS_PATH for the decision process: a set counts 1, a confederation
    /// segment 0.
    pub fn path_len(&self) -> usize {
        as_path::path_len(&self.as_path)
    }

    /// Returns true if the AS_PATH contains an AS.
    pub fn path_contains(&self, asn: u32) -> bool {
        self.as_path.iter().any(|segment| segment.ases().contains(&asn))
    }

    /// Returns the neighbouring AS that the path came from: the first AS outside the confederation.
    /// `None` if the path is empty or begins with a set.
    pub fn neighbor_as(&self) -> Option<u32> {
        match self.as_path.iter().find(|segment| !segment.is_confederation()) {
            Some(Segment::Sequence(ases)) => ases.first().copied(),
            _ => None,
        }
    }

    /// Prepends an AS to the AS_PATH `times` times. Begins a new AS_SEQUENCE if the path does not begin
    /// with one, or if that is full.
    pub fn prepend(&mut self, asn: u32, times: u8) {
        let mut left = usize::from(times);
        while left > 0 {
            match self.as_path.first_mut() {
                Some(Segment::Sequence(ases)) if ases.len() < MAX_SEGMENT_LEN => {
                    let count = left.min(MAX_SEGMENT_LEN - ases.len());
                    ases.splice(0..0, iter::repeat_n(asn, count));
                    left -= count;
                }
                _ => self.as_path.insert(0, Segment::Sequence(Vec::new())),
            }
        }
    }

    /// Adds communities, and keeps the list sorted and without duplicates.
    pub fn add_communities(&mut self, more: &[u32]) {
        self.communities.extend_from_slice(more);
        self.communities.sort_unstable();
        self.communities.dedup();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Segment::{ConfedSequence, Sequence, Set};

    fn of(path: &[Segment]) -> Attributes {
        Attributes { as_path: path.to_vec(), ..Attributes::default() }
    }

    #[test]
    fn in_the_path_length_a_set_counts_one_and_a_confederation_segment_zero() {
        let path = of(&[ConfedSequence(vec![9, 8]), Sequence(vec![1, 2, 2]), Set(vec![3, 4])]);
        assert_eq!((path.path_len(), path.neighbor_as()), (4, Some(1)));
        assert!([9, 4, 2].iter().all(|asn| path.path_contains(*asn)) && !path.path_contains(5));
        assert_eq!((of(&[]).neighbor_as(), of(&[Set(vec![1])]).neighbor_as()), (None, None));
    }

    #[test]
    fn prepend_extends_the_leading_sequence_until_it_is_full() {
        let mut attributes = of(&[Set(vec![3])]);
        attributes.prepend(1, 0);
        assert_eq!(attributes.as_path, [Set(vec![3])]);
        attributes.prepend(1, 2);
        attributes.prepend(7, 1);
        assert_eq!(attributes.as_path, [Sequence(vec![7, 1, 1]), Set(vec![3])]);
        attributes.prepend(8, 254);
        assert_eq!(attributes.path_len(), 258);
        assert_eq!(attributes.as_path[0], Sequence(vec![8, 8]));
        assert!(
            matches!(&attributes.as_path[1], Sequence(ases) if ases.len() == 255 && ases[252..] == [7, 1, 1])
        );
    }
}
