//! Whether the engine is there, and since when not.
//!
//! ```text
//! Away(since) ──a question was answered──▶ Here(epoch) ──beat unanswered, link lost, nobody listens──▶ Away(since)
//! ```

use std::sync::Arc;
use tokio::sync::watch;
use union::Clock;

/// How the engine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It answers; its epoch.
    Here(u64),
    /// It does not, since then (Unix milliseconds).
    Away(i64),
}

/// The engine's state, shared. Begins as away.
#[derive(Clone, Debug)]
pub struct Presence {
    state: Arc<watch::Sender<State>>,
    clock: Arc<dyn Clock>,
}

impl Presence {
    /// Nothing was heard of the engine yet.
    pub fn new(clock: Arc<dyn Clock>) -> Presence {
        let state = State::Away(clock.now_ms());
        Presence { state: Arc::new(watch::Sender::new(state)), clock }
    }

    /// It answered.
    pub fn here(&self, epoch: u64) {
        self.state
            .send_if_modified(|state| std::mem::replace(state, State::Here(epoch)) != State::Here(epoch));
    }

    /// It did not.
    pub fn away(&self) {
        let now = self.clock.now_ms();
        self.state.send_if_modified(|state| match state {
            State::Away(_) => false,
            State::Here(_) => {
                *state = State::Away(now);
                true
            }
        });
    }

    /// How it is now.
    pub fn now(&self) -> State {
        *self.state.borrow()
    }

    /// Whether it is there.
    pub fn is_here(&self) -> bool {
        matches!(self.now(), State::Here(_))
    }

    /// Since when it is away, Unix milliseconds; `None`: it is there.
    pub fn away_since(&self) -> Option<i64> {
        match self.now() {
            State::Here(_) => None,
            State::Away(since) => Some(since),
        }
    }

    /// Waits until it is there; its epoch.
    pub async fn until_here(&self) -> u64 {
        let mut state = self.state.subscribe();
        loop {
            if let State::Here(epoch) = *state.borrow_and_update() {
                return epoch;
            }
            // Fails only when the sender is gone, and we hold it.
            if state.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until it is not the engine that it is now: away, or another life of it.
    pub async fn until_other(&self) {
        let now = self.now();
        let mut state = self.state.subscribe();
        // As above.
        drop(state.wait_for(|state| *state != now).await);
    }

    /// Waits until it is away.
    pub async fn until_away(&self) {
        let mut state = self.state.subscribe();
        // As above.
        drop(state.wait_for(|state| matches!(state, State::Away(_))).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use union::clock::ManualClock;

    #[tokio::test]
    async fn says_since_when_the_engine_is_away() {
        let clock = Arc::new(ManualClock::new(5));
        let presence = Presence::new(clock.clone());
        assert_eq!(presence.now(), State::Away(5));
        presence.here(3);
        assert_eq!(presence.until_here().await, 3);
        clock.advance(Duration::from_millis(10));
        presence.away();
        clock.advance(Duration::from_millis(10));
        presence.away();
        presence.until_away().await;
        assert_eq!((presence.now(), presence.away_since()), (State::Away(15), Some(15)));
    }
}
