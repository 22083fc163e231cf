//! Who has the fewest flows for its weight.

use super::lane::Lane;
use super::select::{GROUP, turn};
use crate::layout::Group;
use crate::shape::{BACKEND_FLOWS, Shape};
use bpfsmith_asm::dsl::*;
use bpfsmith_uapi::record;

record! {
    /// What is known while members are compared.
    #[derive(Clone, Copy, Debug, Default)]
    struct Search {
        /// Where the group's part of the ring begins.
        first: u32,
        /// How many members there are.
        members: u32,
        /// The one whose turn it is: of equals, the first from here on is taken.
        turn: u32,
        /// The place of the best one so far.
        best: u32,
        /// How many flows that has.
        flows: u32,
        /// Its weight.
        weight: u32,
    }
}

impl Lane<'_> {
    /// R1 becomes the place of the member that has the fewest flows for its weight. Clobbers R0 to R5.
    pub(super) fn fewest(&self) -> Code {
        let search = slot::<Search>("search");
        code![
            turn(),
            // Each has two places.
            rsh(R2, 1),
            store(search.get(Search::members), R2),
            rem(R1.low(), R2.low()),
            store(search.get(Search::turn), R1),
            load(R3, GROUP.get(Group::first)),
            store(search.get(Search::first), R3),
            store(search.get(Search::best), 0),
            // Anybody is better than this.
            store(search.get(Search::flows), 1),
            store(search.get(Search::weight), 0),
            mov(R1, R2),
            r#loop(R1, &self.context.compare, search, 0),
            load(R1, search.get(Search::best)),
        ]
    }
}

/// Compares one member with the best so far. Ends the search at one without any flow.
pub(super) fn compare(shape: &Shape) -> Func {
    let index = slot::<u32>("index");
    let (place, flows) = (R7, R9);
    let (worse, over) = (label("worse"), label("over"));
    let at = |field: Field| R6.get(field);
    let ring = |place_and: i32| {
        code![
            mov(R1, place),
            add(R1, place_and),
            load(R2, at(Search::first)),
            add(R1, R2),
            store(index.u32(0), R1),
            map_lookup_elem(&shape.ring(), index),
            jeq(R0, 0, over),
        ]
    };
    func("compare").body(code![
        mov(R6, R2),
        mov(place, R1),
        load(R1, at(Search::turn)),
        add(place, R1),
        load(R1, at(Search::members)),
        place.ge(R1).then(sub(place, R1)),
        lsh(place, 1),
        ring(0),
        load(R1, R0.u32(0)),
        store(index.u32(0), R1),
        map_lookup_elem(&BACKEND_FLOWS, index),
        jeq(R0, 0, worse),
        load(flows, R0.u32(0)),
        ring(1),
        load(R1, R0.u32(0)),
        // Fewer for its weight: compared without dividing. Both are numbers of 32 bits.
        load(R2, at(Search::weight)),
        mul(R2, flows),
        load(R3, at(Search::flows)),
        mul(R3, R1),
        jge(R2, R3, worse),
        store(at(Search::best), place),
        store(at(Search::flows), flows),
        store(at(Search::weight), R1),
        jeq(flows, 0, over),
        bind(worse),
        ret(0),
        bind(over),
        ret(1),
    ])
}
