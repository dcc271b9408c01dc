//! The addresses of Services in the BGP configuration: `add_services` collects the prefixes that
//! this node originates, and all prefixes that it refuses to import.

use std::net::IpAddr;

use super::config::Inputs;
use crate::family::Family;
use crate::{
    collections::FlatSet,
    desired::health::ready_here,
    model::{
        bgp::{Import, LocalSpeaker, Originated},
        cluster::{Node, Service},
        items::host_net,
        local::Host,
    },
};

/// One of the three groups of addresses that a Service has, with the policy for it.
struct AddressGroup<'a> {
    addrs: &'a [IpAddr],
    /// True if these addresses are to be advertised.
    wanted: bool,
    /// True if the traffic policy is Local: only a node with a ready endpoint serves them.
    local: bool,
    /// True for ClusterIPs, which a range may stand for.
    cluster: bool,
    /// True for externalIPs, which `--service-external-ip-range` restricts.
    external: bool,
}

impl Inputs<'_> {
    /// Adds the addresses that are advertised to `origin`, and all addresses of Services to
    /// `import`, which refuses them.
    ///
    /// There may be many thousands of Services. They are visited only if Services are read at all;
    /// if the flags advertise none of their addresses, only those whose annotations do are visited.
    pub(super) fn add_services(
        &self,
        own: &LocalSpeaker,
        origin: &mut Originated,
        import: &mut Import,
    ) {
        let (options, bgp) = (&self.local.options, self.options);
        if !options.reads_services() {
            return;
        }
        let used = |net: &&ipnet::IpNet| own.families.contains(&Family::of(net));
        origin.services.extend(bgp.ranges.iter().filter(used).map(ipnet::IpNet::trunc));
        let all = bgp.announces_services();
        let mut some = self.cluster.services.values().filter(|s| all || !s.advertise.is_silent());
        let Some(first) = some.next() else { return };
        let mut taken: FlatSet<IpAddr> =
            self.cluster.nodes.values().flat_map(Node::addrs).collect();
        taken.extend(self.host().into_iter().flat_map(Host::on_link).map(|net| net.addr()));
        for service in std::iter::once(first).chain(some).filter(|s| !s.cluster_ips.is_empty()) {
            for group in self.address_groups(service) {
                for addr in group.addrs.iter().copied() {
                    let net = host_net(addr);
                    if !used(&&net)
                        || taken.contains(&addr)
                        || !self.is_allowed(addr, group.external)
                    {
                        continue;
                    }
                    import.own.insert(net);
                    let covered = group.cluster
                        && !group.local
                        && bgp.ranges.iter().any(|range| range.contains(&addr));
                    let here = || !group.local || self.has_ready_endpoint(service, addr.is_ipv4());
                    if group.wanted && !covered && here() {
                        origin.services.insert(net);
                    }
                }
            }
        }
    }

    fn address_groups<'s>(&self, service: &'s Service) -> [AddressGroup<'s>; 3] {
        let (annotated, flags) = (service.advertise, self.options.advertise);
        let by_range = !self.options.ranges.is_empty();
        [
            AddressGroup {
                addrs: &service.cluster_ips,
                wanted: annotated.cluster_ips.unwrap_or(flags.cluster_ips || by_range),
                local: service.internal_local,
                cluster: true,
                external: false,
            },
            AddressGroup {
                addrs: &service.external_ips,
                wanted: annotated.external_ips.unwrap_or(flags.external_ips),
                local: service.external_local,
                cluster: false,
                external: true,
            },
            AddressGroup {
                addrs: &service.balancer_ips,
                wanted: annotated.balancer_ips.unwrap_or(flags.balancer_ips),
                local: service.external_local,
                cluster: false,
                external: false,
            },
        ]
    }

    /// Returns true if a Service may have this address; the same rule as in `desired::services`.
    fn is_allowed(&self, addr: IpAddr, external: bool) -> bool {
        let options = &self.local.options;
        let is_unicast = !addr.is_unspecified() && !addr.is_loopback() && !addr.is_multicast();
        let in_range = !external
            || options.external.is_empty()
            || options.external.iter().any(|net| net.contains(&addr));
        is_unicast && in_range && !options.is_excluded(addr)
    }

    /// Returns true if this node has a ready endpoint of a family. Terminating endpoints do not
    /// count even if they still serve: traffic should move elsewhere before they are gone.
    fn has_ready_endpoint(&self, service: &Service, ipv4: bool) -> bool {
        let slices = self.cluster.slices.of(&service.name).filter(|slice| !slice.ports.is_empty());
        slices
            .flat_map(|slice| ready_here(slice, &self.node.name))
            .any(|addr| addr.is_ipv4() == ipv4)
    }
}
