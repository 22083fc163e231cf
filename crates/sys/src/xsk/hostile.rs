//! A socket whose kernel lies: tests play the other side of its rings.

use super::error::Fault;
use super::open::{Rings, Wakeup};
use super::ring::tests::{PLACES, ring};
use super::ring::{Entry, Ring, Stride};
use super::*;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// A socket on memory of its own, with rings of 8 entries.
fn socket(umem: &Umem) -> Socket {
    socket_of(umem, File::open("/dev/null").unwrap().into())
}

fn socket_of(umem: &Umem, fd: OwnedFd) -> Socket {
    let rings = Rings {
        receive: Some(ring(Stride::Descriptor, 8)),
        send: Some(ring(Stride::Descriptor, 8)),
        fill: ring(Stride::Address, 8),
        completion: ring(Stride::Address, 8),
    };
    let on = Queue {
        device: 1,
        queue: 0,
    };
    Socket::of(fd, on, Wakeup::Asked, Arc::clone(&umem.0), rings)
}

fn entry(address: u64, len: u32) -> Entry {
    Entry {
        address,
        len,
        options: 0,
    }
}

fn inbox(socket: &Socket) -> &Ring {
    socket.rings().receive.as_ref().unwrap()
}

#[test]
fn a_frame_that_the_kernel_does_not_have_is_refused() {
    let umem = Umem::new(Layout::new(4)).unwrap();
    let mut socket = socket(&umem);
    assert_eq!(socket.fill(2).unwrap(), 2);
    let mut frames = Vec::new();
    // In the pool, behind the end, out of its frame, told to go on, and nonsense.
    let mut lies: Vec<_> = [3 * 4096, 4 * 4096, 1 << 60, u64::MAX]
        .map(|address| entry(address, 60))
        .into();
    for len in [4096 - 255, u32::MAX] {
        lies.push(entry(256, len));
        // The frame went back to the pool: it is ours, and has to be given again.
        lies.push(entry(256, 60));
    }
    for lie in lies {
        inbox(&socket).kernel_writes(lie);
        let fault = socket.receive(&mut frames, 8).unwrap_err();
        assert!(matches!(fault, Fault::Corrupt(Corrupt::Frame { .. })));
        assert!(frames.is_empty(), "{lie:?}");
    }
    let mut part = entry(4096 + 256, 60);
    part.options = 1;
    inbox(&socket).kernel_writes(part);
    assert!(socket.receive(&mut frames, 8).is_err());
    // What is right is still received, but once.
    for _ in 0..2 {
        inbox(&socket).kernel_writes(entry(4096 + 256, 60));
    }
    assert!(socket.receive(&mut frames, 8).is_err());
    assert_eq!((frames.len(), frames[0].len()), (1, 60));
    let census = umem.census();
    assert_eq!((census.free, census.held, census.receiving), (3, 1, 0));
}

#[test]
fn a_frame_that_was_not_sent_does_not_come_back() {
    let umem = Umem::new(Layout::new(4)).unwrap();
    let mut socket = socket(&umem);
    let mut frame = umem.frame().unwrap();
    frame.write(&[7; 60]).unwrap();
    let at = u64::from(frame.index()) * 4096;
    let mut frames = vec![frame];
    socket.rings().completion.kernel_writes(entry(at, 0));
    assert!(socket.reap().is_err(), "it was not sent yet");
    assert_eq!(socket.send(&mut frames).unwrap(), 1);
    assert!(frames.is_empty());
    for address in [at, at, 4 * 4096, u64::MAX] {
        socket.rings().completion.kernel_writes(entry(address, 0));
    }
    assert!(socket.reap().is_err());
    assert_eq!(umem.census().free, 4);
    // Those behind the wrong one are looked at next time.
    assert!(socket.reap().is_err() && socket.reap().is_err());
    assert_eq!((socket.reap(), umem.census().free), (Ok(0), 4));
}

