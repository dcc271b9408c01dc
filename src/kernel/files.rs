//! What of the kernel is files: settings under /proc/sys, modules under /lib/modules; and the one
//! real file that kinglet writes.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use super::sys;
use crate::few::Sorted;
use crate::{gzip::Gunzip, local::Module, state::Protocol};

/// The record of draining real servers: it may die with the boot.
pub const DRAINS: &str = "/run/kinglet/drains";

/// Reads a setting below /proc/sys; `None` where this kernel does not have it.
pub fn sysctl(name: &str) -> Option<String> {
    let text = fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?;
    Some(text.trim_end().to_owned())
}

/// Writes a setting below /proc/sys.
pub fn set_sysctl(name: &str, value: &str) -> io::Result<()> {
    // Without O_CREAT: a setting that is not there can't be made.
    File::options().write(true).open(Path::new("/proc/sys").join(name))?.write_all(value.as_bytes())
}

/// Reads a file; `None` where there is none, or none that can be read.
pub fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// The kernel's configuration: as it keeps it itself, or as distributions put it beside it.
pub fn config(release: &str) -> Option<String> {
    let mut text = String::new();
    let packed = File::open("/proc/config.gz").ok();
    let unpacked = packed.and_then(|f| Gunzip::new(f).read_to_string(&mut text).ok());
    unpacked.map(|_| text).or_else(|| read(&format!("/boot/config-{release}")))
}

/// The effective capabilities of this process, bit by bit (CapEff of /proc/self/status).
pub fn rights() -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Seconds since the boot, those asleep too (/proc/uptime).
pub fn uptime() -> u64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split('.').next().and_then(|seconds| seconds.parse().ok()).unwrap_or(0)
}

/// Puts a whole file in place of another in one step, and not before it is on the disk.
pub fn write(path: &str, text: &str) -> io::Result<()> {
    let path = Path::new(path);
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    // A link stays a link: what it leads to is replaced.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    // A leading dot and no known ending: the kubelet does not take it for a configuration.
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

/// Removes a file, and its folder where nothing else is in it; false: it was not there.
pub fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        done => done?,
    }
    // Not empty, or a mount point: it stays.
    let _ = path.parent().map(fs::remove_dir);
    Ok(true)
}

/// The names of the files in a folder, sorted; none where there is no such folder.
pub fn names(folder: &Path) -> Vec<Box<str>> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<Box<str>> =
        entries.filter_map(|e| Some(e.file_name().to_str()?.into())).collect();
    names.sort();
    names
}

/// The ports on which programs listen at all addresses, or at one that is not the loopback's.
pub fn listens() -> Sorted<(Protocol, u16)> {
    let mut found = Vec::new();
    // /proc/net/{tcp,udp}: `sl local_address rem_address st …`, addresses in hexadecimal; a listener
    // is in state 0A (TCP_LISTEN), a UDP socket that nobody is connected to in 07 (TCP_CLOSE).
    for (file, protocol, state) in [
        ("tcp", Protocol::Tcp, "0A"),
        ("tcp6", Protocol::Tcp, "0A"),
        ("udp", Protocol::Udp, "07"),
        ("udp6", Protocol::Udp, "07"),
    ] {
        let text = fs::read_to_string(Path::new("/proc/net").join(file)).unwrap_or_default();
        for line in text.lines().skip(1) {
            let mut fields = line.split_whitespace().skip(1);
            let (local, there) = (fields.next().unwrap_or_default(), fields.nth(1));
            let Some((addr, port)) = local.rsplit_once(':') else { continue };
            let loopback = addr == "0100007F" || addr == "00000000000000000000000001000000";
            if there == Some(state) && !loopback {
                found.extend(u16::from_str_radix(port, 16).map(|port| (protocol, port)));
            }
        }
    }
    found.into()
}

/// Where a module's name can be looked up without loading it: what works once it is there.
fn trace(module: &str) -> Option<&'static str> {
    match module {
        "ip_vs" => Some("/proc/net/ip_vs"),
        "br_netfilter" => Some("/proc/sys/net/bridge"),
        _ => None,
    }
}

/// Some modules of the running kernel.
pub struct Modules {
    folder: PathBuf,
    /// modules.dep: `path.ko: dependencies…`, paths below the folder.
    dependencies: String,
    /// modules.builtin: paths of what needs no loading.
    builtin: String,
    /// Whether there is such a file: what it does not name is then not built in.
    listed: bool,
}

