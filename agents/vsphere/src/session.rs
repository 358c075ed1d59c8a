//! Sessions: login, logout, and what a session owns.
//!
//! The cookie's value is the session's secret; the `key` that clients see in `UserSession` is its public id, so that a list of
//! sessions logs nobody in. Tickets for cloning are used once, within two minutes.

use crate::{
    call::{Call, Reply},
    fault::{Answer, Fault},
    front::Front,
    limits,
    native::Soap,
    permission,
    property_collector::{CollectorId, Page},
};
use ::front::session::Refused;
use ::inventory::chronicle::Note;
use guard::{LoginError, Pass, Secret};
use http::{HeaderMap, header};
use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use union::{Kind, Record, Value, command::Class, pb};

/// The cookie that carries a session.
pub(crate) const COOKIE: &str = "vmware_soap_session";

/// The key that a request shows.
pub(crate) fn cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    // A client may send the whole Set-Cookie back, attributes and quotes included.
    let mut values =
        cookies.flat_map(|cookie| cookie.split([';', ','])).filter_map(|part| part.trim().split_once('='));
    let (_, key) = values.find(|(name, _)| *name == COOKIE)?;
    Some(key.trim().trim_matches('"'))
}

/// The locale of a client that does not say.
pub(crate) const DEFAULT_LOCALE: &str = "en";

/// A session of this front.
pub(crate) type Session = ::front::Session<Data>;

/// What a session owns.
pub(crate) struct Data {
    /// Whose its made objects are, in the front's own words.
    pub(crate) owner: Arc<str>,
    /// The bundle it speaks by.
    pub(crate) generation: u64,
    collector: CollectorId,
    /// Unread pages.
    pub(crate) pages: Mutex<VecDeque<Page>>,
    waits: AtomicUsize,
    /// What the engine told it last of permissions and sessions.
    pub(crate) directory: Mutex<Option<Arc<pb::Directory>>>,
    locale: Arc<str>,
    agent: Arc<str>,
}

/// A wait of a session, counted while it lives.
pub(crate) struct Wait<'s>(&'s AtomicUsize);

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Data {
    /// For a new session whose collector is `collector`.
    pub(crate) fn new(
        owner: Arc<str>,
        generation: u64,
        collector: CollectorId,
        locale: &str,
        agent: &str,
    ) -> Data {
        Data {
            owner,
            generation,
            collector,
            pages: Mutex::default(),
            waits: AtomicUsize::new(0),
            directory: Mutex::default(),
            locale: Arc::from(locale),
            agent: Arc::from(agent),
        }
    }

    /// The collector every session has.
    pub(crate) fn collector(&self) -> CollectorId {
        self.collector
    }

    /// Begins a wait, unless the session has too many.
    pub(crate) fn wait(&self) -> Option<Wait<'_>> {
        let wait = Wait(&self.waits);
        (self.waits.fetch_add(1, Ordering::AcqRel) < limits::WAITS).then_some(wait)
    }
}

/// A ticket for cloning a session.
pub(crate) struct Ticket {
    secret: String,
    session: Secret,
    since: Duration,
}

/// `Login`
pub(crate) async fn login(call: &Call<'_>) -> Answer<Reply> {
    if call.session.is_some() {
        return Err(invalid_login());
    }
    let name = call.text("userName")?;
    let password = Secret::new(call.text("password")?);
    let data = |pass: &Pass| call.front.data(pass, locale(call), call.agent);
    match call.front.sessions.login(name, &password, call.remote, data).await {
        Ok(session) => Ok(opened(call, &session)),
        Err(Refused::Full(full)) => Err(Fault::limit("sessions", full.limit)),
        Err(Refused::Login(error)) => {
            // Only a password that was looked at is news: refusals without a look could fill the chronicle.
            if matches!(error, LoginError::Wrong) {
                let message = format!("Cannot login {name}@{}", call.remote);
                note(call, "session.login_failed", name, "", message);
            }
            Err(refused(&error))
        }
    }
}

fn invalid_login() -> Fault {
    Fault::new("InvalidLogin", "Cannot complete login due to an incorrect user name or password.")
}

