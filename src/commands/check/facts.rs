//! The facts about a board that `check` needs, as data. `probe` collects them.

use super::{
    features::{Feature, FeaturePart},
    leftovers::Leftovers,
};
use crate::{collections::FlatMap, model::local::Module};

/// The facts about a board.
#[derive(Clone, Debug, Default)]
pub(crate) struct BoardFacts {
    /// True if routes and the CNI configuration are wanted (`--run-router`).
    pub router: bool,
    /// True if Services are wanted (`--run-service-proxy`).
    pub services: bool,
    /// The kernel release, as in `uname -r`.
    pub release: String,
    /// The state of each kernel module that could be determined.
    pub modules: FlatMap<&'static str, Module>,
    /// The kernel configuration (`CONFIG_…=y` lines); `None` if it cannot be read.
    pub config: Option<String>,
    /// True if the kernel permits loading modules (kernel.modules_disabled is not 1).
    pub can_load: bool,
    /// The effective capabilities of this process, as a bit mask (capabilities(7)).
    pub capabilities: u64,
    /// The files and folders that kinglet writes.
    pub files: Vec<FileState>,
    /// The CNI plugins that are in none of the usual folders.
    pub missing_plugins: Vec<&'static str>,
    /// The API access checks, for example `list nodes`, each with the error if it failed.
    pub api: Vec<(String, Result<(), String>)>,
    /// The error of binding the health port; `None` if the port is free or a running kinglet has it.
    pub health: Option<String>,
    /// The error of binding the BGP port; `None` if the port is free, if a running kinglet has it, or if
    /// BGP is off.
    pub bgp: Option<String>,
    /// The board's clock, in seconds since 1970.
    pub clock: u64,
    /// The traces of other proxies and networks.
    pub left: Leftovers,
}

/// A file or folder that kinglet writes.
#[derive(Clone, Debug)]
pub(crate) struct FileState {
    /// The path.
    pub path: String,
    /// The purpose of the file.
    pub purpose: &'static str,
    /// True if kinglet cannot work without the file.
    pub required: bool,
    /// True if this process can write the file, or create it.
    pub writable: bool,
}

/// The kernel's support for a feature.
#[derive(Debug, PartialEq)]
pub(crate) enum Support {
    /// The feature is in the running kernel.
    Present,
    /// The module is on disk.
    Loadable,
    /// The feature is neither in the kernel nor on disk.
    Absent,
    /// Neither the modules nor a kernel configuration give an answer.
    Unknown,
}

impl BoardFacts {
    /// Returns true if the flags need a part of the job.
    pub(crate) fn needs(&self, part: FeaturePart) -> bool {
        match part {
            FeaturePart::Router => self.router,
            FeaturePart::Services => self.services,
            FeaturePart::Both => self.router || self.services,
        }
    }

    /// Returns the support for a feature. The state of the module takes precedence over the kernel
    /// configuration.
    pub(crate) fn support(&self, feature: &Feature) -> Support {
        match self.modules.get(feature.module) {
            Some(Module::Present) => return Support::Present,
            Some(Module::Loadable) => return Support::Loadable,
            Some(Module::Absent) => return Support::Absent,
            None => {}
        }
        let Some(config) = &self.config else { return Support::Unknown };
        let value = config.lines().find_map(|line| {
            line.strip_prefix("CONFIG_")?.strip_prefix(feature.option)?.strip_prefix('=')
        });
        match value {
            Some("y") => Support::Present,
            // An option without a module of its own is part of another module. A separate module would
            // have been found.
            Some("m") if feature.module.is_empty() => Support::Present,
            _ => Support::Absent,
        }
    }
}
