//! `[id.NATIVE_TYPE] VIEW = ...`: how native ids are formed.

use crate::{
    cel::{Frame, Program, Scope, condition},
    data::{Fields, Item, Node, Table},
    reader::Reader,
    report::{Findings, Span},
    table::{Placed, placed},
};
use rustc_hash::FxHashMap;
use std::{collections::BTreeSet, sync::Arc};
use union::{MessageId, ObjectId, Record, Schema};
use uuid::Uuid;

/// A form of native ids: text with at most one place for a number, a uuid or a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdForm {
    before: Arc<str>,
    part: Part,
    after: Arc<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Fixed,
    Number,
    Uuid,
    Id,
}

impl IdForm {
    fn parse(text: &str) -> Result<IdForm, String> {
        let Some((before, rest)) = text.split_once('{') else {
            return Ok(IdForm { before: Arc::from(text), part: Part::Fixed, after: Arc::from("") });
        };
        let (part, after) = rest.split_once('}').ok_or_else(|| "`{` without `}`".to_owned())?;
        let part = match part {
            "n" => Part::Number,
            "uuid" => Part::Uuid,
            "id" => Part::Id,
            other => return Err(format!("`{{{other}}}` is not known: a form has {{n}}, {{uuid}} or {{id}}")),
        };
        if after.contains('{') {
            return Err("a form has one `{n}` or `{uuid}`, not several".to_owned());
        }
        Ok(IdForm { before: Arc::from(before), part, after: Arc::from(after) })
    }

    /// The form as written in the mapping.
    pub fn pattern(&self) -> String {
        let part = match self.part {
            Part::Fixed => "",
            Part::Number => "{n}",
            Part::Uuid => "{uuid}",
            Part::Id => "{id}",
        };
        format!("{}{part}{}", self.before, self.after)
    }

    /// Whether a number must be allocated for an id of this form.
    pub fn numbered(&self) -> bool {
        self.part == Part::Number
    }

    /// Whether it is a second face of an object, named by the object's own native id; see [`IdForm::face`].
    pub fn is_face(&self) -> bool {
        self.part == Part::Id
    }

    /// The native id of a face of the object whose own native id is `id`.
    pub fn face(&self, id: &str) -> String {
        format!("{}{id}{}", self.before, self.after)
    }

    /// The native id of the object of which `face` is a face of this form.
    pub fn faced<'a>(&self, face: &'a str) -> Option<&'a str> {
        let id = face.strip_prefix(&*self.before)?.strip_suffix(&*self.after)?;
        self.is_face().then_some(id)
    }

    /// The native id; of a face only what encloses the object's own id.
    pub fn text(&self, number: u64, uuid: Uuid) -> String {
        match self.part {
            Part::Fixed => self.before.to_string(),
            Part::Id => self.face(""),
            Part::Number => format!("{}{number}{}", self.before, self.after),
            Part::Uuid => format!("{}{uuid}{}", self.before, self.after),
        }
    }

    /// The number in a native id of this form.
    pub fn number(&self, id: &str) -> Option<u64> {
        let digits = id.strip_prefix(&*self.before)?.strip_suffix(&*self.after)?;
        if self.part == Part::Number { digits.parse().ok() } else { None }
    }
}

type Choice = (Option<Program>, IdForm);
/// A view's choices; the first whose condition holds is taken.
type ViewForms = (Arc<str>, Vec<Choice>);

/// All forms of a protocol, by native type and view.
#[derive(Debug, Default)]
pub(crate) struct Forms {
    forms: FxHashMap<Arc<str>, Vec<ViewForms>>,
}

impl Forms {
    pub fn get(
        &self,
        view: &str,
        ty: &str,
        id: ObjectId,
        record: &Record,
        reader: &dyn Reader,
    ) -> Option<&IdForm> {
        let (_, choices) = self.forms.get(ty)?.iter().find(|(v, _)| &**v == view)?;
        let frame = Frame::object(id, record, reader);
        choices.iter().find(|(when, _)| when.as_ref().is_none_or(|w| w.holds(&frame))).map(|(_, form)| form)
    }

