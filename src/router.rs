//! A router outside of the cluster that BGP is spoken with, as flags and annotations tell of it.
//!
//! Both give the same five texts, so both are read here, and what can't be is told in words that never
//! hold the password.

use std::{fmt, net::IpAddr};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

/// The port of BGP.
const PORT: u16 = 179;
/// The most bytes of a key (`TCP_MD5SIG_MAXKEYLEN`, linux/tcp.h).
const LONGEST: usize = 80;

/// A router.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Router {
    /// Its address.
    pub addr: IpAddr,
    /// Its AS.
    pub asn: u32,
    /// The port at which it listens.
    pub port: u16,
    /// The address by which this node is to speak with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<IpAddr>,
    /// The key of TCP MD5 signatures (RFC 2385).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// How the way to it is watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bfd: Option<Bfd>,
}

/// How the way to a router is watched (BFD, RFC 5880).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "[u32; 4]", into = "[u32; 4]")]
pub struct Bfd {
    /// The port at which both sides listen.
    pub port: u16,
    /// How often we want to send, in microseconds (bfd.DesiredMinTxInterval).
    pub tx: u32,
    /// How often we bear to be sent to, in microseconds (bfd.RequiredMinRxInterval).
    pub rx: u32,
    /// So many packets that do not come mean that the way is broken (bfd.DetectMult).
    pub times: u8,
}

/// A router in texts; an empty one says nothing.
#[derive(Clone, Copy, Default)]
#[allow(missing_docs)] // as in `Router`; the password is base64
pub struct Told<'a> {
    pub addr: &'a str,
    pub asn: &'a str,
    pub port: &'a str,
    pub local: &'a str,
    pub password: &'a str,
    /// The numbers of BFD where it is asked for: the port, how often we send and bear to be sent to in
    /// milliseconds, and the multiplier.
    pub bfd: Option<[&'a str; 4]>,
}

impl Router {
    /// What the texts say.
    pub fn read(told: Told<'_>) -> Result<Router, String> {
        let addr = address(told.addr)?;
        let port = match told.port {
            "" => PORT,
            text => port(text)?,
        };
        let local = match told.local {
            "" => None,
            text => Some(address(text)?),
        };
        if local.is_some_and(|local| local.is_ipv4() != addr.is_ipv4()) {
            return Err(format!("{addr} and {} are of two families", told.local));
        }
        let password = Secret::from_base64(told.password)?;
        let bfd = told.bfd.map(Bfd::read).transpose()?;
        Ok(Router { addr, asn: asn(told.asn)?, port, local, password, bfd })
    }
}

impl From<[u32; 4]> for Bfd {
    /// In the order of the fields.
    fn from([port, tx, rx, times]: [u32; 4]) -> Bfd {
        Bfd { port: port as u16, tx, rx, times: times as u8 }
    }
}

impl From<Bfd> for [u32; 4] {
    fn from(bfd: Bfd) -> [u32; 4] {
        [bfd.port.into(), bfd.tx, bfd.rx, bfd.times.into()]
    }
}

impl Bfd {
    fn read([port, tx, rx, times]: [&str; 4]) -> Result<Bfd, String> {
        let number = |text: &str, without: u32, from: u32, to: u32| match text {
            "" => Ok(without),
            _ => text
                .parse()
                .ok()
                .filter(|number| (from..=to).contains(number))
                .ok_or_else(|| format!("BFD: {text:?} is no number from {from} to {to}")),
        };
        // No board is punctual to less, and microseconds have 32 bits.
        let every = |text| number(text, 1000, 10, u32::MAX / 1000).map(|millis| millis * 1000);
        let port = number(port, 3784, 1, 65_535)?;
        Ok([port, every(tx)?, every(rx)?, number(times, 3, 1, 255)?].into())
    }
}

/// An address that can be spoken with, or from.
pub fn address(text: &str) -> Result<IpAddr, String> {
    let addr: IpAddr = text.parse().map_err(|_| format!("{text:?} is no IP address"))?;
    let addr = addr.to_canonical();
    let why = match addr {
        _ if addr.is_unspecified() || addr.is_multicast() => "is no address of one host",
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            "is of one link alone, and which can't be told here"
        }
        _ => return Ok(addr),
    };
    Err(format!("{text} {why}"))
}

/// An AS that one can have: not zero (RFC 7607), AS_TRANS (RFC 6793) or the last of 16 and 32 bits
/// (RFC 7300).
pub fn asn(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(0 | 23_456 | 65_535 | u32::MAX) | Err(_) => Err(format!("{text:?} is no AS number")),
        Ok(asn) => Ok(asn),
    }
}

fn port(text: &str) -> Result<u16, String> {
    let port = text.parse().ok().filter(|port| *port > 0);
    port.ok_or_else(|| format!("{text:?} is no port (1 to 65535)"))
}

