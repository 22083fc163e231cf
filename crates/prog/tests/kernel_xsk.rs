//! XDP sockets: frames arrive and leave byte for byte, in order, and what is lost is counted.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

mod net_bench;
mod xsk_bench;

use bpfsmith_asm::dsl::Errno;
use bpfsmith_gate::{deadline, needs, rounds};
use bpfsmith_maps::ObjectMap;
use bpfsmith_net::{Device, Kind, NetNs, Netlink, redirect_advice};
use bpfsmith_sys::xsk::{
    Copies, Layout, Mode, Plan, Problem, Socket, Statistics, Umem, Wait, Wakeup,
};
use net_bench::LIMIT;
use std::os::fd::AsFd;
use std::time::Duration;
use xsk_bench::*;

#[test]
fn thousands_of_frames_arrive_in_order_and_byte_for_byte() {
    needs!(Root, NetNs, Veth, XdpLink, Xsk);
    for wakeup in [Wakeup::Asked, Wakeup::Always] {
        let bench = XskBench::new();
        // Rings so short that all of them wrap around many times.
        let plan = bench.plan().receive(64).fill(64).wakeup(wakeup);
        let umem = Umem::new(Layout::new(64).size(2048)).unwrap();
        let mut socket = bench.open(&plan, &umem);
        bench.connect(0, &socket);
        let total = rounds(20_000);
        let mut next = 0;
        let mut frames = Vec::new();
        while next < total {
            socket.fill(u32::MAX).unwrap();
            let some = 32.min(total - next);
            for number in next..next + some {
                bench.send(number);
            }
            let end = next + some;
            while next < end {
                let is_there = socket.wait(Wait::Receive, LIMIT).unwrap();
                assert!(is_there, "frame {next} is missing");
                socket.receive(&mut frames, 7).unwrap();
                for frame in frames.drain(..) {
                    assert_eq!(payload_of(&frame), content(next));
                    next += 1;
                }
            }
        }
        assert_eq!(lost(&socket), Statistics::default());
        let census = umem.census();
        assert_eq!((census.held, census.sending), (0, 0));
        assert_eq!(census.free + census.receiving, 64);
        assert_eq!(socket.close().receiving, census.receiving);
    }
}

#[test]
fn frames_that_are_sent_arrive_at_a_socket() {
    needs!(Root, NetNs, Veth, XdpLink, Xsk);
    for wakeup in [Wakeup::Asked, Wakeup::Always] {
        let bench = XskBench::new();
        let umem = Umem::new(Layout::new(32).headroom(64)).unwrap();
        let plan = bench.plan().send(16).completion(16).receive(0);
        let mut socket = bench.open(&plan.wakeup(wakeup), &umem);
        let total = rounds(5000);
        let mut sent = 0;
        let mut arrived = 0;
        let mut frames = Vec::new();
        while arrived < total {
            while sent < total && frames.len() < 16 {
                let Some(mut frame) = umem.frame() else { break };
                // The payload first, and its headers in front of it.
                frame.write(&content(sent)).unwrap();
                frame.prepend(HEADERS).unwrap();
                let headers = bench.headers_to_client(content(sent).len());
                frame[..HEADERS].copy_from_slice(&headers);
                frames.push(frame);
                sent += 1;
            }
            socket.send(&mut frames).unwrap();
            socket.kick().unwrap();
            socket.reap().unwrap();
            while let Some(payload) = bench.receive_at_client() {
                assert_eq!(payload, content(arrived));
                arrived += 1;
            }
        }
        deadline(LIMIT, || {
            socket.reap().unwrap();
            (umem.census().free == 32).then_some(())
        });
        assert_eq!(socket.statistics().unwrap().invalid_send, 0);
    }
}

#[test]
fn a_received_frame_is_edited_and_sent_back() {
    needs!(Root, NetNs, Veth, XdpLink, Xsk);
    let bench = XskBench::new();
    let umem = Umem::new(Layout::new(16)).unwrap();
    let mut socket = bench.open(&bench.plan(), &umem);
    bench.connect(0, &socket);
    for number in 0..rounds(500) {
        socket.fill(u32::MAX).unwrap();
        bench.send(number);
        let mut frames = Vec::new();
        deadline(LIMIT, || {
            (socket.receive(&mut frames, 8).unwrap() == 1).then_some(())
        });
        turn_around(&mut frames[0]);
        // A byte of the payload; the checksum is left out.
        frames[0][HEADERS] ^= 0xff;
        assert_eq!(socket.send(&mut frames).unwrap(), 1);
        let mut payload = content(number);
        payload[0] ^= 0xff;
        let back = deadline(LIMIT, || {
            socket.kick().unwrap();
            bench.receive_at_client()
        });
        assert_eq!(back, payload);
        socket.reap().unwrap();
    }
}

