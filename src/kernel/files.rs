//! Kernel state that is accessed through files, and file operations.
//!
//! Sysctls are below /proc/sys, modules below /lib/modules, and listening ports in /proc/net. The
//! module also writes and removes regular files, for example the CNI configuration and the record of
//! draining real servers. System calls that std lacks, such as finit_module(2), are in `sys`.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use crate::{
    codec::gzip::Gunzip,
    collections::FlatSet,
    model::{items::Protocol, local::Module},
    sys,
};

/// Path of the record of draining real servers. The record does not need to survive a reboot.
pub(crate) const DRAINS: &str = "/run/kinglet/drains";

/// Reads a sysctl; `name` is its path below /proc/sys. Returns `None` if it can't be read, for example
/// because this kernel does not have it.
pub(crate) fn sysctl(name: &str) -> Option<String> {
    let text = fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?;
    Some(text.trim_end().to_owned())
}

/// Writes a sysctl; `name` is its path below /proc/sys. Fails if the kernel does not have it or refuses
/// the value.
pub(crate) fn set_sysctl(name: &str, value: &str) -> io::Result<()> {
    // Without O_CREAT, because a missing sysctl can't be created.
    File::options().write(true).open(Path::new("/proc/sys").join(name))?.write_all(value.as_bytes())
}

/// Reads a file of UTF-8 text. Returns `None` if it does not exist or can't be read.
pub(crate) fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// Returns the kernel's build configuration from /proc/config.gz, or else from /boot/config-RELEASE,
/// as distributions install it. `None` if neither can be read.
pub(crate) fn config(release: &str) -> Option<String> {
    let mut text = String::new();
    let packed = File::open("/proc/config.gz").ok();
    let unpacked = packed.and_then(|f| Gunzip::new(f).read_to_string(&mut text).ok());
    unpacked.map(|_| text).or_else(|| read(&format!("/boot/config-{release}")))
}

/// Returns the effective capabilities of this process as a bit mask (CapEff in /proc/self/status); 0 if
/// they can't be read.
pub(crate) fn rights() -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Returns the seconds since boot, including suspended time (/proc/uptime); 0 if they can't be read.
pub(crate) fn uptime() -> u64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split('.').next().and_then(|seconds| seconds.parse().ok()).unwrap_or(0)
}

/// Replaces a file atomically, after the new content is on the disk; keeps the mode of the old file and
/// creates missing folders. Fails if any step fails; the old file is then unchanged.
pub(crate) fn write(path: &str, text: &str) -> io::Result<()> {
    let path = Path::new(path);
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    // If the path is a symbolic link, its target is replaced.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    // A leading dot and an unknown extension, so that the kubelet does not read it as a configuration.
    let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let fresh = target.with_file_name(format!(".{name}.kinglet"));
    let written = (|| {
        let mut file = File::create(&fresh)?;
        if let Ok(old) = fs::metadata(&target) {
            file.set_permissions(old.permissions())?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, &target)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    written
}

/// Removes a file, and its folder if it is empty then. Returns false if the file did not exist. Fails
/// if the file can't be removed.
pub(crate) fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        done => done?,
    }
    // The folder stays if it is not empty or is a mount point.
    let _ = path.parent().map(fs::remove_dir);
    Ok(true)
}

/// Returns the sorted names of the files in a folder; empty if the folder can't be read.
pub(crate) fn file_names(folder: &Path) -> Vec<Box<str>> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<Box<str>> =
        entries.filter_map(|e| Some(e.file_name().to_str()?.into())).collect();
    names.sort();
    names
}

/// Returns the protocols and ports on which programs listen, without ports that are bound to 127.0.0.1
/// or ::1 only.
pub(crate) fn listening_ports() -> FlatSet<(Protocol, u16)> {
    let mut found = Vec::new();
    // /proc/net/{tcp,udp}: `sl local_address rem_address st …`, addresses in hexadecimal. A listening
    // TCP socket has state 0A (TCP_LISTEN), an unconnected UDP socket has state 07 (TCP_CLOSE).
    for (file, protocol, state) in [
        ("tcp", Protocol::Tcp, "0A"),
        ("tcp6", Protocol::Tcp, "0A"),
        ("udp", Protocol::Udp, "07"),
        ("udp6", Protocol::Udp, "07"),
    ] {
        let text = fs::read_to_string(Path::new("/proc/net").join(file)).unwrap_or_default();
        for line in text.lines().skip(1) {
            let mut fields = line.split_whitespace().skip(1);
            let (local, found_state) = (fields.next().unwrap_or_default(), fields.nth(1));
            let Some((addr, port)) = local.rsplit_once(':') else { continue };
            let loopback = addr == "0100007F" || addr == "00000000000000000000000001000000";
            if found_state == Some(state) && !loopback {
                found.extend(u16::from_str_radix(port, 16).map(|port| (protocol, port)));
            }
        }
    }
    found.into()
}

/// Returns a path that exists if and only if the module is loaded or built in; `None` if there is no
/// such path for this module.
fn presence_path(module: &str) -> Option<&'static str> {
    match module {
        "ip_vs" => Some("/proc/net/ip_vs"),
        "br_netfilter" => Some("/proc/sys/net/bridge"),
        _ => None,
    }
}

