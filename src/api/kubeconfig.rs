//! A kubeconfig: the cluster and the user of its current context.
//!
//! YAML as kubectl, kubeadm and k3s write it, or JSON. What needs another program or another host
//! (exec, auth-provider, proxy-url) is refused with a sentence, since without it every request would
//! fail in a way that is harder to understand. Where a field is there as data and as a file, the
//! data counts, and a tokenFile before a token, as in client-go.

use std::{fs, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{
    auth::{Access, Token, base},
    tls::{self, Pem, Trust},
    yaml,
};
use crate::{
    error::{Doing, Error},
    log,
};

/// Larger ones are something else.
const SIZE: u64 = 1 << 20;

/// Reads a file. `master`, where given, stands in for the server that it names.
pub fn read(path: &Path, master: Option<&str>) -> crate::error::Result<Access> {
    let doing = || format!("reading the kubeconfig {}", path.display());
    let size = fs::metadata(path).doing(doing)?.len();
    if size > SIZE {
        return Err(Error::new(doing(), "it is too large (over 1 MiB) to be one"));
    }
    let text = fs::read(path).doing(doing)?;
    let text = String::from_utf8(text).map_err(|_| Error::new(doing(), "it is not UTF-8 text"))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    parse(&text, folder, master).doing(doing)
}

/// The same from its text. `folder` is where relative paths start.
pub fn parse(text: &str, folder: &Path, master: Option<&str>) -> Result<Access, String> {
    let root = value(text.trim_start_matches('\u{feff}'))?;
    if !root.is_object() {
        return Err("it is no kubeconfig".to_owned());
    }
    let name = field(&root, "current-context")?
        .ok_or("current-context is not set; set it with `kubectl config use-context NAME`")?;
    let context = entry(&root, "contexts", "context", &name)?;
    let cluster = field(context, "cluster")?
        .ok_or_else(|| format!("the context {name:?} names no cluster"))?;
    let user = field(context, "user")?;
    let at = entry(&root, "clusters", "cluster", &cluster)?;
    let who = match &user {
        Some(user) => entry(&root, "users", "user", user)?,
        None => &Value::Null,
    };
    let place = Place::read(at, folder).map_err(|why| format!("cluster {cluster:?}: {why}"))?;
    let user = user.unwrap_or_default();
    let (client, token) =
        credentials(who, folder).map_err(|why| format!("user {user:?}: {why}"))?;
    place.access(client.as_ref(), token, master)
}

fn value(text: &str) -> Result<Value, String> {
    if text.trim_start().starts_with('{')
        && let Ok(value) = serde_json::from_str(text)
    {
        return Ok(value);
    }
    yaml::read(text)
}

/// The named entry of a list; `inner` is the field that its content is in.
fn entry<'a>(root: &'a Value, list: &str, inner: &str, name: &str) -> Result<&'a Value, String> {
    let entries = root.get(list).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let entry = entries
        .iter()
        .find(|entry| entry.get("name").and_then(Value::as_str) == Some(name))
        .ok_or_else(|| format!("it has no {inner} {name:?} under {list}"))?;
    match entry.get(inner) {
        None | Some(Value::Null) => Ok(&Value::Null),
        Some(found) if found.is_object() => Ok(found),
        Some(_) => Err(format!("the {inner} {name:?} is not a map")),
    }
}

/// A text field; null and empty count as not there.
fn field(of: &Value, key: &str) -> Result<Option<String>, String> {
    match of.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(_) => Err(format!("{key} is not text")),
    }
}

/// A field that is given as data in base64, or as the name of a file.
fn pem(of: &Value, key: &str, folder: &Path) -> Result<Option<Pem>, String> {
    let data = format!("{key}-data");
    if let Some(mut text) = field(of, &data)? {
        text.retain(|c| !c.is_ascii_whitespace());
        let text = STANDARD.decode(text).map_err(|e| format!("{data} is no base64: {e}"))?;
        return Ok(Some(Pem { text, from: format!("{data} of the kubeconfig") }));
    }
    match field(of, key)? {
        Some(file) => Pem::file(&folder.join(file)).map(Some).map_err(|e| e.to_string()),
        None => Ok(None),
    }
}

