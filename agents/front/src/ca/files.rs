//! Certificates and keys on disk. A file appears whole or not at all.

use super::CaError;
use rcgen::KeyPair;
use std::{
    fs, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

const FILE_BYTES: u64 = 1 << 20;

fn io_error(path: &Path) -> impl Fn(io::Error) -> CaError + '_ {
    |source| CaError::Io { path: path.to_owned(), source }
}

/// Makes a directory, and those above it, for its owner alone.
pub(super) fn make_dir(path: &Path) -> Result<(), CaError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io_error(path))
}

/// A file's text; `None` when there is no file.
pub(super) fn read(path: &Path) -> Result<Option<String>, CaError> {
    let meta = match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        meta => meta.map_err(io_error(path))?,
    };
    if meta.len() > FILE_BYTES {
        let message = format!("is {} bytes; at most {FILE_BYTES} are read", meta.len());
        return Err(CaError::Content { path: path.to_owned(), message });
    }
    fs::read_to_string(path).map(Some).map_err(io_error(path))
}

/// A key that nobody else may read; `None` when there is no file.
pub(super) fn read_key(path: &Path) -> Result<Option<KeyPair>, CaError> {
    let Some(pem) = read(path)? else { return Ok(None) };
    let mode = fs::metadata(path).map_err(io_error(path))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(CaError::Open { path: path.to_owned(), mode });
    }
    let key = KeyPair::from_pem(&pem).map_err(|e| CaError::Content {
        path: path.to_owned(),
        message: format!("expected a PKCS#8 key in PEM: {e}; restore it, or remove it to make a new one"),
    })?;
    Ok(Some(key))
}

/// Makes a key.
pub(super) fn make_key(path: &Path) -> Result<KeyPair, CaError> {
    let key = KeyPair::generate()?;
    write(path, &key.serialize_pem(), 0o600)?;
    Ok(key)
}

/// Writes beside `path`, then renames.
pub(super) fn write(path: &Path, text: &str, mode: u32) -> Result<(), CaError> {
    let error = io_error(path);
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = Path::new(&beside);
    match fs::remove_file(beside) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(error(e)),
        _ => {}
    }
    let put = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(beside, path)?;
        match path.parent() {
            Some(dir) => fs::File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    };
    put().map_err(error)
}
