//! The attribute structures of bpf(2), one row per command.
//!
//! Addresses and fds borrow what they stand for, so that a structure cannot outlive its buffers.

use bpfsmith_uapi::Cmd;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The address of bytes that the kernel reads.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Ptr<'a>(u64, PhantomData<&'a [u8]>);

impl<'a> Ptr<'a> {
    pub(crate) const NULL: Ptr<'static> = Ptr(0, PhantomData);

    #[inline]
    pub(crate) fn to<T>(from: &'a [T]) -> Ptr<'a> {
        Ptr(from.as_ptr().expose_provenance() as u64, PhantomData)
    }

    /// Null for an empty slice, which the kernel takes for absent.
    #[inline]
    pub(crate) fn to_some<T>(from: &'a [T]) -> Ptr<'a> {
        if from.is_empty() {
            Ptr::NULL
        } else {
            Ptr::to(from)
        }
    }
}

/// The address of bytes that the kernel writes.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct PtrMut<'a>(u64, PhantomData<&'a mut [u8]>);

impl<'a> PtrMut<'a> {
    pub(crate) const NULL: PtrMut<'static> = PtrMut(0, PhantomData);

    #[inline]
    pub(crate) fn to<T>(from: &'a mut [T]) -> PtrMut<'a> {
        PtrMut(from.as_mut_ptr().expose_provenance() as u64, PhantomData)
    }

    /// The address as a number, for structures that hold it among other numbers. Whoever writes it
    /// there keeps the bytes alive.
    #[inline]
    pub(crate) const fn number(self) -> u64 {
        self.0
    }

    /// The same bytes, for the kernel to read first.
    #[inline]
    pub(crate) const fn read(self) -> Ptr<'a> {
        Ptr(self.0, PhantomData)
    }

    /// Bytes for a command that reads what others of its row write.
    #[inline]
    pub(crate) fn only_read<T>(from: &'a [T]) -> PtrMut<'a> {
        PtrMut(Ptr::to(from).0, PhantomData)
    }

    /// Null for an empty slice, which the kernel takes for absent.
    #[inline]
    pub(crate) fn to_some<T>(from: &'a mut [T]) -> PtrMut<'a> {
        if from.is_empty() {
            PtrMut::NULL
        } else {
            PtrMut::to(from)
        }
    }
}

/// A file descriptor that stays open during the call.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Fd<'a>(i32, PhantomData<BorrowedFd<'a>>);

impl<'a> Fd<'a> {
    /// For a field in which the kernel takes 0 for absent.
    pub(crate) const NONE: Fd<'static> = Fd(0, PhantomData);
    /// What no process has open.
    pub(crate) const NOBODY: Fd<'static> = Fd(-1, PhantomData);

    #[inline]
    pub(crate) fn of(fd: BorrowedFd<'a>) -> Fd<'a> {
        Fd(fd.as_raw_fd(), PhantomData)
    }

    #[inline]
    pub(crate) fn some(fd: Option<BorrowedFd<'a>>) -> Fd<'a> {
        fd.map_or(Fd::NONE, Fd::of)
    }
}

/// The flag that says that a token is given, for every command that takes one.
pub(crate) fn token_flag(token: Option<BorrowedFd<'_>>) -> u32 {
    match token {
        Some(_) => bpfsmith_uapi::flags::map_create::BPF_F_TOKEN_FD,
        None => 0,
    }
}

/// Where a member of an attribute structure lies, for comparison with the kernel's own description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name in `union bpf_attr`.
    pub name: &'static str,
    /// Its first byte.
    pub offset: usize,
    /// Its bytes.
    pub size: usize,
}

/// The attribute structure of one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    /// The command.
    pub cmd: Cmd,
    /// The member of `union bpf_attr` that holds it; empty for the unnamed ones.
    pub part: &'static str,
    /// What it consists of.
    pub members: &'static [Member],
}

/// What bpf(2) takes: a structure without hidden bytes, and the commands it belongs to.
///
/// # Safety
/// The structure is `repr(C)`, has no padding, and every address in it lives as long as it.
pub(crate) unsafe trait Attribute {
    /// The command, where the structure belongs to one alone.
    const CMD: Cmd;
}

/// Whether the members follow each other without a gap.
#[allow(
    dead_code,
    reason = "Rust 1.88 does not count what nameless constants use"
)]
const fn is_dense(members: &[Member], size: usize) -> bool {
    let (mut next, mut index) = (0, 0);
    while index < members.len() {
        if members[index].offset != next {
            return false;
        }
        next += members[index].size;
        index += 1;
    }
    next == size
}

macro_rules! commands {
    ($(
        $(#[$meta:meta])*
        $name:ident $(<$life:lifetime>)? = $cmd:ident in $part:literal {
            $($field:ident: $ty:ty,)+
        }
    )+) => {
        $(
            $(#[$meta])*
            #[derive(Clone, Copy)]
            #[repr(C)]
            pub(crate) struct $name $(<$life>)? {
                $(pub(crate) $field: $ty,)+
            }

            impl $(<$life>)? $name $(<$life>)? {
                const MEMBERS: &'static [Member] = &[$(Member {
                    name: stringify!($field),
                    offset: std::mem::offset_of!($name, $field),
                    size: size_of::<$ty>(),
                }),+];
            }

            const _: () = assert!(
                is_dense($name::MEMBERS, size_of::<$name>()),
                "an attribute structure has hidden padding"
            );

            // SAFETY: repr(C) by the macro, without padding by the assertion above; `Ptr` and `Fd`
            // carry the lifetime.
            unsafe impl $(<$life>)? Attribute for $name $(<$life>)? {
                const CMD: Cmd = Cmd::$cmd;
            }
        )+

        /// Every structure of the table.
        pub const ATTRS: &[Attr] = &[$(Attr {
            cmd: Cmd::$cmd,
            part: $part,
            members: $name::MEMBERS,
        }),+];
    };
}

commands! {
    MapCreate<'a> = MAP_CREATE in "" {
        map_type: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        map_flags: u32,
        inner_map_fd: Fd<'a>,
        numa_node: u32,
        map_name: [u8; 16],
        map_ifindex: u32,
        btf_fd: Fd<'a>,
        btf_key_type_id: u32,
        btf_value_type_id: u32,
        btf_vmlinux_value_type_id: u32,
        map_extra: u64,
        value_type_btf_obj_fd: Fd<'a>,
        map_token_fd: Fd<'a>,
        excl_prog_hash: Ptr<'a>,
        excl_prog_hash_size: u32,
        _end: u32,
    }

