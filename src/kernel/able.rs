//! What `kinglet check` asks of the kernel: is it there, and what did others leave in it.

use neli::consts::socket::NlFamily;

use super::{Kernel, is_absent, netlink, nft};
use crate::{
    error::{Doing, Result},
    local::Module,
};

impl Kernel {
    /// What can be said of a module without loading it; `None`: nothing.
    pub fn module_status(&mut self, module: &str) -> Option<Module> {
        match self.modules.status(module) {
            None if module == "nf_tables" => Some(self.probe_nft()),
            status => status,
        }
    }

    /// The names of all links.
    pub fn link_names(&mut self) -> Result<Vec<String>> {
        Ok(self.links()?.into_iter().map(|link| link.name).collect())
    }

    /// All chains of nftables, whoever made them: family, table and name.
    pub fn all_chains(&mut self) -> Result<Vec<(&'static str, String, String)>> {
        if self.module_status("nf_tables") != Some(Module::Present) {
            return Ok(Vec::new()); // asking would load it
        }
        let netfilter = netlink::opened(&mut self.netfilter, NlFamily::Netfilter)
            .doing(|| "opening a netfilter socket")?;
        match netfilter.dump(&nft::list_all_chains(), nft::read_any_chain) {
            Err(e) if is_absent(&e) || e.raw_os_error() == Some(libc::EPERM) => Ok(Vec::new()),
            chains => chains.doing(|| "listing the chains of nftables"),
        }
    }
}
