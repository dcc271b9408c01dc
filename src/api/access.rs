//! The address of an API server with the credentials for it.
//!
//! An [`Access`] is made by `auth` and `kubeconfig`, and `client` sends requests from it.
//! [`normalize_url`] accepts the same URLs as client-go. Tokens rotate: [`Token::header`] reads a token
//! that is in a file again for every request.

use std::{fmt, fs, path::PathBuf};

use ureq::{
    http::{HeaderValue, Uri},
    tls::TlsConfig,
};

use crate::error::{Doing, Error, Result};

/// The address of an API server and the credentials for requests to it.
pub(super) struct Access {
    /// The base URL: scheme, host, port and perhaps a path, without a slash at its end.
    pub server: String,
    /// The TLS configuration; `None` if the URL is http.
    pub tls: Option<TlsConfig>,
    /// The file or field that the CA came from, for messages.
    pub ca: String,
    /// The hash of the CA ([`Pem::hash`](super::tls::Pem::hash)); 0 if there is none.
    pub ca_hash: u64,
    /// The name for which the server's certificate must be valid; `None` if it is the host of the URL.
    pub server_name: Option<String>,
    /// The bearer token.
    pub token: Token,
    /// A weakness of this configuration that the caller should log; `None` if there is none.
    pub warning: Option<String>,
}

/// A bearer token.
pub(super) enum Token {
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
    pub(super) fn header(&self) -> Result<Option<HeaderValue>> {
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

/// Returns a server's URL without the slash at its end. A URL without a scheme becomes https if `tls`
/// is true (the caller has material for TLS) and http otherwise, as in client-go. Fails if the text is
/// not a URL of the form `http(s)://HOST[:PORT][/PATH]`.
pub(super) fn normalize_url(url: &str, tls: bool) -> std::result::Result<String, String> {
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
}
