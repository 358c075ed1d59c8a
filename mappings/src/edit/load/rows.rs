//! The rows of one object table.

use super::{Context, Cursor, lens::condition, lens::pipes, writers};
use crate::edit::{
    model::{Case, Divisor, Item, List, Order, Part, Policy, Quotient, Row, Rows, Rule, Variant},
    path::Path,
    tree::Tree,
};
use std::sync::Arc;
use union::{FieldType, Slot, SlotSet, schema::MessageSchema};

const ROW: [&str; 9] = ["to", "edit", "dup", "drops", "follow", "absent", "at_most", "unless", "unset"];
const LIST: [&str; 10] = ["list", "key", "id", "by", "item", "new", "unique", "like", "position", "twins"];
const PART: [&str; 3] = ["part", "like", "new"];

/// Compiles an object table for the element that `names` lead to.
pub(crate) fn compile<'c>(
    context: &mut Context<'c, '_>,
    object: Cursor<'c, '_>,
    names: &[&str],
    message: &MessageSchema,
    root: bool,
) -> Rows {
    let mut known = vec!["union", "rows", "variant", "refuse", "count", "new"];
    if root {
        known.push("exclusive");
    }
    object.only(&mut context.sink, &known);
    if let Some(said) = object.text(&mut context.sink, "union")
        && said != message.name
    {
        context.sink.add(object.at(), format!("the list holds `{}`, not `{said}`", message.name));
    }
    let mut rows = Rows {
        message: message.id,
        width: message.fields.len(),
        fields: message.fields.iter().map(|field| field.name.clone()).collect(),
        rows: Vec::new(),
        quotients: Vec::new(),
        variant: None,
        lists: Vec::new(),
        parts: Vec::new(),
        rules: Vec::new(),
        counts: Vec::new(),
        written: SlotSet::EMPTY,
        read: SlotSet::EMPTY,
    };
    for (path, at, value) in object.get("rows").into_iter().flat_map(|t| t.entries()) {
        if value.is_list() {
            for one in value.items() {
                entry(context, &mut rows, names, message, path, at, one);
            }
        } else {
            entry(context, &mut rows, names, message, path, at, value);
        }
    }
    if let Some(table) = object.get("variant") {
        rows.variant = variant(context, table, names, message);
    }
    rules(context, &mut rows, object, message);
    for (field, at, value) in object.get("count").into_iter().flat_map(|t| t.entries()) {
        let counted = value.str(&mut context.sink).unwrap_or("");
        let pair =
            context.field(at, &message.name, field).zip(context.field(value.at(), &message.name, counted));
        rows.counts.extend(pair);
    }
    writers::check(context, &mut rows, object.at());
    rows
}

fn entry<'c>(
    context: &mut Context<'c, '_>,
    rows: &mut Rows,
    names: &[&str],
    message: &MessageSchema,
    path: &'c str,
    at: usize,
    value: Cursor<'c, '_>,
) {
    if value.get("list").is_some() {
        rows.lists.extend(list(context, names, message, path, at, value));
    } else if value.get("part").is_some() {
        rows.parts.extend(part(context, names, message, path, at, value));
    } else if value.get("quotient").is_some() {
        rows.quotients.extend(quotient(context, names, message, path, at, value));
    } else {
        rows.rows.extend(row(context, names, message, path, at, value));
    }
}

