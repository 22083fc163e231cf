//! Traffic control: the clsact qdisc and programs on it, for kernels without TCX; token buckets.

use crate::error::{Error, Operation};
use crate::socket::Netlink;
use crate::types::IfIndex;
use crate::wire::{Attrs, Frame, Malformed, Message, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use bpfsmith_uapi::uapi_enum;
use std::os::fd::{AsRawFd, BorrowedFd};

const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_GETQDISC: u16 = 38;
const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;
const RTM_GETTFILTER: u16 = 46;

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
/// The kernel counts what a frame of Ethernet takes on the wire.
const TC_LINKLAYER_ETHERNET: u8 = 1;

const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_TAG: u16 = 10;
const TCA_BPF_ID: u16 = 11;
const TCA_BPF_FLAG_ACT_DIRECT: u32 = 1;

const NLM_F_ECHO: u16 = 8;
const ETH_P_ALL: u16 = 3;
const CLSACT_HANDLE: u32 = 0xffff_0000;
const TBF_HANDLE: u32 = 0x0001_0000;

uapi_enum! {
    /// Where in the traffic of a device something hangs.
    pub TcParent: u32, "TC_H_" {
        /// The root of what is sent.
        ROOT = 0xffff_ffff,
        /// Where clsact itself hangs.
        CLSACT = 0xffff_fff1,
        /// In clsact, what is received.
        INGRESS = 0xffff_fff2,
        /// In clsact, what is sent.
        EGRESS = 0xffff_fff3,
    }
}

/// A queueing discipline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qdisc {
    /// The device.
    pub index: IfIndex,
    /// The kernel's word for its kind, like `clsact`.
    pub kind: String,
    /// Its number.
    pub handle: u32,
    /// Where it hangs.
    pub parent: TcParent,
}

/// A token bucket as a queueing discipline: what is sent leaves at a rate, waits in a queue, and is
/// dropped where the queue ends. It makes a slow cable with a router in front of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tbf {
    /// Bytes in a second.
    pub rate: u64,
    /// Bytes that may leave at once: at least a frame, and what a tick of the clock lets out.
    pub burst: u32,
    /// Bytes that may wait.
    pub limit: u32,
}

impl Tbf {
    /// `struct tc_tbf_qopt`. The burst is told in bytes beside it, and a rate that does not fit too.
    fn options(self) -> [u8; 36] {
        let mut options = [0; 36];
        options[1] = TC_LINKLAYER_ETHERNET;
        let rate = u32::try_from(self.rate).unwrap_or(u32::MAX);
        options[8..12].copy_from_slice(&rate.to_ne_bytes());
        options[24..28].copy_from_slice(&self.limit.to_ne_bytes());
        options
    }
}

/// What tells a filter from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FilterId {
    /// The device.
    pub index: IfIndex,
    /// [`TcParent::INGRESS`] or [`TcParent::EGRESS`].
    pub hook: TcParent,
    /// Filters run from the smallest on; 0 lets the kernel choose one before all others.
    pub priority: u16,
    /// Its number among those of the same priority; 0 lets the kernel choose.
    pub handle: u32,
}

/// A BPF program as a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// What tells it from others.
    pub id: FilterId,
    /// The name it was given.
    pub name: Option<String>,
    /// The id of the program.
    pub prog_id: Option<u32>,
    /// The tag of the program.
    pub tag: Option<[u8; 8]>,
    /// Whether the program's result decides over the packet; else it only names a class.
    pub direct_action: bool,
}

/// `struct tcmsg`.
fn tcmsg(index: IfIndex, handle: u32, parent: TcParent, info: u32) -> [u8; 20] {
    let mut header = [0; 20];
    header[4..8].copy_from_slice(&index.0.to_ne_bytes());
    header[8..12].copy_from_slice(&handle.to_ne_bytes());
    header[12..16].copy_from_slice(&parent.0.to_ne_bytes());
    header[16..20].copy_from_slice(&info.to_ne_bytes());
    header
}

