//! What the mapping renders, as a tree: for documents that are made from native properties.

use mapping::{Emit, FieldMeta, NativeRef};
use std::sync::Arc;
use wire::datetime;

/// A native value.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Node {
    /// The field, or for an item its declared type.
    pub(crate) name: Arc<str>,
    /// The type it has.
    pub(crate) ty: Arc<str>,
    /// Of a simple value.
    pub(crate) text: String,
    /// Of a structure or an array.
    pub(crate) children: Vec<Node>,
}

impl Node {
    /// The first child called `name`.
    pub(crate) fn child(&self, name: &str) -> Option<&Node> {
        self.children.iter().find(|child| &*child.name == name)
    }

    /// All children called `name`.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Node> {
        self.children.iter().filter(move |child| &*child.name == name)
    }

    /// The text at a path of names.
    pub(crate) fn get(&self, path: &str) -> Option<&str> {
        let found = path.split('.').try_fold(self, |node, name| node.child(name))?;
        Some(found.text.as_str())
    }

    /// The number at a path of names.
    pub(crate) fn int(&self, path: &str) -> Option<i64> {
        self.get(path)?.parse().ok()
    }
}

/// Builds the tree. Only the last open structure can be rolled back, and only as a whole, which is how rendering does it.
#[derive(Debug)]
pub(crate) struct TreeEmit {
    open: Vec<Node>,
}

impl Default for TreeEmit {
    fn default() -> TreeEmit {
        TreeEmit { open: vec![Node::default()] }
    }
}

impl TreeEmit {
    /// The rendered value.
    pub(crate) fn finish(mut self) -> Option<Node> {
        self.open.truncate(1);
        self.open.pop()?.children.into_iter().next()
    }

    fn leaf(&mut self, f: &FieldMeta, text: String) {
        if let Some(open) = self.open.last_mut() {
            open.children.push(Node {
                name: f.name.clone(),
                ty: f.concrete.clone(),
                text,
                children: Vec::new(),
            });
        }
    }
}

impl Emit for TreeEmit {
    fn begin(&mut self, f: &FieldMeta) {
        self.open.push(Node { name: f.name.clone(), ty: f.concrete.clone(), ..Node::default() });
    }

    fn end(&mut self, _: &FieldMeta) {
        if self.open.len() > 1
            && let Some(done) = self.open.pop()
            && let Some(parent) = self.open.last_mut()
        {
            parent.children.push(done);
        }
    }

    fn bool(&mut self, f: &FieldMeta, v: bool) {
        self.leaf(f, v.to_string());
    }

    fn int(&mut self, f: &FieldMeta, v: i64) {
        self.leaf(f, v.to_string());
    }

    fn float(&mut self, f: &FieldMeta, v: f64) {
        self.leaf(f, v.to_string());
    }

    fn text(&mut self, f: &FieldMeta, v: &str) {
        self.leaf(f, v.to_owned());
    }

    fn time(&mut self, f: &FieldMeta, ms: i64) {
        self.leaf(f, datetime::format(ms).as_str().to_owned());
    }

    fn bytes(&mut self, _: &FieldMeta, _: &[u8]) {}

    fn reference(&mut self, f: &FieldMeta, r: &NativeRef) {
        self.leaf(f, r.id.to_string());
    }

    /// Depth and children of the innermost open node.
    fn mark(&self) -> usize {
        self.open.len() << 32 | self.open.last().map_or(0, |node| node.children.len())
    }

    fn rollback(&mut self, mark: usize) {
        self.open.truncate((mark >> 32).max(1));
        if let Some(open) = self.open.last_mut() {
            open.children.truncate(mark & 0xffff_ffff);
        }
    }
}
