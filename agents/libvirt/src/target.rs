//! The target: a libvirt whose facts are kept fresh in the inventory, and that performs the lane's calls.
//!
//! ```text
//!             ┌────────────── lost: keepalive, end of stream, an unanswered question ─────────────┐
//!             ▼                                                                                   │
//!  connecting ──open──▶ syncing ──register events, read everything──▶ in step ──events, figures──┘
//!      ▲  │ wait, twice as long each time (0.2 s to 5 s)                 │
//!      └──┘                                                              └ everything again every minute: what no event tells
//! ```
//! While it is not in step its host is NOT_RESPONDING and so are its VMs and pools; the facts stay. What libvirt no longer names is
//! removed when libvirt says so, never because it does not answer.
//!
//! Rooms: `supervise` is the picture above; `reader` asks and puts; `commands` are connections for the lane's calls, apart from the
//! reader's, so that slow calls and facts do not wait for each other; `arguments` lowers them; `edit` patches the documents that some of them
//! take, by the changes that `script` makes of a plan's; `create` makes those of new domains; `patience` is what a call waits
//! for by itself.

mod arguments;
mod commands;
mod create;
mod edit;
pub(crate) mod patience;
mod reader;
mod script;
mod shared;
mod supervise;

use crate::{
    fault,
    native::{
        self,
        api::{Api, Handle},
        connection::{Connection, Keepalive},
        uri::{BadUri, Uri},
    },
    tables::{TableError, Tables},
    task,
};
use arguments::{BadArgument, Calls};
use async_trait::async_trait;
use commands::Commands;
use edit::Editing;
use inventory::Inventory;
use lane::{NativeCall, Progress, StepKind, Target, TargetError};
use mapping::Bundle;
use patience::Tries;
use reader::{Extent, Reader, UnderWay};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::{sync::watch, time::Instant};
use tokio_util::task::AbortOnDropHandle;
use union::{
    Clock, Kind, ObjectId, SlotSet, Value,
    command::{Code, Revision},
};
use wire::xdr::SchemaError;

/// One libvirt.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its name in the configuration, for people.
    pub name: String,
    /// Its address, see [`native::uri`].
    pub uri: String,
    /// Where a user's own sockets are (`XDG_RUNTIME_DIR`), for `qemu:///session`.
    pub runtime_dir: Option<PathBuf>,
    /// How long a question of the reader may take.
    pub patience: Duration,
    /// How often usage is read.
    pub stats_every: Duration,
    /// How often everything is read again: what no event tells (snapshots, managed saves removed, sizes).
    pub refresh_every: Duration,
    /// How a connection notices that the server is gone.
    pub keepalive: Keepalive,
}

impl Config {
    /// The usual times.
    pub fn new(name: &str, uri: &str) -> Config {
        Config {
            name: name.to_owned(),
            uri: uri.to_owned(),
            runtime_dir: None,
            patience: Duration::from_secs(10),
            stats_every: Duration::from_secs(10),
            refresh_every: Duration::from_secs(60),
            keepalive: Keepalive::default(),
        }
    }
}

