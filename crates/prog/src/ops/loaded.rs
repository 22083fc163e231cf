//! A structure of functions whose programs are verified: it can be registered.

use super::kind::Kind;
use super::registered::Registered;
use super::value;
use crate::error::{Error, Kernel, Result};
use crate::link::Link;
use crate::load::kernel_name;
use crate::prog::Prog;
use crate::tell::smallest_types;
use bpfsmith_sys::link::{self, More, To};
use bpfsmith_sys::map::{Create, Map};
use bpfsmith_sys::{Failed, prog as sys};
use bpfsmith_uapi::flags::map_create;
use bpfsmith_uapi::{AttachType, Errno, LinkType, MapType};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// A structure of functions in the kernel that nobody calls yet. It may be registered several times,
/// under the kernel's rules: most kinds take a name once.
#[derive(Debug)]
pub struct LoadedOps {
    kind: Kind,
    /// The value of the map, with the fds of the programs.
    value: Vec<u8>,
    progs: Vec<(String, Prog)>,
    /// What was made of it is called.
    label: String,
}

/// What the kernel demands of a kind, where it only says `EINVAL`: one member of each list.
const DEMANDS: &[(&str, &[&[&str]])] = &[(
    "tcp_congestion_ops",
    &[
        &["ssthresh"],
        &["undo_cwnd"],
        &["cong_avoid", "cong_control"],
        &["name"],
    ],
)];

impl LoadedOps {
    pub(super) fn new(
        kind: Kind,
        mut bytes: Vec<u8>,
        progs: Vec<(String, Prog)>,
    ) -> Result<LoadedOps> {
        for (member, prog) in &progs {
            let place = kind.member(member)?;
            // The kernel puts the address of the function there.
            let fd = u64::from(prog.as_fd().as_raw_fd().unsigned_abs());
            value::put(&kind, &mut bytes, member, &place, &fd.to_ne_bytes())?;
        }
        let label = match name(&kind, &bytes) {
            Some(name) => format!("{} \"{name}\"", kind.name),
            None => kind.name.clone(),
        };
        Ok(LoadedOps {
            kind,
            value: bytes,
            progs,
            label,
        })
    }

    /// The program of a member.
    #[must_use]
    pub fn prog(&self, member: &str) -> Option<&Prog> {
        let found = self.progs.iter().find(|(known, _)| known == member);
        found.map(|(_, prog)| prog)
    }

    /// The members that are programs, in the order in which they were bound.
    pub fn progs(&self) -> impl Iterator<Item = (&str, &Prog)> {
        self.progs
            .iter()
            .map(|(member, prog)| (member.as_str(), prog))
    }

    /// Registers it through a link: it goes when the link does, also if the process is killed.
    /// Linux 6.4.
    ///
    /// # Errors
    /// `EEXIST` when something of the name is registered; `EINVAL` when the kernel misses a member;
    /// `EINVAL` before Linux 6.4.
    pub fn attach(&self) -> Result<Link> {
        let map = self.filled(map_create::BPF_F_LINK)?;
        let more = More::Nothing;
        let fd = link::create(map.as_fd(), To::Nothing, AttachType::STRUCT_OPS, 0, &more)
            .map_err(|failed| self.failed(failed))?;
        Ok(Link::kernel(fd, "struct_ops", self.label.clone()))
    }

    /// Puts it in the place of what a link registered, without a moment in which neither is. The
    /// kernel compares what must not change: the name of an algorithm of TCP is such.
    ///
    /// # Errors
    /// `EINVAL` when the two differ in what must not change, or the kind cannot be replaced; when the
    /// link holds something else.
    pub fn replace(&self, held: &mut Link) -> Result<()> {
        let about = held.info()?;
        if about.kind != LinkType::STRUCT_OPS {
            return Err(Error::Argument {
                what: "link",
                problem: format!(
                    "id {} is no link of struct_ops, but {}: take the one that LoadedOps::attach \
                     returned",
                    about.id, about.kind
                ),
            });
        }
        let map = self.filled(map_create::BPF_F_LINK)?;
        link::update(held.fd()?, map.as_fd(), None).map_err(|failed| self.failed(failed))
    }

