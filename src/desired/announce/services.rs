//! Which addresses of Services begin at this node.

use std::net::IpAddr;

use super::View;
use crate::{
    bgp::{Family, Import, Origin, Own},
    cluster::{Node, Service},
    desired::health::ready_here,
    few::Sorted,
    local::Host,
    state::host_net,
};

/// One kind of a Service's addresses.
struct Kind<'a> {
    addrs: &'a [IpAddr],
    /// Whether they are to be announced.
    wanted: bool,
    /// Whether only a node with a ready endpoint serves them.
    local: bool,
    cluster: bool,
    external: bool,
}

impl View<'_> {
    /// Puts in the addresses that are announced, and all that are not to be let in. There may be many
    /// thousands of Services: they are only looked at where Services are read at all, and where flags
    /// ask for nothing, only at what their annotations say.
    pub(super) fn services(&self, own: &Own, origin: &mut Origin, import: &mut Import) {
        let (options, told) = (&self.local.options, self.told);
        if !options.reads_services() {
            return;
        }
        let used = |net: &&ipnet::IpNet| own.families.contains(&Family::of(net));
        origin.services.extend(told.ranges.iter().filter(used).map(ipnet::IpNet::trunc));
        let all = told.announces_services();
        let mut some = self.cluster.services.values().filter(|s| all || !s.advertise.is_silent());
        let Some(first) = some.next() else { return };
        let mut taken: Sorted<IpAddr> = self.cluster.nodes.values().flat_map(Node::addrs).collect();
        taken.extend(self.host().into_iter().flat_map(Host::on_link).map(|net| net.addr()));
        for service in std::iter::once(first).chain(some).filter(|s| !s.cluster_ips.is_empty()) {
            for kind in self.kinds(service) {
                for addr in kind.addrs.iter().copied() {
                    let net = host_net(addr);
                    if !used(&&net) || taken.contains(&addr) || !self.may_be(addr, kind.external) {
                        continue;
                    }
                    import.own.insert(net);
                    let covered = kind.cluster
                        && !kind.local
                        && told.ranges.iter().any(|range| range.contains(&addr));
                    let here = || !kind.local || self.is_ready(service, addr.is_ipv4());
                    if kind.wanted && !covered && here() {
                        origin.services.insert(net);
                    }
                }
            }
        }
    }

    fn kinds<'s>(&self, service: &'s Service) -> [Kind<'s>; 3] {
        let (said, flags) = (service.advertise, self.told.advertise);
        let by_range = !self.told.ranges.is_empty();
        [
            Kind {
                addrs: &service.cluster_ips,
                wanted: said.cluster_ips.unwrap_or(flags.cluster_ips || by_range),
                local: service.internal_local,
                cluster: true,
                external: false,
            },
            Kind {
                addrs: &service.external_ips,
                wanted: said.external_ips.unwrap_or(flags.external_ips),
                local: service.external_local,
                cluster: false,
                external: true,
            },
            Kind {
                addrs: &service.balancer_ips,
                wanted: said.balancer_ips.unwrap_or(flags.balancer_ips),
                local: service.external_local,
                cluster: false,
                external: false,
            },
        ]
    }

    /// As `desired::services` has it of what is served.
    fn may_be(&self, addr: IpAddr, external: bool) -> bool {
        let options = &self.local.options;
        let of_one = !addr.is_unspecified() && !addr.is_loopback() && !addr.is_multicast();
        let valid = !external
            || options.external.is_empty()
            || options.external.iter().any(|net| net.contains(&addr));
        of_one && valid && !options.excludes(addr)
    }

    /// Whether this node has a ready endpoint of a family. Those that terminate do not count, even
    /// where they still serve: traffic is to go elsewhere before they are gone.
    fn is_ready(&self, service: &Service, ipv4: bool) -> bool {
        let slices = self.cluster.slices.of(&service.name).filter(|slice| !slice.ports.is_empty());
        slices
            .flat_map(|slice| ready_here(slice, &self.node.name))
            .any(|addr| addr.is_ipv4() == ipv4)
    }
}
