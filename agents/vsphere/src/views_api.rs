//! The calls that make and change views. What a view is, is in [`crate::views`].

use crate::{
    call::{Call, Reply},
    fault::{Answer, Fault},
    inventory::Key,
    limits,
    made::{MadeRead, OfSession, Thing},
    native,
    views::{Moved, ViewState},
};
use mapping::NativeRef;
use std::sync::Arc;
use wire::xml::Element;

fn make(call: &Call<'_>, ty: &str, view: ViewState) -> Answer<Reply> {
    let session = call.session()?;
    let mut workshop = call.front.workshop.lock();
    if workshop.all_of(&session.data.owner).count() >= limits::MADE {
        return Err(Fault::limit("filters, collectors and views", limits::MADE));
    }
    let id = call.front.made_id(&session.id);
    let (_, reference) =
        workshop.make(&session.data.owner, Thing::View(view), |_| NativeRef { ty: Arc::from(ty), id });
    Ok(Reply::reference(&reference))
}

/// `CreateContainerView`
pub(crate) fn create_container_view(call: &Call<'_>) -> Answer<Reply> {
    let container = call.object("container")?;
    let types: Vec<&str> =
        call.arguments("type").map(|ty| ty.text().trim()).filter(|ty| !ty.is_empty()).collect();
    let recursive = call.argument("recursive").and_then(Element::bool).unwrap_or(false);
    // Filled while no change can pass: the lock that changes take is held.
    let session = call.session()?.clone();
    let mut workshop = call.front.workshop.lock();
    if workshop.all_of(&session.data.owner).count() >= limits::MADE {
        return Err(Fault::limit("filters, collectors and views", limits::MADE));
    }
    let view = ViewState::container(call.catalog(), container, &types, recursive)?;
    let id = call.front.made_id(&session.id);
    let (_, reference) = workshop
        .make(&session.data.owner, Thing::View(view), |_| NativeRef { ty: Arc::from("ContainerView"), id });
    Ok(Reply::reference(&reference))
}

/// `CreateListView`
pub(crate) fn create_list_view(call: &Call<'_>) -> Answer<Reply> {
    let (keys, missing) = keys(call, "obj");
    if let Some(missing) = missing.into_iter().next() {
        return Err(Fault::not_found(missing));
    }
    make(call, "ListView", ViewState::list(keys))
}

/// `CreateListViewFromView`
pub(crate) fn create_list_view_from_view(call: &Call<'_>) -> Answer<Reply> {
    let keys = members_of(call, "view")?;
    make(call, "ListView", ViewState::list(keys))
}

/// `CreateInventoryView`
pub(crate) fn create_inventory_view(call: &Call<'_>) -> Answer<Reply> {
    make(call, "InventoryView", ViewState::inventory(call.catalog(), call.catalog().root()))
}

/// `ModifyListView`
pub(crate) fn modify_list_view(call: &Call<'_>) -> Answer<Reply> {
    let (add, mut refused) = keys(call, "add");
    let (remove, unknown) = keys(call, "remove");
    refused.extend(unknown);
    change(call, |view| {
        let mut moved = Moved::default();
        for key in remove {
            if view.members.shift_remove(&key) {
                moved.removed.push(key);
            }
        }
        for key in add {
            if view.members.insert(key) {
                moved.added.push(key);
            }
        }
        moved
    })?;
    unresolved(&refused)
}

/// `ResetListView`
pub(crate) fn reset_list_view(call: &Call<'_>) -> Answer<Reply> {
    let (keys, refused) = keys(call, "obj");
    change(call, |view| view.become_set(keys.into_iter().collect()))?;
    unresolved(&refused)
}

/// `ResetListViewFromView`
pub(crate) fn reset_list_view_from_view(call: &Call<'_>) -> Answer<Reply> {
    let keys = members_of(call, "view")?;
    change(call, |view| view.become_set(keys.into_iter().collect()))?;
    Ok(Reply::Void)
}

/// `OpenInventoryViewFolder`
pub(crate) fn open_folder(call: &Call<'_>) -> Answer<Reply> {
    open_or_close(call, true)
}

/// `CloseInventoryViewFolder`
pub(crate) fn close_folder(call: &Call<'_>) -> Answer<Reply> {
    open_or_close(call, false)
}

fn open_or_close(call: &Call<'_>, opening: bool) -> Answer<Reply> {
    let folders = call.facts("entity")?;
    let mut refused = Vec::new();
    change(call, |view| {
        let (moved, unknown) = view.open(call.catalog(), &folders, opening);
        refused = unknown;
        moved
    })?;
    let refused: Vec<NativeRef> = refused.iter().filter_map(|id| call.catalog().reference(*id)).collect();
    unresolved(&refused)
}

/// `DestroyView`
pub(crate) fn destroy_view(call: &Call<'_>) -> Answer<Reply> {
    if let Key::Made(number) = call.receiver {
        call.front.workshop.lock().unmake(number);
    }
    Ok(Reply::Void)
}

/// The references of an argument as keys, and those that lead nowhere.
fn keys(call: &Call<'_>, name: &'static str) -> (Vec<Key>, Vec<NativeRef>) {
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for reference in call.arguments(name).filter_map(native::reference) {
        match call.front.find(call.session.as_deref(), &reference) {
            Some(key) => found.push(key),
            None => missing.push(reference),
        }
    }
    (found, missing)
}

fn members_of(call: &Call<'_>, argument: &str) -> Answer<Vec<Key>> {
    let reference = call.argument(argument).and_then(native::reference);
    let reference =
        reference.ok_or_else(|| Fault::invalid_argument(argument, "expected a reference to a view"))?;
    let workshop = call.front.workshop.lock();
    let of = OfSession { workshop: &workshop, session: call.session_key() };
    let made = of.find(&reference).and_then(Key::made).and_then(|number| workshop.get(number));
    match made.map(|made| &made.thing) {
        Some(Thing::View(view)) => Ok(view.members.iter().copied().collect()),
        _ => Err(Fault::not_found(reference)),
    }
}

/// Changes the view that the call is sent to, and tells its filters.
fn change(call: &Call<'_>, change: impl FnOnce(&mut ViewState) -> Moved) -> Answer<()> {
    let Key::Made(number) = call.receiver else { return Err(Fault::not_found(call.this.clone())) };
    let mut workshop = call.front.workshop.lock();
    let Some(Thing::View(view)) = workshop.get_mut(number).map(|made| &mut made.thing) else {
        return Err(Fault::not_found(call.this.clone()));
    };
    let moved = change(view);
    workshop.updates.view_changed(call.catalog(), number, &moved.added, &moved.removed);
    Ok(())
}

/// Answers with what could not be found.
fn unresolved(refused: &[NativeRef]) -> Answer<Reply> {
    if refused.is_empty() {
        return Ok(Reply::Void);
    }
    Ok(Reply::write(|out| refused.iter().for_each(|r| native::put_reference(out, "returnval", r))))
}
