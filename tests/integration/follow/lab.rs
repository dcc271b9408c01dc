//! A test API server, followers of all its kinds, and the state that they built from it.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use kinglet::{
    api::{Api, ApiServer, ExpectedCluster, STACK, Source, Start, SyncPolicy, Timeouts},
    model::cluster::{Change, Cluster, ClusterStore, Kind, WatchUpdate},
};
use serde_json::{Value, json};

use crate::common::{Folder, Server};

pub const ALL: [Kind; 3] = [Kind::Node, Kind::Service, Kind::EndpointSlice];
pub const FILES: [&str; 3] = ["nodes.json", "services.json", "endpointslices.json"];
pub const HOUR: Duration = Duration::from_secs(3600);
pub const WATCH: SyncPolicy = SyncPolicy { poll: None, resync: HOUR };
pub const POLL: SyncPolicy = SyncPolicy { poll: Some(Duration::from_secs(1)), resync: HOUR };
/// The duration of each fault: three or four attempts of a follower.
pub const FAULT: Duration = Duration::from_secs(4);
/// The limit for recovery: two waits of at most 4 s each, and a margin for a busy machine.
pub const SOON: Duration = Duration::from_secs(14);
pub const PATIENCE: Timeouts = Timeouts {
    response: Duration::from_secs(2),
    item: Duration::from_secs(2),
    idle: Duration::from_secs(3),
    grace: Duration::from_secs(2),
};

pub fn wait_for(limit: Duration, what: &str, mut done: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < limit, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
    began.elapsed()
}

/// The state that the followers' news add up to, with checks.
#[derive(Default)]
pub struct Observed {
    pub known: Option<ClusterStore>,
    /// The errors that were reported.
    pub lost: Vec<String>,
    /// Objects that disappeared although the test did not remove them.
    pub missing: Vec<String>,
    /// Kind and name of each object that was there at first and that the test did not remove.
    pub present: BTreeSet<String>,
    pub news: usize,
}

pub fn names(cluster: &Cluster) -> BTreeSet<String> {
    let nodes = cluster.nodes.keys().map(|name| format!("node {name}"));
    let services = cluster.services.keys().map(|name| format!("service {name}"));
    let slices = cluster.slices.by_name().keys().map(|name| format!("slice {name}"));
    nodes.chain(services).chain(slices).collect()
}

impl Observed {
    pub fn apply(&mut self, news: WatchUpdate) {
        self.news += 1;
        if let Change::Unavailable(why) = &news.change {
            self.lost.push(why.clone());
        }
        let known = self.known.as_mut().unwrap();
        known.apply(news, |_, _| {});
        let now = names(&known.cluster);
        let missing = self.present.difference(&now).cloned();
        self.missing.extend(missing);
    }
}

/// A server and its followers.
pub struct Lab {
    pub objects: Folder,
    pub server: Option<Server>,
    pub address: String,
    pub observed: Arc<Mutex<Observed>>,
    pub stop: Arc<AtomicBool>,
    pub changes: u32,
    pub api: Arc<Api>,
}

impl Lab {
    pub fn new(rhythm: SyncPolicy, options: &[&str], token: Option<&Path>) -> Lab {
        let objects = Folder::objects("three-nodes");
        for file in FILES {
            let list: Value = serde_json::from_str(&objects.read(file)).unwrap();
            objects.write(file, list.to_string()); // later edits then change single objects only
        }
        if let Some(token) = token {
            fs::copy(token, objects.join("token")).unwrap();
        }
        let server = Server::start(objects.path(), &[&["--bookmarks", "1"], options].concat());
        let address = server.address.clone();
        let source = source(&server.url(), token.map(|token| (token, &objects)));
        let expected = ExpectedCluster::OfNode { node: "node-1", snapshot: None };
        let api = Arc::new(ApiServer::locate(&source, PATIENCE).unwrap().open(expected));
        let known = ClusterStore::new(Cluster::default(), Default::default(), &ALL);
        let observed = Arc::new(Mutex::new(Observed { known: Some(known), ..Observed::default() }));
        let stop = Arc::new(AtomicBool::new(false));
        let server = Some(server);
        let lab = Lab { objects, server, address, observed, stop, changes: 0, api };
        for kind in ALL {
            lab.follow(kind, rhythm);
        }
        lab.settle(Duration::from_secs(20), "the first lists");
        let all = names(&lab.observed().known.as_ref().unwrap().cluster);
        lab.observed().present = all;
        lab
    }