/// An index of some modules of the running kernel.
pub(crate) struct Modules {
    folder: PathBuf,
    /// Lines of modules.dep: `path.ko: dependencies…`, with paths below the folder.
    dependencies: String,
    /// Lines of modules.builtin: the paths of built-in modules.
    builtin: String,
    /// True if modules.builtin exists. Then a module that the file does not name is not built in.
    has_builtin_list: bool,
}

impl Modules {
    /// Reads the index of the running kernel, but keeps only the lines of the modules in `names`: all
    /// of modules.dep would be as large as the rest of kinglet's data. A board may have no such folder;
    /// then the index is empty.
    pub(crate) fn open(names: &[&str]) -> Modules {
        let release = sysctl("kernel/osrelease").unwrap_or_default();
        let folder = Path::new("/lib/modules").join(release);
        let read = |file| {
            let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
            let is_wanted = |line: &&str| {
                let path = line.split_once(':').map_or(*line, |(path, _)| path);
                names.contains(&&*name_of(path))
            };
            text.lines().filter(is_wanted).flat_map(|line| [line, "\n"]).collect::<String>()
        };
        let (dependencies, builtin) = (read("modules.dep"), read("modules.builtin"));
        let has_builtin_list = folder.join("modules.builtin").exists();
        Modules { dependencies, builtin, has_builtin_list, folder }
    }

    /// Returns the state of a module without loading it; `None` if it may or may not be built in.
    pub(crate) fn status(&self, module: &str) -> Option<Module> {
        let known_path = presence_path(module);
        if known_path.is_some_and(|path| Path::new(path).exists())
            || known_path.is_none() && Path::new("/sys/module").join(module).exists()
            || known_path.is_none() && self.builtin.lines().any(|path| name_of(path) == module)
        {
            return Some(Module::Present);
        }
        if self.dependency_line(module).is_some_and(|(path, _)| self.folder.join(path).exists()) {
            return Some(Module::Loadable);
        }
        (self.has_builtin_list || known_path.is_some()).then_some(Module::Absent)
    }

    /// Returns the path and the dependencies of a module from modules.dep; `None` if it is not listed.
    fn dependency_line(&self, module: &str) -> Option<(&str, &str)> {
        self.dependencies
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(path, _)| name_of(path) == module)
    }

    /// Loads a module after its dependencies. Fails if modules.dep does not list the module, or if the
    /// kernel refuses one of the files; a module that is already loaded counts as success.
    pub(crate) fn load(&self, module: &str) -> io::Result<()> {
        let absent =
            || io::Error::other(format!("{}/modules.dep does not list it", self.folder.display()));
        let (path, dependencies) = self.dependency_line(module).ok_or_else(absent)?;
        // modules.dep lists the nearest dependency first.
        for path in dependencies.split_whitespace().rev().chain([path]) {
            let whole = self.folder.join(path);
            let file = File::open(&whole).map_err(|e| with_path(&whole, &e))?;
            // By default dummy creates a device, which is not wanted here.
            let parameters = if name_of(path) == "dummy" { c"numdummies=0" } else { c"" };
            let compressed = Path::new(path).extension().is_some_and(|ending| ending != "ko");
            match sys::load_module(&file, parameters, compressed) {
                Err(e) if e.raw_os_error() == Some(sys::errno::EEXIST) => {}
                done => done.map_err(|e| with_path(&whole, &e))?,
            }
        }
        Ok(())
    }
}

/// Puts the path in front of an error.
fn with_path(path: &Path, cause: &io::Error) -> io::Error {
    io::Error::other(format!("{}: {cause}", path.display()))
}

/// Returns the module name for a path: `kernel/net/netfilter/ipvs/ip_vs.ko.xz` → `ip_vs`.
fn name_of(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.split(".ko").next().unwrap_or(name).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_name_ignores_folder_extension_and_dashes() {
        for path in ["kernel/net/br-netfilter.ko", "a/br_netfilter.ko.xz", "br_netfilter.ko.zst"] {
            assert_eq!(name_of(path), "br_netfilter");
        }
    }

    #[test]
    fn a_module_is_loadable_if_its_file_exists_and_absent_if_no_list_names_it() {
        let folder = std::env::temp_dir().join(format!("kinglet-modules-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("there_x.ko"), "").unwrap();
        let mut modules = Modules {
            folder: folder.clone(),
            dependencies: "there_x.ko:\ngone_x.ko: there_x.ko\n".into(),
            builtin: "kernel/built-x.ko\n".into(),
            has_builtin_list: true,
        };
        assert_eq!(modules.status("there_x"), Some(Module::Loadable));
        assert_eq!(modules.status("gone_x"), Some(Module::Absent));
        assert_eq!(modules.status("built_x"), Some(Module::Present));
        assert_eq!(modules.status("other_x"), Some(Module::Absent));
        modules.has_builtin_list = false; // without modules.builtin it may be built in
        assert_eq!(modules.status("other_x"), None);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn writing_through_a_symlink_replaces_the_target_and_keeps_its_mode() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = std::env::temp_dir().join(format!("kinglet-write-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (real, link) = (folder.join("real"), folder.join("link"));
        fs::write(&real, "old").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o600)).unwrap();
        symlink(&real, &link).unwrap();
        write(link.to_str().unwrap(), "new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&real).unwrap(), "new");
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(file_names(&folder).len(), 2, "no leftovers");
        fs::remove_dir_all(&folder).unwrap();
    }
}
