//! What the kernel holds of ours: the rules of whose is what, and nothing else.

use std::{io, net::IpAddr};

use neli::consts::socket::NlFamily;

use super::{Kernel, TUNNEL, files, ipvs, is_absent, is_link_local, netlink, nft, route};
use crate::{
    error::{Doing, Result},
    few::Sorted,
    local::{Module, Options},
    ruleset::{NFT_TABLE, Set, Skeleton},
    state::{
        At, BRIDGE, DUMMY, Have, Item, RealKey, Seen, State, TABLE_LOCAL, TABLE_MAIN, Value,
        Virtual, host_net, is_our_mark,
    },
};

/// How much of the kernel is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// All that is ours.
    All,
    /// Links, addresses, routes, and the settings that some of them carry.
    Network,
    /// Our nftables table, and our rules in the chains of others.
    Table,
    /// All but the real servers: what does not grow with the number of endpoints.
    Frame,
}

impl Scope {
    /// Whether an item is looked at.
    pub fn holds(self, item: &Item) -> bool {
        match item {
            Item::Link { .. }
            | Item::Hairpin { .. }
            | Item::Sysctl { .. }
            | Item::Addr { .. }
            | Item::Route { .. } => self != Scope::Table,
            Item::Table { .. } | Item::Element { .. } | Item::Accept { .. } => {
                self != Scope::Network
            }
            Item::Real { .. } => self == Scope::All,
            _ => matches!(self, Scope::All | Scope::Frame),
        }
    }
}

