//! Writing the difference between what a document says and what is wanted.

mod lists;
mod loss;

use super::{
    editor::{Editor, Place, splice},
    get::Reader,
    lens::Misfit,
    model::{Divisor, Native, Policy, Quotient, Row, Rows, Variant},
    path::{Path, find_all},
    refusal::Refusal,
    settle,
    tree::{Node, Tree},
};
use lists::New;
use loss::unmapped;
use rustc_hash::FxHashSet;
use union::{Record, Slot, Value};

pub(crate) struct Writer<'a, 't> {
    pub editor: Editor<'a, 't>,
    tree: &'a Tree<'t>,
    native: &'a Native,
    /// What is edited is a skeleton, so fields written once may be.
    creating: bool,
    /// The keys of new items, each behind the name of its item's element.
    keys: FxHashSet<String>,
}

pub(crate) fn same(a: &Value, b: &Value) -> bool {
    a == b || (a.is_absent() && b.is_absent())
}

impl<'a, 't> Writer<'a, 't> {
    pub(crate) fn new(tree: &'a Tree<'t>, native: &'a Native, creating: bool) -> Writer<'a, 't> {
        Writer { editor: Editor::new(tree, native), tree, native, creating, keys: FxHashSet::default() }
    }

    fn name(&self, row: &str) -> String {
        format!("{}{row}", self.editor.place)
    }

    /// Makes the edits that turn `old`, which was read at `base`, into `want`.
    pub(crate) fn rows(
        &mut self,
        rows: &Rows,
        base: Node,
        old: &Record,
        want: &Record,
    ) -> Result<(), Refusal> {
        if !self.creating && old == want {
            return Ok(());
        }
        self.limits(rows, old, want)?;
        for row in &rows.rows {
            self.row(rows, row, base, old, want)?;
        }
        if let Some(variant) = &rows.variant {
            self.variant(rows, variant, base, old, want)?;
        }
        for quotient in &rows.quotients {
            self.quotient(quotient, base, old, want)?;
        }
        for part in &rows.parts {
            let (was, wanted) = (old.get(part.slot), want.get(part.slot));
            if same(was, wanted) {
                continue;
            }
            let found = find_all(self.tree, base, &part.path.steps);
            match (found.as_slice(), wanted) {
                ([node], Value::Record(wanted)) => {
                    let Value::Record(was) = was else { return Err(self.verify(rows, part.slot)) };
                    self.inside(&part.label, "", |w| w.rows(&part.rows, *node, was, wanted))?;
                }
                ([node], _) => self.editor.remove(&part.label, *node),
                ([], Value::Record(wanted)) => {
                    let new = New {
                        label: &part.label,
                        id: "",
                        rows: &part.rows,
                        steps: &part.path.steps,
                        skeleton: part.skeleton.as_deref(),
                    };
                    self.add(&new, base, wanted, None)?;
                }
                ([], _) => {}
                _ => return Err(Refusal::Twice { row: self.name(&part.label) }),
            }
        }
        for list in &rows.lists {
            if !same(old.get(list.slot), want.get(list.slot)) {
                self.list_old(list, base, old.get(list.slot), want.get(list.slot))?;
            }
        }
        for list in &rows.lists {
            if !same(old.get(list.slot), want.get(list.slot)) {
                self.list_new(list, base, old.get(list.slot), want.get(list.slot))?;
            }
        }
        Ok(())
    }

    fn verify(&self, rows: &Rows, slot: Slot) -> Refusal {
        Refusal::Verify { field: rows.field(slot).to_owned() }
    }

    fn inside<T>(&mut self, label: &str, key: &str, write: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.editor.place.len();
        self.editor.place.push_str(label);
        if !key.is_empty() {
            self.editor.place.push(' ');
            self.editor.place.push_str(key);
        }
        self.editor.place.push_str(": ");
        let written = write(self);
        self.editor.place.truncate(length);
        written
    }

    /// Rules and limits between fields, wherever one of them changes.
    fn limits(&self, rows: &Rows, old: &Record, want: &Record) -> Result<(), Refusal> {
        let changed = |slot: Slot| self.creating || !same(old.get(slot), want.get(slot));
        for row in &rows.rows {
            let Some(limit) = row.at_most.filter(|limit| changed(*limit) || changed(row.slot)) else {
                continue;
            };
            if let (Some(value), Some(most)) = (want.get(row.slot).as_int(), want.get(limit).as_int())
                && value > most
            {
                return Err(Refusal::AtMost {
                    field: rows.field(row.slot).into(),
                    limit: rows.field(limit).into(),
                });
            }
        }
        for rule in &rows.rules {
            let meets = rule.when.iter().all(|(slot, values)| values.contains(want.get(*slot)));
            if meets && rule.when.iter().any(|(slot, _)| changed(*slot)) {
                let row = self.editor.place.trim_end_matches(": ").to_owned();
                return Err(Refusal::Rule { row, why: rule.why.clone() });
            }
        }
        Ok(())
    }

