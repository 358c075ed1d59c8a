//! Reading properties now: `RetrieveProperties`, `RetrievePropertiesEx` and its pages, `Fetch`.
//!
//! A page's token is used once, by its session and its collector, within 15 minutes; a session keeps at most 32 unread pages.

use super::{
    content,
    plan::Plan,
    spec::FilterSpec,
    walk::{Ground, walk},
};
use crate::{
    call::{Call, Reply},
    fault::{Answer, Fault},
    inventory::{Key, TypeId},
    limits,
    made::Locked,
    native,
};
use mapping::NativeRef;
use rustc_hash::FxHashMap;
use std::{collections::VecDeque, sync::Arc, time::Duration};
use wire::{soap::encode::Encoder, xml::Element};

/// What is left of a retrieval.
pub(crate) struct Page {
    token: Arc<str>,
    collector: Arc<str>,
    since: Duration,
    rest: VecDeque<Part>,
}

/// The unread objects of one specification.
struct Part {
    plans: FxHashMap<TypeId, Arc<Plan>>,
    spec: Arc<FilterSpec>,
    keys: VecDeque<Key>,
}

/// `RetrieveProperties`
pub(crate) async fn retrieve_properties(call: &Call<'_>) -> Answer<Reply> {
    if call.session.is_none() {
        return Ok(Reply::write(|out| unauthenticated(call, out, "returnval")));
    }
    let mut out = Encoder::new();
    let mut parts = gather(call).await?;
    hand_out(call, &mut parts, usize::MAX, limits::ANSWER_BYTES, "returnval", &mut out).await;
    if !parts.is_empty() {
        return Err(Fault::invalid_request(format!(
            "The answer would have more than {} bytes; use RetrievePropertiesEx, which answers in pages",
            limits::ANSWER_BYTES
        )));
    }
    Ok(Reply::Body(out.finish()))
}

/// `RetrievePropertiesEx`
pub(crate) async fn retrieve_properties_ex(call: &Call<'_>) -> Answer<Reply> {
    if call.session.is_none() {
        return Ok(Reply::write(|out| {
            out.open("returnval");
            unauthenticated(call, out, "objects");
            out.close("returnval");
        }));
    }
    let most = match call.argument("options").and_then(|options| options.child("maxObjects")) {
        None => limits::PAGE,
        Some(most) => match most.int() {
            Some(most) if most > 0 => usize::try_from(most).unwrap_or(limits::PAGE).min(limits::PAGE),
            _ => return Err(Fault::invalid_argument("options.maxObjects", "expected a number above 0")),
        },
    };
    page(call, gather(call).await?, most).await
}

/// `ContinueRetrievePropertiesEx`
pub(crate) async fn continue_retrieve(call: &Call<'_>) -> Answer<Reply> {
    // A page is as long as the first one was.
    let (rest, most) = taken(call)?;
    page(call, rest, most).await
}

/// `CancelRetrievePropertiesEx`
pub(crate) fn cancel_retrieve(call: &Call<'_>) -> Answer<Reply> {
    taken(call)?;
    Ok(Reply::Void)
}

fn taken(call: &Call<'_>) -> Answer<(VecDeque<Part>, usize)> {
    let session = call.session()?;
    let token = call.text("token")?;
    let unknown =
        || Fault::invalid_argument("token", "the token was used, is too old, or was never given out here");
    let now = call.front.clock.monotonic();
    let mut pages = session.data.pages.lock();
    pages.retain(|page| now.saturating_sub(page.since) < limits::PAGE_AGE);
    let at = pages.iter().position(|page| &*page.token == token && page.collector == call.this.id);
    let page = at.and_then(|at| pages.remove(at)).ok_or_else(unknown)?;
    let most = token.rsplit_once('-').and_then(|(_, most)| most.parse().ok()).unwrap_or(limits::PAGE);
    Ok((page.rest, most))
}

/// Selects the objects of all specifications of a call.
async fn gather(call: &Call<'_>) -> Answer<VecDeque<Part>> {
    let mut parts = VecDeque::new();
    let mut selected = 0;
    if call.arguments("specSet").nth(limits::SPECS).is_some() {
        return Err(Fault::invalid_argument("specSet", "more specifications than one call may have"));
    }
    let made = Locked { workshop: &call.front.workshop, session: call.session_key() };
    for element in call.arguments("specSet") {
        let spec = Arc::new(FilterSpec::read(element, call.version)?);
        spec.check(call.catalog())?;
        let found = walk(&Ground { catalog: call.catalog(), made: &made, sight: call.sight() }, &spec)?;
        selected += found.members.len();
        if selected > limits::SELECTED {
            return Err(Fault::invalid_argument(
                "specSet",
                "the specifications select more objects than one call may",
            ));
        }
        let mut plans = FxHashMap::default();
        let mut keys = VecDeque::with_capacity(found.members.len());
        for (key, plan) in found.members {
            if let (Key::Fact(_, ty), Some(plan)) = (key, plan) {
                plans.entry(ty).or_insert(plan);
            }
            keys.push_back(key);
        }
        parts.push_back(Part { plans, spec, keys });
        tokio::task::yield_now().await;
    }
    Ok(parts)
}

