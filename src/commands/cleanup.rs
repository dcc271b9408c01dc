//! `kinglet cleanup`: removes everything that kinglet made on this node, and nothing else. It is a pass
//! with an empty desired state that may also remove links and the nftables table.
//!
//! It needs neither the API nor the node's name. It keeps kube-bridge while pods are connected to it, the
//! CNI configuration (without one a container runtime has no network at all), and sysctls and modules
//! (other programs may rely on them by now). The order is the reverse of creation, so an interrupted
//! cleanup can be repeated: the record of our IPVS services is in the table, which is removed last.

use std::{cell::Cell, fmt::Display, path::Path};

use super::context::{options, print};
use crate::{
    api::snapshot,
    cli::LowArgs,
    error::{Doing, Error, Result},
    kernel::{Kernel, OnStep, Outcome, files, lock::Lock},
    log,
    model::local::Options,
    plan::clear,
    report::SOCKET,
};

/// Removes everything that kinglet made. Returns 1 if a step was refused; fails if another kinglet runs.
pub(crate) fn cleanup(args: &LowArgs) -> Result<u8> {
    let Some(_lock) = Lock::take().doing(|| "taking the lock @kinglet")? else {
        let why = "another kinglet is at work on this node and would make everything again: stop it \
                   first";
        return Err(Error::new("cleaning up", why));
    };
    let refused = Cell::new(0);
    let report = |subject: &dyn Display, outcome: &Outcome| match outcome {
        Ok(()) => drop(print(&format!("{subject}\n"))),
        Err(why) => {
            refused.set(refused.get() + 1);
            log::error(format_args!("{subject}: refused: {why}"));
        }
    };
    let socket = args.run_dir.join(SOCKET);
    let aside = args.snapshot.as_deref().map(snapshot::rejected_path);
    let files = [Some(socket.as_path()), args.snapshot.as_deref(), aside.as_deref()];
    remove_ours(
        &mut Kernel::open()?,
        &options(args)?,
        files.into_iter().flatten(),
        &mut |step, outcome| report(step, outcome),
        &mut |path, outcome| report(&format_args!("- file {}", path.display()), outcome),
    )?;
    Ok(u8::from(refused.get() > 0))
}

/// Removes kinglet's items from the kernel, then the drain record and those of `files` that exist. Calls
/// `on_step` for each step and `on_file` for each file that was removed or could not be removed.
///
/// Parts that the flags switch off are cleaned up too. IPVS services in `--excluded-cidrs` belong to
/// another program and stay. Fails if the kernel's state cannot be read; a refused step is reported to
/// `on_step` and does not stop the cleanup.
fn remove_ours<'a>(
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
