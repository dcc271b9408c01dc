//! All objects of one kind, page by page.
//!
//! A consistent list first; where etcd is down behind the server, what the server holds in its cache.

use super::{
    Reading,
    client::Client,
    failure::{Failure, Why},
    page::{Head, Lists},
    wire::Shape,
};
use crate::log;

/// Objects per page: what client-go asks for.
const LIMIT: usize = 500;
/// How often a list is begun again because its pages expired.
const AGAIN: usize = 3;

/// Lists a kind. `cached` tells that etcd did not answer for an earlier kind, and is set when it
/// does not for this one: then only the cache is asked.
pub fn list(
    client: &Client,
    shape: Shape,
    path: &str,
    cached: &mut bool,
) -> Result<Reading, Failure> {
    if *cached {
        return in_cache(client, shape, path);
    }
    let failure = match consistent(client, shape, path) {
        Err(failure) if is_etcd(failure.why) => failure,
        done => return done,
    };
    log::warn(format_args!(
        "listing {} from {}: {}; asking for what the API server has in its cache, which may be old",
        shape.kind().plural(),
        client.server,
        failure.text
    ));
    match in_cache(client, shape, path) {
        Ok(reading) => {
            *cached = true;
            Ok(reading)
        }
        // The first failure tells more.
        Err(_) => Err(failure),
    }
}

/// What an API server does whose etcd is down or hangs.
fn is_etcd(why: Why) -> bool {
    matches!(why, Why::Silent | Why::Status(500 | 503 | 504))
}

/// With resourceVersion=0 the limit is ignored: all comes in one page.
fn in_cache(client: &Client, shape: Shape, path: &str) -> Result<Reading, Failure> {
    let mut reading = Reading::default();
    page(client, shape, &format!("{path}?resourceVersion=0"), &mut reading)?;
    Ok(reading)
}

fn consistent(client: &Client, shape: Shape, path: &str) -> Result<Reading, Failure> {
    let first = format!("{path}?limit={LIMIT}");
    let mut begun = 0;
    'again: loop {
        begun += 1;
        let mut reading = Reading::default();
        let mut next = page(client, shape, &first, &mut reading)?;
        while let Some(token) = next {
            let query = format!("{first}&continue={}", encode(&token));
            next = match page(client, shape, &query, &mut reading) {
                Err(failure) if failure.why == Why::Status(410) && begun <= AGAIN => {
                    log::info(format_args!("the list of {path} expired; beginning again"));
                    continue 'again;
                }
                page => page?,
            };
            if next.as_ref() == Some(&token) {
                return Err(Failure::other("the server gives the same page again and again"));
            }
        }
        return Ok(reading);
    }
}

/// One page. What it returns is the token of the next one.
fn page(
    client: &Client,
    shape: Shape,
    path: &str,
    reading: &mut Reading,
) -> Result<Option<String>, Failure> {
    let body = client.get(path)?.into_body().into_reader();
    let fault = |fault| Failure::list(fault, &client.ca);
    let mut lists = Lists::open(body).map_err(fault)?;
    let mut nth = 0;
    let head = lists
        .next(&mut |_, item| {
            nth += 1;
            reading.take(shape, nth, item.get());
        })
        .map_err(fault)?;
    if !lists.at_end().map_err(fault)? {
        return Err(Failure::other("the reply goes on after the list"));
    }
    is_list_of(shape, &head)?;
    if let Some(version) = head.version {
        reading.versions.insert(shape.kind(), version);
    }
    Ok(head.next)
}

fn is_list_of(shape: Shape, head: &Head) -> Result<(), Failure> {
    let kind = head.kind.as_deref().unwrap_or_default();
    if head.items && kind.strip_suffix("List") == Some(shape.name()) {
        return Ok(());
    }
    let kind = super::page::first_line(kind.as_bytes());
    Err(Failure::other(format!("the reply is no {}List (kind {kind:?})", shape.name())))
}

/// A token is base64 for URLs, but nobody promised it.
fn encode(token: &str) -> String {
    let mut text = String::with_capacity(token.len());
    for byte in token.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}
