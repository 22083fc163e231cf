//! # Part 1, chapter 1: what BPF is, and the first listing
//!
//! Run it: `cargo run --example chapter_1_1`. It needs neither root nor Linux.
//!
//! BPF is a small machine inside the kernel. It has eleven registers of 64 bits, 512 bytes of stack
//! and about a hundred instructions of eight bytes each. A program is loaded with one system call;
//! the kernel's *verifier* follows every path through it, refuses what it cannot prove safe, and
//! compiles the rest to machine code. From then on the program runs wherever it is attached: for
//! each packet, each system call, each socket.
//!
//! Most people write BPF in C and let clang make the instructions. Here the instructions are Rust
//! values. The function below *is* the program: no compiler stands between it and the kernel, so
//! what you read is what runs.
//!
//! | register | use |
//! |---|---|
//! | r0 | result of a call; result of the program |
//! | r1 to r5 | arguments of a call; lost in it. r1 holds the context at the start |
//! | r6 to r9 | yours, kept over calls |
//! | r10 | end of the stack, read only |

use bpfsmith::dsl::*;

/// Lets packets pass that are at least 64 bytes long, and drops the others.
///
/// The context of an XDP program is a `struct xdp_md`. `R1.get(xdp_md::data)` is the place of its
/// field `data`: base register, offset and width come from the kernel's own layout. The difference
/// of `data_end` and `data` is the length of the packet.
fn long_enough() -> Code {
    code![
        load(R2, R1.get(xdp_md::data)),
        load(R3, R1.get(xdp_md::data_end)),
        sub(R3, R2),
        R3.lt(64).then(ret(XDP_DROP)),
        ret(XDP_PASS),
    ]
}

/// The finished program: `Program::new` gives every label its place and checks the control flow.
///
/// # Panics
/// If the program is wrong; the message names the line.
#[must_use]
pub fn program() -> Program {
    Program::new(ProgType::XDP, "long_enough", long_enough()).expect("the program is right")
}

/// Prints the program in both forms, then its bytes.
///
/// The *stable* form shows names and no numbers that move: one more instruction is one more line,
/// which makes it good for tests. The *annotated* form adds slot numbers, bytes, and the Rust line
/// that wrote each instruction; errors are told with it. Notice how `.then(ret(XDP_DROP))` became a
/// jump with the opposite condition, `>=`, over two instructions.
pub fn run() {
    let program = program();
    println!("{}", program.listing());
    println!("{}", program.annotated());
    println!(
        "{} bytes for the kernel",
        program.to_bytes(Order::HOST).len()
    );
}

#[allow(dead_code, reason = "tests include this file for its program")]
fn main() {
    run();
}
