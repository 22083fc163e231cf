//! Types as a C header: everything stands before what needs it.

use super::Budget;
use super::fresh::{Fresh, is_builtin, is_predefined};
use super::layout::word;
use super::types::{Printer, Style};
use crate::btf::Btf;
use crate::error::Error;
use crate::graph::STEPS;
use crate::kind::{IntEncoding, Kind, TypeId};
use crate::shape::{Shape, Type};

/// How far one type may be from the last one that it needs.
const REACH: u32 = 256;

/// How much one header may look at in all. That of the kernel needs a twentieth of it.
const LIMIT: u32 = 1 << 24;

/// What has been written of a type.
#[derive(Clone, Copy, Default)]
struct Written {
    is_declared: bool,
    is_begun: bool,
    is_defined: bool,
}

/// Writes types as a C header that a compiler takes: each after those that it needs, once, and with
/// every member at its place.
///
/// Where structures have holes or are packed, there are fillers and attributes to say so. A name
/// that several types have stays with the first of them; the others go by `name___2` and so on, as do
/// constants. Functions and variables are no part of it. The compiler must know GNU C of 1999 to 2018
/// (`-std=gnu11`).
pub struct Header<'b, B> {
    printer: Printer<'b, B>,
    written: Vec<Written>,
    out: String,
    /// What is left of the limit.
    left: u32,
    /// The structure whose members are gone through: inside it, its own name is known.
    inside: TypeId,
}

