//! Structures: a variant for each subtype that the paths name.

use super::{Compiler, Pending, Stand, Whens};
use crate::{
    cel::{Program, condition},
    lens::Class,
    render::{Deps, Node, NodeId, NodeKind, ValueKind, Variant},
    report::did_you_mean,
    schema::{NativeField, NativeType, TypeId},
};
use std::sync::Arc;

impl<'a> Compiler<'a> {
    pub(super) fn structure(
        &mut self,
        field: &NativeField,
        rows: Vec<Pending<'a>>,
        stand: &Stand,
        whens: &mut Whens<'a>,
        path: &str,
    ) -> Option<NodeId> {
        let first = rows.first()?;
        let (span, written) = (first.row.path_span, first.row.path.clone());
        let NativeType::Data(declared) = field.ty else {
            let is = self.env.native.describe(field);
            self.findings
                .error(span, format!("`{path}` is {is}: it has no fields, but there is a row `{written}`"));
            return None;
        };
        if field.list {
            let is = self.env.native.describe(field);
            let help = Some(format!("one row for the list: \"{path}\" = {{ list = {{ ... }} }}"));
            self.findings.error_help(
                span,
                format!("`{path}` is a {is}: its items' fields have no rows here"),
                help,
            );
            return None;
        }
        let types = self.narrowed(declared, &rows);
        let mut deps = Deps::default();
        let mut variants = Vec::new();
        for (ty, narrow) in types {
            let of = |p: &&Pending<'a>| p.head().is_some_and(|h| h.narrow.is_none() || h.narrow == narrow);
            let below = rows.iter().filter(of).map(Pending::deeper).collect();
            let place = match &narrow {
                Some(name) => format!("{path}:{name}"),
                None => path.to_owned(),
            };
            let when = self.when(&place, stand, whens);
            if let Some(when) = &when {
                deps.add(&stand.deps(&when.reads));
            }
            let body = self.reserve();
            self.fill(body, ty, below, stand, whens, &place, span, None);
            deps.add(&self.body_deps.get(body.0 as usize).cloned().unwrap_or_default());
            let concrete: Arc<str> = Arc::from(self.env.native.name(ty));
            let since = self.env.native.get(ty).map(|t| t.since).unwrap_or_default();
            let place = self.place(field, &concrete, ValueKind::Data);
            variants.push(Variant { place, since, when, body });
        }
        let place = variants.first()?.place.clone();
        Some(self.push(Node {
            since: field.since,
            required: !field.optional,
            list: false,
            array: None,
            place,
            kind: NodeKind::Struct(variants),
            deps,
            path: Arc::from(path),
            row: Arc::from(""),
            at: Arc::from(""),
            class: Class::Iso,
        }))
    }

    /// The types that the rows name, in the order of the file; the declared one if they name none.
    fn narrowed(&mut self, declared: TypeId, rows: &[Pending<'a>]) -> Vec<(TypeId, Option<Arc<str>>)> {
        let mut types: Vec<(TypeId, Option<Arc<str>>)> = Vec::new();
        for row in rows {
            let Some(name) = row.head().and_then(|h| h.narrow.clone()) else { continue };
            if types.iter().any(|(_, n)| n.as_ref() == Some(&name)) {
                continue;
            }
            let native = self.env.native;
            match native.named(&name) {
                Some(ty) if native.is_a(ty, declared) => types.push((ty, Some(name))),
                _ => {
                    let family = native.family(declared);
                    let help = did_you_mean(&name, family.iter().map(|t| native.name(*t)));
                    let message = format!("`{name}` is not a kind of {}", native.name(declared));
                    self.findings.error_help(row.row.path_span, message, help);
                }
            }
        }
        if types.is_empty() {
            types.push((declared, None));
        }
        types
    }

    fn when(&mut self, path: &str, stand: &Stand, whens: &mut Whens<'a>) -> Option<Program> {
        let ((key, _), (text, span)) = whens.raw.whens.iter().find(|((key, _), _)| **key == *path)?;
        whens.used.insert(key.clone());
        condition(text, *span, &stand.scope(), self.env.union, self.findings)
    }
}
