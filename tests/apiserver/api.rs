//! Requests by path and caller: authentication, faults that replace an answer, and the answer.

use std::path::PathBuf;
use std::time::Duration;

use crate::fault::Kind;
use crate::http::{JSON, Reply, TEXT};
use crate::request::Request;
use crate::resource::{RESOURCES, Resource, View};
use crate::store::Store;
use crate::watch::{self, Watch};
use crate::{list, status};

/// The versions of EndpointSlice that the server has: a current server, Kubernetes 1.18, or older.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Slices {
    V1,
    V1Beta1,
    None,
}

pub struct Api {
    pub store: Store,
    pub dir: PathBuf,
    pub slices: Slices,
    pub token: Option<String>,
    /// True if callers must have a client certificate or a token.
    pub certificates: bool,
    pub bookmarks: Duration,
    /// The time between two reads of the files during a watch.
    pub tick: Duration,
}

/// The caller by TLS.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Certificate {
    None,
    Trusted,
    Foreign,
}

pub enum Answer {
    Reply(Reply),
    Watch(Box<Watch>),
}

/// The parts of a path below an API group.
#[derive(Debug)]
struct Place<'a> {
    view: View,
    namespace: &'a str,
    name: &'a str,
}

impl Api {
    /// Returns the answer to a request. A fault may replace it.
    pub fn answer(&self, request: &Request, from: Certificate, fault: Option<&Kind>) -> Answer {
        self.store.refresh();
        self.decide(request, from, fault).unwrap_or_else(Answer::Reply)
    }

    fn decide(
        &self,
        request: &Request,
        from: Certificate,
        fault: Option<&Kind>,
    ) -> Result<Answer, Reply> {
        let place = self.place(&request.path);
        let (view, namespace) = place.as_ref().map_or((None, ""), |p| (Some(&p.view), p.namespace));
        let verb = verb(request, place.as_ref());
        match fault {
            Some(Kind::Status(code)) => return Err(status::of(*code, view, verb, namespace)),
            Some(Kind::Html) => return Err(Reply::new(200, "text/html; charset=utf-8", LOGIN)),
            Some(Kind::Body(file)) => return Err(self.file(file)),
            _ => {}
        }
        let public = ["/version", "/livez", "/readyz", "/healthz"].contains(&&*request.path);
        let known = self.knows(request, from)?;
        if !known && !public {
            return Err(match &place {
                Some(p) => status::forbidden("system:anonymous", verb, &p.view, namespace),
                None => {
                    let message = format!(
                        "forbidden: User \"system:anonymous\" cannot get path \"{}\"",
                        request.path
                    );
                    status::failure(403, "Forbidden", &message, "{}")
                }
            });
        }
        let Some(place) = place else { return self.page(request).map(Answer::Reply) };
        match request.method.as_str() {
            "GET" if place.name.is_empty() => {
                if !accepts_json(request) {
                    return Err(status::not_acceptable());
                }
                let expire = fault == Some(&Kind::Gone);
                if watch::wanted(request) {
                    let view = place.view;
                    let times = (self.bookmarks, self.tick);
                    let watch = Watch::new(view, namespace, request, times, fault, &self.dir)?;
                    return Ok(Answer::Watch(Box::new(watch)));
                }
                let reply = list::list(&self.store, &place.view, namespace, request, expire)?;
                let old = place.view.resource.plural == "endpoints" && self.slices == Slices::V1;
                Ok(Answer::Reply(if old { reply.with("Warning", OLD) } else { reply }))
            }
            "GET" => self.get(&place),
            "PUT" | "DELETE" if !place.name.is_empty() && !place.view.beta => {
                self.write(request, &place)
            }
            _ => Err(status::no_method()),
        }
    }

    fn knows(&self, request: &Request, from: Certificate) -> Result<bool, Reply> {
        let rotated = std::fs::read_to_string(self.dir.join("token")).ok();
        let tokens: Vec<&str> = match (&rotated, &self.token) {
            (Some(text), _) => text.lines().map(str::trim).collect(),
            (None, Some(token)) => vec![token],
            (None, None) => Vec::new(),
        };
        let open = tokens.is_empty() && !self.certificates;
        match (request.header("authorization"), from) {
            (_, Certificate::Foreign) => Err(status::unauthorized()),
            (_, Certificate::Trusted) => Ok(true),
            (None, _) => Ok(open),
            (Some(header), _) => match header.strip_prefix("Bearer ") {
                _ if open => Ok(true),
                Some(token) if tokens.contains(&token) => Ok(true),
                _ => Err(status::unauthorized()),
            },
        }
    }

