//! Looking at what libvirt says now: whether a call has, or would have, nothing left to do.

use super::{AFFECT_CONFIG, AFFECT_LIVE, Editing, INACTIVE, LIVE, bad, create, flags, forms, unasked};
use crate::{
    inventory::get,
    target::script::{Aim, BadScript},
};
use lane::{NativeCall, TargetError};
use mapping::edit::Tree;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use union::{Kind, Value, command::Code, plan::Script};

/// How long a guest has to let go of a device, after libvirt itself has waited for it; and how often that is looked for.
const LET_GO: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// `VIR_DOMAIN_METADATA_DESCRIPTION` and `VIR_DOMAIN_METADATA_TITLE`.
const DESCRIPTION: i64 = 0;
const TITLE: i64 = 1;

impl Editing<'_> {
    /// Whether libvirt already says what the call would make of it; `None`: the call is not one that can be looked for.
    ///
    /// # Errors
    /// libvirt did not answer, or the script cannot be followed.
    pub(in crate::target) async fn effective(&self, call: &NativeCall) -> Result<Option<bool>, TargetError> {
        let Some(script) = &call.script else { return self.plain(call).await };
        let forms = match &*script.form {
            "new" => {
                let uuid =
                    create::uuid(script).or((self.object.kind == Kind::Vm).then_some(self.object.uuid));
                let Some(uuid) = uuid else { return Ok(None) };
                return Ok(Some(self.domain(uuid).await?.is_some()));
            }
            "inactive" => &[INACTIVE],
            "live" => &[LIVE],
            _ => forms(flags(call)),
        };
        let dom = self.present().await?;
        for flags in forms {
            let text = self.document(&dom, *flags).await?;
            match self.says(script, &text) {
                Ok(true) => {}
                Ok(false) => return Ok(Some(false)),
                // What it became has no name to look for.
                Err(BadScript::NoKey(_)) => return Ok(None),
                // A device that is not there does not say it; nor does a document that could not be made to.
                Err(BadScript::Refused(_)) => return Ok(Some(false)),
                Err(error) => return Err(bad(&error)),
            }
        }
        Ok(Some(true))
    }

    /// After a device was taken from what runs: libvirt has asked the guest to let go of it, waited for a moment and said yes all the same.
    ///
    /// # Errors
    /// The guest still has the device, or nobody can tell.
    pub(in crate::target) async fn released(&self, call: &NativeCall) -> Result<(), TargetError> {
        let takes = call.script.is_some() && &*call.call == "DomainDetachDeviceFlags";
        if !takes || flags(call) == AFFECT_CONFIG {
            return Ok(());
        }
        let until = self.deadline.min(Instant::now() + LET_GO);
        while self.effective(call).await? == Some(false) {
            if Instant::now() >= until {
                return Err(TargetError::Failed {
                    code: 0,
                    means: Some(Code::GuestUnavailable),
                    message: "the guest does not let go of the device; it is gone once the guest has stopped"
                        .to_owned(),
                });
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    fn says(&self, script: &Script, text: &str) -> Result<bool, BadScript> {
        let rows = self.target.reader.rows();
        let old = rows.get(&Tree::parse(text).map_err(mapping::edit::Refusal::from)?).record;
        let changes = self.scripting().changes(script, self.object, &old, Aim::Look)?;
        Ok(rows.patch(text, &changes)?.edits.is_empty())
    }

    /// Calls without a document whose effect has a name. That a libvirt does not have an object may also be because it never had it; who
    /// asks then looks at what is known of the object.
    async fn plain(&self, call: &NativeCall) -> Result<Option<bool>, TargetError> {
        let arg = |name: &str| call.args.iter().find(|(n, _)| **n == *name).map(|(_, value)| value);
        let vm = arg("dom").and_then(Value::as_ref_id).unwrap_or(self.object);
        match &*call.call {
            "DomainUndefineFlags" | "DomainUndefine" => {
                Ok(self.domain(vm.uuid).await?.is_some().then_some(false))
            }
            "DomainRename" => {
                let Some(handle) = self.domain(vm.uuid).await? else { return Ok(None) };
                Ok(arg("new_name").and_then(Value::as_str).map(|name| *name == *handle.name))
            }
            "DomainSetMetadata" => {
                let field = match arg("type").and_then(Value::as_int).unwrap_or(0) {
                    DESCRIPTION => "description",
                    TITLE => "title",
                    _ => return Ok(None),
                };
                let text = arg("metadata").filter(|text| text.as_str() != Some("")).cloned();
                self.shows(call, field, text.unwrap_or_default()).await
            }
            "DomainSetVcpusFlags" if flags(call) & !(AFFECT_LIVE | AFFECT_CONFIG) == 0 => {
                self.shows(call, "cpu_current", arg("nvcpus").cloned().unwrap_or_default()).await
            }
            "DomainSetMemoryFlags" if flags(call) & !(AFFECT_LIVE | AFFECT_CONFIG) == 0 => {
                let kib = arg("memory").and_then(Value::as_int);
                let bytes = kib.map(|kib| Value::Int(kib.saturating_mul(1024)));
                self.shows(call, "memory_current_bytes", bytes.unwrap_or_default()).await
            }
            "StorageVolDelete" => {
                let Some(volume) = arg("vol").and_then(Value::as_ref_id) else { return Ok(None) };
                let reader = &self.target.reader;
                let Some(record) = reader.inventory().record(volume) else { return Ok(Some(true)) };
                let key = get(reader.inventory().schema(), &record, "key");
                let Some(key) = key.as_str().filter(|_| reader.holds(volume)) else { return Ok(None) };
                let there = self.api().volume_exists(key).await.map_err(|e| unasked(self.target, e))?;
                Ok(Some(!there))
            }
            _ => Ok(None),
        }
    }

    /// Whether every document that a call changes has this value in a field.
    async fn shows(&self, call: &NativeCall, field: &str, value: Value) -> Result<Option<bool>, TargetError> {
        let dom = self.present().await?;
        let (rows, schema) = (self.target.reader.rows(), self.target.reader.inventory().schema());
        for flags in forms(flags(call)) {
            let text = self.document(&dom, *flags).await?;
            let Ok(tree) = Tree::parse(&text) else { return Ok(None) };
            if *get(schema, &rows.get(&tree).record, field) != value {
                return Ok(Some(false));
            }
        }
        Ok(Some(true))
    }
}