/// A `struct tcmsg` taken apart.
struct Tc<'a> {
    index: IfIndex,
    handle: u32,
    parent: TcParent,
    info: u32,
    kind: &'a str,
    options: Option<Attrs<'a>>,
}

impl<'a> Tc<'a> {
    pub(crate) fn read(frame: Frame<'a>) -> Result<Tc<'a>, Malformed> {
        let (header, attrs) = frame.split::<20>()?;
        let word = |at: usize| {
            u32::from_ne_bytes([
                header[at],
                header[at + 1],
                header[at + 2],
                header[at + 3],
            ])
        };
        let mut tc = Tc {
            index: IfIndex(word(4)),
            handle: word(8),
            parent: TcParent(word(12)),
            info: word(16),
            kind: "",
            options: None,
        };
        for attr in attrs {
            let attr = attr?;
            match attr.kind {
                TCA_KIND => tc.kind = attr.str()?,
                TCA_OPTIONS => tc.options = Some(attr.attrs()),
                _ => {}
            }
        }
        Ok(tc)
    }
}

impl Qdisc {
    pub(crate) fn read(frame: Frame<'_>) -> Result<Qdisc, Malformed> {
        let Tc {
            index,
            handle,
            parent,
            kind,
            ..
        } = Tc::read(frame)?;
        Ok(Qdisc {
            index,
            kind: kind.to_owned(),
            handle,
            parent,
        })
    }
}

impl FilterId {
    /// The header that names it; the kernel packs priority and protocol into one word.
    fn header(self) -> [u8; 20] {
        let info = u32::from(self.priority) << 16 | u32::from(ETH_P_ALL.to_be());
        tcmsg(self.index, self.handle, self.hook, info)
    }
}

impl Filter {
    /// Reads a filter; one that holds no program gives nothing.
    pub(crate) fn read(frame: Frame<'_>) -> Result<Option<Filter>, Malformed> {
        let Tc {
            index,
            handle,
            parent,
            info,
            kind,
            options,
        } = Tc::read(frame)?;
        let Some(options) = options.filter(|_| kind == "bpf" && handle != 0) else {
            return Ok(None);
        };
        let priority = u16::try_from(info >> 16).unwrap_or_default();
        let id = FilterId {
            index,
            hook: parent,
            priority,
            handle,
        };
        let mut filter = Filter {
            id,
            name: None,
            prog_id: None,
            tag: None,
            direct_action: false,
        };
        for attr in options {
            let attr = attr?;
            match attr.kind {
                TCA_BPF_NAME => filter.name = Some(attr.str()?.to_owned()),
                TCA_BPF_ID => filter.prog_id = Some(attr.u32()?),
                TCA_BPF_TAG => filter.tag = Some(attr.array()?),
                TCA_BPF_FLAGS => {
                    filter.direct_action = attr.u32()? & TCA_BPF_FLAG_ACT_DIRECT != 0;
                }
                _ => {}
            }
        }
        Ok(Some(filter))
    }
}

impl Netlink {
    /// Every queueing discipline of every device.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to list them or the list never holds still.
    pub fn qdiscs(&self) -> Result<Vec<Qdisc>, Error> {
        let message = Message::new(RTM_GETQDISC, 0).fixed(&[0; 20]);
        self.dump(Operation::READ_QDISC, "", &message, |frame| {
            Qdisc::read(frame).map(Some)
        })
    }

    /// Adds the clsact qdisc, which filters need. Linux 4.5.
    ///
    /// # Errors
    ///
    /// `EEXIST` when the device has it.
    pub fn add_clsact(&self, index: IfIndex) -> Result<(), Error> {
        let message = Message::new(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL)
            .fixed(&tcmsg(index, CLSACT_HANDLE, TcParent::CLSACT, 0))
            .str(TCA_KIND, "clsact");
        self.ack_on(Operation::NEW_QDISC, index, "clsact", message)
    }

