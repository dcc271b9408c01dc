//! The error answers of the real server: the recorded bodies.

use crate::http::{JSON, Reply, TEXT};
use crate::resource::View;

/// Returns a `Status` object; `details` is JSON, or empty.
pub fn failure(code: u16, reason: &str, message: &str, details: &str) -> Reply {
    Reply::new(code, JSON, &body("{}", reason, message, details, code))
}

fn body(metadata: &str, reason: &str, message: &str, details: &str, code: u16) -> String {
    let message = serde_json::to_string(message).unwrap_or_default();
    let details =
        if details.is_empty() { String::new() } else { format!("\"details\":{details},") };
    format!(
        "{{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{metadata},\"status\":\"Failure\",\"message\":{message},\"reason\":\"{reason}\",{details}\"code\":{code}}}\n"
    )
}

pub fn bad_request(message: &str) -> Reply {
    failure(400, "BadRequest", message, "")
}

pub fn unauthorized() -> Reply {
    failure(401, "Unauthorized", "Unauthorized", "")
}

/// Returns the 403 for a caller and a verb; `place` is empty for the whole cluster.
pub fn forbidden(user: &str, verb: &str, view: &View, place: &str) -> Reply {
    let (plural, group) = (view.resource.plural, view.resource.group);
    let place = match place {
        "" => "at the cluster scope".to_string(),
        namespace => format!("in the namespace \"{namespace}\""),
    };
    let message = format!(
        "{plural} is forbidden: User \"{user}\" cannot {verb} resource \"{plural}\" in API group \"{group}\" {place}"
    );
    let group = if group.is_empty() { String::new() } else { format!("\"group\":\"{group}\",") };
    let details = format!("{{{group}\"kind\":\"{plural}\"}}");
    failure(403, "Forbidden", &message, &details).with("X-Content-Type-Options", "nosniff")
}

/// Returns the 404 for a path of no API.
pub fn no_page() -> Reply {
    Reply::new(404, TEXT, "404 page not found\n").with("X-Content-Type-Options", "nosniff")
}

/// Returns the 404 for a resource that its group does not have.
pub fn no_resource() -> Reply {
    failure(404, "NotFound", "the server could not find the requested resource", "{}")
}

pub fn no_object(view: &View, name: &str) -> Reply {
    let (plural, group) = (view.resource.plural, view.resource.group);
    let dot = if group.is_empty() { String::new() } else { format!(".{group}") };
    let message = format!("{plural}{dot} \"{name}\" not found");
    let group = if group.is_empty() { String::new() } else { format!("\"group\":\"{group}\",") };
    let details = format!("{{\"name\":\"{name}\",{group}\"kind\":\"{plural}\"}}");
    failure(404, "NotFound", &message, &details)
}

pub fn no_method() -> Reply {
    let message = "the server does not allow this method on the requested resource";
    failure(405, "MethodNotAllowed", message, "{}")
}

pub fn not_acceptable() -> Reply {
    const BODY: &str = r#"{
  "kind": "Status",
  "apiVersion": "v1",
  "metadata": {},
  "status": "Failure",
  "message": "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, application/vnd.kubernetes.protobuf, application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch",
  "reason": "NotAcceptable",
  "details": {},
  "code": 406
}"#;
    Reply::new(406, JSON, BODY)
}

/// Returns the 410 for a page of a list whose version is gone. `again` continues with the newest
/// version.
pub fn expired_pages(again: &str) -> Reply {
    let message = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";
    let metadata = format!("{{\"continue\":\"{again}\"}}");
    Reply::new(410, JSON, &body(&metadata, "Expired", message, "", 410))
}

pub fn expired_list() -> Reply {
    failure(410, "Expired", "The resourceVersion for the provided list is too old.", "")
}

/// Returns the last event of an expired watch, whose stream began with 200.
pub fn expired_watch(asked: u64, oldest: u64) -> String {
    let message = format!("too old resource version: {asked} ({oldest})");
    let status = body("{}", "Expired", &message, "", 410);
    format!("{{\"type\":\"ERROR\",\"object\":{}}}\n", status.trim_end())
}

pub fn from_the_future(asked: u64, now: u64) -> Reply {
    let message = format!("Timeout: Too large resource version: {asked}, current: {now}");
    let details = r#"{"causes":[{"reason":"ResourceVersionTooLarge","message":"Too large resource version"}],"retryAfterSeconds":1}"#;
    failure(504, "Timeout", &message, details).with("Retry-After", "1")
}

pub fn initial_events_without_match() -> Reply {
    let message = "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
    let details = r#"{"group":"meta.k8s.io","kind":"ListOptions","causes":[{"reason":"FieldValueForbidden","message":"Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan","field":"resourceVersionMatch"}]}"#;
    failure(422, "Invalid", message, details)
}

/// Returns the answer of a fault that names only a status.
pub fn of(code: u16, view: Option<&View>, verb: &str, place: &str) -> Reply {
    match (code, view) {
        (401, _) => unauthorized(),
        (403, Some(view)) => forbidden("nobody", verb, view, place),
        (404, _) => no_page(),
        (410, _) => expired_list(),
        (429, _) => Reply::new(429, TEXT, "Too many requests, please try again later.\n")
            .with("Retry-After", "1")
            .with("X-Content-Type-Options", "nosniff"),
        (503, _) => {
            let message = "the server is currently unable to handle the request";
            failure(503, "ServiceUnavailable", message, "{}")
        }
        (504, _) => {
            let message = "Timeout: request did not complete within requested timeout - context deadline exceeded";
            failure(504, "Timeout", message, "{}")
        }
        _ => {
            let message = "Internal error occurred: as the test asked";
            failure(
                code,
                "InternalError",
                message,
                r#"{"causes":[{"message":"as the test asked"}]}"#,
            )
        }
    }
}
