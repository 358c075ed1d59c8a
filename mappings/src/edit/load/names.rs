//! The names of the native schema: which elements and attributes an element may have.
//!
//! One line an element: `disk: @device @type address auth driver ...`. An element of several shapes has one line with the names of all.

use std::collections::BTreeMap;

pub(crate) struct Names<'c> {
    elements: BTreeMap<&'c str, Vec<&'c str>>,
}

impl<'c> Names<'c> {
    pub(crate) fn parse(text: &'c str) -> Names<'c> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let elements = lines.filter_map(|line| line.split_once(':'));
        Names {
            elements: elements
                .map(|(name, rest)| (name.trim(), rest.split_ascii_whitespace().collect()))
                .collect(),
        }
    }

    /// What may be in `element`; empty for an element that the schema does not have.
    pub(crate) fn inside(&self, element: &str) -> &[&'c str] {
        self.elements.get(element).map_or(&[], Vec::as_slice)
    }
}
