//! Scripts in practice: the document is read in the wanted form, patched in place, and what the call takes of it is cut out.
//!
//! ```text
//! form       document read                               what the argument takes
//! inactive   what the domain is defined as               the whole of it, patched
//! live       what the domain is now                      the whole of it, patched
//! device     the defined one where the call changes      the one device that the script is about: patched, new, or as it is to be removed
//!            that and it has the device, else the live
//! new        none: the row file's own fragment           the whole of it, of a kind that the host offers
//! ```
//! Documents are read with their secrets, or defining them again would lose these; no text of one is ever logged. A document that cannot be
//! changed without loss is refused with the name of the row, and nothing is sent. That a question was not answered is "nothing was sent",
//! too: only the call itself can be lost. `look` says whether a call's effect is there.

mod look;

use super::{
    Libvirt,
    create::{self, Offer},
    script::{Aim, BadScript, Scripting},
};
use crate::{
    fault,
    inventory::{Names, get},
    native::{
        api::{Api, Handle, NO_DOMAIN},
        call::CallError,
        connection::Connection,
    },
};
use lane::{NativeCall, TargetError};
use mapping::edit::{Change, Tree};
use std::sync::Arc;
use tokio::time::Instant;
use union::{Kind, ObjectId, Record, Slot, Value, command::Code, plan::Script};
use uuid::Uuid;
use wire::xdr::{Procedure, Type};

/// `VIR_DOMAIN_XML_SECURE`, and with `VIR_DOMAIN_XML_INACTIVE`.
const LIVE: u32 = 1;
const INACTIVE: u32 = 1 | 1 << 1;
/// `VIR_DOMAIN_AFFECT_LIVE` and `VIR_DOMAIN_AFFECT_CONFIG`; neither is whatever the domain is now.
const AFFECT_LIVE: i64 = 1;
const AFFECT_CONFIG: i64 = 1 << 1;

/// What of a document a call takes.
enum Cut {
    Whole,
    /// A device as it is to be.
    Device(Slot, Arc<str>),
    /// A device as it is.
    Gone(Slot, Arc<str>),
}

/// Documents by what the call with these flags changes.
fn forms(flags: i64) -> &'static [u32] {
    match (flags & AFFECT_LIVE != 0, flags & AFFECT_CONFIG != 0) {
        (true, true) => &[INACTIVE, LIVE],
        (false, true) => &[INACTIVE],
        _ => &[LIVE],
    }
}

/// A question that failed: the call that it was asked for was not sent.
fn unasked(target: &Libvirt, error: CallError) -> TargetError {
    match error {
        CallError::Lost(_) | CallError::TimedOut { .. } | CallError::Reply { .. } => {
            TargetError::Unreachable(error.to_string())
        }
        error => fault::lift(target.reader.tables(), error),
    }
}

fn bad(error: &BadScript) -> TargetError {
    TargetError::Failed { code: 0, means: Some(error.code()), message: error.to_string() }
}

/// `what` of the domain that is there, its name or its uuid, was to be another's.
fn exists(there: &Handle, what: String) -> TargetError {
    let message = format!("libvirt has a domain `{}` with uuid {} already", there.name, there.uuid);
    TargetError::Exists { name: what, object: ObjectId::new(Kind::Vm, there.uuid), message }
}

fn form(script: &Script, why: &'static str) -> BadScript {
    BadScript::Form { form: script.form.to_string(), why }
}

/// Whether a call takes a document in the script's argument.
///
/// # Errors
/// It does not; the document, which has secrets in it, is then not even read.
pub(super) fn takes(procedure: &Procedure, script: &Script) -> Result<(), TargetError> {
    let fields = procedure.args.iter().flat_map(|of| &of.fields);
    let mut named = fields.filter(|field| *field.name == *script.argument);
    if named.any(|field| matches!(field.ty, Type::Text(_))) {
        return Ok(());
    }
    Err(bad(&BadScript::NoArgument {
        call: procedure.name.to_string(),
        argument: script.argument.to_string(),
    }))
}

