//! What libvirt's numbers and words mean in the union: the tables of `mappings/libvirt/protocol.toml`, looked up once when a target
//! connects.

use crate::{
    native::api::State,
    target::patience::{Again, Young},
};
use mapping::{Protocol, protocol::Constant};
use rustc_hash::FxHashMap;
use std::{borrow::Borrow, hash::Hash, sync::Arc, time::Duration};
use union::{
    command::Code,
    pb::{DiskFormat, PowerState},
};

/// The tables.
#[derive(Clone, Debug)]
pub struct Tables {
    states: Words<i64, PowerState>,
    snapshots: Words<Arc<str>, PowerState>,
    formats: Words<Arc<str>, DiskFormat>,
    errors: FxHashMap<i64, Code>,
    directories: Vec<Arc<str>>,
    agent: Arc<str>,
    started: i64,
    runs: Vec<(i64, i64)>,
    told: Vec<Told>,
    defined: Vec<Arc<str>>,
    young: Vec<Young>,
    again: Vec<Again>,
    events: Vec<Registration>,
}

/// Events to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The call as effect tables name calls, for example `ConnectNetworkEventRegisterAny`.
    pub call: Arc<str>,
    /// Its `eventID`s.
    pub ids: Vec<i32>,
}

/// What a lifecycle event proves of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    event: i64,
    details: Vec<i64>,
    /// The power states that it leads from.
    pub from: Vec<PowerState>,
    /// How it stands then, as a read would say.
    pub state: State,
}

/// A table that libvirt cannot be a target without.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// It is not there.
    #[error("mappings/libvirt/protocol.toml has no {table}: expected {expected}; add it")]
    Missing {
        /// The table, or its line, as it is written.
        table: &'static str,
        /// What it should say.
        expected: &'static str,
    },
    /// It says something else.
    #[error("mappings/libvirt/protocol.toml, {table}: expected {expected}, found {found}")]
    Wrong {
        /// The table, or its line, as it is written.
        table: &'static str,
        /// What it should say.
        expected: &'static str,
        /// What it says.
        found: String,
    },
}

/// A table with a row `*` for every word without one.
#[derive(Clone, Debug)]
struct Words<K, V> {
    rows: FxHashMap<K, V>,
    other: V,
}

impl<K: Eq + Hash, V: Copy> Words<K, V> {
    fn get<Q: Eq + Hash + ?Sized>(&self, word: &Q) -> V
    where
        K: Borrow<Q>,
    {
        self.rows.get(word).copied().unwrap_or(self.other)
    }
}

/// How a table of words is written.
struct Written {
    /// Its name for [`Protocol::enum_readings`].
    name: &'static str,
    table: &'static str,
    /// Its union enumeration.
    union: &'static str,
    expected: &'static str,
}

const STATES: Written = Written {
    name: "domain_state",
    table: "[enum.domain_state]",
    union: "PowerState",
    expected: "rows of a virDomainState number and a union PowerState, and a row \"*\" for the other numbers",
};
const SNAPSHOTS: Written = Written {
    name: "snapshot_state",
    table: "[enum.snapshot_state]",
    union: "PowerState",
    expected: "rows of a snapshot's state and a union PowerState, and a row \"*\" for the other states",
};
const FORMATS: Written = Written {
    name: "volume_format",
    table: "[enum.volume_format]",
    union: "DiskFormat",
    expected: "rows of a volume's format and a union DiskFormat, and a row \"*\" for the other formats",
};
const ERRORS: Written = Written {
    name: "error",
    table: "[enum.error]",
    union: "Code",
    expected: "rows of a virErrorNumber and a union Code",
};

const ANY: &str = "*";

type Rows<K, V> = (FxHashMap<K, V>, Option<V>);

impl Written {
    fn wrong(&self, found: String) -> TableError {
        TableError::Wrong { table: self.table, expected: self.expected, found }
    }

    /// The rows, and that of `*`.
    fn rows<K: Eq + Hash, V: TryFrom<i32>>(
        &self,
        protocol: &Protocol,
        key: impl Fn(&Arc<str>) -> Option<K>,
    ) -> Result<Rows<K, V>, TableError> {
        let missing = TableError::Missing { table: self.table, expected: self.expected };
        let (union, readings) = protocol.enum_readings(self.name).ok_or(missing)?;
        if union != self.union {
            return Err(self.wrong(format!("`union = \"{union}\"`")));
        }
        let (mut rows, mut other) = (FxHashMap::default(), None);
        for (word, number) in readings {
            let value = i32::try_from(number).ok().and_then(|n| V::try_from(n).ok());
            let value = value.ok_or_else(|| self.wrong(format!("{} number {number}", self.union)))?;
            if &**word == ANY {
                other = Some(value);
            } else {
                rows.insert(key(word).ok_or_else(|| self.wrong(format!("`{word}`")))?, value);
            }
        }
        Ok((rows, other))
    }

