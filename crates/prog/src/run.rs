//! Running a program on given input, without any hook.

use crate::error::{Error, Result};
use crate::prog::Prog;
use bpfsmith_sys::prog as sys;
use bpfsmith_uapi::flags::test_run;
use bpfsmith_uapi::{TcAction, XdpAction};
use std::os::fd::AsFd;
use std::time::Duration;

/// What a test run is given: made by [`Prog::run`].
#[derive(Debug)]
#[must_use = "nothing runs before `go`"]
pub struct Run<'a> {
    prog: &'a Prog,
    data: &'a [u8],
    ctx: Vec<u8>,
    room: Option<usize>,
    repeat: u32,
    flags: u32,
    cpu: u32,
    batch: u32,
}

/// What a test run did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// What the program returned, the last time.
    pub retval: u32,
    /// The average time of one run.
    pub duration: Duration,
    /// The packet as the program left it.
    pub data: Vec<u8>,
    /// The context as the program left it, where one was given.
    pub ctx: Vec<u8>,
}

impl Outcome {
    /// The answer of an XDP program.
    #[must_use]
    pub const fn xdp(&self) -> XdpAction {
        XdpAction(self.retval.cast_signed())
    }

    /// The answer of a tc program.
    #[must_use]
    pub const fn tc(&self) -> TcAction {
        TcAction(self.retval.cast_signed())
    }
}

/// A program may make a packet longer: room for that much more.
const GROWTH: usize = 512;

impl Prog {
    /// Runs the program on given input, without any hook. Linux 4.12.
    ///
    /// ```no_run
    /// # use bpfsmith_asm::dsl::*;
    /// # use bpfsmith_prog::Load;
    /// # let program = Program::new(ProgType::XDP, "pass", code![ret(XDP_PASS)])?;
    /// let prog = Load::new(&program).load()?;
    /// let outcome = prog.run().data(&[0; 64]).go()?;
    /// assert_eq!(outcome.xdp(), XdpAction::PASS);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn run(&self) -> Run<'_> {
        Run {
            prog: self,
            data: &[],
            ctx: Vec::new(),
            room: None,
            repeat: 0,
            flags: 0,
            cpu: 0,
            batch: 0,
        }
    }
}

impl<'a> Run<'a> {
    /// On this packet: for XDP, tc and the like 14 bytes at least.
    pub fn data(mut self, data: &'a [u8]) -> Run<'a> {
        self.data = data;
        self
    }

    /// With this context, as the kernel lays it out for the program type.
    pub fn ctx(mut self, ctx: impl Into<Vec<u8>>) -> Run<'a> {
        self.ctx = ctx.into();
        self
    }

    /// With this much room for the packet afterwards, if not its length and 512 bytes more; 0 throws
    /// it away.
    pub fn room(mut self, bytes: usize) -> Run<'a> {
        self.room = Some(bytes);
        self
    }

    /// So many times, and the average time counts. Changes to the packet add up.
    pub fn repeat(mut self, times: u32) -> Run<'a> {
        self.repeat = times;
        self
    }

    /// On this CPU. Only for raw tracepoints. Linux 5.10.
    pub fn cpu(mut self, cpu: u32) -> Run<'a> {
        self.flags |= test_run::BPF_F_TEST_RUN_ON_CPU;
        self.cpu = cpu;
        self
    }

    /// With a tc program, as a packet whose checksum a device has computed: it fails with `EBADMSG` if
    /// the program leaves another packet than the checksum is of. Linux 6.15.
    pub fn summed(mut self) -> Run<'a> {
        self.flags |= test_run::BPF_F_TEST_SKB_CHECKSUM_COMPLETE;
        self
    }

    /// With an XDP program, as real frames that go where it sends them, so many at once (0: 64). The
    /// context must name the device they seem to come from. Linux 5.18.
    pub fn live(mut self, batch: u32) -> Run<'a> {
        self.flags |= test_run::BPF_F_TEST_XDP_LIVE_FRAMES;
        self.batch = batch;
        self.room(0)
    }

    /// Runs it.
    ///
    /// # Errors
    /// `ENOTSUPP` for types that cannot be run so; `EINVAL` when packet or context do not suit
    /// the type; `ENOSPC` when the packet grew beyond the room.
    pub fn go(self) -> Result<Outcome> {
        let grown = match self.data.len() {
            0 => 0,
            length => length + GROWTH,
        };
        let mut data = vec![0; self.room.unwrap_or(grown)];
        // A `SYSCALL` program writes to the context it was given; others to a second one.
        let mut ctx = self.ctx.clone();
        // Live frames go elsewhere: the kernel refuses to give back what became of them.
        let is_live = self.flags & test_run::BPF_F_TEST_XDP_LIVE_FRAMES != 0;
        let returned = match self.prog.returns_ctx() && !is_live {
            true => ctx.len(),
            false => 0,
        };
        let mut after = vec![0; returned];
        let ran = sys::test_run(
            self.prog.as_fd(),
            &mut sys::TestRun {
                data: self.data,
                data_out: &mut data,
                ctx: &mut ctx,
                ctx_out: &mut after,
                repeat: self.repeat,
                flags: self.flags,
                cpu: self.cpu,
                batch: self.batch,
            },
        );
        let ran = ran.map_err(|(failed, _)| Error::call(failed, "run", self.prog.quoted()))?;
        data.truncate(ran.data as usize);
        Ok(Outcome {
            retval: ran.retval,
            duration: Duration::from_nanos(ran.nanos.into()),
            data,
            ctx: if after.is_empty() { ctx } else { after },
        })
    }
}
