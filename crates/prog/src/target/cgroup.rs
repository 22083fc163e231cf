//! Control groups: what the processes in them send, receive, open and set.

use super::attached::Attach;
use super::place::{Place, placed};
use super::{Hook, Target};
use crate::error::{Error, Result};
use crate::link::Link;
use crate::prog::Prog;
use bpfsmith_btf::Kind;
use bpfsmith_sys::attach::{Attached, query};
use bpfsmith_sys::link::{To, create};
use bpfsmith_uapi::flags::attach::{BPF_F_ALLOW_MULTI, BPF_F_ALLOW_OVERRIDE, BPF_F_PREORDER};
use bpfsmith_uapi::flags::query::BPF_F_QUERY_EFFECTIVE;
use bpfsmith_uapi::{AttachType, ProgType};
use std::os::fd::{AsFd, BorrowedFd};

/// A directory of cgroup 2, for the programs of one of its hooks.
///
/// Programs of groups further out run too, after those of this one. A link lets others join:
/// [`Cgroup::overridable`] and [`Cgroup::alone`] are the older interface without links.
/// Places among the programs of one group came with Linux 6.16.
#[derive(Clone, Copy, Debug)]
pub struct Cgroup<'a> {
    dir: BorrowedFd<'a>,
    attach_type: AttachType,
    kind: ProgType,
    /// The function that an LSM program stands for.
    function: Option<&'a str>,
    by: By<'a>,
    preorder: u32,
    place: Place<'a>,
}

/// What holds the program.
#[derive(Clone, Copy, Debug)]
enum By<'a> {
    Link,
    /// The cgroup itself, with these flags, perhaps in place of another program.
    Group(u32, Option<&'a Prog>),
}

placed!(Cgroup);

