//! A cluster from a file: what `kubectl get nodes,services,endpointslices -A -o json` prints, or lists
//! of one kind as the API gives them, one after another.

use std::io::Read;

use serde::Deserialize;

use super::{
    page::{Fault, Head, Lists},
    wire::Shape,
};
use crate::{
    cluster::Reading,
    error::{Error, Result},
    json,
};

/// Reads all lists of a text. Items of kinds that are not used are passed over, and Endpoints where
/// there are EndpointSlices.
pub fn from_list(text: impl Read) -> Result<Reading> {
    let fail = |why: String| Error::new("reading the list of objects", why);
    let mut gathered = Gathered::default();
    let mut lists = Lists::open(text).map_err(|fault| fail(explain(fault)))?;
    loop {
        // Items without a kind of their own, in a list that has not told its kind yet.
        let mut waiting: Vec<String> = Vec::new();
        let head = lists
            .next(&mut |head, item| {
                if !gathered.item(head, item) {
                    waiting.push(item.to_owned());
                }
            })
            .map_err(|fault| fail(explain(fault)))?;
        let kind = head.kind.as_deref().unwrap_or_default();
        if !head.items || !kind.ends_with("List") {
            let kind = super::page::first_line(kind.as_bytes());
            return Err(fail(format!(
                "its kind is {kind:?} and not List; make it with `kubectl get \
                 nodes,services,endpointslices -A -o json`"
            )));
        }
        if kind == "EndpointSliceList" {
            gathered.has_slices = true;
        }
        for item in waiting {
            // The list has told its kind by now; an item that still has none is of no use.
            gathered.item(&head, &item);
        }
        if lists.at_end().map_err(|fault| fail(explain(fault)))? {
            return Ok(gathered.reading());
        }
    }
}

fn explain(fault: Fault) -> String {
    match fault {
        Fault::Empty => "it is empty".to_owned(),
        Fault::Cut => "it ends in the middle of the list".to_owned(),
        Fault::Foreign(line) => format!("it is not JSON but starts with {line:?}"),
        Fault::Wrong(why) => why,
        Fault::Io(e) => e.to_string(),
    }
}

#[derive(Default)]
struct Gathered {
    reading: Reading,
    /// What comes from core Endpoints.
    endpoints: Reading,
    has_slices: bool,
    nth: usize,
}

impl Gathered {
    /// Takes an item in, unless its kind is not known yet.
    fn item(&mut self, head: &Head, item: &str) -> bool {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        struct Typed {
            kind: Option<String>,
            api_version: Option<String>,
        }
        let typed: Typed = json::from_str(item).unwrap_or_default();
        let (kind, version) = match (typed.kind, &head.kind) {
            (Some(kind), _) => (kind, typed.api_version),
            (None, Some(list)) => {
                let kind = list.strip_suffix("List").unwrap_or_default();
                (kind.to_owned(), head.api_version.clone())
            }
            (None, None) => return false,
        };
        self.nth += 1;
        match Shape::of(&kind, version.as_deref().unwrap_or_default()) {
            Some(Shape::Endpoints) => self.endpoints.take(Shape::Endpoints, self.nth, item),
            Some(shape) => {
                self.has_slices |= shape == Shape::EndpointSlice;
                self.reading.take(shape, self.nth, item);
            }
            None => {}
        }
        true
    }

