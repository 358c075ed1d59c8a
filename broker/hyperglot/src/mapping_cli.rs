//! `hyperglot mapping …`: the integration engineer's tools.

use crate::{find, say};
use clap::Subcommand;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

/// What to do with mapping files.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Load and check everything; every error at once.
    Check {
        /// The mapping files.
        dir: Option<PathBuf>,
    },
    /// Check, then run the laws and the cases.
    Test {
        /// The mapping files.
        dir: Option<PathBuf>,
    },
    /// What is mapped and what is not, protocol by protocol.
    Coverage {
        /// The mapping files.
        dir: Option<PathBuf>,
    },
    /// Why something becomes what it becomes, row by row.
    Explain {
        /// A property (`VirtualMachine.config.uuid`), an object, a command (`PowerOnVM_Task`) or an effect (`PowerOn`).
        what: String,
        /// The mapping files.
        #[arg(long)]
        dir: Option<PathBuf>,
    },
}

/// Mapping files that were refused.
const REFUSED: u8 = 65;

/// Does it and says how it went.
pub fn run(verb: &Verb) -> ExitCode {
    let (Verb::Check { dir } | Verb::Test { dir } | Verb::Coverage { dir } | Verb::Explain { dir, .. }) =
        verb;
    let dir = match find::mappings(dir.as_deref()) {
        Ok(dir) => dir,
        Err(e) => {
            eprintln!("hyperglot: {e}");
            return ExitCode::FAILURE;
        }
    };
    match said(verb, &dir) {
        Ok(text) => {
            say::line(text.trim_end());
            ExitCode::SUCCESS
        }
        Err(text) => {
            eprintln!("{}", text.trim_end());
            ExitCode::from(REFUSED)
        }
    }
}

fn said(verb: &Verb, dir: &Path) -> Result<String, String> {
    match verb {
        Verb::Check { .. } => {
            let report = mapping::check(dir);
            good(report.is_good(), report.to_string())
        }
        Verb::Test { .. } => {
            let report = mapping::test(dir);
            good(report.is_good(), report.to_string())
        }
        Verb::Coverage { .. } => mapping::coverage(dir).map_err(|report| report.to_string()),
        Verb::Explain { what, .. } => mapping::explain(dir, what),
    }
}

fn good(good: bool, text: String) -> Result<String, String> {
    if good { Ok(text) } else { Err(text) }
}
