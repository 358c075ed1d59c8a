//! `hyperglot up` and `hyperglot broker`: the bus, the engine, the agent of this process and the fronts. A broker is an `up` without
//! targets.
//!
//! ```text
//! configuration ─▶ lock data_dir ─▶ bundle ─▶ stores, CA ─▶ bus ─▶ engine ─▶ users ─▶ agent ─▶ status, metrics, doors
//!               ─▶ targets settled ─▶ recovered ─▶ fronts ─▶ SIGTERM or Ctrl-C ─▶ drain
//! a second SIGTERM or Ctrl-C ends the drain
//! ```

use crate::{
    Failure,
    agent::{self, Agent, Membership, resume},
    bundles::{InForce, Library, Shelf},
    config::{Config, Front as FrontConfig, ViewKind},
    ctl_desk::{ASKING, CtlDesk},
    engine_room::{EngineRoom, Opened, accounts},
    failpoint,
    fronts::{self, Fronts, Side, With},
    identity::{self, AGENT_KEYS},
    link::{Link, advertised},
    logs,
    metrics::Metrics,
    pushes::Pushes,
    run::{self, PATIENCE, Stop},
    say, status,
    threads::Threads,
    ways::NextDoor,
};
use ::front::ca::Ca;
use ::link::Presence;
use guard::{Cost, FirstAdmin, Secret, Users};
use std::{path::PathBuf, sync::Arc, time::Duration};
use store::{Store as _, agents::Member};
use tokio::sync::Semaphore;
use union::{
    Clock, Ids,
    clock::{SystemClock, SystemIds},
};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Everything on one machine.
    Up,
    /// The bus and the engine; agents join.
    Broker,
}

/// Runs until told to stop.
pub async fn run(path: Option<PathBuf>, shape: Shape) -> Result<(), Failure> {
    let mut config = Config::load(path.as_deref())?;
    logs::start(&config.log);
    failpoint::arm();
    ::front::tls::install_provider();
    let _lock = run::own(&config.data_dir)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let ids: Arc<dyn Ids> = Arc::new(SystemIds);
    let (shelf, loaded) = Shelf::start(&config)?;
    let library = Library::new(&loaded);
    match shape {
        Shape::Up if config.targets.is_empty() => config.targets = agent::local_targets()?,
        Shape::Broker if !config.targets.is_empty() => {
            return Err(Failure::other(
                "[[target]] is for `hyperglot up` and `hyperglot agent`: a broker has no hypervisors of its own",
            ));
        }
        _ => {}
    }
    if shape == Shape::Up && config.fronts.is_empty() {
        config.fronts = default_fronts();
    }
    fronts::check_addresses(&config.fronts)?;
    let opened = Opened::open(&config, &clock, ids.as_ref()).await?;
    let name: Arc<str> = Arc::from(agent::machine());
    let keys = identity::keys(&config.data_dir.join(AGENT_KEYS), ids.as_ref())?;
    let own = Member {
        name: Arc::clone(&name),
        nkey: keys.public().text().into(),
        seal_key: keys.seal_key().into(),
        joined_ms: clock.now_ms(),
    };
    opened.members.enrol(&own, opened.epoch).await.map_err(Failure::other)?;
    let members = opened.members.members().await.map_err(Failure::other)?;
    let ca = Ca::open(&config.data_dir, Arc::clone(&clock), Arc::clone(&ids)).map_err(Failure::other)?;
    let mut stop = Stop::new()?;

    let link = tokio::select! {
        link = Link::start(&config, &ca, accounts(&members), ids.as_ref()) => link?,
        () = stop.wait() => return Ok(()),
    };
    let room =
        EngineRoom::start(&config, opened, library.clone(), &link.bus, Arc::clone(&clock), Arc::clone(&ids))
            .await?;
    first_admin(&config, &room).await?;
    let member = Membership {
        name: Arc::clone(&name),
        domain: Arc::from(&*config.domain),
        engine: Arc::new(NextDoor { engine: Arc::clone(&room.engine), agent: Arc::clone(&name) }),
        presence: Presence::new(Arc::clone(&clock)),
        engine_key: room.keys.public(),
        keys,
        signer: None,
    };
    let agent = Agent::start(&config, loaded.bundle, Arc::clone(&link.bus), member, clock, ids).await?;
    agent.lead(&room.fleet);
    drop(room.ways.own.set((Arc::clone(&name), Arc::clone(&agent.joined.link))));
    let with = with(&config, &room, agent, ca);
    let threads = match shape {
        Shape::Up => Threads::own()?,
        Shape::Broker => Threads::shared(),
    };
    let fronts = Arc::new(Fronts::new(threads));
    let fleet = Some(Arc::clone(room.fleet.inventory().schema()));
    let pushes = Pushes {
        in_force: InForce::new(&with.agent, &fronts, &config.fronts, fleet, (shelf, loaded.pack)),
        library,
        fronts: Arc::clone(&fronts),
        coming: Default::default(),
        turn: Default::default(),
    };
    let serving = serve(&config, &with, &fronts, &room, &link, pushes);
    let ended = run::until_told(&mut stop, serving, close(&with.agent, &fronts, &room, &link)).await;
    fronts.end();
    ended
}

