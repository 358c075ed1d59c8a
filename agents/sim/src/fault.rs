//! How the simulated hypervisor misbehaves: latencies and mishaps by call, drawn from the injected randomness, or scripted.

use crate::world::SimError;
use serde::Deserialize;
use std::{collections::BTreeMap, path::Path, time::Duration};
use union::Ids;

/// What becomes of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is done and answered.
    Well,
    /// The hypervisor says no; nothing is done.
    Fail,
    /// It never arrives; the caller learns that its answer is lost.
    LoseRequest,
    /// It is done; the answer is lost.
    LoseReply,
    /// It arrives and is never answered; nothing is done.
    Hang,
}

/// Latency and mishaps of calls. Chances are between 0 and 1 and exclude each other, in the order of their fields.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Chances {
    /// Shortest and longest time a call takes, milliseconds.
    #[serde(default)]
    pub latency_ms: Option<(u64, u64)>,
    /// The chance of [`Fate::Fail`].
    #[serde(default)]
    pub fail: f64,
    /// The chance of [`Fate::LoseRequest`].
    #[serde(default)]
    pub lose_request: f64,
    /// The chance of [`Fate::LoseReply`].
    #[serde(default)]
    pub lose_reply: f64,
    /// The chance of [`Fate::Hang`].
    #[serde(default)]
    pub hang: f64,
}

/// How a simulated hypervisor behaves; the default is fast and faultless.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Behaviour {
    /// For calls without an entry in `calls`.
    pub all: Chances,
    /// By call, for example `PowerOn`; `Read` is a fresh look at an object.
    pub calls: BTreeMap<String, Chances>,
    /// The chance that a change's event is lost, so that only a fresh look shows it.
    pub lose_event: f64,
    /// How long a guest takes to shut down, restart or go to sleep when asked, milliseconds.
    pub guest_ms: u64,
    /// Seconds between two readings of what the VMs use; 0: never.
    pub stats_s: u64,
}

impl Default for Behaviour {
    fn default() -> Behaviour {
        Behaviour {
            all: Chances::default(),
            calls: BTreeMap::new(),
            lose_event: 0.0,
            guest_ms: 2_000,
            stats_s: 0,
        }
    }
}

impl Behaviour {
    /// Reads a file of its own: what stands under `[behaviour]` in an inventory file.
    ///
    /// # Errors
    /// It cannot be read, or says what is unknown.
    pub fn read(path: &Path) -> Result<Behaviour, SimError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| SimError::Unreadable { path: path.to_owned(), source })?;
        toml::from_str(&text)
            .map_err(|error| SimError::File { path: path.display().to_string(), source: error.into() })
    }

    fn chances(&self, call: &str) -> &Chances {
        self.calls.get(call).unwrap_or(&self.all)
    }

    /// Draws what becomes of a call.
    pub fn fate(&self, call: &str, ids: &dyn Ids) -> Fate {
        let chances = self.chances(call);
        let mut at = draw(ids);
        for (chance, fate) in [
            (chances.fail, Fate::Fail),
            (chances.lose_request, Fate::LoseRequest),
            (chances.lose_reply, Fate::LoseReply),
            (chances.hang, Fate::Hang),
        ] {
            if at < chance {
                return fate;
            }
            at -= chance;
        }
        Fate::Well
    }

    /// Draws how long a call takes.
    pub fn latency(&self, call: &str, ids: &dyn Ids) -> Duration {
        let (shortest, longest) = self.chances(call).latency_ms.or(self.all.latency_ms).unwrap_or((0, 0));
        let span = longest.saturating_sub(shortest);
        Duration::from_millis(shortest + pick(ids, span.saturating_add(1)))
    }

    /// Draws whether an event is lost.
    pub fn loses_event(&self, ids: &dyn Ids) -> bool {
        self.lose_event > 0.0 && draw(ids) < self.lose_event
    }
}

/// A number from 0 up to but not including 1.
fn draw(ids: &dyn Ids) -> f64 {
    let mut bytes = [0; 4];
    ids.fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

/// A number below `bound`; 0 if that is 0.
pub(crate) fn pick(ids: &dyn Ids, bound: u64) -> u64 {
    let mut bytes = [0; 8];
    ids.fill(&mut bytes);
    u64::from_le_bytes(bytes).checked_rem(bound).unwrap_or(0)
}
