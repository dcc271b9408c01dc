//! Path attributes (RFC 4271 section 5): what is said of a path.
//!
//! `update` reads and writes them.

use std::{iter, net::Ipv4Addr};

use super::path::FULL;

/// What is said of a path. The next hop stands beside the routes that it is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attributes {
    /// Where it comes from.
    pub origin: Origin,
    /// The ASes that it passed, the nearest first.
    pub path: Vec<Segment>,
    /// MULTI_EXIT_DISC: the lower the better, among paths by way of the same AS.
    pub med: Option<u32>,
    /// LOCAL_PREF: the higher the better.
    pub local_pref: Option<u32>,
    /// ATOMIC_AGGREGATE.
    pub atomic: bool,
    /// AGGREGATOR: the AS and router that made one route of several.
    pub aggregator: Option<(u32, Ipv4Addr)>,
    /// COMMUNITIES (RFC 1997), sorted.
    pub communities: Vec<u32>,
    /// ORIGINATOR_ID (RFC 4456).
    pub originator: Option<Ipv4Addr>,
    /// CLUSTER_LIST (RFC 4456), the nearest first.
    pub clusters: Vec<Ipv4Addr>,
    /// Optional transitive ones that mean nothing here and are passed on, by their type.
    pub others: Vec<Other>,
}

/// ORIGIN; the lower the better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// From within an AS.
    #[default]
    Igp,
    /// By EGP.
    Egp,
    /// Otherwise.
    Incomplete,
}

/// A part of an AS_PATH.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Segment {
    /// AS_SEQUENCE: one after another.
    Sequence(Vec<u32>),
    /// AS_SET: in no order; counts as one.
    Set(Vec<u32>),
    /// AS_CONFED_SEQUENCE or AS_CONFED_SET (RFC 5065): counts as nothing. True: a sequence.
    Confederation(bool, Vec<u32>),
}

/// An attribute that is only passed on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Other {
    /// Its type code.
    pub code: u8,
    /// Its flags, without the one for an extended length; Partial is among them where nothing is known of
    /// it here.
    pub flags: u8,
    /// Its value.
    pub value: Box<[u8]>,
}

impl Attributes {
    /// The length of the AS_PATH: a set counts 1, a confederation 0.
    pub fn length(&self) -> usize {
        length(&self.path)
    }

    /// Whether the path passed an AS.
    pub fn passed(&self, asn: u32) -> bool {
        self.path.iter().any(|segment| match segment {
            Segment::Sequence(ases) | Segment::Set(ases) | Segment::Confederation(_, ases) => {
                ases.contains(&asn)
            }
        })
    }

    /// The nearest AS outside this one; `None` where the path begins here or with a set.
    pub fn first(&self) -> Option<u32> {
        let outside = |segment: &&Segment| !matches!(segment, Segment::Confederation(..));
        match self.path.iter().find(outside) {
            Some(Segment::Sequence(ases)) => ases.first().copied(),
            _ => None,
        }
    }

    /// Puts an AS in front so many times: into the leading sequence, or a new one where there is none or
    /// where it is full.
    pub fn prepend(&mut self, asn: u32, times: u8) {
        let mut left = usize::from(times);
        while left > 0 {
            match self.path.first_mut() {
                Some(Segment::Sequence(ases)) if ases.len() < FULL => {
                    let count = left.min(FULL - ases.len());
                    ases.splice(0..0, iter::repeat_n(asn, count));
                    left -= count;
                }
                _ => self.path.insert(0, Segment::Sequence(Vec::new())),
            }
        }
    }

    /// Adds communities, in their place.
    pub fn add_communities(&mut self, more: &[u32]) {
        self.communities.extend_from_slice(more);
        self.communities.sort_unstable();
        self.communities.dedup();
    }
}

/// The length of a path: a set counts 1, a confederation 0.
pub(super) fn length(path: &[Segment]) -> usize {
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
    fn a_set_counts_one_and_a_confederation_nothing() {
        let path = of(&[Confederation(true, vec![9, 8]), Sequence(vec![1, 2, 2]), Set(vec![3, 4])]);
        assert_eq!((path.length(), path.first()), (4, Some(1)));
        assert!(path.passed(9) && path.passed(4) && path.passed(2) && !path.passed(5));
        assert_eq!((of(&[]).first(), of(&[Set(vec![1])]).first()), (None, None));
    }

    #[test]
    fn an_as_is_put_into_the_leading_sequence_as_long_as_there_is_room() {
        let mut attributes = of(&[Set(vec![3])]);
        attributes.prepend(1, 0);
        assert_eq!(attributes.path, [Set(vec![3])]);
        attributes.prepend(1, 2);
        attributes.prepend(7, 1);
        assert_eq!(attributes.path, [Sequence(vec![7, 1, 1]), Set(vec![3])]);
        attributes.prepend(8, 254);
        assert_eq!(attributes.length(), 258);
        assert_eq!(attributes.path[0], Sequence(vec![8, 8]));
        assert!(
            matches!(&attributes.path[1], Sequence(ases) if ases.len() == 255 && ases[252..] == [7, 1, 1])
        );
    }
}
