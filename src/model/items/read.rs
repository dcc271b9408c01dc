//! Parses the JSON of a dump: reads the fields of an [`Item`] by name, one by one.
//!
//! This is written by hand. The code that serde derives for a tagged enum with untagged parts first
//! copies every field into a generic form, and is forty times as large. The serializing half is
//! derived in `item`.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error},
};
use serde_json::Value as Json;

use super::{IpipTunnel, Item, ItemKind, LinkKind, NextHops, ServiceAddr, ServiceKey, SetElement};
use crate::{codec::json, family::Family};

/// Returns a field of an object. A missing field is read as null. Fails if the value does not fit
/// the type.
fn field<T: DeserializeOwned, E: Error>(object: &Json, name: &str) -> Result<T, E> {
    let text = object.get(name).map_or_else(|| "null".to_owned(), Json::to_string);
    json::from_str(&text).map_err(|e| E::custom(format_args!("{name}: {e}")))
}

impl<'de> Deserialize<'de> for Item {
    /// Fails if the kind is unknown, or if a field is missing or invalid.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Item, D::Error> {
        let o = &Json::deserialize(from)?;
        let kind: String = field(o, "kind")?;
        let Some(kind) = ItemKind::named(&kind) else {
            return Err(D::Error::custom(format_args!("unknown kind of item: {kind}")));
        };
        Ok(match kind {
            ItemKind::Module => Item::Module { name: field(o, "name")? },
            ItemKind::Link => Item::Link {
                name: field(o, "name")?,
                kind: field(o, "type")?,
                mtu: field(o, "mtu")?,
            },
            ItemKind::Hairpin => Item::Hairpin { port: field(o, "port")? },
            ItemKind::Sysctl => Item::Sysctl { name: field(o, "name")?, value: field(o, "value")? },
            ItemKind::Table => {
                Item::Table { name: field(o, "name")?, skeleton: field(o, "skeleton")? }
            }
            ItemKind::Element => Item::Element { set: field(o, "set")?, value: field(o, "value")? },
            ItemKind::Accept => Item::Accept { chain: field(o, "chain")? },
            ItemKind::Timeout => {
                Item::Timeout { of: field(o, "of")?, seconds: field(o, "seconds")? }
            }
            ItemKind::Service => Item::Service {
                at: field(o, "at")?,
                scheduler: field(o, "scheduler")?,
                flags: field(o, "flags")?,
                persistence: field(o, "persistence")?,
            },
            ItemKind::Real => Item::Real {
                of: field(o, "of")?,
                addr: field(o, "addr")?,
                port: field(o, "port")?,
                weight: field(o, "weight")?,
                forward: field(o, "forward")?,
            },
            ItemKind::Addr => Item::Addr { link: field(o, "link")?, addr: field(o, "addr")? },
            ItemKind::Route => Item::Route {
                table: field(o, "table")?,
                to: field(o, "to")?,
                via: match field::<Option<Box<str>>, _>(o, "dev")? {
                    Some(dev) => Some(NextHops::device(&dev, field(o, "via")?)),
                    None => field(o, "via")?,
                },
                src: field(o, "src")?,
            },
            ItemKind::File => Item::File { path: field(o, "path")?, text: field(o, "text")? },
        })
    }
}

impl<'de> Deserialize<'de> for ServiceKey {
    /// Reads a mark if there is one, else a destination. Fails if a field is missing or invalid.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<ServiceKey, D::Error> {
        let o = &Json::deserialize(from)?;
        match o.get("mark") {
            Some(_) => Ok(ServiceKey::FwMark { mark: field(o, "mark")?, ipv4: field(o, "ipv4")? }),
            None => service_addr(o).map(ServiceKey::Address),
        }
    }
}

impl<'de> Deserialize<'de> for SetElement {
    /// Reads an address or a network from a string, and selects the other variants by the fields that
    /// the object has. Fails if a field is missing or invalid.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<SetElement, D::Error> {
        let o = &Json::deserialize(from)?;
        let has = |name| o.get(name).is_some();
        Ok(match o.as_str() {
            Some(net) if net.contains('/') => {
                SetElement::Net(net.parse::<IpNet>().map_err(D::Error::custom)?)
            }
            Some(addr) => SetElement::Addr(addr.parse::<IpAddr>().map_err(D::Error::custom)?),
            None if has("mark") => {
                SetElement::Marked { at: field(o, "at")?, mark: field(o, "mark")? }
            }
            None if has("from") => {
                SetElement::Ranged { at: field(o, "at")?, from: field(o, "from")? }
            }
            None if has("ipv4") => {
                let family = Family::from_ipv4(field(o, "ipv4")?);
                SetElement::port(field(o, "port")?, family)
            }
            None => SetElement::Service(service_addr(o)?),
        })
    }
}

/// Returns the destination that the fields of an object describe. Fails if one is missing or invalid.
fn service_addr<E: Error>(o: &Json) -> Result<ServiceAddr, E> {
    Ok(ServiceAddr {
        addr: field(o, "addr")?,
        protocol: field(o, "protocol")?,
        port: field(o, "port")?,
    })
}

