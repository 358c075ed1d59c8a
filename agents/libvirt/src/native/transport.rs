//! Byte streams to a libvirtd.

use super::uri::Transport;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use std::{io, path::Path, sync::Arc};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::TlsConnector;

/// What a connection reads and writes.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// No stream to a libvirtd.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nothing takes a connection there.
    #[error("{place}: {cause}")]
    Unreachable {
        /// The socket, or host and port.
        place: String,
        /// Why.
        cause: io::Error,
    },
    /// None of the default sockets exists.
    #[error("no libvirtd listens on any of {0}; start one, or name its socket with `?socket=PATH`")]
    NoSocket(String),
    /// A certificate or key file cannot be used.
    #[error("{path}: {message}")]
    Certificate {
        /// The file.
        path: String,
        /// Why.
        message: String,
    },
    /// The host is no name that a certificate can have.
    #[error("`{0}` is not a name or address that a certificate can have")]
    BadHost(String),
    /// The server checked our certificate and said no.
    #[error("{0}: the server refused our certificate")]
    Refused(String),
}

/// Opens a stream.
///
/// # Errors
/// Nothing listens there, or the TLS handshake fails.
pub async fn connect(transport: &Transport) -> Result<Box<dyn Stream>, ConnectError> {
    match transport {
        Transport::Unix(sockets) => unix(sockets).await,
        Transport::Tcp { host, port } => Ok(Box::new(tcp(host, *port).await?)),
        Transport::Tls { host, port, ca, identity } => {
            let config = config(ca, identity.as_ref().map(|(c, k)| (c.as_path(), k.as_path())))?;
            let name = ServerName::try_from(host.clone()).map_err(|_| ConnectError::BadHost(host.clone()))?;
            let place = format!("{host}:{port}");
            let unreachable = |cause| ConnectError::Unreachable { place: place.clone(), cause };
            let tcp = tcp(host, *port).await?;
            let mut tls =
                TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(unreachable)?;
            // The server says 1 once it has accepted our certificate, before anything else.
            match tls.read_u8().await {
                Ok(1) => Ok(Box::new(tls)),
                Ok(_) => Err(ConnectError::Refused(place)),
                Err(cause) => Err(unreachable(cause)),
            }
        }
    }
}

async fn unix(sockets: &[std::path::PathBuf]) -> Result<Box<dyn Stream>, ConnectError> {
    let mut failed = None;
    for path in sockets {
        match UnixStream::connect(path).await {
            Ok(stream) => return Ok(Box::new(stream)),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound && sockets.len() > 1 => {}
            Err(cause) => {
                failed.get_or_insert(ConnectError::Unreachable { place: path.display().to_string(), cause });
            }
        }
    }
    Err(failed.unwrap_or_else(|| {
        let names: Vec<String> = sockets.iter().map(|s| s.display().to_string()).collect();
        ConnectError::NoSocket(names.join(", "))
    }))
}

async fn tcp(host: &str, port: u16) -> Result<TcpStream, ConnectError> {
    let unreachable = |cause| ConnectError::Unreachable { place: format!("{host}:{port}"), cause };
    let stream = TcpStream::connect((host, port)).await.map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    Ok(stream)
}

fn config(ca: &Path, identity: Option<(&Path, &Path)>) -> Result<ClientConfig, ConnectError> {
    fn bad(path: &Path, message: impl ToString) -> ConnectError {
        ConnectError::Certificate { path: path.display().to_string(), message: message.to_string() }
    }
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_file_iter(ca).map_err(|e| bad(ca, e))? {
        roots.add(cert.map_err(|e| bad(ca, e))?).map_err(|e| bad(ca, e))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| bad(ca, e))?
        .with_root_certificates(roots);
    let Some((cert, key)) = identity else { return Ok(builder.with_no_client_auth()) };
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| bad(cert, e))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| bad(key, e))?;
    builder.with_client_auth_cert(chain, private).map_err(|e| bad(cert, e))
}
