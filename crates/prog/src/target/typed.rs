//! Hooks with types: the program was loaded for a function or type in BTF.

use super::Hook;
use crate::error::{Error, Result};
use crate::link::Link;
use crate::near::Nearest;
use crate::prog::Prog;
use bpfsmith_btf::{Btf, Kind};
use bpfsmith_sys::link::{More, To, create};
use bpfsmith_sys::{info, object, prog as sys};
use bpfsmith_uapi::ProgType;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Attaches a program to what it was loaded for.
pub(crate) fn attach(
    prog: &Prog,
    kind: ProgType,
    hook: &Hook,
    cookie: u64,
    names: (&'static str, &str),
) -> Result<Link> {
    prog.expect(kind, hook.attach_type)?;
    same(prog, hook, names.1)?;
    let object = format!("{} on {}", prog.quoted(), names.1);
    let done = if cookie == 0 {
        sys::open_raw_tracepoint(None, prog.as_fd(), 0)
    } else {
        let more = More::Tracing { btf_id: 0, cookie };
        create(prog.as_fd(), To::Nothing, hook.attach_type, 0, &more)
    };
    done.map_err(|failed| Error::call(failed, names.0, object.clone()))
        .map(|fd| Link::kernel(fd, names.0, object))
}

/// Refuses a program that was loaded for another function: the kernel would attach it there.
pub(crate) fn same(prog: &Prog, hook: &Hook, name: &str) -> Result<()> {
    let info =
        info::prog(prog.as_fd()).map_err(|failed| Error::call(failed, "program", prog.quoted()))?;
    // Kernels before 6.0 do not tell.
    if info.attach_btf_id == 0 {
        return Ok(());
    }
    // Each module counts on from the kernel's last number, so that two have the same ones. What is
    // no BTF is a program.
    let object = hook.object.as_ref();
    let module = object.and_then(|object| info::btf(object.as_fd()).ok());
    let is_same_module = module.is_none_or(|(btf, _)| btf.id == info.attach_btf_obj_id);
    if info.attach_btf_id == hook.btf_id && is_same_module {
        return Ok(());
    }
    Err(Error::Argument {
        what: "target",
        problem: format!(
            "{} was loaded for another function than {name} (pass this target to Load::to before \
             loading)",
            prog.quoted()
        ),
    })
}

/// The number of a function in the BTF of a loaded program.
pub(crate) fn function_of(program: BorrowedFd<'_>, name: &str) -> Result<u32> {
    let failed = |failed| Error::call(failed, "program", format!("with function {name}"));
    let about = info::prog(program).map_err(failed)?;
    if about.btf_id == 0 {
        return Err(Error::Argument {
            what: "target",
            problem: format!(
                "the program with function {name} has no BTF (load it with Lines::Told)"
            ),
        });
    }
    let fd = object::open_id(object::Kind::Btf, about.btf_id, 0, None).map_err(failed)?;
    let bytes = info::btf_bytes(fd.as_fd()).map_err(failed)?;
    let btf = Btf::parse(bytes).map_err(|cause| Error::Btf {
        wanted: format!("function {name} of a program"),
        cause,
    })?;
    if let Some(id) = btf.find_func(name) {
        return Ok(id.0);
    }
    let mut nearest = Nearest::to(name);
    let funcs = btf.types().filter(|ty| ty.kind() == Kind::FUNC);
    funcs.for_each(|ty| nearest.see(&ty.name().to_string()));
    Err(Error::Unknown {
        what: "function of that program",
        name: name.to_owned(),
        near: nearest.names(),
        hint: "`bpfsmith progs show` lists its functions",
    })
}

/// A second fd of a program, for a hook that outlives the borrow.
pub(crate) fn owned(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    fd.try_clone_to_owned()
        .map_err(|error| Error::io("fcntl F_DUPFD_CLOEXEC", "program", "behind an fd", &error))
}
