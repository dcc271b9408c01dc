//! The kernel modules on a real kernel: routes, links, addresses, sysctls and nftables, in a
//! network namespace of the test's own. IPVS and dummy links are tested in the virtual machine.

use std::process::Command;

use crate::common::{kept, monitor::Monitor, namespace::in_namespace, sh};
use kinglet::{
    collections::FlatSet,
    family::Family,
    kernel::{
        Kernel, Outcome, Scope,
        nft::{self, ElementData, ElementVerdict, RawElement},
    },
    model::{
        bgp::Learned,
        cluster::{Cluster, Kind, Node, Object, store::Delta},
        items::{
            BRIDGE, Item, ItemSet, LinkKind, NextHops, Protocol, ServiceAddr, SetElement,
            TABLE_MAIN,
        },
        local::Options,
        nftables::{
            self, Base, Chain, Fields, Hook, KeyPart, MapData, NFT_TABLE, Rule, RuleVerdict,
            RulesetOptions, Set, SetName, SetSpec, Test,
        },
    },
    netlink::{message::Request, socket::NetlinkSocket},
    plan::{self, Step, plan},
    reconcile::Reconciler,
};
use neli::consts::socket::NlFamily;

fn options() -> Options {
    Options { cni_conf: "/nonexistent/10-kuberouter.conflist".into(), ..Options::default() }
}

/// All rules at once.
const SKELETON: RulesetOptions = RulesetOptions {
    guard: true,
    masquerade_all: true,
    pod_egress: true,
    same_node: true,
    accept: true,
};

/// No optional rules.
const PLAIN: RulesetOptions = RulesetOptions {
    guard: false,
    masquerade_all: false,
    pod_egress: false,
    same_node: false,
    accept: false,
};

fn route(to: &str, via: &str) -> Item {
    Item::Route {
        table: TABLE_MAIN,
        to: to.parse().unwrap(),
        via: Some(NextHops::One(via.parse().unwrap())),
        src: None,
    }
}

/// Applies the steps from the state of the kernel to `want`. Returns the steps, and the error of
/// each step that the kernel refused.
fn apply(kernel: &mut Kernel, want: &ItemSet) -> (Vec<Step<'static>>, Vec<String>) {
    let (have, _) = kernel.observe(&options(), want, Scope::All).unwrap();
    let have = have.all(want);
    let steps = plan(kept(have), kept(want.clone()), |_| true);
    let mut refused = Vec::new();
    kernel.apply(&steps, &mut |step, outcome| {
        refused.extend(outcome.as_ref().err().map(|why| format!("{step}: {why}")));
    });
    (steps, refused)
}

#[test]
fn routes_links_and_sysctls_are_applied_and_a_second_pass_has_no_steps() {
    in_namespace(|| {
        let mut kernel = Kernel::open().unwrap();
        let want = ItemSet::from([
            Item::Link { name: BRIDGE.into(), kind: LinkKind::Bridge, mtu: Some(1400) },
            Item::Sysctl { name: "net/ipv4/ip_forward".into(), value: "1".into() },
            route("10.244.1.0/24", "192.0.2.12"),
            route("fd44:1::/64", "fd77::12"),
        ]);
        let (steps, refused) = apply(&mut kernel, &want);
        assert_eq!((steps.len(), refused), (4, vec![]));
        assert_eq!(
            sh("ip route show 10.244.1.0/24").trim(),
            "10.244.1.0/24 via 192.0.2.12 dev eth0 proto 17"
        );
        assert!(sh("ip -6 route show fd44:1::/64").contains("via fd77::12 dev eth0 proto 17"));
        assert!(sh("ip link show kube-bridge").contains("mtu 1400"));
        assert_eq!(sh("cat /proc/sys/net/ipv4/ip_forward").trim(), "1");
        assert_eq!(apply(&mut kernel, &want), (vec![], vec![]));
    });
}

#[test]
fn a_gateway_is_changed_in_place_and_an_unwanted_route_is_removed() {
    in_namespace(|| {
        let mut kernel = Kernel::open().unwrap();
        let (to4, to6) = ("10.244.1.0/24", "fd44:1::/64");
        apply(&mut kernel, &ItemSet::from([route(to4, "192.0.2.12"), route(to6, "fd77::12")]));
        let moved = ItemSet::from([route(to4, "192.0.2.13"), route(to6, "fd77::13")]);
        let (steps, refused) = apply(&mut kernel, &moved);
        assert_eq!(refused, Vec::<String>::new());
        assert!(steps.iter().all(|s| matches!(s, Step::Change(_))), "{steps:?}");
        assert_eq!(
            sh("ip route show proto 17 | wc -l; ip -6 route show proto 17 | wc -l"),
            "1\n1\n"
        );
        assert!(sh("ip -6 route show proto 17").contains("via fd77::13"));
        let (_, refused) = apply(&mut kernel, &ItemSet::new());
        assert_eq!(refused, Vec::<String>::new());
        assert_eq!(sh("ip route show proto 17; ip -6 route show proto 17"), "");
    });
}

