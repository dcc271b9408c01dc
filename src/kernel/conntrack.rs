//! Flows of Services, as conntrack messages.
//!
//! This module translates between [`Flow`] and the structs of [`netlink`](crate::netlink::conntrack);
//! `Kernel::remove_flows` does the I/O.

use crate::{
    family::Family,
    model::items::{Flow, Protocol},
    netlink::{
        conntrack::{self, FlowTuple},
        message::Request,
    },
    sys::errno,
};

/// Requests the UDP flows of one family, to be parsed with [`read_flow`]. Kernels before 5.8 return the
/// flows of other protocols too.
pub fn list_flows(family: Family) -> Request {
    conntrack::list_flows(family, Protocol::Udp.number())
}

/// Deletes a flow, but no later flow with the same addresses. Succeeds if the flow is already gone.
pub fn remove(flow: &Flow) -> Request {
    let orig = FlowTuple {
        protocol: flow.protocol.number(),
        src: flow.orig_src,
        sport: flow.orig_sport,
        dst: flow.orig_dst,
        dport: flow.orig_dport,
    };
    conntrack::delete_flow(&orig, flow.id, flow.zone).ignore_errors(&[errno::ENOENT])
}

/// Parses a flow from a message's body. Returns `None` if an attribute is missing or cut, or if the
/// protocol is not TCP, UDP or SCTP.
pub fn read_flow(body: &[u8]) -> Option<Flow> {
    let entry = conntrack::read_flow(body)?;
    Some(Flow {
        protocol: Protocol::from_number(entry.orig.protocol)?,
        orig_src: entry.orig.src,
        orig_sport: entry.orig.sport,
        orig_dst: entry.orig.dst,
        orig_dport: entry.orig.dport,
        reply_src: entry.reply.src,
        reply_sport: entry.reply.sport,
        id: entry.id,
        zone: entry.zone,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::message::frames;

    fn read(request: &Request) -> Option<Flow> {
        let mut message = Vec::new();
        request.write(1, 0, &mut message);
        read_flow(frames(&message).next().unwrap().unwrap().body())
    }

    #[test]
    fn a_flow_has_the_original_direction_and_the_source_of_the_reply() {
        let flow = Flow {
            protocol: Protocol::Udp,
            orig_src: [10, 244, 1, 7].into(),
            orig_sport: 40_000,
            orig_dst: [10, 96, 0, 10].into(),
            orig_dport: 53,
            reply_src: [10, 244, 1, 2].into(),
            reply_sport: 5353,
            id: 0x71ce_2200,
            zone: 7,
        };
        // CTA_TUPLE_REPLY
        let reply = |request: Request, protocol: u8| {
            request.nest(2, |tuple| {
                tuple.nest(1, |ip| ip.addr(1u16, flow.reply_src).addr(2u16, flow.orig_src)).nest(
                    2,
                    |proto| {
                        proto
                            .attr(1u16, &[protocol])
                            .attr(2u16, &flow.reply_sport.to_be_bytes())
                            .attr(3u16, &flow.orig_sport.to_be_bytes())
                    },
                )
            })
        };
        assert_eq!(read(&reply(remove(&flow), 17)), Some(flow));
        assert!(remove(&flow).ignores(errno::ENOENT));
        let tuple = FlowTuple {
            protocol: 33, // DCCP
            src: flow.orig_src,
            sport: flow.orig_sport,
            dst: flow.orig_dst,
            dport: flow.orig_dport,
        };
        let dccp = reply(conntrack::delete_flow(&tuple, flow.id, flow.zone), 33);
        assert_eq!(read(&dccp), None, "a protocol that Services do not have");
    }
}