#[test]
fn without_frames_to_receive_into_packets_are_lost_and_counted() {
    needs!(Root, NetNs, Veth, XdpLink, Xsk);
    let bench = XskBench::new();
    let umem = Umem::new(Layout::new(8)).unwrap();
    let mut socket = bench.open(&bench.plan(), &umem);
    bench.connect(0, &socket);
    assert_eq!(socket.fill(5).unwrap(), 5);
    for number in 0..12 {
        bench.send(number);
    }
    let statistics = deadline(LIMIT, || {
        let statistics = socket.statistics().unwrap();
        (statistics.dropped == 7).then_some(statistics)
    });
    assert_eq!(statistics.fill_empty, Some(7));
    assert_eq!(statistics.receive_full, Some(0));
    let mut frames = Vec::new();
    assert_eq!(socket.receive(&mut frames, 64).unwrap(), 5);
    for (number, frame) in (0..).zip(&frames) {
        assert_eq!(payload_of(frame), content(number));
    }
    // Those that were received are given back as they are.
    assert_eq!(socket.give(&mut frames).unwrap(), 5);
    bench.send(12);
    deadline(LIMIT, || {
        (socket.receive(&mut frames, 64).unwrap() == 1).then_some(())
    });
    assert_eq!(payload_of(&frames[0]), content(12));
}

#[test]
fn a_full_ring_and_a_long_packet_are_counted() {
    needs!(Root, NetNs, Veth, XdpLink, Xsk);
    let bench = XskBench::new();
    let umem = Umem::new(Layout::new(64).size(2048).headroom(1000)).unwrap();
    let mut socket = bench.open(&bench.plan().receive(4), &umem);
    bench.connect(0, &socket);
    socket.fill(u32::MAX).unwrap();
    let errors = bench.redirect_errors();
    // 2048 - 1000 - 256 bytes are left for the packet.
    bench.send_bytes(&[1; 800]);
    for number in 0..10 {
        bench.send(number);
    }
    let statistics = deadline(LIMIT, || {
        let statistics = socket.statistics().unwrap();
        (statistics.receive_full == Some(6)).then_some(statistics)
    });
    assert_eq!((statistics.dropped, statistics.fill_empty), (1, Some(0)));
    if let Some(errors) = errors {
        for (errno, times, says) in [
            (Errno::ENOSPC, 1, "longer than its frames"),
            (Errno::ENOBUFS, 6, "take received ones"),
        ] {
            deadline(LIMIT, || {
                errors.all().contains(&(errno, times)).then_some(())
            });
            let advice = redirect_advice(errno).unwrap();
            assert!(advice.contains(says), "{advice}");
        }
    }
    let mut frames = Vec::new();
    assert_eq!(socket.receive(&mut frames, 64).unwrap(), 4);
    for (number, frame) in (0..).zip(&mut frames) {
        assert_eq!(payload_of(frame), content(number));
        // The kernel left what was asked for in front.
        frame.prepend(1256).unwrap();
        frame.prepend(1).unwrap_err();
    }
    // The frames of packets that found no room went back to be received into.
    drop(frames);
    assert_eq!(umem.census().free, 4);
    bench.send(10);
    deadline(LIMIT, || {
        (socket.wait(Wait::Receive, LIMIT).unwrap()).then_some(())
    });
}

#[test]
fn without_an_entry_the_other_action_is_taken() {
    needs!(Root, NetNs, Veth, XdpLink, Xsk);
    let bench = XskBench::new();
    bench.check_passes(1);
    let umem = Umem::new(Layout::new(8)).unwrap();
    let mut socket = bench.open(&bench.plan(), &umem);
    socket.fill(u32::MAX).unwrap();
    bench.connect(0, &socket);
    bench.check_taken(&mut socket, 2);
    assert!(bench.sockets().delete(&0).unwrap());
    bench.check_passes(3);
    // A socket that is closed leaves the map by itself.
    bench.connect(0, &socket);
    bench.check_taken(&mut socket, 4);
    drop(socket);
    bench.check_passes(5);
    let next = bench.open(&bench.plan(), &umem);
    assert!(
        bench.sockets().insert(&0, &next).unwrap(),
        "it is still there"
    );
}

