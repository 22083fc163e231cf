//! What a process keeps for the next one.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

mod support;

use bpfsmith_datapath::error::Error;
use bpfsmith_datapath::pins::Pins;
use bpfsmith_gate::needs;
use std::fs;
use support::kept::Home;

#[test]
fn the_next_process_reads_what_was_kept_last() {
    needs!(Root, Tcx, Bpffs);
    let home = Home::new();
    let pins = home.pins();
    assert_eq!(pins.remembered().unwrap(), None);
    // Lengths around the end of a page, and many pages.
    for length in [0, 1, 4087, 4088, 4089, 8184, 5_000_000] {
        let bytes: Vec<u8> = (0..length)
            .map(|n: usize| n.to_le_bytes()[0] ^ 0x5a)
            .collect();
        pins.remember(&bytes).unwrap();
        assert!(pins.remembered().unwrap() == Some(bytes), "{length} bytes");
    }
    pins.remember(b"the last").unwrap();
    let dir = pins.path().to_owned();
    drop(pins);
    let pins = Pins::open(&dir).unwrap();
    assert_eq!(pins.remembered().unwrap().unwrap(), b"the last");
    pins.detach().unwrap();
    assert!(!dir.exists());
}

/// Between the two names that a map gets, somebody was killed.
#[test]
fn a_step_that_was_broken_off_is_gone_on_with() {
    needs!(Root, Tcx, Bpffs);
    let home = Home::new();
    let pins = home.pins();
    pins.remember(b"one").unwrap();
    let memory = pins.path().join("v1/memory");
    fs::rename(&memory, memory.with_file_name("memory-new")).unwrap();
    assert_eq!(pins.remembered().unwrap(), None);
    pins.remember(b"two").unwrap();
    assert_eq!(pins.remembered().unwrap().unwrap(), b"two");
    pins.remember(b"three").unwrap();
    assert_eq!(fs::read_dir(pins.path().join("v1")).unwrap().count(), 1);
    pins.detach().unwrap();
}

#[test]
fn what_somebody_else_put_there_is_refused() {
    needs!(Root, Tcx, Bpffs);
    let home = Home::new();
    let pins = home.pins();
    pins.remember(b"ours").unwrap();
    let path = pins.path().join("v1/memory");
    let map: bpfsmith_maps::Map<u32, [u8; 4096]> = bpfsmith_maps::Map::open_pin(&path).unwrap();
    // More than there is.
    let mut page = [0; 4096];
    page[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    map.update(&0, &page).unwrap();
    assert!(matches!(pins.remembered(), Err(Error::Foreign { path: it }) if it == path));
    pins.detach().unwrap();
}
