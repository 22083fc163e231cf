//! One program, written with every peer, and what the benchmarks need around it.

pub mod arguments;
pub mod btf;
pub mod btf_c;
pub mod count;
pub mod datapath;
pub mod first_load;
pub mod peers;
pub mod programs;
pub mod relay;
pub mod rounds;
