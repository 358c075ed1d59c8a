//! Folders, and what lies in them: the broker's own, done here in one commit.
//!
//! Within a folder each name is one object's, folder or VM. A folder holds its own kind; the view's fixed folders, and those that a target
//! names itself, stay. What becomes of a folder with VMs that is removed says [`destroy`].

mod destroy;

use crate::{
    engine::Engine,
    fly::{Errand, refused},
    placement::argument,
    record,
    tree::DEEPEST,
};
use guard::Grant;
use std::sync::Arc;
use store::{Batch, audit, journal::Entry};
use tokio::time::timeout;
use union::{
    Command, Kind, ObjectId, Value,
    command::{Cause, Class, Code, Outcome, Revision},
    fail::point,
    pb::FolderKind,
    plan::OwnFact,
};

/// What a command changes of the broker's own facts.
#[derive(Debug, Default)]
struct Change {
    facts: Vec<OwnFact>,
    result: Option<ObjectId>,
}

fn no(code: Code, message: impl Into<String>) -> Cause {
    Cause::new(code, message)
}

fn set(object: ObjectId, field: &str, value: impl Into<Value>) -> OwnFact {
    OwnFact { object, field: Arc::from(field), value: value.into() }
}

impl Engine {
    /// Whether the engine does a command itself.
    pub(crate) fn is_own(&self, command: &Command) -> bool {
        matches!(&*command.verb, "CreateFolder" | "RenameFolder" | "MoveIntoFolder" | "DestroyFolder")
    }

    pub(crate) async fn do_own(&self, errand: &Errand<'_>, grant: &Grant) -> Outcome {
        let command = errand.command;
        if &*command.verb == "DestroyFolder" {
            return self.destroy_folder(errand, grant).await;
        }
        // The turn is this room's queue: the tree is changed by one at a time.
        let Ok(_turn) = timeout(self.left(command.deadline_ms), self.tree_turn.lock()).await else {
            return self
                .decline(errand, refused(Code::TimedOut, "the tree was busy until the deadline"))
                .await;
        };
        let guarded = self.guarded(command, &errand.asked.envelope.bundle);
        let change = guarded.and_then(|()| match &*command.verb {
            "CreateFolder" => self.create_folder(command),
            "RenameFolder" => self.rename_folder(command),
            _ => self.move_into_folder(command, grant),
        });
        match change {
            Ok(change) => self.keep(errand, change).await,
            Err(cause) => self.decline(errand, Outcome::Refused(cause)).await,
        }
    }

    /// Intent, audit, facts and outcome in one commit; then they are shown.
    async fn keep(&self, errand: &Errand<'_>, change: Change) -> Outcome {
        let already = change.facts.is_empty();
        let done = |revision| Outcome::Done { revision, result: change.result, already };
        let now_ms = self.now_ms();
        let settled = Some(record::settled(&done(Revision::default()), self.schema(), now_ms));
        let entry = Entry { settled, ..Entry::new(errand.intent(now_ms)) };
        let mut also = Batch::new();
        audit::stage(&mut also, &self.audit_of(errand.asked, errand.command, "allowed"));
        if let Err(error) = self.own.stage(&mut also, &change.facts) {
            let cause = no(Code::InvalidArgument, error.to_string());
            return self.decline(errand, Outcome::Refused(cause)).await;
        }
        match self.begin(entry, also, errand.landing).await {
            Ok(None) => {}
            Ok(Some(known)) => return known,
            Err(cause) => return Outcome::Refused(cause),
        }
        point("engine.outcome-durable");
        let account = self.on_account(errand.command, change.facts.iter().map(|fact| fact.object));
        let shown = self.own.show(&change.facts);
        drop(account);
        point("engine.own-committed");
        done(if already { self.deps.facts.inventory().revision() } else { shown })
    }

    /// A folder into which something may be put, with its kind.
    fn open_folder(&self, folder: ObjectId) -> Result<i64, Cause> {
        let there = (folder.kind == Kind::Folder).then(|| self.tree.record(folder)).flatten();
        let record = there.ok_or_else(|| no(Code::NotFound, format!("there is no folder {folder}")))?;
        if self.is_doomed(folder) {
            return Err(no(Code::NotFound, format!("{folder} is being removed")));
        }
        Ok(self.tree.field(Kind::Folder, &record, "kind").as_int().unwrap_or(0))
    }

    pub(crate) fn is_doomed(&self, folder: ObjectId) -> bool {
        let doomed = self.doomed.lock();
        doomed.iter().any(|above| self.tree.is_below(folder, *above))
    }

