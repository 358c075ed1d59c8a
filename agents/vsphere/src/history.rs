//! What event and task collectors share: a place in a numbered history, and what their filters say of objects, times and people.
//!
//! ```text
//! rewound (at the start)      before the oldest: read next gives oldest to newest
//! reset                       after the newest: read previous gives newest to oldest
//! ```

use crate::{
    call::Call,
    fault::{Answer, Fault},
    inventory::Catalog,
    limits, native,
};
use union::ObjectId;
use wire::xml::Element;

/// A place between two items, and how many items the latest page has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor {
    /// Items up to this number lie before it.
    at: i64,
    /// Items of the latest page.
    pub(crate) page: usize,
}

impl Default for Cursor {
    fn default() -> Cursor {
        Cursor { at: 0, page: 10 }
    }
}

impl Cursor {
    /// Before the oldest.
    pub(crate) fn rewind(&mut self) {
        self.at = 0;
    }

    /// After the newest.
    pub(crate) fn reset(&mut self) {
        self.at = i64::MAX;
    }

    /// The next items of an ascending history, oldest first.
    pub(crate) fn next<T>(&mut self, items: Vec<T>, number: impl Fn(&T) -> i64, most: usize) -> Vec<T> {
        let read: Vec<T> = items.into_iter().filter(|item| number(item) > self.at).take(most).collect();
        self.at = read.last().map_or(self.at, number);
        read
    }

    /// The items before, newest first.
    pub(crate) fn previous<T>(&mut self, items: Vec<T>, number: impl Fn(&T) -> i64, most: usize) -> Vec<T> {
        let read: Vec<T> =
            items.into_iter().rev().filter(|item| number(item) <= self.at).take(most).collect();
        self.at = read.last().map_or(self.at, |item| number(item) - 1);
        read
    }
}

/// How many items a call asks for.
pub(crate) fn most(call: &Call<'_>) -> Answer<usize> {
    let most = usize::try_from(call.int("maxCount")?).ok().filter(|most| *most > 0);
    let most = most.ok_or_else(|| Fault::invalid_argument("maxCount", "expected a number above 0"))?;
    Ok(most.min(limits::EVENTS))
}

/// Which objects a filter is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    Itself,
    Children,
    All,
}

/// What an event or task filter says beside what is its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct About {
    entity: Option<(ObjectId, Depth)>,
    /// Not before, Unix milliseconds.
    pub(crate) from_ms: Option<i64>,
    /// Not after.
    pub(crate) to_ms: Option<i64>,
    /// Only by these; empty: by anybody.
    users: Vec<String>,
    /// Only of these chains; empty: of any.
    chains: Vec<i64>,
}

impl About {
    /// Reads `entity`, `time`, `userName` and `eventChainId` of a filter.
    pub(crate) fn read(call: &Call<'_>, filter: Element<'_>) -> Answer<About> {
        let mut about = About::default();
        if let Some(by) = filter.child("entity") {
            let reference = by.child("entity").and_then(native::reference);
            let reference =
                reference.ok_or_else(|| Fault::invalid_argument("filter.entity", "expected an object"))?;
            let depth = match by.child_text("recursion").map(str::trim) {
                Some("self") => Depth::Itself,
                Some("children") => Depth::Children,
                Some("all") => Depth::All,
                _ => {
                    return Err(Fault::invalid_argument(
                        "filter.entity.recursion",
                        "expected self, children or all",
                    ));
                }
            };
            about.entity = Some((call.fact(&reference)?, depth));
        }
        if let Some(time) = filter.child("time") {
            about.from_ms = end_of(time, "beginTime")?;
            about.to_ms = end_of(time, "endTime")?;
        }
        if let Some(users) = filter.child("userName") {
            about.users = users.children_named("userList").map(|user| user.text().to_owned()).collect();
        }
        let chains = filter.children_named("eventChainId").map(Element::int);
        let wrong = || Fault::invalid_argument("filter.eventChainId", "expected a whole number");
        about.chains = chains.collect::<Option<_>>().ok_or_else(wrong)?;
        Ok(about)
    }

    /// Whether something of a chain passes.
    pub(crate) fn admits_chain(&self, chain: Option<i64>) -> bool {
        self.chains.is_empty() || chain.is_some_and(|chain| self.chains.contains(&chain))
    }

    /// Whether something that happened to `object` by `user` passes.
    pub(crate) fn admits(&self, catalog: &Catalog, object: Option<ObjectId>, user: &str) -> bool {
        if !self.users.is_empty() && !self.users.iter().any(|known| known.eq_ignore_ascii_case(user)) {
            return false;
        }
        let Some((entity, depth)) = self.entity else { return true };
        if depth == Depth::All && entity == catalog.root() {
            return true;
        }
        let Some(object) = object else { return false };
        if object == entity {
            return true;
        }
        let Some(record) = catalog.record(object) else { return false };
        match depth {
            Depth::Itself => false,
            Depth::Children => catalog.tree().is_in(object, &record, entity),
            Depth::All => catalog.tree().is_below(catalog, object, &record, entity),
        }
    }
}

/// One end of a span of time; one that cannot be read must not widen what is found.
fn end_of(time: Element<'_>, name: &str) -> Answer<Option<i64>> {
    let end = time.child(name);
    let read = end.map(|end| {
        let wrong = || Fault::invalid_argument(&format!("filter.time.{name}"), "expected a date and a time");
        end.time().ok_or_else(wrong)
    });
    read.transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_ways() {
        let items = || (1..=7i64).collect::<Vec<_>>();
        let mut cursor = Cursor::default();
        assert_eq!(cursor.next(items(), |n| *n, 3), [1, 2, 3]);
        assert_eq!(cursor.next(items(), |n| *n, 3), [4, 5, 6]);
        assert_eq!(cursor.previous(items(), |n| *n, 2), [6, 5]);
        assert_eq!(cursor.next(items(), |n| *n, 9), [5, 6, 7]);
        assert!(cursor.next(items(), |n| *n, 9).is_empty());
        cursor.reset();
        assert_eq!(cursor.previous(items(), |n| *n, 2), [7, 6]);
        cursor.rewind();
        assert!(cursor.previous(items(), |n| *n, 2).is_empty());
    }
}
