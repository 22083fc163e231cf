//! Names of the arguments of the kernel's structures of functions, where its BTF has none: compilers
//! do not tell the names of a function pointer's parameters.

/// A member that is a function, and what its arguments are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The structure.
    pub structure: &'static str,
    /// The member.
    pub member: &'static str,
    /// Its arguments, in order. Where kernels differ in their number, there is a row for each.
    pub args: &'static [&'static str],
    /// The structures that pointers among them point to; empty for numbers.
    pub types: &'static [&'static str],
}

macro_rules! operations {
    ($($structure:ident { $($member:ident($($arg:ident: $ty:literal),*);)* })*) => {
        /// All of them.
        pub const OPERATIONS: &[Operation] = &[$($(
            Operation {
                structure: stringify!($structure),
                member: stringify!($member),
                args: &[$(stringify!($arg)),*],
                types: &[$($ty),*],
            },
        )*)*];
    };
}
operations! {
    tcp_congestion_ops {
        ssthresh(sk: "sock");
        cong_avoid(sk: "sock", ack: "", acked: "");
        set_state(sk: "sock", new_state: "");
        cwnd_event(sk: "sock", ev: "");
        in_ack_event(sk: "sock", flags: "");
        pkts_acked(sk: "sock", sample: "ack_sample");
        min_tso_segs(sk: "sock");
        cong_control(sk: "sock", rs: "rate_sample");
        cong_control(sk: "sock", ack: "", flag: "", rs: "rate_sample");
        undo_cwnd(sk: "sock");
        sndbuf_expand(sk: "sock");
        get_info(sk: "sock", ext: "", attr: "", info: "tcp_cc_info");
        init(sk: "sock");
        release(sk: "sock");
    }
    bpf_dummy_ops {
        test_1(state: "bpf_dummy_ops_state");
        test_2(state: "bpf_dummy_ops_state", a1: "", a2: "", a3: "", a4: "");
        test_sleepable(state: "bpf_dummy_ops_state");
    }
}

impl Operation {
    /// The row for a member that takes this many arguments.
    #[must_use]
    pub fn find(structure: &str, member: &str, args: usize) -> Option<&'static Operation> {
        let is_it = |row: &&Operation| {
            row.structure == structure && row.member == member && row.args.len() == args
        };
        OPERATIONS.iter().find(is_it)
    }
}
