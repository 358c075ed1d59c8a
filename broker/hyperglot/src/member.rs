//! `hyperglot agent`: targets and host fronts beside hypervisors, and a broker elsewhere.
//!
//! ```text
//! --join TOKEN, once ─▶ agent.json ─▶ bus (nkey, TLS) ─▶ agent ─▶ the engine's questions ─▶ targets settled ─▶ recovered ─▶ fronts
//! bus or broker away: goes on with reads and what it can do by itself, and hands in what it did when they are back
//! ```

use crate::{
    Failure,
    agent::{self, Agent, Membership},
    bundles::{InForce, Shelf},
    config::Config,
    failpoint,
    fronts::{self, Fronts, Side, With},
    identity::{self, AGENT_KEYS, AgentIdentity},
    join, logs,
    metrics::Metrics,
    run::{self, PATIENCE, Stop},
    say, status,
    threads::Threads,
    up::announce,
};
use ::front::ca::Ca;
use ::link::{Presence, bus::BusEngine};
use bus::{Bus, NatsBus, child::agent_options};
use guard::{Public, Signer, Verifier};
use std::{path::PathBuf, sync::Arc, time::Duration};
use union::{
    Clock, Ids,
    clock::{SystemClock, SystemIds},
};

/// Runs until told to stop.
pub async fn run(path: Option<PathBuf>, token: Option<String>) -> Result<(), Failure> {
    let mut config = Config::load(path.as_deref())?;
    logs::start(&config.log);
    failpoint::arm();
    ::front::tls::install_provider();
    let _lock = run::own(&config.data_dir)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let ids: Arc<dyn Ids> = Arc::new(SystemIds);
    let (shelf, loaded) = Shelf::start(&config)?;
    if config.targets.is_empty() {
        config.targets = agent::local_targets()?;
    }
    fronts::check_addresses(&config.fronts)?;
    let me = identity(&config, token, ids.as_ref()).await?;
    let keys = identity::keys(&config.data_dir.join(AGENT_KEYS), ids.as_ref())?;
    let (seed, _) = keys.seeds().ok_or_else(|| Failure::other("the agent's key has no seed"))?;
    let engine_key = Public::new(&me.engine).map_err(Failure::other)?;
    let ca = Ca::open(&config.data_dir, Arc::clone(&clock), Arc::clone(&ids)).map_err(Failure::other)?;
    let mut stop = Stop::new()?;

    let mut options = agent_options(&me.url, &me.name, seed.expose(), me.ca(&config.data_dir));
    options.patient = true;
    let bus: Arc<dyn Bus> = Arc::new(NatsBus::connect(&options).await.map_err(Failure::other)?);
    let signer =
        Arc::new(Signer::new(&me.domain, &me.name, keys.clone(), Arc::clone(&clock), Arc::clone(&ids)));
    let presence = Presence::new(Arc::clone(&clock));
    let engine = BusEngine::new(Arc::clone(&bus), &me.domain, Arc::clone(&signer), presence.clone());
    let member = Membership {
        name: Arc::from(&*me.name),
        domain: Arc::from(&*me.domain),
        engine: Arc::new(engine),
        presence,
        engine_key: engine_key.clone(),
        keys,
        signer: Some(signer),
    };
    let agent =
        Agent::start(&config, loaded.bundle, Arc::clone(&bus), member, Arc::clone(&clock), ids).await?;
    let host = Side {
        inventory: Arc::clone(&agent.inventory),
        tasks: Arc::clone(&agent.tasks),
        router: agent.router(&agent.inventory, &agent.tasks, &agent.keeper),
    };
    let limits = fronts::limits(config.fronts.len());
    let with = With { agent, host, fleet: None, ca, metrics: Metrics::new(), limits };
    let fronts = Arc::new(Fronts::new(Threads::shared()));
    let in_force = InForce::new(&with.agent, &fronts, &config.fronts, None, (shelf, loaded.pack));
    with.agent.joined.link.taken_by(in_force.clone());
    let _following = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(in_force.follow()));
    let verifier = Verifier::new(&me.domain, clock);
    let serving = serve(&config, &me, &with, &fronts, engine_key, verifier);
    let ended = run::until_told(&mut stop, serving, close(&with.agent, &fronts)).await;
    fronts.end();
    ended
}

