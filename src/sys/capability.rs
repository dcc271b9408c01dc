//! Drops capabilities (capabilities(7), capset(2)).

use std::io;

/// The mask of the capabilities that a daemon keeps: CAP_NET_ADMIN, and CAP_NET_BIND_SERVICE for ports
/// below 1024.
pub(crate) const CAPS: u64 = 1 << 12 | 1 << 10;
/// The mask of CAP_DAC_READ_SEARCH, for reading credentials of other users again.
pub(crate) const CAP_DAC_READ_SEARCH: u64 = 1 << 2;

/// Drops every capability outside `mask`, for this thread and the threads that it starts (capset(2)).
/// It never adds a capability.
pub(crate) fn limit_capabilities(mask: u64) -> io::Result<()> {
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
