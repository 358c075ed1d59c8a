//! The first administrator.

use crate::secret::Secret;
use union::Ids;

/// Without the letters and digits that look alike; 32 of them, so that 5 bits choose one.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// 24 characters of 5 bits.
const LENGTH: usize = 24;

/// Where the first administrator came from.
#[derive(Debug)]
pub enum FirstAdmin {
    /// There was one already; nothing was done.
    Present,
    /// Made as the environment says.
    Given {
        /// Their name.
        name: String,
    },
    /// Made with a password of ours, to be printed this once.
    Generated {
        /// Their name.
        name: String,
        /// Their password.
        password: Secret,
    },
}

/// A password of ours.
pub(crate) fn generate(ids: &dyn Ids) -> Secret {
    let mut random = [0; LENGTH];
    ids.fill(&mut random);
    let letter = |byte: &u8| ALPHABET.get(usize::from(byte % 32)).copied().map_or('x', char::from);
    Secret::new(random.iter().map(letter).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use union::clock::SeededIds;

    #[test]
    fn a_password_of_ours_can_be_read_out() {
        let ids = SeededIds::new(1);
        let (one, two) = (generate(&ids), generate(&ids));
        assert_ne!(one.expose(), two.expose());
        assert!(one.expose().len() == LENGTH && one.expose().bytes().all(|b| ALPHABET.contains(&b)));
    }
}
