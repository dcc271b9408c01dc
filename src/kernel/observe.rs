//! Observes our objects in the kernel and on disk.
//!
//! The rules that decide whether an object is ours are all here; `plan` later compares the result with
//! the desired state. [`Kernel::observe`] reads named items (sysctls, files, modules), then links,
//! routes (`observe_routes`), the nftables table (`observe_table`), virtual addresses (`observe_vips`)
//! and IPVS (`observe_services`). IPVS objects carry no owner. A service is therefore ours if its
//! address is on our dummy link, if the set `services` in our table records it, if it is wanted, or if
//! its mark is ours.

use std::{io, net::IpAddr};

use neli::consts::socket::NlFamily;

use super::{
    Kernel, files,
    handle::{TUNNEL_PREFIX, is_absent},
    ipvs, nft, route,
};
use crate::{
    collections::{FlatMap, FlatSet},
    error::{Doing, Result},
    family::{Family, is_link_local},
    model::{
        items::{
            BRIDGE, DUMMY, Item, ItemSet, NextHops, Observed, ObservedPart, Observer, RealKey,
            ServiceAddr, ServiceKey, SetElement, TABLE_LOCAL, TABLE_MAIN, host_net, is_our_mark,
        },
        local::{Module, Options},
        nftables::{NFT_TABLE, RulesetOptions, Set, SetSpec, is_runtime},
    },
    netlink::socket,
    sys,
};

/// The part of our objects that is observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// All our objects.
    All,
    /// Links, addresses, routes and sysctls.
    Network,
    /// Our nftables table and our rules in the chains of other programs.
    Table,
    /// All objects except real servers. The cost of this scope does not depend on the number of
    /// endpoints.
    WithoutRealServers,
}

impl Scope {
    /// Returns true if an item is part of this scope.
    pub fn holds(self, item: &Item) -> bool {
        match item.info().part {
            ObservedPart::Network => self != Scope::Table,
            ObservedPart::Nftables => self != Scope::Network,
            ObservedPart::RealServers => self == Scope::All,
            ObservedPart::Other => matches!(self, Scope::All | Scope::WithoutRealServers),
        }
    }
}

impl Kernel {
    /// Observes our objects within a scope, for the features that `options` enable, in comparison with
    /// `want`. Also returns those real servers that have connections and are not in `want`, or are
    /// there with other properties.
    ///
    /// `want` must contain no item outside the scope. Sysctls, files and modules are read only if they
    /// are in `want`. An existing IPVS service that is in `want` counts as ours. Fails if the kernel
    /// returns an error for a part that it supports.
    pub fn observe(
        &mut self,
        options: &Options,
        want: &ItemSet,
        scope: Scope,
    ) -> Result<(Observed, FlatSet<RealKey>)> {
        let network = scope != Scope::Table;
        let mut busy = FlatSet::new();
        let mut seen = Observer::new(want);
        for item in want {
            if let Item::Sysctl { name, .. } = item {
                let value = files::sysctl(&name.0).map(Into::into);
                seen.extend(value.map(|value| Item::Sysctl { name: name.clone(), value }));
            } else if let Item::File { path, .. } = item {
                let text = std::fs::read_to_string(&**path).ok();
                seen.extend(text.map(|t| Item::File { path: path.clone(), text: t.into() }));
            } else if let Item::Module { name } = item
                && self.module_status(name) == Some(Module::Present)
            {
                seen.push(item.clone());
            }
        }
        let links = if network { self.links()? } else { Vec::new() };
        for link in links.into_iter().filter(|l| l.up) {
            if link.hairpin && link.master == self.links.get(BRIDGE).copied() {
                seen.push(Item::Hairpin { port: link.name.as_str().into() });
            }
            let ours =
                options.router && link.name == BRIDGE || options.services && link.name == DUMMY;
            if ours {
                seen.push(Item::Link {
                    name: link.name.into(),
                    kind: link.kind.as_str().into(),
                    mtu: Some(link.mtu),
                });
            }
        }
        if options.router && network {
            self.observe_routes(&mut seen)?;
        }
        let recorded = match options.table() && scope != Scope::Network {
            true => self.observe_table(&mut seen)?,
            false => FlatSet::new(),
        };
        if options.services && network {
            let vips = self.observe_vips(&mut seen)?;
            if scope == Scope::Network {
                return Ok((seen.into(), busy));
            }
            let wanted: FlatSet<ServiceKey> = want
                .iter()
                .filter_map(|i| if let Item::Service { at, .. } = i { Some(*at) } else { None })
                .collect();
            let ours = |at: &ServiceKey| match at {
                ServiceKey::Address(v) => {
                    !options.is_excluded(v.addr)
                        && (vips.contains(&v.addr) || recorded.contains(v) || wanted.contains(at))
                }
                ServiceKey::FwMark { mark, .. } => is_our_mark(*mark),
            };
            busy = self.observe_services(&mut seen, scope, ours)?;
        }
        Ok((seen.into(), busy))
    }