/// A target that cannot even be tried.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Its address is none.
    #[error(transparent)]
    Uri(#[from] BadUri),
    /// The RPC schema is broken.
    #[error("mappings/libvirt/schema/remote.schema: {0}")]
    Schema(#[from] SchemaError),
    /// The bundle lacks a part of libvirt's mapping.
    #[error("{missing} is missing: expected {expected}")]
    Mapping {
        /// The file or folder.
        missing: &'static str,
        /// What it should tell.
        expected: &'static str,
    },
    /// A table of the mapping is missing or wrong.
    #[error(transparent)]
    Table(#[from] TableError),
}

impl ConfigError {
    /// Whether the mapping is at fault, not the target's own settings.
    pub fn is_mapping(&self) -> bool {
        !matches!(self, ConfigError::Uri(_))
    }
}

/// Where a target stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Not yet in step for the first time.
    Connecting,
    /// The inventory is what libvirt says.
    InStep,
    /// It was or could not be reached, and why; it is being tried again.
    Lost(String),
}

/// A libvirt.
pub struct Libvirt {
    config: Config,
    reader: Arc<Reader>,
    commands: Commands,
    calls: Calls,
    status: watch::Receiver<Status>,
    _supervisor: AbortOnDropHandle<()>,
}

/// Starts to keep the inventory in step with a libvirt, in the background, for as long as the target lives. The bundle gives the tables
/// and the rows of `mappings/libvirt`.
///
/// # Errors
/// The address is none, or the bundle lacks what is needed. That nobody answers there is no error: it is tried again.
pub fn connect(
    config: Config,
    bundle: &Bundle,
    inventory: Arc<Inventory>,
    clock: Arc<dyn Clock>,
) -> Result<Arc<Libvirt>, ConfigError> {
    let uri = Arc::new(Uri::parse(&config.uri, config.runtime_dir.as_deref())?);
    let schema = native::schema()?;
    let protocol = bundle.protocol("libvirt").ok_or(ConfigError::Mapping {
        missing: "mappings/libvirt/protocol.toml",
        expected: "the tables of libvirt's numbers and words",
    })?;
    let rows = bundle.document("libvirt").ok_or(ConfigError::Mapping {
        missing: "mappings/libvirt/domain.toml",
        expected: "the rows that read libvirt's domains",
    })?;
    let calls = Calls::new(&schema);
    let tables = Tables::new(protocol)?;
    let events = events(&tables, &calls)?;
    let reader =
        Reader::new(config.name.clone(), uri.clone(), rows.clone(), Arc::new(tables), inventory, clock);
    let reader = Arc::new(reader);
    let (sender, status) = watch::channel(Status::Connecting);
    let supervisor =
        supervise::run(config.clone(), uri.clone(), schema.clone(), events, reader.clone(), sender);
    let commands = Commands::new(uri, schema, config.keepalive);
    let supervisor = AbortOnDropHandle::new(tokio::spawn(supervisor));
    Ok(Arc::new(Libvirt { config, reader, commands, calls, status, _supervisor: supervisor }))
}

/// The calls that ask for events, each with an id.
fn events(tables: &Tables, calls: &Calls) -> Result<Vec<(String, i32)>, TableError> {
    let mut asked = Vec::new();
    for registration in tables.events() {
        let procedure = calls.find(&registration.call).and_then(|p| p.name.strip_prefix("REMOTE_PROC_"));
        let name = procedure.ok_or_else(|| TableError::Wrong {
            table: "[table.events] register",
            expected: "calls of schema/remote.schema",
            found: format!("`{}`", registration.call),
        })?;
        asked.extend(registration.ids.iter().map(|id| (name.to_owned(), *id)));
    }
    Ok(asked)
}

impl Libvirt {
    /// Where it stands now.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Tells every change of where it stands.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Waits until the inventory is in step with it for the first time, or until it is lost; says which.
    pub async fn settled(&self) -> Status {
        let mut status = self.status.clone();
        match status.wait_for(|s| *s != Status::Connecting).await {
            Ok(status) => status.clone(),
            Err(_) => Status::Lost("the target has ended".into()),
        }
    }

    /// Its host, once it has been in step.
    pub fn host(&self) -> Option<ObjectId> {
        self.reader.host()
    }

    /// A connection for a call of the lane's.
    async fn connection(&self, deadline: Instant) -> Result<Connection, TargetError> {
        if let Status::Lost(reason) = self.status() {
            return Err(TargetError::Unreachable(reason));
        }
        self.commands.connection(deadline).await.map_err(|e| fault::unopened(&e))
    }

    /// What a call is sent with; `None`: the document says already what it would say, so there is nothing to send.
    async fn arguments(
        &self,
        call: &NativeCall,
        editing: &Editing<'_>,
    ) -> Result<Option<Vec<(Arc<str>, Value)>>, TargetError> {
        let mut args = call.args.clone();
        if let Some(script) = &call.script {
            let Some(document) = editing.argument(call, script).await? else { return Ok(None) };
            args.push((script.argument.clone(), document));
        }
        Ok(Some(args))
    }

    /// What a call named beside its own object may have changed with it, for example a volume that is no more; no event tells.
    async fn reread_others(&self, object: ObjectId, call: &NativeCall, deadline: Instant) {
        let mut named = call.args.iter().filter_map(|(_, value)| value.as_ref_id());
        if let Some(other) = named.find(|id| *id != object && id.kind != Kind::Vm)
            && let Err(error) = self.reread(other, deadline).await
        {
            tracing::debug!(%other, %error, "what a call named could not be read again");
        }
    }

    /// Reads an object, by the deadline.
    async fn read(&self, id: ObjectId, extent: Extent, deadline: Instant) -> Result<Revision, TargetError> {
        let Some(api) = self.reader.api() else {
            return Err(TargetError::Unreachable(match self.status() {
                Status::Lost(reason) => reason,
                _ => "there is no session yet".into(),
            }));
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let api = Api { patience: left.min(api.patience), ..api };
        match tokio::time::timeout_at(deadline, self.reader.reread(&api, id, extent)).await {
            Ok(read) => read.map(|read| read.revision).map_err(|e| fault::lift(self.reader.tables(), e)),
            Err(_) => Err(TargetError::TimedOut),
        }
    }

    /// The domain that a call about `object` is about.
    fn domain(&self, object: ObjectId) -> Option<Handle> {
        if object.kind == Kind::Vm { self.reader.handle(object) } else { None }
    }
}

#[async_trait]
impl Target for Libvirt {
    fn protocol(&self) -> &str {
        "libvirt"
    }

    fn name(&self) -> &str {
        &self.config.name
    }

    fn holds(&self, id: ObjectId) -> bool {
        self.reader.holds(id)
    }

    async fn perform(
        &self,
        object: ObjectId,
        call: &NativeCall,
        deadline: Instant,
        progress: Progress,
    ) -> Result<Value, TargetError> {
        let unsupported = || TargetError::Unsupported(call.call.to_string());
        let procedure = self.calls.find(&call.call).ok_or_else(unsupported)?.clone();
        call.script.as_ref().map_or(Ok(()), |script| edit::takes(&procedure, script))?;
        self.grown(object, call, deadline).await;
        let connection = self.connection(deadline).await?;
        let editing = Editing::new(self, connection.clone(), object, deadline)?;
        editing.names_free(call).await?;
        if shared::is_deleted_for_others(self.reader.inventory(), object, call) {
            return Ok(Value::Absent);
        }
        let _under_way = UnderWay::new(&self.reader, object);
        let tries = Tries::new(self.reader.tables().again(), call, deadline);
        loop {
            let Some(args) = self.arguments(call, &editing).await? else {
                return Ok(Value::Absent);
            };
            let args = arguments::lower(&procedure, &args, self.reader.inventory()).map_err(refused)?;
            let sent = connection.perform(procedure.clone(), args, deadline);
            let answer = match self.domain(object) {
                Some(dom) => {
                    let api = self.reader.api().map(|api| Api { patience: Duration::from_secs(2), ..api });
                    task::watched(api.as_ref(), &dom, &progress, sent).await
                }
                None => sent.await,
            };
            match answer.map_err(|e| fault::lift(self.reader.tables(), e)) {
                Ok(_) => break,
                Err(error) if tries.again(&error).await => {}
                Err(error) => return Err(error),
            }
        }
        editing.released(call).await?;
        self.reread_others(object, call, deadline).await;
        Ok(Value::Absent)
    }

    async fn effective(
        &self,
        object: ObjectId,
        call: &NativeCall,
        deadline: Instant,
    ) -> Result<Option<bool>, TargetError> {
        let connection = self.connection(deadline).await?;
        Editing::new(self, connection, object, deadline)?.effective(call).await
    }

    async fn reread(&self, id: ObjectId, deadline: Instant) -> Result<Revision, TargetError> {
        self.read(id, Extent::Whole, deadline).await
    }

    async fn refresh(
        &self,
        id: ObjectId,
        fields: SlotSet,
        deadline: Instant,
    ) -> Result<Revision, TargetError> {
        self.read(id, self.reader.extent_of(fields), deadline).await
    }

    /// Ends the domain's job, for example the saving of its memory. A domain without one says no, which is as good.
    async fn abort(&self, object: ObjectId, deadline: Instant) -> Result<(), TargetError> {
        let args = vec![(Arc::from("dom"), Value::Ref(object))];
        let call = NativeCall {
            call: Arc::from("DomainAbortJob"),
            args,
            is: StepKind::Once,
            undo: None,
            script: None,
        };
        self.perform(object, &call, deadline, Arc::new(|_| {})).await.map(drop)
    }
}

fn refused(error: BadArgument) -> TargetError {
    let means = match error {
        BadArgument::NoObject { .. } => Code::NotFound,
        BadArgument::Mismatch { .. } | BadArgument::Encode(_) => Code::InvalidArgument,
    };
    TargetError::Failed { code: 0, means: Some(means), message: error.to_string() }
}
