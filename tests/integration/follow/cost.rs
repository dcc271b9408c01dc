//! The cost of following: a burst of events, and polls without changes.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use kinglet::{
    api::{Api, ApiServer, ExpectedCluster, STACK, Start},
    model::cluster::{Change, Cluster, ClusterStore, Kind},
};

use super::lab::{ALL, PATIENCE, POLL, WATCH, source, wait_for};
use crate::common::{Folder, Server, example, recorded};

#[test]
fn a_slow_consumer_receives_all_of_ten_thousand_events_in_a_burst() {
    let objects = Folder::new();
    let size = ["--nodes", "3", "--services", "10000", "--endpoints", "0"];
    let dir = objects.path().to_str().unwrap();
    let made = std::process::Command::new(example("apiserver"))
        .arg("generate")
        .args(size)
        .arg(dir)
        .status();
    assert!(made.unwrap().success());
    let server = Server::start::<&str>(objects.path(), &[]);
    let api = Api::open(&source(&server.url(), None)).unwrap();
    let (to, news) = mpsc::sync_channel(16);
    thread::Builder::new()
        .stack_size(STACK)
        .spawn(move || {
            api.follow(Kind::Service, Start::default(), WATCH, |news| to.send(news).is_ok());
        })
        .unwrap();
    let mut known = ClusterStore::new(Cluster::default(), Default::default(), &[Kind::Service]);
    while !known.is_complete() {
        known.apply(news.recv().unwrap(), |_, _| {});
    }
    let text = objects.read("services.json").replace("\"port\":80,", "\"port\":81,");
    let began = Instant::now();
    objects.write("services.json", text);
    let mut events = 0;
    while events < 10_000 {
        let news = news.recv_timeout(Duration::from_secs(30)).unwrap();
        if let Change::Object { .. } = news.change {
            events += 1;
            if events % 1000 == 0 {
                thread::sleep(Duration::from_millis(100)); // a slow consumer
            }
        }
        known.apply(news, |_, _| {});
    }
    println!("10,000 events in {:.1} s", began.elapsed().as_secs_f32());
    assert!(known.cluster.services.values().all(|s| s.ports.iter().all(|p| p.port == 81)));
    assert_eq!((known.cluster.services.len(), known.lost.len()), (10_000, 0));
}

/// Starts a TCP proxy in front of an address. Returns its URL and the counter of the bytes in both
/// directions.
fn counting_proxy(to: String) -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicU64::new(0)));
    let bytes = count.clone();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), Ok(server)) = (client, TcpStream::connect(&to)) else { return };
            for (mut from, mut to) in
                [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)]
            {
                let bytes = bytes.clone();
                thread::spawn(move || {
                    let mut buf = [0; 8192];
                    while let Ok(n @ 1..) = from.read(&mut buf) {
                        bytes.fetch_add(n as u64, SeqCst);
                        if to.write_all(&buf[..n]).is_err() {
                            break;
                        }
                    }
                    let _ = to.shutdown(std::net::Shutdown::Both);
                });
            }
        }
    });
    (format!("http://{address}"), count)
}

#[test]
fn an_idle_poll_of_all_kinds_transfers_less_than_two_kilobytes_at_any_cluster_size() {
    let big = Folder::new();
    let size = ["--nodes", "100", "--services", "500", "--endpoints", "2000"];
    let mut generate = std::process::Command::new(example("apiserver"));
    assert!(generate.arg("generate").args(size).arg(big.path()).status().unwrap().success());
    let mut costs = Vec::new();
    for objects in [recorded("three-nodes"), big.path().to_owned()] {
        let server = Server::start::<&str>(&objects, &[]);
        let (url, bytes) = counting_proxy(server.address.clone());
        let api = ApiServer::locate(&source(&url, None), PATIENCE).unwrap();
        let api = Arc::new(api.open(ExpectedCluster::Any));
        let news = Arc::new(AtomicU64::new(0));
        for kind in ALL {
            let (api, news) = (api.clone(), news.clone());
            thread::spawn(move || {
                api.follow(kind, Start::default(), POLL, |_| {
                    news.fetch_add(1, SeqCst);
                    true
                });
            });
        }
        let polled = || server.requests().iter().filter(|line| line.contains("watch=1")).count();
        wait_for(Duration::from_secs(20), "the first polls", || polled() >= 3);
        thread::sleep(Duration::from_millis(500)); // to measure between two polls
        let (before, first) = (bytes.load(SeqCst), polled());
        wait_for(Duration::from_secs(20), "three more polls", || polled() >= first + 9);
        thread::sleep(Duration::from_millis(500));
        let cost = (bytes.load(SeqCst) - before) * 3 / (polled() - first) as u64;
        println!("{}: {cost} bytes for a poll of all kinds", objects.display());
        assert!(cost < 2048, "{cost}");
        costs.push(cost);
    }
    assert!(costs[0].abs_diff(costs[1]) < 300, "{costs:?}"); // a poll may be cut in two
}
