//! Asks the API server whether we may do what following the cluster takes: by doing it, as little of
//! it as possible.

use std::time::Duration;

use serde::Deserialize;

use super::{
    Api, ENDPOINTS,
    failure::{Failure, Why},
};
use crate::{
    cluster::Kind,
    error::{self, Error},
    json,
};

/// How long the server may take for its answer to a watch.
const QUIET: Duration = Duration::from_secs(10);

/// The head of a list.
#[derive(Deserialize)]
struct List {
    metadata: Meta,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(rename = "resourceVersion")]
    version: String,
}

impl Api {
    /// Whether each of `list` and `watch` is granted for a kind, and why not. `Err`: no API server
    /// answers.
    pub fn may(&self, kind: Kind) -> error::Result<Vec<(&'static str, Result<(), String>)>> {
        let paths: Vec<&str> = match kind {
            Kind::Node => vec!["/api/v1/nodes"],
            Kind::Service => vec!["/api/v1/services"],
            Kind::EndpointSlice => ENDPOINTS.iter().map(|(_, path)| *path).collect(),
        };
        let mut listed = Err(Failure::other("it serves no endpoints"));
        let mut found = "";
        for path in paths {
            (listed, found) = (self.version(path), path);
            if !matches!(&listed, Err(failure) if failure.why == Why::Status(404)) {
                break;
            }
        }
        let version = match listed {
            Ok(version) => version,
            Err(Failure { why: Why::Status(_), text, .. }) => return Ok(vec![("list", Err(text))]),
            Err(failure) => return Err(Error::new(self.client.server.clone(), failure.text)),
        };
        // A watch from now on has nothing to tell.
        let path = format!("{found}?watch=1&timeoutSeconds=1&resourceVersion={version}");
        let watched = self.client.watch(&path, QUIET, QUIET);
        let watched = watched.map(drop).map_err(|failure| failure.text);
        Ok(vec![("list", Ok(())), ("watch", watched)])
    }

    fn version(&self, path: &str) -> Result<String, Failure> {
        let body = self.client.probe(&format!("{path}?limit=1"))?;
        let list: List = json::from_str(&body).map_err(|e| Failure::other(e.to_string()))?;
        Ok(list.metadata.version)
    }
}

#[cfg(test)]
mod tests {
    use super::super::serve::{Server, ok, reply, serve};
    use super::*;

    fn api(server: &Server) -> Api {
        Api::over(server.client())
    }

    const LIST: &str =
        r#"{"kind":"NodeList","metadata":{"resourceVersion":"41"},"items":[{"a":1}]}"#;

    #[test]
    fn both_verbs_are_tried_with_as_little_as_possible() {
        let server = serve(|_, _| ok(LIST));
        let got = api(&server).may(Kind::Node).unwrap();
        assert_eq!(got, [("list", Ok(())), ("watch", Ok(()))]);
        let asked: Vec<String> = server
            .requests()
            .iter()
            .map(|head| head.split(' ').nth(1).unwrap_or_default().to_owned())
            .collect();
        assert_eq!(
            asked,
            ["/api/v1/nodes?limit=1", "/api/v1/nodes?watch=1&timeoutSeconds=1&resourceVersion=41"]
        );
    }

    #[test]
    fn a_right_that_is_missing_is_named_with_its_verb() {
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
    fn an_older_server_is_asked_for_what_it_has() {
        let server = serve(|target, _| match target.starts_with("/api/v1/endpoints") {
            true => ok(LIST),
            false => reply("404 Not Found", "", ""),
        });
        let got = api(&server).may(Kind::EndpointSlice).unwrap();
        assert_eq!(got, [("list", Ok(())), ("watch", Ok(()))]);
    }
}
