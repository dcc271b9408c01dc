//! Finds the API server and the credentials for it.
//!
//! [`find`] uses the kubeconfig if there is one (parsed by [`kubeconfig`]), else `--master`, else the
//! environment and the service account that Kubernetes gives to every pod. The result is an [`Access`],
//! from which `client` sends requests. Tokens rotate: [`Token::header`] reads a token that is in a file
//! again for every request.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
};

use ureq::{
    http::{HeaderValue, Uri},
    tls::TlsConfig,
};

use super::{
    Source, kubeconfig,
    tls::{self, Pem, Trust},
};
use crate::error::{Doing, Error, Result};

/// The folder in which a pod finds the token and the CA of its service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The address of an API server and the credentials for requests to it.
pub struct Access {
    /// The base URL: scheme, host, port and perhaps a path, without a slash at its end.
    pub server: String,
    /// The TLS configuration; `None` if the URL is http.
    pub tls: Option<TlsConfig>,
    /// The file or field that the CA came from, for messages.
    pub ca: String,
    /// The hash of the CA ([`Pem::hash`]); 0 if there is none.
    pub ca_hash: u64,
    /// The name for which the server's certificate must be valid; `None` if it is the host of the URL.
    pub server_name: Option<String>,
    /// The bearer token.
    pub token: Token,
    /// A weakness of this configuration that the caller should log; `None` if there is none.
    pub warning: Option<String>,
}

/// A bearer token.
pub enum Token {
    /// No token: requests are anonymous or authenticated by a client certificate.
    None,
    /// A token in the kubeconfig itself.
    Fixed(String),
    /// A token in a file, which is read again for every request.
    File(PathBuf),
}

impl fmt::Debug for Token {
    /// Never writes the token itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::None => f.write_str("no token"),
            Token::Fixed(_) => f.write_str("a token"),
            Token::File(path) => write!(f, "a token in {}", path.display()),
        }
    }
}