    fn words<K: Eq + Hash, V: TryFrom<i32>>(
        &self,
        protocol: &Protocol,
        key: impl Fn(&Arc<str>) -> Option<K>,
    ) -> Result<Words<K, V>, TableError> {
        let (rows, other) = self.rows(protocol, key)?;
        let other = other.ok_or_else(|| self.wrong(format!("no row \"{ANY}\"")))?;
        Ok(Words { rows, other })
    }
}

fn number(word: &Arc<str>) -> Option<i64> {
    word.parse().ok()
}

/// A line of a free table.
struct Line<'a> {
    protocol: &'a Protocol,
    name: &'static str,
    path: &'static str,
    /// Both, as people write them.
    shown: &'static str,
    expected: &'static str,
}

impl<'a> Line<'a> {
    /// What `read` makes of it.
    fn read<T>(&self, read: impl Fn(&'a Constant) -> Option<T>) -> Result<T, TableError> {
        let missing = TableError::Missing { table: self.shown, expected: self.expected };
        let line = self.protocol.table(self.name).and_then(|t| t.get(self.path)).ok_or(missing)?;
        read(line).ok_or_else(|| TableError::Wrong {
            table: self.shown,
            expected: self.expected,
            found: format!("{line:?}"),
        })
    }
}

fn items(line: &Constant) -> Option<&[Constant]> {
    if let Constant::List(items) = line { Some(items) } else { None }
}

fn integer(line: &Constant) -> Option<i64> {
    if let Constant::Int(n) = line { Some(*n) } else { None }
}

fn registration(line: &Constant) -> Option<Registration> {
    let ids = line.list("ids").iter().map(|id| i32::try_from(integer(id)?).ok());
    let ids: Vec<i32> = ids.collect::<Option<_>>()?;
    Some(Registration { call: line.text("call")?.clone(), ids }).filter(|r| !r.ids.is_empty())
}

fn details(line: &Constant) -> Option<Vec<(i64, i64)>> {
    let event = integer(line.get("event")?)?;
    line.list("details").iter().map(|detail| Some((event, integer(detail)?))).collect()
}

fn power(line: &Constant) -> Option<PowerState> {
    line.as_text().and_then(|word| PowerState::from_str_name(word))
}

fn told(line: &Constant) -> Option<Told> {
    let details: Vec<i64> = line.list("details").iter().map(integer).collect::<Option<_>>()?;
    let from: Vec<PowerState> = line.list("from").iter().map(power).collect::<Option<_>>()?;
    let (event, state) = (integer(line.get("event")?)?, integer(line.get("state")?)?);
    let state = State { state, saved: false, autostart: false, persistent: true };
    Some(Told { event, details, from, state })
        .filter(|told| !told.details.is_empty() && !told.from.is_empty())
}

fn seconds(line: &Constant) -> Option<Duration> {
    u64::try_from(line.int("seconds")?).ok().map(Duration::from_secs)
}

fn waits(line: &Constant) -> Option<Young> {
    Some(Young { call: line.text("call")?.clone(), list: line.text("list")?.clone(), age: seconds(line)? })
}

fn tries(line: &Constant) -> Option<Again> {
    Some(Again { call: line.text("call")?.clone(), says: line.text("says")?.clone(), within: seconds(line)? })
}

impl Tables {
    /// The tables of libvirt's mapping.
    ///
    /// # Errors
    /// One is missing, or is not what is needed of it.
    pub fn new(protocol: &Protocol) -> Result<Tables, TableError> {
        let word = |word: &Arc<str>| Some(word.clone());
        let (errors, _) = ERRORS.rows(protocol, number)?;
        let line = |name, path, shown, expected| Line { protocol, name, path, shown, expected };
        let directories = line(
            "pools",
            "directories",
            "[table.pools] directories",
            "a list of the pool types whose volumes are files in a directory",
        );
        let agent =
            line("guest", "agent", "[table.guest] agent", "the name of the channel of the guest's agent");
        let started = line(
            "events",
            "started",
            "[table.events] started",
            "the number that says in a lifecycle event that the domain has started",
        );
        let events = line(
            "events",
            "register",
            "[table.events] register",
            "a list of { call = \"...\", ids = [numbers] }",
        );
        let runs = line(
            "events",
            "runs",
            "[table.events] runs",
            "a list of { event = number, details = [numbers] }: lifecycle events that change nothing but whether a domain runs",
        );
        let told_line = line(
            "events",
            "told",
            "[table.events] told",
            "a list of { event = number, details = [numbers], from = [power states], state = number }",
        );
        let defined = line(
            "domain",
            "defined",
            "[table.domain] defined",
            "a list of the fields that a running domain shows as it is defined",
        );
        let young = line(
            "patience",
            "young",
            "[table.patience] young",
            "a list of { call = \"...\", list = \"...\", seconds = number }: calls that wait until a guest is so old",
        );
        let again = line(
            "patience",
            "again",
            "[table.patience] again",
            "a list of { call = \"...\", says = \"...\", seconds = number }: calls that are made again when they are refused so",
        );
        Ok(Tables {
            states: STATES.words(protocol, number)?,
            snapshots: SNAPSHOTS.words(protocol, word)?,
            formats: FORMATS.words(protocol, word)?,
            errors,
            directories: directories.read(|l| items(l)?.iter().map(|t| t.as_text().cloned()).collect())?,
            agent: agent.read(|l| l.as_text().cloned())?,
            started: started.read(integer)?,
            runs: runs.read(|l| items(l)?.iter().map(details).collect::<Option<Vec<_>>>())?.concat(),
            told: told_line.read(|l| items(l)?.iter().map(told).collect())?,
            defined: defined.read(|l| items(l)?.iter().map(|t| t.as_text().cloned()).collect())?,
            young: young.read(|l| items(l)?.iter().map(waits).collect())?,
            again: again.read(|l| items(l)?.iter().map(tries).collect())?,
            events: events.read(|l| items(l)?.iter().map(registration).collect())?,
        })
    }

