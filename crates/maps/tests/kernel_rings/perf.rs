//! A ring for each CPU.

use crate::fill::{Producer, State};
use bpfsmith_asm::dsl::*;
use bpfsmith_gate::{deadline, needs};
use bpfsmith_maps::{Direction, Handle, PerfBuffer, PerfOptions, Problem, Skip, Wakeup};
use std::time::Duration;

static EVENTS: MapDef<u32, u32> = MapDef::new(MapType::PERF_EVENT_ARRAY, "bs_rings_perf", 64);

/// Writes the number, and as many bytes behind it as its last 5 bits say.
fn output() -> Code {
    let bytes = slot::<[u64; 5]>("bytes");
    code![
        (1..5).map(|index| store(bytes.u64(index * 8), -1)),
        store(bytes.u64(0), R7),
        mov(R5, R7),
        and(R5, 31),
        add(R5, 8),
        lddw(R3, 0xffff_ffff_u64),
        perf_event_output(R9, &EVENTS, R3, bytes, R5),
        W0.ne(0).then(ret(0)),
        add(R7, 1),
        store(R6.u64(0), R7),
    ]
}

fn pair(options: &PerfOptions) -> (PerfBuffer, Producer) {
    let events = Handle::create(EVENTS.shape()).unwrap();
    let program = Producer::of(output(), &[("bs_rings_perf", &events)]);
    (PerfBuffer::new(events, options).unwrap(), program)
}

fn number(bytes: &[u8]) -> u64 {
    let number = u64::from_ne_bytes(*bytes.first_chunk().unwrap());
    let len = usize::try_from(number % 32 + 8).unwrap();
    // A length of 4 bytes and the rest make a multiple of 8.
    assert_eq!(bytes.len(), (len + 4).next_multiple_of(8) - 4);
    assert!(bytes[8..len].iter().all(|&byte| byte == 0xff));
    number
}

fn counted(buffer: &PerfBuffer) -> (u64, u64) {
    let lost = buffer.lost().unwrap();
    let counted = lost.iter().map(|lost| lost.counted.unwrap());
    (lost.iter().map(|lost| lost.told).sum(), counted.sum())
}

#[test]
fn samples_arrive_whole_also_over_the_end_of_the_ring() {
    needs!(Root, PerfEvents);
    let options = PerfOptions {
        pages: 1,
        ..PerfOptions::default()
    };
    let (mut buffer, program) = pair(&options);
    let mut seen = Vec::new();
    for _ in 0..500 {
        program.run(40);
        let samples = buffer.poll(Some(Duration::from_secs(30)), |sample| {
            seen.push((number(sample.bytes), sample.cpu));
        });
        assert!(samples.unwrap() > 0);
        // What another CPU wrote when the thread moved.
        buffer
            .consume(|sample| seen.push((number(sample.bytes), sample.cpu)))
            .unwrap();
    }
    seen.sort_unstable();
    let numbers: Vec<u64> = seen.iter().map(|seen| seen.0).collect();
    assert_eq!(numbers, (0..20_000).collect::<Vec<_>>());
    let cpus: Vec<u32> = buffer.cpus().collect();
    assert!(seen.iter().all(|seen| cpus.contains(&seen.1)));
    assert_eq!((counted(&buffer), buffer.others()), ((0, 0), 0));
}

#[test]
fn losses_are_counted_exactly() {
    needs!(Root, PerfEvents);
    let options = PerfOptions {
        pages: 1,
        wakeup: Wakeup::Bytes(2048),
        direction: Direction::Forward,
    };
    let (mut buffer, program) = pair(&options);
    program.run(1000);
    let written = program.state().next;
    let (_, lost) = counted(&buffer);
    assert_eq!(written + lost, 1000);
    assert!(lost > 500, "{lost}");
    let mut next = 0;
    let mut read = buffer.consume(|_| next += 1).unwrap();
    assert_eq!((read, next), (written, written));
    // The kernel tells of losses together with the next sample of that CPU.
    deadline(Duration::from_secs(60), || {
        program.run(1);
        read += buffer.consume(|_| ()).unwrap();
        (counted(&buffer).0 == lost).then_some(())
    });
    assert_eq!((counted(&buffer), buffer.others()), ((lost, lost), 0));
    assert_eq!(read, program.state().next);
}

#[test]
fn a_ring_written_backward_keeps_the_newest() {
    needs!(Root, PerfEvents);
    let options = PerfOptions {
        pages: 1,
        wakeup: Wakeup::Samples(0),
        direction: Direction::Backward,
    };
    let (mut buffer, program) = pair(&options);
    for total in [3, 100, 5000, 10_000] {
        let state = program.state();
        program.run(u32::try_from(total - state.next).unwrap());
        assert_eq!(
            program.state(),
            State {
                next: total,
                flags: 0
            }
        );
        buffer.pause().unwrap();
        let mut seen: Vec<(u32, u64)> = Vec::new();
        buffer.newest(|sample| seen.push((sample.cpu, number(sample.bytes))));
        // Each CPU's go down, and together they are the last ones without a gap.
        assert!(
            seen.windows(2)
                .all(|two| two[0].0 != two[1].0 || two[0].1 > two[1].1)
        );
        let mut numbers: Vec<u64> = seen.iter().map(|seen| seen.1).collect();
        numbers.sort_unstable();
        assert_eq!(numbers.last(), Some(&(total - 1)));
        assert!(
            numbers.len() >= usize::try_from(total.min(50)).unwrap(),
            "{}",
            numbers.len()
        );
        // A program cannot write to what is paused.
        program.run(1);
        assert_eq!(program.state().next, total);
        buffer.resume().unwrap();
    }
    assert_eq!(buffer.consume(|_| ()).unwrap(), 0);
}

#[test]
fn cpus_without_an_element_are_reported() {
    needs!(Root, PerfEvents);
    let def: MapDef<u32, u32> = MapDef::new(MapType::PERF_EVENT_ARRAY, "bs_rings_one", 1);
    let possible = bpfsmith_sys::possible_cpus().unwrap().count();
    let handle = Handle::create(def.shape()).unwrap();
    let buffer = PerfBuffer::new(handle, &PerfOptions::default()).unwrap();
    assert_eq!(buffer.cpus().collect::<Vec<_>>(), [0]);
    let beyond: Vec<_> = (1..possible).map(|cpu| (cpu, Skip::BeyondMap)).collect();
    assert_eq!(buffer.skipped(), beyond);
    let handle = buffer.close().unwrap();
    assert!(
        handle.raw().delete(&[0; 4]).is_err(),
        "the element is gone already"
    );
    let odd = PerfOptions {
        pages: 3,
        ..PerfOptions::default()
    };
    let error = PerfBuffer::new(handle, &odd).unwrap_err();
    assert!(error.to_string().contains("power of two"), "{error}");
    let array = Handle::create(MapDef::<u32, u32>::array("bs_rings_array", 1).shape()).unwrap();
    let wrong = PerfBuffer::new(array, &odd).unwrap_err();
    assert_eq!(wrong.problem(), &Problem::Kind { view: "Map" });
}