impl Token {
    /// Returns the value of the Authorization header, `Bearer …`; `None` if there is no token. Fails if
    /// the file can't be read, or if the token is empty or has characters that a header can't hold.
    pub fn header(&self) -> Result<Option<HeaderValue>> {
        let (token, from) = match self {
            Token::None => return Ok(None),
            Token::Fixed(token) => (token.clone(), "the kubeconfig".to_owned()),
            Token::File(path) => {
                let from = path.display().to_string();
                (fs::read_to_string(path).doing(|| format!("reading the token {from}"))?, from)
            }
        };
        let doing = || format!("reading the token from {from}");
        let token = token.trim();
        if token.is_empty() {
            return Err(Error::new(doing(), "it is empty"));
        }
        let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
            Error::new(doing(), "it contains characters that are not allowed in a token")
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

/// Finds the API server by the flags, or by the environment of a pod if no flag is given. Fails if
/// neither names a server, or if a file that is needed can't be read or is not valid.
pub fn find(source: &Source) -> Result<Access> {
    let master = source.master.as_deref();
    if let Some(path) = &source.kubeconfig {
        return kubeconfig::read(path, master);
    }
    let account = Path::new(SERVICE_ACCOUNT);
    match master {
        Some(url) => from_master_url(url, account),
        None => in_cluster(
            env::var("KUBERNETES_SERVICE_HOST").ok().as_deref(),
            env::var("KUBERNETES_SERVICE_PORT").ok().as_deref(),
            account,
        ),
    }
}

/// Returns the access for `--master`. Plain http gets no credentials; https gets the token of the
/// service account if `account` has one, and its CA, or else the CAs of the system.
fn from_master_url(url: &str, account: &Path) -> Result<Access> {
    let server = normalize_url(url, false).doing(|| format!("reading --master {url}"))?;
    if server.starts_with("http://") {
        return Ok(Access {
            server,
            tls: None,
            ca: String::new(),
            ca_hash: 0,
            server_name: None,
            token: Token::None,
            warning: None,
        });
    }
    let token = account.join("token");
    let token = if token.exists() { Token::File(token) } else { Token::None };
    let mounted = account.join("ca.crt");
    let ca = if mounted.exists() {
        Pem::file(&mounted)?
    } else {
        tls::system_cas().ok_or_else(|| {
            let why = format!(
                "{} does not exist, so the server's certificate can't be verified; give \
                 --kubeconfig FILE",
                mounted.display()
            );
            Error::new(format!("opening {server}"), why)
        })?
    };
    access_over_tls(server, ca, token)
}

/// Returns the access for a pod, as client-go's `rest.InClusterConfig`. `host` and `port` are the values
/// of KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT. Fails if one of them is absent or empty.
fn in_cluster(host: Option<&str>, port: Option<&str>, account: &Path) -> Result<Access> {
    let (Some(host), Some(port)) = (host.filter(|h| !h.is_empty()), port.filter(|p| !p.is_empty()))
    else {
        let why = "give --kubeconfig FILE or --master URL, or run it in a pod (which has \
                   KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT)";
        return Err(Error::new("finding the API server", why));
    };
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let server = normalize_url(&format!("https://{host}:{port}"), true)
        .doing(|| "reading KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT")?;
    let token = Token::File(account.join("token"));
    token.header()?;
    access_over_tls(server, Pem::file(&account.join("ca.crt"))?, token)
}

/// Returns an access over TLS that trusts one CA and has no client certificate.
fn access_over_tls(server: String, ca: Pem, token: Token) -> Result<Access> {
    let (from, ca_hash) = (ca.from.clone(), ca.hash());
    let tls = Some(tls::client_config(&Trust::Ca(ca), None)?);
    Ok(Access { server, tls, ca: from, ca_hash, server_name: None, token, warning: None })
}

/// Returns a server's URL without the slash at its end. A URL without a scheme becomes https if `tls`
/// is true (the caller has material for TLS) and http otherwise, as in client-go. Fails if the text is
/// not a URL of the form `http(s)://HOST[:PORT][/PATH]`.
pub fn normalize_url(url: &str, tls: bool) -> std::result::Result<String, String> {
    let url = url.trim();
    let url = match url.contains("://") {
        true => url.to_owned(),
        false if tls => format!("https://{url}"),
        false => format!("http://{url}"),
    };
    let uri: Uri = url.parse().map_err(|e| format!("{url:?} is not a URL: {e}"))?;
    let host = uri.host().unwrap_or_default();
    if !matches!(uri.scheme_str(), Some("http" | "https")) || host.is_empty() {
        return Err(format!("{url:?} is not http://HOST:PORT or https://HOST:PORT"));
    }
    let authority = uri.authority().map_or("", |a| a.as_str());
    if authority.contains('@') {
        return Err("a user name in a URL is not supported; use a kubeconfig".to_owned());
    }
    if host.starts_with('[')
        && host[1..].trim_end_matches(']').parse::<std::net::Ipv6Addr>().is_err()
    {
        return Err(format!("{host} is not an IPv6 address"));
    }
    if authority.len() > host.len() && uri.port_u16().is_none_or(|port| port == 0) {
        return Err(format!("{authority:?} has no valid port"));
    }
    if uri.query().is_some() {
        return Err(format!("{url:?} has a query; give only scheme, host, port and path"));
    }
    Ok(url.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_normalized_as_in_client_go() {
        for (url, tls, want) in [
            ("http://10.0.0.1:8080", false, "http://10.0.0.1:8080"),
            ("http://10.0.0.1:8080/", false, "http://10.0.0.1:8080"),
            ("10.0.0.1:8080", false, "http://10.0.0.1:8080"),
            ("10.0.0.1:6443", true, "https://10.0.0.1:6443"),
            ("https://[fd00::1]:6443", false, "https://[fd00::1]:6443"),
            (
                "https://rancher.example/k8s/clusters/c-1/",
                true,
                "https://rancher.example/k8s/clusters/c-1",
            ),
        ] {
            assert_eq!(normalize_url(url, tls).unwrap(), want);
        }
        for (url, want) in [
            ("", "is not a URL"),
            ("ftp://x", "is not http://HOST:PORT"),
            ("https://", "is not a URL"),
            ("https://:6443", "is not "),
            ("https://me:secret@x", "a user name in a URL"),
            ("https://[fd00::1:6443", "is not "),
            ("https://[zz]:6443", "is not "),
            ("https://x:99999", "has no valid port"),
            ("https://x y", "is not a URL"),
            ("http://x/?a=b", "has a query"),
        ] {
            let got = normalize_url(url, false).unwrap_err();
            assert!(got.contains(want), "{url}: {got}");
        }
    }

    #[test]
    fn the_error_without_a_source_names_the_three_ways_to_give_one() {
        let got = in_cluster(None, Some("443"), Path::new("/nowhere")).err().unwrap().to_string();
        for way in ["--kubeconfig FILE", "--master URL", "KUBERNETES_SERVICE_HOST"] {
            assert!(got.contains(way), "{got}");
        }
    }

    #[test]
    fn plain_http_sends_no_credentials() {
        let access =
            from_master_url("http://10.0.0.1:8080", Path::new("tests/fixtures/account")).unwrap();
        assert!(matches!(access.token, Token::None) && access.tls.is_none());
    }

    #[test]
    fn a_pod_uses_its_service_account_and_reads_the_token_for_every_request() {
        let account = env::temp_dir().join(format!("kinglet-account-{}", std::process::id()));
        fs::create_dir_all(&account).unwrap();
        fs::copy("tests/fixtures/tls/ca.crt", account.join("ca.crt")).unwrap();
        let refused = in_cluster(Some("fd00::1"), Some("443"), &account).err().unwrap();
        assert!(refused.to_string().starts_with("reading the token "), "{refused}");
        fs::write(account.join("token"), "one\n").unwrap();
        let access = in_cluster(Some("fd00::1"), Some("443"), &account).unwrap();
        assert_eq!(access.server, "https://[fd00::1]:443");
        assert_eq!(access.token.header().unwrap().unwrap(), "Bearer one");
        fs::write(account.join("token"), "two").unwrap();
        assert_eq!(access.token.header().unwrap().unwrap(), "Bearer two");
        let master = from_master_url("https://10.0.0.1:6443", &account).unwrap();
        assert_eq!(master.token.header().unwrap().unwrap(), "Bearer two");
        fs::write(account.join("token"), " \n").unwrap();
        assert!(access.token.header().unwrap_err().to_string().ends_with("it is empty"));
        fs::write(account.join("token"), "a\nb").unwrap();
        assert!(access.token.header().unwrap_err().to_string().contains("not allowed in a token"));
        fs::remove_dir_all(&account).unwrap();
    }
}