#[test]
fn a_frame_for_another_queue_is_no_frame_of_the_socket() {
    needs!(Root, NetNs, Veth, XdpLink, Xsk);
    let bench = XskBench::of_queues(2);
    let umem = Umem::new(Layout::new(8)).unwrap();
    let plan = Plan::new(bench.device(), 1);
    let mut socket = bench.open(&plan, &umem);
    socket.fill(u32::MAX).unwrap();
    // The only sender's packets come on queue 0, and the map sends them to a socket of queue 1.
    bench.connect(0, &socket);
    let errors = bench.redirect_errors();
    for number in 0..20 {
        bench.send(number);
    }
    bench.wait_packets(20);
    let mut frames = Vec::new();
    assert_eq!(socket.receive(&mut frames, 64).unwrap(), 0);
    assert_eq!(umem.census().receiving, 8);
    assert!(bench.receive_at_server().is_none());
    assert_eq!(socket.statistics().unwrap().dropped, 0);
    if let Some(errors) = errors {
        // The event comes a moment after the program has counted.
        let all = deadline(LIMIT, || {
            let all = errors.all();
            all.iter().any(|(_, count)| *count >= 20).then_some(all)
        });
        assert_eq!(all, vec![(Errno::EINVAL, 20)]);
        let advice = redirect_advice(Errno::EINVAL).unwrap();
        assert!(advice.contains("another queue"), "{advice}");
    }
}

#[track_caller]
fn refused(opened: Result<Socket, bpfsmith_sys::xsk::Error>, problem: Problem) {
    let error = opened.unwrap_err();
    assert_eq!(error.problem, problem, "{error}");
    let text = error.to_string();
    assert!(error.hint().is_some() && !text.contains('\n'), "{text}");
}

#[test]
fn what_cannot_be_opened_is_explained() {
    needs!(Root, NetNs, Veth, XdpLink, Xsk);
    let bench = XskBench::new();
    let umem = Umem::new(Layout::new(8)).unwrap();
    let device = bench.device();
    let open = |plan: &Plan<'_>| bench.try_open(plan, &umem);
    let first = open(&bench.plan()).unwrap();
    refused(open(&bench.plan()), Problem::QueueTaken);
    let beside = bench.plan().beside(&first);
    refused(open(&beside), Problem::QueueTaken);
    refused(open(&Plan::new(device, 77)), Problem::NoQueue);
    refused(open(&Plan::new(0xffff, 0)), Problem::NoDevice);
    refused(open(&bench.plan().fill(3)), Problem::BadRing);
    refused(open(&bench.plan().fill(0)), Problem::BadRing);
    refused(open(&bench.plan().fill(1 << 21)), Problem::BadRing);
    refused(open(&bench.plan().receive(0).send(0)), Problem::BadRing);
    drop(first);
    // After all that, the queue is free, if only a moment later.
    let socket = bench.open(&bench.plan(), &umem);
    assert_eq!(socket.copies().unwrap(), Copies::Each);
    assert_eq!(socket.lengths(), [2048; 4]);
    let one_way = |mut socket: Socket| {
        let receive = socket.receive(&mut Vec::new(), 1);
        let send = socket.kick();
        for (what, works) in [
            (Wait::Receive, &receive.is_ok()),
            (Wait::Send, &send.is_ok()),
        ] {
            let waited = socket.wait(what, Duration::ZERO);
            assert_eq!(waited.is_ok(), *works, "{waited:?}");
        }
        (receive.is_ok(), send.is_ok())
    };
    drop(socket);
    let plan = bench.plan().receive(0);
    assert_eq!(one_way(bench.open(&plan, &umem)), (false, true));
    let plan = bench.plan().send(0);
    assert_eq!(one_way(bench.open(&plan, &umem)), (true, false));
    deadline(LIMIT, || {
        let opened = open(&bench.plan().mode(Mode::ZeroCopy));
        let problem = opened.as_ref().unwrap_err().problem;
        let is_free = problem != Problem::QueueTaken;
        is_free.then(|| refused(opened, Problem::NoZeroCopy))
    });
}

