//! Where packets are tried: a proxy's programs, run on one packet after the other.

use crate::support::world::World;
use bpfsmith_asm::dsl::{__sk_buff, Field, ProgType, Program, XDP_PASS, code, ret, xdp_md};
use bpfsmith_datapath::config::{Config, Family};
use bpfsmith_datapath::flows::{Bucket, Flows};
use bpfsmith_datapath::generation::Generation;
use bpfsmith_datapath::layout::{Bucket4, Bucket6, Word};
use bpfsmith_datapath::programs::{Hook, Usual};
use bpfsmith_datapath::reason::Reason;
use bpfsmith_datapath::shape::Path;
use bpfsmith_maps::{Map, View};
use bpfsmith_net::IfIndex;
use bpfsmith_prog::target::Xdp;
use bpfsmith_prog::{Link, Load, Prog};
use bpfsmith_uapi::map::MapDef;
use std::collections::BTreeMap;
use std::time::Duration;

/// By which of the proxy's devices a packet comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// From clients.
    Front,
    /// From that backend.
    Back(u8),
}

/// What a program did with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Sent,
    Passed,
    Dropped,
    Other(u32),
}

/// What became of a packet.
#[derive(Clone, Debug)]
pub(crate) struct Out {
    pub(crate) verdict: Verdict,
    pub(crate) frame: Vec<u8>,
    /// By how much each counter rose, those that did.
    pub(crate) counts: BTreeMap<Reason, u64>,
}

/// The machines, with programs at the devices of the proxy, without which none can be named.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) world: World,
    _links: Vec<Link>,
}

impl Ground {
    /// A client and three backends.
    pub(crate) fn new() -> Ground {
        Ground::of(World::new(1, 3))
    }

    pub(crate) fn of(world: World) -> Ground {
        let pass = Program::new(ProgType::XDP, "pass", code![ret(XDP_PASS)]).unwrap();
        let pass = Load::new(&pass).load().unwrap();
        let proxy = &world.proxy;
        let devices: Vec<IfIndex> = [&proxy.front]
            .into_iter()
            .chain(&proxy.backs)
            .map(|port| port.index)
            .collect();
        let attach = || {
            let each = devices.iter().map(|device| {
                let native = Xdp::on(*device).native();
                pass.attach(&native).unwrap()
            });
            each.collect()
        };
        let links = proxy.node.run(attach).unwrap();
        Ground {
            world,
            _links: links,
        }
    }

    pub(crate) fn device(&self, at: At) -> IfIndex {
        match at {
            At::Front => self.world.proxy.front.index,
            At::Back(n) => self.world.proxy.backs[usize::from(n)].index,
        }
    }
}

