//! What `kinglet check` and `kinglet status` ask of the kernel: is it there, how busy is it, and what
//! did others leave in it.

use neli::consts::socket::NlFamily;

use super::{Kernel, ipvs, is_absent, netlink, nft};
use crate::{
    error::{Doing, Result},
    local::Module,
    state::{Busy, Item},
};

impl Kernel {
    /// What can be said of a module without loading it; `None`: nothing.
    pub fn module_status(&mut self, module: &str) -> Option<Module> {
        match self.modules.status(module) {
            None | Some(Module::Absent) if module == "nf_tables" => Some(self.probe_nft()),
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

    /// How busy each IPVS service is, whoever made it.
    pub fn busy(&mut self) -> Result<Vec<Busy>> {
        if self.module_status("ip_vs") != Some(Module::Present) {
            return Ok(Vec::new());
        }
        let family = self.ipvs_family()?;
        let generic = self.generic()?;
        let mut busy = Vec::new();
        let services = generic
            .dump(&ipvs::list_services(family), ipvs::read_service)
            .doing(|| "listing IPVS services")?;
        for service in services {
            let Item::Service { at, .. } = service else { continue };
            let reals = generic
                .dump(&ipvs::list_reals(family, &at), ipvs::read_connections)
                .doing(|| format!("listing the real servers of {at}"))?;
            let connections = reals.iter().copied().map(u64::from).sum();
            busy.push(Busy { at, service: String::new(), reals: reals.len(), connections });
        }
        Ok(busy)
    }
}