#[test]
fn a_device_that_is_down_says_so() {
    needs!(Root, NetNs, Veth, XdpLink, Xsk);
    let bench = XskBench::new();
    let umem = Umem::new(Layout::new(8)).unwrap();
    let mut socket = bench.open(&bench.plan(), &umem);
    bench.server_net().set_down(bench.index()).unwrap();
    let mut frame = umem.frame().unwrap();
    frame.write(&[0xff; 60]).unwrap();
    let mut frames = vec![frame];
    socket.send(&mut frames).unwrap();
    let text = socket.kick().unwrap_err().to_string();
    assert!(text.contains("ENETDOWN (set the device up"), "{text}");
    assert_eq!(socket.waiting().unwrap()[1], 1, "it stays in the ring");
    bench.server_net().set_up(bench.index()).unwrap();
    deadline(LIMIT, || {
        let kicked = socket.kick();
        kicked.is_ok_and(|kicked| kicked.pending == 0).then_some(())
    });
}

#[test]
fn a_device_that_has_gone_ends_a_wait_with_an_error() {
    needs!(Root, NetNs, Veth, XdpLink, Xsk);
    let bench = XskBench::new();
    let umem = Umem::new(Layout::new(8)).unwrap();
    let mut socket = bench.open(&bench.plan(), &umem);
    socket.fill(u32::MAX).unwrap();
    bench.server_net().set_down(bench.index()).unwrap();
    // Not for room to send: some kernels say that there is, and tell the sender.
    let wait = || socket.wait(Wait::Receive, Duration::from_millis(1));
    let error = deadline(LIMIT, || wait().err());
    assert_eq!(error.problem, Problem::Down, "{error}");
    bench.server_net().delete_link(bench.index()).unwrap();
    let error = deadline(LIMIT, || wait().err().filter(|it| it.errno != error.errno));
    assert_eq!(error.problem, Problem::NoDevice, "{error}");
    assert!(error.hint().unwrap().contains("has gone"), "{error}");
}

#[test]
fn sockets_share_memory_across_namespaces_whose_devices_have_the_same_numbers() {
    needs!(Root, NetNs, Veth, Xsk);
    let umem = Umem::new(Layout::new(8)).unwrap();
    let spaces = [(); 2].map(|()| {
        let ns = NetNs::new().unwrap();
        let net = Netlink::open_in(&ns).unwrap();
        let kind = Kind::Veth(Device::new("far0"));
        net.add_link(&Device::new("near0"), &kind).unwrap();
        let index = net.link("near0").unwrap().index;
        net.set_up(index).unwrap();
        (ns, Plan::new(index.0, 0), index)
    });
    let [
        (first_ns, plan, first),
        (second_ns, _, second),
    ] = &spaces;
    assert_eq!(first, second);
    let socket = first_ns.run(|| plan.open(&umem)).unwrap().unwrap();
    let beside = plan.beside(&socket);
    let other = second_ns.run(|| beside.open(&umem)).unwrap().unwrap();
    // On the same queue of the same device, there is no place for two.
    refused(
        second_ns.run(|| plan.beside(&other).open(&umem)).unwrap(),
        Problem::QueueTaken,
    );
}

#[test]
fn two_queues_share_one_memory() {
    needs!(Root, NetNs, Veth, XdpLink, Xsk);
    let bench = XskBench::of_queues(2);
    let umem = Umem::new(Layout::new(16)).unwrap();
    let mut first = bench.open(&bench.plan(), &umem);
    let on_second = Plan::new(bench.device(), 1);
    for plan in [on_second, on_second.beside(&first)] {
        let second = bench.open(&plan, &umem);
        assert_eq!(second.copies().unwrap(), Copies::Each);
        drop(second);
    }
    let mut second = bench.open(&on_second, &umem);
    let other = Umem::new(Layout::new(1)).unwrap();
    let beside_other = bench.try_open(&on_second.beside(&first), &other);
    refused(beside_other, Problem::OtherMemory);
    // What one receives the other sends.
    first.fill(8).unwrap();
    bench.connect(0, &first);
    bench.send(1);
    let mut frames = Vec::new();
    deadline(LIMIT, || {
        (first.receive(&mut frames, 8).unwrap() == 1).then_some(())
    });
    turn_around(&mut frames[0]);
    assert_eq!(second.send(&mut frames).unwrap(), 1);
    let back = deadline(LIMIT, || {
        second.kick().unwrap();
        bench.receive_at_client()
    });
    assert_eq!(back, content(1));
    deadline(LIMIT, || (second.reap().unwrap() == 1).then_some(()));
    assert_eq!(umem.census().sending, 0);
}

