//! Names become numbers: maps, global data, kernel functions and variables.

use crate::answered::{answered, poison};
use crate::blame::Point;
use crate::error::{Error, Result};
use crate::globals::{Data, Initial, make_section};
use crate::kernel::answer::Answer;
use crate::kernel::{self, Module};
use crate::maps::Maps;
use crate::tell::Told;
use bpfsmith_asm::isa::{Order, Raw};
use bpfsmith_asm::kernel::{Ask, Question};
use bpfsmith_asm::program::{Program, Reloc, Target};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// A program whose names are filled in, and what must stay open for it.
pub(crate) struct Resolved {
    /// All slots, in this machine's order.
    pub(crate) insns: Vec<u8>,
    pub(crate) data: Vec<Data>,
    /// The modules that it names, each open until the program is loaded: then the kernel holds
    /// them itself.
    pub(crate) modules: Vec<(Arc<Module>, OwnedFd)>,
    /// What this kernel lacks, by slot: it matters if the verifier comes there.
    pub(crate) missing: Vec<(usize, Error)>,
}

impl Resolved {
    pub(crate) fn new(
        program: &Program,
        maps: &Maps,
        initial: &Initial,
        told: &Told,
        token: Option<BorrowedFd<'_>>,
    ) -> Result<Resolved> {
        let mut resolved = Resolved {
            insns: program.to_bytes(Order::HOST),
            data: Vec::new(),
            modules: Vec::new(),
            missing: Vec::new(),
        };
        for section in program.sections() {
            let bytes = initial.bytes(section);
            let map = make_section(program, section, &bytes, told, token)?;
            resolved.data.push(Data::new(section, map));
        }
        let is_testing = tests(program);
        for reloc in program.relocs() {
            let slot = reloc.at as usize;
            let done = match &reloc.target {
                Target::Kernel(question) => resolved.answer(program, slot, question, told),
                target => resolved
                    .filling(program, maps, target)
                    .map(|filling| resolved.fill(slot, filling)),
            };
            match done {
                Err(error @ Error::Unknown { .. }) if is_testing => {
                    resolved.lack(program, slot, &reloc.target);
                    resolved.missing.push((slot, error));
                }
                done => done.map_err(|cause| at(program, slot, &reloc.target, cause))?,
            }
        }
        Ok(resolved)
    }

    /// Writes what the kernel answers into the slot that asks.
    fn answer(
        &mut self,
        program: &Program,
        slot: usize,
        question: &Question,
        told: &Told,
    ) -> Result<()> {
        let raw = program.insns().get(slot).copied().unwrap_or_default();
        let own = match question.ask {
            Ask::OwnType => told.record(&question.path),
            _ => None,
        };
        let answer = match own {
            Some(id) => Answer::from(id.0),
            None => kernel::answer::answer(question)?,
        };
        let raw = answered(raw, question, answer)?;
        self.put(slot, raw);
        Ok(())
    }

    /// Puts what refuses to run where something is needed that the kernel lacks.
    fn lack(&mut self, program: &Program, slot: usize, target: &Target) {
        let raw = program.insns().get(slot).copied().unwrap_or_default();
        self.put(slot, poison(raw));
        if matches!(target, Target::Ksym(_)) {
            // The second slot of a wide instruction is none by itself.
            self.put(slot + 1, poison(raw));
        }
    }

    fn put(&mut self, slot: usize, raw: Raw) {
        let at = slot * 8;
        self.insns[at..at + 8].copy_from_slice(&raw.to_bytes(Order::HOST));
    }

