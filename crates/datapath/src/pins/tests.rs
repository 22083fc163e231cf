//! Without a kernel.

use super::*;
use crate::adopt::MODES;
use crate::config::{Config, Family, Room};
use crate::reason::Reason;
use crate::shape::{self, Shape};
use std::fmt::Write;

#[test]
fn versions_are_told_from_other_names() {
    for name in ["v1", "v0", "v123"] {
        assert_eq!(version(Path::new(name)), Some(name));
    }
    for name in ["v", "1", "v1x", "vv", "maps", "v-1"] {
        assert_eq!(version(Path::new(name)), None, "{name}");
    }
    assert_eq!(version(Path::new(LAYOUT)), Some(LAYOUT));
}

#[test]
fn room_is_found_again_by_the_size_of_its_table() {
    for flows in [
        0,
        1,
        11,
        12,
        13,
        1 << 14,
        1 << 18,
        10_000_000,
    ] {
        let buckets = |flows| {
            let room = Room {
                flows,
                ..Room::default()
            };
            shape::Path::buckets(room)
        };
        let found = shape::Path::room(buckets(flows));
        assert_eq!(buckets(found), buckets(flows), "{flows}");
        assert!(found <= flows);
    }
}

/// All that an older process may have left, as the kernel knows it: kinds, sizes, and the members of what is in them.
fn layout() -> String {
    let shape = Shape::of(&Config::default(), 0, crate::clock::Clock::new(250));
    let mut shapes = vec![
        *shape::SECRET.shape(),
        *shape::BACKEND_FLOWS.shape(),
        *shape::SWEPT.shape(),
        *shape::SWEEPER.shape(),
        *shape::COUNTERS.shape(),
        *shape::SETTINGS.shape(),
        *shape::DEVICES.shape(),
        *shape::BACKEND_TABLE.shape(),
        *MODES.shape(),
        *shape.event_ring().shape(),
    ];
    shapes.extend(shape::Path::ALL.map(|path| path.flows(Room::default())));
    for family in [Family::V4, Family::V6] {
        shapes.push(shape.listeners(family));
        shapes.push(shape.shifts(family));
        shapes.push(shape.fragments(family));
        shapes.push(shape.buckets(family));
    }
    let mut text = String::new();
    for it in shapes {
        let _ = writeln!(
            text,
            "{} {} key {} value {} entries {} flags {:#x} {:?}",
            it.name, it.kind, it.key, it.value, it.entries, it.flags, it.value_type
        );
    }
    for reason in Reason::ALL {
        let _ = writeln!(text, "counter {} {reason:?}", reason.number());
    }
    text
}

/// Who changes this changes what flows of a running proxy mean to the next version: give [`LAYOUT`] the next number, and
/// this test what the layout is then. Only a counter may come, behind all others.
#[test]
fn the_layout_is_that_of_its_number() {
    insta::assert_snapshot!(LAYOUT, layout());
}
