//! The gateways of a route: one as a rule, several where equally good paths share the traffic (ECMP).
//!
//! Sorted and without doubles, so that equal ones are equal however they were found; weights are not
//! kept. One costs no allocation. In JSON one is a string, and several are a list of strings.

use std::{fmt, net::IpAddr, slice};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use serde_json::Value as Json;

/// Where a route's packets go next: at least one address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Via {
    /// There.
    One(IpAddr),
    /// To one of these, by the packet's flow; two or more of them, sorted.
    Many(Box<[IpAddr]>),
}

impl Via {
    /// Of addresses in any order; `None` where there is none.
    pub fn new(addrs: impl IntoIterator<Item = IpAddr>) -> Option<Via> {
        let mut addrs = addrs.into_iter();
        let first = addrs.next()?;
        let Some(second) = addrs.find(|addr| *addr != first) else { return Some(Via::One(first)) };
        let mut all: Vec<IpAddr> = [first, second].into_iter().chain(addrs).collect();
        all.sort_unstable();
        all.dedup();
        Some(Via::Many(all.into()))
    }

    /// All of them, sorted.
    pub fn addrs(&self) -> &[IpAddr] {
        match self {
            Via::One(addr) => slice::from_ref(addr),
            Via::Many(addrs) => addrs,
        }
    }
}

impl From<IpAddr> for Via {
    fn from(addr: IpAddr) -> Via {
        Via::One(addr)
    }
}

impl fmt::Display for Via {
    /// As `ip route` takes it: `via A`, or `nexthop via A nexthop via B`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Via::One(addr) => write!(f, "via {addr}"),
            Via::Many(addrs) => addrs.iter().enumerate().try_for_each(|(i, addr)| {
                write!(f, "{}nexthop via {addr}", if i == 0 { "" } else { " " })
            }),
        }
    }
}

impl Serialize for Via {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Via::One(addr) => addr.serialize(to),
            Via::Many(addrs) => addrs.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Via {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Via, D::Error> {
        let addr = |json: &Json| {
            let text = json.as_str().ok_or_else(|| D::Error::custom("no address"))?;
            text.parse::<IpAddr>().map_err(D::Error::custom)
        };
        let json = Json::deserialize(from)?;
        let Some(list) = json.as_array() else { return addr(&json).map(Via::One) };
        let addrs = list.iter().map(addr).collect::<Result<Vec<_>, _>>()?;
        Via::new(addrs).ok_or_else(|| D::Error::custom("a list without an address"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn via(addrs: &[&str]) -> Via {
        Via::new(addrs.iter().map(|a| a.parse().unwrap())).unwrap()
    }

    #[test]
    fn gateways_are_equal_in_any_order_and_however_often_they_are_named() {
        let two = via(&["192.0.2.9", "192.0.2.12"]);
        assert_eq!(via(&["192.0.2.12", "192.0.2.9", "192.0.2.12"]), two);
        assert_eq!(two.to_string(), "nexthop via 192.0.2.9 nexthop via 192.0.2.12");
        assert_eq!(via(&["fd77::1", "fd77::1"]), Via::One("fd77::1".parse().unwrap()));
        assert_eq!(Via::new([]), None);
    }

    #[test]
    fn one_gateway_is_a_string_in_json_and_several_are_a_list() {
        for (via, text) in [
            (via(&["192.0.2.12"]), r#""192.0.2.12""#),
            (via(&["fd77::2", "fd77::1"]), r#"["fd77::1","fd77::2"]"#),
        ] {
            assert_eq!(serde_json::to_string(&via).unwrap(), text);
            assert_eq!(serde_json::from_str::<Via>(text).unwrap(), via);
        }
        for text in ["[]", "7", r#""192.0.2""#, r#"["192.0.2.12",7]"#] {
            assert!(serde_json::from_str::<Via>(text).is_err(), "{text}");
        }
    }
}
