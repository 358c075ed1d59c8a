//! The sessions in the authority's memory, by id and by the hash of their key.

use super::keep::Kept;
use rustc_hash::FxHashMap;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use union::Clock;

/// The SHA-256 of a session's key.
pub(super) fn hashed(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

/// One session.
#[derive(Clone, Debug)]
pub(super) struct Live {
    pub hash: [u8; 32],
    pub kept: Kept,
    /// Changed since it was written.
    pub dirty: bool,
}

impl Live {
    pub fn new(hash: [u8; 32], kept: Kept) -> Live {
        Live { hash, kept, dirty: false }
    }

    /// Whether it may be used.
    pub fn is_live(&self, now_ms: i64) -> bool {
        self.kept.revoked_ms == 0 && now_ms < self.kept.expires_ms
    }

    pub fn touch(&mut self, now_ms: i64, idle_ms: i64) {
        if now_ms > self.kept.active_ms {
            self.kept.active_ms = now_ms;
            self.kept.expires_ms = now_ms.saturating_add(idle_ms);
            self.dirty = true;
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Table {
    by_id: FxHashMap<Arc<str>, Live>,
    by_hash: FxHashMap<[u8; 32], Arc<str>>,
}

impl Table {
    pub fn insert(&mut self, live: Live) {
        let id: Arc<str> = live.kept.id.to_string().into();
        self.by_hash.insert(live.hash, Arc::clone(&id));
        self.by_id.insert(id, live);
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// The live session of this id.
    pub fn live(&self, id: &str, clock: &dyn Clock) -> Option<&Live> {
        self.by_id.get(id).filter(|live| live.is_live(clock.now_ms()))
    }

    /// The same, to be changed.
    pub fn live_mut(&mut self, id: &str, clock: &dyn Clock) -> Option<&mut Live> {
        self.by_id.get_mut(id).filter(|live| live.is_live(clock.now_ms()))
    }

    /// The id of the live session of this key.
    pub fn of_key(&self, key: &str, clock: &dyn Clock) -> Option<Arc<str>> {
        let id = self.by_hash.get(&hashed(key))?;
        self.live(id, clock).map(|_| Arc::clone(id))
    }

    pub fn get(&self, id: &str) -> Option<&Live> {
        self.by_id.get(id)
    }

    pub fn get_mut(&mut self, id: &str) -> Option<&mut Live> {
        self.by_id.get_mut(id)
    }

    pub fn remove(&mut self, id: &str) -> Option<Live> {
        let live = self.by_id.remove(id)?;
        self.by_hash.remove(&live.hash);
        Some(live)
    }

    /// Leaves at most `most` that were revoked, the latest; the hashes of the others' keys.
    pub fn forget_revoked(&mut self, most: usize) -> Vec<[u8; 32]> {
        let mut revoked: Vec<_> = self
            .by_id
            .iter()
            .filter(|(_, live)| live.kept.revoked_ms != 0 && !live.dirty)
            .map(|(id, live)| (live.kept.revoked_ms, Arc::clone(id)))
            .collect();
        revoked.sort();
        let too_many = revoked.len().saturating_sub(most);
        revoked.iter().take(too_many).filter_map(|(_, id)| self.remove(id).map(|live| live.hash)).collect()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Live)> {
        self.by_id.iter()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Live> {
        self.by_id.values_mut()
    }

    /// The ids of those for which `wanted` holds.
    pub fn ids(&self, wanted: impl Fn(&Live) -> bool) -> Vec<Arc<str>> {
        self.by_id.iter().filter(|(_, live)| wanted(live)).map(|(id, _)| Arc::clone(id)).collect()
    }
}
