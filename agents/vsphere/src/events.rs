//! EventManager and event collectors over the chronicle.

use crate::{
    call::{Call, Reply},
    fault::{Answer, Fault},
    front::Front,
    history::{self, About, Cursor},
    inventory::Key,
    limits,
    made::Thing,
    native::Soap,
    permission::Sight,
};
use ::inventory::chronicle::{Entry, Filter};
use mapping::{
    NativeRef, ObjectMap,
    schema::{TypeId, VersionIndex},
};
use std::sync::Arc;
use union::{Kind, Value};
use wire::{soap::encode::Encoder, xml::Element};

/// How far back the newest event that can be shown is looked for.
const LATE: i64 = 64;

/// Which events.
#[derive(Clone, Debug, Default)]
pub(crate) struct EventFilter {
    about: About,
    types: Vec<TypeId>,
    most: Option<usize>,
}

/// An `EventHistoryCollector`.
#[derive(Clone, Debug, Default)]
pub(crate) struct EventPages {
    filter: EventFilter,
    /// Where it stands.
    pub(crate) cursor: Cursor,
}

impl EventFilter {
    fn read(call: &Call<'_>, element: Element<'_>) -> Answer<EventFilter> {
        let native = call.catalog().native();
        let mut types = Vec::new();
        for name in element.children_named("type").chain(element.children_named("eventTypeId")) {
            let name = name.text().trim();
            let local = name.rsplit('.').next().unwrap_or(name);
            // An id that no schema knows is one of an extension, whose events there are none of.
            types.push(native.named(local).unwrap_or(TypeId(u16::MAX)));
        }
        let most =
            element.child("maxCount").and_then(Element::int).and_then(|most| usize::try_from(most).ok());
        Ok(EventFilter { about: About::read(call, element)?, types, most })
    }

    /// The events that pass, oldest first, with the type each is shown as.
    fn events(&self, front: &Front, sight: &Sight<'_>) -> Vec<(Entry, Arc<ObjectMap>)> {
        let filter = Filter { from_ms: self.about.from_ms, to_ms: self.about.to_ms, ..Filter::default() };
        let slot = |field| front.catalog.schema().slot(Kind::Event, field);
        let (principal, chain) = (slot("principal"), slot("chain"));
        let all = front.chronicle.query(&filter).into_iter();
        all.filter_map(|entry| {
            let map = front.catalog.event_map(&entry)?.clone();
            let native = front.catalog.native();
            if !self.types.is_empty() && !self.types.iter().any(|ty| native.is_a(map.native_id, *ty)) {
                return None;
            }
            if !self.about.admits_chain(chain.and_then(|slot| entry.record.get(slot).as_int())) {
                return None;
            }
            let user = principal.and_then(|slot| entry.record.get(slot).as_str()).unwrap_or_default();
            let seen = sight.is_whole() || entry.object.is_some_and(|object| sight.sees(object));
            (seen && self.about.admits(&front.catalog, entry.object, user)).then_some((entry, map))
        })
        .collect()
    }
}

impl EventPages {
    /// The latest page, newest first; false: it is empty.
    pub(crate) fn put_latest(&self, call: &Call<'_>, out: &mut Encoder, name: &str) -> bool {
        let events = self.filter.events(call.front, call.sight());
        out.open_typed(name, "ArrayOfEvent");
        for (entry, map) in events.iter().rev().take(self.cursor.page) {
            put_event(call.front, out, "Event", entry, map, call.version);
        }
        out.close(name);
        true
    }
}

/// One event as `<name xsi:type="VmPoweredOnEvent">`.
fn put_event(
    front: &Front,
    out: &mut Encoder,
    name: &str,
    entry: &Entry,
    map: &ObjectMap,
    version: VersionIndex,
) {
    out.open_typed(name, &map.native_type);
    let mut soap = Soap::new(out, &front.tags, name);
    map.render_fields(entry.id, &entry.record, &front.catalog, version, &mut soap);
    out.close(name);
}

fn put_events(call: &Call<'_>, events: &[(Entry, Arc<ObjectMap>)]) -> Reply {
    Reply::write(|out| {
        for (entry, map) in events {
            put_event(call.front, out, "returnval", entry, map, call.version);
        }
    })
}

fn filter(call: &Call<'_>) -> Answer<EventFilter> {
    let element =
        call.argument("filter").ok_or_else(|| Fault::invalid_argument("filter", "it is required"))?;
    EventFilter::read(call, element)
}

