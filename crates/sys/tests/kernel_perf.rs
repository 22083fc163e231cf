//! Perf events, programs on sockets, and memory shared with maps: seen from their effect.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test ends it")]

use bpfsmith_gate::needs;
use bpfsmith_sys::map::{Create, Map};
use bpfsmith_sys::mmap::{KernelBtf, Read, Shared, Write, page_size};
use bpfsmith_sys::perf::{
    Direction, Event, Every, FORMAT_LOST, Hardware, Open, PerfEvent, SAMPLE_RAW, Scope, Software,
    Start, driver,
};
use bpfsmith_sys::perf_ring::PerfRing;
use bpfsmith_sys::prog::{IsCounted, Load, Log, Records};
use bpfsmith_sys::{prog, socket};
use bpfsmith_uapi::flags::map_create::BPF_F_MMAPABLE;
use bpfsmith_uapi::{Errno, MapType, ProgType};
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

/// Loads slots that were written by hand.
#[track_caller]
fn load(kind: ProgType, slots: &[u64]) -> OwnedFd {
    let insns: Vec<u8> = slots.iter().flat_map(|slot| slot.to_le_bytes()).collect();
    let mut text = vec![0; 1 << 16];
    let mut log = Log {
        level: 1,
        buffer: &mut text,
        true_size: 0,
    };
    let load = Load {
        kind: kind.0,
        insns: &insns,
        license: c"GPL",
        name: *b"bs_rings\0\0\0\0\0\0\0\0",
        flags: 0,
        ifindex: 0,
        attach_type: 0,
        btf: None,
        funcs: Records::default(),
        lines: Records::default(),
        attach_btf_id: 0,
        attach_to: None,
        fd_array: &[],
        is_fd_array_counted: IsCounted::No,
        token: None,
        signature: None,
    };
    match prog::load(&load, &mut log) {
        Ok(fd) => fd,
        Err(failed) => panic!("{failed}\n{}", String::from_utf8_lossy(&text)),
    }
}

const EXIT: u64 = 0x95;
/// `r0 = imm`.
const fn ret(imm: u32) -> u64 {
    (imm as u64) << 32 | 0xb7
}

/// `map[0] += 1`, and returns 0.
fn count_slots(map: BorrowedFd<'_>) -> Vec<u64> {
    let fd = u64::from(map.as_raw_fd().unsigned_abs());
    vec![
        fd << 32 | 0x2118,     // r1 = value of map, at offset
        0,                     //
        1 << 32 | 0xb7,        // r0 = 1
        0x0000_0000_0000_01db, // lock *(u64 *)(r1 + 0) += r0
        ret(0),
        EXIT,
    ]
}

/// An array of one counter that both sides can write.
fn counter() -> Map {
    let create = Create {
        kind: MapType::ARRAY.0,
        key: 4,
        value: 8,
        entries: 1,
        flags: BPF_F_MMAPABLE,
        name: *b"bs_rings\0\0\0\0\0\0\0\0",
        ..Create::default()
    };
    Map::create(&create).expect("an array")
}

