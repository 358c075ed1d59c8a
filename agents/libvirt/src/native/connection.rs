//! One connection: calls in flight, replies in any order, events, keepalive.
//!
//! ```text
//!  call ──▶ waiting (≤ WAITING) ──▶ in flight (≤ IN_FLIGHT) ──reply──▶ Ok | Native
//!              │ deadline: TimedOut{sent: false}   │ deadline: TimedOut{sent: true}; its place stays taken until the reply comes
//!              └ connection ends: NotSent          └ connection ends: Lost
//!
//!  open ── end of stream, bad packet, silence for `lost_after` ──▶ closed, with a reason; a closed connection stays so
//! ```

use super::{
    KEEPALIVE, REMOTE,
    call::{CallError, NativeError},
    transport::Stream,
};
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch},
    time::{Instant, timeout, timeout_at},
};
use tokio_util::task::AbortOnDropHandle;
use wire::xdr::{
    self, Header, Packet, PacketKind, Procedure, ProcedureKind, Schema, Status, Struct, XdrValue,
};

/// Calls in flight on one connection: libvirtd's `max_client_requests`.
pub const IN_FLIGHT: usize = 5;
/// Calls that may wait for one of those.
pub const WAITING: usize = 1024;
/// Bytes of packets that are written at once, about.
const TOGETHER: usize = 16 << 10;
/// Events received and not yet read.
pub const EVENTS: usize = 4096;

/// How a connection notices that its server is gone.
#[derive(Clone, Copy, Debug)]
pub struct Keepalive {
    /// After so long without a byte, ask for one.
    pub ask_after: Duration,
    /// After so long without a byte, the server is gone.
    pub lost_after: Duration,
}

impl Default for Keepalive {
    fn default() -> Keepalive {
        Keepalive { ask_after: Duration::from_secs(5), lost_after: Duration::from_secs(20) }
    }
}

/// An event of the server.
#[derive(Clone, Debug)]
pub struct Event {
    /// Which procedure it is.
    pub procedure: Arc<Procedure>,
    /// Its payload.
    pub body: XdrValue,
}

/// An open connection; cheap to clone. The last clone to go closes it.
#[derive(Clone)]
pub struct Connection {
    shared: Arc<Shared>,
    _tasks: Arc<[AbortOnDropHandle<()>; 2]>,
}

/// Hears events as they come.
type Listener = Box<dyn Fn(&Event) + Send + Sync>;

struct Shared {
    schema: Arc<Schema>,
    outgoing: mpsc::Sender<Bytes>,
    pending: Mutex<Pending>,
    slots: Arc<Semaphore>,
    waiting: AtomicUsize,
    events_lost: AtomicBool,
    listener: OnceLock<Listener>,
    closed: watch::Sender<Option<Arc<str>>>,
    keepalive: watch::Sender<Option<Keepalive>>,
}

#[derive(Default)]
struct Pending {
    serial: u32,
    calls: FxHashMap<u32, Waiter>,
}

/// A call in flight; its place is free again when this is dropped.
struct Waiter {
    procedure: Arc<Procedure>,
    reply: oneshot::Sender<Result<XdrValue, CallError>>,
    _slot: OwnedSemaphorePermit,
}

impl Connection {
    /// Starts reading and writing `stream`. Events arrive in the receiver.
    pub fn start(stream: Box<dyn Stream>, schema: Arc<Schema>) -> (Connection, mpsc::Receiver<Event>) {
        let (read, write) = tokio::io::split(stream);
        let (outgoing, queue) = mpsc::channel(IN_FLIGHT + 8);
        let (events, receiver) = mpsc::channel(EVENTS);
        let shared = Arc::new(Shared {
            schema,
            outgoing,
            pending: Mutex::new(Pending::default()),
            slots: Arc::new(Semaphore::new(IN_FLIGHT)),
            waiting: AtomicUsize::new(0),
            events_lost: AtomicBool::new(false),
            listener: OnceLock::new(),
            closed: watch::Sender::new(None),
            keepalive: watch::Sender::new(None),
        });
        let tasks = [
            AbortOnDropHandle::new(tokio::spawn(receive(read, shared.clone(), events))),
            AbortOnDropHandle::new(tokio::spawn(send(write, shared.clone(), queue))),
        ];
        (Connection { shared, _tasks: Arc::new(tasks) }, receiver)
    }