/// `QueryEvents`: the newest that pass, oldest of them first.
pub(crate) fn query(call: &Call<'_>) -> Answer<Reply> {
    call.session()?;
    let filter = filter(call)?;
    let mut events = filter.events(call.front, call.sight());
    let most = filter.most.unwrap_or(limits::EVENTS).min(limits::EVENTS);
    events.drain(..events.len().saturating_sub(most));
    Ok(put_events(call, &events))
}

/// `CreateCollectorForEvents`
pub(crate) fn create_collector(call: &Call<'_>) -> Answer<Reply> {
    let session = call.session()?;
    let filter = filter(call)?;
    let mut workshop = call.front.workshop.lock();
    if workshop.all_of(&session.data.owner).count() >= limits::MADE {
        return Err(Fault::limit("filters, collectors and views", limits::MADE));
    }
    let id = call.front.made_id(&session.id);
    let thing = Thing::Events(EventPages { filter, cursor: Cursor::default() });
    let (_, reference) = workshop
        .make(&session.data.owner, thing, |_| NativeRef { ty: Arc::from("EventHistoryCollector"), id });
    Ok(Reply::reference(&reference))
}

/// `ReadNextEvents`
pub(crate) fn read_next(call: &Call<'_>) -> Answer<Reply> {
    read(call, true)
}

/// `ReadPreviousEvents`
pub(crate) fn read_previous(call: &Call<'_>) -> Answer<Reply> {
    read(call, false)
}

fn read(call: &Call<'_>, forward: bool) -> Answer<Reply> {
    let most = history::most(call)?;
    let number = |item: &(Entry, Arc<ObjectMap>)| item.0.number;
    // Gathered outside the lock that changes take.
    let filter = with_pages(call, |thing| match thing {
        Thing::Events(pages) => Some(pages.filter.clone()),
        _ => None,
    })?;
    let all = filter.events(call.front, call.sight());
    let events = with_pages(call, |thing| match thing {
        Thing::Events(pages) if forward => Some(pages.cursor.next(all, number, most)),
        Thing::Events(pages) => Some(pages.cursor.previous(all, number, most)),
        _ => None,
    })?;
    Ok(put_events(call, &events))
}

/// Does something to the collector that the call is sent to.
pub(crate) fn with_pages<T>(call: &Call<'_>, run: impl FnOnce(&mut Thing) -> Option<T>) -> Answer<T> {
    let gone = || Fault::not_found(call.this.clone());
    let Key::Made(number) = call.receiver else { return Err(gone()) };
    let mut workshop = call.front.workshop.lock();
    let made = workshop.get_mut(number).ok_or_else(gone)?;
    run(&mut made.thing).ok_or_else(gone)
}

fn with_cursor(call: &Call<'_>, run: impl FnOnce(&mut Cursor)) -> Answer<Reply> {
    with_pages(call, |thing| {
        match thing {
            Thing::Events(pages) => run(&mut pages.cursor),
            Thing::Tasks(pages) => run(&mut pages.cursor),
            _ => return None,
        }
        Some(Reply::Void)
    })
}

/// `SetCollectorPageSize`
pub(crate) fn set_page_size(call: &Call<'_>) -> Answer<Reply> {
    let most = history::most(call)?;
    let reply = with_cursor(call, |cursor| cursor.page = most)?;
    if let Key::Made(number) = call.receiver {
        call.front.workshop.lock().updates.made_changed(number);
    }
    Ok(reply)
}

/// `RewindCollector`
pub(crate) fn rewind(call: &Call<'_>) -> Answer<Reply> {
    with_cursor(call, Cursor::rewind)
}

/// `ResetCollector`
pub(crate) fn reset(call: &Call<'_>) -> Answer<Reply> {
    with_cursor(call, Cursor::reset)
}

/// `DestroyCollector`
pub(crate) fn destroy(call: &Call<'_>) -> Answer<Reply> {
    if let Key::Made(number) = call.receiver {
        call.front.workshop.lock().unmake(number);
    }
    Ok(Reply::Void)
}

/// The newest event that the vendor has a type for, as a part of what the front says of itself.
pub(crate) fn latest(front: &Front) -> Option<(Value, union::ObjectId)> {
    let newest = front.chronicle.latest()?.number;
    let mut late = (0..LATE).filter_map(|back| front.chronicle.get(newest.saturating_sub(back)));
    let entry = late.find(|entry| front.catalog.event_map(entry).is_some())?;
    Some((Value::Record(entry.record.clone()), entry.id))
}
