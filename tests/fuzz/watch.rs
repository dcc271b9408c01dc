//! Parses the stream of a watch and applies it as the daemon does. A kind without a full list
//! stays incomplete, and every change is named by the delta of its event.
#![no_main]

use kinglet::{api::from_watch, collections::FlatMap, model::cluster::{Cluster, ClusterStore, Delta, Kind}};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, stream)) = bytes.split_first() else { return };
    let kinds = [Kind::Node, Kind::Service, Kind::EndpointSlice];
    let kind = kinds[usize::from(*first) % kinds.len()];
    let mut known = ClusterStore::new(Cluster::default(), FlatMap::new(), &kinds);
    let _ = from_watch(kind, stream, |news| {
        let mut touched = Delta::default();
        let changes = known.apply(news, |_, delta| {
            touched = Delta { all: delta.all, nodes: delta.nodes, services: delta.services.iter().cloned().collect() };
        });
        assert!(changes.services.iter().all(|name| touched.services.contains(name)), "a delta names each changed Service");
        assert!(!changes.nodes || touched.nodes, "a delta names each change of the Nodes");
    });
    assert!(!known.is_complete());
});