    /// That a name is free in a folder.
    pub(crate) fn free(&self, folder: ObjectId, name: &str, except: Option<ObjectId>) -> Result<(), Cause> {
        match self.tree.named(folder, name, except) {
            None => Ok(()),
            Some(other) => Err(Cause {
                arguments: vec![
                    (Arc::from("name"), Value::str(name)),
                    (Arc::from("object"), Value::Ref(other)),
                ],
                ..no(Code::Duplicate, format!("`{name}` is {other} in {folder} already; choose another name"))
            }),
        }
    }

    fn name_of(&self, command: &Command) -> Result<Arc<str>, Cause> {
        let most = self.deps.limits.name;
        match argument(self, command, "name") {
            Value::Str(name) if !name.trim().is_empty() && name.chars().count() <= most => Ok(name),
            _ => Err(no(Code::InvalidArgument, format!("expected a name of 1 to {most} characters"))),
        }
    }

    /// That a folder is the broker's to change.
    fn changeable(&self, folder: ObjectId) -> Result<(), Cause> {
        self.open_folder(folder)?;
        if self.own.is_whole(folder) {
            return Ok(());
        }
        Err(no(
            Code::NotSupported,
            format!("{folder} is a fixed part of the tree; it can neither be changed nor removed"),
        ))
    }

    fn create_folder(&self, command: &Command) -> Result<Change, Cause> {
        let parent = argument(self, command, "parent_id").as_ref_id().unwrap_or(command.object);
        let kind = self.open_folder(parent)?;
        let name = self.name_of(command)?;
        let id = argument(self, command, "folder_id").as_ref_id().filter(|id| id.kind == Kind::Folder);
        let id = id.ok_or_else(|| no(Code::InvalidArgument, "expected the id that the folder shall have"))?;
        if self.tree.record(id).is_some() {
            return Err(no(Code::Duplicate, format!("{id} is there already; a new folder needs a new id")));
        }
        self.free(parent, &name, None)?;
        if self.own.count_whole() >= self.deps.limits.folders {
            return Err(no(
                Code::Busy,
                format!("there are {} folders; remove some", self.deps.limits.folders),
            ));
        }
        if self.tree.depth(parent) + 1 >= DEEPEST {
            return Err(no(Code::InvalidArgument, format!("folders lie at most {DEEPEST} deep")));
        }
        Ok(Change { facts: self.own.folder(id, &name, kind, parent), result: Some(id) })
    }

    fn rename_folder(&self, command: &Command) -> Result<Change, Cause> {
        let folder = command.object;
        self.changeable(folder)?;
        let name = self.name_of(command)?;
        if self.tree.get(folder, "name").as_str() == Some(&*name) {
            return Ok(Change::default());
        }
        if let Some(parent) = self.tree.get(folder, "parent_id").as_ref_id() {
            self.free(parent, &name, Some(folder))?;
        }
        Ok(Change { facts: vec![set(folder, "name", Value::Str(name))], result: None })
    }

    fn move_into_folder(&self, command: &Command, grant: &Grant) -> Result<Change, Cause> {
        let into = command.object;
        let kind = self.open_folder(into)?;
        let mut moved: Vec<ObjectId> = Vec::new();
        for id in argument(self, command, "object_ids").refs() {
            if !moved.contains(&id) {
                moved.push(id);
            }
        }
        let most = self.deps.limits.at_once;
        if moved.len() > most {
            return Err(no(
                Code::InvalidArgument,
                format!("{} objects at once; at most {most}", moved.len()),
            ));
        }
        let mut facts = Vec::new();
        let mut names: Vec<Value> = Vec::new();
        for id in moved {
            grant.allows(&command.verb, Class::Idempotent, id, &self.tree, self.now_ms())?;
            let record =
                self.tree.record(id).ok_or_else(|| no(Code::NotFound, format!("{id} is not there")))?;
            let field = match id.kind {
                Kind::Vm if kind == i64::from(FolderKind::FolderVm as i32) => "folder_id",
                Kind::Folder => {
                    self.changeable(id)?;
                    if self.tree.field(Kind::Folder, &record, "kind").as_int() != Some(kind) {
                        return Err(no(
                            Code::NotSupported,
                            format!("{into} takes no folders of the kind of {id}"),
                        ));
                    }
                    if self.tree.is_below(into, id) {
                        return Err(no(
                            Code::InvalidArgument,
                            format!("{id} cannot be moved into itself or below"),
                        ));
                    }
                    "parent_id"
                }
                _ => return Err(no(Code::NotSupported, format!("{into} does not take {id}"))),
            };
            if self.tree.field(id.kind, &record, field).as_ref_id() == Some(into) {
                continue;
            }
            let name = self.tree.field(id.kind, &record, "name");
            self.free(into, name.as_str().unwrap_or_default(), Some(id))?;
            if names.contains(&name) {
                return Err(no(Code::Duplicate, "two of the objects have the same name"));
            }
            names.push(name);
            facts.push(set(id, field, into));
        }
        Ok(Change { facts, result: None })
    }
}
