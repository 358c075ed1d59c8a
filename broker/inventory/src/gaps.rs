//! Values that a mapping could not show or read: the integration engineer's work list. A gap fails nothing; it is counted, and each
//! place is news once.
//!
//! Limits: 1,000 places are told apart; what comes after is counted together.

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Places told apart.
const PLACES: usize = 1_000;

/// One place where values were not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Whose value it was, for example `libvirt`.
    pub protocol: Arc<str>,
    /// The row's native path.
    pub path: Arc<str>,
    /// What was wrong with the first such value.
    pub why: String,
}

/// The gaps met since the start.
#[derive(Debug, Default)]
pub struct Gaps {
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    counts: FxHashMap<(Arc<str>, Arc<str>), u64>,
    news: Vec<Gap>,
    beyond: u64,
}

impl Gaps {
    /// Counts one value.
    pub fn note(&self, protocol: &str, path: &str, why: impl FnOnce() -> String) {
        let mut book = self.book.lock();
        let place = (Arc::from(protocol), Arc::from(path));
        if let Some(count) = book.counts.get_mut(&place) {
            *count += 1;
        } else if book.counts.len() < PLACES {
            let (protocol, path) = place.clone();
            book.news.push(Gap { protocol, path, why: why() });
            book.counts.insert(place, 1);
        } else {
            book.beyond += 1;
        }
    }

    /// The places met for the first time since the last call.
    pub fn take_news(&self) -> Vec<Gap> {
        std::mem::take(&mut self.book.lock().news)
    }

    /// How many values of each protocol.
    pub fn counts(&self) -> FxHashMap<Arc<str>, u64> {
        let book = self.book.lock();
        let mut by_protocol = FxHashMap::default();
        for ((protocol, _), count) in &book.counts {
            *by_protocol.entry(Arc::clone(protocol)).or_insert(0) += count;
        }
        if book.beyond > 0 {
            by_protocol.insert(Arc::from("other"), book.beyond);
        }
        by_protocol
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_news_once_and_counted_always() {
        let gaps = Gaps::default();
        gaps.note("libvirt", "on_crash", || "coredump".into());
        gaps.note("libvirt", "on_crash", || unreachable!());
        gaps.note("vsphere", "config.uuid", || "bad".into());
        let news = gaps.take_news();
        assert_eq!(news.len(), 2);
        assert_eq!((&*news[0].path, news[0].why.as_str()), ("on_crash", "coredump"));
        assert!(gaps.take_news().is_empty());
        assert_eq!(gaps.counts().get("libvirt"), Some(&2));
    }

    #[test]
    fn places_are_bounded() {
        let gaps = Gaps::default();
        for n in 0..PLACES + 5 {
            gaps.note("p", &n.to_string(), String::new);
        }
        assert_eq!(gaps.counts().get("other"), Some(&5));
        assert_eq!(gaps.take_news().len(), PLACES);
    }
}
