//! The front: HTTP in, one call through the chain, HTTP out.
//!
//! ```text
//! route ─▶ read (within limits) ─▶ decode ─▶ authenticate ─▶ find the object ─▶ authorize ─▶ negotiate ─▶ dispatch ─▶ encode
//! ```
//!
//! Every answer is 200, or 500 with a fault; other statuses mean that no vim call was understood at all.

pub use crate::serve::{Deps, ServeError, Serving, Swapped, serve, serve_as};
use crate::{
    authorization,
    call::{Call, Reply},
    fault::{Answer, Fault},
    folder,
    inventory::{Catalog, Key},
    keeper::Keeper,
    made::{Made, MadeRead, OfSession, Thing, Workshop},
    methods::Methods,
    native::{self, NS, Tags, TaskOutcome},
    permission::{self, Sight},
    session::{self, COOKIE, DEFAULT_LOCALE, Data, Session, Ticket},
    task::Results,
    version,
};
use ::front::{Peer, Sessions, session::Active};
use ::inventory::{Change, Chronicle, Observer, ObserverGuard, Tasks};
use bytes::Bytes;
use guard::LoginError;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use lane::Commands;
use mapping::NativeRef;
use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{Arc, OnceLock, Weak},
};
use tokio_util::sync::CancellationToken;
use union::{Clock, Ids, Kind, ObjectId, Record, Slot, Value};
use wire::{limits as wire_limits, soap};

/// A front of one view.
pub(crate) struct Front {
    /// Which of the front's bundles it speaks by.
    pub(crate) generation: u64,
    pub(crate) catalog: Catalog,
    pub(crate) tags: Tags,
    pub(crate) methods: Methods,
    pub(crate) sessions: Arc<Sessions<Data>>,
    pub(crate) tickets: Arc<Mutex<VecDeque<Ticket>>>,
    pub(crate) workshop: Mutex<Workshop>,
    pub(crate) commands: Arc<dyn Commands>,
    pub(crate) tasks: Arc<Tasks>,
    pub(crate) chronicle: Arc<Chronicle>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn Ids>,
    pub(crate) keeper: Keeper,
    pub(crate) results: Arc<Mutex<Results>>,
    pub(crate) limits: ::front::Limits,
    pub(crate) watching: OnceLock<ObserverGuard>,
    pub(crate) me: Weak<Front>,
}

impl std::fmt::Debug for Front {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Front").field("view", &self.catalog.view().name()).finish_non_exhaustive()
    }
}

type Answered = Response<Full<Bytes>>;

/// What came in beside the body.
pub(crate) struct Around<'r> {
    /// The SOAPAction header.
    pub(crate) action: Option<&'r str>,
    /// The client program.
    pub(crate) agent: &'r str,
    /// Its address.
    pub(crate) remote: IpAddr,
    /// Cancelled when the listener drains.
    pub(crate) draining: CancellationToken,
    /// The fingerprint of the certificate it was shown; `None` without TLS.
    pub(crate) thumbprint: Option<String>,
    /// The session its cookie names.
    pub(crate) session: Option<Active<Data>>,
}

impl Front {
    /// Answers one request.
    pub(crate) async fn answer(self: Arc<Front>, request: Request<Incoming>) -> Answered {
        let path = request.uri().path();
        match (request.method(), path) {
            (&Method::POST, "/sdk" | "/sdk/" | "/sdk/vimService" | "/sdk/webService") => {
                self.soap(request).await
            }
            (&Method::GET | &Method::HEAD, "/sdk/vimServiceVersions.xml") => {
                let text = version::document(self.catalog.native(), self.catalog.newest());
                page(StatusCode::OK, "text/xml", text.into())
            }
            (&Method::GET | &Method::HEAD, _) if path.starts_with("/folder/") => {
                folder::answer(&self, request).await
            }
            (_, "/sdk" | "/sdk/" | "/sdk/vimService" | "/sdk/webService") => {
                let mut refused = page(StatusCode::METHOD_NOT_ALLOWED, "text/plain", Bytes::new());
                refused.headers_mut().insert(header::ALLOW, http::HeaderValue::from_static("POST"));
                refused
            }
            _ => page(StatusCode::NOT_FOUND, "text/plain", Bytes::from_static(b"404 Not Found\n")),
        }
    }

