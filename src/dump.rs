//! `kinglet dump`: the cluster and this node as they were seen, as JSON. A bug report, and a test case:
//! `plan --from` plans from it with no API and no root.

use serde::{Deserialize, Serialize};

use crate::{cluster::Cluster, json, local::Host, state::State};

/// All that a plan is made from.
#[derive(Debug, Serialize, Deserialize)]
pub struct Dump {
    /// The version of kinglet that wrote it.
    pub kinglet: Box<str>,
    /// The node that it was written on.
    pub node: Box<str>,
    /// What the API said.
    pub cluster: Cluster,
    /// What the node was.
    pub host: Option<Host>,
    /// What its kernel held.
    pub kernel: State,
}

impl Dump {
    /// Reads a dump. `None`: the text is JSON, but no dump (a `kubectl` list, perhaps).
    pub fn read(text: &str) -> Result<Option<Dump>, serde_json::Error> {
        #[derive(Deserialize)]
        struct Probe {
            kinglet: Option<serde_json::Value>,
        }
        let probe = serde_json::Deserializer::from_str(text).into_iter::<Probe>().next();
        match probe {
            Some(Ok(Probe { kinglet: Some(_) })) => json::from_str(text).map(Some),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cluster::Node, state::Item};

    #[test]
    fn a_dump_reads_back_and_a_list_is_none() {
        let mut cluster = Cluster::default();
        cluster.nodes.insert("a".into(), Node { name: "a".into(), ..Node::default() });
        let kernel = State::from([Item::Module { name: "ip_vs".into() }]);
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
