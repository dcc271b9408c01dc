//! Finds the conntrack entries of UDP Services that are stale after a change ([`serving`],
//! [`is_stale`]); reading and deleting entries is left to `kernel`.
//!
//! A client that keeps sending from one port keeps its conntrack entry for ever, and with it the
//! translation of its first packet: to an endpoint that no longer serves, or to none, because the
//! Service did not exist yet. The rules are those of kube-proxy's CleanStaleEntries, by address and
//! port. Here an endpoint serves if IPVS sends to it: IPVS drops the connections of a real server
//! that is gone (expire_nodest_conn), so the conntrack entry must be deleted too.

use std::net::IpAddr;

use crate::{
    collections::{FlatMap, FlatSet},
    model::items::{Flow, Forward, Item, ItemSet, Protocol, ServiceAddr, ServiceKey},
};

/// The UDP virtual services, each with the addresses and ports from which its flows may be
/// answered: those of its real servers with a weight above 0.
pub type Serving = FlatMap<ServiceAddr, FlatSet<(IpAddr, u16)>>;

/// Returns the UDP virtual services of a state. A real server that is reached without translation
/// (a tunnel) answers from the virtual address, because `ip_vs_update_conntrack` does not change
/// those flows.
pub fn serving(state: &ItemSet) -> Serving {
    let mut serving = Serving::new();
    for item in state {
        if let Item::Service { at: ServiceKey::Address(at), .. } = *item
            && at.protocol == Protocol::Udp
        {
            serving.or_default(at);
        }
        if let Item::Real { of: ServiceKey::Address(of), addr, port, weight: 1.., forward } = *item
            && of.protocol == Protocol::Udp
        {
            let answers = if forward == Forward::Masq { (addr, port) } else { (of.addr, of.port) };
            serving.or_default(of).insert(answers);
        }
    }
    serving
}