    fn reading(mut self) -> Reading {
        if !self.has_slices {
            self.reading.add(self.endpoints);
        }
        self.reading
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{
        super::serve::{Dice, recorded},
        *,
    };

    /// As kubectl joins lists: kind and apiVersion in each item, keys in alphabetical order.
    fn kubectl(lists: &[(&str, &str, &str)]) -> String {
        let mut items = Vec::new();
        for (file, kind, version) in lists {
            let list: Value = serde_json::from_slice(&recorded(file)).unwrap();
            for item in list["items"].as_array().unwrap() {
                let mut item = item.clone();
                item["kind"] = json!(kind);
                item["apiVersion"] = json!(version);
                items.push(item);
            }
        }
        let list = json!({"apiVersion": "v1", "items": items, "kind": "List", "metadata": {"resourceVersion": ""}});
        serde_json::to_string_pretty(&list).unwrap()
    }

    const NODES: (&str, &str, &str) = ("list/nodes.json", "Node", "v1");
    const SERVICES: (&str, &str, &str) = ("list/services.json", "Service", "v1");
    const SLICES: (&str, &str, &str) =
        ("list/endpointslices.json", "EndpointSlice", "discovery.k8s.io/v1");
    const ENDPOINTS: (&str, &str, &str) = ("list/endpoints.json", "Endpoints", "v1");

    fn counts(text: &str) -> [usize; 4] {
        let got = from_list(text.as_bytes()).unwrap();
        let cluster = got.cluster;
        [cluster.nodes.len(), cluster.services.len(), cluster.slices.len(), got.bad.len()]
    }

    #[test]
    fn what_kubectl_prints_parses_whole() {
        assert_eq!(counts(&kubectl(&[NODES, SERVICES, SLICES])), [3, 24, 29, 0]);
        assert_eq!(counts(&kubectl(&[NODES, SERVICES, ENDPOINTS])), [3, 24, 22, 0]);
        assert_eq!(counts(&kubectl(&[ENDPOINTS, SERVICES, SLICES, NODES])), [3, 24, 29, 0]);
        assert_eq!(counts(&kubectl(&[])), [0, 0, 0, 0]);
    }

    #[test]
    fn lists_of_one_kind_are_joined_in_any_order_of_their_keys() {
        let text = |name| String::from_utf8(recorded(name)).unwrap();
        let all = text("list/nodes.json")
            + "\n"
            + &text("list/endpoints.json")
            + &text("list/endpointslices.json");
        assert_eq!(counts(&all), [3, 0, 29, 0]);
        let list: Value = serde_json::from_str(&text("list/services.json")).unwrap();
        let sorted =
            format!(r#"{{"apiVersion":"v1","items":{},"kind":"ServiceList"}}"#, list["items"]);
        assert_eq!(counts(&(sorted.clone() + &sorted)), [0, 24, 0, 0]);
        let empty = r#"{"kind":"EndpointSliceList","apiVersion":"discovery.k8s.io/v1","items":[]}"#;
        assert_eq!(counts(&(text("list/endpoints.json") + empty)), [0, 0, 0, 0]);
    }

    #[test]
    fn other_kinds_are_passed_over_and_bad_objects_named() {
        let text = r#"{"kind":"List","apiVersion":"v1","items":[{"kind":"Pod","apiVersion":"v1"},
            {"kind":"Service","apiVersion":"serving.knative.dev/v1","metadata":{"name":"a"}},
            {"kind":"Node","apiVersion":"v1","metadata":{}},
            {"kind":"Endpoints","apiVersion":"v1","metadata":{"name":"web","namespace":"shop"},"subsets":[{"addresses":[{"ip":"x"}]}]},
            7, null]}"#;
        let got = from_list(text.as_bytes()).unwrap();
        let bad: Vec<_> = got.bad.iter().map(ToString::to_string).collect();
        assert_eq!(
            bad,
            [
                "Node no. 3 of the list could not be understood: metadata.name: it is missing",
                "EndpointSlice shop/web could not be understood: core Endpoints: subsets[0].addresses[0].ip: \"x\" is no IP address",
            ]
        );
    }

    #[test]
    fn what_is_no_list_gives_a_clear_error() {
        for (text, want) in [
            ("", "it is empty"),
            ("{\"items\":[", "it ends in the middle of the list"),
            ("apiVersion: v1\nitems:\n", "it is not JSON but starts with \"apiVersion: v1\""),
            (
                r#"{"kind":"Node","apiVersion":"v1","metadata":{"name":"a"}}"#,
                "its kind is \"Node\" and not List; make it with `kubectl get nodes,",
            ),
            (r#"{"kind":"List","items":[]} x"#, "a list of objects should stand where 'x' stands"),
            (r#"{"kind":"List","items":[}"#, "a value is missing"),
        ] {
            let got = from_list(text.as_bytes()).unwrap_err().to_string();
            let want = format!("reading the list of objects: {want}");
            assert!(got.starts_with(&want), "{text}: {got}");
        }
    }

    #[test]
    fn random_changes_of_recorded_json_never_panic() {
        let mut dice = Dice(7);
        let all = kubectl(&[NODES, SERVICES, SLICES, ENDPOINTS]);
        let list: Value = serde_json::from_str(&all).unwrap();
        let items = list["items"].as_array().unwrap();
        let (mut fine, mut bad, mut broken) = (0, 0, 0);
        for _ in 0..3000 {
            let item = items[dice.below(items.len())].to_string();
            let text = format!(r#"{{"kind":"List","items":[{item}]}}"#);
            match from_list(&dice.mutate(text.as_bytes())[..]) {
                Ok(reading) if reading.bad.is_empty() => fine += 1,
                Ok(_) => bad += 1,
                Err(_) => broken += 1,
            }
        }
        assert!(fine > 100 && bad > 30 && broken > 100, "{fine} {bad} {broken}");
    }
}