#[test]
fn a_program_runs_with_each_sample_and_shares_memory() {
    needs!(Root, PerfEvents, MmapArray);
    let map = counter();
    let ours = Shared::<Write>::map_of(&map, 0).unwrap();
    let theirs = Shared::<Read>::map_of(&map, 0).unwrap();
    assert_eq!((ours.len(), theirs.load_u64(0)), (page_size(), Some(0)));
    let program = load(ProgType::PERF_EVENT, &count_slots(map.as_fd()));
    let mut open = Open::new(Event::Software(Software::PageFaults), Scope::Own);
    open.every = Every::Events(1);
    open.start = Start::Later;
    let event = open.open().unwrap();
    event.set_program(program.as_fd()).unwrap();
    let again = event.set_program(program.as_fd()).unwrap_err();
    assert_eq!(again.errno, Errno::EEXIST);
    assert_eq!(again.call, "ioctl PERF_EVENT_IOC_SET_BPF");
    let touch = || {
        let mut memory = bpfsmith_sys::mmap::Anonymous::new(64 * page_size()).unwrap();
        memory.fill(1);
    };
    touch();
    assert_eq!(theirs.load_u64(0), Some(0), "it does not count yet");
    event.enable().unwrap();
    touch();
    event.disable().unwrap();
    let runs = theirs.load_u64(0).unwrap();
    assert!(runs >= 64, "{runs}");
    assert_eq!(event.count().unwrap().events, runs);
    touch();
    assert_eq!(theirs.load_u64(0), Some(runs), "it does not count any more");
    event.reset().unwrap();
    assert_eq!(event.count().unwrap().events, 0);
    assert_ne!(event.id().unwrap(), open.open().unwrap().id().unwrap());
    // What we store there, the kernel reads.
    ours.u64(0).unwrap().store(7, Ordering::Release);
    let mut value = [0; 8];
    map.lookup(&[0; 4], &mut value, 0).unwrap();
    assert_eq!(u64::from_ne_bytes(value), 7);
    map.freeze().unwrap_err();
    drop(ours);
    map.freeze().unwrap();
    let frozen = Shared::<Write>::map_of(&map, 0).unwrap_err();
    assert_eq!((frozen.call, frozen.errno), ("mmap", Errno::EPERM));
}

#[test]
fn a_uprobe_hits_by_place_in_the_file() {
    needs!(Root, Uprobe, MmapArray);
    let map = counter();
    let theirs = Shared::<Read>::map_of(&map, 0).unwrap();
    let program = load(ProgType::KPROBE, &count_slots(map.as_fd()));
    let place = place_of(probed as *const () as usize);
    let (path, offset) = place.expect("this function lies in a file");
    let path = std::ffi::CString::new(path).unwrap();
    let open = |side| {
        let uprobe = Event::Uprobe {
            path: &path,
            offset,
            side,
            ref_counter: 0,
        };
        let event = Open::new(uprobe, Scope::Own).open().unwrap();
        event.set_program(program.as_fd()).unwrap();
        event
    };
    let event: PerfEvent = open(bpfsmith_sys::perf::Side::Entry);
    for _ in 0..10 {
        probed();
    }
    assert_eq!(theirs.load_u64(0), Some(10));
    drop(event);
    probed();
    assert_eq!(theirs.load_u64(0), Some(10));
    let event = open(bpfsmith_sys::perf::Side::Return);
    probed();
    assert_eq!(theirs.load_u64(0), Some(11));
    drop(event);
}

#[inline(never)]
extern "C" fn probed() {
    std::hint::black_box(());
}

/// The file and the place in it of an address of this process.
fn place_of(address: usize) -> Option<(String, u64)> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let start = usize::from_str_radix(start, 16).ok()?;
        let end = usize::from_str_radix(end, 16).ok()?;
        let offset = u64::from_str_radix(words.nth(1)?, 16).ok()?;
        let path = words.nth(2)?;
        let is_here = (start..end).contains(&address);
        is_here.then(|| (path.to_owned(), offset + (address - start) as u64))
    })
}

#[test]
fn what_cannot_be_opened_says_so() {
    needs!(Root, PerfEvents);
    let none = driver("bs-rings-none").unwrap_err();
    assert_eq!(none.errno, Errno::ENOENT);
    assert_eq!(driver("../x").unwrap_err().errno, Errno::EINVAL);
    let cpu = Open::new(Event::Software(Software::CpuClock), Scope::Cpu(u32::MAX));
    assert_eq!(cpu.open().unwrap_err().errno, Errno::EINVAL);
    let cpu = Open::new(Event::Software(Software::CpuClock), Scope::Cpu(100_000));
    assert_eq!(cpu.open().unwrap_err().call, "perf_event_open");
    // A machine with such a counter counts; one without says so.
    match Open::new(Event::Hardware(Hardware::Instructions), Scope::Own).open() {
        Ok(event) => assert!(event.count().is_ok()),
        Err(refused) => assert_eq!(refused.errno, Errno::ENOENT),
    }
    let mut open = Open::new(Event::Software(Software::BpfOutput), Scope::Cpu(0));
    open.sample = SAMPLE_RAW;
    open.read = FORMAT_LOST;
    let event = open.open().unwrap();
    assert_eq!(
        event.pause().unwrap_err().errno,
        Errno::EINVAL,
        "there is no ring"
    );
    assert_eq!(event.count().unwrap().lost, Some(0));
}

