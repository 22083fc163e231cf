//! What the kernel says about objects behind fds.

use crate::attr::{Fd, InfoByFd, PtrMut};
use crate::call::{Failed, Result, bpf};
use bpfsmith_uapi::{Cmd, Errno};
use std::os::fd::BorrowedFd;

/// Structures of numbers only: any bytes are a value, and none is hidden.
///
/// # Safety
/// `repr(C)`, integers and arrays of integers only, no padding.
unsafe trait Plain: Default {}

/// Asks for the information structure of an object, and how much of it the kernel knows.
///
/// # Safety
/// Every address in `info` has room for as many bytes as the length beside it says.
unsafe fn ask<T: Plain>(fd: BorrowedFd<'_>, info: &mut T) -> Result<usize> {
    let size = size_of::<T>();
    let mut attr = InfoByFd {
        bpf_fd: Fd::of(fd),
        info_len: u32::try_from(size).unwrap_or(u32::MAX),
        info: PtrMut::to(std::slice::from_mut(info)),
    };
    // SAFETY: the kernel writes at most `info_len` bytes of a plain structure, and what that
    // structure points to is the caller's promise.
    unsafe { bpf(&mut attr)? };
    Ok((attr.info_len as usize).min(size))
}

macro_rules! infos {
    ($(
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $ty:ty,)+
        }
    )+) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[repr(C)]
        $vis struct $name {
            $($(#[$field_meta])* $field_vis $field: $ty,)+
        }

        const _: () = assert!(
            0 $(+ size_of::<$ty>())+ == size_of::<$name>(),
            "an information structure has hidden padding"
        );

        // SAFETY: repr(C) by the macro, numbers only by the rows, no padding by the assertion.
        unsafe impl Plain for $name {}
    )+};
}

mod link;

pub use link::{LinkInfo, Place, link};

infos! {
    /// A map, as the kernel sees it. Members that it does not know are 0.
    pub struct MapInfo {
        /// How it stores.
        pub kind: u32,
        /// Its number.
        pub id: u32,
        /// Bytes of a key.
        pub key_size: u32,
        /// Bytes of a value.
        pub value_size: u32,
        /// How many entries at most.
        pub max_entries: u32,
        /// Creation flags.
        pub map_flags: u32,
        /// Its name, zero-terminated.
        pub name: [u8; 16],
        /// The device that it is offloaded to.
        pub ifindex: u32,
        /// For `STRUCT_OPS`: the type in the kernel's BTF.
        pub btf_vmlinux_value_type_id: u32,
        /// Device of the network namespace of that device.
        pub netns_dev: u64,
        /// Inode of the same.
        pub netns_ino: u64,
        /// The BTF that describes it, or 0.
        pub btf_id: u32,
        /// The type of a key in it.
        pub btf_key_type_id: u32,
        /// The type of a value in it.
        pub btf_value_type_id: u32,
        /// The kernel BTF of a `STRUCT_OPS` type.
        pub btf_vmlinux_id: u32,
        /// What single types take besides.
        pub map_extra: u64,
        hash: u64,
        hash_size: u32,
        _end: u32,
    }

    /// A program, as the kernel sees it. Lists are asked for by functions of their own.
    pub struct ProgInfo {
        /// What it is for.
        pub kind: u32,
        /// Its number.
        pub id: u32,
        /// A hash of its instructions.
        pub tag: [u8; 8],
        /// Bytes of machine code.
        pub jited_len: u32,
        /// Bytes of BPF code after the verifier rewrote it.
        pub xlated_len: u32,
        jited: u64,
        xlated: u64,
        /// When it was loaded, in nanoseconds since boot.
        pub load_time: u64,
        /// Who loaded it.
        pub created_by_uid: u32,
        /// How many maps it uses.
        pub nr_map_ids: u32,
        map_ids: u64,
        /// Its name, zero-terminated.
        pub name: [u8; 16],
        /// The device that it is tied to.
        pub ifindex: u32,
        /// 1 when its license is compatible with the GPL.
        pub gpl_compatible: u32,
        /// Device of the network namespace of the device.
        pub netns_dev: u64,
        /// Inode of the same.
        pub netns_ino: u64,
        /// How many functions it has in machine code.
        pub nr_jited_ksyms: u32,
        /// The same.
        pub nr_jited_func_lens: u32,
        jited_ksyms: u64,
        jited_func_lens: u64,
        /// The BTF that describes it, or 0.
        pub btf_id: u32,
        /// Bytes of a record of functions.
        pub func_info_rec_size: u32,
        func_info: u64,
        /// How many functions are described.
        pub nr_func_info: u32,
        /// How many lines are described.
        pub nr_line_info: u32,
        line_info: u64,
        jited_line_info: u64,
        /// How many lines of machine code are described.
        pub nr_jited_line_info: u32,
        /// Bytes of a record of lines.
        pub line_info_rec_size: u32,
        /// Bytes of a record of machine code lines.
        pub jited_line_info_rec_size: u32,
        /// How many functions have a tag.
        pub nr_prog_tags: u32,
        prog_tags: u64,
        /// Time of all runs in nanoseconds, while statistics are on.
        pub run_time_ns: u64,
        /// How many runs, while statistics are on.
        pub run_cnt: u64,
        /// Runs left out because the program was running on that CPU already.
        pub recursion_misses: u64,
        /// How many instructions the verifier looked at. Linux 5.16.
        pub verified_insns: u32,
        /// The BTF of what it attaches to.
        pub attach_btf_obj_id: u32,
        /// The type in it.
        pub attach_btf_id: u32,
        _end: u32,
    }

    /// A BTF object, as the kernel sees it.
    pub struct BtfInfo {
        btf: u64,
        /// Its bytes.
        pub btf_size: u32,
        /// Its number.
        pub id: u32,
        name: u64,
        name_len: u32,
        /// 1 when the kernel or a module brought it.
        pub kernel_btf: u32,
    }

    /// A token, as the kernel sees it. Linux 6.18.
    pub struct TokenInfo {
        /// Commands that it allows, one bit each.
        pub allowed_cmds: u64,
        /// Map types that it allows.
        pub allowed_maps: u64,
        /// Program types that it allows.
        pub allowed_progs: u64,
        /// Attach types that it allows.
        pub allowed_attachs: u64,
    }
}

