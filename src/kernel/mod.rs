//! The kernel of this node, and the files that count with it: read it, change it.
//!
//! The only place that speaks netlink. It decides nothing: what is ours is defined here (a `State`
//! never holds a stranger's object), what should be is not. Only sysctls and files have no list to
//! read, so they are looked at where they are wanted.

mod able;
mod apply;
pub mod conntrack;
pub mod events;
pub mod files;
pub mod ipvs;
pub mod lock;
pub mod message;
pub mod netlink;
pub mod nft;
mod observe;
pub mod route;
pub mod sys;
pub mod xtables;

use std::{io, net::IpAddr, path::Path};

use neli::consts::socket::NlFamily;

use crate::{
    error::{Doing, Error, Result},
    few::{Few, Sorted},
    local::{Host, HostLink, Module, Options, Tunnel},
    state::{BRIDGE, DUMMY, Flow, TABLE_MAIN},
};
pub use apply::{Done, Outcome};
use files::Modules;
use message::{Attrs, Request};
use netlink::Conn;
pub use observe::Scope;

/// The modules whose work may be needed; the schedulers of IPVS besides.
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
/// The modules with a scheduler of IPVS.
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
/// kube-router's tunnels are called so.
const TUNNEL: &str = "tun-";

/// Sockets to the kernel, opened when they are first needed.
pub struct Kernel {
    route: Conn,
    generic: Option<Conn>,
    netfilter: Option<Conn>,
    /// The generic netlink family of IPVS, once it is known.
    ipvs: Option<u16>,
    /// Interface indices by name, as of the last look.
    links: Few<Box<str>, u32>,
    /// The chains of our table, as of the last look; `None`: it is to be made anew.
    chains: Option<Vec<String>>,
    modules: Modules,
    /// The IPv6 addresses that were given and taken.
    addrs: Vec<IpAddr>,
}

impl Kernel {
    /// Opens it for looking; changing needs CAP_NET_ADMIN.
    pub fn open() -> Result<Kernel> {
        Ok(Kernel {
            route: Conn::open(NlFamily::Route).doing(|| "opening a routing socket")?,
            generic: None,
            netfilter: None,
            ipvs: None,
            links: Few::new(),
            chains: None,
            modules: Modules::open(&[&MODULES[..], &SCHEDULERS].concat()),
            addrs: Vec::new(),
        })
    }

    /// The IPv6 addresses that it gave and took since this was asked last.
    pub fn addrs(&mut self) -> Sorted<IpAddr> {
        std::mem::take(&mut self.addrs).into()
    }

    /// The netlink ports from which it changes what [`events`] tell of.
    pub fn ports(&mut self) -> Vec<u32> {
        let netfilter = netlink::opened(&mut self.netfilter, NlFamily::Netfilter);
        let netfilter = netfilter.and_then(|conn| conn.port());
        self.route.port().into_iter().chain(netfilter).collect()
    }

    /// Loads the modules that may be needed while the right to do so is there. One that can't be had
    /// is missed later, by what needs it.
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

