//! The API server as a source of objects: its location, its resources and the facts learned from it.
//!
//! [`ApiServer::locate`] finds the address and the credentials, and [`ApiServer::open`] makes an [`Api`]
//! of them, which lists the kinds. Following the kinds is left to `watcher`.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use super::{
    auth::{self, Source},
    client::{Client, Timeouts},
    failure::{Cause, Failure},
    list, page,
    request_stats::RequestStats,
    snapshot::{Contact, Identity, Snapshot},
    wire::{self, ApiResource},
};
use crate::{
    error::{Error, Result},
    log,
    model::cluster::{Kind, ListResult},
};

/// The path of the Nodes resource.
const NODES: &str = "/api/v1/nodes";

/// Returns the resources in which a kind may be served, with their paths, in order of preference: newer
/// API versions come first.
pub(super) fn resources(kind: Kind) -> &'static [(ApiResource, &'static str)] {
    match kind {
        Kind::Node => &[(ApiResource::Node, NODES)],
        Kind::Service => &[(ApiResource::Service, "/api/v1/services")],
        Kind::EndpointSlice => &[
            (ApiResource::EndpointSlice, "/apis/discovery.k8s.io/v1/endpointslices"),
            // before 1.21
            (ApiResource::EndpointSlice, "/apis/discovery.k8s.io/v1beta1/endpointslices"),
            // before 1.17
            (ApiResource::Endpoints, "/api/v1/endpoints"),
        ],
    }
}

/// The cluster that a server is expected to be of.
#[derive(Clone, Copy, Debug)]
pub enum ExpectedCluster<'a> {
    /// Any cluster. It is never checked, so a watch that follows a snapshot starts with a list.
    Any,
    /// The cluster in which this node is registered.
    OfNode {
        /// The name of the Node object.
        node: &'a str,
        /// The snapshot that the cluster is compared with. If the uid of the Node object in it differs
        /// from the one that the server returns later, everything is listed again. `None` if there is
        /// no snapshot.
        snapshot: Option<&'a Snapshot>,
    },
}

/// A server that was located. No request was sent yet.
pub struct ApiServer(Client);

impl ApiServer {
    /// Finds the server and its credentials. Sends no request. Fails if the flags, the kubeconfig or the
    /// files that it names can't be used.
    pub fn locate(source: &Source, timeouts: Timeouts) -> Result<ApiServer> {
        let access = auth::find(source)?;
        if let Some(warning) = &access.warning {
            log::warn(format_args!("{warning}"));
        }
        Ok(ApiServer(Client::with_timeouts(access, timeouts)?))
    }

    /// Returns the identity of the cluster as far as it is known without a request: the server's URL,
    /// the hash of its CA, and `node`. It is the key of a snapshot.
    pub fn identity(&self, node: &str) -> Identity {
        identity(&self.0, node)
    }

    /// Returns the connection to the server, which must be of the cluster `expected`.
    pub fn open(self, expected: ExpectedCluster<'_>) -> Api {
        let api = Api { client: self.0, endpoints: 0.into(), own: Mutex::new(None) };
        if let ExpectedCluster::OfNode { node, snapshot } = expected {
            api.expect(node, snapshot);
        }
        api
    }
}

/// Returns the identity of the server of a client.
fn identity(client: &Client, node: &str) -> Identity {
    Identity { server: client.server.clone(), ca: client.ca_hash, node: node.to_owned() }
}

/// This node's Node object.
struct OwnNode {
    /// metadata.name
    name: String,
    /// metadata.uid; `None` before it is known.
    uid: Option<String>,
}

/// A connection to one API server. Threads share it.
pub struct Api {
    pub(super) client: Client,
    /// Index into [`resources`] of the resource of endpoints that the server has.
    endpoints: AtomicUsize,
    /// The Node object by which the cluster is recognized; `None` if the cluster is not checked.
    own: Mutex<Option<OwnNode>>,
}

impl Api {
    /// Locates the server and opens it with the default timeouts, for any cluster. Fails as
    /// [`ApiServer::locate`] does.
    pub fn open(source: &Source) -> Result<Api> {
        Ok(ApiServer::locate(source, Timeouts::default())?.open(ExpectedCluster::Any))
    }

    /// Returns the URL of the server.
    pub fn server(&self) -> &str {
        &self.client.server
    }

