//! Whether a program fits the member that it is bound to: what the kernel would refuse with less to
//! say, or would not notice.

use super::kind::Kind;
use crate::blame::written;
use crate::error::Result;
use crate::resolve::foreign_argument;
use bpfsmith_asm::decode::ops;
use bpfsmith_asm::dsl::R1;
use bpfsmith_asm::isa::{Op, Size};
use bpfsmith_asm::program::Program;
use bpfsmith_btf::TypeId;
use bpfsmith_uapi::ProgType;

/// Refuses a program that was written for something else.
pub(super) fn fits(
    kind: &Kind,
    member: &str,
    program: &Program,
    prototype: (TypeId, usize),
) -> Result<()> {
    if program.kind() != ProgType::STRUCT_OPS {
        return Err(kind.about(
            member,
            format!(
                "{} was built as {}: give Program::new the type STRUCT_OPS",
                program.name(),
                program.kind()
            ),
        ));
    }
    written_for(kind, member, program)?;
    within(kind, member, program, prototype)
}

/// Arguments by name belong to one function.
fn written_for(kind: &Kind, member: &str, program: &Program) -> Result<()> {
    let own = format!("{}.{member}", kind.name);
    let Some((reloc, of)) = foreign_argument(program, &own) else {
        return Ok(());
    };
    let place = place(program, reloc.at as usize);
    let name = program.name();
    let problem = format!("{name} takes arguments of {of}{place}: bind it there");
    Err(kind.about(member, problem))
}

/// Arguments by number, as far as the first jump or call: the context holds those of the prototype.
fn within(
    kind: &Kind,
    member: &str,
    program: &Program,
    (prototype, count): (TypeId, usize),
) -> Result<()> {
    for (slot, op) in ops(program.insns()).map_while(std::result::Result::ok) {
        let is_named = program
            .relocs()
            .iter()
            .any(|reloc| reloc.at as usize == slot);
        if let Op::Load(Size::DW, _, R1, off) = op
            && !is_named
            && usize::try_from(off).is_ok_and(|off| off / 8 >= count)
        {
            let spelled = kind
                .btf()?
                .spell(prototype, member)
                .unwrap_or_else(|_| member.to_owned());
            return Err(kind.about(
                member,
                format!(
                    "{} loads argument {}{}, but `{spelled}` takes {count}",
                    program.name(),
                    off / 8,
                    place(program, slot),
                ),
            ));
        }
        let raw = program.insns().get(slot).copied().unwrap_or_default();
        let is_lost = written(raw) & 1 << R1.number() != 0;
        if is_lost
            || matches!(
                op,
                Op::Jump(..) | Op::Ja(_) | Op::JaLong(_) | Op::MayGoto(_) | Op::Exit
            )
        {
            break;
        }
    }
    Ok(())
}

/// ` at src/reno.rs:24`
fn place(program: &Program, slot: usize) -> String {
    let line = program.lines().get(slot);
    line.map_or_else(String::new, |line| {
        format!(" at {}:{}", line.at.file(), line.at.line())
    })
}