#[test]
fn frames_of_any_size_are_received_into() {
    needs!(Root, NetNs, Veth, XdpLink, Xsk);
    for layout in [
        Layout::new(8).size(2048),
        Layout::new(8).size(3000).unaligned(),
        Layout::new(8).size(4096).unaligned().headroom(10),
    ] {
        let bench = XskBench::new();
        let umem = Umem::new(layout).unwrap();
        let mut socket = bench.open(&bench.plan(), &umem);
        bench.connect(0, &socket);
        for number in 0..40 {
            socket.fill(u32::MAX).unwrap();
            bench.check_taken(&mut socket, number);
        }
        // Sent from there as well.
        let mut frame = umem.frame();
        if frame.is_none() {
            socket.fill(0).unwrap();
            bench.send(41);
            let mut frames = Vec::new();
            deadline(LIMIT, || {
                (socket.receive(&mut frames, 8).unwrap() == 1).then_some(())
            });
            frame = frames.pop();
        }
        let mut frame = frame.unwrap();
        let mut packet = bench.headers_to_client(content(7).len()).to_vec();
        packet.extend(content(7));
        frame.write(&packet).unwrap();
        socket.send(&mut vec![frame]).unwrap();
        let back = deadline(LIMIT, || {
            socket.kick().unwrap();
            bench.receive_at_client()
        });
        assert_eq!(back, content(7));
        deadline(LIMIT, || (socket.reap().unwrap() == 1).then_some(()));
    }
}

#[test]
fn busy_polling_is_switched_on() {
    needs!(Root, NetNs, Veth, XdpLink, Xsk);
    let bench = XskBench::new();
    let umem = Umem::new(Layout::new(8)).unwrap();
    let mut socket = bench.open(&bench.plan(), &umem);
    if let Err(error) = socket.busy_poll(20, 8) {
        assert_eq!(error.problem, Problem::TooOld, "{error}");
        return;
    }
    socket.fill(u32::MAX).unwrap();
    bench.connect(0, &socket);
    bench.check_taken(&mut socket, 1);
}

#[test]
fn a_wait_ends_with_a_frame_or_with_its_limit() {
    needs!(Root, NetNs, Veth, XdpLink, Xsk);
    let bench = XskBench::new();
    let umem = Umem::new(Layout::new(8)).unwrap();
    let mut socket = bench.open(&bench.plan(), &umem);
    socket.fill(u32::MAX).unwrap();
    bench.connect(0, &socket);
    let brief = Duration::from_millis(1);
    assert!(!socket.wait(Wait::Receive, brief).unwrap());
    assert!(socket.wait(Wait::Send, brief).unwrap());
    bench.send(1);
    deadline(LIMIT, || {
        socket.wait(Wait::Receive, LIMIT).unwrap().then_some(())
    });
    let mut frames = Vec::new();
    assert_eq!(socket.receive(&mut frames, 8).unwrap(), 1);
    assert!(!socket.wait(Wait::Receive, brief).unwrap());
}

#[test]
fn a_map_takes_no_other_sockets_and_none_that_is_not_bound() {
    needs!(Root, NetNs, Veth, XdpLink, Xsk);
    let bench = XskBench::of_queues(2);
    let sockets: ObjectMap<u32> = bench.sockets();
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let error = sockets.set(&0, &udp).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("XSKMAP") && text.contains("takes XDP sockets"),
        "{text}"
    );
    let umem = Umem::new(Layout::new(8)).unwrap();
    let socket = bench.open(&bench.plan(), &umem);
    let error = sockets.set(&64, &socket).unwrap_err();
    assert!(error.to_string().contains("behind the end"), "{error}");
    assert!(sockets.insert(&3, socket.as_fd()).unwrap());
    let plan = Plan::new(bench.device(), 1);
    let other = bench.open(&plan, &umem);
    assert!(!sockets.insert(&3, &other).unwrap());
    assert!(sockets.replace(&3, &other).unwrap());
}

#[test]
fn a_socket_belongs_to_the_namespace_it_was_opened_in() {
    needs!(Root, NetNs, Veth, Xsk);
    let ns = NetNs::new().unwrap();
    let net = Netlink::open_in(&ns).unwrap();
    let kind = Kind::Veth(Device::new("far0"));
    net.add_link(&Device::new("near0"), &kind).unwrap();
    let index = net.link("near0").unwrap().index.0;
    net.set_up(net.link("near0").unwrap().index).unwrap();
    let umem = Umem::new(Layout::new(8)).unwrap();
    let empty = NetNs::new().unwrap();
    let open = || Plan::new(index, 0).open(&umem);
    refused(empty.run(open).unwrap(), Problem::NoDevice);
    ns.run(open).unwrap().unwrap();
}
