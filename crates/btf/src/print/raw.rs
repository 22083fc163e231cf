//! Records as they are, in the words of bpftool.

use crate::btf::Btf;
use crate::error::Error;
use crate::kind::{FwdKind, Linkage, TypeId};
use crate::names::Name;
use crate::shape::{Int, Shape, Type};
use core::fmt::Write;

impl<B: AsRef<[u8]>> Btf<B> {
    /// A type as its record has it, in the form of `bpftool btf dump`: a line with its number, kind,
    /// name and sizes, and a line for each member, constant, parameter or variable, which starts with
    /// a tab.
    ///
    /// # Errors
    ///
    /// When there is no such type, or its names are too long to be written out all.
    pub fn raw(&self, id: TypeId) -> Result<String, Error> {
        let ty = self.ty(id)?;
        let kind = ty.kind();
        let mut out = Text(String::new());
        let _ = match kind.name() {
            Some(kind) => write!(out, "[{}] {kind} '{}'", id.0, shown(ty.name())),
            None => write!(out, "[{}] {} '{}'", id.0, kind.0, shown(ty.name())),
        };
        let written = match ty.shape() {
            Shape::Int(int) => number(&mut out, int),
            Shape::Array(array) => write!(
                out,
                " type_id={} index_type_id={} nr_elems={}",
                array.element.0, array.index.0, array.len
            ),
            Shape::Struct(..) | Shape::Union(..) => members(&mut out, &ty),
            Shape::Enum(..) => constants(&mut out, &ty),
            Shape::Fwd(FwdKind::Struct) => write!(out, " fwd_kind=struct"),
            Shape::Fwd(FwdKind::Union) => write!(out, " fwd_kind=union"),
            Shape::Func(proto, of) => write!(out, " type_id={} linkage={}", proto.0, linkage(of)),
            Shape::FuncProto(..) => params(&mut out, &ty),
            Shape::Var(target, of) => {
                write!(out, " type_id={}, linkage={}", target.0, linkage(of))
            }
            Shape::DataSec(..) => self.variables(&mut out, &ty),
            Shape::Float(size) => write!(out, " size={size}"),
            Shape::DeclTag(target, part) => {
                let part = part.map_or(-1, i64::from);
                write!(out, " type_id={} component_idx={part}", target.0)
            }
            _ => ty
                .target()
                .map_or(Ok(()), |target| write!(out, " type_id={}", target.0)),
        };
        // Nothing else fails.
        written.map_err(|_| Error::TooLong { id, limit: LONGEST })?;
        Ok(out.0)
    }

    fn variables(&self, out: &mut Text, ty: &Type<'_>) -> core::fmt::Result {
        write!(
            out,
            " size={} vlen={}",
            ty.own_size().unwrap_or(0),
            ty.len()
        )?;
        for variable in ty.variables() {
            let (id, offset, size) = (variable.ty.0, variable.offset, variable.size);
            write!(out, "\n\ttype_id={id} offset={offset} size={size}")?;
            if let Some(ty) = self.get(variable.ty) {
                let kind = ty.kind().name().unwrap_or("UNKN");
                write!(out, " ({kind} '{}')", shown(ty.name()))?;
            }
        }
        Ok(())
    }
}

/// The longest text of one type, in bytes: all its members may have the same long name.
const LONGEST: usize = 1 << 24;

/// Text up to that length.
struct Text(String);

impl Write for Text {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        if self.0.len() + text.len() > LONGEST {
            return Err(core::fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

/// A name, or the word for none.
struct Shown<'a>(Name<'a>);

fn shown(name: Name<'_>) -> Shown<'_> {
    Shown(name)
}

impl core::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0.is_empty() {
            true => f.write_str("(anon)"),
            false => self.0.fmt(f),
        }
    }
}

fn linkage(linkage: Linkage) -> &'static str {
    match linkage {
        Linkage::STATIC => "static",
        Linkage::GLOBAL => "global",
        Linkage::EXTERN => "extern",
        _ => "(unknown)",
    }
}

fn number(out: &mut Text, int: Int) -> core::fmt::Result {
    let encoding = match int.encoding.0 {
        0 => "(none)",
        1 => "SIGNED",
        2 => "CHAR",
        4 => "BOOL",
        _ => "UNKN",
    };
    let (size, offset, bits) = (int.size, int.bit_offset, int.bits);
    write!(
        out,
        " size={size} bits_offset={offset} nr_bits={bits} encoding={encoding}"
    )
}

fn members(out: &mut Text, ty: &Type<'_>) -> core::fmt::Result {
    write!(
        out,
        " size={} vlen={}",
        ty.own_size().unwrap_or(0),
        ty.len()
    )?;
    for member in ty.members() {
        let (name, id) = (shown(member.name), member.ty.0);
        let offset = member.bit_offset;
        write!(out, "\n\t'{name}' type_id={id} bits_offset={offset}")?;
        if let Some(bits) = member.bits {
            write!(out, " bitfield_size={bits}")?;
        }
    }
    Ok(())
}

fn constants(out: &mut Text, ty: &Type<'_>) -> core::fmt::Result {
    let size = ty.own_size().unwrap_or(0);
    let (sign, suffix) = match (ty.flag(), ty.kind()) {
        (true, crate::kind::Kind::ENUM64) => ("SIGNED", "LL"),
        (false, crate::kind::Kind::ENUM64) => ("UNSIGNED", "ULL"),
        (true, _) => ("SIGNED", ""),
        (false, _) => ("UNSIGNED", ""),
    };
    write!(out, " encoding={sign} size={size} vlen={}", ty.len())?;
    for value in ty.enumerators() {
        write!(
            out,
            "\n\t'{}' val={}{suffix}",
            shown(value.name),
            value.value
        )?;
    }
    Ok(())
}

fn params(out: &mut Text, ty: &Type<'_>) -> core::fmt::Result {
    let result = ty.target().unwrap_or(TypeId::VOID).0;
    write!(out, " ret_type_id={result} vlen={}", ty.len())?;
    for param in ty.params() {
        write!(out, "\n\t'{}' type_id={}", shown(param.name), param.ty.0)?;
    }
    Ok(())
}
