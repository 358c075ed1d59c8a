//! Tasks: objects of the inventory, shown by rows like any other; here is what is done with them.

use crate::{
    call::{Call, Reply},
    events,
    fault::{Answer, Fault},
    front::Front,
    history::{self, About, Cursor},
    inventory::Key,
    limits,
    made::Thing,
    native::{Soap, TaskResult},
    permission::{self, Sight},
};
use indexmap::IndexMap;
use mapping::NativeRef;
use std::sync::Arc;
use union::{CommandId, Kind, ObjectId};
use wire::{soap::encode::Encoder, xml::Element};

/// How many tasks' results are remembered.
const RESULTS: usize = 1_000;

/// Results of tasks that are no objects, by task; the oldest are forgotten first.
#[derive(Debug, Default)]
pub(crate) struct Results {
    of: IndexMap<ObjectId, Arc<TaskResult>>,
}

impl Results {
    /// A task's result, if it is none of the union's.
    pub(crate) fn get(&self, task: &ObjectId) -> Option<&Arc<TaskResult>> {
        self.of.get(task)
    }

    /// Remembers a result.
    pub(crate) fn remember(&mut self, task: ObjectId, result: TaskResult) {
        if self.of.len() >= RESULTS {
            self.of.shift_remove_index(0);
        }
        self.of.insert(task, Arc::new(result));
    }
}

/// A `TaskHistoryCollector`.
#[derive(Clone, Debug, Default)]
pub(crate) struct TaskPages {
    about: About,
    states: Vec<String>,
    /// Where it stands.
    pub(crate) cursor: Cursor,
}

impl TaskPages {
    fn read(call: &Call<'_>, element: Element<'_>) -> Answer<TaskPages> {
        let states = element.children_named("state").map(|state| state.text().trim().to_owned()).collect();
        Ok(TaskPages { about: About::read(call, element)?, states, cursor: Cursor::default() })
    }

    /// The tasks that pass, in the order in which they came to be known, with their places in it: who reads on misses none, however late an
    /// agent tells of it.
    fn tasks(&self, front: &Front, sight: &Sight<'_>) -> Vec<(i64, ObjectId)> {
        let catalog = &front.catalog;
        let slot = |field| catalog.schema().slot(Kind::Task, field);
        let (Some(object), Some(principal), Some(queued), Some(chain)) =
            (slot("object_id"), slot("principal"), slot("queued_ms"), slot("chain"))
        else {
            return Vec::new();
        };
        let mut tasks: Vec<(i64, ObjectId)> = Vec::new();
        for id in catalog.inventory().ids(Kind::Task) {
            let Some(task) = catalog.record(id) else { continue };
            let at = task.get(queued).as_int();
            let early = at.zip(self.about.from_ms).is_some_and(|(at, from)| at < from);
            let late = at.zip(self.about.to_ms).is_some_and(|(at, to)| at > to);
            let user = task.get(principal).as_str().unwrap_or_default();
            if early
                || late
                || !sight.sees(id)
                || !self.about.admits_chain(task.get(chain).as_int())
                || !self.about.admits(catalog, task.get(object).as_ref_id(), user)
            {
                continue;
            }
            if !self.states.is_empty()
                && !catalog.text(id, "info.state").is_some_and(|s| self.states.contains(&s))
            {
                continue;
            }
            tasks.extend(front.tasks.place(id).map(|place| (place, id)));
        }
        tasks.sort_unstable();
        tasks
    }

    /// The latest page, newest first; false: it is empty.
    pub(crate) fn put_latest(&self, call: &Call<'_>, out: &mut Encoder, name: &str) -> bool {
        out.open_typed(name, "ArrayOfTaskInfo");
        for (_, id) in self.tasks(call.front, call.sight()).iter().rev().take(self.cursor.page) {
            put_info(call, out, "TaskInfo", *id);
        }
        out.close(name);
        true
    }
}

/// A task's `info` as `<name xsi:type="TaskInfo">`.
fn put_info(call: &Call<'_>, out: &mut Encoder, name: &str, id: ObjectId) {
    let catalog = call.catalog();
    let shown = catalog
        .shown(id)
        .and_then(|(record, map)| Some((record, map.select("info", call.version).ok()?, map)));
    if let Some((record, selection, map)) = shown {
        let mut soap = Soap::new(out, &call.front.tags, name).with_outcome(call.front.task_outcome(id));
        map.render(&selection, id, &record, catalog, call.version, &mut soap);
    }
}

/// `CreateCollectorForTasks`
pub(crate) fn create_collector(call: &Call<'_>) -> Answer<Reply> {
    let session = call.session()?;
    let element =
        call.argument("filter").ok_or_else(|| Fault::invalid_argument("filter", "it is required"))?;
    let pages = TaskPages::read(call, element)?;
    let mut workshop = call.front.workshop.lock();
    if workshop.all_of(&session.data.owner).count() >= limits::MADE {
        return Err(Fault::limit("filters, collectors and views", limits::MADE));
    }
    let id = call.front.made_id(&session.id);
    let (_, reference) = workshop.make(&session.data.owner, Thing::Tasks(pages), |_| NativeRef {
        ty: Arc::from("TaskHistoryCollector"),
        id,
    });
    Ok(Reply::reference(&reference))
}

/// `ReadNextTasks`
pub(crate) fn read_next(call: &Call<'_>) -> Answer<Reply> {
    read(call, true)
}

/// `ReadPreviousTasks`
pub(crate) fn read_previous(call: &Call<'_>) -> Answer<Reply> {
    read(call, false)
}

fn read(call: &Call<'_>, forward: bool) -> Answer<Reply> {
    let most = history::most(call)?;
    let place = |item: &(i64, ObjectId)| item.0;
    // Gathered outside the lock that changes take.
    let copy = events::with_pages(call, |thing| match thing {
        Thing::Tasks(pages) => Some(pages.clone()),
        _ => None,
    })?;
    let all = copy.tasks(call.front, call.sight());
    let tasks = events::with_pages(call, |thing| match thing {
        Thing::Tasks(pages) if forward => Some(pages.cursor.next(all, place, most)),
        Thing::Tasks(pages) => Some(pages.cursor.previous(all, place, most)),
        _ => None,
    })?;
    Ok(Reply::write(|out| tasks.iter().for_each(|(_, id)| put_info(call, out, "returnval", *id))))
}

/// `CancelTask`
pub(crate) fn cancel(call: &Call<'_>) -> Answer<Reply> {
    let session = call.session()?;
    let Key::Fact(id, _) = call.receiver else { return Err(Fault::not_found(call.this.clone())) };
    let class = union::command::Class::Idempotent;
    permission::check(call.front, session, "Cancel", class, id)
        .map_err(|c| call.front.fault_of(&c, &call.this))?;
    let slot = call.catalog().schema().slot(Kind::Task, "command_id");
    let task = call.catalog().record(id).ok_or_else(|| Fault::not_found(call.this.clone()))?;
    let command = slot.and_then(|slot| task.get(slot).as_str()?.parse().ok());
    let invalid = || Fault::new("InvalidState", "The task has ended, or cannot be canceled any more.");
    let command = command.map(CommandId).ok_or_else(invalid)?;
    call.front.commands.cancel(command).map_err(|_| invalid())?;
    Ok(Reply::Void)
}
