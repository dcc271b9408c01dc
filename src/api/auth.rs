//! Finds the API server and the credentials for it.
//!
//! [`find`] uses the kubeconfig if there is one (parsed by [`kubeconfig`]), else `--master`, else the
//! environment and the service account that Kubernetes gives to every pod. The result is an [`Access`].

use std::{
    env,
    path::{Path, PathBuf},
};

use super::{
    access::{Access, Token, normalize_url},
    kubeconfig,
    tls::{self, Pem, Trust},
};
use crate::error::{Doing, Error, Result};

/// The folder in which a pod finds the token and the CA of its service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The location of the API server as given by flags. If neither flag is set, the in-cluster
/// configuration of a pod is used.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// `--master`: the URL of the server.
    pub master: Option<String>,
    /// `--kubeconfig`: the path of a kubeconfig file.
    pub kubeconfig: Option<PathBuf>,
}

/// Finds the API server by the flags, or by the environment of a pod if no flag is given. Fails if
/// neither names a server, or if a file that is needed can't be read or is not valid.
pub(super) fn find(source: &Source) -> Result<Access> {
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

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
