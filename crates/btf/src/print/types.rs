//! Types as C declarations.

use super::Budget;
use super::fresh::Fresh;
use super::layout::Layouts;
use crate::btf::Btf;
use crate::error::Error;
use crate::graph::DEPTH;
use crate::kind::{FwdKind, Kind, Linkage, TypeId};
use crate::shape::{Members, Params, Shape, Type, Variables};

/// How structures are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// As somebody would write them.
    Plain,
    /// With the place and size of each member, and what is unused.
    Places,
    /// So that a C compiler gives each member its place.
    Exact,
}

/// Where a part of a declaration stands.
#[derive(Clone, Copy, Default)]
pub(super) struct Spot {
    pub(super) indent: usize,
    /// Bits from the start of the outermost type.
    pub(super) start: u32,
}

pub(super) struct Printer<'b, B> {
    pub(super) btf: &'b Btf<B>,
    pub(super) budget: Budget,
    pub(super) style: Style,
    pub(super) layouts: Layouts,
    /// Names that differ from those in the BTF.
    pub(super) fresh: Fresh,
    /// How many fillers this definition has so far.
    pub(super) fillers: u32,
}

impl<'b, B> Printer<'b, B> {
    pub(super) fn new(btf: &'b Btf<B>, root: TypeId, style: Style) -> Printer<'b, B> {
        Printer {
            btf,
            budget: Budget::new(root),
            style,
            layouts: Layouts::default(),
            fresh: Fresh::default(),
            fillers: 0,
        }
    }
}

impl<B: AsRef<[u8]>> Btf<B> {
    /// How C refers to a type: `const struct sk_buff *`, or with a name `char comm[16]`.
    ///
    /// # Errors
    ///
    /// When a type does not exist, contains itself or nests too deeply.
    pub fn spell(&self, id: TypeId, name: &str) -> Result<String, Error> {
        let mut printer = Printer::new(self, id, Style::Plain);
        printer.declare(id, name.to_owned(), "", Spot::default(), DEPTH)
    }

    /// How C defines a type: `struct point { … };` over several lines. Declaration tags and sections,
    /// which C does not have, become comments.
    ///
    /// # Errors
    ///
    /// When a type does not exist, contains itself or nests too deeply.
    pub fn define(&self, id: TypeId) -> Result<String, Error> {
        Printer::new(self, id, Style::Plain).definition(&self.ty(id)?)
    }

    /// The same with the place of every member behind it: `/* offset size */` in bytes, or
    /// `/* offset:bit bits */`, from the start of the type; holes are shown, and what all of it comes
    /// to.
    ///
    /// # Errors
    ///
    /// When a type does not exist, contains itself or nests too deeply.
    pub fn define_with_places(&self, id: TypeId) -> Result<String, Error> {
        Printer::new(self, id, Style::Places).definition(&self.ty(id)?)
    }
}

/// A word and what follows it.
pub(super) fn join(word: &str, rest: &str) -> String {
    match (word, rest) {
        ("", text) | (text, "") => text.to_owned(),
        _ => format!("{word} {rest}"),
    }
}

pub(super) fn tabs(indent: usize) -> String {
    "\t".repeat(indent)
}

impl<B: AsRef<[u8]>> Printer<'_, B> {
    pub(super) fn definition(&mut self, ty: &Type<'_>) -> Result<String, Error> {
        // A section may hold the same variable again and again.
        self.budget.step(DEPTH)?;
        self.budget.name(ty.name())?;
        let name = self.name(ty);
        let id = ty.id();
        let spot = Spot::default();
        Ok(match ty.shape() {
            Shape::Struct(..) | Shape::Union(..) => {
                format!("{};", self.composite(ty, &name, spot, DEPTH)?)
            }
            Shape::Enum(..) => format!("{};", self.enumeration(ty, &name, spot)?),
            Shape::Typedef(target) => {
                format!("typedef {};", self.declare(target, name, "", spot, DEPTH)?)
            }
            Shape::Func(proto, _) => format!("{};", self.declare(proto, name, "", spot, DEPTH)?),
            Shape::Var(target, linkage) => {
                let word = match linkage {
                    Linkage::STATIC => "static ",
                    Linkage::EXTERN => "extern ",
                    _ => "",
                };
                format!("{word}{};", self.declare(target, name, "", spot, DEPTH)?)
            }
            Shape::DataSec(size, variables) => self.section(&name, size, variables)?,
            Shape::DeclTag(target, part) => {
                let on = self.declare(target, String::new(), "", spot, DEPTH)?;
                match part {
                    Some(part) => format!("/* {name} on {on}, part {part} */"),
                    None => format!("/* {name} on {on} */"),
                }
            }
            _ => format!("{};", self.declare(id, String::new(), "", spot, DEPTH)?),
        })
    }

