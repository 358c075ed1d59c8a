//! Starting a front.

use crate::{
    front::{Front, Watch},
    inventory::Catalog,
    keeper::{self, Keeper},
    limits,
    methods::Methods,
    native::Tags,
};
use ::front::{Listener, Sessions, session};
use ::inventory::{Chronicle, IdMap, ObserverGuard, Tasks, View};
use guard::Logins;
use lane::Commands;
use mapping::Bundle;
use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};
use union::{Clock, Ids};

/// Whose words it speaks.
pub(crate) const PROTOCOL: &str = "vsphere";

/// What a front works with.
#[derive(Clone)]
pub struct Deps {
    /// The mappings.
    pub bundle: Arc<Bundle>,
    /// What it shows; the view's name chooses between a vCenter Server (`fleet`) and an ESXi host (`host`).
    pub view: Arc<View>,
    /// Takes commands.
    pub commands: Arc<dyn Commands>,
    /// Answers logins.
    pub logins: Arc<dyn Logins>,
    /// Tasks of the inventory that the view is made from.
    pub tasks: Arc<Tasks>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub ids: Arc<dyn Ids>,
}

impl std::fmt::Debug for Deps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deps").field("view", &self.view).finish_non_exhaustive()
    }
}

/// Why a front did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The mappings.
    #[error("the mappings have no protocol `{PROTOCOL}` with a table [view.{view}]; add mappings/{PROTOCOL}")]
    NoProtocol {
        /// The view's name.
        view: Arc<str>,
    },
}

/// A front at work. Dropping it closes everything at once.
#[derive(Debug)]
pub struct Serving {
    listener: ::front::Serving,
    background: Background,
}

#[derive(Debug)]
struct Background {
    front: Arc<Front>,
    tasks: Vec<tokio::task::AbortHandle>,
}

impl Drop for Background {
    fn drop(&mut self) {
        self.front.sessions.forget_all();
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Serving {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.listener.addr()
    }

    /// What happened in its view, logins among it.
    pub fn chronicle(&self) -> &Arc<Chronicle> {
        &self.background.front.chronicle
    }

    /// Sessions now.
    pub fn sessions(&self) -> usize {
        self.background.front.sessions.list().len()
    }

    /// Takes no more connections, ends waits, lets requests finish for `patience`, and closes.
    pub async fn drain(self, patience: Duration) {
        self.listener.drain(patience).await;
    }
}

/// Starts a front on a bound address, with native ids that are given out anew. Must be called inside a tokio runtime.
pub fn serve(listener: Listener, deps: Deps) -> Result<Serving, ServeError> {
    let natives = Arc::new(IdMap::new(PROTOCOL, deps.view.name()));
    serve_as(listener, deps, natives)
}

/// Starts a front on a bound address, with the native ids of a map that may be durable. Must be called inside a tokio runtime.
pub fn serve_as(listener: Listener, deps: Deps, natives: Arc<IdMap>) -> Result<Serving, ServeError> {
    let front = build_as(deps, *listener.limits(), natives)?;
    front.introduce(&listener.addr().to_string());
    let tasks = vec![
        tokio::spawn(keeper::run(Arc::downgrade(&front))).abort_handle(),
        tokio::spawn(front.sessions.clone().keep_swept()).abort_handle(),
    ];
    tracing::info!(view = %front.catalog.view().name(), addr = %listener.addr(), "the vSphere front listens");
    let service = front.clone();
    let listener = listener.serve(move |request| service.clone().answer(request));
    Ok(Serving { listener, background: Background { front, tasks } })
}

/// What keeps a front told.
pub(crate) struct Watching {
    _inventory: ObserverGuard,
    _chronicle: ObserverGuard,
}

/// A front without a listener, and without a past.
#[cfg(test)]
pub(crate) fn build(deps: Deps, connection: ::front::Limits) -> Result<Arc<Front>, ServeError> {
    let natives = Arc::new(IdMap::new(PROTOCOL, deps.view.name()));
    build_as(deps, connection, natives)
}

/// A front without a listener.
pub(crate) fn build_as(
    deps: Deps,
    connection: ::front::Limits,
    natives: Arc<IdMap>,
) -> Result<Arc<Front>, ServeError> {
    let view = deps.view.name().clone();
    let catalog = Catalog::new(deps.bundle, PROTOCOL, deps.view, natives);
    let catalog = catalog.ok_or(ServeError::NoProtocol { view: view.clone() })?;
    let (chronicle, told) = Chronicle::new(&format!("{PROTOCOL} {view}"), catalog.inventory());
    let settings =
        session::Settings { idle: limits::IDLE, most: limits::SESSIONS, per_user: limits::SESSIONS_OF_USER };
    let front = Arc::new_cyclic(|me| Front {
        tags: Tags::new(catalog.protocol()),
        methods: Methods::new(&catalog),
        sessions: Sessions::new(settings, deps.clock.clone(), deps.logins, PROTOCOL),
        tickets: Default::default(),
        workshop: Default::default(),
        commands: deps.commands,
        tasks: deps.tasks,
        chronicle,
        clock: deps.clock,
        ids: deps.ids,
        keeper: Keeper::default(),
        plans: Default::default(),
        limits: connection,
        watching: OnceLock::new(),
        me: me.clone(),
        catalog,
    });
    let watch = front.catalog.inventory().observe(Arc::new(Watch(Arc::downgrade(&front))));
    // A fresh front: the place is free.
    drop(front.watching.set(Watching { _inventory: watch, _chronicle: told }));
    Ok(front)
}
