//! How late this process is with what is due, and how many commands may be under way for that.
//!
//! Who has taken on more than can be done lets everybody wait: every command shares the runtime of the work with all others, and the
//! processors with those who are refused or read. So while many commands are under way a beat is due every [`limits::PULSE`] in the runtime
//! of the work, and how late it comes is how long anything there waits for a turn.
//!
//! ```text
//!  at rest ─ more than limits::FLOOR under way ─▶ beating ─┬─ late, and smoothed, > limits::LATE ─▶ a quarter fewer than are under way,
//!     ▲                                                    │                                          never fewer than the floor
//!     │                                                    └─ in time ─▶ limits::STEP more, up to the whole
//!     └─ no more than the floor under way, the whole is free again ◀───────┘
//! ```
//! A beat that is due for so long and has not come counts at once: until it comes the floor holds. A process with little under way never
//! beats and refuses nobody, however busy its machine is. Reads do not come here.

use super::room::Room;
use crate::limits;
use parking_lot::Mutex;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

#[derive(Debug, Default)]
struct State {
    /// When the next beat is due; `None`: at rest.
    due: Option<Instant>,
    /// How late beats come, smoothed.
    late: Duration,
}

/// Measures how late this process is, for rooms whose commands are its work.
#[derive(Debug)]
pub(super) struct Pulse {
    rooms: [Arc<Room>; 2],
    state: Mutex<State>,
}

impl Pulse {
    /// At rest.
    pub(super) fn new(rooms: [Arc<Room>; 2]) -> Arc<Pulse> {
        Arc::new(Pulse { rooms, state: Mutex::default() })
    }

    /// Whether a beat is missing for longer than one may be late.
    pub(super) fn is_overdue(&self) -> bool {
        let due = self.state.lock().due;
        due.is_some_and(|due| Instant::now() > due + limits::LATE)
    }

    /// Beats from now on if a room has many under way. Call it when one more was taken on; within a runtime.
    pub(super) fn feel(self: &Arc<Pulse>) {
        if self.rooms.iter().all(|room| room.under_way() <= limits::FLOOR) {
            return;
        }
        let mut state = self.state.lock();
        if state.due.is_none() {
            let due = Instant::now() + limits::PULSE;
            *state = State { due: Some(due), late: Duration::ZERO };
            tokio::spawn(Arc::clone(self).run(due));
        }
    }

    async fn run(self: Arc<Pulse>, first: Instant) {
        let mut next = Some(first);
        while let Some(due) = next {
            tokio::time::sleep_until(due).await;
            self.beat(due.elapsed());
            next = self.next();
        }
    }

    /// When the next beat is due; `None`: it rests from now on.
    fn next(&self) -> Option<Instant> {
        let mut state = self.state.lock();
        let calm = self.rooms.iter().all(|room| room.under_way() <= limits::FLOOR && room.is_whole());
        state.due = (!calm).then(|| Instant::now() + limits::PULSE);
        state.due
    }

    /// A beat that came so late.
    fn beat(&self, late: Duration) {
        let smoothed = {
            let mut state = self.state.lock();
            state.late = (state.late + late) / 2;
            state.late
        };
        for room in &self.rooms {
            if late.min(smoothed) > limits::LATE {
                room.narrow();
            } else if late.max(smoothed) <= limits::LATE {
                room.widen();
            }
        }
    }
}

#[cfg(test)]
mod tests;