/// One field at one leaf; `None` for a view and for what is wrong.
fn row<'c>(
    context: &mut Context<'c, '_>,
    names: &[&str],
    message: &MessageSchema,
    path: &str,
    at: usize,
    value: Cursor<'c, '_>,
) -> Option<Row> {
    if value.is_table() {
        value.only(&mut context.sink, &ROW);
    }
    let to = match value.as_str() {
        Some(text) => text,
        None if value.is_table() && value.get("to").is_none() => {
            context.sink.add(value.at(), "a row needs `to`, `list`, `part` or `quotient`");
            return None;
        }
        None if value.is_table() => value.text(&mut context.sink, "to")?,
        None => value.str(&mut context.sink)?,
    };
    let source: Vec<Path> = path.split(" + ").filter_map(|p| context.path(at, p, names)).collect();
    let (field, links) = pipes(to);
    let slot = context.field(value.at(), &message.name, field)?;
    let schema = message.field_at(slot)?;
    if schema.repeated {
        context.sink.add(value.at(), format!("`{field}` is a list: give the row `list = \"{field}\"`"));
        return None;
    }
    let lens = context.chain(value.at(), &links, &schema.ty);
    let edit = value.text(&mut context.sink, "edit");
    let dup = value.text(&mut context.sink, "dup");
    let policy = match (edit, dup) {
        (None, None) => Policy::Put,
        (None, Some("follow")) => Policy::Follow,
        (None, Some("view")) => return None,
        (Some("never"), None) => Policy::Never,
        (Some("read"), None) => Policy::Read,
        (Some(call), None) if call.starts_with(|c: char| c.is_ascii_uppercase()) => {
            Policy::Call(call.to_owned())
        }
        (Some(word), None) => {
            context.sink.add(
                value.at(),
                format!("`edit` is \"never\", \"read\" or the name of a call, not `{word}`"),
            );
            return None;
        }
        (None, Some(word)) => {
            context.sink.unknown(value.at(), "value of `dup`", word, ["view", "follow"].into_iter());
            return None;
        }
        (Some(_), Some(_)) => {
            context.sink.add(value.at(), "a row has `edit` or `dup`, not both");
            return None;
        }
    };
    if source.len() > 1 && policy != Policy::Read {
        context.sink.add(at, "a joined value cannot be written: add `edit = \"read\"`");
    }
    let unset_element = match value.text(&mut context.sink, "unset") {
        None => false,
        Some("element") => true,
        Some(word) => {
            context.sink.unknown(value.at(), "value of `unset`", word, ["element"].into_iter());
            false
        }
    };
    let required = source.first().is_some_and(|p| context.is_required(names, p));
    Some(Row {
        label: Arc::from(path),
        lens,
        slot,
        policy,
        drops: context.paths(value, "drops", names),
        follow: context.field_under(value, "follow", message),
        absent: context.field_under(value, "absent", message),
        at_most: context.field_under(value, "at_most", message),
        unless: context.paths(value, "unless", names),
        required,
        unset_element,
        narrow: schema.ty == FieldType::Int32,
        source,
    })
}

fn quotient<'c>(
    context: &mut Context<'c, '_>,
    names: &[&str],
    message: &MessageSchema,
    path: &str,
    at: usize,
    value: Cursor<'c, '_>,
) -> Option<Quotient> {
    value.only(&mut context.sink, &["quotient"]);
    let target = context.path(at, path, names)?;
    let mut terms = value.text(&mut context.sink, "quotient")?.split(" / ");
    let dividend = context.field(value.at(), &message.name, terms.next().unwrap_or(""))?;
    let mut divisors = Vec::new();
    for term in terms {
        divisors.push(if term.contains('@') {
            Divisor::Leaf(context.path(value.at(), term, names)?)
        } else {
            Divisor::Field(context.field(value.at(), &message.name, term)?)
        });
    }
    Some(Quotient { label: Arc::from(path), path: target, dividend, divisors })
}

fn part<'c>(
    context: &mut Context<'c, '_>,
    names: &[&str],
    message: &MessageSchema,
    path: &str,
    at: usize,
    value: Cursor<'c, '_>,
) -> Option<Part> {
    value.only(&mut context.sink, &PART);
    let target = context.path(at, path, names)?;
    let field = value.text(&mut context.sink, "part")?;
    let slot = context.field(value.at(), &message.name, field)?;
    let inner = context.part_message(value.at(), message, slot)?;
    let rows = context.like(value, names, &target, inner)?;
    let skeleton = context.skeleton(value, &target);
    Some(Part { label: Arc::from(path), path: target, slot, rows, skeleton })
}

