//! Routes with several gateways on a real kernel, in a network namespace of the test's own: the
//! routes read back as they were written, and a change leaves no moment without a route.

use std::time::Instant;

use crate::common::{kept, monitor::Monitor, namespace::in_namespace, sh};
use kinglet::{
    kernel::{Kernel, Outcome, Scope},
    model::{
        bgp::Learned,
        cluster::{Cluster, Node, Object},
        items::{Item, ItemSet, NextHops, TABLE_MAIN},
        local::Options,
    },
    plan::{Step, plan, shell as script},
    reconcile::Reconciler,
};

const TO4: &str = "10.244.1.0/24";
const TO6: &str = "fd44:1::/64";
const OUTSIDE: &str = "198.51.100.0/24";

fn route(to: &str, via: &[&str]) -> Item {
    let via = NextHops::new(via.iter().map(|hop| hop.parse().unwrap()));
    Item::Route { table: TABLE_MAIN, to: to.parse().unwrap(), via, src: None }
}

fn steps(kernel: &mut Kernel, want: &ItemSet) -> Vec<Step<'static>> {
    let (have, _) = kernel.observe(&Options::default(), want, Scope::Network).unwrap();
    let have = have.all(want);
    let ours = |i: &Item| matches!(i, Item::Route { .. });
    plan(kept(have.into_iter().filter(ours).collect()), kept(want.clone()), |_| true)
}

/// Applies the steps to `want` and returns them. Fails if a step fails, or if a second comparison
/// finds a step.
fn make(kernel: &mut Kernel, want: &ItemSet) -> Vec<Step<'static>> {
    let taken = steps(kernel, want);
    kernel.apply(&taken, &mut |step, outcome| assert_eq!(*outcome, Ok(()), "{step}"));
    assert_eq!(steps(kernel, want), [], "the routes read back as they were written");
    taken
}

/// Returns the gateways that the kernel has for a network, in the kernel's order.
fn gateways(to: &str) -> Vec<String> {
    let family = if to.contains(':') { "-6" } else { "-4" };
    let text = sh(&format!("ip {family} route show {to} proto 17"));
    let mut words = text.split_whitespace();
    let mut found = Vec::new();
    while words.by_ref().any(|word| word == "via") {
        found.extend(words.next().map(str::to_owned));
    }
    found
}

#[test]
fn one_message_changes_a_route_to_any_set_of_gateways_and_leaves_no_old_one() {
    in_namespace(|| {
        let mut kernel = Kernel::open().unwrap();
        let mut monitor = Monitor::start(&["route"]);
        let rounds: [(&[&str], &[&str]); 7] = [
            (&["192.0.2.12"], &["fd77::12"]),
            (&["192.0.2.12", "192.0.2.13"], &["fd77::12", "fd77::13"]),
            (&["192.0.2.14", "192.0.2.15", "192.0.2.16"], &["fd77::14", "fd77::15", "fd77::16"]),
            (&["192.0.2.13", "192.0.2.14"], &["fd77::13", "fd77::14"]),
            (&["192.0.2.14"], &["fd77::14"]),
            (&["192.0.2.15", "192.0.2.14"], &["fd77::15", "fd77::14"]),
            (&["192.0.2.12"], &["fd77::12"]),
        ];
        for (round, (hops4, hops6)) in rounds.iter().enumerate() {
            let taken = make(&mut kernel, &ItemSet::from([route(TO4, hops4), route(TO6, hops6)]));
            assert_eq!(taken.len(), 2);
            let added = taken.iter().all(|s| matches!(s, Step::Add(_)));
            let changed = taken.iter().all(|s| matches!(s, Step::Change(_)));
            assert!(if round == 0 { added } else { changed }, "{taken:?}");
            let sorted = |hops: &[&str]| {
                let mut hops: Vec<String> = hops.iter().map(|h| (*h).into()).collect();
                hops.sort();
                hops
            };
            for (to, hops) in [(TO4, hops4), (TO6, hops6)] {
                let mut found = gateways(to);
                found.sort();
                assert_eq!(found, sorted(hops), "round {round}");
            }
            let lines = monitor.lines();
            let gone = lines.iter().any(|line| line.starts_with("Deleted"));
            assert!(!gone && !lines.is_empty(), "round {round}: {lines:#?}");
        }
        // A route with several gateways can be removed.
        let many = [route(TO4, rounds[2].0), route(TO6, rounds[2].1)];
        make(&mut kernel, &ItemSet::from(many));
        assert_eq!(make(&mut kernel, &ItemSet::new()).len(), 2);
        assert_eq!(sh("ip route show proto 17; ip -6 route show proto 17"), "");
    });
}