/// Works in a thread with a network namespace of its own, which goes with it and whose `lo` is up.
fn in_own_network(work: impl FnOnce() + Send) {
    let done = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a namespace");
            loopback_up();
            work();
        });
        thread.join()
    });
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

fn loopback_up() {
    use nix::sys::socket::{self as raw, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockType};
    const RTM_NEWLINK: u16 = 16;
    const NLM_F_REQUEST_ACK: u16 = 5;
    const IFF_UP: u32 = 1;
    let mut message = Vec::new();
    message.extend_from_slice(&32_u32.to_ne_bytes());
    message.extend_from_slice(&RTM_NEWLINK.to_ne_bytes());
    message.extend_from_slice(&NLM_F_REQUEST_ACK.to_ne_bytes());
    message.extend_from_slice(&[0; 12]); // sequence, port, family and kind
    message.extend_from_slice(&1_u32.to_ne_bytes());
    message.extend_from_slice(&IFF_UP.to_ne_bytes());
    message.extend_from_slice(&IFF_UP.to_ne_bytes());
    let route = raw::SockProtocol::NetlinkRoute;
    let flags = SockFlag::SOCK_CLOEXEC;
    let route = raw::socket(AddressFamily::Netlink, SockType::Raw, flags, route).expect("netlink");
    let (fd, kernel) = (route.as_raw_fd(), NetlinkAddr::new(0, 0));
    raw::sendto(fd, &message, &kernel, MsgFlags::empty()).expect("a request");
    let mut answer = [0; 64];
    let len = raw::recv(fd, &mut answer, MsgFlags::empty()).expect("an answer");
    // NLMSG_ERROR with no error.
    assert_eq!((answer[4], &answer[16..20]), (2, &[0; 4][..]), "{len}");
}

#[test]
fn a_filter_cuts_what_the_socket_receives() {
    needs!(Root, Loopback);
    in_own_network(filter);
}

fn filter() {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = receiver.local_addr().unwrap();
    let receive = || {
        sender.send_to(b"twelve bytes", to).unwrap();
        let mut bytes = [0; 64];
        let len = receiver.recv(&mut bytes).unwrap();
        bytes[..len].to_vec()
    };
    assert_eq!(receive(), b"twelve bytes");
    // 8 bytes of header and 6 of what follows.
    let program = load(ProgType::SOCKET_FILTER, &[ret(14), EXIT]);
    socket::attach_filter(receiver.as_fd(), program.as_fd()).unwrap();
    assert_eq!(receive(), b"twelve");
    socket::detach_filter(receiver.as_fd()).unwrap();
    assert_eq!(receive(), b"twelve bytes");
    let none = socket::detach_filter(receiver.as_fd()).unwrap_err();
    assert_eq!(
        (none.call, none.errno),
        ("setsockopt SO_DETACH_BPF", Errno::ENOENT)
    );
    let xdp = load(ProgType::XDP, &[ret(2), EXIT]);
    let wrong = socket::attach_filter(receiver.as_fd(), xdp.as_fd()).unwrap_err();
    assert_eq!(wrong.errno, Errno::EINVAL);
    let cookies = [&receiver, &sender].map(|udp| socket::cookie(udp.as_fd()).unwrap());
    assert!(cookies[0] != 0 && cookies[0] != cookies[1]);
    let spaces = [&receiver, &sender].map(|udp| socket::netns_cookie(udp.as_fd()).unwrap());
    assert!(spaces[0] != 0 && spaces[0] == spaces[1]);
    assert_eq!(socket::incoming_cpu(receiver.as_fd()).unwrap(), None);
    // Of UDP sockets, only connected ones know.
    receiver.connect(sender.local_addr().unwrap()).unwrap();
    receive();
    let cpu = socket::incoming_cpu(receiver.as_fd()).unwrap();
    assert!(cpu.is_some_and(|cpu| cpu < bpfsmith_sys::possible_cpus().unwrap().count()));
    let file = std::fs::File::open("/proc/self/maps").unwrap();
    assert!(socket::cookie(file.as_fd()).is_err());
}