fn list<'c>(
    context: &mut Context<'c, '_>,
    names: &[&str],
    message: &MessageSchema,
    path: &str,
    at: usize,
    value: Cursor<'c, '_>,
) -> Option<List> {
    value.only(&mut context.sink, &LIST);
    let target = context.path(at, path, names)?;
    if target.attribute.is_some() || target.steps.is_empty() {
        context.sink.add(at, "a list's path ends with the element of its items");
        return None;
    }
    let field = value.text(&mut context.sink, "list")?;
    let slot = context.field(value.at(), &message.name, field)?;
    let schema = message.field_at(slot)?;
    if !schema.repeated {
        context.sink.add(value.at(), format!("`{field}` is not a list"));
        return None;
    }
    let skeleton = context.skeleton(value, &target);
    if let Some(item) = value.text(&mut context.sink, "item") {
        let (leaf, links) = pipes(item);
        let inner: Vec<&str> = names.iter().copied().chain(target.names()).collect();
        let source = context.path(value.at(), leaf, &inner)?;
        let lens = context.chain(value.at(), &links, &schema.ty);
        if value.text(&mut context.sink, "by") != Some("position") {
            context.sink.add(value.at(), "a list of plain values needs `by = \"position\"`");
        }
        let row = Row {
            label: Arc::from(leaf),
            source: vec![source],
            slot: Slot(0),
            lens,
            policy: Policy::Put,
            drops: Vec::new(),
            follow: None,
            absent: None,
            at_most: None,
            unless: Vec::new(),
            required: true,
            unset_element: false,
            narrow: schema.ty == FieldType::Int32,
        };
        let item = Item::Scalar(Box::new(row));
        return Some(List {
            label: Arc::from(path),
            path: target,
            slot,
            order: Order::Position,
            item,
            skeleton,
            position: None,
            twins: false,
        });
    }
    let inner = context.part_message(value.at(), message, slot)?;
    let rows = context.like(value, names, &target, inner)?;
    let order = match (value.get("key"), value.text(&mut context.sink, "by")) {
        (Some(key), None) => key_order(context, names, value, key, &target, inner, &rows)?,
        (None, Some("position")) => Order::Position,
        _ => {
            context.sink.add(value.at(), "a list needs `key = \"path\"` or `by = \"position\"`");
            return None;
        }
    };
    let position = context.field_under(value, "position", inner);
    let twins = value.get("twins").is_some_and(|twins| twins.as_bool() == Some(true));
    Some(List {
        label: Arc::from(path),
        path: target,
        slot,
        order,
        item: Item::Part(Box::new(rows)),
        skeleton,
        position,
        twins,
    })
}

fn key_order<'c>(
    context: &mut Context<'c, '_>,
    names: &[&str],
    value: Cursor<'c, '_>,
    key: Cursor<'c, '_>,
    target: &Path,
    message: &MessageSchema,
    rows: &Rows,
) -> Option<Order> {
    let (text, links) = pipes(key.str(&mut context.sink)?);
    let lower = match links.as_slice() {
        [] => false,
        ["lower"] => true,
        _ => {
            context.sink.add(key.at(), "a key takes no lens but `lower`");
            false
        }
    };
    let inside: Vec<&str> = names.iter().copied().chain(target.names()).collect();
    let key_paths: Vec<Path> = text.split(" + ").filter_map(|p| context.path(key.at(), p, &inside)).collect();
    let id = value.text(&mut context.sink, "id").unwrap_or("id");
    let id = context.field(value.at(), &message.name, id)?;
    let single = if let [one] = key_paths.as_slice() { Some(one) } else { None };
    let twin = single.and_then(|one| {
        let same = |row: &&Row| {
            row.slot != id
                && row.target().is_some_and(|p| p.steps == one.steps && p.attribute == one.attribute)
        };
        rows.rows.iter().find(same).map(|row| row.slot)
    });
    let scope = match value.text(&mut context.sink, "unique") {
        Some(scope) => context.path(value.at(), scope, names)?.steps,
        None => {
            let mut steps = target.steps.clone();
            if let Some(last) = steps.last_mut() {
                last.predicate = None;
            }
            steps
        }
    };
    Some(Order::Key { key: key_paths, lower, id, twin, scope })
}