#[test]
fn a_route_by_a_device_is_made_seen_changed_and_removed() {
    in_namespace(|| {
        sh("ip link add kube-t1 type bridge; ip link set kube-t1 up");
        sh("ip link add kube-t2 type bridge; ip link set kube-t2 up");
        let mut kernel = Kernel::open().unwrap();
        let by = |to: &str, dev: &str, via: Option<&str>| Item::Route {
            table: TABLE_MAIN,
            to: to.parse().unwrap(),
            via: Some(NextHops::device(dev, via.map(|via| via.parse().unwrap()))),
            src: None,
        };
        let (to4, to6, behind4, behind6) =
            ("10.244.1.0/24", "fd44:1::/64", "10.244.2.0/24", "fd44:2::/64");
        let want = |dev: &str| {
            ItemSet::from([
                by(to4, dev, None),
                by(to6, dev, None),
                by(behind4, dev, Some("198.51.100.12")),
                by(behind6, dev, Some("fd88::12")),
                route("10.244.3.0/24", "192.0.2.12"),
            ])
        };
        let shown = || sh("ip route show proto 17; ip -6 route show proto 17");
        let (steps, refused) = apply(&mut kernel, &want("kube-t1"));
        assert_eq!((steps.len(), refused), (5, vec![]));
        for text in [
            "10.244.1.0/24 dev kube-t1 scope link",
            "fd44:1::/64 dev kube-t1",
            "10.244.2.0/24 via 198.51.100.12 dev kube-t1 onlink",
            "fd44:2::/64 via fd88::12 dev kube-t1",
            "10.244.3.0/24 via 192.0.2.12 dev eth0",
        ] {
            assert!(shown().contains(text), "{text} is missing in {}", shown());
        }
        assert_eq!(apply(&mut kernel, &want("kube-t1")), (vec![], vec![]), "it is seen as it is");
        // Another device, then a gateway instead of a device, and the way back.
        let by_gateway = ItemSet::from([
            route(to4, "192.0.2.12"),
            route(to6, "fd77::12"),
            route(behind4, "192.0.2.13"),
            route(behind6, "fd77::13"),
            route("10.244.3.0/24", "192.0.2.12"),
        ]);
        for next in [want("kube-t2"), by_gateway, want("kube-t1")] {
            let (steps, refused) = apply(&mut kernel, &next);
            assert_eq!((steps.len(), refused), (4, vec![]));
            assert!(steps.iter().all(|s| matches!(s, Step::Change(_))), "{steps:?}");
            assert_eq!(apply(&mut kernel, &next), (vec![], vec![]));
            assert_eq!(shown().lines().count(), 5, "{}", shown());
        }
        // What the script makes is the same.
        let routes = want("kube-t1");
        let script = |steps: Vec<Step<'_>>| sh(&plan::shell::script(&steps));
        script(routes.iter().map(Step::Remove).collect());
        assert_eq!(shown(), "");
        script(routes.iter().map(Step::Add).collect());
        assert_eq!(apply(&mut kernel, &routes), (vec![], vec![]));
        let missing = ItemSet::from([by("10.244.4.0/24", "kube-t9", None)]);
        let (_, refused) = apply(&mut kernel, &missing);
        assert_eq!(
            refused,
            ["+ route 10.244.4.0/24 dev kube-t9: its link does not exist"],
            "and all others are gone"
        );
        assert_eq!(shown(), "");
    });
}

#[test]
fn a_strangers_route_is_neither_seen_nor_replaced_nor_removed() {
    in_namespace(|| {
        sh("ip route add 10.244.1.0/24 via 192.0.2.99 proto static");
        sh("ip route add 10.244.9.0/24 via 192.0.2.99 proto static");
        let mut kernel = Kernel::open().unwrap();
        let (_, refused) = apply(
            &mut kernel,
            &ItemSet::from([
                route("10.244.1.0/24", "192.0.2.12"),
                route("10.244.2.0/24", "192.0.2.13"),
            ]),
        );
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert!(refused[0].contains("that kinglet did not make"), "{refused:?}");
        apply(&mut kernel, &ItemSet::new());
        assert_eq!(sh("ip route show proto static | wc -l").trim(), "2");
    });
}

#[test]
fn an_error_is_reported_for_its_own_step_among_a_thousand() {
    in_namespace(|| {
        let mut kernel = Kernel::open().unwrap();
        let mut want = ItemSet::new();
        for i in 0..1000u32 {
            let via = if i % 100 == 7 { "198.51.100.1" } else { "192.0.2.12" };
            want.insert(route(&format!("10.{}.{}.0/24", 100 + i / 256, i % 256), via));
        }
        let (_, refused) = apply(&mut kernel, &want);
        assert_eq!(refused.len(), 10);
        assert!(
            refused.iter().all(|r| r.contains("198.51.100.1") && r.contains("invalid gateway"))
        );
        assert_eq!(sh("ip route show proto 17 | wc -l").trim(), "990");
    });
}

