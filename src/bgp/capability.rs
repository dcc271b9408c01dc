//! Capabilities (RFC 5492): the codec of the optional parameters of an OPEN.
//!
//! `read` and `write` are called by [`message`](super::message). Unknown capabilities and families
//! other than unicast are ignored, because only the features that both sides support are used. The
//! choice of the advertised capabilities is made in `fsm`.

use super::{
    notification::Notification,
    wire::{UNICAST, take, take_u8, take_u16, take_u32},
};
use crate::family::Family;

/// Parameter type of capabilities, the only one that is not deprecated (RFC 5492).
const CAPABILITIES: u8 = 2;
/// Value of the length and of the first type that announces parameter lengths of two octets (RFC 9072).
const EXTENDED: u8 = 255;

/// Capability code of multiprotocol extensions (RFC 4760).
const MULTIPROTOCOL: u8 = 1;
/// Capability code of route refresh (RFC 2918).
const ROUTE_REFRESH: u8 = 2;
/// Capability code of graceful restart (RFC 4724).
const GRACEFUL_RESTART: u8 = 64;
/// Capability code of four-octet AS numbers (RFC 6793).
const FOUR_OCTET_AS: u8 = 65;

/// Restart State (R) bit of the graceful-restart capability.
const RESTARTING: u16 = 0x8000;
/// Forwarding State (F) bit of a family in the graceful-restart capability.
const FORWARDING: u8 = 0x80;
/// Mask of the Restart Time in the graceful-restart capability.
const RESTART_TIME: u16 = 0x0fff;

/// The capabilities that this speaker supports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// The families of unicast routes (RFC 4760). An empty list means IPv4 only.
    pub families: Vec<Family>,
    /// True if the speaker processes ROUTE-REFRESH (RFC 2918).
    pub refresh: bool,
    /// True if AS numbers have four octets (RFC 6793).
    pub four_octet: bool,
    /// The graceful-restart capability (RFC 4724); `None` if it is not advertised.
    pub restart: Option<Restart>,
}

/// The graceful-restart capability (RFC 4724 section 3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restart {
    /// True if the speaker has just restarted (R bit). Its peer must not wait for its End-of-RIB before it
    /// sends routes.
    pub restarting: bool,
    /// The time for which the peer may keep the speaker's routes, in seconds, 0 to 4095.
    pub time: u16,
    /// The families with graceful restart. The bool is true if forwarding state was preserved (F bit).
    pub families: Vec<(Family, bool)>,
}

/// The properties of a connection that change the encoding of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Negotiated {
    /// True if AS numbers have four octets, because both sides announced that capability (RFC 6793).
    pub four_octet: bool,
    /// True if the peer is in the same AS (iBGP).
    pub internal: bool,
}

/// The content of the optional parameters: the capabilities, and the AS number of the four-octet AS
/// capability if there is one.
pub(super) type Parameters = (Capabilities, Option<u32>);

/// Reads the optional parameters, starting with their length. Fails with the NOTIFICATION to send if they are
/// malformed or of an unsupported type.
pub(super) fn read(bytes: &[u8]) -> Result<Parameters, Notification> {
    let malformed = || Notification::new(2, 0); // RFC 4271 section 6.2: unspecific
    let (mut bytes, mut found) = (bytes, Parameters::default());
    let mut length = usize::from(take_u8(&mut bytes).ok_or_else(malformed)?);
    let extended = length == usize::from(EXTENDED) && bytes.first() == Some(&EXTENDED);
    if extended {
        take_u8(&mut bytes);
        length = usize::from(take_u16(&mut bytes).ok_or_else(malformed)?);
    }
    if bytes.len() != length {
        return Err(malformed());
    }
    while let Some(kind) = take_u8(&mut bytes) {
        let length =
            if extended { take_u16(&mut bytes) } else { take_u8(&mut bytes).map(u16::from) };
        let value =
            length.and_then(|length| take(&mut bytes, length.into())).ok_or_else(malformed)?;
        if kind != CAPABILITIES {
            return Err(Notification::new(2, 4));
        }
        read_capabilities(value, &mut found).ok_or_else(malformed)?;
    }
    Ok(found)
}

/// Reads the capabilities of one parameter. Returns `None` if a capability is truncated or has a wrong
/// length.
fn read_capabilities(mut bytes: &[u8], (found, asn): &mut Parameters) -> Option<()> {
    while let Some(code) = take_u8(&mut bytes) {
        let length = take_u8(&mut bytes)?;
        let mut value = take(&mut bytes, length.into())?;
        match code {
            MULTIPROTOCOL => {
                let [high, low, _, safi] = *value else { return None };
                if let Some(family) = Family::of_afi(u16::from_be_bytes([high, low]))
                    && safi == UNICAST
                    && !found.families.contains(&family)
                {
                    found.families.push(family);
                }
            }
            ROUTE_REFRESH => found.refresh = true,
            FOUR_OCTET_AS => {
                found.four_octet = true;
                *asn = Some(take_u32(&mut value).filter(|_| value.is_empty())?);
            }
            GRACEFUL_RESTART => found.restart = Some(read_restart(value)?), // the last one is used
            _ => {}
        }
    }
    Some(())
}

