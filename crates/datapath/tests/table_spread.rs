//! Where keys stand that somebody chose, or that follow each other: no worse than any.

use bpfsmith_datapath::flows::{Bucket, Flows};
use bpfsmith_datapath::layout::{Bucket4, Bucket6, Flow4, Flow6, Key4, Key6, Secret};

/// Flows that a table promises room for.
const ROOM: u32 = 3000;
/// Buckets of such a table.
const BUCKETS: usize = (3000 / 12 + 1) * 5;
/// Secrets that are tried.
const SECRETS: u64 = 32;

/// Numbers that look random, the same each time.
struct Dice(u64);

impl Dice {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn secret(&mut self) -> Secret {
        std::array::from_fn(|_| self.draw() | 1)
    }
}

/// A client's address and port.
type Client = (u32, u16);
/// Which client is number n.
type Kind = fn(u32, &mut Dice) -> Client;

const KINDS: [(&str, Kind); 7] = [
    ("any", |_, dice| {
        let [a, b, c, d, e, f, ..] = dice.draw().to_ne_bytes();
        (u32::from_ne_bytes([a, b, c, d]), u16::from_ne_bytes([e, f]))
    }),
    ("ports in turn", |n, _| (0x0a01_0001, 1024 + short(n))),
    ("addresses in turn", |n, _| (0x0a01_0000 + n, 40000)),
    ("addresses from above", |n, _| (n << 20, 40000)),
    ("both in turn", |n, _| (0x0a01_0000 + n, 1024 + short(n))),
    ("ports of few clients", |n, _| {
        (0x0a01_0000 + n % 64, 1024 + short(n / 64))
    }),
    ("every 256th", |n, _| (0x0a00_0000 + (n << 8), 40000)),
];

fn short(n: u32) -> u16 {
    u16::try_from(n).expect("few")
}

/// How packets of both directions arrive.
fn keys4(n: u32, (address, port): Client) -> [Key4; 2] {
    let client = address.to_be_bytes();
    let [a, b] = port.to_be_bytes();
    let ask = Key4 {
        saddr: client,
        daddr: [10, 99, 0, 1],
        ports: [a, b, 0, 80],
    };
    let answer = Key4 {
        saddr: [10, 2, 0, n.to_le_bytes()[0] % 4],
        daddr: client,
        ports: [0x1f, 0x90, a, b],
    };
    [ask, answer]
}

/// The same of IPv6: what differs is in the last word of addresses.
fn keys6(n: u32, client: Client) -> [Key6; 2] {
    let wide = |address: [u8; 4]| {
        let mut wide = [0; 16];
        wide[0] = 0xfd;
        wide[12..].copy_from_slice(&address);
        wide
    };
    keys4(n, client).map(|key| Key6 {
        saddr: wide(key.saddr),
        daddr: wide(key.daddr),
        ports: key.ports,
    })
}

/// How many entries find no room with the worst of the secrets, and how many with all of them.
fn refused<B: Bucket>(
    kind: Kind,
    keys: fn(u32, Client) -> [B::Key; 2],
    flow: &B::Flow,
) -> (u32, u32) {
    let (mut worst, mut all) = (0, 0);
    for seed in 0..SECRETS {
        let mut dice = Dice(seed << 32);
        let mut flows = Flows::<B>::new(BUCKETS, dice.secret());
        let mut refused = 0;
        for n in 0..ROOM {
            for key in keys(n, kind(n, &mut dice)) {
                refused += u32::from(!flows.enter(&key, flow));
            }
        }
        worst = worst.max(refused);
        all += refused;
    }
    (worst, all)
}

/// One of some ten thousand entries finds no room where the promised flows are there. Sums that are not mixed
/// refuse hundreds of some kinds with one of twenty secrets.
#[test]
fn keys_of_any_kind_find_room() {
    for (name, kind) in KINDS {
        let four = refused::<Bucket4>(kind, keys4, &Flow4::default());
        let six = refused::<Bucket6>(kind, keys6, &Flow6::default());
        for (worst, all) in [four, six] {
            assert!(
                worst <= 6 && all <= 40,
                "{name}: {worst} at worst, {all} of all"
            );
        }
    }
}

/// The smallest table has two buckets for each key, and says when both are full.
#[test]
fn the_smallest_table_fills_up() {
    for seed in 0..SECRETS {
        let mut dice = Dice(seed << 32);
        let mut flows = Flows::<Bucket4>::new(5, dice.secret());
        let mut entered = Vec::new();
        for n in 0..1000 {
            let [key, _] = keys4(n, KINDS[0].1(n, &mut dice));
            if flows.enter(&key, &Flow4::default()) {
                entered.push(key);
            }
        }
        assert_eq!(entered.len(), 40, "every place is taken in the end");
        assert!(entered.iter().all(|key| flows.find(key).is_some()));
        assert!(entered.iter().all(|key| flows.erase(key)));
        assert_eq!(flows.iter().count(), 0);
    }
}
