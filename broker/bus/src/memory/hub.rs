//! The server of the memory bus: who listens, and whether the link is up.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use super::{MemoryBus, MemoryReply, Permissions};
use crate::queue::DeliveryQueue;
use crate::server::TakenCount;
use crate::{BusError, Message, Pattern, Request};

/// The server of the memory bus. Clones are the same hub.
#[derive(Clone)]
pub struct MemoryHub {
    listeners: Arc<Mutex<Listeners>>,
    /// Counts changes of the link: even is up, odd is down.
    link: Arc<watch::Sender<u64>>,
}

#[derive(Default)]
struct Listeners {
    subscriptions: Vec<Listener<Arc<DeliveryQueue>>>,
    servers: Vec<Listener<(mpsc::Sender<Request>, Arc<TakenCount>)>>,
    connections: u64,
    turn: usize,
}

/// One listener and the connection it belongs to.
struct Listener<T> {
    pattern: Pattern,
    of: u64,
    to: T,
}

impl MemoryHub {
    /// A hub without connections, its link up.
    pub fn new() -> Self {
        Self { listeners: Arc::default(), link: Arc::new(watch::Sender::new(0)) }
    }

    /// A new connection with these permissions.
    pub fn connect(&self, permissions: Permissions) -> MemoryBus {
        let mut listeners = self.listeners.lock();
        listeners.connections += 1;
        MemoryBus::joined(self.clone(), listeners.connections, permissions)
    }

    /// Takes the link down (requests under way fail, nothing is delivered) or up again (every subscription sees
    /// a loss of unknown size, as after a reconnect).
    pub fn set_up(&self, up: bool) {
        let changed = self.link.send_if_modified(|state| {
            let change = up != is_up(*state);
            *state += u64::from(change);
            change
        });
        if changed && up {
            for listener in &self.listeners.lock().subscriptions {
                listener.to.mark_gap();
            }
        }
    }

    pub(super) fn is_up(&self) -> bool {
        is_up(*self.link.borrow())
    }

    /// Ends when the link goes down, counted from now.
    pub(super) fn next_outage(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut link = self.link.subscribe();
        let now = *link.borrow();
        async move {
            if link.wait_for(|state| *state != now || !is_up(*state)).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    pub(super) fn add_subscription(&self, pattern: Pattern, to: Arc<DeliveryQueue>, of: u64) {
        self.listeners.lock().subscriptions.push(Listener { pattern, of, to });
    }

    pub(super) fn add_server(
        &self,
        pattern: Pattern,
        to: mpsc::Sender<Request>,
        taken: Arc<TakenCount>,
        of: u64,
    ) {
        self.listeners.lock().servers.push(Listener { pattern, of, to: (to, taken) });
    }

    /// Delivers to every subscription.
    pub(super) fn publish(&self, message: Message) {
        self.listeners.lock().deliver(&message);
    }

    /// Hands a request to one of its servers (they take turns); subscriptions hear it too.
    pub(super) fn request(
        &self,
        message: Message,
        caller: oneshot::Sender<Result<Message, BusError>>,
    ) -> Result<(), BusError> {
        let mut listeners = self.listeners.lock();
        let heard = listeners.deliver(&message);
        listeners.servers.retain(|server| !server.to.0.is_closed());
        let turn = listeners.turn;
        let serving: Vec<_> =
            listeners.servers.iter().filter(|server| server.pattern.matches(&message.subject)).collect();
        // With listeners but no server, nobody answers: the caller waits until its deadline, as on the real bus.
        let Some(server) = serving.get(turn.checked_rem(serving.len()).unwrap_or(0)) else {
            return if heard { Ok(()) } else { Err(BusError::NoResponders) };
        };
        let (queue, taken) = &server.to;
        let reply = MemoryReply { subject: message.subject.clone(), caller, hub: self.clone() };
        let sent = queue.try_send(reply.request(message, taken));
        listeners.turn = turn.wrapping_add(1);
        sent.map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => BusError::Busy,
            mpsc::error::TrySendError::Closed(_) => BusError::NoResponders,
        })
    }

    /// Ends the servers of one connection: what is queued is still handed out.
    pub(super) fn retire_servers(&self, of: u64) {
        self.listeners.lock().servers.retain(|server| server.of != of);
    }

    /// Ends everything of one connection.
    pub(super) fn leave(&self, of: u64) {
        let mut listeners = self.listeners.lock();
        listeners.servers.retain(|server| server.of != of);
        listeners.subscriptions.retain(|subscription| {
            if subscription.of == of {
                subscription.to.end();
            }
            subscription.of != of
        });
    }
}

impl Listeners {
    /// Gives the message to every subscription it falls under; whether there was one.
    fn deliver(&mut self, message: &Message) -> bool {
        let mut heard = false;
        self.subscriptions.retain(|subscription| !subscription.to.is_abandoned());
        for subscription in &self.subscriptions {
            if subscription.pattern.matches(&message.subject) {
                subscription.to.push(message.clone());
                heard = true;
            }
        }
        heard
    }
}

impl Default for MemoryHub {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryHub").field("up", &self.is_up()).finish_non_exhaustive()
    }
}

fn is_up(state: u64) -> bool {
    state.is_multiple_of(2)
}
