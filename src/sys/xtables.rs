//! Reads the tables of xtables (linux/netfilter_ipv4/ip_tables.h).

use std::{io, os::fd::AsRawFd};

use crate::family::Family;

/// Reads a table of xtables: struct ipt_getinfo (IPT_SO_GET_INFO) and its entries (IPT_SO_GET_ENTRIES),
/// in native byte order. The kernel creates the table if it does not exist. Needs CAP_NET_ADMIN.
pub(crate) fn read_xtables(family: Family, table: &str) -> io::Result<([u8; 84], Vec<u8>)> {
    const GET_INFO: libc::c_int = 64;
    const GET_ENTRIES: libc::c_int = 65;
    const ENTRIES: usize = 40; // offset of the entries in struct ipt_get_entries
    let (address, level) = match family {
        Family::Ipv4 => ("0.0.0.0:0", libc::IPPROTO_IP),
        Family::Ipv6 => ("[::]:0", libc::IPPROTO_IPV6),
    };
    let socket = std::net::UdpSocket::bind(address)?;
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
