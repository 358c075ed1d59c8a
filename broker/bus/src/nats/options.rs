//! Where and as whom to connect.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use async_nats::ConnectOptions;
use thiserror::Error;

/// How a connection names itself to the server.
#[derive(Clone)]
pub enum Login {
    /// Not at all.
    None,
    /// With a user and a password.
    Password {
        /// The user.
        user: String,
        /// Its password; never shown.
        password: String,
    },
    /// With an nkey seed (`SU…`); never shown.
    Nkey(String),
    /// With a credentials file (a JWT and its seed).
    File(PathBuf),
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Login::None => f.write_str("None"),
            Login::Password { user, .. } => write!(f, "Password({user})"),
            Login::Nkey(_) => f.write_str("Nkey"),
            Login::File(path) => write!(f, "File({})", path.display()),
        }
    }
}

/// Where and as whom to connect.
#[derive(Debug, Clone)]
pub struct NatsOptions {
    /// `nats://host:port`, or several joined by commas.
    pub url: String,
    /// As whom.
    pub login: Login,
    /// The connection's name, for the server's lists.
    pub name: String,
    /// The first tokens of the private inbox: `_INBOX`, or an agent's own so that no other agent reads its answers.
    pub inbox_prefix: String,
    /// How long the first connect may take.
    pub connect_within: Duration,
    /// Whether a server that is not there yet is waited for in the background: the bus is `Disconnected` until then.
    pub patient: bool,
    /// The certificate (PEM) to trust besides the machine's own; with it nothing is said without TLS.
    pub ca: Option<PathBuf>,
}

impl NatsOptions {
    /// Options with the usual inbox and five seconds to connect.
    pub fn new(url: &str, login: Login, name: &str) -> Self {
        Self {
            url: url.to_owned(),
            login,
            name: name.to_owned(),
            inbox_prefix: "_INBOX".to_owned(),
            connect_within: Duration::from_secs(5),
            ca: None,
            patient: false,
        }
    }

    /// The client library's options: own inbox, a ping every ten seconds, unlimited reconnects
    /// with 0, 20, 40 … 1000 ms between them.
    pub(super) async fn lower(&self) -> Result<ConnectOptions, ConnectError> {
        let options = ConnectOptions::new()
            .name(&self.name)
            .custom_inbox_prefix(&self.inbox_prefix)
            .connection_timeout(self.connect_within)
            .ping_interval(PING_EVERY)
            .reconnect_delay_callback(reconnect_delay);
        let options = if self.patient { options.retry_on_initial_connect() } else { options };
        let options = match &self.ca {
            None => options,
            Some(ca) => options.require_tls(true).add_root_certificates(ca.clone()),
        };
        Ok(match &self.login {
            Login::None => options,
            Login::Password { user, password } => options.user_and_password(user.clone(), password.clone()),
            Login::Nkey(seed) => options.nkey(seed.clone()),
            Login::File(path) => options.credentials_file(path).await.map_err(|source| {
                ConnectError::Credentials { path: path.clone(), reason: source.to_string() }
            })?,
        })
    }
}

/// A server that answers no ping is given up after the third.
const PING_EVERY: Duration = Duration::from_secs(10);

fn reconnect_delay(attempts: usize) -> Duration {
    match attempts {
        0 | 1 => Duration::ZERO,
        _ => {
            let shift = u32::try_from(attempts.saturating_sub(2)).unwrap_or(u32::MAX).min(6);
            Duration::from_millis((20_u64 << shift).min(1000))
        }
    }
}

/// Why a connection could not be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConnectError {
    /// The server did not take the connection.
    #[error(
        "cannot connect to the bus at {url}: {reason}; check that the server runs and that the login is right"
    )]
    Server {
        /// The address tried, without credentials.
        url: String,
        /// What the client library said.
        reason: String,
    },
    /// The credentials file is unusable.
    #[error("cannot read the bus credentials in {path}: {reason}")]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_grows_and_stops_growing() {
        let delays: Vec<_> = (0..10).map(|n| reconnect_delay(n).as_millis()).collect();
        assert_eq!(delays, [0, 0, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        assert_eq!(reconnect_delay(usize::MAX).as_millis(), 1000);
    }

    #[test]
    fn secrets_are_not_shown() {
        let login = Login::Password { user: "hyperglot".into(), password: "hush".into() };
        assert!(!format!("{:?}", NatsOptions::new("nats://h", login, "n")).contains("hush"));
        assert!(!format!("{:?}", Login::Nkey("SUSECRET".into())).contains("SECRET"));
    }
}