    /// Returns the counters of requests and replies since the start of the process.
    pub(crate) fn traffic(&self) -> &RequestStats {
        &self.client.traffic
    }

    /// Records the cluster in which `node` is registered. Must be called before the first request.
    fn expect(&self, node: &str, snapshot: Option<&Snapshot>) {
        let Contact { uid, endpoints } = snapshot.map(|s| s.contact.clone()).unwrap_or_default();
        *self.own() = Some(OwnNode { name: node.to_owned(), uid });
        let last = resources(Kind::EndpointSlice).len() - 1;
        self.endpoints.store(endpoints.min(last), Ordering::Relaxed);
    }

    /// Returns true if the cluster can be checked by the uid of this node's Node object.
    pub(super) fn checks_cluster(&self) -> bool {
        self.own().is_some()
    }

    /// Returns the facts that were learned from the server, for
    /// [`SnapshotFile::save`](super::snapshot::SnapshotFile::save).
    pub fn contact(&self) -> Contact {
        let uid = self.own().as_ref().and_then(|own| own.uid.clone());
        Contact { uid, endpoints: self.endpoints.load(Ordering::Relaxed) }
    }

    /// Locks this node's name and uid. A panic of another thread does not make them unusable.
    fn own(&self) -> MutexGuard<'_, Option<OwnNode>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists the kinds, one after another, into one result. Fails if any of them can't be listed.
    pub fn read(&self, kinds: &[Kind]) -> Result<ListResult> {
        let mut whole = ListResult::default();
        self.list_each(kinds, |_, reading| whole.merge(reading))?;
        Ok(whole)
    }

    /// Lists the kinds, one after another, and passes each result to `on_list`. Fails at the first kind
    /// that can't be listed.
    pub(super) fn list_each(
        &self,
        kinds: &[Kind],
        mut on_list: impl FnMut(Kind, ListResult),
    ) -> Result<()> {
        let mut cached = false;
        for &kind in kinds {
            let reading = self.list(kind, &mut cached, None).map_err(|failure| {
                let doing = format!("listing {} from {}", kind.plural(), self.client.server);
                Error::new(doing, failure.text)
            })?;
            on_list(kind, reading);
        }
        Ok(())
    }

    /// Lists one kind. `cached` and `known` are as in [`list::list`].
    pub(super) fn list(
        &self,
        kind: Kind,
        cached: &mut bool,
        known: Option<&str>,
    ) -> std::result::Result<ListResult, Failure> {
        if kind == Kind::EndpointSlice {
            return self.list_endpoints(cached, known);
        }
        let (shape, path) = self.resource_path(kind);
        list::list(&self.client, shape, path, cached, known)
    }

    /// Returns the resource in which a kind is served, and its path.
    pub(super) fn resource_path(&self, kind: Kind) -> (ApiResource, &'static str) {
        match kind {
            Kind::Node | Kind::Service => resources(kind)[0],
            Kind::EndpointSlice => resources(kind)[self.endpoints.load(Ordering::Relaxed)],
        }
    }

    /// Requests this node's own Node object. Returns its uid, which is `None` if there is no such Node,
    /// and the current resourceVersion of the cluster.
    pub(super) fn probe(&self) -> std::result::Result<(Option<String>, String), Failure> {
        let node = self.own().as_ref().map(|own| list::percent_encode(&own.name));
        let node = node.unwrap_or_default();
        let path = format!("{NODES}?fieldSelector=metadata.name%3D{node}&limit=1");
        let body = self.client.probe(&path)?;
        if !body.trim_ascii_start().starts_with('{') {
            let fault = page::PageFault::NotJson(page::first_line(body.as_bytes()));
            return Err(Failure::from_list_fault(
                fault,
                &self.client.ca,
                self.client.timeouts.response,
            ));
        }
        let (uid, version) = wire::identity(&body).map_err(Failure::other)?;
        if let Some(own) = self.own().as_mut().filter(|_| uid.is_some()) {
            own.uid.clone_from(&uid);
        }
        Ok((uid, version))
    }

