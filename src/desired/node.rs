//! The items that do not depend on single Services: [`network`] (bridge, forwarding, CNI
//! configuration), [`service_proxy`] (dummy link, sysctls and timeouts of IPVS) and [`table`] (the
//! nftables table, with the set elements that follow from the Nodes).

use ipnet::IpNet;

use super::{
    cni_config,
    node_view::{Draft, NodeView},
    services::outermost,
    unmet::Unmet,
};
use crate::{
    error::Error,
    model::{
        cluster::Node,
        items::{BRIDGE, DUMMY, Item, LinkKind, SetElement, Timeout, iptables},
        local::{Host, Module},
        nftables::{NFT_TABLE, PASSING_MATCH, RulesetOptions, Set},
    },
};

/// Adds a sysctl.
fn add_sysctl(items: &mut Vec<Item>, name: &str, value: &str) {
    items.push(Item::Sysctl { name: name.into(), value: value.into() });
}

/// Adds the items of the pod network: the bridge, forwarding, and the CNI configuration for the
/// container runtime.
pub(super) fn network(view: &NodeView<'_>, draft: &mut Draft) {
    for module in ["bridge", "veth"] {
        view.want_module(module, draft); // veth is for the CNI plugin, which has no loader of its own
    }
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
    cni_config(view, &cidrs, mtu, draft);
}

/// Returns the MTU in bytes of the link that carries the node's address; `None` if the host was not
/// inspected or `--auto-mtu` is off.
fn mtu(view: &NodeView<'_>) -> Option<u32> {
    let addr = view.own.addr(true).or_else(|| view.own.addr(false))?;
    let link = view.host()?.link_of(addr)?;
    view.local.options.auto_mtu.then_some(link.mtu)
}

fn forwarding(view: &NodeView<'_>, cidrs: &[IpNet], items: &mut Vec<Item>) {
    if view.local.options.ipv4 {
        add_sysctl(items, "net/ipv4/ip_forward", "1");
    }
    if !cidrs.iter().any(|net| net.addr().is_ipv6()) {
        return;
    }
    // The kernel ignores router advertisements on a host that forwards, unless accept_ra is 2. A
    // board that is configured by SLAAC would lose its address and its default route.
    for (name, value) in view.host().map(|h| &h.sysctls).into_iter().flatten() {
        if name.ends_with("/accept_ra") && **value == *"1" {
            add_sysctl(items, name, "2");
        }
    }
    add_sysctl(items, "net/ipv6/conf/all/forwarding", "1");
}

/// Adds the CNI configuration. If the file that is there can't be read or edited, adds an error
/// instead, which changes the exit code and does not stop the other items.
fn cni_config(view: &NodeView<'_>, cidrs: &[IpNet], mtu: Option<u32>, draft: &mut Draft) {
    let path = &*view.local.options.cni_conf;
    let doing = || format!("writing the CNI configuration {path}");
    let host = view.host();
    if let Some(cause) = host.and_then(|h| h.cni_unreadable.as_deref()) {
        draft
            .errors
            .push(Error::new(doing(), format!("the file that is there can't be read: {cause}")));
        return;
    }
    match cni_config::conf(path, host.and_then(|h| h.cni.as_deref()), cidrs, mtu) {
        Ok(text) => draft.items.push(Item::File { path: path.into(), text: text.into() }),
        Err(cause) => draft.errors.push(Error::new(doing(), cause)),
    }
    let names = host.map_or(&[][..], |h| &h.cni_folder);
    if let Some(first) = cni_config::shadowed_by(path, names.iter().map(|n| &**n)) {
        draft.unmet.push(Unmet::new(
            format!("the CNI configuration {path}"),
            format!("{first} sorts before it, so the container runtime reads that file instead: remove it"),
        ));
    }
}

/// Adds the items of the service proxy: the dummy link for virtual addresses, and the settings of
/// IPVS.
pub(super) fn service_proxy(view: &NodeView<'_>, draft: &mut Draft) {
    if !view.serves() {
        draft.unmet.push(Unmet::new(
            "Services",
            "this kernel has no IPVS: install the module ip_vs, or build with CONFIG_IP_VS",
        ));
        return;
    }
    for module in ["dummy", "ip_vs", "ip_vs_rr", "nf_conntrack_netlink"] {
        view.want_module(module, draft);
    }
    let items = &mut draft.items;
    items.push(Item::Link { name: DUMMY.into(), kind: LinkKind::Dummy, mtu: None });
    add_sysctl(items, "net/ipv4/ip_forward", "1"); // for traffic from outside
    // IPVS must pass its connections to conntrack, else nothing could be masqueraded.
    add_sysctl(items, "net/ipv4/vs/conntrack", "1");
    add_sysctl(items, "net/ipv4/vs/expire_nodest_conn", "1");
    add_sysctl(items, "net/ipv4/vs/expire_quiescent_template", "1");
    // Every node has the virtual addresses, so none may answer ARP requests for them.
    add_sysctl(items, "net/ipv4/conf/all/arp_ignore", "1");
    add_sysctl(items, "net/ipv4/conf/all/arp_announce", "2");
    let wanted = Timeout::ALL.into_iter().zip(view.local.options.timeouts);
    items
        .extend(wanted.filter(|(_, s)| *s != 0).map(|(of, seconds)| Item::Timeout { of, seconds }));
    if let Some(host) = view.host() {
        loosen_rp_filter(view, host, items);
    }
    if view.module("br_netfilter") == Some(Module::Absent) {
        draft.unmet.push(Unmet::new(
            "the source address of a pod that reaches another pod of its node through a Service",
            "this kernel has no br_netfilter, so the source address is masqueraded: to keep it, install \
             the module, or build with CONFIG_BRIDGE_NETFILTER",
        ));
    } else {
        view.want_module("br_netfilter", draft);
        hairpins(view, &mut draft.items);
        add_sysctl(&mut draft.items, "net/bridge/bridge-nf-call-iptables", "1");
        if view.ipv6 {
            add_sysctl(&mut draft.items, "net/bridge/bridge-nf-call-ip6tables", "1");
        }
    }
}

