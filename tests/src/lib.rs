//! Tests of the house as a whole; each file under `tests/` is one intent.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

/// The top of the source tree.
pub fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}
