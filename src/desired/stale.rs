//! Which conntrack flows of UDP Services must go after a change.
//!
//! A client that goes on sending from one port keeps its flow for ever, and with it the translation
//! that its first packet got: to an endpoint that serves no more, or to none because the Service was
//! not there yet. The rules are those of kube-proxy's CleanStaleEntries, by address and port. Here an
//! endpoint serves when IPVS sends to it: it forgets the connections of a real server that is gone
//! (expire_nodest_conn), so the flow must follow.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use crate::state::{Flow, Item, Protocol, State, Virtual};

/// UDP virtual services, each with the address and port of its real servers that get connections.
pub type Serving = BTreeMap<Virtual, BTreeSet<(IpAddr, u16)>>;

/// The UDP virtual services of a state.
pub fn serving(state: &State) -> Serving {
    let mut serving = Serving::new();
    for item in state {
        match *item {
            Item::Real { of, addr, port, weight, .. }
                if of.protocol == Protocol::Udp && weight > 0 =>
            {
                serving.entry(of).or_default().insert((addr, port));
            }
            Item::Service { at, .. } if at.protocol == Protocol::Udp => {
                serving.entry(at).or_default();
            }
            _ => {}
        }
    }
    serving
}

/// Whether a flow leads to where its Service does not lead any more.
///
/// One that was never translated answers from the virtual address itself, which is no real server.
/// Where nobody serves it stays: its packets are rejected before they could follow it.
pub fn is_stale(flow: &Flow, services: &Serving) -> bool {
    let at = Virtual { addr: flow.orig_dst, protocol: flow.protocol, port: flow.orig_dport };
    let answers = (flow.reply_src, flow.reply_sport);
    let leads_astray = |reals: &BTreeSet<_>| !reals.is_empty() && !reals.contains(&answers);
    flow.protocol == Protocol::Udp && services.get(&at).is_some_and(leads_astray)
}