/// Questions about one domain.
pub(super) struct Editing<'a> {
    target: &'a Libvirt,
    connection: Connection,
    names: Names,
    object: ObjectId,
    deadline: Instant,
}

impl<'a> Editing<'a> {
    /// Asks by `deadline`, on the connection that the call will take.
    ///
    /// # Errors
    /// The host has never been read.
    pub(super) fn new(
        target: &'a Libvirt,
        connection: Connection,
        object: ObjectId,
        deadline: Instant,
    ) -> Result<Editing<'a>, TargetError> {
        let names = target.reader.known_names();
        let names =
            names.ok_or_else(|| TargetError::Unreachable("the host has not been read yet".to_owned()))?;
        Ok(Editing { target, connection, names, object, deadline })
    }

    fn api(&self) -> Api {
        let patience = self.deadline.saturating_duration_since(Instant::now());
        Api { connection: self.connection.clone(), patience }
    }

    fn scripting(&self) -> Scripting<'_> {
        let inventory = self.target.reader.inventory();
        Scripting { schema: inventory.schema(), inventory, names: &self.names }
    }

    async fn domain(&self, uuid: Uuid) -> Result<Option<Handle>, TargetError> {
        self.api().domain(uuid).await.map_err(|e| unasked(self.target, e))
    }

    async fn present(&self) -> Result<Handle, TargetError> {
        if self.object.kind == Kind::Vm
            && let Some(handle) = self.domain(self.object.uuid).await?
        {
            return Ok(handle);
        }
        Err(TargetError::Failed {
            code: NO_DOMAIN,
            means: Some(Code::NotFound),
            message: format!("libvirt has no {}", self.object),
        })
    }

    async fn document(&self, dom: &Handle, flags: u32) -> Result<Arc<str>, TargetError> {
        self.api().domain_document(dom, flags).await.map_err(|e| unasked(self.target, e))
    }

    /// The text that the script's argument takes; `None`: the whole document says it already, so there is nothing to send.
    ///
    /// # Errors
    /// Nothing is to be sent: the document cannot be had, or cannot be changed so.
    pub(super) async fn argument(
        &self,
        call: &NativeCall,
        script: &Script,
    ) -> Result<Option<Value>, TargetError> {
        let flags = flags(call);
        let text = match &*script.form {
            "new" => Some(self.fragment(script).await?),
            "inactive" => self.patched(script, &[INACTIVE]).await?,
            "live" => self.patched(script, &[LIVE]).await?,
            "device" => self.patched(script, forms(flags)).await?,
            _ => return Err(bad(&form(script, "expected `inactive`, `live`, `device` or `new`"))),
        };
        Ok(text.map(|text| Value::str(&text)))
    }

    /// The first of the documents that can be changed so, and what of it the call takes.
    async fn patched(&self, script: &Script, forms: &[u32]) -> Result<Option<String>, TargetError> {
        let dom = self.present().await?;
        let mut first = None;
        for flags in forms {
            let text = self.document(&dom, *flags).await?;
            match self.patch(script, &text) {
                Ok(text) => return Ok(text),
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.map_or_else(|| bad(&form(script, "the call changes no document")), |error| bad(&error)))
    }

    fn patch(&self, script: &Script, text: &str) -> Result<Option<String>, BadScript> {
        let rows = self.target.reader.rows();
        let old = rows.get(&Tree::parse(text).map_err(mapping::edit::Refusal::from)?).record;
        let changes = self.scripting().changes(script, self.object, &old, Aim::Make)?;
        let cut = if *script.form == *"device" { self.device(script, &changes)? } else { Cut::Whole };
        let put = rows.patch(text, &changes)?;
        let (from, field, key) = match &cut {
            Cut::Whole => return Ok((!put.edits.is_empty()).then_some(put.text)),
            Cut::Device(field, key) => (put.text.as_str(), *field, key),
            Cut::Gone(field, key) => (text, *field, key),
        };
        let tree = Tree::parse(from).map_err(mapping::edit::Refusal::from)?;
        let item = rows.item(&tree, field, key).map(str::to_owned);
        item.map(Some).ok_or_else(|| form(script, "the device has no key of its own"))
    }

    /// The one device that a script is about.
    fn device(&self, script: &Script, changes: &[Change]) -> Result<Cut, BadScript> {
        let schema = self.target.reader.inventory().schema();
        match changes {
            [Change::Edit { field, key, .. }] => Ok(Cut::Device(*field, key.clone())),
            [Change::Remove { field, key }] => Ok(Cut::Gone(*field, key.clone())),
            [Change::Add { field, item }] => {
                let key = get(schema, item, "id").as_str().map(Arc::from);
                Ok(Cut::Device(*field, key.ok_or_else(|| form(script, "a new device needs a key"))?))
            }
            _ => Err(form(script, "expected one change of one device")),
        }
    }

    /// A new domain's document.
    async fn fragment(&self, script: &Script) -> Result<String, TargetError> {
        let rows = self.target.reader.rows();
        let (vm, want) = self.wanted(script).map_err(|e| bad(&e))?;
        // Defining it again would overwrite what is there.
        if let Some(there) = self.domain(vm.uuid).await? {
            return Err(exists(&there, there.uuid.to_string()));
        }
        if let Some(name) = get(self.target.reader.inventory().schema(), &want, "name").as_str() {
            self.unnamed(name, vm.uuid).await?;
        }
        let asked = self.target.reader.host_answers(&self.api()).await;
        let answers = asked.map_err(|e| unasked(self.target, e))?;
        let offer = Offer::read(answers.capabilities.as_deref().unwrap_or_default());
        let schema = self.target.reader.inventory().schema();
        create::fragment(rows, schema, &offer, want).map_err(|e| bad(&e.into()))
    }

    /// What a new domain is to be.
    fn wanted(&self, script: &Script) -> Result<(ObjectId, Record), BadScript> {
        let rows = self.target.reader.rows();
        let schema = self.target.reader.inventory().schema();
        let mut want = schema.kind(Kind::Vm).record();
        let uuid = create::uuid(script).or((self.object.kind == Kind::Vm).then_some(self.object.uuid));
        let uuid = uuid.ok_or_else(|| form(script, "a new domain needs its `uuid`"))?;
        let vm = ObjectId::new(Kind::Vm, uuid);
        for change in self.scripting().changes(script, vm, &want.clone(), Aim::Make)? {
            match change {
                Change::Set { field, value } if value.is_absent() || rows.writes(field) => {
                    want.set(field, value);
                }
                Change::Set { field, .. } => {
                    let name = schema.kind(Kind::Vm).field_at(field).map_or("?", |f| f.name.as_str());
                    return Err(mapping::edit::Refusal::ReadOnly { field: name.to_owned() }.into());
                }
                Change::Add { field, item } => {
                    let mut items: Vec<Value> = want.get(field).items().to_vec();
                    items.push(Value::record(item));
                    want.set(field, Value::list(items));
                }
                Change::Edit { .. } | Change::Remove { .. } => {
                    return Err(form(script, "there is nothing yet to edit or to remove"));
                }
            }
        }
        crate::inventory::set(schema, &mut want, "uuid", uuid.to_string());
        Ok((vm, want))
    }

    /// A call that names a domain needs a name that no other has; libvirt's own words for that have no number of their own.
    ///
    /// # Errors
    /// Another has it, or libvirt did not answer.
    pub(super) async fn names_free(&self, call: &NativeCall) -> Result<(), TargetError> {
        let name = call.args.iter().find(|(name, _)| **name == *"new_name");
        match name.and_then(|(_, value)| value.as_str()) {
            Some(name) => self.unnamed(name, self.object.uuid).await,
            None => Ok(()),
        }
    }

    async fn unnamed(&self, name: &str, but: Uuid) -> Result<(), TargetError> {
        let found = self.api().domain_named(name).await.map_err(|e| unasked(self.target, e))?;
        found.filter(|there| there.uuid != but).map_or(Ok(()), |there| Err(exists(&there, name.to_owned())))
    }
}

/// The call's flags.
fn flags(call: &NativeCall) -> i64 {
    call.args.iter().find(|(name, _)| **name == *"flags").and_then(|(_, flags)| flags.as_int()).unwrap_or(0)
}
