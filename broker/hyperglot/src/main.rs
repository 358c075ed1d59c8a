//! `hyperglot`: one binary, its roles by subcommand.
//!
//! ```text
//! up        everything on one machine: bus, engine, agent, fronts
//! broker    the bus and the engine, and fronts of the fleet     agent     targets and host fronts, joined to a broker
//! ctl       users, roles, scopes, sessions, audit, agents, mappings, repair
//! sim       a simulated hypervisor as a process of its own
//! watch     what happens, as it happens, from the bus
//! status    what is connected, and the monitors' credentials
//! mapping   check, test, coverage, explain
//! ```
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage, 65 mapping files refused, 78 configuration refused.
#![forbid(unsafe_code)]

mod agent;
mod bundles;
mod config;
mod ctl;
mod ctl_desk;
mod ctl_mapping;
mod ctl_show;
mod engine_room;
mod failpoint;
mod find;
mod fronts;
mod id_maps;
mod identity;
mod join;
mod json;
mod link;
mod logs;
mod mapping_cli;
mod member;
mod metrics;
mod publish;
mod pushes;
mod run;
mod say;
mod sim_role;
mod status;
mod threads;
mod up;
mod watch;
mod ways;

use clap::{Parser, Subcommand};
use std::{path::PathBuf, process::ExitCode};

/// Gives back what a busy minute needed, a second after nobody uses it (`.cargo/config.toml`), by a thread of its own.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Manage virtual machines on any hypervisor with the management client you already have.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Run everything on one machine: the bus, the engine, an agent over all targets, the fronts.
    Up {
        /// The configuration; without it a local libvirt is looked for.
        #[arg(long, env = "HYPERGLOT_CONFIG")]
        config: Option<PathBuf>,
    },
    /// Run the bus and the engine, with fronts of the fleet; agents join.
    Broker {
        /// The configuration.
        #[arg(long, env = "HYPERGLOT_CONFIG")]
        config: Option<PathBuf>,
    },
    /// Run the targets of this machine and their host fronts, joined to a broker.
    Agent {
        /// The configuration; without it a local libvirt is looked for.
        #[arg(long, env = "HYPERGLOT_CONFIG")]
        config: Option<PathBuf>,
        /// A token of `hyperglot ctl agent token`, at the first start.
        #[arg(long, env = "HYPERGLOT_JOIN", hide_env_values = true)]
        join: Option<String>,
    },
    /// Administer a running installation.
    Ctl {
        /// The configuration of the installation.
        #[arg(long, env = "HYPERGLOT_CONFIG")]
        config: Option<PathBuf>,
        /// Its data_dir, instead of what the configuration says.
        #[arg(long)]
        data_dir: Option<PathBuf>,
        #[command(subcommand)]
        verb: ctl::Verb,
    },
    /// Run a simulated hypervisor as a process of its own.
    Sim(sim_role::Arguments),
    /// Print what happens, as it happens.
    Watch {
        /// The configuration of the installation to watch.
        #[arg(long, env = "HYPERGLOT_CONFIG")]
        config: Option<PathBuf>,
        /// What to subscribe to.
        #[arg(default_value = "event.>")]
        subject: String,
        /// Stop after this many.
        #[arg(long)]
        count: Option<u64>,
    },
    /// Say what is connected, and print the monitors' credentials; of an agent, on its own machine, how it stands.
    Status {
        /// The configuration of the installation, or of the agent.
        #[arg(long, env = "HYPERGLOT_CONFIG")]
        config: Option<PathBuf>,
        /// Its data_dir, instead of what the configuration says.
        #[arg(long)]
        data_dir: Option<PathBuf>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the names of the failpoints.
    #[command(hide = true)]
    Failpoints,
    /// Work on mapping files.
    Mapping {
        #[command(subcommand)]
        verb: mapping_cli::Verb,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.role {
        Role::Mapping { verb } => mapping_cli::run(&verb),
        Role::Failpoints => {
            failpoint::print();
            ExitCode::SUCCESS
        }
        Role::Up { config } => run(up::run(config, up::Shape::Up)),
        Role::Broker { config } => run(up::run(config, up::Shape::Broker)),
        Role::Agent { config, join } => run(member::run(config, join)),
        Role::Ctl { config, data_dir, verb } => run(ctl::run(config, data_dir, verb)),
        Role::Sim(arguments) => run(sim_role::run(arguments)),
        Role::Watch { config, subject, count } => run(watch::run(config, subject, count)),
        Role::Status { config, data_dir, json } => run(status::run(config, data_dir, json)),
    }
}

/// Why a role ended early.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] config::ConfigError),
    /// The mapping files.
    #[error("{0}")]
    Mapping(String),
    /// Anything else, in a sentence.
    #[error("{0}")]
    Other(String),
}

impl Failure {
    fn other(what: impl std::fmt::Display) -> Failure {
        Failure::Other(what.to_string())
    }

    fn code(&self) -> ExitCode {
        match self {
            Failure::Config(_) => ExitCode::from(78),
            Failure::Mapping(_) => ExitCode::from(65),
            Failure::Other(_) => ExitCode::FAILURE,
        }
    }
}

fn run(role: impl Future<Output = Result<(), Failure>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            say::trouble(format_args!("cannot start the runtime: {e}"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(role) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say::trouble(&failure);
            failure.code()
        }
    }
}
