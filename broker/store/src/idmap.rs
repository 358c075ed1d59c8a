//! Union id <-> native id, one map for each protocol and view, durable before it is shown.
//!
//! ```text
//! native(id, form): known? from memory │ else the next number of the form ─▶ one commit: pair, reverse pair, counter ─▶ memory ─▶ shown
//!
//! engine   numbers from the counter; lease(form, agent, n) moves the counter past a block that only that agent gives out
//!          adopt(agent, pairs): what an agent gave out of its blocks while the engine was away
//! agent    numbers from the blocks it holds; none left: Exhausted, never a guess; each pair goes into the outbox by the same commit
//! ```
//!
//! A native id names one object for ever: numbers only grow, an object that is gone keeps its id as a tombstone. Each pair is kept in
//! both directions and both are compared when the map is opened.
//!
//! A form is a pattern such as `vm-{n}` or `session[{uuid}]`. `{n}` is the next number of the form, from 1; `{uuid}` the object's uuid.
//! A form without `{n}` whose text is taken gets a number behind it.

mod maps;
mod pairs;

pub use maps::IdMaps;
pub use pairs::{Block, Given, Handed, IdError, MAX_BLOCK, MAX_NATIVE, Pair};

use crate::{
    batch::{Batch, Epoch},
    error::StoreError,
    outbox::{self, Item, What},
    row::Row,
    store::Store,
    table::Table,
};
use pairs::{Maps, fits, join, number_of, pattern, read, text, unreserved};
use parking_lot::RwLock;
use rustc_hash::FxHashMap;
use std::{collections::BTreeMap, ops::Range, sync::Arc};
use union::{Kind, ObjectId};

/// How often a commit that lost a race is tried again.
const TRIES: usize = 4;

/// Where numbers come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// From the form's own counter: the engine, or a machine on its own.
    Counted,
    /// From leased blocks: an agent.
    Leased,
}

/// A map of one protocol and view. Reads are from memory.
#[derive(Debug)]
pub struct IdMap {
    store: Arc<dyn Store>,
    protocol: Arc<str>,
    view: Arc<str>,
    scope: Vec<u8>,
    numbers: Numbers,
    maps: RwLock<Maps>,
    /// One allocation at a time.
    turn: tokio::sync::Mutex<()>,
}

/// An allocation being put together: what it will have changed in memory once it is durable.
#[derive(Default)]
struct Draft {
    batch: Batch,
    pairs: FxHashMap<ObjectId, Pair>,
    natives: FxHashMap<Arc<str>, ObjectId>,
    last: FxHashMap<Arc<str>, u64>,
    blocks: BTreeMap<(Arc<str>, u64), Block>,
}

impl Draft {
    fn taken(&self, maps: &Maps, native: &str) -> bool {
        maps.union.contains_key(native) || self.natives.contains_key(native)
    }

    fn add(&mut self, id: ObjectId, pair: Pair) {
        self.natives.insert(Arc::clone(&pair.native), id);
        self.pairs.insert(id, pair);
    }

    fn number(&mut self, maps: &Maps, numbers: Numbers, form: &Arc<str>) -> Result<u64, IdError> {
        match numbers {
            Numbers::Counted => {
                let last = self.last.get(form).or(maps.last.get(form)).copied().unwrap_or(0) + 1;
                self.last.insert(Arc::clone(form), last);
                Ok(last)
            }
            Numbers::Leased => {
                let range = (Arc::clone(form), 0)..=(Arc::clone(form), u64::MAX);
                for (key, stored) in maps.blocks.range(range) {
                    let block = self.blocks.get(key).unwrap_or(stored);
                    if block.next < block.end {
                        let number = block.next;
                        self.blocks.insert(key.clone(), Block { next: number + 1, ..block.clone() });
                        return Ok(number);
                    }
                }
                Err(IdError::Exhausted { form: Arc::clone(form) })
            }
        }
    }
}

/// Others wrote the same pairs again and again.
fn contended(ids: &[ObjectId]) -> IdError {
    let key = ids.first().map(ObjectId::to_string).unwrap_or_default();
    StoreError::Conflict { table: Table::IdNative, key }.into()
}