/// The two sides of fronts: one host's, and the fleet's.
fn with(config: &Config, room: &Arc<EngineRoom>, agent: Arc<Agent>, ca: Arc<Ca>) -> With {
    let host = Side {
        inventory: Arc::clone(&agent.inventory),
        tasks: Arc::clone(&agent.tasks),
        router: agent.router(&agent.inventory, &agent.tasks, &agent.keeper),
    };
    let inventory = room.fleet.inventory();
    let fleet = Side {
        inventory: Arc::clone(inventory),
        tasks: Arc::clone(&room.tasks),
        // The engine of this process answers when this very fleet holds what was done.
        router: agent.router(inventory, &room.tasks, &room.keeper),
    };
    With {
        agent,
        host,
        fleet: Some((fleet, Arc::clone(&room.id_maps))),
        ca,
        metrics: Metrics::new(),
        limits: fronts::limits(config.fronts.len()),
    }
}

/// Brings everything up and serves. Never ends but by a failure.
async fn serve(
    config: &Config,
    with: &With,
    fronts: &Arc<Fronts>,
    room: &Arc<EngineRoom>,
    link: &Link,
    pushes: Pushes,
) -> Result<(), Failure> {
    let agent = &with.agent;
    let figures = config.metrics.listen.map(|listen| with.metrics.serve(listen, agent, fronts));
    let _figures = figures.transpose()?;
    serve_status(agent, room, fronts).await?;
    room.open_doors(config, &link.bus, link.child.as_ref(), &agent.name).await?;
    let desk = CtlDesk {
        room: Arc::clone(room),
        child: link.child.clone(),
        domain: Arc::clone(&agent.domain),
        advertised: advertised(config),
        clock: Arc::clone(&agent.clock),
        ids: Arc::clone(&agent.ids),
        ca: with.ca.pem().to_owned(),
        pushes,
        asking: Arc::new(Semaphore::new(ASKING)),
    };
    Arc::new(desk).open(&link.bus).await.map_err(Failure::other)?;
    agent.connect(&config.targets).await?;
    agent.recover(&with.host.router).await?;
    if let Some((fleet, _)) = &with.fleet {
        resume(&fleet.inventory, &room.take_restored(), &[], &fleet.router, agent.clock.now_ms());
    }
    if config.targets.is_empty() {
        say::notice("the engine is ready; agents join with a token of `hyperglot ctl agent token NAME`");
    } else if room.fleet.inventory().count(union::Kind::Host) == 0 {
        // At the first start nothing is known yet; later what was known last is shown until the hypervisors answer.
        agent.first_facts().await;
    }
    let late = fronts.open(&config.fronts, with).await?;
    announce(agent, fronts, &late);
    fronts.open_late(late, with).await
}