    /// The forms of a view that take a number.
    pub fn numbered(&self, view: &str) -> BTreeSet<String> {
        let of_view = self.forms.values().flatten().filter(|(v, _)| &**v == view);
        let forms = of_view.flat_map(|(_, choices)| choices).map(|(_, form)| form);
        forms.filter(|form| form.numbered()).map(IdForm::pattern).collect()
    }

    /// The forms that another set has differently or not at all, as `[id.TYPE] VIEW`; what it has besides does not count.
    pub fn differing(&self, other: &Forms) -> Vec<String> {
        let said = |choices: &[Choice]| -> Vec<(Option<Arc<str>>, IdForm)> {
            choices
                .iter()
                .map(|(when, form)| (when.as_ref().map(|w| Arc::clone(&w.text)), form.clone()))
                .collect()
        };
        let mut differing = Vec::new();
        for (ty, views) in &self.forms {
            for (view, choices) in views {
                let theirs = other.forms.get(ty).and_then(|views| views.iter().find(|(v, _)| v == view));
                if theirs.is_none_or(|(_, theirs)| said(theirs) != said(choices)) {
                    differing.push(format!("[id.{ty}] {view}"));
                }
            }
        }
        differing.sort();
        differing
    }

    /// Whether the type is a second face of its objects in some view.
    pub fn is_face(&self, ty: &str) -> bool {
        self.forms
            .get(ty)
            .is_some_and(|views| views.iter().flat_map(|(_, c)| c).any(|(_, form)| form.is_face()))
    }

    /// Adds one `[id.TYPE]`; `message` is what the type shows.
    pub fn read(
        &mut self,
        ty: &Arc<str>,
        table: &Table,
        message: Option<MessageId>,
        views: &[Arc<str>],
        union: &Schema,
        findings: &mut Findings,
    ) {
        let mut by_view = Vec::new();
        for entry in &table.entries {
            if !views.contains(&entry.key) {
                let help = Some(format!("views: {}", views.join(", ")));
                findings.error_help(entry.key_span, format!("there is no `[view.{}]`", entry.key), help);
                continue;
            }
            let items = if let Node::Array(items) = &entry.value.node {
                items.as_slice()
            } else {
                std::slice::from_ref(&entry.value)
            };
            let choices = items.iter().filter_map(|i| choice(i, message, union, findings)).collect();
            by_view.push((entry.key.clone(), choices));
        }
        self.forms.insert(ty.clone(), by_view);
    }
}

fn choice(
    item: &Item,
    message: Option<MessageId>,
    union: &Schema,
    findings: &mut Findings,
) -> Option<Choice> {
    let (form, when): (Option<Placed>, Option<(&Arc<str>, Span)>) = match item.as_table() {
        None => (placed(item, "an id form", findings), None),
        Some(table) => {
            let mut fields = Fields::new(table, "an id form");
            let form = fields.need_str("form", findings).map(|(t, s)| (t.clone(), s));
            let when = fields.str("when", findings);
            fields.finish(findings);
            (form, when)
        }
    };
    let (text, span) = form?;
    let form = match IdForm::parse(&text) {
        Ok(form) => form,
        Err(why) => {
            findings.error(span, why);
            return None;
        }
    };
    let Some((text, span)) = when else { return Some((None, form)) };
    let Some(message) = message else {
        findings.error(span, "`when` needs an [object] table that says what the type shows");
        return None;
    };
    let program = condition(text, span, &Scope::object(message), union, findings)?;
    Some((Some(program), form))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_and_reads_ids() {
        let form = IdForm::parse("vm-{n}").unwrap();
        assert_eq!(form.text(7, Uuid::nil()), "vm-7");
        assert_eq!(form.number("vm-7"), Some(7));
        assert_eq!(form.number("host-7"), None);
        let face = IdForm::parse("envbrowser-{id}").unwrap();
        assert_eq!(face.face("vm-7"), "envbrowser-vm-7");
        assert_eq!(face.faced("envbrowser-vm-7"), Some("vm-7"));
        assert_eq!(IdForm::parse("ha-host").unwrap().text(7, Uuid::nil()), "ha-host");
        assert!(IdForm::parse("x{n}{n}").is_err() && IdForm::parse("x{m}").is_err());
    }
}