#[test]
fn a_node_that_is_added_or_removed_does_not_recompute_the_others() {
    in_namespace(|| {
        let node = |name: &str, last: u8| {
            Object::Node(Node {
                name: name.into(),
                internal_ips: vec![[192, 0, 2, last].into()],
                pod_cidrs: vec![format!("10.244.{last}.0/24").parse().unwrap()],
                ..Node::default()
            })
        };
        let mut cluster = Cluster::default();
        for (name, last) in [("a", 11), ("b", 12), ("c", 13)] {
            cluster.insert(node(name, last));
        }
        let options = Options { services: false, cni: false, ..Options::default() };
        let mut keeper = Reconciler::new(Kernel::open().unwrap(), "a", options);
        assert!(keeper.full(&cluster, Scope::All, &mut |_, _| {}).unwrap().is_ok());
        sh("ip route del 10.244.12.0/24");
        let changes = Delta { nodes: true, ..Delta::default() };
        let routes = || sh("ip route show proto 17 | sed 's/ dev.*//'");
        type Change<'a> = &'a dyn Fn(&mut Cluster);
        let changed = |keeper: &mut Reconciler, cluster: &mut Cluster, change: Change<'_>| {
            keeper.remember(cluster, &changes);
            assert!(!keeper.needs_full_pass());
            change(cluster);
            let mut steps = Vec::new();
            let done = &mut |step: &Step, outcome: &Outcome| {
                assert_eq!(*outcome, Ok(()), "{step}");
                steps.push(step.to_string());
            };
            assert!(keeper.incremental(cluster, done).unwrap().is_ok());
            steps
        };
        let come = changed(&mut keeper, &mut cluster, &|cluster| cluster.insert(node("d", 14)));
        assert_eq!(
            come,
            [
                "+ element pod-nets 10.244.14.0/24",
                "+ element node-ips 192.0.2.14",
                "+ route 10.244.14.0/24 via 192.0.2.14"
            ]
        );
        assert_eq!(routes(), "10.244.13.0/24 via 192.0.2.13\n10.244.14.0/24 via 192.0.2.14\n");
        let gone = changed(&mut keeper, &mut cluster, &|cluster| drop(cluster.nodes.remove("c")));
        assert_eq!(gone.len(), 3, "{gone:?}");
        assert_eq!(routes(), "10.244.14.0/24 via 192.0.2.14\n");
        let known = sh("nft list set inet kinglet node-ips4");
        assert!(known.contains("192.0.2.14") && !known.contains("192.0.2.13"), "{known}");
        // A change of this node's own Node needs a full pass.
        let moved = changed(&mut keeper, &mut cluster, &|cluster| {
            let Object::Node(own) = node("a", 11) else { return };
            cluster.insert(Object::Node(Node { pod_cidrs: vec![], ..own }));
        });
        assert!(moved.contains(&"+ route 10.244.12.0/24 via 192.0.2.12".to_owned()), "{moved:?}");
        // A pass between two changes uses the Nodes as they are at that time.
        let mut well = |step: &Step, outcome: &Outcome| assert_eq!(*outcome, Ok(()), "{step}");
        let mut nothing = |step: &Step, _: &Outcome| panic!("{step}: an unexpected step");
        let learned = |via: Option<&str>| {
            let via = via.map(|via| {
                ("10.244.14.0/24".parse().unwrap(), NextHops::One(via.parse().unwrap()))
            });
            Learned { routes: via.into_iter().collect(), complete: true, ..Learned::default() }
        };
        let other = "10.244.12.0/24 via 192.0.2.12\n";
        assert!(keeper.learn(&cluster, learned(None), &mut well).unwrap().is_ok());
        keeper.remember(&cluster, &changes);
        assert!(!keeper.needs_full_pass());
        cluster.nodes.remove("d");
        let moved_route = learned(Some("192.0.2.13"));
        assert!(keeper.learn(&cluster, moved_route, &mut well).unwrap().is_ok());
        assert_eq!(routes(), format!("{other}10.244.14.0/24 via 192.0.2.13\n"));
        assert!(keeper.learn(&cluster, learned(None), &mut well).unwrap().is_ok());
        assert_eq!(routes(), other);
        keeper.remember(&cluster, &changes);
        assert!(!keeper.needs_full_pass());
        cluster.insert(node("d", 14));
        assert!(keeper.full(&cluster, Scope::Network, &mut well).unwrap().is_ok());
        assert_eq!(routes(), format!("{other}10.244.14.0/24 via 192.0.2.14\n"));
        assert!(keeper.incremental(&cluster, &mut nothing).unwrap().is_ok());
    });
}

/// Returns Node NAME at 192.0.2.LAST with the pods 10.244.LAST.0/24.
fn node(name: &str, last: u8) -> Node {
    Node {
        name: name.into(),
        internal_ips: vec![[192, 0, 2, last].into()],
        pod_cidrs: vec![format!("10.244.{last}.0/24").parse().unwrap()],
        ..Node::default()
    }
}

/// Returns a reconciler of node a without Services, after a full pass, and its cluster: a, b and c.
fn reconciled(options: Options) -> (Reconciler, Cluster) {
    let mut cluster = Cluster::default();
    for (name, last) in [("a", 11), ("b", 12), ("c", 13)] {
        cluster.insert(Object::Node(node(name, last)));
    }
    let options = Options { services: false, cni: false, ..options };
    let mut reconciler = Reconciler::new(Kernel::open().unwrap(), "a", options);
    assert!(reconciler.needs_full_pass());
    assert!(reconciler.full(&cluster, Scope::All, &mut |_, _| {}).unwrap().is_ok());
    assert!(!reconciler.needs_full_pass());
    (reconciler, cluster)
}

const NODES: Delta = Delta { all: false, nodes: true, services: FlatSet::new() };

fn our_routes() -> String {
    sh("ip route show proto 17 | sed 's/ dev.*//'")
}

#[test]
fn a_refused_step_of_an_incremental_pass_makes_the_next_pass_a_full_one() {
    in_namespace(|| {
        let (mut reconciler, mut cluster) = reconciled(Options::default());
        sh("ip route add 10.244.14.0/24 via 192.0.2.99 proto static");
        reconciler.remember(&cluster, &NODES);
        assert!(!reconciler.needs_full_pass());
        cluster.insert(Object::Node(node("d", 14)));
        cluster.insert(Object::Node(node("e", 15)));
        let report = reconciler.incremental(&cluster, &mut |_, _| {}).unwrap();
        assert_eq!((report.refused, report.is_ok()), (1, false));
        assert!(our_routes().contains("10.244.15.0/24"), "the other steps are applied");
        assert!(reconciler.needs_full_pass());
        // Until then an event is not followed alone, because the kernel's state is not known.
        reconciler.remember(&cluster, &NODES);
        cluster.nodes.remove("e");
        let mut nothing = |step: &Step, _: &Outcome| panic!("{step}: an unexpected step");
        assert!(reconciler.incremental(&cluster, &mut nothing).unwrap().is_ok());
        assert!(reconciler.needs_full_pass());
        sh("ip route del 10.244.14.0/24 proto static");
        assert!(reconciler.full(&cluster, Scope::All, &mut |_, _| {}).unwrap().is_ok());
        assert!(!reconciler.needs_full_pass());
        let routes = ["10.244.12.0/24 via 192.0.2.12", "10.244.13.0/24 via 192.0.2.13"];
        assert_eq!(our_routes(), format!("{}\n10.244.14.0/24 via 192.0.2.14\n", routes.join("\n")));
    });
}

