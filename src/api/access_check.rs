//! Checks that this account may list and watch each kind, for `kinglet check`.
//!
//! The check sends the smallest real request instead of a SelfSubjectAccessReview, so it needs no
//! rights beyond the ones that it tests: a list of one object, then a watch that starts from the
//! version of that list. The requests go through [`client`](super::client).

use std::time::Duration;

use serde::Deserialize;

use super::{
    Api,
    failure::{Cause, Failure},
    list::percent_encode,
    server::resources,
};
use crate::{
    codec::json,
    error::{self, Error},
    model::cluster::Kind,
};

/// The longest time until the server answers the request for a watch.
const WATCH_TIMEOUT: Duration = Duration::from_secs(10);

/// The metadata of a list.
#[derive(Deserialize)]
struct AccessList {
    metadata: AccessMeta,
}

#[derive(Deserialize)]
struct AccessMeta {
    #[serde(rename = "resourceVersion")]
    version: String,
}

impl Api {
    /// Checks `list` and then `watch` for a kind. Returns each verb that was tried, with the reason if
    /// it was refused; `watch` is not tried if `list` was refused. Fails if no API server answers.
    pub fn may(&self, kind: Kind) -> error::Result<Vec<(&'static str, Result<(), String>)>> {
        let mut listed = Err(Failure::other("the server has neither EndpointSlices nor Endpoints"));
        let mut found = "";
        for &(_, path) in resources(kind) {
            (listed, found) = (self.list_version(path), path);
            if !matches!(&listed, Err(failure) if failure.cause == Cause::Status(404)) {
                break;
            }
        }
        let version = match listed {
            Ok(version) => version,
            Err(Failure { cause: Cause::Status(_), text, .. }) => {
                return Ok(vec![("list", Err(text))]);
            }
            Err(failure) => return Err(Error::new(self.client.server.clone(), failure.text)),
        };
        // A watch from the current version brings no events.
        let version = percent_encode(&version);
        let path = format!("{found}?watch=1&timeoutSeconds=1&resourceVersion={version}");
        let watched = self.client.watch(&path, WATCH_TIMEOUT, WATCH_TIMEOUT);
        let watched = watched.map(drop).map_err(|failure| failure.text);
        Ok(vec![("list", Ok(())), ("watch", watched)])
    }

    /// Lists one object at most and returns the resourceVersion of the list.
    fn list_version(&self, path: &str) -> Result<String, Failure> {
        let body = self.client.probe(&format!("{path}?limit=1"))?;
        let list: AccessList = json::from_str(&body).map_err(|e| Failure::other(e.to_string()))?;
        Ok(list.metadata.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::test_server::{Server, ok, reply, serve};

    fn api(server: &Server) -> Api {
        Api::from_client(server.client())
    }

    const LIST: &str =
        r#"{"kind":"NodeList","metadata":{"resourceVersion":"41"},"items":[{"a":1}]}"#;

    #[test]
    fn list_and_watch_are_tried_with_the_smallest_requests() {
        let server = serve(|_, _| ok(LIST));
        let got = api(&server).may(Kind::Node).unwrap();
        assert_eq!(got, [("list", Ok(())), ("watch", Ok(()))]);
        let targets: Vec<String> = server
            .requests()
            .iter()
            .map(|head| head.split(' ').nth(1).unwrap_or_default().to_owned())
            .collect();
        assert_eq!(
            targets,
            ["/api/v1/nodes?limit=1", "/api/v1/nodes?watch=1&timeoutSeconds=1&resourceVersion=41"]
        );
    }

    #[test]
    fn the_version_of_the_list_is_encoded_in_the_url_of_the_watch() {
        let server = serve(|_, _| ok(LIST.replace("41", "4 1&limit=9")));
        api(&server).may(Kind::Service).unwrap();
        assert_eq!(
            server.targets(),
            [
                "/api/v1/services?limit=1",
                "/api/v1/services?watch=1&timeoutSeconds=1&resourceVersion=4%201%26limit%3D9"
            ]
        );
    }

    #[test]
    fn a_missing_right_is_reported_with_its_verb() {
        let server = serve(|target, _| match target.contains("watch=1") {
            true => reply("403 Forbidden", "", "{\"message\":\"no watch\"}"),
            false => ok(LIST),
        });
        let got = api(&server).may(Kind::Service).unwrap();
        assert_eq!(got[0], ("list", Ok(())));
        assert!(got[1].1.as_ref().unwrap_err().starts_with("403 Forbidden: no watch"), "{got:?}");
        let server = serve(|_, _| reply("403 Forbidden", "", ""));
        assert_eq!(api(&server).may(Kind::Service).unwrap().len(), 1);
    }

    #[test]
    fn endpoints_are_checked_in_the_version_that_an_older_server_has() {
        let server = serve(|target, _| match target.starts_with("/api/v1/endpoints") {
            true => ok(LIST),
            false => reply("404 Not Found", "", ""),
        });
        let got = api(&server).may(Kind::EndpointSlice).unwrap();
        assert_eq!(got, [("list", Ok(())), ("watch", Ok(()))]);
    }
}
