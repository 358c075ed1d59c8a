//! The calls of a target whose schema is a list of procedures (libvirt's): names and arguments, to check effects against.

use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Calls by name.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    /// By name without underscores, in capitals: the name for people, and its arguments.
    calls: FxHashMap<String, (String, Vec<Arc<str>>)>,
}

/// `DOMAIN_CREATE_WITH_FLAGS` -> `DomainCreateWithFlags`.
fn camel(name: &str) -> String {
    let word = |w: &str| {
        let mut chars = w.chars();
        chars
            .next()
            .map(|c| c.to_ascii_uppercase())
            .into_iter()
            .chain(chars.map(|c| c.to_ascii_lowercase()))
            .collect::<String>()
    };
    name.split('_').map(word).collect()
}

impl Calls {
    /// Reads `struct` and `proc` lines; `None`: the text is another kind of schema.
    pub fn parse(text: &str) -> Option<Calls> {
        let mut lines = text.lines().filter(|l| !l.is_empty() && !l.starts_with('#'));
        lines.clone().next()?.strip_prefix("program ")?;
        let mut structs: FxHashMap<&str, Vec<Arc<str>>> = FxHashMap::default();
        let mut procs = Vec::new();
        let mut current = "";
        for line in lines.by_ref() {
            if let Some(field) = line.strip_prefix("  ") {
                let name = field.split_whitespace().next().unwrap_or("");
                structs.entry(current).or_default().push(Arc::from(name));
                continue;
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["struct", name, ..] => current = name,
                ["proc", _, name, args, ..] => procs.push((*name, *args)),
                _ => current = "",
            }
        }
        let mut calls = Calls::default();
        for (name, args) in procs {
            // The prefix before `_PROC_` names the program, as `REMOTE_PROC_`.
            let name = name.split_once("_PROC_").map_or(name, |(_, rest)| rest);
            let arguments = structs.get(args).cloned().unwrap_or_default();
            calls.calls.insert(name.replace('_', ""), (camel(name), arguments));
        }
        Some(calls)
    }

    /// The arguments of a call; `None`: no such call.
    pub fn arguments(&self, call: &str) -> Option<Vec<&str>> {
        let (_, arguments) = self.calls.get(&call.to_ascii_uppercase())?;
        Some(arguments.iter().map(|a| &**a).collect())
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.calls.values().map(|(name, _)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_calls_and_their_arguments() {
        let text = "# x\nprogram 1 1\nconst A 1\nstruct remote_domain_create_args\n  dom remote_nonnull_domain\nproc 9 REMOTE_PROC_DOMAIN_CREATE remote_domain_create_args -\n";
        let calls = Calls::parse(text).unwrap();
        assert_eq!(calls.arguments("DomainCreate"), Some(vec!["dom"]));
        assert_eq!(calls.arguments("DomainInvent"), None);
        assert_eq!(calls.names().collect::<Vec<_>>(), ["DomainCreate"]);
        assert!(Calls::parse("versions 1\n").is_none());
    }
}
