//! The kernel of this node: its sockets, and the facts about this host.

use super::{
    conntrack,
    events::{Echo, Events},
    files::{self, Modules},
    ipvs, nft, route, xtables,
};
use crate::{
    collections::FlatMap,
    error::{Doing, Error, Result},
    family::{Family, is_link_local},
    model::{
        items::{BRIDGE, DUMMY, Flow, TABLE_MAIN},
        local::{Host, HostLink, Module, Options, Tunnel},
    },
    netlink::{
        generic,
        message::Request,
        socket::{self, NetlinkSocket},
    },
    sys::errno,
};
use std::{io, path::Path, rc::Rc};

use neli::consts::socket::NlFamily;

/// Kernel modules that kinglet may need, apart from the IPVS schedulers.
const MODULES: [&str; 14] = [
    "bridge",
    "veth",
    "br_netfilter",
    "dummy",
    "ip_vs",
    "nf_conntrack_netlink",
    "nf_tables",
    "nft_chain_nat",
    "nft_compat",
    "nft_ct",
    "nft_fib_inet",
    "nft_masq",
    "nft_reject_inet",
    "xt_mark",
];
/// Kernel modules that each contain one IPVS scheduler.
const SCHEDULERS: [&str; 13] = [
    "ip_vs_rr",
    "ip_vs_wrr",
    "ip_vs_lc",
    "ip_vs_wlc",
    "ip_vs_lblc",
    "ip_vs_lblcr",
    "ip_vs_dh",
    "ip_vs_sh",
    "ip_vs_sed",
    "ip_vs_nq",
    "ip_vs_mh",
    "ip_vs_fo",
    "ip_vs_ovf",
];
/// Prefix of the names of kube-router's tunnel interfaces.
pub(super) const TUNNEL_PREFIX: &str = "tun-";

/// A connection to the kernel: its netlink sockets, opened on first use, and cached lookups.
pub struct Kernel {
    pub(super) route: NetlinkSocket,
    generic: Option<NetlinkSocket>,
    pub(super) netfilter: Option<NetlinkSocket>,
    /// The generic netlink family number of IPVS; `None` until it was looked up.
    ipvs: Option<u16>,
    /// Interface indices by name, as of the last dump of links.
    pub(super) links: FlatMap<Box<str>, u32>,
    /// The chains of our table, as of the last observation; `None` if the table must be created again.
    pub(super) chains: Option<Vec<String>>,
    pub(super) modules: Modules,
    /// The IPv6 addresses that were added or removed, until [`Events`] have seen their notifications.
    pub(super) echo: Echo,
}

impl Kernel {
    /// Opens the routing socket, which is enough for reading; changes need CAP_NET_ADMIN. Fails if the
    /// socket can't be opened.
    pub fn open() -> Result<Kernel> {
        Ok(Kernel {
            route: NetlinkSocket::open(NlFamily::Route)
                .doing(|| "opening a routing netlink socket")?,
            generic: None,
            netfilter: None,
            ipvs: None,
            links: FlatMap::new(),
            chains: None,
            modules: Modules::open(&[&MODULES[..], &SCHEDULERS].concat()),
            echo: Echo::default(),
        })
    }

    /// Subscribes to changes of links, addresses and routes by other programs. Fails if the socket can't
    /// be opened.
    pub fn subscribe_network(&mut self) -> Result<Events> {
        Events::of_network(&self.ports(), Rc::clone(&self.echo))
            .doing(|| "subscribing to the kernel's notifications about routes")
    }

    /// Subscribes to changes of nftables tables by other programs. Fails if the kernel has no nftables.
    pub fn subscribe_table(&mut self) -> Result<Events> {
        Events::of_table(&self.ports())
            .doing(|| "subscribing to the kernel's notifications about nftables")
    }

    /// Returns the netlink port numbers of the sockets that change what [`Events`] report. A socket that
    /// can't be opened is left out.
    fn ports(&mut self) -> Vec<u32> {
        let netfilter = socket::get_or_open(&mut self.netfilter, NlFamily::Netfilter);
        let netfilter = netfilter.and_then(|conn| conn.port());
        self.route.port().into_iter().chain(netfilter).collect()
    }

    /// Loads the modules that these options may need. It must run before the process drops
    /// CAP_SYS_MODULE. Errors are ignored here: if a module is missing, the step that needs it fails.
    pub fn load_modules(&self, options: &Options) {
        let network: &[&str] = if options.router { &MODULES[..2] } else { &[] };
        let services = if options.services { &MODULES[2..6] } else { &[] };
        let schedulers = if options.services { &SCHEDULERS[..] } else { &[] };
        let table = if options.table() { &MODULES[6..] } else { &[] };
        for module in [network, services, schedulers, table].into_iter().flatten() {
            if self.modules.status(module) == Some(Module::Loadable) {
                let _ = self.modules.load(module);
            }
        }
    }

