//! Taking all of ours away, and nothing else: a pass that wants nothing, and may remove links and the
//! table too.
//!
//! It needs neither the API nor a node's name. What stays: kube-bridge while pods are connected to it,
//! the CNI configuration (a runtime without one has no network at all), settings and modules (nobody
//! knows who else relies on them by now). It goes in the reverse of the order of making, so that it
//! can be stopped and begun again: the record of our IPVS services is in the table, which goes last.

use std::path::Path;

use crate::{
    error::Result,
    kernel::{Done, Kernel, Outcome, files},
    local::Options,
    plan::clear,
};

/// Takes it all away; `done` hears of each step, `gone` of each file: the record of draining real
/// servers, and those of `others` that are there. IPVS services of `--excluded-cidrs` are not ours here
/// either; parts that are switched off are cleaned up too.
pub fn cleanup<'a>(
    kernel: &mut Kernel,
    options: &Options,
    others: impl Iterator<Item = &'a Path>,
    done: Done<'_>,
    gone: &mut dyn FnMut(&Path, &Outcome),
) -> Result<()> {
    let (router, services) = (true, true);
    let options = Options { router, services, ..options.clone() };
    let ours = kernel.ours(&options)?;
    let steps = clear(&ours);
    kernel.apply(&steps, done);
    for path in [Path::new(files::DRAINS)].into_iter().chain(others) {
        match files::remove(path) {
            Ok(false) => {}
            Ok(true) => gone(path, &Ok(())),
            Err(e) => gone(path, &Err(e.into())),
        }
    }
    Ok(())
}
