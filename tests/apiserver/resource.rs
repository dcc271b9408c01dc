//! The kinds that this server has, and their paths.

use std::borrow::Cow;

use crate::beta;
use crate::item::Item;

/// A kind of object: one row of the API's discovery.
#[derive(Debug, PartialEq)]
pub struct Resource {
    pub group: &'static str,
    pub version: &'static str,
    pub plural: &'static str,
    pub kind: &'static str,
    pub namespaced: bool,
    /// The part of a bookmark of this kind after its metadata.
    pub blank: &'static str,
}

const NODE: &str = r#","spec":{},"status":{"daemonEndpoints":{"kubeletEndpoint":{"Port":0}},"nodeInfo":{"machineID":"","systemUUID":"","bootID":"","kernelVersion":"","osImage":"","containerRuntimeVersion":"","kubeletVersion":"","kubeProxyVersion":"","operatingSystem":"","architecture":""}}"#;

pub const RESOURCES: &[Resource] = &[
    core("nodes", "Node", false, NODE),
    core("services", "Service", true, r#","spec":{},"status":{"loadBalancer":{}}"#),
    core("endpoints", "Endpoints", true, ""),
    core("namespaces", "Namespace", false, r#","spec":{},"status":{}"#),
    core("pods", "Pod", true, r#","spec":{"containers":null},"status":{}"#),
    Resource {
        group: "discovery.k8s.io",
        version: "v1",
        plural: "endpointslices",
        kind: "EndpointSlice",
        namespaced: true,
        blank: r#","addressType":"","endpoints":null,"ports":null"#,
    },
    Resource {
        group: "networking.k8s.io",
        version: "v1",
        plural: "networkpolicies",
        kind: "NetworkPolicy",
        namespaced: true,
        blank: r#","spec":{"podSelector":{}}"#,
    },
];

const fn core(
    plural: &'static str,
    kind: &'static str,
    namespaced: bool,
    blank: &'static str,
) -> Resource {
    Resource { group: "", version: "v1", plural, kind, namespaced, blank }
}

impl Resource {
    pub fn index(&self) -> usize {
        RESOURCES.iter().position(|r| r == self).expect("a resource is one of the table's")
    }

    pub fn file(&self) -> String {
        format!("{}.json", self.plural)
    }
}

/// A kind in one API version.
#[derive(Debug, Clone, Copy)]
pub struct View {
    pub resource: &'static Resource,
    /// `discovery.k8s.io/v1beta1`, converted from v1.
    pub beta: bool,
}

impl View {
    pub fn api_version(&self) -> String {
        let version = if self.beta { "v1beta1" } else { self.resource.version };
        match self.resource.group {
            "" => version.to_string(),
            group => format!("{group}/{version}"),
        }
    }

    /// Returns the item of a list.
    pub fn item(&self, item: &Item) -> std::sync::Arc<str> {
        if self.beta { beta::slice(&item.text).into() } else { item.text.clone() }
    }

    /// Returns the start of an object outside a list.
    pub fn head(&self) -> String {
        let (kind, version) = (self.resource.kind, self.api_version());
        format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\"")
    }

    /// Returns an object outside a list, with its kind and apiVersion.
    pub fn object(&self, text: &str) -> String {
        let text = if self.beta { Cow::Owned(beta::slice(text)) } else { Cow::Borrowed(text) };
        let head = self.head();
        match text.strip_prefix('{') {
            Some("}") => format!("{head}}}"),
            Some(_) if text.starts_with("{\"kind\"") => text.into_owned(),
            Some(rest) => format!("{head},{rest}"),
            None => text.into_owned(),
        }
    }
}
