//! Reads a kubeconfig: the cluster and the user of its current context, as an [`Access`].
//!
//! The file is JSON, or YAML as kubectl, kubeadm and k3s write it (parsed by [`yaml`]). [`parse`] follows
//! current-context to the entries of its cluster ([`ClusterEntry`]) and its user ([`credentials`]).
//! Fields that need another program or another host (exec, auth-provider, proxy-url) are errors here,
//! because ignoring them would make every request fail with an error that is harder to understand.
//! As in client-go, a `…-data` field has precedence over a file, and tokenFile over token.
//! Format: "Organizing Cluster Access Using kubeconfig Files" in the Kubernetes documentation.

use std::{fs, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{
    access::{Access, Token, normalize_url},
    tls::{self, Pem, Trust},
};
use crate::{
    codec::yaml,
    error::{Doing, Error},
};

/// The largest file that is read, in bytes. A larger file is not a kubeconfig.
const MAX_SIZE: u64 = 1 << 20;

/// Reads a kubeconfig file. `master`, if given, replaces the server of its cluster. Fails if the file,
/// or a certificate, key or token that it refers to, can't be read or is not valid.
pub(super) fn read(path: &Path, master: Option<&str>) -> crate::error::Result<Access> {
    let doing = || format!("reading the kubeconfig {}", path.display());
    let size = fs::metadata(path).doing(doing)?.len();
    if size > MAX_SIZE {
        return Err(Error::new(doing(), "it is too large (over 1 MiB) to be a kubeconfig"));
    }
    let text = fs::read(path).doing(doing)?;
    let text = String::from_utf8(text).map_err(|_| Error::new(doing(), "it is not UTF-8 text"))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    parse(&text, folder, master).doing(doing)
}

/// Reads a kubeconfig from its text. Relative paths in it are relative to `folder`.
pub(super) fn parse(text: &str, folder: &Path, master: Option<&str>) -> Result<Access, String> {
    let root = json_or_yaml(text.trim_start_matches('\u{feff}'))?;
    if !root.is_object() {
        return Err("it is not a kubeconfig".to_owned());
    }
    let name = field(&root, "current-context")?
        .ok_or("current-context is not set; set it with `kubectl config use-context NAME`")?;
    let context = entry(&root, "contexts", "context", &name)?;
    let cluster = field(context, "cluster")?
        .ok_or_else(|| format!("the context {name:?} names no cluster"))?;
    let user = field(context, "user")?;
    let cluster_entry = entry(&root, "clusters", "cluster", &cluster)?;
    let user_entry = match &user {
        Some(user) => entry(&root, "users", "user", user)?,
        None => &Value::Null,
    };
    let cluster_entry = ClusterEntry::read(cluster_entry, folder)
        .map_err(|why| format!("cluster {cluster:?}: {why}"))?;
    let user = user.unwrap_or_default();
    let (client, token) =
        credentials(user_entry, folder).map_err(|why| format!("user {user:?}: {why}"))?;
    cluster_entry.into_access(client.as_ref(), token, master)
}

/// Parses text as JSON if it starts with a brace and is valid JSON, and as YAML otherwise.
fn json_or_yaml(text: &str) -> Result<Value, String> {
    if text.trim_start().starts_with('{')
        && let Ok(value) = serde_json::from_str(text)
    {
        return Ok(value);
    }
    yaml::read(text)
}

/// Returns the content of a named entry of a list, which is in its field `inner`; null if the field is
/// absent. Fails if there is no such entry or its content is not a map.
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

/// Returns a text field; `None` if it is absent, null or empty. A number is returned as its text.
fn field(entry: &Value, key: &str) -> Result<Option<String>, String> {
    match entry.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(_) => Err(format!("{key} is not a string")),
    }
}

/// Returns the PEM text of a field, from base64 in `KEY-data` or else from the file named in `KEY`;
/// `None` if both are absent.
fn pem(entry: &Value, key: &str, folder: &Path) -> Result<Option<Pem>, String> {
    let data = format!("{key}-data");
    if let Some(mut text) = field(entry, &data)? {
        text.retain(|c| !c.is_ascii_whitespace());
        let text = STANDARD.decode(text).map_err(|e| format!("{data} is not base64: {e}"))?;
        return Ok(Some(Pem { text, from: format!("{data} of the kubeconfig") }));
    }
    match field(entry, key)? {
        Some(file) => Pem::file(&folder.join(file)).map(Some).map_err(|e| e.to_string()),
        None => Ok(None),
    }
}

