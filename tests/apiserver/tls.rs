//! TLS as the real server does it: a client may present a certificate or not, and a foreign
//! certificate does not break the handshake but is answered with 401. The verifier therefore
//! accepts every certificate, and the real verification follows for each request.

use std::fs::File;
use std::io::{BufReader, Read};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, ServerConnection,
    SignatureScheme, StreamOwned, server::WebPkiClientVerifier,
};

use crate::api::Certificate;
use crate::http::Stream;

/// The server side of TLS, made from PEM files.
pub struct Tls {
    config: Arc<ServerConfig>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
}

impl Tls {
    pub fn new(cert: &Path, key: &Path, client_ca: Option<&Path>) -> Result<Tls, String> {
        let provider = Arc::new(ring::default_provider());
        let chain = certificates(cert)?;
        let key = private_key(key)?;
        let clients = client_ca.map(|ca| verifier(ca, provider.clone())).transpose()?;
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?;
        let builder = match &clients {
            Some(real) => builder.with_client_cert_verifier(Arc::new(Lenient(real.clone()))),
            None => builder.with_no_client_auth(),
        };
        let mut config =
            builder.with_single_cert(chain, key).map_err(|e| format!("{}: {e}", cert.display()))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Tls { config: Arc::new(config), clients })
    }

    pub fn accept(&self, tcp: TcpStream) -> Result<Stream, rustls::Error> {
        let connection = ServerConnection::new(self.config.clone())?;
        Ok(Stream::Tls(Box::new(StreamOwned::new(connection, tcp))))
    }

    /// Returns the kind of the peer's certificate after the handshake.
    pub fn certificate(&self, stream: &Stream) -> Certificate {
        let Stream::Tls(tls) = stream else { return Certificate::None };
        let (Some(clients), Some([first, rest @ ..])) =
            (&self.clients, tls.conn.peer_certificates())
        else {
            return Certificate::None;
        };
        match clients.verify_client_cert(first, rest, UnixTime::now()) {
            Ok(_) => Certificate::Trusted,
            Err(_) => Certificate::Foreign,
        }
    }
}

fn verifier(
    ca: &Path,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for cert in certificates(ca)? {
        roots.add(cert).map_err(|e| format!("{}: {e}", ca.display()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .allow_unauthenticated()
        .build()
        .map_err(|e| format!("{}: {e}", ca.display()))
}

/// Returns the sections of a PEM file: label and bytes.
fn sections(path: &Path) -> Result<Vec<(String, Vec<u8>)>, String> {
    let mut text = String::new();
    File::open(path)
        .and_then(|f| BufReader::new(f).read_to_string(&mut text))
        .map_err(|e| format!("{}: {e}", path.display()))?;
    let mut found = Vec::new();
    for part in text.split("-----BEGIN ").skip(1) {
        let (name, rest) = part.split_once("-----").unwrap_or_default();
        let body: String =
            rest.split("-----END").next().unwrap_or_default().split_whitespace().collect();
        let bytes = STANDARD.decode(body).map_err(|e| format!("{}: {e}", path.display()))?;
        found.push((name.to_string(), bytes));
    }
    Ok(found)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = sections(path)?.into_iter().filter(|(name, _)| name == "CERTIFICATE");
    Ok(found.map(|(_, bytes)| CertificateDer::from(bytes)).collect())
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    sections(path)?
        .into_iter()
        .find_map(|(name, bytes)| match name.as_str() {
            "PRIVATE KEY" => Some(PrivateKeyDer::Pkcs8(bytes.into())),
            "RSA PRIVATE KEY" => Some(PrivateKeyDer::Pkcs1(bytes.into())),
            "EC PRIVATE KEY" => Some(PrivateKeyDer::Sec1(bytes.into())),
            _ => None,
        })
        .ok_or_else(|| format!("{}: no private key", path.display()))
}

/// A verifier that accepts any certificate whose holder has its key.
#[derive(Debug)]
struct Lenient(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Lenient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
