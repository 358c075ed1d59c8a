//! The side of the hypervisor.

use super::{
    Address, CALLS, Config, ServeError, WAITING,
    frame::{self, Body, Call, Empty},
};
use crate::world::World;
use lane::{Progress, TargetError};
use parking_lot::Mutex;
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, UnixListener},
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;
use union::{Clock, Ids, ObjectId, Schema, codec, pb};

/// The longest that a look takes.
const LONG: Duration = Duration::from_secs(60);

enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// A simulated hypervisor that can be connected to.
pub struct Server {
    listener: Listener,
    address: Address,
    hub: Arc<Hub>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

/// One connected agent.
struct Watcher {
    out: mpsc::Sender<Vec<u8>>,
    /// Dropped or changed: the connection ends.
    cut: watch::Sender<bool>,
}

/// What all connections share.
struct Hub {
    world: Arc<World>,
    schema: Arc<Schema>,
    /// Facts are encoded and queued under this lock, so that what was true earlier never comes later.
    watchers: Mutex<Vec<Arc<Watcher>>>,
}

impl Hub {
    fn fact(&self, id: ObjectId) -> Body {
        let record = self.world.record(id).map(|record| codec::encode(&self.schema, &record));
        Body::Fact(pb::Change { object_id: id.to_string(), record, ..pb::Change::default() })
    }

    /// Tells an object as it is now to everybody.
    fn publish(&self, id: ObjectId) {
        let watchers = self.watchers.lock();
        let bytes = frame::bytes(0, self.fact(id));
        watchers.iter().for_each(|watcher| watcher.send(bytes.clone()));
    }

