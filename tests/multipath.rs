//! Routes with several gateways on a real kernel, in a network namespace of the test's own: what is
//! written reads back, and no packet meets a moment without a route.

mod common;

use std::{
    fs,
    process::{Child, Command},
    time::{Duration, Instant},
};

use common::{kept, namespace::in_namespace, sh};
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

/// Makes it so, and sees that a second look finds nothing to do.
fn make(kernel: &mut Kernel, want: &ItemSet) -> Vec<Step<'static>> {
    let taken = steps(kernel, want);
    kernel.apply(&taken, &mut |step, outcome| assert_eq!(*outcome, Ok(()), "{step}"));
    assert_eq!(steps(kernel, want), [], "it reads back as it was written");
    taken
}

/// The gateways that the kernel has for a network, in its own order.
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

/// What `ip monitor` hears.
struct Monitor {
    child: Child,
    marks: u32,
}

impl Monitor {
    const FILE: &str = "/tmp/kinglet-multipath-monitor";

    fn start() -> Monitor {
        let out = fs::File::create(Monitor::FILE).unwrap();
        let child = Command::new("ip").args(["monitor", "route"]).stdout(out).spawn().unwrap();
        let mut monitor = Monitor { child, marks: 0 };
        monitor.heard();
        monitor
    }

    /// All since the last time. A route of the test's own marks the end, again and again until it is
    /// heard: at first nobody may be listening yet.
    fn heard(&mut self) -> Vec<String> {
        let began = Instant::now();
        loop {
            self.marks += 1;
            let mark = format!("203.0.113.{}", self.marks);
            sh(&format!("ip route add blackhole {mark}"));
            let until = Instant::now() + Duration::from_millis(500);
            while Instant::now() < until {
                let text = fs::read_to_string(Monitor::FILE).unwrap();
                if let Some((before, _)) = text.split_once(&format!("blackhole {mark} ")) {
                    let since = before.rfind("blackhole 203.0.113.").map_or(0, |at| at);
                    let lines = before[since..].lines().filter(|l| !l.contains("blackhole"));
                    return lines.map(str::to_owned).collect();
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            assert!(began.elapsed() < Duration::from_secs(20), "ip monitor says nothing");
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(Monitor::FILE);
    }
}

#[test]
fn one_message_leads_from_any_gateways_to_any_others_and_leaves_none_behind() {
    in_namespace(
        "one_message_leads_from_any_gateways_to_any_others_and_leaves_none_behind",
        || {
            let mut kernel = Kernel::open().unwrap();
            let mut monitor = Monitor::start();
            let rounds: [(&[&str], &[&str]); 7] = [
                (&["192.0.2.12"], &["fd77::12"]),
                (&["192.0.2.12", "192.0.2.13"], &["fd77::12", "fd77::13"]),
                (
                    &["192.0.2.14", "192.0.2.15", "192.0.2.16"],
                    &["fd77::14", "fd77::15", "fd77::16"],
                ),
                (&["192.0.2.13", "192.0.2.14"], &["fd77::13", "fd77::14"]),
                (&["192.0.2.14"], &["fd77::14"]),
                (&["192.0.2.15", "192.0.2.14"], &["fd77::15", "fd77::14"]),
                (&["192.0.2.12"], &["fd77::12"]),
            ];
            for (round, (hops4, hops6)) in rounds.iter().enumerate() {
                let taken =
                    make(&mut kernel, &ItemSet::from([route(TO4, hops4), route(TO6, hops6)]));
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
                let heard = monitor.heard();
                let gone = heard.iter().any(|line| line.starts_with("Deleted"));
                assert!(!gone && !heard.is_empty(), "round {round}: {heard:#?}");
            }
            // And all of several goes again.
            let many = [route(TO4, rounds[2].0), route(TO6, rounds[2].1)];
            make(&mut kernel, &ItemSet::from(many));
            assert_eq!(make(&mut kernel, &ItemSet::new()).len(), 2);
            assert_eq!(sh("ip route show proto 17; ip -6 route show proto 17"), "");
        },
    );
}

#[test]
fn weights_order_and_a_dead_link_do_not_count_and_another_gateway_does() {
    in_namespace("weights_order_and_a_dead_link_do_not_count_and_another_gateway_does", || {
        sh("ip link add eth1 type veth peer name far1; ip link set eth1 up; ip link set far1 up
            ip addr add 198.51.100.11/24 dev eth1");
        let mut kernel = Kernel::open().unwrap();
        let want = ItemSet::from([route(TO4, &["192.0.2.12", "198.51.100.12"])]);
        make(&mut kernel, &want);
        sh("ip route replace 10.244.1.0/24 proto 17 nexthop via 198.51.100.12 weight 5 \
            nexthop via 192.0.2.12 weight 2");
        assert_eq!(steps(&mut kernel, &want), []);
        sh("ip link set far1 down");
        // The kernel notices a lost carrier up to a second later.
        let shown = sh("for i in $(seq 50); do
            ip route show proto 17 | grep linkdown && break; sleep 0.1; done");
        assert!(shown.contains("linkdown"), "{shown}");
        assert_eq!(steps(&mut kernel, &want), []);
        sh("ip link set eth1 down");
        assert!(sh("ip route show proto 17").contains("dead"));
        assert_eq!(steps(&mut kernel, &want), []);
        // What nobody wants goes, in whatever order its gateways stand.
        assert_eq!(make(&mut kernel, &ItemSet::new()).len(), 1);
        sh("ip link set eth1 up");
        make(&mut kernel, &want);
        sh("ip route replace 10.244.1.0/24 proto 17 nexthop via 192.0.2.12 nexthop via 192.0.2.13");
        assert_eq!(make(&mut kernel, &want), [Step::Change(want.first().unwrap())]);
    });
}

#[test]
fn the_script_makes_what_netlink_makes() {
    in_namespace("the_script_makes_what_netlink_makes", || {
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
fn a_gateway_that_cannot_be_costs_its_own_route_and_no_other() {
    in_namespace("a_gateway_that_cannot_be_costs_its_own_route_and_no_other", || {
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
        assert_eq!((gateways(TO4).len(), gateways(TO6).len()), (0, 0), "half a route is none");
    });
}

#[test]
fn what_bgp_learns_is_made_at_once_and_goes_once_all_peers_have_spoken() {
    in_namespace("what_bgp_learns_is_made_at_once_and_goes_once_all_peers_have_spoken", || {
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
        let hears_each = |keeper: &mut Reconciler, hops: [&[u8]; 2], complete| {
            let nets = [TO4, OUTSIDE].map(|net| net.parse().unwrap());
            let via =
                |hops: &[u8]| NextHops::new(hops.iter().map(|last| [192, 0, 2, *last].into()));
            let routes = nets.into_iter().zip(hops.map(via));
            let routes = routes.filter_map(|(net, via)| Some((net, via?))).collect();
            let learned = Learned { routes, complete, ..Learned::default() };
            let done = &mut |step: &Step, outcome: &Outcome| assert_eq!(*outcome, Ok(()), "{step}");
            assert!(keeper.learn(&cluster, learned.clone(), done).unwrap().is_well());
            let nothing = &mut |step: &Step, _: &Outcome| panic!("{step}: it is known");
            assert!(keeper.learn(&cluster, learned, nothing).unwrap().is_well());
            [gateways(TO4).join(" "), gateways(OUTSIDE).join(" ")]
        };
        let hears =
            |keeper: &mut Reconciler, hops, complete| hears_each(keeper, [hops, hops], complete);
        let mut first = begin();
        assert_eq!(hears(&mut first, &[13], false), ["192.0.2.13", "192.0.2.13"]);
        let two = "192.0.2.13 192.0.2.14";
        assert_eq!(hears(&mut first, &[14, 13], false), [two, two]);
        let mut second = begin();
        assert!(second.look(&cluster, Scope::Network, &mut |_, _| {}).unwrap().is_well());
        assert_eq!(gateways(OUTSIDE).join(" "), two, "a peer may still say it");
        assert_eq!(hears(&mut second, &[], true), ["192.0.2.12", ""]);
        // What was there in this run and is not any more is waited for by nobody.
        assert_eq!(hears(&mut first, &[13], false), ["192.0.2.13", "192.0.2.13"]);
        assert_eq!(hears(&mut first, &[], false), ["192.0.2.12", ""]);
        // Where routes are all that changed, the others are not looked at.
        let mut third = begin();
        assert!(third.look(&cluster, Scope::All, &mut |_, _| {}).unwrap().is_well());
        assert_eq!(hears_each(&mut third, [&[13, 14], &[13]], true), [two, "192.0.2.13"]);
        sh(&format!("ip route del {OUTSIDE}"));
        let other = hears_each(&mut third, [&[14], &[13, 14]], true);
        assert_eq!(other, ["192.0.2.14", two], "one of them was gone, and is made");
        sh(&format!("ip route del {OUTSIDE}"));
        assert_eq!(hears_each(&mut third, [&[14, 13], &[13, 14]], true), [two, ""]);
        assert!(third.look(&cluster, Scope::Network, &mut |_, _| {}).unwrap().is_well());
        assert_eq!(gateways(OUTSIDE).join(" "), two);
        assert_eq!(hears_each(&mut third, [&[13, 14], &[]], true), [two, ""]);
    });
}

/// Not a promise of a time: it says on stderr how long ten thousand routes take.
#[test]
fn ten_thousand_routes_are_made_read_and_taken_away() {
    in_namespace("ten_thousand_routes_are_made_read_and_taken_away", || {
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
