//! Listeners with real sockets and clients.

use crate::{BindError, BodyError, Ca, Event, Limits, Listener, Observer, Peer, Serving, TlsConfig, body};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use parking_lot::Mutex;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use union::clock::{SystemClock, SystemIds};

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

#[derive(Default)]
struct Counts(Mutex<Vec<Event>>);

impl Observer for Counts {
    fn count(&self, event: Event) {
        self.0.lock().push(event);
    }
}

impl Counts {
    fn of(&self, event: Event) -> usize {
        self.0.lock().iter().filter(|e| **e == event).count()
    }

    async fn until(&self, event: Event, count: usize) {
        while self.of(event) < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Echoes bodies; `/panic` panics, `/wait` waits for the drain, `/peer` says who asks.
async fn service(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (parts, incoming) = request.into_parts();
    let peer = parts.extensions.get::<Peer>().unwrap().clone();
    let text = match parts.uri.path() {
        "/panic" => panic!("asked to"),
        "/wait" => {
            peer.draining.cancelled().await;
            Bytes::from_static(b"drained")
        }
        "/forever" => std::future::pending().await,
        "/peer" => {
            format!("{} {:?}", peer.remote.ip(), peer.certificate.map(|c| c.fingerprint().len())).into()
        }
        _ => match body::read(&parts.headers, incoming, 1_000_000, &Limits::default()).await {
            Ok(bytes) => bytes,
            Err(error) => {
                assert!(matches!(error, BodyError::TooLarge { .. } | BodyError::Broken(_)));
                let mut response = Response::new(Full::from(error.to_string()));
                *response.status_mut() = error.status();
                return response;
            }
        },
    };
    Response::new(Full::new(text))
}

fn serve(tls: Option<TlsConfig>, limits: Limits) -> (Serving, Arc<Counts>) {
    let counts = Arc::new(Counts::default());
    let listener = Listener::bind(LOOPBACK, tls, limits).unwrap();
    (listener.observed(Arc::clone(&counts) as Arc<dyn Observer>).serve(service), counts)
}

async fn connect(serving: &Serving) -> TcpStream {
    TcpStream::connect(serving.addr()).await.unwrap()
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), path: &str, body: &str) {
    let text = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(text.as_bytes()).await.unwrap();
}

/// One answer's status and body.
async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> (u16, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head
        .split_once("content-length: ")
        .map_or(0, |(_, l)| l.split("\r\n").next().unwrap().parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    (head.get(9..12).unwrap().parse().unwrap(), String::from_utf8(body).unwrap())
}

async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest).await {
        Ok(_) => {}
        Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset),
    }
    String::from_utf8(rest).unwrap()
}

fn tls(dir: &std::path::Path) -> (TlsConfig, Arc<Ca>) {
    let ca = Ca::open(dir, Arc::new(SystemClock::new()), Arc::new(SystemIds)).unwrap();
    (TlsConfig::new(ca.leaf("test", &["host.example".to_owned()]).unwrap()).unwrap(), ca)
}

fn client(ca: &Ca, versions: &[&'static rustls::SupportedProtocolVersion]) -> tokio_rustls::TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(crate::tls::provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tokio_rustls::TlsConnector::from(Arc::new(config))
}

#[tokio::test]
async fn plain_only_on_loopback() {
    for addr in ["0.0.0.0:0", "192.0.2.1:0", "[::]:0"] {
        let error = Listener::bind(addr.parse().unwrap(), None, Limits::default()).unwrap_err();
        assert!(matches!(error, BindError::PlainOnlyOnLoopback { .. }), "{error}");
    }
    let dir = tempfile::tempdir().unwrap();
    assert!(Listener::bind("0.0.0.0:0".parse().unwrap(), Some(tls(dir.path()).0), Limits::default()).is_ok());
    let first = Listener::bind(LOOPBACK, None, Limits::default()).unwrap();
    assert!(matches!(Listener::bind(first.addr(), None, Limits::default()), Err(BindError::Bind { .. })));
}

#[tokio::test]
async fn answers_on_a_kept_connection() {
    let (serving, counts) = serve(None, Limits::default());
    let mut stream = connect(&serving).await;
    for body in ["one", "", "three"] {
        send(&mut stream, "/", body).await;
        assert_eq!(receive(&mut stream).await, (200, body.to_owned()));
    }
    send(&mut stream, "/peer", "").await;
    assert_eq!(receive(&mut stream).await.1, "127.0.0.1 None");
    drop(stream);
    counts.until(Event::Closed, 1).await;
    assert_eq!((counts.of(Event::Accepted), counts.of(Event::Request), serving.connections()), (1, 4, 0));
}

#[tokio::test]
async fn speaks_tls_with_a_leaf_of_our_authority() {
    let dir = tempfile::tempdir().unwrap();
    let (config, ca) = tls(dir.path());
    let (serving, counts) = serve(Some(config), Limits::default());
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for name in ["host.example", "localhost", "127.0.0.1"] {
            let name = ServerName::try_from(name).unwrap();
            let mut stream = client(&ca, &[version]).connect(name, connect(&serving).await).await.unwrap();
            send(&mut stream, "/peer", "").await;
            assert_eq!(receive(&mut stream).await, (200, "127.0.0.1 Some(95)".to_owned()));
        }
    }
    let other = client(&ca, &[&rustls::version::TLS13]);
    assert!(
        other.connect(ServerName::try_from("other.example").unwrap(), connect(&serving).await).await.is_err()
    );
    counts.until(Event::HandshakeFailed, 1).await;
}

