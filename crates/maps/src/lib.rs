//! BPF maps with types.
