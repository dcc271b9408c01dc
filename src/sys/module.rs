//! Loads kernel modules (finit_module(2)).

use std::{ffi::CStr, fs::File, io, os::fd::AsRawFd};

/// The flag for decompressing a module in the kernel (linux/module.h, since 5.17).
const MODULE_INIT_COMPRESSED_FILE: libc::c_int = 4;

/// Loads a kernel module from an open file (finit_module(2)). `compressed` requires Linux 5.17. Fails
/// with EEXIST if the module is already loaded.
pub(crate) fn load_module(file: &File, parameters: &CStr, compressed: bool) -> io::Result<()> {
    let flags = if compressed { MODULE_INIT_COMPRESSED_FILE } else { 0 };
    // SAFETY: the descriptor and the string outlive the call, which only reads them.
    let code = unsafe {
        libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), parameters.as_ptr(), flags)
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
