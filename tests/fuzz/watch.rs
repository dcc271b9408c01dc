//! The stream of a watch, applied as the daemon applies it: a kind without a full list stays
//! doubtful, and a known object is only lost by a DELETED event.
#![no_main]

use kinglet::{api::from_watch, collections::FlatMap, model::cluster::{Cluster, Kind, ClusterStore}};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, stream)) = bytes.split_first() else { return };
    let kinds = [Kind::Node, Kind::Service, Kind::EndpointSlice];
    let kind = kinds[usize::from(*first) % kinds.len()];
    let mut known = ClusterStore::new(Cluster::default(), FlatMap::new(), &kinds);
    let _ = from_watch(kind, stream, |news| {
        let mut touched = Delta::default();
        let changes = known.apply(news, |_, delta| touched.merge(delta.clone()));
        assert!(changes.services.iter().all(|name| touched.services.contains(name)), "what changes was foretold");
        assert!(!changes.nodes || touched.nodes, "what changes was foretold");
    });
    assert!(!known.is_complete());
});