    /// Returns all our objects that a cleanup may remove. This includes our links that are down, but
    /// kube-bridge only if no port is connected to it. Fails if an observation fails.
    pub fn ours(&mut self, options: &Options) -> Result<ItemSet> {
        let nothing = ItemSet::new();
        let mut have = self.observe(options, &nothing, Scope::All)?.0.others;
        let table = have.iter().any(|item| matches!(item, Item::Table { .. }));
        have.retain(|item| !matches!(item, Item::Link { .. } | Item::Table { .. }));
        if table {
            let skeleton = Some(RulesetOptions::default()); // its rules do not matter here
            have.insert(Item::Table { name: NFT_TABLE.into(), skeleton });
        }
        let links = self.links()?;
        let is_ours = |l: &&route::LinkInfo| match &*l.name {
            DUMMY => l.kind == "dummy",
            BRIDGE => l.kind == "bridge" && links.iter().all(|p| p.master != Some(l.index)),
            _ => false,
        };
        have.extend(links.iter().filter(is_ours).map(|l| Item::Link {
            name: l.name.as_str().into(),
            kind: l.kind.as_str().into(),
            mtu: Some(l.mtu),
        }));
        Ok(have)
    }

    /// Adds our routes in the main table, except kube-router's routes through its tunnels.
    fn observe_routes(&mut self, seen: &mut Observer<'_>) -> Result<()> {
        let names: FlatMap<u32, Box<str>> =
            self.links.iter().map(|(name, index)| (*index, name.clone())).collect();
        for family in Family::ALL {
            let item = |found: route::RouteInfo| {
                let dev = found.oif.and_then(|oif| names.get(&oif));
                let tunnel = dev.is_some_and(|dev| dev.starts_with(TUNNEL_PREFIX));
                let is_ours = found.is_ours() && !tunnel;
                let route::RouteInfo { to, via, src, onlink, .. } = found;
                let via = match (via, dev) {
                    (None, Some(dev)) => Some(NextHops::device(dev, None)),
                    (Some(NextHops::One(via)), Some(dev)) if onlink => {
                        Some(NextHops::device(dev, Some(via)))
                    }
                    (via, _) => via, // the kernel found the device from the gateway
                };
                is_ours.then_some(Item::Route { table: TABLE_MAIN, to, via, src })
            };
            seen.extend(self.routes(&route::list_routes(family, TABLE_MAIN), "routes", item)?);
        }
        Ok(())
    }

    /// Adds the addresses on the dummy link and the local routes to it. Returns these addresses.
    fn observe_vips(&mut self, seen: &mut Observer<'_>) -> Result<FlatSet<IpAddr>> {
        let Some(&index) = self.links.get(DUMMY) else { return Ok(FlatSet::new()) };
        let vips: FlatSet<IpAddr> = self
            .route
            .dump(&route::list_addresses(), route::read_address)
            .doing(|| "listing addresses")?
            .into_iter()
            .filter(|a| a.index == index && !is_link_local(a.addr.addr()))
            .map(|a| {
                seen.push(Item::Addr { link: DUMMY.into(), addr: a.addr });
                a.addr.addr()
            })
            .collect();
        for family in Family::ALL {
            let local = route::list_local_routes(family, index);
            let found = self.routes(&local, "local routes", Some)?;
            let (kernels, ours): (Vec<_>, Vec<_>) = found
                .into_iter()
                .filter(|r| r.table == TABLE_LOCAL && r.oif == Some(index))
                .filter(|r| r.to == host_net(r.to.addr()) && !is_link_local(r.to.addr()))
                .partition(route::RouteInfo::is_kernel_route);
            let kernels: FlatSet<_> = kernels.into_iter().map(|r| r.to).collect();
            for route in ours {
                // Our IPv6 route is not in effect if the kernel's own route has precedence, or if its
                // address is missing: when the address returns, the kernel adds its own route again.
                // Without its source the route differs from the desired one, and is set again.
                let in_effect = vips.contains(&route.to.addr())
                    && (family.is_ipv4() || !kernels.contains(&route.to));
                seen.push(Item::Route {
                    table: TABLE_LOCAL,
                    to: route.to,
                    via: None,
                    src: route.src.filter(|_| in_effect),
                });
            }
        }
        Ok(vips)
    }

