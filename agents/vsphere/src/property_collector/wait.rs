//! Waiting for changes: `WaitForUpdates`, `WaitForUpdatesEx`, `CheckForUpdates`.
//!
//! ```text
//! version ""        everything, at once            known version   what changed since, or wait for it
//! expired           an empty answer (Ex), else wait on; any wait ends after 10 minutes
//! cancelled, drained, collector gone: RequestCanceled
//! ```

use super::{
    content,
    plan::Plan,
    updates::{Batch, CollectorId, What},
    walk::{Ground, walk},
};
use crate::{
    call::{Call, Reply},
    fault::{Answer, Fault},
    inventory::{Key, TypeId},
    limits,
    made::{OfSession, Thing},
    native,
};
use mapping::NativeRef;
use rustc_hash::FxHashMap;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};
use wire::{soap::encode::Encoder, xml::Element};

/// How a call wants its updates.
struct Wanted {
    version: Option<u64>,
    most: usize,
    until: Instant,
}

/// One filter's part of an answer, ready to be written.
struct Part {
    filter: NativeRef,
    spec: Arc<super::FilterSpec>,
    plans: FxHashMap<TypeId, Arc<Plan>>,
    updates: Vec<(Key, What)>,
    missing: Vec<NativeRef>,
}

fn canceled() -> Fault {
    Fault::new("RequestCanceled", "The task was canceled by a user.")
}

/// `WaitForUpdates`: never truncates, waits for a change.
pub(crate) async fn wait_for_updates(call: &Call<'_>) -> Answer<Reply> {
    let wanted = Wanted { version: version(call)?, most: usize::MAX, until: Instant::now() + limits::WAIT };
    match wait(call, &wanted).await? {
        Some(reply) => Ok(reply),
        // The method must answer with an update set; only a cancelled call has none.
        None => Err(canceled()),
    }
}

/// `WaitForUpdatesEx`
pub(crate) async fn wait_for_updates_ex(call: &Call<'_>) -> Answer<Reply> {
    let options = call.argument("options");
    let option = |name: &str| options.and_then(|options| options.child(name));
    let most = match option("maxObjectUpdates") {
        None => limits::UPDATES,
        Some(most) => match most.int().and_then(|most| usize::try_from(most).ok()).filter(|most| *most > 0) {
            Some(most) => most.min(limits::UPDATES),
            None => {
                return Err(Fault::invalid_argument("options.maxObjectUpdates", "expected a number above 0"));
            }
        },
    };
    let seconds = match option("maxWaitSeconds") {
        None => limits::WAIT,
        Some(seconds) => match seconds.int().and_then(|s| u64::try_from(s).ok()) {
            Some(seconds) => Duration::from_secs(seconds).min(limits::WAIT),
            None => return Err(Fault::invalid_argument("options.maxWaitSeconds", "expected 0 or more")),
        },
    };
    let wanted = Wanted { version: version(call)?, most, until: Instant::now() + seconds };
    Ok(wait(call, &wanted).await?.unwrap_or(Reply::Void))
}

/// `CheckForUpdates`
pub(crate) fn check_for_updates(call: &Call<'_>) -> Answer<Reply> {
    let collector = super::collector(call)?;
    Ok(ready(call, collector, version(call)?, usize::MAX)?.unwrap_or(Reply::Void))
}

/// `CancelWaitForUpdates`
pub(crate) fn cancel_wait(call: &Call<'_>) -> Answer<Reply> {
    let collector = super::collector(call)?;
    call.front.workshop.lock().updates.cancel(collector);
    Ok(Reply::Void)
}

fn version(call: &Call<'_>) -> Answer<Option<u64>> {
    match call.argument("version").map(Element::text).map(str::trim) {
        None | Some("") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| unknown_version()),
    }
}

fn unknown_version() -> Fault {
    Fault::new("InvalidCollectorVersion", "The version is not one that this collector handed out last.")
}

async fn wait(call: &Call<'_>, wanted: &Wanted) -> Answer<Option<Reply>> {
    let collector = super::collector(call)?;
    let session = call.session()?;
    let _waiting = session.data.wait().ok_or_else(|| Fault::limit("waits", limits::WAITS))?;
    let waits = || call.front.workshop.lock().updates.waits(collector);
    let Some((notify, cancelled)) = waits() else { return Err(canceled()) };
    loop {
        let notified = notify.notified();
        tokio::pin!(notified);
        notified.as_mut().enable();
        if let Some(reply) = ready(call, collector, wanted.version, wanted.most)? {
            return Ok(Some(reply));
        }
        let woken = tokio::select! {
            woken = timeout_at(wanted.until, notified) => woken.is_ok(),
            () = call.draining.cancelled() => return Err(canceled()),
            () = session.ended.cancelled() => return Err(canceled()),
        };
        if waits().is_none_or(|(_, now)| now != cancelled) {
            return Err(canceled());
        }
        if !woken {
            return Ok(None);
        }
    }
}

