//! A BGP router outside the cluster, as flags and Node annotations configure it.
//!
//! Flags (`cli`) and annotations (`api::wire`) give the same five texts and the BFD numbers, so
//! [`Router::read`] parses both. Error texts never contain the password.

use std::{fmt, net::IpAddr};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

/// The default TCP port of BGP.
const PORT: u16 = 179;
/// The maximum length of a key, in bytes (`TCP_MD5SIG_MAXKEYLEN`, linux/tcp.h).
const MAX_KEY: usize = 80;

/// A BGP router outside the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Router {
    /// The router's address.
    pub addr: IpAddr,
    /// The router's AS number.
    pub asn: u32,
    /// The TCP port at which the router listens.
    pub port: u16,
    /// The local address of connections to the router; `None` if the kernel chooses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<IpAddr>,
    /// The key of TCP MD5 signatures (RFC 2385); `None` if segments are not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// The parameters of the BFD session with the router; `None` if BFD is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bfd: Option<Bfd>,
}

/// The parameters of a BFD session (RFC 5880).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "[u32; 4]", into = "[u32; 4]")]
pub struct Bfd {
    /// The UDP port at which both sides listen.
    pub port: u16,
    /// The desired interval between sent packets, in microseconds (bfd.DesiredMinTxInterval).
    pub min_tx: u32,
    /// The shortest supported interval between received packets, in microseconds
    /// (bfd.RequiredMinRxInterval).
    pub min_rx: u32,
    /// The number of missing packets after which the path is considered failed (bfd.DetectMult).
    pub detect_mult: u8,
}

/// The texts that configure a router. An empty text stands for the default, if there is one.
#[derive(Clone, Copy, Default)]
#[allow(missing_docs)] // as in `Router`; the password is base64
pub struct RawPeer<'a> {
    pub addr: &'a str,
    pub asn: &'a str,
    pub port: &'a str,
    pub local: &'a str,
    pub password: &'a str,
    /// The BFD parameters: port, transmit and receive interval in milliseconds, and detection multiplier.
    /// `None` if BFD is off.
    pub bfd: Option<[&'a str; 4]>,
}

impl Router {
    /// Parses the texts. Fails with a description of the first invalid one.
    pub fn read(texts: RawPeer<'_>) -> Result<Router, String> {
        let addr = address(texts.addr)?;
        let port = match texts.port {
            "" => PORT,
            text => port(text)?,
        };
        let local = match texts.local {
            "" => None,
            text => Some(address(text)?),
        };
        if local.is_some_and(|local| local.is_ipv4() != addr.is_ipv4()) {
            let local = texts.local;
            return Err(format!("{addr} and {local} are of different address families"));
        }
        let password = Secret::from_base64(texts.password)?;
        let bfd = texts.bfd.map(Bfd::read).transpose()?;
        Ok(Router { addr, asn: asn(texts.asn)?, port, local, password, bfd })
    }
}

impl From<[u32; 4]> for Bfd {
    /// Takes the numbers in the order of the fields.
    fn from([port, tx, rx, times]: [u32; 4]) -> Bfd {
        Bfd { port: port as u16, min_tx: tx, min_rx: rx, detect_mult: times as u8 }
    }
}

impl From<Bfd> for [u32; 4] {
    fn from(bfd: Bfd) -> [u32; 4] {
        [bfd.port.into(), bfd.min_tx, bfd.min_rx, bfd.detect_mult.into()]
    }
}

impl Bfd {
    /// Parses the texts in the order of [`RawPeer::bfd`]. Fails if a number is out of range.
    fn read([port, tx, rx, times]: [&str; 4]) -> Result<Bfd, String> {
        let number = |text: &str, default: u32, from: u32, to: u32| match text {
            "" => Ok(default),
            _ => text
                .parse()
                .ok()
                .filter(|number| (from..=to).contains(number))
                .ok_or_else(|| format!("BFD: {text:?} is not a number from {from} to {to}")),
        };
        // A small board cannot keep shorter intervals, and the packet has microseconds in 32 bits.
        let interval = |text| number(text, 1000, 10, u32::MAX / 1000).map(|millis| millis * 1000);
        let port = number(port, 3784, 1, 65_535)?;
        Ok([port, interval(tx)?, interval(rx)?, number(times, 3, 1, 255)?].into())
    }
}

/// Parses the address of a host. An IPv4-mapped IPv6 address becomes IPv4. Fails if the text is not an
/// address, or if the address is unspecified, multicast or link-local (IPv6).
pub fn address(text: &str) -> Result<IpAddr, String> {
    let addr: IpAddr = text.parse().map_err(|_| format!("{text:?} is not an IP address"))?;
    let addr = addr.to_canonical();
    let reason = match addr {
        _ if addr.is_unspecified() || addr.is_multicast() => "is not the address of a host",
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            "is a link-local address; give a global or unique local one"
        }
        _ => return Ok(addr),
    };
    Err(format!("{text} {reason}"))
}

/// Parses an AS number. Fails if it is reserved: 0 (RFC 7607), AS_TRANS (RFC 6793), or the last 16-bit or
/// 32-bit number (RFC 7300).
pub fn asn(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(0 | 23_456 | 65_535 | u32::MAX) | Err(_) => {
            Err(format!("{text:?} is not a usable AS number"))
        }
        Ok(asn) => Ok(asn),
    }
}