    /// Tells everything to one who then is told every change.
    fn welcome(&self, watcher: &Arc<Watcher>) {
        let mut watchers = self.watchers.lock();
        let mut all = Vec::new();
        for (id, _) in self.world.objects() {
            all.extend(frame::bytes(0, self.fact(id)));
        }
        all.extend(frame::bytes(0, Body::Synced(Empty {})));
        watcher.send(all);
        watchers.push(Arc::clone(watcher));
    }
}

impl Watcher {
    /// Queues bytes; who has too many waiting is cut off.
    fn send(&self, bytes: Vec<u8>) {
        if self.out.try_send(bytes).is_err() {
            self.cut.send_replace(true);
        }
    }
}

/// Sets a simulated hypervisor up and serves it until it is dropped; `ready` is told where once it can be connected to.
///
/// # Errors
/// It cannot be set up or listened to.
pub async fn serve(
    config: Config,
    clock: &Arc<dyn Clock>,
    ids: &Arc<dyn Ids>,
    ready: impl FnOnce(&Address),
) -> Result<(), ServeError> {
    let schema = Schema::base();
    let world = World::open(config.world, &schema, clock, ids)?;
    let server = Server::bind(&config.listen, world, schema).await?;
    ready(server.address());
    server.run().await;
    Ok(())
}

impl Server {
    /// Listens. A socket file that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// The address is taken or cannot be used.
    pub async fn bind(
        listen: &Address,
        world: Arc<World>,
        schema: Arc<Schema>,
    ) -> Result<Server, ServeError> {
        let failed = |source| ServeError::Listen { address: listen.clone(), source };
        let (listener, address) = match listen {
            Address::Tcp(address) => {
                let listener = TcpListener::bind(address).await.map_err(failed)?;
                let address = listener.local_addr().map_err(failed)?;
                (Listener::Tcp(listener), Address::Tcp(address))
            }
            Address::Unix(path) => {
                if std::os::unix::net::UnixStream::connect(path)
                    .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
                {
                    std::fs::remove_file(path).map_err(failed)?;
                }
                let listener = UnixListener::bind(path).map_err(failed)?;
                let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
                std::fs::set_permissions(path, owner_only).map_err(failed)?;
                (Listener::Unix(listener), listen.clone())
            }
        };
        let hub = Arc::new(Hub { world, schema, watchers: Mutex::default() });
        let weak = Arc::downgrade(&hub);
        hub.world.tell_to(Arc::new(move |id| {
            if let Some(hub) = weak.upgrade() {
                hub.publish(id);
            }
        }));
        Ok(Server { listener, address, hub })
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Serves for ever; dropped, it cuts its connections.
    pub async fn run(self) {
        let mut connections = JoinSet::new();
        loop {
            let hub = Arc::clone(&self.hub);
            let accepted = match &self.listener {
                Listener::Unix(listener) => listener.accept().await.map(|(stream, _)| {
                    let (from, to) = stream.into_split();
                    connections.spawn(connection(hub, from, to));
                }),
                Listener::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "small messages may wait");
                    }
                    let (from, to) = stream.into_split();
                    connections.spawn(connection(hub, from, to));
                }),
            };
            while connections.try_join_next().is_some() {}
            if let Err(error) = accepted {
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Takes a connection that ended, however it did, off those that are told changes.
struct Leaves(Arc<Hub>, Arc<Watcher>);

impl Drop for Leaves {
    fn drop(&mut self) {
        self.0.watchers.lock().retain(|other| !Arc::ptr_eq(other, &self.1));
    }
}

async fn connection(
    hub: Arc<Hub>,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin + Send + 'static,
) {
    let (out, mut queue) = mpsc::channel::<Vec<u8>>(WAITING);
    let (cut, mut is_cut) = watch::channel(false);
    let watcher = Arc::new(Watcher { out, cut });
    let writer = AbortOnDropHandle::new(tokio::spawn(async move {
        while let Some(bytes) = queue.recv().await {
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    }));
    let _leaves = Leaves(Arc::clone(&hub), Arc::clone(&watcher));
    let calls = Arc::new(Semaphore::new(CALLS));
    loop {
        let next = tokio::select! {
            next = frame::read(&mut from) => next,
            _ = is_cut.wait_for(|cut| *cut) => break,
        };
        let (id, body) = match next {
            Ok(Some(frame::Frame { id, body: Some(body) })) => (id, body),
            Ok(Some(_)) => continue,
            Ok(None) => break,
            Err(error) => {
                tracing::warn!(%error, "a connection broke");
                break;
            }
        };
        match body {
            Body::Hello(_) => hub.welcome(&watcher),
            question => {
                let Ok(permit) = Arc::clone(&calls).try_acquire_owned() else {
                    let busy = TargetError::Unreachable(format!("{CALLS} calls are under way"));
                    watcher.send(frame::bytes(id, Body::Failed(busy.into())));
                    continue;
                };
                // It goes on when who asked is gone.
                let (hub, watcher) = (Arc::clone(&hub), Arc::clone(&watcher));
                tokio::spawn(async move {
                    answer(&hub, &watcher, id, question).await;
                    drop(permit);
                });
            }
        }
    }
    drop(writer);
}

async fn answer(hub: &Hub, watcher: &Arc<Watcher>, id: u64, question: Body) {
    let schema = &*hub.schema;
    let until = |call: &Call| Instant::now() + Duration::from_millis(call.within_ms.min(3_600_000));
    let step = |call: &Call| {
        let unread = || TargetError::Unsupported("a call that cannot be read".to_owned());
        call.step(schema).ok_or_else(unread)
    };
    let body = match question {
        Body::Perform(call) => {
            let progress: Progress = {
                let watcher = Arc::clone(watcher);
                Arc::new(move |percent| {
                    watcher.send(frame::bytes(id, Body::Progress(u32::from(percent))));
                })
            };
            match step(&call) {
                Ok(step) => hub.world.perform(step.object, &step.call, until(&call), progress).await,
                Err(error) => Err(error),
            }
            .map_or_else(|error| Body::Failed(error.into()), |_| Body::Done(Empty {}))
        }
        Body::Effective(call) => {
            let told = match (step(&call), hub.world.look(until(&call)).await) {
                (Ok(step), Ok(())) => Ok(hub.world.effective(step.object, &step.call)),
                (Err(error), _) | (_, Err(error)) => Err(error),
            };
            match told {
                Ok(told) => Body::Effect(told.map_or(0, |so| if so { 1 } else { 2 })),
                Err(error) => Body::Failed(error.into()),
            }
        }
        // Who asks stops waiting by itself.
        Body::Read(object) => match (object.parse(), hub.world.look(Instant::now() + LONG).await) {
            (Ok(object), Ok(())) => {
                let _order = hub.watchers.lock();
                watcher.send(frame::bytes(0, hub.fact(object)));
                watcher.send(frame::bytes(id, Body::Done(Empty {})));
                return;
            }
            (Ok(_), Err(error)) => Body::Failed(error.into()),
            (Err(bad), _) => Body::Failed(TargetError::Unsupported(bad.to_string()).into()),
        },
        other => Body::Failed(TargetError::Unsupported(format!("{other:?}")).into()),
    };
    watcher.send(frame::bytes(id, body));
}
