//! Answers to what programs ask of the running kernel: where its fields are, what its constants are
//! worth, what exists.

use super::arguments::arg;
use super::constants::{Constant, no_constant};
use super::fields::{field, no_field, of_field};
use super::named::{FUNCTION, VARIABLE};
use super::{Bytes, Module, btf, visible};
use crate::error::{Error, Result};
use crate::near::Nearest;
use bpfsmith_asm::kernel::{Ask, Question};
use bpfsmith_btf::{Btf, Error as Wrong, Kind, Type, TypeId};
use std::sync::Arc;

/// What the kernel answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The offset or constant.
    pub(crate) number: i128,
    /// How many bytes an access moves, if that is the kernel's to say.
    pub(crate) bytes: Option<u32>,
}

impl From<u32> for Answer {
    fn from(number: u32) -> Answer {
        Answer {
            number: number.into(),
            bytes: None,
        }
    }
}

/// Answers a question, or says what the kernel does not have.
///
/// # Errors
/// [`Error::Unknown`] when nothing has that name; [`Error::Argument`] when several have, and differ; as
/// for [`btf`].
pub(crate) fn answer(question: &Question) -> Result<Answer> {
    let path = question.path.as_ref();
    let exists = |found: bool| Answer::from(u32::from(found));
    match question.ask {
        Ask::HasField => Ok(exists(first(path, field)?.is_some())),
        Ask::HasType => Ok(exists(first(path, named_type)?.is_some())),
        Ask::HasConst => Ok(exists(first(path, Constant::find)?.is_some())),
        Ask::HasKfunc => Ok(exists(first(path, |name| FUNCTION.look(name))?.is_some())),
        Ask::HasKsym => Ok(exists(first(path, |name| VARIABLE.look(name))?.is_some())),
        Ask::Arg | Ask::ArgAt => arg(path, question.ask),
        // Answered before the kernel is asked, if the program describes the structure.
        Ask::OwnType => Err(Error::Argument {
            what: "structure",
            problem: format!(
                "the kernel was not told of \"{path}\": programs from text do not bring the types \
                 that ld_type(…) describes, and without BTF there are none"
            ),
        }),
        Ask::Const => match first(path, Constant::find)? {
            Some(constant) => Ok(Answer {
                number: constant.only()?,
                bytes: None,
            }),
            None => Err(no_constant(path)),
        },
        Ask::TypeSize => match first(path, named_type)? {
            Some(found) => found.size(path).map(Answer::from),
            None => Err(no_type(path)),
        },
        ask => match first(path, field)? {
            Some(field) => of_field(ask, path, &field),
            None => Err(no_field(path)),
        },
    }
}

