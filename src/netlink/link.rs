//! Link messages (linux/rtnetlink.h, if_link.h, if_tunnel.h, veth.h).
//!
//! [`LinkInfo`] is a link as the kernel lists it. [`LinkSettings`] are the properties that a request
//! sets, and [`LinkType`] is the type of a new link with its parameters.

use std::{
    net::Ipv4Addr,
    os::fd::{AsRawFd, BorrowedFd},
};

use neli::consts::nl::NlmF;

use super::message::{Attrs, NLA_F_NESTED, Request, u32_at};
use crate::sys;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;

// IFLA_* (linux/if_link.h)
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_PROTINFO: u16 = 12;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BRPORT_MODE: u16 = 4;
/// VETH_INFO_PEER (linux/veth.h).
const VETH_INFO_PEER: u16 = 1;
// IFLA_IPTUN_* (linux/if_tunnel.h)
const IFLA_IPTUN_LOCAL: u16 = 2;
const IFLA_IPTUN_REMOTE: u16 = 3;
const IFLA_IPTUN_TTL: u16 = 4;

/// IFF_UP (linux/if.h).
const IFF_UP: u32 = 1;
/// struct ifinfomsg { u8 family, pad; u16 type; i32 index; u32 flags, change; }
pub const IFINFO: usize = 16;

/// A link-layer address of Ethernet.
pub type MacAddr = [u8; 6];

/// A link as the kernel lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkInfo {
    /// Interface index.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// The type (`IFLA_INFO_KIND`); empty for a physical device.
    pub kind: String,
    /// The MTU in bytes.
    pub mtu: u32,
    /// True if IFF_UP is set.
    pub up: bool,
    /// The index of the bridge that this link is a port of; `None` if it is no port.
    pub master: Option<u32>,
    /// True if this link is a bridge port in hairpin mode: a packet may leave by the port it came from.
    pub hairpin: bool,
    /// The Ethernet address; `None` if the link has none.
    pub mac: Option<MacAddr>,
}

/// The properties of a link that a request sets. A field that is `None` keeps the kernel's value.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkSettings<'a> {
    /// Interface name, at most 15 bytes.
    pub name: Option<&'a str>,
    /// The MTU in bytes.
    pub mtu: Option<u32>,
    /// The index of the bridge that the link becomes a port of; 0 removes it from its bridge.
    pub master: Option<u32>,
    /// Whether the link is set up (true) or down (false).
    pub up: Option<bool>,
    /// The Ethernet address.
    pub mac: Option<MacAddr>,
    /// The network namespace that the link is created in or moved to. The descriptor must stay open
    /// until the request was sent.
    pub netns: Option<BorrowedFd<'a>>,
}

/// The type of a new link, with its parameters.
#[derive(Clone, Copy, Debug)]
pub enum LinkType<'a> {
    /// A type without parameters, by the kernel's name (`IFLA_INFO_KIND`), for example `bridge`.
    Simple(&'a str),
    /// A veth pair. The value describes the peer, which is created with it but first. Therefore the
    /// kernel answers ENOTCONN if the peer's `up` is true; the peer must be set up by its own request.
    Veth(LinkSettings<'a>),
    /// An IPv4-in-IPv4 tunnel.
    Ipip(IpipParameters),
}

/// The parameters of an ipip link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpipParameters {
    /// Outer source address; unspecified if any address of this node is allowed.
    pub local: Ipv4Addr,
    /// Outer destination address; unspecified if it is given by the route.
    pub remote: Ipv4Addr,
    /// The TTL of the outer header; 0 copies it from the inner header.
    pub ttl: u8,
}

/// Returns struct ifinfomsg. `up` sets or clears IFF_UP; no other flag is changed.
fn ifinfo(index: u32, up: Option<bool>) -> [u8; IFINFO] {
    let mut header = [0; IFINFO];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    if let Some(up) = up {
        header[8..12].copy_from_slice(&(u32::from(up) * IFF_UP).to_ne_bytes());
        header[12..16].copy_from_slice(&IFF_UP.to_ne_bytes()); // ifi_change
    }
    header
}

/// Requests all links, to be parsed with [`read_link`].
pub fn list_links() -> Request {
    Request::new(RTM_GETLINK, NlmF::empty(), &[0; IFINFO])
}

/// Requests one link by its name. The kernel answers ENODEV if it does not exist.
pub fn get_link(name: &str) -> Request {
    list_links().text(IFLA_IFNAME, name)
}

/// Adds a link. The kernel answers EEXIST if one of that name exists.
pub fn add_link(kind: &LinkType, settings: &LinkSettings) -> Request {
    new_link(kind, settings, NlmF::CREATE | NlmF::EXCL)
}