/// Enables hairpin mode on the ports of the bridge, for pods that reach themselves through a
/// Service.
///
/// The answer of such a pod goes to the node, whose netfilter turns it back to the pod. Without
/// br_netfilter the answer is routed and leaves by the bridge device. With br_netfilter the
/// translation happens before the bridge has decided (`br_nf_pre_routing_finish`): the packet must
/// then leave by the port that it came in by, and the bridge drops it unless that port is in
/// hairpin mode. The CNI plugin does the same with `hairpinMode`, but a foreign CNI configuration
/// may lack it.
fn hairpins(view: &NodeView<'_>, items: &mut Vec<Item>) {
    let ports = view.host().map_or(&[][..], |host| &host.ports);
    items.extend(ports.iter().map(|port| Item::Hairpin { port: port.clone() }));
}

/// Adds our nftables table, with the set elements that follow from the Nodes.
pub(super) fn table(view: &NodeView<'_>, draft: &mut Draft) {
    if !view.has_table() {
        draft.unmet.push(Unmet::new(
            "the guard of virtual addresses, masquerading and Local policies",
            "this kernel has no nf_tables: install the module, or build with CONFIG_NF_TABLES_INET",
        ));
        return;
    }
    for module in NFT_MODULES {
        view.want_module(module, draft);
    }
    let options = &view.local.options;
    let skeleton = RulesetOptions {
        guard: options.services && options.guard,
        masquerade_all: options.services && options.masquerade_all,
        pod_egress: options.router && options.pod_egress,
        same_node: options.services && view.module("br_netfilter") == Some(Module::Absent),
        accept: accept_rules(view, draft),
    };
    draft.items.push(Item::Table { name: NFT_TABLE.into(), skeleton: Some(skeleton) });
}

/// Adds the set elements that follow from the Nodes: pod networks and node addresses.
pub(super) fn elements(view: &NodeView<'_>, draft: &mut Draft) {
    let mut element = |set, value| {
        draft.items.push(Item::Element { set, value });
    };
    let nodes = view.cluster.nodes.values();
    let pods: Vec<IpNet> = nodes.clone().flat_map(|n| n.pod_cidrs.iter().copied()).collect();
    outermost(&pods).into_iter().for_each(|net| element(Set::PodNets, SetElement::Net(net)));
    let own = outermost(&view.own.pod_cidrs);
    own.into_iter().for_each(|net| element(Set::OwnPods, SetElement::Net(net)));
    nodes.flat_map(Node::addrs).for_each(|addr| element(Set::NodeIps, SetElement::Addr(addr)));
}

/// Adds an accept rule to each chain of another program that drops by its policy. Returns true if
/// there is any such chain, so that our table must mark the packets to accept.
fn accept_rules(view: &NodeView<'_>, draft: &mut Draft) -> bool {
    let Some(host) = view.host() else { return false };
    for chain in &host.closed {
        if iptables(chain).is_some() {
            view.want_module("nft_compat", draft);
            view.want_module("xt_mark", draft);
        }
        draft.items.push(Item::Accept { chain: chain.clone() });
    }
    draft.unmet.extend(host.legacy.iter().map(|chain| {
        let what = format!("traffic of pods and Services through {chain}");
        let command = chain.replace(' ', " -I ");
        let why = "its policy is DROP, and kinglet does not change legacy iptables; accept the traffic yourself";
        Unmet::new(what, format!("{why}: {command} {PASSING_MATCH} -j ACCEPT"))
    }));
    !host.closed.is_empty() || !host.legacy.is_empty() || host.passing
}

/// The nftables modules that our rules need.
const NFT_MODULES: [&str; 6] =
    ["nf_tables", "nft_chain_nat", "nft_ct", "nft_fib_inet", "nft_masq", "nft_reject_inet"];

/// Changes a strict reverse path filter (1) to loose (2), because the answer of a real server may
/// come in by another link than the request left by.
fn loosen_rp_filter(view: &NodeView<'_>, host: &Host, items: &mut Vec<Item>) {
    let path = |link: &str| format!("net/ipv4/conf/{link}/rp_filter");
    let value = |link: &str| host.sysctls.get(&*path(link)).map(|v| &**v);
    let mut links = vec!["all", BRIDGE, DUMMY];
    let node = view.own.addr(true).and_then(|addr| host.link_of(addr));
    links.extend(node.map(|link| &*link.name));
    for link in links {
        // A link that does not exist yet starts with the default.
        if value(link).or_else(|| value("default")) == Some("1") {
            add_sysctl(items, &path(link), "2");
        }
    }
}
