//! `discovery.k8s.io/v1beta1` as Kubernetes 1.18 has it, converted from v1.
//!
//! Made by hand after the API's documentation, because there is no recording. A v1beta1 endpoint
//! has neither nodeName nor zone (both are keys of its `topology`), and of the conditions only
//! `ready`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;
use serde_json::value::RawValue;

type Fields<'a> = BTreeMap<&'a str, &'a RawValue>;

/// Returns a slice in the old form. Text that is not a slice is returned unchanged.
pub fn slice(text: &str) -> String {
    convert(text).unwrap_or_else(|| text.to_string())
}

fn convert(text: &str) -> Option<String> {
    let fields: Fields = serde_json::from_str(text).ok()?;
    let endpoints = fields.get("endpoints").map_or("null", |raw| raw.get());
    let endpoints: Option<Vec<&RawValue>> = serde_json::from_str(endpoints).ok()?;
    let endpoints = match endpoints {
        None => "null".to_string(),
        Some(list) => {
            let list: Option<Vec<String>> = list.into_iter().map(|e| endpoint(e.get())).collect();
            format!("[{}]", list?.join(","))
        }
    };
    let mut out = String::new();
    for name in ["metadata", "addressType", "endpoints", "ports"] {
        let value = fields.get(name).map(|raw| raw.get());
        let Some(value) = (if name == "endpoints" { Some(&*endpoints) } else { value }) else {
            continue;
        };
        let _ = write!(out, "{}\"{name}\":{value}", if out.is_empty() { "{" } else { "," });
    }
    out.push('}');
    Some(out)
}

fn endpoint(text: &str) -> Option<String> {
    let fields: Fields = serde_json::from_str(text).ok()?;
    let value = |name: &str| -> Option<Value> {
        fields.get(name).and_then(|raw| serde_json::from_str(raw.get()).ok())
    };
    let mut out = "{".to_string();
    let mut put = |name: &str, value: &str| {
        let comma = if out.len() > 1 { "," } else { "" };
        let _ = write!(out, "{comma}\"{name}\":{value}");
    };
    put("addresses", fields.get("addresses").map_or("null", |raw| raw.get()));
    let ready = value("conditions").and_then(|c| c.get("ready").cloned());
    put("conditions", &ready.map_or("{}".to_string(), |r| format!("{{\"ready\":{r}}}")));
    for name in ["hostname", "targetRef"] {
        if let Some(raw) = fields.get(name) {
            put(name, raw.get());
        }
    }
    let topology: Vec<String> =
        [("kubernetes.io/hostname", "nodeName"), ("topology.kubernetes.io/zone", "zone")]
            .iter()
            .filter_map(|(key, field)| Some(format!("\"{key}\":{}", value(field)?)))
            .collect();
    if !topology.is_empty() {
        put("topology", &format!("{{{}}}", topology.join(",")));
    }
    out.push('}');
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_name_becomes_a_topology_key_and_only_ready_stays() {
        let v1 = r#"{"metadata":{"name":"a"},"addressType":"IPv4","endpoints":[{"addresses":["10.0.0.1"],"conditions":{"ready":true,"serving":true,"terminating":false},"nodeName":"n","zone":"z"}],"ports":null}"#;
        let beta = r#"{"metadata":{"name":"a"},"addressType":"IPv4","endpoints":[{"addresses":["10.0.0.1"],"conditions":{"ready":true},"topology":{"kubernetes.io/hostname":"n","topology.kubernetes.io/zone":"z"}}],"ports":null}"#;
        assert_eq!(slice(v1), beta);
    }

    #[test]
    fn text_that_is_not_a_slice_is_unchanged() {
        for odd in ["5", "{\"endpoints\":7}", "{\"endpoints\":[1]}"] {
            assert_eq!(slice(odd), odd);
        }
    }
}
