//! One object: its bytes, and the few fields that the server needs.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

/// One object; its text is as in a list, without kind and apiVersion.
#[derive(Debug, Clone)]
pub struct Item {
    /// `namespace/name`, or `name`: the key by which etcd sorts.
    pub key: String,
    pub namespace: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub text: Arc<str>,
    /// The text before a resourceVersion was written into it.
    pub source: Arc<str>,
}

/// The fields of an object that the server needs; empty if the object has another form.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Object {
    metadata: Metadata,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Metadata {
    name: String,
    namespace: String,
    labels: Option<BTreeMap<String, String>>,
}

impl Item {
    /// Makes an item of any JSON, because a test may serve objects of a wrong form.
    pub fn new(raw: &str) -> Item {
        let source: Arc<str> = Arc::from(compact(raw));
        let Object { metadata } = serde_json::from_str(raw).unwrap_or_default();
        let Metadata { name, namespace, labels } = metadata;
        let key = if namespace.is_empty() { name.clone() } else { format!("{namespace}/{name}") };
        let labels = labels.unwrap_or_default();
        Item { key, namespace, name, labels, text: source.clone(), source }
    }

    /// Writes a resourceVersion into an object; without a revision, only if the object has none
    /// yet.
    pub fn stamped(mut self, revision: Option<u64>) -> Item {
        match revision {
            Some(revision) => self.text = stamp(&self.text, revision),
            None if revision_in(&self.text).is_none() => self.text = stamp(&self.text, 1),
            None => {}
        }
        self
    }
}

const FIELD: &str = "\"resourceVersion\":\"";

/// Returns the bytes of an object with another resourceVersion. The first such field is the
/// object's own: quotes in annotations are escaped, and managedFields have none.
pub fn stamp(text: &Arc<str>, revision: u64) -> Arc<str> {
    if let Some((before, after)) = text.split_once(FIELD) {
        let after = after.split_once('"').map_or("", |(_, rest)| rest);
        return Arc::from(format!("{before}{FIELD}{revision}\"{after}"));
    }
    match text.split_once("\"metadata\":{") {
        Some((before, after)) if after.starts_with('"') => {
            Arc::from(format!("{before}\"metadata\":{{{FIELD}{revision}\",{after}"))
        }
        _ => text.clone(),
    }
}

pub fn revision_in(text: &str) -> Option<u64> {
    text.split_once(FIELD)?.1.split_once('"')?.0.parse().ok()
}

/// Returns JSON without white space between its tokens, as the server prints it.
pub fn compact(text: &str) -> String {
    if !text.contains('\n') {
        return text.to_string();
    }
    let (mut quoted, mut escaped) = (false, false);
    text.chars()
        .filter(|&c| {
            if quoted {
                quoted = c != '"' || escaped;
                escaped = c == '\\' && !escaped;
                return true;
            }
            quoted = c == '"';
            !c.is_ascii_whitespace()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_is_removed_but_not_within_strings() {
        assert_eq!(compact("{ \"a\\\" b\" :\n [1, 2]\t}\n"), "{\"a\\\" b\":[1,2]}");
    }

    #[test]
    fn a_revision_is_written_into_the_objects_own_field_only() {
        let old: Arc<str> = Arc::from(r#"{"metadata":{"name":"a"},"spec":{}}"#);
        let new = r#"{"metadata":{"resourceVersion":"5","name":"a"},"spec":{}}"#;
        assert_eq!(&*stamp(&old, 5), new);
        assert_eq!(*stamp(&stamp(&old, 5), 66), new.replace('5', "66"));
        for odd in ["5", "{}", r#"{"metadata":{}}"#, r#"{"metadata":7}"#] {
            assert_eq!(&*Item::new(odd).stamped(Some(9)).text, odd);
        }
    }
}
