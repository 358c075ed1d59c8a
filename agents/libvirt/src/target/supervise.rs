//! The life of a target: connect, read everything, follow the events, and again after a loss.

use super::{
    Config, Status,
    reader::{Extent, Reader, Reread},
};
use crate::{
    native::{
        api::{Api, Handle},
        call::CallError,
        connection::Event,
        uri::Uri,
    },
    session,
};
use std::{
    collections::{HashMap, HashSet, VecDeque, hash_map::Entry},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};
use tokio_util::task::AbortOnDropHandle;
use union::{Kind, ObjectId};
use wire::xdr::{Schema, XdrValue};

/// First and longest wait before another try.
const WAIT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// Objects read at once; of the five places in flight two stay for the lane.
const READERS: usize = 3;
/// The first figures come soon, so that the second sample is there early.
const FIRST_FIGURES: Duration = Duration::from_secs(1);

/// Runs for as long as it is not dropped. `asked` are the calls that ask for events, as [`Api::call`] names calls, each with an id.
pub async fn run(
    config: Config,
    uri: Arc<Uri>,
    schema: Arc<Schema>,
    asked: Vec<(String, i32)>,
    reader: Arc<Reader>,
    status: watch::Sender<Status>,
) {
    let mut wait = WAIT.0;
    loop {
        let reason = match session::open(&uri, schema.clone(), config.keepalive, config.patience).await {
            Ok((connection, events)) => {
                let listener = Arc::downgrade(&reader);
                connection.listen(move |event| {
                    if let Some(reader) = listener.upgrade() {
                        reader.hear(event);
                    }
                });
                let api = Api { connection: connection.clone(), patience: config.patience };
                let work = Work::default();
                let mut life =
                    Life { config: &config, events: &asked, reader: &reader, api, work, all: false };
                let ended = life.live(events, &status, &mut wait).await;
                let reason = ended.map_or_else(|error| error.to_string(), |reason| reason.to_string());
                connection.close(&reason);
                reason
            }
            Err(error) => error.to_string(),
        };
        reader.mark_lost(&reason);
        let news = status.send_if_modified(|status| {
            let lost = Status::Lost(reason.clone());
            let news = *status != lost;
            *status = lost;
            news
        });
        if news {
            tracing::warn!(target = %config.name, %reason, "no session with libvirt; trying again");
        }
        sleep(wait).await;
        wait = (wait * 2).min(WAIT.1);
    }
}

/// Objects to read again, each once.
#[derive(Default)]
struct Work {
    queue: VecDeque<ObjectId>,
    /// How much of each is to be read.
    queued: HashMap<ObjectId, Extent>,
    running: HashSet<ObjectId>,
}

impl Work {
    fn add(&mut self, id: ObjectId, extent: Extent) {
        match self.queued.entry(id) {
            Entry::Vacant(place) => {
                place.insert(extent);
                self.queue.push_back(id);
            }
            Entry::Occupied(mut known) => {
                let most = extent.max(*known.get());
                known.insert(most);
            }
        }
    }

    fn extend(&mut self, ids: impl IntoIterator<Item = ObjectId>) {
        ids.into_iter().for_each(|id| self.add(id, Extent::Whole));
    }

    /// The next that is not being read just now.
    fn next(&mut self) -> Option<(ObjectId, Extent)> {
        let index = self.queue.iter().position(|id| !self.running.contains(id))?;
        let id = self.queue.remove(index)?;
        let extent = self.queued.remove(&id).unwrap_or(Extent::Whole);
        self.running.insert(id);
        Some((id, extent))
    }
}

type Read = (ObjectId, Result<Reread, CallError>);

/// One session.
struct Life<'a> {
    config: &'a Config,
    /// Calls that ask for events, each with an id.
    events: &'a [(String, i32)],
    reader: &'a Arc<Reader>,
    api: Api,
    work: Work,
    /// When the places have been read, every domain follows.
    all: bool,
}

