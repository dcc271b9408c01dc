//! The client of the Kubernetes API server. It only lists and watches; all HTTP is in this folder.
//!
//! `auth::find` and `kubeconfig` locate the server and its credentials, and `client::Client` sends
//! the requests. A list passes through `list::list`, `page::Lists::next` (one item at a time, never a
//! tree of the whole list) and `wire::read` (keeps only the fields that kinglet uses) into a
//! [`Reading`]. A watch passes through `follow::Watcher::watch`, `stream::Lines::next` and
//! `stream::read` into [`News`](crate::cluster::News); `watch::WatchState` decides when to list, to
//! probe, to watch or to wait. [`snapshot`] keeps the last good cluster on disk, and [`from_list`]
//! reads objects from a file.
//!
//! An object that can't be parsed is reported by name and does not stop the others; its kind becomes
//! doubtful.

mod auth;
mod body;
mod client;
mod document;
mod failure;
mod follow;
mod kubeconfig;
mod list;
mod may;
mod page;
#[cfg(test)]
mod serve;
pub mod snapshot;
mod stream;
mod tls;
pub mod traffic;
mod watch;
mod wire;
mod yaml;

use std::{
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

pub use client::Patience;
pub use document::from_list;
pub use follow::STACK;
pub use stream::from_watch;
pub use watch::{Rhythm, Start};

use crate::{
    cluster::{Bad, Kind, Reading},
    error::{Error, Result},
    log,
};
use client::Client;
use failure::{Failure, Why};
use snapshot::{Contact, Identity, Snapshot};
use traffic::Traffic;
use wire::Shape;

/// The location of the API server as given by flags. If neither flag is set, the in-cluster
/// configuration of a pod is used.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// `--master`: the URL of the server.
    pub master: Option<String>,
    /// `--kubeconfig`: the path of a kubeconfig file.
    pub kubeconfig: Option<PathBuf>,
}

/// The path of the Nodes resource.
const NODES: &str = "/api/v1/nodes";
/// The resources that hold endpoints, in order of preference: newer API versions come first.
const ENDPOINTS: [(Shape, &str); 3] = [
    (Shape::EndpointSlice, "/apis/discovery.k8s.io/v1/endpointslices"),
    (Shape::EndpointSlice, "/apis/discovery.k8s.io/v1beta1/endpointslices"), // before 1.21
    (Shape::Endpoints, "/api/v1/endpoints"),                                 // before 1.17
];

/// A connection to one API server. Threads share it.
pub struct Api {
    client: Client,
    /// Index into [`ENDPOINTS`] of the resource that the server has.
    endpoints: AtomicUsize,
    /// The name of this node, and the uid of its Node object if that is known. The name is empty until
    /// [`Api::expect`] is called.
    own: Mutex<(String, Option<String>)>,
}

impl Api {
    /// Finds the server and its credentials, with the default timeouts. Sends no request yet. Fails if
    /// the flags, the kubeconfig or the files that it names can't be used.
    pub fn open(source: &Source) -> Result<Api> {
        Api::with(source, Patience::default())
    }

    /// Does the same as [`Api::open`], with other timeouts.
    pub fn with(source: &Source, patience: Patience) -> Result<Api> {
        let access = auth::find(source)?;
        if let Some(warning) = &access.warning {
            log::warn(format_args!("{warning}"));
        }
        Ok(Api::from_client(Client::with(access, patience)?))
    }

    /// Wraps a client; the endpoints resource is the newest one and the node has no name yet.
    fn from_client(client: Client) -> Api {
        Api { client, endpoints: 0.into(), own: Mutex::default() }
    }

    /// Returns the identity of the cluster as far as it is known without a request: the server's URL,
    /// the hash of its CA, and `node`.
    pub fn identity(&self, node: &str) -> Identity {
        let (server, node) = (self.client.server.clone(), node.to_owned());
        Identity { server, ca: self.client.ca_hash, node }
    }

    /// Returns the URL of the server.
    pub fn server(&self) -> &str {
        &self.client.server
    }

    /// Returns the counters of requests and replies since the start of the process.
    pub fn traffic(&self) -> &Traffic {
        &self.client.traffic
    }

    /// Sets the name of this node, and the cluster that `snapshot` belongs to. If the uid of the Node
    /// object that the server returns later is another one, everything is listed again. Must be called
    /// before [`Api::follow`] and [`Api::catch_up`]; otherwise the cluster is not checked.
    pub fn expect(&self, node: &str, snapshot: Option<&Snapshot>) {
        let Contact { uid, endpoints } = snapshot.map(|s| s.contact.clone()).unwrap_or_default();
        *self.own() = (node.to_owned(), uid);
        self.endpoints.store(endpoints.min(ENDPOINTS.len() - 1), Ordering::Relaxed);
    }

