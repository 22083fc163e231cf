//! Answers to what programs ask of the running kernel: where its fields are, what its constants are
//! worth, what exists.

use super::{Bytes, Module, btf, function, modules, variable};
use crate::error::{Error, Result};
use crate::near::Nearest;
use bpfsmith_asm::kernel::{Ask, Question};
use bpfsmith_btf::{Btf, Error as Wrong, Kind, Name, Place, Shape, Type, TypeId};
use bpfsmith_uapi::Errno;
use bpfsmith_uapi::ops::Operation;
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
/// [`Error::Unknown`] when nothing has that name; as for [`btf`].
pub(crate) fn answer(question: &Question) -> Result<Answer> {
    let path = question.path.as_ref();
    let exists = |found: bool| Answer::from(u32::from(found));
    match question.ask {
        Ask::HasField => Ok(exists(first(path, field)?.is_some())),
        Ask::HasType => Ok(exists(first(path, named_type)?.is_some())),
        Ask::HasConst => Ok(exists(first(path, constant)?.is_some())),
        Ask::HasKfunc => has(function(path).map(drop)).map(exists),
        Ask::HasKsym => has(variable(path).map(drop)).map(exists),
        Ask::Arg => arg(path),
        // Answered before the kernel is asked, if the program describes the structure.
        Ask::OwnType => Err(Error::Argument {
            what: "structure",
            problem: format!(
                "the kernel was not told of \"{path}\": programs from text do not bring the types \
                 that ld_type(…) describes, and without BTF there are none"
            ),
        }),
        Ask::Const => match first(path, constant)? {
            Some(number) => Ok(Answer {
                number,
                bytes: None,
            }),
            None => Err(no_constant(path)),
        },
        Ask::TypeSize => match first(path, named_type)? {
            Some((home, id)) => home.size(id, path).map(Answer::from),
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

/// Whether something was found.
fn has(found: Result<()>) -> Result<bool> {
    match found {
        Ok(()) => Ok(true),
        Err(Error::Unknown { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whose types they are.
enum Home {
    Kernel(&'static Btf<Bytes>),
    Module(Arc<Module>),
}

impl Home {
    fn btf(&self) -> &Btf<Bytes> {
        match self {
            Home::Kernel(btf) => btf,
            Home::Module(module) => module.btf(),
        }
    }

    fn size(&self, id: TypeId, path: &str) -> Result<u32> {
        self.btf().size_of(id).map_err(|cause| broken(path, cause))
    }
}

fn broken(path: &str, cause: Wrong) -> Error {
    Error::Btf {
        wanted: path.to_owned(),
        cause,
    }
}

/// The kernel, then its modules, which are read if the kernel has not what is looked for. Who may
/// not see them works with the kernel alone.
fn homes() -> impl Iterator<Item = Result<Home>> {
    let loaded = || match modules() {
        Ok(modules) => modules
            .into_iter()
            .map(|module| Ok(Home::Module(module)))
            .collect(),
        Err(error) if matches!(error.errno(), Some(Errno::EPERM | Errno::EINVAL)) => Vec::new(),
        Err(error) => vec![Err(error)],
    };
    let kernel = std::iter::once_with(|| btf().map(Home::Kernel));
    kernel.chain(std::iter::once_with(loaded).flatten())
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

fn types_named<'a>(btf: &'a Btf<Bytes>, name: &'a str) -> impl Iterator<Item = Type<'a>> {
    let (kinds, name) = kinds(name);
    btf.named(name).filter(|ty| kinds.contains(&ty.kind()))
}

fn named_type(name: &str) -> Result<Option<(Home, TypeId)>> {
    for home in homes() {
        let home = home?;
        let found = types_named(home.btf(), name).next().map(|ty| ty.id());
        if let Some(id) = found {
            return Ok(Some((home, id)));
        }
    }
    Ok(None)
}

/// A field that was found.
struct Field {
    home: Home,
    place: Place,
}

/// A field behind `struct.member`, or several of them behind `+`.
fn field(path: &str) -> Result<Option<Field>> {
    let mut sum: Option<Field> = None;
    for part in path.split('+') {
        let Some(mut next) = one_field(part.trim())? else {
            return Ok(None);
        };
        if let Some(before) = sum {
            let total = before.place.bit_offset.checked_add(next.place.bit_offset);
            next.place.bit_offset =
                total.ok_or_else(|| broken(path, Wrong::TooLarge(next.place.ty)))?;
        }
        sum = Some(next);
    }
    Ok(sum)
}

fn one_field(path: &str) -> Result<Option<Field>> {
    let Some((root, members)) = path.split_once('.') else {
        return Err(Error::Argument {
            what: "field",
            problem: format!("\"{path}\" names no member: write `structure.member`"),
        });
    };
    for home in homes() {
        let home = home?;
        // Several files of the kernel may have structures of one name.
        let types = types_named(home.btf(), root).map(|ty| ty.id());
        for id in types.collect::<Vec<_>>() {
            match home.btf().member(id, members) {
                Ok(place) => return Ok(Some(Field { place, home })),
                Err(Wrong::NoMember { .. } | Wrong::NotComposite { .. } | Wrong::Index { .. }) => {}
                Err(cause) => return Err(broken(path, cause)),
            }
        }
    }
    Ok(None)
}

fn of_field(ask: Ask, path: &str, field: &Field) -> Result<Answer> {
    let place = field.place;
    let bytes = field.home.size(place.ty, path)?;
    let unfit = |problem: &str| {
        Err(Error::Argument {
            what: "field",
            problem: format!("{path} {problem}"),
        })
    };
    match ask {
        Ask::Size => Ok(bytes.into()),
        Ask::Bits | Ask::Left | Ask::Right => {
            let Some(holder) = Holder::of(&place, bytes) else {
                return unfit("is no number of at most 64 bits: take the address of its bytes");
            };
            Ok(match ask {
                Ask::Bits => Answer {
                    number: holder.offset.into(),
                    bytes: Some(holder.bytes),
                },
                Ask::Left => holder.left.into(),
                _ => holder.right.into(),
            })
        }
        _ if place.bits.is_some() || place.offset().is_none() => {
            unfit("is a field of bits: read it with load_bits")
        }
        Ask::Field if !matches!(bytes, 1 | 2 | 4 | 8) => unfit(&format!(
            "has {bytes} bytes, which no access moves at once: name a member of it, or take \
             `Place::from` of it"
        )),
        Ask::Field => Ok(Answer {
            number: (place.bit_offset / 8).into(),
            bytes: Some(bytes),
        }),
        _ => Ok((place.bit_offset / 8).into()),
    }
}

/// The aligned bytes around a field of bits, and how it is cut out of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Holder {
    offset: u32,
    bytes: u32,
    left: u32,
    right: u32,
}

impl Holder {
    fn of(place: &Place, size: u32) -> Option<Holder> {
        let bits = place.bits.map_or(size.checked_mul(8)?, u32::from);
        let mut bytes = size;
        let (offset, from) = loop {
            if !matches!(bytes, 1 | 2 | 4 | 8) || !(1..=64).contains(&bits) {
                return None;
            }
            let offset = place.bit_offset / 8 / bytes * bytes;
            let from = place.bit_offset - offset * 8;
            if from + bits <= bytes * 8 {
                break (offset, from);
            }
            bytes *= 2;
        };
        let left = if cfg!(target_endian = "little") {
            64 - from - bits
        } else {
            64 - bytes * 8 + from
        };
        Some(Holder {
            offset,
            bytes,
            left,
            right: 64 - bits,
        })
    }
}

/// A constant of any enumeration, or of the one in front of the dot.
fn constant(name: &str) -> Result<Option<i128>> {
    for home in homes() {
        let home = home?;
        let found = match name.split_once('.') {
            None => home.btf().find_constant(name).map(|(_, value)| value),
            Some((of, name)) => types_named(home.btf(), of).find_map(|ty| {
                let ty = home.btf().resolve(ty.id()).ok()?;
                let mut values = ty.enumerators();
                Some(values.find(|value| value.name == name)?.value)
            }),
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Where an argument stands in the context: `structure.member.argument`, `function.argument`.
fn arg(path: &str) -> Result<Answer> {
    let (of, name) = path.rsplit_once('.').unwrap_or(("", path));
    let Some(function) = Prototype::find(of)? else {
        return Err(Error::Unknown {
            what: "function with arguments",
            name: of.to_owned(),
            near: Vec::new(),
            hint: "write `structure.member`, the name of a function, or that of a tracepoint",
        });
    };
    let mut slot = 0_u32;
    for (bytes, known) in &function.args {
        if known == name {
            return Ok((slot * 8).into());
        }
        // A structure that is passed by value takes as many places as it needs.
        slot = slot.saturating_add(bytes.div_ceil(8).max(1));
    }
    // Where nobody tells names, the number is one.
    if let Some(number) = name
        .parse::<usize>()
        .ok()
        .filter(|&n| n < function.args.len())
    {
        let before = function.args.iter().take(number);
        let slots: u32 = before.map(|(bytes, _)| bytes.div_ceil(8).max(1)).sum();
        return Ok(slots.saturating_mul(8).into());
    }
    let named = |known: &&(u32, String)| !known.1.is_empty();
    let names = function
        .args
        .iter()
        .filter(named)
        .map(|(_, name)| name.clone());
    Err(Error::Unknown {
        what: "argument",
        name: path.to_owned(),
        near: names.collect(),
        hint: "these are its arguments; `0`, `1`, … name them by number",
    })
}

/// The arguments of something that programs are attached to: bytes and names.
struct Prototype {
    args: Vec<(u32, String)>,
}

impl Prototype {
    fn find(of: &str) -> Result<Option<Prototype>> {
        for home in homes() {
            let home = home?;
            let btf = home.btf();
            let found = match of.split_once('.') {
                Some((root, member)) => Prototype::of_member(btf, root, member),
                None => Prototype::of_function(btf, of)
                    .map(|found| found.or_else(|| Prototype::of_tracepoint(btf, of))),
            };
            if let Some(found) = found.map_err(|cause| broken(of, cause))? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn of_function(btf: &Btf<Bytes>, name: &str) -> std::result::Result<Option<Prototype>, Wrong> {
        match btf.find(name, Kind::FUNC) {
            Some(id) => Prototype::new(btf, id, |_, _| None),
            None => Ok(None),
        }
    }

    /// The kernel makes functions for each tracepoint, whose first argument is its own. The one that
    /// calls what is attached has the names; that for BPF is shared by events of one form, and not
    /// in the BTF of every kernel. The pointer to it has the arguments without names.
    fn of_tracepoint(btf: &Btf<Bytes>, name: &str) -> Option<Prototype> {
        let by_name = |prefix: &str, kind| {
            let id = btf.find(&format!("{prefix}{name}"), kind)?;
            Prototype::new(btf, id, |_, _| None).ok().flatten()
        };
        let mut found = by_name("__traceiter_", Kind::FUNC)
            .or_else(|| by_name("__bpf_trace_", Kind::FUNC))
            .or_else(|| by_name("btf_trace_", Kind::TYPEDEF))?;
        if !found.args.is_empty() {
            found.args.remove(0);
        }
        Some(found)
    }

    /// Compilers do not tell the names of a function pointer's parameters: the table does, or else
    /// the function that newer kernels keep in its place.
    fn of_member(
        btf: &Btf<Bytes>,
        root: &str,
        member: &str,
    ) -> std::result::Result<Option<Prototype>, Wrong> {
        let Some(ty) = types_named(btf, root).next() else {
            return Ok(None);
        };
        let place = match btf.member(ty.id(), member) {
            Ok(place) => place,
            Err(Wrong::NoMember { .. } | Wrong::NotComposite { .. }) => return Ok(None),
            Err(cause) => return Err(cause),
        };
        let stub = Prototype::of_function(btf, &format!("{root}__{member}"))?;
        Prototype::new(btf, place.ty, |number, count| {
            if let Some(row) = Operation::find(root, member, count) {
                return row.args.get(number).map(|&name| name.to_owned());
            }
            let told = stub.as_ref().filter(|stub| stub.args.len() == count)?;
            let (_, name) = told.args.get(number)?;
            // What the kernel marks so may be null.
            Some(name.trim_end_matches("__nullable").to_owned())
        })
    }

    fn new(
        btf: &Btf<Bytes>,
        id: TypeId,
        name: impl Fn(usize, usize) -> Option<String>,
    ) -> std::result::Result<Option<Prototype>, Wrong> {
        let Some(ty) = btf.prototype(id)? else {
            return Ok(None);
        };
        let Shape::FuncProto(_, params) = ty.shape() else {
            return Ok(None);
        };
        let params: Vec<_> = params.collect();
        let count = params.len();
        let arg = |(number, param): (usize, &bpfsmith_btf::Param<'_>)| {
            let own = Some(param.name).filter(|own: &Name<'_>| !own.is_empty());
            let own = own.map(|own| own.to_string());
            // What is open-ended has no size.
            let bytes = btf.size_of(param.ty).unwrap_or(8);
            (
                bytes,
                own.or_else(|| name(number, count)).unwrap_or_default(),
            )
        };
        let args = params.iter().enumerate().map(arg).collect();
        Ok(Some(Prototype { args }))
    }
}

fn no_field(path: &str) -> Error {
    let last = path.rsplit('|').next().unwrap_or(path);
    let last = last.rsplit('+').next().unwrap_or(last).trim();
    let (root, members) = last.split_once('.').unwrap_or((last, ""));
    Error::Unknown {
        what: "field",
        name: path.to_owned(),
        near: match named_type(root) {
            Ok(Some((home, id))) => near_members(&home, id, root, members),
            _ => near_types(root),
        },
        hint: "fields differ between kernels: offer alternatives behind `|`, or test with \
               `kernel(…).exists()`",
    }
}

/// Members of the last part of a path that exists, which look like the next one.
fn near_members(home: &Home, root: TypeId, name: &str, members: &str) -> Vec<String> {
    let (mut at, mut before) = (root, name.to_owned());
    let mut wanted = members;
    for part in members.split('.') {
        wanted = part;
        match home.btf().member(at, part) {
            Ok(place) => {
                at = place.ty;
                before = format!("{before}.{part}");
            }
            Err(_) => break,
        }
    }
    let mut nearest = Nearest::to(wanted);
    let mut open = vec![at];
    // Members without a name bring their own; nobody nests them deeper.
    for _ in 0..64 {
        let Some(ty) = open.pop().and_then(|id| home.btf().resolve(id).ok()) else {
            break;
        };
        for member in ty.members() {
            if member.name.is_empty() {
                open.push(member.ty);
            } else {
                nearest.see(&member.name.to_string());
            }
        }
    }
    let near = nearest.names();
    near.iter().map(|near| format!("{before}.{near}")).collect()
}

fn near_types(name: &str) -> Vec<String> {
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

fn no_constant(path: &str) -> Error {
    let last = path.rsplit(['|', '.']).next().unwrap_or(path).trim();
    let mut nearest = Nearest::to(last);
    if let Ok(btf) = btf() {
        for ty in btf.types() {
            ty.enumerators()
                .for_each(|value| nearest.see(&value.name.to_string()));
        }
    }
    Error::Unknown {
        what: "constant",
        name: path.to_owned(),
        near: nearest.names(),
        hint: "only constants of enumerations have names in the kernel's BTF, macros have none; test \
               with `kernel_const(…).exists()`",
    }
}
