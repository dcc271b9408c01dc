//! What a node needs whatever the cluster looks like: its bridge, forwarding, the CNI configuration,
//! and the settings of IPVS.

use ipnet::IpNet;

use super::{Draft, Unmet, View, cni, services::outermost};
use crate::{
    cluster::Node,
    error::Error,
    local::{Host, Module},
    ruleset::{NFT_TABLE, PASSING_MATCH, Set, Skeleton},
    state::{BRIDGE, DUMMY, Item, LinkKind, Timeout, Value, iptables},
};

fn set(items: &mut Vec<Item>, name: &str, value: &str) {
    items.push(Item::Sysctl { name: name.into(), value: value.into() });
}

/// The pods' side: the bridge, forwarding, and the file that tells the container runtime.
pub fn network(view: &View<'_>, draft: &mut Draft) {
    let mtu = mtu(view);
    draft.items.push(Item::Link { name: BRIDGE.into(), kind: LinkKind::Bridge, mtu });
    let cidrs = view.pod_cidrs();
    forwarding(view, &cidrs, &mut draft.items);
    for net in view.own.pod_cidrs.iter().filter(|net| !cidrs.contains(net)) {
        if view.local.options.family(net.addr().is_ipv4()) {
            let why =
                "IPv6 is not there: ipv6.disable=1 on the kernel's command line, or not built";
            draft.unmet.push(Unmet::new(format!("podCIDR {net}"), why));
        }
    }
    if !view.local.options.cni {
        return;
    }
    if cidrs.is_empty() {
        draft.unmet.push(Unmet::new(
            format!("the CNI configuration of node {}", view.own.name),
            "the Node has no podCIDR yet: kube-controller-manager gives it one with \
             --allocate-node-cidrs, or annotate it with kube-router.io/pod-cidr",
        ));
        return;
    }
    conf(view, &cidrs, mtu, draft);
}

/// The MTU of the link that carries the node's address.
fn mtu(view: &View<'_>) -> Option<u32> {
    let addr = view.own.addr(true).or_else(|| view.own.addr(false))?;
    let link = view.host()?.link_of(addr)?;
    view.local.options.auto_mtu.then_some(link.mtu)
}

fn forwarding(view: &View<'_>, cidrs: &[IpNet], items: &mut Vec<Item>) {
    if view.local.options.ipv4 {
        set(items, "net/ipv4/ip_forward", "1");
    }
    if !cidrs.iter().any(|net| net.addr().is_ipv6()) {
        return;
    }
    // A router does not listen to routers, unless it is told to: a board on SLAAC would lose its
    // address and its default route.
    for (name, value) in view.host().map(|h| &h.sysctls).into_iter().flatten() {
        if name.ends_with("/accept_ra") && **value == *"1" {
            set(items, name, "2");
        }
    }
    set(items, "net/ipv6/conf/all/forwarding", "1");
}

fn conf(view: &View<'_>, cidrs: &[IpNet], mtu: Option<u32>, draft: &mut Draft) {
    let path = &*view.local.options.cni_conf;
    let doing = || format!("writing the CNI configuration {path}");
    let host = view.host();
    if let Some(cause) = host.and_then(|h| h.cni_unreadable.as_deref()) {
        draft.errors.push(Error::new(doing(), format!("what is there can't be read: {cause}")));
        return;
    }
    match cni::conf(path, host.and_then(|h| h.cni.as_deref()), cidrs, mtu) {
        Ok(text) => draft.items.push(Item::File { path: path.into(), text: text.into() }),
        Err(cause) => draft.errors.push(Error::new(doing(), cause)),
    }
    let names = host.map_or(&[][..], |h| &h.cni_folder);
    if let Some(first) = cni::shadowed_by(path, names.iter().map(|n| &**n)) {
        draft.unmet.push(Unmet::new(
            format!("the CNI configuration {path}"),
            format!("{first} sorts before it, so the container runtime takes that one: remove it"),
        ));
    }
}

/// The Services' side: the dummy link for their addresses, and the settings of IPVS.
pub fn service_proxy(view: &View<'_>, draft: &mut Draft) {
    for module in ["dummy", "ip_vs", "ip_vs_rr", "nf_conntrack_netlink"] {
        view.want_module(module, draft);
    }
    let items = &mut draft.items;
    items.push(Item::Link { name: DUMMY.into(), kind: LinkKind::Dummy, mtu: None });
    set(items, "net/ipv4/ip_forward", "1"); // for what comes from outside
    // IPVS connections are known to conntrack, or nothing could be masqueraded.
    set(items, "net/ipv4/vs/conntrack", "1");
    set(items, "net/ipv4/vs/expire_nodest_conn", "1");
    set(items, "net/ipv4/vs/expire_quiescent_template", "1");
    // Every node has the virtual addresses: none may answer for them on the wire.
    set(items, "net/ipv4/conf/all/arp_ignore", "1");
    set(items, "net/ipv4/conf/all/arp_announce", "2");
    let wanted = Timeout::ALL.into_iter().zip(view.local.options.timeouts);
    items
        .extend(wanted.filter(|(_, s)| *s != 0).map(|(of, seconds)| Item::Timeout { of, seconds }));
    if let Some(host) = view.host() {
        loose_filters(view, host, items);
    }
    if view.module("br_netfilter") == Some(Module::Absent) {
        draft.unmet.push(Unmet::new(
            "the source address of a pod that asks another pod of its node through a Service",
            "this kernel has no br_netfilter, so their source is masqueraded: install the module, or \
             build with CONFIG_BRIDGE_NETFILTER, and it is kept",
        ));
    } else {
        view.want_module("br_netfilter", draft);
        hairpins(view, &mut draft.items);
        set(&mut draft.items, "net/bridge/bridge-nf-call-iptables", "1");
        if view.ipv6 {
            set(&mut draft.items, "net/bridge/bridge-nf-call-ip6tables", "1");
        }
    }
}

