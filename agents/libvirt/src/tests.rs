//! Against a private libvirtd: the whole crate, in the order of a target's life.

mod claims;
mod edit;
mod effects;
mod hot;
mod lane;
mod native;
mod rig;
mod target;
mod wire;

use crate::tables::Tables;
use mapping::{Bundle, Report};
use std::{
    fs,
    path::Path,
    sync::{Arc, LazyLock},
};

/// A bundle of libvirt's own files, the tables of other protocols have no part in this; `change` may write others.
pub fn bundle_with(change: impl FnOnce(&Path)) -> Result<Arc<Bundle>, Report> {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../mappings/libvirt");
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("libvirt");
    fs::create_dir_all(to.join("schema")).unwrap();
    for name in ["protocol.toml", "effects.toml", "domain.toml", "domain.names", "schema/remote.schema"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
    change(&to);
    Bundle::load(dir.path())
}

/// libvirt's mapping as it is in the tree.
pub fn bundle() -> Arc<Bundle> {
    static BUNDLE: LazyLock<Arc<Bundle>> =
        LazyLock::new(|| bundle_with(|_| ()).unwrap_or_else(|report| panic!("{report}")));
    BUNDLE.clone()
}

/// Its tables.
pub fn tables() -> Tables {
    Tables::new(bundle().protocol("libvirt").unwrap()).unwrap()
}
