//! Tests of the span tree.
