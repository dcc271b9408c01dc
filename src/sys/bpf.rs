//! Classic BPF filters of sockets (SO_ATTACH_FILTER, socket(7); linux/filter.h).

use std::{io, os::fd::AsRawFd};

use crate::family::Family;

/// Attaches a filter that only accepts packets with a time to live of 255, which no router has
/// forwarded (RFC 5082).
pub(crate) fn require_ttl_255(socket: &impl AsRawFd, family: Family) -> io::Result<()> {
    const NET_OFF: u32 = 0xfff0_0000; // SKF_NET_OFF, linux/filter.h
    let ttl = match family {
        Family::Ipv4 => NET_OFF + 8, // struct iphdr: ttl
        Family::Ipv6 => NET_OFF + 7, // struct ipv6hdr: hop_limit
    };
    let load = instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, ttl);
    attach_filter(socket, &mut [load, skip_unless(255, 1), ACCEPT, DROP])
}

/// Attaches a filter to a netlink socket that drops notifications about changes requested by these
/// netlink ports. It also drops notifications about routes that the kernel itself added or removed
/// (RTPROT_KERNEL), because such a route follows from a link or an address, which has a notification of
/// its own.
pub(crate) fn ignore_sender_ports(socket: &impl AsRawFd, ports: &[u32]) -> io::Result<()> {
    // struct nlmsghdr { u32 len; u16 type, flags; u32 seq, pid; }
    // struct rtmsg { u8 family, dst_len, src_len, tos, table, protocol, scope, type; u32 flags; }
    const TYPE: u32 = 4;
    const PID: u32 = 12;
    const PROTOCOL: u32 = 21;
    const RTPROT_KERNEL: u32 = libc::RTPROT_KERNEL as u32;
    let load = |size, at| instruction(libc::BPF_LD | size | libc::BPF_ABS, 0, 0, at);
    // A filter loads big-endian numbers, but the kernel writes netlink headers in native order.
    let port = |port: &u32| u32::from_be_bytes(port.to_ne_bytes());
    let kind = |kind: u16| u32::from(u16::from_be_bytes(kind.to_ne_bytes()));
    let mut program = vec![load(libc::BPF_W, PID)];
    program.extend(ports.iter().flat_map(|own| [skip_unless(port(own), 1), DROP]));
    let new_route =
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, 0, kind(libc::RTM_NEWROUTE));
    let is_route = [load(libc::BPF_H, TYPE), new_route, skip_unless(kind(libc::RTM_DELROUTE), 3)];
    let by_kernel = [load(libc::BPF_B, PROTOCOL), skip_unless(RTPROT_KERNEL, 1), DROP];
    program.push(skip_unless(0, 6));
    program.extend(is_route.into_iter().chain(by_kernel));
    program.push(ACCEPT);
    attach_filter(socket, &mut program)
}

/// Accepts the whole packet.
const ACCEPT: libc::sock_filter = instruction(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX);
const DROP: libc::sock_filter = instruction(libc::BPF_RET | libc::BPF_K, 0, 0, 0);

/// An instruction of a classic BPF filter (linux/filter.h).
const fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

/// Skips the next `count` instructions unless the loaded number equals `value`.
const fn skip_unless(value: u32, count: u8) -> libc::sock_filter {
    instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, count, value)
}

/// Attaches a classic BPF filter to a socket (SO_ATTACH_FILTER, socket(7)).
fn attach_filter(socket: &impl AsRawFd, program: &mut [libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the program and its instructions outlive the call, which only reads them.
    let code = unsafe {
        let len = size_of::<libc::sock_fprog>() as libc::socklen_t;
        let program = (&raw const program).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, program, len)
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
