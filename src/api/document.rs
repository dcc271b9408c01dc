//! Reads a cluster from JSON text instead of an API server, for `--from`.
//!
//! The text is the output of `kubectl get nodes,services,endpointslices -A -o json`, or a sequence of
//! lists of one kind each, as the API returns them. [`from_list`] splits each list with
//! [`Lists::next`], finds the kind of each item (`Collector::add_item`) and joins the results
//! (`Collector::finish`). The fields of an item are left to `wire`.

use std::io::Read;

use serde::Deserialize;

use super::{
    page::{Lists, PageFault, PageHead},
    wire::{self, ApiResource},
};
use crate::{
    codec::json,
    error::{Error, Result},
    model::cluster::ListResult,
};

/// Reads all lists in a text. Items of unused kinds are ignored, and so are core Endpoints if the text
/// has EndpointSlices. Fails if the text is not a sequence of lists; an item that is not valid is only
/// recorded in the result.
pub fn from_list(text: impl Read) -> Result<ListResult> {
    let fail = |why: String| Error::new("reading the list of objects", why);
    let mut collector = Collector::default();
    let mut lists = Lists::open(text).map_err(|fault| fail(explain(fault)))?;
    loop {
        // Items without a kind in a list whose own kind comes after its items.
        let mut untyped: Vec<String> = Vec::new();
        let head = lists
            .next(&mut |head, item| {
                if !collector.add_item(head, item) {
                    untyped.push(item.to_owned());
                }
            })
            .map_err(|fault| fail(explain(fault)))?;
        let kind = head.kind.as_deref().unwrap_or_default();
        if !head.items || !kind.ends_with("List") {
            let kind = super::page::first_line(kind.as_bytes());
            return Err(fail(format!(
                "its kind is {kind:?}, not List; create it with `kubectl get \
                 nodes,services,endpointslices -A -o json`"
            )));
        }
        if kind == "EndpointSliceList" {
            collector.has_slices = true;
        }
        for item in untyped {
            // The kind of the list is known now. An item that still has no kind is ignored.
            collector.add_item(&head, &item);
        }
        if lists.at_end().map_err(|fault| fail(explain(fault)))? {
            return Ok(collector.finish());
        }
    }
}

/// Returns the text for a fault of a file.
fn explain(fault: PageFault) -> String {
    match fault {
        PageFault::Empty => "it is empty".to_owned(),
        PageFault::Cut => "it ends in the middle of the list".to_owned(),
        PageFault::NotJson(line) => format!("it is not JSON but starts with {line:?}"),
        PageFault::Invalid(why) => why,
        PageFault::Io(e) => e.to_string(),
    }
}

/// The objects of all lists read so far.
#[derive(Default)]
struct Collector {
    reading: ListResult,
    /// Objects from core Endpoints, kept apart until it is known if there are EndpointSlices.
    endpoints: ListResult,
    has_slices: bool,
    /// The number of items so far.
    nth: usize,
}

impl Collector {
    /// Adds an item. Returns false if the item and the head of its list have no kind yet.
    fn add_item(&mut self, head: &PageHead, item: &str) -> bool {
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
        match ApiResource::of(&kind, version.as_deref().unwrap_or_default()) {
            Some(ApiResource::Endpoints) => {
                wire::parse_item(&mut self.endpoints, ApiResource::Endpoints, self.nth, item);
            }
            Some(shape) => {
                self.has_slices |= shape == ApiResource::EndpointSlice;
                wire::parse_item(&mut self.reading, shape, self.nth, item);
            }
            None => {}
        }
        true
    }

    /// Returns all objects.
    fn finish(mut self) -> ListResult {
        if !self.has_slices {
            self.reading.merge(self.endpoints);
        }
        self.reading
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::test_server::{Rng, recorded};

    /// Joins lists as kubectl does: kind and apiVersion in each item, keys in alphabetical order.
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

    /// Returns the numbers of Nodes, Services, EndpointSlices and invalid objects.
    fn counts(text: &str) -> [usize; 4] {
        let got = from_list(text.as_bytes()).unwrap();
        let cluster = got.cluster;
        [cluster.nodes.len(), cluster.services.len(), cluster.slices.len(), got.bad.len()]
    }

    #[test]
    fn the_output_of_kubectl_is_read_completely() {
        assert_eq!(counts(&kubectl(&[NODES, SERVICES, SLICES])), [3, 24, 29, 0]);
        assert_eq!(counts(&kubectl(&[NODES, SERVICES, ENDPOINTS])), [3, 24, 22, 0]);
        assert_eq!(counts(&kubectl(&[ENDPOINTS, SERVICES, SLICES, NODES])), [3, 24, 29, 0]);
        assert_eq!(counts(&kubectl(&[])), [0, 0, 0, 0]);
    }

    #[test]
    fn consecutive_lists_are_joined_whatever_the_order_of_their_keys() {
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
    fn other_kinds_are_ignored_and_invalid_objects_are_reported() {
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
                "EndpointSlice shop/web could not be understood: core Endpoints: subsets[0].addresses[0].ip: \"x\" is not an IP address",
            ]
        );
    }

    #[test]
    fn text_that_is_not_a_list_gives_a_specific_error() {
        for (text, want) in [
            ("", "it is empty"),
            ("{\"items\":[", "it ends in the middle of the list"),
            ("apiVersion: v1\nitems:\n", "it is not JSON but starts with \"apiVersion: v1\""),
            (
                r#"{"kind":"Node","apiVersion":"v1","metadata":{"name":"a"}}"#,
                "its kind is \"Node\", not List; create it with `kubectl get nodes,",
            ),
            (r#"{"kind":"List","items":[]} x"#, "expected a list of objects, found 'x'"),
            (r#"{"kind":"List","items":[}"#, "a value is missing"),
        ] {
            let got = from_list(text.as_bytes()).unwrap_err().to_string();
            let want = format!("reading the list of objects: {want}");
            assert!(got.starts_with(&want), "{text}: {got}");
        }
    }

    #[test]
    fn randomly_mutated_json_never_panics() {
        let mut dice = Rng(7);
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
