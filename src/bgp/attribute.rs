//! Path attributes (RFC 4271 section 5). The module `update` encodes and decodes them; `path` does so for
//! the AS_PATH.

use std::{iter, net::Ipv4Addr};

use super::as_path::MAX_SEGMENT_LEN;

/// The path attributes of a route, except the next hop, which stands beside the networks.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attributes {
    /// ORIGIN.
    pub origin: OriginCode,
    /// AS_PATH, the nearest AS first.
    pub path: Vec<Segment>,
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
    pub others: Vec<Other>,
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

/// A segment of an AS_PATH.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Segment {
    /// AS_SEQUENCE: ASes in the order of the path, the nearest first.
    Sequence(Vec<u32>),
    /// AS_SET: ASes in no order; its length counts as 1.
    Set(Vec<u32>),
    /// AS_CONFED_SEQUENCE if true, or AS_CONFED_SET (RFC 5065); its length counts as 0.
    Confederation(bool, Vec<u32>),
}

/// A path attribute that this speaker passes on without interpreting it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Other {
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
        path_len(&self.path)
    }

    /// Returns true if the AS_PATH contains an AS.
    pub fn path_contains(&self, asn: u32) -> bool {
        self.path.iter().any(|segment| match segment {
            Segment::Sequence(ases) | Segment::Set(ases) | Segment::Confederation(_, ases) => {
                ases.contains(&asn)
            }
        })
    }

    /// Returns the neighbouring AS that the path came from: the first AS outside the confederation.
    /// `None` if the path is empty or begins with a set.
    pub fn neighbor_as(&self) -> Option<u32> {
        let outside = |segment: &&Segment| !matches!(segment, Segment::Confederation(..));
        match self.path.iter().find(outside) {
            Some(Segment::Sequence(ases)) => ases.first().copied(),
            _ => None,
        }
    }

    /// Prepends an AS to the AS_PATH `times` times. Begins a new AS_SEQUENCE if the path does not begin
    /// with one, or if that is full.
    pub fn prepend(&mut self, asn: u32, times: u8) {
        let mut left = usize::from(times);
        while left > 0 {
            match self.path.first_mut() {
                Some(Segment::Sequence(ases)) if ases.len() < MAX_SEGMENT_LEN => {
                    let count = left.min(MAX_SEGMENT_LEN - ases.len());
                    ases.splice(0..0, iter::repeat_n(asn, count));
                    left -= count;
                }
                _ => self.path.insert(0, Segment::Sequence(Vec::new())),
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

/// Returns the length of an AS_PATH for the decision process: a set counts 1 (RFC 4271 section
/// 9.1.2.2), a confederation segment 0 (RFC 5065 section 5.3).
pub(super) fn path_len(path: &[Segment]) -> usize {
    path.iter()
        .map(|segment| match segment {
            Segment::Sequence(ases) => ases.len(),
            Segment::Set(_) => 1,
            Segment::Confederation(..) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use Segment::{Confederation, Sequence, Set};

    fn of(path: &[Segment]) -> Attributes {
        Attributes { path: path.to_vec(), ..Attributes::default() }
    }

    #[test]
    fn in_the_path_length_a_set_counts_one_and_a_confederation_segment_zero() {
        let path = of(&[Confederation(true, vec![9, 8]), Sequence(vec![1, 2, 2]), Set(vec![3, 4])]);
        assert_eq!((path.path_len(), path.neighbor_as()), (4, Some(1)));
        assert!([9, 4, 2].iter().all(|asn| path.path_contains(*asn)) && !path.path_contains(5));
        assert_eq!((of(&[]).neighbor_as(), of(&[Set(vec![1])]).neighbor_as()), (None, None));
    }

    #[test]
    fn prepend_extends_the_leading_sequence_until_it_is_full() {
        let mut attributes = of(&[Set(vec![3])]);
        attributes.prepend(1, 0);
        assert_eq!(attributes.path, [Set(vec![3])]);
        attributes.prepend(1, 2);
        attributes.prepend(7, 1);
        assert_eq!(attributes.path, [Sequence(vec![7, 1, 1]), Set(vec![3])]);
        attributes.prepend(8, 254);
        assert_eq!(attributes.path_len(), 258);
        assert_eq!(attributes.path[0], Sequence(vec![8, 8]));
        assert!(
            matches!(&attributes.path[1], Sequence(ases) if ases.len() == 255 && ases[252..] == [7, 1, 1])
        );
    }
}