/// Reads a graceful-restart capability. Returns `None` if its length is wrong.
fn read_restart(mut value: &[u8]) -> Option<Restart> {
    let head = take_u16(&mut value)?;
    let mut families = Vec::new();
    while let Some(afi) = take_u16(&mut value) {
        let (safi, flags) = (take_u8(&mut value)?, take_u8(&mut value)?);
        if let Some(family) = Family::of_afi(afi)
            && safi == UNICAST
            && !families.iter().any(|(known, _)| *known == family)
        {
            families.push((family, flags & FORWARDING != 0));
        }
    }
    value.is_empty().then_some(Restart {
        restarting: head & RESTARTING != 0,
        time: head & RESTART_TIME,
        families,
    })
}

/// Appends the optional parameters, starting with their length, as one parameter with all capabilities.
pub(super) fn write(capabilities: &Capabilities, asn: u32, out: &mut Vec<u8>) {
    let mut all = Vec::new();
    for family in &capabilities.families {
        all.extend([MULTIPROTOCOL, 4]);
        all.extend(family.afi().to_be_bytes());
        all.extend([0, UNICAST]);
    }
    if capabilities.refresh {
        all.extend([ROUTE_REFRESH, 0]);
    }
    if let Some(restart) = &capabilities.restart {
        let r = if restart.restarting { RESTARTING } else { 0 };
        all.push(GRACEFUL_RESTART);
        let at = all.len();
        all.push(0);
        all.extend((r | restart.time.min(RESTART_TIME)).to_be_bytes());
        for &(family, forwarding) in &restart.families {
            all.extend(family.afi().to_be_bytes());
            all.extend([UNICAST, if forwarding { FORWARDING } else { 0 }]);
        }
        all[at] = u8::try_from(all.len() - at - 1).unwrap_or(u8::MAX); // at most two families
    }
    if capabilities.four_octet {
        all.extend([FOUR_OCTET_AS, 4]);
        all.extend(asn.to_be_bytes());
    }
    let length = u8::try_from(all.len()).unwrap_or(u8::MAX); // at most 30
    if length == 0 {
        out.push(0);
        return;
    }
    out.extend([length + 2, CAPABILITIES, length]);
    out.extend(all);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn families(bytes: &[u8]) -> Vec<Family> {
        read(bytes).unwrap().0.families
    }

    #[test]
    fn capabilities_are_read_from_one_parameter_or_several() {
        let (v4, v6) = ([1, 4, 0, 1, 0, 1], [1, 4, 0, 2, 0, 1]);
        let one = [&[14, 2, 12][..], &v4, &v6].concat();
        let two = [&[16, 2, 6][..], &v4, &[2, 6], &v6].concat();
        assert_eq!(families(&one), Family::ALL);
        assert_eq!(families(&two), Family::ALL);
        let extended = [&[255, 255, 0, 18, 2, 0, 6][..], &v4, &[2, 0, 6], &v6].concat();
        assert_eq!(families(&extended), Family::ALL);
    }

    #[test]
    fn unknown_capabilities_and_families_are_ignored() {
        assert_eq!(families(&[17, 2, 15, 1, 4, 0, 1, 0, 128, 99, 1, 7, 1, 4, 0, 25, 0, 1]), []);
        assert_eq!(read(&[0]), Ok(Parameters::default()));
    }

    #[test]
    fn malformed_parameters_are_an_open_message_error() {
        let subcode = |bytes: &[u8]| read(bytes).unwrap_err().subcode;
        assert_eq!(subcode(&[3, 1, 1, 0]), 4, "authentication is deprecated");
        for (bytes, why) in [
            (&[][..], "no length"),
            (&[4, 2, 1, 2], "length beyond the end"),
            (&[1, 2], "parameter without length"),
            (&[3, 2, 4, 2], "parameter beyond the end"),
            (&[3, 2, 1, 2], "capability without length"),
            (&[4, 2, 2, 2, 1], "capability beyond the end"),
            (&[7, 2, 5, 1, 3, 0, 1, 0], "family without SAFI"),
            (&[7, 2, 5, 65, 3, 0, 1, 0], "AS of three octets"),
            (&[9, 2, 7, 64, 5, 0, 120, 0, 1, 1], "restart with a part of a family"),
            (&[255, 255, 0], "extended length of one octet"),
        ] {
            assert_eq!(subcode(bytes), 0, "{why}");
        }
    }
}
