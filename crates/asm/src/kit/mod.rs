//! Fragments that most packet programs need, ready to be spliced.
//!
//! Each is a plain function that returns a [`Code`](crate::code::Code): nothing here can do what a
//! fragment of your own cannot. Labels and slots are fresh in every call, so a fragment may be used
//! any number of times in one program. What a fragment reads and clobbers stands in its first lines;
//! fragments that call a helper clobber R0 to R5 like the call itself.
//!
//! - [`packet`] walks headers, from Ethernet to the TCP payload, with the checks the verifier wants.
//! - [`checksum`] keeps checksums right, and [`rewrite`] changes headers with their checksums.
//! - [`mod@map`] counts and finds or makes entries, [`event`] fills ring buffer records.
//! - [`rate`] limits, [`hash`] hashes, [`mod@fib`] asks the routing table.
//! - [`lookup`] matches addresses and ports, and gives packets to sockets.
//! - [`redirect`] sends XDP frames to CPUs and devices, chosen in turn, by flow or by weight.
//! - [`stream`] sends what one socket receives or writes to another, and collects connections.
//! - [`tcp`] is what algorithms of TCP congestion control are made of.

pub mod checksum;
pub mod event;
pub mod fib;
pub mod hash;
pub mod lookup;
pub mod map;
pub mod packet;
pub mod rate;
pub mod redirect;
pub mod rewrite;
pub mod stream;
pub mod tcp;
