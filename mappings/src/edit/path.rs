//! Where a row reads and writes: paths into a document.
//!
//! ```text
//! source = path { " + " path }                             several values, joined without anything between; read only
//! path   = step { "/" step } [ "/" leaf ] | leaf            leaf = "@" name; without a leaf: the element's text
//! step   = [ prefix ":" ] name [ "[@" name "='" value "']" ]
//! ```
//! A step without prefix is an element in no namespace, whatever the document's prefixes. A predicate is one equality, and an attribute
//! that is absent has its schema default.

use super::tree::{Node, Tree};
use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

/// One element on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// The namespace, empty for none.
    pub namespace: String,
    pub name: String,
    pub predicate: Option<Predicate>,
}

/// `[@name='value']`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Predicate {
    pub attribute: String,
    pub value: String,
    /// The schema's default is the value, so an absent attribute matches.
    pub or_absent: bool,
}

/// An element, or an attribute of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    pub text: Arc<str>,
    pub steps: Vec<Step>,
    /// `None`: the element's text.
    pub attribute: Option<String>,
    /// What the schema says of an absent leaf.
    pub default: Option<String>,
}

/// Schema facts that paths need.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// Prefix to namespace.
    pub namespaces: BTreeMap<String, String>,
    /// `interface/link/@state` to the value of an absent one.
    pub defaults: BTreeMap<String, String>,
}

impl Facts {
    /// The default of the attribute at the end of `names`, which ends with `@name`.
    fn default(&self, names: &[&str]) -> Option<&String> {
        let full = names.join("/");
        self.defaults
            .iter()
            .filter(|(path, _)| {
                full.strip_suffix(path.as_str()).is_some_and(|head| head.is_empty() || head.ends_with('/'))
            })
            .max_by_key(|(path, _)| path.len())
            .map(|(_, value)| value)
    }
}

/// More than one element where one is meant.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Twice;

impl Step {
    pub(crate) fn matches(&self, tree: &Tree<'_>, node: Node) -> bool {
        if tree.local(node) != self.name || tree.namespace(node) != self.namespace {
            return false;
        }
        let Some(predicate) = &self.predicate else { return true };
        match tree.attribute(node, &predicate.attribute) {
            Some(attribute) => tree.value(attribute) == predicate.value.as_str(),
            None => predicate.or_absent,
        }
    }
}

impl Path {
    /// Reads a path; `context` names the elements that lead to where it begins.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub(crate) fn parse(text: &str, context: &[&str], facts: &Facts) -> Result<Path, String> {
        let mut names: Vec<&str> = context.to_vec();
        let mut steps = Vec::new();
        let mut attribute = None;
        for part in split(text) {
            if attribute.is_some() {
                return Err(format!("`{text}` goes on after an attribute"));
            }
            if let Some(name) = part.strip_prefix('@') {
                plain(name).ok_or_else(|| format!("`@{name}` is not an attribute without prefix"))?;
                attribute = Some(name.to_owned());
                names.push(part);
                continue;
            }
            let (name, predicate) = match part.split_once('[') {
                None => (part, None),
                Some((name, rest)) => (name, Some(condition(rest, text)?)),
            };
            let (namespace, local) = match name.split_once(':') {
                None => (String::new(), name),
                Some((prefix, local)) => match facts.namespaces.get(prefix) {
                    Some(namespace) => (namespace.clone(), local),
                    None => return Err(format!("prefix `{prefix}` is not declared in [native.ns]")),
                },
            };
            plain(local)
                .ok_or_else(|| format!("`{part}` is not a step like `name` or `name[@attribute='value']`"))?;
            names.push(local);
            let predicate = predicate.map(|(attribute, value)| {
                let mut place = names.clone();
                let leaf = format!("@{attribute}");
                place.push(&leaf);
                let or_absent = facts.default(&place).is_some_and(|default| *default == value);
                Predicate { attribute, value, or_absent }
            });
            steps.push(Step { namespace, name: local.to_owned(), predicate });
        }
        if steps.is_empty() && attribute.is_none() {
            return Err("a path needs at least one step".to_owned());
        }
        let default = attribute.as_ref().and_then(|_| facts.default(&names).cloned());
        Ok(Path { text: Arc::from(text), steps, attribute, default })
    }

    /// The element it leads to, from `base`.
    pub(crate) fn find(&self, tree: &Tree<'_>, base: Node) -> Result<Option<Node>, Twice> {
        find(tree, base, &self.steps)
    }

    /// The text there; `None` if the element or the attribute is absent.
    pub(crate) fn read<'t>(&self, tree: &Tree<'t>, base: Node) -> Result<Option<Cow<'t, str>>, Twice> {
        let Some(node) = self.find(tree, base)? else { return Ok(None) };
        Ok(match &self.attribute {
            None => Some(tree.content(node)),
            Some(name) => tree.attribute(node, name).map(|attribute| tree.value(attribute)),
        })
    }

    /// The names on the way, for looking up schema facts.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().map(|step| step.name.as_str())
    }
}

/// Follows steps that each have to be single.
pub(crate) fn find(tree: &Tree<'_>, base: Node, steps: &[Step]) -> Result<Option<Node>, Twice> {
    let mut node = base;
    for step in steps {
        let mut matching = tree.children(node).filter(|child| step.matches(tree, *child));
        let Some(found) = matching.next() else { return Ok(None) };
        if matching.next().is_some() {
            return Err(Twice);
        }
        node = found;
    }
    Ok(Some(node))
}

/// Every element that steps lead to.
pub(crate) fn find_all(tree: &Tree<'_>, base: Node, steps: &[Step]) -> Vec<Node> {
    let mut nodes = vec![base];
    for step in steps {
        nodes = nodes
            .iter()
            .flat_map(|node| tree.children(*node))
            .filter(|child| step.matches(tree, *child))
            .collect();
    }
    nodes
}

/// Splits at slashes outside brackets.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    text.split(move |c| {
        match c {
            '[' => inside = true,
            ']' => inside = false,
            _ => {}
        }
        c == '/' && !inside
    })
}

fn condition(rest: &str, path: &str) -> Result<(String, String), String> {
    let parsed = rest
        .strip_prefix('@')
        .and_then(|rest| rest.strip_suffix("']"))
        .and_then(|rest| rest.split_once("='"));
    match parsed {
        Some((name, value)) if plain(name).is_some() && !value.contains(['\'', '&', '<']) => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err(format!("the condition in `{path}` is not of the form [@name='value']")),
    }
}

fn plain(name: &str) -> Option<()> {
    let mut chars = name.chars();
    let first = chars.next()?;
    let fine = (first.is_ascii_alphabetic() || first == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    fine.then_some(())
}