    fn row(
        &mut self,
        rows: &Rows,
        row: &Row,
        base: Node,
        old: &Record,
        want: &Record,
    ) -> Result<(), Refusal> {
        let (was, wanted) = (old.get(row.slot), want.get(row.slot));
        if same(was, wanted) {
            return Ok(());
        }
        let field = || rows.field(row.slot).to_owned();
        match &row.policy {
            Policy::Read => return Ok(()),
            Policy::Never if !self.creating => return Err(Refusal::ReadOnly { field: field() }),
            Policy::Call(call) if !self.creating => {
                return Err(Refusal::Elsewhere { field: field(), call: call.clone() });
            }
            Policy::Follow => {
                let here = Reader::quiet(self.tree).value(row, base);
                if !here.is_ok_and(|here| !here.is_absent() && same(&here, was)) {
                    return Ok(());
                }
            }
            Policy::Put | Policy::Never | Policy::Call(_) => {}
        }
        for place in &row.unless {
            if !find_all(self.tree, base, &place.steps).is_empty() {
                return Err(Refusal::Unless { row: self.name(&row.label), path: place.text.to_string() });
            }
        }
        if row.absent.is_some_and(|leader| same(wanted, want.get(leader))) && self.is_absent(row, base)? {
            return Ok(());
        }
        self.write(row, base, wanted)?;
        for path in &row.drops {
            self.editor.drop_path(&row.label, base, path)?;
        }
        Ok(())
    }

    /// Whether the row's leaf is not there.
    fn is_absent(&self, row: &Row, base: Node) -> Result<bool, Refusal> {
        let Some(path) = row.target() else { return Ok(true) };
        let read = path.read(self.tree, base);
        read.map(|text| text.is_none()).map_err(|_| Refusal::Twice { row: self.name(&row.label) })
    }

    /// Puts a value where the row says.
    fn write(&mut self, row: &Row, base: Node, value: &Value) -> Result<(), Refusal> {
        let label = row.label.clone();
        let Some(path) = row.target() else { return Ok(()) };
        let form = |name: String| move |misfit: Misfit| Refusal::Form { row: name, misfit };
        if row.required && value.is_absent() {
            return Err(Refusal::Required { row: self.name(&label) });
        }
        if let Some(number) = value.as_int()
            && row.narrow
            && i32::try_from(number).is_err()
        {
            return Err(form(self.name(&label))(Misfit::Range));
        }
        let here = self.editor.find(&label, Place::Old(base), &path.steps)?;
        let (unit, respell) = self.unit(row, here, value);
        let text = row.lens.write(value, unit).map_err(form(self.name(&label)))?;
        let Some(text) = text else { return self.unset(row, path, here) };
        let place = self.editor.ensure(&label, Place::Old(base), &path.steps)?;
        match &path.attribute {
            Some(name) => self.editor.set_attribute(&label, place, name, &text),
            None if row.lens.is_present() => Ok(()),
            None => {
                self.editor.set_text(&label, place, &text, row.lens.is_numeric())?;
                if let Some(unit) = respell {
                    self.editor.set_attribute(&label, place, "unit", unit)?;
                }
                Ok(())
            }
        }
    }

    /// The unit to write in, and `@unit` where it has to change.
    fn unit(&self, row: &Row, here: Option<Place>, value: &Value) -> (i64, Option<&'static str>) {
        let Some(default) = row.lens.unit() else { return (1, None) };
        let bytes = value.as_int().unwrap_or(0);
        let said = match here {
            Some(Place::Old(node)) => self.tree.attribute(node, "unit").map(|a| self.tree.value(a)),
            Some(Place::New(_)) | None => return (1024, Some("KiB")),
        };
        match said.map_or(Some(default), |unit| super::lens::factor(&unit)) {
            Some(by) if bytes.checked_rem(by) == Some(0) => (by, None),
            _ => (1024, Some("KiB")),
        }
    }

    fn unset(&mut self, row: &Row, path: &Path, here: Option<Place>) -> Result<(), Refusal> {
        let Some(Place::Old(node)) = here else { return Ok(()) };
        let label = row.label.clone();
        let holds = |this: &Self, path: String| Refusal::Holds { row: this.name(&label), path };
        match &path.attribute {
            Some(name) if !row.unset_element => self.editor.remove_attribute(&label, Place::Old(node), name),
            None if row.lens.is_present() => self.editor.remove(&label, node),
            leaf => {
                if let Some(child) = self.tree.children(node).next() {
                    return Err(holds(self, format!("<{}>", self.tree.local(child))));
                }
                if self.tree.is_noted(node) {
                    return Err(Refusal::Mixed { row: self.name(&label) });
                }
                let ours = |name: &str| {
                    leaf.as_deref() == Some(name)
                        || (name == "unit" && row.lens.unit().is_some())
                        || row
                            .drops
                            .iter()
                            .any(|d| d.steps == path.steps && d.attribute.as_deref() == Some(name))
                };
                let other = self.tree.attributes(node).iter().find(|a| !ours(self.tree.cut(a.name)));
                if let Some(other) = other {
                    return Err(holds(self, format!("@{}", self.tree.cut(other.name))));
                }
                self.editor.remove(&label, node);
            }
        }
        Ok(())
    }