#[test]
fn only_a_different_gateway_is_a_change_not_weight_order_or_a_dead_link() {
    in_namespace(|| {
        sh("ip link add eth1 type veth peer name far1; ip link set eth1 up; ip link set far1 up
            ip addr add 198.51.100.11/24 dev eth1");
        let mut kernel = Kernel::open().unwrap();
        let want = ItemSet::from([route(TO4, &["192.0.2.12", "198.51.100.12"])]);
        make(&mut kernel, &want);
        sh("ip route replace 10.244.1.0/24 proto 17 nexthop via 198.51.100.12 weight 5 \
            nexthop via 192.0.2.12 weight 2");
        assert_eq!(steps(&mut kernel, &want), []);
        sh("ip link set far1 down");
        // The kernel notices a lost carrier up to 1 s later.
        let shown = sh("for i in $(seq 50); do
            ip route show proto 17 | grep linkdown && break; sleep 0.1; done");
        assert!(shown.contains("linkdown"), "{shown}");
        assert_eq!(steps(&mut kernel, &want), []);
        sh("ip link set eth1 down");
        assert!(sh("ip route show proto 17").contains("dead"));
        assert_eq!(steps(&mut kernel, &want), []);
        // A route that is no longer wanted is removed, in whatever order its gateways stand.
        assert_eq!(make(&mut kernel, &ItemSet::new()).len(), 1);
        sh("ip link set eth1 up");
        make(&mut kernel, &want);
        sh("ip route replace 10.244.1.0/24 proto 17 nexthop via 192.0.2.12 nexthop via 192.0.2.13");
        assert_eq!(make(&mut kernel, &want), [Step::Change(want.first().unwrap())]);
    });
}

#[test]
fn the_shell_script_makes_the_same_routes_as_netlink() {
    in_namespace(|| {
        let mut kernel = Kernel::open().unwrap();
        let two = ItemSet::from([
            route(TO4, &["192.0.2.12", "192.0.2.13"]),
            route(TO6, &["fd77::12", "fd77::13"]),
        ]);
        for want in [&ItemSet::from([route(TO4, &["192.0.2.9"])]), &two, &ItemSet::new()] {
            sh(&script::script(&steps(&mut kernel, want)));
            assert_eq!(steps(&mut kernel, want), []);
        }
    });
}

#[test]
fn an_unreachable_gateway_fails_its_own_route_only() {
    in_namespace(|| {
        let mut kernel = Kernel::open().unwrap();
        let want = ItemSet::from([
            route(TO4, &["192.0.2.12", "198.51.100.1"]),
            route("10.244.2.0/24", &["192.0.2.12", "192.0.2.13"]),
            route(TO6, &["fd77::12", "2001:db8::1"]),
        ]);
        let mut refused = Vec::new();
        let todo = steps(&mut kernel, &want);
        kernel.apply(&todo, &mut |step, outcome| {
            refused.extend(outcome.as_ref().err().map(|why| format!("{step}: {why}")));
        });
        assert_eq!(refused.len(), 2, "{refused:?}");
        assert_eq!(gateways("10.244.2.0/24").len(), 2);
        assert_eq!(
            (gateways(TO4).len(), gateways(TO6).len()),
            (0, 0),
            "a route with one valid gateway is not added"
        );
    });
}

#[test]
fn learned_routes_are_added_at_once_and_removed_once_all_peers_have_sent_theirs() {
    in_namespace(|| {
        let mut cluster = Cluster::default();
        for (name, last) in [("a", 11), ("b", 12)] {
            cluster.insert(Object::Node(Node {
                name: name.into(),
                internal_ips: vec![[192, 0, 2, last].into()],
                pod_cidrs: vec![format!("10.244.{}.0/24", last - 11).parse().unwrap()],
                ..Node::default()
            }));
        }
        let options = Options {
            services: false,
            cni: false,
            pod_egress: false,
            peers: true,
            ..Options::default()
        };
        let begin = || Reconciler::new(Kernel::open().unwrap(), "a", options.clone());
        let learned_of_each = |keeper: &mut Reconciler, hops: [&[u8]; 2], complete| {
            let nets = [TO4, OUTSIDE].map(|net| net.parse().unwrap());
            let via =
                |hops: &[u8]| NextHops::new(hops.iter().map(|last| [192, 0, 2, *last].into()));
            let routes = nets.into_iter().zip(hops.map(via));
            let routes = routes.filter_map(|(net, via)| Some((net, via?))).collect();
            let learned = Learned { routes, complete, ..Learned::default() };
            let done = &mut |step: &Step, outcome: &Outcome| assert_eq!(*outcome, Ok(()), "{step}");
            assert!(keeper.learn(&cluster, learned.clone(), done).unwrap().is_ok());
            let nothing = &mut |step: &Step, _: &Outcome| panic!("{step}: an unexpected step");
            assert!(keeper.learn(&cluster, learned, nothing).unwrap().is_ok());
            [gateways(TO4).join(" "), gateways(OUTSIDE).join(" ")]
        };
        let learned_of = |keeper: &mut Reconciler, hops, complete| {
            learned_of_each(keeper, [hops, hops], complete)
        };
        let mut first = begin();
        assert_eq!(learned_of(&mut first, &[13], false), ["192.0.2.13", "192.0.2.13"]);
        let two = "192.0.2.13 192.0.2.14";
        assert_eq!(learned_of(&mut first, &[14, 13], false), [two, two]);
        let mut second = begin();
        assert!(second.full(&cluster, Scope::Network, &mut |_, _| {}).unwrap().is_ok());
        assert_eq!(gateways(OUTSIDE).join(" "), two, "a peer may still advertise it");
        assert_eq!(learned_of(&mut second, &[], true), ["192.0.2.12", ""]);
        // A route that was learned in this run and then withdrawn does not wait for the other
        // peers.
        assert_eq!(learned_of(&mut first, &[13], false), ["192.0.2.13", "192.0.2.13"]);
        assert_eq!(learned_of(&mut first, &[], false), ["192.0.2.12", ""]);
        // If only learned routes changed, the other routes are not compared.
        let mut third = begin();
        assert!(third.full(&cluster, Scope::All, &mut |_, _| {}).unwrap().is_ok());
        assert_eq!(learned_of_each(&mut third, [&[13, 14], &[13]], true), [two, "192.0.2.13"]);
        sh(&format!("ip route del {OUTSIDE}"));
        let other = learned_of_each(&mut third, [&[14], &[13, 14]], true);
        assert_eq!(other, ["192.0.2.14", two], "the missing route is added");
        sh(&format!("ip route del {OUTSIDE}"));
        assert_eq!(learned_of_each(&mut third, [&[14, 13], &[13, 14]], true), [two, ""]);
        assert!(third.full(&cluster, Scope::Network, &mut |_, _| {}).unwrap().is_ok());
        assert_eq!(gateways(OUTSIDE).join(" "), two);
        assert_eq!(learned_of_each(&mut third, [&[13, 14], &[]], true), [two, ""]);
    });
}

/// Prints on stderr how long ten thousand routes take. The time has no limit.
#[test]
fn ten_thousand_routes_are_added_read_and_removed() {
    in_namespace(|| {
        let mut kernel = Kernel::open().unwrap();
        for hops in [&["192.0.2.12"][..], &["192.0.2.12", "192.0.2.13"]] {
            let to = |i: u32| format!("10.{}.{}.{}/28", i >> 12, (i >> 4) & 0xff, (i & 0xf) << 4);
            let want: ItemSet = (0..10_000).map(|i| route(&to(i), hops)).collect();
            for (what, want) in [("made", &want), ("read", &want), ("removed", &ItemSet::new())] {
                let began = Instant::now();
                let taken = steps(&mut kernel, want);
                let looked = began.elapsed();
                kernel.apply(&taken, &mut |step, outcome| assert_eq!(*outcome, Ok(()), "{step}"));
                let took = began.elapsed() - looked;
                eprintln!(
                    "{} hops: {what}: look {looked:?}, {} steps {took:?}",
                    hops.len(),
                    taken.len()
                );
                assert_eq!(taken.len(), if what == "read" { 0 } else { 10_000 });
            }
        }
    });
}
