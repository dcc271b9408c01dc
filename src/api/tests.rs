use std::time::Duration;

use super::{
    serve::{Server, ok, recorded, reply, serve},
    *,
};
use crate::cluster::{Endpoint, Known, Service};

const ALL: [Kind; 3] = [Kind::Node, Kind::Service, Kind::EndpointSlice];

fn api(server: &Server) -> Api {
    Api::over(server.client())
}

/// A server of recorded lists, in a folder of tests/fixtures/recorded.
fn recorded_server(folder: &'static str) -> Server {
    serve(move |target, _| {
        let path = target.split('?').next().unwrap_or_default();
        ok(recorded(&format!("{folder}/{}.json", path.rsplit('/').next().unwrap_or_default())))
    })
}

fn service<'a>(reading: &'a Reading, name: &str) -> &'a Service {
    let found = reading.cluster.services.iter().find(|(key, _)| key.to_string() == name);
    found.unwrap_or_else(|| panic!("no {name}")).1
}

fn texts<T: ToString>(list: &[T]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

#[test]
fn recorded_lists_parse_whole() {
    let got = api(&recorded_server("list")).read(&ALL).unwrap();
    let cluster = &got.cluster;
    assert_eq!(got.bad, []);
    assert_eq!((cluster.nodes.len(), cluster.services.len(), cluster.slices.len()), (3, 24, 29));
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
    assert_eq!(service(&got, "shop/sctp").ports[0].protocol, crate::state::Protocol::Sctp);
    assert!(service(&got, "shop/web-itp-local").internal_local);
    assert!(service(&got, "shop/web-etp-local").external_local);
    assert!(!service(&got, "shop/web").internal_local && !service(&got, "shop/web").external_local);

    // What kube-router's annotations and a load balancer add.
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

    // Slices by Service, with ready and other endpoints.
    let of = |name: &str| -> Vec<&Endpoint> {
        let slices = cluster.slices.values().filter(|s| s.service.as_deref() == Some(name));
        slices.flat_map(|s| &s.endpoints).collect()
    };
    assert_eq!(of("web").len(), 6);
    assert_eq!(of("web").iter().filter(|e| e.ready).count(), 4);
    assert!(of("web").iter().any(|e| e.ready && e.node.as_deref() == Some("node-1")));
    assert_eq!(of("web-notready").iter().filter(|e| e.ready).count(), 6, "published as they are");
    assert_eq!(of("web-headless").len(), 0);
    let hinted = |name: &str| of(name).iter().filter_map(|e| e.hints.as_deref()).count();
    assert_eq!((hinted("web-zone"), hinted("web-node"), hinted("web")), (4, 4, 0));
}

#[test]
fn a_dual_stack_cluster_parses_whole() {
    let got = api(&recorded_server("dualstack")).read(&ALL).unwrap();
    assert_eq!(got.bad, []);
    for node in got.cluster.nodes.values() {
        assert_eq!(node.pod_cidrs.iter().filter(|n| n.addr().is_ipv6()).count(), 1, "{node:?}");
    }
    let v6 = got.cluster.slices.values().flat_map(|s| &s.endpoints).filter(|e| e.addr.is_ipv6());
    assert!(v6.count() > 10);
    assert!(got.cluster.services.values().any(|s| s.cluster_ips.len() == 2));
}

/// Hand-made after the documentation of discovery.k8s.io/v1beta1: no recording has it.
const V1BETA1: &str = r#"{"kind":"EndpointSliceList","apiVersion":"discovery.k8s.io/v1beta1","metadata":{"resourceVersion":"9"},"items":[
    {"metadata":{"name":"web-abc","namespace":"shop","labels":{"kubernetes.io/service-name":"web"}},"addressType":"IPv4",
     "endpoints":[{"addresses":["10.244.1.5"],"conditions":{"ready":true},"topology":{"kubernetes.io/hostname":"node-1","topology.kubernetes.io/zone":"a"}},
                  {"addresses":["10.244.2.5"],"conditions":{"ready":false},"topology":{"kubernetes.io/hostname":"node-2"}},
                  {"addresses":["10.244.3.5"],"conditions":{},"topology":null}],
     "ports":[{"name":"","protocol":"TCP","port":8080}]}]}"#;

#[test]
fn an_old_server_is_asked_for_what_it_has() {
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
    assert_eq!(old.targets().len(), 4, "it may have been upgraded meanwhile");

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
fn a_bad_object_is_named_and_does_not_stop_the_rest() {
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
            "Service no. 2 of the list could not be understood: metadata: invalid type: integer `7`, expected struct Meta",
            "Service no. 3 of the list could not be understood: it is larger than 4 MiB",
            "Service no. 4 of the list could not be understood: a: expected value",
            "Service no. 5 of the list could not be understood: invalid type: sequence, expected struct Wire",
        ]
    );
    assert_eq!(got.cluster.services.len(), 1);
    assert_eq!(got.cluster.doubtful.iter().collect::<Vec<_>>(), [&Kind::Service]);
}

#[test]
fn a_watch_that_a_proxy_ends_at_once_is_an_error_that_says_so() {
    let server = serve(|target, _| match target.contains("watch=1") {
        true => ok(""),
        false => ok(r#"{"metadata":{"resourceVersion":"500"},"items":[{"metadata":{"uid":"u"}}]}"#),
    });
    let snapshot = api(&recorded_server("list")).read(&[Kind::Node]).unwrap();
    let mut known = Known::new(snapshot.cluster, snapshot.versions, &[Kind::Node]);
    let (age, resync) = (Duration::from_secs(1), Duration::from_secs(60));
    let api = api(&server);
    *api.own() = ("node-1".into(), Some("u".into()));
    let errors = api.catch_up(&mut known, &[Kind::Node], Some(age), resync);
    assert_eq!(texts(&errors), ["watching nodes: it ended too soon to tell"]);
}

#[test]
fn a_kind_that_is_refused_is_told_with_its_name() {
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