/// Fails if an entry has one of these fields with a value. Each field comes with advice for its error.
fn reject_unsupported(entry: &Value, keys: &[(&str, &str)]) -> Result<(), String> {
    for (key, advice) in keys {
        if entry.get(*key).is_some_and(|v| !matches!(v, Value::Null) && v.as_str() != Some("")) {
            return Err(format!("{key} is not supported; {advice}"));
        }
    }
    Ok(())
}

/// An entry of the list `clusters`.
struct ClusterEntry {
    server: Option<String>,
    /// `None` if there is none, or if `insecure` is true.
    ca: Option<Pem>,
    /// insecure-skip-tls-verify
    insecure: bool,
    server_name: Option<String>,
}

impl ClusterEntry {
    fn read(entry: &Value, folder: &Path) -> Result<ClusterEntry, String> {
        reject_unsupported(
            entry,
            &[("proxy-url", "set a server that can be reached without a proxy")],
        )?;
        let insecure = match entry.get("insecure-skip-tls-verify") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(yes)) => *yes,
            Some(_) => return Err("insecure-skip-tls-verify is neither true nor false".to_owned()),
        };
        Ok(ClusterEntry {
            server: field(entry, "server")?,
            ca: if insecure { None } else { pem(entry, "certificate-authority", folder)? },
            insecure,
            server_name: field(entry, "tls-server-name")?,
        })
    }

    /// Combines this cluster with a user's client certificate and token.
    fn into_access(
        self,
        client: Option<&(Pem, Pem)>,
        token: Token,
        master: Option<&str>,
    ) -> Result<Access, String> {
        let url = master
            .or(self.server.as_deref())
            .ok_or("its cluster has no server; give --master URL or set its server")?;
        let server = normalize_url(url, self.ca.is_some() || self.insecure || client.is_some())?;
        if server.starts_with("http://") {
            let warning = (!matches!(token, Token::None))
                .then(|| format!("{server} is plain http: the token is sent unencrypted"));
            let (tls, ca, server_name) = (None, String::new(), None);
            return Ok(Access { server, tls, ca, ca_hash: 0, server_name, token, warning });
        }
        let warning = self.insecure.then(|| {
            format!(
                "INSECURE: the certificate of {server} is not verified \
                 (insecure-skip-tls-verify): any host on the path can impersonate the API server"
            )
        });
        let trust = if self.insecure {
            Trust::Unverified
        } else {
            Trust::Ca(self.ca.or_else(tls::system_cas).ok_or(
                "its cluster has no certificate-authority, and this system has no CA certificates \
                 in /etc/ssl; set certificate-authority-data",
            )?)
        };
        let (ca, ca_hash) = match &trust {
            Trust::Ca(pem) => (pem.from.clone(), pem.hash()),
            Trust::Unverified => ("nothing".to_owned(), 0),
        };
        let client = client.map(|(cert, key)| (cert, key));
        let tls = Some(tls::client_config(&trust, client).map_err(|e| e.to_string())?);
        Ok(Access { server, tls, ca, ca_hash, server_name: self.server_name, token, warning })
    }
}

