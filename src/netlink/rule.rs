//! Messages about rules of the routing policy database (`ip rule`; linux/fib_rules.h).

use ipnet::IpNet;
use neli::consts::nl::NlmF;

use super::message::{Attrs, Request};
use crate::{family::Family, sys};

const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const RTM_GETRULE: u16 = 34;

// FRA_*
const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
/// FR_ACT_TO_TBL: look the packet up in a routing table.
const FR_ACT_TO_TBL: u8 = 1;

/// struct fib_rule_hdr { u8 family, dst_len, src_len, tos, table, res1, res2, action; u32 flags; }
const HEADER: usize = 12;

/// A rule that looks packets up in a routing table. A packet must match every condition of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FibRule {
    /// The address family of the packets.
    pub family: Family,
    /// The position of the rule, lower first.
    pub priority: u32,
    /// The number of the routing table.
    pub table: u32,
    /// The mark of the packets and the mask of its bits that count; `None` matches any mark.
    pub fwmark: Option<(u32, u32)>,
    /// The source network; `None` matches any source.
    pub from: Option<IpNet>,
    /// The destination network; `None` matches any destination.
    pub to: Option<IpNet>,
}

/// Requests the rules of one family, to be parsed with [`read_rule`].
pub fn list_rules(family: Family) -> Request {
    let mut header = [0; HEADER];
    header[0] = sys::address_family(family);
    Request::new(RTM_GETRULE, NlmF::empty(), &header)
}

/// Adds a rule. The kernel answers EEXIST if an equal one exists.
pub fn add_rule(rule: &FibRule) -> Request {
    request(RTM_NEWRULE, NlmF::CREATE | NlmF::EXCL, rule)
}

/// Removes the first rule with these properties. A condition that is `None` is not compared. The kernel
/// answers ENOENT if there is no such rule.
pub fn delete_rule(rule: &FibRule) -> Request {
    request(RTM_DELRULE, NlmF::empty(), rule)
}

fn request(message: u16, flags: NlmF, rule: &FibRule) -> Request {
    let prefix_len = |net: &Option<IpNet>| net.map_or(0, |net| net.prefix_len());
    let mut header = [0; HEADER];
    header[0] = sys::address_family(rule.family);
    header[1] = prefix_len(&rule.to);
    header[2] = prefix_len(&rule.from);
    header[7] = FR_ACT_TO_TBL;
    let mut request = Request::new(message, flags, &header)
        .u32(FRA_TABLE, rule.table)
        .u32(FRA_PRIORITY, rule.priority);
    if let Some((mark, mask)) = rule.fwmark {
        request = request.u32(FRA_FWMARK, mark).u32(FRA_FWMASK, mask);
    }
    for (kind, net) in [(FRA_SRC, rule.from), (FRA_DST, rule.to)] {
        if let Some(net) = net {
            request = request.addr(kind, net.addr());
        }
    }
    request
}

/// Parses a rule from a message's body. Returns `None` if it has another action than a table, or is
/// invalid. The kernel omits a priority of 0 and a mark of 0.
pub fn read_rule(body: &[u8]) -> Option<FibRule> {
    let attrs = Attrs::after(body, HEADER);
    let header = body.first_chunk::<HEADER>()?;
    let family = sys::from_address_family(header[0]).filter(|_| header[7] == FR_ACT_TO_TBL)?;
    let net = |kind: u16, len| match attrs.addr(kind) {
        Some(addr) => IpNet::new(addr, len).map(Some),
        None => Ok(None),
    };
    let mark = |mask| (attrs.u32(FRA_FWMARK).unwrap_or(0), mask);
    Some(FibRule {
        family,
        priority: attrs.u32(FRA_PRIORITY).unwrap_or(0),
        table: attrs.u32(FRA_TABLE).unwrap_or(header[4].into()),
        fwmark: attrs.u32(FRA_FWMASK).map(mark),
        from: net(FRA_SRC, header[2]).ok()?,
        to: net(FRA_DST, header[1]).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::message::{body_of, from_hex, parts_of};

    /// Recorded from Linux 6.18; the last one is the kernel's rule for the table `local`.
    fn recorded() -> [(&'static str, FibRule); 4] {
        let any = FibRule {
            family: Family::Ipv4,
            priority: 0,
            table: 255,
            fwmark: None,
            from: None,
            to: None,
        };
        [
            (
                "02101000 fc000001 00000000 08000f00e8030000 08000e00ffffffff 0500150000000000
                 0800060064000000 08000a0001001a4b 080010000000ffff 080001000a020000
                 080002000a010000",
                FibRule {
                    priority: 100,
                    table: 1000,
                    fwmark: Some((0x4b1a_0001, 0xffff_0000)),
                    from: Some("10.1.0.0/16".parse().unwrap()),
                    to: Some("10.2.0.0/16".parse().unwrap()),
                    ..any
                },
            ),
            (
                "0a000000 4d000001 00000000 08000f004d000000 08000e00ffffffff 0500150000000000
                 0800060063000000 08000a0007000000 08001000ffffffff",
                FibRule {
                    family: Family::Ipv6,
                    priority: 99,
                    table: 77,
                    fwmark: Some((7, u32::MAX)),
                    ..any
                },
            ),
            (
                "02000000 05000001 00000000 08000f0005000000 08000e00ffffffff 0500150000000000
                 0800060077000000 0800100001000000",
                FibRule { priority: 0x77, table: 5, fwmark: Some((0, 1)), ..any },
            ),
            ("02000000 ff000001 00000000 08000f00ff000000 08000e00ffffffff 0500150002000000", any),
        ]
    }

    #[test]
    fn a_recorded_rule_is_parsed_and_parses_again_after_it_was_built() {
        for (body, rule) in recorded() {
            assert_eq!(read_rule(&from_hex(body)), Some(rule));
            assert_eq!(read_rule(&body_of(&add_rule(&rule))), Some(rule));
        }
    }

    #[test]
    fn a_rule_with_another_action_is_ignored() {
        let prohibit =
            "02001000 00000008 00000000 08000f0000000000 0800060037000000 080002000a090000";
        assert_eq!(read_rule(&from_hex(prohibit)), None);
    }

    #[test]
    fn a_request_has_the_conditions_of_its_rule() {
        let (_, rule) = &recorded()[0];
        let body = from_hex(
            "02101000 00000001 00000000 08000f00e8030000 0800060064000000 08000a0001001a4b
             080010000000ffff 080002000a010000 080001000a020000",
        );
        assert_eq!(parts_of(&add_rule(rule)), (32, 0x600, body.clone()));
        assert_eq!(parts_of(&delete_rule(rule)), (33, 0, body));
        let body = from_hex("0a000000 00000000 00000000");
        assert_eq!(parts_of(&list_rules(Family::Ipv6)), (34, 0, body));
    }
}
