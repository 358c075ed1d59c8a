//! The drivers of the configured targets.

use super::{Agent, Settled};
use crate::{Failure, config::Target as TargetConfig, find, say};
use lane::Target;
use std::{sync::Arc, time::Duration};

impl Agent {
    /// The driver of one target, by its protocol's name.
    pub(super) fn open(&self, target: &TargetConfig) -> Result<(Arc<dyn Target>, Settled), Failure> {
        match target.protocol.as_str() {
            "libvirt" => self.open_libvirt(target),
            "sim" => self.open_sim(target),
            other => {
                Err(Failure::other(format!("[[target]] protocol = \"{other}\": expected libvirt or sim")))
            }
        }
    }

    fn open_libvirt(&self, target: &TargetConfig) -> Result<(Arc<dyn Target>, Settled), Failure> {
        let mut config =
            libvirt::target::Config::new(&target.shown(), target.uri.as_deref().unwrap_or_default());
        config.runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").map(Into::into);
        if let Some(seconds) = target.timeout_s {
            config.patience = Duration::from_secs(seconds);
        }
        if let Some(seconds) = target.stats_s {
            config.stats_every = Duration::from_secs(seconds);
        }
        let inventory = Arc::clone(&self.inventory);
        let driver = libvirt::target::connect(config, &self.bundle(), inventory, Arc::clone(&self.clock))
            .map_err(|error| match error.is_mapping() {
                true => Failure::Mapping(error.to_string()),
                false => Failure::other(error),
            })?;
        let settled = {
            let driver = Arc::clone(&driver);
            async move {
                match driver.settled().await {
                    libvirt::target::Status::Lost(why) => Err(why),
                    _ => Ok(()),
                }
            }
        };
        Ok((driver, Box::pin(settled)))
    }

    fn open_sim(&self, target: &TargetConfig) -> Result<(Arc<dyn Target>, Settled), Failure> {
        if let Some(uri) = &target.uri {
            let address = uri.parse().map_err(Failure::other)?;
            let driver = sim::process::connect(&target.shown(), address, &self.inventory);
            let settled = Arc::clone(&driver);
            let settled = async move {
                settled.synced().await;
                Ok(())
            };
            return Ok((driver, Box::pin(settled)));
        }
        let source = match (&target.inventory, &target.generate) {
            (Some(file), _) => sim::Source::File(file.clone()),
            (None, Some(g)) => sim::Source::Generate { vms: g.vms, hosts: g.hosts },
            (None, None) => {
                return Err(Failure::other(
                    "[[target]] protocol = \"sim\": expected one of `uri`, `inventory` and `generate`",
                ));
            }
        };
        let config = sim::Config { name: target.shown(), source, behaviour: None, effect_log: None };
        let driver = sim::connect(config, &self.inventory, &self.clock, &self.ids).map_err(Failure::other)?;
        Ok((driver, Box::pin(std::future::ready(Ok(())))))
    }
}

/// Says what is managed when the configuration names no target, and how it was found.
pub fn local_targets() -> Result<Vec<TargetConfig>, Failure> {
    let (uri, socket) = find::libvirt().map_err(|silent| {
        let silent: String =
            silent.iter().map(|(socket, why)| format!(" {} does not answer: {why}.", socket.display())).collect();
        Failure::Other(format!(
            "no target is configured and no local libvirt was found: expected its socket at /run/libvirt/libvirt-sock, \
             /run/libvirt/virtqemud-sock or in $XDG_RUNTIME_DIR/libvirt.{silent} Start libvirt (and be a member of its \
             group, usually `libvirt`), or name a target in a configuration and give it with --config FILE:\n\n\
             [[target]]\nprotocol = \"libvirt\"\nuri = \"qemu+tcp://HOST/system\""
        ))
    })?;
    say::notice(format_args!("found libvirt at {} and manage it as {uri}", socket.display()));
    Ok(vec![TargetConfig {
        protocol: "libvirt".into(),
        name: Some("local".into()),
        uri: Some(uri),
        inventory: None,
        generate: None,
        timeout_s: None,
        stats_s: None,
    }])
}
