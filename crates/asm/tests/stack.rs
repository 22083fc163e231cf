//! Stack slots: what lives at once never shares bytes.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use bpfsmith_asm::dsl::*;
use bpfsmith_asm::isa::Order;
use proptest::arbitrary::any as whatever;
use proptest::prelude::{BoxedStrategy, ProptestConfig, Strategy, prop, proptest};

/// A fragment: the slots it uses, its path's number, and the fragments in it.
#[derive(Clone, Debug)]
struct Node {
    uses: Vec<usize>,
    /// Bytes that it names by number.
    numbers: Vec<i16>,
    path: usize,
    inner: Vec<Node>,
}

const PATHS: [&str; 4] = ["app::a", "app::b", "app::c", "app::d"];

fn tree() -> BoxedStrategy<Node> {
    let uses = || prop::collection::vec(0..8_usize, 0..3);
    let numbers = || prop::collection::vec(-40..0_i16, 0..2);
    let leaf = (uses(), 0..4_usize).prop_map(|(uses, path)| Node {
        uses,
        numbers: vec![],
        path,
        inner: vec![],
    });
    let deeper = leaf.prop_recursive(5, 30, 4, move |inner| {
        let inner = prop::collection::vec(inner, 0..4);
        (uses(), numbers(), 0..4_usize, inner).prop_map(|(uses, numbers, path, inner)| Node {
            uses,
            numbers,
            path,
            inner,
        })
    });
    deeper.boxed()
}

type Spot = (Slot, i16, i16);

fn spots() -> [Spot; 8] {
    [
        (slot::<u8>("u8"), 1, 1),
        (slot::<u16>("u16"), 2, 2),
        (slot::<u32>("u32"), 4, 4),
        (slot::<u64>("u64"), 8, 8),
        (slot::<[u8; 13]>("odd"), 13, 1),
        (slot::<[u32; 5]>("words"), 20, 4),
        (slot::<[u64; 9]>("wide"), 72, 8),
        (slot::<[u16; 30]>("halves"), 60, 2),
    ]
}

/// Each use stores the slot's number in the slot's first byte.
fn build(node: &Node, spots: &[Spot; 8], escapes: usize) -> Code {
    let mut code = Code::new(PATHS[node.path]);
    for &n in &node.uses {
        let number = i32::try_from(n).unwrap();
        if n == escapes {
            addr(R1, spots[n].0).splice(&mut code);
        }
        store(spots[n].0.u8(0), number).splice(&mut code);
    }
    for &off in &node.numbers {
        store(R10.u8(off.into()), 100).splice(&mut code);
    }
    for inner in &node.inner {
        build(inner, spots, escapes).splice(&mut code);
    }
    code
}

/// The way from the root to the smallest fragment that holds all uses of each slot. A fragment of
/// its parent's path is no fragment of its own.
fn homes(node: &Node, way: &[usize], out: &mut [Option<Vec<usize>>; 8], root: Option<usize>) {
    for &n in &node.uses {
        let way = if root == Some(n) { &[] } else { way };
        let home = out[n].take().unwrap_or_else(|| way.to_vec());
        let same = home.iter().zip(way).take_while(|(a, b)| a == b).count();
        out[n] = Some(home[..same].to_vec());
    }
    for (i, inner) in node.inner.iter().enumerate() {
        if inner.path == node.path {
            // Its own fragments are told apart from its siblings' by a number that they do not have.
            let flat = Node {
                inner: vec![],
                ..inner.clone()
            };
            homes(&flat, way, out, root);
            for (j, deep) in inner.inner.iter().enumerate() {
                let wrapped = Node {
                    uses: vec![],
                    numbers: vec![],
                    path: node.path,
                    inner: vec![deep.clone()],
                };
                let base = 1000 * (i + 1) + 10 * j;
                homes_from(&wrapped, way, base, out, root);
            }
        } else {
            let mut way = way.to_vec();
            way.push(i);
            homes(inner, &way, out, root);
        }
    }
}

