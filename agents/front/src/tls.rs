//! rustls, set up once: TLS 1.2 and 1.3, the `ring` provider, HTTP/1.1.

use crate::ca::{CaError, Leaf};
use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::CertificateDer,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use sha2::{Digest, Sha256};
use std::{fmt, io, sync::Arc};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// Makes `ring` the process's provider, for libraries that ask for the default one. May be called again.
pub fn install_provider() {
    // An error only says that there is one already.
    if ring::default_provider().install_default().is_err() {
        tracing::debug!("a TLS provider is installed already");
    }
}

/// A certificate that a listener shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    /// As DER.
    pub der: CertificateDer<'static>,
    /// SHA-256 of the DER.
    pub sha256: [u8; 32],
}

impl Certificate {
    pub(crate) fn new(der: CertificateDer<'static>) -> Certificate {
        Certificate { sha256: Sha256::digest(&der).into(), der }
    }

    /// The SHA-256 fingerprint as pairs of upper-case hex digits with colons, as `openssl x509 -fingerprint` shows it.
    pub fn fingerprint(&self) -> String {
        let pairs: Vec<String> = self.sha256.iter().map(|byte| format!("{byte:02X}")).collect();
        pairs.join(":")
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({})", self.fingerprint())
    }
}

/// What is shown now.
#[derive(Debug)]
struct Shown(ArcSwap<(Arc<CertifiedKey>, Arc<Certificate>)>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.load().0))
    }
}

/// One listener's TLS.
#[derive(Clone)]
pub struct TlsConfig {
    acceptor: TlsAcceptor,
    shown: Arc<Shown>,
    leaf: Arc<Leaf>,
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig").field("certificate", &self.certificate()).finish_non_exhaustive()
    }
}

impl TlsConfig {
    /// TLS with the certificate that `leaf` keeps.
    pub fn new(leaf: Leaf) -> Result<TlsConfig, CaError> {
        let leaf = Arc::new(leaf);
        let shown = Arc::new(Shown(ArcSwap::from_pointee(leaf.certified()?)));
        let provider = Arc::new(provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&shown) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsConfig { acceptor: TlsAcceptor::from(Arc::new(config)), shown, leaf })
    }

    /// The certificate shown now.
    pub fn certificate(&self) -> Arc<Certificate> {
        Arc::clone(&self.shown.0.load().1)
    }

    /// Shows a new certificate when the present one ends soon. Says whether it did.
    pub fn renew_if_due(&self) -> Result<bool, CaError> {
        let renewed = self.leaf.renew_if_due()?;
        if renewed {
            self.shown.0.store(Arc::new(self.leaf.certified()?));
            tracing::info!(certificate = ?self.certificate(), "certificate renewed");
        }
        Ok(renewed)
    }

    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.acceptor.accept(stream).await
    }
}

pub(crate) fn provider() -> CryptoProvider {
    ring::default_provider()
}
