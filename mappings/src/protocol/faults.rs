//! `[fault.CODE]`: the native fault of a union code.

use crate::{
    data::{Fields, Table},
    report::{Findings, Span, did_you_mean},
    schema::{NativeSchema, TypeKind},
    table::placed,
};
use std::sync::Arc;
use union::command::Code;

/// A native fault and its fields.
#[derive(Clone, Debug)]
pub struct FaultMap {
    /// The native fault's name.
    pub fault: Arc<str>,
    /// Its fields.
    pub with: Vec<(Arc<str>, FaultValue)>,
    /// The sentence for people, where the cause's own is not wanted.
    pub message: Option<Arc<str>>,
}

/// What a field of a fault holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultValue {
    /// This text.
    Text(Arc<str>),
    /// The reference of the object that the command acts on.
    Object,
    /// The cause's sentence.
    Message,
}

/// Reads `[fault.CODE]`.
pub(crate) fn read(
    code: &Arc<str>,
    span: Span,
    table: &Table,
    native: &NativeSchema,
    findings: &mut Findings,
) -> Option<(i32, FaultMap)> {
    let number = Code::from_str_name(code).map(i32::from);
    if number.is_none() {
        let names =
            (0..64).filter_map(|n| Code::try_from(n).ok()).map(|c| c.as_str_name()).collect::<Vec<_>>();
        let help = did_you_mean(code, names.iter().copied());
        findings.error_help(span, format!("the union has no code `{code}`"), help);
    }
    let mut fields = Fields::new(table, format!("[fault.{code}]"));
    let fault = fields.need_str("fault", findings);
    let message = fields.str("message", findings).map(|(t, _)| t.clone());
    let with = fields.table("with", findings);
    fields.finish(findings);
    let (fault, fault_span) = fault?;
    check_fault(fault, fault_span, native, findings);
    let mut values = Vec::new();
    for entry in with.map_or(&[][..], |t| &t.entries) {
        check_field(fault, &entry.key, entry.key_span, native, findings);
        if let Some((text, _)) = placed(&entry.value, "a fault's field", findings) {
            let value = match &*text {
                "object" => FaultValue::Object,
                "message" => FaultValue::Message,
                _ => FaultValue::Text(text),
            };
            values.push((entry.key.clone(), value));
        }
    }
    Some((number?, FaultMap { fault: fault.clone(), with: values, message }))
}

/// Reports a name that is not a fault of the schema; a protocol without types takes any.
pub(crate) fn check_fault(name: &str, span: Span, native: &NativeSchema, findings: &mut Findings) -> bool {
    if native.types().next().is_none() || native.lookup(name).is_some_and(|t| t.kind == TypeKind::Fault) {
        return true;
    }
    let faults = native.types().filter(|(_, t)| t.kind == TypeKind::Fault).map(|(_, t)| &*t.name);
    let help = did_you_mean(name, faults);
    findings.error_help(span, format!("`{name}` is not a native fault"), help);
    false
}

/// Reports a field that the fault does not have.
pub(crate) fn check_field(
    fault: &str,
    field: &str,
    span: Span,
    native: &NativeSchema,
    findings: &mut Findings,
) {
    if let Some(def) = native.lookup(fault)
        && def.field(field).is_none()
    {
        let help = did_you_mean(field, def.fields.iter().map(|f| &*f.name));
        findings.error_help(span, format!("the fault {fault} has no field `{field}`"), help);
    }
}
