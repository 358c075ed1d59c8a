//! How each role reaches the bus: a supervised child, or somebody's own NATS.

use crate::{Failure, config::Config};
use ::front::ca::Ca;
use bus::{
    AgentAccount, Bus, Login, NatsBus, NatsOptions, ServerTls,
    child::{ChildConfig, MonitorCredentials, NatsChild},
};
use std::{net::Ipv4Addr, sync::Arc};
use union::Ids;

/// The bus of a running installation and, where we started it, its server.
pub struct Link {
    /// The bus.
    pub bus: Arc<dyn Bus>,
    /// The server, if it is ours.
    pub child: Option<Arc<NatsChild>>,
}

impl Link {
    /// Starts the server if it is to be ours, and connects.
    ///
    /// `ca` signs the server's certificate where it listens beyond loopback; `agents` may connect.
    pub async fn start(
        config: &Config,
        ca: &Arc<Ca>,
        agents: Vec<AgentAccount>,
        ids: &dyn Ids,
    ) -> Result<Link, Failure> {
        if let Some(url) = &config.bus.url {
            let bus = NatsBus::connect(&external(url, "hyperglot")).await.map_err(Failure::other)?;
            return Ok(Link { bus: Arc::new(bus), child: None });
        }
        let child = ChildConfig {
            program: config.bus.server.clone(),
            domain: config.domain.clone(),
            listen: config.bus.listen.unwrap_or(Ipv4Addr::LOCALHOST.into()),
            tls: server_tls(config, ca)?,
            agents,
            ..ChildConfig::new(&config.data_dir, config.bus.port.unwrap_or(0))
        };
        let child = NatsChild::start(&child, ids).await.map_err(Failure::other)?;
        let bus = NatsBus::connect(&child.options("hyperglot")).await.map_err(Failure::other)?;
        if let Err(e) = bus.keep_events().await {
            tracing::warn!(error = %e, "events are published but not kept for late monitors");
        }
        Ok(Link { bus: Arc::new(bus), child: Some(Arc::new(child)) })
    }

    /// Connects to a running installation with its own account.
    pub async fn join(config: &Config) -> Result<Arc<dyn Bus>, Failure> {
        let options = match &config.bus.url {
            Some(url) => external(url, "hyperglot cli"),
            None => bus::child::own_options(&config.data_dir, config.bus.port.unwrap_or(0), "hyperglot cli")
                .map_err(Failure::other)?,
        };
        let bus = NatsBus::connect(&options).await.map_err(|e| {
            Failure::other(format!(
                "{e}; is `hyperglot up` running with data_dir = \"{}\"?",
                config.data_dir.display()
            ))
        })?;
        Ok(Arc::new(bus))
    }

    /// What monitors connect with; `None` where the NATS is somebody's own.
    pub fn monitor(config: &Config) -> Result<Option<MonitorCredentials>, Failure> {
        if config.bus.url.is_some() {
            return Ok(None);
        }
        MonitorCredentials::read(&config.data_dir, config.bus.port.unwrap_or(0))
            .map(Some)
            .map_err(Failure::other)
    }
}

/// The host by which agents reach the bus.
pub fn advertised(config: &Config) -> String {
    let listen = config.bus.listen.filter(|ip| !ip.is_unspecified());
    let named = config.bus.advertise.clone().or_else(|| listen.map(|ip| ip.to_string()));
    named.unwrap_or_else(|| match config.bus.listen {
        None => "127.0.0.1".to_owned(),
        Some(_) => crate::agent::machine(),
    })
}

fn server_tls(config: &Config, ca: &Arc<Ca>) -> Result<Option<ServerTls>, Failure> {
    if config.bus.listen.is_none_or(|listen| listen.is_loopback()) {
        return Ok(None);
    }
    ca.leaf("bus", &[advertised(config)]).map_err(Failure::other)?;
    let dir = config.data_dir.canonicalize().map_err(Failure::other)?;
    let file = |name: &str| dir.join(name);
    Ok(Some(ServerTls { certificate: file("tls/bus.pem"), key: file("tls/bus.key"), ca: file("ca.pem") }))
}

/// `nats://user:password@host:port` taken apart.
fn external(url: &str, name: &str) -> NatsOptions {
    let (scheme, rest) = url.split_once("://").unwrap_or(("nats", url));
    let (login, address) = match rest.rsplit_once('@') {
        None => (Login::None, rest),
        Some((who, address)) => {
            let (user, password) = who.split_once(':').unwrap_or((who, ""));
            (Login::Password { user: user.to_owned(), password: password.to_owned() }, address)
        }
    };
    NatsOptions::new(&format!("{scheme}://{address}"), login, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_leave_the_url() {
        let options = external("nats://me:se@cret@host:4222", "t");
        assert_eq!(options.url, "nats://host:4222");
        assert!(
            matches!(options.login, Login::Password { user, password } if user == "me" && password == "se@cret")
        );
        assert!(matches!(external("tls://host", "t").login, Login::None));
    }
}
