//! Where the API server is, and what shows it who we are.
//!
//! A kubeconfig wins, then `--master`, then what Kubernetes tells every pod. Tokens rotate: one that
//! comes from a file is read again for every request.

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

/// Where every pod finds its service account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// All that a request needs.
pub struct Access {
    /// Scheme, host, port, perhaps a path; without a slash at its end.
    pub server: String,
    /// For https.
    pub tls: Option<TlsConfig>,
    /// Where the CA came from: for messages.
    pub ca: String,
    /// What the CA is, in short; 0 without one.
    pub ca_hash: u64,
    /// The name that the server's certificate has to hold, where it is not the host of the URL.
    pub server_name: Option<String>,
    /// The bearer token.
    pub token: Token,
    /// What is not as safe as it should be, for whoever opens it.
    pub warning: Option<String>,
}

/// A bearer token.
pub enum Token {
    /// None: anonymous, or a client certificate.
    None,
    /// Written in a kubeconfig.
    Fixed(String),
    /// Read again for every request.
    File(PathBuf),
}

impl fmt::Debug for Token {
    /// Never the token itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::None => f.write_str("no token"),
            Token::Fixed(_) => f.write_str("a token"),
            Token::File(path) => write!(f, "a token in {}", path.display()),
        }
    }
}

impl Token {
    /// The header's value, `Bearer …`.
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
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| Error::new(doing(), "it holds characters that no token has"))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

/// Finds the API server, by the flags or from inside a pod.
pub fn find(source: &Source) -> Result<Access> {
    let master = source.master.as_deref();
    if let Some(path) = &source.kubeconfig {
        return kubeconfig::read(path, master);
    }
    let account = Path::new(ACCOUNT);
    match master {
        Some(url) => by_master(url, account),
        None => in_cluster(
            env::var("KUBERNETES_SERVICE_HOST").ok().as_deref(),
            env::var("KUBERNETES_SERVICE_PORT").ok().as_deref(),
            account,
        ),
    }
}

/// `--master`: plain http shows no credentials, https the service account's where it is mounted.
fn by_master(url: &str, account: &Path) -> Result<Access> {
    let server = base(url, false).doing(|| format!("reading --master {url}"))?;
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
        tls::system().ok_or_else(|| {
            let why = format!(
                "{} is not there, so its certificate can't be checked; give --kubeconfig FILE",
                mounted.display()
            );
            Error::new(format!("opening {server}"), why)
        })?
    };
    over_tls(server, ca, token)
}

/// As `rest.InClusterConfig` of client-go finds it.
fn in_cluster(host: Option<&str>, port: Option<&str>, account: &Path) -> Result<Access> {
    let (Some(host), Some(port)) = (host.filter(|h| !h.is_empty()), port.filter(|p| !p.is_empty()))
    else {
        let why = "give --kubeconfig FILE or --master URL, or run it in a pod (which has \
                   KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT)";
        return Err(Error::new("finding the API server", why));
    };
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let server = base(&format!("https://{host}:{port}"), true)
        .doing(|| "reading KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT")?;
    let token = Token::File(account.join("token"));
    token.header()?;
    over_tls(server, Pem::file(&account.join("ca.crt"))?, token)
}

fn over_tls(server: String, ca: Pem, token: Token) -> Result<Access> {
    let (from, ca_hash) = (ca.from.clone(), ca.hash());
    let tls = Some(tls::config(&Trust::Ca(ca), None)?);
    Ok(Access { server, tls, ca: from, ca_hash, server_name: None, token, warning: None })
}

/// A server's URL without the slash at its end. One without a scheme is http, or https where
/// there is something to do TLS with: so does client-go.
pub fn base(url: &str, tls: bool) -> std::result::Result<String, String> {
    let url = url.trim();
    let url = match url.contains("://") {
        true => url.to_owned(),
        false if tls => format!("https://{url}"),
        false => format!("http://{url}"),
    };
    let uri: Uri = url.parse().map_err(|e| format!("{url:?} is no URL: {e}"))?;
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
        return Err(format!("{host} is no IPv6 address"));
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
    fn a_url_is_taken_as_client_go_takes_it() {
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
            assert_eq!(base(url, tls).unwrap(), want);
        }
        for (url, want) in [
            ("", "is no URL"),
            ("ftp://x", "is not http://HOST:PORT"),
            ("https://", "is no URL"),
            ("https://:6443", "is n"),
            ("https://me:secret@x", "a user name in a URL"),
            ("https://[fd00::1:6443", "is no"),
            ("https://[zz]:6443", "is no"),
            ("https://x:99999", "has no valid port"),
            ("https://x y", "is no URL"),
            ("http://x/?a=b", "has a query"),
        ] {
            let got = base(url, false).unwrap_err();
            assert!(got.contains(want), "{url}: {got}");
        }
    }

    #[test]
    fn without_any_source_the_three_ways_are_named() {
        let got = in_cluster(None, Some("443"), Path::new("/nowhere")).err().unwrap().to_string();
        for way in ["--kubeconfig FILE", "--master URL", "KUBERNETES_SERVICE_HOST"] {
            assert!(got.contains(way), "{got}");
        }
    }

    #[test]
    fn plain_http_shows_no_credentials() {
        let access =
            by_master("http://10.0.0.1:8080", Path::new("tests/fixtures/account")).unwrap();
        assert!(matches!(access.token, Token::None) && access.tls.is_none());
    }

    #[test]
    fn a_pod_uses_its_account_and_its_token_is_read_for_every_request() {
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
        let master = by_master("https://10.0.0.1:6443", &account).unwrap();
        assert_eq!(master.token.header().unwrap().unwrap(), "Bearer two");
        fs::write(account.join("token"), " \n").unwrap();
        assert!(access.token.header().unwrap_err().to_string().ends_with("it is empty"));
        fs::write(account.join("token"), "a\nb").unwrap();
        assert!(access.token.header().unwrap_err().to_string().contains("no token has"));
        fs::remove_dir_all(&account).unwrap();
    }
}