impl Modules {
    /// Looks at the folder of the running kernel, for the modules that will be asked for: all of
    /// modules.dep is as large as all else that is kept. A board may have none.
    pub fn open(names: &[&str]) -> Modules {
        let release = sysctl("kernel/osrelease").unwrap_or_default();
        let folder = Path::new("/lib/modules").join(release);
        let read = |file| {
            let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
            let asked = |line: &&str| {
                let path = line.split_once(':').map_or(*line, |(path, _)| path);
                names.contains(&&*name_of(path))
            };
            text.lines().filter(asked).flat_map(|line| [line, "\n"]).collect::<String>()
        };
        let (dependencies, builtin) = (read("modules.dep"), read("modules.builtin"));
        let listed = folder.join("modules.builtin").exists();
        Modules { dependencies, builtin, listed, folder }
    }

    /// What can be said of a module without loading it; `None`: it may be built in.
    pub fn status(&self, module: &str) -> Option<Module> {
        let trace = trace(module);
        if trace.is_some_and(|path| Path::new(path).exists())
            || trace.is_none() && Path::new("/sys/module").join(module).exists()
            || trace.is_none() && self.builtin.lines().any(|path| name_of(path) == module)
        {
            return Some(Module::Present);
        }
        if self.line(module).is_some_and(|(path, _)| self.folder.join(path).exists()) {
            return Some(Module::Loadable);
        }
        (self.listed || trace.is_some()).then_some(Module::Absent)
    }

    fn line(&self, module: &str) -> Option<(&str, &str)> {
        self.dependencies
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(path, _)| name_of(path) == module)
    }

    /// Loads a module, what it depends on first.
    pub fn load(&self, module: &str) -> io::Result<()> {
        let absent = || io::Error::other(format!("it is not in {}", self.folder.display()));
        let (path, dependencies) = self.line(module).ok_or_else(absent)?;
        // modules.dep lists the nearest dependency first.
        for path in dependencies.split_whitespace().rev().chain([path]) {
            let whole = self.folder.join(path);
            let file = File::open(&whole).map_err(|e| in_file(&whole, &e))?;
            // dummy makes a device of its own that nobody asked for, unless it is told not to.
            let parameters = if name_of(path) == "dummy" { c"numdummies=0" } else { c"" };
            let compressed = Path::new(path).extension().is_some_and(|ending| ending != "ko");
            match sys::load_module(&file, parameters, compressed) {
                Err(e) if e.raw_os_error() == Some(libc::EEXIST) => {}
                done => done.map_err(|e| in_file(&whole, &e))?,
            }
        }
        Ok(())
    }
}

fn in_file(path: &Path, cause: &io::Error) -> io::Error {
    io::Error::other(format!("{}: {cause}", path.display()))
}

/// `kernel/net/netfilter/ipvs/ip_vs.ko.xz` → `ip_vs`
fn name_of(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.split(".ko").next().unwrap_or(name).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_found_by_its_name_whatever_its_ending() {
        for path in ["kernel/net/br-netfilter.ko", "a/br_netfilter.ko.xz", "br_netfilter.ko.zst"] {
            assert_eq!(name_of(path), "br_netfilter");
        }
    }

    #[test]
    fn a_module_is_there_where_its_file_is_and_absent_where_nothing_names_it() {
        let folder = std::env::temp_dir().join(format!("kinglet-modules-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("there_x.ko"), "").unwrap();
        let mut modules = Modules {
            folder: folder.clone(),
            dependencies: "there_x.ko:\ngone_x.ko: there_x.ko\n".into(),
            builtin: "kernel/built-x.ko\n".into(),
            listed: true,
        };
        assert_eq!(modules.status("there_x"), Some(Module::Loadable));
        assert_eq!(modules.status("gone_x"), Some(Module::Absent));
        assert_eq!(modules.status("built_x"), Some(Module::Present));
        assert_eq!(modules.status("other_x"), Some(Module::Absent));
        modules.listed = false; // no modules.builtin: it may be built in
        assert_eq!(modules.status("other_x"), None);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_file_is_replaced_through_its_link_and_keeps_its_mode() {
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
        assert_eq!(names(&folder).len(), 2, "no leftovers");
        fs::remove_dir_all(&folder).unwrap();
    }
}