fn variant<'c>(
    context: &mut Context<'c, '_>,
    table: Cursor<'c, '_>,
    names: &[&str],
    message: &MessageSchema,
) -> Option<Variant> {
    table.only(&mut context.sink, &["on", "to", "owns", "drops", "case"]);
    let label = table.text(&mut context.sink, "on").unwrap_or("");
    let on = context.path(table.at(), label, names)?;
    let to = table.text(&mut context.sink, "to").unwrap_or("");
    let slot = context.field(table.at(), &message.name, to)?;
    if message.field_at(slot).is_none_or(|field| field.ty != FieldType::Str || field.repeated) {
        context.sink.add(table.at(), format!("`{to}` has to hold text: it takes the name of the case"));
    }
    let mut cases = Vec::new();
    let mut fields = SlotSet::EMPTY;
    for (name, _, case) in table.get("case").into_iter().flat_map(|t| t.entries()) {
        let mut rows = Vec::new();
        for (path, at, value) in case.entries() {
            rows.extend(row(context, names, message, path, at, value));
        }
        rows.iter().filter(|row| writers::writes(row)).for_each(|row| fields.insert(row.slot));
        cases.push(Case { name: name.to_owned(), rows });
    }
    let owns = context.paths(table, "owns", names);
    let drops = context.paths(table, "drops", names);
    Some(Variant { label: Arc::from(label), on, slot, owns, drops, cases, fields })
}

fn rules<'c>(
    context: &mut Context<'c, '_>,
    rows: &mut Rows,
    object: Cursor<'c, '_>,
    message: &MessageSchema,
) {
    for table in object.get("refuse").into_iter().flat_map(|list| list.items()) {
        table.only(&mut context.sink, &["when", "why"]);
        let mut when = Vec::new();
        for (field, at, value) in table.get("when").into_iter().flat_map(|t| t.entries()) {
            let Some(slot) = context.field(at, &message.name, field) else { continue };
            let Some(schema) = message.field_at(slot) else { continue };
            let wanted = if value.is_list() { value.items() } else { vec![value] };
            let values: Vec<_> = wanted.iter().filter_map(|one| condition(*one, &schema.ty)).collect();
            if values.len() != wanted.len() {
                context.sink.add(value.at(), format!("not a value that `{field}` can have"));
            }
            when.push((slot, values));
        }
        let why = table.text(&mut context.sink, "why").unwrap_or("").to_owned();
        if when.is_empty() || why.is_empty() {
            context.sink.add(table.at(), "a rule needs `when` and `why`");
        }
        rows.rules.push(Rule { when, why });
    }
}

/// Checks that a skeleton is one element called `name`.
pub(crate) fn fragment(context: &mut Context<'_, '_>, at: usize, text: &str, name: &str) {
    match Tree::parse(text) {
        Ok(tree) if tree.root_name() == name => {}
        Ok(tree) => context.sink.add(at, format!("the fragment is a <{}>, not a <{name}>", tree.root_name())),
        Err(error) => context.sink.add(at, format!("the fragment is not XML: {error}")),
    }
}

