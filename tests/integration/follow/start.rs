//! The start of following: an old server, a snapshot, a server with TLS.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use kinglet::{
    api::{ApiServer, ExpectedCluster, STACK, Source, Start, snapshot::Snapshot},
    model::cluster::{Change, Cluster, ClusterStore, Kind},
};

use super::lab::{ALL, FILES, PATIENCE, POLL, SOON, WATCH, source};
use crate::common::{Folder, Server};

#[test]
fn servers_without_endpointslice_v1_are_followed() {
    for option in ["--only-v1beta1", "--only-endpoints"] {
        for rhythm in [WATCH, POLL] {
            let objects = Folder::objects("three-nodes");
            let server = Server::start(objects.path(), &[option]);
            let api = ApiServer::locate(&source(&server.url(), None), PATIENCE).unwrap();
            let api = Arc::new(api.open(ExpectedCluster::Any));
            let (to, news) = mpsc::channel();
            let follower = api.clone();
            thread::spawn(move || {
                let kind = Kind::EndpointSlice;
                follower.follow(kind, Start::default(), rhythm, |news| to.send(news).is_ok());
            });
            let mut known = ClusterStore::new(Cluster::default(), Default::default(), &ALL[2..]);
            known.apply(news.recv_timeout(SOON).unwrap(), |_, _| {});
            assert!(known.is_complete() && known.cluster.slices.len() > 20);
            let file = if option.contains("endpoints") { "endpoints.json" } else { FILES[2] };
            objects.edit(file, "10.244.0.7", "10.244.0.77");
            let end = Instant::now() + SOON;
            while !known
                .cluster
                .slices
                .values()
                .any(|slice| slice.endpoints.iter().any(|e| e.addr.to_string() == "10.244.0.77"))
            {
                known.apply(news.recv_timeout(end - Instant::now()).unwrap(), |_, _| {});
            }
            assert_eq!(known.cluster, {
                let mut again = api.read(&[Kind::EndpointSlice]).unwrap().cluster;
                again.doubtful = known.cluster.doubtful.clone();
                again
            });
        }
    }
}

#[test]
fn after_a_snapshot_a_kind_is_current_only_after_all_missed_events() {
    let objects = Folder::objects("three-nodes");
    let server = Server::start::<&str>(objects.path(), &[]);
    let open = |snapshot| {
        let server = ApiServer::locate(&source(&server.url(), None), PATIENCE).unwrap();
        server.open(ExpectedCluster::OfNode { node: "node-1", snapshot })
    };
    let api = open(None);
    let mut first = Vec::new();
    api.follow(Kind::Node, Start::default(), WATCH, |news| {
        first.push(news);
        false
    });
    let Change::Listed(reading) = first.pop().unwrap().change else { panic!() };
    let snapshot = Snapshot { contact: api.contact(), ..Snapshot::default() };
    assert!(snapshot.contact.uid.is_some());
    objects.edit("nodes.json", "10.244.2.0/24", "10.244.7.0/24");
    let again = open(Some(&snapshot));
    let start = Start {
        version: reading.versions.get(&Kind::Node).cloned(),
        age: Some(Duration::from_secs(60)),
    };
    let mut news_texts = Vec::new();
    again.follow(Kind::Node, start, WATCH, |news| {
        news_texts.push(match news.change {
            Change::Object { name, .. } => format!("one {name}"),
            Change::UpToDate(version) => format!("reached {version}"),
            other => format!("{other:?}"),
        });
        news_texts.len() < 2
    });
    assert_eq!(news_texts, ["one node-3", "reached 412"]);
    let asked = server.requests();
    assert!(asked.iter().filter(|line| line.contains("limit=500")).count() == 1, "{asked:?}");
}

#[test]
fn the_stack_size_of_a_follower_is_enough_for_tls() {
    let tls = |name: &str| format!("{}/tests/fixtures/tls/{name}", env!("CARGO_MANIFEST_DIR"));
    let (cert, key) = (tls("server.crt"), tls("server.key"));
    let objects = Folder::objects("three-nodes");
    let server = Server::start(objects.path(), &["--cert", &cert, "--key", &key]);
    let folder = Folder::new();
    folder.write(
        "kubeconfig",
        format!(
            "current-context: a\ncontexts: [{{name: a, context: {{cluster: a, user: a}}}}]\n\
             clusters: [{{name: a, cluster: {{server: \"https://{}\", certificate-authority: {}}}}}]\n\
             users: [{{name: a, user: {{}}}}]\n",
            server.address,
            tls("ca.crt")
        ),
    );
    let source = Source { master: None, kubeconfig: Some(folder.join("kubeconfig")) };
    let api = ApiServer::locate(&source, PATIENCE).unwrap();
    let api = Arc::new(api.open(ExpectedCluster::Any));
    let (to, news) = mpsc::channel();
    for kind in ALL {
        let (api, to) = (api.clone(), to.clone());
        let run = move || {
            api.follow(kind, Start::default(), POLL, |news| to.send(news).is_ok());
        };
        thread::Builder::new().stack_size(STACK).spawn(run).unwrap();
    }
    let mut known = ClusterStore::new(Cluster::default(), Default::default(), &ALL);
    let (mut polls, end) = (0, Instant::now() + Duration::from_secs(20));
    while polls < 6 {
        let news = news.recv_timeout(end - Instant::now()).unwrap();
        assert!(!matches!(news.change, Change::Unavailable(_)), "{news:?}");
        polls += usize::from(matches!(news.change, Change::UpToDate(_)));
        known.apply(news, |_, _| {});
    }
    assert!(known.is_complete());
}
