//! Jumps and calls.

use super::grammar::width;
use super::parse::{Parsed, Parser, To};
use super::scan::{Res, fail, shorten};
use crate::isa::{Callee, Jmp, Op};
use crate::program::Target;
use bpfsmith_uapi::Helper;

impl<'a> Parser<'a> {
    /// `if r1 == 5 goto +3`
    pub(super) fn conditional(&mut self) -> Res<Parsed<'a>> {
        let dst = self.scan.register()?;
        self.scan.space();
        let from = self.scan.at;
        let mut length = usize::from(self.scan.peek() == b's');
        while matches!(self.scan.peek_at(length), b'=' | b'!' | b'<' | b'>' | b'&') {
            length += 1;
        }
        let symbol = self.scan.between(from, from + length);
        let Some(&jmp) = Jmp::ALL.iter().find(|jmp| jmp.symbol() == symbol) else {
            return self
                .scan
                .expected("one of == != > >= < <= s> s>= s< s<= & behind the register");
        };
        self.scan.at += length;
        let src = self.operand(dst)?;
        if !self.scan.eat_word("goto") {
            return self.scan.expected("goto");
        }
        let bits = width(dst);
        self.jump(|off| Op::Jump(jmp, bits, dst.reg, src, off))
    }

    /// The target of a jump of 16 bits.
    #[inline]
    pub(super) fn jump(&mut self, op: impl Fn(i16) -> Op) -> Res<Parsed<'a>> {
        self.scan.space();
        let at = self.scan.at;
        let parsed = match self.to("a label, +N or -N")? {
            To::Label(at, name) => Parsed::Jump(op(0), at, name),
            To::Distance(v) => match i16::try_from(v) {
                Ok(v) => Parsed::Op(op(v)),
                Err(_) => {
                    return fail(
                        at,
                        format!("distance {v} is not within -32768 to 32767: use gotol"),
                    );
                }
            },
        };
        self.comment();
        Ok(parsed)
    }

    pub(super) fn long_jump(&mut self) -> Res<Parsed<'a>> {
        self.scan.space();
        let at = self.scan.at;
        let parsed = match self.to("a label, +N or -N")? {
            To::Label(at, name) => Parsed::Jump(Op::JaLong(0), at, name),
            To::Distance(v) => match i32::try_from(v) {
                Ok(v) => Parsed::Op(Op::JaLong(v)),
                Err(_) => return fail(at, format!("distance {v} does not fit in 32 bits")),
            },
        };
        self.comment();
        Ok(parsed)
    }

    /// llvm-objdump's ` <name+0x8>` behind a target.
    #[inline]
    pub(super) fn comment(&mut self) {
        self.scan.space();
        if self.scan.peek() == b'<' {
            while !matches!(self.scan.peek(), b'>' | b'\n') {
                self.scan.at += 1;
            }
            self.scan.eat(b'>');
        }
    }

    /// `+5`, `pc+5`, `name`
    #[inline]
    pub(super) fn to(&mut self, what: &str) -> Res<To<'a>> {
        self.scan.space();
        let at = self.scan.at;
        let name = self.scan.word();
        if name.is_empty() || name == "pc" && matches!(self.scan.peek(), b'+' | b'-') {
            return self.scan.offset(what).map(To::Distance);
        }
        Ok(To::Label(at, name))
    }

    /// `call 1`, `call map_lookup_elem#1`, `call pc+5`, `call kfunc 12@3`, `call kfunc[name]`,
    /// `call name`
    pub(super) fn call(&mut self) -> Res<Parsed<'a>> {
        self.scan.space();
        let at = self.scan.at;
        if self.scan.is_at_number() {
            let id = self.field("a helper's number")?;
            self.comment();
            return Ok(Parsed::Op(Op::Call(Callee::Helper(id))));
        }
        let name = self.scan.word();
        if name == "kfunc" {
            self.scan.space();
            if self.scan.is_at_number() {
                return self.kfunc().map(Parsed::Op);
            }
            if self.scan.eat(b'[') {
                self.scan.space();
                let name = self.name("the name of a kernel function")?.to_owned();
                self.scan.expect(b']')?;
                let op = Op::Call(Callee::Kfunc(0, 0));
                return Ok(Parsed::Reloc(op, Target::Kfunc(name)));
            }
        }
        let distance = name == "pc" && matches!(self.scan.peek(), b'+' | b'-');
        if distance {
            let v = self.scan.offset("+ or -")?;
            // bpftool: `call pc+5#name`
            if self.scan.peek() == b'#' {
                self.scan.at += 1;
                self.scan.word();
            }
            return match i32::try_from(v) {
                Ok(v) => Ok(Parsed::Op(Op::Call(Callee::Local(v)))),
                Err(_) => fail(at, format!("distance {v} does not fit in 32 bits")),
            };
        }
        if name.is_empty() {
            return self.scan.expected("a helper, a label, pc+N or kfunc");
        }
        if self.scan.peek() == b'#' {
            self.scan.at += 1;
            let id = self.field("a helper's number")?;
            return numbered(at, name, id).map(Parsed::Op);
        }
        Ok(Parsed::Call(at, name))
    }

    /// `12`, `12@3`
    pub(super) fn kfunc(&mut self) -> Res<Op> {
        let id = self.field("a BTF id")?;
        let module = if self.scan.peek() == b'@' {
            self.scan.at += 1;
            let number = self.scan.number("the index of a module's BTF")?;
            let module = number.signed().and_then(|v| i16::try_from(v).ok());
            match module {
                Some(module) => module,
                None => {
                    let message = format!("module index {number} is not within -32768 to 32767");
                    return fail(number.at, message);
                }
            }
        } else {
            0
        };
        Ok(Op::Call(Callee::Kfunc(id, module)))
    }
}

/// What `name#id` of a log calls: helpers have ids of the table, kernel functions have BTF ids.
fn numbered(at: usize, name: &str, id: i32) -> Res<Op> {
    let known = u32::try_from(id).ok().and_then(Helper::by_id);
    let short = name.strip_prefix("bpf_").unwrap_or(name);
    match known {
        Some(helper) if helper.name == short => Ok(Op::Call(Callee::Helper(id))),
        Some(helper) => {
            let (name, known) = (shorten(name), helper.name);
            fail(
                at,
                format!("helper {id} is {known}, not {name}: write `call {known}#{id}`"),
            )
        }
        None => match Helper::by_name(name) {
            Some(helper) => {
                let (name, known) = (shorten(name), helper.id);
                fail(
                    at,
                    format!("{name} is helper {known}, not {id}: write `call {name}#{known}`"),
                )
            }
            None if name == "unknown" => Ok(Op::Call(Callee::Helper(id))),
            None => Ok(Op::Call(Callee::Kfunc(id, 0))),
        },
    }
}
