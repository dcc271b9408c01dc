//! Lists all objects of one kind, page by page.
//!
//! `list_consistent` is tried first: pages of 500 objects, all of the same resourceVersion. If the
//! failure looks as if etcd is down behind the server, `list_cached` asks for the server's watch cache
//! (resourceVersion=0), which may be old. `read_page` reads one page; `page` splits it into items and
//! `wire::parse_item` parses them. See "Efficient detection of changes" and "Retrieving large results
//! sets in chunks" in the Kubernetes API concepts.

use super::{
    client::Client,
    failure::{Cause, Failure},
    page::{Lists, PageHead},
    wire::{self, ApiResource},
};
use crate::{log, model::cluster::ListResult};

/// Objects per page, as in client-go.
const PAGE_SIZE: usize = 500;
/// How often a list is restarted because its continue token expired.
const MAX_RESTARTS: usize = 3;

/// Lists a kind. If `cached` is true, etcd did not answer for an earlier kind and only the cache is
/// asked; it is set if etcd does not answer for this kind. A cached list is refused if it is older than
/// the resourceVersion `known`. Fails with the error of the consistent list if neither works.
pub(super) fn list(
    client: &Client,
    shape: ApiResource,
    path: &str,
    cached: &mut bool,
    known: Option<&str>,
) -> Result<ListResult, Failure> {
    if *cached {
        return list_cached(client, shape, path);
    }
    let failure = match list_consistent(client, shape, path) {
        Err(failure) if suggests_etcd_down(failure.cause) => failure,
        done => return done,
    };
    let number = |version: Option<&str>| version.and_then(|version| version.parse::<u64>().ok());
    let known = number(known);
    match list_cached(client, shape, path) {
        Ok(reading) if number(reading.versions.get(&shape.kind()).map(String::as_str)) >= known => {
            log::warn(format_args!(
                "listing {} from {}: {}; using the API server's cache instead, which may be old",
                shape.kind().plural(),
                client.server,
                failure.text
            ));
            *cached = true;
            Ok(reading)
        }
        // The first failure is closer to the cause.
        _ => Err(failure),
    }
}

/// Returns true if an API server fails in this way when its etcd is down or hangs.
fn suggests_etcd_down(cause: Cause) -> bool {
    matches!(cause, Cause::Timeout | Cause::NoResponse | Cause::Status(500 | 503 | 504))
}

/// Lists from the server's cache. With resourceVersion=0 the server ignores a limit and sends
/// everything in one page.
fn list_cached(client: &Client, shape: ApiResource, path: &str) -> Result<ListResult, Failure> {
    let mut reading = ListResult::default();
    read_page(client, shape, &format!("{path}?resourceVersion=0"), &mut reading)?;
    Ok(reading)
}

/// Lists the current state from etcd in pages. A list whose continue token expired (410) is restarted
/// up to [`MAX_RESTARTS`] times.
fn list_consistent(client: &Client, shape: ApiResource, path: &str) -> Result<ListResult, Failure> {
    let first = format!("{path}?limit={PAGE_SIZE}");
    let mut begun = 0;
    'again: loop {
        begun += 1;
        let mut reading = ListResult::default();
        let mut next = read_page(client, shape, &first, &mut reading)?;
        while let Some(token) = next {
            let query = format!("{first}&continue={}", percent_encode(&token));
            next = match read_page(client, shape, &query, &mut reading) {
                Err(failure) if failure.cause == Cause::Status(410) && begun <= MAX_RESTARTS => {
                    log::info(format_args!(
                        "the list of {path} expired between two pages; restarting it"
                    ));
                    continue 'again;
                }
                page => page?,
            };
            if next.as_ref() == Some(&token) {
                return Err(Failure::other("the server returned the same continue token twice"));
            }
        }
        return Ok(reading);
    }
}

/// Reads one page into `reading`. Returns the continue token of the next page, `None` after the last
/// one. Fails if the reply is not a complete list of this kind.
fn read_page(
    client: &Client,
    shape: ApiResource,
    path: &str,
    reading: &mut ListResult,
) -> Result<Option<String>, Failure> {
    let body = client.get(path)?;
    let pace = body.pace();
    let fault = |fault| Failure::from_list_fault(fault, &client.ca, client.timeouts.response);
    let mut lists = Lists::open(body).map_err(fault)?;
    let mut nth = 0;
    let head = lists
        .next(&mut |_, item| {
            nth += 1;
            pace.start();
            wire::parse_item(&mut *reading, shape, nth, item);
        })
        .map_err(fault)?;
    if !lists.at_end().map_err(fault)? {
        return Err(Failure::other("the reply goes on after the list"));
    }
    check_list_kind(shape, &head)?;
    if let Some(version) = head.version {
        reading.versions.insert(shape.kind(), version);
    }
    Ok(head.next)
}