    fn variant(
        &mut self,
        rows: &Rows,
        variant: &Variant,
        base: Node,
        old: &Record,
        want: &Record,
    ) -> Result<(), Refusal> {
        let (was, wanted) = (old.get(variant.slot), want.get(variant.slot));
        let Some(kind) = wanted.as_str() else {
            if same(was, wanted) {
                return Ok(());
            }
            return Err(Refusal::Required { row: self.name(&variant.label) });
        };
        let case = variant.case(kind);
        let has = |slot: Slot| case.is_some_and(|case| case.rows.iter().any(|row| row.slot == slot));
        for slot in variant.fields.iter() {
            if !want.get(slot).is_absent() && !has(slot) {
                return Err(Refusal::NoPlace { field: rows.field(slot).to_owned(), kind: kind.to_owned() });
            }
        }
        if same(was, wanted) {
            for row in case.into_iter().flat_map(|case| &case.rows) {
                self.row(rows, row, base, old, want)?;
            }
            return Ok(());
        }
        let Some(case) = case else {
            return Err(Refusal::NoCase { row: self.name(&variant.label), kind: kind.to_owned() });
        };
        let before = was.as_str().and_then(|kind| variant.case(kind));
        for path in &variant.owns {
            let Some(Place::Old(node)) = self.editor.find(&variant.label, Place::Old(base), &path.steps)?
            else {
                continue;
            };
            let mut known: Vec<&Path> = variant.drops.iter().collect();
            known.extend(before.into_iter().flat_map(|case| &case.rows).flat_map(|row| &row.source));
            if let Some(path) = unmapped(self.tree, node, &path.steps, &known) {
                return Err(Refusal::Holds { row: self.name(&variant.label), path });
            }
            self.editor.remove(&variant.label, node);
        }
        let place = self.editor.ensure(&variant.label, Place::Old(base), &variant.on.steps)?;
        if let Some(name) = &variant.on.attribute {
            self.editor.set_attribute(&variant.label, place, name, kind)?;
        }
        for row in &case.rows {
            if !matches!(row.policy, Policy::Read | Policy::Follow) && !want.get(row.slot).is_absent() {
                self.write(row, base, want.get(row.slot))?;
            }
        }
        Ok(())
    }

    fn quotient(
        &mut self,
        quotient: &Quotient,
        base: Node,
        old: &Record,
        want: &Record,
    ) -> Result<(), Refusal> {
        let fields = quotient
            .divisors
            .iter()
            .filter_map(|d| if let Divisor::Field(slot) = d { Some(*slot) } else { None });
        let mut operands = fields.chain([quotient.dividend]);
        if operands.all(|slot| same(old.get(slot), want.get(slot))) {
            return Ok(());
        }
        let place = self.editor.find(&quotient.label, Place::Old(base), &quotient.path.steps)?;
        let (Some(place), Some(name)) = (place, &quotient.path.attribute) else { return Ok(()) };
        let Some(mut value) = want.get(quotient.dividend).as_int() else { return Ok(()) };
        for divisor in &quotient.divisors {
            let by = match divisor {
                Divisor::Field(slot) => want.get(*slot).as_int(),
                Divisor::Leaf(path) => match path.read(self.tree, base) {
                    Ok(text) => text.and_then(|text| text.trim_ascii().parse().ok()),
                    Err(_) => return Err(Refusal::Twice { row: self.name(&quotient.label) }),
                },
            };
            let by = by.unwrap_or(1);
            if value.checked_rem(by) != Some(0) {
                return Err(Refusal::NotWhole { row: self.name(&quotient.label) });
            }
            value /= by;
        }
        let text = value.to_string();
        if let Place::Old(node) = place
            && self.tree.attribute(node, name).is_some_and(|a| self.tree.value(a) == text.as_str())
        {
            return Ok(());
        }
        self.editor.set_attribute(&quotient.label, place, name, &text)
    }
}

/// Puts the wanted fields into a fragment.
pub(crate) fn fill(
    rows: &Rows,
    native: &Native,
    skeleton: &str,
    want: &Record,
    key: Option<(&Path, &str)>,
    place: &str,
) -> Result<String, Refusal> {
    let tree = Tree::parse(skeleton)?;
    let old = Reader::quiet(&tree).rows(rows, tree.root());
    let mut want = settle::fresh(rows, &old, want);
    if let Some(variant) = &rows.variant
        && want.get(variant.slot).is_absent()
    {
        want.set(variant.slot, old.get(variant.slot).clone());
    }
    let mut writer = Writer::new(&tree, native, true);
    writer.editor.place = place.to_owned();
    if let Some((path, text)) = key {
        let at = writer.editor.ensure(&path.text, Place::Old(tree.root()), &path.steps)?;
        match &path.attribute {
            Some(name) => writer.editor.set_attribute(&path.text, at, name, text)?,
            None => writer.editor.set_text(&path.text, at, text, false)?,
        }
    }
    writer.rows(rows, tree.root(), &old, &want)?;
    Ok(splice(skeleton, &writer.editor.finish()?))
}
