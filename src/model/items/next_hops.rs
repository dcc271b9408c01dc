//! The gateways of a route: usually one, or several if equally good paths share the traffic (ECMP).
//!
//! Several gateways are sorted and unique, so that equal sets are equal in whatever order they were
//! found; weights are not kept. A single gateway needs no allocation. In JSON one gateway is a
//! string, several are a list of strings.

use std::{fmt, net::IpAddr, slice};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use serde_json::Value as Json;

/// The next hops of a route: at least one address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NextHops {
    /// One gateway.
    One(IpAddr),
    /// Two or more gateways, sorted; the kernel selects one by the packet's flow.
    Many(Box<[IpAddr]>),
}

impl NextHops {
    /// Creates a value from addresses in any order; `None` if there is no address.
    pub fn new(addrs: impl IntoIterator<Item = IpAddr>) -> Option<NextHops> {
        let mut addrs = addrs.into_iter();
        let first = addrs.next()?;
        let Some(second) = addrs.find(|addr| *addr != first) else {
            return Some(NextHops::One(first));
        };
        let mut all: Vec<IpAddr> = [first, second].into_iter().chain(addrs).collect();
        all.sort_unstable();
        all.dedup();
        Some(NextHops::Many(all.into()))
    }

    /// Returns all gateways, sorted.
    pub fn addrs(&self) -> &[IpAddr] {
        match self {
            NextHops::One(addr) => slice::from_ref(addr),
            NextHops::Many(addrs) => addrs,
        }
    }
}

impl From<IpAddr> for NextHops {
    fn from(addr: IpAddr) -> NextHops {
        NextHops::One(addr)
    }
}

impl fmt::Display for NextHops {
    /// Writes the gateways in the syntax of `ip route`: `via A`, or `nexthop via A nexthop via B`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NextHops::One(addr) => write!(f, "via {addr}"),
            NextHops::Many(addrs) => addrs.iter().enumerate().try_for_each(|(i, addr)| {
                write!(f, "{}nexthop via {addr}", if i == 0 { "" } else { " " })
            }),
        }
    }
}

impl Serialize for NextHops {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            NextHops::One(addr) => addr.serialize(to),
            NextHops::Many(addrs) => addrs.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for NextHops {
    /// Fails if an address is invalid, or if the list is empty.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<NextHops, D::Error> {
        let addr = |json: &Json| {
            let text = json
                .as_str()
                .ok_or_else(|| D::Error::custom("a gateway is not a string with an IP address"))?;
            text.parse::<IpAddr>().map_err(D::Error::custom)
        };
        let json = Json::deserialize(from)?;
        let Some(list) = json.as_array() else { return addr(&json).map(NextHops::One) };
        let addrs = list.iter().map(addr).collect::<Result<Vec<_>, _>>()?;
        NextHops::new(addrs).ok_or_else(|| D::Error::custom("the list of gateways is empty"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn via(addrs: &[&str]) -> NextHops {
        NextHops::new(addrs.iter().map(|a| a.parse().unwrap())).unwrap()
    }

    #[test]
    fn gateways_are_equal_in_any_order_and_without_duplicates() {
        let two = via(&["192.0.2.9", "192.0.2.12"]);
        assert_eq!(via(&["192.0.2.12", "192.0.2.9", "192.0.2.12"]), two);
        assert_eq!(two.to_string(), "nexthop via 192.0.2.9 nexthop via 192.0.2.12");
        assert_eq!(via(&["fd77::1", "fd77::1"]), NextHops::One("fd77::1".parse().unwrap()));
        assert_eq!(NextHops::new([]), None);
    }

    #[test]
    fn one_gateway_is_a_string_in_json_and_several_are_a_list() {
        for (via, text) in [
            (via(&["192.0.2.12"]), r#""192.0.2.12""#),
            (via(&["fd77::2", "fd77::1"]), r#"["fd77::1","fd77::2"]"#),
        ] {
            assert_eq!(serde_json::to_string(&via).unwrap(), text);
            assert_eq!(serde_json::from_str::<NextHops>(text).unwrap(), via);
        }
        for text in ["[]", "7", r#""192.0.2""#, r#"["192.0.2.12",7]"#] {
            assert!(serde_json::from_str::<NextHops>(text).is_err(), "{text}");
        }
    }
}
