//! A list: its version, its page and its objects ("Retrieving large results sets in chunks" and
//! "Resource versions" in the documentation of the API's concepts).

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::http::{JSON, Reply};
use crate::item::Item;
use crate::request::Request;
use crate::resource::View;
use crate::status;
use crate::store::Store;

const PATIENCE: Duration = Duration::from_secs(3); // for a list of a future version, as measured

/// Ignores left-over bits, as Go does.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
);

/// The part of a kind that a request asks for: a namespace, labels, a name.
#[derive(Debug, Default)]
pub struct Selector {
    namespace: String,
    labels: Vec<(String, Label)>,
    fields: Vec<(String, String, bool)>,
}

#[derive(Debug)]
enum Label {
    There,
    Missing,
    Is(String),
    IsNot(String),
}

impl Selector {
    pub fn of(request: &Request, namespace: &str) -> Result<Selector, Reply> {
        let mut selector = Selector { namespace: namespace.to_string(), ..Selector::default() };
        for part in request.param("labelSelector").split(',').filter(|p| !p.is_empty()) {
            if part.contains(['(', ' ']) {
                let message = "unable to parse requirement: found '', expected: ',' or ')'";
                return Err(status::bad_request(message));
            }
            let value = |text: &str| text.trim_start_matches('=').to_string();
            selector.labels.push(match (part.split_once("!="), part.split_once('=')) {
                (Some((key, v)), _) => (key.to_string(), Label::IsNot(value(v))),
                (None, Some((key, v))) => (key.to_string(), Label::Is(value(v))),
                (None, None) => match part.strip_prefix('!') {
                    Some(key) => (key.to_string(), Label::Missing),
                    None => (part.to_string(), Label::There),
                },
            });
        }
        for part in request.param("fieldSelector").split(',').filter(|p| !p.is_empty()) {
            let (field, value) = part.split_once('=').unwrap_or((part, ""));
            let (name, equal) = field.strip_suffix('!').map_or((field, true), |name| (name, false));
            if !matches!(name, "metadata.name" | "metadata.namespace") {
                let message = format!("field label not supported: {name}");
                return Err(status::bad_request(&message));
            }
            let value = value.trim_start_matches('=');
            selector.fields.push((name.to_string(), value.to_string(), equal));
        }
        Ok(selector)
    }

    pub fn takes(&self, item: &Item) -> bool {
        let in_place = self.namespace.is_empty() || self.namespace == item.namespace;
        in_place
            && self.labels.iter().all(|(key, want)| match (want, item.labels.get(key)) {
                (Label::There, have) => have.is_some(),
                (Label::Missing, have) => have.is_none(),
                (Label::Is(value), have) => have == Some(value),
                (Label::IsNot(value), have) => have != Some(value),
            })
            && self.fields.iter().all(|(field, value, equal)| {
                let have = if field == "metadata.name" { &item.name } else { &item.namespace };
                (have == value) == *equal
            })
    }

    fn is_partial(&self) -> bool {
        !self.labels.is_empty() || !self.fields.is_empty()
    }

    /// Returns the key of an object below the place that is listed: the start of etcd's range.
    fn below<'a>(&self, item: &'a Item) -> &'a str {
        if self.namespace.is_empty() { &item.key } else { &item.name }
    }
}

/// The start of the next page.
#[derive(Debug, PartialEq)]
struct Token {
    revision: Option<u64>, // `None`: the newest version
    start: String,
}

impl Token {
    fn parse(text: &str) -> Result<Token, Reply> {
        let bad = |why: String| {
            let message = format!("invalid continue token: continue key is not valid: {why}");
            Err(status::bad_request(&message))
        };
        let Ok(json) = LENIENT.decode(text) else {
            return bad("illegal base64 data at input byte 0".to_string());
        };
        let Ok(value) = serde_json::from_slice::<Value>(&json) else {
            let first = char::from(json.first().copied().unwrap_or(0));
            return bad(format!("invalid character '{first}' looking for beginning of value"));
        };
        let (revision, start) = (value["rv"].as_i64(), value["start"].as_str());
        match (value["v"].as_str(), revision, start) {
            (Some("meta.k8s.io/v1"), Some(revision), Some(start)) if !start.is_empty() => {
                let start = start.strip_prefix('/').unwrap_or(start).to_string();
                Ok(Token { revision: u64::try_from(revision).ok(), start })
            }
            _ => bad("incorrect or unknown version".to_string()),
        }
    }

    /// As recorded: `/` before the key, but not in the token of a 410.
    fn text(&self) -> String {
        let start = serde_json::to_string(&self.start).unwrap_or_default();
        let (revision, slash) =
            self.revision.map_or(("-1".to_string(), ""), |revision| (revision.to_string(), "/"));
        let start = format!("\"{slash}{}", &start[1..]);
        URL_SAFE_NO_PAD
            .encode(format!("{{\"v\":\"meta.k8s.io/v1\",\"rv\":{revision},\"start\":{start}}}"))
    }
}