impl Life<'_> {
    /// Until the connection ends; says why it did.
    async fn live(
        &mut self,
        mut events: mpsc::Receiver<Event>,
        status: &watch::Sender<Status>,
        wait: &mut Duration,
    ) -> Result<Arc<str>, CallError> {
        // First the events, then the facts: what changes in between is told.
        self.register().await?;
        self.read_everything().await?;
        self.reader.set_api(Some(self.api.clone()));
        status.send_replace(Status::InStep);
        *wait = WAIT.0;
        let _figures = AbortOnDropHandle::new(tokio::spawn(figures(
            self.config.clone(),
            self.reader.clone(),
            self.api.clone(),
        )));
        let mut refresh = interval_at(Instant::now() + self.config.refresh_every, self.config.refresh_every);
        refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reads: JoinSet<Read> = JoinSet::new();
        let inbox = self.reader.inbox();
        loop {
            self.start_reads(&mut reads);
            tokio::select! {
                Some(given) = inbox.next() => self.work.add(given, Extent::Whole),
                reason = self.api.connection.ended() => return Ok(reason),
                event = events.recv() => match event {
                    Some(event) => self.note(&event),
                    None => return Ok(self.api.connection.ended().await),
                },
                Some(done) = reads.join_next() => {
                    let read = self.finish(done);
                    self.tolerate(read)?;
                }
                _ = refresh.tick() => self.read_all_again(),
            }
            if self.api.connection.take_events_lost() {
                tracing::warn!(target = %self.config.name, "events were lost; everything is read again");
                self.read_all_again();
            }
        }
    }

    /// A connection that fails ends the session; a question that fails does not.
    fn tolerate(&self, read: Result<(), CallError>) -> Result<(), CallError> {
        match read {
            Err(error) if error.is_connection() => Err(error),
            Err(error) => {
                tracing::warn!(target = %self.config.name, %error, "libvirt did not answer a question");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    async fn register(&self) -> Result<(), CallError> {
        for (procedure, id) in self.events {
            match self.api.call(procedure, vec![("eventID", XdrValue::Int(*id))]).await {
                Ok(_) => {}
                // A driver without networks or storage has no events of them, an old one not all of these.
                Err(CallError::Native(error)) => tracing::debug!(procedure, id, %error, "no such events"),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The first read: host and places, then each domain; all of it or an error.
    async fn read_everything(&mut self) -> Result<(), CallError> {
        self.reader.forget_host();
        self.reader.begin();
        let places = self.reader.surroundings(&self.api).await?;
        self.queue(&places.domains, true);
        let mut reads = JoinSet::new();
        loop {
            self.start_reads(&mut reads);
            let Some(done) = reads.join_next().await else { break };
            match self.finish(done) {
                // A domain that cannot be read must not keep the others from being seen.
                Err(error @ CallError::Native(_)) => {
                    tracing::warn!(target = %self.config.name, %error, "a domain cannot be read");
                }
                read => read?,
            }
        }
        self.reader.complete();
        Ok(())
    }

    /// Host and places are read again, and when they have been, every domain.
    fn read_all_again(&mut self) {
        self.all = true;
        self.reader.forget_host();
        self.work.extend(self.reader.host());
    }

    /// Queues every domain, if `all`, and every VM that libvirt no longer names.
    fn queue(&mut self, domains: &[Handle], all: bool) {
        self.work.extend(self.reader.missing(domains));
        if all {
            self.work.extend(domains.iter().map(|domain| ObjectId::new(Kind::Vm, domain.uuid)));
        }
    }

    fn start_reads(&mut self, reads: &mut JoinSet<Read>) {
        while reads.len() < READERS {
            let Some((id, extent)) = self.work.next() else { break };
            let (reader, api) = (self.reader.clone(), self.api.clone());
            reads.spawn(async move { (id, reader.reread(&api, id, extent).await) });
        }
    }

    fn finish(&mut self, done: Result<Read, tokio::task::JoinError>) -> Result<(), CallError> {
        let (id, read) = match done {
            Ok(done) => done,
            // It names nothing: the session is given up, so that all is read again.
            Err(error) => return Err(CallError::NotSent(format!("a read ended without an answer: {error}"))),
        };
        self.work.running.remove(&id);
        if let Some(places) = read?.places {
            let all = std::mem::take(&mut self.all) || places.changed;
            self.queue(&places.domains, all);
        }
        Ok(())
    }

    /// An event names what to read again.
    fn note(&mut self, event: &Event) {
        let body = &event.body;
        if let Some(dom) = body.get("msg.dom").or_else(|| body.get("dom")).and_then(Handle::from_value) {
            let tables = self.reader.tables();
            let mut extent = Extent::Whole;
            if event.procedure.name.ends_with("_LIFECYCLE")
                && let Some(told) = body.get("msg.event").and_then(XdrValue::as_int)
            {
                let detail = body.get("msg.detail").and_then(XdrValue::as_int);
                if detail.is_some_and(|detail| tables.is_run(told, detail)) {
                    extent = Extent::Run;
                }
            }
            self.work.add(ObjectId::new(Kind::Vm, dom.uuid), extent);
        } else if let Some(host) = self.reader.host() {
            // A network's or a pool's: the places around the VMs.
            self.work.add(host, Extent::Whole);
        }
    }
}

/// Reads usage for as long as the session lasts.
async fn figures(config: Config, reader: Arc<Reader>, api: Api) {
    let mut tick = interval_at(Instant::now(), config.stats_every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut first = true;
    loop {
        tick.tick().await;
        if let Err(error) = reader.figures(&api).await {
            if error.is_connection() {
                return;
            }
            tracing::warn!(target = %config.name, %error, "libvirt did not tell its figures");
        }
        if std::mem::take(&mut first) {
            tick.reset_after(FIRST_FIGURES.min(config.stats_every));
        }
    }
}
