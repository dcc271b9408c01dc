//! A test API server, followers of all its kinds, and what they told.

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
/// How long each fault lasts: three or four attempts of a follower.
pub const FAULT: Duration = Duration::from_secs(4);
/// Waits are of at most 4 s by then; two of them, and what the machine of a test needs.
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

/// What a follower tells, taken in and watched over.
#[derive(Default)]
pub struct Heard {
    pub known: Option<ClusterStore>,
    /// What was told of failures.
    pub lost: Vec<String>,
    /// Objects that nobody removed and that were lost.
    pub missing: Vec<String>,
    /// By kind and name, all that was there at first and was not removed.
    pub there: BTreeSet<String>,
    pub news: usize,
}

pub fn names(cluster: &Cluster) -> BTreeSet<String> {
    let nodes = cluster.nodes.keys().map(|name| format!("node {name}"));
    let services = cluster.services.keys().map(|name| format!("service {name}"));
    let slices = cluster.slices.by_name().keys().map(|name| format!("slice {name}"));
    nodes.chain(services).chain(slices).collect()
}

impl Heard {
    pub fn hear(&mut self, news: WatchUpdate) {
        self.news += 1;
        if let Change::Unavailable(why) = &news.what {
            self.lost.push(why.clone());
        }
        let known = self.known.as_mut().unwrap();
        known.hear(news);
        let now = names(&known.cluster);
        let missing = self.there.difference(&now).cloned();
        self.missing.extend(missing);
    }
}

/// A server, its followers, and what they told.
pub struct Lab {
    pub objects: Folder,
    pub server: Option<Server>,
    pub address: String,
    pub heard: Arc<Mutex<Heard>>,
    pub stop: Arc<AtomicBool>,
    pub changes: u32,
    pub api: Arc<Api>,
}

impl Lab {
    pub fn new(rhythm: SyncPolicy, options: &[&str], token: Option<&Path>) -> Lab {
        let objects = Folder::objects("three-nodes");
        for file in FILES {
            let list: Value = serde_json::from_str(&objects.read(file)).unwrap();
            objects.write(file, list.to_string()); // from here on only what is changed differs
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
        let heard = Arc::new(Mutex::new(Heard { known: Some(known), ..Heard::default() }));
        let stop = Arc::new(AtomicBool::new(false));
        let server = Some(server);
        let lab = Lab { objects, server, address, heard, stop, changes: 0, api };
        for kind in ALL {
            lab.follow(kind, rhythm);
        }
        lab.settle(Duration::from_secs(20), "the first lists");
        let all = names(&lab.heard().known.as_ref().unwrap().cluster);
        lab.heard().there = all;
        lab
    }

    pub fn follow(&self, kind: Kind, rhythm: SyncPolicy) {
        let (api, heard, stop) = (self.api.clone(), self.heard.clone(), self.stop.clone());
        let run = move || {
            api.follow(kind, Start::default(), rhythm, |news| {
                heard.lock().unwrap().hear(news);
                !stop.load(SeqCst)
            });
        };
        thread::Builder::new().stack_size(STACK).spawn(run).unwrap();
    }

    pub fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap()
    }

    /// One object of each kind is another one, and the last slice is gone.
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
            assert!(self.heard().there.remove(&name));
            items[0]["endpoints"] = json!([]);
        });
    }

    /// What the server holds, from its files: it may be in no state to be asked.
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
            let heard = self.heard();
            let known = heard.known.as_ref().unwrap();
            known.cluster == truth && known.lost.is_empty() && known.is_complete()
        })
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

/// Where a server is; with a token from a file.
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
