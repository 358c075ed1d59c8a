//! Keeps what the front says of itself up to date in the view's inventory, where filters see it: recent tasks, the latest event.
//!
//! It runs as one background task: the inventory must not be changed from within its own changes.

use crate::{events, front::Front, made::Thing};
use ::inventory::Put;
use std::{
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::sync::{Notify, broadcast::error::RecvError};
use union::{Kind, Value};

/// How many recent tasks are shown; the real product's figure.
const RECENT: usize = 200;
/// Tasks leave the recent list by age, which nothing announces.
const SWEEP: Duration = Duration::from_secs(60);

/// Wakes the background task.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    tasks: Arc<Notify>,
}

impl Keeper {
    /// A task came, went or moved on.
    pub(crate) fn tasks_changed(&self) {
        self.tasks.notify_one();
    }
}

/// Runs for as long as the front lives.
pub(crate) async fn run(front: Weak<Front>) {
    let Some((notify, mut events)) =
        front.upgrade().map(|f| (f.keeper.tasks.clone(), f.chronicle.subscribe()))
    else {
        return;
    };
    loop {
        let event = tokio::select! {
            () = notify.notified() => false,
            () = tokio::time::sleep(SWEEP) => false,
            event = events.recv() => match event {
                Err(RecvError::Closed) => return,
                // Several at once are one change here; those lost only mean that there was at least one.
                Ok(_) | Err(RecvError::Lagged(_)) => true,
            },
        };
        // Woken together with those who wait for updates: they go first.
        tokio::task::yield_now().await;
        let Some(front) = front.upgrade() else { return };
        if event { front.keep_events() } else { front.keep_tasks() }
    }
}

impl Front {
    /// Puts what the front says of itself into the view's inventory.
    pub(crate) fn introduce(&self, address: &str, started_ms: i64) {
        let catalog = &self.catalog;
        let message = catalog.schema().kind(Kind::Service);
        let mut record = message.record();
        let constant = |path: &str| Some(catalog.constant(path)).filter(|text| !text.is_empty());
        let host_name = catalog.view().host().and_then(|host| catalog.record(host)).and_then(|host| {
            let slot = catalog.schema().slot(Kind::Host, "name")?;
            host.get(slot).as_str().map(str::to_owned)
        });
        let fields: [(&str, Value); 9] = [
            ("name", constant("about.name").into()),
            ("full_name", constant("about.fullName").into()),
            ("version", constant("about.version").into()),
            ("build", constant("about.build").into()),
            ("instance_uuid", catalog.instance_uuid().into()),
            ("root_folder_id", Value::Ref(catalog.root())),
            ("host_name", host_name.into()),
            ("address", address.into()),
            ("started_ms", Value::Int(started_ms)),
        ];
        for (name, value) in fields {
            if let Some(field) = message.field(name) {
                record.set(field.slot, value);
            }
        }
        catalog.inventory().apply(vec![Put::Whole(catalog.service(), record)]);
        self.keep_tasks();
        self.keep_events();
    }

    fn keep_tasks(&self) {
        let Some(slot) = self.catalog.schema().slot(Kind::Service, "recent_task_ids") else { return };
        let recent = self.tasks.recent(RECENT).into_iter().filter(|id| self.catalog.record(*id).is_some());
        let value = Value::list(recent.map(Value::Ref));
        self.catalog.inventory().apply(vec![Put::Slots(self.catalog.service(), vec![(slot, value)])]);
        self.collectors_changed(|thing| matches!(thing, Thing::Tasks(_)));
    }

    fn keep_events(&self) {
        let slot = |field| self.catalog.schema().slot(Kind::Service, field);
        let Some((event, id)) = events::latest(self) else { return };
        let (Some(latest), Some(latest_id)) = (slot("latest_event"), slot("latest_event_id")) else { return };
        let values = vec![(latest, event), (latest_id, Value::Ref(id))];
        self.catalog.inventory().apply(vec![Put::Slots(self.catalog.service(), values)]);
        self.collectors_changed(|thing| matches!(thing, Thing::Events(_)));
    }

    /// Tells filters that collectors may have a new latest page.
    fn collectors_changed(&self, which: impl Fn(&Thing) -> bool) {
        let mut workshop = self.workshop.lock();
        let (things, updates) = workshop.parts();
        for (number, _) in things.iter().filter(|(_, made)| which(&made.thing)) {
            updates.made_changed(*number);
        }
    }
}
