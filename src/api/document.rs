//! A cluster from a file: what `kubectl get nodes,services,endpointslices -A -o json` prints, or lists
//! of one kind as the API gives them, one after another.

use std::io::Read;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Reading,
    page::{Fault, Head, Lists},
    wire::Shape,
};
use crate::error::{Error, Result};

/// Reads all lists of a text. Items of kinds that are not used are passed over, and Endpoints where
/// there are EndpointSlices.
pub fn from_list(text: impl Read) -> Result<Reading> {
    let fail = |why: String| Error::new("reading the list of objects", why);
    let mut gathered = Gathered::default();
    let mut lists = Lists::open(text).map_err(|fault| fail(explain(fault)))?;
    loop {
        // Items without a kind of their own, in a list that has not told its kind yet.
        let mut waiting: Vec<Box<RawValue>> = Vec::new();
        let head = lists
            .next(&mut |head, item| {
                if let Some(item) = gathered.item(head, item) {
                    waiting.push(item);
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
            gathered.item(&head, item);
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
    /// Takes an item in, or gives it back where its kind is not known yet.
    fn item(&mut self, head: &Head, item: Box<RawValue>) -> Option<Box<RawValue>> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        struct Typed {
            kind: Option<String>,
            api_version: Option<String>,
        }
        let typed: Typed = serde_json::from_str(item.get()).unwrap_or_default();
        let (kind, version) = match (typed.kind, &head.kind) {
            (Some(kind), _) => (kind, typed.api_version),
            (None, Some(list)) => {
                let kind = list.strip_suffix("List").unwrap_or_default();
                (kind.to_owned(), head.api_version.clone())
            }
            (None, None) => return Some(item),
        };
        self.nth += 1;
        match Shape::of(&kind, version.as_deref().unwrap_or_default()) {
            Some(Shape::Endpoints) => self.endpoints.take(Shape::Endpoints, self.nth, item.get()),
            Some(shape) => {
                self.has_slices |= shape == Shape::EndpointSlice;
                self.reading.take(shape, self.nth, item.get());
            }
            None => {}
        }
        None
    }

    fn reading(mut self) -> Reading {
        if !self.has_slices {
            self.reading.add(self.endpoints);
        }
        self.reading
    }
}
