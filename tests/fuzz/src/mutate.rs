//! Damaging inputs.

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

/// No input grows beyond this.
const LONGEST: usize = 256 << 10;

/// Numbers at which decoders go wrong.
const NUMBERS: &[u64] = &[
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    15,
    16,
    31,
    32,
    63,
    64,
    65,
    127,
    128,
    255,
    256,
    1023,
    1024,
    4095,
    4096,
    32_767,
    32_768,
    65_535,
    65_536,
    1 << 20,
    1 << 22,
    (1 << 22) + 1,
    (1 << 24) - 1,
    1 << 24,
    1 << 30,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    (1 << 53) + 1,
    (1 << 63) - 1,
    1 << 63,
    u64::MAX,
];

/// Makes new inputs from old ones; the same seed makes the same.
pub struct Mutator {
    rng: StdRng,
    dictionary: &'static [&'static str],
}

impl Mutator {
    /// `dictionary`: the words of the input's language.
    pub fn new(seed: u64, dictionary: &'static [&'static str]) -> Mutator {
        Mutator { rng: StdRng::seed_from_u64(seed), dictionary }
    }

    /// One of the seeds, damaged in one to eight ways.
    pub fn next(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut input = seeds.choose(&mut self.rng).cloned().unwrap_or_default();
        // Mostly little damage, so that most of the input is still understood.
        let ways = 1 << self.rng.random_range(0..4);
        for _ in 0..self.rng.random_range(1..=ways) {
            self.damage(&mut input, seeds);
            input.truncate(LONGEST);
        }
        input
    }

    fn damage(&mut self, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.rng.random_range(0..=input.len());
        match self.rng.random_range(0..12) {
            0 => {
                let bit = 1 << self.rng.random_range(0..8);
                input.get_mut(at).into_iter().for_each(|byte| *byte ^= bit);
            }
            1 => {
                let new = self.rng.random();
                input.get_mut(at).into_iter().for_each(|byte| *byte = new);
            }
            2 => {
                let bytes: Vec<u8> = (0..self.rng.random_range(1..9)).map(|_| self.rng.random()).collect();
                insert(input, at, &bytes);
            }
            3 => drop(input.drain(self.range(input.len()))),
            4 => {
                let piece = input.get(self.range(input.len())).unwrap_or_default().to_vec();
                insert(input, at, &piece);
            }
            5 => {
                let piece = input.get(self.range(input.len())).unwrap_or_default().to_vec();
                let times = 1 << self.rng.random_range(1..12);
                insert(input, at, &piece.repeat(times.min(LONGEST / piece.len().max(1))));
            }
            6 => {
                let number = NUMBERS.choose(&mut self.rng).copied().unwrap_or(0);
                let big = number.to_be_bytes();
                let narrow = big.get(4..).filter(|_| self.rng.random()).unwrap_or(&big);
                for (place, byte) in input.iter_mut().skip(at / 4 * 4).zip(narrow) {
                    *place = *byte;
                }
            }
            7 => {
                let number = NUMBERS.choose(&mut self.rng).copied().unwrap_or(0);
                let text = if self.rng.random() { number.to_string() } else { format!("-{number}") };
                let digits = |b: &u8| b.is_ascii_digit();
                match input.iter().skip(at).position(digits) {
                    Some(skip) => {
                        let from = at + skip;
                        let count = input.iter().skip(from).take_while(|b| digits(b)).count();
                        input.splice(from..from + count, text.into_bytes());
                    }
                    None => insert(input, at, text.as_bytes()),
                }
            }
            8 | 9 => {
                let word = self.dictionary.choose(&mut self.rng).copied().unwrap_or("");
                insert(input, at, word.as_bytes());
            }
            10 => {
                let other = seeds.choose(&mut self.rng).map_or(&[][..], Vec::as_slice);
                let piece = other.get(self.range(other.len())).unwrap_or_default().to_vec();
                insert(input, at, &piece);
            }
            _ => input.truncate(at),
        }
    }

    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let from = self.rng.random_range(0..=length);
        // Short pieces are likelier than long ones.
        let most = (length - from).min(1 << self.rng.random_range(0..14));
        from..from + self.rng.random_range(0..=most)
    }
}

fn insert(input: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let at = at.min(input.len());
    input.splice(at..at, bytes.iter().copied());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same() {
        let seeds = vec![b"<a><b>12</b></a>".to_vec(), b"other".to_vec()];
        let make = |seed| {
            let mut mutator = Mutator::new(seed, &["<", "&amp;"]);
            (0..200).map(|_| mutator.next(&seeds)).collect::<Vec<_>>()
        };
        assert_eq!(make(1), make(1));
        assert_ne!(make(1), make(2));
        assert!(make(3).iter().all(|input| input.len() <= LONGEST));
    }
}
