//! What the kernel says about links: the head is the same for all, the rest depends on the kind.

use super::{Plain, ask, text};
use crate::attr::PtrMut;
use crate::call::{Failed, Result};
use bpfsmith_uapi::{AttachType, Cmd, Errno, LinkType, PerfEventType};
use std::os::fd::BorrowedFd;

/// What a link's information holds behind the head.
type Words = [u64; 14];

infos! {
    struct RawLink {
        kind: u32,
        id: u32,
        prog: u32,
        _hole: u32,
        more: Words,
    }
}

/// What a link attaches a program to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "members are called as in the kernel's bpf_link_info"
)]
pub enum Place {
    RawTracepoint {
        name: String,
        cookie: u64,
    },
    Tracing {
        attach: AttachType,
        object: u32,
        btf_id: u32,
        cookie: u64,
    },
    Cgroup {
        id: u64,
        attach: AttachType,
    },
    Iter {
        name: String,
        map: u32,
    },
    Netns {
        inode: u32,
        attach: AttachType,
    },
    Xdp {
        ifindex: u32,
    },
    StructOps {
        map: u32,
    },
    Netfilter {
        family: u32,
        hook: u32,
        priority: i32,
        flags: u32,
    },
    Kprobes {
        count: u32,
        flags: u32,
        missed: u64,
    },
    Uprobes {
        path: String,
        count: u32,
        flags: u32,
        pid: u32,
    },
    Perf {
        kind: PerfEventType,
        name: String,
        offset: u32,
        cookie: u64,
    },
    Device {
        ifindex: u32,
        attach: AttachType,
    },
    Sockmap {
        map: u32,
        attach: AttachType,
    },
    Other,
}

/// A link, as the kernel sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// What kind of link.
    pub kind: LinkType,
    /// Its number.
    pub id: u32,
    /// The program behind it; 0 for `STRUCT_OPS`.
    pub prog: u32,
    /// What it is attached to.
    pub place: Place,
}

/// Describes a link.
///
/// # Errors
/// As for [`map`](super::map).
pub fn link(fd: BorrowedFd<'_>) -> Result<LinkInfo> {
    let mut raw = RawLink::default();
    // SAFETY: no addresses are set.
    unsafe { ask(fd, &mut raw)? };
    let kind = LinkType(raw.kind);
    let mut name = vec![0_u8; 4096];
    if let Some((place_at, length_at)) = name_of(kind, &raw.more) {
        let mut more: Words = [0; 14];
        more[place_at] = PtrMut::to(&mut name).number();
        put(&mut more, length_at, 4096);
        if kind == LinkType::PERF_EVENT {
            // The kind of event decides where the name goes, but is written only by the kernel.
            more[0] = 0;
        }
        let mut again = RawLink {
            more,
            ..RawLink::default()
        };
        // SAFETY: the only address set has room for the length beside it.
        unsafe { ask(fd, &mut again)? };
        if again.kind != raw.kind {
            return Err(Failed {
                cmd: Cmd::OBJ_GET_INFO_BY_FD,
                errno: Errno::ESTALE,
            });
        }
    }
    let place = place(kind, &raw.more, text(&name));
    Ok(LinkInfo {
        kind,
        id: raw.id,
        prog: raw.prog,
        place,
    })
}

/// Which word is the address of a name, and which 4 bytes its length.
fn name_of(kind: LinkType, more: &Words) -> Option<(usize, usize)> {
    match kind {
        LinkType::RAW_TRACEPOINT | LinkType::ITER => Some((0, 2)),
        LinkType::UPROBE_MULTI => Some((0, 8)),
        // Only what is known to have a name there: for another kind the words may mean another
        // length.
        LinkType::PERF_EVENT => match PerfEventType(half(more, 0)) {
            PerfEventType::KPROBE
            | PerfEventType::KRETPROBE
            | PerfEventType::UPROBE
            | PerfEventType::URETPROBE
            | PerfEventType::TRACEPOINT => Some((1, 4)),
            _ => None,
        },
        _ => None,
    }
}

fn place(kind: LinkType, more: &Words, name: String) -> Place {
    let at = |index| half(more, index);
    let attach = |index| AttachType(half(more, index));
    match kind {
        LinkType::RAW_TRACEPOINT => Place::RawTracepoint {
            name,
            cookie: more[2],
        },
        LinkType::TRACING => Place::Tracing {
            attach: attach(0),
            object: at(1),
            btf_id: at(2),
            cookie: more[2],
        },
        LinkType::CGROUP => Place::Cgroup {
            id: more[0],
            attach: attach(2),
        },
        LinkType::ITER => Place::Iter { name, map: at(3) },
        LinkType::NETNS => Place::Netns {
            inode: at(0),
            attach: attach(1),
        },
        LinkType::XDP => Place::Xdp { ifindex: at(0) },
        LinkType::STRUCT_OPS => Place::StructOps { map: at(0) },
        LinkType::NETFILTER => Place::Netfilter {
            family: at(0),
            hook: at(1),
            priority: at(2).cast_signed(),
            flags: at(3),
        },
        LinkType::KPROBE_MULTI => Place::Kprobes {
            count: at(2),
            flags: at(3),
            missed: more[2],
        },
        LinkType::UPROBE_MULTI => Place::Uprobes {
            path: name,
            count: at(9),
            flags: at(10),
            pid: at(11),
        },
        LinkType::PERF_EVENT => {
            let kind = PerfEventType(at(0));
            let cookie = match kind {
                PerfEventType::KPROBE | PerfEventType::KRETPROBE => more[5],
                _ => more[3],
            };
            Place::Perf {
                kind,
                name,
                offset: if kind == PerfEventType::EVENT {
                    0
                } else {
                    at(5)
                },
                cookie,
            }
        }
        LinkType::TCX | LinkType::NETKIT => Place::Device {
            ifindex: at(0),
            attach: attach(1),
        },
        LinkType::SOCKMAP => Place::Sockmap {
            map: at(0),
            attach: attach(1),
        },
        _ => Place::Other,
    }
}

/// Four bytes of the words, by their number.
fn half(words: &Words, index: usize) -> u32 {
    let bytes = words[index / 2].to_ne_bytes();
    let start = index % 2 * 4;
    u32::from_ne_bytes([
        bytes[start],
        bytes[start + 1],
        bytes[start + 2],
        bytes[start + 3],
    ])
}

fn put(words: &mut Words, index: usize, value: u32) {
    let mut bytes = words[index / 2].to_ne_bytes();
    let start = index % 2 * 4;
    bytes[start..start + 4].copy_from_slice(&value.to_ne_bytes());
    words[index / 2] = u64::from_ne_bytes(bytes);
}

#[cfg(test)]
mod tests {
    use super::{half, put};

    #[test]
    fn halves_of_words_are_told_apart() {
        let mut words = [0; 14];
        put(&mut words, 4, 7);
        put(&mut words, 5, 9);
        assert_eq!(
            (half(&words, 4), half(&words, 5), half(&words, 6)),
            (7, 9, 0)
        );
    }
}
