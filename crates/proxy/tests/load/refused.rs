//! The kernel's verifier refuses a program in the middle of an apply.

use super::rollback::{CHANGE, allowed, swap};
use super::tracer::{Call, traced};
use super::{Api, Chance, under_load};
use crate::rig::support::world::{LIMIT, World};
use crate::rig::{Daemon, SERVED};
use bpfsmith_gate::{deadline, needs};
use bpfsmith_proxy::http::Method;
use nix::libc::SYS_bpf;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// `BPF_PROG_LOAD`, and where in its attributes the instructions and the name of the program are.
const PROG_LOAD: u64 = 5;
const INSNS: u64 = 8;
const NAME: u64 = 48;

/// `r0 = r9`: nothing has been put into that register when a program begins.
const WRONG: [u8; 8] = [0xbf, 0x90, 0, 0, 0, 0, 0, 0];

/// What the verifier says of it.
const WORDS: &str = "R9 !read_ok";

/// Puts an instruction that the verifier refuses at the beginning of the program of that name which is being loaded,
/// in the memory of who loads it.
fn spoil(call: &Call<'_>, name: &str) -> bool {
    let [command, attributes, ..] = call.args;
    if call.number != SYS_bpf || command != PROG_LOAD {
        return false;
    }
    let of: [u8; 16] = call.memory.read(attributes + NAME);
    let is_it = of.split(|it| *it == 0).next() == Some(name.as_bytes());
    if is_it {
        let at = u64::from_ne_bytes(call.memory.read(attributes + INSNS));
        call.memory.write(at, &WRONG);
    }
    is_it
}

/// What the kernel has of a daemon: its maps, programs and links with their numbers, and its names.
fn held(daemon: &Daemon<'_>) -> BTreeSet<String> {
    let mut held = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{}/fdinfo", daemon.pid())).unwrap() {
        // One that was closed meanwhile is none.
        let text = fs::read_to_string(entry.unwrap().path()).unwrap_or_default();
        let ids = ["map_id:", "prog_id:", "link_id:"];
        let is_id = |line: &&str| ids.iter().any(|id| line.starts_with(id));
        held.extend(text.lines().filter(is_id).map(str::to_owned));
    }
    names(&daemon.pins(), &mut held);
    held
}

fn names(directory: &Path, all: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            names(&entry.path(), all);
        }
        all.insert(entry.path().display().to_string());
    }
}

/// Each program of an apply is once the one that is refused: the kernel's own verifier does it, and says why.
#[test]
fn every_program_is_refused_once() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(2, super::model::BACKENDS);
    let servers = world.serve(SERVED);
    let daemon = Daemon::start(&world, super::model::FILE);
    let api = Api::of(&daemon);
    let mut chance = Chance::new("every_program_is_refused_once");
    under_load(&world, allowed(false), &mut chance, |load| {
        swap(&api, load, true);
        swap(&api, load, false);
        // In the order in which they are loaded.
        for name in [
            "proxy_sums6",
            "proxy_tcx",
            "proxy_sweep",
        ] {
            let (generation, config) = (daemon.generation(), daemon.ok(&["config"]));
            let before = held(&daemon);
            let tries = AtomicU32::new(0);
            load.truth.may_become(&allowed(true));
            let said = traced(
                daemon.pid(),
                |call| {
                    if spoil(call, name) {
                        tries.fetch_add(1, Ordering::Relaxed);
                    }
                },
                || api.fails(Method::PATCH, &["v1", "groups", "web"], Some(CHANGE[0])),
            );
            load.truth.is(allowed(false));
            println!("{name}: {}", said.trim());
            // Once to be told yes or no, and once to be told why.
            assert!(tries.load(Ordering::Relaxed) >= 2, "{name}");
            assert!(said.contains(WORDS) && said.contains(name), "{said}");
            // Everything is as it was, and nothing of what came before the refusal is left.
            load.goes_on();
            assert_eq!(daemon.generation(), generation);
            assert_eq!(daemon.ok(&["config"]), config);
            deadline(LIMIT, || (held(&daemon) == before).then_some(()));
            load.all_are_known(&daemon);
            // The same change is possible when nobody spoils it.
            swap(&api, load, true);
            swap(&api, load, false);
            assert_eq!(daemon.generation(), generation + 2);
        }
        load.all_are_known(&daemon);
    });
    let failed: Vec<String> = servers.iter().flat_map(|it| it.failed()).collect();
    assert!(failed.is_empty(), "{failed:?}");
}
