//! The native calls, named like the union's commands, and what each does to a VM in each power state.
//!
//! ```text
//!              PowerOn                     Pause
//!   STOPPED ────────────▶ RUNNING ◀──────────────────▶ PAUSED
//!      ▲  ▲                │  │ ▲      Unpause
//!      │  └── PowerOff ────┘  │ └─ PowerOn ─┐
//!      │  ShutdownGuest: later│ Suspend     │
//!      └──── PowerOff ──── SUSPENDED ───────┘     Reset, RebootGuest: RUNNING, booted anew
//! ```

use union::pb::PowerState;

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The VM is in this state at once; `boot`: its guest starts anew.
    Now {
        /// The next state.
        state: PowerState,
        /// Whether the guest starts anew.
        boot: bool,
    },
    /// The guest was asked and will be in this state after the guest's time.
    Guest {
        /// The state to come.
        state: PowerState,
        /// Whether the guest starts anew.
        boot: bool,
    },
}

/// Why a call does nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such call.
    #[error("there is no call `{0}`")]
    NoCall(String),
    /// The VM's state does not allow it.
    #[error("{call} is not possible while the VM is {state}")]
    State {
        /// The call.
        call: String,
        /// The VM's state.
        state: &'static str,
    },
}

/// All calls.
pub const CALLS: &[&str] = &[
    "PowerOn",
    "PowerOff",
    "Suspend",
    "Reset",
    "ShutdownGuest",
    "RebootGuest",
    "StandbyGuest",
    "Pause",
    "Unpause",
];

/// What `call` does to a VM in `state`.
pub fn step(call: &str, state: PowerState) -> Result<Step, Refusal> {
    use PowerState::{Crashed, Paused, Running, Stopped, Suspended};
    if !CALLS.contains(&call) {
        return Err(Refusal::NoCall(call.to_owned()));
    }
    let now = |state, boot| Ok(Step::Now { state, boot });
    match (call, state) {
        ("PowerOn", Stopped | Crashed) => now(Running, true),
        ("PowerOn", Suspended) => now(Running, false),
        ("PowerOff", Running | Paused | Suspended | Crashed) => now(Stopped, false),
        ("Suspend", Running | Paused) => now(Suspended, false),
        ("Reset", Running) => now(Running, true),
        ("ShutdownGuest", Running) => Ok(Step::Guest { state: Stopped, boot: false }),
        ("RebootGuest", Running) => Ok(Step::Guest { state: Running, boot: true }),
        ("StandbyGuest", Running) => Ok(Step::Guest { state: Suspended, boot: false }),
        ("Pause", Running) => now(Paused, false),
        ("Unpause", Paused) => now(Running, false),
        _ => Err(Refusal::State { call: call.to_owned(), state: state.as_str_name() }),
    }
}
