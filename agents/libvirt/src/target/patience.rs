//! What a call waits for by itself: a guest that is too young for it, and what libvirt refuses for a moment only. Which calls, and for how
//! long, is `[table.patience]` of the mapping.
//!
//! ```text
//! call ─▶ the guest is old enough? ─ no ─▶ wait ─▶ sent ─▶ refused in these words ─▶ pause ─▶ sent again, at most for so long
//! ```

use super::Libvirt;
use crate::inventory::get;
use lane::{NativeCall, StepKind, TargetError};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep, sleep_until};
use union::{ObjectId, pb::PowerState, plan::ScriptChange};

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(500);

/// A call that edits items of a list only in guests of some age.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Young {
    /// The call.
    pub call: Arc<str>,
    /// The list of the `Vm` that its script edits.
    pub list: Arc<str>,
    /// How old.
    pub age: Duration,
}

/// A call that is made again when libvirt refuses it so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Again {
    /// The call; only where it may be made twice.
    pub call: Arc<str>,
    /// What libvirt's words contain.
    pub says: Arc<str>,
    /// For how long.
    pub within: Duration,
}

/// Tries of one call.
pub(super) struct Tries<'a> {
    call: &'a NativeCall,
    rules: &'a [Again],
    began: Instant,
    deadline: Instant,
}

impl<'a> Tries<'a> {
    pub(super) fn new(target: &'a Libvirt, call: &'a NativeCall, deadline: Instant) -> Tries<'a> {
        Tries { call, rules: target.reader.tables().again(), began: Instant::now(), deadline }
    }

    /// Whether the call is to be made again; then a moment has passed.
    pub(super) async fn again(&self, error: &TargetError) -> bool {
        let TargetError::Failed { message, .. } = error else { return false };
        let fits = |rule: &&Again| *rule.call == *self.call.call && message.contains(&*rule.says);
        let Some(rule) = self.rules.iter().find(fits) else { return false };
        let end = self.deadline.min(self.began + rule.within);
        let goes_on = self.call.is == StepKind::Idempotent && Instant::now() + PAUSE < end;
        if goes_on {
            sleep(PAUSE).await;
        }
        goes_on
    }
}

impl Libvirt {
    /// Waits until the guest is old enough for the call.
    pub(super) async fn grown(&self, object: ObjectId, call: &NativeCall, deadline: Instant) {
        let Some(script) = &call.script else { return };
        let edits = |list: &str| {
            script.changes.iter().any(|c| matches!(c, ScriptChange::Edit { list: of, .. } if **of == *list))
        };
        let mut rules = self.reader.tables().young().iter();
        let rule = rules.find(|rule| *rule.call == *call.call && edits(&rule.list));
        if let Some(left) = rule.and_then(|rule| rule.age.checked_sub(self.age(object)?)) {
            sleep_until(deadline.min(Instant::now() + left)).await;
        }
    }

    /// How long the guest has been running, if it runs and that is known.
    fn age(&self, object: ObjectId) -> Option<Duration> {
        let inventory = self.reader.inventory();
        let record = inventory.record(object)?;
        let field = |name: &str| get(inventory.schema(), &record, name).as_int();
        if field("power_state") != Some(PowerState::Running as i64) {
            return None;
        }
        let age = self.reader.now_ms().saturating_sub(field("boot_time_ms")?);
        Some(Duration::from_millis(u64::try_from(age).unwrap_or(0)))
    }
}
