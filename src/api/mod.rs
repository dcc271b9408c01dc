//! The API server: the only HTTP.
//!
//! [`Api`] finds the server and its credentials and reads the kinds of object that are asked for into
//! a [`Reading`]. Pages are read as streams and of each object only what is used is kept. An object
//! that can't be understood is named and does not stop the others; it makes its kind doubtful.
//! [`from_list`] reads the same from a file.

mod auth;
mod client;
mod document;
mod failure;
mod kubeconfig;
mod list;
mod page;
mod tls;
mod wire;
mod yaml;

use std::{collections::BTreeMap, fmt, path::PathBuf};

pub use document::from_list;

use crate::{
    cluster::{Cluster, Kind},
    error::{Error, Result},
};
use client::Client;
use failure::{Failure, Why};
use wire::Shape;

/// Where the flags say that the API server is; with neither, a pod finds it by its environment.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// `--master`: its URL.
    pub master: Option<String>,
    /// `--kubeconfig`: a file.
    pub kubeconfig: Option<PathBuf>,
}

/// A cluster as it was read.
#[derive(Debug, Default)]
pub struct Reading {
    /// What was understood. Kinds with a bad object are doubtful.
    pub cluster: Cluster,
    /// What was not.
    pub bad: Vec<Bad>,
    /// The resourceVersion of each kind's list: where a watch goes on.
    pub versions: BTreeMap<Kind, String>,
}

/// An object that could not be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    /// What it feeds.
    pub kind: Kind,
    /// namespace/name, or its number in the list where it has none.
    pub name: String,
    /// The path of the field, and what is wrong with it.
    pub why: String,
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} could not be understood: {}", self.kind, self.name, self.why)
    }
}

/// Where the API serves each shape of endpoints, the best first.
const ENDPOINTS: [(Shape, &str); 3] = [
    (Shape::EndpointSlice, "/apis/discovery.k8s.io/v1/endpointslices"),
    (Shape::EndpointSlice, "/apis/discovery.k8s.io/v1beta1/endpointslices"), // before 1.21
    (Shape::Endpoints, "/api/v1/endpoints"),                                 // before 1.17
];

/// An API server and the way to it.
pub struct Api {
    client: Client,
    /// Which of [`ENDPOINTS`] it serves.
    endpoints: usize,
}

impl Api {
    /// Finds the server and its credentials; asks nothing yet.
    pub fn open(source: &Source) -> Result<Api> {
        Ok(Api { client: Client::new(auth::find(source)?)?, endpoints: 0 })
    }

    /// Lists the kinds, one after another. A kind that can't be listed is an error for all.
    pub fn read(&mut self, kinds: &[Kind]) -> Result<Reading> {
        let mut reading = Reading::default();
        let mut cached = false;
        for &kind in kinds {
            let list = match kind {
                Kind::Node => list::list(&self.client, Shape::Node, "/api/v1/nodes", &mut cached),
                Kind::Service => {
                    list::list(&self.client, Shape::Service, "/api/v1/services", &mut cached)
                }
                Kind::EndpointSlice => self.endpoints(&mut cached),
            };
            reading.add(list.map_err(|failure| {
                let doing = format!("listing {} from {}", kind.plural(), self.client.server);
                Error::new(doing, failure.text)
            })?);
        }
        Ok(reading)
    }

    /// The one that worked last time first, then all in order: servers are upgraded.
    fn endpoints(&mut self, cached: &mut bool) -> std::result::Result<Reading, Failure> {
        let mut order = vec![self.endpoints];
        order.extend((0..ENDPOINTS.len()).filter(|&i| i != self.endpoints));
        let mut absent = Failure::other("it serves no endpoints");
        for i in order {
            let (shape, path) = ENDPOINTS[i];
            match list::list(&self.client, shape, path, cached) {
                Err(failure) if failure.why == Why::Status(404) => absent = failure,
                done => {
                    self.endpoints = i;
                    return done;
                }
            }
        }
        Err(absent)
    }
}

impl Reading {
    /// Takes in an item of a list, the `nth`.
    fn take(&mut self, shape: Shape, nth: usize, item: &str) {
        let understood = if item.len() > page::ITEM {
            Err(format!("it is larger than {} MiB", page::ITEM >> 20))
        } else {
            wire::read(shape, item)
        };
        match understood {
            Ok(objects) => objects.into_iter().for_each(|object| self.cluster.insert(object)),
            Err(why) => {
                let kind = shape.kind();
                let name = wire::name(item).unwrap_or_else(|| format!("no. {nth} of the list"));
                let why = match shape {
                    Shape::Endpoints => format!("core Endpoints: {why}"),
                    _ => why,
                };
                self.cluster.doubtful.insert(kind);
                self.bad.push(Bad { kind, name, why });
            }
        }
    }

    /// Takes in another reading, of another kind.
    fn add(&mut self, mut other: Reading) {
        self.cluster.nodes.append(&mut other.cluster.nodes);
        self.cluster.services.append(&mut other.cluster.services);
        self.cluster.slices.append(&mut other.cluster.slices);
        self.cluster.doubtful.append(&mut other.cluster.doubtful);
        self.bad.append(&mut other.bad);
        self.versions.append(&mut other.versions);
    }
}
