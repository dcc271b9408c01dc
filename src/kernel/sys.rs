//! The system calls that std lacks. All of kinglet's `unsafe` is here.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString, OsString},
    fs::File,
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::Path,
    time::Duration,
};

/// Decompress the module in the kernel (`MODULE_INIT_COMPRESSED_FILE`, linux/module.h, from 5.17).
const MODULE_INIT_COMPRESSED_FILE: libc::c_int = 4;

/// linux/in6.h
const IPV6_MINHOPCOUNT: libc::c_int = 73;

/// Loads a kernel module from an open file (finit_module(2)).
pub fn load_module(file: &File, parameters: &CStr, compressed: bool) -> io::Result<()> {
    let flags = if compressed { MODULE_INIT_COMPRESSED_FILE } else { 0 };
    // SAFETY: the descriptor and the string live through the call, which reads both and keeps neither.
    let code = unsafe {
        libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), parameters.as_ptr(), flags)
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether this process may write to a file or into a folder: modes, and file systems that are mounted
/// read-only (access(2)).
pub fn may_write(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: the string lives through the call, which reads it and keeps nothing.
    unsafe { libc::access(path.as_ptr(), libc::W_OK) == 0 }
}

/// A table of xtables: what IPT_SO_GET_INFO and IPT_SO_GET_ENTRIES say of it.
pub fn xtables(ipv4: bool, table: &str) -> io::Result<([u8; 84], Vec<u8>)> {
    const GET_INFO: libc::c_int = 64;
    const GET_ENTRIES: libc::c_int = 65;
    const ENTRIES: usize = 40; // where they begin in struct ipt_get_entries
    let address = if ipv4 { "0.0.0.0:0" } else { "[::]:0" };
    let socket = std::net::UdpSocket::bind(address)?;
    let level = if ipv4 { libc::IPPROTO_IP } else { libc::IPPROTO_IPV6 };
    let get = |option, bytes: &mut [u8]| {
        let mut len = bytes.len() as libc::socklen_t;
        // SAFETY: the kernel writes no more than `len` bytes to `bytes`, which outlives the call.
        let code = unsafe {
            let to = bytes.as_mut_ptr().cast();
            libc::getsockopt(socket.as_raw_fd(), level, option, to, &raw mut len)
        };
        if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    let mut info = [0; 84];
    let name = table.as_bytes().get(..31).unwrap_or(table.as_bytes()); // char name[32]
    info[..name.len()].copy_from_slice(name);
    get(GET_INFO, &mut info)?;
    let size = [info[80], info[81], info[82], info[83]];
    let mut entries = vec![0; ENTRIES + u32::from_ne_bytes(size) as usize];
    entries[..name.len()].copy_from_slice(name);
    entries[32..36].copy_from_slice(&size);
    get(GET_ENTRIES, &mut entries)?;
    Ok((info, entries.split_off(ENTRIES)))
}

/// Turns this process into another program with the same environment (execv(2)); comes back with why
/// it could not. std's Command does it too, and keeps maps of variables for it: 14 KB.
pub fn exec(program: &CStr, args: impl Iterator<Item = OsString>) -> io::Error {
    // The system gave them, so there is no NUL in them.
    let args: Vec<_> = args.filter_map(|arg| CString::new(arg.into_vec()).ok()).collect();
    let list: Vec<_> = args.iter().map(|arg| arg.as_ptr()).chain([std::ptr::null()]).collect();
    // SAFETY: the strings and the list, which ends with a null, live through the call; it keeps none.
    unsafe { libc::execv(program.as_ptr(), list.as_ptr()) };
    io::Error::last_os_error()
}

/// Whether this process runs as root.
pub fn is_root() -> bool {
    // SAFETY: geteuid takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Takes a descriptor over from a type that only knows it as a number.
pub fn owned(from: impl IntoRawFd) -> OwnedFd {
    let fd = from.into_raw_fd();
    // SAFETY: into_raw_fd gave the ownership of an open descriptor away, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A TCP socket that never blocks, before it is connected (socket(2)).
pub fn tcp(ipv4: bool) -> io::Result<OwnedFd> {
    let family = if ipv4 { libc::AF_INET } else { libc::AF_INET6 };
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: the call takes numbers alone.
    let fd = unsafe { libc::socket(family, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just opened it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Gives a socket an address of its own (bind(2)).
pub fn bind(socket: &impl AsRawFd, to: SocketAddr) -> io::Result<()> {
    let address = address(to);
    // SAFETY: the bytes live through the call, which reads as many as it is told.
    let code = unsafe {
        libc::bind(socket.as_raw_fd(), address.as_ptr().cast(), address.len() as libc::socklen_t)
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Begins to connect a socket that never blocks (connect(2)); it is writable when that is over.
pub fn connect(socket: &impl AsRawFd, to: SocketAddr) -> io::Result<()> {
    let address = address(to);
    // SAFETY: the bytes live through the call, which reads as many as it is told.
    let code = unsafe {
        libc::connect(socket.as_raw_fd(), address.as_ptr().cast(), address.len() as libc::socklen_t)
    };
    match io::Error::last_os_error() {
        _ if code == 0 => Ok(()),
        e if e.raw_os_error() == Some(libc::EINPROGRESS) => Ok(()),
        e => Err(e),
    }
}

/// struct sockaddr_in or sockaddr_in6
fn address(of: SocketAddr) -> Vec<u8> {
    let family = if of.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 } as libc::sa_family_t;
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

/// Signs and checks all that goes between a socket and an address (RFC 2385); an empty key ends that.
pub fn tcp_md5(socket: &impl AsRawFd, peer: IpAddr, key: &[u8]) -> io::Result<()> {
    const KEY: usize = 80; // TCP_MD5SIG_MAXKEYLEN, linux/tcp.h
    if key.len() > KEY {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a key has 80 bytes at most"));
    }
    // struct tcp_md5sig: sockaddr_storage, flags, prefixlen, keylen, ifindex, key
    let mut bytes = address(SocketAddr::new(peer, 0));
    bytes.resize(128, 0);
    bytes.extend([0, 0]);
    bytes.extend((key.len() as u16).to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(key);
    bytes.resize(136 + KEY, 0);
    set(socket, libc::IPPROTO_TCP, libc::TCP_MD5SIG, &bytes)
}

/// The time to live of what a socket sends.
pub fn ttl(socket: &impl AsRawFd, ipv4: bool, ttl: u8) -> io::Result<()> {
    let value = libc::c_int::from(ttl).to_ne_bytes();
    if ipv4 {
        set(socket, libc::IPPROTO_IP, libc::IP_TTL, &value)
    } else {
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, &value)
    }
}

/// The least time to live of what a socket takes: the kernel drops all else.
pub fn least_ttl(socket: &impl AsRawFd, ipv4: bool, ttl: u8) -> io::Result<()> {
    let value = libc::c_int::from(ttl).to_ne_bytes();
    if ipv4 {
        set(socket, libc::IPPROTO_IP, libc::IP_MINTTL, &value)
    } else {
        set(socket, libc::IPPROTO_IPV6, IPV6_MINHOPCOUNT, &value)
    }
}

/// Lets a socket take only what no router has passed on: what came with a time to live of 255.
pub fn only_from_neighbours(socket: &impl AsRawFd, ipv4: bool) -> io::Result<()> {
    const NET_OFF: u32 = 0xfff0_0000; // SKF_NET_OFF, linux/filter.h
    let ttl = NET_OFF + if ipv4 { 8 } else { 7 };
    let load = step(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, ttl);
    filter(socket, &mut [load, unless(255, 1), TAKE, DROP])
}

/// Lets a socket that hears what the kernel tells all take nothing that these netlink ports asked for; of
/// routes, nothing either that the kernel made or removed by itself (RTPROT_KERNEL): what they follow from,
/// a link or an address, is told as well.
pub fn deaf_to(socket: &impl AsRawFd, ports: &[u32]) -> io::Result<()> {
    // struct nlmsghdr { u32 len; u16 type, flags; u32 seq, pid; }
    // struct rtmsg { u8 family, dst_len, src_len, tos, table, protocol, scope, type; u32 flags; }
    const TYPE: u32 = 4;
    const PID: u32 = 12;
    const PROTOCOL: u32 = 21;
    const RTPROT_KERNEL: u32 = libc::RTPROT_KERNEL as u32;
    let load = |size, at| step(libc::BPF_LD | size | libc::BPF_ABS, 0, 0, at);
    // A filter reads in network order, and the kernel writes in its own.
    let port = |port: &u32| u32::from_be_bytes(port.to_ne_bytes());
    let kind = |kind: u16| u32::from(u16::from_be_bytes(kind.to_ne_bytes()));
    let mut steps = vec![load(libc::BPF_W, PID)];
    steps.extend(ports.iter().flat_map(|own| [unless(port(own), 1), DROP]));
    let made = step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, 0, kind(libc::RTM_NEWROUTE));
    let route = [load(libc::BPF_H, TYPE), made, unless(kind(libc::RTM_DELROUTE), 3)];
    let by_itself = [load(libc::BPF_B, PROTOCOL), unless(RTPROT_KERNEL, 1), DROP];
    steps.push(unless(0, 6));
    steps.extend(route.into_iter().chain(by_itself));
    steps.push(TAKE);
    filter(socket, &mut steps)
}

/// Takes the whole of it.
const TAKE: libc::sock_filter = step(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX);
const DROP: libc::sock_filter = step(libc::BPF_RET | libc::BPF_K, 0, 0, 0);

/// A step of a filter (linux/filter.h).
const fn step(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

/// Leaves some steps out, unless what was loaded is this.
const fn unless(value: u32, leave_out: u8) -> libc::sock_filter {
    step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, leave_out, value)
}

/// Runs these steps on all that comes to a socket.
fn filter(socket: &impl AsRawFd, steps: &mut [libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: the program and its steps live through the call, which copies them and writes to neither.
    let code = unsafe {
        let len = size_of::<libc::sock_fprog>() as libc::socklen_t;
        let program = (&raw const program).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, program, len)
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn set(socket: &impl AsRawFd, level: i32, option: i32, value: &[u8]) -> io::Result<()> {
    // SAFETY: the bytes live through the call, which reads as many as it is told.
    let code = unsafe {
        let len = value.len() as libc::socklen_t;
        libc::setsockopt(socket.as_raw_fd(), level, option, value.as_ptr().cast(), len)
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Descriptors to wait for (poll(2)), each known by the order in which it was added.
#[derive(Default)]
pub struct Poll(Vec<libc::pollfd>);

impl Poll {
    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Waits for bytes to read; with `room` for room to write too.
    pub fn add(&mut self, fd: &impl AsFd, read: bool, room: bool) {
        let events = if read { libc::POLLIN } else { 0 } | if room { libc::POLLOUT } else { 0 };
        self.0.push(libc::pollfd { fd: fd.as_fd().as_raw_fd(), events, revents: 0 });
    }

    /// Adds nothing, in one's place.
    pub fn skip(&mut self) {
        self.0.push(libc::pollfd { fd: -1, events: 0, revents: 0 });
    }

    /// Waits until one of them is ready or it takes too long; a signal ends it as well.
    pub fn wait(&mut self, rest: Option<Duration>) {
        // Rounded up: whoever wakes too early would only wait again.
        let millis = rest.map_or(-1, |rest| {
            rest.as_nanos().div_ceil(1_000_000).try_into().unwrap_or(libc::c_int::MAX)
        });
        // SAFETY: the list lives through the call, which writes only to its entries; all descriptors in
        // it were open when they were added, and one that is not any more is only called invalid.
        unsafe { libc::poll(self.0.as_mut_ptr(), self.0.len() as libc::nfds_t, millis) };
    }

    /// Whether there is something to read (or an end or an error to hear of), and room to write.
    pub fn ready(&self, at: usize) -> (bool, bool) {
        let events = self.0.get(at).map_or(0, |entry| entry.revents);
        let over = events & (libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) != 0;
        (over || events & libc::POLLIN != 0, over || events & libc::POLLOUT != 0)
    }
}

/// Wakes who waits for it, from any thread (eventfd(2)).
pub struct Bell(File);

impl Bell {
    /// A bell that does not ring.
    pub fn new() -> io::Result<Bell> {
        // SAFETY: the call takes numbers alone.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call has just opened it for us.
        Ok(Bell(File::from(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// Rings until it is hushed.
    pub fn ring(&self) {
        let _ = (&self.0).write(&1_u64.to_ne_bytes());
    }

    /// Rings no more.
    pub fn hush(&self) {
        let _ = (&self.0).read(&mut [0; 8]);
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// SIGHUP
pub const HANGUP: libc::c_int = libc::SIGHUP;
/// The signals that end a daemon, or start it anew.
pub const ENDING: [libc::c_int; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

/// Signals, each as a number to be read from a file that never blocks (signalfd(2)): process 1 of a
/// container would not get them otherwise. To be called before there is another thread.
pub fn signals(numbers: &[libc::c_int]) -> io::Result<Signals> {
    // SAFETY: an all-zero sigset_t is a valid one; it lives through the calls, which only read it
    // after sigemptyset and sigaddset wrote to it.
    let fd = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for number in numbers {
            libc::sigaddset(&raw mut set, *number);
        }
        if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just opened it for us.
    Ok(Signals(File::from(unsafe { OwnedFd::from_raw_fd(fd) })))
}

/// Signals that wait to be read.
#[derive(Debug)]
pub struct Signals(File);

impl Signals {
    /// The next one, where there is one.
    pub fn take(&mut self) -> Option<libc::c_int> {
        let mut info = [0; 128]; // struct signalfd_siginfo, which starts with the number
        let len = self.0.read(&mut info).unwrap_or(0);
        let number = info.first_chunk::<4>().filter(|_| len == info.len())?;
        Some(libc::c_int::from_ne_bytes(*number))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The capabilities that a daemon keeps: CAP_NET_ADMIN, and CAP_NET_BIND_SERVICE for ports below 1024.
pub const RIGHTS: u64 = 1 << 12 | 1 << 10;
/// CAP_DAC_READ_SEARCH: to read credentials again that belong to somebody else.
pub const READ_ANY: u64 = 1 << 2;

/// Gives every capability away but those of a mask, for this thread and those that it starts
/// (capset(2)). What is not had is not asked for.
pub fn keep_rights(mask: u64) -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522; // _LINUX_CAPABILITY_VERSION_3
    let header = [VERSION_3, 0];
    // struct __user_cap_data_struct { u32 effective, permitted, inheritable; } [2]
    let mut data = [0_u32; 6];
    // SAFETY: both arrays have the sizes that version 3 says, and live through the calls.
    let code = unsafe {
        match libc::syscall(libc::SYS_capget, header.as_ptr(), data.as_mut_ptr()) {
            0 => {
                for (half, keep) in [(0, mask as u32), (3, (mask >> 32) as u32)] {
                    data[half] &= keep;
                    data[half + 1] &= keep;
                    data[half + 2] = 0;
                }
                libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr())
            }
            code => code,
        }
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
