//! XDP hands packets to other CPUs: they are counted where they were sent, and what a queue loses
//! is told.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

mod cpumap_bench;
mod net_bench;

use bpfsmith_asm::dsl::*;
use bpfsmith_asm::kit::redirect::{self, Otherwise};
use bpfsmith_gate::{deadline, needs};
use bpfsmith_maps::{Problem, Target, TargetMap};
use bpfsmith_prog::target::{Tcx, Xdp};
use bpfsmith_prog::{Load, Maps};
use cpumap_bench::*;
use net_bench::{Bench, LIMIT, load_to, value};
use std::collections::BTreeMap;

fn by_flow(none: Label) -> Code {
    code![
        mov(P.cursor, P.data),
        redirect::flow_hash(P, none)
    ]
}

#[test]
fn a_queue_is_made_as_long_as_it_was_told() {
    needs!(Root, CpumapProg);
    let (maps, _) = balancer(|_| code![mov(R0, 0)]);
    let cpus = cpus(&maps);
    cpus.set(0, 2048).unwrap();
    let plain = Target {
        number: 2048,
        prog: 0,
    };
    assert_eq!(cpus.lookup(0).unwrap(), Some(plain));
    // The queue of an entry that is there is replaced by one of another length.
    let prog = arrival(&maps, XDP_PASS);
    cpus.set_with(0, 16384, &prog).unwrap();
    let with = Target {
        number: 16384,
        prog: net_bench::id(&prog),
    };
    assert_eq!(cpus.lookup(0).unwrap(), Some(with));
    assert!(cpus.delete(0).unwrap());
    assert_eq!(cpus.lookup(0).unwrap(), None);
}

#[test]
fn without_an_entry_the_other_action_is_taken() {
    needs!(Root, Bpf);
    static NO_CPUS: MapDef<u32, u32> = MapDef::new(MapType::CPUMAP, "no_cpus", 2);
    static NO_DEVICES: MapDef<u32, u32> = MapDef::new(MapType::DEVMAP, "no_devices", 2);
    for map in [&NO_CPUS, &NO_DEVICES] {
        for (otherwise, action) in [
            (Otherwise::Abort, XdpAction::ABORTED),
            (Otherwise::Drop, XdpAction::DROP),
            (Otherwise::Pass, XdpAction::PASS),
            (Otherwise::Transmit, XdpAction::TX),
        ] {
            let code = code![
                redirect::to_map(map, 0, otherwise),
                exit()
            ];
            let program = Program::new(ProgType::XDP, "otherwise", code).unwrap();
            let maps = Maps::of(&program).unwrap();
            let prog = Load::new(&program).maps(&maps).load().unwrap();
            let run = || prog.run().data(&udp_frame()).go().unwrap().xdp();
            assert_eq!(run(), action, "{otherwise:?}");
            // A queue of one place, or the device with the number 1.
            let targets: TargetMap<u32> = maps.open(map).unwrap();
            targets.set(0, 1).unwrap();
            assert_eq!(run(), XdpAction::REDIRECT, "{otherwise:?}");
        }
    }
}

#[track_caller]
fn refused(done: bpfsmith_maps::Result<()>, problem: &Problem, advice: &str) {
    let error = done.unwrap_err();
    assert_eq!(error.problem(), problem, "{error}");
    let text = error.to_string();
    assert!(
        text.starts_with("BPF_MAP_UPDATE_ELEM BPF_MAP_TYPE_CPUMAP \"cpus\"")
            && text.contains(advice)
            && !text.contains('\n'),
        "{text}"
    );
}

#[test]
fn what_cannot_be_an_entry_is_refused_with_advice() {
    needs!(Root, CpumapProg, XdpFrags);
    let (maps, balancer) = balancer(|_| code![mov(R0, 0)]);
    let cpus = cpus(&maps);
    cpus.set(0, 64).unwrap();
    refused(cpus.set(0, 0), &Problem::Nowhere, "with delete");
    assert!(cpus.lookup(0).unwrap().is_some(), "0 has deleted");
    let kernel = Problem::Kernel;
    refused(
        cpus.set(0, 16385),
        &kernel(Errno::EOVERFLOW),
        "at most 16384",
    );
    refused(cpus.set(63, 64), &kernel(Errno::ENODEV), "that CPU");
    refused(cpus.set(64, 64), &kernel(Errno::E2BIG), "behind the end");
    // The program of a device, one of another kind, and one for packets of several buffers.
    let program = Program::new(ProgType::SOCKET_FILTER, "other", code![ret(0)]).unwrap();
    let other = Load::new(&program).load().unwrap();
    let program = arrival_program(XDP_PASS);
    let load = Load::new(&program).maps(&maps);
    let frags = load.attach_type(AttachType::XDP_CPUMAP).frags();
    let frags = frags.load().unwrap();
    for prog in [&balancer, &other, &frags] {
        let done = cpus.set_with(0, 64, prog);
        refused(done, &kernel(Errno::ENOMEM), "no XDP_CPUMAP program");
    }
    assert_eq!(cpus.lookup(0).unwrap().map(|entry| entry.number), Some(64));
}