/// Adds a link, or changes the existing one of that name. The kernel refuses to change its type.
pub fn put_link(kind: &LinkType, settings: &LinkSettings) -> Request {
    new_link(kind, settings, NlmF::CREATE)
}

fn new_link(kind: &LinkType, settings: &LinkSettings, flags: NlmF) -> Request {
    let request = Request::new(RTM_NEWLINK, flags, &ifinfo(0, settings.up));
    set(request, settings).nest(IFLA_LINKINFO, |info| match kind {
        LinkType::Simple(kind) => info.text(IFLA_INFO_KIND, kind),
        LinkType::Veth(peer) => info.text(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, |data| {
            data.nest(VETH_INFO_PEER, |r| set(r.bytes(&ifinfo(0, peer.up)), peer))
        }),
        LinkType::Ipip(ipip) => info.text(IFLA_INFO_KIND, "ipip").nest(IFLA_INFO_DATA, |data| {
            data.attr(IFLA_IPTUN_LOCAL, &ipip.local.octets())
                .attr(IFLA_IPTUN_REMOTE, &ipip.remote.octets())
                .attr(IFLA_IPTUN_TTL, &[ipip.ttl])
        }),
    })
}

/// Changes a link. The kernel answers ENODEV if it does not exist.
pub fn set_link(index: u32, settings: &LinkSettings) -> Request {
    set(Request::new(RTM_NEWLINK, NlmF::empty(), &ifinfo(index, settings.up)), settings)
}

/// Appends the attributes of the settings. IFF_UP is in the header.
fn set(mut request: Request, settings: &LinkSettings) -> Request {
    if let Some(name) = settings.name {
        request = request.text(IFLA_IFNAME, name);
    }
    if let Some(mtu) = settings.mtu {
        request = request.u32(IFLA_MTU, mtu);
    }
    if let Some(master) = settings.master {
        request = request.u32(IFLA_MASTER, master);
    }
    if let Some(mac) = settings.mac {
        request = request.attr(IFLA_ADDRESS, &mac);
    }
    if let Some(netns) = settings.netns {
        request = request.u32(IFLA_NET_NS_FD, netns.as_raw_fd().cast_unsigned());
    }
    request
}

/// Removes a link. The kernel answers ENODEV if it does not exist.
pub fn delete_link(index: u32) -> Request {
    Request::new(RTM_DELLINK, NlmF::empty(), &ifinfo(index, None))
}

/// Sets the hairpin mode of a bridge port, so that a packet may leave by the port it came from. The
/// kernel answers ENODEV if the port does not exist.
pub fn set_hairpin(index: u32) -> Request {
    let mut header = ifinfo(index, None);
    header[0] = sys::AF_BRIDGE;
    Request::new(RTM_SETLINK, NlmF::empty(), &header)
        .nest(IFLA_PROTINFO | NLA_F_NESTED, |port| port.attr(IFLA_BRPORT_MODE, &[1]))
}

/// Parses a link from a message's body. Returns `None` if index, name, MTU or flags are missing.
pub fn read_link(body: &[u8]) -> Option<LinkInfo> {
    let attrs = Attrs::after(body, IFINFO);
    let info = attrs.nest(IFLA_LINKINFO);
    Some(LinkInfo {
        index: u32_at(body, 4)?,
        name: attrs.text(IFLA_IFNAME)?,
        kind: info.and_then(|i| i.text(IFLA_INFO_KIND)).unwrap_or_default(),
        mtu: attrs.u32(IFLA_MTU)?,
        up: u32_at(body, 8)? & IFF_UP != 0,
        master: attrs.u32(IFLA_MASTER),
        hairpin: info
            .and_then(|i| i.nest(IFLA_INFO_SLAVE_DATA))
            .and_then(|port| port.get(IFLA_BRPORT_MODE))
            .is_some_and(|mode| mode != [0]),
        mac: attrs.get(IFLA_ADDRESS).and_then(|mac| mac.try_into().ok()),
    })
}

