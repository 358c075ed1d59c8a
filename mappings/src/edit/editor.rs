//! Byte edits on one tree: values replaced in place, attributes and elements inserted and removed.
//!
//! New elements are collected first and rendered last, so rows that need the same missing parent share it. A new element stands after the
//! last sibling that precedes it in the schema's order, else before the first that follows, else as the only child, in the document's own
//! line ends, indent and quotes.

use super::{
    model::Native,
    path::{Path, Step},
    refusal::Refusal,
    text,
    tree::{Node, Span, Tree},
};
use rustc_hash::FxHashSet;
use std::{collections::BTreeMap, sync::Arc};

/// Bytes replaced by others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The bytes of the old document; empty for an insertion.
    pub span: Span,
    /// What takes their place.
    pub new: String,
    /// The row that made it, in a list behind the item's key.
    pub row: Arc<str>,
}

/// An element, of the document or new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Old(Node),
    New(usize),
}

#[derive(Debug)]
struct Fresh {
    parent: Place,
    name: String,
    attributes: Vec<(String, String)>,
    text: String,
    row: Arc<str>,
}

/// How the document is written.
#[derive(Clone, Debug)]
pub(crate) struct Style {
    newline: &'static str,
    quote: char,
    unit: String,
}

pub(crate) struct Editor<'a, 't> {
    pub tree: &'a Tree<'t>,
    native: &'a Native,
    style: Style,
    edits: Vec<Edit>,
    fresh: Vec<Fresh>,
    gone: FxHashSet<Node>,
    /// Names the item being edited.
    pub place: String,
}

fn form(row: &str) -> Refusal {
    Refusal::Character { row: row.to_owned() }
}

impl<'a, 't> Editor<'a, 't> {
    pub(crate) fn new(tree: &'a Tree<'t>, native: &'a Native) -> Editor<'a, 't> {
        let text = tree.text();
        let newline = if text.find('\n').is_some_and(|n| n > 0 && text.as_bytes().get(n - 1) == Some(&b'\r'))
        {
            "\r\n"
        } else {
            "\n"
        };
        let root = tree.root();
        let quote = std::iter::once(root)
            .chain(tree.children(root))
            .find_map(|n| tree.attributes(n).first())
            .map_or('\'', |a| a.quote);
        let first = tree.children(root).next().and_then(|child| lead(tree, child));
        let unit = first.map_or("", |lead| lead.trim_start_matches(['\r', '\n']));
        let style =
            Style { newline, quote, unit: if unit.is_empty() { "  ".to_owned() } else { unit.to_owned() } };
        Editor {
            tree,
            native,
            style,
            edits: Vec::new(),
            fresh: Vec::new(),
            gone: FxHashSet::default(),
            place: String::new(),
        }
    }

    fn label(&self, row: &str) -> Arc<str> {
        Arc::from(format!("{}{row}", self.place))
    }

    fn edit(&mut self, row: &str, span: Span, new: String) {
        let row = self.label(row);
        self.edits.push(Edit { span, new, row });
    }

    pub(crate) fn is_gone(&self, node: Node) -> bool {
        self.gone.contains(&node)
    }

    /// The one element that steps lead to, not counting removed ones.
    pub(crate) fn find(&self, row: &str, base: Place, steps: &[Step]) -> Result<Option<Place>, Refusal> {
        let mut place = base;
        for step in steps {
            let found = match place {
                Place::Old(node) => {
                    let tree = self.tree;
                    let mut live =
                        tree.children(node).filter(|n| step.matches(tree, *n) && !self.gone.contains(n));
                    let found = live.next();
                    if live.next().is_some() {
                        return Err(Refusal::Twice { row: row.to_owned() });
                    }
                    found.map(Place::Old)
                }
                Place::New(_) => None,
            };
            match found.or_else(|| self.find_new(place, step)) {
                Some(found) => place = found,
                None => return Ok(None),
            }
        }
        Ok(Some(place))
    }

    fn find_new(&self, parent: Place, step: &Step) -> Option<Place> {
        let fits = |fresh: &Fresh| {
            fresh.parent == parent
                && fresh.name == step.name
                && step.predicate.as_ref().is_none_or(|p| {
                    let value = fresh.attributes.iter().find(|(name, _)| *name == p.attribute);
                    value.map_or(p.or_absent, |(_, value)| *value == p.value)
                })
        };
        self.fresh.iter().position(fits).map(Place::New)
    }

    /// The element that steps lead to, created where it is missing.
    pub(crate) fn ensure(&mut self, row: &str, base: Place, steps: &[Step]) -> Result<Place, Refusal> {
        let mut place = base;
        for step in steps {
            place = match self.find(row, place, std::slice::from_ref(step))? {
                Some(found) => found,
                None => self.create(row, place, step)?,
            };
        }
        Ok(place)
    }