fn port(text: &str) -> Result<u16, String> {
    let port = text.parse().ok().filter(|port| *port > 0);
    port.ok_or_else(|| format!("{text:?} is not a port (1 to 65535)"))
}

/// A password. Its `Debug` output is `hidden`, so that it does not appear in logs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(Box<str>);

impl Secret {
    /// Returns a secret with this text.
    pub fn new(text: &str) -> Secret {
        Secret(text.into())
    }

    /// Decodes the base64 text of a key for TCP MD5 signatures. White space is ignored. Returns `None` if
    /// the key is empty. Fails if the text is not base64 of at most 80 bytes of UTF-8.
    pub fn from_base64(text: &str) -> Result<Option<Secret>, &'static str> {
        let text: String = text.split_whitespace().collect();
        let bytes = STANDARD.decode(text).map_err(|_| "its password is not base64")?;
        if bytes.len() > MAX_KEY {
            return Err("its password is longer than 80 bytes, the limit of TCP_MD5SIG");
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(Secret(text.into())).filter(|secret| !secret.0.is_empty())),
            Err(_) => Err("its password is not UTF-8 text"),
        }
    }

    /// Returns the secret text.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Replaces the text by a placeholder, so that it remains visible that there was a secret.
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

    const TEXTS: RawPeer<'_> =
        RawPeer { addr: "192.0.2.1", asn: "64513", port: "", local: "", password: "", bfd: None };

    #[test]
    fn the_defaults_are_the_bgp_port_and_no_password() {
        let got = Router::read(TEXTS).unwrap();
        assert_eq!((got.asn, got.port, got.local, got.password), (64_513, 179, None, None));
        assert_eq!(got.addr, "192.0.2.1".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn all_texts_are_parsed_and_debug_output_hides_the_password() {
        let texts = RawPeer { port: "1790", local: "192.0.2.9", password: "czNjcmV0\n", ..TEXTS };
        let got = Router::read(texts).unwrap();
        assert_eq!((got.port, got.local.unwrap().to_string()), (1790, "192.0.2.9".to_owned()));
        assert_eq!(got.password.as_ref().unwrap().reveal(), "s3cret");
        let shown = format!("{got:?}");
        assert!(!shown.contains("s3cret") && shown.contains("Some(hidden)"), "{shown}");
    }

    #[test]
    fn the_bfd_defaults_are_one_second_and_multiplier_three() {
        let got = |bfd| Router::read(RawPeer { bfd: Some(bfd), ..TEXTS }).unwrap().bfd.unwrap();
        let default = Bfd { port: 3784, min_tx: 1_000_000, min_rx: 1_000_000, detect_mult: 3 };
        assert_eq!(got([""; 4]), default);
        let other = Bfd { port: 4784, min_tx: 300_000, min_rx: 10_000, detect_mult: 255 };
        assert_eq!(got(["4784", "300", "10", "255"]), other);
        for (bfd, want) in [
            (["0", "", "", ""], "BFD: \"0\" is not a number from 1 to 65535"),
            (["", "9", "", ""], "BFD: \"9\" is not a number from 10 to 4294967"),
            (["", "", "-1", ""], "BFD: \"-1\" is not a number from 10 to 4294967"),
            (["", "", "", "256"], "BFD: \"256\" is not a number from 1 to 255"),
        ] {
            assert_eq!(Router::read(RawPeer { bfd: Some(bfd), ..TEXTS }).unwrap_err(), want);
        }
    }

    #[test]
    fn invalid_texts_are_errors_that_do_not_contain_the_password() {
        let long = STANDARD.encode("x".repeat(81));
        for (texts, want) in [
            (RawPeer { addr: "", ..TEXTS }, "\"\" is not an IP address"),
            (RawPeer { addr: "0.0.0.0", ..TEXTS }, "0.0.0.0 is not the address of a host"),
            (RawPeer { addr: "ff02::1", ..TEXTS }, "ff02::1 is not the address of a host"),
            (
                RawPeer { addr: "fe80::1", ..TEXTS },
                "fe80::1 is a link-local address; give a global or unique local one",
            ),
            (RawPeer { asn: "", ..TEXTS }, "\"\" is not a usable AS number"),
            (RawPeer { asn: "0", ..TEXTS }, "\"0\" is not a usable AS number"),
            (RawPeer { asn: "23456", ..TEXTS }, "\"23456\" is not a usable AS number"),
            (RawPeer { asn: "4294967296", ..TEXTS }, "\"4294967296\" is not a usable AS number"),
            (RawPeer { port: "0", ..TEXTS }, "\"0\" is not a port (1 to 65535)"),
            (RawPeer { port: "65536", ..TEXTS }, "\"65536\" is not a port (1 to 65535)"),
            (RawPeer { local: "x", ..TEXTS }, "\"x\" is not an IP address"),
            (
                RawPeer { local: "fd00::1", ..TEXTS },
                "192.0.2.1 and fd00::1 are of different address families",
            ),
            (RawPeer { password: "s3cret!", ..TEXTS }, "its password is not base64"),
            (RawPeer { password: "//79", ..TEXTS }, "its password is not UTF-8 text"),
            (
                RawPeer { password: &long, ..TEXTS },
                "its password is longer than 80 bytes, the limit of TCP_MD5SIG",
            ),
        ] {
            assert_eq!(Router::read(texts).unwrap_err(), want);
        }
    }
}
