//! Gathers the facts. Nothing is changed by it, and no module is loaded.

use std::path::Path;

use super::{FEATURES, Facts, File, Left};
use crate::{
    api::{Api, Source},
    cluster::Kind,
    desired::cni,
    error::Result,
    kernel::{Kernel, files, lock::Lock, sys, xtables},
    local::Options,
    report::{desk, unix},
    state::Protocol,
};

/// What the flags say beside the options.
#[derive(Debug)]
pub struct Asked {
    /// The API server.
    pub source: Source,
    /// `--run-dir`.
    pub run_dir: String,
    /// `--snapshot`.
    pub snapshot: Option<String>,
    /// `--health-addr` and `--health-port`.
    pub health: (String, u16),
    /// `--bgp-port`; 0: BGP is not spoken.
    pub bgp: u16,
}

const PLUGINS: [&str; 3] = ["bridge", "host-local", "loopback"];

/// Looks at all that counts.
pub fn look(options: &Options, asked: &Asked) -> Result<Facts> {
    let mut kernel = Kernel::open()?;
    let modules = FEATURES.iter().map(|f| f.module).filter(|module| !module.is_empty());
    let modules = modules.filter_map(|module| Some((module, kernel.module_status(module)?)));
    let modules = modules.collect();
    let release = files::sysctl("kernel/osrelease").unwrap_or_default();
    let (router, services) = (options.router, options.services);
    let host = kernel.host(options)?;
    let folder = Path::new(&*options.cni_conf).parent().unwrap_or(Path::new("/"));
    let left = Left {
        chains: kernel.all_chains()?,
        legacy: xtables::chains(),
        links: kernel.link_names()?,
        conflists: match router && options.cni {
            true => {
                let names = host.cni_folder.iter().map(|name| &**name);
                cni::before(&options.cni_conf, names).map(str::to_owned).collect()
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
    let plugins = if router { PLUGINS.into_iter().filter(missing).collect() } else { vec![] };
    let running = !matches!(Lock::take(), Ok(Some(_)));
    Ok(Facts {
        router,
        services,
        config: files::config(&release),
        release,
        modules,
        loads: files::sysctl("kernel/modules_disabled").is_none_or(|value| value != "1"),
        rights: files::rights(),
        files: writable(options, folder, asked),
        plugins,
        api: permissions(services, &asked.source),
        health: taken(running, &asked.health.0, asked.health.1),
        bgp: taken(running, "", asked.bgp),
        clock: unix(),
        left,
    })
}

fn writable(options: &Options, folder: &Path, asked: &Asked) -> Vec<File> {
    let file = |path: &str, does, must| {
        // What is not there yet is made: the nearest folder that is there counts.
        let there = Path::new(path).ancestors().find(|path| path.exists());
        let writable = there.is_some_and(sys::may_write);
        File { path: path.to_owned(), does, must, writable }
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

fn permissions(services: bool, source: &Source) -> Vec<(String, std::result::Result<(), String>)> {
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
            // It would be the same for the others.
            Err(e) => return vec![("read the cluster".into(), Err(e.to_string()))],
        }
    }
    all
}

/// Why a port can't be had; `running`: a kinglet that runs has it.
fn taken(running: bool, addr: &str, port: u16) -> Option<String> {
    if running || port == 0 {
        return None;
    }
    desk::try_port(addr, port).err().map(|e| format!("{port}: {e}"))
}
