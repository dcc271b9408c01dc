//! Parses the JSON of a dump: reads the fields of an [`Item`] by name, one by one.
//!
//! This is written by hand. The code that serde derives for a tagged enum with untagged parts first
//! copies every field into a generic form, and is forty times as large. `state` holds the
//! serializing half.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error},
};
use serde_json::Value as Json;

use super::{At, Item, LinkKind, Value, Virtual};
use crate::json;

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
        Ok(match &*kind {
            "module" => Item::Module { name: field(o, "name")? },
            "link" => Item::Link {
                name: field(o, "name")?,
                kind: field(o, "type")?,
                mtu: field(o, "mtu")?,
            },
            "hairpin" => Item::Hairpin { port: field(o, "port")? },
            "sysctl" => Item::Sysctl { name: field(o, "name")?, value: field(o, "value")? },
            "table" => Item::Table { name: field(o, "name")?, skeleton: field(o, "skeleton")? },
            "element" => Item::Element { set: field(o, "set")?, value: field(o, "value")? },
            "accept" => Item::Accept { chain: field(o, "chain")? },
            "timeout" => Item::Timeout { of: field(o, "of")?, seconds: field(o, "seconds")? },
            "service" => Item::Service {
                at: field(o, "at")?,
                scheduler: field(o, "scheduler")?,
                flags: field(o, "flags")?,
                persistence: field(o, "persistence")?,
            },
            "real" => Item::Real {
                of: field(o, "of")?,
                addr: field(o, "addr")?,
                port: field(o, "port")?,
                weight: field(o, "weight")?,
                forward: field(o, "forward")?,
            },
            "addr" => Item::Addr { link: field(o, "link")?, addr: field(o, "addr")? },
            "route" => Item::Route {
                table: field(o, "table")?,
                to: field(o, "to")?,
                via: field(o, "via")?,
                src: field(o, "src")?,
            },
            "file" => Item::File { path: field(o, "path")?, text: field(o, "text")? },
            other => {
                return Err(D::Error::custom(format_args!("unknown kind of item: {other}")));
            }
        })
    }
}

impl<'de> Deserialize<'de> for At {
    /// Reads a mark if there is one, else a destination. Fails if a field is missing or invalid.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<At, D::Error> {
        let o = &Json::deserialize(from)?;
        match o.get("mark") {
            Some(_) => Ok(At::Mark { mark: field(o, "mark")?, ipv4: field(o, "ipv4")? }),
            None => service_addr(o).map(At::Virtual),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    /// Reads an address or a network from a string, and selects the other variants by the fields that
    /// the object has. Fails if a field is missing or invalid.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Value, D::Error> {
        let o = &Json::deserialize(from)?;
        let has = |name| o.get(name).is_some();
        Ok(match o.as_str() {
            Some(net) if net.contains('/') => {
                Value::Net(net.parse::<IpNet>().map_err(D::Error::custom)?)
            }
            Some(addr) => Value::Addr(addr.parse::<IpAddr>().map_err(D::Error::custom)?),
            None if has("mark") => Value::Marked { at: field(o, "at")?, mark: field(o, "mark")? },
            None if has("from") => Value::Ranged { at: field(o, "at")?, from: field(o, "from")? },
            None if has("ipv4") => Value::Port { port: field(o, "port")?, ipv4: field(o, "ipv4")? },
            None => Value::At(service_addr(o)?),
        })
    }
}

/// Returns the destination that the fields of an object describe. Fails if one is missing or invalid.
fn service_addr<E: Error>(o: &Json) -> Result<Virtual, E> {
    Ok(Virtual {
        addr: field(o, "addr")?,
        protocol: field(o, "protocol")?,
        port: field(o, "port")?,
    })
}

impl<'de> Deserialize<'de> for LinkKind {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<LinkKind, D::Error> {
        Ok(LinkKind::from(&*Box::<str>::deserialize(from)?))
    }
}