fn refused(error: &LoginError) -> Fault {
    match error {
        LoginError::Wrong => invalid_login(),
        other => Fault::new("InvalidLogin", format!("Cannot complete login: {other}.")),
    }
}

fn locale<'r>(call: &Call<'r>) -> &'r str {
    let locale = call.argument("locale").map(|l| l.text().trim());
    locale.filter(|l| !l.is_empty() && l.len() <= 64).unwrap_or(DEFAULT_LOCALE)
}

/// A session began: its answer.
fn opened(call: &Call<'_>, session: &Arc<Session>) -> Reply {
    let name = &session.principal;
    note(
        call,
        "session.logged_in",
        name,
        &session.id,
        format!("User {name}@{} logged in as {}", call.remote, call.agent),
    );
    call.front.clean_up_after(session);
    let mut out = wire::soap::encode::Encoder::new();
    put_session(call.front, &mut out, session, Some(&session.id), call.version);
    Reply::Cookie(out.finish(), Arc::from(session.key().expose()))
}

/// `Logout`
pub(crate) async fn logout(call: &Call<'_>) -> Answer<Reply> {
    let session = call.session()?;
    let name = &session.principal;
    note(call, "session.logged_out", name, &session.id, format!("User {name}@{} logged out", session.remote));
    call.front.sessions.end(session).await;
    Ok(Reply::Cookie(Vec::new(), Arc::from("")))
}

/// `SessionIsActive`
pub(crate) fn is_active(call: &Call<'_>) -> Answer<Reply> {
    call.session()?;
    let (id, user) = (call.text("sessionID")?, call.text("userName")?);
    let active = call.front.sessions.list().iter().any(|s| &*s.id == id && &*s.principal == user);
    Ok(Reply::write(|out| out.bool_leaf("returnval", active)))
}

/// `TerminateSession`
pub(crate) async fn terminate(call: &Call<'_>) -> Answer<Reply> {
    let session = call.session()?;
    let service = call.catalog().service();
    permission::check(call.front, session, permission::TERMINATE, Class::Idempotent, service)
        .map_err(|cause| call.front.fault_of(&cause, &call.this))?;
    let own = session.id.clone();
    let ids: Vec<&str> = call.arguments("sessionId").map(|id| id.text().trim()).collect();
    if ids.iter().any(|id| **id == *own) {
        return Err(Fault::invalid_argument("sessionId", "a session cannot terminate itself; use Logout"));
    }
    // Those of other fronts are the engine's to end.
    let live = call.front.sessions.list();
    let (here, elsewhere): (Vec<&str>, Vec<&str>) =
        ids.iter().partition(|id| live.iter().any(|session| *session.id == ***id));
    if !elsewhere.is_empty() {
        let elsewhere: Vec<Arc<str>> = elsewhere.into_iter().map(Arc::from).collect();
        let ended = call.front.sessions.logins().directory(&session.pass, &elsewhere).await;
        ended.map_err(|_| Fault::new("NotFound", "There is no such session."))?;
    }
    for session in live.iter().filter(|session| here.contains(&&*session.id)) {
        call.front.sessions.end(session).await;
    }
    Ok(Reply::Void)
}

/// `AcquireCloneTicket`
pub(crate) fn acquire_clone_ticket(call: &Call<'_>) -> Answer<Reply> {
    let session = call.session()?;
    let mut random = [0; 20];
    call.front.ids.fill(&mut random);
    let secret: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let text = format!("cst-VCT-{secret}--tp-{}", call.thumbprint.unwrap_or("none"));
    let since = call.front.clock.monotonic();
    let mut tickets = call.front.tickets.lock();
    tickets.retain(|ticket| since.saturating_sub(ticket.since) < limits::TICKET_AGE);
    if tickets.len() >= limits::SESSIONS {
        tickets.pop_front();
    }
    tickets.push_back(Ticket { secret: text.clone(), session: session.pass.key.clone(), since });
    Ok(Reply::write(|out| out.leaf("returnval", &text)))
}

