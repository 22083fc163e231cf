//! The kernel boundary: bpf(2), perf events and memory maps.