    /// Asks and waits for the answer, at most until `deadline`. `procedure` is the name without `REMOTE_PROC_`; for fields not given
    /// see [`xdr::record`].
    ///
    /// # Errors
    /// As [`CallError`] tells.
    pub async fn call(
        &self,
        procedure: &str,
        args: Vec<(&str, XdrValue)>,
        deadline: Instant,
    ) -> Result<XdrValue, CallError> {
        let found = self.procedure(procedure)?;
        let mut payload = BytesMut::new();
        let bad = |cause| CallError::Arguments { procedure: procedure.to_owned(), cause };
        if let Some(of) = &found.args {
            let value = xdr::record(of, args).map_err(bad)?;
            xdr::encode(of, &value, &mut payload).map_err(bad)?;
        }
        self.exchange(found, &payload, deadline).await
    }

    /// The procedure called `name`, without `REMOTE_PROC_`.
    ///
    /// # Errors
    /// [`CallError::NoProcedure`].
    pub fn procedure(&self, name: &str) -> Result<Arc<Procedure>, CallError> {
        let found = self.shared.schema.procedure_named(&format!("REMOTE_PROC_{name}"));
        found.cloned().ok_or_else(|| CallError::NoProcedure(name.to_owned()))
    }

    /// Makes a call whose args are a struct already, or none.
    ///
    /// # Errors
    /// As [`Connection::call`].
    pub async fn perform(
        &self,
        procedure: Arc<Procedure>,
        args: Option<XdrValue>,
        deadline: Instant,
    ) -> Result<XdrValue, CallError> {
        let mut payload = BytesMut::new();
        if let Some((of, value)) = procedure.args.as_ref().zip(args.as_ref()) {
            xdr::encode(of, value, &mut payload)
                .map_err(|cause| CallError::Arguments { procedure: procedure.name.to_string(), cause })?;
        }
        self.exchange(procedure, &payload, deadline).await
    }

    async fn exchange(
        &self,
        procedure: Arc<Procedure>,
        payload: &[u8],
        deadline: Instant,
    ) -> Result<XdrValue, CallError> {
        let name = procedure.name.clone();
        let timed_out = |sent| CallError::TimedOut { procedure: name.to_string(), sent };
        let slot = self.slot(deadline, &name).await?;
        let (reply, answer) = oneshot::channel();
        let serial = self.register(Waiter { procedure: procedure.clone(), reply, _slot: slot })?;
        let header = Header {
            program: procedure.program,
            version: procedure.version,
            procedure: procedure.number,
            kind: PacketKind::Call,
            serial,
            status: Status::Ok,
        };
        let mut packet = BytesMut::new();
        if let Err(error) = xdr::put_packet(&header, payload, &mut packet) {
            self.shared.pending.lock().calls.remove(&serial);
            return Err(CallError::NotSent(error.to_string()));
        }
        let unsent = match timeout_at(deadline, self.shared.outgoing.send(packet.freeze())).await {
            Ok(Ok(())) => None,
            Ok(Err(_)) => Some(CallError::NotSent(self.reason())),
            Err(_) => Some(timed_out(false)),
        };
        if let Some(error) = unsent {
            self.shared.pending.lock().calls.remove(&serial);
            return Err(error);
        }
        match timeout_at(deadline, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(CallError::Lost(self.reason())),
            Err(_) => Err(timed_out(true)),
        }
    }

    /// Waits for one of the places in flight.
    async fn slot(&self, deadline: Instant, name: &str) -> Result<OwnedSemaphorePermit, CallError> {
        if let Ok(slot) = self.shared.slots.clone().try_acquire_owned() {
            return Ok(slot);
        }
        let _waiting = Waiting::enter(&self.shared.waiting)?;
        match timeout_at(deadline, self.shared.slots.clone().acquire_owned()).await {
            Ok(Ok(slot)) => Ok(slot),
            Ok(Err(_)) => Err(CallError::NotSent(self.reason())),
            Err(_) => Err(CallError::TimedOut { procedure: name.to_owned(), sent: false }),
        }
    }

    fn register(&self, waiter: Waiter) -> Result<u32, CallError> {
        let mut pending = self.shared.pending.lock();
        if let Some(reason) = self.closed() {
            return Err(CallError::NotSent(reason.to_string()));
        }
        let mut serial = pending.serial;
        while pending.calls.contains_key(&serial) {
            serial = serial.wrapping_add(1);
        }
        pending.serial = serial.wrapping_add(1);
        pending.calls.insert(serial, waiter);
        Ok(serial)
    }

