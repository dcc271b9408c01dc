//! Certificates and keys: from PEM to what the HTTP client takes, checked before it sees them.
//!
//! ureq panics on a client key that does not belong to its certificate, and skips certificates of a
//! CA that it can't read; both are errors here.

use std::{fs, path::Path, sync::Arc};

use rustls::{
    CertificateError, Error as Tls, InconsistentKeys, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use super::snapshot::Sum;
use crate::error::{Doing, Error, Result};

/// Some PEM text, and where it came from.
pub struct Pem {
    /// The text, or what stands in its place.
    pub text: Vec<u8>,
    /// A file, or a field of a kubeconfig: for messages.
    pub from: String,
}

/// Whom to believe that the server is the server.
pub enum Trust {
    /// Whoever shows a certificate of this CA.
    Ca(Pem),
    /// Anybody (insecure-skip-tls-verify).
    Anybody,
}

impl Pem {
    /// Reads a file.
    pub fn file(path: &Path) -> Result<Pem> {
        let from = path.display().to_string();
        let text = fs::read(path).doing(|| format!("reading {from}"))?;
        Ok(Pem { text, from })
    }

    /// Tells one from another.
    pub fn hash(&self) -> u64 {
        let mut sum = Sum::default();
        sum.add(&self.text);
        sum.0
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>> {
        let certs: std::result::Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(&self.text).collect();
        let certs = certs.doing(|| format!("reading certificates from {}", self.from))?;
        if certs.is_empty() {
            let why = "no certificate in PEM form (-----BEGIN CERTIFICATE-----) is in it";
            return Err(Error::new(format!("reading certificates from {}", self.from), why));
        }
        Ok(certs)
    }
}

/// The CAs that the system trusts, where the file is kept: for servers with a public certificate.
pub fn system() -> Option<Pem> {
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"]
        .into_iter()
        .find_map(|path| Pem::file(Path::new(path)).ok())
}

/// What the HTTP client takes. `client` is a certificate (with its chain) and its key.
pub fn config(trust: &Trust, client: Option<(&Pem, &Pem)>) -> Result<TlsConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = TlsConfig::builder().unversioned_rustls_crypto_provider(Arc::clone(&provider));
    let builder = match trust {
        Trust::Anybody => {
            builder.root_certs(RootCerts::new_with_certs(&[])).disable_verification(true)
        }
        Trust::Ca(pem) => builder.root_certs(roots(pem)?),
    };
    let Some((cert, key)) = client else { return Ok(builder.build()) };
    let chain = cert.certificates()?;
    let secret = PrivateKeyDer::from_pem_slice(&key.text).map_err(|_| {
        let why = "no private key in PEM form is in it (PKCS#8, PKCS#1 or SEC1, not encrypted)";
        Error::new(format!("reading the key from {}", key.from), why)
    })?;
    fits(&chain, &secret, &provider).doing(|| {
        format!("using the certificate from {} with the key from {}", cert.from, key.from)
    })?;
    let chain: Vec<_> = chain.iter().map(|c| Certificate::from_der(c).to_owned()).collect();
    let secret =
        PrivateKey::from_pem(&key.text).doing(|| format!("reading the key from {}", key.from))?;
    Ok(builder.client_cert(Some(ClientCert::new_with_certs(&chain, secret))).build())
}

fn roots(pem: &Pem) -> Result<RootCerts> {
    let certs = pem.certificates()?;
    let mut store = RootCertStore::empty();
    // A bundle of a system may hold one that is too odd; the one certificate of a cluster may not.
    let (added, _) = store.add_parsable_certificates(certs.iter().cloned());
    if added == 0 {
        let why = "what is in it is no certificate of a CA";
        return Err(Error::new(format!("reading certificates from {}", pem.from), why));
    }
    let certs: Vec<_> = certs.iter().map(|c| Certificate::from_der(c).to_owned()).collect();
    Ok(RootCerts::new_with_certs(&certs))
}

fn fits(
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
    provider: &rustls::crypto::CryptoProvider,
) -> std::result::Result<(), String> {
    match CertifiedKey::from_der(chain.to_vec(), key.clone_key(), provider) {
        Ok(_) => Ok(()),
        Err(Tls::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err("the key does not belong to the certificate".to_owned())
        }
        Err(Tls::InvalidCertificate(why)) => Err(format!("not a certificate: {}", words(&why))),
        Err(why) => Err(why.to_string()),
    }
}

/// The certificate's error in words. rustls has none for an error of webpki, and would show its Debug.
fn words(error: &CertificateError) -> String {
    match error {
        CertificateError::Other(why) => why.to_string(),
        _ => error.to_string(),
    }
}

/// What a failed handshake means for the reader. `ca` names where the CA came from.
pub fn explain(error: &Tls, ca: &str) -> String {
    use rustls::{AlertDescription as Alert, CertificateError as Bad};
    let text = match error {
        Tls::InvalidCertificate(why) => format!("invalid peer certificate: {}", words(why)),
        _ => error.to_string(),
    };
    let advice = match error {
        Tls::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature) => {
            format!(
                "it is not signed by the CA in {ca}: wrong server, or the CA of another cluster"
            )
        }
        Tls::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
            "is the clock of this board right? (a Raspberry Pi has no battery for it)".to_owned()
        }
        Tls::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            "renew the server's certificate, if the clock of this board is right".to_owned()
        }
        Tls::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            "use one of those names in the server's URL, or give tls-server-name".to_owned()
        }
        Tls::InvalidMessage(_) => "that port speaks no TLS; is it http://?".to_owned(),
        Tls::AlertReceived(
            Alert::CertificateRequired | Alert::BadCertificate | Alert::UnknownCA,
        ) => "the server does not accept our client certificate".to_owned(),
        _ => return text,
    };
    format!("{text}; {advice}")
}

