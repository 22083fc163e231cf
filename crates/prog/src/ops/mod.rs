//! struct_ops: structures of functions that the kernel calls, written as programs. TCP congestion
//! control is one; newer kernels have schedulers and queueing disciplines.
//!
//! ```no_run
//! use bpfsmith_asm::dsl::*;
//! use bpfsmith_prog::{Maps, ops::StructOps};
//!
//! let program = |name, code| Program::new(ProgType::STRUCT_OPS, name, code);
//! let sk = |of| load(R1, args(of).get("sk"));
//! let halve = code![
//!     sk("tcp_congestion_ops.ssthresh"),
//!     load(R0, R1.get(kernel("tcp_sock.snd_cwnd"))),
//!     rsh(R0, 1),
//!     exit(),
//! ];
//! let undo = code![
//!     sk("tcp_congestion_ops.undo_cwnd"),
//!     call_kfunc("tcp_reno_undo_cwnd"),
//!     exit(),
//! ];
//! let (ssthresh, undo) = (program("ssthresh", halve)?, program("undo", undo)?);
//! let avoid = program("avoid", code![ret(0)])?;
//! let ops = StructOps::new("tcp_congestion_ops")?
//!     .func("ssthresh", &ssthresh)?
//!     .func("undo_cwnd", &undo)?
//!     .func("cong_avoid", &avoid)?
//!     .text("name", "halving")?
//!     .load(&Maps::new())?;
//! let link = ops.attach()?;
//! // Sockets may choose it until the link is dropped.
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::error::{Error, Result};
use crate::load::Load;
use crate::maps::Maps;
use crate::target::Hook;
use bpfsmith_asm::program::Program;
use bpfsmith_uapi::AttachType;
use kind::Kind;
use value::Value;

mod fit;
mod kind;
mod loaded;
mod registered;
mod value;

pub use kind::all;
pub use loaded::LoadedOps;
pub use registered::Registered;

/// A structure of functions that is being put together. What is not given stays zero.
#[derive(Clone, Debug)]
pub struct StructOps<'a> {
    kind: Kind,
    funcs: Vec<Bound<'a>>,
    values: Vec<(String, Value)>,
}

/// A program that is to be a member.
#[derive(Clone, Debug)]
struct Bound<'a> {
    member: String,
    /// The number of the member, which the kernel takes for an attach type.
    index: u32,
    program: &'a Program,
}

impl<'a> StructOps<'a> {
    /// The structure of that name: `tcp_congestion_ops`. Linux 5.6.
    ///
    /// # Errors
    /// [`Error::NoOps`] when neither the kernel nor a module has it, with those that it has.
    pub fn new(name: &str) -> Result<StructOps<'a>> {
        Ok(StructOps {
            kind: Kind::find(name)?,
            funcs: Vec::new(),
            values: Vec::new(),
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.kind.name
    }

    /// The program that is this member.
    ///
    /// # Errors
    /// When there is no such member, it is no function, or the program was written for another.
    pub fn func(mut self, member: &str, program: &'a Program) -> Result<StructOps<'a>> {
        let place = self.kind.member(member)?;
        let Some(prototype) = self.kind.prototype(&place)? else {
            return Err(self
                .kind
                .about(member, "it is no function: set a number or a text"));
        };
        fit::fits(&self.kind, member, program, prototype)?;
        self.funcs.retain(|bound| bound.member != member);
        self.funcs.push(Bound {
            member: member.to_owned(),
            index: place.first,
            program,
        });
        Ok(self)
    }

    /// The value of a member that is a number. Members of inner structures are `a.b`.
    ///
    /// # Errors
    /// When there is no such member, it is no number, or the value does not fit.
    pub fn number(self, member: &str, number: impl Into<i128>) -> Result<StructOps<'a>> {
        self.value(member, Value::Number(number.into()))
    }

    /// The value of a member that is a text.
    ///
    /// # Errors
    /// When there is no such member, it holds no text, or this one is too long.
    pub fn text(self, member: &str, text: &str) -> Result<StructOps<'a>> {
        self.value(member, Value::Text(text.to_owned()))
    }

    fn value(mut self, member: &str, value: Value) -> Result<StructOps<'a>> {
        let mut probe = vec![0; self.kind.size as usize];
        value::write(&self.kind, &mut probe, member, &value)?;
        self.values.retain(|(known, _)| known != member);
        self.values.push((member.to_owned(), value));
        Ok(self)
    }

    /// Makes every map that its programs mention.
    ///
    /// # Errors
    /// As for [`Maps::add`].
    pub fn maps(&self) -> Result<Maps> {
        let mut maps = Maps::new();
        for bound in &self.funcs {
            maps.add(bound.program)?;
        }
        Ok(maps)
    }

    /// Has the kernel verify all programs.
    ///
    /// # Errors
    /// [`Error::Operation`] with the member whose program is refused.
    pub fn load(&self, maps: &Maps) -> Result<LoadedOps> {
        self.load_with(maps, |_, load| Ok(load))
    }

    /// The same, with what else loading each member takes.
    ///
    /// # Errors
    /// As for [`StructOps::load`], and what the closure returns.
    pub fn load_with<'l>(
        &'l self,
        maps: &'l Maps,
        mut with: impl FnMut(&str, Load<'l>) -> Result<Load<'l>>,
    ) -> Result<LoadedOps> {
        let mut bytes = vec![0; self.kind.size as usize];
        for (member, value) in &self.values {
            value::write(&self.kind, &mut bytes, member, value)?;
        }
        let mut progs = Vec::new();
        for bound in &self.funcs {
            let hook = Hook {
                btf_id: self.kind.structure.0,
                object: self.kind.module()?,
                ..Hook::plain(AttachType(bound.index))
            };
            let load = Load::new(bound.program).maps(maps).hook(hook);
            let prog = with(&bound.member, load)
                .and_then(Load::load)
                .map_err(|cause| Error::Operation {
                    member: format!("{}.{}", self.kind.name, bound.member),
                    cause: Box::new(cause),
                })?;
            progs.push((bound.member.clone(), prog));
        }
        LoadedOps::new(self.kind.clone(), bytes, progs)
    }
}