#[test]
fn a_connection_has_the_algorithm_that_it_is_given() {
    needs!(Root, Loopback);
    in_own_network(|| {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket::set_congestion(socket.as_fd(), "reno").unwrap();
        assert_eq!(socket::congestion(socket.as_fd()).unwrap(), "reno");
        let unknown = socket::set_congestion(socket.as_fd(), "no_such_thing").unwrap_err();
        assert_eq!(
            (unknown.call, unknown.errno),
            ("setsockopt TCP_CONGESTION", Errno::ENOENT)
        );
        assert_eq!(socket::congestion(socket.as_fd()).unwrap(), "reno");
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(socket::congestion(udp.as_fd()).is_err());
    });
}

#[test]
fn a_program_chooses_among_sockets_that_share_an_address() {
    needs!(Root, Loopback, Reuseport);
    in_own_network(choose);
}

fn choose() {
    use nix::sys::socket::{self as raw, AddressFamily, SockFlag, SockType, SockaddrIn, sockopt};
    let open = |port: u16| {
        let flags = SockFlag::SOCK_CLOEXEC;
        let fd = raw::socket(AddressFamily::Inet, SockType::Datagram, flags, None).unwrap();
        raw::setsockopt(&fd, sockopt::ReusePort, &true).unwrap();
        raw::bind(fd.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, port)).unwrap();
        UdpSocket::from(fd)
    };
    let first = open(0);
    let to = first.local_addr().unwrap();
    let all = [first, open(to.port()), open(to.port())];
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    for (index, chosen) in (0..).zip(&all) {
        let program = load(ProgType::SOCKET_FILTER, &[ret(index), EXIT]);
        socket::attach_reuseport(all[0].as_fd(), program.as_fd()).unwrap();
        for _ in 0..20 {
            sender.send_to(&[7], to).unwrap();
        }
        for udp in &all {
            udp.set_nonblocking(true).unwrap();
            let arrived = std::iter::from_fn(|| udp.recv(&mut [0; 1]).ok()).count();
            let expected = if std::ptr::eq(udp, chosen) { 20 } else { 0 };
            assert_eq!(arrived, expected, "socket {index}");
        }
    }
    socket::detach_reuseport(all[0].as_fd()).unwrap();
    let none = socket::detach_reuseport(all[0].as_fd()).unwrap_err();
    assert_eq!(none.errno, Errno::ENOENT);
}

#[test]
fn the_kernels_types_are_mapped() {
    needs!(Btf);
    match KernelBtf::open("vmlinux") {
        Ok(btf) => {
            let file = std::fs::read("/sys/kernel/btf/vmlinux").unwrap();
            assert!(*btf == *file);
        }
        // Before Linux 6.16.
        Err(refused) => assert!(
            matches!(refused.errno, Errno::ENODEV | Errno::EIO),
            "{refused}"
        ),
    }
    assert_eq!(
        KernelBtf::open("bs-rings-none").unwrap_err().errno,
        Errno::ENOENT
    );
    assert_eq!(
        KernelBtf::open("../vmlinux").unwrap_err().errno,
        Errno::EINVAL
    );
}

/// Two readers would move one position: the kernel would write to what the other lends out.
#[test]
fn an_event_has_one_ring_at_a_time() {
    needs!(Root, PerfEvents);
    let event = Open::new(Event::Software(Software::BpfOutput), Scope::Cpu(0));
    let event = event.open().unwrap();
    let ring = PerfRing::map(&event, 1, Direction::Forward).unwrap();
    let second = PerfRing::map(&event, 1, Direction::Forward).unwrap_err();
    assert_eq!((second.call, second.errno), ("mmap", Errno::EBUSY));
    drop(ring);
    drop(PerfRing::map(&event, 1, Direction::Forward).unwrap());
    PerfRing::map(&event, 2, Direction::Forward).unwrap();
}
