//! Netlink messages on a real kernel, without any item: links, addresses, routes, rules and neighbours
//! are added, listed and removed, in the test's own network namespace and in another one.

use std::{
    fs::{self, File},
    os::fd::AsFd,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::common::{namespace::in_namespace, sh};
use kinglet::{
    family::Family,
    netlink::{
        address::{self, LinkAddress},
        link::{self, LinkInfo, LinkSettings, LinkType},
        message::Request,
        neighbour::{self, NUD_PERMANENT, Neighbour},
        route::{self, NextHop, RTNH_F_ONLINK, Route, RouteQuery},
        rule::{self, FibRule},
        socket::NetlinkSocket,
    },
    sys::errno,
};
use neli::consts::socket::NlFamily;

fn socket() -> NetlinkSocket {
    NetlinkSocket::open(NlFamily::Route).unwrap()
}

/// Sends one request, which the kernel must accept.
#[track_caller]
fn send(socket: &mut NetlinkSocket, request: Request) {
    let outcomes = socket.send(&[request]).unwrap();
    assert_eq!(outcomes, [Ok(())]);
}

/// Sends one request and returns the error number that the kernel answers.
#[track_caller]
fn refused(socket: &mut NetlinkSocket, request: Request) -> Option<i32> {
    socket.send(&[request]).unwrap().remove(0).unwrap_err().errno()
}

fn links(socket: &mut NetlinkSocket) -> Vec<LinkInfo> {
    socket.dump(&link::list_links(), link::read_link).unwrap()
}

fn link_named(socket: &mut NetlinkSocket, name: &str) -> Option<LinkInfo> {
    links(socket).into_iter().find(|link| link.name == name)
}

/// Another network namespace, which lives as long as this value.
struct OtherNamespace(Child);

impl OtherNamespace {
    fn new() -> OtherNamespace {
        let child = Command::new("unshare").args(["-n", "cat"]).stdin(Stdio::piped()).spawn();
        let other = OtherNamespace(child.expect("unshare is in util-linux"));
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        let start = Instant::now();
        while fs::read_link(other.path()).unwrap() == own {
            assert!(start.elapsed() < Duration::from_secs(10), "unshare -n has not begun");
            thread::sleep(Duration::from_millis(5));
        }
        other
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }

    fn open(&self) -> File {
        File::open(self.path()).unwrap()
    }
}

impl Drop for OtherNamespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_socket_in_another_namespace_lists_the_links_there() {
    in_namespace(|| {
        let other = OtherNamespace::new();
        let mut there = NetlinkSocket::open_in(other.open().as_fd(), NlFamily::Route).unwrap();
        let names: Vec<_> = links(&mut there).into_iter().map(|link| link.name).collect();
        assert_eq!(names, ["lo"]);
        assert!(link_named(&mut there, "lo").is_some_and(|lo| !lo.up));
        // This thread has stayed in its own namespace.
        assert!(link_named(&mut socket(), "eth0").is_some_and(|eth0| eth0.up));
        send(&mut there, link::set_link(1, &LinkSettings { up: Some(true), ..Default::default() }));
        assert!(link_named(&mut there, "lo").is_some_and(|lo| lo.up));
    });
}

#[test]
fn a_file_that_is_no_namespace_is_refused() {
    let file = File::open("/proc/self/exe").unwrap();
    let result = NetlinkSocket::open_in(file.as_fd(), NlFamily::Route);
    assert_eq!(result.err().and_then(|e| e.raw_os_error()), Some(errno::EINVAL));
}

#[test]
fn a_veth_pair_connects_two_namespaces() {
    in_namespace(|| {
        let other = OtherNamespace::new();
        let netns = other.open();
        let (mut here, mut there) =
            (socket(), NetlinkSocket::open_in(netns.as_fd(), NlFamily::Route).unwrap());
        send(
            &mut here,
            link::add_link(
                &LinkType::Simple("bridge"),
                &LinkSettings { name: Some("br"), up: Some(true), ..Default::default() },
            ),
        );
        let bridge = link_named(&mut here, "br").unwrap();
        let peer_mac = [2, 0, 0, 0, 0, 2];
        let peer = LinkSettings {
            name: Some("pod0"),
            mtu: Some(1400),
            mac: Some(peer_mac),
            netns: Some(netns.as_fd()),
            ..Default::default()
        };
        let settings = LinkSettings {
            name: Some("veth0"),
            mtu: Some(1400),
            master: Some(bridge.index),
            up: Some(true),
            mac: Some([2, 0, 0, 0, 0, 1]),
            netns: None,
        };
        let early = LinkSettings { up: Some(true), ..peer };
        let request = link::add_link(&LinkType::Veth(early), &settings);
        assert_eq!(refused(&mut here, request), Some(errno::ENOTCONN));
        send(&mut here, link::add_link(&LinkType::Veth(peer), &settings));
        let port = link_named(&mut here, "veth0").unwrap();
        assert_eq!((port.kind.as_str(), port.mtu, port.up), ("veth", 1400, true));
        assert_eq!((port.master, port.mac), (Some(bridge.index), Some([2, 0, 0, 0, 0, 1])));
        let pod = link_named(&mut there, "pod0").unwrap();
        assert_eq!((pod.mtu, pod.up, pod.mac), (1400, false, Some(peer_mac)));
        let up = LinkSettings { up: Some(true), ..Default::default() };
        send(&mut there, link::set_link(pod.index, &up));
        assert!(link_named(&mut there, "pod0").unwrap().up);
        assert_eq!(link_named(&mut here, "pod0"), None);

        send(&mut here, link::set_hairpin(port.index));
        assert!(link_named(&mut here, "veth0").unwrap().hairpin);
        let found = here.ask(&link::get_link("veth0"), link::read_link).unwrap().unwrap();
        assert_eq!(found.index, port.index);
        let existing = link::add_link(&LinkType::Veth(peer), &settings);
        assert_eq!(refused(&mut here, existing), Some(errno::EEXIST));

        // A link can be moved there and renamed in one request.
        let moved = LinkSettings {
            name: Some("eth9"),
            master: Some(0),
            up: Some(false),
            netns: Some(netns.as_fd()),
            ..Default::default()
        };
        send(&mut here, link::set_link(port.index, &moved));
        assert_eq!(link_named(&mut here, "veth0"), None);
        let eth9 = link_named(&mut there, "eth9").unwrap();
        assert_eq!((eth9.master, eth9.up), (None, false));
        send(&mut there, link::delete_link(eth9.index));
        assert_eq!(link_named(&mut there, "pod0"), None, "a veth pair goes as one");
        assert_eq!(refused(&mut there, link::delete_link(eth9.index)), Some(errno::ENODEV));
    });
}

#[test]
fn an_address_is_added_listed_and_removed() {
    in_namespace(|| {
        let mut socket = socket();
        let index = link_named(&mut socket, "eth0").unwrap().index;
        for addr in ["198.51.100.1/24", "fd55::1/64"] {
            let addr = addr.parse().unwrap();
            let address = LinkAddress { index, addr, scope: 0, flags: address::IFA_F_NODAD };
            send(&mut socket, address::add_address(&address));
            let list = address::list_addresses();
            let found = socket.dump(&list, address::read_address).unwrap();
            assert!(found.iter().any(|a| (a.index, a.addr) == (index, addr)), "{found:?}");
            assert_eq!(refused(&mut socket, address::add_address(&address)), Some(errno::EEXIST));
            send(&mut socket, address::delete_address(&address));
            let found = socket.dump(&list, address::read_address).unwrap();
            assert!(found.iter().all(|a| a.addr != addr), "{found:?}");
        }
    });
}

#[test]
fn a_route_is_added_listed_replaced_and_removed() {
    in_namespace(|| {
        let mut socket = socket();
        let oif = link_named(&mut socket, "eth0").unwrap().index;
        let hop = |gateway: &str, weight| {
            let gateway = Some(gateway.parse().unwrap());
            NextHop { gateway, oif, weight }
        };
        let new = |to: &str| Route::new(to.parse().unwrap(), 1000, 88);
        let with_device = Route {
            gateway: Some("203.0.113.1".parse().unwrap()),
            oif: Some(oif),
            flags: RTNH_F_ONLINK,
            src: Some("192.0.2.11".parse().unwrap()),
            metric: 5,
            mtu: Some(1380),
            ..new("10.1.0.0/24")
        };
        let shared = Route {
            hops: vec![hop("192.0.2.12", 200), hop("192.0.2.13", 1)],
            ..new("10.2.0.0/24")
        };
        let ipv6 = Route {
            gateway: Some("fd77::12".parse().unwrap()),
            oif: Some(oif),
            metric: 7,
            ..new("fd44::/64")
        };
        let on_link = Route { scope: route::SCOPE_LINK, oif: Some(oif), ..new("10.3.0.0/24") };
        let list = |socket: &mut NetlinkSocket, family| {
            let query = RouteQuery { family, table: 1000, protocol: 88, kind: 0, oif: 0 };
            socket.dump(&route::list_routes(&query), route::read_route).unwrap()
        };
        let routes = [with_device, shared, on_link, ipv6];
        routes.iter().for_each(|route| send(&mut socket, route::add_route(route)));
        assert_eq!(list(&mut socket, Family::Ipv4), routes[..3]);
        assert_eq!(list(&mut socket, Family::Ipv6), routes[3..]);
        assert_eq!(refused(&mut socket, route::add_route(&routes[0])), Some(errno::EEXIST));
        let changed = Route { mtu: None, flags: 0, gateway: None, scope: 253, ..routes[0].clone() };
        send(&mut socket, route::replace_route(&changed));
        assert_eq!(list(&mut socket, Family::Ipv4)[0], changed);
        for route in [&changed].into_iter().chain(&routes[1..]) {
            send(&mut socket, route::delete_route(route));
        }
        assert_eq!(list(&mut socket, Family::Ipv4), []);
        assert_eq!(list(&mut socket, Family::Ipv6), []);
        assert_eq!(refused(&mut socket, route::delete_route(&routes[1])), Some(errno::ESRCH));
    });
}

#[test]
fn a_rule_is_added_listed_and_removed() {
    in_namespace(|| {
        let mut socket = socket();
        for (family, net) in [(Family::Ipv4, "10.1.0.0/16"), (Family::Ipv6, "fd44::/32")] {
            let list = rule::list_rules(family);
            let before = socket.dump(&list, rule::read_rule).unwrap();
            let by_mark = FibRule {
                family,
                priority: 100,
                table: 1000,
                fwmark: Some((0x4b1a_0001, 0xffff_0000)),
                from: None,
                to: None,
            };
            let net = Some(net.parse().unwrap());
            let by_net = FibRule { priority: 101, fwmark: None, from: net, to: net, ..by_mark };
            for rule in [by_mark, by_net] {
                send(&mut socket, rule::add_rule(&rule));
                let found = socket.dump(&list, rule::read_rule).unwrap();
                assert!(found.contains(&rule), "{found:?}");
                assert_eq!(refused(&mut socket, rule::add_rule(&rule)), Some(errno::EEXIST));
            }
            for rule in [by_mark, by_net] {
                send(&mut socket, rule::delete_rule(&rule));
                assert_eq!(refused(&mut socket, rule::delete_rule(&rule)), Some(errno::ENOENT));
            }
            assert_eq!(socket.dump(&list, rule::read_rule).unwrap(), before);
        }
    });
}

#[test]
fn a_neighbour_is_added_replaced_listed_and_removed() {
    in_namespace(|| {
        let mut socket = socket();
        let index = link_named(&mut socket, "eth0").unwrap().index;
        for (family, addr) in [(Family::Ipv4, "192.0.2.99"), (Family::Ipv6, "fd77::99")] {
            let (addr, state) = (addr.parse().unwrap(), NUD_PERMANENT);
            let list = neighbour::list_neighbours(family);
            for last in [1, 2] {
                let mac = Some([2, 0, 0, 0, 0, last]);
                let neighbour = Neighbour { index, addr, mac, state };
                send(&mut socket, neighbour::put_neighbour(&neighbour));
                let found = socket.dump(&list, neighbour::read_neighbour).unwrap();
                let found: Vec<_> = found.into_iter().filter(|n| n.addr == addr).collect();
                assert_eq!(found, [neighbour]);
            }
            let gone = Neighbour { index, addr, mac: None, state: 0 };
            send(&mut socket, neighbour::delete_neighbour(&gone));
            assert_eq!(sh(&format!("ip neigh show {addr} nud permanent")), "");
        }
    });
}
