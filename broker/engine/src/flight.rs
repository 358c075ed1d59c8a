//! Commands under way in this life of the engine.
//!
//! ```text
//! join(id) ─▶ here already: its flight │ new: on the list, until landed(outcome)
//! ```

use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHashSet};
use std::{collections::VecDeque, sync::Arc};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use union::{CommandId, ObjectId, command::Outcome};

/// One command.
#[derive(Clone, Debug)]
pub(crate) struct Flight {
    /// A hash of all it says.
    pub digest: [u8; 32],
    /// The agent that submitted it.
    pub from: Arc<str>,
    /// On what.
    pub object: ObjectId,
    /// Its end.
    pub outcome: watch::Receiver<Option<Outcome>>,
    /// Cancelled when its caller no longer wants it.
    pub cancelled: CancellationToken,
    /// The owner it was sent to.
    pub owner: Arc<Mutex<Option<Arc<str>>>>,
}

/// The other end of a flight.
#[derive(Debug)]
pub(crate) struct Landing {
    id: CommandId,
    flights: Arc<Flights>,
    outcome: watch::Sender<Option<Outcome>>,
    pub cancelled: CancellationToken,
    pub owner: Arc<Mutex<Option<Arc<str>>>>,
}

/// What [`Flights::join`] found.
pub(crate) enum Joined {
    /// It is under way.
    Known(Flight),
    /// It is new.
    New(Flight, Landing),
    /// It was asked about and never seen, which was taken as its end.
    Fenced,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    flights: FxHashMap<CommandId, Flight>,
    fenced: FxHashSet<CommandId>,
    order: VecDeque<CommandId>,
}

impl Flights {
    pub fn join(
        self: &Arc<Self>,
        id: CommandId,
        digest: [u8; 32],
        from: &Arc<str>,
        object: ObjectId,
    ) -> Joined {
        let mut state = self.state.lock();
        if let Some(flight) = state.flights.get(&id) {
            return Joined::Known(flight.clone());
        }
        if state.fenced.contains(&id) {
            return Joined::Fenced;
        }
        let (sender, receiver) = watch::channel(None);
        let (cancelled, owner) = (CancellationToken::new(), Arc::default());
        let flight = Flight {
            digest,
            from: Arc::clone(from),
            object,
            outcome: receiver,
            cancelled: cancelled.clone(),
            owner: Arc::clone(&owner),
        };
        state.flights.insert(id, flight.clone());
        let landing = Landing { id, flights: Arc::clone(self), outcome: sender, cancelled, owner };
        Joined::New(flight, landing)
    }

    pub fn get(&self, id: CommandId) -> Option<Flight> {
        self.state.lock().flights.get(&id).cloned()
    }

    /// Refuses a command that is not here, should it come.
    pub fn fence(&self, id: CommandId, most: usize) -> bool {
        let mut state = self.state.lock();
        if state.flights.contains_key(&id) {
            return false;
        }
        if state.fenced.insert(id) {
            state.order.push_back(id);
        }
        while state.order.len() > most {
            if let Some(oldest) = state.order.pop_front() {
                state.fenced.remove(&oldest);
            }
        }
        true
    }

    pub fn count(&self) -> usize {
        self.state.lock().flights.len()
    }
}

impl Landing {
    /// It ended so: whoever waits is told.
    pub fn tell(&self, outcome: Outcome) {
        self.outcome.send_replace(Some(outcome));
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.flights.state.lock().flights.remove(&self.id);
    }
}