/// Returns true if a flow leads to an address to which its Service no longer leads.
///
/// A flow that was never translated is answered by the virtual address itself, which is no real
/// server. If a Service has no real server, its flows stay: their packets are rejected before they
/// could follow the flow.
pub fn is_stale(flow: &Flow, services: &Serving) -> bool {
    let at = ServiceAddr { addr: flow.orig_dst, protocol: flow.protocol, port: flow.orig_dport };
    let answers = (flow.reply_src, flow.reply_sport);
    let misdirected = |reals: &FlatSet<_>| !reals.is_empty() && !reals.contains(&answers);
    flow.protocol == Protocol::Udp && services.get(&at).is_some_and(misdirected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Protocol::{Sctp, Tcp, Udp};

    const CLUSTER: &str = "172.30.1.1";
    const EXTERNAL: &str = "192.168.99.100";
    const BALANCER: &str = "1.2.3.4";
    const NODE: &str = "192.0.2.11";
    const EMPTY: &str = "172.30.1.2";
    const OWN: &str = "192.0.2.12";
    const CLUSTER6: &str = "fd30::1";
    const EMPTY6: &str = "fd30::2";

    fn virtual_service(addr: &str, protocol: Protocol, port: u16) -> ServiceAddr {
        ServiceAddr { addr: addr.parse().unwrap(), protocol, port }
    }

    /// Returns a Service at all kinds of address, for each protocol; one without endpoints; and one
    /// whose address and port are those of its own endpoint on this node.
    fn wanted() -> ItemSet {
        let mut state = ItemSet::new();
        let mut put = |addr, protocol, port, reals: &[(&str, u16, u32)]| {
            let at = virtual_service(addr, protocol, port);
            state.insert(Item::Service {
                at: at.into(),
                scheduler: "rr".into(),
                flags: 0,
                persistence: 0,
            });
            for &(addr, port, weight) in reals {
                let (addr, forward) = (addr.parse().unwrap(), Forward::Masq);
                state.insert(Item::Real { of: at.into(), addr, port, weight, forward });
            }
        };
        let reals = [("10.240.0.4", 9090, 1), (NODE, 9090, 1), ("10.240.1.5", 9090, 0)];
        for protocol in Protocol::ALL {
            for (vip, port) in [(CLUSTER, 8000), (EXTERNAL, 8000), (BALANCER, 8000), (NODE, 32000)]
            {
                put(vip, protocol, port, &reals);
            }
            put(CLUSTER6, protocol, 8000, &[("fd40::4", 9090, 1), ("fd40::5", 9090, 0)]);
        }
        put(EMPTY, Udp, 8000, &[]);
        put(EMPTY6, Udp, 8000, &[("fd40::5", 9090, 0)]);
        put(OWN, Udp, 53, &[(OWN, 53, 1)]);
        state
    }

    #[test]
    fn a_udp_flow_is_stale_if_its_answers_come_from_no_serving_real_server() {
        const STALE: bool = true;
        const STAYS: bool = false;
        #[rustfmt::skip]
        let cases = [
            // To the Service, answered by an endpoint.
            ("ClusterIP, serving",             Udp, (CLUSTER, 8000), ("10.240.0.4", 9090), STAYS),
            ("ExternalIP, serving",            Udp, (EXTERNAL, 8000), ("10.240.0.4", 9090), STAYS),
            ("load balancer, serving",         Udp, (BALANCER, 8000), ("10.240.0.4", 9090), STAYS),
            ("NodePort, serving",              Udp, (NODE, 32000), ("10.240.0.4", 9090), STAYS),
            ("ClusterIP, on this node",        Udp, (CLUSTER, 8000), (NODE, 9090), STAYS),
            ("NodePort, on this node",         Udp, (NODE, 32000), (NODE, 9090), STAYS),
            ("ClusterIP, no longer serving",   Udp, (CLUSTER, 8000), ("10.240.1.5", 9090), STALE),
            ("ExternalIP, no longer serving",  Udp, (EXTERNAL, 8000), ("10.240.1.5", 9090), STALE),
            ("balancer, no longer serving",    Udp, (BALANCER, 8000), ("10.240.1.5", 9090), STALE),
            ("NodePort, no longer serving",    Udp, (NODE, 32000), ("10.240.1.5", 9090), STALE),
            ("ClusterIP, deleted",             Udp, (CLUSTER, 8000), ("10.240.2.6", 9090), STALE),
            ("ExternalIP, deleted",            Udp, (EXTERNAL, 8000), ("10.240.2.6", 9090), STALE),
            ("load balancer, deleted",         Udp, (BALANCER, 8000), ("10.240.2.6", 9090), STALE),
            ("NodePort, deleted",              Udp, (NODE, 32000), ("10.240.2.6", 9090), STALE),
            // The endpoint kept its address and changed its port.
            ("ClusterIP, old port",            Udp, (CLUSTER, 8000), ("10.240.0.4", 8080), STALE),
            ("ExternalIP, old port",           Udp, (EXTERNAL, 8000), ("10.240.0.4", 8080), STALE),
            ("load balancer, old port",        Udp, (BALANCER, 8000), ("10.240.0.4", 8080), STALE),
            ("NodePort, old port",             Udp, (NODE, 32000), ("10.240.0.4", 8080), STALE),
            ("ClusterIP, old port, this node", Udp, (CLUSTER, 8000), (NODE, 8080), STALE),
            // Never translated.
            ("ClusterIP, not translated",      Udp, (CLUSTER, 8000), (CLUSTER, 8000), STALE),
            ("ExternalIP, not translated",     Udp, (EXTERNAL, 8000), (EXTERNAL, 8000), STALE),
            ("load balancer, not translated",  Udp, (BALANCER, 8000), (BALANCER, 8000), STALE),
            ("NodePort, not translated",       Udp, (NODE, 32000), (NODE, 32000), STALE),
            ("the real is the address itself", Udp, (OWN, 53), (OWN, 53), STAYS),
            ("the same, answered elsewhere",   Udp, (OWN, 53), ("10.240.2.6", 53), STALE),
            // To a port that is no Service: another program's.
            ("ClusterIP, no such port",        Udp, (CLUSTER, 3000), ("10.240.2.6", 9090), STAYS),
            ("ExternalIP, no such port",       Udp, (EXTERNAL, 3000), ("10.240.2.6", 9090), STAYS),
            ("load balancer, no such port",    Udp, (BALANCER, 3000), ("10.240.2.6", 9090), STAYS),
            ("no such port, not translated",   Udp, (CLUSTER, 3000), (CLUSTER, 3000), STAYS),
            ("the NodePort at a ClusterIP",    Udp, (CLUSTER, 32000), ("10.240.2.6", 9090), STAYS),
            ("to an endpoint, not by Service", Udp, ("10.240.2.6", 9090), ("10.240.2.6", 9090), STAYS),
            ("to this node's own port",        Udp, (NODE, 8000), (NODE, 8000), STAYS),
            // No real server.
            ("no endpoints, to an old one",    Udp, (EMPTY, 8000), ("10.240.2.6", 9090), STAYS),
            ("no endpoints, not translated",   Udp, (EMPTY, 8000), (EMPTY, 8000), STAYS),
            // TCP and SCTP notice a lost connection themselves.
            ("TCP, deleted",                   Tcp, (CLUSTER, 8000), ("10.240.2.6", 9090), STAYS),
            ("TCP, serving",                   Tcp, (CLUSTER, 8000), ("10.240.0.4", 9090), STAYS),
            ("TCP, NodePort, deleted",         Tcp, (NODE, 32000), ("10.240.2.6", 9090), STAYS),
            ("TCP, not translated",            Tcp, (CLUSTER, 8000), (CLUSTER, 8000), STAYS),
            ("SCTP, deleted",                  Sctp, (CLUSTER, 8000), ("10.240.2.6", 9090), STAYS),
            ("SCTP, NodePort, deleted",        Sctp, (NODE, 32000), ("10.240.2.6", 9090), STAYS),
            // IPv6.
            ("IPv6, serving",                  Udp, (CLUSTER6, 8000), ("fd40::4", 9090), STAYS),
            ("IPv6, no longer serving",        Udp, (CLUSTER6, 8000), ("fd40::5", 9090), STALE),
            ("IPv6, deleted",                  Udp, (CLUSTER6, 8000), ("fd40::6", 9090), STALE),
            ("IPv6, old port",                 Udp, (CLUSTER6, 8000), ("fd40::4", 8080), STALE),
            ("IPv6, not translated",           Udp, (CLUSTER6, 8000), (CLUSTER6, 8000), STALE),
            ("IPv6, no such port",             Udp, (CLUSTER6, 3000), ("fd40::6", 9090), STAYS),
            ("IPv6, all reals at weight 0",    Udp, (EMPTY6, 8000), ("fd40::5", 9090), STAYS),
            ("IPv6, TCP, deleted",             Tcp, (CLUSTER6, 8000), ("fd40::6", 9090), STAYS),
        ];
        let services = serving(&wanted());
        for (name, protocol, (dst, orig_dport), (reply, reply_sport), stale) in cases {
            let orig_dst: IpAddr = dst.parse().unwrap();
            let client = if orig_dst.is_ipv4() { "10.240.7.7" } else { "fd40::7" };
            let (orig_src, reply_src) = (client.parse().unwrap(), reply.parse().unwrap());
            let (orig_sport, id, zone) = (40_000, 1, 0);
            let flow = Flow {
                protocol,
                orig_src,
                orig_sport,
                orig_dst,
                orig_dport,
                reply_src,
                reply_sport,
                id,
                zone,
            };
            assert_eq!(is_stale(&flow, &services), stale, "{name}");
        }
    }

    #[test]
    fn serving_lists_udp_services_with_their_real_servers_of_nonzero_weight() {
        let services = serving(&wanted());
        assert!(services.keys().all(|at| at.protocol == Udp));
        assert_eq!(services.len(), 8);
        let reals = |addr, port| services.get(&virtual_service(addr, Udp, port)).unwrap().len();
        assert_eq!((reals(CLUSTER, 8000), reals(CLUSTER6, 8000)), (2, 1));
        assert_eq!((reals(EMPTY, 8000), reals(EMPTY6, 8000)), (0, 0));
    }

    #[test]
    fn a_tunnelled_real_server_answers_from_the_virtual_address() {
        let at = virtual_service(CLUSTER, Udp, 8000);
        let (addr, forward) = ("10.240.0.4".parse().unwrap(), Forward::Tunnel);
        let state =
            ItemSet::from([Item::Real { of: at.into(), addr, port: 8000, weight: 1, forward }]);
        assert_eq!(serving(&state).get(&at), Some(&FlatSet::from([(at.addr, 8000)])));
    }
}
