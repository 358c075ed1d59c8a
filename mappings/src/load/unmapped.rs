//! `[unmapped.TYPE]`: the required properties of managed types that no row shows, each with its reason.

use super::Named;
use crate::{
    protocol::Protocol,
    report::Findings,
    table::{RawObject, placed},
};
use std::{collections::BTreeMap, sync::Arc};

type Reasons = BTreeMap<Arc<str>, BTreeMap<Arc<str>, Arc<str>>>;

/// A required property without row and reason is a warning, a reason for a property that has a row an error.
pub(super) fn check(
    protocol: &Protocol,
    tables: &[Named],
    raw: &BTreeMap<Arc<str>, RawObject>,
    findings: &mut Findings,
) -> Reasons {
    let mut reasons: Reasons = BTreeMap::new();
    for (ty, span, table) in tables {
        let Some(def) = protocol.native.lookup(ty) else {
            findings.error(*span, format!("the native schema has no type `{ty}`"));
            continue;
        };
        for entry in &table.entries {
            let Some((reason, _)) = placed(&entry.value, "a reason", findings) else { continue };
            if def.field(&entry.key).is_none() {
                findings.error(entry.key_span, format!("native type {ty} has no property `{}`", entry.key));
            }
            reasons.entry(ty.clone()).or_default().insert(entry.key.clone(), reason);
            let mapped = protocol.object(ty).is_some_and(|m| m.top.iter().any(|s| s.path() == &*entry.key));
            if mapped {
                findings
                    .error(entry.key_span, format!("`{}` of {ty} has a row: it is not unmapped", entry.key));
            }
        }
    }
    for map in protocol.objects().filter(|m| m.managed) {
        let Some(def) = protocol.native.get(map.native_id) else { continue };
        let excused = |name: &str| {
            protocol
                .native
                .chain(map.native_id)
                .any(|t| reasons.get(protocol.native.name(t)).is_some_and(|r| r.contains_key(name)))
        };
        let missing: Vec<&str> = def
            .fields
            .iter()
            .filter(|f| !f.optional && !f.list && !excused(&f.name))
            .filter(|f| !map.top.iter().any(|s| s.path() == &*f.name))
            .map(|f| &*f.name)
            .collect();
        if let (false, Some(raw)) = (missing.is_empty(), raw.get(&map.native_type)) {
            let message = format!("no row shows what every {} has: {}", map.native_type, missing.join(", "));
            findings.warning(
                raw.span,
                message,
                Some(format!("rows, or reasons in [unmapped.{}]", map.native_type)),
            );
        }
    }
    reasons
}