    /// Free places in flight.
    pub fn free(&self) -> usize {
        self.shared.slots.available_permits()
    }

    /// Why it is closed; `None`: it is open.
    pub fn closed(&self) -> Option<Arc<str>> {
        self.shared.closed.borrow().clone()
    }

    /// Waits until it is closed and says why.
    pub async fn ended(&self) -> Arc<str> {
        let mut closed = self.shared.closed.subscribe();
        match closed.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_else(|| Arc::from("closed")),
            Err(_) => Arc::from("closed"),
        }
    }

    /// Whether events were lost since the last time this was asked.
    pub fn take_events_lost(&self) -> bool {
        self.shared.events_lost.swap(false, Ordering::AcqRel)
    }

    /// Has every event told at once, before any packet behind it is looked at; must be quick. Only the first listener counts.
    pub fn listen(&self, listener: impl Fn(&Event) + Send + Sync + 'static) {
        if self.shared.listener.set(Box::new(listener)).is_err() {
            tracing::error!("a connection has its listener already");
        }
    }

    /// Watches over the server from now on.
    pub fn keep_alive(&self, keepalive: Keepalive) {
        self.shared.keepalive.send_replace(Some(keepalive));
    }

    /// Closes it; calls in flight are lost.
    pub fn close(&self, reason: &str) {
        self.shared.close(reason);
    }

    fn reason(&self) -> String {
        self.closed().map_or_else(|| "the connection is closed".to_owned(), |r| r.to_string())
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Result<Waiting<'a>, CallError> {
        let entered = Waiting(count);
        match count.fetch_add(1, Ordering::AcqRel) {
            before if before < WAITING => Ok(entered),
            before => Err(CallError::Busy(before)),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Shared {
    fn close(&self, reason: &str) {
        let calls = {
            let mut pending = self.pending.lock();
            let first = self.closed.send_if_modified(|closed| {
                let first = closed.is_none();
                closed.get_or_insert_with(|| Arc::from(reason));
                first
            });
            if !first {
                return;
            }
            std::mem::take(&mut pending.calls)
        };
        for (_, waiter) in calls {
            // A caller that is gone needs no answer.
            drop(waiter.reply.send(Err(CallError::Lost(reason.to_owned()))));
        }
        self.slots.close();
    }

    /// Gives a reply to its caller; `false`: the packet makes no sense here.
    fn answer(&self, packet: &Packet) {
        let Some(waiter) = self.pending.lock().calls.remove(&packet.header.serial) else {
            tracing::debug!(serial = packet.header.serial, "a reply to no call");
            return;
        };
        let procedure = &waiter.procedure;
        let unreadable = |cause| CallError::Reply { procedure: procedure.name.to_string(), cause };
        let answer = match packet.header.status {
            Status::Ok => match &procedure.ret {
                Some(of) => xdr::decode(of, &packet.payload).map_err(unreadable),
                None => Ok(XdrValue::NONE),
            },
            Status::Error | Status::Continue => match self.error_struct() {
                Some(of) => xdr::decode(of, &packet.payload)
                    .map_err(unreadable)
                    .and_then(|value| Err(NativeError::from_value(&value).into())),
                None => Err(CallError::NoProcedure("remote_error".into())),
            },
        };
        drop(waiter.reply.send(answer));
    }

    fn error_struct(&self) -> Option<&Arc<Struct>> {
        self.schema.structure("remote_error")
    }

    /// An event for the reader; one that is lost is remembered, so that the reader looks at everything again.
    fn event(&self, packet: &Packet, events: &mpsc::Sender<Event>) {
        let procedure = self.schema.procedure(packet.header.program, packet.header.procedure);
        let Some(procedure) = procedure.filter(|p| p.kind == ProcedureKind::Event) else {
            tracing::debug!(procedure = packet.header.procedure, "a message that is no event known here");
            return;
        };
        let Some(of) = &procedure.args else { return };
        let delivered = match xdr::decode(of, &packet.payload) {
            Ok(body) => {
                let event = Event { procedure: procedure.clone(), body };
                if let Some(listener) = self.listener.get() {
                    listener(&event);
                }
                events.try_send(event).is_ok()
            }
            Err(error) => {
                tracing::warn!(procedure = %procedure.name, %error, "an event that cannot be read");
                false
            }
        };
        if !delivered {
            self.events_lost.store(true, Ordering::Release);
        }
    }
}

async fn send(mut stream: WriteHalf<Box<dyn Stream>>, shared: Arc<Shared>, mut queue: mpsc::Receiver<Bytes>) {
    let mut closed = shared.closed.subscribe();
    let mut together = Vec::new();
    loop {
        let packet = tokio::select! {
            _ = closed.wait_for(Option::is_some) => break,
            packet = queue.recv() => packet,
        };
        let Some(packet) = packet else { break };
        together.clear();
        together.extend_from_slice(&packet);
        // What was asked at the same time travels together.
        while together.len() < TOGETHER
            && let Ok(next) = queue.try_recv()
        {
            together.extend_from_slice(&next);
        }
        if let Err(error) = stream.write_all(&together).await {
            shared.close(&format!("writing failed: {error}"));
            break;
        }
        together.shrink_to(TOGETHER);
        // A TLS stream keeps what it is not told to send.
        if let Err(error) = stream.flush().await {
            shared.close(&format!("writing failed: {error}"));
            break;
        }
    }
    // The other side sees the end; it may be gone already.
    drop(stream.shutdown().await);
}

async fn receive(mut stream: ReadHalf<Box<dyn Stream>>, shared: Arc<Shared>, events: mpsc::Sender<Event>) {
    let reason = read_packets(&mut stream, &shared, &events).await;
    shared.close(&reason);
}

/// Reads until the connection ends; says why it did.
async fn read_packets(
    stream: &mut ReadHalf<Box<dyn Stream>>,
    shared: &Shared,
    events: &mpsc::Sender<Event>,
) -> String {
    let mut buffer = BytesMut::new();
    let mut keepalive = shared.keepalive.subscribe();
    let mut closed = shared.closed.subscribe();
    let mut silent = Duration::ZERO;
    loop {
        let patience = keepalive.borrow_and_update().map(|k| (k.ask_after, k.lost_after));
        let wait = patience.map_or(Duration::from_secs(3600), |(ask, _)| ask);
        buffer.reserve(16 << 10);
        let read = tokio::select! {
            _ = closed.wait_for(Option::is_some) => return "closed".into(),
            _ = keepalive.changed() => continue,
            read = timeout(wait, stream.read_buf(&mut buffer)) => read,
        };
        match read {
            Ok(Ok(0)) => return "libvirtd closed the connection".into(),
            Ok(Ok(_)) => silent = Duration::ZERO,
            Ok(Err(error)) => return format!("reading failed: {error}"),
            Err(_) => {
                silent += wait;
                if let Some((_, lost)) = patience.filter(|(_, lost)| silent >= *lost) {
                    return format!("libvirtd was silent for {} s", lost.as_secs());
                }
                if patience.is_some() {
                    keepalive_packet(shared, 1);
                }
            }
        }
        loop {
            match xdr::take_packet(&mut buffer) {
                Ok(Some(packet)) => dispatch(shared, events, &packet),
                Ok(None) => break,
                Err(error) => return format!("libvirtd sent {error}"),
            }
        }
    }
}

fn dispatch(shared: &Shared, events: &mpsc::Sender<Event>, packet: &Packet) {
    match (packet.header.program, packet.header.kind) {
        (KEEPALIVE, PacketKind::Message) if packet.header.procedure == 1 => keepalive_packet(shared, 2),
        (KEEPALIVE, _) => {}
        (REMOTE, PacketKind::Reply) => shared.answer(packet),
        (_, PacketKind::Message) => shared.event(packet, events),
        (_, PacketKind::Reply) => shared.answer(packet),
        (program, kind) => tracing::debug!(program, ?kind, "a packet of no use here"),
    }
}

/// Ping is procedure 1, pong 2.
fn keepalive_packet(shared: &Shared, procedure: i32) {
    let header = Header {
        program: KEEPALIVE,
        version: 1,
        procedure,
        kind: PacketKind::Message,
        serial: 0,
        status: Status::Ok,
    };
    let mut packet = BytesMut::new();
    if xdr::put_packet(&header, &[], &mut packet).is_ok() {
        // A full queue is traffic enough.
        drop(shared.outgoing.try_send(packet.freeze()));
    }
}
