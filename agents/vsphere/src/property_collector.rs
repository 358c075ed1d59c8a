//! The PropertyCollector: reading properties of many objects, once or as they change.
//!
//! ```text
//! spec       what a client selects, read
//! walk       from there through the traversals to the objects
//! plan       the properties of one type, resolved; which of them look at which union slots
//! content    properties on the wire
//! retrieve   once: RetrieveProperties, Ex with pages, Fetch
//! updates    what changed, for whom: pure state, fed by the inventory's changes
//! wait       as it changes: filters, WaitForUpdates, Ex, CheckForUpdates
//! ```

mod bits;
pub(crate) mod content;
mod plan;
pub(crate) mod retrieve;
mod spec;
mod updates;
pub(crate) mod wait;
mod walk;

pub(crate) use retrieve::Page;
pub(crate) use spec::FilterSpec;
pub(crate) use updates::{CollectorId, Updates};

use crate::{
    call::{Call, Reply},
    fault::{Answer, Fault},
    inventory::Key,
    limits,
    made::Thing,
};
use mapping::NativeRef;
use std::sync::Arc;

/// The collector a call is sent to: a made one, or the session's own where the call names the one that everybody knows.
fn collector(call: &Call<'_>) -> Answer<CollectorId> {
    let session = call.session()?;
    match call.receiver {
        Key::Made(number) => Ok(number),
        Key::Fact(..) => Ok(session.data.collector()),
    }
}

/// `CreatePropertyCollector`
pub(crate) fn create_collector(call: &Call<'_>) -> Answer<Reply> {
    let session = call.session()?;
    let mut workshop = call.front.workshop.lock();
    if workshop.all_of(&session.data.owner).count() >= limits::MADE {
        return Err(Fault::limit("filters, collectors and views", limits::MADE));
    }
    let id = call.front.made_id(&session.id);
    let (number, reference) = workshop.make(&session.data.owner, Thing::Collector { default: false }, |_| {
        NativeRef { ty: Arc::from("PropertyCollector"), id }
    });
    workshop.updates.open(number);
    Ok(Reply::reference(&reference))
}

/// `DestroyPropertyCollector`
pub(crate) fn destroy_collector(call: &Call<'_>) -> Answer<Reply> {
    match call.receiver {
        Key::Made(number) => call.front.workshop.lock().unmake(number),
        // The session's own collector lasts as long as the session; the real product says so too.
        Key::Fact(..) => return Err(Fault::not_supported(call.method)),
    }
    Ok(Reply::Void)
}

/// `DestroyPropertyFilter`
pub(crate) fn destroy_filter(call: &Call<'_>) -> Answer<Reply> {
    if let Key::Made(number) = call.receiver {
        call.front.workshop.lock().unmake(number);
    }
    Ok(Reply::Void)
}
