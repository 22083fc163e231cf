//! The largest segments that SYN cookies remember.
//!
//! A cookie has two bits for what its SYN says about segments, so the kernel keeps a few sizes, and rounds
//! down to one of them.

use crate::config::Family;
use crate::error::{Error, Result};
use bpfsmith_asm::dsl::*;
use bpfsmith_asm::kit::packet::need;
use bpfsmith_prog::{Load, Prog};
use bpfsmith_uapi::Errno;
use std::collections::BTreeSet;

/// The sizes of the kernel, from the smallest one on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mss {
    v4: Vec<u16>,
    v6: Vec<u16>,
}

impl Default for Mss {
    /// Those of Linux 6.18, as of all before it that have cookies for programs.
    fn default() -> Mss {
        Mss {
            v4: vec![536, 1300, 1440, 1460],
            v6: vec![1220, 1420, 1440, 8940],
        }
    }
}

/// More sizes than these no cookie has room for.
const MOST: usize = 16;

impl Mss {
    /// Those of a family.
    #[must_use]
    pub fn of(&self, family: Family) -> &[u16] {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    /// The running kernel's for these families: a small program asks for cookies for packets of its own. Linux
    /// 6.0.
    ///
    /// # Errors
    /// When the kernel has no cookies for programs.
    pub fn of_kernel(families: &BTreeSet<Family>) -> Result<Mss> {
        let mut mss = Mss::default();
        if families.contains(&Family::V4) {
            mss.v4 = sizes(Family::V4)?;
        }
        if families.contains(&Family::V6) {
            mss.v6 = sizes(Family::V6)?;
        }
        Ok(mss)
    }
}

/// Asks for less and less than the last answer.
fn sizes(family: Family) -> Result<Vec<u16>> {
    let prog = prober(family)?;
    let mut sizes = Vec::new();
    let mut wish = u16::MAX;
    while sizes.len() < MOST {
        let size = ask(&prog, family, wish)?;
        // There is none as small as this.
        if size > wish {
            break;
        }
        sizes.push(size);
        match size.checked_sub(1) {
            // A SYN that says nothing may have any.
            None | Some(0) => break,
            Some(less) => wish = less,
        }
    }
    sizes.reverse();
    Ok(sizes)
}

const fn headers(family: Family) -> i32 {
    match family {
        Family::V4 => eth::SIZE + ipv4::SIZE,
        Family::V6 => eth::SIZE + ipv6::SIZE,
    }
}

/// Bytes of a TCP header with nothing but this option.
const TCP: i32 = tcp::SIZE + 4;

/// Returns what a cookie for its packet remembers, or an error number below zero.
fn prober(family: Family) -> Result<Prog> {
    const FRAME: Reg = R6;
    let headers = headers(family);
    let short = label("short");
    let (ip, th) = (FRAME.at(eth::SIZE), FRAME.at(headers));
    let program = Program::new(
        ProgType::SCHED_CLS,
        "proxy_mss",
        code![
            load(FRAME, R1.get(__sk_buff::data)),
            load(R2, R1.get(__sk_buff::data_end)),
            mov(R0, 0),
            need(FRAME, R2, headers + TCP, R3, short),
            match family {
                Family::V4 => code![tcp_raw_gen_syncookie_ipv4(ip, th, TCP)],
                Family::V6 => code![tcp_raw_gen_syncookie_ipv6(ip, th, TCP)],
            },
            R0.sge(0).then(rsh(R0, 32)),
            bind(short),
            exit(),
        ],
    )?;
    Load::new(&program).load().map_err(Error::NoCookies)
}

/// What is remembered of a SYN with that option.
fn ask(prog: &Prog, family: Family, wish: u16) -> Result<u16> {
    let headers = usize::try_from(headers(family)).unwrap_or_default();
    let mut packet = vec![0; headers];
    let (kind, version): (u16, u8) = match family {
        Family::V4 => (0x0800, 0x45),
        Family::V6 => (0x86dd, 0x60),
    };
    packet[12..14].copy_from_slice(&kind.to_be_bytes());
    packet[14] = version;
    let [high, low] = wish.to_be_bytes();
    let words: [[u8; 4]; 6] = [
        [0; 4],
        [0; 4],
        [0; 4],
        [0x60, 2, 0, 0],
        [0; 4],
        [2, 4, high, low],
    ];
    packet.extend(words.concat());
    let answer = prog.run().data(&packet).go().map_err(Error::NoCookies)?;
    let errno = answer.retval.cast_signed().wrapping_neg();
    u16::try_from(answer.retval).map_err(|_| Error::CookiesLeftOut(Errno(errno)))
}
