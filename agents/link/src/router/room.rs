//! Who is under way: how many commands in all, of each session, and at each machine.
//!
//! A command is refused here before anything of it exists: no task, no id, no commit. So a refusal costs next to nothing however many are
//! refused, and what was taken on goes on.
//!
//! **All together** have [`Room::whole`], and fewer while the process is late with what is due (`router/pulse.rs`). **A session** may have
//! at most twice as many as are still free: alone two thirds of all, two of them two fifths each, and there is always room for one that
//! comes later. **A machine** has the commands that the conflict table of the
//! protocol lets it have: one that the lane would refuse because of another of this router is refused now. The lane has the last word, as
//! others may have commands there too.

use crate::limits;
use lane::queue::Conflict;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use union::{
    Command, CommandId, Kind, ObjectId,
    command::{Cause, Code},
};

/// How many times what is free a session may have.
const SHARE: usize = 2;

#[derive(Debug)]
struct Under {
    /// How many may be under way now.
    most: usize,
    all: usize,
    sessions: FxHashMap<Arc<str>, usize>,
    machines: FxHashMap<ObjectId, Vec<(CommandId, Arc<str>)>>,
}

/// Counts the commands under way.
#[derive(Debug)]
pub(super) struct Room {
    whole: usize,
    under: Mutex<Under>,
}

/// A command's place; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    room: Arc<Room>,
    command: CommandId,
    object: ObjectId,
    session: Arc<str>,
}

impl Room {
    /// For at most `whole` commands.
    pub(super) fn new(whole: usize) -> Arc<Room> {
        let under =
            Under { most: whole, all: 0, sessions: FxHashMap::default(), machines: FxHashMap::default() };
        Arc::new(Room { whole, under: Mutex::new(under) })
    }

    /// How many are under way.
    pub(super) fn under_way(&self) -> usize {
        self.under.lock().all
    }

    /// Whether as many may be under way as ever.
    pub(super) fn is_whole(&self) -> bool {
        self.under.lock().most == self.whole
    }

    /// The least that it is narrowed to.
    fn floor(&self) -> usize {
        limits::FLOOR.min(self.whole)
    }

    /// Those under way are too many: from now on at most three quarters of them, and never fewer than the floor.
    pub(super) fn narrow(&self) {
        let mut under = self.under.lock();
        under.most = (under.most.min(under.all) / 4 * 3).max(self.floor());
    }

    /// A few more than before.
    pub(super) fn widen(&self) {
        let mut under = self.under.lock();
        under.most = (under.most + limits::STEP).min(self.whole);
    }

    /// A place for a command; `conflict` is asked with the verb of each that is at its machine. `late`: only the floor is to be had.
    ///
    /// # Errors
    /// [`Code::InProgress`] with the fault of the conflict table, or [`Code::Busy`].
    pub(super) fn enter(
        self: &Arc<Room>,
        command: &Command,
        late: bool,
        conflict: impl Fn(&str) -> Conflict,
    ) -> Result<Place, Cause> {
        let mut under = self.under.lock();
        let there = under.machines.get(&command.object).map_or(&[][..], Vec::as_slice);
        for (_, verb) in there {
            if let Conflict::Refuse(fault) = conflict(verb) {
                let message = format!(
                    "{verb} is under way on {}; {} has to wait for its end",
                    command.object, command.verb
                );
                return Err(Cause { fault, ..Cause::new(Code::InProgress, message) });
            }
        }
        let most = if late { self.floor().min(under.most) } else { under.most };
        let free = most.saturating_sub(under.all);
        let mine = under.sessions.get(&command.session).copied().unwrap_or(0);
        if free == 0 || mine >= free.saturating_mul(SHARE) {
            let whose = if free == 0 { under.all } else { mine };
            let of = if free == 0 { "" } else { " of this session" };
            return Err(Cause::new(
                Code::Busy,
                format!("{whose} commands{of} are under way; nothing was done, try again"),
            ));
        }
        under.all += 1;
        under.sessions.insert(Arc::clone(&command.session), mine + 1);
        // Only machines have one lane for all their commands: a folder takes in several at a time.
        if command.object.kind == Kind::Vm {
            let entry = (command.id, Arc::clone(&command.verb));
            under.machines.entry(command.object).or_default().push(entry);
        }
        let (session, object) = (Arc::clone(&command.session), command.object);
        Ok(Place { room: Arc::clone(self), command: command.id, object, session })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut under = self.room.under.lock();
        under.all = under.all.saturating_sub(1);
        if let Some(mine) = under.sessions.get_mut(&self.session) {
            *mine = mine.saturating_sub(1);
            if *mine == 0 {
                under.sessions.remove(&self.session);
            }
        }
        if let Some(there) = under.machines.get_mut(&self.object) {
            there.retain(|(command, _)| *command != self.command);
            if there.is_empty() {
                under.machines.remove(&self.object);
            }
        }
    }
}

#[cfg(test)]
mod tests;