/// Parses the parameters of an ipip link from a message's body. Returns `None` if the link has another
/// type, or if a parameter is missing.
pub fn read_ipip(body: &[u8]) -> Option<IpipParameters> {
    let info = Attrs::after(body, IFINFO).nest(IFLA_LINKINFO)?;
    if info.text(IFLA_INFO_KIND)? != "ipip" {
        return None;
    }
    let data = info.nest(IFLA_INFO_DATA)?;
    let addr = |kind: u16| <[u8; 4]>::try_from(data.get(kind)?).ok().map(Ipv4Addr::from);
    Some(IpipParameters {
        local: addr(IFLA_IPTUN_LOCAL)?,
        remote: addr(IFLA_IPTUN_REMOTE)?,
        ttl: *data.get(IFLA_IPTUN_TTL)?.first()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::message::{body_of, from_hex, parts_of};

    /// Recorded from Linux 6.18, without the attributes that are ignored: a port of a bridge.
    const PORT: &str = "00000100 02000000 43100100 00000000 0800030066617200 08000400dc050000
        08000a0004000000 0a0001007a721c5a8e0a0000 28001200 090001007665746800000000
        0b00040062726964676500 00 0c000500 0500040001000000";

    #[test]
    fn a_recorded_link_is_parsed() {
        let link = LinkInfo {
            index: 2,
            name: "far".into(),
            kind: "veth".into(),
            mtu: 1500,
            up: true,
            master: Some(4),
            hairpin: true,
            mac: Some([0x7a, 0x72, 0x1c, 0x5a, 0x8e, 0x0a]),
        };
        assert_eq!(read_link(&from_hex(PORT)), Some(link));
    }

    #[test]
    fn a_link_without_type_master_and_ethernet_address_is_parsed() {
        let body = from_hex(
            "00000100 02000000 42100100 00000000 0800030066617200 08000400dc050000 080001007f000001",
        );
        let link = read_link(&body).unwrap();
        assert_eq!((link.kind.as_str(), link.up, link.hairpin), ("", false, false));
        assert_eq!((link.master, link.mac), (None, None));
    }

    #[test]
    fn a_new_link_has_its_settings_and_its_type() {
        let settings = LinkSettings {
            name: Some("br"),
            mtu: Some(1400),
            up: Some(true),
            mac: Some([2, 0, 0, 0, 0, 1]),
            ..LinkSettings::default()
        };
        let body = from_hex(
            "00000000 00000000 01000000 01000000 0700030062720000 0800040078050000
             0a0001000200000000010000 10001200 0b00010062726964676500 00",
        );
        let kind = LinkType::Simple("bridge");
        assert_eq!(parts_of(&add_link(&kind, &settings)), (16, 0x600, body.clone()));
        assert_eq!(parts_of(&put_link(&kind, &settings)), (16, 0x400, body));
    }

    #[test]
    fn a_veth_pair_is_described_at_both_ends() {
        let peer = LinkSettings { name: Some("b"), up: Some(false), ..LinkSettings::default() };
        let settings = LinkSettings { name: Some("a"), master: Some(4), ..LinkSettings::default() };
        let body = from_hex(
            "00000000 00000000 00000000 00000000 0600030061000000 08000a0004000000 30001200
             0900010076657468 00000000 20000200 1c000100
             00000000 00000000 00000000 01000000 0600030062000000",
        );
        assert_eq!(body_of(&add_link(&LinkType::Veth(peer), &settings)), body);
    }

    #[test]
    fn the_parameters_of_an_ipip_link_are_parsed_as_they_were_built() {
        let ipip =
            IpipParameters { local: [192, 0, 2, 1].into(), remote: [192, 0, 2, 9].into(), ttl: 64 };
        let body = body_of(&add_link(&LinkType::Ipip(ipip), &LinkSettings::default()));
        assert_eq!(
            body[IFINFO..],
            from_hex(
                "2c001200 0900010069706970 00000000 1c000200 08000200c0000201 08000300c0000209
                 0500040040000000"
            )
        );
        assert_eq!(read_ipip(&body), Some(ipip));
        assert_eq!(read_ipip(&from_hex(PORT)), None, "a link of another type");
    }

    #[test]
    fn a_change_sets_only_what_is_given() {
        let nothing = LinkSettings::default();
        let body = from_hex("00000000 07000000 00000000 00000000");
        assert_eq!(parts_of(&set_link(7, &nothing)), (16, 0, body));
        let stdin = std::io::stdin();
        let netns = Some(std::os::fd::AsFd::as_fd(&stdin));
        let settings = LinkSettings { up: Some(false), master: Some(0), netns, ..nothing };
        let body =
            from_hex("00000000 07000000 00000000 01000000 08000a0000000000 08001c0000000000");
        assert_eq!(parts_of(&set_link(7, &settings)), (16, 0, body));
    }

    #[test]
    fn a_link_is_named_by_its_index_or_its_name() {
        let body = from_hex("00000000 07000000 00000000 00000000");
        assert_eq!(parts_of(&delete_link(7)), (17, 0, body));
        let body = from_hex("00000000 00000000 00000000 00000000 0700030065320000");
        assert_eq!(parts_of(&get_link("e2")), (18, 0, body));
        let body = from_hex("07000000 07000000 00000000 00000000 0c000c80 0500040001000000");
        assert_eq!(parts_of(&set_hairpin(7)), (19, 0, body));
    }
}