macro_rules! hooks {
    ($($(#[$doc:meta])+ $name:ident = $attach:ident, $kind:ident;)+) => {
        impl<'a> Cgroup<'a> {
            /// The attach type and program type of each hook but those of LSM.
            pub const HOOKS: &'static [(AttachType, ProgType)] =
                &[$((AttachType::$attach, ProgType::$kind)),+];

            $(
                $(#[$doc])+
                #[must_use]
                pub fn $name(dir: &'a impl AsFd) -> Cgroup<'a> {
                    Cgroup::of(dir.as_fd(), AttachType::$attach, ProgType::$kind)
                }
            )+
        }
    };
}

hooks! {
    /// Packets that its sockets receive. Linux 4.10.
    ingress = CGROUP_INET_INGRESS, CGROUP_SKB;
    /// Packets that its sockets send: a refused one is `EPERM` to the sender. Linux 4.10.
    egress = CGROUP_INET_EGRESS, CGROUP_SKB;
    /// Sockets that its processes make. Linux 4.10.
    sock_create = CGROUP_INET_SOCK_CREATE, CGROUP_SOCK;
    /// Sockets that are closed for good. Linux 5.9.
    sock_release = CGROUP_INET_SOCK_RELEASE, CGROUP_SOCK;
    /// IPv4 sockets, when the kernel has chosen their port. Linux 4.17.
    post_bind4 = CGROUP_INET4_POST_BIND, CGROUP_SOCK;
    /// IPv6 sockets, when the kernel has chosen their port. Linux 4.17.
    post_bind6 = CGROUP_INET6_POST_BIND, CGROUP_SOCK;
    /// bind(2) of IPv4 sockets. Linux 4.17.
    bind4 = CGROUP_INET4_BIND, CGROUP_SOCK_ADDR;
    /// bind(2) of IPv6 sockets. Linux 4.17.
    bind6 = CGROUP_INET6_BIND, CGROUP_SOCK_ADDR;
    /// connect(2) of IPv4 sockets. Linux 4.17.
    connect4 = CGROUP_INET4_CONNECT, CGROUP_SOCK_ADDR;
    /// connect(2) of IPv6 sockets. Linux 4.17.
    connect6 = CGROUP_INET6_CONNECT, CGROUP_SOCK_ADDR;
    /// connect(2) of Unix sockets. Linux 6.7.
    connect_unix = CGROUP_UNIX_CONNECT, CGROUP_SOCK_ADDR;
    /// What unconnected IPv4 UDP sockets send to. Linux 4.18.
    sendmsg4 = CGROUP_UDP4_SENDMSG, CGROUP_SOCK_ADDR;
    /// What unconnected IPv6 UDP sockets send to. Linux 4.18.
    sendmsg6 = CGROUP_UDP6_SENDMSG, CGROUP_SOCK_ADDR;
    /// What Unix datagram sockets send to. Linux 6.7.
    sendmsg_unix = CGROUP_UNIX_SENDMSG, CGROUP_SOCK_ADDR;
    /// Who the sender is to an IPv4 UDP socket. Linux 5.2.
    recvmsg4 = CGROUP_UDP4_RECVMSG, CGROUP_SOCK_ADDR;
    /// Who the sender is to an IPv6 UDP socket. Linux 5.2.
    recvmsg6 = CGROUP_UDP6_RECVMSG, CGROUP_SOCK_ADDR;
    /// Who the sender is to a Unix datagram socket. Linux 6.7.
    recvmsg_unix = CGROUP_UNIX_RECVMSG, CGROUP_SOCK_ADDR;
    /// What getpeername(2) answers about IPv4 sockets. Linux 5.8.
    getpeername4 = CGROUP_INET4_GETPEERNAME, CGROUP_SOCK_ADDR;
    /// What getpeername(2) answers about IPv6 sockets. Linux 5.8.
    getpeername6 = CGROUP_INET6_GETPEERNAME, CGROUP_SOCK_ADDR;
    /// What getpeername(2) answers about Unix sockets. Linux 6.7.
    getpeername_unix = CGROUP_UNIX_GETPEERNAME, CGROUP_SOCK_ADDR;
    /// What getsockname(2) answers about IPv4 sockets. Linux 5.8.
    getsockname4 = CGROUP_INET4_GETSOCKNAME, CGROUP_SOCK_ADDR;
    /// What getsockname(2) answers about IPv6 sockets. Linux 5.8.
    getsockname6 = CGROUP_INET6_GETSOCKNAME, CGROUP_SOCK_ADDR;
    /// What getsockname(2) answers about Unix sockets. Linux 6.7.
    getsockname_unix = CGROUP_UNIX_GETSOCKNAME, CGROUP_SOCK_ADDR;
    /// Events in the life of TCP connections. Linux 4.13.
    sock_ops = CGROUP_SOCK_OPS, SOCK_OPS;
    /// Access to device files. Linux 4.15.
    device = CGROUP_DEVICE, CGROUP_DEVICE;
    /// Access to sysctls. Linux 5.2.
    sysctl = CGROUP_SYSCTL, CGROUP_SYSCTL;
    /// What getsockopt(2) answers. Linux 5.3.
    getsockopt = CGROUP_GETSOCKOPT, CGROUP_SOCKOPT;
    /// What setsockopt(2) sets. Linux 5.3.
    setsockopt = CGROUP_SETSOCKOPT, CGROUP_SOCKOPT;
}

impl<'a> Cgroup<'a> {
    /// A hook of Linux's security modules, as `socket_bind`, for this group's processes. Linux 6.0.
    #[must_use]
    pub fn lsm(dir: &'a impl AsFd, hook: &'a str) -> Cgroup<'a> {
        let group = Cgroup::of(dir.as_fd(), AttachType::LSM_CGROUP, ProgType::LSM);
        Cgroup {
            function: Some(hook),
            ..group
        }
    }

    fn of(dir: BorrowedFd<'a>, attach_type: AttachType, kind: ProgType) -> Cgroup<'a> {
        Cgroup {
            dir,
            attach_type,
            kind,
            function: None,
            by: By::Link,
            preorder: 0,
            place: Place::default(),
        }
    }

    /// Before the programs of groups below. Linux 6.15.
    #[must_use]
    pub const fn preorder(mut self) -> Cgroup<'a> {
        self.preorder = BPF_F_PREORDER;
        self
    }

    /// Without a link, beside other programs: it stays when this process is killed.
    #[must_use]
    pub const fn multi(mut self) -> Cgroup<'a> {
        self.by = By::Group(BPF_F_ALLOW_MULTI, None);
        self
    }

    /// Without a link, in place of this one, beside others. Linux 5.5.
    #[must_use]
    pub const fn replace(mut self, old: &'a Prog) -> Cgroup<'a> {
        self.by = By::Group(BPF_F_ALLOW_MULTI, Some(old));
        self
    }

    /// Without a link, alone on this group's hook; a group below may have its own instead.
    #[must_use]
    pub const fn overridable(mut self) -> Cgroup<'a> {
        self.by = By::Group(BPF_F_ALLOW_OVERRIDE, None);
        self
    }

    /// Without a link, alone on this group's hook and those of all groups below.
    #[must_use]
    pub const fn alone(mut self) -> Cgroup<'a> {
        self.by = By::Group(0, None);
        self
    }

    /// What is on this group's hook, in the order in which it runs.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn query(&self) -> Result<Attached> {
        self.ask(0)
    }

    /// What runs for its processes, programs of groups further out included.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn query_effective(&self) -> Result<Attached> {
        self.ask(BPF_F_QUERY_EFFECTIVE)
    }

    fn ask(&self, flags: u32) -> Result<Attached> {
        query(To::Fd(self.dir), self.attach_type, flags)
            .map_err(|failed| Error::call(failed, "cgroup", self.attach_type.to_string()))
    }
}

impl Target for Cgroup<'_> {
    fn hook(&self) -> Result<Hook> {
        let mut hook = Hook::plain(self.attach_type);
        if let Some(function) = self.function {
            let name = format!("bpf_lsm_{function}");
            let hint = "names are those of security_… functions, without that: file_open, \
                        socket_bind, …; the kernel needs CONFIG_BPF_LSM";
            hook.btf_id = crate::kernel::find("LSM hook", &name, Kind::FUNC, hint)?.0;
        }
        Ok(hook)
    }

    fn attach(&self, prog: &Prog) -> Result<Link> {
        prog.expect(self.kind, self.attach_type)?;
        let object = format!("{} at {}", prog.quoted(), self.attach_type);
        if let By::Group(flags, replace) = self.by {
            if !self.place.is_any() {
                return Err(Error::Argument {
                    what: "place",
                    problem: "only links have places among others: leave out multi, replace, \
                              overridable and alone"
                        .to_owned(),
                });
            }
            let attach = Attach {
                to: self.dir,
                attach_type: self.attach_type,
                flags: flags | self.preorder,
                replace,
                kind: "cgroup",
                object,
            };
            return attach.run(prog);
        }
        let (flags, more) = self.place.parts()?;
        let to = To::Fd(self.dir);
        create(
            prog.as_fd(),
            to,
            self.attach_type,
            flags | self.preorder,
            &more,
        )
        .map_err(|failed| Error::call(failed, "cgroup", object.clone()))
        .map(|fd| Link::kernel(fd, "cgroup", object))
    }
}
