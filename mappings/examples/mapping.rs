//! The checker alone: `cargo run -p mapping --example mapping -- check mappings`.

use std::{path::Path, process::ExitCode};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["check", dir] => {
            let report = mapping::check(Path::new(dir));
            println!("{report}");
            if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        ["test", dir] => {
            let report = mapping::test(Path::new(dir));
            println!("{report}");
            if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        _ => {
            eprintln!("usage: mapping check|test DIR");
            ExitCode::from(64)
        }
    }
}