    /// Also `MAP_UPDATE_ELEM`, `MAP_DELETE_ELEM`, `MAP_FREEZE` and, with room for the value,
    /// `MAP_LOOKUP_AND_DELETE_ELEM`.
    MapElem<'a> = MAP_UPDATE_ELEM in "" {
        map_fd: Fd<'a>,
        _hole: u32,
        key: Ptr<'a>,
        value: Ptr<'a>,
        flags: u64,
    }

    MapLookup<'a> = MAP_LOOKUP_ELEM in "" {
        map_fd: Fd<'a>,
        _hole: u32,
        key: Ptr<'a>,
        value: PtrMut<'a>,
        flags: u64,
    }

    MapNextKey<'a> = MAP_GET_NEXT_KEY in "" {
        map_fd: Fd<'a>,
        _hole: u32,
        key: Ptr<'a>,
        next_key: PtrMut<'a>,
    }

    /// All four batch commands; a command that reads keys or values does not write them.
    MapBatch<'a> = MAP_LOOKUP_BATCH in "batch" {
        in_batch: Ptr<'a>,
        out_batch: PtrMut<'a>,
        keys: PtrMut<'a>,
        values: PtrMut<'a>,
        count: u32,
        map_fd: Fd<'a>,
        elem_flags: u64,
        flags: u64,
    }

    ProgLoad<'a> = PROG_LOAD in "" {
        prog_type: u32,
        insn_cnt: u32,
        insns: Ptr<'a>,
        license: Ptr<'a>,
        log_level: u32,
        log_size: u32,
        log_buf: PtrMut<'a>,
        kern_version: u32,
        prog_flags: u32,
        prog_name: [u8; 16],
        prog_ifindex: u32,
        expected_attach_type: u32,
        prog_btf_fd: Fd<'a>,
        func_info_rec_size: u32,
        func_info: Ptr<'a>,
        func_info_cnt: u32,
        line_info_rec_size: u32,
        line_info: Ptr<'a>,
        line_info_cnt: u32,
        attach_btf_id: u32,
        attach_prog_fd: Fd<'a>,
        core_relo_cnt: u32,
        fd_array: Ptr<'a>,
        core_relos: Ptr<'a>,
        core_relo_rec_size: u32,
        log_true_size: u32,
        prog_token_fd: Fd<'a>,
        fd_array_cnt: u32,
        signature: Ptr<'a>,
        signature_size: u32,
        keyring_id: i32,
    }

    /// Also `OBJ_GET`.
    ObjPin<'a> = OBJ_PIN in "" {
        pathname: Ptr<'a>,
        bpf_fd: Fd<'a>,
        file_flags: u32,
        path_fd: Fd<'a>,
        _end: u32,
    }

    /// Also `PROG_DETACH`.
    ProgAttach<'a> = PROG_ATTACH in "" {
        target_fd: i32,
        attach_bpf_fd: Fd<'a>,
        attach_type: u32,
        attach_flags: u32,
        replace_bpf_fd: Fd<'a>,
        relative_fd: i32,
        expected_revision: u64,
    }

    TestRun<'a> = PROG_TEST_RUN in "test" {
        prog_fd: Fd<'a>,
        retval: u32,
        data_size_in: u32,
        data_size_out: u32,
        data_in: Ptr<'a>,
        data_out: PtrMut<'a>,
        repeat: u32,
        duration: u32,
        ctx_size_in: u32,
        ctx_size_out: u32,
        ctx_in: PtrMut<'a>,
        ctx_out: PtrMut<'a>,
        flags: u32,
        cpu: u32,
        batch_size: u32,
        _end: u32,
    }

    /// The `GET_NEXT_ID` and `GET_FD_BY_ID` commands of all objects.
    Id<'a> = PROG_GET_NEXT_ID in "" {
        start_id: u32,
        next_id: u32,
        open_flags: u32,
        fd_by_id_token_fd: Fd<'a>,
    }

    InfoByFd<'a> = OBJ_GET_INFO_BY_FD in "info" {
        bpf_fd: Fd<'a>,
        info_len: u32,
        info: PtrMut<'a>,
    }

    ProgQuery<'a> = PROG_QUERY in "query" {
        target_fd: i32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        prog_ids: PtrMut<'a>,
        prog_cnt: u32,
        _hole: u32,
        prog_attach_flags: PtrMut<'a>,
        link_ids: PtrMut<'a>,
        link_attach_flags: PtrMut<'a>,
        revision: u64,
    }

    RawTracepoint<'a> = RAW_TRACEPOINT_OPEN in "raw_tracepoint" {
        name: Ptr<'a>,
        prog_fd: Fd<'a>,
        _hole: u32,
        cookie: u64,
    }

    BtfLoad<'a> = BTF_LOAD in "" {
        btf: Ptr<'a>,
        btf_log_buf: PtrMut<'a>,
        btf_size: u32,
        btf_log_size: u32,
        btf_log_level: u32,
        btf_log_true_size: u32,
        btf_flags: u32,
        btf_token_fd: Fd<'a>,
    }

    TaskFdQuery<'a> = TASK_FD_QUERY in "task_fd_query" {
        pid: u32,
        fd: i32,
        flags: u32,
        buf_len: u32,
        buf: PtrMut<'a>,
        prog_id: u32,
        fd_type: u32,
        probe_offset: u64,
        probe_addr: u64,
    }

    /// What stands behind `flags` depends on the kind of link: see [`crate::link::More`].
    LinkCreate<'a> = LINK_CREATE in "link_create" {
        prog_fd: Fd<'a>,
        target_fd: i32,
        attach_type: u32,
        flags: u32,
        _more: LinkMore<'a>,
    }

    LinkUpdate<'a> = LINK_UPDATE in "link_update" {
        link_fd: Fd<'a>,
        new_prog_fd: Fd<'a>,
        flags: u32,
        old_prog_fd: Fd<'a>,
    }

    LinkDetach<'a> = LINK_DETACH in "link_detach" {
        link_fd: Fd<'a>,
    }

    EnableStats = ENABLE_STATS in "enable_stats" {
        r#type: u32,
    }

    IterCreate<'a> = ITER_CREATE in "iter_create" {
        link_fd: Fd<'a>,
        flags: u32,
    }

    BindMap<'a> = PROG_BIND_MAP in "prog_bind_map" {
        prog_fd: Fd<'a>,
        map_fd: Fd<'a>,
        flags: u32,
    }

    TokenCreate<'a> = TOKEN_CREATE in "token_create" {
        flags: u32,
        bpffs_fd: Fd<'a>,
    }

    StreamRead<'a> = PROG_STREAM_READ_BY_FD in "prog_stream_read" {
        stream_buf: PtrMut<'a>,
        stream_buf_len: u32,
        stream_id: u32,
        prog_fd: Fd<'a>,
        _end: u32,
    }
}