/// Describes a map.
///
/// # Errors
/// `EINVAL` when the fd is no BPF object, `EBADF` when it is none at all.
pub fn map(fd: BorrowedFd<'_>) -> Result<MapInfo> {
    let mut info = MapInfo::default();
    // SAFETY: no addresses are set.
    unsafe { ask(fd, &mut info)? };
    Ok(info)
}

/// Describes a program.
///
/// # Errors
/// As for [`map`].
pub fn prog(fd: BorrowedFd<'_>) -> Result<ProgInfo> {
    let mut info = ProgInfo::default();
    // SAFETY: no addresses are set, so the kernel writes no lists.
    unsafe { ask(fd, &mut info)? };
    Ok(info)
}

/// Describes a token.
///
/// # Errors
/// As for [`map`]; `EINVAL` before Linux 6.18.
pub fn token(fd: BorrowedFd<'_>) -> Result<TokenInfo> {
    let mut info = TokenInfo::default();
    // SAFETY: there are no addresses.
    unsafe { ask(fd, &mut info)? };
    Ok(info)
}

/// Describes a BTF object, with its name (`vmlinux`, a module's, or empty).
///
/// # Errors
/// As for [`map`]; `EINVAL` for any other object than BTF.
pub fn btf(fd: BorrowedFd<'_>) -> Result<(BtfInfo, String)> {
    expect_btf(fd)?;
    let mut name = [0_u8; 64];
    let mut info = BtfInfo {
        name: PtrMut::to(&mut name).number(),
        name_len: 64,
        ..BtfInfo::default()
    };
    // SAFETY: it is BTF, the name has room for `name_len` bytes, and no other address is set.
    unsafe { ask(fd, &mut info)? };
    info.name = 0;
    Ok((info, text(&name)))
}