    fn create(&mut self, row: &str, parent: Place, step: &Step) -> Result<Place, Refusal> {
        let mut names = self.names(parent);
        names.push(step.name.clone());
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let place = match self.native.skeleton(&names) {
            Some(skeleton) => {
                let tree = Tree::parse(skeleton)?;
                self.graft(row, parent, &tree, tree.root())
            }
            None => self.add(row, parent, &step.name),
        };
        if let Some(predicate) = &step.predicate {
            self.set_attribute(row, place, &predicate.attribute, &predicate.value)?;
        }
        Ok(place)
    }

    fn names(&self, place: Place) -> Vec<String> {
        let mut names = Vec::new();
        let mut place = Some(place);
        while let Some(at) = place {
            match at {
                Place::Old(node) => {
                    names.push(self.tree.local(node).to_owned());
                    place = (node != self.tree.root()).then(|| Place::Old(self.tree.element(node).parent));
                }
                Place::New(index) => {
                    let fresh = self.fresh.get(index);
                    names.extend(fresh.map(|f| f.name.clone()));
                    place = fresh.map(|f| f.parent);
                }
            }
        }
        names.reverse();
        names
    }

    fn add(&mut self, row: &str, parent: Place, name: &str) -> Place {
        let row = self.label(row);
        self.fresh.push(Fresh {
            parent,
            name: name.to_owned(),
            attributes: Vec::new(),
            text: String::new(),
            row,
        });
        Place::New(self.fresh.len() - 1)
    }

    /// Copies an element of another tree as a new child.
    pub(crate) fn graft(&mut self, row: &str, parent: Place, tree: &Tree<'_>, node: Node) -> Place {
        let place = self.add(row, parent, tree.local(node));
        let attributes = tree
            .attributes(node)
            .iter()
            .map(|a| (tree.cut(a.name).to_owned(), tree.value(a).into_owned()))
            .collect();
        let text = if tree.has_children(node) { String::new() } else { tree.content(node).into_owned() };
        if let Some(fresh) = self.fresh.last_mut() {
            fresh.attributes = attributes;
            fresh.text = text;
        }
        for child in tree.children(node) {
            self.graft(row, place, tree, child);
        }
        place
    }

    /// Gives an attribute a value.
    pub(crate) fn set_attribute(
        &mut self,
        row: &str,
        place: Place,
        name: &str,
        value: &str,
    ) -> Result<(), Refusal> {
        match place {
            Place::New(index) => {
                text::encode_attribute(value, self.style.quote).ok_or_else(|| form(row))?;
                if let Some(fresh) = self.fresh.get_mut(index) {
                    match fresh.attributes.iter_mut().find(|(n, _)| n == name) {
                        Some((_, old)) => *old = value.to_owned(),
                        None => fresh.attributes.push((name.to_owned(), value.to_owned())),
                    }
                }
            }
            Place::Old(node) => match self.tree.attribute(node, name).copied() {
                Some(attribute) => {
                    let new = text::encode_attribute(value, attribute.quote).ok_or_else(|| form(row))?;
                    self.edit(row, attribute.value, new);
                }
                None => {
                    let last = self.tree.attributes(node).last();
                    let quote = last.map_or(self.style.quote, |a| a.quote);
                    let at = last.map_or(self.tree.element(node).name.end, |a| a.whole.end);
                    let new = text::encode_attribute(value, quote).ok_or_else(|| form(row))?;
                    self.edit(row, Span::at(at), format!(" {name}={quote}{new}{quote}"));
                }
            },
        }
        Ok(())
    }

    /// Gives an element a text; of a numeric one the white space around it stays.
    pub(crate) fn set_text(
        &mut self,
        row: &str,
        place: Place,
        value: &str,
        numeric: bool,
    ) -> Result<(), Refusal> {
        let new = text::encode_text(value).ok_or_else(|| form(row))?;
        let node = match place {
            Place::New(index) => {
                if let Some(fresh) = self.fresh.get_mut(index) {
                    fresh.text = value.to_owned();
                }
                return Ok(());
            }
            Place::Old(node) => node,
        };
        let run = self.tree.sole_run(node).map_err(|()| Refusal::Mixed { row: row.to_owned() })?;
        let element = *self.tree.element(node);
        match (run, element.close) {
            (Some(run), _) if numeric && !run.cdata => {
                let raw = self.tree.cut(run.span);
                let start = run.span.start + raw.len() - raw.trim_ascii_start().len();
                let end = start + raw.trim_ascii().len();
                self.edit(row, Span::new(start, end), new);
            }
            (Some(run), _) => self.edit(row, run.span, new),
            (None, Some(_)) => self.edit(row, Span::at(element.open.end), new),
            (None, None) => {
                let name = self.tree.cut(element.name);
                self.edit(row, Span::new(element.open.end - 2, element.open.end), format!(">{new}</{name}>"));
            }
        }
        Ok(())
    }