    /// What this node is, before anything is decided.
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
            host.closed = self.closed()?;
        }
        (host.legacy, host.passing) = xtables::closed();
        host.sysctls = settings(&host.links);
        host.listens = files::listens();
        match std::fs::read_to_string(&*options.cni_conf) {
            Ok(text) => host.cni = Some(text.into()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => host.cni_unreadable = Some(e.to_string().into()),
        }
        if let Some(folder) = Path::new(&*options.cni_conf).parent() {
            host.cni_folder = files::names(folder);
        }
        Ok(host)
    }

    fn links(&mut self) -> Result<Vec<route::Link>> {
        let links =
            self.route.dump(&route::list_links(), route::read_link).doing(|| "listing links")?;
        self.links = links.iter().map(|l| (l.name.as_str().into(), l.index)).collect();
        Ok(links)
    }

    /// Whether nf_tables is built in: it leaves no trace in files.
    fn probe_nft(&mut self) -> Module {
        let conn = netlink::opened(&mut self.netfilter, NlFamily::Netfilter);
        match conn.and_then(|c| c.dump(&nft::list_sets(), nft::read_set)) {
            Err(e) if e.raw_os_error() != Some(libc::ENOENT) => Module::Absent,
            _ => Module::Present,
        }
    }

    /// What `keep` makes of the routes of a dump, which may be very many.
    fn routes<T>(
        &mut self,
        request: &Request,
        what: &str,
        keep: impl Fn(route::Route) -> Option<T>,
    ) -> Result<Vec<T>> {
        match self.route.dump(request, |body| keep(route::read_route(body)?)) {
            // A family that this kernel does not have, or a table that nothing was put into yet.
            Err(e) if is_absent(&e) => Ok(Vec::new()),
            kept => kept.doing(|| format!("listing {what}")),
        }
    }

    fn tunnels(&mut self, links: &[route::Link]) -> Result<Vec<Tunnel>> {
        let mut tunnels = Vec::new();
        let names: Few<u32, &str> = links
            .iter()
            .filter(|l| l.name.starts_with(TUNNEL))
            .map(|l| (l.index, l.name.as_str()))
            .collect();
        if names.is_empty() {
            return Ok(tunnels);
        }
        for ipv4 in [true, false] {
            let tunnel = |found: route::Route| {
                let link = found.oif.and_then(|oif| names.get(&oif))?;
                Some(Tunnel { link: (*link).into(), to: Some(found.to) })
            };
            let list = route::list_routes(ipv4, TABLE_MAIN);
            tunnels.extend(self.routes(&list, "routes", tunnel)?);
        }
        for name in names.values() {
            if !tunnels.iter().any(|t| *t.link == **name) {
                tunnels.push(Tunnel { link: (*name).into(), to: None });
            }
        }
        Ok(tunnels)
    }

    /// Takes the UDP flows out of conntrack that are `stale`, and says how many went.
    pub fn remove_flows(&mut self, stale: impl Fn(&Flow) -> bool) -> Result<usize> {
        let netfilter = netlink::opened(&mut self.netfilter, NlFamily::Netfilter)
            .doing(|| "opening a netfilter socket")?;
        let mut removals = Vec::new();
        for ipv4 in [true, false] {
            let read = |body: &[u8]| conntrack::read_flow(body).filter(&stale);
            match netfilter.dump(&conntrack::list_flows(ipv4), read) {
                Err(e) if is_absent(&e) => {}
                flows => {
                    let flows = flows.doing(|| "listing the flows of UDP Services")?;
                    removals.extend(flows.iter().map(conntrack::remove));
                }
            }
        }
        let verdicts =
            netfilter.send(&removals).doing(|| "removing stale flows of UDP Services")?;
        Ok(verdicts.iter().filter(|verdict| verdict.is_ok()).count())
    }

    /// The handles of our rules in a chain of another program.
    fn accepts(&mut self, chain: &str) -> Result<Vec<[u8; 8]>> {
        netlink::opened(&mut self.netfilter, NlFamily::Netfilter)
            .and_then(|c| c.dump(&nft::accept::list_rules(chain), nft::accept::read_rule))
            .doing(|| format!("listing the rules of chain {chain}"))
    }

    /// The chains of other programs that drop by their policy.
    fn closed(&mut self) -> Result<Vec<Box<str>>> {
        let read = |body: &[u8]| nft::accept::read_chain(body).filter(|(_, drops)| *drops);
        let chains = netlink::opened(&mut self.netfilter, NlFamily::Netfilter)
            .and_then(|c| c.dump(&nft::list_chains(), |body| read(body).map(|(chain, _)| chain)));
        match chains {
            Err(e) if is_absent(&e) => Ok(Vec::new()),
            chains => chains.doing(|| "listing the chains of nftables"),
        }
    }

    fn generic(&mut self) -> Result<&mut Conn> {
        netlink::opened(&mut self.generic, NlFamily::Generic)
            .doing(|| "opening a generic netlink socket")
    }

    /// The number of the IPVS family (CTRL_CMD_GETFAMILY, linux/genetlink.h).
    fn ipvs_family(&mut self) -> Result<u16> {
        if let Some(family) = self.ipvs {
            return Ok(family);
        }
        const GENL_ID_CTRL: u16 = 0x10;
        const CTRL_CMD_GETFAMILY: u8 = 3;
        const CTRL_ATTR_FAMILY_ID: u16 = 1;
        const CTRL_ATTR_FAMILY_NAME: u16 = 2;
        let request = Request::new(
            GENL_ID_CTRL,
            neli::consts::nl::NlmF::empty(),
            &[CTRL_CMD_GETFAMILY, 1, 0, 0],
        )
        .text(CTRL_ATTR_FAMILY_NAME, ipvs::FAMILY);
        let read = |body: &[u8]| Attrs::after(body, 4).u16(CTRL_ATTR_FAMILY_ID);
        let found = self.generic()?.ask(&request, read).doing(|| "looking for IPVS")?;
        let family = found.ok_or_else(|| {
            Error::new(
                "looking for IPVS",
                "this kernel has none: load the module ip_vs, or build with CONFIG_IP_VS",
            )
        })?;
        self.ipvs = Some(family);
        Ok(family)
    }
}

/// The settings on which others depend: reverse path filters, and who listens to IPv6 routers.
fn settings(links: &[HostLink]) -> Few<Box<str>, Box<str>> {
    let mut names: Vec<String> = ["all", "default", BRIDGE, DUMMY]
        .iter()
        .map(|link| format!("net/ipv4/conf/{link}/rp_filter"))
        .collect();
    names.push("net/ipv6/conf/all/forwarding".into());
    for HostLink { name, .. } in links {
        names.push(format!("net/ipv4/conf/{name}/rp_filter"));
        if ![BRIDGE, DUMMY].contains(&&**name) {
            names.push(format!("net/ipv6/conf/{name}/accept_ra")); // no router speaks on ours
        }
    }
    let read = |name: String| files::sysctl(&name).map(|v| (name.into(), v.into()));
    names.into_iter().filter_map(read).collect()
}

fn is_link_local(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(_) => false,
        IpAddr::V6(a) => a.is_unicast_link_local(),
    }
}

/// What the kernel says of a family, a table or a set that it does not have.
fn is_absent(e: &io::Error) -> bool {
    matches!(
        e.raw_os_error(),
        Some(
            libc::ENOENT
                | libc::EAFNOSUPPORT
                | libc::EOPNOTSUPP
                | libc::EPROTONOSUPPORT
                | libc::EINVAL
        )
    )
}
