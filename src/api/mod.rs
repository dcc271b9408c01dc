//! The API server: the only HTTP.
//!
//! [`Api`] finds the server and its credentials and reads the kinds of object that are asked for into
//! a [`Reading`]. Pages are read as streams and of each object only what is used is kept. An object
//! that can't be understood is named and does not stop the others; it makes its kind doubtful.
//! [`from_list`] reads the same from a file.

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

/// Where the flags say that the API server is; with neither, a pod finds it by its environment.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// `--master`: its URL.
    pub master: Option<String>,
    /// `--kubeconfig`: a file.
    pub kubeconfig: Option<PathBuf>,
}

/// Where the API serves Nodes.
const NODES: &str = "/api/v1/nodes";
/// Where the API serves each shape of endpoints, the best first.
const ENDPOINTS: [(Shape, &str); 3] = [
    (Shape::EndpointSlice, "/apis/discovery.k8s.io/v1/endpointslices"),
    (Shape::EndpointSlice, "/apis/discovery.k8s.io/v1beta1/endpointslices"), // before 1.21
    (Shape::Endpoints, "/api/v1/endpoints"),                                 // before 1.17
];

/// An API server and the way to it. Threads share it.
pub struct Api {
    client: Client,
    /// Which of [`ENDPOINTS`] it serves.
    endpoints: AtomicUsize,
    /// This node's name, and the uid of its Node object where it is known.
    own: Mutex<(String, Option<String>)>,
}

impl Api {
    /// Finds the server and its credentials; asks nothing yet.
    pub fn open(source: &Source) -> Result<Api> {
        Api::with(source, Patience::default())
    }

    /// The same, with another patience.
    pub fn with(source: &Source, patience: Patience) -> Result<Api> {
        let access = auth::find(source)?;
        if let Some(warning) = &access.warning {
            log::warn(format_args!("{warning}"));
        }
        Ok(Api::over(Client::with(access, patience)?))
    }

    fn over(client: Client) -> Api {
        Api { client, endpoints: 0.into(), own: Mutex::default() }
    }

    /// Which cluster this is, as far as it can be told without asking.
    pub fn identity(&self, node: &str) -> Identity {
        let (server, node) = (self.client.server.clone(), node.to_owned());
        Identity { server, ca: self.client.ca_hash, node }
    }

    /// Its URL.
    pub fn server(&self) -> &str {
        &self.client.server
    }

    /// What was asked and what came, so far.
    pub fn traffic(&self) -> &Traffic {
        &self.client.traffic
    }

    /// Tells who we are, and which cluster a snapshot is of: as soon as the server answers, it has to
    /// be the same one, else all is listed.
    pub fn expect(&self, node: &str, snapshot: Option<&Snapshot>) {
        let Contact { uid, endpoints } = snapshot.map(|s| s.contact.clone()).unwrap_or_default();
        *self.own() = (node.to_owned(), uid);
        self.endpoints.store(endpoints.min(ENDPOINTS.len() - 1), Ordering::Relaxed);
    }

    /// Whether it matters which cluster it is.
    fn is_expected(&self) -> bool {
        !self.own().0.is_empty()
    }

    /// What the server told of itself: for [`snapshot::File::save`].
    pub fn contact(&self) -> Contact {
        let endpoints = self.endpoints.load(Ordering::Relaxed);
        Contact { uid: self.own().1.clone(), endpoints }
    }

    fn own(&self) -> std::sync::MutexGuard<'_, (String, Option<String>)> {
        self.own.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Lists the kinds, one after another. A kind that can't be listed is an error for all.
    pub fn read(&self, kinds: &[Kind]) -> Result<Reading> {
        let mut whole = Reading::default();
        self.each(kinds, |_, reading| whole.add(reading))?;
        Ok(whole)
    }

    /// The same, and each is told as it comes.
    fn each(&self, kinds: &[Kind], mut take: impl FnMut(Kind, Reading)) -> Result<()> {
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

    fn list(
        &self,
        kind: Kind,
        cached: &mut bool,
        known: Option<&str>,
    ) -> std::result::Result<Reading, Failure> {
        if kind == Kind::EndpointSlice {
            return self.endpoints(cached, known);
        }
        let (shape, path) = self.place(kind);
        list::list(&self.client, shape, path, cached, known)
    }

    /// Where a kind is, as what.
    fn place(&self, kind: Kind) -> (Shape, &'static str) {
        match kind {
            Kind::Node => (Shape::Node, NODES),
            Kind::Service => (Shape::Service, "/api/v1/services"),
            Kind::EndpointSlice => ENDPOINTS[self.endpoints.load(Ordering::Relaxed)],
        }
    }

    /// The uid of our own Node, where there is one, and the version of the whole cluster.
    fn probe(&self) -> std::result::Result<(Option<String>, String), Failure> {
        let node = list::encode(&self.own().0);
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

    /// In order, for servers are upgraded.
    fn endpoints(
        &self,
        cached: &mut bool,
        known: Option<&str>,
    ) -> std::result::Result<Reading, Failure> {
        let mut absent = Failure::other("it serves no endpoints");
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
