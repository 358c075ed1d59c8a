//! What a change of kind would lose.

use crate::edit::{
    path::{Path, Step},
    tree::{Node, Tree},
};

/// Something in an element that none of the known paths leads to.
pub(super) fn unmapped(tree: &Tree<'_>, node: Node, at: &[Step], known: &[&Path]) -> Option<String> {
    let way = || at.iter().map(|step| step.name.as_str()).collect::<Vec<_>>().join("/");
    let here = |path: &&Path| {
        path.steps.len() == at.len() && path.steps.iter().zip(at).all(|(a, b)| a.name == b.name)
    };
    if known.iter().any(|path| here(path) && path.attribute.is_none()) {
        return None;
    }
    for attribute in tree.attributes(node) {
        let name = tree.cut(attribute.name);
        if !known.iter().any(|path| here(path) && path.attribute.as_deref() == Some(name)) {
            return Some(format!("{}/@{name}", way()));
        }
    }
    if tree.has_text(node) || tree.is_noted(node) {
        return Some(format!("the text of {}", way()));
    }
    for child in tree.children(node) {
        if !tree.namespace(child).is_empty() {
            return Some(format!("{}/{}", way(), tree.local(child)));
        }
        let step = Step { namespace: String::new(), name: tree.local(child).to_owned(), predicate: None };
        let inner: Vec<Step> = at.iter().cloned().chain([step]).collect();
        let leads = |path: &&Path| {
            path.steps.len() >= inner.len() && path.steps.iter().zip(&inner).all(|(a, b)| a.name == b.name)
        };
        if !known.iter().any(leads) {
            return Some(format!("{}/{}", way(), tree.local(child)));
        }
        let found = unmapped(tree, child, &inner, known);
        if found.is_some() {
            return found;
        }
    }
    None
}
