//! Rows and tables as written: shape checked, nothing resolved yet.

use crate::{
    data::{Fields, Item, Node, Table},
    report::{Findings, Span},
};
use std::sync::Arc;

/// A text and where it stands.
pub(crate) type Placed = (Arc<str>, Span);

/// One row.
#[derive(Clone, Debug)]
pub(crate) struct RawRow {
    pub path: Arc<str>,
    pub path_span: Span,
    pub span: Span,
    pub form: Form,
    /// `type = "long"`, where the native type is `anyType`.
    pub ty: Option<Placed>,
}

/// Whether a row writes its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dup {
    No,
    View,
    Follow,
}

#[derive(Clone, Debug)]
pub(crate) enum Form {
    Field { text: Arc<str>, span: Span, dup: Dup },
    Const(Item),
    Cel { text: Arc<str>, span: Span, lens: Option<Placed> },
    Reverse(Vec<Placed>),
    List { entries: Vec<RawEntry>, key: Option<Placed> },
    Show(Placed),
}

/// One kind of item of a list.
#[derive(Clone, Debug)]
pub(crate) struct RawEntry {
    pub ty: Placed,
    pub from: Option<Placed>,
    pub when: Option<Placed>,
    /// Of a list of an enumeration: the value that this entry shows.
    pub is: Option<Placed>,
    /// Rows in place; otherwise those of `[object.<ty>]`.
    pub rows: Option<Arc<Vec<RawRow>>>,
    pub span: Span,
}

/// `[object.NAME]`.
#[derive(Clone, Debug)]
pub(crate) struct RawObject {
    pub name: Arc<str>,
    pub span: Span,
    pub union: Option<Placed>,
    pub when: Option<Placed>,
    pub is_abstract: bool,
    pub rows: Vec<RawRow>,
    pub whens: Vec<(Placed, Placed)>,
    /// `[object.NAME.read]`: rows that commands read only.
    pub reads: Option<Table>,
    /// `[object.NAME.new]`: what an added item has.
    pub new: Option<Table>,
}

/// The value as a placed text.
pub(crate) fn placed(item: &Item, what: &str, findings: &mut Findings) -> Option<Placed> {
    if let Some(text) = item.as_str() {
        return Some((text.clone(), item.span));
    }
    findings.error(item.span, format!("{what} must be a text, not {}", item.what()));
    None
}

/// Reads `[object.NAME]`.
pub(crate) fn object(name: &Arc<str>, span: Span, table: &Table, findings: &mut Findings) -> RawObject {
    let what = format!("[object.{name}]");
    let mut fields = Fields::new(table, what.clone());
    let union = fields.str("union", findings).map(|(t, s)| (t.clone(), s));
    let when =
        fields.get("when").filter(|i| i.as_table().is_none()).and_then(|i| placed(i, "`when`", findings));
    let is_abstract = fields.bool("abstract", findings).unwrap_or(false);
    let rows = fields.table("rows", findings).map(|t| rows(t, findings)).unwrap_or_default();
    let reads = fields.table("read", findings).cloned();
    let new = fields.table("new", findings).cloned();
    let mut when = when;
    let mut whens = Vec::new();
    // `when` is the object's own condition (a text) or the table of its parts' conditions, where its own is called `this`.
    if let Some(Item { node: Node::Table(parts), .. }) = table.get("when") {
        for entry in &parts.entries {
            if let Some(condition) = placed(&entry.value, "a condition", findings) {
                if &*entry.key == "this" {
                    when = Some(condition);
                } else {
                    whens.push(((entry.key.clone(), entry.key_span), condition));
                }
            }
        }
    }
    fields.finish(findings);
    if union.is_none() && !is_abstract {
        findings.error(span, format!("{what} needs `union`, the message it shows, or `abstract = true`"));
    }
    RawObject { name: name.clone(), span, union, when, is_abstract, rows, whens, reads, new }
}

/// Reads a table of rows.
pub(crate) fn rows(table: &Table, findings: &mut Findings) -> Vec<RawRow> {
    let mut out = Vec::new();
    for entry in &table.entries {
        let row = row(&entry.key, entry.key_span, &entry.value, findings);
        out.extend(row);
    }
    out
}

