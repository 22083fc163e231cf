//! Types as C declarations.

use super::Budget;
use crate::btf::Btf;
use crate::error::Error;
use crate::graph::DEPTH;
use crate::kind::{FwdKind, Linkage, TypeId};
use crate::shape::{Enumerators, Members, Params, Shape, Type, Variables};

struct Printer<'b, B> {
    btf: &'b Btf<B>,
    budget: Budget,
}

impl<B: AsRef<[u8]>> Btf<B> {
    /// How C refers to a type: `const struct sk_buff *`, or with a name `char comm[16]`.
    ///
    /// # Errors
    ///
    /// When a type does not exist, contains itself or nests too deeply.
    pub fn spell(&self, id: TypeId, name: &str) -> Result<String, Error> {
        let mut printer = Printer {
            btf: self,
            budget: Budget::new(id),
        };
        printer.declare(id, name.to_owned(), "", 0, DEPTH)
    }

    /// How C defines a type: `struct point { … };` over several lines. Declaration tags and sections,
    /// which C does not have, become comments.
    ///
    /// # Errors
    ///
    /// When a type does not exist, contains itself or nests too deeply.
    pub fn define(&self, id: TypeId) -> Result<String, Error> {
        let mut printer = Printer {
            btf: self,
            budget: Budget::new(id),
        };
        printer.definition(&self.ty(id)?)
    }
}

/// A word and what follows it.
fn join(word: &str, rest: &str) -> String {
    match (word, rest) {
        ("", text) | (text, "") => text.to_owned(),
        _ => format!("{word} {rest}"),
    }
}

fn tabs(indent: usize) -> String {
    "\t".repeat(indent)
}

impl<B: AsRef<[u8]>> Printer<'_, B> {
    fn definition(&mut self, ty: &Type<'_>) -> Result<String, Error> {
        let name = ty.name().to_string();
        let id = ty.id();
        Ok(match ty.shape() {
            Shape::Struct(_, members) => {
                let body = self.members(members, 0, DEPTH)?;
                format!("{} {body};", join("struct", &name))
            }
            Shape::Union(_, members) => {
                let body = self.members(members, 0, DEPTH)?;
                format!("{} {body};", join("union", &name))
            }
            Shape::Enum(_, values) => {
                format!("{} {};", join("enum", &name), self.values(values, 0)?)
            }
            Shape::Typedef(target) => {
                format!("typedef {};", self.declare(target, name, "", 0, DEPTH)?)
            }
            Shape::Func(proto, _) => format!("{};", self.declare(proto, name, "", 0, DEPTH)?),
            Shape::Var(target, linkage) => {
                let word = match linkage {
                    Linkage::STATIC => "static ",
                    Linkage::EXTERN => "extern ",
                    _ => "",
                };
                format!("{word}{};", self.declare(target, name, "", 0, DEPTH)?)
            }
            Shape::DataSec(size, variables) => self.section(&name, size, variables)?,
            Shape::DeclTag(target, part) => {
                let on = self.declare(target, String::new(), "", 0, DEPTH)?;
                match part {
                    Some(part) => format!("/* {name} on {on}, part {part} */"),
                    None => format!("/* {name} on {on} */"),
                }
            }
            _ => format!("{};", self.declare(id, String::new(), "", 0, DEPTH)?),
        })
    }

    /// A declaration from the inside out: `inner` is what is already there, `qualifiers` belong to
    /// the type that comes next.
    fn declare(
        &mut self,
        id: TypeId,
        inner: String,
        qualifiers: &str,
        indent: usize,
        depth: u32,
    ) -> Result<String, Error> {
        let depth = self.budget.step(depth)?;
        let ty = self.btf.ty(id)?;
        self.budget.name(ty.name())?;
        let qualified = |word: &str| join(word, qualifiers);
        let base = match ty.shape() {
            Shape::Const(to) => {
                return self.declare(to, inner, &qualified("const"), indent, depth);
            }
            Shape::Volatile(to) => {
                return self.declare(to, inner, &qualified("volatile"), indent, depth);
            }
            Shape::Restrict(to) => {
                return self.declare(to, inner, &qualified("restrict"), indent, depth);
            }
            Shape::TypeTag(to) => {
                let word = format!("/* {} */", ty.name());
                return self.declare(to, inner, &qualified(&word), indent, depth);
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
                return self.declare(to, inner, "", indent, depth);
            }
            Shape::Array(array) => {
                let inner = format!("{inner}[{}]", array.len);
                return self.declare(array.element, inner, qualifiers, indent, depth);
            }
            Shape::FuncProto(result, params) => {
                let inner = format!("{inner}({})", self.params(params, depth)?);
                return self.declare(result, inner, "", indent, depth);
            }
            _ => self.base(&ty, indent, depth)?,
        };
        Ok(join(&join(qualifiers, &base), &inner))
    }

    /// A type that needs no declarator.
    fn base(&mut self, ty: &Type<'_>, indent: usize, depth: u32) -> Result<String, Error> {
        let name = ty.name().to_string();
        Ok(match ty.shape() {
            Shape::Void => "void".to_owned(),
            Shape::Struct(_, members) if name.is_empty() => {
                format!("struct {}", self.members(members, indent, depth)?)
            }
            Shape::Union(_, members) if name.is_empty() => {
                format!("union {}", self.members(members, indent, depth)?)
            }
            Shape::Enum(_, values) if name.is_empty() => {
                format!("enum {}", self.values(values, indent)?)
            }
            Shape::Struct(..) | Shape::Fwd(FwdKind::Struct) => format!("struct {name}"),
            Shape::Union(..) | Shape::Fwd(FwdKind::Union) => format!("union {name}"),
            Shape::Enum(..) => format!("enum {name}"),
            Shape::Unknown(kind) => format!("/* {kind} */ {name}"),
            _ => name,
        })
    }

    fn members(
        &mut self,
        members: Members<'_>,
        indent: usize,
        depth: u32,
    ) -> Result<String, Error> {
        let mut body = String::from("{\n");
        for member in members {
            self.budget.name(member.name)?;
            let name = member.name.to_string();
            let line = self.declare(member.ty, name, "", indent + 1, depth)?;
            body += &tabs(indent + 1);
            body += &line;
            if let Some(bits) = member.bits {
                body += &format!(": {bits}");
            }
            body += ";\n";
        }
        Ok(body + &tabs(indent) + "}")
    }

    fn values(&mut self, values: Enumerators<'_>, indent: usize) -> Result<String, Error> {
        let mut body = String::from("{\n");
        for value in values {
            self.budget.step(DEPTH)?;
            self.budget.name(value.name)?;
            body += &format!("{}{} = {},\n", tabs(indent + 1), value.name, value.value);
        }
        Ok(body + &tabs(indent) + "}")
    }

    fn params(&mut self, params: Params<'_>, depth: u32) -> Result<String, Error> {
        if params.len() == 0 {
            return Ok("void".to_owned());
        }
        let last = params.len() - 1;
        let mut list = Vec::with_capacity(params.len());
        for (index, param) in params.enumerate() {
            self.budget.name(param.name)?;
            list.push(match param.ty {
                TypeId::VOID if index == last => "...".to_owned(),
                ty => self.declare(ty, param.name.to_string(), "", 0, depth)?,
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
