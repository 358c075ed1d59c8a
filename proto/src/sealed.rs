//! Messages that hold a secret show themselves without it.

use crate::pb;
use std::fmt;

impl fmt::Debug for pb::SealedLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedLogin").field("user", &self.user).finish_non_exhaustive()
    }
}

impl fmt::Debug for pb::SealedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedKey").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_shown() {
        let login = pb::SealedLogin { user: "root".into(), password: "hunter2".into(), ..Default::default() };
        let key = pb::SealedKey { key: "hunter2".into(), protocol: "vsphere".into(), ..Default::default() };
        assert_eq!(format!("{login:?}"), "SealedLogin { user: \"root\", .. }");
        assert_eq!(format!("{key:?}"), "SealedKey { protocol: \"vsphere\", .. }");
    }
}
