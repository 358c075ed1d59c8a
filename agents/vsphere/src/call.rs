//! One call on its way through the front, and what methods answer.

use crate::{
    fault::{Answer, Fault},
    front::Front,
    inventory::{Catalog, Key, TypeId},
    native,
    permission::Sight,
    session::Session,
};
use mapping::{NativeRef, schema::VersionIndex};
use std::{net::IpAddr, sync::Arc};
use tokio_util::sync::CancellationToken;
use union::ObjectId;
use wire::{soap::encode::Encoder, xml::Element};

/// A decoded, authenticated call.
pub(crate) struct Call<'r> {
    /// The front it came to.
    pub(crate) front: &'r Front,
    /// The caller's session.
    pub(crate) session: Option<Arc<Session>>,
    /// The version it is answered in.
    pub(crate) version: VersionIndex,
    /// The method's element.
    pub(crate) method: &'r str,
    /// The arguments.
    pub(crate) element: Element<'r>,
    /// The object it is sent to, in the caller's words.
    pub(crate) this: NativeRef,
    /// The object it is sent to.
    pub(crate) receiver: Key,
    /// Where from.
    pub(crate) remote: IpAddr,
    /// By which program.
    pub(crate) agent: &'r str,
    /// The fingerprint of the certificate it was shown; `None` without TLS.
    pub(crate) thumbprint: Option<&'r str>,
    /// Cancelled when the listener drains.
    pub(crate) draining: CancellationToken,
    /// What the caller saw when the call began.
    pub(crate) sight: Sight<'r>,
}

/// What a method answers.
#[derive(Debug)]
pub(crate) enum Reply {
    /// Nothing.
    Void,
    /// The content of the response element.
    Body(Vec<u8>),
    /// As `Body`, and a new session's cookie; empty: the session ends.
    Cookie(Vec<u8>, Arc<str>),
}

impl Reply {
    /// Writes the content of the response element.
    pub(crate) fn write(content: impl FnOnce(&mut Encoder)) -> Reply {
        let mut out = Encoder::new();
        content(&mut out);
        Reply::Body(out.finish())
    }

    /// One reference.
    pub(crate) fn reference(reference: &NativeRef) -> Reply {
        Reply::write(|out| native::put_reference(out, "returnval", reference))
    }
}

impl<'r> Call<'r> {
    /// The objects of the front's view.
    pub(crate) fn catalog(&self) -> &'r Catalog {
        &self.front.catalog
    }

    /// The session; without one: `NotAuthenticated`.
    pub(crate) fn session(&self) -> Answer<&Arc<Session>> {
        self.session.as_ref().ok_or_else(|| Fault::not_authenticated(self.this.clone()))
    }

    /// Whose the made objects are that the call may see; empty without a session.
    pub(crate) fn session_key(&self) -> &str {
        self.session.as_ref().map_or("", |session| &*session.data.owner)
    }

    /// An argument.
    pub(crate) fn argument(&self, name: &str) -> Option<Element<'r>> {
        self.element.child(name)
    }

    /// The items of an array argument.
    pub(crate) fn arguments(&self, name: &'static str) -> impl Iterator<Item = Element<'r>> + use<'r> {
        self.element.children_named(name)
    }

    /// A text argument that must be there.
    pub(crate) fn text(&self, name: &str) -> Answer<&'r str> {
        let argument = self.argument(name).ok_or_else(|| Fault::invalid_argument(name, "it is required"))?;
        Ok(argument.text())
    }

    /// A number argument that must be there.
    pub(crate) fn int(&self, name: &str) -> Answer<i64> {
        let argument = self.argument(name).and_then(Element::int);
        argument.ok_or_else(|| Fault::invalid_argument(name, "expected a whole number"))
    }

    /// A fact that an argument refers to.
    pub(crate) fn object(&self, name: &str) -> Answer<ObjectId> {
        let reference = self.argument(name).and_then(native::reference);
        let reference =
            reference.ok_or_else(|| Fault::invalid_argument(name, "expected a reference to an object"))?;
        self.fact(&reference)
    }

    /// The fact behind a reference.
    pub(crate) fn fact(&self, reference: &NativeRef) -> Answer<ObjectId> {
        let key = self.catalog().resolve(reference).and_then(Key::object);
        key.ok_or_else(|| Fault::not_found(reference.clone()))
    }

    /// The facts that an array argument refers to.
    pub(crate) fn facts(&self, name: &'static str) -> Answer<Vec<ObjectId>> {
        let references = self.arguments(name).filter_map(native::reference);
        references.map(|reference| self.fact(&reference)).collect()
    }

    /// The type of the object it is sent to; `None`: it is gone.
    pub(crate) fn receiver_type(&self) -> Option<TypeId> {
        match self.receiver {
            Key::Fact(_, ty) => Some(ty),
            Key::Made(number) => {
                let workshop = self.front.workshop.lock();
                self.catalog().managed(&workshop.get(number)?.reference.ty)
            }
        }
    }

    /// What the caller sees.
    pub(crate) fn sight(&self) -> &Sight<'r> {
        &self.sight
    }

    /// What the caller sees by now: a call that waits may outlive a change of permissions.
    pub(crate) fn sight_now(&self) -> Sight<'r> {
        Sight::of(self.front, self.session.as_deref())
    }

    /// Answers with references to objects, those that the caller sees.
    pub(crate) fn references(&self, objects: &[ObjectId]) -> Answer<Reply> {
        let sight = self.sight();
        let seen = objects.iter().filter(|id| sight.sees(**id));
        let references: Vec<NativeRef> = seen.filter_map(|id| self.catalog().reference(*id)).collect();
        if references.is_empty() {
            return Ok(Reply::Void);
        }
        Ok(Reply::write(|out| references.iter().for_each(|r| native::put_reference(out, "returnval", r))))
    }
}