impl Kernel {
    /// What the kernel holds of ours, of the parts that are wanted, as seen from what is; and which of
    /// the real servers that are not wanted as they are have connections. Of `want`, which has nothing
    /// beyond the scope, sysctls and files are looked at by name, and an IPVS service that is there
    /// already counts as ours.
    pub fn observe(
        &mut self,
        options: &Options,
        want: &State,
        scope: Scope,
    ) -> Result<(Have, Sorted<RealKey>)> {
        let network = scope != Scope::Table;
        let mut busy = Sorted::new();
        let mut seen = Seen::new(want);
        for item in want {
            match item {
                Item::Sysctl { name, .. } => {
                    let value = files::sysctl(&name.0).map(Into::into);
                    seen.extend(value.map(|value| Item::Sysctl { name: name.clone(), value }));
                }
                Item::File { path, .. } => {
                    let text = std::fs::read_to_string(&**path).ok();
                    seen.extend(text.map(|t| Item::File { path: path.clone(), text: t.into() }));
                }
                Item::Module { name } if self.module_status(name) == Some(Module::Present) => {
                    seen.push(item.clone());
                }
                _ => {}
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
        let record = match options.table() && scope != Scope::Network {
            true => self.observe_table(&mut seen)?,
            false => Sorted::new(),
        };
        if options.services && network {
            let vips = self.observe_vips(&mut seen)?;
            if scope == Scope::Network {
                return Ok((seen.into(), busy));
            }
            let wanted: Sorted<At> = want
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
            busy = self.observe_services(&mut seen, scope, ours)?;
        }
        Ok((seen.into(), busy))
    }

    /// All that is ours and may be taken away: the links that are down too, and kube-bridge only where
    /// nothing is connected to it.
    pub fn ours(&mut self, options: &Options) -> Result<State> {
        let nothing = State::new();
        let mut have = self.observe(options, &nothing, Scope::All)?.0.others;
        let table = have.iter().any(|item| matches!(item, Item::Table { .. }));
        have.retain(|item| !matches!(item, Item::Link { .. } | Item::Table { .. }));
        if table {
            let skeleton = Some(Skeleton::default()); // whatever rules it has
            have.insert(Item::Table { name: NFT_TABLE.into(), skeleton });
        }
        let links = self.links()?;
        let is_ours = |l: &&route::Link| match &*l.name {
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

    fn observe_routes(&mut self, seen: &mut Seen<'_>) -> Result<()> {
        let tunnels: Sorted<u32> = self
            .links
            .iter()
            .filter(|(name, _)| name.starts_with(TUNNEL))
            .map(|(_, index)| *index)
            .collect();
        for ipv4 in [true, false] {
            let item = |found: route::Route| {
                let tunnel = found.oif.is_some_and(|oif| tunnels.contains(&oif));
                let is_ours = found.is_ours() && !tunnel;
                let route::Route { to, via, src, .. } = found;
                is_ours.then_some(Item::Route { table: TABLE_MAIN, to, via, src })
            };
            seen.extend(self.routes(&route::list_routes(ipv4, TABLE_MAIN), "routes", item)?);
        }
        Ok(())
    }

    /// The addresses on the dummy link, and the local routes that lead to it.
    fn observe_vips(&mut self, seen: &mut Seen<'_>) -> Result<Sorted<IpAddr>> {
        let Some(&index) = self.links.get(DUMMY) else { return Ok(Sorted::new()) };
        let vips: Sorted<IpAddr> = self
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
        for ipv4 in [true, false] {
            let local = route::list_local_routes(ipv4, index);
            let found = self.routes(&local, "local routes", Some)?;
            let (own, ours): (Vec<_>, Vec<_>) = found
                .into_iter()
                .filter(|r| r.table == TABLE_LOCAL && r.oif == Some(index))
                .filter(|r| r.to == host_net(r.to.addr()) && !is_link_local(r.to.addr()))
                .partition(route::Route::is_kernels_own);
            let own: Sorted<_> = own.into_iter().map(|r| r.to).collect();
            for route in ours {
                // Ours is not in force where the IPv6 kernel's own stands before it, nor will it be
                // once the address comes back that it lost.
                let in_force =
                    vips.contains(&route.to.addr()) && (ipv4 || !own.contains(&route.to));
                seen.push(Item::Route {
                    table: TABLE_LOCAL,
                    to: route.to,
                    via: None,
                    src: route.src.filter(|_| in_force),
                });
            }
        }
        Ok(vips)
    }

    /// Our nftables table with the elements of its sets; the record of the IPVS services that we made
    /// is one of them. A table whose sets are of another version counts as empty: it is made anew.
    fn observe_table(&mut self, seen: &mut Seen<'_>) -> Result<Sorted<Virtual>> {
        let mut record = Sorted::new();
        self.chains = None;
        if self.modules.status("nf_tables") == Some(Module::Loadable) {
            return Ok(record); // asking would load it
        }
        let netfilter = match netlink::opened(&mut self.netfilter, NlFamily::Netfilter) {
            Err(e) if is_absent(&e) => return Ok(record),
            conn => conn.doing(|| "opening a netfilter socket")?,
        };
        let read = |body: &[u8]| Some((nft::read_chain(body), nft::accept::read_chain(body)));
        let (ours, others): (Vec<_>, Vec<_>) = match netfilter.dump(&nft::list_chains(), read) {
            Err(e) if is_absent(&e) => return Ok(record),
            chains => chains.doing(|| "listing the chains of nftables")?.into_iter().unzip(),
        };
        for (chain, _) in others.into_iter().flatten() {
            if !self.accepts(&chain)?.is_empty() {
                seen.push(Item::Accept { chain });
            }
        }
        let netfilter = netlink::opened(&mut self.netfilter, NlFamily::Netfilter)
            .doing(|| "opening a netfilter socket")?;
        let sets = match netfilter.dump(&nft::list_sets(), nft::read_set) {
            Err(e) if is_absent(&e) => return Ok(record),
            sets => sets.doing(|| "listing the sets of the table inet kinglet")?,
        };
        if sets.is_empty() {
            return Ok(record);
        }
        let mut found: Vec<nft::Found> = ours.into_iter().flatten().collect();
        let names = found.iter().filter_map(|f| match f {
            nft::Found::Chain(name, ..) => Some(name.clone()),
            nft::Found::Rule(..) => None,
        });
        let names = names.collect();
        let rules = netfilter.dump(&nft::list_rules(), nft::read_rule);
        found.extend(rules.doing(|| "listing the rules of the table inet kinglet")?);
        let fits = sets.iter().all(|(_, fits)| *fits) && sets.len() == Set::each().count();
        self.chains = fits.then_some(names);
        let wanted = seen.want.iter().find_map(|item| match item {
            Item::Table { skeleton, .. } => *skeleton,
            _ => None,
        });
        let skeleton = wanted.filter(|s| fits && sorted(nft::expected(*s)) == sorted(found));
        seen.push(Item::Table { name: NFT_TABLE.into(), skeleton });
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
            seen.extend(values.into_iter().map(|value| Item::Element { set, value }));
        }
        Ok(record)
    }

    /// The IPVS services that are ours, with their real servers; given are those of the unwanted ones
    /// that have connections.
    fn observe_services(
        &mut self,
        seen: &mut Seen<'_>,
        scope: Scope,
        ours: impl Fn(&At) -> bool,
    ) -> Result<Sorted<RealKey>> {
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
            if scope == Scope::Frame {
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

    /// What IPVS holds of the wanted services and their real servers.
    pub fn served(&mut self, want: &State) -> Result<State> {
        let mut have = Vec::new();
        for item in want {
            let Item::Service { at, .. } = item else { continue };
            let request = ipvs::get_service(self.ipvs_family()?, at);
            match self.generic()?.ask(&request, ipvs::read_service) {
                Err(e) if is_gone(&e) => continue,
                found => match found.doing(|| format!("looking at the IPVS service {at}"))? {
                    Some(service) => have.push(service),
                    None => continue,
                },
            };
            have.extend(self.reals(at)?.into_iter().map(|(real, _)| real));
        }
        Ok(have.into())
    }

    /// The real servers of some IPVS services that have connections.
    pub fn connected(&mut self, services: &Sorted<At>) -> Result<Sorted<RealKey>> {
        let mut busy = Vec::new();
        for at in services {
            busy.extend(self.reals(at)?.into_iter().filter_map(|(real, connections)| match real {
                Item::Real { of, addr, port, .. } if connections > 0 => Some((of, addr, port)),
                _ => None,
            }));
        }
        Ok(busy.into())
    }

    /// The real servers of an IPVS service, with their connections; none where it is gone.
    fn reals(&mut self, at: &At) -> Result<Vec<(Item, u32)>> {
        let request = ipvs::list_reals(self.ipvs_family()?, at);
        match self.generic()?.dump(&request, |body| read_real(body, at)) {
            Err(e) if is_gone(&e) => Ok(Vec::new()),
            reals => reals.doing(|| format!("listing the real servers of {at}")),
        }
    }
}

/// What IPVS says of a service that it does not have.
fn is_gone(e: &io::Error) -> bool {
    is_absent(e) || e.raw_os_error() == Some(libc::ESRCH)
}

/// What a real server has of connections, and its item.
fn read_real(body: &[u8], of: &At) -> Option<(Item, u32)> {
    Some((ipvs::read_real(body, of)?, ipvs::read_connections(body).unwrap_or(0)))
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