#[test]
fn a_refused_step_of_a_pass_over_the_network_makes_the_next_pass_a_full_one() {
    in_namespace(|| {
        let (mut reconciler, cluster) = reconciled(Options::default());
        sh("ip route del 10.244.13.0/24; ip route add 10.244.13.0/24 via 192.0.2.99 proto static");
        let report = reconciler.full(&cluster, Scope::Network, &mut |_, _| {}).unwrap();
        assert_eq!(report.refused, 1);
        assert!(reconciler.needs_full_pass());
        sh("ip route del 10.244.13.0/24 proto static");
        assert!(reconciler.full(&cluster, Scope::Network, &mut |_, _| {}).unwrap().is_ok());
        assert!(our_routes().contains("10.244.13.0/24 via 192.0.2.13"));
        assert!(reconciler.needs_full_pass(), "the rest was not compared");
    });
}

#[test]
fn routes_that_bgp_learns_are_applied_after_the_nodes_that_changed_before() {
    in_namespace(|| {
        let (mut reconciler, mut cluster) = reconciled(Options::default());
        let steps_of = |steps: &mut Vec<String>, step: &Step, outcome: &Outcome| {
            assert_eq!(*outcome, Ok(()), "{step}");
            steps.push(step.to_string());
        };
        let learned = |to: &str, via: &str| {
            let route = (to.parse().unwrap(), NextHops::One(via.parse().unwrap()));
            Learned { routes: [route].into_iter().collect(), complete: true, ..Learned::default() }
        };
        reconciler
            .learn(&cluster, learned("198.51.100.0/24", "192.0.2.12"), &mut |_, _| {})
            .unwrap();
        reconciler.remember(&cluster, &NODES);
        cluster.nodes.remove("c");
        cluster.insert(Object::Node(node("d", 14)));
        // The learned route moves in the same breath; only it and the Nodes have steps.
        let mut steps = Vec::new();
        let moved = learned("198.51.100.0/24", "192.0.2.14");
        let on_step = &mut |step: &Step, outcome: &Outcome| steps_of(&mut steps, step, outcome);
        let report = reconciler.learn(&cluster, moved, on_step).unwrap();
        assert!(report.is_ok() && report.want.is_none(), "no full pass: {report:?}");
        assert!(report.nodes.is_some(), "the Nodes were applied");
        let at = |text: &str| steps.iter().position(|step| step.contains(text));
        let route = at("~ route 198.51.100.0/24");
        assert!(route.is_some(), "{steps:?}");
        for text in ["- route 10.244.13.0/24", "+ route 10.244.14.0/24"] {
            assert!(at(text).is_some() && at(text) < route, "{text}: {steps:?}");
        }
        assert!(!reconciler.needs_full_pass());
        let routes = "10.244.12.0/24 via 192.0.2.12\n10.244.14.0/24 via 192.0.2.14\n\
                      198.51.100.0/24 via 192.0.2.14\n";
        assert_eq!(our_routes(), routes);
        // Nothing is left to do, for an incremental pass or a full one.
        let mut nothing = |step: &Step, _: &Outcome| panic!("{step}: an unexpected step");
        assert!(reconciler.incremental(&cluster, &mut nothing).unwrap().is_ok());
        assert!(reconciler.full(&cluster, Scope::All, &mut nothing).unwrap().is_ok());
    });
}

#[test]
fn a_pass_over_the_network_applies_the_nodes_that_changed_before() {
    in_namespace(|| {
        let (mut reconciler, mut cluster) = reconciled(Options::default());
        let known = || sh("nft list set inet kinglet node-ips4");
        reconciler.remember(&cluster, &NODES);
        cluster.nodes.remove("c");
        cluster.insert(Object::Node(node("d", 14)));
        sh("ip route del 10.244.12.0/24");
        let mut well = |step: &Step, outcome: &Outcome| assert_eq!(*outcome, Ok(()), "{step}");
        let report = reconciler.full(&cluster, Scope::Network, &mut well).unwrap();
        assert!(report.is_ok() && report.want.is_none() && report.nodes.is_some(), "{report:?}");
        let routes = "10.244.12.0/24 via 192.0.2.12\n10.244.14.0/24 via 192.0.2.14\n";
        assert_eq!(our_routes(), routes, "what somebody removed is back too");
        let listed = known();
        assert!(listed.contains("192.0.2.14") && !listed.contains("192.0.2.13"), "{listed}");
        assert!(!reconciler.needs_full_pass());
        let mut nothing = |step: &Step, _: &Outcome| panic!("{step}: an unexpected step");
        assert!(reconciler.incremental(&cluster, &mut nothing).unwrap().is_ok());
        assert!(reconciler.full(&cluster, Scope::All, &mut nothing).unwrap().is_ok());
    });
}

#[test]
fn a_route_that_may_not_be_removed_yet_makes_later_passes_over_nodes_full_ones() {
    in_namespace(|| {
        sh("ip route add 10.244.99.0/24 via 192.0.2.12 proto 17");
        // Until every BGP peer has sent its routes, one of them may claim that network.
        let (mut reconciler, mut cluster) =
            reconciled(Options { peers: true, ..Options::default() });
        let stays = || our_routes().contains("10.244.99.0/24");
        assert!(stays());
        let add = |reconciler: &mut Reconciler, cluster: &mut Cluster, name: &str, last: u8| {
            reconciler.remember(cluster, &NODES);
            assert!(!reconciler.needs_full_pass());
            cluster.insert(Object::Node(node(name, last)));
            let report = reconciler.incremental(cluster, &mut |_, _| {}).unwrap();
            assert!(report.is_ok());
            report.want.is_some() // a full pass
        };
        assert!(add(&mut reconciler, &mut cluster, "d", 14));
        assert!(stays());
        let complete = Learned { complete: true, ..Learned::default() };
        assert!(reconciler.learn(&cluster, complete, &mut |_, _| {}).unwrap().is_ok());
        assert!(!stays());
        assert!(!add(&mut reconciler, &mut cluster, "e", 15), "the routes are exact now");
    });
}

