//! End-to-end tests of the binary live in this package's test targets.