    /// Collects the facts about this node: links and addresses, ports of the bridge, kube-router's
    /// tunnels, module states, chains that drop by policy, sysctls, listening ports and the CNI folder.
    /// Fails if a netlink dump fails; a CNI configuration that can't be read is one of the facts.
    pub fn host(&mut self, options: &Options) -> Result<Host> {
        let links = self.links()?;
        let mut host = Host::default();
        let addresses = self
            .route
            .dump(&route::list_addresses(), route::read_address)
            .doing(|| "listing addresses")?;
        for link in links.iter().filter(|l| l.up) {
            let name: Box<str> = link.name.as_str().into();
            let addrs: Vec<_> =
                addresses.iter().filter(|a| a.index == link.index).map(|a| a.addr).collect();
            if addrs.iter().any(|a| !is_link_local(a.addr())) || *name == *BRIDGE {
                host.links.push(HostLink { name, mtu: link.mtu, addrs });
            }
        }
        let bridge = self.links.get(BRIDGE).copied();
        let ports = links.iter().filter(|l| l.master.is_some() && l.master == bridge);
        host.ports = ports.map(|l| l.name.as_str().into()).collect();
        host.tunnels = self.tunnels(&links)?;
        for module in MODULES.into_iter().chain(SCHEDULERS) {
            let status = self.module_status(module);
            host.modules.extend(status.map(|status| (module.into(), status)));
        }
        if options.table() && host.modules.get("nf_tables") == Some(&Module::Present) {
            host.closed = self.dropping_chains()?;
        }
        (host.legacy, host.passing) = xtables::dropping_chains();
        host.sysctls = read_sysctls(&host.links);
        host.listens = files::listening_ports();
        match std::fs::read_to_string(&*options.cni_conf) {
            Ok(text) => host.cni = Some(text.into()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => host.cni_unreadable = Some(e.to_string().into()),
        }
        if let Some(folder) = Path::new(&*options.cni_conf).parent() {
            host.cni_folder = files::file_names(folder);
        }
        Ok(host)
    }

    pub(super) fn links(&mut self) -> Result<Vec<route::LinkInfo>> {
        let links =
            self.route.dump(&route::list_links(), route::read_link).doing(|| "listing links")?;
        self.links = links.iter().map(|l| (l.name.as_str().into(), l.index)).collect();
        Ok(links)
    }

    /// Asks nf_tables for our sets, because a built-in nf_tables is visible in no file. Returns
    /// `Absent` if the kernel answers with an error other than ENOENT.
    pub(super) fn probe_nft(&mut self) -> Module {
        let conn = socket::get_or_open(&mut self.netfilter, NlFamily::Netfilter);
        match conn.and_then(|c| c.dump(&nft::list_sets(), nft::read_set)) {
            Err(e) if e.raw_os_error() != Some(errno::ENOENT) => Module::Absent,
            _ => Module::Present,
        }
    }

    /// Dumps routes and returns those for which `keep` is `Some`. Routes are converted one by one,
    /// because there may be very many. `what` names them in the error.
    pub(super) fn routes<T>(
        &mut self,
        request: &Request,
        what: &str,
        keep: impl Fn(route::RouteInfo) -> Option<T>,
    ) -> Result<Vec<T>> {
        match self.route.dump(request, |body| keep(route::read_route(body)?)) {
            // This kernel lacks the family, or the table was never used.
            Err(e) if is_absent(&e) => Ok(Vec::new()),
            kept => kept.doing(|| format!("listing {what}")),
        }
    }

    /// Returns kube-router's tunnel interfaces, each with the destinations of its routes.
    fn tunnels(&mut self, links: &[route::LinkInfo]) -> Result<Vec<Tunnel>> {
        let mut tunnels = Vec::new();
        let names: FlatMap<u32, &str> = links
            .iter()
            .filter(|l| l.name.starts_with(TUNNEL_PREFIX))
            .map(|l| (l.index, l.name.as_str()))
            .collect();
        if names.is_empty() {
            return Ok(tunnels);
        }
        for family in Family::ALL {
            let tunnel = |found: route::RouteInfo| {
                let link = found.oif.and_then(|oif| names.get(&oif))?;
                Some(Tunnel { link: (*link).into(), to: Some(found.to) })
            };
            let list = route::list_routes(family, TABLE_MAIN);
            tunnels.extend(self.routes(&list, "routes", tunnel)?);
        }
        for name in names.values() {
            if !tunnels.iter().any(|t| *t.link == **name) {
                tunnels.push(Tunnel { link: (*name).into(), to: None });
            }
        }
        Ok(tunnels)
    }

    /// Deletes the UDP conntrack entries for which `stale` is true. Returns the number of entries
    /// deleted. Fails if conntrack can't be listed; an entry that the kernel refuses to delete is
    /// skipped.
    pub fn remove_flows(&mut self, stale: impl Fn(&Flow) -> bool) -> Result<usize> {
        let netfilter = socket::get_or_open(&mut self.netfilter, NlFamily::Netfilter)
            .doing(|| "opening a netfilter socket")?;
        let mut removals = Vec::new();
        for family in Family::ALL {
            let read = |body: &[u8]| conntrack::read_flow(body).filter(&stale);
            match netfilter.dump(&conntrack::list_flows(family), read) {
                Err(e) if is_absent(&e) => {}
                flows => {
                    let flows = flows.doing(|| "listing the UDP conntrack entries")?;
                    removals.extend(flows.iter().map(conntrack::remove));
                }
            }
        }
        let outcomes =
            netfilter.send(&removals).doing(|| "deleting stale UDP conntrack entries")?;
        Ok(outcomes.iter().filter(|outcome| outcome.is_ok()).count())
    }

    /// Returns the handles (NFTA_RULE_HANDLE) of our rules in a chain of another program.
    pub(super) fn accept_handles(&mut self, chain: &str) -> Result<Vec<[u8; 8]>> {
        socket::get_or_open(&mut self.netfilter, NlFamily::Netfilter)
            .and_then(|c| c.dump(&nft::accept::list_rules(chain), nft::accept::read_rule))
            .doing(|| format!("listing the rules of chain {chain}"))
    }

    /// Returns the chains of other programs whose policy is to drop; none if there is no nf_tables.
    fn dropping_chains(&mut self) -> Result<Vec<Box<str>>> {
        let read = |body: &[u8]| nft::accept::read_chain(body).filter(|(_, drops)| *drops);
        let chains = socket::get_or_open(&mut self.netfilter, NlFamily::Netfilter)
            .and_then(|c| c.dump(&nft::list_chains(), |body| read(body).map(|(chain, _)| chain)));
        match chains {
            Err(e) if is_absent(&e) => Ok(Vec::new()),
            chains => chains.doing(|| "listing the chains of nftables"),
        }
    }

    /// Returns the generic netlink socket. Fails if it can't be opened.
    pub(super) fn generic(&mut self) -> Result<&mut NetlinkSocket> {
        socket::get_or_open(&mut self.generic, NlFamily::Generic)
            .doing(|| "opening a generic netlink socket")
    }

    /// Returns the generic netlink family number of IPVS. Fails if this kernel has no IPVS.
    pub(super) fn ipvs_family(&mut self) -> Result<u16> {
        if let Some(family) = self.ipvs {
            return Ok(family);
        }
        let request = generic::get_family(ipvs::FAMILY);
        let found = self.generic()?.ask(&request, generic::read_family);
        let found = found.doing(|| "looking for IPVS")?;
        let family = found.ok_or_else(|| {
            Error::new(
                "looking for IPVS",
                "this kernel does not have it: load the module ip_vs, or build the kernel with \
                 CONFIG_IP_VS",
            )
        })?;
        self.ipvs = Some(family);
        Ok(family)
    }
}

/// Reads the sysctls on which other settings depend: reverse path filters, IPv6 forwarding, and which
/// links accept router advertisements. A sysctl that does not exist is left out.
fn read_sysctls(links: &[HostLink]) -> FlatMap<Box<str>, Box<str>> {
    let mut names: Vec<String> = ["all", "default", BRIDGE, DUMMY]
        .iter()
        .map(|link| format!("net/ipv4/conf/{link}/rp_filter"))
        .collect();
    names.push("net/ipv6/conf/all/forwarding".into());
    for HostLink { name, .. } in links {
        names.push(format!("net/ipv4/conf/{name}/rp_filter"));
        if ![BRIDGE, DUMMY].contains(&&**name) {
            names.push(format!("net/ipv6/conf/{name}/accept_ra")); // our links get no router advertisements
        }
    }
    let read = |name: String| files::sysctl(&name).map(|v| (name.into(), v.into()));
    names.into_iter().filter_map(read).collect()
}

/// Returns true if the error means that the kernel does not have the requested family, table or set.
pub(super) fn is_absent(e: &io::Error) -> bool {
    matches!(
        e.raw_os_error(),
        Some(
            errno::ENOENT
                | errno::EAFNOSUPPORT
                | errno::EOPNOTSUPP
                | errno::EPROTONOSUPPORT
                | errno::EINVAL
        )
    )
}
