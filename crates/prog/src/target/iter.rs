//! Iterators: programs that are called with each object of a kind and write what is read.

use super::{Hook, Target, typed};
use crate::error::{Error, Result};
use crate::kernel;
use crate::link::Link;
use crate::prog::Prog;
use bpfsmith_btf::Kind;
use bpfsmith_sys::link::{More, To, create, iterate};
use bpfsmith_uapi::flags::prog_load;
use bpfsmith_uapi::{AttachType, CgroupIterOrder, ProgType};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// A kind of kernel objects, for `TRACING` programs. The context holds pointers to the object and to
/// where [`Pass`] reads, the latter for `seq_write`. After the last object the program is called
/// once without one. Linux 5.8.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    name: String,
    over: Over<'a>,
    flags: u32,
}

/// Which of the objects.
#[derive(Clone, Copy, Debug)]
enum Over<'a> {
    All,
    Map(BorrowedFd<'a>),
    Cgroup(CgroupIterOrder, BorrowedFd<'a>),
    CgroupId(CgroupIterOrder, u64),
    Thread(u32),
    Process(u32),
    PidFd(BorrowedFd<'a>),
}

impl<'a> Iter<'a> {
    /// Over this kind: `task`, `task_file`, `bpf_map`, `bpf_map_elem`, `tcp`, `cgroup`, …
    #[must_use]
    pub fn of(name: &str) -> Iter<'a> {
        Iter {
            name: name.to_owned(),
            over: Over::All,
            flags: 0,
        }
    }

    /// Only elements of that map, for `bpf_map_elem` and `bpf_sk_storage_map`.
    #[must_use]
    pub fn map(mut self, map: &'a impl AsFd) -> Iter<'a> {
        self.over = Over::Map(map.as_fd());
        self
    }

    /// From that cgroup on, in that order, for `cgroup`. Linux 6.1.
    #[must_use]
    pub fn cgroup(mut self, order: CgroupIterOrder, dir: &'a impl AsFd) -> Iter<'a> {
        self.over = Over::Cgroup(order, dir.as_fd());
        self
    }

    /// From the cgroup of that number on, in that order, for `cgroup`. Linux 6.1.
    #[must_use]
    pub fn cgroup_id(mut self, order: CgroupIterOrder, id: u64) -> Iter<'a> {
        self.over = Over::CgroupId(order, id);
        self
    }

    /// Only that thread, for `task`, `task_file` and `task_vma`. Linux 6.1.
    #[must_use]
    pub fn thread(mut self, tid: u32) -> Iter<'a> {
        self.over = Over::Thread(tid);
        self
    }

    /// Only threads of that process, for `task`, `task_file` and `task_vma`. Linux 6.1.
    #[must_use]
    pub fn process(mut self, pid: u32) -> Iter<'a> {
        self.over = Over::Process(pid);
        self
    }

    /// Only threads of the process behind a pidfd. Linux 6.1.
    #[must_use]
    pub fn pidfd(mut self, pidfd: &'a impl AsFd) -> Iter<'a> {
        self.over = Over::PidFd(pidfd.as_fd());
        self
    }

    /// The program may sleep. Linux 5.11, for some kinds.
    #[must_use]
    pub fn sleepable(mut self) -> Iter<'a> {
        self.flags = prog_load::BPF_F_SLEEPABLE;
        self
    }

    /// Attaches a program and starts to read: a second call is a second pass.
    ///
    /// # Errors
    /// When the program was loaded for another iterator, or the kernel refuses.
    pub fn read(&self, prog: &Prog) -> Result<Pass> {
        // A pass keeps what it needs of the link.
        self.attach(prog)?.iterate()
    }

    /// `union bpf_iter_link_info`.
    fn info(&self) -> Vec<u8> {
        let fd = |fd: BorrowedFd<'_>| fd.as_raw_fd().cast_unsigned();
        let words: [u32; 4] = match self.over {
            Over::All => return Vec::new(),
            Over::Map(map) => [fd(map), 0, 0, 0],
            Over::Cgroup(order, dir) => [order.0, fd(dir), 0, 0],
            Over::Thread(tid) => [tid, 0, 0, 0],
            Over::Process(pid) => [0, pid, 0, 0],
            Over::PidFd(pidfd) => [0, 0, fd(pidfd), 0],
            Over::CgroupId(order, id) => {
                let mut bytes = [order.0.to_ne_bytes(), [0; 4]].concat();
                bytes.extend(id.to_ne_bytes());
                return bytes;
            }
        };
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }
}

impl Target for Iter<'_> {
    fn hook(&self) -> Result<Hook> {
        const HINT: &str = "each is a function bpf_iter_NAME in the kernel's BTF";
        let id = kernel::find_hook("iterator", "bpf_iter_", &self.name, Kind::FUNC, HINT)?;
        Ok(Hook {
            btf_id: id.0,
            flags: self.flags,
            ..Hook::plain(AttachType::TRACE_ITER)
        })
    }

    fn attach(&self, prog: &Prog) -> Result<Link> {
        let hook = self.hook()?;
        prog.expect(ProgType::TRACING, hook.attach_type)?;
        typed::same(prog, &hook, &self.name)?;
        let info = self.info();
        let object = format!("{} over {}", prog.quoted(), self.name);
        let more = More::Iterator(&info);
        create(prog.as_fd(), To::Nothing, hook.attach_type, 0, &more)
            .map_err(|failed| Error::call(failed, "iter", object.clone()))
            .map(|fd| Link::kernel(fd, "iter", object))
    }
}

impl Link {
    /// Starts to read what an iterator's program writes. Each call is a pass of its own.
    ///
    /// # Errors
    /// `EINVAL` when the link is none of an iterator.
    pub fn iterate(&self) -> Result<Pass> {
        let fd = iterate(self.fd()?)
            .map_err(|failed| Error::call(failed, "iter", format!("{self:?}")))?;
        Ok(Pass(File::from(fd)))
    }
}

/// One pass over the objects: reading calls the program. It ends with the last object.
#[derive(Debug)]
pub struct Pass(File);

impl Read for Pass {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl AsFd for Pass {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
