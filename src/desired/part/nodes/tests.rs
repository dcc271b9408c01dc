//! The Nodes alone beside all of it.

use super::*;
use crate::{
    cluster::{Cluster, Object},
    desired::{
        desired,
        tests::{self, Dice},
    },
    state::{Item, Via},
};

/// Two may have one network or one address, one lies behind a router, and one in a network of pods.
fn node(name: &str, dice: &mut Dice) -> Node {
    let addr = dice.of(&["192.0.2.12", "192.0.2.13", "192.0.2.14", "198.51.100.1", "10.244.1.9"]);
    let pods = dice.of(&["10.244.1.0/24", "10.244.2.0/24", "10.244.2.0/25", "fd44:1::/64"]);
    Node {
        name: name.into(),
        internal_ips: vec![addr.parse().unwrap()],
        pod_cidrs: vec![pods.parse().unwrap()],
        ready: dice.below(3) > 0,
        ..Node::default()
    }
}

fn service(dice: &mut Dice) -> Service {
    let external = dice.of(&["192.0.2.11", "192.0.2.13", "203.0.113.7", "203.0.113.8"]);
    let Object::Service(web) = tests::service("web", "10.96.0.1", 80) else { unreachable!() };
    Service { external_ips: vec![external.parse().unwrap()], ..web }
}

fn learned(dice: &mut Dice) -> Learned {
    let mut learned = Learned { complete: dice.below(2) > 0, ..Learned::default() };
    if dice.below(3) == 0 {
        let to = dice.of(&["10.244.1.0/24", "10.244.2.0/24", "192.0.2.12/30", "203.0.113.0/24"]);
        let via = Via::new([dice.of(&["192.0.2.12", "192.0.2.20"]).parse().unwrap()]).unwrap();
        learned.routes.insert(to.parse().unwrap(), via);
    }
    if dice.below(3) == 0 {
        learned.lost.insert("192.0.2.13".parse().unwrap());
    }
    learned
}

#[test]
fn nodes_that_change_alone_come_to_what_all_of_it_comes_to() {
    let mut dice = Dice(0x6b69_6e67_6c65_7433);
    let local = tests::local(Some(tests::host("192.0.2.11/24")));
    let mut cluster = Cluster::default();
    let own = Node { internal_ips: vec!["192.0.2.11".parse().unwrap()], ..node("a", &mut dice) };
    let own = Node { pod_cidrs: vec!["10.244.0.0/24".parse().unwrap()], ..own };
    cluster.nodes.insert(own.name.clone(), own.clone());
    let (mut alone, mut steps) = (0, 0);
    for _ in 0..6000 {
        let service = service(&mut dice);
        cluster.services.insert(service.name.clone(), service);
        let learned = learned(&mut dice);
        let mut next = cluster.clone();
        for _ in 0..=dice.below(2) {
            let name = dice.of(&["a", "b", "c", "d"]);
            match (name, dice.below(3)) {
                ("a", 0) => next.nodes.insert(name.into(), Node { ready: false, ..own.clone() }),
                ("a", _) => next.nodes.insert(name.into(), own.clone()),
                (_, 0) => next.nodes.remove(name),
                _ => next.nodes.insert(name.into(), node(name, &mut dice)),
            };
        }
        let [before, after] =
            [&cluster, &next].map(|cluster| desired(cluster, &learned, &local).unwrap());
        let old = Moment::of(&cluster, &local).unwrap().nodes(&learned);
        let mut claims = before.claims;
        let moment = Moment::of(&next, &local).unwrap();
        if let Some(want) = moment.renode(&old, &learned, &mut claims) {
            assert!(old.state.iter().all(|item| before.state.contains(item)));
            let kept = before.state.iter().filter(|item| !old.state.contains(*item)).cloned();
            assert_eq!(kept.chain(want.iter().cloned()).collect::<State>(), after.state);
            assert_eq!(before.unmet, after.unmet);
            assert_eq!(format!("{claims:?}"), format!("{:?}", after.claims));
            let routes = |state: &State| {
                state.iter().filter(|i| matches!(i, Item::Route { .. })).cloned().collect::<State>()
            };
            alone += 1;
            steps += usize::from(routes(&old.state) != routes(&want));
        }
        cluster = next;
    }
    assert!(alone > 1000 && steps > 200, "{alone} {steps}");
}