    /// Registers it without a link. It goes when the result is dropped; if the process is killed, it
    /// stays until somebody [opens](Registered::open_id) and unregisters it.
    ///
    /// # Errors
    /// As for [`LoadedOps::attach`].
    pub fn register(&self) -> Result<Registered> {
        let map = self.filled(0)?;
        Ok(Registered::new(&self.kind, map, self.label.clone()))
    }

    /// Makes the map and gives it its value. Without `BPF_F_LINK`, this registers.
    fn filled(&self, flags: u32) -> Result<Map> {
        let module = self.kind.module()?;
        // The kernel wants some BTF beside its own, and looks at nothing in it.
        let (types, _) = smallest_types().map_err(|failed| self.failed(failed))?;
        let create = Create {
            btf: Some((types.as_fd(), 0, 0)),
            kind: MapType::STRUCT_OPS.0,
            key: 4,
            value: self.kind.size,
            entries: 1,
            flags,
            name: kernel_name(name(&self.kind, &self.value).unwrap_or(&self.kind.name)),
            kernel_value_type: self.kind.value.0,
            module_btf: module.as_ref().map(OwnedFd::as_fd),
            ..Create::default()
        };
        let map = Map::create(&create).map_err(|failed| self.failed(failed))?;
        map.update(&[0; 4], &self.value, 0)
            .map_err(|failed| self.failed(failed))?;
        Ok(map)
    }

    /// Calls a function of `bpf_dummy_ops`, which exists for tests: with a state that the function may
    /// change, or none, and its other arguments.
    ///
    /// # Errors
    /// When there is no such member; `EINVAL` when the number of arguments is not the function's;
    /// `EOPNOTSUPP` for any other kind.
    pub fn call(&self, member: &str, state: Option<&mut [u8]>, rest: &[u64]) -> Result<u32> {
        let Some(prog) = self.prog(member) else {
            return Err(self.kind.about(member, "no program is bound to it"));
        };
        sys::call_dummy(prog.as_fd(), state, rest).map_err(|failed| self.failed(failed))
    }

    /// An error, with the members that the kernel may miss.
    fn failed(&self, failed: Failed) -> Error {
        let mut object = self.label.clone();
        if failed.errno == Errno::EINVAL {
            let missing = self.missing();
            if !missing.is_empty() {
                object = format!("{object} without {}", missing.join(" and "));
            }
        }
        Error::Kernel(Kernel {
            call: failed.cmd.to_string(),
            kind: "struct_ops",
            object,
            errno: failed.errno,
        })
    }

    fn missing(&self) -> Vec<String> {
        let rows = DEMANDS.iter().filter(|(kind, _)| *kind == self.kind.name);
        let lists = rows.flat_map(|(_, lists)| lists.iter());
        let is_set = |member: &&str| {
            self.prog(member).is_some()
                || (**member == *"name" && name(&self.kind, &self.value).is_some())
        };
        lists
            .filter(|list| !list.iter().any(is_set))
            .map(|list| list.join(" or "))
            .collect()
    }
}

/// What the structure is called, where it has a text `name`.
fn name<'a>(kind: &Kind, value: &'a [u8]) -> Option<&'a str> {
    let place = kind.member("name").ok()?;
    let at = (kind.data + place.offset()?) as usize;
    let size = kind.btf().ok()?.size_of(place.ty).ok()? as usize;
    let text = value.get(at..at.checked_add(size)?)?;
    let end = text.iter().position(|&byte| byte == 0)?;
    std::str::from_utf8(&text[..end])
        .ok()
        .filter(|text| !text.is_empty())
}
