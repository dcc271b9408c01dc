//! The system calls that std lacks. All of kinglet's `unsafe` is here.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString},
    fs::File,
    io,
    os::{fd::AsRawFd, unix::ffi::OsStrExt},
    path::Path,
};

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

/// Whether this process may write to a file or into a folder: modes, and file systems that are mounted
/// read-only (access(2)).
pub fn may_write(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: the string lives through the call, which reads it and keeps nothing.
    unsafe { libc::access(path.as_ptr(), libc::W_OK) == 0 }
}

/// Whether this process runs as root.
pub fn is_root() -> bool {
    // SAFETY: geteuid takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}