    /// The power state of a domain.
    pub fn power(&self, state: State) -> PowerState {
        match self.states.get(&state.state) {
            PowerState::Stopped if state.saved => PowerState::Suspended,
            power => power,
        }
    }

    /// Whether the guest is in memory.
    pub fn runs(&self, state: State) -> bool {
        matches!(self.power(state), PowerState::Running | PowerState::Paused)
    }

    /// Whether the guest sleeps, its memory kept by its process.
    pub fn asleep(&self, state: State) -> bool {
        self.states.get(&state.state) == PowerState::Suspended
    }

    /// Whether libvirt has a process for the domain, whatever the guest in it does: then it may be defined otherwise than it runs.
    pub fn active(&self, state: State) -> bool {
        self.states.get(&state.state) != PowerState::Stopped
    }

    /// The fields of a `Vm` that an active domain shows as it is defined: a change of them waits for the next start.
    pub fn defined(&self) -> &[Arc<str>] {
        &self.defined
    }

    /// Calls that wait until a guest is of some age.
    pub fn young(&self) -> &[Young] {
        &self.young
    }

    /// Calls that are made again when libvirt refuses them in certain words.
    pub fn again(&self) -> &[Again] {
        &self.again
    }

    /// The power state that a snapshot holds, by the word of its document.
    pub fn snapshot(&self, state: &str) -> PowerState {
        self.snapshots.get(state)
    }

    /// The format of a volume, by the word of its document.
    pub fn format(&self, format: &str) -> DiskFormat {
        self.formats.get(format)
    }

    /// What a `virErrorNumber` means; `None`: nothing that the union has a code for.
    pub fn meaning(&self, error: i64) -> Option<Code> {
        self.errors.get(&error).copied()
    }

    /// Whether the volumes of pools of this type are files in a directory.
    pub fn directory(&self, pool: &str) -> bool {
        self.directories.iter().any(|t| &**t == pool)
    }

    /// The name of the channel of the guest's agent.
    pub fn agent(&self) -> &str {
        &self.agent
    }

    /// The `event` of a lifecycle event that says that the domain has started.
    pub fn started(&self) -> i64 {
        self.started
    }

    /// Whether a lifecycle event of this `event` and `detail` changes nothing but whether the domain runs.
    pub fn is_run(&self, event: i64, detail: i64) -> bool {
        self.runs.contains(&(event, detail))
    }

    /// What a lifecycle event of this `event` and `detail` proves by itself.
    pub fn told(&self, event: i64, detail: i64) -> Option<&Told> {
        self.told.iter().find(|told| told.event == event && told.details.contains(&detail))
    }

    /// The events to ask for.
    pub fn events(&self) -> &[Registration] {
        &self.events
    }
}

#[cfg(test)]
mod tests;
