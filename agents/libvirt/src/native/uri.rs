//! libvirt's connection addresses: `driver[+transport]://[host][:port]/path[?name=value&...]`.
//!
//! | transport | where | parameters |
//! |---|---|---|
//! | `unix`, or none without a host | `socket`, else the default sockets of the path | `socket` |
//! | `tcp` | host, port 16509 | |
//! | `tls`, or none with a host | host, port 16514 | `pkipath` (`cacert.pem`, `clientcert.pem`, `clientkey.pem` in it), or `ca`, `cert`, `key` |
//!
//! `mode=readonly` opens it so. Defaults as libvirt's own client has them.

use std::path::{Path, PathBuf};

/// Where to connect and what to open there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uri {
    /// What the server is asked to open, for example `qemu:///system`.
    pub name: String,
    /// How to get there.
    pub transport: Transport,
    /// Nothing may be changed through it.
    pub read_only: bool,
}

/// How to get to a libvirtd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// The first of these sockets that takes a connection.
    Unix(Vec<PathBuf>),
    /// Plain TCP.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// TLS over TCP.
    Tls {
        /// Name or address; the server's certificate must have it.
        host: String,
        /// Port.
        port: u16,
        /// PEM file of the authority that signed the server's certificate.
        ca: PathBuf,
        /// PEM files of our certificate and key.
        identity: Option<(PathBuf, PathBuf)>,
    },
}

/// An address that is none, or that asks for what is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("libvirt address `{uri}`: {message}")]
pub struct BadUri {
    /// As given.
    pub uri: String,
    /// What was expected.
    pub message: String,
}

impl Uri {
    /// Reads an address. `runtime_dir` is where a user's own sockets are (`XDG_RUNTIME_DIR`).
    ///
    /// # Errors
    /// It is no such address, or names a transport or parameter that is not served.
    pub fn parse(text: &str, runtime_dir: Option<&Path>) -> Result<Uri, BadUri> {
        parse(text, runtime_dir).map_err(|message| BadUri { uri: text.to_owned(), message })
    }
}

#[derive(Default)]
struct Parameters {
    socket: Option<PathBuf>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    read_only: bool,
}

fn parse(text: &str, runtime_dir: Option<&Path>) -> Result<Uri, String> {
    let shape = "expected `driver[+transport]://[host][:port]/path`, for example `qemu:///system`";
    let (scheme, rest) = text.split_once("://").ok_or(shape)?;
    let (driver, transport) = match scheme.split_once('+') {
        Some((driver, transport)) => (driver, Some(transport)),
        None => (scheme, None),
    };
    if driver.is_empty() || !driver.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Err(shape.to_owned());
    }
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').ok_or(shape)?;
    let parameters = parameters(query)?;
    if authority.contains('@') {
        return Err("a user name is of use over ssh only, which is not served".into());
    }
    let transport = match transport.unwrap_or(if authority.is_empty() { "unix" } else { "tls" }) {
        "unix" if !authority.is_empty() => return Err("a unix socket has no host".into()),
        "unix" => {
            Transport::Unix(parameters.socket.map_or_else(|| sockets(driver, path, runtime_dir), |s| vec![s]))
        }
        "tcp" => {
            let (host, port) = host(authority, 16509)?;
            Transport::Tcp { host, port }
        }
        "tls" => {
            let (host, port) = host(authority, 16514)?;
            let ca = parameters.ca.unwrap_or_else(|| "/etc/pki/CA/cacert.pem".into());
            let identity = match (parameters.cert, parameters.key) {
                (Some(cert), Some(key)) => Some((cert, key)),
                (None, None) => default_identity(),
                _ => return Err("`cert` and `key` belong together".into()),
            };
            Transport::Tls { host, port, ca, identity }
        }
        other => return Err(format!("transport `{other}` is not served; expected unix, tcp or tls")),
    };
    Ok(Uri { name: format!("{driver}:///{path}"), transport, read_only: parameters.read_only })
}

fn default_identity() -> Option<(PathBuf, PathBuf)> {
    let (cert, key) =
        (Path::new("/etc/pki/libvirt/clientcert.pem"), Path::new("/etc/pki/libvirt/private/clientkey.pem"));
    (cert.exists() && key.exists()).then(|| (cert.to_owned(), key.to_owned()))
}

fn sockets(driver: &str, path: &str, runtime_dir: Option<&Path>) -> Vec<PathBuf> {
    let mut dirs = Vec::new();
    if path == "session" {
        dirs.extend(runtime_dir.map(|d| d.join("libvirt")));
    } else {
        dirs.extend(["/run/libvirt", "/var/run/libvirt"].map(PathBuf::from));
    }
    // `libvirt-sock` is the one daemon's, or the proxy's before one daemon a driver: either knows every driver.
    let names = ["libvirt-sock".to_owned(), format!("virt{driver}d-sock")];
    names.iter().flat_map(|name| dirs.iter().map(move |dir| dir.join(name))).collect()
}