    async fn soap(self: Arc<Front>, request: Request<Incoming>) -> Answered {
        let (head, body) = request.into_parts();
        let Some(peer) = head.extensions.get::<Peer>() else {
            return page(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", Bytes::new());
        };
        let agent = head.headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let session = match self.session_of(&head.headers, peer.remote.ip(), agent).await {
            Ok(session) => session,
            Err(error) => return unavailable(&error),
        };
        if session.as_ref().is_some_and(|session| session.data.generation != self.generation) {
            // It began between two bundles: asked again, it finds its own.
            return unavailable(&LoginError::Busy);
        }
        let most =
            if session.is_some() { wire_limits::BODY_AFTER_LOGIN } else { wire_limits::BODY_BEFORE_LOGIN };
        let bytes = match ::front::body::read(&head.headers, body, most, &self.limits).await {
            Ok(bytes) => bytes,
            Err(error) => return page(error.status(), "text/plain", format!("{error}\n").into()),
        };
        let text = |name| head.headers.get(name).and_then(|v: &http::HeaderValue| v.to_str().ok());
        let around = Around {
            action: text("soapaction"),
            agent,
            remote: peer.remote.ip(),
            draining: peer.draining.clone(),
            thumbprint: peer.certificate.as_ref().map(|certificate| certificate.fingerprint()),
            session,
        };
        self.exchange(&around, bytes).await
    }

    /// One SOAP request to its answer.
    pub(crate) async fn exchange(&self, around: &Around<'_>, bytes: Bytes) -> Answered {
        let envelope = match soap::decode(bytes, &wire_limits::SOAP) {
            Ok(envelope) => envelope,
            Err(error) => {
                let fault = Fault::invalid_request(format!("The request is no SOAP call: {error}"));
                return encode("", Err(fault), false);
            }
        };
        let method = envelope.method();
        let answer = self.call(around, method).await;
        encode(method.name(), answer, around.thumbprint.is_some())
    }

    /// One call through the chain.
    async fn call(&self, around: &Around<'_>, element: wire::xml::Element<'_>) -> Answer<Reply> {
        if element.namespace() != NS {
            return Err(Fault::invalid_request(format!(
                "Expected a method of {NS}, found one of \"{}\"",
                element.namespace()
            )));
        }
        let this = element.child("_this").and_then(native::reference);
        let this = this
            .ok_or_else(|| Fault::invalid_request("Expected _this, the object that the method is sent to"))?;
        let session = around.session.as_ref().map(|active| active.session().clone());
        let known = self.find(session.as_deref(), &this);
        let method = element.name();
        if session.is_none() && !self.methods.is_open(method) {
            return Err(Fault::not_authenticated(this));
        }
        // Every call reads at least; who may not even do that has no permission here any more.
        let sight = Sight::of(self, session.as_deref());
        let object = known.and_then(Key::object).unwrap_or(self.catalog.service());
        if !sight.sees(object) {
            return Err(self.fault_of(&sight.refuse(object), &this));
        }
        let receiver = known.ok_or_else(|| Fault::not_found(this.clone()))?;
        let call = Call {
            front: self,
            session,
            version: version::negotiate(around.action, self.catalog.native(), self.catalog.newest()),
            method,
            element,
            this,
            receiver,
            remote: around.remote,
            agent: around.agent,
            thumbprint: around.thumbprint.as_deref(),
            draining: around.draining.clone(),
            sight,
        };
        if let Some(session) = call.session.as_ref().filter(|_| authorization::wants(&call)) {
            authorization::refresh(self, session).await;
        }
        self.methods.dispatch(&call).await
    }

    /// What a reference leads to for a caller.
    pub(crate) fn find(&self, session: Option<&Session>, reference: &NativeRef) -> Option<Key> {
        let made = session.and_then(|session| {
            let workshop = self.workshop.lock();
            OfSession { workshop: &workshop, session: &session.data.owner }.find(reference)
        });
        made.or_else(|| self.catalog.resolve(reference))
    }

    /// The session that a request's cookie names, wherever it began.
    pub(crate) async fn session_of(
        &self,
        headers: &HeaderMap,
        remote: IpAddr,
        agent: &str,
    ) -> Result<Option<Active<Data>>, LoginError> {
        let Some(key) = session::cookie(headers) else { return Ok(None) };
        let data = |pass: &guard::Pass| self.data(pass, DEFAULT_LOCALE, agent);
        self.sessions.enter(key, remote, data, |session| self.clean_up_after(session)).await
    }

    /// What the front keeps for a new session.
    pub(crate) fn data(&self, pass: &guard::Pass, locale: &str, agent: &str) -> Data {
        let mut workshop = self.workshop.lock();
        let owner = workshop.owner(&pass.session);
        let reference = NativeRef { ty: Arc::from("PropertyCollector"), id: Arc::from("") };
        let (number, _) = workshop.make(&owner, Thing::Collector { default: true }, |_| reference);
        workshop.updates.open(number);
        Data::new(owner, self.generation, number, locale, agent)
    }

    /// The facts of an object as a caller sees them: the front's own with the caller's session in it.
    /// `looks` says which of its slots will be looked at.
    pub(crate) fn record(
        &self,
        call: &Call<'_>,
        id: ObjectId,
        looks: impl Fn(Slot) -> bool,
    ) -> Option<Arc<Record>> {
        if id == self.catalog.service() {
            Some(self.service_record(call.session.as_deref(), looks))
        } else {
            self.catalog.record(id)
        }
    }

    /// What the front says of itself.
    pub(crate) fn service_record(
        &self,
        caller: Option<&Session>,
        looks: impl Fn(Slot) -> bool,
    ) -> Arc<Record> {
        let message = self.catalog.schema().kind(Kind::Service);
        let known = self.catalog.record(self.catalog.service());
        let mut record = known.map_or_else(|| message.record(), |known| (*known).clone());
        if let Some(field) = message.field("time_ms") {
            record.set(field.slot, self.clock.now_ms());
        }
        if let Some(caller) = caller {
            let current = Some(&*caller.id);
            let own = crate::session::record(self, caller, current);
            if let Some(field) = message.field("current_session") {
                record.set(field.slot, Value::record(own));
            }
            // The list is made only for those who read it: some clients ask for their own session before every call.
            if let Some(field) = message.field("sessions").filter(|field| looks(field.slot)) {
                let mut all = self.sessions.list();
                // Others' sessions are shown to those who may end them.
                let ends_all = permission::may(self, caller, permission::TERMINATE, self.catalog.service());
                all.retain(|session| ends_all || session.id == caller.id);
                let here = all.iter().map(|session| crate::session::record(self, session, current));
                let known = authorization::knows(caller);
                // A host shows who is logged in at it, the fleet who is anywhere.
                let fleet = self.catalog.view().host().is_none();
                let elsewhere = known.sessions.iter().filter(|known| {
                    fleet
                        && (ends_all || known.id == *caller.id)
                        && !all.iter().any(|here| *here.id == known.id)
                });
                let elsewhere = elsewhere.map(|known| crate::session::record_elsewhere(self, known));
                record.set(field.slot, Value::list(here.chain(elsewhere).map(Value::record)));
            }
            if let Some(field) = message.field("roles").filter(|field| looks(field.slot)) {
                let roles = authorization::role_records(&self.catalog, &authorization::knows(caller));
                record.set(field.slot, Value::list(roles.into_iter().map(Value::record)));
            }
            if let Some(field) = message.field("privileges").filter(|field| looks(field.slot)) {
                let privileges = authorization::privilege_records(&self.catalog);
                record.set(field.slot, Value::list(privileges.into_iter().map(Value::record)));
            }
        }
        Arc::new(record)
    }

    /// How a task ended, if the object is one that ended in a way the union does not know.
    pub(crate) fn task_outcome(&self, id: ObjectId) -> Option<TaskOutcome> {
        if id.kind != Kind::Task {
            return None;
        }
        if let Some(result) = self.results.lock().get(&id) {
            return Some(TaskOutcome::Result(result.clone()));
        }
        let cause = self.tasks.cause(id)?;
        let slot = |field| self.catalog.schema().slot(Kind::Task, field);
        let task = self.catalog.record(id)?;
        let about = task.get(slot("object_id")?).as_ref_id();
        let verb = task.get(slot("verb")?).as_str().unwrap_or_default();
        let cause = permission::named(&self.catalog, (*cause).clone(), verb, None, about.unwrap_or(id));
        let object = about.and_then(|id| self.catalog.reference(id));
        let nobody = NativeRef { ty: Arc::from("ManagedEntity"), id: Arc::from("") };
        Some(TaskOutcome::Error(self.fault_of(&cause, &object.unwrap_or(nobody))))
    }

    /// The native fault of a cause.
    pub(crate) fn fault_of(&self, cause: &union::command::Cause, object: &NativeRef) -> Fault {
        Fault::of_cause(cause, object, &self.catalog)
    }

    /// An id for something a session makes.
    pub(crate) fn made_id(&self, session: &str) -> Arc<str> {
        Arc::from(format!("session[{session}]{}", self.ids.uuid()))
    }

    /// Looks at a made object. What has to be gathered at length is looked at outside the lock that changes take.
    pub(crate) fn with_made<T>(&self, number: u64, look: impl FnOnce(&Made) -> T) -> Option<T> {
        let workshop = self.workshop.lock();
        let made = workshop.get(number)?;
        match made.light() {
            Some(copy) => {
                drop(workshop);
                Some(look(&copy))
            }
            None => Some(look(made)),
        }
    }

    /// Forgets what a session made as soon as it has ended.
    pub(crate) fn clean_up_after(&self, session: &Arc<Session>) {
        let (ended, owner, front) = (session.ended.clone(), session.data.owner.clone(), self.me.clone());
        tokio::spawn(async move {
            ended.cancelled().await;
            if let Some(front) = front.upgrade() {
                front.workshop.lock().unmake_all(&owner);
            }
        });
    }

    /// Takes in changes of the view's inventory.
    fn changed(&self, changes: &[Change]) {
        // An object has its native id from its first sight, whether or not anybody asks for it.
        for change in changes.iter().filter(|change| change.old.is_none()) {
            self.catalog.reference(change.id);
        }
        if changes.iter().any(|change| change.id.kind == Kind::Task) {
            self.keeper.tasks_changed();
        }
        let mut workshop = self.workshop.lock();
        let (things, updates) = workshop.parts();
        for (number, made) in things.iter_mut() {
            let Thing::View(view) = &mut made.thing else { continue };
            let moved = view.changed(&self.catalog, changes);
            if !moved.is_empty() {
                updates.view_changed(&self.catalog, *number, &moved.added, &moved.removed);
            }
        }
        if !updates.is_idle() {
            updates.changed(changes, &self.catalog);
        }
    }
}

/// Tells a front without keeping it alive.
pub(crate) struct Watch(pub(crate) Weak<Front>);

impl Observer for Watch {
    fn changed(&self, changes: &[Change]) {
        if let Some(front) = self.0.upgrade() {
            front.changed(changes);
        }
    }
}

/// A response with a body.
pub(crate) fn page(status: StatusCode, kind: &'static str, body: Bytes) -> Answered {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}

/// Whether there is a session of a key cannot be said now: a client that asks again later need not log in again.
pub(crate) fn unavailable(error: &LoginError) -> Answered {
    let mut response = page(StatusCode::SERVICE_UNAVAILABLE, "text/plain", format!("{error}\n").into());
    response.headers_mut().insert(header::RETRY_AFTER, http::HeaderValue::from_static("1"));
    response
}

fn encode(method: &str, answer: Answer<Reply>, secure: bool) -> Answered {
    let mut out = soap::encode::Encoder::new();
    out.envelope();
    let mut cookie = None;
    let status = match answer {
        Ok(reply) => {
            let body = match &reply {
                Reply::Void => &[][..],
                Reply::Body(body) => body,
                Reply::Cookie(body, value) => {
                    cookie = Some(value.clone());
                    body
                }
            };
            out.response(method, NS, |out| out.raw_bytes(body));
            StatusCode::OK
        }
        Err(fault) => {
            tracing::debug!(method, fault = %fault.ty, message = %fault.message, "answered with a fault");
            fault.encode(&mut out);
            StatusCode::INTERNAL_SERVER_ERROR
        }
    };
    out.envelope_end();
    let mut response = page(status, "text/xml; charset=utf-8", out.finish().into());
    response.headers_mut().insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-cache"));
    if let Some(value) = cookie {
        let secure = if secure { "; Secure" } else { "" };
        let expiry = if value.is_empty() { "; Max-Age=0" } else { "" };
        let text = format!("{COOKIE}=\"{value}\"; Path=/; HttpOnly{secure}{expiry}");
        if let Ok(text) = http::HeaderValue::from_str(&text) {
            response.headers_mut().insert(header::SET_COOKIE, text);
        }
    }
    response
}