/// `CloneSession`
pub(crate) async fn clone_session(call: &Call<'_>) -> Answer<Reply> {
    if call.session.is_some() {
        return Err(invalid_login());
    }
    let text = call.text("cloneTicket")?.trim();
    let now = call.front.clock.monotonic();
    let ticket = {
        let mut tickets = call.front.tickets.lock();
        tickets.retain(|ticket| now.saturating_sub(ticket.since) < limits::TICKET_AGE);
        let at = tickets.iter().position(|ticket| ticket.secret == text);
        at.and_then(|at| tickets.remove(at))
    };
    let original = ticket
        .and_then(|ticket| call.front.sessions.peek(ticket.session.expose()))
        .ok_or_else(invalid_login)?;
    let data = |pass: &Pass| call.front.data(pass, &original.data.locale, call.agent);
    match call.front.sessions.again(&original, call.remote, data).await {
        Ok(session) => Ok(opened(call, &session)),
        Err(Refused::Full(full)) => Err(Fault::limit("sessions", full.limit)),
        Err(Refused::Login(error)) => Err(refused(&error)),
    }
}

/// Writes `<returnval>` as the mapping shows a `UserSession`.
fn put_session(
    front: &Front,
    out: &mut wire::soap::encode::Encoder,
    session: &Session,
    current: Option<&str>,
    version: mapping::schema::VersionIndex,
) {
    let record = record(front, session, current);
    let mut soap = Soap::new(out, &front.tags, "returnval");
    let service = front.service_record(None, |_| false);
    let Some(slot) = front.catalog.schema().slot(Kind::Service, "current_session") else { return };
    let mut service = (*service).clone();
    service.set(slot, Value::record(record));
    front.catalog.render_service("SessionManager", "currentSession", &service, version, &mut soap);
}

/// A session as the union sees it.
pub(crate) fn record(front: &Front, session: &Session, current: Option<&str>) -> Record {
    let message = front.catalog.schema().kind(Kind::Session);
    let mut record = message.record();
    let name = &session.principal;
    let fields: [(&str, Value); 9] = [
        ("key", Value::Str(session.id.clone())),
        ("principal", Value::Str(name.clone())),
        ("full_name", Value::Str(name.clone())),
        ("login_ms", Value::Int(session.created_ms)),
        ("last_active_ms", Value::Int(session.last_active_ms())),
        ("locale", Value::Str(session.data.locale.clone())),
        ("address", session.remote.to_string().into()),
        ("user_agent", Value::Str(session.data.agent.clone())),
        ("call_count", Value::Int(i64::try_from(session.calls()).unwrap_or(0))),
    ];
    for (name, value) in fields {
        if let Some(field) = message.field(name) {
            record.set(field.slot, value);
        }
    }
    if let Some(field) = message.field("current") {
        record.set(field.slot, current == Some(&*session.id));
    }
    record
}

/// A session of another front as the union sees it.
pub(crate) fn record_elsewhere(front: &Front, session: &pb::KnownSession) -> Record {
    let message = front.catalog.schema().kind(Kind::Session);
    let mut record = message.record();
    let fields: [(&str, Value); 7] = [
        ("key", session.id.as_str().into()),
        ("principal", session.principal.as_str().into()),
        ("full_name", session.principal.as_str().into()),
        ("login_ms", Value::Int(session.created_ms)),
        ("last_active_ms", Value::Int(session.active_ms)),
        ("address", session.remote.as_str().into()),
        ("user_agent", session.protocol.as_str().into()),
    ];
    for (name, value) in fields {
        if let Some(field) = message.field(name) {
            record.set(field.slot, value);
        }
    }
    if let Some(field) = message.field("current") {
        record.set(field.slot, false);
    }
    record
}

fn note(call: &Call<'_>, what: &'static str, user: &str, session: &str, message: String) {
    call.front.chronicle.record(Note {
        what,
        object: None,
        fields: vec![
            ("principal", user.into()),
            ("session_id", session.into()),
            ("remote_address", call.remote.to_string().into()),
            ("user_agent", call.agent.into()),
            ("login_ms", Value::Int(call.front.clock.now_ms())),
        ],
        message,
        ..Note::default()
    });
}