/// An answer of a pod that reached itself through a Service goes to the node, whose netfilter turns it
/// back to the pod. Without br_netfilter it is routed, and leaves by the bridge's own device. With it,
/// that happens before the bridge has decided (`br_nf_pre_routing_finish`), which then finds that the
/// packet must leave by the port that it came in by, and drops it unless the port is told otherwise:
/// as the CNI plugin does with `hairpinMode`, which somebody else's configuration may not have.
fn hairpins(view: &View<'_>, items: &mut Vec<Item>) {
    let ports = view.host().map_or(&[][..], |host| &host.ports);
    items.extend(ports.iter().map(|port| Item::Hairpin { port: port.clone() }));
}

/// Our nftables table, with what its sets hold of the nodes and not of Services.
pub fn table(view: &View<'_>, draft: &mut Draft) {
    if !view.has_table() {
        draft.unmet.push(Unmet::new(
            "the guard of virtual addresses, masquerading and Local policies",
            "this kernel has no nf_tables: install the module, or build with CONFIG_NF_TABLES_INET",
        ));
        return;
    }
    for module in FILTERS {
        view.want_module(module, draft);
    }
    let options = &view.local.options;
    let skeleton = Skeleton {
        guard: options.services && options.guard,
        masquerade_all: options.services && options.masquerade_all,
        pod_egress: options.router && options.pod_egress,
        same_node: options.services && view.module("br_netfilter") == Some(Module::Absent),
        accept: accepts(view, draft),
    };
    draft.items.push(Item::Table { name: NFT_TABLE.into(), skeleton: Some(skeleton) });
    elements(view, draft);
}

/// What the sets of our table hold of the nodes, where there is one.
pub fn elements(view: &View<'_>, draft: &mut Draft) {
    let mut element = |set, value| {
        draft.items.push(Item::Element { set, value });
    };
    let nodes = view.cluster.nodes.values();
    let pods: Vec<IpNet> = nodes.clone().flat_map(|n| n.pod_cidrs.iter().copied()).collect();
    outermost(&pods).into_iter().for_each(|net| element(Set::PodNets, Value::Net(net)));
    let own = outermost(&view.own.pod_cidrs);
    own.into_iter().for_each(|net| element(Set::OwnPods, Value::Net(net)));
    nodes.flat_map(Node::addrs).for_each(|addr| element(Set::NodeIps, Value::Addr(addr)));
}

/// What is to be accepted in the chains of other programs that drop by their policy; whether there are
/// any.
fn accepts(view: &View<'_>, draft: &mut Draft) -> bool {
    let Some(host) = view.host() else { return false };
    for chain in &host.closed {
        if iptables(chain).is_some() {
            view.want_module("nft_compat", draft);
            view.want_module("xt_mark", draft);
        }
        draft.items.push(Item::Accept { chain: chain.clone() });
    }
    draft.unmet.extend(host.legacy.iter().map(|chain| {
        let what = format!("what pods and Services need of {chain}");
        let command = chain.replace(' ', " -I ");
        let why = "its policy is DROP, and kinglet changes nothing there";
        Unmet::new(what, format!("{why}: {command} {PASSING_MATCH} -j ACCEPT"))
    }));
    !host.closed.is_empty() || !host.legacy.is_empty() || host.passing
}

/// The modules of nftables that the rules need.
const FILTERS: [&str; 6] =
    ["nf_tables", "nft_chain_nat", "nft_ct", "nft_fib_inet", "nft_masq", "nft_reject_inet"];

/// Answers of real servers may come in by another link than their requests left by: a strict
/// reverse path filter (1) becomes loose (2).
fn loose_filters(view: &View<'_>, host: &Host, items: &mut Vec<Item>) {
    let knob = |link: &str| format!("net/ipv4/conf/{link}/rp_filter");
    let of = |link: &str| host.sysctls.get(&*knob(link)).map(|v| &**v);
    let mut links = vec!["all", BRIDGE, DUMMY];
    let node = view.own.addr(true).and_then(|addr| host.link_of(addr));
    links.extend(node.map(|link| &*link.name));
    for link in links {
        // A link that is not there yet starts with the default.
        if of(link).or_else(|| of("default")) == Some("1") {
            set(items, &knob(link), "2");
        }
    }
}