#[test]
fn a_route_of_a_node_that_may_still_exist_is_not_removed_by_an_incremental_pass() {
    in_namespace(|| {
        let (mut reconciler, mut cluster) = reconciled(Options::default());
        reconciler.remember(&cluster, &NODES);
        cluster.nodes.remove("c");
        cluster.doubtful = FlatSet::from([Kind::Node]);
        let report = reconciler.incremental(&cluster, &mut |_, _| {}).unwrap();
        assert!(report.is_ok() && report.want.is_some(), "a full pass: {report:?}");
        let routes = "10.244.12.0/24 via 192.0.2.12\n10.244.13.0/24 via 192.0.2.13\n";
        assert_eq!(our_routes(), routes);
        reconciler.remember(&cluster, &NODES);
        cluster.doubtful = FlatSet::new();
        assert!(reconciler.incremental(&cluster, &mut |_, _| {}).unwrap().is_ok());
        assert_eq!(our_routes(), "10.244.12.0/24 via 192.0.2.12\n");
    });
}

#[test]
fn route_changes_of_others_are_reported_and_our_own_are_not() {
    in_namespace(|| {
        let mut kernel = Kernel::open().unwrap();
        let mut events = kernel.subscribe_network().unwrap();
        let to = |i| format!("10.{}.{}.0/24", i / 256, i % 256);
        let mut want: ItemSet = (0..3000).map(|i| route(&to(i), "192.0.2.12")).collect();
        assert_eq!(apply(&mut kernel, &want).1, [""; 0]);
        assert!(!events.read().unwrap());
        // The kernel adds a route to the local table for each address.
        want.insert(Item::Link { name: BRIDGE.into(), kind: LinkKind::Bridge, mtu: None });
        assert_eq!(apply(&mut kernel, &want).1, [""; 0]);
        assert!(events.read().unwrap(), "the link is reported");
        want.extend((0..3000).map(|i| {
            let addr = format!("10.96.{}.{}/32", i / 256, i % 256).parse().unwrap();
            Item::Addr { link: BRIDGE.into(), addr }
        }));
        assert_eq!(apply(&mut kernel, &want).1, [""; 0]);
        assert!(!events.read().unwrap());
        let mut monitor = Monitor::start(&["address", "route"]);
        want.extend((0..60).map(|i| {
            let addr = format!("fd96::{i:x}/128").parse().unwrap();
            Item::Addr { link: BRIDGE.into(), addr }
        }));
        assert_eq!(apply(&mut kernel, &want).1, [""; 0]);
        assert!(events.has_echo());
        // A work queue of the kernel reports IPv6 addresses later. A second listener shows when it
        // has reported all of them.
        let mut reported = 0;
        while reported < 60 {
            let lines = monitor.lines();
            reported +=
                lines.iter().filter(|l| l.contains("fd96::") && l.contains("inet6")).count();
        }
        assert!(!events.read().unwrap() && !events.has_echo());
        let mut news_of = |act: &str| {
            assert!(!events.read().unwrap(), "late news, before {act}");
            sh(act);
            events.read().unwrap()
        };
        assert!(news_of("ip addr del fd96::7/128 dev kube-bridge"));
        assert!(news_of("ip route del 10.1.7.0/24"));
        assert!(news_of("ip addr del 10.96.1.7/32 dev kube-bridge"));
        assert!(news_of("ip route del table local local 10.96.1.8 dev kube-bridge"));
        assert!(
            !news_of("ip route add 172.16.0.0/24 via 192.0.2.12"),
            "a route of another program"
        );
    });
}

#[test]
fn table_changes_of_others_are_reported_and_our_own_are_not() {
    in_namespace(|| {
        let mut kernel = Kernel::open().unwrap();
        let mut events = kernel.subscribe_table().unwrap();
        let want =
            ItemSet::from([Item::Table { name: NFT_TABLE.into(), skeleton: Some(SKELETON) }]);
        assert_eq!(apply(&mut kernel, &want).1, [""; 0]);
        assert!(!events.read().unwrap());
        sh("nft flush table inet kinglet");
        assert!(events.read().unwrap());
    });
}

#[test]
fn services_are_recorded_in_nftables_sets_element_by_element() {
    in_namespace(|| {
        let mut kernel = Kernel::open().unwrap();
        let element = |addr: &str, port| Item::Element {
            set: Set::Services,
            value: SetElement::Service(ServiceAddr {
                addr: addr.parse().unwrap(),
                protocol: Protocol::Tcp,
                port,
            }),
        };
        let mut want =
            ItemSet::from([Item::Table { name: NFT_TABLE.into(), skeleton: Some(SKELETON) }]);
        want.extend((1..=5000).map(|port| element("10.96.0.10", port)));
        want.extend((1..=5000).map(|port| element("fd96::10", port)));
        let (steps, refused) = apply(&mut kernel, &want);
        assert_eq!((steps.len(), refused), (10_001, vec![]));
        assert_eq!(apply(&mut kernel, &want), (vec![], vec![]));
        want.retain(|i| matches!(i, Item::Table { .. }) || *i == element("fd96::10", 80));
        let (steps, refused) = apply(&mut kernel, &want);
        assert_eq!((steps.len(), refused), (9_999, vec![]));
        assert!(sh("nft list set inet kinglet services4").find("elements").is_none());
        let listed = sh("nft list set inet kinglet services6");
        assert!(listed.contains("type ipv6_addr . inet_proto . inet_service"), "{listed}");
        assert!(listed.contains("elements = { fd96::10 . tcp . 80 }"), "{listed}");
    });
}

#[test]
fn a_link_of_another_kind_with_the_bridges_name_is_reported_and_kept() {
    in_namespace(|| {
        sh("ip link add kube-bridge type veth peer name other && ip link set kube-bridge up");
        let mut kernel = Kernel::open().unwrap();
        let bridge = Item::Link { name: BRIDGE.into(), kind: LinkKind::Bridge, mtu: None };
        let (_, refused) = apply(&mut kernel, &ItemSet::from([bridge]));
        assert!(
            refused[0].contains("a link with this name already exists and is veth"),
            "{refused:?}"
        );
    });
}

