//! What an id map consists of: its rows, the rules between them, and how they are read.

use crate::{
    error::StoreError,
    row::{Row as _, row},
    seal,
    store::{Store, all},
    table::Table,
};
use rustc_hash::FxHashMap;
use std::{collections::BTreeMap, sync::Arc};
use union::ObjectId;

/// A native id may be this long, bytes.
pub const MAX_NATIVE: usize = 256;
/// Numbers in a block at most.
pub const MAX_BLOCK: u64 = 1 << 20;
/// Why there is no id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The native id is another object's.
    #[error("the native id `{native}` already names {by}; it cannot also name {wanted}")]
    Taken {
        /// The id asked for.
        native: Arc<str>,
        /// Whose it is.
        by: ObjectId,
        /// Who asked.
        wanted: ObjectId,
    },
    /// The object has another native id.
    #[error("{id} is `{known}` already; it cannot also be `{native}`")]
    Forked {
        /// The object.
        id: ObjectId,
        /// Its id.
        known: Arc<str>,
        /// The other one.
        native: Arc<str>,
    },
    /// No leased number is left.
    #[error("no leased number of `{form}` is left; the engine leases more when it can be reached")]
    Exhausted {
        /// Which form.
        form: Arc<str>,
    },
    /// The number is not of a block that was leased to this agent.
    #[error("number {number} of `{form}` was not leased to {agent}")]
    NotLeased {
        /// Which form.
        form: Arc<str>,
        /// Which number.
        number: u64,
        /// Who used it.
        agent: Arc<str>,
    },
    /// The native id is one that an agent may give out of its block.
    #[error("`{native}` cannot be given to {wanted}: its number is leased to {agent}")]
    Reserved {
        /// The id asked for.
        native: Arc<str>,
        /// Whose block it is in.
        agent: Arc<str>,
        /// Who asked.
        wanted: ObjectId,
    },
    /// Empty, longer than 256 bytes, or with a NUL in it.
    #[error("`{0}` cannot be part of an id map: expected 1 to {MAX_NATIVE} bytes without NUL")]
    BadText(String),
    /// The view is not the agent's.
    #[error("{agent} gives out no ids of the view `{view}`; expected one whose name ends in `:{agent}`")]
    NotOwn {
        /// Which view.
        view: Arc<str>,
        /// Who wanted to.
        agent: Arc<str>,
    },
    /// What an agent handed in cannot be read.
    #[error("what {0} handed in of its ids cannot be read")]
    BadHanded(Arc<str>),
    /// A block of no numbers, or of too many.
    #[error("a block of {0} numbers: expected 1 to {MAX_BLOCK}")]
    BadBlock(u64),
    /// The store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

row! {
    /// A native id, as kept.
    pub struct Pair {
        /// The native id.
        1 native: Arc<str>,
        /// The form it was given out by; empty: fixed by the protocol.
        2 form: Arc<str>,
        /// Its number in the form; 0: none.
        3 number: u64,
        /// When the object was gone, Unix milliseconds; 0: it is there.
        4 retired_ms: i64,
    }
}

row! {
    /// A block of numbers of one form: `first..end`.
    pub struct Block {
        /// The form.
        1 form: Arc<str>,
        /// Whose it is.
        2 agent: Arc<str>,
        /// The first number.
        3 first: u64,
        /// One past the last number.
        4 end: u64,
        /// The number to be given out next.
        5 next: u64,
    }
}

row! {
    /// A pair that an agent gave out of a block.
    pub struct Given {
        /// The object.
        1 id: ObjectId,
        /// Its native id and where that came from.
        2 pair: Pair,
    }
}

row! {
    /// Pairs that an agent hands in from its outbox.
    pub struct Handed {
        /// The protocol of the map.
        1 protocol: Arc<str>,
        /// Its view.
        2 view: Arc<str>,
        /// The pairs, in no order.
        3 given: Vec<Given>,
    }
}

#[derive(Debug, Default)]
pub(super) struct Maps {
    pub native: FxHashMap<ObjectId, Pair>,
    pub union: FxHashMap<Arc<str>, ObjectId>,
    pub last: FxHashMap<Arc<str>, u64>,
    pub blocks: BTreeMap<(Arc<str>, u64), Block>,
}