    /// Makes a device send no faster than a token bucket allows, in place of what it sends through.
    ///
    /// # Errors
    ///
    /// `ENOENT` when the kernel is built without; `EINVAL` when the burst is zero.
    pub fn set_tbf(&self, index: IfIndex, tbf: Tbf) -> Result<(), Error> {
        let message = Message::new(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE)
            .fixed(&tcmsg(index, TBF_HANDLE, TcParent::ROOT, 0))
            .str(TCA_KIND, "tbf")
            .nest(TCA_OPTIONS, |m| {
                m.attr(TCA_TBF_PARMS, &tbf.options())
                    .attr(TCA_TBF_RATE64, &tbf.rate.to_ne_bytes())
                    .u32(TCA_TBF_BURST, tbf.burst)
            });
        self.ack_on(Operation::NEW_QDISC, index, "tbf", message)
    }

    /// Deletes the qdisc that hangs there, with everything on it.
    ///
    /// # Errors
    ///
    /// `EINVAL` or `ENOENT` when there is none.
    pub fn delete_qdisc(&self, index: IfIndex, parent: TcParent) -> Result<(), Error> {
        let message = Message::new(RTM_DELQDISC, 0).fixed(&tcmsg(index, 0, parent, 0));
        self.ack_on(Operation::DEL_QDISC, index, &parent.to_string(), message)
    }

    /// The BPF filters that hang there, in the order in which they run.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to list them or the list never holds still.
    pub fn filters(&self, index: IfIndex, hook: TcParent) -> Result<Vec<Filter>, Error> {
        let object = format!("{index} {hook}");
        let message = Message::new(RTM_GETTFILTER, 0).fixed(&tcmsg(index, 0, hook, 0));
        self.dump(Operation::READ_FILTER, &object, &message, Filter::read)
    }

    /// Adds a program as a filter whose result decides over the packet; returns it as the kernel
    /// sees it, with the priority and handle that it has chosen.
    ///
    /// # Errors
    ///
    /// `EEXIST` when the priority and handle are taken; `EINVAL` without clsact.
    pub fn add_filter(
        &self,
        id: FilterId,
        name: &str,
        program: BorrowedFd<'_>,
    ) -> Result<Filter, Error> {
        self.put_filter(id, name, program, NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Puts a program in the place of the filter with that id, or adds it.
    ///
    /// # Errors
    ///
    /// `EINVAL` without clsact.
    pub fn replace_filter(
        &self,
        id: FilterId,
        name: &str,
        program: BorrowedFd<'_>,
    ) -> Result<Filter, Error> {
        self.put_filter(id, name, program, NLM_F_CREATE)
    }

    fn put_filter(
        &self,
        id: FilterId,
        name: &str,
        program: BorrowedFd<'_>,
        flags: u16,
    ) -> Result<Filter, Error> {
        let message = Message::new(RTM_NEWTFILTER, flags | NLM_F_ECHO)
            .fixed(&id.header())
            .str(TCA_KIND, "bpf")
            .nest(TCA_OPTIONS, |m| {
                m.i32(TCA_BPF_FD, program.as_raw_fd())
                    .str(TCA_BPF_NAME, name)
                    .u32(TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT)
            });
        let object = format!("{name:?} at {} of {}", id.hook, id.index);
        self.ask(Operation::NEW_FILTER, &object, message, |frame| {
            let what = "the new filter is no BPF filter";
            Filter::read(frame)?.ok_or(Malformed { what, at: 0 })
        })
    }

    /// Deletes a filter.
    ///
    /// # Errors
    ///
    /// `ENOENT` when there is none.
    pub fn delete_filter(&self, id: FilterId) -> Result<(), Error> {
        let message = Message::new(RTM_DELTFILTER, 0)
            .fixed(&id.header())
            .str(TCA_KIND, "bpf");
        let what = format!("{} priority {} handle {}", id.hook, id.priority, id.handle);
        self.ack_on(Operation::DEL_FILTER, id.index, &what, message)
    }
}