#[tokio::test]
async fn survives_what_is_no_tls() {
    let dir = tempfile::tempdir().unwrap();
    let (serving, counts) =
        serve(Some(tls(dir.path()).0), Limits { handshake: Duration::from_millis(50), ..Limits::default() });
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03",
        b"",
    ] {
        let mut stream = connect(&serving).await;
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        if stream.read_to_end(&mut answer).await.is_ok() {
            assert!(answer.len() < 100 && !answer.starts_with(b"HTTP"));
        }
    }
    counts.until(Event::HandshakeFailed, 4).await;
    assert_eq!(counts.of(Event::Request), 0);
}

#[tokio::test]
async fn a_panic_is_one_answer() {
    let (serving, counts) = serve(None, Limits::default());
    let mut stream = connect(&serving).await;
    send(&mut stream, "/panic", "").await;
    assert_eq!(receive(&mut stream).await, (500, String::new()));
    send(&mut stream, "/", "still here").await;
    assert_eq!(receive(&mut stream).await, (200, "still here".to_owned()));
    assert_eq!(counts.of(Event::Panicked), 1);
}

#[tokio::test]
async fn large_bodies_are_refused_before_and_while_reading() {
    let (serving, _) = serve(None, Limits::default());
    let mut stream = connect(&serving).await;
    stream.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n").await.unwrap();
    assert_eq!(receive(&mut stream).await.0, 413);
    let mut stream = connect(&serving).await;
    stream.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    for _ in 0..16 {
        if stream.write_all(chunk.as_bytes()).await.is_err() {
            break;
        }
    }
    assert_eq!(receive(&mut stream).await.0, 413);
    let mut stream = connect(&serving).await;
    stream
        .write_all(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n")
        .await
        .unwrap();
    assert_eq!(receive(&mut stream).await.0, 400);
}

#[tokio::test]
async fn bad_headers_are_refused() {
    let (serving, counts) = serve(None, Limits::default());
    let many: String = (0..200).map(|n| format!("h{n}: x\r\n")).collect();
    let long = format!("h: {}\r\n", "x".repeat(100_000));
    for (head, status) in [
        (format!("GET / HTTP/1.1\r\nhost: x\r\n{many}\r\n"), "431"),
        (format!("GET / HTTP/1.1\r\nhost: x\r\n{long}\r\n"), "431"),
        ("\0\u{1}\u{2}\r\n\r\n".to_owned(), "400"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), ""),
    ] {
        let mut stream = connect(&serving).await;
        // The server may answer and close before it has read everything.
        let sent = stream.write_all(head.as_bytes()).await;
        let answer = rest(&mut stream).await;
        assert!(answer.contains(status), "{status}: {answer} {sent:?}");
    }
    assert_eq!(counts.of(Event::Request), 0);
}

#[tokio::test]
async fn slow_clients_are_closed() {
    let limits = Limits { header: Duration::from_secs(1), ..Limits::default() };
    let (serving, counts) = serve(None, limits);
    let mut silent = connect(&serving).await;
    assert_eq!(rest(&mut silent).await, "");
    let mut half = connect(&serving).await;
    half.write_all(b"GET / HTTP/1.1\r\nhos").await.unwrap();
    assert_eq!(rest(&mut half).await, "");
    counts.until(Event::TimedOut, 2).await;
    // A kept connection may be idle for longer than a header may take.
    let mut kept = connect(&serving).await;
    send(&mut kept, "/", "a").await;
    receive(&mut kept).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    send(&mut kept, "/", "b").await;
    assert_eq!(receive(&mut kept).await.1, "b");
    let (serving, counts) = serve(None, Limits { kept: Duration::from_millis(100), ..Limits::default() });
    let mut left = connect(&serving).await;
    send(&mut left, "/", "a").await;
    receive(&mut left).await;
    assert_eq!(rest(&mut left).await, "");
    counts.until(Event::TimedOut, 1).await;
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_wait() {
    let (serving, counts) = serve(None, Limits::default());
    let mut stream = connect(&serving).await;
    send(&mut stream, "/forever", "").await;
    counts.until(Event::Request, 1).await;
    drop(stream);
    counts.until(Event::Closed, 1).await;
    assert_eq!(serving.connections(), 0);
}

#[tokio::test]
async fn caps_connections() {
    let (serving, counts) = serve(None, Limits { per_remote: 2, ..Limits::default() });
    let mut first = connect(&serving).await;
    let _second = connect(&serving).await;
    counts.until(Event::Accepted, 2).await;
    let mut third = connect(&serving).await;
    assert_eq!(rest(&mut third).await, "");
    assert_eq!(counts.of(Event::RefusedRemote), 1);
    send(&mut first, "/", "x").await;
    assert_eq!(receive(&mut first).await.0, 200);
    drop(first);
    counts.until(Event::Closed, 1).await;
    let mut fourth = connect(&serving).await;
    send(&mut fourth, "/", "y").await;
    assert_eq!(receive(&mut fourth).await.0, 200);
}

#[tokio::test]
async fn drains() {
    let (serving, counts) = serve(None, Limits::default());
    let addr = serving.addr();
    let (mut waiting, mut idle) = (connect(&serving).await, connect(&serving).await);
    send(&mut waiting, "/wait", "").await;
    send(&mut idle, "/", "x").await;
    receive(&mut idle).await;
    counts.until(Event::Request, 2).await;
    assert!(serving.drain(Duration::from_secs(60)).await);
    assert_eq!(receive(&mut waiting).await, (200, "drained".to_owned()));
    assert_eq!(rest(&mut idle).await, "");
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn drains_by_force_in_the_end() {
    let (serving, counts) = serve(None, Limits::default());
    let mut stream = connect(&serving).await;
    send(&mut stream, "/forever", "").await;
    counts.until(Event::Request, 1).await;
    assert!(!serving.drain(Duration::from_millis(20)).await);
    assert_eq!(rest(&mut stream).await, "");
    assert_eq!(counts.of(Event::Closed), 1);
}
