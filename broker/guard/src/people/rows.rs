//! People as rows of a store: one for each user, group, role, scope and template, and one for the counters.
//!
//! `meta`, `user/<name>`, `group/<name>`, `role/<name>`, `scope/<number>`, `template/<name>`; values are JSON.

use super::People;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;

/// A row cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the permissions' row `{key}` cannot be read: {why}; run `hyperglot ctl repair`")]
pub struct BadRow {
    /// Which row.
    pub key: String,
    /// Why.
    pub why: String,
}

#[derive(Serialize, Deserialize)]
struct Meta {
    version: u64,
    last_scope: u64,
}

fn read<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, BadRow> {
    // The error's text would quote the value, which may be a hash.
    serde_json::from_slice(value).map_err(|e| BadRow {
        key: key.chars().take(80).collect(),
        why: format!("not the JSON expected, at line {} column {}", e.line(), e.column()),
    })
}

fn write(rows: &mut BTreeMap<String, Vec<u8>>, key: String, value: &impl Serialize) {
    // Maps with text for keys, and text, always are JSON.
    rows.insert(key, serde_json::to_vec(value).unwrap_or_default());
}

impl People {
    /// The people whose rows these are.
    ///
    /// # Errors
    /// A row cannot be read; permissions are not guessed.
    pub fn from_rows(rows: impl IntoIterator<Item = (String, Vec<u8>)>) -> Result<People, BadRow> {
        let mut people = People::default();
        for (key, value) in rows {
            let bad = |why: &str| BadRow { key: key.chars().take(80).collect(), why: why.to_owned() };
            match key.split_once('/') {
                None if key == "meta" => {
                    let meta: Meta = read(&key, &value)?;
                    (people.version, people.last_scope) = (meta.version, meta.last_scope);
                }
                Some(("user", name)) => drop(people.users.insert(name.to_owned(), read(&key, &value)?)),
                Some(("group", name)) => drop(people.groups.insert(name.to_owned(), read(&key, &value)?)),
                Some(("role", name)) => drop(people.roles.insert(name.to_owned(), read(&key, &value)?)),
                Some(("template", name)) => {
                    people.templates.insert(name.to_owned(), read(&key, &value)?);
                }
                Some(("scope", number)) => {
                    let number = number.parse().map_err(|_| bad("expected a number"))?;
                    people.scopes.insert(number, read(&key, &value)?);
                }
                _ => return Err(bad("no such kind of row")),
            }
        }
        Ok(people)
    }

    /// Everybody as rows.
    pub fn to_rows(&self) -> BTreeMap<String, Vec<u8>> {
        let mut rows = BTreeMap::new();
        write(&mut rows, "meta".to_owned(), &Meta { version: self.version, last_scope: self.last_scope });
        self.users.iter().for_each(|(name, hash)| write(&mut rows, format!("user/{name}"), hash));
        self.groups.iter().for_each(|(name, users)| write(&mut rows, format!("group/{name}"), users));
        self.roles.iter().for_each(|(name, words)| write(&mut rows, format!("role/{name}"), words));
        self.scopes.iter().for_each(|(id, scope)| write(&mut rows, format!("scope/{id}"), scope));
        self.templates.iter().for_each(|(name, t)| write(&mut rows, format!("template/{name}"), t));
        rows
    }

    /// What has to be written to come from `before` to here: a row, or its end.
    pub fn since(&self, before: &People) -> Vec<(String, Option<Vec<u8>>)> {
        let (old, new) = (before.to_rows(), self.to_rows());
        let gone = old.keys().filter(|key| !new.contains_key(*key)).map(|key| (key.clone(), None));
        let gone: Vec<_> = gone.collect();
        let put = new.into_iter().filter(|(key, value)| old.get(key) != Some(value));
        put.map(|(key, value)| (key, Some(value))).chain(gone).collect()
    }
}