/// A word that is kept, and not shown to whoever prints what holds it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(Box<str>);

impl Secret {
    /// A word as it is.
    pub fn new(text: &str) -> Secret {
        Secret(text.into())
    }

    /// The key of TCP MD5 signatures that base64 stands for; none where it is empty. Line ends within
    /// mean nothing.
    pub fn from_base64(text: &str) -> Result<Option<Secret>, &'static str> {
        let text: String = text.split_whitespace().collect();
        let bytes = STANDARD.decode(text).map_err(|_| "its password is no base64")?;
        if bytes.len() > LONGEST {
            return Err("its password has more than 80 bytes, which TCP_MD5SIG can't take");
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(Secret(text.into())).filter(|secret| !secret.0.is_empty())),
            Err(_) => Err("its password is no text in UTF-8"),
        }
    }

    /// The word.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Forgets the word, and not that there was one.
    pub fn forget(&mut self) {
        self.0 = "hidden".into();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hidden")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: Told<'_> =
        Told { addr: "192.0.2.1", asn: "64513", port: "", local: "", password: "", bfd: None };

    #[test]
    fn what_is_not_told_is_the_port_of_bgp_and_no_password() {
        let got = Router::read(TOLD).unwrap();
        assert_eq!((got.asn, got.port, got.local, got.password), (64_513, 179, None, None));
        assert_eq!(got.addr, "192.0.2.1".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn all_of_it_is_read_and_the_password_is_not_shown() {
        let told = Told { port: "1790", local: "192.0.2.9", password: "czNjcmV0\n", ..TOLD };
        let got = Router::read(told).unwrap();
        assert_eq!((got.port, got.local.unwrap().to_string()), (1790, "192.0.2.9".to_owned()));
        assert_eq!(got.password.as_ref().unwrap().reveal(), "s3cret");
        let shown = format!("{got:?}");
        assert!(!shown.contains("s3cret") && shown.contains("Some(hidden)"), "{shown}");
    }

    #[test]
    fn bfd_is_once_a_second_and_three_times_where_nothing_else_is_told() {
        let got = |bfd| Router::read(Told { bfd: Some(bfd), ..TOLD }).unwrap().bfd.unwrap();
        let usual = Bfd { port: 3784, tx: 1_000_000, rx: 1_000_000, times: 3 };
        assert_eq!(got([""; 4]), usual);
        let other = Bfd { port: 4784, tx: 300_000, rx: 10_000, times: 255 };
        assert_eq!(got(["4784", "300", "10", "255"]), other);
        for (bfd, want) in [
            (["0", "", "", ""], "BFD: \"0\" is no number from 1 to 65535"),
            (["", "9", "", ""], "BFD: \"9\" is no number from 10 to 4294967"),
            (["", "", "-1", ""], "BFD: \"-1\" is no number from 10 to 4294967"),
            (["", "", "", "256"], "BFD: \"256\" is no number from 1 to 255"),
        ] {
            assert_eq!(Router::read(Told { bfd: Some(bfd), ..TOLD }).unwrap_err(), want);
        }
    }

    #[test]
    fn what_can_not_be_is_told_in_words_without_the_password() {
        let long = STANDARD.encode("x".repeat(81));
        for (told, want) in [
            (Told { addr: "", ..TOLD }, "\"\" is no IP address"),
            (Told { addr: "0.0.0.0", ..TOLD }, "0.0.0.0 is no address of one host"),
            (Told { addr: "ff02::1", ..TOLD }, "ff02::1 is no address of one host"),
            (
                Told { addr: "fe80::1", ..TOLD },
                "fe80::1 is of one link alone, and which can't be told here",
            ),
            (Told { asn: "", ..TOLD }, "\"\" is no AS number"),
            (Told { asn: "0", ..TOLD }, "\"0\" is no AS number"),
            (Told { asn: "23456", ..TOLD }, "\"23456\" is no AS number"),
            (Told { asn: "4294967296", ..TOLD }, "\"4294967296\" is no AS number"),
            (Told { port: "0", ..TOLD }, "\"0\" is no port (1 to 65535)"),
            (Told { port: "65536", ..TOLD }, "\"65536\" is no port (1 to 65535)"),
            (Told { local: "x", ..TOLD }, "\"x\" is no IP address"),
            (Told { local: "fd00::1", ..TOLD }, "192.0.2.1 and fd00::1 are of two families"),
            (Told { password: "s3cret!", ..TOLD }, "its password is no base64"),
            (Told { password: "//79", ..TOLD }, "its password is no text in UTF-8"),
            (
                Told { password: &long, ..TOLD },
                "its password has more than 80 bytes, which TCP_MD5SIG can't take",
            ),
        ] {
            assert_eq!(Router::read(told).unwrap_err(), want);
        }
    }
}