#[test]
fn programs_that_share_a_map_take_the_same_packets() {
    needs!(Root, CpumapProg, XdpFrags);
    let (maps, _plain) = balancer(|_| code![mov(R0, 0)]);
    let program = to_first();
    let load = Load::new(&program).maps(&maps);
    let error = load.frags().load().unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EINVAL));
    assert!(error.to_string().contains("Load::frags()"), "{error}");
    Load::new(&program).maps(&maps).load().unwrap();
}

#[test]
fn packets_are_counted_on_the_cpu_that_was_chosen() {
    needs!(Root, NetNs, Veth, XdpLink, CpumapProg, TwoCpus);
    for cpu in BOTH {
        let (maps, prog) = balancer(|_| code![mov(R0, cpu)]);
        let prog_there = arrival(&maps, XDP_PASS);
        cpus(&maps).set_with(cpu, 2048, &prog_there).unwrap();
        let mut bench = plain_bench();
        let on = Xdp::on(bench.index()).native();
        let _link = bench.attach(&prog, &on).unwrap();
        for _ in 0..100 {
            bench.check_arrives();
        }
        let by_cpu = by_cpu(&arrived(&maps));
        assert_eq!(by_cpu, BTreeMap::from([(cpu, 100)]));
    }
}

#[test]
fn the_network_stack_goes_on_there() {
    needs!(Root, NetNs, Veth, XdpLink, Tcx, TwoCpus);
    static IN_STACK: MapDef<u32, u64> = MapDef::array("in_stack", 64);
    let cpu_key = slot::<u32>("cpu");
    let on_cpu = code![
        load(R2, R1.get(__sk_buff::len)),
        R2.eq(14 + 20 + 8 + 77).then(code![
            get_smp_processor_id(),
            store(cpu_key.u32(0), R0),
            kit::map::count(&IN_STACK, cpu_key, 1),
        ]),
        ret(TCX_NEXT),
    ];
    let mut bench = plain_bench();
    let device = Tcx::ingress(bench.index());
    let mut stack = Maps::new();
    let counter = load_to(&device, ProgType::SCHED_CLS, "in_stack", on_cpu, &mut stack);
    let _counting = bench.attach(&counter, &device).unwrap();
    for (cpu, idle) in [(0, 1), (1, 0)] {
        let (maps, prog) = balancer(|_| code![mov(R0, cpu)]);
        cpus(&maps).set(cpu, 192).unwrap();
        let before = [cpu, idle].map(|cpu| value(&stack, &IN_STACK, cpu));
        let on = Xdp::on(bench.index()).native();
        let _link = bench.attach(&prog, &on).unwrap();
        for _ in 0..50 {
            bench.check_arrives();
        }
        let after = [cpu, idle].map(|cpu| value(&stack, &IN_STACK, cpu));
        assert_eq!(after, [before[0] + 50, before[1]]);
    }
}

#[test]
fn the_program_there_drops_and_a_missing_entry_passes() {
    needs!(Root, NetNs, Veth, XdpLink, CpumapProg);
    let (maps, prog) = balancer(|_| code![mov(R0, 0)]);
    let cpus = cpus(&maps);
    let drops = arrival(&maps, XDP_DROP);
    let mut bench = plain_bench();
    let on = Xdp::on(bench.index()).native();
    let _link = bench.attach(&prog, &on).unwrap();
    bench.check_arrives();
    assert_eq!(arrived(&maps), BTreeMap::new(), "no CPU has an entry");
    cpus.set_with(0, 192, &drops).unwrap();
    for count in 1..=10 {
        bench.send();
        deadline(LIMIT, || (total(&maps) == count).then_some(()));
    }
    assert!(cpus.delete(0).unwrap());
    bench.check_arrives();
    cpus.set(0, 192).unwrap();
    bench.check_arrives();
    assert_eq!(total(&maps), 10);
}