/// Lets clients and commands finish what they began, then closes the bus and stops its server.
async fn close(agent: &Agent, fronts: &Fronts, room: &EngineRoom, link: &Link) {
    fronts.drain(PATIENCE).await;
    agent.owner.drain(PATIENCE).await;
    agent.finish().await;
    agent.stop_publishing().await;
    room.stop().await;
    agent.store.close();
    if let Err(e) = link.bus.drain(Duration::from_secs(2)).await {
        tracing::debug!(error = %e, "the bus was closed before everything was answered");
    }
    if let Some(child) = &link.child {
        child.stop().await;
    }
}

/// The users of an earlier version, and an administrator made at the first start.
async fn first_admin(config: &Config, room: &EngineRoom) -> Result<(), Failure> {
    let file = config.data_dir.join("users.toml");
    let users = Users::open(file).map_err(Failure::other)?;
    let name = std::env::var("HYPERGLOT_ADMIN_USER").ok();
    let password = std::env::var("HYPERGLOT_ADMIN_PASSWORD").ok().map(Secret::new);
    let say = |first: &FirstAdmin| match first {
        FirstAdmin::Generated { name, password } => say::once(format_args!(
            "made the administrator {name} with the password {}  (shown this once)",
            password.expose()
        )),
        _ => Ok(()),
    };
    let made = room.authority.first_admin(Some(&users), name.as_deref(), password, Cost::default(), say);
    let made = made.await.map_err(|e| {
        Failure::Other(format!(
            "cannot make the first administrator: {e} (HYPERGLOT_ADMIN_USER and HYPERGLOT_ADMIN_PASSWORD say who it is)"
        ))
    })?;
    if let FirstAdmin::Given { name } = made {
        say::notice(format_args!(
            "made the administrator {name} with the password from HYPERGLOT_ADMIN_PASSWORD"
        ));
    }
    Ok(())
}

fn default_fronts() -> Vec<FrontConfig> {
    let front = |view, port| FrontConfig {
        protocol: "vsphere".into(),
        view,
        host: None,
        listen: std::net::SocketAddr::from(([127, 0, 0, 1], port)),
        tls: true,
        names: Vec::new(),
    };
    vec![front(ViewKind::Fleet, 8443), front(ViewKind::Host, 8444)]
}

/// Answers `hyperglot status`.
async fn serve_status(
    agent: &Arc<Agent>,
    room: &Arc<EngineRoom>,
    fronts: &Arc<Fronts>,
) -> Result<(), Failure> {
    let (agent, room, fronts) = (Arc::clone(agent), Arc::clone(room), Arc::clone(fronts));
    let bus = Arc::clone(&agent.bus);
    let all = move || {
        let mut status = agent.status(fronts.status());
        status.stores.insert("engine".to_owned(), status::trouble(room.store.health()));
        status
    };
    status::serve(bus, all).await.map_err(Failure::other)
}

/// Says on standard output what is there.
pub fn announce(agent: &Agent, fronts: &Fronts, late: &[&FrontConfig]) {
    for target in agent.targets() {
        let state = if target.connected { "connected" } else { "not responding" };
        say::notice(format_args!("target {} ({}) {state}", target.name, target.protocol));
    }
    let count = agent.inventory.count(union::Kind::Vm);
    say::notice(format_args!(
        "{count} virtual machines on {} hosts",
        agent.inventory.count(union::Kind::Host)
    ));
    for front in fronts.status() {
        let scheme = if front.tls { "https" } else { "http" };
        say::notice(format_args!("{} {} view on {scheme}://{}", front.protocol, front.view, front.listen));
    }
    for front in late {
        let waits = match front.view {
            ViewKind::Fleet => "the fleet view",
            ViewKind::Host => "the host view",
        };
        let host = front.host.as_deref().unwrap_or("the first facts");
        say::notice(format_args!("{waits} on {} waits for {host}", front.listen));
    }
    say::notice("ready");
}
