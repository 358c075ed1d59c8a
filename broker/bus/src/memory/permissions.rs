//! What a user of the memory bus may do: the accounts of the real bus, in small.

use crate::{Pattern, Subject};

/// Allowed patterns. Requests need `publish`; serving and subscribing need `subscribe`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    /// Where it may send; `None` for everywhere.
    pub publish: Option<Vec<Pattern>>,
    /// What it may listen to; `None` for everything.
    pub subscribe: Option<Vec<Pattern>>,
}

impl Permissions {
    /// Everything: hyperglot's own account.
    pub fn all() -> Self {
        Self { publish: None, subscribe: None }
    }

    /// A monitor: listens to `event.> metric.> task.>`, sends nothing.
    pub fn monitor() -> Self {
        let roots = ["event", "metric", "task"];
        let readable = roots.iter().filter_map(|root| Pattern::root(root).ok()).collect();
        Self { publish: Some(Vec::new()), subscribe: Some(readable) }
    }

    pub(super) fn may_publish(&self, subject: &Subject) -> bool {
        self.publish.as_ref().is_none_or(|allowed| allowed.iter().any(|pattern| pattern.matches(subject)))
    }

    pub(super) fn may_subscribe(&self, wanted: &Pattern) -> bool {
        self.subscribe.as_ref().is_none_or(|allowed| allowed.iter().any(|pattern| pattern.covers(wanted)))
    }
}