    pub fn follow(&self, kind: Kind, rhythm: SyncPolicy) {
        let (api, observed, stop) = (self.api.clone(), self.observed.clone(), self.stop.clone());
        let run = move || {
            api.follow(kind, Start::default(), rhythm, |news| {
                observed.lock().unwrap().apply(news);
                !stop.load(SeqCst)
            });
        };
        thread::Builder::new().stack_size(STACK).spawn(run).unwrap();
    }

    pub fn observed(&self) -> MutexGuard<'_, Observed> {
        self.observed.lock().unwrap()
    }

    /// Changes one object of each kind and removes the last slice.
    pub fn change(&mut self) {
        self.changes += 1;
        let n = self.changes;
        let edit = |file: &str, edit: &dyn Fn(&mut Vec<Value>)| {
            let mut list: Value = serde_json::from_str(&self.objects.read(file)).unwrap();
            edit(list["items"].as_array_mut().unwrap());
            self.objects.write(file, list.to_string());
        };
        edit("nodes.json", &|items| {
            items[2]["spec"]["podCIDR"] = json!(format!("10.244.{}.0/24", 100 + n));
            items[2]["spec"]["podCIDRs"] = json!([items[2]["spec"]["podCIDR"]]);
        });
        edit("services.json", &|items| {
            let mut sticky = items.iter_mut().filter(|i| i["metadata"]["name"] == "web-sticky");
            let config = &mut sticky.next().unwrap()["spec"]["sessionAffinityConfig"];
            config["clientIP"]["timeoutSeconds"] = json!(600 + n);
        });
        edit("endpointslices.json", &|items| {
            let gone = items.pop().unwrap();
            let (space, name) = (&gone["metadata"]["namespace"], &gone["metadata"]["name"]);
            let name = format!("slice {}/{}", space.as_str().unwrap(), name.as_str().unwrap());
            assert!(self.observed().present.remove(&name));
            items[0]["endpoints"] = json!([]);
        });
    }

    /// Returns the objects of the server, read from its files, because the server may be unable to
    /// answer.
    pub fn truth(&self) -> Cluster {
        let mut truth = Cluster::default();
        for file in FILES {
            let text = self.objects.read(file);
            let list = kinglet::api::from_list(text.as_bytes()).unwrap();
            assert_eq!(list.bad, []);
            truth.nodes.extend(list.cluster.nodes);
            truth.services.extend(list.cluster.services);
            truth.slices.extend(list.cluster.slices);
        }
        truth
    }

    pub fn settle(&self, limit: Duration, why: &str) -> Duration {
        let truth = self.truth();
        wait_for(limit, why, || {
            let observed = self.observed();
            let known = observed.known.as_ref().unwrap();
            known.cluster == truth && known.lost.is_empty() && known.is_complete()
        })
    }

    /// Returns true if a fault of this kind changed an answer of the server.
    pub fn met(&self, kind: &str) -> bool {
        let requests = self.server.as_ref().unwrap().requests();
        requests.iter().any(|line| line.split(' ').nth(4) == Some(kind))
    }

    pub fn faults(&self, faults: &str) {
        self.objects.write("faults", faults);
        self.objects.write("cut", faults);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
    }
}

/// Returns the address of a server; with a token, by way of a kubeconfig that names the token's
/// file.
pub fn source(url: &str, token: Option<(&Path, &Folder)>) -> Source {
    let Some((token, folder)) = token else {
        return Source { master: Some(url.to_owned()), kubeconfig: None };
    };
    folder.write(
        "kubeconfig",
        format!(
            "current-context: a\ncontexts: [{{name: a, context: {{cluster: a, user: a}}}}]\n\
             clusters: [{{name: a, cluster: {{server: \"{url}\"}}}}]\n\
             users: [{{name: a, user: {{tokenFile: {}}}}}]\n",
            token.display()
        ),
    );
    Source { master: None, kubeconfig: Some(folder.join("kubeconfig")) }
}