    /// Adds our nftables table, the elements of its sets, and our rules in the chains of other
    /// programs. Returns the content of the set `services`: the IPVS services that kinglet added. If
    /// the sets come from another version of kinglet, the table counts as empty and will be created
    /// again.
    fn observe_table(&mut self, seen: &mut Observer<'_>) -> Result<FlatSet<ServiceAddr>> {
        let mut recorded = FlatSet::new();
        self.chains = None;
        if self.modules.status("nf_tables") == Some(Module::Loadable) {
            return Ok(recorded); // the request itself would load the module
        }
        let netfilter = match socket::get_or_open(&mut self.netfilter, NlFamily::Netfilter) {
            Err(e) if is_absent(&e) => return Ok(recorded),
            conn => conn.doing(|| "opening a netfilter socket")?,
        };
        let read = |body: &[u8]| Some((nft::read_chain(body), nft::accept::read_chain(body)));
        let (ours, others): (Vec<_>, Vec<_>) = match netfilter.dump(&nft::list_chains(), read) {
            Err(e) if is_absent(&e) => return Ok(recorded),
            chains => chains.doing(|| "listing the chains of nftables")?.into_iter().unzip(),
        };
        for (chain, _) in others.into_iter().flatten() {
            if !self.accept_handles(&chain)?.is_empty() {
                seen.push(Item::Accept { chain });
            }
        }
        let netfilter = socket::get_or_open(&mut self.netfilter, NlFamily::Netfilter)
            .doing(|| "opening a netfilter socket")?;
        let sets = match netfilter.dump(&nft::list_sets(), nft::read_set) {
            Err(e) if is_absent(&e) => return Ok(recorded),
            sets => sets.doing(|| "listing the sets of the table inet kinglet")?,
        };
        if sets.is_empty() {
            return Ok(recorded);
        }
        let mut found: Vec<nft::Found> = ours.into_iter().flatten().collect();
        let rules = netfilter.dump(&nft::list_rules(), nft::read_rule);
        found.extend(rules.doing(|| "listing the rules of the table inet kinglet")?);
        // Chains and sets that were made at run time stand beside the skeleton and are left alone.
        found.retain(|f| !is_runtime(f.chain()));
        let names = found.iter().filter_map(|f| match f {
            nft::Found::Chain(name, ..) => Some(name.clone()),
            nft::Found::Rule(..) => None,
        });
        let names = names.collect();
        let specs: Vec<SetSpec> = Set::each().map(|(set, family)| set.spec(family)).collect();
        let fixed: Vec<_> = sets.iter().filter(|found| !is_runtime(&found.name)).collect();
        // Names are unique, so if all are expected and none is missing, the numbers are equal.
        let fits = fixed.len() == specs.len()
            && fixed.iter().all(|found| specs.iter().any(|spec| found.is(spec)));
        self.chains = fits.then_some(names);
        let wanted = seen.want.iter().find_map(|item| {
            if let Item::Table { skeleton, .. } = item { *skeleton } else { None }
        });
        let skeleton = wanted.filter(|s| fits && sorted(nft::expected(*s)) == sorted(found));
        seen.push(Item::Table { name: NFT_TABLE.into(), skeleton });
        if !fits {
            return Ok(recorded);
        }
        for (set, family) in Set::each() {
            let name = set.name(family);
            let raw = netfilter
                .dump(&nft::list_elements(&name), nft::read_elements)
                .doing(|| format!("listing the set {name}"))?;
            let values = nft::values(set, family, &raw.into_iter().flatten().collect::<Vec<_>>());
            if set == Set::Services {
                recorded.extend(values.iter().filter_map(|v| {
                    if let SetElement::Service(at) = v { Some(*at) } else { None }
                }));
            }
            seen.extend(values.into_iter().map(|value| Item::Element { set, value }));
        }
        Ok(recorded)
    }

