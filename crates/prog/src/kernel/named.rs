//! Functions, variables and events by name, wherever in the kernel they are.

use super::module::is_unseen;
use super::{Module, btf, modules, see};
use crate::error::{Error, Result};
use crate::near::Nearest;
use bpfsmith_btf::{Kind, TypeId};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// What the kernel or a module has under a name.
#[derive(Clone, Debug)]
pub struct Named {
    /// Its number among the types of the module, or of the kernel.
    pub id: TypeId,
    /// The module that has it; the kernel itself without.
    pub module: Option<Arc<Module>>,
}

impl Named {
    /// The BTF of its module, for a hook.
    pub(crate) fn open(&self) -> Result<Option<OwnedFd>> {
        self.module.as_ref().map(|module| module.open()).transpose()
    }
}

/// A function by name, as programs call and hooks name it: of the kernel, or else of the one
/// module that has it. `module:name` looks into that module alone, `vmlinux:name` into the kernel.
///
/// # Errors
/// [`Error::Unknown`] when there is none; [`Error::Argument`] when several modules have one; as for
/// [`btf`].
pub fn function(name: &str) -> Result<Named> {
    FUNCTION.find(name)
}

/// A variable by name, as [`function`] finds functions. The kernel tells the types of per-CPU
/// variables only.
///
/// # Errors
/// As for [`function`].
pub fn variable(name: &str) -> Result<Named> {
    VARIABLE.find(name)
}

/// Functions that programs call.
pub(crate) const FUNCTION: Wanted = Wanted {
    what: "kernel function",
    prefix: "",
    kind: Kind::FUNC,
    hint: "`bpfsmith probe` lists what it has; newer kernels have more, and modules that are not \
           loaded",
};

/// Variables whose types the kernel tells.
pub(crate) const VARIABLE: Wanted = Wanted {
    what: "typed variable",
    prefix: "",
    kind: Kind::VAR,
    hint: "only per-CPU variables and those in the BTF of the kernel and its loaded modules can \
           be named",
};

/// How to speak of it where the modules are not shown.
const UNSEARCHED: &str = "its modules were not searched: that needs CAP_SYS_ADMIN and Linux 5.11";

/// A kind of thing with a name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// How errors call it.
    pub(crate) what: &'static str,
    /// What stands before its name in BTF, and in errors does not.
    pub(crate) prefix: &'static str,
    pub(crate) kind: Kind,
    pub(crate) hint: &'static str,
}

impl Wanted {
    /// Finds it by `name` or `module:name`.
    pub(crate) fn find(&self, name: &str) -> Result<Named> {
        match self.look(name)? {
            Some(named) => Ok(named),
            None => Err(self.nothing(name)),
        }
    }

    /// The same, but what is not there is no error, and no names nearby are looked for, which takes
    /// far longer. What the modules have is not there for those who may not see them.
    pub(crate) fn look(&self, name: &str) -> Result<Option<Named>> {
        match name.split_once(':') {
            Some(("vmlinux", short)) => self.in_kernel(short),
            Some((module, short)) => {
                let all = modules()?;
                let found = all.iter().find(|known| known.name() == module);
                Ok(found.and_then(|module| self.in_module(short, module)))
            }
            None => match self.in_kernel(name)? {
                Some(named) => Ok(Some(named)),
                None => self.in_any(name),
            },
        }
    }

    /// The error for a name that nothing has.
    fn nothing(&self, name: &str) -> Error {
        match name.split_once(':') {
            Some(("vmlinux", _)) => self.unknown(name, "vmlinux:", &[], self.hint),
            Some((module, _)) => match modules() {
                Ok(all) => self.nothing_in(name, module, &all),
                Err(error) => error,
            },
            None => match modules() {
                Ok(all) => self.unknown(name, "", &all, self.hint),
                Err(error) if is_unseen(&error) => self.unknown(name, "", &[], UNSEARCHED),
                Err(error) => error,
            },
        }
    }

    fn in_kernel(&self, name: &str) -> Result<Option<Named>> {
        let id = btf()?.find(&format!("{}{name}", self.prefix), self.kind);
        Ok(id.map(|id| Named { id, module: None }))
    }

    fn in_module(&self, name: &str, module: &Arc<Module>) -> Option<Named> {
        let full = format!("{}{name}", self.prefix);
        let mut own = module.btf().own_named(&full);
        let found = own.find(|ty| ty.kind() == self.kind)?;
        Some(Named {
            id: found.id(),
            module: Some(Arc::clone(module)),
        })
    }

    /// `whole` is what was asked for: `module:name`.
    fn nothing_in(&self, whole: &str, module: &str, all: &[Arc<Module>]) -> Error {
        if let Some(found) = all.iter().find(|known| known.name() == module) {
            let (prefix, only) = (format!("{module}:"), [Arc::clone(found)]);
            return self.unknown(whole, &prefix, &only, self.hint);
        }
        let mut nearest = Nearest::to(module);
        all.iter().for_each(|known| nearest.see(known.name()));
        Error::Unknown {
            what: "module with types",
            name: module.to_owned(),
            near: nearest.names(),
            hint: "`ls /sys/kernel/btf` lists them; `modprobe` loads more",
        }
    }

    fn in_any(&self, name: &str) -> Result<Option<Named>> {
        let all = match modules() {
            Ok(all) => all,
            Err(error) if is_unseen(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let found = all.iter().filter_map(|module| self.in_module(name, module));
        let mut found: Vec<Named> = found.collect();
        if found.len() < 2 {
            return Ok(found.pop());
        }
        let modules = found.iter().filter_map(|named| named.module.as_ref());
        let names: Vec<&str> = modules.map(|module| module.name()).collect();
        Err(Error::Argument {
            what: self.what,
            problem: ambiguous(name, &names),
        })
    }

    /// The error for a name that nothing has. Names nearby are the kernel's and those of these
    /// modules; with a prefix that says where it was looked for, only those of that place.
    fn unknown(
        &self,
        name: &str,
        place: &str,
        modules: &[Arc<Module>],
        hint: &'static str,
    ) -> Error {
        let short = name.strip_prefix(place).unwrap_or(name);
        let full = format!("{}{short}", self.prefix);
        let mut nearest = Nearest::to(&full);
        if place.is_empty() || modules.is_empty() {
            match btf() {
                Ok(btf) => see(&mut nearest, btf, self.kind),
                Err(error) => return error,
            }
        }
        for module in modules {
            see(&mut nearest, module.btf(), self.kind);
        }
        let near = nearest.names();
        let near = near
            .iter()
            .filter_map(|near| near.strip_prefix(self.prefix));
        Error::Unknown {
            what: self.what,
            name: name.to_owned(),
            near: near.map(|near| format!("{place}{near}")).collect(),
            hint,
        }
    }
}

/// What to write instead of a name that several modules have.
fn ambiguous(name: &str, modules: &[&str]) -> String {
    let choices: Vec<String> = modules
        .iter()
        .map(|module| format!("`{module}:{name}`"))
        .collect();
    format!(
        "\"{name}\" is in several modules: write {}",
        choices.join(" or ")
    )
}

#[cfg(test)]
mod tests {
    use super::ambiguous;

    #[test]
    fn a_name_of_several_modules_is_told_with_each() {
        assert_eq!(
            ambiguous("init", &["a", "b"]),
            "\"init\" is in several modules: write `a:init` or `b:init`"
        );
    }
}