/// A generation and its program for one hook. Methods that run it must be called in the proxy's
/// namespace.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    pub(crate) ground: &'a Ground,
    pub(crate) hook: Hook,
    pub(crate) generation: Generation,
    prog: Prog,
    counters: BTreeMap<Reason, u64>,
    /// The kernel compares what a tc program leaves with the sum that a device computed. It forgets that
    /// sum when a packet gets shorter, but compares all the same.
    pub(crate) is_summed: bool,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(ground: &'a Ground, hook: Hook, config: &Config) -> Stage<'a> {
        let generation = Generation::first(config).unwrap_or_else(|error| panic!("{error:#}"));
        let prog = loaded(&generation, hook);
        let counters = generation.counters().unwrap();
        Stage {
            ground,
            hook,
            generation,
            prog,
            counters,
            is_summed: sums_are_judged(),
        }
    }

    /// Another configuration takes over.
    pub(crate) fn change(&mut self, config: &Config) {
        let next = self.generation.next(config);
        self.generation = next.unwrap_or_else(|error| panic!("{error:#}"));
        self.prog = loaded(&self.generation, self.hook);
    }

    /// The same generation at another hook.
    #[allow(dead_code, reason = "one of the test binaries uses it")]
    pub(crate) fn swap(&mut self, hook: Hook) {
        self.hook = hook;
        self.prog = loaded(&self.generation, hook);
    }

    /// What becomes of a packet.
    pub(crate) fn send(&mut self, at: At, frame: &[u8]) -> Out {
        self.send_cut(at, frame, 0)
    }

    /// What becomes of a packet which the kernel will cut into pieces that carry so many bytes; TCX
    /// only.
    pub(crate) fn send_cut(&mut self, at: At, frame: &[u8], pieces: u32) -> Out {
        let device = self.ground.device(at);
        let ctx = match self.hook {
            Hook::Xdp => {
                let end = u32::try_from(frame.len()).unwrap();
                context(
                    24,
                    &[
                        (xdp_md::data_end, end),
                        (xdp_md::ingress_ifindex, device.0),
                    ],
                )
            }
            _ => context(
                192,
                &[
                    (__sk_buff::ifindex, device.0),
                    (__sk_buff::gso_size, pieces),
                ],
            ),
        };
        let run = self.prog.run().data(frame).ctx(ctx);
        let run = match self.hook == Hook::Tcx && pieces == 0 && self.is_summed {
            true => run.summed(),
            false => run,
        };
        let ran = run.go();
        let ran = ran.unwrap_or_else(|error| panic!("{error:#}"));
        let verdict = match (self.hook, ran.retval.cast_signed()) {
            (Hook::Xdp, 4) | (Hook::Tcx, 7) => Verdict::Sent,
            (Hook::Xdp, 2) | (Hook::Tcx, -1) => Verdict::Passed,
            (Hook::Xdp, 1) | (Hook::Tcx, 2) => Verdict::Dropped,
            _ => Verdict::Other(ran.retval),
        };
        Out {
            verdict,
            frame: ran.data,
            counts: self.counted(),
        }
    }

    /// What was counted since this was asked before.
    fn counted(&mut self) -> BTreeMap<Reason, u64> {
        let now = self.generation.counters().unwrap();
        let before = std::mem::replace(&mut self.counters, now.clone());
        now.into_iter()
            .map(|(reason, count)| (reason, count - before[&reason]))
            .filter(|(_, more)| *more > 0)
            .collect()
    }

    /// No flow is known any more.
    pub(crate) fn forget(&self) {
        for path in self.generation.shape().paths.clone() {
            match path.family {
                Family::V4 => self.flows(path, |flows: &mut Flows<Bucket4>| flows.clear()),
                Family::V6 => self.flows(path, |flows: &mut Flows<Bucket6>| flows.clear()),
            }
        }
    }

    /// Makes all flows look as if they were seen an hour from now: until its next packet none is old, however long this
    /// machine takes until then.
    pub(crate) fn stay_young(&self) {
        let shape = self.generation.shape();
        let hour = shape.clock.ticks(Duration::from_secs(3600)).unsigned_abs();
        for path in shape.paths.clone() {
            match path.family {
                Family::V4 => self.flows(path, |flows: &mut Flows<Bucket4>| {
                    for (key, mut flow) in flows.iter().collect::<Vec<_>>() {
                        flow.seen = flow.seen.wrapping_add(hour);
                        assert!(flows.change(&key, &flow));
                    }
                }),
                Family::V6 => self.flows(path, |flows: &mut Flows<Bucket6>| {
                    for (key, mut flow) in flows.iter().collect::<Vec<_>>() {
                        flow.seen = flow.seen.wrapping_add(hour);
                        assert!(flows.change(&key, &flow));
                    }
                }),
            }
        }
    }

    /// Changes a table of flows while no packet comes.
    pub(crate) fn flows<B, T>(&self, path: Path, change: impl FnOnce(&mut Flows<B>) -> T) -> T
    where
        B: Bucket,
        Map<u32, B>: View<MapDef<u32, B>>,
    {
        let maps = self.generation.maps();
        let mut flows = Flows::read(maps, path).unwrap();
        let result = change(&mut flows);
        flows.write(maps, path).unwrap();
        result
    }

    /// How many entries the table of flows has that are established, and that nobody answered.
    pub(crate) fn entries(&self, path: Path) -> [usize; 2] {
        let maps = self.generation.maps();
        let words: Vec<Word> = match path.family {
            Family::V4 => {
                let flows = Flows::<Bucket4>::read(maps, path).unwrap();
                flows.iter().map(|(_, flow)| Word(flow.word)).collect()
            }
            Family::V6 => {
                let flows = Flows::<Bucket6>::read(maps, path).unwrap();
                flows.iter().map(|(_, flow)| Word(flow.word)).collect()
            }
        };
        let half = words.iter().filter(|word| word.is_half()).count();
        [words.len() - half, half]
    }
}

fn loaded(generation: &Generation, hook: Hook) -> Prog {
    generation
        .load(hook, Usual::Device)
        .unwrap_or_else(|error| panic!("{error:#}"))
}

/// Whether the kernel can do that. Linux 6.15.
pub(crate) fn sums_are_judged() -> bool {
    let version = bpfsmith_gate::version();
    (version.major, version.minor) >= (6, 15)
}

/// A context with these words.
fn context(bytes: usize, words: &[(Field, u32)]) -> Vec<u8> {
    let mut ctx = vec![0; bytes];
    for (field, value) in words {
        let at = usize::from(field.offset);
        ctx[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }
    ctx
}
