//! The order of commands to one object, as a pure state machine: no locks, no time, no I/O.
//!
//! ```text
//!            arrive: nothing runs                    finish, nothing waits
//!   ┌──────┐ ──────────────────▶ ┌─────────┐ ──────────────────────────────▶ ┌──────┐
//!   │ idle │                     │ running │ ◀─┐ finish, the first that waits│ idle │
//!   └──────┘                     └─────────┘ ──┘ arrive: overtakes           └──────┘
//! ```
//!
//! A job that arrives while others are there is, by the conflict table, started over the running one (**overtake**: that one and every
//! waiting one it also overtakes are outrun), **refused**, **joined** to the last job when that does the same (it shares its outcome), or
//! **queued**. A refusal by any job before it counts; being satisfied counts only against the last one, for what comes in between could
//! undo it. Every job leaves exactly once: refused, outrun, cancelled, or finished (with or as a follower).

use std::{collections::VecDeque, sync::Arc};
use union::CommandId;

/// What happens to an arriving command while another runs or waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// It waits.
    Queue,
    /// It is refused with this native fault; empty: the protocol's fault for a command in progress.
    Refuse(Arc<str>),
    /// It takes the other's place.
    Overtake,
    /// The other does what it asks: it shares the other's outcome.
    Satisfied,
}

/// A command in a lane, with whatever its owner attaches.
#[derive(Clone, Debug)]
pub struct Job<T> {
    /// Which command.
    pub id: CommandId,
    /// Its union verb.
    pub verb: Arc<str>,
    /// The owner's.
    pub load: T,
}

/// What became of an arriving job.
#[derive(Debug)]
pub enum Arrival<T> {
    /// It runs now.
    Started,
    /// It runs now; these do not any more, the first of them being the one that ran. Followers included.
    Overtook(Vec<Job<T>>),
    /// It waits.
    Queued,
    /// It shares the outcome of this command.
    Joined(CommandId),
    /// It is refused with this fault, because of this verb.
    Refused {
        /// The native fault.
        fault: Arc<str>,
        /// The verb in its way.
        by: Arc<str>,
    },
    /// As many wait as may.
    Full,
}

/// What became of a cancelled job.
#[derive(Debug)]
pub enum Cancelled<T> {
    /// It waited; it and its followers are out.
    Waiting(Vec<Job<T>>),
    /// It runs.
    Running,
    /// It is not here.
    Absent,
}

#[derive(Debug)]
struct Entry<T> {
    job: Job<T>,
    followers: Vec<Job<T>>,
}

impl<T> Entry<T> {
    fn of(job: Job<T>) -> Entry<T> {
        Entry { job, followers: Vec::new() }
    }

    fn all(self) -> impl Iterator<Item = Job<T>> {
        std::iter::once(self.job).chain(self.followers)
    }

    fn len(&self) -> usize {
        1 + self.followers.len()
    }
}

/// The commands to one object.
#[derive(Debug)]
pub struct Queue<T> {
    running: Option<Entry<T>>,
    waiting: VecDeque<Entry<T>>,
    capacity: usize,
}

impl<T> Queue<T> {
    /// An idle lane in which `capacity` jobs may wait, followers included.
    pub fn new(capacity: usize) -> Queue<T> {
        Queue { running: None, waiting: VecDeque::new(), capacity }
    }

    /// A job arrives; `conflict` is asked with the verb before it. The job itself comes back with the decision unless it went in.
    pub fn arrive(
        &mut self,
        job: Job<T>,
        conflict: impl Fn(&str) -> Conflict,
    ) -> (Arrival<T>, Option<Job<T>>) {
        let Some(running) = &mut self.running else {
            self.running = Some(Entry::of(job));
            return (Arrival::Started, None);
        };
        if conflict(&running.job.verb) == Conflict::Overtake {
            let mut outrun: Vec<Job<T>> = Vec::new();
            outrun.extend(std::mem::replace(running, Entry::of(job)).all());
            let mut stay = VecDeque::with_capacity(self.waiting.len());
            for entry in self.waiting.drain(..) {
                match conflict(&entry.job.verb) {
                    Conflict::Overtake => outrun.extend(entry.all()),
                    _ => stay.push_back(entry),
                }
            }
            self.waiting = stay;
            return (Arrival::Overtook(outrun), None);
        }
        let before = std::iter::once(&*running).chain(&self.waiting);
        for entry in before {
            if let Conflict::Refuse(fault) = conflict(&entry.job.verb) {
                return (Arrival::Refused { fault, by: Arc::clone(&entry.job.verb) }, Some(job));
            }
        }
        if self.waiting.iter().map(Entry::len).sum::<usize>() + running.followers.len() >= self.capacity {
            return (Arrival::Full, Some(job));
        }
        let last = self.waiting.back_mut().unwrap_or(running);
        if conflict(&last.job.verb) == Conflict::Satisfied {
            let id = last.job.id;
            last.followers.push(job);
            return (Arrival::Joined(id), None);
        }
        self.waiting.push_back(Entry::of(job));
        (Arrival::Queued, None)
    }

