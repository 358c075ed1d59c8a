//! The side of the agent: a target that is a process of its own.
//!
//! ```text
//!             connected          synced: everything read
//!   away ───────────────▶ reading ─────────────────────▶ here
//!    ▲ hosts NOT_RESPONDING, facts stay                    │ the connection breaks: calls under way are lost
//!    └─────────────────────────────────────────────────────┘
//! ```

use super::{
    Address, WAITING,
    frame::{self, Body, Call, Empty, Frame},
};
use async_trait::async_trait;
use inventory::{Claims, Inventory, Put, Released};
use lane::{NativeCall, Progress, Target, TargetError};
use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHashSet};
use std::{
    io,
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, timeout_at},
};
use union::{Kind, ObjectId, Record, Value, codec, command::Revision, pb::Connection};

/// The first and the longest pause before it is connected to again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// A question under way.
struct Pending {
    answer: oneshot::Sender<Body>,
    progress: Progress,
}

/// The connection, while there is one.
struct Line {
    out: mpsc::Sender<Vec<u8>>,
    pending: FxHashMap<u64, Pending>,
}

#[derive(Default)]
struct State {
    line: Option<Line>,
    last: u64,
    own: FxHashSet<ObjectId>,
    /// What a connection has told so far, until it has told everything.
    reading: Option<Vec<(ObjectId, Option<Record>)>>,
}

