//! Counts packets by their size, in buckets of powers of two, as they come from the driver. Needs
//! root.
//!
//! Two machines in namespaces of their own are joined by a cable. The client sends datagrams whose
//! frames are just below and just at the powers of two; every one of them has to be in the bucket
//! that arithmetic says.

use bpfsmith::dsl::*;
use bpfsmith::kit::map::count_percpu;
use bpfsmith::kit::packet::{self, Exits, Packet};
use bpfsmith::maps::PerCpuMap;
use bpfsmith::net::Pair;
use bpfsmith::prog::target::Xdp;
use bpfsmith::prog::{Load, Maps};
use std::error::Error;
use std::net::UdpSocket;
use std::time::Duration;

const P: Packet = Packet {
    data: R6,
    end: R7,
    cursor: R8,
    scratch: R5,
};
const PROTO: Reg = R4;
const SIZE: Reg = R9;
const BUCKET: Reg = R3;

const PORT: u16 = 7780;

/// Bucket `n` counts frames of at least 2^n and less than 2^(n+1) bytes: up to 64 KB.
const BUCKETS: u32 = 16;

static SIZES: MapDef<u32, u64> = MapDef::percpu_array("sizes", BUCKETS);

/// What the headers before the payload of a datagram take.
const HEADERS: u32 = 14 + 20 + 8;

/// Sizes of frames, and how many of each are sent: both sides of every border up to the largest
/// frame that the cable takes.
const SENT: [(u32, u64); 12] = [
    (HEADERS, 1),
    (63, 2),
    (64, 3),
    (127, 4),
    (128, 5),
    (255, 6),
    (256, 9),
    (511, 12),
    (512, 7),
    (1023, 5),
    (1024, 3),
    (1514, 8),
];

/// Makes `log` the position of the highest bit of a number below 2^16, which is lost. Of 0 it is 0.
fn log2(log: Reg, number: Reg) -> Code {
    code![
        mov(log, 0),
        [8, 4, 2, 1].map(|bits| {
            number
                .ge(1 << bits)
                .then(code![rsh(number, bits), add(log, bits)])
        }),
    ]
}

/// Goes to `other` unless the packet is UDP to our port.
fn is_ours(other: Label) -> Code {
    code![
        packet::xdp(P, R1),
        packet::ethernet(P, PROTO, other),
        jne(PROTO, be16(ETH_P_IP), other),
        packet::ipv4(P, PROTO, Exits::both(other)),
        jne(PROTO, IPPROTO_UDP, other),
        packet::udp(P, other),
        load(R2, P.cursor.get(udp::dport)),
        jne(R2, be16(PORT), other),
    ]
}

/// The program.
///
/// # Panics
/// If the checker finds anything wrong with it.
#[must_use]
pub fn program() -> Program {
    let (other, bucket) = (label("other"), slot::<u32>("bucket"));
    let code = code![
        is_ours(other),
        mov(SIZE, P.end),
        sub(SIZE, P.data),
        log2(BUCKET, SIZE),
        store(bucket.u32(0), BUCKET),
        count_percpu(&SIZES, bucket, 1),
        bind(other),
        ret(XDP_PASS),
    ];
    Program::new(ProgType::XDP, "packet_sizes", code).unwrap_or_else(|report| panic!("{report}"))
}

/// Attaches the program, sends packets of known sizes, and compares the buckets.
///
/// # Errors
/// When a step is refused, or a bucket does not hold what was sent.
pub fn run() -> Result<(), Box<dyn Error>> {
    let net = Pair::new()?;
    let program = program();
    let maps = Maps::of(&program)?;
    let sizes = PerCpuMap::<u32, u64>::from_handle(maps.handle(SIZES.shape().name)?)?;
    let device = Xdp::on(net.server.port.index);
    let link = net.server.run(|| {
        let prog = Load::new(&program).maps(&maps).to(&device)?.load()?;
        prog.attach(&device)
    })??;

    exchange(&net)?;
    link.detach()?;

    let mut wanted = [0; BUCKETS as usize];
    for (size, count) in SENT {
        wanted[size.ilog2() as usize] += count;
    }
    let mut counted = [0; BUCKETS as usize];
    for (bucket, count) in (0..).zip(&mut counted) {
        *count = sizes.sum(&bucket)?.unwrap_or(0);
    }
    draw(&counted);
    match counted == wanted {
        true => Ok(()),
        false => Err(format!("sent {wanted:?}, counted {counted:?}").into()),
    }
}

/// Sends everything, and receives everything: what arrived has been counted.
fn exchange(net: &Pair) -> Result<(), Box<dyn Error>> {
    let inbox = net
        .server
        .run(|| UdpSocket::bind((net.server.v4(), PORT)))??;
    let outbox = net.client.run(|| UdpSocket::bind((net.client.v4(), 0)))??;
    inbox.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut datagram = [0; 2048];
    for (size, count) in SENT {
        let payload = vec![0; (size - HEADERS) as usize];
        for _ in 0..count {
            outbox.send_to(&payload, (net.server.v4(), PORT))?;
            let length = inbox.recv(&mut datagram)?;
            if length != payload.len() {
                return Err(format!("{} bytes came as {length}", payload.len()).into());
            }
        }
    }
    Ok(())
}

/// A bar for each bucket that holds anything, and for those between them.
fn draw(counted: &[u64]) {
    let first = counted.iter().position(|&count| count > 0).unwrap_or(0);
    let last = counted.iter().rposition(|&count| count > 0).unwrap_or(0);
    println!("bytes            packets");
    for (bucket, count) in counted.iter().enumerate().take(last + 1).skip(first) {
        let (from, to) = (1_u32 << bucket, (2_u32 << bucket) - 1);
        let bar: String = (0..*count).map(|_| '#').collect();
        println!("{from:>5} to {to:<5}  {count:>6}  {bar}");
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    run()
}