/// The answer of the first alternative that has one.
fn first<T>(path: &str, look: impl Fn(&str) -> Result<Option<T>>) -> Result<Option<T>> {
    for alternative in path.split('|') {
        if let Some(found) = look(alternative.trim())? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Whose types they are.
pub(super) enum Home {
    Kernel(&'static Btf<Bytes>),
    Module(Arc<Module>),
}

impl Home {
    pub(super) fn btf(&self) -> &Btf<Bytes> {
        match self {
            Home::Kernel(btf) => btf,
            Home::Module(module) => module.btf(),
        }
    }

    pub(super) fn size(&self, id: TypeId, path: &str) -> Result<u32> {
        self.btf().size_of(id).map_err(|cause| broken(path, cause))
    }
}

pub(super) fn broken(path: &str, cause: Wrong) -> Error {
    Error::Btf {
        wanted: path.to_owned(),
        cause,
    }
}

/// The modules that this process may see.
fn loaded() -> Result<Vec<Home>> {
    Ok(visible()?.into_iter().map(Home::Module).collect())
}

/// The kernel, then its modules, which are read if the kernel has not what is looked for.
pub(super) fn homes() -> impl Iterator<Item = Result<Home>> {
    let loaded = || match loaded() {
        Ok(homes) => homes.into_iter().map(Ok).collect(),
        Err(error) => vec![Err(error)],
    };
    let kernel = std::iter::once_with(|| btf().map(Home::Kernel));
    kernel.chain(std::iter::once_with(loaded).flatten())
}

/// Where types of that name are: in the kernel, or if it has none in its modules. What a module
/// calls by a name of the kernel's is something else.
pub(super) fn homes_of(name: &str) -> Result<Vec<Home>> {
    let has = |home: &Home| types_named(home.btf(), name).next().is_some();
    let kernel = Home::Kernel(btf()?);
    if has(&kernel) {
        return Ok(vec![kernel]);
    }
    let mut modules = loaded()?;
    modules.retain(has);
    Ok(modules)
}

/// The kinds that a name may stand for: `struct tcp_sock` says which, `tcp_sock` does not.
fn kinds(name: &str) -> (&'static [Kind], &str) {
    const WORDS: &[(&str, &[Kind])] = &[
        ("struct ", &[Kind::STRUCT]),
        ("union ", &[Kind::UNION]),
        ("enum ", &[Kind::ENUM, Kind::ENUM64]),
    ];
    const ANY: &[Kind] = &[
        Kind::STRUCT,
        Kind::UNION,
        Kind::TYPEDEF,
        Kind::ENUM,
        Kind::ENUM64,
        Kind::INT,
    ];
    let word = WORDS
        .iter()
        .find_map(|(word, kinds)| Some((*kinds, name.strip_prefix(word)?.trim_start())));
    word.unwrap_or((ANY, name))
}

pub(super) fn types_named<'a>(
    btf: &'a Btf<Bytes>,
    name: &'a str,
) -> impl Iterator<Item = Type<'a>> {
    let (kinds, name) = kinds(name);
    btf.named(name).filter(|ty| kinds.contains(&ty.kind()))
}

/// A type by name.
pub(super) struct Named {
    pub(super) home: Home,
    pub(super) id: TypeId,
    /// Another of that name has another size.
    is_one_of_several: bool,
}

impl Named {
    fn size(&self, path: &str) -> Result<u32> {
        if self.is_one_of_several {
            return Err(Error::Argument {
                what: "type",
                problem: format!(
                    "this kernel has several types {path} of different sizes: say `struct`, \
                     `union` or `enum` in front, or take the size of a field that is one"
                ),
            });
        }
        self.home.size(self.id, path)
    }
}

pub(super) fn named_type(name: &str) -> Result<Option<Named>> {
    let mut first: Option<(Named, Option<u32>)> = None;
    for home in homes_of(name)? {
        let ids: Vec<_> = types_named(home.btf(), name).map(|ty| ty.id()).collect();
        let sizes = ids.iter().map(|id| home.btf().size_of(*id).ok());
        let sizes: Vec<_> = sizes.collect();
        let (Some(&id), Some(&size)) = (ids.first(), sizes.first()) else {
            continue;
        };
        let known = first.as_ref().map_or(size, |(_, known)| *known);
        let is_one_of_several = sizes.iter().any(|size| *size != known);
        match &mut first {
            Some((named, _)) => named.is_one_of_several |= is_one_of_several,
            None => {
                let named = Named {
                    home,
                    id,
                    is_one_of_several,
                };
                first = Some((named, size));
            }
        }
    }
    Ok(first.map(|(named, _)| named))
}

pub(super) fn near_types(name: &str) -> Vec<String> {
    let (kinds, name) = kinds(name);
    let mut nearest = Nearest::to(name);
    if let Ok(btf) = btf() {
        let types = btf.types().filter(|ty| kinds.contains(&ty.kind()));
        types.for_each(|ty| nearest.see(&ty.name().to_string()));
    }
    nearest.names()
}

fn no_type(path: &str) -> Error {
    let last = path.rsplit('|').next().unwrap_or(path).trim();
    Error::Unknown {
        what: "type",
        name: path.to_owned(),
        near: near_types(last),
        hint: "`bpfsmith btf find` looks for types; test with `kernel_type(…).exists()`",
    }
}
