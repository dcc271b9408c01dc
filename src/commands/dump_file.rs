//! The JSON document that `kinglet dump` writes: the cluster, the facts about this node, and the state
//! of its kernel. It serves as a bug report and as a test case, because `kinglet plan --from` plans from
//! it without an API server and without root.

use serde::{Deserialize, Serialize};

use crate::{
    codec::json,
    model::{cluster::Cluster, items::ItemSet, local::Host},
};

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
    pub fn read(text: &str) -> Result<Option<Dump>, serde_json::Error> {
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
