//! `kinglet dump`: prints the cluster, the facts about this node, and the state of its kernel as one JSON
//! document. It serves as a bug report and as a test case, because `kinglet plan --from` plans from it
//! without an API server and without root.

use serde::{Deserialize, Serialize};

use super::context::{list_cluster, node_name, options, print};
use crate::{
    cli::LowArgs,
    codec::json,
    error::{Doing, Result},
    kernel::{Kernel, Scope},
    log,
    model::{
        cluster::Cluster,
        items::ItemSet,
        local::{Host, Local},
    },
    reconcile::prepare_offline,
};

/// Prints the cluster and this node as JSON, without passwords, as input for `plan --from`. Fails if the
/// cluster or the kernel cannot be read.
pub fn dump(args: &LowArgs) -> Result<u8> {
    let mut reading = list_cluster(args)?;
    reading.cluster.forget_passwords();
    let (node, options) = (node_name(args)?, options(args)?);
    let mut kernel = Kernel::open()?;
    let host = Some(kernel.host(&options)?);
    let local = Local { node: node.clone(), options, host };
    // A dump is useful even if the node is not in the cluster.
    let want = match prepare_offline(&reading.cluster, local.clone(), ItemSet::new()) {
        Ok(pass) => pass.desired.state,
        Err(e) => {
            log::warn(format_args!("{e}"));
            ItemSet::new()
        }
    };
    for bad in &reading.bad {
        log::warn(format_args!("{bad}"));
    }
    let dump = Dump {
        kinglet: env!("CARGO_PKG_VERSION").into(),
        node,
        cluster: reading.cluster,
        kernel: kernel.observe(&local.options, &want, Scope::All)?.0.all(&want),
        host: local.host,
    };
    let text = serde_json::to_string(&dump).doing(|| "writing the dump")?;
    print(&(text + "\n")).map(|_| 0)
}

/// The complete input of a plan.
#[derive(Debug, Serialize, Deserialize)]
pub struct Dump {
    /// The version of kinglet that wrote it.
    pub kinglet: Box<str>,
    /// The name of the node on which it was written.
    pub node: Box<str>,
    /// The objects of the API.
    pub cluster: Cluster,
    /// The facts about the node.
    pub host: Option<Host>,
    /// The items in its kernel.
    pub kernel: ItemSet,
}

impl Dump {
    /// Parses a dump. Returns `None` if the text does not start with a JSON object that has the key
    /// `kinglet`, for example if it is a list by `kubectl`. Fails if it has that key but is not a valid
    /// dump.
    pub fn read(text: &str) -> serde_json::Result<Option<Dump>> {
        #[derive(Deserialize)]
        struct DumpProbe {
            kinglet: Option<serde_json::Value>,
        }
        let probe = serde_json::Deserializer::from_str(text).into_iter::<DumpProbe>().next();
        match probe {
            Some(Ok(DumpProbe { kinglet: Some(_) })) => json::from_str(text).map(Some),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{cluster::Node, items::Item};

    #[test]
    fn a_dump_reads_back_and_other_json_is_not_taken_for_a_dump() {
        let mut cluster = Cluster::default();
        cluster.nodes.insert("a".into(), Node { name: "a".into(), ..Node::default() });
        let kernel = ItemSet::from([Item::Module { name: "ip_vs".into() }]);
        let dump = Dump {
            kinglet: "0.1.0".into(),
            node: "a".into(),
            cluster,
            host: Some(Host::default()),
            kernel,
        };
        let text = serde_json::to_string(&dump).unwrap();
        let back = Dump::read(&text).unwrap().unwrap();
        assert_eq!((back.cluster, back.kernel), (dump.cluster, dump.kernel));
        assert!(Dump::read(r#"{"kind":"List","items":[]}"#).unwrap().is_none());
        assert!(Dump::read(r#"{"kinglet":"0.1.0"}"#).is_err());
    }
}
