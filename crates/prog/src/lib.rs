//! Loads BPF programs, explains refusals, attaches, runs and lists them.

pub mod blame;
