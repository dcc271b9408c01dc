//! One pass: look at the node, decide, compare. What follows (printing the steps, or taking them) is
//! the caller's: a dry run and the real thing are the same up to here.

use crate::{
    cluster::Cluster,
    desired::{Desired, desired, may_go},
    error::Result,
    kernel::Kernel,
    local::{Local, Options},
    plan::{Step, plan},
    state::State,
};

/// What one look found, and what is to be done about it.
#[derive(Debug)]
pub struct Pass {
    /// What this node is and was told.
    pub local: Local,
    /// What its kernel should hold.
    pub desired: Desired,
    /// What it does hold of ours.
    pub have: State,
    /// How to get from there to here.
    pub steps: Vec<Step>,
}

/// Looks at the kernel of this node and plans for it. Nothing is changed.
pub fn look(kernel: &mut Kernel, cluster: &Cluster, node: &str, options: &Options) -> Result<Pass> {
    let host = Some(kernel.host(options)?);
    let local = Local { node: node.into(), options: options.clone(), host };
    let desired = desired(cluster, &local)?;
    let have = kernel.observe(options, &desired.state)?;
    Ok(pass(cluster, local, desired, have))
}

/// Plans for any node of the cluster from what was once seen of it: `have` is empty and `local.host`
/// `None` where nothing was.
pub fn imagine(cluster: &Cluster, local: Local, have: State) -> Result<Pass> {
    let desired = desired(cluster, &local)?;
    Ok(pass(cluster, local, desired, have))
}

fn pass(cluster: &Cluster, local: Local, desired: Desired, have: State) -> Pass {
    let steps = plan(&have, &desired.state, |item| may_go(item, &cluster.doubtful, &local));
    Pass { local, desired, have, steps }
}
