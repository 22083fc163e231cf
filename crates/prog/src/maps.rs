//! The maps that programs share, by name.

use crate::error::{Error, Result};
use bpfsmith_asm::program::Program;
use bpfsmith_maps::{Handle, View};
use bpfsmith_uapi::map::{MapDef, MapShape, Name};

/// Open maps, by the names that programs use for them.
///
/// One set serves any number of programs: what two of them mention by the same name is one map.
#[derive(Debug, Default)]
pub struct Maps {
    held: Vec<(Name, Handle, Source)>,
}

/// Where a map of a set comes from.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// It was made from this definition.
    Made(MapShape),
    /// It was put in.
    Inserted,
}

impl Maps {
    /// An empty set.
    #[must_use]
    pub fn new() -> Maps {
        Maps::default()
    }

    /// Makes every map that a program mentions.
    ///
    /// # Errors
    /// When the kernel refuses one of them.
    pub fn of(program: &Program) -> Result<Maps> {
        let mut maps = Maps::new();
        maps.add(program)?;
        Ok(maps)
    }

    /// Makes those maps of a program that the set does not hold yet.
    ///
    /// # Errors
    /// When the kernel refuses one of them, or the program means another map by a name that is in
    /// the set. Those made before stay in the set.
    pub fn add(&mut self, program: &Program) -> Result<()> {
        for shape in program.maps() {
            if self.find(shape.name).is_none() {
                let map = Handle::create(shape)?;
                self.held.push((shape.name, map, Source::Made(*shape)));
            } else {
                self.agree(program, shape)?;
            }
        }
        Ok(())
    }

    /// Puts a map in, under the name by which programs mention it. One of the same name is given
    /// back. Keys and values must have the
    /// sizes of the definition; the rest may differ.
    pub fn insert(&mut self, name: Name, map: Handle) -> Option<Handle> {
        match self.held.iter_mut().find(|held| held.0 == name) {
            Some(held) => {
                held.2 = Source::Inserted;
                Some(std::mem::replace(&mut held.1, map))
            }
            None => {
                self.held.push((name, map, Source::Inserted));
                None
            }
        }
    }

    /// Refuses a program that means something else by the name of a map in the set. Its accesses were
    /// written for other keys and values, and the verifier does not notice all of them; of two
    /// definitions, the first would hold in silence.
    pub(crate) fn agree(&self, program: &Program, shape: &MapShape) -> Result<()> {
        let Some((_, map, source)) = self.held.iter().find(|held| held.0 == shape.name) else {
            return Ok(());
        };
        let facts = map.facts();
        let sizes = [
            ("size of a key", facts.key, shape.key),
            ("size of a value", facts.value, shape.value),
        ];
        let rest = match source {
            Source::Inserted => None,
            Source::Made(own) => Some([
                ("kind", own.kind.0, shape.kind.0),
                ("number of entries", own.entries, shape.entries),
                ("set of flags", own.flags, shape.flags),
            ]),
        };
        let mut members = sizes.into_iter().chain(rest.into_iter().flatten());
        match members.find(|(_, is, wanted)| is != wanted) {
            None => Ok(()),
            Some((member, is, wanted)) => Err(Error::OtherMap {
                program: program.name().to_owned(),
                map: shape.name,
                member,
                is,
                wanted,
            }),
        }
    }

    /// The map of that name.
    #[must_use]
    pub fn find(&self, name: Name) -> Option<&Handle> {
        self.held
            .iter()
            .find(|held| held.0 == name)
            .map(|held| &held.1)
    }

    /// Looks at the map of a definition through one of the views of `bpfsmith-maps`.
    ///
    /// ```no_run
    /// use bpfsmith_asm::dsl::*;
    /// use bpfsmith_maps::Map;
    /// use bpfsmith_prog::Maps;
    ///
    /// static HITS: MapDef<u32, u64> = MapDef::array("hits", 1);
    ///
    /// # let code = code![kit::map::count_at(&HITS, 0, 1), ret(XDP_PASS)];
    /// # let program = Program::new(ProgType::XDP, "count", code)?;
    /// let maps = Maps::of(&program)?;
    /// let hits: Map<u32, u64> = maps.open(&HITS)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When the set has no such map, or it is of another kind or shape.
    pub fn open<W, K, V>(&self, def: &MapDef<K, V>) -> Result<W>
    where
        W: View<MapDef<K, V>>,
    {
        Ok(W::view(self.handle(def.shape().name)?)?)
    }

    /// A handle of its own for the map of that name, for one of the views of `bpfsmith-maps`.
    ///
    /// # Errors
    /// When the set has no such map, or the process too many open files.
    pub fn handle(&self, name: Name) -> Result<Handle> {
        let map = self.find(name).ok_or(Error::MissingMap {
            program: None,
            map: name,
        })?;
        Ok(map.try_clone()?)
    }

    /// The names in the set, in the order in which they came.
    pub fn names(&self) -> impl Iterator<Item = Name> + '_ {
        self.held.iter().map(|held| held.0)
    }
}
