//! XDP sockets that come and go leave nothing behind. A test program of its own, because it counts
//! what the process has.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

mod net_bench;
mod xsk_bench;

use bpfsmith_gate::{needs, open_fds, rounds};
use bpfsmith_sys::xsk::{Layout, Plan, Umem};
use xsk_bench::*;

const QUEUES: u32 = 8;

/// How many kilobytes this process has mapped.
fn mapped() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmSize:"));
    let number = line.unwrap().split_whitespace().nth(1);
    number.unwrap().parse().unwrap()
}

/// Opens a socket, receives with it where packets come, and closes it with frames on both ways.
fn cycle(bench: &XskBench, number: u32) {
    let umem = Umem::new(Layout::new(256)).unwrap();
    // In turn, because the kernel lets go of a queue a moment later.
    let queue = number % QUEUES;
    let plan = Plan::new(bench.device(), queue).receive(64).fill(128);
    let mut socket = bench.open(&plan, &umem);
    socket.fill(u32::MAX).unwrap();
    if queue == 0 {
        bench.connect(0, &socket);
        bench.check_taken(&mut socket, number);
    }
    let mut frame = umem.frame().unwrap();
    frame.write(&[0xff; 60]).unwrap();
    let mut frames = vec![frame];
    socket.send(&mut frames).unwrap();
    let held = umem.frame().unwrap();
    let left = socket.close();
    assert_eq!(
        (left.sending, left.receiving),
        (1, if queue == 0 { 127 } else { 128 })
    );
    // The memory stays as long as a frame does.
    drop(umem);
    assert!(held.is_empty());
}

#[test]
fn what_is_opened_is_closed() {
    needs!(Root, NetNs, Veth, XdpLink, Xsk);
    let bench = XskBench::of_queues(QUEUES);
    (0..QUEUES).for_each(|number| cycle(&bench, number));
    let (fds, size) = (open_fds(), mapped());
    (0..rounds(500)).for_each(|number| cycle(&bench, number));
    let opened = open_fds().opened_since(&fds);
    assert!(opened.is_empty(), "{opened}");
    // Each time a megabyte of frames was mapped, and rings; what is left is no more than one of them.
    let grown = mapped().saturating_sub(size);
    assert!(grown < 1024, "{grown} kB more");
}
