//! Sockets: addresses and options that std lacks (socket(2), ip(7), ipv6(7), tcp(7)).

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd},
};

use crate::family::Family;

/// IPV6_MINHOPCOUNT (linux/in6.h).
const IPV6_MINHOPCOUNT: libc::c_int = 73;

/// Converts a type that only implements `IntoRawFd` to an owned descriptor.
pub(crate) fn into_owned_fd(from: impl IntoRawFd) -> OwnedFd {
    let fd = from.into_raw_fd();
    // SAFETY: into_raw_fd has just transferred the ownership of this open descriptor to us.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// AF_BRIDGE, in the headers of netlink messages about the ports of bridges.
pub(crate) const AF_BRIDGE: u8 = libc::AF_BRIDGE as u8;

/// Returns the number of an address family in socket addresses and netlink headers: AF_INET or
/// AF_INET6.
pub(crate) fn address_family(family: Family) -> u8 {
    match family {
        Family::Ipv4 => libc::AF_INET as u8,
        Family::Ipv6 => libc::AF_INET6 as u8,
    }
}

/// Returns the family of a number; `None` if it is neither AF_INET nor AF_INET6.
pub(crate) fn from_address_family(number: u8) -> Option<Family> {
    Family::ALL.into_iter().find(|family| address_family(*family) == number)
}

/// Creates an unconnected, non-blocking TCP socket (socket(2)).
pub(crate) fn tcp_socket(family: Family) -> io::Result<OwnedFd> {
    let family = libc::c_int::from(address_family(family));
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: the call takes numbers only.
    let fd = unsafe { libc::socket(family, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call above has just opened this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Binds a socket to a local address (bind(2)).
pub(crate) fn bind(socket: &impl AsRawFd, to: SocketAddr) -> io::Result<()> {
    let address = socket_address(to);
    // SAFETY: the bytes outlive the call, which reads no more than the given length.
    let code = unsafe {
        libc::bind(socket.as_raw_fd(), address.as_ptr().cast(), address.len() as libc::socklen_t)
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Starts to connect a non-blocking socket (connect(2)). The socket becomes writable when the
/// connection is established or has failed.
pub(crate) fn connect(socket: &impl AsRawFd, to: SocketAddr) -> io::Result<()> {
    let address = socket_address(to);
    // SAFETY: the bytes outlive the call, which reads no more than the given length.
    let code = unsafe {
        libc::connect(socket.as_raw_fd(), address.as_ptr().cast(), address.len() as libc::socklen_t)
    };
    match io::Error::last_os_error() {
        _ if code == 0 => Ok(()),
        e if e.raw_os_error() == Some(libc::EINPROGRESS) => Ok(()),
        e => Err(e),
    }
}

/// Returns a struct sockaddr_in or sockaddr_in6; port and address are big-endian.
fn socket_address(of: SocketAddr) -> Vec<u8> {
    let family = libc::sa_family_t::from(address_family(Family::of_addr(&of.ip())));
    let mut bytes = family.to_ne_bytes().to_vec();
    bytes.extend(of.port().to_be_bytes());
    match of {
        SocketAddr::V4(v4) => {
            bytes.extend(v4.ip().octets());
            bytes.extend([0; 8]);
        }
        SocketAddr::V6(v6) => {
            bytes.extend(v6.flowinfo().to_be_bytes());
            bytes.extend(v6.ip().octets());
            bytes.extend(v6.scope_id().to_ne_bytes());
        }
    }
    bytes
}

/// Enables TCP MD5 signatures between a socket and a peer's address (RFC 2385). An empty key disables
/// them. Fails if the key has more than 80 bytes.
pub(crate) fn set_tcp_md5(socket: &impl AsRawFd, peer: IpAddr, key: &[u8]) -> io::Result<()> {
    const KEY: usize = 80; // TCP_MD5SIG_MAXKEYLEN, linux/tcp.h
    if key.len() > KEY {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a TCP MD5 key must not exceed 80 bytes",
        ));
    }
    // struct tcp_md5sig: sockaddr_storage, flags, prefixlen, keylen, ifindex, key
    let mut bytes = socket_address(SocketAddr::new(peer, 0));
    bytes.resize(128, 0);
    bytes.extend([0, 0]);
    bytes.extend((key.len() as u16).to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(key);
    bytes.resize(136 + KEY, 0);
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_MD5SIG, &bytes)
}

/// Sets the time to live (IPv6: hop limit) of the packets that a socket sends.
pub(crate) fn set_ttl(socket: &impl AsRawFd, family: Family, ttl: u8) -> io::Result<()> {
    let value = libc::c_int::from(ttl).to_ne_bytes();
    match family {
        Family::Ipv4 => set_option(socket, libc::IPPROTO_IP, libc::IP_TTL, &value),
        Family::Ipv6 => set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, &value),
    }
}

/// Sets the minimum time to live (IPv6: hop limit) of the packets that a socket receives. The kernel
/// drops all other packets (IP_MINTTL, RFC 5082).
pub(crate) fn set_min_ttl(socket: &impl AsRawFd, family: Family, ttl: u8) -> io::Result<()> {
    let value = libc::c_int::from(ttl).to_ne_bytes();
    match family {
        Family::Ipv4 => set_option(socket, libc::IPPROTO_IP, libc::IP_MINTTL, &value),
        Family::Ipv6 => set_option(socket, libc::IPPROTO_IPV6, IPV6_MINHOPCOUNT, &value),
    }
}

/// Sets a socket option (setsockopt(2)).
fn set_option(socket: &impl AsRawFd, level: i32, option: i32, value: &[u8]) -> io::Result<()> {
    // SAFETY: the bytes outlive the call, which reads no more than the given length.
    let code = unsafe {
        let len = value.len() as libc::socklen_t;
        libc::setsockopt(socket.as_raw_fd(), level, option, value.as_ptr().cast(), len)
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