    /// Lists endpoints from the first resource that the server has. Each list tries the resources in
    /// order again, because a server may have been upgraded. Fails with the last 404 if it has none.
    fn list_endpoints(
        &self,
        cached: &mut bool,
        known: Option<&str>,
    ) -> std::result::Result<ListResult, Failure> {
        let mut absent = Failure::other("the server has neither EndpointSlices nor Endpoints");
        for (i, (shape, path)) in resources(Kind::EndpointSlice).iter().enumerate() {
            match list::list(&self.client, *shape, path, cached, known) {
                Err(failure) if failure.cause == Cause::Status(404) => absent = failure,
                done => {
                    self.endpoints.store(i, Ordering::Relaxed);
                    return done;
                }
            }
        }
        Err(absent)
    }

    /// Wraps a client of a test.
    #[cfg(test)]
    pub(super) fn from_client(client: Client) -> Api {
        ApiServer(client).open(ExpectedCluster::Any)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        api::test_server::{Server, ok, recorded, reply, serve},
        model::cluster::{ClusterStore, Endpoint, Service},
    };

    const ALL: [Kind; 3] = [Kind::Node, Kind::Service, Kind::EndpointSlice];

    fn api(server: &Server) -> Api {
        Api::from_client(server.client())
    }

    /// Starts a server that replies with the recorded lists of a folder of tests/fixtures/recorded.
    fn recorded_server(folder: &'static str) -> Server {
        serve(move |target, _| {
            let path = target.split('?').next().unwrap_or_default();
            ok(recorded(&format!("{folder}/{}.json", path.rsplit('/').next().unwrap_or_default())))
        })
    }

