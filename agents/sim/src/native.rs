//! The native calls, named like the union's commands, and what each does to a VM in each power state.
//!
//! ```text
//!              PowerOn                     Pause
//!   STOPPED ────────────▶ RUNNING ◀──────────────────▶ PAUSED
//!      ▲  ▲                │  │ ▲      Unpause
//!      │  └── PowerOff ────┘  │ └─ PowerOn ─┐
//!      │  ShutdownGuest: later│ Suspend     │
//!      └──── PowerOff ──── SUSPENDED ───────┘     Reset, RebootGuest: RUNNING, booted anew
//!
//!   CreateVm ─▶ STOPPED ─▶ DestroyVm      Reconfigure, RenameVm, MarkAsTemplate, MarkAsVm: see `world::change`
//! ```

use union::pb::PowerState;

/// What a call does to a VM's power.
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
    /// There is no such VM.
    #[error("{0} is not possible: there is no such VM")]
    Gone(String),
    /// The VM's state does not allow it.
    #[error("{call} is not possible while the VM is {state}")]
    State {
        /// The call.
        call: String,
        /// The VM's state.
        state: &'static str,
    },
    /// An argument says what cannot be.
    #[error("{0}")]
    Argument(String),
    /// There is one already.
    #[error("{0}")]
    Duplicate(String),
}

/// The calls about a VM's power and its guest.
pub const POWER: &[&str] = &[
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

/// The calls about a VM's configuration.
pub const CONFIG: &[&str] =
    &["Reconfigure", "CreateVm", "DestroyVm", "RenameVm", "MarkAsTemplate", "MarkAsVm"];

/// What `call` does to the power of a VM in `state`.
///
/// # Errors
/// The state does not allow it, or it is no call about power.
pub fn step(call: &str, state: PowerState) -> Result<Step, Refusal> {
    use PowerState::{Crashed, Paused, Running, Stopped, Suspended};
    if !POWER.contains(&call) {
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

/// The state in which a call about power leaves a VM, where that shows that it was done.
pub fn leads_to(call: &str) -> Option<PowerState> {
    Some(match call {
        "PowerOn" | "Unpause" => PowerState::Running,
        "PowerOff" => PowerState::Stopped,
        "Suspend" => PowerState::Suspended,
        "Pause" => PowerState::Paused,
        _ => return None,
    })
}
