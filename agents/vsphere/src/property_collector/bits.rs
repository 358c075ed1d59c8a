//! A set of a filter's properties. The first 127 have a bit each; all further ones share the last, so that a long path list
//! costs a few properties rendered again and never an allocation.

/// Property numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bits(u128);

const LAST: usize = 127;

impl Bits {
    /// None.
    pub(crate) const EMPTY: Bits = Bits(0);
    /// All.
    pub(crate) const ALL: Bits = Bits(u128::MAX);

    /// Adds a property.
    pub(crate) fn insert(&mut self, number: usize) {
        self.0 |= 1 << number.min(LAST);
    }

    /// Whether a property is in it.
    pub(crate) fn contains(self, number: usize) -> bool {
        self.0 & (1 << number.min(LAST)) != 0
    }

    /// Those in either.
    #[must_use]
    pub(crate) fn union(self, other: Bits) -> Bits {
        Bits(self.0 | other.0)
    }

    /// Whether there is none.
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }
}