/// Reads an entry of the list `users`: the client certificate with its key (`None` if there is none),
/// and the token.
fn credentials(entry: &Value, folder: &Path) -> Result<(Option<(Pem, Pem)>, Token), String> {
    const USE_SUPPORTED: &str = "use a token, a tokenFile or a client certificate (for example of a \
                           ServiceAccount: see boards/kubernetes)";
    const USE_THE_OTHER: &str = "use the credentials of the user to impersonate";
    reject_unsupported(
        entry,
        &[
            ("exec", USE_SUPPORTED),
            ("auth-provider", USE_SUPPORTED),
            ("username", USE_SUPPORTED),
            ("password", USE_SUPPORTED),
            ("as", USE_THE_OTHER),
            ("as-uid", USE_THE_OTHER),
            ("as-groups", USE_THE_OTHER),
            ("as-user-extra", USE_THE_OTHER),
        ],
    )?;
    let client =
        match (pem(entry, "client-certificate", folder)?, pem(entry, "client-key", folder)?) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => {
                return Err("it has a client-certificate and no client-key".to_owned());
            }
            (None, Some(_)) => {
                return Err("it has a client-key and no client-certificate".to_owned());
            }
        };
    let token = match (field(entry, "tokenFile")?, field(entry, "token")?) {
        (Some(file), _) => Token::File(folder.join(file)),
        (None, Some(token)) => Token::Fixed(token),
        (None, None) => Token::None,
    };
    Ok((client, token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::test_server::Rng;

    fn folder() -> &'static Path {
        Path::new("tests/fixtures/tls")
    }

    /// Returns an admin.conf as kubeadm writes it.
    fn admin() -> String {
        let data = |name| STANDARD.encode(fs::read(folder().join(name)).unwrap());
        format!(
            "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {}\n    server: https://10.0.0.1:6443\n  \
             name: kubernetes\ncontexts:\n- context:\n    cluster: kubernetes\n    user: kubernetes-admin\n  name: \
             kubernetes-admin@kubernetes\ncurrent-context: kubernetes-admin@kubernetes\nkind: Config\npreferences: {{}}\nusers:\n\
             - name: kubernetes-admin\n  user:\n    client-certificate-data: {}\n    client-key-data: {}\n",
            data("ca.crt"),
            data("client.crt"),
            data("client.key")
        )
    }

    /// Returns a kubeconfig of one context, with these fields of its cluster and its user.
    fn with(cluster: &str, user: &str) -> String {
        format!(
            "current-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
             clusters: [{{name: k, cluster: {{{cluster}}}}}]\nusers: [{{name: u, user: {{{user}}}}}]\n"
        )
    }

    #[test]
    fn kubeconfigs_of_kubeadm_and_k3s_are_read() {
        let access = parse(&admin(), folder(), None).unwrap();
        assert_eq!(access.server, "https://10.0.0.1:6443");
        assert!(access.tls.unwrap().client_cert().is_some());
        assert_eq!(access.ca, "certificate-authority-data of the kubeconfig");
        let access = parse(&admin(), folder(), Some("https://10.0.0.9:6443/")).unwrap();
        assert_eq!(access.server, "https://10.0.0.9:6443");
        let json = serde_json::to_string_pretty(&yaml::read(&admin()).unwrap()).unwrap();
        assert_eq!(parse(&json, folder(), None).unwrap().server, "https://10.0.0.1:6443");
        let windows = format!("\u{feff}{}", admin().replace('\n', "\r\n"));
        assert_eq!(parse(&windows, folder(), None).unwrap().server, "https://10.0.0.1:6443");
    }

    #[test]
    fn paths_are_relative_to_the_kubeconfig_and_keys_of_all_formats_are_read() {
        for (cert, key) in [
            ("client.crt", "client.key"),
            ("client.crt", "client.sec1.key"),
            ("rsa.crt", "rsa.key"),
            ("rsa.crt", "rsa.pkcs1.key"),
        ] {
            let user = format!("client-certificate: {cert}, client-key: {key}");
            let text = with("server: 'https://h:1', certificate-authority: ca.crt", &user);
            let access = parse(&text, folder(), None).unwrap();
            assert!(access.tls.unwrap().client_cert().is_some(), "{key}");
        }
        let text = with("server: 'http://h:1'", "token: abc, tokenFile: client.key");
        assert!(
            matches!(parse(&text, folder(), None).unwrap().token, Token::File(p) if p == folder().join("client.key"))
        );
        let text = with("server: 'h:1'", "token: 123");
        let access = parse(&text, folder(), None).unwrap();
        assert_eq!(access.server, "http://h:1");
        assert_eq!(access.token.header().unwrap().unwrap(), "Bearer 123");
        let text = with(
            "server: 'https://h:1', insecure-skip-tls-verify: true, tls-server-name: kubernetes",
            "",
        );
        let access = parse(&text, folder(), None).unwrap();
        assert!(access.tls.unwrap().disable_verification());
        assert!(access.warning.unwrap().starts_with("INSECURE: "));
        assert_eq!(access.server_name.as_deref(), Some("kubernetes"));
        let text = with(
            "server: 'http://h:1', proxy-url: '', certificate-authority: ''",
            "exec: null, username: ''",
        );
        assert!(parse(&text, folder(), None).is_ok());
    }

    #[test]
    fn invalid_or_unsupported_kubeconfigs_give_a_specific_error() {
        let ca = "server: 'https://h:1', certificate-authority: ca.crt";
        let none = "{name: k, cluster: {server: 'http://h:1'}}";
        for (text, want) in [
            (String::new(), "it is empty"),
            ("[]".to_owned(), "it is not a kubeconfig"),
            ("kind: Config".to_owned(), "current-context is not set"),
            ("{\"current-context\": {}}".to_owned(), "current-context is not a string"),
            ("current-context: c".to_owned(), "it has no context \"c\" under contexts"),
            (
                "current-context: c\ncontexts: [{name: c}]".to_owned(),
                "the context \"c\" names no cluster",
            ),
            (
                "current-context: c\ncontexts: [{name: c, context: 5}]".to_owned(),
                "the context \"c\" is not a map",
            ),
            (
                "current-context: c\ncontexts: [{name: c, context: {cluster: k}}]".to_owned(),
                "it has no cluster \"k\" under clusters",
            ),
            (
                format!(
                    "current-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\nclusters: [{none}]"
                ),
                "it has no user \"u\" under users",
            ),
            (with("", ""), "its cluster has no server; give --master URL or set its server"),
            (
                with("server: 'ftp://h'", ""),
                "\"ftp://h\" is not http://HOST:PORT or https://HOST:PORT",
            ),
            (
                with("server: 'http://h:1', proxy-url: 'http://p'", ""),
                "cluster \"k\": proxy-url is not supported; set a server",
            ),
            (
                with("server: 'https://h:1', insecure-skip-tls-verify: maybe", ""),
                "cluster \"k\": insecure-skip-tls-verify is neither true nor false",
            ),
            (
                with("server: 'https://h:1', certificate-authority: none.crt", ""),
                "cluster \"k\": reading tests/fixtures/tls/none.crt: No such file",
            ),
            (
                with("server: 'https://h:1', certificate-authority-data: '%'", ""),
                "cluster \"k\": certificate-authority-data is not base64",
            ),
            (
                with("server: 'https://h:1', certificate-authority-data: aGVsbG8=", ""),
                "reading certificates from certificate-authority-data of the kubeconfig: it contains no certificate in PEM form",
            ),
            (
                with("server: 'https://h:1', certificate-authority: client.key", ""),
                "reading certificates from tests/fixtures/tls/client.key: it contains no certificate in PEM form",
            ),
            (with(ca, "exec: {command: aws}"), "user \"u\": exec is not supported; use a token"),
            (
                with(ca, "auth-provider: {name: gcp}"),
                "user \"u\": auth-provider is not supported; use a token",
            ),
            (
                with(ca, "username: me, password: x"),
                "user \"u\": username is not supported; use a token",
            ),
            (with(ca, "as: root"), "user \"u\": as is not supported; use the credentials of"),
            (
                with(ca, "client-certificate: client.crt"),
                "user \"u\": it has a client-certificate and no client-key",
            ),
            (
                with(ca, "client-key: client.key"),
                "user \"u\": it has a client-key and no client-certificate",
            ),
            (
                with(ca, "client-certificate: client.crt, client-key: rsa.key"),
                "using the certificate from tests/fixtures/tls/client.crt with the key from tests/fixtures/tls/rsa.key: the key does not belong to the certificate",
            ),
            (
                with(ca, "client-certificate: client.crt, client-key: client.crt"),
                "reading the key from tests/fixtures/tls/client.crt: it contains no private key in PEM form (PKCS#8, PKCS#1 or SEC1, not encrypted)",
            ),
            (with(ca, "token: [a]"), "user \"u\": token is not a string"),
        ] {
            let got = parse(&text, folder(), None).err().unwrap_or_else(|| panic!("{text}"));
            assert!(got.starts_with(want), "{text}: {got}");
        }
        let got = read(Path::new("/nowhere"), None).err().unwrap().to_string();
        assert!(got.starts_with("reading the kubeconfig /nowhere: No such file"), "{got}");
        let got = read(Path::new("/proc/self/exe"), None).err().unwrap().to_string();
        assert!(got.ends_with("it is too large (over 1 MiB) to be a kubeconfig"), "{got}");
    }

    #[test]
    fn randomly_mutated_kubeconfigs_never_panic() {
        let mut dice = Rng(11);
        let short = with("server: 'https://h:1', insecure-skip-tls-verify: true", "token: abc");
        let nasty = "a: &x 1\n? [b]\n: *x\n<<: {c: !!str d}\n--- !t\n- |2-\n  e\n- >+\n f\n%TAG ! x\n'g': \"\\u00e9\\x41\"\n...\n";
        let (mut fine, mut bad) = (0, 0);
        for round in 0..4000 {
            let text = [&admin(), &short, nasty][if round % 20 == 0 { 0 } else { 1 + round % 2 }]
                .to_owned();
            let text = String::from_utf8_lossy(&dice.mutate(text.as_bytes())).into_owned();
            match json_or_yaml(&text).and_then(|_| parse(&text, folder(), None).map(drop)) {
                Ok(()) => fine += 1,
                Err(_) => bad += 1,
            }
        }
        assert!(fine > 100 && bad > 1000, "{fine} {bad}");
    }
}