fn host(authority: &str, port: u16) -> Result<(String, u16), String> {
    let (host, given) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, after)) => (host, after.strip_prefix(':')),
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    if host.is_empty() {
        return Err("this transport needs a host".into());
    }
    let port = match given {
        None => port,
        Some(given) => given.parse().map_err(|_| format!("`{given}` is not a port"))?,
    };
    Ok((host.to_owned(), port))
}

fn parameters(query: &str) -> Result<Parameters, String> {
    let mut read = Parameters::default();
    for pair in query.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or_else(|| format!("`{pair}`: expected `name=value`"))?;
        let value = decoded(value)?;
        match name {
            "socket" => read.socket = Some(value.into()),
            "ca" => read.ca = Some(value.into()),
            "cert" => read.cert = Some(value.into()),
            "key" => read.key = Some(value.into()),
            "pkipath" => {
                let dir = PathBuf::from(value);
                read.ca = Some(dir.join("cacert.pem"));
                (read.cert, read.key) = (Some(dir.join("clientcert.pem")), Some(dir.join("clientkey.pem")));
            }
            "mode" if value == "readonly" => read.read_only = true,
            other => {
                return Err(format!(
                    "parameter `{other}` is not served; expected socket, ca, cert, key, pkipath or mode=readonly"
                ));
            }
        }
    }
    Ok(read)
}

fn decoded(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
        let (high, low) = (digit(rest.next()), digit(rest.next()));
        let code = high.zip(low).and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
        bytes.push(code.ok_or_else(|| format!("`{text}`: `%` is followed by two hexadecimal digits"))?);
    }
    String::from_utf8(bytes).map_err(|_| format!("`{text}` is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Uri {
        Uri::parse(text, Some(Path::new("/run/user/7"))).unwrap()
    }

    #[test]
    fn local_addresses_have_default_sockets() {
        let uri = read("qemu:///system");
        assert_eq!(uri.name, "qemu:///system");
        let Transport::Unix(sockets) = uri.transport else { panic!("{uri:?}") };
        assert_eq!(sockets[0], Path::new("/run/libvirt/libvirt-sock"));
        assert!(sockets.contains(&PathBuf::from("/run/libvirt/virtqemud-sock")));
        let session = read("qemu:///session").transport;
        let own = ["/run/user/7/libvirt/libvirt-sock", "/run/user/7/libvirt/virtqemud-sock"];
        assert_eq!(session, Transport::Unix(own.map(PathBuf::from).to_vec()));
    }

    #[test]
    fn a_socket_is_named() {
        let uri = read("qemu+unix:///system?socket=/tmp/a%20b");
        assert_eq!(uri.transport, Transport::Unix(vec!["/tmp/a b".into()]));
        assert_eq!(uri.name, "qemu:///system");
    }

    #[test]
    fn remote_addresses() {
        let uri = read("test+tcp://127.0.0.1:16600/default?mode=readonly");
        assert_eq!(uri.transport, Transport::Tcp { host: "127.0.0.1".into(), port: 16600 });
        assert_eq!((uri.name.as_str(), uri.read_only), ("test:///default", true));
        let uri = read("qemu://[::1]/system?pkipath=/pki");
        let Transport::Tls { host, port, ca, identity } = uri.transport else { panic!() };
        assert_eq!((host.as_str(), port, ca), ("::1", 16514, "/pki/cacert.pem".into()));
        assert_eq!(identity, Some(("/pki/clientcert.pem".into(), "/pki/clientkey.pem".into())));
    }

    #[test]
    fn what_is_not_served_is_said() {
        for (uri, word) in [
            ("qemu", "expected `driver"),
            ("qemu+ssh://h/system", "transport `ssh`"),
            ("qemu+tcp:///system", "needs a host"),
            ("qemu+tcp://h:x/system", "not a port"),
            ("qemu:///system?no_verify=1", "`no_verify`"),
            ("qemu://root@h/system", "user name"),
            ("qemu+tls://h/system?cert=/c", "belong together"),
            ("qemu:///system?socket=%zz", "hexadecimal"),
        ] {
            let error = Uri::parse(uri, None).unwrap_err();
            assert!(error.message.contains(word), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "([a-z]{0,5}[+:/?%@\\[\\]0-9&=]{0,3}){0,8}") {
            let _read = Uri::parse(&text, None);
        }
    }
}
