//! Builds the TLS configuration of the HTTP client from PEM text, and explains TLS errors.
//!
//! [`client_config`] validates all certificates and keys before ureq uses them. ureq panics if a client
//! key does not belong to its certificate, and skips CA certificates that it can't read; here both are
//! errors. [`explain`] turns an error of a handshake into a sentence with advice. The sources of the PEM
//! text are left to `auth` and `kubeconfig`.

use std::{fs, path::Path, sync::Arc};

use rustls::{
    CertificateError, Error as Tls, InconsistentKeys, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use crate::{
    error::{Doing, Error, Result},
    hash::Sum,
};

/// A PEM text (RFC 7468) and its source.
pub(super) struct Pem {
    /// The bytes of the source, which are not validated yet.
    pub text: Vec<u8>,
    /// The file or the kubeconfig field that the text came from, for messages.
    pub from: String,
}

/// The rule by which the certificate of the server is verified.
pub(super) enum Trust {
    /// The certificate must be signed by this CA, or by one of these if there are several.
    Ca(Pem),
    /// Any certificate is accepted (insecure-skip-tls-verify).
    Unverified,
}

impl Pem {
    /// Reads a file. Fails if it can't be read.
    pub(super) fn file(path: &Path) -> Result<Pem> {
        let from = path.display().to_string();
        let text = fs::read(path).doing(|| format!("reading {from}"))?;
        Ok(Pem { text, from })
    }

    /// Returns a hash of the text (64-bit FNV-1a), by which snapshots distinguish clusters.
    pub(super) fn hash(&self) -> u64 {
        let mut sum = Sum::default();
        sum.add(&self.text);
        sum.0
    }

    /// Parses all certificates in the text. Fails if there is none or one is not valid PEM.
    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>> {
        let certs: std::result::Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(&self.text).collect();
        let certs = certs.doing(|| format!("reading certificates from {}", self.from))?;
        if certs.is_empty() {
            let why = "it contains no certificate in PEM form (-----BEGIN CERTIFICATE-----)";
            return Err(Error::new(format!("reading certificates from {}", self.from), why));
        }
        Ok(certs)
    }
}

/// Returns the CA certificates of the system, for servers with a public certificate; `None` if none of
/// the usual files can be read.
pub(super) fn system_cas() -> Option<Pem> {
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"]
        .into_iter()
        .find_map(|path| Pem::file(Path::new(path)).ok())
}

/// Returns the TLS configuration for the HTTP client. `client` is a client certificate with its chain,
/// and its key. Fails if a certificate or key is not valid, or if the key does not belong to the
/// certificate.
pub(super) fn client_config(trust: &Trust, client: Option<(&Pem, &Pem)>) -> Result<TlsConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = TlsConfig::builder().unversioned_rustls_crypto_provider(Arc::clone(&provider));
    let builder = match trust {
        Trust::Unverified => {
            builder.root_certs(RootCerts::new_with_certs(&[])).disable_verification(true)
        }
        Trust::Ca(pem) => builder.root_certs(root_certs(pem)?),
    };
    let Some((cert, key)) = client else { return Ok(builder.build()) };
    let chain = cert.certificates()?;
    let secret = PrivateKeyDer::from_pem_slice(&key.text).map_err(|_| {
        let why = "it contains no private key in PEM form (PKCS#8, PKCS#1 or SEC1, not encrypted)";
        Error::new(format!("reading the key from {}", key.from), why)
    })?;
    check_key(&chain, &secret, &provider).doing(|| {
        format!("using the certificate from {} with the key from {}", cert.from, key.from)
    })?;
    let chain: Vec<_> = chain.iter().map(|c| Certificate::from_der(c).to_owned()).collect();
    let secret =
        PrivateKey::from_pem(&key.text).doing(|| format!("reading the key from {}", key.from))?;
    Ok(builder.client_cert(Some(ClientCert::new_with_certs(&chain, secret))).build())
}

/// Returns the CA certificates of a PEM text. Fails if none is usable.
fn root_certs(pem: &Pem) -> Result<RootCerts> {
    let certs = pem.certificates()?;
    let mut store = RootCertStore::empty();
    // A system's bundle may contain a few certificates that rustls can't parse. Only if none is left,
    // for example because the single certificate of a cluster is unusable, this is an error.
    let (added, _) = store.add_parsable_certificates(certs.iter().cloned());
    if added == 0 {
        let why = "it contains no usable CA certificate";
        return Err(Error::new(format!("reading certificates from {}", pem.from), why));
    }
    let certs: Vec<_> = certs.iter().map(|c| Certificate::from_der(c).to_owned()).collect();
    Ok(RootCerts::new_with_certs(&certs))
}