    /// Takes an attribute away.
    pub(crate) fn remove_attribute(&mut self, row: &str, place: Place, name: &str) {
        match place {
            Place::Old(node) => {
                if let Some(whole) = self.tree.attribute(node, name).map(|a| a.whole) {
                    self.edit(row, whole, String::new());
                }
            }
            Place::New(index) => {
                if let Some(fresh) = self.fresh.get_mut(index) {
                    fresh.attributes.retain(|(n, _)| n != name);
                }
            }
        }
    }

    /// Takes an element away with all it holds, and the line break before it.
    pub(crate) fn remove(&mut self, row: &str, node: Node) {
        if self.gone.insert(node) {
            let span = self.tree.element(node).span;
            let before = lead(self.tree, node).map_or(0, str::len);
            self.edit(row, Span::new(span.start - before, span.end), String::new());
        }
    }

    /// Takes away what a path leads to, if it is there.
    pub(crate) fn drop_path(&mut self, row: &str, base: Node, path: &Path) -> Result<(), Refusal> {
        let Some(place) = self.find(row, Place::Old(base), &path.steps)? else { return Ok(()) };
        match (&path.attribute, place) {
            (Some(name), place) => self.remove_attribute(row, place, name),
            (None, Place::Old(node)) => self.remove(row, node),
            (None, Place::New(_)) => {}
        }
        Ok(())
    }

    /// The edits in the order of the document.
    pub(crate) fn finish(mut self) -> Result<Vec<Edit>, Refusal> {
        let mut groups: BTreeMap<Node, Vec<usize>> = BTreeMap::new();
        for (index, fresh) in self.fresh.iter().enumerate() {
            if let Place::Old(node) = fresh.parent {
                groups.entry(node).or_default().push(index);
            }
        }
        for (parent, items) in groups {
            self.insert(parent, &items)?;
        }
        let mut edits = self.edits;
        edits.retain(|edit| edit.span.start != edit.span.end || !edit.new.is_empty());
        edits.sort_by_key(|edit| edit.span);
        for pair in edits.windows(2) {
            if let [one, other] = pair
                && (one.span.end > other.span.start
                    || (one.span == other.span && one.span.start != one.span.end))
            {
                return Err(Refusal::Overlap { one: one.row.to_string(), other: other.row.to_string() });
            }
        }
        Ok(edits)
    }

    fn insert(&mut self, parent: Node, items: &[usize]) -> Result<(), Refusal> {
        let tree = self.tree;
        let order = self.native.order.get(tree.local(parent));
        let rank = |name: &str| order.and_then(|order| order.iter().position(|n| n == name));
        let live: Vec<Node> = tree.children(parent).filter(|n| !self.gone.contains(n)).collect();
        let own: Vec<Node> = live.iter().copied().filter(|n| tree.namespace(*n).is_empty()).collect();
        let mut placed: Vec<(Anchor, usize, usize)> = Vec::new();
        for index in items {
            let name = self.fresh.get(*index).map_or("", |f| f.name.as_str());
            let mine = rank(name);
            let ranked = mine.and_then(|mine| {
                let at = |n: &Node| rank(tree.local(*n));
                let before = own.iter().copied().rfind(|n| at(n).is_some_and(|r| r <= mine));
                let after =
                    || own.iter().copied().find(|n| at(n).is_some_and(|r| r > mine)).map(Anchor::Before);
                before.map(Anchor::After).or_else(after)
            });
            let anchor = ranked
                .or_else(|| own.iter().copied().rfind(|n| tree.local(*n) == name).map(Anchor::After))
                .or_else(|| own.last().copied().map(Anchor::After))
                .or_else(|| live.first().copied().map(Anchor::Before))
                .unwrap_or(Anchor::Only);
            placed.push((anchor, mine.unwrap_or(usize::MAX), *index));
        }
        placed.sort();
        let element = *tree.element(parent);
        let outer = lead(tree, parent).map(|lead| lead.trim_start_matches(['\r', '\n']));
        let lines = outer.is_some()
            || tree.cut(Span::new(element.open.end, element.close.map_or(0, |c| c.start))).contains('\n');
        let indent = lines.then(|| format!("{}{}", outer.unwrap_or(""), self.style.unit));
        let mut opened = String::new();
        let mut rows: Vec<Arc<str>> = Vec::new();
        for (anchor, _, index) in placed {
            let row = self.fresh.get(index).map(|f| f.row.clone()).unwrap_or_default();
            match anchor {
                Anchor::After(node) | Anchor::Before(node) => {
                    let lead = lead(tree, node).unwrap_or("");
                    let inner = (!lead.is_empty()).then(|| lead.trim_start_matches(['\r', '\n']));
                    let rendered = self.render(index, inner)?;
                    let span = tree.element(node).span;
                    let (at, new) = match anchor {
                        Anchor::After(_) => (span.end, format!("{lead}{rendered}")),
                        _ => (span.start, format!("{rendered}{lead}")),
                    };
                    self.edits.push(Edit { span: Span::at(at), new, row });
                }
                Anchor::Only => {
                    if let Some(indent) = &indent {
                        opened.push_str(self.style.newline);
                        opened.push_str(indent);
                    }
                    opened.push_str(&self.render(index, indent.as_deref())?);
                    rows.push(row);
                }
            }
        }
        let Some(row) = rows.first().cloned() else { return Ok(()) };
        if tree.has_text(parent) || tree.is_noted(parent) && element.close.is_none() {
            return Err(Refusal::Mixed { row: row.to_string() });
        }
        let tail = indent
            .as_ref()
            .map_or_else(String::new, |_| format!("{}{}", self.style.newline, outer.unwrap_or("")));
        let (span, new) = match element.close {
            None => (
                Span::new(element.open.end - 2, element.open.end),
                format!(">{opened}{tail}</{}>", tree.cut(element.name)),
            ),
            Some(close) => {
                let broken = tree.cut(Span::new(element.open.end, close.start)).contains('\n');
                (Span::at(element.open.end), if broken { opened } else { format!("{opened}{tail}") })
            }
        };
        self.edits.push(Edit { span, new, row });
        Ok(())
    }