/// Answers a list. `expire` treats every old version as compacted.
pub fn list(
    store: &Store,
    view: &View,
    namespace: &str,
    request: &Request,
    expire: bool,
) -> Result<Reply, Reply> {
    let selector = Selector::of(request, namespace)?;
    let asked = revision(request)?;
    let limit = limit(request)?;
    let exact = request.param("resourceVersionMatch") == "Exact";
    let token = match request.param("continue") {
        "" => None,
        text => Some(Token::parse(text)?),
    };
    if token.is_some() && asked.is_some_and(|rv| rv != 0) {
        let message = "specifying resource version is not allowed when using continue";
        return Err(status::bad_request(message));
    }
    let limit = if token.is_none() && asked == Some(0) { 0 } else { limit };

    let old = match (&token, asked) {
        (Some(token), _) => token.revision,
        (None, Some(rv)) if rv > 0 && (exact || limit > 0 && !not_older(request)) => Some(rv),
        (None, Some(rv)) => {
            wait_for(store, rv)?;
            None
        }
        (None, None) => None,
    };
    let (revision, version) = match old {
        None => store.now(view.resource),
        Some(rv) => {
            wait_for(store, rv)?;
            let version = store.at(view.resource, rv).ok().filter(|_| !expire);
            (rv, version.ok_or_else(|| expired(token.as_ref()))?)
        }
    };

    let start = token.as_ref().map_or("", |t| t.start.as_str());
    let mut items =
        version.items.iter().filter(|item| selector.takes(item) && selector.below(item) >= start);
    let count = if limit == 0 { usize::MAX } else { limit };
    let page: Vec<&Arc<Item>> = items.by_ref().take(count).collect();
    let left = items.count();
    let mut more = String::new();
    if let (true, Some(last)) = (left > 0, page.last()) {
        let start = format!("{}\0", selector.below(last));
        let token = Token { revision: Some(revision), start };
        more = format!(",\"continue\":\"{}\"", token.text());
        if !selector.is_partial() {
            more.push_str(&format!(",\"remainingItemCount\":{left}"));
        }
    }
    Ok(render(view, revision, &more, &page))
}

fn render(view: &View, revision: u64, more: &str, page: &[&Arc<Item>]) -> Reply {
    let head = format!(
        "{{\"kind\":\"{}List\",\"apiVersion\":\"{}\",\"metadata\":{{\"resourceVersion\":\"{revision}\"{more}}},\"items\":[",
        view.resource.kind,
        view.api_version()
    );
    let comma: Arc<str> = Arc::from(",");
    let mut pieces: Vec<Arc<str>> = vec![Arc::from(head)];
    for (n, item) in page.iter().enumerate() {
        if n > 0 {
            pieces.push(comma.clone());
        }
        pieces.push(view.item(item));
    }
    pieces.push(Arc::from("]}\n"));
    Reply { status: 200, content: JSON, headers: Vec::new(), pieces, raw: None }
}

fn expired(token: Option<&Token>) -> Reply {
    token.map_or_else(status::expired_list, |token| {
        let again = Token { revision: None, start: token.start.clone() };
        status::expired_pages(&again.text())
    })
}

/// Returns the resourceVersion of a request. Fails if it is not a number.
pub fn revision(request: &Request) -> Result<Option<u64>, Reply> {
    let text = request.param("resourceVersion");
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        let message = format!(
            "invalid resource version: resourceVersion: Invalid value: \"{text}\": strconv.ParseUint: parsing \"{text}\": invalid syntax"
        );
        status::bad_request(&message)
    })
}

fn limit(request: &Request) -> Result<usize, Reply> {
    let text = request.param("limit");
    let number: i64 = if text.is_empty() { Ok(0) } else { text.parse() }.map_err(|_| {
        let message = format!("strconv.ParseInt: parsing \"{text}\": invalid syntax");
        status::bad_request(&message)
    })?;
    Ok(usize::try_from(number).unwrap_or(0))
}

/// Returns true if a request accepts any version from its own on.
pub fn not_older(request: &Request) -> bool {
    request.param("resourceVersionMatch") == "NotOlderThan"
}

fn wait_for(store: &Store, revision: u64) -> Result<(), Reply> {
    let begun = Instant::now();
    while store.revision() < revision {
        if begun.elapsed() > PATIENCE {
            return Err(status::from_the_future(revision, store.revision()));
        }
        thread::sleep(Duration::from_millis(20));
        store.refresh();
    }
    Ok(())
}

/// Returns true if a list needs etcd and therefore fails with it: all but `resourceVersion=0`.
pub fn is_consistent(request: &Request) -> bool {
    let watch = matches!(request.param("watch"), "1" | "true");
    !watch && request.param("resourceVersion") != "0"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_continue_token_is_parsed_and_printed_as_recorded() {
        let text = "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6NDExLCJzdGFydCI6Ii9ub2RlLTJcdTAwMDAifQ";
        let token = Token::parse(text).unwrap();
        assert_eq!(token, Token { revision: Some(411), start: "node-2\0".to_string() });
        assert_eq!(token.text(), text);
        let again = Token { revision: None, start: "shop/otherproxy\0".to_string() };
        let recorded =
            "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6LTEsInN0YXJ0Ijoic2hvcC9vdGhlcnByb3h5XHUwMDAwIn0";
        assert_eq!(again.text(), recorded);
    }

    #[test]
    fn an_invalid_continue_token_is_refused_as_recorded() {
        let reply = Token::parse("zzz").unwrap_err();
        assert!(reply.pieces[0].contains("invalid character 'Ï' looking for beginning of value"));
        for bad in ["", "!", "e30", "eyJ2IjoieCJ9"] {
            assert_eq!(Token::parse(bad).unwrap_err().status, 400, "{bad}");
        }
    }
}