#[test]
fn host_facts_are_read_from_the_kernel() {
    in_namespace(|| {
        let host = Kernel::open().unwrap().host(&options()).unwrap();
        let link = host.link_of("192.0.2.11".parse().unwrap()).expect("eth0 carries it");
        assert_eq!((&*link.name, link.mtu), ("eth0", 1500));
        assert!(host.link_of("fd77::11".parse().unwrap()).is_some());
        assert_eq!(host.cni, None);
        assert!(host.sysctls.contains_key("net/ipv6/conf/eth0/accept_ra"), "{host:?}");
    });
}

#[test]
fn rules_by_netlink_equal_rules_by_nft_from_the_script() {
    in_namespace(|| {
        let table = |skeleton| Item::Table { name: NFT_TABLE.into(), skeleton: Some(skeleton) };
        let listed = || {
            let text = sh("nft list table inet kinglet");
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let mut kernel = Kernel::open().unwrap();
        for skeleton in [SKELETON, RulesetOptions::default(), SKELETON] {
            let (_, refused) = apply(&mut kernel, &ItemSet::from([table(skeleton)]));
            assert_eq!(refused, Vec::<String>::new());
            let ours = listed();
            sh("nft delete table inet kinglet");
            std::fs::write("/tmp/kinglet-script", nftables::script(skeleton, true)).unwrap();
            sh("nft -f /tmp/kinglet-script");
            let theirs: Vec<String> = listed();
            let rules = |lines: &[String]| -> Vec<String> {
                let is = |l: &&String| {
                    l.contains("meta nfproto") || l.contains(" daddr") || l.contains("type ")
                };
                lines.iter().filter(is).cloned().collect()
            };
            assert_eq!(rules(&ours), rules(&theirs), "{ours:#?}");
        }
    });
}

#[test]
fn a_removed_rule_is_restored_and_the_elements_stay() {
    in_namespace(|| {
        let mut kernel = Kernel::open().unwrap();
        let mut want =
            ItemSet::from([Item::Table { name: NFT_TABLE.into(), skeleton: Some(SKELETON) }]);
        let nets =
            ["10.244.0.0/24", "10.244.1.0/24", "10.245.0.0/16", "fd44::/64", "fd44:0:0:1::/64"];
        for net in nets {
            want.insert(Item::Element {
                set: Set::PodNets,
                value: SetElement::Net(net.parse().unwrap()),
            });
        }
        let at = ServiceAddr { addr: [10, 96, 0, 10].into(), protocol: Protocol::Tcp, port: 80 };
        want.insert(Item::Element {
            set: Set::Outside,
            value: SetElement::Marked { at, mark: 0x4b1a_0001 },
        });
        for from in ["10.0.0.0/8", "192.0.2.0/24", "192.0.3.7/32"] {
            let from = from.parse().unwrap();
            want.insert(Item::Element { set: Set::Ranges, value: SetElement::Ranged { at, from } });
        }
        want.insert(Item::Element {
            set: Set::Loops,
            value: SetElement::Addr([10, 244, 0, 2].into()),
        });
        assert_eq!(apply(&mut kernel, &want).1, Vec::<String>::new());
        assert_eq!(apply(&mut kernel, &want), (vec![], vec![]), "all of it reads back");
        sh("nft flush chain inet kinglet input");
        let (steps, refused) = apply(&mut kernel, &want);
        assert_eq!((steps.len(), refused), (1, vec![]), "the skeleton alone");
        sh("nft delete element inet kinglet pod-nets4 '{ 10.244.1.0/24 }'");
        let (steps, refused) = apply(&mut kernel, &want);
        assert_eq!((steps.len(), refused), (1, vec![]), "one element");
        sh("nft delete table inet kinglet");
        sh("nft add table inet kinglet; nft 'add set inet kinglet services4 { type ipv4_addr; }'");
        assert_eq!(apply(&mut kernel, &want).1, Vec::<String>::new(), "sets of another version");
        assert_eq!(apply(&mut kernel, &want), (vec![], vec![]));
        let (_, refused) = apply(&mut kernel, &ItemSet::from([want.first().unwrap().clone()]));
        assert_eq!(refused, Vec::<String>::new(), "and all of it can go");
        assert!(!sh("nft list table inet kinglet").contains("elements"));
    });
}

#[test]
fn sets_maps_and_chains_made_at_run_time_stand_beside_the_skeleton() {
    in_namespace(|| {
        let mut kernel = Kernel::open().unwrap();
        let mut socket = NetlinkSocket::open(NlFamily::Netfilter).unwrap();
        let mut transact = |requests: &[Request]| -> Outcome {
            socket.transact(&nft::begin(), requests, &nft::end()).unwrap()
        };
        let mut reader = NetlinkSocket::open(NlFamily::Netfilter).unwrap();
        let want =
            ItemSet::from([Item::Table { name: NFT_TABLE.into(), skeleton: Some(SKELETON) }]);
        assert_eq!(apply(&mut kernel, &want).1, Vec::<String>::new());

        let set = |name: &'static str, key: &[KeyPart], data: Option<MapData>| SetSpec {
            name: name.into(),
            family: Family::Ipv4,
            key: key.to_vec().into(),
            interval: false,
            timeout: data.is_none(),
            data,
        };
        let peers = set("run-peers4", &[KeyPart::Addr], None);
        let marks = set("run-marks4", &[KeyPart::Port], Some(MapData::Mark));
        let key = [KeyPart::Addr, KeyPart::Protocol, KeyPart::Port];
        let pods = set("run-pods4", &key, Some(MapData::Verdict));
        let chain = |name: &'static str, base, rules| Chain { name: name.into(), base, rules };
        let rule = |test, verdict| Rule { family: Family::Ipv4, tests: vec![test], verdict };
        let named = |set: &SetSpec| SetName::Runtime((*set.name).into());
        let of_pod = chain(
            "run-pod",
            None,
            vec![rule(Test::In(Fields::From, named(&peers), true), RuleVerdict::Accept)],
        );
        let forward = Base { kind: "filter", hook: Hook::Forward, priority: 5 };
        let entry = chain(
            "run-entry",
            Some(forward),
            vec![rule(Test::New, RuleVerdict::Map(Fields::Destination, named(&pods)))],
        );
        let key: &[&[u8]] = &[&[10, 244, 0, 2], &[6], &8080u16.to_be_bytes()];
        let jump = ElementVerdict::Jump("run-pod".into());
        let elements = [
            (&peers, RawElement::new(&[&[10, 244, 1, 2]], None)),
            (&marks, RawElement::new(&[&53u16.to_be_bytes()], Some(ElementData::Mark(7)))),
            (&pods, RawElement::new(key, Some(ElementData::Verdict(jump)))),
        ];
        let mut requests: Vec<Request> =
            elements.iter().zip(1..).map(|((set, _), id)| nft::add_set(set, id)).collect();
        for chain in [&of_pod, &entry] {
            requests.push(nft::add_chain(chain));
            requests.extend(chain.rules.iter().map(|rule| nft::add_rule(&chain.name, rule)));
        }
        let add = |(set, raw): &(&SetSpec, RawElement)| {
            nft::add_raw_elements(&set.name, std::slice::from_ref(raw))
        };
        requests.extend(elements.iter().map(add));
        transact(&requests).unwrap();

        // nft prints them as it prints its own.
        let listed = sh("nft list table inet kinglet");
        for text in [
            "set run-peers4 {",
            "map run-marks4 {",
            "type inet_service : mark",
            "elements = { 53 : 0x00000007 }",
            "map run-pods4 {",
            "type ipv4_addr . inet_proto . inet_service : verdict",
            "elements = { 10.244.0.2 . tcp . 8080 : jump run-pod }",
            "ip daddr . meta l4proto . th dport vmap @run-pods4",
            "ip saddr @run-peers4 accept",
        ] {
            assert!(listed.contains(text), "{text} is missing in {listed}");
        }
        // They are seen again as they were made.
        let found = reader.dump(&nft::list_sets(), nft::read_set).unwrap();
        for (set, raw) in &elements {
            assert!(found.iter().any(|found| found.is(set)), "{found:?}");
            let listed = reader.dump(&nft::list_elements(&set.name), nft::read_elements).unwrap();
            assert_eq!(listed.concat(), std::slice::from_ref(raw));
        }
        // The table is still ours, and its skeleton can be replaced beneath them.
        assert_eq!(apply(&mut kernel, &want), (vec![], vec![]));
        let other = ItemSet::from([Item::Table { name: NFT_TABLE.into(), skeleton: Some(PLAIN) }]);
        let (steps, refused) = apply(&mut kernel, &other);
        assert_eq!((steps.len(), refused), (1, vec![]));
        assert!(sh("nft list chain inet kinglet run-entry").contains("vmap @run-pods4"));
        assert_eq!(apply(&mut kernel, &want).1, Vec::<String>::new());
        // A set with any other name makes the table one of another version.
        sh("nft 'add set inet kinglet more4 { type ipv4_addr; }'");
        assert_eq!(apply(&mut kernel, &want).0.len(), 1);
        assert!(!sh("nft list table inet kinglet").contains("more4"));
        transact(&requests).unwrap();

        let mut requests = vec![nft::remove_raw_elements(&pods.name, &[elements[2].1.clone()])];
        requests.extend([&entry, &of_pod].iter().flat_map(|c| nft::remove_chain(&c.name)));
        requests.extend([&peers, &marks, &pods].iter().map(|set| nft::remove_set(&set.name)));
        transact(&requests).unwrap();
        assert!(!sh("nft list table inet kinglet").contains("run-"));
        assert_eq!(apply(&mut kernel, &want), (vec![], vec![]));
    });
}

