//! `hyperglot sim`: a simulated hypervisor that outlives the agents that manage it.

use crate::{Failure, run::Stop, say};
use clap::Args;
use sim::{process, world};
use std::{path::PathBuf, sync::Arc};
use union::{
    Clock, Ids,
    clock::{SystemClock, SystemIds},
};

/// What is simulated, and where it listens.
#[derive(Debug, Args)]
pub struct Arguments {
    /// `unix:/path`, or a loopback address and port.
    #[arg(long)]
    listen: process::Address,
    /// A file that names what there is.
    #[arg(long, conflicts_with = "generate")]
    inventory: Option<PathBuf>,
    /// What to make up: `VMS,HOSTS`.
    #[arg(long, required_unless_present = "inventory")]
    generate: Option<String>,
    /// A file that says how it misbehaves: latencies, failures, lost answers. Default: as the inventory's `[behaviour]` says.
    #[arg(long)]
    behaviour: Option<PathBuf>,
    /// Where each effect is written, on the disk before it is answered.
    #[arg(long)]
    effects: Option<PathBuf>,
    /// The name that its ids follow from.
    #[arg(long, default_value = "sim")]
    name: String,
}

/// Runs until told to stop.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let source = match (&arguments.inventory, &arguments.generate) {
        (Some(file), _) => world::Source::File(file.clone()),
        (None, Some(text)) => generate(text)?,
        (None, None) => return Err(Failure::other("expected --inventory or --generate")),
    };
    let behaviour = arguments.behaviour.as_deref().map(sim::Behaviour::read).transpose();
    let behaviour = behaviour.map_err(Failure::other)?;
    let world = world::Config { name: arguments.name, source, behaviour, effect_log: arguments.effects };
    let config = process::Config { listen: arguments.listen, world };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let ids: Arc<dyn Ids> = Arc::new(SystemIds);
    let mut stop = Stop::new()?;
    let ready =
        |address: &process::Address| say::notice(format_args!("a simulated hypervisor listens on {address}"));
    tokio::select! {
        ended = process::serve(config, &clock, &ids, ready) => ended.map_err(Failure::other),
        () = stop.wait() => Ok(()),
    }
}

fn generate(text: &str) -> Result<world::Source, Failure> {
    let parsed = text.split_once(',').and_then(|(vms, hosts)| Some((vms.parse().ok()?, hosts.parse().ok()?)));
    let (vms, hosts) = parsed
        .ok_or_else(|| Failure::other(format!("--generate {text}: expected VMS,HOSTS, for example 100,4")))?;
    Ok(world::Source::Generate { vms, hosts })
}
