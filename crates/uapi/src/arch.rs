//! Contexts that depend on the processor: its registers.

/// 64-bit x86.
pub mod x86_64 {
    crate::layout! {
        /// Every structure in this module.
        pub const LAYOUTS;

        /// Registers: the context of a kprobe.
        pub mod pt_regs = "pt_regs": 168 {
            /// Register r15.
            r15: u64,
            /// Register r14.
            r14: u64,
            /// Register r13.
            r13: u64,
            /// Register r12.
            r12: u64,
            /// Register rbp.
            bp: u64,
            /// Register rbx.
            bx: u64,
            /// Register r11.
            r11: u64,
            /// Register r10; fourth argument of a system call.
            r10: u64,
            /// Register r9; sixth argument.
            r9: u64,
            /// Register r8; fifth argument.
            r8: u64,
            /// Register rax; the result.
            ax: u64,
            /// Register rcx; fourth argument.
            cx: u64,
            /// Register rdx; third argument.
            dx: u64,
            /// Register rsi; second argument.
            si: u64,
            /// Register rdi; first argument.
            di: u64,
            /// Number of the system call.
            orig_ax: u64,
            /// Address of the instruction.
            ip: u64,
            /// Code segment.
            cs: u16,
            /// Processor flags.
            flags: u64,
            /// Stack pointer.
            sp: u64,
            /// Stack segment.
            ss: u16,
        }

        /// Context of a perf event program.
        pub mod bpf_perf_event_data = "bpf_perf_event_data": 184 {
            /// Registers, laid out as `pt_regs`.
            regs: [u64; 21],
            /// Period of the event.
            sample_period: u64,
            /// Address that the event is about.
            addr: u64,
        }
    }
}

/// 64-bit Arm.
pub mod arm64 {
    crate::layout! {
        /// Every structure in this module.
        pub const LAYOUTS;

        /// Registers: the readable start of a kprobe's context.
        pub mod user_pt_regs = "user_pt_regs": 272 {
            /// Registers x0 to x30; arguments start at 0, the result is in 0.
            regs: [u64; 31],
            /// Stack pointer.
            sp: u64,
            /// Address of the instruction.
            pc: u64,
            /// Processor state.
            pstate: u64,
        }

        /// Context of a perf event program.
        pub mod bpf_perf_event_data = "bpf_perf_event_data": 288 {
            /// Registers, laid out as `user_pt_regs`.
            regs: [u64; 34],
            /// Period of the event.
            sample_period: u64,
            /// Address that the event is about.
            addr: u64,
        }
    }
}