    /// Adds the IPVS services for which `ours` is true, with their real servers unless the scope
    /// excludes them. Returns the real servers that have connections and are not wanted as they are.
    fn observe_services(
        &mut self,
        seen: &mut Observer<'_>,
        scope: Scope,
        ours: impl Fn(&ServiceKey) -> bool,
    ) -> Result<FlatSet<RealKey>> {
        let mut busy = Vec::new();
        if self.modules.status("ip_vs") != Some(Module::Present) {
            return Ok(busy.into());
        }
        let family = self.ipvs_family()?;
        let generic = self.generic()?;
        if seen.want.iter().any(|item| matches!(item, Item::Timeout { .. })) {
            let read = |body: &[u8]| Some(ipvs::read_timeouts(body));
            let found = generic.ask(&ipvs::get_timeouts(family), read);
            seen.extend(found.doing(|| "reading the timeouts of IPVS")?.into_iter().flatten());
        }
        let services = generic
            .dump(&ipvs::list_services(family), ipvs::read_service)
            .doing(|| "listing IPVS services")?;
        for service in services {
            let Item::Service { at, .. } = service else { continue };
            if !ours(&at) {
                continue;
            }
            if scope == Scope::WithoutRealServers {
                seen.push(service);
                continue;
            }
            let reals = self.reals(&at)?;
            seen.push(service);
            for (real, connections) in reals {
                let Item::Real { of, addr, port, .. } = real else { continue };
                if !seen.push(real) && connections > 0 {
                    busy.push((of, addr, port));
                }
            }
        }
        Ok(busy.into())
    }

    /// Returns those wanted IPVS services that exist, with their real servers. Fails if IPVS returns an
    /// error other than "not found".
    pub fn served(&mut self, want: &ItemSet) -> Result<ItemSet> {
        let mut have = Vec::new();
        for item in want {
            let Item::Service { at, .. } = item else { continue };
            let request = ipvs::get_service(self.ipvs_family()?, at);
            match self.generic()?.ask(&request, ipvs::read_service) {
                Err(e) if is_gone(&e) => continue,
                found => match found.doing(|| format!("reading the IPVS service {at}"))? {
                    Some(service) => have.push(service),
                    None => continue,
                },
            };
            have.extend(self.reals(at)?.into_iter().map(|(real, _)| real));
        }
        Ok(have.into())
    }

    /// Returns those real servers of some IPVS services that have connections. Fails if IPVS can't be
    /// listed.
    pub fn connected(&mut self, services: &FlatSet<ServiceKey>) -> Result<FlatSet<RealKey>> {
        let mut busy = Vec::new();
        for at in services {
            busy.extend(self.reals(at)?.into_iter().filter_map(|(real, connections)| {
                let Item::Real { of, addr, port, .. } = real else { return None };
                (connections > 0).then_some((of, addr, port))
            }));
        }
        Ok(busy.into())
    }

    /// Returns the real servers of an IPVS service with their connection counts; empty if the service
    /// does not exist.
    fn reals(&mut self, at: &ServiceKey) -> Result<Vec<(Item, u32)>> {
        let request = ipvs::list_reals(self.ipvs_family()?, at);
        match self.generic()?.dump(&request, |body| read_real_with_connections(body, at)) {
            Err(e) if is_gone(&e) => Ok(Vec::new()),
            reals => reals.doing(|| format!("listing the real servers of {at}")),
        }
    }
}

/// Returns true if the error means that IPVS does not have the service, or that there is no IPVS.
fn is_gone(e: &io::Error) -> bool {
    is_absent(e) || e.raw_os_error() == Some(sys::errno::ESRCH)
}

/// Parses a real server with its connection count.
fn read_real_with_connections(body: &[u8], of: &ServiceKey) -> Option<(Item, u32)> {
    Some((ipvs::read_real(body, of)?, ipvs::read_connections(body).unwrap_or(0)))
}

/// Sorts chains and rules by chain name for comparison. The rules of a chain keep their order.
fn sorted(mut found: Vec<nft::Found>) -> Vec<nft::Found> {
    found.sort_by(|a, b| {
        let key = |f: &nft::Found| (f.chain().to_owned(), matches!(f, nft::Found::Rule(..)));
        key(a).cmp(&key(b))
    });
    found
}
