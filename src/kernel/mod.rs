//! The kernel of this node, and the files that count with it: read it, change it.
//!
//! The only place that speaks netlink. It decides nothing: what is ours is defined here (a `State`
//! never holds a stranger's object), what should be is not. Only sysctls and files have no list to
//! read, so they are looked at where they are wanted.

mod apply;
pub mod conntrack;
pub mod files;
pub mod ipvs;
pub mod lock;
pub mod message;
pub mod netlink;
pub mod nft;
pub mod route;
pub mod sys;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    path::Path,
};

use neli::consts::socket::NlFamily;

use crate::{
    error::{Doing, Error, Result},
    local::{Host, HostLink, Module, Options, Tunnel},
    ruleset::{NFT_TABLE, Set},
    state::{
        At, BRIDGE, DUMMY, Flow, Item, RealKey, State, TABLE_LOCAL, TABLE_MAIN, Value, Virtual,
        host_net, is_our_mark,
    },
};
pub use apply::Outcome;
use files::Modules;
use message::{Attrs, Request};
use netlink::Conn;

/// The modules whose work may be needed; the schedulers of IPVS besides.
const MODULES: [&str; 10] = [
    "bridge",
    "br_netfilter",
    "dummy",
    "ip_vs",
    "nf_tables",
    "nft_chain_nat",
    "nft_ct",
    "nft_fib_inet",
    "nft_masq",
    "nft_reject_inet",
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
    links: BTreeMap<Box<str>, u32>,
    /// The chains of our table, as of the last look; `None`: it is to be made anew.
    chains: Option<Vec<String>>,
    modules: Modules,
}

