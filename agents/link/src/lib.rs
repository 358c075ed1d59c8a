//! An agent's side of the engine: which commands go there, grants, what was done while it was away.
#![forbid(unsafe_code)]