impl IdMap {
    /// Reads the map of a protocol and view. What does not agree with itself is refused as corrupt.
    pub async fn open(
        store: Arc<dyn Store>,
        protocol: &str,
        view: &str,
        numbers: Numbers,
    ) -> Result<IdMap, IdError> {
        let scope = join(&[text(protocol)?.as_bytes(), text(view)?.as_bytes(), b""]);
        let maps = read(&*store, &scope).await?;
        Ok(IdMap {
            store,
            protocol: protocol.into(),
            view: view.into(),
            scope,
            numbers,
            maps: RwLock::new(maps),
            turn: tokio::sync::Mutex::new(()),
        })
    }

    /// Whose words the native ids are.
    pub fn protocol(&self) -> &Arc<str> {
        &self.protocol
    }

    /// Through which view.
    pub fn view(&self) -> &Arc<str> {
        &self.view
    }

    fn key(&self, rest: &[u8]) -> Vec<u8> {
        [&self.scope, rest].concat()
    }

    fn block_key(&self, block: &Block) -> Vec<u8> {
        self.key(&join(&[block.form.as_bytes(), &block.first.to_be_bytes()]))
    }

    /// The native id, if one was given out.
    pub fn known(&self, id: ObjectId) -> Option<Arc<str>> {
        self.maps.read().native.get(&id).map(|pair| Arc::clone(&pair.native))
    }

    /// The object a native id names, gone or not.
    pub fn object(&self, native: &str) -> Option<ObjectId> {
        self.maps.read().union.get(native).copied()
    }

    /// Whether the object is gone.
    pub fn is_retired(&self, id: ObjectId) -> bool {
        self.maps.read().native.get(&id).is_some_and(|pair| pair.retired_ms != 0)
    }

    /// Every pair, in the order of the objects.
    pub fn pairs(&self) -> Vec<Given> {
        let maps = self.maps.read();
        let mut pairs: Vec<Given> =
            maps.native.iter().map(|(id, pair)| Given { id: *id, pair: pair.clone() }).collect();
        pairs.sort_by_key(|given| given.id);
        pairs
    }

    /// The last number given out of each form, leased blocks included.
    pub fn counters(&self) -> BTreeMap<Arc<str>, u64> {
        self.maps.read().last.iter().map(|(form, n)| (Arc::clone(form), *n)).collect()
    }

    /// Numbers of a form that can still be given out of leased blocks.
    pub fn remaining(&self, form: &str) -> u64 {
        let maps = self.maps.read();
        maps.blocks.values().filter(|b| *b.form == *form).map(|b| b.end.saturating_sub(b.next)).sum()
    }

    /// The native id of one object; see [`natives`](IdMap::natives).
    pub async fn native(&self, id: ObjectId, form: &str, epoch: Epoch) -> Result<Arc<str>, IdError> {
        if let Some(known) = self.known(id) {
            return Ok(known);
        }
        let natives = self.natives(&[(id, form)], epoch).await?;
        natives.into_iter().next().ok_or_else(|| IdError::BadText(form.to_owned()))
    }

    /// The native ids of objects, those not yet known given out by their form, all in one commit. None is given out after an error.
    pub async fn natives(&self, wanted: &[(ObjectId, &str)], epoch: Epoch) -> Result<Vec<Arc<str>>, IdError> {
        let _turn = self.turn.lock().await;
        for (_, form) in wanted {
            text(form)?;
        }
        self.retried(epoch, |maps, draft| {
            let mut natives: Vec<Arc<str>> = Vec::with_capacity(wanted.len());
            for (id, form) in wanted {
                if let Some(known) = maps.native.get(id).or(draft.pairs.get(id)) {
                    natives.push(Arc::clone(&known.native));
                    continue;
                }
                let pair = self.choose(maps, draft, *id, form)?;
                natives.push(Arc::clone(&pair.native));
                draft.add(*id, pair);
            }
            Ok(natives)
        })
        .await
    }

    /// The next free native id of a form.
    fn choose(&self, maps: &Maps, draft: &mut Draft, id: ObjectId, form: &str) -> Result<Pair, IdError> {
        let form: Arc<str> = Arc::from(form);
        let base = form.replace("{uuid}", &id.uuid.to_string());
        let (mut native, mut number) = (base.clone(), 0);
        let pattern = pattern(&base);
        if native.contains("{n}") || draft.taken(maps, &native) {
            loop {
                number = draft.number(maps, self.numbers, &form)?;
                native = pattern.replace("{n}", &number.to_string());
                // Another form may have a block of the same texts.
                let text: Arc<str> = Arc::from(native.as_str());
                let free = self.numbers == Numbers::Leased || unreserved(maps, id, &text, None).is_ok();
                if free && !draft.taken(maps, &native) {
                    break;
                }
            }
        }
        Ok(Pair { native: Arc::from(text(&native)?), form, number, retired_ms: 0 })
    }

