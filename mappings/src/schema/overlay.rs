//! Corrections of the vendor's types: `[overlay.TYPE] "field" = { optional = true, reason = "..." }`.

use super::{NativeSchema, NativeType, Primitive, TypeKind};
use crate::{
    data::{Fields, Table},
    report::{Findings, did_you_mean},
};

/// Applies the `[overlay]` table of a protocol; heirs follow the type they inherit the field from.
pub(crate) fn apply(schema: &mut NativeSchema, overlay: &Table, findings: &mut Findings) {
    for entry in &overlay.entries {
        let Some(id) = schema.named(&entry.key) else {
            let help = did_you_mean(&entry.key, schema.types().map(|(_, t)| &*t.name));
            findings.error_help(
                entry.key_span,
                format!("the native schema has no type `{}`", entry.key),
                help,
            );
            continue;
        };
        let Some(table) = entry.value.as_table() else {
            findings.error(entry.value.span, "expected a table of fields");
            continue;
        };
        for field in &table.entries {
            let Some(change) = field.value.as_table() else {
                findings
                    .error(field.value.span, "expected `{ optional = true, reason = \"...\" }` or the like");
                continue;
            };
            let mut fields = Fields::new(change, "an overlay");
            fields.need_str("reason", findings);
            let optional = fields.bool("optional", findings);
            let required = fields.bool("required", findings);
            let list = fields.bool("list", findings);
            let ty = fields.str("type", findings).and_then(|(name, span)| {
                let ty = native_type(schema, name);
                if ty.is_none() {
                    findings.error(span, format!("the native schema has no type `{name}`"));
                }
                ty
            });
            let since = fields.str("since", findings).and_then(|(version, span)| {
                let index = schema.version(version);
                if index.is_none() {
                    findings.error(span, format!("`{version}` is not one of the versions"));
                }
                index
            });
            fields.finish(findings);
            let mut known = false;
            for heir in schema.family(id) {
                let def = schema.types.get_mut(usize::from(heir.0));
                let Some(target) = def.and_then(|d| d.fields.iter_mut().find(|f| f.name == field.key)) else {
                    continue;
                };
                known = true;
                target.optional = optional.or(required.map(|r| !r)).unwrap_or(target.optional);
                target.list = list.unwrap_or(target.list);
                target.ty = ty.unwrap_or(target.ty);
                target.since = since.unwrap_or(target.since);
            }
            if !known {
                findings.error(
                    field.key_span,
                    format!("native type {} has no property `{}`", entry.key, field.key),
                );
            }
        }
    }
}

/// The type written `name` or `&Name`.
pub(crate) fn native_type(schema: &NativeSchema, name: &str) -> Option<NativeType> {
    if let Some(target) = name.strip_prefix('&') {
        return schema.named(target).map(NativeType::Ref);
    }
    if let Some(id) = schema.named(name) {
        return Some(match schema.get(id)?.kind {
            TypeKind::Enum => NativeType::Enum(id),
            _ => NativeType::Data(id),
        });
    }
    Primitive::named(name).map(NativeType::Primitive)
}