    fn place<'a>(&self, path: &'a str) -> Option<Place<'a>> {
        let (group, version, rest) = match path.strip_prefix("/api/v1/") {
            Some(rest) => ("", "v1", rest),
            None => {
                let (group, rest) = path.strip_prefix("/apis/")?.split_once('/')?;
                let (version, rest) = rest.split_once('/')?;
                (group, version, rest)
            }
        };
        if !self.has(group, version) {
            return None;
        }
        let parts: Vec<&str> = rest.split('/').collect();
        let (namespace, plural, name) = match parts[..] {
            ["namespaces", namespace, plural] => (namespace, plural, ""),
            ["namespaces", namespace, plural, name] => (namespace, plural, name),
            [plural] => ("", plural, ""),
            [plural, name] => ("", plural, name),
            _ => return None,
        };
        let resource = RESOURCES.iter().find(|r| r.group == group && r.plural == plural)?;
        if resource.namespaced && namespace.is_empty() && !name.is_empty() {
            return None;
        }
        let beta = version == "v1beta1";
        Some(Place { view: View { resource, beta }, namespace, name })
    }

    /// Returns true if this server has a version of an API group.
    fn has(&self, group: &str, version: &str) -> bool {
        match (group, version) {
            ("discovery.k8s.io", "v1") => self.slices == Slices::V1,
            ("discovery.k8s.io", "v1beta1") => self.slices == Slices::V1Beta1,
            _ => RESOURCES.iter().any(|r| r.group == group && r.version == version),
        }
    }

    fn get(&self, place: &Place) -> Result<Answer, Reply> {
        let (_, version) = self.store.now(place.view.resource);
        let found = version
            .items
            .iter()
            .find(|i| i.name == place.name && i.namespace == place.namespace)
            .ok_or_else(|| status::no_object(&place.view, place.name))?;
        let object = place.view.object(&found.text);
        Ok(Answer::Reply(Reply::new(200, JSON, &format!("{object}\n"))))
    }

    /// Writes or removes an object in memory, without changing the files.
    fn write(&self, request: &Request, place: &Place) -> Result<Answer, Reply> {
        let key = match place.namespace {
            "" => place.name.to_string(),
            namespace => format!("{namespace}/{}", place.name),
        };
        let text = if request.method == "PUT" {
            let text = String::from_utf8_lossy(&request.body).into_owned();
            let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            if value["metadata"]["name"].as_str() != Some(place.name) {
                return Err(status::bad_request("the name of the object does not match its path"));
            }
            Some(strip_kind(&text, place.view.resource))
        } else {
            None
        };
        let written = self.store.write(place.view.resource, &key, text.as_deref());
        let item = written.ok_or_else(|| status::no_object(&place.view, place.name))?;
        let object = place.view.object(&item.text);
        Ok(Answer::Reply(Reply::new(200, JSON, &format!("{object}\n"))))
    }

    /// Returns the answer for a path that names no object.
    fn page(&self, request: &Request) -> Result<Reply, Reply> {
        let path = request.path.trim_end_matches('/');
        let text = match path {
            "/version" => return Ok(Reply::new(200, JSON, &self.version())),
            "/livez" | "/readyz" | "/healthz" => {
                let ok = Reply::new(200, TEXT, "ok");
                return Ok(ok.with("X-Content-Type-Options", "nosniff"));
            }
            "/api" => r#"{"kind":"APIVersions","versions":["v1"],"serverAddressByClientCIDRs":[{"clientCIDR":"0.0.0.0/0","serverAddress":"192.0.2.10:16443"}]}"#.to_string(),
            "/api/v1" => self.resources("", "v1"),
            "/apis" => self.groups(),
            _ => {
                let mut parts = path.trim_start_matches("/apis/").split('/');
                let (group, version) =
                    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
                let core = path.starts_with("/api/v1/");
                if !core && (!path.starts_with("/apis/") || !self.has(group, version)) {
                    return Err(status::no_page());
                }
                if core || parts.next().is_some() {
                    return Err(status::no_resource());
                }
                self.resources(group, version)
            }
        };
        Ok(Reply::new(200, JSON, &format!("{text}\n")))
    }

    fn resources(&self, group: &str, version: &str) -> String {
        const VERBS: &str =
            r#"["create","delete","deletecollection","get","list","patch","update","watch"]"#;
        let rows: Vec<String> = RESOURCES
            .iter()
            .filter(|r| r.group == group)
            .map(|r| {
                let (plural, namespaced, kind) = (r.plural, r.namespaced, r.kind);
                let singular = kind.to_ascii_lowercase();
                let hash = match (plural, version) {
                    ("endpointslices", "v1") => r#","storageVersionHash":"qgS0xkrxYAI=""#,
                    _ => "",
                };
                format!(
                    r#"{{"name":"{plural}","singularName":"{singular}","namespaced":{namespaced},"kind":"{kind}","verbs":{VERBS}{hash}}}"#
                )
            })
            .collect();
        let (api, whole) = match group {
            "" => ("", version.to_string()),
            group => (r#""apiVersion":"v1","#, format!("{group}/{version}")),
        };
        let rows = rows.join(",");
        format!(
            r#"{{"kind":"APIResourceList",{api}"groupVersion":"{whole}","resources":[{rows}]}}"#
        )
    }

    fn groups(&self) -> String {
        let all = [
            ("networking.k8s.io", "v1"),
            ("discovery.k8s.io", "v1"),
            ("discovery.k8s.io", "v1beta1"),
        ];
        let rows: Vec<String> = all
            .iter()
            .filter(|(group, version)| self.has(group, version))
            .map(|(group, version)| {
                let both =
                    format!(r#"{{"groupVersion":"{group}/{version}","version":"{version}"}}"#);
                format!(r#"{{"name":"{group}","versions":[{both}],"preferredVersion":{both}}}"#)
            })
            .collect();
        let rows = rows.join(",");
        format!(r#"{{"kind":"APIGroupList","apiVersion":"v1","groups":[{rows}]}}"#)
    }

    fn version(&self) -> String {
        let new = include_str!("version.json").trim_end();
        match self.slices {
            Slices::V1 => new.to_string(),
            // The version of the workshop's server, made by hand after the recorded one.
            _ => {
                new.replace("v1.36.2", "v1.18.8").replace("\"minor\": \"36\"", "\"minor\": \"18\"")
            }
        }
    }

    fn file(&self, name: &str) -> Reply {
        // The bytes need not be UTF-8, because a test may serve invalid bytes.
        match std::fs::read(self.dir.join(name)) {
            Ok(bytes) => {
                let mut reply = Reply::new(200, JSON, "");
                reply.raw = Some(bytes);
                reply
            }
            Err(e) => status::failure(500, "InternalError", &format!("body={name}: {e}"), "{}"),
        }
    }
}

const OLD: &str =
    "299 - \"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\"";

const LOGIN: &str = "<!DOCTYPE html>\n<html><head><title>Sign in to the guest network</title></head>\n<body><form method=\"post\" action=\"/login\"><input name=\"user\"><input name=\"password\" type=\"password\"></form></body></html>\n";

fn verb(request: &Request, place: Option<&Place>) -> &'static str {
    let named = place.is_some_and(|p| !p.name.is_empty());
    match request.method.as_str() {
        "GET" | "HEAD" if named => "get",
        "GET" | "HEAD" if watch::wanted(request) => "watch",
        "GET" | "HEAD" => "list",
        "POST" => "create",
        "DELETE" => "delete",
        _ => "update",
    }
}

fn accepts_json(request: &Request) -> bool {
    request.header("accept").is_none_or(|accept| {
        ["application/json", "*/*", "application/*"].iter().any(|kind| accept.contains(kind))
    })
}

/// Returns an object that arrived by itself in the form that a list has.
fn strip_kind(text: &str, resource: &Resource) -> String {
    let text = crate::item::compact(text.trim());
    let view = View { resource: &RESOURCES[resource.index()], beta: false };
    match text.strip_prefix(&view.head()) {
        Some(rest) => format!("{{{}", rest.trim_start_matches(',')),
        None => text,
    }
}
