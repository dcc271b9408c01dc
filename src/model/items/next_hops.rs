//! The next hops of a route: usually one gateway, or several if equally good paths share the traffic
//! (ECMP), or a device.
//!
//! Several gateways are sorted and unique, so that equal sets are equal in whatever order they were
//! found; weights are not kept. A single gateway needs no allocation. In JSON one gateway is a
//! string, several are a list of strings; an [`Item::Route`] writes the device in a field of its own.
//!
//! [`Item::Route`]: super::Item::Route

use std::{fmt, net::IpAddr, slice};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use serde_json::Value as Json;

/// The next hops of a route: at least one address, or a device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NextHops {
    /// One gateway.
    One(IpAddr),
    /// Two or more gateways, sorted; the kernel selects one by the packet's flow.
    Many(Box<[IpAddr]>),
    /// A device, with or without a gateway behind it.
    Device(Box<DeviceHop>),
}

/// A next hop that names its device. Other next hops leave it to the kernel to find the device from
/// the gateway.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceHop {
    /// The interface name.
    pub dev: Box<str>,
    /// The gateway, which need not be in a network of the device (`onlink`); `None` if the device
    /// itself leads to the destination.
    pub via: Option<IpAddr>,
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

    /// Creates the next hop through a device, with or without a gateway behind it.
    pub fn device(dev: &str, via: Option<IpAddr>) -> NextHops {
        NextHops::Device(Box::new(DeviceHop { dev: dev.into(), via }))
    }

    /// Returns all gateways, sorted.
    pub fn addrs(&self) -> &[IpAddr] {
        match self {
            NextHops::One(addr) => slice::from_ref(addr),
            NextHops::Many(addrs) => addrs,
            NextHops::Device(hop) => hop.via.as_slice(),
        }
    }

    /// Returns the name of the device; `None` if the kernel finds it from the gateway.
    pub fn dev(&self) -> Option<&str> {
        if let NextHops::Device(hop) = self { Some(&hop.dev) } else { None }
    }
}

impl From<IpAddr> for NextHops {
    fn from(addr: IpAddr) -> NextHops {
        NextHops::One(addr)
    }
}

impl fmt::Display for NextHops {
    /// Writes the next hops in the syntax of `ip route`: `via A`, `nexthop via A nexthop via B`,
    /// `dev D`, or `via A dev D onlink`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NextHops::One(addr) => write!(f, "via {addr}"),
            NextHops::Many(addrs) => addrs.iter().enumerate().try_for_each(|(i, addr)| {
                write!(f, "{}nexthop via {addr}", if i == 0 { "" } else { " " })
            }),
            NextHops::Device(hop) => match hop.via {
                None => write!(f, "dev {}", hop.dev),
                Some(via) => write!(f, "via {via} dev {} onlink", hop.dev),
            },
        }
    }
}

impl Serialize for NextHops {
    /// Serializes the gateways only.
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            NextHops::One(addr) => addr.serialize(to),
            NextHops::Many(addrs) => addrs.serialize(to),
            NextHops::Device(hop) => hop.via.serialize(to),
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
    fn a_device_is_written_with_the_gateway_behind_it() {
        let gateway = "192.0.2.12".parse().unwrap();
        let [alone, behind] = [None, Some(gateway)].map(|via| NextHops::device("kube-ipip", via));
        assert_eq!((alone.to_string(), alone.addrs()), ("dev kube-ipip".into(), &[][..]));
        assert_eq!(behind.to_string(), "via 192.0.2.12 dev kube-ipip onlink");
        assert_eq!((behind.addrs(), behind.dev()), (&[gateway][..], Some("kube-ipip")));
        assert_eq!(NextHops::One(gateway).dev(), None);
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
