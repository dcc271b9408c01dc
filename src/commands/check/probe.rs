//! Collects the facts for `kinglet check`. It reads the kernel, the files and the API, and changes
//! nothing: no module is loaded, and a bound port is closed again.

use std::path::Path;

use super::{
    facts::{BoardFacts, FileState},
    features::FEATURES,
    leftovers::Leftovers,
};
use crate::{
    api::{Api, Source},
    desired::cni_config,
    error::Result,
    kernel::{Kernel, files, lock::Lock, xtables},
    model::{cluster::Kind, items::Protocol, local::Options},
    report::{try_port, unix},
    sys,
};

/// The flags that `check` needs beside [`Options`].
#[derive(Debug)]
pub(crate) struct ProbeOptions {
    /// The address and credentials of the API server.
    pub source: Source,
    /// The folder of the status socket (`--run-dir`).
    pub run_dir: String,
    /// The path of the snapshot (`--snapshot`); `None` if snapshots are off.
    pub snapshot: Option<String>,
    /// The address and port of the health probes (`--health-addr`, `--health-port`).
    pub health: (String, u16),
    /// The BGP port (`--bgp-port`); 0 if BGP is off.
    pub bgp: u16,
}

/// The CNI plugins that pods need.
const PLUGINS: [&str; 3] = ["bridge", "host-local", "loopback"];

/// Collects the facts. Fails if netlink or the kernel's state cannot be read; a failed access to the API
/// is a fact, not an error.
pub(crate) fn probe(options: &Options, asked: &ProbeOptions) -> Result<BoardFacts> {
    let mut kernel = Kernel::open()?;
    let modules = FEATURES.iter().map(|f| f.module).filter(|module| !module.is_empty());
    let modules = modules.filter_map(|module| Some((module, kernel.module_status(module)?)));
    let modules = modules.collect();
    let release = files::sysctl("kernel/osrelease").unwrap_or_default();
    let (router, services) = (options.router, options.services);
    let host = kernel.host(options)?;
    let folder = Path::new(&*options.cni_conf).parent().unwrap_or(Path::new("/"));
    let left = Leftovers {
        chains: kernel.all_chains()?,
        legacy: xtables::chains(),
        links: kernel.link_names()?,
        conflists: match router && options.cni {
            true => {
                let names = host.cni_folder.iter().map(|name| &**name);
                cni_config::before(&options.cni_conf, names).map(str::to_owned).collect()
            }
            false => Vec::new(),
        },
        flannel: Path::new("/run/flannel/subnet.env").exists(),
        k3s: Path::new("/var/lib/rancher/k3s").exists(),
        proxy: services && host.listens.contains(&(Protocol::Tcp, 10256)),
    };
    let missing = |name: &&str| {
        !["/opt/cni/bin", "/usr/lib/cni"].iter().any(|f| Path::new(f).join(name).exists())
    };
    let missing_plugins =
        if router { PLUGINS.into_iter().filter(missing).collect() } else { vec![] };
    let running = !matches!(Lock::take(), Ok(Some(_)));
    Ok(BoardFacts {
        router,
        services,
        config: files::config(&release),
        release,
        modules,
        can_load: can_load_modules(files::sysctl("kernel/modules_disabled").as_deref()),
        capabilities: files::rights(),
        files: writable(options, folder, asked),
        missing_plugins,
        api: api_access(services, &asked.source),
        health: bind_error(running, &asked.health.0, asked.health.1),
        bgp: bind_error(running, "", asked.bgp),
        clock: unix(),
        left,
    })
}

/// Returns the files that kinglet writes with these options.
fn writable(options: &Options, folder: &Path, asked: &ProbeOptions) -> Vec<FileState> {
    let file = |path: &str, purpose, required| {
        // A missing file will be created, so the nearest existing folder has to be writable.
        let existing = Path::new(path).ancestors().find(|path| path.exists());
        let writable = existing.is_some_and(sys::is_writable);
        FileState { path: path.to_owned(), purpose, required, writable }
    };
    let mut all = vec![
        file("/proc/sys/net/ipv4/ip_forward", "settings", true),
        file(&asked.run_dir, "the status socket", false),
    ];
    if let Some(path) = &asked.snapshot {
        all.push(file(path, "the last good cluster, for a boot without the API", false));
    }
    if options.router && options.cni {
        all.push(file(&folder.to_string_lossy(), "the CNI configuration", true));
    }
    all
}

/// Tests the access to each kind of object at the API. Returns a single error if the API cannot be
/// reached, because the same error would follow for every kind.
fn api_access(services: bool, source: &Source) -> Vec<(String, std::result::Result<(), String>)> {
    let api = match Api::open(source) {
        Ok(api) => api,
        Err(e) => return vec![("read the cluster".into(), Err(e.to_string()))],
    };
    let mut all = Vec::new();
    for kind in Kind::needed(services) {
        match api.may(*kind) {
            Ok(rights) => all.extend(
                rights.into_iter().map(|(verb, r)| (format!("{verb} {}", kind.plural()), r)),
            ),
            Err(e) => return vec![("read the cluster".into(), Err(e.to_string()))],
        }
    }
    all
}

/// Returns the error of binding a port. `None` if the port is free, if it is 0, or if `running` is true:
/// a running kinglet then has the port.
fn bind_error(running: bool, addr: &str, port: u16) -> Option<String> {
    if running || port == 0 {
        return None;
    }
    try_port(addr, port).err().map(|e| format!("{port}: {e}"))
}

/// Returns true if modules can be loaded, given the sysctl `kernel.modules_disabled`. `None` if the kernel
/// does not have it.
fn can_load_modules(modules_disabled: Option<&str>) -> bool {
    modules_disabled.is_none_or(|value| value != "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_can_be_loaded_unless_modules_disabled_is_1() {
        assert!(can_load_modules(None) && can_load_modules(Some("0")));
        assert!(!can_load_modules(Some("1")));
    }
}