#[test]
fn an_element_that_is_refused_does_not_take_the_others_with_it() {
    in_namespace(|| {
        let mut kernel = Kernel::open().unwrap();
        let table = Item::Table { name: NFT_TABLE.into(), skeleton: Some(SKELETON) };
        let nets = ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.0/24"]; // the second lies within the first
        let net = |net: &&str| Item::Element {
            set: Set::PodNets,
            value: SetElement::Net(net.parse().unwrap()),
        };
        let want = ItemSet::from_iter([table].into_iter().chain(nets.iter().map(net)));
        let (_, refused) = apply(&mut kernel, &want);
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert!(refused[0].contains("10.1.0.0/16"), "{refused:?}");
        assert!(sh("nft list set inet kinglet pod-nets4").contains("192.0.2.0/24"));
    });
}

/// Runs `kinglet cleanup` with a /run and a /var/lib of its own that hold kinglet's files and one
/// file of another program. Returns the printed steps and the list of the files that are left.
fn cleanup() -> (String, String) {
    let script = format!(
        "mount -t tmpfs none /run; mount -t tmpfs none /var/lib; mkdir /run/kinglet /var/lib/kinglet
         touch /run/kinglet/drains /run/kinglet/status /run/other /var/lib/kinglet/snapshot
         {} cleanup --master http://127.0.0.1:1 || exit 9; echo; cd /; find run var/lib | grep -v mount | sort",
        env!("CARGO_BIN_EXE_kinglet")
    );
    let run = Command::new("unshare").args(["-m", "sh", "-c", &script]).output().unwrap();
    let text = String::from_utf8(run.stdout).unwrap();
    assert!(run.status.success(), "{text}{}", String::from_utf8_lossy(&run.stderr));
    let (steps, left) = text.rsplit_once("\n\n").unwrap_or(("", text.trim_start()));
    (steps.to_owned(), left.to_owned())
}