#[test]
fn positions_that_make_no_sense_stop_the_socket() {
    let umem = Umem::new(Layout::new(4)).unwrap();
    let mut socket = socket(&umem);
    for position in [9, 1 << 31, u32::MAX - 8] {
        inbox(&socket).set(PLACES.producer, position);
        socket.rings().completion.set(PLACES.producer, position);
        socket.rings().fill.set(PLACES.consumer, position);
        assert!(socket.receive(&mut Vec::new(), 8).is_err());
        assert!(socket.reap().is_err() && socket.fill(1).is_err());
        let send = socket.rings().send.as_ref().unwrap();
        send.set(PLACES.consumer, position);
        assert!(socket.send(&mut Vec::new()).is_err() && socket.kick().is_err());
    }
    assert_eq!(umem.census().free, 4);
}

#[test]
fn what_cannot_be_sent_stays_with_the_sender() {
    let umem = Umem::new(Layout::new(12)).unwrap();
    let other = Umem::new(Layout::new(1)).unwrap();
    let mut socket = socket(&umem);
    let frame = |umem: &Umem, len| {
        let mut frame = umem.frame().unwrap();
        frame.resize(len).unwrap();
        frame
    };
    let mut frames = vec![
        frame(&umem, 60),
        frame(&other, 60),
        frame(&umem, 60),
    ];
    assert_eq!(socket.send(&mut frames), Err(Fault::Foreign { at: 1 }));
    assert_eq!(frames.len(), 2);
    assert_eq!(socket.send(&mut frames), Err(Fault::Foreign { at: 0 }));
    assert_eq!(socket.give(&mut frames), Err(Fault::Foreign { at: 0 }));
    frames.remove(0);
    frames.push(frame(&umem, 13));
    let short = Fault::TooShort { at: 1, len: 13 };
    assert_eq!(socket.send(&mut frames), Err(short));
    assert_eq!(frames.len(), 1);
    // Two are in the ring, six more fit.
    frames = (0..8).map(|_| frame(&umem, 14)).collect();
    assert_eq!(socket.send(&mut frames), Ok(6));
    assert_eq!((frames.len(), socket.send(&mut frames)), (2, Ok(0)));
    assert_eq!(socket.give(&mut frames), Ok(2));
    let census = umem.census();
    assert_eq!((census.sending, census.receiving, census.held), (8, 2, 0));
    assert_eq!(socket.waiting(), Ok([2, 8]));
}

#[test]
fn a_kernel_that_fell_asleep_after_the_last_frame_is_woken() {
    let umem = Umem::new(Layout::new(2)).unwrap();
    let mut socket = socket(&umem);
    assert_eq!(socket.fill(8), Ok(2));
    // There is nothing more to give, but what it was given it has not seen.
    socket.rings().fill.set(PLACES.flags, 1);
    let fault = socket.fill(8).unwrap_err();
    assert!(
        fault.to_string().starts_with("recvfrom(AF_XDP)"),
        "it was called: {fault}"
    );
    socket.rings().fill.kernel_reads();
    assert_eq!(socket.fill(8), Ok(0));
}

#[test]
fn a_busy_polling_socket_calls_before_it_waits() {
    use std::net::UdpSocket;
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let umem = Umem::new(Layout::new(2)).unwrap();
    let mut socket = socket_of(&umem, udp.try_clone().unwrap().into());
    let Ok(()) = socket.busy_poll(1, 8) else {
        return;
    };
    udp.connect(udp.local_addr().unwrap()).unwrap();
    udp.send(b"seen").unwrap();
    udp.peek(&mut [0; 4]).unwrap();
    // The call took the only datagram, so that there is nothing to wait for.
    let limit = std::time::Duration::from_millis(1);
    assert_eq!(socket.wait(Wait::Receive, limit), Ok(false));
}