    /// A declaration from the inside out: `inner` is what is already there, `qualifiers` belong to
    /// the type that comes next.
    pub(super) fn declare(
        &mut self,
        id: TypeId,
        inner: String,
        qualifiers: &str,
        spot: Spot,
        depth: u32,
    ) -> Result<String, Error> {
        let depth = self.budget.step(depth)?;
        let ty = self.btf.ty(id)?;
        self.budget.name(ty.name())?;
        let qualified = |word: &str| join(word, qualifiers);
        let base = match ty.shape() {
            Shape::Const(to) => {
                return self.declare(to, inner, &qualified("const"), spot, depth);
            }
            Shape::Volatile(to) => {
                return self.declare(to, inner, &qualified("volatile"), spot, depth);
            }
            Shape::Restrict(to) => {
                return self.declare(to, inner, &qualified("restrict"), spot, depth);
            }
            Shape::TypeTag(to) => {
                let word = format!("/* {} */", ty.name().to_string().replace("*/", "* /"));
                return self.declare(to, inner, &qualified(&word), spot, depth);
            }
            Shape::Ptr(to) => {
                let inner = match (qualifiers, inner.as_str()) {
                    ("", _) => format!("*{inner}"),
                    _ => format!("*{}", join(qualifiers, &inner)),
                };
                let target = self.btf.unqualified(to)?.shape();
                let inner = match target {
                    Shape::Array(_) | Shape::FuncProto(..) => format!("({inner})"),
                    _ => inner,
                };
                return self.declare(to, inner, "", spot, depth);
            }
            Shape::Array(array) => {
                let inner = format!("{inner}[{}]", array.len);
                return self.declare(array.element, inner, qualifiers, spot, depth);
            }
            Shape::FuncProto(result, params) => {
                let inner = format!("{inner}({})", self.params(params, depth)?);
                return self.declare(result, inner, "", spot, depth);
            }
            _ => self.base(&ty, spot, depth)?,
        };
        Ok(join(&join(qualifiers, &base), &inner))
    }

    /// A type that needs no declarator.
    fn base(&mut self, ty: &Type<'_>, spot: Spot, depth: u32) -> Result<String, Error> {
        let name = self.name(ty);
        Ok(match ty.shape() {
            Shape::Void => "void".to_owned(),
            Shape::Struct(..) | Shape::Union(..) if name.is_empty() => {
                self.composite(ty, "", spot, depth)?
            }
            Shape::Enum(..) if name.is_empty() => self.enumeration(ty, "", spot)?,
            Shape::Struct(..) | Shape::Fwd(FwdKind::Struct) => format!("struct {name}"),
            Shape::Union(..) | Shape::Fwd(FwdKind::Union) => format!("union {name}"),
            Shape::Enum(..) => format!("enum {name}"),
            Shape::Unknown(kind) => format!("/* {kind} */ {name}"),
            _ => name,
        })
    }

    /// The name under which a type is known here.
    pub(super) fn name(&self, ty: &Type<'_>) -> String {
        let fresh = self.fresh.of(ty.id());
        fresh.map_or_else(|| ty.name().to_string(), str::to_owned)
    }

    /// A structure or union with its body.
    pub(super) fn composite(
        &mut self,
        ty: &Type<'_>,
        name: &str,
        spot: Spot,
        depth: u32,
    ) -> Result<String, Error> {
        let word = match ty.kind() {
            Kind::UNION => "union",
            _ => "struct",
        };
        let body = match self.style {
            Style::Plain => self.members(ty.members(), spot, depth)?,
            Style::Places => self.places(ty, spot, depth)?,
            Style::Exact => self.exact(ty, spot, depth)?,
        };
        Ok(format!("{} {body}", join(word, name)))
    }

    fn members(&mut self, members: Members<'_>, spot: Spot, depth: u32) -> Result<String, Error> {
        let mut body = String::from("{\n");
        let inner = Spot {
            indent: spot.indent + 1,
            ..spot
        };
        for member in members {
            let line = self.member(&member, inner, depth)?;
            body += &format!("{}{line};\n", tabs(inner.indent));
        }
        Ok(body + &tabs(spot.indent) + "}")
    }

    fn enumeration(&mut self, ty: &Type<'_>, name: &str, spot: Spot) -> Result<String, Error> {
        let mut body = format!("{} {{\n", join("enum", name));
        for (value, number) in ty.enumerators().zip(0..) {
            self.budget.step(DEPTH)?;
            self.budget.name(value.name)?;
            let tabs = tabs(spot.indent + 1);
            body += &match self.fresh.constant(ty.id(), number) {
                Some(name) => format!("{tabs}{name}"),
                None => format!("{tabs}{}", value.name),
            };
            body += &match self.style {
                Style::Exact => format!(" = {},\n", super::layout::literal(value.value)),
                _ => format!(" = {},\n", value.value),
            };
        }
        body += &format!("{}}}", tabs(spot.indent));
        if self.style == Style::Exact {
            body += super::layout::mode(ty);
        }
        Ok(body)
    }

    fn params(&mut self, params: Params<'_>, depth: u32) -> Result<String, Error> {
        // A lone parameter without type or name stands for none: nothing can be before its `...`.
        let Some(last @ 1..) = params.len().checked_sub(1) else {
            return match params.clone().next() {
                Some(param) if param.ty != TypeId::VOID => {
                    self.budget.name(param.name)?;
                    let name = param.name.to_string();
                    self.declare(param.ty, name, "", Spot::default(), depth)
                }
                _ => Ok("void".to_owned()),
            };
        };
        let mut list = Vec::with_capacity(params.len());
        for (index, param) in params.enumerate() {
            self.budget.name(param.name)?;
            list.push(match param.ty {
                TypeId::VOID if index == last => "...".to_owned(),
                ty => self.declare(ty, param.name.to_string(), "", Spot::default(), depth)?,
            });
        }
        Ok(list.join(", "))
    }

    fn section(
        &mut self,
        name: &str,
        size: u32,
        variables: Variables<'_>,
    ) -> Result<String, Error> {
        let mut text = format!("/* section {name}, {size} bytes */");
        for variable in variables {
            let ty = self.btf.ty(variable.ty)?;
            let line = match ty.shape() {
                Shape::DataSec(..) => return Err(Error::TooDeep(ty.id())),
                _ => self.definition(&ty)?,
            };
            text += &format!("\n/* {} */ {line}", variable.offset);
        }
        Ok(text)
    }
}