#[test]
fn cleanup_removes_all_of_kinglet_and_nothing_else() {
    in_namespace(|| {
        sh("ip route add 10.244.9.0/24 via 192.0.2.99 proto static");
        sh("ip route add 10.244.8.0/24 via 192.0.2.99 table 100 proto 17");
        sh(
            "nft add table inet other; nft add chain inet other c; nft add rule inet other c accept",
        );
        sh("ip link add br0 type bridge; ip addr add 10.96.0.10/32 dev br0");
        let strangers = "ip route show table all proto static; ip route show table 100; \
                         nft list table inet other; ip -o addr show dev br0 | grep 10.96";
        let before = sh(strangers);
        let mut kernel = Kernel::open().unwrap();
        let at = ServiceAddr { addr: [10, 96, 0, 10].into(), protocol: Protocol::Tcp, port: 80 };
        let want = ItemSet::from([
            Item::Link { name: BRIDGE.into(), kind: LinkKind::Bridge, mtu: None },
            Item::Sysctl { name: "net/ipv4/ip_forward".into(), value: "1".into() },
            Item::Table { name: NFT_TABLE.into(), skeleton: Some(SKELETON) },
            Item::Element { set: Set::Services, value: SetElement::Service(at) },
            route("10.244.1.0/24", "192.0.2.12"),
            route("fd44:1::/64", "fd77::12"),
        ]);
        assert_eq!(apply(&mut kernel, &want).1, Vec::<String>::new());
        let (steps, left) = cleanup();
        assert_eq!(
            steps.lines().map(|l| l.split(" via").next().unwrap()).collect::<Vec<_>>(),
            [
                "- route fd44:1::/64",
                "- route 10.244.1.0/24",
                "- table inet kinglet",
                "- link kube-bridge bridge mtu 1500",
                "- file /run/kinglet/drains",
                "- file /run/kinglet/status",
                "- file /var/lib/kinglet/snapshot",
            ]
        );
        assert_eq!(left, "run\nrun/other\nvar/lib\n");
        assert_eq!(sh(strangers), before);
        assert_eq!(sh("cat /proc/sys/net/ipv4/ip_forward").trim(), "1", "settings stay");
        assert_eq!(sh("ip route show proto 17; ip -6 route show proto 17"), "");
        let (steps, _) = cleanup();
        assert!(!steps.contains("route") && !steps.contains("table"), "{steps}");
    });
}

#[test]
fn cleanup_keeps_the_bridge_that_pods_are_connected_to() {
    in_namespace(|| {
        sh("ip link add kube-bridge type bridge; ip link add pod1 type veth peer name pod2");
        sh("ip link set pod1 master kube-bridge");
        assert!(!cleanup().0.contains("link"));
        sh("ip link show kube-bridge");
        sh("ip link set pod1 nomaster");
        assert!(cleanup().0.contains("- link kube-bridge"), "though it is down");
    });
}

#[test]
fn cleanup_exits_1_if_a_file_cannot_be_removed() {
    in_namespace(|| {
        let script = format!(
            "mount -t tmpfs none /run; mkdir -p /run/kinglet/status
             {} cleanup --master http://127.0.0.1:1",
            env!("CARGO_BIN_EXE_kinglet")
        );
        let run = Command::new("unshare").args(["-m", "sh", "-c", &script]).output().unwrap();
        let text = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(1), "a folder is at the place of the socket: {text}");
        assert!(text.contains("- file /run/kinglet/status: refused: "), "{text}");
    });
}

#[test]
fn cleanup_while_another_kinglet_works_is_an_error() {
    in_namespace(|| {
        let _lock = kinglet::kernel::lock::Lock::take().unwrap().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_kinglet"));
        let run = command.arg("--cleanup-config").output().unwrap();
        let text = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(1), "{text}");
        assert!(text.contains("cleaning up: another kinglet is at work"), "{text}");
    });
}

#[test]
fn our_rule_is_first_in_a_chain_of_another_program_and_is_removed_again() {
    in_namespace(|| {
        sh(r#"nft 'table inet fw {
            chain in { type filter hook input priority 0; policy drop;
                iif lo accept comment "kinglet is a bird"
            }
            chain out { type filter hook output priority 0; policy drop; }
            chain pass { type filter hook forward priority 5; policy drop; }
            }'"#);
        let mut kernel = Kernel::open().unwrap();
        let closed = kernel.host(&options()).unwrap().closed;
        assert_eq!(closed, ["inet fw in".into(), "inet fw pass".into()]);
        let accept = |chain: &str| Item::Accept { chain: format!("inet fw {chain}").into() };
        let want = ItemSet::from([accept("in"), accept("pass")]);
        let (steps, refused) = apply(&mut kernel, &want);
        assert_eq!((steps.len(), refused), (2, vec![]));
        assert_eq!(apply(&mut kernel, &want), (vec![], vec![]));
        let ours = "accept comment \"kinglet\"";
        let listed = sh("nft list chain inet fw in");
        let (first, theirs) = (listed.find(ours), listed.find("kinglet is a bird"));
        assert!(first.is_some() && first < theirs, "{listed}");
        sh("nft flush chain inet fw pass");
        assert_eq!(apply(&mut kernel, &want).0.len(), 1);
        // The shell script adds and removes the same rule.
        let remove =
            plan::shell::script(&[Step::Remove(&accept("in")), Step::Remove(&accept("pass"))]);
        let add = plan::shell::script(&[Step::Add(&accept("in"))]);
        sh(&remove);
        assert!(!sh("nft list table inet fw").contains(ours));
        sh(&add);
        assert_eq!(apply(&mut kernel, &want).0, [Step::Add(&accept("pass"))]);
        let (steps, refused) = apply(&mut kernel, &ItemSet::new());
        assert_eq!((steps.len(), refused), (2, vec![]));
        let listed = sh("nft list table inet fw");
        assert!(!listed.contains(ours) && listed.contains("kinglet is a bird"), "{listed}");
    });
}