/// Who this agent is: what joining left, or what it leads to now.
async fn identity(config: &Config, token: Option<String>, ids: &dyn Ids) -> Result<AgentIdentity, Failure> {
    match (AgentIdentity::read(&config.data_dir)?, token) {
        (Some(me), None) => Ok(me),
        (_, Some(token)) => {
            let me = join::join(&config.data_dir, &token, ids).await?;
            say::notice(format_args!("joined the domain {} as {}", me.domain, me.name));
            Ok(me)
        }
        (None, None) => Err(Failure::other(format!(
            "this agent has not joined: data_dir = \"{}\" has no agent.json. Run `hyperglot ctl agent token NAME` on the broker, and \
             start this agent once with --join TOKEN",
            config.data_dir.display()
        ))),
    }
}

async fn serve(
    config: &Config,
    me: &AgentIdentity,
    with: &With,
    fronts: &Arc<Fronts>,
    engine_key: Public,
    verifier: Verifier,
) -> Result<(), Failure> {
    let agent = &with.agent;
    let figures = config.metrics.listen.map(|listen| with.metrics.serve(listen, agent, fronts));
    let _figures = figures.transpose()?;
    let bus = &agent.bus;
    let door = Arc::clone(&agent.joined.link);
    agent.connect(&config.targets).await?;
    // The commands of an earlier life take their lanes before the engine can send others.
    agent.recover(&with.host.router).await?;
    let _serving = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(answer_engine(
        Arc::clone(bus),
        me.clone(),
        engine_key,
        verifier,
        door,
    )));
    let (told, domain, name) = (Arc::clone(bus), me.domain.clone(), me.name.clone());
    let _announcing = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
        if let Err(e) = ::link::follow::announce(told, &domain, &name).await {
            tracing::error!(error = %e, "this agent cannot show that it is there");
        }
    }));
    let (told, domain, facts) = (Arc::clone(bus), me.domain.clone(), Arc::clone(&agent.inventory));
    let _owned = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
        if let Err(e) = ::link::keep::owned::follow(told, &domain, facts).await {
            tracing::error!(error = %e, "what the broker says of machines is not shown here");
        }
    }));
    let answering = status::serve_socket(&config.data_dir, || agent.status(fronts.status()));
    let opening = open(config, with, fronts);
    tokio::select! {
        failed = opening => failed,
        () = async { answering.await; std::future::pending().await } => Ok(()),
    }
}

/// Opens the fronts when there is something to show. Never ends but by a failure.
async fn open(config: &Config, with: &With, fronts: &Arc<Fronts>) -> Result<(), Failure> {
    let agent = &with.agent;
    agent.first_facts().await;
    let late = fronts.open(&config.fronts, with).await?;
    announce(agent, fronts, &late);
    fronts.open_late(late, with).await
}

/// Lets the engine ask, as soon as there is a bus, for as long as this is polled.
async fn answer_engine(
    bus: Arc<dyn Bus>,
    me: AgentIdentity,
    engine_key: Public,
    verifier: Verifier,
    door: Arc<::link::Link>,
) {
    let verifier = Arc::new(verifier);
    loop {
        let serving = ::link::bus::serve(
            &bus,
            &me.domain,
            &me.name,
            engine_key.clone(),
            Arc::clone(&verifier),
            Arc::clone(&door),
        );
        match serving.await {
            Ok(_serving) => return std::future::pending().await,
            Err(e) => tracing::debug!(error = %e, "the engine cannot ask yet"),
        }
        tokio::time::sleep(agent::LOOK).await;
    }
}

async fn close(agent: &Agent, fronts: &Fronts) {
    fronts.drain(PATIENCE).await;
    agent.owner.drain(PATIENCE).await;
    agent.finish().await;
    agent.stop_publishing().await;
    agent.store.close();
    if let Err(e) = agent.bus.drain(Duration::from_secs(2)).await {
        tracing::debug!(error = %e, "the bus was closed before everything was answered");
    }
}