#[cfg(test)]
mod tests {
    use std::io;

    use rustls::OtherError;

    use super::{
        super::{
            auth::Access,
            client::Client,
            serve::{Server, ok, serve, serve_tls},
        },
        *,
    };

    fn file(name: &str) -> Pem {
        Pem::file(&Path::new("tests/fixtures/tls").join(name)).unwrap()
    }

    fn get(server: &Server, ca: &str, client: Option<&str>, name: Option<&str>) -> String {
        let client =
            client.map(|name| (file(&format!("{name}.crt")), file(&format!("{name}.key"))));
        let client = client.as_ref().map(|(cert, key)| (cert, key));
        let tls = Some(config(&Trust::Ca(file(ca)), client).unwrap());
        let ca = format!("tests/fixtures/tls/{ca}");
        let access = Access { tls, ca, server_name: name.map(str::to_owned), ..server.access() };
        match Client::new(access).unwrap().get("/x") {
            Ok(_) => "ok".to_owned(),
            Err(failure) => failure.text,
        }
    }

    #[test]
    fn a_handshake_that_fails_says_what_to_do() {
        for (server, ca, want) in [
            ("server", "ca.crt", "ok"),
            (
                "server",
                "other.crt",
                "it is not signed by the CA in tests/fixtures/tls/other.crt: wrong server, or the CA of another cluster",
            ),
            (
                "expired",
                "ca.crt",
                "renew the server's certificate, if the clock of this board is right",
            ),
            ("early", "ca.crt", "is the clock of this board right?"),
            (
                "named",
                "ca.crt",
                "use one of those names in the server's URL, or give tls-server-name",
            ),
        ] {
            let got = get(&serve_tls(server, false, |_, _| ok("{}")), ca, None, None);
            assert!(got.contains(want), "{server} {ca}: {got}");
        }
        let plain = serve(|_, _| b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec());
        let url = plain.url.replace("http:", "https:");
        let tls = Some(config(&Trust::Ca(file("ca.crt")), None).unwrap());
        let client = Client::new(Access { server: url, tls, ..plain.access() }).unwrap();
        let got = client.get("/x").unwrap_err().text;
        assert!(got.ends_with("that port speaks no TLS; is it http://?"), "{got}");
    }

    #[test]
    fn an_error_of_webpki_is_told_without_its_wrapping() {
        let why = io::Error::other("CaUsedAsEndEntity");
        let why = CertificateError::Other(OtherError(Arc::new(why)));
        let got = explain(&Tls::InvalidCertificate(why), "ca.crt");
        assert_eq!(got, "invalid peer certificate: CaUsedAsEndEntity");
    }

    #[test]
    fn insecure_takes_any_certificate() {
        let server = serve_tls("expired", false, |_, _| ok("{}"));
        let tls = Some(config(&Trust::Anybody, None).unwrap());
        assert!(Client::new(Access { tls, ..server.access() }).unwrap().get("/x").is_ok());
    }

    #[test]
    fn a_client_certificate_is_shown_to_who_asks_for_it() {
        for name in ["client", "rsa"] {
            let server = serve_tls("server", true, |_, _| ok("{}"));
            assert_eq!(get(&server, "ca.crt", Some(name), None), "ok");
        }
        let server = serve_tls("server", true, |_, _| ok("{}"));
        let got = get(&server, "ca.crt", None, None);
        assert!(got.contains("client certificate"), "{got}");
    }

    #[test]
    fn a_tls_server_name_changes_what_is_checked_and_nothing_else() {
        let server = serve_tls("named", false, |_, _| ok("{}"));
        assert_eq!(get(&server, "ca.crt", None, Some("kubernetes")), "ok");
        let host = server.url.strip_prefix("https://").unwrap();
        let head = server.requests()[0].to_lowercase();
        assert!(head.contains(&format!("\r\nhost: {host}\r\n")), "{head}");
        assert_eq!(head.matches("host:").count(), 1);
        let other = get(&serve_tls("named", false, |_, _| ok("{}")), "ca.crt", None, Some("other"));
        assert!(other.contains("use one of those names"), "{other}");
    }
}