fn refuse(of: &Value, keys: &[(&str, &str)]) -> Result<(), String> {
    for (key, advice) in keys {
        if of.get(*key).is_some_and(|v| !matches!(v, Value::Null) && v.as_str() != Some("")) {
            return Err(format!("{key} is not supported; {advice}"));
        }
    }
    Ok(())
}

/// The entry of a cluster.
struct Place {
    server: Option<String>,
    ca: Option<Pem>,
    insecure: bool,
    server_name: Option<String>,
}

impl Place {
    fn read(of: &Value, folder: &Path) -> Result<Place, String> {
        refuse(of, &[("proxy-url", "give a server that can be reached without a proxy")])?;
        let insecure = match of.get("insecure-skip-tls-verify") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(yes)) => *yes,
            Some(_) => return Err("insecure-skip-tls-verify is neither true nor false".to_owned()),
        };
        Ok(Place {
            server: field(of, "server")?,
            ca: if insecure { None } else { pem(of, "certificate-authority", folder)? },
            insecure,
            server_name: field(of, "tls-server-name")?,
        })
    }

    fn access(
        self,
        client: Option<&(Pem, Pem)>,
        token: Token,
        master: Option<&str>,
    ) -> Result<Access, String> {
        let url = master
            .or(self.server.as_deref())
            .ok_or("its cluster has no server; give --master URL or set it")?;
        let server = base(url, self.ca.is_some() || self.insecure || client.is_some())?;
        if server.starts_with("http://") {
            if !matches!(token, Token::None) {
                log::warn(format_args!("{server} is plain http: its token can be read on the way"));
            }
            return Ok(Access { server, tls: None, ca: String::new(), server_name: None, token });
        }
        let trust = if self.insecure {
            log::warn(format_args!(
                "INSECURE: the certificate of {server} is not checked (insecure-skip-tls-verify): \
                 anybody on the way can pose as the API server"
            ));
            Trust::Anybody
        } else {
            Trust::Ca(self.ca.or_else(tls::system).ok_or(
                "its cluster has no certificate-authority, and this system has no CA certificates \
                 in /etc/ssl; set certificate-authority-data",
            )?)
        };
        let ca = match &trust {
            Trust::Ca(pem) => pem.from.clone(),
            Trust::Anybody => "nothing".to_owned(),
        };
        let client = client.map(|(cert, key)| (cert, key));
        let tls = tls::config(&trust, client).map_err(|e| e.to_string())?;
        Ok(Access { server, tls: Some(tls), ca, server_name: self.server_name, token })
    }
}

/// The entry of a user: its client certificate with its key, and its token.
fn credentials(of: &Value, folder: &Path) -> Result<(Option<(Pem, Pem)>, Token), String> {
    const INSTEAD: &str = "use a token, a tokenFile or a client certificate (for example of a \
                           ServiceAccount: see boards/kubernetes)";
    const NOBODY: &str = "use the credentials of the user that it should be";
    refuse(
        of,
        &[
            ("exec", INSTEAD),
            ("auth-provider", INSTEAD),
            ("username", INSTEAD),
            ("password", INSTEAD),
            ("as", NOBODY),
            ("as-uid", NOBODY),
            ("as-groups", NOBODY),
            ("as-user-extra", NOBODY),
        ],
    )?;
    let client = match (pem(of, "client-certificate", folder)?, pem(of, "client-key", folder)?) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        (Some(_), None) => return Err("it has a client-certificate and no client-key".to_owned()),
        (None, Some(_)) => return Err("it has a client-key and no client-certificate".to_owned()),
    };
    let token = match (field(of, "tokenFile")?, field(of, "token")?) {
        (Some(file), _) => Token::File(folder.join(file)),
        (None, Some(token)) => Token::Fixed(token),
        (None, None) => Token::None,
    };
    Ok((client, token))
}