/// Refuses other objects than BTF, in whose structures an address and a length mean something else: a
/// link to many kprobes takes a length for that many addresses of 8 bytes.
pub(crate) fn expect_btf(fd: BorrowedFd<'_>) -> Result<()> {
    let mut info = BtfInfo::default();
    // SAFETY: no addresses are set.
    unsafe { ask(fd, &mut info)? };
    // BTF starts with the address, which stays as it was; all others start with their type, which is
    // never 0, or, a token, with what it allows.
    if info.btf == 0 {
        return Ok(());
    }
    Err(Failed {
        cmd: Cmd::OBJ_GET_INFO_BY_FD,
        errno: Errno::EINVAL,
    })
}

/// The bytes of a BTF object.
///
/// # Errors
/// As for [`map`].
pub fn btf_bytes(fd: BorrowedFd<'_>) -> Result<Vec<u8>> {
    let (info, _) = btf(fd)?;
    let mut bytes = vec![0_u8; info.btf_size as usize];
    let mut again = BtfInfo {
        btf: PtrMut::to(&mut bytes).number(),
        btf_size: info.btf_size,
        ..BtfInfo::default()
    };
    // SAFETY: the buffer has room for `btf_size` bytes, and no other address is set.
    unsafe { ask(fd, &mut again)? };
    Ok(bytes)
}

/// A list that belongs to a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// Ids of its maps, 4 bytes each.
    Maps,
    /// BPF code as the verifier left it, 8 bytes each.
    Xlated,
    /// Machine code.
    Jited,
    /// Addresses of its functions, 8 bytes each.
    Symbols,
    /// Lengths of its functions in machine code, 4 bytes each.
    Lengths,
    /// Records of functions.
    Funcs,
    /// Records of lines.
    Lines,
    /// Addresses of the lines in machine code, 8 bytes each.
    JitedLines,
    /// Tags of its functions, 8 bytes each.
    Tags,
}

/// Copies a list that belongs to a program. It is empty where the kernel keeps it secret.
///
/// # Errors
/// As for [`map`].
pub fn prog_list(fd: BorrowedFd<'_>, list: List) -> Result<Vec<u8>> {
    let all = prog(fd)?;
    let (count, size) = match list {
        List::Maps => (all.nr_map_ids, 4),
        List::Xlated => (all.xlated_len, 1),
        List::Jited => (all.jited_len, 1),
        List::Symbols => (all.nr_jited_ksyms, 8),
        List::Lengths => (all.nr_jited_func_lens, 4),
        List::Funcs => (all.nr_func_info, all.func_info_rec_size),
        List::Lines => (all.nr_line_info, all.line_info_rec_size),
        List::JitedLines => (all.nr_jited_line_info, all.jited_line_info_rec_size),
        List::Tags => (all.nr_prog_tags, 8),
    };
    let mut bytes = vec![0_u8; count as usize * size as usize];
    if bytes.is_empty() {
        return Ok(bytes);
    }
    let place = PtrMut::to(&mut bytes).number();
    let mut info = ProgInfo::default();
    let (count_at, place_at) = match list {
        List::Maps => (&mut info.nr_map_ids, &mut info.map_ids),
        List::Xlated => (&mut info.xlated_len, &mut info.xlated),
        List::Jited => (&mut info.jited_len, &mut info.jited),
        List::Symbols => (&mut info.nr_jited_ksyms, &mut info.jited_ksyms),
        List::Lengths => (&mut info.nr_jited_func_lens, &mut info.jited_func_lens),
        List::Funcs => (&mut info.nr_func_info, &mut info.func_info),
        List::Lines => (&mut info.nr_line_info, &mut info.line_info),
        List::JitedLines => (&mut info.nr_jited_line_info, &mut info.jited_line_info),
        List::Tags => (&mut info.nr_prog_tags, &mut info.prog_tags),
    };
    (*count_at, *place_at) = (count, place);
    match list {
        List::Funcs => info.func_info_rec_size = size,
        List::Lines => info.line_info_rec_size = size,
        List::JitedLines => info.jited_line_info_rec_size = size,
        _ => {}
    }
    // SAFETY: the buffer has room for `count` records of `size` bytes, and no other address is set.
    unsafe { ask(fd, &mut info)? };
    Ok(bytes)
}

/// Text up to the first zero.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
