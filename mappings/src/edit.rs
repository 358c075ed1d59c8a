//! Patches a native document through its rows.
