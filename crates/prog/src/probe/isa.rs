//! Instructions: a socket filter that uses each of them.

use super::Support;
use super::trial::{Trial, create};
use bpfsmith_sys::map::Create;
use bpfsmith_uapi::flags::map_create::BPF_F_MMAPABLE;
use bpfsmith_uapi::flags::prog_load::BPF_F_SLEEPABLE;
use bpfsmith_uapi::{MapType, ProgType};

/// A program that no kernel with the instruction refuses.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub(super) name: &'static str,
    text: &'static str,
}

/// From the oldest to the newest.
pub(super) const ROWS: &[Row] = &[
    Row {
        name: "v1",
        text: "r0 = 0\nexit",
    },
    Row {
        name: "v2 unsigned and signed less-than",
        text: "r0 = 0\nif r0 < 1 goto L\nif r0 s< 1 goto L\nL:\nexit",
    },
    Row {
        name: "v3 32-bit jumps",
        text: "r0 = 0\nif w0 == 0 goto L\nL:\nexit",
    },
    Row {
        name: "v3 32-bit arithmetic",
        text: "w0 = 0\nw0 += 1\nexit",
    },
    Row {
        name: "v4 gotol",
        text: "r0 = 0\ngotol L\nL:\nexit",
    },
    Row {
        name: "v4 bswap",
        text: "r0 = 1\nr0 = bswap16 r0\nexit",
    },
    Row {
        name: "v4 signed division",
        text: "r0 = 6\nr0 s/= 3\nr0 s%= 2\nexit",
    },
    Row {
        name: "v4 movsx",
        text: "r1 = 1\nr0 = (s8)r1\nexit",
    },
    Row {
        name: "v4 ldsx",
        text: "r1 = 1\n*(u64 *)(r10 - 8) = r1\nr0 = *(s8 *)(r10 - 8)\nexit",
    },
    Row {
        name: "atomic add",
        text: "r0 = 1\n*(u64 *)(r10 - 8) = r0\nlock *(u64 *)(r10 - 8) += r0\nexit",
    },
    Row {
        name: "atomic fetch-add",
        text: "r0 = 1\n*(u64 *)(r10 - 8) = r0\nr0 = atomic_fetch_add((u64 *)(r10 - 8), r0)\nexit",
    },
    Row {
        name: "atomic and, or, xor",
        text: "r0 = 1\n*(u64 *)(r10 - 8) = r0\nlock *(u64 *)(r10 - 8) &= r0\n\
               lock *(u64 *)(r10 - 8) |= r0\nlock *(u64 *)(r10 - 8) ^= r0\nexit",
    },
    Row {
        name: "atomic exchange",
        text: "r0 = 1\n*(u64 *)(r10 - 8) = r0\nr0 = xchg_64(r10 - 8, r0)\nexit",
    },
    Row {
        name: "atomic compare-and-exchange",
        text: "r0 = 1\n*(u64 *)(r10 - 8) = r0\nr0 = cmpxchg_64(r10 - 8, r0, r0)\nexit",
    },
    Row {
        name: "load_acquire, store_release",
        text: "r0 = 1\nstore_release((u64 *)(r10 - 8), r0)\n\
               r0 = load_acquire((u64 *)(r10 - 8))\nexit",
    },
    Row {
        name: "may_goto",
        text: "r0 = 0\nL:\nmay_goto M\ngoto L\nM:\nexit",
    },
    Row {
        name: ARENA_CAST,
        text: "r1 = map[m]\nr0 = 0\nr0 = addr_space_cast(r0, 0, 1)\nr0 = 0\nexit",
    },
];

const ARENA_CAST: &str = "addr_space_cast";

/// The instructions that [`isa`] knows, from the oldest to the newest.
pub fn isa_names() -> impl Iterator<Item = &'static str> {
    ROWS.iter().map(|row| row.name)
}

/// Whether the kernel knows an instruction of [`isa_names`]; none if the name is not there.
#[must_use]
pub fn isa(name: &str) -> Option<Support> {
    ROWS.iter().find(|row| row.name == name).map(ask)
}

pub(super) fn ask(row: &Row) -> Support {
    if row.name != ARENA_CAST {
        return Trial::text(row.text).ask();
    }
    // Only programs with an arena may cast, and only if it has a place in user space.
    let arena = create(&Create {
        kind: MapType::ARENA.0,
        entries: 1,
        flags: BPF_F_MMAPABLE,
        extra: 1 << 44,
        ..Create::default()
    });
    match arena {
        Ok(arena) => Trial::new(ProgType::SYSCALL)
            .flags(BPF_F_SLEEPABLE)
            .code(row.text)
            .with_map(0, &arena)
            .ask(),
        Err(errno) => match Support::because(errno) {
            Support::No(reason) => Support::No(format!("no arena: {reason}")),
            other => other,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::ROWS;
    use bpfsmith_asm::text::parse;

    #[test]
    fn every_row_is_a_program() {
        for row in ROWS {
            let text = parse(row.text).unwrap_or_else(|e| panic!("{}: {e:?}", row.name));
            assert!(text.insns.len() >= 2, "{}", row.name);
        }
    }
}
