//! System calls that std lacks.

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

/// The flag for decompressing a module in the kernel (linux/module.h, since 5.17).
const MODULE_INIT_COMPRESSED_FILE: libc::c_int = 4;

/// IPV6_MINHOPCOUNT (linux/in6.h).
const IPV6_MINHOPCOUNT: libc::c_int = 73;

/// Loads a kernel module from an open file (finit_module(2)). `compressed` requires Linux 5.17. Fails
/// with EEXIST if the module is already loaded.
pub fn load_module(file: &File, parameters: &CStr, compressed: bool) -> io::Result<()> {
    let flags = if compressed { MODULE_INIT_COMPRESSED_FILE } else { 0 };
    // SAFETY: the descriptor and the string outlive the call, which only reads them.
    let code = unsafe {
        libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), parameters.as_ptr(), flags)
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Returns true if this process may write to a file or into a folder. This covers file modes and
/// read-only file systems (access(2)).
pub fn may_write(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: the string outlives the call, which only reads it.
    unsafe { libc::access(path.as_ptr(), libc::W_OK) == 0 }
}

/// Reads a table of xtables: struct ipt_getinfo (IPT_SO_GET_INFO) and its entries (IPT_SO_GET_ENTRIES),
/// in native byte order. The kernel creates the table if it does not exist. Needs CAP_NET_ADMIN.
pub fn read_xtables(ipv4: bool, table: &str) -> io::Result<([u8; 84], Vec<u8>)> {
    const GET_INFO: libc::c_int = 64;
    const GET_ENTRIES: libc::c_int = 65;
    const ENTRIES: usize = 40; // offset of the entries in struct ipt_get_entries
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

/// Replaces this process by another program with the same environment (execv(2)). Returns only if that
/// fails, with the error. std's Command can do the same, but its maps of variables add 14 KB of code.
pub fn exec(program: &CStr, args: impl Iterator<Item = OsString>) -> io::Error {
    // The arguments come from the system, so they contain no NUL.
    let args: Vec<_> = args.filter_map(|arg| CString::new(arg.into_vec()).ok()).collect();
    let list: Vec<_> = args.iter().map(|arg| arg.as_ptr()).chain([std::ptr::null()]).collect();
    // SAFETY: the strings and the null-terminated list outlive the call, which only reads them.
    unsafe { libc::execv(program.as_ptr(), list.as_ptr()) };
    io::Error::last_os_error()
}

/// Returns true if the effective user is root (geteuid(2)).
pub fn is_root() -> bool {
    // SAFETY: geteuid takes no arguments and can't fail.
    unsafe { libc::geteuid() == 0 }
}

/// Converts a type that only implements `IntoRawFd` to an owned descriptor.
pub fn into_owned_fd(from: impl IntoRawFd) -> OwnedFd {
    let fd = from.into_raw_fd();
    // SAFETY: into_raw_fd has just transferred the ownership of this open descriptor to us.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Creates an unconnected, non-blocking TCP socket (socket(2)).
pub fn tcp(ipv4: bool) -> io::Result<OwnedFd> {
    let family = if ipv4 { libc::AF_INET } else { libc::AF_INET6 };
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
pub fn bind(socket: &impl AsRawFd, to: SocketAddr) -> io::Result<()> {
    let address = address(to);
    // SAFETY: the bytes outlive the call, which reads no more than the given length.
    let code = unsafe {
        libc::bind(socket.as_raw_fd(), address.as_ptr().cast(), address.len() as libc::socklen_t)
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Starts to connect a non-blocking socket (connect(2)). The socket becomes writable when the
/// connection is established or has failed.
pub fn connect(socket: &impl AsRawFd, to: SocketAddr) -> io::Result<()> {
    let address = address(to);
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

/// Enables TCP MD5 signatures between a socket and a peer's address (RFC 2385). An empty key disables
/// them. Fails if the key has more than 80 bytes.
pub fn tcp_md5(socket: &impl AsRawFd, peer: IpAddr, key: &[u8]) -> io::Result<()> {
    const KEY: usize = 80; // TCP_MD5SIG_MAXKEYLEN, linux/tcp.h
    if key.len() > KEY {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a TCP MD5 key must not exceed 80 bytes",
        ));
    }
    // struct tcp_md5sig: sockaddr_storage, flags, prefixlen, keylen, ifindex, key
    let mut bytes = address(SocketAddr::new(peer, 0));
    bytes.resize(128, 0);
    bytes.extend([0, 0]);
    bytes.extend((key.len() as u16).to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(key);
    bytes.resize(136 + KEY, 0);
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_MD5SIG, &bytes)
}

/// Sets the time to live (IPv6: hop limit) of the packets that a socket sends.
pub fn ttl(socket: &impl AsRawFd, ipv4: bool, ttl: u8) -> io::Result<()> {
    let value = libc::c_int::from(ttl).to_ne_bytes();
    if ipv4 {
        set_option(socket, libc::IPPROTO_IP, libc::IP_TTL, &value)
    } else {
        set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, &value)
    }
}

/// Sets the minimum time to live (IPv6: hop limit) of the packets that a socket receives. The kernel
/// drops all other packets (IP_MINTTL, RFC 5082).
pub fn least_ttl(socket: &impl AsRawFd, ipv4: bool, ttl: u8) -> io::Result<()> {
    let value = libc::c_int::from(ttl).to_ne_bytes();
    if ipv4 {
        set_option(socket, libc::IPPROTO_IP, libc::IP_MINTTL, &value)
    } else {
        set_option(socket, libc::IPPROTO_IPV6, IPV6_MINHOPCOUNT, &value)
    }
}

/// Attaches a filter that only accepts packets with a time to live of 255, which no router has
/// forwarded (RFC 5082).
pub fn only_from_neighbours(socket: &impl AsRawFd, ipv4: bool) -> io::Result<()> {
    const NET_OFF: u32 = 0xfff0_0000; // SKF_NET_OFF, linux/filter.h
    let ttl = NET_OFF + if ipv4 { 8 } else { 7 };
    let load = instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, ttl);
    attach_filter(socket, &mut [load, skip_unless(255, 1), ACCEPT, DROP])
}

/// Attaches a filter to a netlink socket that drops notifications about changes requested by these
/// netlink ports. It also drops notifications about routes that the kernel itself added or removed
/// (RTPROT_KERNEL), because such a route follows from a link or an address, which has a notification of
/// its own.
pub fn ignore_sender_ports(socket: &impl AsRawFd, ports: &[u32]) -> io::Result<()> {
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

/// Sets a socket option (setsockopt(2)).
fn set_option(socket: &impl AsRawFd, level: i32, option: i32, value: &[u8]) -> io::Result<()> {
    // SAFETY: the bytes outlive the call, which reads no more than the given length.
    let code = unsafe {
        let len = value.len() as libc::socklen_t;
        libc::setsockopt(socket.as_raw_fd(), level, option, value.as_ptr().cast(), len)
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Descriptors to wait for (poll(2)). Each has an index: the number of entries that were added before
/// it.
#[derive(Default)]
pub struct Poll(Vec<libc::pollfd>);

impl Poll {
    /// Removes all descriptors.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds a descriptor. `read` waits until it is readable, `room` until it is writable.
    pub fn add(&mut self, fd: &impl AsFd, read: bool, room: bool) {
        let events = if read { libc::POLLIN } else { 0 } | if room { libc::POLLOUT } else { 0 };
        self.0.push(libc::pollfd { fd: fd.as_fd().as_raw_fd(), events, revents: 0 });
    }

    /// Adds an empty entry, which is never ready, to keep the indices of the entries after it.
    pub fn skip(&mut self) {
        self.0.push(libc::pollfd { fd: -1, events: 0, revents: 0 });
    }

    /// Waits until a descriptor is ready or `rest` has passed; `None` waits without limit. A signal
    /// ends the wait too.
    pub fn wait(&mut self, rest: Option<Duration>) {
        // Rounded up to milliseconds, because after an early wake-up the caller would have to wait
        // again.
        let millis = rest.map_or(-1, |rest| {
            rest.as_nanos().div_ceil(1_000_000).try_into().unwrap_or(libc::c_int::MAX)
        });
        // SAFETY: the list outlives the call, which writes to its entries only. Each descriptor was
        // open when it was added; for a closed one the call only sets POLLNVAL.
        unsafe { libc::poll(self.0.as_mut_ptr(), self.0.len() as libc::nfds_t, millis) };
    }

    /// Returns two flags for the entry at index `at`: readable and writable. After an error or a
    /// hang-up both are true, so that the next read or write returns it. Both are false if there is no
    /// such entry.
    pub fn ready(&self, at: usize) -> (bool, bool) {
        let events = self.0.get(at).map_or(0, |entry| entry.revents);
        let over = events & (libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) != 0;
        (over || events & libc::POLLIN != 0, over || events & libc::POLLOUT != 0)
    }
}

/// A flag that any thread can set and a poll loop can wait for (eventfd(2)).
pub struct EventFd(File);

impl EventFd {
    /// Creates a flag that is not set.
    pub fn new() -> io::Result<EventFd> {
        // SAFETY: the call takes numbers only.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call above has just opened this descriptor for us.
        Ok(EventFd(File::from(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// Sets the flag; its descriptor stays readable until the flag is cleared.
    pub fn ring(&self) {
        let _ = (&self.0).write(&1_u64.to_ne_bytes());
    }

    /// Clears the flag.
    pub fn hush(&self) {
        let _ = (&self.0).read(&mut [0; 8]);
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// SIGHUP, the signal that reloads the configuration.
pub const HANGUP: libc::c_int = libc::SIGHUP;
/// The signals that terminate or restart a daemon.
pub const ENDING: [libc::c_int; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

/// Blocks some signals and returns a non-blocking descriptor from which they can be read (signalfd(2)).
/// Without it, process 1 of a container would not receive them. It must be called before another thread
/// starts, because threads inherit the signal mask.
pub fn signals(numbers: &[libc::c_int]) -> io::Result<Signals> {
    // SAFETY: an all-zero sigset_t is valid. It outlives the calls; only sigemptyset and sigaddset
    // write to it.
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
    // SAFETY: the call above has just opened this descriptor for us.
    Ok(Signals(File::from(unsafe { OwnedFd::from_raw_fd(fd) })))
}

/// A descriptor with the pending signals.
#[derive(Debug)]
pub struct Signals(File);

impl Signals {
    /// Returns the number of the next pending signal; `None` if there is none.
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

/// The mask of the capabilities that a daemon keeps: CAP_NET_ADMIN, and CAP_NET_BIND_SERVICE for ports
/// below 1024.
pub const RIGHTS: u64 = 1 << 12 | 1 << 10;
/// The mask of CAP_DAC_READ_SEARCH, for reading credentials of other users again.
pub const READ_ANY: u64 = 1 << 2;

/// Drops every capability outside `mask`, for this thread and the threads that it starts (capset(2)).
/// It never adds a capability.
pub fn keep_rights(mask: u64) -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522; // _LINUX_CAPABILITY_VERSION_3
    let header = [VERSION_3, 0];
    // struct __user_cap_data_struct { u32 effective, permitted, inheritable; } [2]
    let mut data = [0_u32; 6];
    // SAFETY: both arrays have the sizes that version 3 requires, and outlive the calls.
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
