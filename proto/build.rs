//! Compiles the union's protobuf without a system protoc: descriptors by protox, Rust by prost.
use std::{env, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["options", "value", "object", "broker", "command", "envelope", "plan", "link"]
        .map(|f| format!("union/v1/{f}.proto"));
    for file in &files {
        println!("cargo:rerun-if-changed={file}");
    }
    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_imports(true).open_files(&files)?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("union.bin"), compiler.encode_file_descriptor_set())?;
    prost_build::Config::new()
        .btree_map(["."])
        // Their Debug shows no secret: `src/sealed.rs`.
        .skip_debug(["union.v1.SealedLogin", "union.v1.SealedKey"])
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