    fn service<'a>(reading: &'a ListResult, name: &str) -> &'a Service {
        let found = reading.cluster.services.iter().find(|(key, _)| key.to_string() == name);
        found.unwrap_or_else(|| panic!("no {name}")).1
    }

    fn texts<T: ToString>(list: &[T]) -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn recorded_lists_parse_without_errors() {
        let got = api(&recorded_server("list")).read(&ALL).unwrap();
        let cluster = &got.cluster;
        assert_eq!(got.bad, []);
        assert_eq!(
            (cluster.nodes.len(), cluster.services.len(), cluster.slices.len()),
            (3, 24, 29)
        );
        assert_eq!(got.versions.values().collect::<Vec<_>>(), ["411", "411", "411"]);
        assert!(cluster.doubtful.is_empty());

        // Services of every kind.
        assert_eq!(texts(&service(&got, "kube-system/kube-dns").cluster_ips), ["10.96.0.10"]);
        let dns: Vec<_> = service(&got, "kube-system/kube-dns")
            .ports
            .iter()
            .map(|p| format!("{} {:?} {}", p.name, p.protocol, p.port))
            .collect();
        assert_eq!(dns, ["dns Udp 53", "dns-tcp Tcp 53", "metrics Tcp 9153"]);
        for nothing in ["shop/extname", "shop/web-headless", "shop/otherproxy"] {
            let got = service(&got, nothing);
            assert_eq!((got.cluster_ips.len(), got.ports.len()), (0, 0), "{nothing}");
        }
        assert_eq!(service(&got, "shop/web-sticky").affinity, 600);
        assert_eq!(service(&got, "shop/web").affinity, 0);
        assert_eq!(
            texts(&service(&got, "shop/web-ext").external_ips),
            ["198.51.100.77", "198.51.100.78"]
        );
        assert_eq!(texts(&service(&got, "shop/web-lb").balancer_ips), ["203.0.113.10"]);
        assert_eq!(texts(&service(&got, "shop/web-lb-proxy").balancer_ips), [""; 0]);
        assert_eq!(service(&got, "shop/web-np").ports[0].node_port, Some(30080));
        assert_eq!(
            service(&got, "shop/sctp").ports[0].protocol,
            crate::model::items::Protocol::Sctp
        );
        assert!(service(&got, "shop/web-itp-local").internal_local);
        assert!(service(&got, "shop/web-etp-local").external_local);
        assert!(
            !service(&got, "shop/web").internal_local && !service(&got, "shop/web").external_local
        );

        // Fields that come from kube-router's annotations and from a load balancer.
        let annotated = service(&got, "shop/kr-annot");
        assert_eq!((annotated.scheduler.as_deref(), annotated.scheduler_flags), (Some("mh"), 0x18));
        assert!(annotated.dsr && !annotated.external_local);
        assert!(!service(&got, "shop/web").dsr && service(&got, "shop/web").scheduler.is_none());
        assert_eq!(service(&got, "shop/web-lb").health_port, 30848);
        assert_eq!(
            texts(&service(&got, "shop/web-lb-proxy").source_ranges),
            ["198.51.100.0/24", "10.0.0.0/8"]
        );
        let zones: Vec<_> = cluster.nodes.values().map(|n| n.zone.as_deref().unwrap()).collect();
        assert_eq!(zones, ["zone-0", "zone-1", "zone-0"]);

        // Endpoints by Service, ready and not ready.
        let of = |name: &str| -> Vec<&Endpoint> {
            let slices = cluster.slices.values().filter(|s| s.service.as_deref() == Some(name));
            slices.flat_map(|s| &s.endpoints).collect()
        };
        assert_eq!(of("web").len(), 6);
        assert_eq!(of("web").iter().filter(|e| e.ready).count(), 4);
        assert!(of("web").iter().any(|e| e.ready && e.node.as_deref() == Some("node-1")));
        assert_eq!(
            of("web-notready").iter().filter(|e| e.ready).count(),
            6,
            "published as they are"
        );
        assert_eq!(of("web-headless").len(), 0);
        let hinted = |name: &str| of(name).iter().filter_map(|e| e.hints.as_deref()).count();
        assert_eq!((hinted("web-zone"), hinted("web-node"), hinted("web")), (4, 4, 0));
    }

    #[test]
    fn lists_of_a_dual_stack_cluster_parse_without_errors() {
        let got = api(&recorded_server("dualstack")).read(&ALL).unwrap();
        assert_eq!(got.bad, []);
        for node in got.cluster.nodes.values() {
            assert_eq!(node.pod_cidrs.iter().filter(|n| n.addr().is_ipv6()).count(), 1, "{node:?}");
        }
        let v6 =
            got.cluster.slices.values().flat_map(|s| &s.endpoints).filter(|e| e.addr.is_ipv6());
        assert!(v6.count() > 10);
        assert!(got.cluster.services.values().any(|s| s.cluster_ips.len() == 2));
    }

    /// Written by hand after the documentation of discovery.k8s.io/v1beta1, because there is no recording
    /// of that version.
    const V1BETA1: &str = r#"{"kind":"EndpointSliceList","apiVersion":"discovery.k8s.io/v1beta1","metadata":{"resourceVersion":"9"},"items":[
    {"metadata":{"name":"web-abc","namespace":"shop","labels":{"kubernetes.io/service-name":"web"}},"addressType":"IPv4",
     "endpoints":[{"addresses":["10.244.1.5"],"conditions":{"ready":true},"topology":{"kubernetes.io/hostname":"node-1","topology.kubernetes.io/zone":"a"}},
                  {"addresses":["10.244.2.5"],"conditions":{"ready":false},"topology":{"kubernetes.io/hostname":"node-2"}},
                  {"addresses":["10.244.3.5"],"conditions":{},"topology":null}],
     "ports":[{"name":"","protocol":"TCP","port":8080}]}]}"#;

    #[test]
    fn endpoints_are_listed_in_the_newest_version_that_the_server_has() {
        let old = serve(|target, _| match target.split('?').next() {
            Some("/apis/discovery.k8s.io/v1beta1/endpointslices") => ok(V1BETA1),
            _ => recorded("err/404-path.http"),
        });
        let api_of_old = api(&old);
        let got = api_of_old.read(&[Kind::EndpointSlice]).unwrap();
        let ends: Vec<_> = got
            .cluster
            .slices
            .values()
            .flat_map(|s| &s.endpoints)
            .map(|e| {
                (
                    e.addr.to_string(),
                    e.ready,
                    e.serving,
                    e.terminating,
                    e.node.as_deref().unwrap_or("-"),
                )
            })
            .collect();
        assert_eq!(
            ends,
            [
                ("10.244.1.5".to_owned(), true, true, false, "node-1"),
                ("10.244.2.5".to_owned(), false, false, false, "node-2"),
                ("10.244.3.5".to_owned(), true, true, false, "-"),
            ]
        );
        api_of_old.read(&[Kind::EndpointSlice]).unwrap();
        assert_eq!(
            old.targets().len(),
            4,
            "each list tries v1 first, since the server may have been upgraded"
        );

        let older = serve(|target, _| match target.split('?').next() {
            Some("/api/v1/endpoints") => ok(recorded("list/endpoints.json")),
            _ => recorded("err/404-path.http"),
        });
        let got = api(&older).read(&[Kind::EndpointSlice]).unwrap();
        assert_eq!((got.bad.len(), got.cluster.slices.len()), (0, 22));
        let web = got.cluster.slices.values().find(|s| s.name.to_string() == "shop/web/0").unwrap();
        assert_eq!((web.service.as_deref(), web.endpoints.len()), (Some("web"), 5));
        assert_eq!(web.endpoints[0].node.as_deref(), Some("node-1"));

        let none = serve(|_, _| recorded("err/404-path.http"));
        let got = api(&none).read(&[Kind::EndpointSlice]).unwrap_err().to_string();
        assert_eq!(
            got,
            format!(
                "listing endpointslices from {}: 404 Not Found: 404 page not found; is that the URL of a Kubernetes API server?",
                none.url
            )
        );
    }

    #[test]
    fn an_object_that_does_not_parse_is_reported_by_name_and_the_others_are_kept() {
        let server = serve(|_, _| {
            ok(format!(
                r#"{{"kind":"ServiceList","items":[
        {{"metadata":{{"name":"web","namespace":"shop"}},"spec":{{"clusterIP":"10.0.0.1","ports":[{{"port":"80"}}]}}}},
        {{"metadata":7}}, "{}", {{"a":}}, ["\u{{1}}"],
        {{"metadata":{{"name":"db","namespace":"shop"}},"spec":{{"clusterIP":"10.0.0.2","ports":[{{"port":5432}}]}}}}]}}"#,
                "x".repeat(5_000_000)
            ))
        });
        let got = api(&server).read(&[Kind::Service]).unwrap();
        assert_eq!(
            texts(&got.bad),
            [
                "Service shop/web could not be understood: spec.ports[0].port: invalid type: string \"80\", expected i64",
                "Service no. 2 of the list could not be understood: metadata: invalid type: integer `7`, expected struct ObjectMeta",
                "Service no. 3 of the list could not be understood: it is larger than 4 MiB",
                "Service no. 4 of the list could not be understood: a: expected value",
                "Service no. 5 of the list could not be understood: invalid type: sequence, expected struct ServiceJson",
            ]
        );
        assert_eq!(got.cluster.services.len(), 1);
        assert_eq!(got.cluster.doubtful.iter().collect::<Vec<_>>(), [&Kind::Service]);
    }

    #[test]
    fn catching_up_fails_if_a_proxy_ends_the_watch_at_once() {
        let server = serve(|target, _| match target.contains("watch=1") {
            true => ok(""),
            false => {
                ok(r#"{"metadata":{"resourceVersion":"500"},"items":[{"metadata":{"uid":"u"}}]}"#)
            }
        });
        let snapshot = api(&recorded_server("list")).read(&[Kind::Node]).unwrap();
        let mut known = ClusterStore::new(snapshot.cluster, snapshot.versions, &[Kind::Node]);
        let (age, resync) = (Duration::from_secs(1), Duration::from_secs(60));
        let contact = Contact { uid: Some("u".into()), endpoints: 0 };
        let of_u = Snapshot { contact, ..Snapshot::default() };
        let expected = ExpectedCluster::OfNode { node: "node-1", snapshot: Some(&of_u) };
        let api = ApiServer(server.client()).open(expected);
        let errors = api.sync_once(&mut known, &[Kind::Node], Some(age), resync);
        assert_eq!(
            texts(&errors),
            [
                "watching nodes: the watch ended too early to be complete; is there a proxy before the API server?"
            ]
        );
    }

    #[test]
    fn a_list_that_is_forbidden_fails_with_the_name_of_its_kind() {
        let server = serve(|target, _| match target.contains("nodes") {
            true => ok(recorded("list/nodes.json")),
            false => reply("403 Forbidden", "", "no"),
        });
        let got = api(&server).read(&ALL).unwrap_err().to_string();
        assert_eq!(
            got,
            format!(
                "listing services from {}: 403 Forbidden: no; this user needs the rights in boards/kubernetes/rbac.yaml",
                server.url
            )
        );
    }
}
