//! Taking all of ours away, and nothing else: a pass that wants nothing, and may remove links and the
//! table too.
//!
//! It needs neither the API nor a node's name. What stays: kube-bridge while pods are connected to it,
//! the CNI configuration (a runtime without one has no network at all), settings and modules (nobody
//! knows who else relies on them by now). It goes in the reverse of the order of making, so that it
//! can be stopped and begun again: the record of our IPVS services is in the table, which goes last.

use crate::{
    error::Result,
    kernel::{Kernel, Outcome, files},
    local::Options,
    plan::{Step, clear},
};

/// What kinglet keeps on disk beside the CNI configuration: the record of draining real servers, the
/// socket of the daemon and the last good cluster.
pub const FILES: [&str; 3] =
    ["/run/kinglet/drains", "/run/kinglet/status", "/var/lib/kinglet/snapshot"];

/// Takes it all away; `done` hears of each step, `gone` of each file. IPVS services of
/// `--excluded-cidrs` are not ours here either; parts that are switched off are cleaned up too.
pub fn cleanup(
    kernel: &mut Kernel,
    options: &Options,
    done: impl FnMut(&Step, Outcome),
    mut gone: impl FnMut(&str, Outcome),
) -> Result<()> {
    let (router, services) = (true, true);
    let options = Options { router, services, ..options.clone() };
    let steps = clear(&kernel.ours(&options)?);
    kernel.apply(&steps, done);
    for path in FILES {
        match files::remove(path) {
            Ok(false) => {}
            Ok(true) => gone(path, Ok(())),
            Err(e) => gone(path, Err(e.to_string())),
        }
    }
    Ok(())
}