impl<'b, B: AsRef<[u8]>> Header<'b, B> {
    /// A header without types so far.
    pub fn new(btf: &'b Btf<B>) -> Header<'b, B> {
        let mut printer = Printer::new(btf, TypeId::VOID, Style::Exact);
        printer.fresh = Fresh::new(btf);
        Header {
            printer,
            written: vec![Written::default(); btf.end().0 as usize],
            out: String::new(),
            left: LIMIT,
            inside: TypeId::VOID,
        }
    }

    /// The text that has to follow so that the type is defined: first all that it needs. Empty if it
    /// has been written already, or is no part of headers.
    ///
    /// # Errors
    ///
    /// When one of these types does not exist, contains itself or nests too deeply. What it needs may
    /// have been left out from the text then; others can follow.
    pub fn add(&mut self, id: TypeId) -> Result<String, Error> {
        self.out.clear();
        self.inside = TypeId::VOID;
        let done = self.complete(id, REACH);
        let text = std::mem::take(&mut self.out);
        done.map(|()| text)
    }

    /// The name by which the header calls a type, where it is not its own: others have it too, or C
    /// does not allow it.
    pub fn renamed(&self, id: TypeId) -> Option<&str> {
        self.printer.fresh.of(id)
    }

    fn state(&mut self, id: TypeId) -> Result<&mut Written, Error> {
        self.written.get_mut(id.0 as usize).ok_or(Error::NoType(id))
    }

    /// Starts a definition; false if it is there already.
    fn begin(&mut self, id: TypeId) -> Result<bool, Error> {
        let state = self.state(id)?;
        if state.is_defined {
            return Ok(false);
        }
        if state.is_begun {
            return Err(Error::TooDeep(id));
        }
        state.is_begun = true;
        Ok(true)
    }

    fn end(&mut self, id: TypeId) -> Result<(), Error> {
        self.state(id)?.is_defined = true;
        Ok(())
    }

    /// Every step counts: the ways through prototypes may double at each of them.
    fn deeper(&mut self, id: TypeId, depth: u32) -> Result<u32, Error> {
        self.left = self.left.checked_sub(1).ok_or(Error::TooDeep(id))?;
        depth.checked_sub(1).ok_or(Error::TooDeep(id))
    }

    /// Sees to it that values of the type can be had.
    fn complete(&mut self, id: TypeId, depth: u32) -> Result<(), Error> {
        let depth = self.deeper(id, depth)?;
        let ty = self.printer.btf.ty(id)?;
        match ty.shape() {
            Shape::Struct(..) | Shape::Union(..) => self.composite(&ty, depth),
            Shape::Typedef(target) => {
                self.declare(id, depth)?;
                self.complete(target, depth)
            }
            Shape::Array(array) => self.complete(array.element, depth),
            Shape::Const(to) | Shape::Volatile(to) | Shape::Restrict(to) | Shape::TypeTag(to) => {
                self.complete(to, depth)
            }
            _ => self.declare(id, depth),
        }
    }

    /// Sees to it that pointers to the type can be had.
    fn declare(&mut self, id: TypeId, depth: u32) -> Result<(), Error> {
        let depth = self.deeper(id, depth)?;
        let ty = self.printer.btf.ty(id)?;
        match ty.shape() {
            Shape::Struct(..) | Shape::Union(..) if ty.name().is_empty() => {
                self.composite(&ty, depth)
            }
            Shape::Struct(..) | Shape::Union(..) | Shape::Fwd(_) => self.forward(&ty),
            Shape::Array(array) => self.complete(array.element, depth),
            Shape::Ptr(to)
            | Shape::Const(to)
            | Shape::Volatile(to)
            | Shape::Restrict(to)
            | Shape::TypeTag(to) => self.declare(to, depth),
            Shape::FuncProto(result, params) => {
                self.declare(result, depth)?;
                for param in params {
                    self.declare(param.ty, depth)?;
                }
                Ok(())
            }
            Shape::Typedef(target) => self.typedef(&ty, target, depth),
            Shape::Enum(..) => self.enumeration(&ty),
            Shape::Int(_) | Shape::Float(_) => self.number(&ty),
            _ => Ok(()),
        }
    }

    fn composite(&mut self, ty: &Type<'_>, depth: u32) -> Result<(), Error> {
        let id = ty.id();
        if !self.begin(id)? {
            return Ok(());
        }
        let is_named = !ty.name().is_empty();
        let outer = self.inside;
        if is_named {
            self.inside = id;
        }
        for member in ty.members() {
            self.complete(member.ty, depth)?;
        }
        self.inside = outer;
        if is_named {
            self.define(ty)?;
            self.out.push('\n');
        }
        self.end(id)
    }

    fn forward(&mut self, ty: &Type<'_>) -> Result<(), Error> {
        if ty.id() == self.inside {
            return Ok(());
        }
        let state = self.state(ty.id())?;
        if !state.is_declared && !state.is_defined {
            state.is_declared = true;
            let name = self.printer.name(ty);
            self.out += &format!("{} {name};\n\n", word(ty));
        }
        Ok(())
    }

    fn typedef(&mut self, ty: &Type<'_>, target: TypeId, depth: u32) -> Result<(), Error> {
        let id = ty.id();
        if is_predefined(ty.name()) || !self.begin(id)? {
            return Ok(());
        }
        // It stands before the structure that is gone through.
        let outer = std::mem::replace(&mut self.inside, TypeId::VOID);
        self.declare(target, depth)?;
        self.inside = outer;
        self.define(ty)?;
        self.out.push('\n');
        self.end(id)
    }

    fn enumeration(&mut self, ty: &Type<'_>) -> Result<(), Error> {
        let id = ty.id();
        if self.printer.fresh.is_inline(id) || !self.begin(id)? {
            return Ok(());
        }
        if ty.is_empty() {
            // C has no enumeration without constants.
            let name = self.printer.name(ty);
            self.out += &format!("enum {name};\n\n");
        } else {
            self.define(ty)?;
            self.out.push('\n');
        }
        self.end(id)
    }

    /// A number of a name that C does not have.
    fn number(&mut self, ty: &Type<'_>) -> Result<(), Error> {
        if is_builtin(ty.name()) || ty.name().is_empty() || !self.begin(ty.id())? {
            return Ok(());
        }
        let name = self.printer.name(ty);
        let size = ty.own_size().unwrap_or(0);
        let base = match (ty.kind(), ty.shape()) {
            (Kind::FLOAT, _) if size == 4 => "float",
            (Kind::FLOAT, _) if size == 8 => "double",
            (Kind::FLOAT, _) => "long double",
            (_, Shape::Int(int)) => c_number(int.encoding, size),
            _ => "int",
        };
        self.out += &format!("typedef {base} {name};\n\n");
        self.end(ty.id())
    }

    fn define(&mut self, ty: &Type<'_>) -> Result<(), Error> {
        self.printer.fillers = 0;
        let most = self.left.min(STEPS);
        self.printer.budget = Budget {
            steps: most,
            root: ty.id(),
        };
        let text = self.printer.definition(ty);
        self.left -= most - self.printer.budget.steps;
        self.out += &text?;
        self.out.push('\n');
        Ok(())
    }
}

fn c_number(encoding: IntEncoding, size: u32) -> &'static str {
    match (size, encoding.contains(IntEncoding::SIGNED)) {
        (1, _) if encoding.contains(IntEncoding::BOOL) => "_Bool",
        (1, _) if encoding.contains(IntEncoding::CHAR) => "char",
        (1, true) => "signed char",
        (1, false) => "unsigned char",
        (2, true) => "short",
        (2, false) => "unsigned short",
        (4, true) => "int",
        (4, false) => "unsigned int",
        (8, true) => "long long",
        (8, false) => "unsigned long long",
        (_, true) => "__int128",
        (_, false) => "unsigned __int128",
    }
}