impl<'de> Deserialize<'de> for LinkKind {
    /// Reads a type without parameters from a string, and a tunnel from an object. Fails if it is
    /// neither, or if a parameter is missing or invalid.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<LinkKind, D::Error> {
        let json = Json::deserialize(from)?;
        match json.get("ipip") {
            Some(ends) => Ok(LinkKind::Ipip(Box::new(IpipTunnel {
                local: field(ends, "local")?,
                remote: field(ends, "remote")?,
            }))),
            None => json
                .as_str()
                .map(LinkKind::from)
                .ok_or_else(|| D::Error::custom("not the type of a link")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        items::{Forward, Protocol},
        nftables::{RulesetOptions, Set},
    };

    fn at(addr: &str, protocol: Protocol, port: u16) -> ServiceAddr {
        ServiceAddr { addr: addr.parse().unwrap(), protocol, port }
    }

    #[test]
    fn each_kind_of_element_is_read_with_all_its_fields() {
        for (set, json, text, value) in [
            (
                Set::Services,
                "services",
                r#"{"addr":"10.96.0.10","protocol":"tcp","port":80}"#,
                SetElement::Service(at("10.96.0.10", Protocol::Tcp, 80)),
            ),
            (
                Set::Outside,
                "outside",
                r#"{"at":{"addr":"fd77::11","protocol":"sctp","port":30080},"mark":7}"#,
                SetElement::Marked { at: at("fd77::11", Protocol::Sctp, 30080), mark: 7 },
            ),
            (
                Set::Ranges,
                "ranges",
                r#"{"at":{"addr":"203.0.113.9","protocol":"udp","port":53},"from":"10.0.0.0/8"}"#,
                SetElement::Ranged {
                    at: at("203.0.113.9", Protocol::Udp, 53),
                    from: "10.0.0.0/8".parse().unwrap(),
                },
            ),
            (
                Set::TcpPorts,
                "tcp-ports",
                r#"{"port":30080,"ipv4":true}"#,
                SetElement::port(30080, Family::Ipv4),
            ),
            (
                Set::SctpPorts,
                "sctp-ports",
                r#"{"port":30081,"ipv4":false}"#,
                SetElement::port(30081, Family::Ipv6),
            ),
            (Set::Loops, "loops", r#""fd44::1""#, SetElement::Addr("fd44::1".parse().unwrap())),
            (
                Set::OwnPods,
                "own-pods",
                r#""10.244.0.0/24""#,
                SetElement::Net("10.244.0.0/24".parse().unwrap()),
            ),
        ] {
            let text = format!(r#"{{"kind":"element","set":"{json}","value":{text}}}"#);
            assert_eq!(json::from_str::<Item>(&text).unwrap(), Item::Element { set, value });
        }
    }

    #[test]
    fn a_virtual_service_and_a_real_server_are_read_with_all_their_fields() {
        let service = r#"{"kind":"service","at":{"mark":9,"ipv4":false},"scheduler":"mh","flags":24,"persistence":600}"#;
        let scheduler = "mh".into();
        let at_mark = ServiceKey::FwMark { mark: 9, ipv4: false };
        assert_eq!(
            json::from_str::<Item>(service).unwrap(),
            Item::Service { at: at_mark, scheduler, flags: 24, persistence: 600 }
        );
        let real = r#"{"kind":"real","of":{"addr":"10.96.0.10","protocol":"udp","port":53},"addr":"10.244.1.2","port":5353,"weight":3,"forward":"route"}"#;
        assert_eq!(
            json::from_str::<Item>(real).unwrap(),
            Item::Real {
                of: ServiceKey::Address(at("10.96.0.10", Protocol::Udp, 53)),
                addr: [10, 244, 1, 2].into(),
                port: 5353,
                weight: 3,
                forward: Forward::Route,
            }
        );
    }

    #[test]
    fn a_table_of_a_dump_without_accept_has_it_disabled() {
        let text = r#"{"kind":"table","name":"kinglet","skeleton":{"guard":true,"masquerade_all":true,"pod_egress":false,"same_node":true}}"#;
        let skeleton = RulesetOptions {
            guard: true,
            masquerade_all: true,
            pod_egress: false,
            same_node: true,
            accept: false,
        };
        let name = "kinglet".into();
        let table = Item::Table { name, skeleton: Some(skeleton) };
        assert_eq!(json::from_str::<Item>(text).unwrap(), table);
    }

    #[test]
    fn an_unknown_kind_and_a_missing_or_invalid_field_are_errors() {
        for (text, cause) in [
            (r#"{"kind":"gizmo"}"#, "unknown kind of item: gizmo"),
            (r#"{"name":"ip_vs"}"#, "kind: "),
            (r#"{"kind":"module"}"#, "name: "),
            (r#"{"kind":"element","set":"vips","value":"10.96.0"}"#, "value: "),
            (r#"{"kind":"element","set":"pod-nets","value":"10.96.0.0/33"}"#, "value: "),
            (r#"{"kind":"element","set":"ranges","value":{"from":"10.0.0.0/8"}}"#, "value: at: "),
            (r#"{"kind":"element","set":"outside","value":{"mark":7}}"#, "value: at: "),
            (r#"{"kind":"element","set":"tcp-ports","value":{"ipv4":true}}"#, "value: port: "),
            (r#"{"kind":"real","of":{"mark":9}}"#, "of: ipv4: "),
        ] {
            let error = json::from_str::<Item>(text).unwrap_err().to_string();
            assert!(error.starts_with(cause), "{text}: {error}");
        }
    }
}