fn row(path: &Arc<str>, path_span: Span, item: &Item, findings: &mut Findings) -> Option<RawRow> {
    let span = item.span;
    let table = match &item.node {
        Node::Str(text) => {
            let form = Form::Field { text: text.clone(), span, dup: Dup::No };
            return Some(RawRow { path: path.clone(), path_span, span, form, ty: None });
        }
        Node::Table(table) => table,
        _ => {
            let message = format!("a row is a text or a table, not {}", item.what());
            findings.error_help(span, message, Some("a constant is written `{ const = X }`".into()));
            return None;
        }
    };
    let mut fields = Fields::new(table, format!("the row `{path}`"));
    let ty = fields.str("type", findings).map(|(t, s)| (t.clone(), s));
    let lens = fields.str("lens", findings).map(|(t, s)| (t.clone(), s));
    let key = fields.str("key", findings).map(|(t, s)| (t.clone(), s));
    let dup = match fields.str("dup", findings).map(|(t, s)| (&**t, s)) {
        None => Dup::No,
        Some(("view", _)) => Dup::View,
        Some(("follow", _)) => Dup::Follow,
        Some((other, s)) => {
            findings.error(s, format!("`dup` is \"view\" or \"follow\", not `{other}`"));
            Dup::View
        }
    };
    let mut forms = Vec::new();
    if let Some((text, span)) = fields.str("to", findings) {
        forms.push(Form::Field { text: text.clone(), span, dup });
    }
    if let Some(item) = fields.get("const") {
        forms.push(Form::Const(item.clone()));
    }
    if let Some((text, span)) = fields.str("cel", findings) {
        forms.push(Form::Cel { text: text.clone(), span, lens });
    }
    if let Some(item) = fields.get("reverse") {
        let items =
            if let Node::Array(items) = &item.node { items.as_slice() } else { std::slice::from_ref(item) };
        forms.push(Form::Reverse(items.iter().filter_map(|i| placed(i, "`reverse`", findings)).collect()));
    }
    if let Some(item) = fields.get("list") {
        forms.push(Form::List { entries: entries(item, findings), key });
    }
    if let Some((text, span)) = fields.str("show", findings) {
        forms.push(Form::Show((text.clone(), span)));
    }
    fields.finish(findings);
    if forms.len() != 1 {
        let help = table.entries.first().filter(|_| forms.is_empty()).map(|e| {
            format!("if `{path}.{}` is a path, write it in quotes: \"{path}.{}\" = ...", e.key, e.key)
        });
        findings.error_help(
            span,
            format!("the row `{path}` needs one of `to`, `const`, `cel`, `reverse`, `list`, `show`"),
            help,
        );
        return None;
    }
    let form = forms.pop()?;
    Some(RawRow { path: path.clone(), path_span, span, form, ty })
}

/// `list = { VirtualDisk = "disks" }` or `list = [ { type = "VirtualDisk", from = "disks" } ]`.
pub(crate) fn entries(item: &Item, findings: &mut Findings) -> Vec<RawEntry> {
    match &item.node {
        Node::Table(table) => table
            .entries
            .iter()
            .map(|e| RawEntry {
                ty: (e.key.clone(), e.key_span),
                from: placed(&e.value, "the union list", findings).filter(|(text, _)| &**text != "@"),
                when: None,
                is: None,
                rows: None,
                span: e.value.span,
            })
            .collect(),
        Node::Array(items) => items.iter().filter_map(|i| entry(i, findings)).collect(),
        _ => {
            let message = format!("`list` is a table or an array, not {}", item.what());
            findings.error_help(
                item.span,
                message,
                Some("for example `{ list = { VirtualDisk = \"disks\" } }`".into()),
            );
            Vec::new()
        }
    }
}

fn entry(item: &Item, findings: &mut Findings) -> Option<RawEntry> {
    let Some(table) = item.as_table() else {
        findings.error(item.span, format!("an entry of `list` is a table, not {}", item.what()));
        return None;
    };
    let mut fields = Fields::new(table, "an entry of `list`");
    let ty = fields.need_str("type", findings).map(|(t, s)| (t.clone(), s));
    let from = fields.str("from", findings).map(|(t, s)| (t.clone(), s));
    let when = fields.str("when", findings).map(|(t, s)| (t.clone(), s));
    let is = fields.str("is", findings).map(|(t, s)| (t.clone(), s));
    let rows = fields.table("rows", findings).map(|t| Arc::new(rows(t, findings)));
    fields.finish(findings);
    Some(RawEntry { ty: ty?, from, when, is, rows, span: item.span })
}
