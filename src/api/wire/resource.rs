//! The API resources that kinglet reads, and the parser of one object.

use serde::Deserialize;

use super::{endpoints, fields::parse, node, service};
use crate::{
    api::page::MAX_ITEM,
    codec::json,
    model::cluster::{InvalidName, InvalidObject, Kind, ListResult, Name, Object},
};

/// An API resource that can be parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ApiResource {
    /// Node of core/v1.
    Node,
    /// Service of core/v1.
    Service,
    /// EndpointSlice of discovery.k8s.io/v1 and v1beta1.
    EndpointSlice,
    /// Endpoints of core/v1.
    Endpoints,
}

impl ApiResource {
    /// Returns the resource with this kind and apiVersion; `None` if there is none. Other API groups use
    /// the same kinds, for example Knative's Service.
    pub(crate) fn of(kind: &str, version: &str) -> Option<ApiResource> {
        match (kind, version) {
            ("Node", "v1") => Some(ApiResource::Node),
            ("Service", "v1") => Some(ApiResource::Service),
            ("Endpoints", "v1") => Some(ApiResource::Endpoints),
            ("EndpointSlice", "discovery.k8s.io/v1" | "discovery.k8s.io/v1beta1") => {
                Some(ApiResource::EndpointSlice)
            }
            _ => None,
        }
    }

    /// Returns the kind of the objects that this resource is converted to.
    pub(crate) fn kind(self) -> Kind {
        match self {
            ApiResource::Node => Kind::Node,
            ApiResource::Service => Kind::Service,
            ApiResource::EndpointSlice | ApiResource::Endpoints => Kind::EndpointSlice,
        }
    }

    /// Returns the kind as the API writes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            ApiResource::Node => "Node",
            ApiResource::Service => "Service",
            ApiResource::EndpointSlice => "EndpointSlice",
            ApiResource::Endpoints => "Endpoints",
        }
    }
}

/// Parses one API object. Core Endpoints give one EndpointSlice for each subset and address family, and
/// all other resources give one object. Fails if the object is not valid; the error starts with the path
/// of the field.
pub(crate) fn read(shape: ApiResource, item: &str) -> Result<Vec<Object>, String> {
    match shape {
        ApiResource::Node => Ok(vec![Object::Node(node::read(parse(item)?)?)]),
        ApiResource::Service => Ok(vec![Object::Service(service::read(parse(item)?)?)]),
        ApiResource::EndpointSlice => {
            Ok(vec![Object::EndpointSlice(endpoints::slice(parse(item)?)?)])
        }
        ApiResource::Endpoints => {
            Ok(endpoints::subsets(parse(item)?)?.into_iter().map(Object::EndpointSlice).collect())
        }
    }
}

/// Parses an item of a list and adds its objects to `reading`. An item that can't be parsed is recorded
/// as invalid and makes its kind doubtful. `nth` is the position in the list, from 1; it stands in for
/// the name of an item that has none.
pub(crate) fn parse_item(reading: &mut ListResult, shape: ApiResource, nth: usize, item: &str) {
    let parsed = if item.len() > MAX_ITEM {
        Err(format!("it is larger than {} MiB", MAX_ITEM >> 20))
    } else {
        read(shape, item)
    };
    match parsed {
        Ok(objects) => objects.into_iter().for_each(|object| reading.cluster.insert(object)),
        Err(why) => {
            let kind = shape.kind();
            let name = name(item).map_or(InvalidName::Nth(nth), InvalidName::Object);
            let why = match shape {
                ApiResource::Endpoints => format!("core Endpoints: {why}"),
                _ => why,
            };
            reading.cluster.doubtful.insert(kind);
            reading.bad.push(InvalidObject { kind, name, why });
        }
    }
}

/// Returns the name of an object that is otherwise not valid; `None` if it has no name that can be read.
fn name(item: &str) -> Option<Name> {
    #[derive(Deserialize)]
    struct Named {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        name: Box<str>,
        namespace: Option<Box<str>>,
    }
    let Metadata { name, namespace } = json::from_str::<Named>(item).ok()?.metadata;
    Some(Name { namespace: namespace.unwrap_or_default(), name })
}

/// Parses a list of at most one Node. Returns the uid of the Node (`None` if the list is empty) and the
/// resourceVersion of the list. Fails if the text is not such a list.
pub(crate) fn identity(list: &str) -> Result<(Option<String>, String), String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct WireList {
        metadata: Version,
        items: Option<Vec<WireItem>>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Version {
        resource_version: String,
    }
    #[derive(Deserialize)]
    struct WireItem {
        metadata: Uid,
    }
    #[derive(Deserialize)]
    struct Uid {
        uid: Option<String>,
    }
    let invalid = |e| format!("the reply is not a list of Nodes: {e}");
    let WireList { metadata, items } = json::from_str(list).map_err(invalid)?;
    let uid = items.unwrap_or_default().into_iter().find_map(|item| item.metadata.uid);
    Ok((uid, metadata.resource_version))
}