    /// Sets up to `count` numbers of a form aside for this process alone: what it gives out of them it may [keep](IdMap::record) a moment
    /// later. Those it has not used when it ends are never given out.
    pub async fn reserve(&self, form: &str, count: u64, epoch: Epoch) -> Result<Range<u64>, IdError> {
        let _turn = self.turn.lock().await;
        let form: Arc<str> = Arc::from(text(form)?);
        if !(1..=MAX_BLOCK).contains(&count) {
            return Err(IdError::BadBlock(count));
        }
        self.retried(epoch, |maps, draft| match self.numbers {
            Numbers::Counted => {
                let last = maps.last.get(&form).copied().unwrap_or(0);
                let end = last.saturating_add(count);
                draft.last.insert(Arc::clone(&form), end);
                Ok(last + 1..end + 1)
            }
            Numbers::Leased => {
                let mut blocks = maps.blocks.iter().filter(|(_, block)| block.form == form);
                let left = blocks.find(|(_, block)| block.next < block.end);
                let (key, block) = left.ok_or_else(|| IdError::Exhausted { form: Arc::clone(&form) })?;
                let end = block.next.saturating_add(count).min(block.end);
                draft.blocks.insert(key.clone(), Block { next: end, ..block.clone() });
                Ok(block.next..end)
            }
        })
        .await
    }

    /// Keeps pairs whose numbers this process had [reserved](IdMap::reserve), together with whatever is committed next
    /// ([`Store::commit_along`]). The same again is fine.
    pub async fn record(&self, given: &[Given], epoch: Epoch) -> Result<(), IdError> {
        // Nobody else has these numbers, so it need not wait for its turn, and is queued for the store when first polled.
        self.drafted(true, epoch, |maps, draft| {
            for Given { id, pair } in given {
                if fits(maps, *id, pair)? {
                    draft.add(*id, pair.clone());
                }
            }
            Ok(())
        })
        .await
    }

    /// Gives an object a native id that is fixed by the protocol, for example that of the root folder. The same pair again is fine.
    pub async fn fix(&self, id: ObjectId, native: &str, epoch: Epoch) -> Result<Arc<str>, IdError> {
        let _turn = self.turn.lock().await;
        let native: Arc<str> = Arc::from(text(native)?);
        self.retried(epoch, |maps, draft| {
            let pair = Pair { native: Arc::clone(&native), form: Arc::from(""), number: 0, retired_ms: 0 };
            if fits(maps, id, &pair)? {
                // An agent's own blocks are no hindrance: it leaves out what is taken.
                if self.numbers == Numbers::Counted {
                    unreserved(maps, id, &native, None)?;
                }
                draft.add(id, pair);
            }
            Ok(Arc::clone(&native))
        })
        .await
    }

    /// Marks an object as gone; its native id stays its own. One that never had an id needs no tombstone.
    pub async fn retire(&self, id: ObjectId, now_ms: i64, epoch: Epoch) -> Result<(), IdError> {
        self.retire_all(&[id], now_ms, epoch).await
    }