/// Fails if the key does not belong to the first certificate of the chain, or if the certificate is not
/// valid.
fn check_key(
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
    provider: &rustls::crypto::CryptoProvider,
) -> std::result::Result<(), String> {
    match CertifiedKey::from_der(chain.to_vec(), key.clone_key(), provider) {
        Ok(_) => Ok(()),
        Err(Tls::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err("the key does not belong to the certificate".to_owned())
        }
        Err(Tls::InvalidCertificate(why)) => Err(format!("not a certificate: {}", describe(&why))),
        Err(why) => Err(why.to_string()),
    }
}

/// Returns the text of a certificate error. For an error of webpki, rustls's own text is the Debug form.
fn describe(error: &CertificateError) -> String {
    match error {
        CertificateError::Other(why) => why.to_string(),
        _ => error.to_string(),
    }
}

/// Returns the text of a TLS error, with advice if the cause is a common one. `ca` is the file or field
/// that the CA came from.
pub(super) fn explain(error: &Tls, ca: &str) -> String {
    use rustls::{AlertDescription as Alert, CertificateError as Bad};
    let text = match error {
        Tls::InvalidCertificate(why) => format!("invalid peer certificate: {}", describe(why)),
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
        Tls::InvalidMessage(_) => {
            "the server does not speak TLS on that port; is it http://?".to_owned()
        }
        Tls::AlertReceived(
            Alert::CertificateRequired | Alert::BadCertificate | Alert::UnknownCA,
        ) => "the server does not accept the client certificate".to_owned(),
        _ => return text,
    };
    format!("{text}; {advice}")
}

#[cfg(test)]
mod tests {
    use std::io;

    use rustls::OtherError;

    use super::*;
    use crate::api::{
        access::Access,
        client::Client,
        test_server::{Server, ok, serve, serve_tls},
    };

    fn file(name: &str) -> Pem {
        Pem::file(&Path::new("tests/fixtures/tls").join(name)).unwrap()
    }

    fn get(server: &Server, ca: &str, client: Option<&str>, name: Option<&str>) -> String {
        let client =
            client.map(|name| (file(&format!("{name}.crt")), file(&format!("{name}.key"))));
        let client = client.as_ref().map(|(cert, key)| (cert, key));
        let tls = Some(client_config(&Trust::Ca(file(ca)), client).unwrap());
        let ca = format!("tests/fixtures/tls/{ca}");
        let access = Access { tls, ca, server_name: name.map(str::to_owned), ..server.access() };
        match Client::new(access).unwrap().get("/x") {
            Ok(_) => "ok".to_owned(),
            Err(failure) => failure.text,
        }
    }

    #[test]
    fn the_error_of_a_failed_handshake_contains_advice() {
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
        let tls = Some(client_config(&Trust::Ca(file("ca.crt")), None).unwrap());
        let client = Client::new(Access { server: url, tls, ..plain.access() }).unwrap();
        let got = client.get("/x").unwrap_err().text;
        assert!(
            got.ends_with("the server does not speak TLS on that port; is it http://?"),
            "{got}"
        );
    }

    #[test]
    fn an_error_of_webpki_is_shown_without_its_debug_wrapper() {
        let why = io::Error::other("CaUsedAsEndEntity");
        let why = CertificateError::Other(OtherError(Arc::new(why)));
        let got = explain(&Tls::InvalidCertificate(why), "ca.crt");
        assert_eq!(got, "invalid peer certificate: CaUsedAsEndEntity");
    }

    #[test]
    fn any_certificate_is_accepted_without_verification() {
        let server = serve_tls("expired", false, |_, _| ok("{}"));
        let tls = Some(client_config(&Trust::Unverified, None).unwrap());
        assert!(Client::new(Access { tls, ..server.access() }).unwrap().get("/x").is_ok());
    }

    #[test]
    fn a_client_certificate_is_sent_to_a_server_that_requests_one() {
        for name in ["client", "rsa"] {
            let server = serve_tls("server", true, |_, _| ok("{}"));
            assert_eq!(get(&server, "ca.crt", Some(name), None), "ok");
        }
        let server = serve_tls("server", true, |_, _| ok("{}"));
        let got = get(&server, "ca.crt", None, None);
        assert!(got.contains("client certificate"), "{got}");
    }

    #[test]
    fn tls_server_name_changes_only_the_name_that_is_verified() {
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
