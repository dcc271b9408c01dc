//! Read-only queries for `kinglet check` and `kinglet status`.
//!
//! They return the state of kernel modules, the names of links and chains of all programs, and the
//! connection counts of IPVS. No query loads a module: if nf_tables or ip_vs is not present, the answer
//! is empty. `observe` reads the objects that kinglet itself manages.

use neli::consts::socket::NlFamily;

use super::{Kernel, handle::is_absent, ipvs, nft};
use crate::{
    error::{Doing, Result},
    model::{
        items::{Item, ServiceStats},
        local::Module,
    },
    netlink::socket,
    sys::errno,
};

impl Kernel {
    /// Returns the state of a module without loading it; `None` if the state can't be determined.
    pub fn module_status(&mut self, module: &str) -> Option<Module> {
        match self.modules.status(module) {
            None | Some(Module::Absent) if module == "nf_tables" => Some(self.probe_nft()),
            status => status,
        }
    }

    /// Returns the names of all links. Fails if the kernel can't list them.
    pub fn link_names(&mut self) -> Result<Vec<String>> {
        Ok(self.links()?.into_iter().map(|link| link.name).collect())
    }

    /// Returns the nftables chains of all programs as family, table and name. The list is empty if
    /// nf_tables is not present or this process may not read it.
    pub fn all_chains(&mut self) -> Result<Vec<(&'static str, String, String)>> {
        if self.module_status("nf_tables") != Some(Module::Present) {
            return Ok(Vec::new()); // the request itself would load the module
        }
        let netfilter = socket::get_or_open(&mut self.netfilter, NlFamily::Netfilter)
            .doing(|| "opening a netfilter socket")?;
        match netfilter.dump(&nft::list_all_chains(), nft::read_any_chain) {
            Err(e) if is_absent(&e) || e.raw_os_error() == Some(errno::EPERM) => Ok(Vec::new()),
            chains => chains.doing(|| "listing the chains of nftables"),
        }
    }

    /// Returns the number of real servers and of connections for each IPVS service, including services
    /// of other programs. The list is empty if ip_vs is not present. Fails if IPVS can't be listed.
    pub fn busy(&mut self) -> Result<Vec<ServiceStats>> {
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
            busy.push(ServiceStats { at, service: String::new(), reals: reals.len(), connections });
        }
        Ok(busy)
    }
}