fn homes_from(
    wrapped: &Node,
    way: &[usize],
    base: usize,
    out: &mut [Option<Vec<usize>>; 8],
    root: Option<usize>,
) {
    let inner = &wrapped.inner[0];
    if inner.path == wrapped.path {
        let flat = Node {
            inner: vec![],
            ..inner.clone()
        };
        homes(&flat, way, out, root);
        for (j, deep) in inner.inner.iter().enumerate() {
            let next = Node {
                uses: vec![],
                numbers: vec![],
                path: wrapped.path,
                inner: vec![deep.clone()],
            };
            homes_from(&next, way, base * 100 + j, out, root);
        }
    } else {
        let mut way = way.to_vec();
        way.push(base);
        homes(inner, &way, out, root);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn slots_that_live_at_once_are_apart(tree in tree(), escapes in whatever::<u8>()) {
        let escapes = usize::from(escapes % 16);
        let spots = spots();
        let code = code![build(&tree, &spots, escapes), ret(0)];
        let program = Program::assemble(Isa::V4, ProgType::XDP, "stack", code).unwrap();
        let mut places: [Option<i16>; 8] = [None; 8];
        let mut numbers = Vec::new();
        for b in program.to_bytes(Order::Little).chunks(8).filter(|b| b[0] == 0x72) {
            let off = i16::from_le_bytes([b[2], b[3]]);
            if b[4] == 100 {
                numbers.push(off);
            } else {
                let place = &mut places[usize::from(b[4])];
                assert_eq!(*place.get_or_insert(off), off, "a slot has one place");
            }
        }
        let mut ways: [Option<Vec<usize>>; 8] = Default::default();
        let wrapped = Node { uses: vec![], numbers: vec![], path: 9, inner: vec![tree] };
        homes(&wrapped, &[], &mut ways, Some(escapes));
        for (n, place) in places.iter().enumerate() {
            let Some(at) = *place else { continue };
            let (_, size, align) = spots[n];
            assert!(at >= -512 && at + size <= 0 && at % align == 0, "{at} {program}");
            assert!(numbers.iter().all(|off| !(at..at + size).contains(off)), "{program}");
            for (m, other) in places.iter().enumerate().skip(n + 1) {
                let (Some(other), Some(a), Some(b)) = (other, &ways[n], &ways[m]) else { continue };
                let nested = a.starts_with(b) || b.starts_with(a);
                let apart = at + size <= *other || other + spots[m].1 <= at;
                assert!(apart || !nested, "{n} {m} {a:?} {b:?} {program}");
            }
        }
    }
}

/// The offset of each store of one byte through R10.
fn stores(code: Code) -> Vec<i16> {
    let program = Program::assemble(Isa::V4, ProgType::XDP, "stack", code).unwrap();
    let insns = program.insns().iter();
    insns
        .filter(|raw| raw.code == 0x72 && raw.dst() == 10)
        .map(|raw| raw.off)
        .collect()
}

fn left(size: usize) -> Code {
    let big = slot::<[u64; 40]>("left");
    code![store(
        big.u8(size.try_into().unwrap()),
        1
    )]
}

fn right(size: usize) -> Code {
    let big = slot::<[u64; 40]>("right");
    code![store(
        big.u8(size.try_into().unwrap()),
        2
    )]
}

#[test]
fn fragments_side_by_side_share() {
    assert_eq!(stores(code![left(0), right(0), ret(0)]), [-320, -320]);
}

fn holds_address(inner: Code) -> Code {
    let key = slot::<[u64; 10]>("key");
    code![addr(R6, key), inner]
}

#[test]
fn a_slot_whose_address_is_taken_lives_on() {
    let offs = stores(code![
        holds_address(code![]),
        left(0),
        store(R6.u8(0), 9),
        ret(0)
    ]);
    assert_eq!(offs, [-80 - 320]);
}

#[test]
fn bytes_named_through_a_copy_of_the_frame_pointer_are_kept_free() {
    let byte = slot::<u8>("byte");
    let ways = [
        code![
            mov(R1, R10),
            add(R1, -16),
            store(byte.u8(0), 1)
        ],
        code![
            mov(R1, R10),
            mov(R2, 7),
            add(R1, -16),
            store(byte.u8(0), 1)
        ],
        code![
            mov(R1, R10),
            sub(R1, 16),
            store(byte.u8(0), 1)
        ],
        code![
            mov(R1, R10),
            mov(R2, R1),
            store(R2.u64(-16), 7),
            store(byte.u8(0), 1)
        ],
        code![
            mov(R1, R10),
            add(R1, -8),
            load(R3, R1.u64(-8)),
            store(byte.u8(0), 1)
        ],
        code![
            addr(R1, R10.at(-16)),
            store(byte.u8(0), 1)
        ],
        code![
            store(byte.u8(0), 1),
            map_lookup_elem(R1, R10.at(-16))
        ],
    ];
    for code in ways {
        assert_eq!(stores(code![code, ret(0)]), [-17]);
    }
    // A register that was written since is no copy.
    let code = code![
        mov(R1, R10),
        mov(R1, 5),
        add(R1, -16),
        store(byte.u8(0), 1),
        ret(0)
    ];
    assert_eq!(stores(code), [-1]);
    let code = code![
        mov(R1, R10),
        ktime_get_ns(),
        add(R1, -16),
        store(byte.u8(0), 1),
        ret(0)
    ];
    assert_eq!(stores(code), [-1]);
}

#[test]
fn a_slot_is_aligned_for_what_is_stored_in_it() {
    let (byte, bytes) = (slot::<u8>("byte"), slot::<[u8; 16]>("bytes"));
    let code = code![
        store(byte.u8(0), 1),
        store(bytes.u64(8), 1),
        ret(0)
    ];
    Program::new(ProgType::XDP, "stack", code).unwrap();
}

#[test]
fn all_512_bytes_are_usable() {
    let all = slot::<[u64; 64]>("all");
    let code = code![
        store(all.u64(0), 0),
        store(all.u64(504), 0),
        ret(0)
    ];
    Program::new(ProgType::XDP, "stack", code).unwrap();
}

#[test]
fn each_function_has_its_own_512_bytes() {
    let all = slot::<[u64; 64]>("all");
    let callee = func("callee").body(code![store(all.u64(0), 0), ret(0)]);
    let other = slot::<[u64; 64]>("other");
    let code = code![
        store(other.u64(0), 0),
        call(&callee),
        ret(0)
    ];
    Program::new(ProgType::XDP, "stack", code).unwrap();
}