#[test]
fn a_closed_socket_gives_back_what_it_had_received() {
    let umem = Umem::new(Layout::new(4)).unwrap();
    let mut socket = socket(&umem);
    assert_eq!(socket.fill(u32::MAX), Ok(4));
    inbox(&socket).kernel_writes(entry(256, 60));
    assert_eq!(socket.with_kernel().receiving, 4);
    let left = socket.close();
    assert_eq!((left.receiving, left.sending), (3, 0));
    assert_eq!((umem.census().free, umem.census().receiving), (1, 3));
}

#[test]
fn what_comes_while_a_socket_is_closed_stays_with_the_kernel_as_was_told() {
    let umem = Umem::new(Layout::new(4)).unwrap();
    let mut socket = socket(&umem);
    assert_eq!(socket.fill(u32::MAX), Ok(4));
    socket.drain();
    let told = socket.with_kernel();
    inbox(&socket).kernel_writes(entry(256, 60));
    drop(socket);
    assert_eq!((told.receiving, umem.census().receiving), (4, 4));
}

/// Numbers that look like chance and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (self.0 >> 33) % limit
    }
}

/// A descriptor as a mad kernel writes it: mostly near the truth.
fn nonsense(dice: &mut Dice) -> Entry {
    let frame = dice.below(9) * 2048;
    let offset = [0, 256, 2047, dice.below(4096)][usize::try_from(dice.below(4)).unwrap()];
    let address = match dice.below(16) {
        0 => u64::MAX - dice.below(5000),
        1 => 1 << dice.below(64),
        _ => frame + offset,
    };
    let len = [0, 60, 1792, u64::from(u32::MAX)][usize::try_from(dice.below(4)).unwrap()];
    Entry {
        address,
        len: u32::try_from(len).unwrap(),
        options: u32::try_from(dice.below(8) / 7).unwrap(),
    }
}

#[test]
fn whatever_the_kernel_writes_each_frame_is_in_one_place() {
    let umem = Umem::new(Layout::new(8).size(2048)).unwrap();
    let mut socket = socket(&umem);
    let mut dice = Dice(7);
    let mut held: Vec<Frame> = Vec::new();
    let (mut faults, mut received) = (0, 0);
    for _ in 0..100_000 {
        let fault = match dice.below(9) {
            0 => socket.fill(3).is_err(),
            1 => socket.receive(&mut held, 4).is_err(),
            2 => socket.reap().is_err(),
            3 => socket.send(&mut held).is_err(),
            4 => socket.give(&mut held).is_err(),
            5 => {
                held.extend(umem.frame());
                held.truncate(5);
                false
            }
            6 => {
                inbox(&socket).kernel_writes(nonsense(&mut dice));
                false
            }
            7 => {
                let lie = nonsense(&mut dice);
                socket.rings().completion.kernel_writes(lie);
                false
            }
            // It reads what it was given, or says that it did.
            _ => {
                let to = u32::try_from(dice.below(1 << 20)).unwrap();
                let [fill, send] = [
                    Some(&socket.rings().fill),
                    socket.rings().send.as_ref(),
                ];
                for ring in [fill, send].into_iter().flatten() {
                    match to % 50 {
                        0 => ring.set(PLACES.consumer, to),
                        _ => ring.kernel_reads(),
                    }
                }
                false
            }
        };
        faults += u32::from(fault);
        received = received.max(held.len());
        // Every byte of what we have may be touched, and no two are the same.
        let mut indices: Vec<_> = held.iter().map(Frame::index).collect();
        indices.sort_unstable();
        indices.dedup();
        assert_eq!(indices.len(), held.len());
        for frame in &mut held {
            frame.fill(0xaa);
        }
        let census = umem.census();
        assert_eq!(census.held as usize, held.len());
        let all = census.free + census.held + census.receiving + census.sending;
        assert_eq!((all, umem.0.pool().len()), (8, census.free as usize));
        // A ring that was overrun says nothing but that: it is brought back.
        for ring in [
            inbox(&socket),
            &socket.rings().completion,
        ] {
            if ring.available().is_err() {
                ring.kernel_goes_back();
            }
        }
    }
    assert!(faults > 1000 && received > 1, "{faults} {received}");
}