pub(super) fn text(value: &str) -> Result<&str, IdError> {
    let fine = (1..=MAX_NATIVE).contains(&value.len()) && !value.contains('\0');
    if fine { Ok(value) } else { Err(IdError::BadText(value.chars().take(64).collect())) }
}

pub(super) fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.join(&0)
}

/// A form with a place for the number.
pub(super) fn pattern(form: &str) -> String {
    if form.contains("{n}") { form.to_owned() } else { format!("{form}-{{n}}") }
}

/// The number with which a form gives this native id.
pub(super) fn number_of(form: &str, native: &str) -> Option<u64> {
    let pattern = pattern(form);
    let (before, after) = pattern.split_once("{n}")?;
    let number: u64 = native.strip_prefix(before)?.strip_suffix(after)?.parse().ok()?;
    (pattern.replace("{n}", &number.to_string()) == native).then_some(number)
}

/// Whether the pair is new (`true`) or there already; neither half may be part of another.
pub(super) fn fits(maps: &Maps, id: ObjectId, pair: &Pair) -> Result<bool, IdError> {
    match (maps.native.get(&id), maps.union.get(&pair.native)) {
        (Some(known), _) if known.native == pair.native => Ok(false),
        (_, Some(by)) => Err(IdError::Taken { native: Arc::clone(&pair.native), by: *by, wanted: id }),
        (Some(known), None) => {
            Err(IdError::Forked { id, known: Arc::clone(&known.native), native: Arc::clone(&pair.native) })
        }
        (None, None) => Ok(true),
    }
}

/// Whether no agent, other than `but`, may give the native id out of a block.
pub(super) fn unreserved(
    maps: &Maps,
    wanted: ObjectId,
    native: &Arc<str>,
    but: Option<&str>,
) -> Result<(), IdError> {
    let others = maps.blocks.values().filter(|block| but != Some(&*block.agent));
    let mut within = others.filter(|block| {
        number_of(&block.form, native).is_some_and(|n| (block.first..block.end).contains(&n))
    });
    match within.next() {
        Some(block) => {
            Err(IdError::Reserved { native: Arc::clone(native), agent: Arc::clone(&block.agent), wanted })
        }
        None => Ok(()),
    }
}

pub(super) async fn read(store: &dyn Store, scope: &[u8]) -> Result<Maps, StoreError> {
    let mut maps = Maps::default();
    let rest =
        |key: &[u8]| -> Option<Arc<str>> { std::str::from_utf8(key.get(scope.len()..)?).ok().map(Arc::from) };
    for (key, value) in all(store, Table::IdNative, scope).await? {
        let corrupt = |what| seal::corrupt(&Table::IdNative.key(&key), what);
        let id: Option<ObjectId> = rest(&key).and_then(|text| text.parse().ok());
        let id = id.ok_or_else(|| corrupt("its key is not an object id"))?;
        let pair = Pair::at(Table::IdNative, &key, &value)?;
        if maps.union.insert(Arc::clone(&pair.native), id).is_some() {
            return Err(corrupt("its native id is another object's as well"));
        }
        maps.native.insert(id, pair);
    }
    let reverse = all(store, Table::IdUnion, scope).await?;
    for (key, value) in &reverse {
        let id = rest(key).and_then(|native| maps.union.get(&native));
        if id.is_none_or(|id| id.to_string().as_bytes() != value) {
            return Err(seal::corrupt(&Table::IdUnion.key(key), "the two directions of the map differ"));
        }
    }
    if reverse.len() != maps.native.len() {
        let what = "the two directions of the map differ in length";
        return Err(seal::corrupt(&Table::IdUnion.key(scope), what));
    }
    for (key, value) in all(store, Table::IdLast, scope).await? {
        let number = <[u8; 8]>::try_from(value.as_slice()).map(u64::from_le_bytes).ok();
        let found = rest(&key).zip(number);
        let (form, number) =
            found.ok_or_else(|| seal::corrupt(&Table::IdLast.key(&key), "expected a number"))?;
        maps.last.insert(form, number);
    }
    for (key, value) in all(store, Table::IdBlock, scope).await? {
        let block = Block::at(Table::IdBlock, &key, &value)?;
        maps.blocks.insert((Arc::clone(&block.form), block.first), block);
    }
    Ok(maps)
}
