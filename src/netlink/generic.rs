//! Generic netlink: the header of its messages, and the lookup of a family (linux/genetlink.h).

use neli::consts::nl::NlmF;

use super::message::{Attrs, Request};

/// struct genlmsghdr { u8 cmd; u8 version; u16 reserved; }
pub(crate) const GENL: usize = 4;

const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

/// Creates a request to a family.
pub(crate) fn request(family: u16, command: u8) -> Request {
    Request::new(family, NlmF::empty(), &[command, 1, 0, 0])
}

/// Requests the number of a family by its name. The kernel answers ENOENT if it does not exist.
pub(crate) fn get_family(name: &str) -> Request {
    request(GENL_ID_CTRL, CTRL_CMD_GETFAMILY).text(CTRL_ATTR_FAMILY_NAME, name)
}

/// Parses the number of a family from a message's body.
pub(crate) fn read_family(body: &[u8]) -> Option<u16> {
    Attrs::after(body, GENL).u16(CTRL_ATTR_FAMILY_ID)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::message::{from_hex, parts_of};

    #[test]
    fn the_number_of_a_family_is_asked_by_name() {
        let body = from_hex("03010000 09000200 49505653 00000000");
        assert_eq!(parts_of(&get_family("IPVS")), (16, 0, body));
        let answer = from_hex("01020000 09000200 49505653 00000000 06000100 24000000");
        assert_eq!(read_family(&answer), Some(0x24));
        assert_eq!(read_family(&answer[..12]), None);
    }
}
