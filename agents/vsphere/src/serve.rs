//! Starting a front.

pub use crate::generation::Swapped;
use crate::{
    front::{Front, Watch},
    generation::Generations,
    inventory::Catalog,
    keeper::Keeper,
    limits,
    methods::Methods,
    native::Tags,
    session::{Data, Ticket},
    task::Results,
};
use ::front::{Listener, Sessions, session};
use ::inventory::{Chronicle, IdMap, ObserverGuard, Tasks, View};
use guard::Logins;
use lane::Commands;
use mapping::Bundle;
use parking_lot::Mutex;
use std::{
    collections::VecDeque,
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

/// Why a front did not start, or did not take a bundle.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The mappings.
    #[error("the mappings have no protocol `{PROTOCOL}` with a table [view.{view}]; add mappings/{PROTOCOL}")]
    NoProtocol {
        /// The view's name.
        view: Arc<str>,
    },
    /// The inventory cannot be shown by them.
    #[error("the mappings cannot be used while this runs: {why}")]
    Misfit {
        /// What is not where it was.
        why: String,
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
    generations: Arc<Generations>,
    tasks: Vec<tokio::task::AbortHandle>,
}

impl Drop for Background {
    fn drop(&mut self) {
        self.generations.common().sessions.forget_all();
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
        &self.background.generations.common().chronicle
    }

    /// Sessions now.
    pub fn sessions(&self) -> usize {
        self.background.generations.common().sessions.list().len()
    }

    /// Sessions that begin from now on use this bundle; those that are live keep theirs for up to 24 h. Must be called inside a tokio
    /// runtime.
    ///
    /// # Errors
    /// [`ServeError`]: the bundle cannot be used; nothing has changed.
    pub fn swap(&self, bundle: Arc<Bundle>) -> Result<Swapped, ServeError> {
        self.background.generations.swap(bundle)
    }

    /// The hash of each bundle in use, the newest last, with the number of its sessions.
    pub fn bundles(&self) -> Vec<(String, usize)> {
        self.background.generations.list()
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
    let (common, bundle) = Common::new(deps, *listener.limits(), natives);
    let generations = Generations::new(common, bundle, listener.addr().to_string())?;
    let tasks = vec![
        tokio::spawn(generations.clone().keep_swept()).abort_handle(),
        tokio::spawn(generations.common().sessions.clone().keep_swept()).abort_handle(),
    ];
    tracing::info!(view = %generations.common().view.name(), addr = %listener.addr(), "the vSphere front listens");
    let service = generations.clone();
    let listener = listener.serve(move |request| service.clone().answer(request));
    Ok(Serving { listener, background: Background { generations, tasks } })
}

/// What all generations of a front share.
pub(crate) struct Common {
    pub(crate) view: Arc<View>,
    pub(crate) natives: Arc<IdMap>,
    pub(crate) sessions: Arc<Sessions<Data>>,
    pub(crate) chronicle: Arc<Chronicle>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) started_ms: i64,
    commands: Arc<dyn Commands>,
    tasks: Arc<Tasks>,
    ids: Arc<dyn Ids>,
    tickets: Arc<Mutex<VecDeque<Ticket>>>,
    results: Arc<Mutex<Results>>,
    limits: ::front::Limits,
    _told: ObserverGuard,
}

impl Common {
    /// For a new front.
    pub(crate) fn new(deps: Deps, connection: ::front::Limits, natives: Arc<IdMap>) -> (Common, Arc<Bundle>) {
        let name = format!("{PROTOCOL} {}", deps.view.name());
        let (chronicle, told) = Chronicle::new(&name, deps.view.inventory());
        let settings = session::Settings {
            idle: limits::IDLE,
            most: limits::SESSIONS,
            per_user: limits::SESSIONS_OF_USER,
        };
        let common = Common {
            sessions: Sessions::new(settings, deps.clock.clone(), deps.logins, PROTOCOL),
            started_ms: deps.clock.now_ms(),
            view: deps.view,
            natives,
            chronicle,
            clock: deps.clock,
            commands: deps.commands,
            tasks: deps.tasks,
            ids: deps.ids,
            tickets: Arc::default(),
            results: Arc::default(),
            limits: connection,
            _told: told,
        };
        (common, deps.bundle)
    }
}

/// A front without a listener.
pub(crate) fn build(common: &Common, bundle: Arc<Bundle>, generation: u64) -> Result<Arc<Front>, ServeError> {
    let view = common.view.name().clone();
    let catalog = Catalog::new(bundle, PROTOCOL, common.view.clone(), common.natives.clone());
    let catalog = catalog.ok_or(ServeError::NoProtocol { view })?;
    let front = Arc::new_cyclic(|me| Front {
        generation,
        tags: Tags::new(catalog.protocol()),
        methods: Methods::new(&catalog),
        sessions: common.sessions.clone(),
        tickets: common.tickets.clone(),
        workshop: Default::default(),
        commands: common.commands.clone(),
        tasks: common.tasks.clone(),
        chronicle: common.chronicle.clone(),
        clock: common.clock.clone(),
        ids: common.ids.clone(),
        keeper: Keeper::default(),
        results: common.results.clone(),
        limits: common.limits,
        watching: OnceLock::new(),
        me: me.clone(),
        catalog,
    });
    let watch = front.catalog.inventory().observe(Arc::new(Watch(Arc::downgrade(&front))));
    // A fresh front: the place is free.
    drop(front.watching.set(watch));
    Ok(front)
}