/// Fails if the head of a reply is not that of a list of this kind.
fn check_list_kind(shape: ApiResource, head: &PageHead) -> Result<(), Failure> {
    let kind = head.kind.as_deref().unwrap_or_default();
    if head.items && kind.strip_suffix("List") == Some(shape.name()) {
        return Ok(());
    }
    let kind = super::page::first_line(kind.as_bytes());
    Err(Failure::other(format!("the reply is no {}List (kind {kind:?})", shape.name())))
}

/// Percent-encodes a query value (RFC 3986, section 2.1). Continue tokens and resourceVersions are
/// opaque, so they may contain any character.
pub(super) fn percent_encode(token: &str) -> String {
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

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;
    use crate::api::test_server::{Server, ok, recorded, reply, serve};

    fn services(server: &Server) -> Result<ListResult, Failure> {
        list(&server.client(), ApiResource::Service, "/api/v1/services", &mut false, None)
    }

    #[test]
    fn pages_are_joined_into_one_list() {
        let server = serve(|_, nth| ok(recorded(&format!("list/services.limit10.p{nth}.json"))));
        let got = services(&server).unwrap();
        assert_eq!((got.cluster.services.len(), got.bad.len()), (24, 0));
        let targets = server.targets();
        assert_eq!(targets[0], "/api/v1/services?limit=500");
        assert_eq!(targets.len(), 3);
        assert!(
            targets[2].starts_with(
                "/api/v1/services?limit=500&continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJy"
            )
        );
        let server = serve(|_, nth| ok(recorded(&format!("list/nodes.limit2.p{nth}.json"))));
        let got =
            list(&server.client(), ApiResource::Node, "/api/v1/nodes", &mut false, None).unwrap();
        assert_eq!(got.cluster.nodes.len(), 3);
        let server = serve(|_, _| ok(recorded("list/services.limit10.p1.json")));
        assert_eq!(
            services(&server).unwrap_err().text,
            "the server returned the same continue token twice"
        );
    }

    #[test]
    fn an_expired_page_restarts_the_list_up_to_three_times() {
        let server = serve(|_, nth| match nth {
            1 | 3 => ok(recorded("list/services.limit10.p1.json")),
            2 => recorded("err/410-continue.http"),
            4 => ok(recorded("list/services.limit10.p2.json")),
            _ => ok(recorded("list/services.limit10.p3.json")),
        });
        assert_eq!(services(&server).unwrap().cluster.services.len(), 24);
        let server = serve(|target, _| match target.contains("continue") {
            true => recorded("err/410-continue.http"),
            false => ok(recorded("list/services.limit10.p1.json")),
        });
        assert_eq!(services(&server).unwrap_err().cause, Cause::Status(410));
        assert_eq!(server.targets().len(), 8);
    }

    #[test]
    fn if_etcd_is_down_the_cache_is_listed_and_at_once_for_the_kinds_after() {
        type Answer = fn() -> Vec<u8>;
        let down: [Answer; 3] = [
            || recorded("err/504-future-rv-list.http"),
            || reply("500 Internal Server Error", "", "etcdserver: leader changed"),
            Vec::new,
        ];
        for down in down {
            let server = serve(move |target, _| match target.contains("resourceVersion=0") {
                true => ok(recorded("list/services.json")),
                false => down(),
            });
            let mut cached = false;
            let client = server.client();
            for _ in 0..2 {
                let got =
                    list(&client, ApiResource::Service, "/api/v1/services", &mut cached, None)
                        .unwrap();
                assert_eq!(got.cluster.services.len(), 24);
            }
            let targets = server.targets();
            assert_eq!(targets.last().unwrap(), "/api/v1/services?resourceVersion=0");
            assert_eq!(targets.len(), 3);
        }
        let server = serve(|target, _| match target.contains("resourceVersion=0") {
            true => reply("403 Forbidden", "", ""),
            false => reply("503 Service Unavailable", "", "starting"),
        });
        assert_eq!(
            services(&server).unwrap_err().text,
            "503 Service Unavailable: starting; the API server, or etcd behind it, is not healthy"
        );
    }

    #[test]
    fn recorded_gzip_lists_are_decompressed_and_a_cut_one_fails() {
        let server = serve(|_, _| recorded("big/services.gzip.http"));
        let got = services(&server).unwrap();
        assert_eq!((got.cluster.services.len(), got.bad.len()), (324, 0));
        let server = serve(|_, _| recorded("big/endpointslices.gzip.http"));
        let got =
            list(&server.client(), ApiResource::EndpointSlice, "/x", &mut false, None).unwrap();
        assert_eq!((got.cluster.slices.len(), got.bad.len()), (329, 0));
        for cut in (400..recorded("big/services.gzip.http").len()).step_by(997) {
            let server = serve(move |_, _| recorded("big/services.gzip.http")[..cut].to_vec());
            let got = services(&server).unwrap_err().text;
            assert!(got.contains("cut"), "{cut}: {got}");
        }
    }

    #[test]
    fn a_connection_that_breaks_anywhere_in_the_list_is_reported_as_cut() {
        let whole = recorded("list/services.http");
        std::thread::scope(|scope| {
            for half in 0..2 {
                let whole = whole.clone();
                scope.spawn(move || cut_all(&whole, half * 10));
            }
        });
        let server = serve(move |_, _| whole.clone());
        assert_eq!(services(&server).unwrap().cluster.services.len(), 24);
    }

    /// Ends the reply after every twentieth byte, from `first` on.
    fn cut_all(whole: &[u8], first: usize) {
        let cut = Arc::new(AtomicUsize::new(0));
        let (at, bytes) = (Arc::clone(&cut), whole.to_vec());
        let server = serve(move |_, _| bytes[..at.load(Ordering::SeqCst)].to_vec());
        let client = server.client();
        for end in (first..whole.len()).step_by(20) {
            cut.store(end, Ordering::SeqCst);
            let got = list_consistent(&client, ApiResource::Service, "/api/v1/services");
            let got = got.err().unwrap_or_else(|| panic!("cut at {end} is no error")).text;
            assert!(got.contains("cut"), "{end}: {got}");
        }
    }

    #[test]
    fn a_reply_that_is_not_a_list_fails_with_its_reason() {
        let long = format!("{{\"kind\":\"ServiceList\",\"items\":[\"{}\"", "x".repeat(5_000_000));
        let huge = format!("{{\"kind\":\"ServiceList\",\"items\":[\"{}\"]}}", "x".repeat(17 << 20));
        let deep = format!("{{\"kind\":\"ServiceList\",\"items\":{}", "[".repeat(100_000));
        let status = String::from_utf8(recorded("err/410-exact.http")).unwrap();
        let status = status.rsplit("\r\n").next().unwrap().to_owned();
        for (body, want) in [
            ("", "the reply is empty: it was cut before the list began"),
            ("  \n", "the reply is empty"),
            ("{", "the connection was cut in the middle of the list"),
            (
                r#"{"kind":"ServiceList","items":[{"metadata""#,
                "the connection was cut in the middle of the list",
            ),
            (&long, "the connection was cut in the middle of the list"),
            (&deep, "the reply is not a list of objects: a value is nested too deeply"),
            (&huge, "an item of the list is larger than 16 MiB"),
            (
                "<!DOCTYPE html>\n<title>Log in</title>",
                "the reply is not JSON but starts with \"<!DOCTYPE html>\"; is that the API server",
            ),
            ("ok", "the reply is not JSON but starts with \"ok\""),
            ("[]", "the reply is not JSON but starts with \"[]\""),
            ("\"text\"", "the reply is not JSON but starts with"),
            ("{}", "the reply is no ServiceList (kind \"\")"),
            (r#"{"kind":"ServiceList"}"#, "the reply is no ServiceList (kind \"ServiceList\")"),
            (
                r#"{"kind":"NodeList","items":[]}"#,
                "the reply is no ServiceList (kind \"NodeList\")",
            ),
            (&status, "the reply is no ServiceList (kind \"Status\")"),
            (
                r#"{"kind":"ServiceList","items":{}}"#,
                "the reply is not a list of objects: its items are not an array but {}",
            ),
            (
                r#"{"kind":"ServiceList","items":"x"}"#,
                "the reply is not a list of objects: its items are not an array but \"x\"",
            ),
            (
                r#"{"kind":5,"items":[]}"#,
                "the reply is not a list of objects: invalid type: integer `5`, expected a string",
            ),
            (
                r#"{"kind":"ServiceList","items":[{"a":]}"#,
                "the reply is not a list of objects: a closing bracket of the wrong kind",
            ),
            (r#"{"kind":"ServiceList","items":[]}{}"#, "the reply goes on after the list"),
        ] {
            let bytes = ok(body);
            let server = serve(move |_, _| bytes.clone());
            let got = services(&server).unwrap_err().text;
            assert!(got.starts_with(want), "{body:.60}: {got}");
        }
    }
}