/// What there is to tell now.
fn ready(
    call: &Call<'_>,
    collector: CollectorId,
    version: Option<u64>,
    most: usize,
) -> Answer<Option<Reply>> {
    let sight = call.sight_now();
    let (batch, parts) = {
        let mut workshop = call.front.workshop.lock();
        for (filter, spec) in workshop.updates.stale(collector) {
            let made = OfSession { workshop: &workshop, session: call.session_key() };
            // Objects it began at may be gone by now: what is left is what the filter selects.
            let spec = super::FilterSpec { tolerant: true, ..(*spec).clone() };
            let found = walk(&Ground { catalog: call.catalog(), made: &made, sight: &sight }, &spec)?;
            workshop.updates.walked(filter, found);
        }
        let taken = workshop.updates.take(collector, version, most).map_err(|_| unknown_version())?;
        let Some(mut batch) = taken else { return Ok(None) };
        let mut parts = Vec::with_capacity(batch.filters.len());
        for (id, updates) in std::mem::take(&mut batch.filters) {
            let (Some(filter), Some(made)) = (workshop.updates.filter(id), workshop.get(id)) else {
                continue;
            };
            let missing = if version.is_none() { filter.missing.clone() } else { Vec::new() };
            let (filter, spec, plans) = (made.reference.clone(), filter.spec.clone(), filter.plans().clone());
            parts.push(Part { filter, spec, plans, updates, missing });
        }
        (batch, parts)
    };
    Ok(Some(Reply::write(|out| put_update_set(call, out, &batch, &parts))))
}

fn put_update_set(call: &Call<'_>, out: &mut Encoder, batch: &Batch, parts: &[Part]) {
    out.open("returnval");
    out.int_leaf("version", i64::try_from(batch.version).unwrap_or(i64::MAX));
    for part in parts {
        out.open("filterSet");
        native::put_reference(out, "filter", &part.filter);
        for (key, what) in &part.updates {
            put_update(call, out, part, *key, *what);
        }
        for object in &part.missing {
            out.open("missingSet");
            native::put_reference(out, "obj", object);
            out.open("fault");
            Fault::not_found(object.clone()).encode_localized(out);
            out.close("fault");
            out.close("missingSet");
        }
        out.close("filterSet");
    }
    if batch.truncated {
        out.bool_leaf("truncated", true);
    }
    out.close("returnval");
}

fn put_update(call: &Call<'_>, out: &mut Encoder, part: &Part, key: Key, what: What) {
    let reference = match key {
        Key::Fact(..) => call.catalog().reference_of(key),
        Key::Made(made) => call.front.workshop.lock().get(made).map(|made| made.reference.clone()),
    };
    let Some(reference) = reference else { return };
    let mark = out.mark();
    out.open("objectSet");
    let kind = match what {
        What::Enter => "enter",
        What::Modify(_) => "modify",
        What::Leave => "leave",
    };
    out.leaf("kind", kind);
    native::put_reference(out, "obj", &reference);
    let shown = match (what, key) {
        (What::Leave, _) => true,
        (_, Key::Fact(_, ty)) => {
            part.plans.get(&ty).is_some_and(|plan| content::put_changes(call, out, key, plan, what))
        }
        (_, Key::Made(made)) => content::put_made_changes(call, out, made, &part.spec),
    };
    out.close("objectSet");
    if !shown {
        // Gone since: its `leave` follows, which a client that was not told of it passes over.
        out.rollback(mark);
    }
}

/// `CreateFilter`
pub(crate) fn create_filter(call: &Call<'_>) -> Answer<Reply> {
    let collector = super::collector(call)?;
    let element = call.argument("spec").ok_or_else(|| Fault::invalid_argument("spec", "it is required"))?;
    let spec = Arc::new(super::FilterSpec::read(element, call.version)?);
    spec.check(call.catalog())?;
    let partial = call.argument("partialUpdates").and_then(Element::bool).unwrap_or(false);
    let session = call.session()?;
    let mut workshop = call.front.workshop.lock();
    if workshop.all_of(&session.data.owner).count() >= limits::MADE {
        return Err(Fault::limit("filters, collectors and views", limits::MADE));
    }
    let found = {
        let made = OfSession { workshop: &workshop, session: &session.data.owner };
        walk(&Ground { catalog: call.catalog(), made: &made, sight: call.sight() }, &spec)?
    };
    let id = call.front.made_id(&session.id);
    let (number, reference) =
        workshop.make(&session.data.owner, Thing::Filter { collector, spec: spec.clone(), partial }, |_| {
            NativeRef { ty: Arc::from("PropertyFilter"), id }
        });
    workshop.updates.add(number, collector, spec);
    workshop.updates.walked(number, found);
    Ok(Reply::reference(&reference))
}
