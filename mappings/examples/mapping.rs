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
        ["coverage", dir] => match mapping::coverage(Path::new(dir)) {
            Ok(text) => {
                print!("{text}");
                ExitCode::SUCCESS
            }
            Err(report) => {
                println!("{report}");
                ExitCode::FAILURE
            }
        },
        ["explain", dir, what] => match mapping::explain(Path::new(dir), what) {
            Ok(text) => {
                print!("{text}");
                ExitCode::SUCCESS
            }
            Err(why) => {
                println!("{why}");
                ExitCode::FAILURE
            }
        },
        _ => {
            eprintln!("usage: mapping check|test|coverage DIR, mapping explain DIR WHAT");
            ExitCode::from(64)
        }
    }
}