/// A simulated hypervisor in another process, as a target.
pub struct Remote {
    me: Weak<Remote>,
    name: String,
    address: Address,
    inventory: Arc<Inventory>,
    claims: Claims,
    state: Mutex<State>,
    here: watch::Sender<bool>,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote")
            .field("name", &self.name)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Begins to connect to a simulated hypervisor, and does so again whenever the connection breaks. Must be called within a tokio runtime.
pub fn connect(name: &str, address: Address, inventory: &Arc<Inventory>) -> Arc<Remote> {
    let remote = Arc::new_cyclic(|me| Remote {
        me: Weak::clone(me),
        name: name.to_owned(),
        address,
        inventory: Arc::clone(inventory),
        claims: Claims::new(inventory, name),
        state: Mutex::default(),
        here: watch::Sender::new(false),
    });
    tokio::spawn(stay_connected(Weak::clone(&remote.me)));
    let (me, inbox) = (Weak::clone(&remote.me), remote.claims.inbox());
    tokio::spawn(async move {
        while let Some(id) = inbox.next().await {
            let Some(remote) = me.upgrade() else { return };
            let deadline = Instant::now() + Duration::from_secs(5);
            if let Err(error) = remote.reread(id, deadline).await {
                tracing::warn!(%id, %error, "what another target let go of could not be read");
            }
        }
    });
    remote
}

async fn stay_connected(me: Weak<Remote>) {
    let mut pause = PAUSE.0;
    loop {
        let Some(remote) = me.upgrade() else { return };
        let address = remote.address.clone();
        drop(remote);
        let ended = match address {
            Address::Unix(path) => match UnixStream::connect(path).await {
                Ok(stream) => {
                    let (from, to) = stream.into_split();
                    talk(&me, from, to, &mut pause).await
                }
                Err(error) => Err(error),
            },
            Address::Tcp(address) => match TcpStream::connect(address).await {
                Ok(stream) => {
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "small messages may wait");
                    }
                    let (from, to) = stream.into_split();
                    talk(&me, from, to, &mut pause).await
                }
                Err(error) => Err(error),
            },
        };
        let Some(remote) = me.upgrade() else { return };
        remote.hang_up();
        if let Err(error) = ended {
            tracing::debug!(target = remote.name, %error, "the simulated hypervisor is away");
        }
        drop(remote);
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// One connection, from its beginning to its end.
async fn talk(
    me: &Weak<Remote>,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin + Send + 'static,
    pause: &mut Duration,
) -> io::Result<()> {
    let (out, mut queue) = mpsc::channel::<Vec<u8>>(WAITING);
    {
        let Some(remote) = me.upgrade() else { return Ok(()) };
        let mut state = remote.state.lock();
        state.reading = Some(Vec::new());
        state.line = Some(Line { out: out.clone(), pending: FxHashMap::default() });
    }
    let writer = tokio::spawn(async move {
        while let Some(bytes) = queue.recv().await {
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
    drop(out.send(frame::bytes(0, Body::Hello(Empty {}))).await);
    let ended = loop {
        match frame::read(&mut from).await {
            Ok(Some(frame)) => {
                let Some(remote) = me.upgrade() else { break Ok(()) };
                if remote.take(frame) {
                    *pause = PAUSE.0;
                }
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    writer.abort();
    ended
}

impl Remote {
    /// Waits until everything has been read.
    pub async fn synced(&self) {
        let mut here = self.here.subscribe();
        // The sender lives as long as this.
        drop(here.wait_for(|here| *here).await);
    }

    /// Whether it is connected and everything has been read.
    pub fn is_here(&self) -> bool {
        *self.here.borrow()
    }

    /// Takes what the other side says; whether everything has now been read.
    fn take(&self, frame: Frame) -> bool {
        match frame.body {
            Some(Body::Fact(change)) => {
                let Ok(id) = change.object_id.parse::<ObjectId>() else { return false };
                let schema = self.inventory.schema();
                let record =
                    change.record.map(|bytes| codec::decode(schema, schema.kind(id.kind).id, &bytes));
                let Ok(record) = record.transpose() else { return false };
                let mut state = self.state.lock();
                if let Some(reading) = &mut state.reading {
                    reading.push((id, record));
                    return false;
                }
                self.apply(&mut state, vec![(id, record)]);
            }
            Some(Body::Synced(_)) => {
                let mut state = self.state.lock();
                let all = state.reading.take().unwrap_or_default();
                let there: FxHashSet<ObjectId> =
                    all.iter().filter(|(_, record)| record.is_some()).map(|(id, _)| *id).collect();
                let gone = state.own.iter().filter(|id| !there.contains(id)).map(|id| (*id, None));
                let all = gone.collect::<Vec<_>>().into_iter().chain(all).collect();
                self.apply(&mut state, all);
                drop(state);
                self.here.send_replace(true);
                return true;
            }
            Some(Body::Progress(percent)) => {
                let progress =
                    self.pending(|pending| pending.get(&frame.id).map(|p| Arc::clone(&p.progress)));
                if let Some(progress) = progress {
                    progress(u8::try_from(percent).unwrap_or(100));
                }
            }
            Some(answer) => {
                if let Some(pending) = self.pending(|pending| pending.remove(&frame.id)) {
                    // Who asked may have stopped waiting.
                    drop(pending.answer.send(answer));
                }
            }
            None => {}
        }
        false
    }

    fn pending<T>(&self, of: impl FnOnce(&mut FxHashMap<u64, Pending>) -> Option<T>) -> Option<T> {
        self.state.lock().line.as_mut().and_then(|line| of(&mut line.pending))
    }

    /// Puts facts into the inventory, in the order in which they were told.
    fn apply(&self, state: &mut State, facts: Vec<(ObjectId, Option<Record>)>) {
        let mut puts = Vec::with_capacity(facts.len());
        for (id, record) in facts {
            match record {
                Some(record) => {
                    state.own.insert(id);
                    if id.kind != Kind::Vm || self.claims.take(id) {
                        puts.push(Put::Whole(id, record));
                    }
                }
                None => {
                    state.own.remove(&id);
                    if id.kind != Kind::Vm || self.claims.release(id) == Released::Free {
                        puts.push(Put::Remove(id));
                    }
                }
            }
        }
        self.inventory.apply(puts);
    }

    /// The connection is gone: what was under way is lost, and hosts do not respond.
    fn hang_up(&self) {
        let hosts: Vec<ObjectId> = {
            let mut state = self.state.lock();
            state.line = None;
            state.reading = None;
            state.own.iter().filter(|id| id.kind == Kind::Host).copied().collect()
        };
        self.here.send_replace(false);
        if let Some(slot) = self.inventory.schema().slot(Kind::Host, "connection") {
            let gone = Value::from(Connection::NotResponding as i32);
            let puts = hosts.into_iter().map(|host| Put::Slots(host, vec![(slot, gone.clone())]));
            self.inventory.apply(puts.collect());
        }
    }

    /// Asks, and waits for the answer by `deadline`.
    async fn ask(&self, body: Body, deadline: Instant, progress: Progress) -> Result<Body, TargetError> {
        let away = || TargetError::Unreachable(format!("the simulated hypervisor {} is away", self.name));
        let (answer, answered) = oneshot::channel();
        let id = {
            let mut state = self.state.lock();
            if state.reading.is_some() {
                return Err(away());
            }
            state.last += 1;
            let id = state.last;
            let line = state.line.as_mut().ok_or_else(away)?;
            line.out.try_send(frame::bytes(id, body)).map_err(|_| away())?;
            line.pending.insert(id, Pending { answer, progress });
            id
        };
        match timeout_at(deadline, answered).await {
            Ok(Ok(Body::Failed(failure))) => Err(failure.into()),
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(TargetError::Lost("the connection broke".to_owned())),
            Err(_) => {
                self.pending(|pending| pending.remove(&id));
                Err(TargetError::TimedOut)
            }
        }
    }

    fn call(&self, object: ObjectId, call: &NativeCall, deadline: Instant) -> Call {
        let left = deadline.saturating_duration_since(Instant::now());
        let within_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        Call::of(self.inventory.schema(), object, call, within_ms)
    }
}

#[async_trait]
impl Target for Remote {
    fn protocol(&self) -> &str {
        "sim"
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn holds(&self, id: ObjectId) -> bool {
        self.state.lock().own.contains(&id) && (id.kind != Kind::Vm || self.claims.holds(id))
    }

    async fn perform(
        &self,
        object: ObjectId,
        call: &NativeCall,
        deadline: Instant,
        progress: Progress,
    ) -> Result<Value, TargetError> {
        let body = Body::Perform(self.call(object, call, deadline));
        self.ask(body, deadline, progress).await.map(|_| Value::Absent)
    }

    async fn reread(&self, id: ObjectId, deadline: Instant) -> Result<Revision, TargetError> {
        self.ask(Body::Read(id.to_string()), deadline, Arc::new(|_| {})).await?;
        Ok(self.inventory.revision())
    }

    async fn effective(
        &self,
        object: ObjectId,
        call: &NativeCall,
        deadline: Instant,
    ) -> Result<Option<bool>, TargetError> {
        let body = Body::Effective(self.call(object, call, deadline));
        match self.ask(body, deadline, Arc::new(|_| {})).await? {
            Body::Effect(1) => Ok(Some(true)),
            Body::Effect(2) => Ok(Some(false)),
            _ => Ok(None),
        }
    }
}