/// The parts of `link_create` that depend on the kind of link, all in one place of 48 bytes.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) union LinkMore<'a> {
    pub(crate) words: [u64; 6],
    pub(crate) btf_id: LinkBtf,
    pub(crate) iter: LinkIter<'a>,
    pub(crate) cookie: u64,
    pub(crate) kprobe_multi: LinkKprobeMulti<'a>,
    pub(crate) tracing: LinkTracing,
    pub(crate) netfilter: LinkNetfilter,
    pub(crate) anchor: LinkAnchor,
    pub(crate) uprobe_multi: LinkUprobeMulti<'a>,
}

macro_rules! parts {
    ($($name:ident $(<$life:lifetime>)? { $($field:ident: $ty:ty,)+ })+) => {$(
        #[derive(Clone, Copy)]
        #[repr(C)]
        pub(crate) struct $name $(<$life>)? {
            $(pub(crate) $field: $ty,)+
        }

        impl $(<$life>)? $name $(<$life>)? {
            #[allow(dead_code, reason = "as above")]
            const SUM: usize = 0 $(+ size_of::<$ty>())+;
        }

        const _: () = assert!(
            $name::SUM == size_of::<$name>() && $name::SUM <= 48,
            "a part of an attribute structure has hidden padding"
        );
    )+};
}

parts! {
    LinkBtf {
        target_btf_id: u32,
    }
    LinkIter<'a> {
        iter_info: Ptr<'a>,
        iter_info_len: u32,
        _end: u32,
    }
    LinkKprobeMulti<'a> {
        flags: u32,
        cnt: u32,
        syms: Ptr<'a>,
        addrs: Ptr<'a>,
        cookies: Ptr<'a>,
    }
    LinkTracing {
        target_btf_id: u32,
        _hole: u32,
        cookie: u64,
    }
    LinkNetfilter {
        pf: u32,
        hooknum: u32,
        priority: i32,
        flags: u32,
    }
    LinkAnchor {
        relative_fd: i32,
        _hole: u32,
        expected_revision: u64,
    }
    LinkUprobeMulti<'a> {
        path: Ptr<'a>,
        offsets: Ptr<'a>,
        ref_ctr_offsets: Ptr<'a>,
        cookies: Ptr<'a>,
        cnt: u32,
        flags: u32,
        pid: u32,
        _end: u32,
    }
}
