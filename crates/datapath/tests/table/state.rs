//! What stands in tables of flows, and what must be true of it.

use crate::rig::Rig;
use bpfsmith_datapath::config::{BackendId, Family, Room};
use bpfsmith_datapath::flows::{Bucket, Flows};
use bpfsmith_datapath::layout::{
    ANSWER, Bucket4, Bucket6, Flow4, Flow6, Key4, Key6, PLACES, Tag, Word,
};
use bpfsmith_datapath::shape::Path;
use bpfsmith_maps::{Map, View};
use bpfsmith_uapi::map::MapDef;
use std::collections::BTreeMap;
use zerocopy::IntoBytes;

/// Source, destination and ports, in bytes.
type Tuple = Vec<u8>;

/// A used place.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Tuple,
    /// How answers to what the packets become arrive.
    pub(crate) partner: Tuple,
    pub(crate) is_soft: bool,
    pub(crate) number: u16,
    pub(crate) word: Word,
}

impl Entry {
    pub(crate) fn is_answer(&self) -> bool {
        self.number & ANSWER != 0
    }

    /// Whether it is among the flows of its backend.
    fn counts(&self) -> bool {
        let apart = Word::UNCOUNTED | Word::OUTSIDE | Word::HALF;
        !self.is_answer() && self.word.0 & apart == 0
    }
}

/// What entries of both families have.
pub(crate) trait Kind: Bucket {
    fn read(key: &Self::Key, flow: &Self::Flow, tag: Tag) -> Entry;
}

macro_rules! kinds {
    ($($bucket:ident, $key:ident, $flow:ident;)+) => {$(
        impl Kind for $bucket {
            fn read(key: &$key, flow: &$flow, tag: Tag) -> Entry {
                let [a, b, c, d] = flow.ports;
                let partner = $key {
                    saddr: flow.daddr,
                    daddr: flow.saddr,
                    ports: [c, d, a, b],
                };
                Entry {
                    key: key.as_bytes().to_vec(),
                    partner: partner.as_bytes().to_vec(),
                    is_soft: tag.0 & Tag::SOFT != 0,
                    number: flow.tag,
                    word: Word(flow.word),
                }
            }
        }
    )+};
}

kinds! {
    Bucket4, Key4, Flow4;
    Bucket6, Key6, Flow6;
}

/// The used places of a table, and how many are neither free nor used.
pub(crate) fn table(rig: &Rig, path: Path) -> (Vec<Entry>, usize) {
    match path.family {
        Family::V4 => entries::<Bucket4>(rig, path),
        Family::V6 => entries::<Bucket6>(rig, path),
    }
}

fn entries<B: Kind>(rig: &Rig, path: Path) -> (Vec<Entry>, usize)
where
    Map<u32, B>: View<MapDef<u32, B>>,
{
    let maps = rig.generation.maps();
    let flows = Flows::<B>::read(maps, path).unwrap();
    let handle = maps.handle(path.flows(Room::default()).name).unwrap();
    let map: Map<u32, B> = Map::view(handle).unwrap();
    let map = map.mapped_to_read().unwrap();
    let (mut found, mut held) = (Vec::new(), 0);
    for bucket in (0..map.len()).filter_map(|at| map.load(at)) {
        for place in 0..PLACES {
            let tag = Tag(bucket.tags()[place]);
            if tag.is_used() {
                let (key, flow) = bucket.entry(place);
                assert!(flows.find(&key).is_some(), "{key:?} stands elsewhere");
                found.push(B::read(&key, &flow, tag));
            } else if tag.0 != 0 {
                held += 1;
            }
        }
    }
    (found, held)
}

/// What is wrong with the tables of these paths while no packet comes. Says nothing of half flows without
/// answers, and of answers without flows: they go by themselves. Nor of half flows that somebody began to take out: of
/// two who do so with the same key at once, one in tens of millions leaves one, whose packets are dropped until it is
/// forgotten as unanswered.
pub(crate) fn wrongs(rig: &Rig, paths: &[Path]) -> Vec<String> {
    let mut wrongs = Vec::new();
    let mut counts: BTreeMap<u16, u32> = BTreeMap::new();
    for path in paths {
        let (entries, held) = table(rig, *path);
        if held > 0 {
            wrongs.push(format!("{path:?}: {held} places are nobody's"));
        }
        let mut keys: BTreeMap<&Tuple, &Entry> = BTreeMap::new();
        for entry in &entries {
            if keys.insert(&entry.key, entry).is_some() {
                wrongs.push(format!("twice: {entry:?}"));
            }
        }
        for entry in &entries {
            if entry.counts() {
                *counts.entry(entry.number).or_default() += 1;
            }
            if entry.word.0 & Word::OUTSIDE != 0 && !entry.word.is_half() {
                wrongs.push(format!("taken out, and there: {entry:?}"));
            }
            if entry.word.is_half() || entry.is_answer() {
                continue;
            }
            if entry.is_soft {
                wrongs.push(format!("established, and makes room: {entry:?}"));
            }
            match keys.get(&entry.partner) {
                None => wrongs.push(format!("no answers: {entry:?}")),
                Some(back) if back.partner != entry.key => {
                    wrongs.push(format!("others' answers: {entry:?} {back:?}"));
                }
                Some(back) if back.is_soft || back.word.is_half() => {
                    wrongs.push(format!("answers are half: {back:?}"));
                }
                Some(_) => {}
            }
        }
    }
    for number in 0..16 {
        let (told, there) = (
            rig.generation.flows_of(BackendId(number)).unwrap(),
            counts.get(&number).copied().unwrap_or_default(),
        );
        if told != there {
            wrongs.push(format!(
                "backend {number} has {there} flows, and {told} are counted"
            ));
        }
    }
    wrongs
}
