//! `kinglet cleanup`: removes everything that kinglet made on this node, and nothing else. It is a pass
//! with an empty desired state that may also remove links and the nftables table.
//!
//! It needs neither the API nor the node's name. It keeps kube-bridge while pods are connected to it, the
//! CNI configuration (without one a container runtime has no network at all), and sysctls and modules
//! (other programs may rely on them by now). The order is the reverse of creation, so an interrupted
//! cleanup can be repeated: the record of our IPVS services is in the table, which is removed last.

use std::path::Path;

use crate::{
    error::Result,
    kernel::{Kernel, OnStep, Outcome, files},
    model::local::Options,
    plan::clear,
};

/// Removes kinglet's items from the kernel, then the drain record and those of `files` that exist. Calls
/// `on_step` for each step and `on_file` for each file that was removed or could not be removed.
///
/// Parts that the flags switch off are cleaned up too. IPVS services in `--excluded-cidrs` belong to
/// another program and stay. Fails if the kernel's state cannot be read; a refused step is reported to
/// `on_step` and does not stop the cleanup.
pub fn cleanup<'a>(
    kernel: &mut Kernel,
    options: &Options,
    files: impl Iterator<Item = &'a Path>,
    on_step: OnStep<'_>,
    on_file: &mut dyn FnMut(&Path, &Outcome),
) -> Result<()> {
    let (router, services) = (true, true);
    let options = Options { router, services, ..options.clone() };
    let ours = kernel.ours(&options)?;
    let steps = clear(&ours);
    kernel.apply(&steps, on_step);
    for path in [Path::new(files::DRAINS)].into_iter().chain(files) {
        match files::remove(path) {
            Ok(false) => {}
            Ok(true) => on_file(path, &Ok(())),
            Err(e) => on_file(path, &Err(e.into())),
        }
    }
    Ok(())
}