#[test]
fn a_flow_stays_on_its_cpu_and_flows_spread() {
    needs!(Root, NetNs, Veth, XdpLink, CpumapProg, TwoCpus);
    let (maps, prog) = balancer(|none| {
        code![
            by_flow(none),
            redirect::by_table(&SHARES, none)
        ]
    });
    queues(&maps);
    Table::new(&maps).share_out([1, 1]);
    let bench = plain_bench();
    let _link = bench.attach(&prog, &Xdp::on(bench.index())).unwrap();
    let flows = Flows::new(&bench, 64);
    for _ in 0..5 {
        flows.send_and_receive(&bench);
    }
    let arrived = arrived(&maps);
    assert_eq!(arrived.len(), 64, "a flow was on two CPUs: {arrived:?}");
    assert!(arrived.values().all(|count| *count == 5), "{arrived:?}");
    for (cpu, count) in by_cpu(&arrived) {
        assert!(BOTH.contains(&cpu) && count >= 64, "{cpu}: {count}");
    }
}

#[test]
fn a_share_of_the_hash_is_a_cpu() {
    needs!(Root, NetNs, Veth, XdpLink, CpumapProg, TwoCpus);
    let (maps, prog) = balancer(|none| code![by_flow(none), redirect::share(R0, 2)]);
    queues(&maps);
    let bench = plain_bench();
    let _link = bench.attach(&prog, &Xdp::on(bench.index())).unwrap();
    let flows = Flows::new(&bench, 64);
    flows.send_and_receive(&bench);
    let arrived = arrived(&maps);
    assert_eq!(arrived.len(), 64);
    assert_eq!(by_cpu(&arrived).len(), 2, "{arrived:?}");
}

#[test]
fn in_turn_one_flow_is_on_all_cpus() {
    needs!(Root, NetNs, Veth, XdpLink, CpumapProg, TwoCpus);
    let (maps, prog) = balancer(|_| redirect::in_turn(&TURNS, 2));
    queues(&maps);
    let mut bench = plain_bench();
    let _link = bench.attach(&prog, &Xdp::on(bench.index())).unwrap();
    for _ in 0..100 {
        bench.check_arrives();
    }
    let by_cpu = by_cpu(&arrived(&maps));
    let counts = BOTH.map(|cpu| by_cpu[&cpu]);
    // Each receiving CPU goes round by itself, and may stop in the middle.
    assert_eq!(counts[0] + counts[1], 100);
    assert!(counts[0].abs_diff(counts[1]) <= 2, "{counts:?}");
}

#[test]
fn weights_change_while_packets_flow() {
    needs!(Root, NetNs, Veth, XdpLink, CpumapProg, TwoCpus);
    let (maps, prog) = balancer(|none| {
        code![
            by_flow(none),
            redirect::by_table(&SHARES, none)
        ]
    });
    queues(&maps);
    let mut table = Table::new(&maps);
    let bench = plain_bench();
    let _link = bench.attach(&prog, &Xdp::on(bench.index())).unwrap();
    let flows = Flows::new(&bench, 64);
    let mut placed = |weights| {
        table.share_out(weights);
        forget(&maps);
        flows.send_and_receive(&bench);
        let arrived = arrived(&maps);
        assert_eq!(arrived.len(), 64, "{arrived:?}");
        arrived.into_keys().collect::<BTreeMap<_, _>>()
    };
    for (weights, cpu) in [([1, 0], 0), ([0, 1], 1)] {
        assert!(placed(weights).values().all(|on| *on == cpu));
    }
    let even = placed([1, 1]);
    let uneven = placed([3, 1]);
    let on_first = |placed: &BTreeMap<_, _>| placed.values().filter(|cpu| **cpu == 0).count();
    assert!((16..=48).contains(&on_first(&even)), "{even:?}");
    assert!((40..=56).contains(&on_first(&uneven)), "{uneven:?}");
    // Who was on the first stays, and some of the others came.
    for (flow, cpu) in &even {
        assert!(*cpu == 1 || uneven[flow] == 0, "{flow} has moved away");
    }
    assert_eq!(placed([1, 1]).len(), even.len());
}

/// What a sender leaves to its device is lost with a native frame: the stack finds a wrong
/// checksum.
#[test]
fn checksums_left_to_the_sender_s_device_are_lost() {
    needs!(Root, NetNs, Veth, XdpLink, CpumapProg);
    let (maps, prog) = balancer(|_| code![mov(R0, 0)]);
    let prog_there = arrival(&maps, XDP_PASS);
    cpus(&maps).set_with(0, 192, &prog_there).unwrap();
    let mut bench = Bench::new();
    let on = Xdp::on(bench.index());
    let link = bench.attach(&prog, &on.native()).unwrap();
    let wrong = wrong_checksums(&bench);
    for _ in 0..20 {
        bench.send();
    }
    // The stack looks at them when somebody wants to read.
    bench.server.set_nonblocking(true).unwrap();
    deadline(LIMIT, || {
        assert!(bench.server.recv(&mut [0; 80]).is_err(), "one arrived");
        (wrong_checksums(&bench) == wrong + 20).then_some(())
    });
    assert_eq!(total(&maps), 20, "they were on the CPU all the same");
    bench.server.set_nonblocking(false).unwrap();
    compute_checksums(&bench);
    bench.check_arrives();
    link.detach().unwrap();

    // Behind the driver a packet remembers what is still to do.
    let mut bench = Bench::new();
    let on = Xdp::on(bench.index());
    let _link = bench.attach(&prog, &on.generic()).unwrap();
    for _ in 0..20 {
        bench.check_arrives();
    }
    assert_eq!((total(&maps), wrong_checksums(&bench)), (41, 0));
}

