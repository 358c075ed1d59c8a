//! Finding the nats-server program, and telling whether it is new enough.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::ChildError;

/// The oldest release that will do: the first with atomic batches and the JetStream API level that the client
/// library speaks. Older ones refuse parts of our configuration.
pub const OLDEST: (u32, u32) = (2, 12);

const PROGRAM: &str = "nats-server";
const VARIABLE: &str = "HYPERGLOT_NATS_SERVER";
/// How many directories above our own executable may hold `.venv/bin` and `.tools/bin`: enough for a test
/// in `target/debug/deps` of the source tree.
const ABOVE: usize = 5;

/// Where to look, in this order.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    /// From the configuration.
    pub configured: Option<PathBuf>,
    /// From `HYPERGLOT_NATS_SERVER`.
    pub variable: Option<OsString>,
    /// Our own executable: beside it, then `.venv/bin` and `.tools/bin` above it.
    pub executable: Option<PathBuf>,
    /// `PATH`.
    pub path: Option<OsString>,
}

impl Places {
    /// The places of this process.
    pub(super) fn here(configured: Option<&Path>) -> Self {
        Self {
            configured: configured.map(Path::to_path_buf),
            variable: std::env::var_os(VARIABLE),
            executable: std::env::current_exe().ok(),
            path: std::env::var_os("PATH"),
        }
    }

    /// The program. A place that was named but holds no program is an error; the others are passed over.
    pub(super) fn find(&self) -> Result<PathBuf, ChildError> {
        let named = [
            (self.configured.clone(), "the configuration ([bus] server)"),
            (self.variable.clone().map(PathBuf::from), VARIABLE),
        ];
        for (path, by) in named {
            match path {
                Some(path) if path.is_file() => return Ok(path),
                Some(path) => return Err(ChildError::NotThere { path, by }),
                None => {}
            }
        }
        let beside = self.executable.iter().filter_map(|path| path.parent()).map(|dir| dir.join(PROGRAM));
        let above = self
            .executable
            .iter()
            .flat_map(|path| path.ancestors().skip(1).take(ABOVE))
            .flat_map(|dir| [dir.join(".venv/bin").join(PROGRAM), dir.join(".tools/bin").join(PROGRAM)]);
        let on_path = self.path.iter().flat_map(std::env::split_paths).map(|dir| dir.join(PROGRAM));
        beside.chain(above).chain(on_path).find(|path| path.is_file()).ok_or(ChildError::NotFound)
    }
}

/// Asks the program for its version and refuses one that is too old.
pub(super) async fn check_version(program: &Path) -> Result<(), ChildError> {
    let failed = |reason: String| ChildError::NoVersion { program: program.to_path_buf(), reason };
    let asking = Command::new(program).arg("--version").stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(Duration::from_secs(10), asking)
        .await
        .map_err(|_| failed("no answer within 10 s".to_owned()))?
        .map_err(|error| failed(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = read_version(&text).ok_or_else(|| failed(format!("it said {:?}", text.trim())))?;
    if version < OLDEST {
        return Err(ChildError::TooOld {
            program: program.to_path_buf(),
            found: format!("{}.{}", version.0, version.1),
        });
    }
    Ok(())
}

/// Major and minor out of `nats-server: v2.15.1`.
fn read_version(text: &str) -> Option<(u32, u32)> {
    let word = text.split_whitespace().last()?;
    let mut numbers = word.trim_start_matches('v').split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(read_version("nats-server: v2.15.1\n"), Some((2, 15)));
        assert_eq!(read_version("nats-server: v2.9.10"), Some((2, 9)));
        assert_eq!(read_version("something else"), None);
        assert_eq!(read_version(""), None);
    }

    #[test]
    fn looked_for_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = dir.path().join(name).join(PROGRAM);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            path
        };
        let (path, venv, beside) = (make("path"), make("top/.venv/bin"), make("top/target/debug"));
        let mut places = Places {
            executable: Some(beside.with_file_name("hyperglot")),
            path: Some(dir.path().join("path").into_os_string()),
            ..Places::default()
        };
        assert_eq!(places.find().unwrap(), beside);
        std::fs::remove_file(&beside).unwrap();
        assert_eq!(places.find().unwrap(), venv);
        std::fs::remove_file(&venv).unwrap();
        assert_eq!(places.find().unwrap(), path);
        places.path = None;
        assert!(matches!(places.find(), Err(ChildError::NotFound)));
        places.variable = Some(path.clone().into_os_string());
        assert_eq!(places.find().unwrap(), path);
        places.configured = Some(dir.path().join("absent"));
        assert!(matches!(places.find(), Err(ChildError::NotThere { .. })));
    }

    #[tokio::test]
    async fn an_old_server_is_refused_plainly() {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake/old-nats-server");
        let error = check_version(&program).await.unwrap_err();
        assert!(matches!(error, ChildError::TooOld { .. }), "{error}");
        assert!(error.to_string().contains("2.12"));
    }
}
