//! How the running kernel is told that the sums of IPv6 change.

use crate::error::Result;
use crate::shape::Sums6;
use bpfsmith_asm::dsl::flags::csum_replace::{BPF_F_IPV6, BPF_F_PSEUDO_HDR};
use bpfsmith_asm::dsl::*;
use bpfsmith_prog::Load;

impl Sums6 {
    /// The running kernel's: a small program tries the flag on a packet of its own.
    ///
    /// # Errors
    /// When the kernel refuses the program.
    pub fn of_kernel() -> Result<Sums6> {
        let check = eth::SIZE + ipv6::SIZE + i32::from(tcp::check.offset);
        let program = Program::new(
            ProgType::SCHED_CLS,
            "proxy_sums6",
            code![
                l4_csum_replace(R1, check, 0, 1, BPF_F_PSEUDO_HDR | BPF_F_IPV6),
                exit(),
            ],
        )?;
        let prog = Load::new(&program).load()?;
        let mut packet = [0; 14 + 40 + 20];
        packet[12..14].copy_from_slice(&[0x86, 0xdd]);
        packet[14] = 0x60;
        let outcome = prog.run().data(&packet).go()?;
        Ok(match outcome.retval {
            0 => Sums6::Flag,
            _ => Sums6::Undone,
        })
    }
}
