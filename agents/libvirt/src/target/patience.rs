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
    pub(super) fn new(rules: &'a [Again], call: &'a NativeCall, deadline: Instant) -> Tries<'a> {
        Tries { call, rules, began: Instant::now(), deadline }
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

/// How old a guest has to be for a call.
fn wanted(rules: &[Young], call: &NativeCall) -> Option<Duration> {
    let changes = &call.script.as_ref()?.changes;
    let edits = |list: &str| {
        changes.iter().any(|c| matches!(c, ScriptChange::Edit { list: of, .. } if **of == *list))
    };
    rules.iter().find(|rule| *rule.call == *call.call && edits(&rule.list)).map(|rule| rule.age)
}

impl Libvirt {
    /// Waits until the guest is old enough for the call.
    pub(super) async fn grown(&self, object: ObjectId, call: &NativeCall, deadline: Instant) {
        if let Some(age) = wanted(self.reader.tables().young(), call)
            && let Some(left) = self.age(object).and_then(|now| age.checked_sub(now))
        {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::tables;
    use union::{Record, plan::Script};

    fn change(list: &str, is: StepKind) -> NativeCall {
        let item = Arc::new(Record::new(union::MessageId(0), 0));
        let changes =
            vec![ScriptChange::Edit { list: list.into(), key: "hda".into(), item, clear: Vec::new() }];
        let script = Script { argument: "xml".into(), form: "device".into(), changes };
        let call = "DomainUpdateDeviceFlags".into();
        NativeCall { call, args: Vec::new(), is, undo: None, script: Some(Arc::new(script)) }
    }

    fn refused(message: &str) -> TargetError {
        TargetError::Failed { code: 1, means: None, message: message.to_owned() }
    }

    #[test]
    fn media_change_in_guests_of_some_age() {
        let tables = tables();
        let age = |list: &str| wanted(tables.young(), &change(list, StepKind::Idempotent));
        assert!(age("cdroms") >= Some(Duration::from_secs(1)));
        assert_eq!(age("nics"), None);
        let plain = NativeCall { script: None, ..change("cdroms", StepKind::Idempotent) };
        assert_eq!(wanted(tables.young(), &plain), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_for_a_moment_is_asked_again_and_not_for_ever() {
        let tables = tables();
        let tray = refused("blockdev-remove-medium: Tray of device 'ide0-0-0' is not open");
        let far = Instant::now() + Duration::from_secs(600);
        let call = change("cdroms", StepKind::Idempotent);
        let tries = Tries::new(tables.again(), &call, far);
        let mut made = 0;
        while tries.again(&tray).await {
            made += 1;
        }
        assert!((2..100).contains(&made), "{made}");
        assert!(!Tries::new(tables.again(), &call, far).again(&refused("no such medium")).await);
        assert!(!Tries::new(tables.again(), &call, Instant::now()).again(&tray).await, "it is too late");
        assert!(!Tries::new(tables.again(), &call, far).again(&TargetError::TimedOut).await);
        let once = change("cdroms", StepKind::Once);
        assert!(!Tries::new(tables.again(), &once, far).again(&tray).await, "it may be made once");
    }
}