    /// Returns true if [`Api::expect`] set a node name, so that the cluster can be checked by the uid
    /// of this node's Node object.
    fn has_node_name(&self) -> bool {
        !self.own().0.is_empty()
    }

    /// Returns the facts that were learned from the server, for [`snapshot::File::save`].
    pub fn contact(&self) -> Contact {
        let endpoints = self.endpoints.load(Ordering::Relaxed);
        Contact { uid: self.own().1.clone(), endpoints }
    }

    /// Locks the node's name and uid. A panic of another thread does not make them unusable.
    fn own(&self) -> std::sync::MutexGuard<'_, (String, Option<String>)> {
        self.own.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Lists the kinds, one after another, into one result. Fails if any of them can't be listed.
    pub fn read(&self, kinds: &[Kind]) -> Result<Reading> {
        let mut whole = Reading::default();
        self.list_each(kinds, |_, reading| whole.add(reading))?;
        Ok(whole)
    }

    /// Lists the kinds, one after another, and passes each result to `take`. Fails at the first kind that
    /// can't be listed.
    fn list_each(&self, kinds: &[Kind], mut take: impl FnMut(Kind, Reading)) -> Result<()> {
        let mut cached = false;
        for &kind in kinds {
            let reading = self.list(kind, &mut cached, None).map_err(|failure| {
                let doing = format!("listing {} from {}", kind.plural(), self.client.server);
                Error::new(doing, failure.text)
            })?;
            take(kind, reading);
        }
        Ok(())
    }

    /// Lists one kind. `cached` and `known` are as in [`list::list`].
    fn list(
        &self,
        kind: Kind,
        cached: &mut bool,
        known: Option<&str>,
    ) -> std::result::Result<Reading, Failure> {
        if kind == Kind::EndpointSlice {
            return self.list_endpoints(cached, known);
        }
        let (shape, path) = self.resource_path(kind);
        list::list(&self.client, shape, path, cached, known)
    }

    /// Returns the resource in which a kind is served, and its path.
    fn resource_path(&self, kind: Kind) -> (Shape, &'static str) {
        match kind {
            Kind::Node => (Shape::Node, NODES),
            Kind::Service => (Shape::Service, "/api/v1/services"),
            Kind::EndpointSlice => ENDPOINTS[self.endpoints.load(Ordering::Relaxed)],
        }
    }

    /// Requests this node's own Node object. Returns its uid, which is `None` if there is no such Node,
    /// and the current resourceVersion of the cluster.
    fn probe(&self) -> std::result::Result<(Option<String>, String), Failure> {
        let node = list::percent_encode(&self.own().0);
        let path = format!("{NODES}?fieldSelector=metadata.name%3D{node}&limit=1");
        let body = self.client.probe(&path)?;
        if !body.trim_ascii_start().starts_with('{') {
            let fault = page::Fault::Foreign(page::first_line(body.as_bytes()));
            return Err(Failure::list(fault, &self.client.ca));
        }
        let (uid, version) = wire::identity(&body).map_err(Failure::other)?;
        if uid.is_some() {
            self.own().1.clone_from(&uid);
        }
        Ok((uid, version))
    }

    /// Lists endpoints from the first of [`ENDPOINTS`] that the server has. Each list tries them in order
    /// again, because a server may have been upgraded. Fails with the last 404 if it has none of them.
    fn list_endpoints(
        &self,
        cached: &mut bool,
        known: Option<&str>,
    ) -> std::result::Result<Reading, Failure> {
        let mut absent = Failure::other("the server has neither EndpointSlices nor Endpoints");
        for (i, (shape, path)) in ENDPOINTS.into_iter().enumerate() {
            match list::list(&self.client, shape, path, cached, known) {
                Err(failure) if failure.why == Why::Status(404) => absent = failure,
                done => {
                    self.endpoints.store(i, Ordering::Relaxed);
                    return done;
                }
            }
        }
        Err(absent)
    }
}

impl Reading {
    /// Parses an item of a list and adds it. An item that can't be parsed goes to `bad` and makes its kind
    /// doubtful. `nth` is the position in the list, from 1; it stands in for the name of an item that
    /// has none.
    fn take(&mut self, shape: Shape, nth: usize, item: &str) {
        let parsed = if item.len() > page::ITEM {
            Err(format!("it is larger than {} MiB", page::ITEM >> 20))
        } else {
            wire::read(shape, item)
        };
        match parsed {
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

    /// Adds the objects of another reading, which is of other kinds.
    fn add(&mut self, other: Reading) {
        self.cluster.nodes.extend(other.cluster.nodes);
        self.cluster.services.extend(other.cluster.services);
        self.cluster.slices.extend(other.cluster.slices);
        self.cluster.doubtful.extend(other.cluster.doubtful);
        self.bad.extend(other.bad);
        self.versions.extend(other.versions);
    }
}

#[cfg(test)]
mod tests;
