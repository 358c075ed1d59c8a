//! Fuzzing on the stable toolchain: every decoder, fed with damaged versions of a corpus.
//!
//! ```text
//! corpus/<target>/*  ─▶ each as it is ─▶ mutated, again and again ─▶ target ─▶ panicked? shrink, save, fail
//!                                            ▲                          │
//!                                            └── a new kind of answer ──┘  (kept as a seed for this run)
//! ```
//!
//! There is no coverage instrumentation, which needs a nightly compiler; instead a target tells what kind of answer an
//! input got, and an input with a new kind becomes a seed. A target also checks laws: what is decoded encodes to what
//! decodes the same.
//!
//! ```text
//! cargo test -p fuzz                                 2,000 inputs a target, the same every time
//! FUZZ_SECONDS=60 cargo test -p fuzz soap_decode     new inputs for a minute
//! FUZZ_SEED=7 FUZZ_ITERATIONS=100000 …               as many, from this seed
//! FUZZ_INPUT=path cargo test -p fuzz soap_decode     that one input, for example a saved one
//! ```
//!
//! A failing input is saved under `target/fuzz/`. The input being tried is kept there as `<target>.running`, for the
//! failures that end the process (a stack overflow, memory exhausted, a hang); the slowest as `<target>.slowest`.
#![forbid(unsafe_code)]

#[cfg(test)]
mod mutate;
#[cfg(test)]
mod runner;
#[cfg(test)]
mod targets;
#[cfg(test)]
mod tests;