/// Objects and bytes written before others get their turn.
const TURN: usize = 256;
const TURN_BYTES: usize = 128 << 10;

/// Writes up to `most` objects as elements called `name`, and none after `bytes` are reached; an object that is gone since counts as none.
async fn hand_out(
    call: &Call<'_>,
    parts: &mut VecDeque<Part>,
    most: usize,
    bytes: usize,
    name: &str,
    out: &mut Encoder,
) -> usize {
    let mut count = 0;
    let mut turn = TURN_BYTES;
    while let Some(part) = parts.front_mut() {
        while count < most && out.written().len() < bytes {
            let Some(key) = part.keys.pop_front() else { break };
            if put_content(call, out, name, key, part) {
                count += 1;
                if count % TURN == 0 || out.written().len() >= turn {
                    turn = out.written().len() + TURN_BYTES;
                    tokio::task::yield_now().await;
                }
            }
        }
        if !part.keys.is_empty() {
            break;
        }
        parts.pop_front();
    }
    tracing::trace!(method = call.method, count, "objects handed out");
    count
}

async fn page(call: &Call<'_>, mut rest: VecDeque<Part>, most: usize) -> Answer<Reply> {
    let mut objects = Encoder::new();
    let count = hand_out(call, &mut rest, most, limits::PAGE_BYTES, "objects", &mut objects).await;
    if count == 0 && rest.is_empty() {
        return Ok(Reply::Void);
    }
    let mut out = Encoder::new();
    out.open("returnval");
    if !rest.is_empty() {
        let session = call.session()?;
        let token: Arc<str> = Arc::from(format!("{}-{most}", call.front.ids.uuid()));
        out.leaf("token", &token);
        let mut pages = session.data.pages.lock();
        if pages.len() >= limits::PAGES {
            pages.pop_front();
        }
        let since = call.front.clock.monotonic();
        pages.push_back(Page { token, collector: call.this.id.clone(), since, rest });
    }
    out.raw_bytes(objects.written());
    out.close("returnval");
    Ok(Reply::Body(out.finish()))
}

/// One `ObjectContent`; false: the object is gone.
fn put_content(call: &Call<'_>, out: &mut Encoder, name: &str, key: Key, part: &Part) -> bool {
    let mark = out.mark();
    out.open(name);
    let shown = match key {
        Key::Fact(_, ty) => part.plans.get(&ty).is_some_and(|plan| content::put_fact(call, out, key, plan)),
        Key::Made(made) => content::put_made(call, out, made, &part.spec),
    };
    out.close(name);
    if !shown {
        out.rollback(mark);
    }
    shown
}

/// What a caller without a session sees: the objects named, and why nothing else.
fn unauthenticated(call: &Call<'_>, out: &mut Encoder, name: &str) {
    for spec in call.arguments("specSet") {
        for object in
            spec.children_named("objectSet").filter_map(|set| set.child("obj").and_then(native::reference))
        {
            put_unauthenticated(call, out, name, spec, &object);
        }
    }
}

fn put_unauthenticated(
    call: &Call<'_>,
    out: &mut Encoder,
    name: &str,
    spec: Element<'_>,
    object: &NativeRef,
) {
    out.open(name);
    native::put_reference(out, "obj", object);
    let key = call.catalog().resolve(object);
    for set in spec.children_named("propSet") {
        for path in set.children_named("pathSet").map(|path| path.text().trim()) {
            let open = key.is_some_and(|key| content::is_open(call, key, path));
            if !open {
                content::put_missing(out, path, &Fault::not_authenticated(object.clone()));
            } else if let Some(key) = key {
                content::put_property(call, out, key, path);
            }
        }
    }
    out.close(name);
}

/// `Fetch`: one property of any object, by itself. The real product has it without documenting it.
pub(crate) fn fetch(call: &Call<'_>) -> Answer<Reply> {
    let path = call.text("prop")?.trim();
    let key = call.receiver;
    if call.session.is_none() && !content::is_open(call, key, path) {
        return Err(Fault::not_authenticated(call.this.clone()));
    }
    let mut out = Encoder::new();
    content::put_value(call, &mut out, "returnval", key, path)?;
    Ok(Reply::Body(out.finish()))
}