    /// A new element as text; `indent` is its own, `None` for all on one line.
    fn render(&self, index: usize, indent: Option<&str>) -> Result<String, Refusal> {
        let Some(fresh) = self.fresh.get(index) else { return Ok(String::new()) };
        let bad = || form(&fresh.row);
        let quote = self.style.quote;
        let mut out = format!("<{}", fresh.name);
        for (name, value) in &fresh.attributes {
            let value = text::encode_attribute(value, quote).ok_or_else(bad)?;
            out.push_str(&format!(" {name}={quote}{value}{quote}"));
        }
        let order = self.native.order.get(&fresh.name);
        let rank = |name: &str| order.and_then(|o| o.iter().position(|n| n == name)).unwrap_or(usize::MAX);
        let mut children: Vec<(usize, usize)> = Vec::new();
        for (child, inner) in self.fresh.iter().enumerate() {
            if inner.parent == Place::New(index) {
                children.push((rank(&inner.name), child));
            }
        }
        children.sort_unstable();
        if children.is_empty() && fresh.text.is_empty() {
            out.push_str("/>");
            return Ok(out);
        }
        out.push('>');
        if children.is_empty() {
            out.push_str(&text::encode_text(&fresh.text).ok_or_else(bad)?);
        }
        let inner = indent.map(|indent| format!("{indent}{}", self.style.unit));
        for (_, child) in &children {
            if let Some(inner) = &inner {
                out.push_str(self.style.newline);
                out.push_str(inner);
            }
            out.push_str(&self.render(*child, inner.as_deref())?);
        }
        if let Some(indent) = indent.filter(|_| !children.is_empty()) {
            out.push_str(self.style.newline);
            out.push_str(indent);
        }
        out.push_str(&format!("</{}>", fresh.name));
        Ok(out)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Anchor {
    Before(Node),
    After(Node),
    Only,
}

/// The line break and indent before an element; `None` if something else is on its line.
fn lead<'t>(tree: &Tree<'t>, node: Node) -> Option<&'t str> {
    let start = tree.element(node).span.start;
    let head = tree.text().get(..start)?;
    let blank = head.trim_end_matches([' ', '\t']);
    let line = blank.strip_suffix('\n')?;
    let line = line.strip_suffix('\r').unwrap_or(line);
    head.get(line.len()..)
}

/// The text with its edits made.
pub(crate) fn splice(text: &str, edits: &[Edit]) -> String {
    let mut out = String::with_capacity(text.len() + edits.iter().map(|e| e.new.len()).sum::<usize>());
    let mut at = 0;
    for edit in edits {
        out.push_str(Span::new(at, edit.span.start).cut(text));
        out.push_str(&edit.new);
        at = edit.span.end;
    }
    out.push_str(Span::new(at, text.len()).cut(text));
    out
}