    /// The fds that calls of modules' functions name by index. The kernel takes the index 0 for
    /// its own functions and never looks there.
    pub(crate) fn fd_array(&self) -> Vec<BorrowedFd<'_>> {
        let fds = self.modules.iter().map(|(_, fd)| fd.as_fd());
        let unused = fds.clone().next();
        unused.into_iter().chain(fds).collect()
    }

    /// Writes into a slot.
    fn fill(&mut self, slot: usize, filling: Filling) {
        let at = slot * 8;
        self.insns[at + 4..at + 8].copy_from_slice(&filling.constant.to_ne_bytes());
        if let Some(offset) = filling.offset {
            self.insns[at + 2..at + 4].copy_from_slice(&offset.to_ne_bytes());
        }
        if let Some(next) = filling.next {
            self.insns[at + 12..at + 16].copy_from_slice(&next.to_ne_bytes());
        }
    }

    /// What stands in the program for something that it names.
    fn filling(&mut self, program: &Program, maps: &Maps, target: &Target) -> Result<Filling> {
        match target {
            Target::Map(name) | Target::MapValue(name, _) => match maps.find(*name) {
                Some(map) => Ok(map.as_fd().as_raw_fd().into()),
                None => Err(Error::MissingMap {
                    program: Some(program.name().to_owned()),
                    map: *name,
                }),
            },
            Target::Section(section, _) => {
                match self.data.iter().find(|data| data.section == *section) {
                    Some(data) => Ok(data.map.as_fd().as_raw_fd().into()),
                    None => Err(Error::Argument {
                        what: "program",
                        problem: format!("it refers to {section}, which it does not have"),
                    }),
                }
            }
            Target::Kfunc(name) => {
                let named = kernel::function(name)?;
                let mut filling = Filling::from(named.id.0.cast_signed());
                if let Some(module) = named.module {
                    let index = self.module(module)? + 1;
                    filling.offset = Some(i16::try_from(index).map_err(|_| Error::Argument {
                        what: "program",
                        problem: "it calls functions of more than 32767 modules".to_owned(),
                    })?);
                }
                Ok(filling)
            }
            Target::Ksym(name) => {
                let named = kernel::variable(name)?;
                let mut filling = Filling::from(named.id.0.cast_signed());
                if let Some(module) = named.module {
                    let index = self.module(module)?;
                    filling.next = Some(self.modules[index].1.as_raw_fd());
                }
                Ok(filling)
            }
            _ => Err(Error::Argument {
                what: "reference",
                problem: format!("{target:?} is newer than this loader: update bpfsmith-prog"),
            }),
        }
    }

    /// Where a module stands among those that the program names.
    fn module(&mut self, module: Arc<Module>) -> Result<usize> {
        let mut known = self.modules.iter();
        if let Some(at) = known.position(|(known, _)| known.id() == module.id()) {
            return Ok(at);
        }
        let fd = module.open()?;
        self.modules.push((module, fd));
        Ok(self.modules.len() - 1)
    }
}

/// Refuses arguments by name of anything but the function or event that the program is for: they would
/// be read from the places of others.
pub(crate) fn takes_arguments_of(program: &Program, of: &str) -> Result<()> {
    let Some((reloc, asked)) = foreign_argument(program, of) else {
        return Ok(());
    };
    let cause = Error::Argument {
        what: "args",
        problem: format!(
            "these are arguments of {asked}, and the program is loaded for {of}: ask for \
             args(\"{of}\")"
        ),
    };
    Err(at(program, reloc.at as usize, &reloc.target, cause))
}

/// The first argument by name of anything else, and of what.
pub(crate) fn foreign_argument<'a>(program: &'a Program, of: &str) -> Option<(&'a Reloc, &'a str)> {
    // A module's name says where a function is, not what it is called.
    let bare = |name: &str| name.rsplit(':').next().unwrap_or(name).to_owned();
    program.relocs().iter().find_map(|reloc| {
        let Target::Kernel(Question {
            ask: Ask::Arg | Ask::ArgAt,
            path,
        }) = &reloc.target
        else {
            return None;
        };
        let asked = path.rsplit_once('.').map_or("", |(asked, _)| asked);
        (bare(asked) != bare(of)).then_some((reloc, asked))
    })
}

/// An error about a name, with the place where it is written. Of maps and sections, the program as a
/// whole has too few.
fn at(program: &Program, slot: usize, target: &Target, cause: Error) -> Error {
    match target {
        Target::Kernel(_) | Target::Kfunc(_) | Target::Ksym(_) => Error::Name {
            program: program.name().to_owned(),
            point: Box::new(Point::new(program, slot).quoted()),
            cause: Box::new(cause),
        },
        _ => cause,
    }
}

/// Whether the program asks if something exists: then what it names may be missing, as long as the
/// answer keeps the verifier away from there.
fn tests(program: &Program) -> bool {
    let mut targets = program.relocs().iter().map(|reloc| &reloc.target);
    targets.any(|target| matches!(target, Target::Kernel(question) if question.ask.is_test()))
}

/// What stands in a slot for a name.
struct Filling {
    /// The last four bytes.
    constant: i32,
    /// The offset, where it is not as the program has it.
    offset: Option<i16>,
    /// The last four bytes of the slot behind, where they are not as the program has them.
    next: Option<i32>,
}

impl From<i32> for Filling {
    fn from(constant: i32) -> Filling {
        Filling {
            constant,
            offset: None,
            next: None,
        }
    }
}