    /// The running job `id` ended, or is given up: it and its followers leave, and the first that waits runs. `None`: another runs, `id`
    /// was outrun.
    pub fn finish(&mut self, id: CommandId) -> Option<Vec<Job<T>>> {
        if self.running.as_ref()?.job.id != id {
            return None;
        }
        let ended = std::mem::replace(&mut self.running, self.waiting.pop_front())?;
        Some(ended.all().collect())
    }

    /// Why an arriving job would not be let in, were it to wait behind all that are here.
    pub fn refusal(&self, conflict: impl Fn(&str) -> Conflict) -> Option<Arrival<T>> {
        for entry in self.running.iter().chain(&self.waiting) {
            if let Conflict::Refuse(fault) = conflict(&entry.job.verb) {
                return Some(Arrival::Refused { fault, by: Arc::clone(&entry.job.verb) });
            }
        }
        let waiting = self.len().saturating_sub(usize::from(self.running.is_some()));
        (waiting >= self.capacity).then_some(Arrival::Full)
    }

    /// Lets a job in behind all that are here, whatever the table says and however many wait. Whether it runs now.
    pub fn admit(&mut self, job: Job<T>) -> bool {
        if self.running.is_none() {
            self.running = Some(Entry::of(job));
            return true;
        }
        self.waiting.push_back(Entry::of(job));
        false
    }

    /// A job that ended goes on: it runs again, before all that wait. To be called before what would have run next has begun.
    pub fn reinstate(&mut self, job: Job<T>) {
        if let Some(next) = self.running.replace(Entry::of(job)) {
            self.waiting.push_front(next);
        }
    }

    /// Takes out the jobs that wait, or follow, and for which `out` holds. What follows a job that is taken out, and stays, takes its place.
    pub fn take_waiting(&mut self, out: impl Fn(&T) -> bool) -> Vec<Job<T>> {
        let mut taken = Vec::new();
        if let Some(running) = &mut self.running {
            taken.extend(running.followers.extract_if(.., |job| out(&job.load)));
        }
        for mut entry in std::mem::take(&mut self.waiting) {
            taken.extend(entry.followers.extract_if(.., |job| out(&job.load)));
            if !out(&entry.job.load) {
                self.waiting.push_back(entry);
                continue;
            }
            let mut followers = entry.followers.into_iter();
            if let Some(next) = followers.next() {
                self.waiting.push_back(Entry { job: next, followers: followers.collect() });
            }
            taken.push(entry.job);
        }
        taken
    }

    /// Takes a waiting job out. A follower is taken alone.
    pub fn cancel(&mut self, id: CommandId) -> Cancelled<T> {
        if self.running.as_ref().is_some_and(|e| e.job.id == id) {
            return Cancelled::Running;
        }
        if let Some(at) = self.waiting.iter().position(|e| e.job.id == id) {
            let entry = self.waiting.remove(at);
            return Cancelled::Waiting(entry.into_iter().flat_map(Entry::all).collect());
        }
        for entry in self.running.iter_mut().chain(&mut self.waiting) {
            if let Some(at) = entry.followers.iter().position(|j| j.id == id) {
                return Cancelled::Waiting(vec![entry.followers.remove(at)]);
            }
        }
        Cancelled::Absent
    }

    /// The running job.
    pub fn running(&self) -> Option<&Job<T>> {
        self.running.as_ref().map(|e| &e.job)
    }

    /// The running job, to attach to.
    pub fn running_mut(&mut self) -> Option<&mut Job<T>> {
        self.running.as_mut().map(|e| &mut e.job)
    }

    /// Changes what is attached to a job that is here.
    pub fn attach(&mut self, id: CommandId, change: impl FnOnce(&mut T)) {
        let entries = self.running.iter_mut().chain(&mut self.waiting);
        let mut jobs = entries.flat_map(|e| std::iter::once(&mut e.job).chain(&mut e.followers));
        if let Some(job) = jobs.find(|j| j.id == id) {
            change(&mut job.load);
        }
    }

    /// How many jobs are here.
    pub fn len(&self) -> usize {
        self.running.iter().chain(&self.waiting).map(Entry::len).sum()
    }

    /// Whether nothing runs, and so nothing waits.
    pub fn is_empty(&self) -> bool {
        self.running.is_none()
    }
}

#[cfg(test)]
mod tests;
