//! Where arguments stand in the context of a program, by the names that the kernel tells.

use super::Bytes;
use super::answer::{Answer, broken, homes, types_named};
use crate::error::{Error, Result};
use bpfsmith_asm::kernel::Ask;
use bpfsmith_btf::{Btf, Error as Wrong, Kind, Name, Shape, TypeId};
use bpfsmith_uapi::ops::Operation;

/// Where an argument stands in the context: `structure.member.argument`, `function.argument`.
pub(super) fn arg(path: &str, ask: Ask) -> Result<Answer> {
    let (of, name) = path.rsplit_once('.').unwrap_or(("", path));
    let Some(function) = Prototype::find(of)? else {
        return Err(Error::Unknown {
            what: "function with arguments",
            name: of.to_owned(),
            near: Vec::new(),
            hint: "write `structure.member`, the name of a function, or that of a tracepoint",
        });
    };
    let is_named = |arg: &Argument| arg.name == name;
    // Where nobody tells names, the number is one.
    let by_number = || {
        name.parse()
            .ok()
            .filter(|&n: &usize| n < function.args.len())
    };
    let found = function.args.iter().position(is_named).or_else(by_number);
    if let Some(at) = found {
        let places = function.args.iter().take(at).map(Argument::places);
        let offset = places.fold(0, u32::saturating_add).saturating_mul(8);
        return Ok(function.args[at].answer(ask, offset));
    }
    let names = function.args.iter().map(|arg| arg.name.clone());
    Err(Error::Unknown {
        what: "argument",
        name: path.to_owned(),
        near: names.filter(|name| !name.is_empty()).collect(),
        hint: "these are its arguments; `0`, `1`, … name them by number",
    })
}

/// An argument of something that programs are attached to.
struct Argument {
    bytes: u32,
    /// Whether it is a number, which may have less than a whole place.
    is_number: bool,
    name: String,
}

impl Argument {
    /// A structure that is passed by value takes as many places as it needs.
    fn places(&self) -> u32 {
        self.bytes.div_ceil(8).max(1)
    }

    /// Above a number that is narrower than its place stands anything: an access takes what belongs to
    /// it, which on a machine that starts with the high bytes is not where the place starts.
    fn answer(&self, ask: Ask, offset: u32) -> Answer {
        let bytes = match (ask, self.bytes) {
            (Ask::Arg, 1 | 2 | 4) if self.is_number => self.bytes,
            _ => 8,
        };
        let skipped = if cfg!(target_endian = "big") {
            8 - bytes
        } else {
            0
        };
        Answer {
            number: (offset + skipped).into(),
            bytes: (ask == Ask::Arg).then_some(bytes),
        }
    }
}

/// The arguments of something that programs are attached to.
struct Prototype {
    args: Vec<Argument>,
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
            let arg = told.args.get(number)?;
            Some(plain(&arg.name).to_owned())
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
            let is_number = btf
                .resolve(param.ty)
                .is_ok_and(|ty| matches!(ty.shape(), Shape::Int(_) | Shape::Enum(..)));
            Argument {
                bytes,
                is_number,
                name: own.or_else(|| name(number, count)).unwrap_or_default(),
            }
        };
        let args = params.iter().enumerate().map(arg).collect();
        Ok(Some(Prototype { args }))
    }
}

/// An argument's name without the marks of the kernel: what may be null, and what the function must
/// let go of.
fn plain(name: &str) -> &str {
    let marks = ["__nullable", "__ref"];
    let marked = marks.iter().find_map(|mark| name.strip_suffix(mark));
    marked.filter(|name| !name.is_empty()).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn marks_are_no_part_of_a_name() {
        for (told, name) in [
            ("cb__nullable", "cb"),
            ("skb__ref", "skb"),
            ("sch", "sch"),
            ("__ref", "__ref"),
            ("", ""),
        ] {
            assert_eq!(plain(told), name);
        }
    }
}