impl Kernel {
    /// Opens it for looking; changing needs CAP_NET_ADMIN.
    pub fn open() -> Result<Kernel> {
        Ok(Kernel {
            route: Conn::open(NlFamily::Route).doing(|| "opening a routing socket")?,
            generic: None,
            netfilter: None,
            ipvs: None,
            links: BTreeMap::new(),
            chains: None,
            modules: Modules::open(),
        })
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
        host.tunnels = self.tunnels(&links)?;
        for module in MODULES.into_iter().chain(SCHEDULERS) {
            let status = match self.modules.status(module) {
                None if module == "nf_tables" => Some(self.probe_nft()),
                status => status,
            };
            host.modules.extend(status.map(|status| (module.into(), status)));
        }
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

    fn routes(&mut self, request: &Request, what: &str) -> Result<Vec<route::Route>> {
        match self.route.dump(request, route::read_route) {
            // A family that this kernel does not have, or a table that nothing was put into yet.
            Err(e) if is_absent(&e) => Ok(Vec::new()),
            routes => routes.doing(|| format!("listing {what}")),
        }
    }

    fn tunnels(&mut self, links: &[route::Link]) -> Result<Vec<Tunnel>> {
        let mut tunnels = Vec::new();
        let names: BTreeMap<u32, &str> = links
            .iter()
            .filter(|l| l.name.starts_with(TUNNEL))
            .map(|l| (l.index, l.name.as_str()))
            .collect();
        if names.is_empty() {
            return Ok(tunnels);
        }
        for ipv4 in [true, false] {
            for found in self.routes(&route::list_routes(ipv4, TABLE_MAIN), "routes")? {
                if let Some(link) = found.oif.and_then(|oif| names.get(&oif)) {
                    tunnels.push(Tunnel { link: (*link).into(), to: Some(found.to) });
                }
            }
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

    /// What the kernel holds of ours, of the parts that are wanted, and which real servers have
    /// connections. Of `want`, sysctls and files are
    /// looked at by name, and an IPVS service that is there already counts as ours.
    pub fn observe(
        &mut self,
        options: &Options,
        want: &State,
    ) -> Result<(State, BTreeSet<RealKey>)> {
        let mut busy = BTreeSet::new();
        let mut have = State::new();
        for item in want {
            match item {
                Item::Sysctl { name, .. } => {
                    let value = files::sysctl(&name.0).map(Into::into);
                    have.extend(value.map(|value| Item::Sysctl { name: name.clone(), value }));
                }
                Item::File { path, .. } => {
                    let text = std::fs::read_to_string(&**path).ok();
                    have.extend(text.map(|t| Item::File { path: path.clone(), text: t.into() }));
                }
                Item::Module { name } if self.modules.status(name) == Some(Module::Present) => {
                    have.insert(item.clone());
                }
                _ => {}
            }
        }
        for link in self.links()?.into_iter().filter(|l| l.up) {
            let ours =
                options.router && link.name == BRIDGE || options.services && link.name == DUMMY;
            if ours {
                have.insert(Item::Link {
                    name: link.name.into(),
                    kind: link.kind.as_str().into(),
                    mtu: Some(link.mtu),
                });
            }
        }
        if options.router {
            self.observe_routes(&mut have)?;
        }
        let record = match options.table() {
            true => self.observe_table(&mut have, want)?,
            false => BTreeSet::new(),
        };
        if options.services {
            let vips = self.observe_vips(&mut have)?;
            let wanted: BTreeSet<At> = want
                .iter()
                .filter_map(|i| if let Item::Service { at, .. } = i { Some(*at) } else { None })
                .collect();
            let ours = |at: &At| match at {
                At::Virtual(v) => {
                    !options.excludes(v.addr)
                        && (vips.contains(&v.addr) || record.contains(v) || wanted.contains(at))
                }
                At::Mark { mark, .. } => is_our_mark(*mark),
            };
            busy = self.observe_services(&mut have, want, ours)?;
        }
        Ok((have, busy))
    }

    fn observe_routes(&mut self, have: &mut State) -> Result<()> {
        let tunnels: BTreeSet<u32> = self
            .links
            .iter()
            .filter(|(name, _)| name.starts_with(TUNNEL))
            .map(|(_, index)| *index)
            .collect();
        for ipv4 in [true, false] {
            for found in self.routes(&route::list_routes(ipv4, TABLE_MAIN), "routes")? {
                if found.is_ours() && !found.oif.is_some_and(|oif| tunnels.contains(&oif)) {
                    let (table, to, via) = (TABLE_MAIN, found.to, found.via);
                    have.insert(Item::Route { table, to, via, dev: None, src: found.src });
                }
            }
        }
        Ok(())
    }

    /// The addresses on the dummy link, and the local routes that lead to it.
    fn observe_vips(&mut self, have: &mut State) -> Result<BTreeSet<IpAddr>> {
        let Some(&index) = self.links.get(DUMMY) else { return Ok(BTreeSet::new()) };
        let vips: BTreeSet<IpAddr> = self
            .route
            .dump(&route::list_addresses(), route::read_address)
            .doing(|| "listing addresses")?
            .into_iter()
            .filter(|a| a.index == index && !is_link_local(a.addr.addr()))
            .map(|a| {
                have.insert(Item::Addr { link: DUMMY.into(), addr: a.addr });
                a.addr.addr()
            })
            .collect();
        for ipv4 in [true, false] {
            let found = self.routes(&route::list_local_routes(ipv4, index), "local routes")?;
            let (own, ours): (Vec<_>, Vec<_>) = found
                .into_iter()
                .filter(|r| r.table == TABLE_LOCAL && r.oif == Some(index))
                .filter(|r| r.to == host_net(r.to.addr()) && !is_link_local(r.to.addr()))
                .partition(route::Route::is_kernels_own);
            let own: BTreeSet<_> = own.into_iter().map(|r| r.to).collect();
            for route in ours {
                // Ours is not in force where the IPv6 kernel's own stands before it, nor will it be
                // once the address comes back that it lost.
                let in_force =
                    vips.contains(&route.to.addr()) && (ipv4 || !own.contains(&route.to));
                have.insert(Item::Route {
                    table: TABLE_LOCAL,
                    to: route.to,
                    via: None,
                    dev: Some(DUMMY.into()),
                    src: route.src.filter(|_| in_force),
                });
            }
        }
        Ok(vips)
    }

    /// Our nftables table with the elements of its sets; the record of the IPVS services that we made
    /// is one of them. A table whose sets are of another version counts as empty: it is made anew.
    fn observe_table(&mut self, have: &mut State, want: &State) -> Result<BTreeSet<Virtual>> {
        let mut record = BTreeSet::new();
        self.chains = None;
        if self.modules.status("nf_tables") == Some(Module::Loadable) {
            return Ok(record); // asking would load it
        }
        let netfilter = match netlink::opened(&mut self.netfilter, NlFamily::Netfilter) {
            Err(e) if is_absent(&e) => return Ok(record),
            conn => conn.doing(|| "opening a netfilter socket")?,
        };
        let sets = match netfilter.dump(&nft::list_sets(), nft::read_set) {
            Err(e) if is_absent(&e) => return Ok(record),
            sets => sets.doing(|| "listing the sets of the table inet kinglet")?,
        };
        if sets.is_empty() {
            return Ok(record);
        }
        let mut found = netfilter
            .dump(&nft::list_chains(), nft::read_chain)
            .doing(|| "listing the chains of the table inet kinglet")?;
        let names = found.iter().filter_map(|f| match f {
            nft::Found::Chain(name, ..) => Some(name.clone()),
            nft::Found::Rule(..) => None,
        });
        let names = names.collect();
        let rules = netfilter.dump(&nft::list_rules(), nft::read_rule);
        found.extend(rules.doing(|| "listing the rules of the table inet kinglet")?);
        let fits = sets.iter().all(|(_, fits)| *fits) && sets.len() == Set::each().count();
        self.chains = fits.then_some(names);
        let wanted = want.iter().find_map(|item| match item {
            Item::Table { skeleton, .. } => *skeleton,
            _ => None,
        });
        let skeleton = wanted.filter(|s| fits && sorted(nft::expected(*s)) == sorted(found));
        have.insert(Item::Table { name: NFT_TABLE.into(), skeleton });
        if !fits {
            return Ok(record);
        }
        for (set, ipv4) in Set::each() {
            let raw = netfilter
                .dump(&nft::list_elements(set, ipv4), nft::read_elements)
                .doing(|| format!("listing the set {}", set.name(ipv4)))?;
            let values = nft::values(set, ipv4, raw.into_iter().flatten().collect());
            if set == Set::Services {
                record.extend(values.iter().filter_map(|v| match v {
                    Value::At(at) => Some(*at),
                    _ => None,
                }));
            }
            have.extend(values.into_iter().map(|value| Item::Element { set, value }));
        }
        Ok(record)
    }

    /// The IPVS services that are ours, with their real servers; given are those of the unwanted ones
    /// that have connections.
    fn observe_services(
        &mut self,
        have: &mut State,
        want: &State,
        ours: impl Fn(&At) -> bool,
    ) -> Result<BTreeSet<RealKey>> {
        let mut busy = BTreeSet::new();
        if self.modules.status("ip_vs") != Some(Module::Present) {
            return Ok(busy);
        }
        let family = self.ipvs_family()?;
        let generic = self.generic()?;
        let services = generic
            .dump(&ipvs::list_services(family), ipvs::read_service)
            .doing(|| "listing IPVS services")?;
        for service in services {
            let Item::Service { at, .. } = service else { continue };
            if !ours(&at) {
                continue;
            }
            let read =
                |body: &[u8]| Some((ipvs::read_real(body, &at)?, ipvs::read_connections(body)));
            let reals = generic
                .dump(&ipvs::list_reals(family, &at), read)
                .doing(|| format!("listing the real servers of {at}"))?;
            have.insert(service);
            for (real, connections) in reals {
                if let Item::Real { of, addr, port, .. } = real
                    && connections.unwrap_or(0) > 0
                    && !want.contains(&real)
                {
                    busy.insert((of, addr, port));
                }
                have.insert(real);
            }
        }
        Ok(busy)
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
fn settings(links: &[HostLink]) -> BTreeMap<Box<str>, Box<str>> {
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

/// In one order, whatever the kernel's was; rules keep theirs.
fn sorted(mut found: Vec<nft::Found>) -> Vec<nft::Found> {
    found.sort_by(|a, b| {
        let key = |f: &nft::Found| match f {
            nft::Found::Chain(name, ..) => (name.clone(), false),
            nft::Found::Rule(name, _) => (name.clone(), true),
        };
        key(a).cmp(&key(b))
    });
    found
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