    /// Marks objects as gone, in one commit.
    pub async fn retire_all(&self, ids: &[ObjectId], now_ms: i64, epoch: Epoch) -> Result<(), IdError> {
        let _turn = self.turn.lock().await;
        for _ in 0..TRIES {
            let mut batch = Batch::new();
            let mut gone = Vec::new();
            for id in ids {
                let pair = self.maps.read().native.get(id).cloned();
                let Some(old) = pair.filter(|pair| pair.retired_ms == 0) else { continue };
                let pair = Pair { retired_ms: now_ms.max(1), ..old.clone() };
                let key = self.key(id.to_string().as_bytes());
                batch.expect(Table::IdNative, &key, Some(&old.encode()));
                batch.put(Table::IdNative, &key, pair.encode());
                gone.push((*id, pair));
            }
            if gone.is_empty() {
                return Ok(());
            }
            match self.store.commit(batch, epoch).await {
                Ok(_) => {
                    self.maps.write().native.extend(gone);
                    return Ok(());
                }
                Err(StoreError::Conflict { .. }) => {
                    let fresh = read(&*self.store, &self.scope).await?;
                    *self.maps.write() = fresh;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(contended(ids))
    }

    /// Forgets objects that are long gone, in one commit; how many. Only a numbered id can be: its number is never given out again. A
    /// fixed id stays, and but for tasks, which do not come back, one whose object was not retired.
    pub async fn forget(&self, ids: &[ObjectId], epoch: Epoch) -> Result<usize, IdError> {
        let _turn = self.turn.lock().await;
        for _ in 0..TRIES {
            let mut batch = Batch::new();
            let mut forgotten = Vec::new();
            for id in ids {
                let pair = self.maps.read().native.get(id).cloned();
                let gone = |pair: &Pair| pair.number != 0 && (id.kind == Kind::Task || pair.retired_ms != 0);
                let Some(pair) = pair.filter(gone) else { continue };
                let key = self.key(id.to_string().as_bytes());
                batch.expect(Table::IdNative, &key, Some(&pair.encode())).remove(Table::IdNative, &key);
                batch.remove(Table::IdUnion, &self.key(pair.native.as_bytes()));
                forgotten.push((*id, pair.native));
            }
            if forgotten.is_empty() {
                return Ok(0);
            }
            match self.store.commit(batch, epoch).await {
                Ok(_) => {
                    let mut maps = self.maps.write();
                    for (id, native) in &forgotten {
                        maps.native.remove(id);
                        maps.union.remove(native);
                    }
                    return Ok(forgotten.len());
                }
                Err(StoreError::Conflict { .. }) => {
                    let fresh = read(&*self.store, &self.scope).await?;
                    *self.maps.write() = fresh;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(contended(ids))
    }

    /// Sets numbers aside for an agent: from now on only it gives them out.
    pub async fn lease(&self, form: &str, agent: &str, count: u64, epoch: Epoch) -> Result<Block, IdError> {
        let _turn = self.turn.lock().await;
        let (form, agent): (Arc<str>, Arc<str>) = (Arc::from(text(form)?), Arc::from(text(agent)?));
        if !(1..=MAX_BLOCK).contains(&count) {
            return Err(IdError::BadBlock(count));
        }
        self.retried(epoch, |maps, draft| {
            let mut first = maps.last.get(&form).copied().unwrap_or(0) + 1;
            // Ids that were fixed may look like the form's: the block lies where there are none.
            let mut taken: Vec<u64> =
                maps.union.keys().filter_map(|native| number_of(&form, native)).collect();
            taken.sort_unstable();
            for number in taken {
                if (first..first.saturating_add(count)).contains(&number) {
                    first = number + 1;
                }
            }
            let end = first.saturating_add(count);
            let block = Block { form: Arc::clone(&form), agent: Arc::clone(&agent), first, end, next: first };
            draft.last.insert(Arc::clone(&form), end - 1);
            draft.blocks.insert((Arc::clone(&form), first), block.clone());
            Ok(block)
        })
        .await
    }

    /// Takes a block that the engine leased to this agent. The same block again is fine.
    pub async fn hold(&self, block: Block, epoch: Epoch) -> Result<(), IdError> {
        let _turn = self.turn.lock().await;
        text(&block.form)?;
        let count = block.end.saturating_sub(block.first);
        if !(1..=MAX_BLOCK).contains(&count) || block.first == 0 {
            return Err(IdError::BadBlock(count));
        }
        self.retried(epoch, |maps, draft| {
            let key = (Arc::clone(&block.form), block.first);
            let others = maps.blocks.values().filter(|b| b.form == block.form);
            if let Some(other) = others.into_iter().find(|b| b.first < block.end && block.first < b.end) {
                // Ours already, perhaps used in part: it stays as it is.
                let same = other.first == block.first && other.end == block.end;
                return if same { Ok(()) } else { Err(IdError::BadBlock(count)) };
            }
            draft.blocks.insert(key, Block { next: block.first, ..block.clone() });
            Ok(())
        })
        .await
    }

    /// Takes over what an agent gave out of its blocks. All of it, or after an error nothing: a pair that clashes is a fault to be shown.
    pub async fn adopt(&self, agent: &str, given: &[Given], epoch: Epoch) -> Result<(), IdError> {
        let _turn = self.turn.lock().await;
        self.retried(epoch, |maps, draft| {
            for Given { id, pair } in given {
                text(&pair.native)?;
                let leased = maps.blocks.values().any(|b| {
                    b.form == pair.form && *b.agent == *agent && (b.first..b.end).contains(&pair.number)
                });
                if pair.number != 0 && !leased {
                    let (form, agent) = (Arc::clone(&pair.form), Arc::from(agent));
                    return Err(IdError::NotLeased { form, number: pair.number, agent });
                }
                match (draft.pairs.get(id), draft.natives.get(&pair.native)) {
                    (Some(p), _) if p.native == pair.native => continue,
                    (_, Some(by)) => {
                        return Err(IdError::Taken {
                            native: Arc::clone(&pair.native),
                            by: *by,
                            wanted: *id,
                        });
                    }
                    (Some(p), None) => {
                        let (known, native) = (Arc::clone(&p.native), Arc::clone(&pair.native));
                        return Err(IdError::Forked { id: *id, known, native });
                    }
                    (None, None) => {}
                }
                if fits(maps, *id, pair)? {
                    unreserved(maps, *id, &pair.native, Some(agent))?;
                    draft.add(*id, pair.clone());
                }
            }
            Ok(())
        })
        .await
    }

    /// Drafts against what is in memory and commits; when another writer was faster, reads the store again and drafts anew.
    async fn retried<T>(
        &self,
        epoch: Epoch,
        plan: impl FnMut(&Maps, &mut Draft) -> Result<T, IdError>,
    ) -> Result<T, IdError> {
        self.drafted(false, epoch, plan).await
    }

    async fn drafted<T>(
        &self,
        along: bool,
        epoch: Epoch,
        mut plan: impl FnMut(&Maps, &mut Draft) -> Result<T, IdError>,
    ) -> Result<T, IdError> {
        let mut tries = 0;
        loop {
            let mut draft = Draft::default();
            let planned = plan(&self.maps.read(), &mut draft)?;
            if draft.pairs.is_empty() && draft.blocks.is_empty() && draft.last.is_empty() {
                return Ok(planned);
            }
            self.write(&mut draft);
            let batch = std::mem::take(&mut draft.batch);
            let written = match along {
                true => self.store.commit_along(batch, epoch).await,
                false => self.store.commit(batch, epoch).await,
            };
            match written {
                Ok(_) => {
                    let mut maps = self.maps.write();
                    for (id, pair) in draft.pairs {
                        maps.union.insert(Arc::clone(&pair.native), id);
                        maps.native.insert(id, pair);
                    }
                    maps.last.extend(draft.last);
                    maps.blocks.extend(draft.blocks);
                    return Ok(planned);
                }
                Err(StoreError::Conflict { .. }) if tries < TRIES => {
                    tries += 1;
                    let fresh = read(&*self.store, &self.scope).await?;
                    *self.maps.write() = fresh;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn write(&self, draft: &mut Draft) {
        let maps = self.maps.read();
        let Draft { batch, pairs, last, blocks, .. } = draft;
        for (id, pair) in &*pairs {
            let (native_key, union_key) =
                (self.key(id.to_string().as_bytes()), self.key(pair.native.as_bytes()));
            batch.expect(Table::IdNative, &native_key, None).expect(Table::IdUnion, &union_key, None);
            batch.put(Table::IdNative, &native_key, pair.encode());
            batch.put(Table::IdUnion, &union_key, id.to_string().into_bytes());
        }
        // A task's id is of no interest but where its task is shown.
        let lasting = pairs.iter().filter(|(id, _)| id.kind != Kind::Task);
        let given: Vec<Given> = lasting.map(|(id, pair)| Given { id: *id, pair: pair.clone() }).collect();
        if self.numbers == Numbers::Leased && !given.is_empty() {
            let handed = Handed { protocol: Arc::clone(&self.protocol), view: Arc::clone(&self.view), given };
            outbox::stage(batch, &Item { what: What::Ids, body: handed.encode().into(), at_ms: 0 });
        }
        for (form, number) in last {
            let key = self.key(form.as_bytes());
            let before = maps.last.get(form).map(|n| n.to_le_bytes());
            batch.expect(Table::IdLast, &key, before.as_ref().map(|b| &b[..]));
            batch.put(Table::IdLast, &key, number.to_le_bytes().to_vec());
        }
        for (place, block) in blocks {
            let key = self.block_key(block);
            let before = maps.blocks.get(place).map(Row::encode);
            batch.expect(Table::IdBlock, &key, before.as_deref()).put(Table::IdBlock, &key, block.encode());
        }
    }
}