impl<'c> Context<'c, '_> {
    /// A path, checked against the names of the native schema.
    pub(crate) fn path(&mut self, at: usize, text: &str, names: &[&str]) -> Option<Path> {
        let path = match Path::parse(text, names, &self.facts) {
            Ok(path) => path,
            Err(message) => {
                self.sink.add(at, message);
                return None;
            }
        };
        let Some(known) = &self.names else { return Some(path) };
        let mut inside = names.last().copied().unwrap_or("").to_owned();
        for step in &path.steps {
            if !step.namespace.is_empty() {
                return Some(path);
            }
            let children = known.inside(&inside);
            if !children.contains(&step.name.as_str()) {
                let elements = children.iter().copied().filter(|name| !name.starts_with('@'));
                self.sink.unknown(at, &format!("in <{inside}> the element"), &step.name, elements);
                return None;
            }
            if let Some(predicate) = &step.predicate {
                let leaf = format!("@{}", predicate.attribute);
                if !known.inside(&step.name).contains(&leaf.as_str()) {
                    self.sink.unknown(
                        at,
                        &format!("in <{}> the attribute", step.name),
                        &leaf,
                        known.inside(&step.name).iter().copied(),
                    );
                }
            }
            inside.clone_from(&step.name);
        }
        if let Some(name) = &path.attribute {
            let leaf = format!("@{name}");
            let inner = known.inside(&inside);
            if !inner.contains(&leaf.as_str()) {
                let attributes = inner.iter().copied().filter(|name| name.starts_with('@'));
                self.sink.unknown(at, &format!("in <{inside}> the attribute"), &leaf, attributes);
                return None;
            }
        }
        Some(path)
    }

    fn paths(&mut self, value: Cursor<'c, '_>, key: &str, names: &[&str]) -> Vec<Path> {
        if !value.is_table() {
            return Vec::new();
        }
        let texts = value.strings(&mut self.sink, key);
        texts.iter().filter_map(|text| self.path(value.at(), text, names)).collect()
    }

    /// The slot of a message's field.
    pub(crate) fn field(&mut self, at: usize, message: &str, name: &str) -> Option<Slot> {
        let schema = self.schema.message(message)?;
        if let Some(field) = schema.field(name) {
            return Some(field.slot);
        }
        let known = schema.fields.iter().map(|field| field.name.as_str());
        self.sink.unknown(at, &format!("field of union message {message}"), name, known);
        None
    }

    fn field_under(&mut self, value: Cursor<'c, '_>, key: &str, message: &MessageSchema) -> Option<Slot> {
        let name = value.text(&mut self.sink, key)?;
        self.field(value.at(), &message.name, name)
    }

    fn part_message(&mut self, at: usize, message: &MessageSchema, slot: Slot) -> Option<&'c MessageSchema> {
        let field = message.field_at(slot)?;
        if let FieldType::Message(id) = field.ty {
            return self.schema.get(id);
        }
        self.sink.add(at, format!("`{}` holds no parts", field.name));
        None
    }

    /// The rows of the table that `like` names.
    fn like(
        &mut self,
        value: Cursor<'c, '_>,
        names: &[&str],
        target: &Path,
        message: &MessageSchema,
    ) -> Option<Rows> {
        let Some(name) = value.text(&mut self.sink, "like") else {
            self.sink.add(value.at(), "a list or part of several fields needs `like = \"table\"`");
            return None;
        };
        let Some(table) = self.objects.get(name).copied() else {
            let known: Vec<&str> = self.objects.keys().copied().collect();
            self.sink.unknown(value.at(), "object", name, known.into_iter());
            return None;
        };
        if self.nesting.iter().any(|outer| outer == name) {
            self.sink.add(value.at(), format!("[object.{name}] contains itself"));
            return None;
        }
        self.used.push(name.to_owned());
        self.nesting.push(name.to_owned());
        let inside: Vec<&str> = names.iter().copied().chain(target.names()).collect();
        let rows = compile(self, table, &inside, message, false);
        self.nesting.pop();
        Some(rows)
    }

    fn skeleton(&mut self, value: Cursor<'c, '_>, target: &Path) -> Option<String> {
        let text = value.text(&mut self.sink, "new")?;
        let name = target.steps.last().map_or("", |step| step.name.as_str());
        fragment(self, value.at(), text, name);
        Some(text.to_owned())
    }

    fn is_required(&self, names: &[&str], path: &Path) -> bool {
        let mut full: Vec<String> = names.iter().copied().chain(path.names()).map(str::to_owned).collect();
        full.extend(path.attribute.as_ref().map(|name| format!("@{name}")));
        let full = full.join("/");
        self.required
            .iter()
            .any(|r| full.strip_suffix(r.as_str()).is_some_and(|h| h.is_empty() || h.ends_with('/')))
    }
}
