//! A loaded program.

use crate::error::{Error, Result};
use crate::globals::{self, Data};
use crate::link::Link;
use crate::load::{Account, from_kernel};
use crate::target::Target;
use bpfsmith_asm::global::Global;
use bpfsmith_asm::program::Program;
use bpfsmith_maps::Handle;
use bpfsmith_sys::object;
use bpfsmith_sys::{info, prog as sys};
use bpfsmith_uapi::{AttachType, ProgType, StreamId};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A program in the kernel. It goes when the last handle, pin and link of it goes.
#[derive(Debug)]
pub struct Prog {
    fd: OwnedFd,
    name: String,
    kind: ProgType,
    attach_type: AttachType,
    data: Vec<Data>,
    account: Account,
}

impl AsFd for Prog {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Prog {
    pub(crate) fn new(
        fd: OwnedFd,
        program: &Program,
        attach_type: AttachType,
        data: Vec<Data>,
        account: Account,
    ) -> Prog {
        Prog {
            fd,
            name: program.name().to_owned(),
            kind: program.kind(),
            attach_type,
            data,
            account,
        }
    }

    /// Takes over an fd. The kernel does not say which hook the program was loaded for:
    /// `attach_type` does.
    ///
    /// # Errors
    /// When it is no program.
    pub fn from_fd(fd: OwnedFd, attach_type: AttachType) -> Result<Prog> {
        Prog::found(fd, attach_type, "behind an fd")
    }

    fn found(fd: OwnedFd, attach_type: AttachType, place: &str) -> Result<Prog> {
        let info = object::expect(object::Kind::Prog, fd.as_fd())
            .and_then(|()| info::prog(fd.as_fd()))
            .map_err(|failed| Error::call(failed, "program", place))?;
        Ok(Prog {
            fd,
            name: from_kernel(&info.name),
            kind: ProgType(info.kind),
            attach_type,
            data: Vec::new(),
            account: Account::default(),
        })
    }

    /// Opens a program by its number.
    ///
    /// # Errors
    /// `ENOENT` when it is gone; `EPERM` without `CAP_SYS_ADMIN`.
    pub fn open_id(id: u32, attach_type: AttachType) -> Result<Prog> {
        let place = format!("id {id}");
        let fd = object::open_id(object::Kind::Prog, id, 0, None)
            .map_err(|failed| Error::call(failed, "program", place.as_str()))?;
        Prog::found(fd, attach_type, &place)
    }

    /// Opens a program by its name in bpffs.
    ///
    /// # Errors
    /// `ENOENT` without such a name; `EINVAL` when it is the name of something else.
    pub fn open_pin(path: impl AsRef<Path>, attach_type: AttachType) -> Result<Prog> {
        let place = path.as_ref().display().to_string();
        let fd = object::open_pin(object::From::Here, path.as_ref(), 0)
            .map_err(|failed| Error::call(failed, "program", place.as_str()))?;
        Prog::found(fd, attach_type, &place)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is for.
    #[must_use]
    pub fn kind(&self) -> ProgType {
        self.kind
    }

    /// What it was loaded to be attached as.
    #[must_use]
    pub fn attach_type(&self) -> AttachType {
        self.attach_type
    }

    /// How it came to be loaded.
    #[must_use]
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// The map behind a section of global data: `.data`, `.rodata`, `.bss` or `.private`.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<&Handle> {
        let found = self.data.iter().find(|data| data.section == name);
        found.map(|data| &data.map)
    }

    /// The present value of a global variable. Variables of up to 8 bytes are read at once.
    ///
    /// # Errors
    /// When the program has no such variable, or its memory cannot be mapped.
    pub fn read<T: FromBytes>(&self, global: &Global<T>) -> Result<T> {
        globals::read(&self.data, &self.name, global)
    }

    /// Gives a global variable another value, which the program sees at its next access. Variables
    /// of up to 8 bytes are written at once.
    ///
    /// # Errors
    /// When the program has no such variable, it is a constant, or its memory cannot be mapped.
    pub fn write<T: IntoBytes + Immutable>(&self, global: &Global<T>, value: &T) -> Result<()> {
        globals::write(&self.data, &self.name, global, value)
    }

    /// Attaches it. The link detaches when it is dropped.
    ///
    /// # Errors
    /// When the program was loaded for another hook, or the kernel refuses.
    pub fn attach(&self, target: &impl Target) -> Result<Link> {
        target.attach(self)
    }

    /// Gives it a name in bpffs, which keeps it alive.
    ///
    /// # Errors
    /// `EPERM` when the directory is not in a bpffs; `EEXIST` when the name is taken.
    pub fn pin(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        object::pin(self.as_fd(), object::From::Here, path)
            .map_err(|failed| Error::call(failed, "pin", path.display().to_string()))
    }

    /// Ties the lifetime of a map to the program although it does not mention it. Linux 5.10.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn bind(&self, map: &impl AsFd) -> Result<()> {
        sys::bind_map(self.as_fd(), map.as_fd())
            .map_err(|failed| Error::call(failed, "program", self.quoted()))
    }

    /// What it printed to one of its streams since the last time. Linux 6.17.
    ///
    /// # Errors
    /// What the kernel answers; older kernels do not know the command.
    pub fn read_stream(&self, stream: StreamId) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let count = sys::read_stream(self.as_fd(), stream, &mut buffer)
                .map_err(|failed| Error::call(failed, "program", self.quoted()))?;
            if count == 0 {
                return Ok(all);
            }
            all.extend_from_slice(&buffer[..count.min(buffer.len())]);
        }
    }

    /// The name as errors show it.
    pub(crate) fn quoted(&self) -> String {
        format!("\"{}\"", self.name)
    }

    /// Whether a test run writes the context to a place of its own.
    pub(crate) fn returns_ctx(&self) -> bool {
        !matches!(
            self.kind,
            ProgType::SYSCALL | ProgType::RAW_TRACEPOINT | ProgType::TRACING | ProgType::SK_LOOKUP
        )
    }

    /// Refuses a hook that the program was not loaded for.
    pub(crate) fn expect(&self, kind: ProgType, attach_type: AttachType) -> Result<()> {
        if (self.kind, self.attach_type) == (kind, attach_type) {
            return Ok(());
        }
        Err(Error::WrongHook {
            program: self.name.clone(),
            is: (self.kind, self.attach_type),
            wanted: (kind, attach_type),
        })
    }
}
