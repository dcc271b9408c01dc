//! The system calls that std lacks. All of kinglet's `unsafe` is here.
#![allow(unsafe_code)]

use std::{ffi::CStr, fs::File, io, os::fd::AsRawFd};

/// Decompress the module in the kernel (`MODULE_INIT_COMPRESSED_FILE`, linux/module.h, from 5.17).
const MODULE_INIT_COMPRESSED_FILE: libc::c_int = 4;

/// Loads a kernel module from an open file (finit_module(2)).
pub fn load_module(file: &File, parameters: &CStr, compressed: bool) -> io::Result<()> {
    let flags = if compressed { MODULE_INIT_COMPRESSED_FILE } else { 0 };
    // SAFETY: the descriptor and the string live through the call, which reads both and keeps neither.
    let code = unsafe {
        libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), parameters.as_ptr(), flags)
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether this process runs as root.
pub fn is_root() -> bool {
    // SAFETY: geteuid takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}