#[test]
fn trace_events_count_what_was_sent() {
    needs!(Root, NetNs, Veth, XdpLink, CpumapProg, TpBtf);
    const SENT: u64 = 200;
    for (verdict, at) in [(XDP_PASS, PASSED), (XDP_DROP, DROPPED)] {
        let (maps, prog) = balancer(|_| code![mov(R0, 0)]);
        let prog_there = arrival(&maps, verdict);
        cpus(&maps).set_with(0, 2048, &prog_there).unwrap();
        let mut bench = plain_bench();
        let statistics = Statistics::of(&maps);
        let _link = bench.attach(&prog, &Xdp::on(bench.index())).unwrap();
        for _ in 0..SENT {
            bench.send();
        }
        // The kernel tells of packets that are already on their way.
        let told = deadline(LIMIT, || {
            let told = [OFFERED, TAKEN, at].map(|index| statistics.at(index));
            (told.iter().min() >= Some(&SENT)).then_some(told)
        });
        assert_eq!(told, [SENT; 3]);
        let lost = [QUEUE_DROPS, TAKE_DROPS, ERRORS];
        assert_eq!(lost.map(|index| statistics.at(index)), [0; 3]);
        assert_eq!(statistics.at(PASSED) + statistics.at(DROPPED), SENT);
    }
}

/// Frames that come faster than their CPU takes them: what the queue has no room for is counted.
#[test]
fn a_full_queue_loses_frames_and_tells() {
    needs!(Root, NetNs, Veth, XdpLink, CpumapProg, TpBtf, LiveFrames);
    const SENT: u32 = 640;
    let (maps, prog) = balancer(|_| code![mov(R0, 0)]);
    let prog_there = arrival(&maps, XDP_DROP);
    cpus(&maps).set_with(0, 4, &prog_there).unwrap();
    let bench = plain_bench();
    let statistics = Statistics::of(&maps);
    let frame = udp_frame();
    let mut context = vec![0; 24];
    let end = u32::try_from(frame.len()).unwrap();
    context[4..8].copy_from_slice(&end.to_ne_bytes());
    context[12..16].copy_from_slice(&bench.index().0.to_ne_bytes());
    let run = || {
        prog.run()
            .data(&frame)
            .ctx(context)
            .live(64)
            .repeat(SENT)
            .go()
    };
    bench.net.server.run(run).unwrap().unwrap();
    let sent = u64::from(SENT);
    assert_eq!(statistics.at(OFFERED), sent);
    // Eight frames go at once, and the queue has room for four.
    assert!(statistics.at(QUEUE_DROPS) >= sent / 2);
    let queued = sent - statistics.at(QUEUE_DROPS);
    deadline(LIMIT, || (statistics.at(DROPPED) == queued).then_some(()));
    assert_eq!((statistics.at(TAKEN), total(&maps)), (queued, queued));
}

/// Behind the driver, frames go one by one, and one that finds no room is an error of its own.
#[test]
fn a_frame_without_room_is_an_error_of_the_redirection() {
    needs!(Root, NetNs, Veth, XdpLink, CpumapProg, TpBtf);
    let (maps, prog) = balancer(|_| code![mov(R0, 0)]);
    let prog_there = arrival(&maps, XDP_DROP);
    cpus(&maps).set_with(0, 1, &prog_there).unwrap();
    let mut bench = plain_bench();
    let statistics = Statistics::of(&maps);
    let on = Xdp::on(bench.index()).generic();
    let _link = bench.attach(&prog, &on).unwrap();
    let mut sent = 0;
    deadline(LIMIT, || {
        for _ in 0..500 {
            bench.send();
        }
        sent += 500;
        (statistics.at(ERRORS) > 0).then_some(())
    });
    deadline(LIMIT, || {
        (total(&maps) + statistics.at(ERRORS) == sent).then_some(())
    });
    let no_room = u64::try_from(Errno::ENOSPC.0).unwrap();
    let errors = statistics.at(ERRORS);
    assert_eq!(statistics.at(ERROR_SUM), errors * no_room);
}
