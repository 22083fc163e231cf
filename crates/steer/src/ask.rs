//! Asking the program itself about a packet that never was.

use crate::binding::Protocol;
use crate::error::{Error, Result};
use crate::steering::Steering;
use bpfsmith_asm::dsl::bpf_sk_lookup;
use bpfsmith_sys::prog::{TestRun, test_run};
use bpfsmith_uapi::net::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP};
use bpfsmith_uapi::{Field, SkAction};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

/// What the program says about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This socket gets it: its `SO_COOKIE`.
    Socket(u64),
    /// The next program decides, and at last the kernel's own search.
    Pass,
    /// It is refused.
    Drop,
}

impl Steering {
    /// Runs the program on the first packet of a flow, which is sent by nobody, and counted like any
    /// other. Other programs of the namespace are not asked. IPv4 addresses may have either form. Linux 5.12.
    ///
    /// # Errors
    /// [`Error::Families`], and what the kernel refuses.
    pub fn ask(&self, protocol: Protocol, from: SocketAddr, to: SocketAddr) -> Result<Answer> {
        let plain = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
        let (from, to) = (plain(from), plain(to));
        if from.is_ipv4() != to.is_ipv4() {
            return Err(Error::Families { from, to });
        }
        let mut ctx = context(protocol, from, to);
        let mut after = ctx.clone();
        let ran = test_run(
            self.prog.as_fd(),
            &mut TestRun {
                data: &[],
                data_out: &mut [],
                ctx: &mut ctx,
                ctx_out: &mut after,
                repeat: 0,
                flags: 0,
                cpu: 0,
                batch: 0,
            },
        )
        .map_err(|(failed, _)| {
            Error::Prog(bpfsmith_prog::Error::Kernel(bpfsmith_prog::Kernel {
                call: failed.cmd.to_string(),
                kind: "run",
                object: format!("\"{}\"", self.prog.name()),
                errno: failed.errno,
            }))
        })?;
        let at = usize::from(bpf_sk_lookup::cookie.offset);
        let cookie = after
            .get(at..at + 8)
            .and_then(|bytes| bytes.try_into().ok());
        let cookie = cookie.map_or(0, u64::from_ne_bytes);
        Ok(match SkAction(ran.retval.cast_signed()) {
            SkAction::DROP => Answer::Drop,
            _ if cookie == 0 => Answer::Pass,
            _ => Answer::Socket(cookie),
        })
    }
}

/// The kernel's structure for a packet.
#[expect(
    deprecated,
    reason = "whoever fills it in, knows the order of each port"
)]
fn context(protocol: Protocol, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let mut ctx = vec![0; bpf_sk_lookup::SIZE as usize];
    let mut put = |field: Field, bytes: &[u8]| {
        let at = usize::from(field.offset);
        ctx[at..at + bytes.len()].copy_from_slice(bytes);
    };
    let protocol = match protocol {
        Protocol::Tcp => IPPROTO_TCP,
        Protocol::Udp => IPPROTO_UDP,
    };
    let family = if to.is_ipv4() { AF_INET } else { AF_INET6 };
    put(bpf_sk_lookup::protocol, &protocol.to_ne_bytes());
    put(bpf_sk_lookup::family, &family.to_ne_bytes());
    for (end, v4, v6) in [
        (from, bpf_sk_lookup::remote_ip4, bpf_sk_lookup::remote_ip6),
        (to, bpf_sk_lookup::local_ip4, bpf_sk_lookup::local_ip6),
    ] {
        match end.ip() {
            IpAddr::V4(address) => put(v4, &address.octets()),
            IpAddr::V6(address) => put(v6, &address.octets()),
        }
    }
    put(bpf_sk_lookup::remote_port, &from.port().to_be_bytes());
    put(
        bpf_sk_lookup::local_port,
        &u32::from(to.port()).to_ne_bytes(),
    );
    ctx
}
