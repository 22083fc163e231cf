//! What Rust has no safe function for: the raw system call, and libbpf's C interface.

#![expect(unsafe_code, reason = "the peers are C and the kernel itself")]

use bpfsmith_uapi::Cmd;
use libbpf_rs::libbpf_sys as c;
use std::ffi::{c_int, c_void};
use std::os::fd::RawFd;

/// The part of the attributes that operations on elements use.
#[repr(C)]
struct Elem {
    fd: u32,
    hole: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// bpf(2) with nothing around it.
///
/// # Safety
/// As for the system call.
#[cfg(target_arch = "x86_64")]
#[inline]
unsafe fn bpf(cmd: Cmd, attr: *mut c_void, size: usize) -> isize {
    let answer;
    // SAFETY: the kernel's calling convention; the caller vouches for the attributes.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") 321_isize => answer,
            in("rdi") cmd.0,
            in("rsi") attr,
            in("rdx") size,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    answer
}

/// An operation on one element, the way a program without any library does it.
#[inline]
pub fn raw_elem<K, V>(cmd: Cmd, fd: RawFd, key: &K, value: &mut V) -> isize {
    let mut attr = Elem {
        fd: fd.cast_unsigned(),
        hole: 0,
        key: std::ptr::from_ref(key) as u64,
        value: std::ptr::from_mut(value) as u64,
        flags: 0,
    };
    // SAFETY: the benchmarks pass types that are as large as the map's.
    unsafe { bpf(cmd, (&raw mut attr).cast(), size_of::<Elem>()) }
}

/// The attributes of batch commands.
#[repr(C)]
struct Batch {
    before: u64,
    after: u64,
    keys: u64,
    values: u64,
    count: u32,
    fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Reads a whole map in batches of that many elements; the number of elements. `values` has as many
/// for each key as the map.
pub fn raw_batches(fd: RawFd, keys: &mut [u32], values: &mut [u64], at_once: usize) -> usize {
    let (mut cursor, mut is_first, mut total) = (0_u64, true, 0);
    let each = values.len() / keys.len();
    loop {
        let room = at_once.min(keys.len() - total);
        let mut attr = Batch {
            before: if is_first { 0 } else { &raw mut cursor as u64 },
            after: &raw mut cursor as u64,
            keys: keys[total..].as_mut_ptr() as u64,
            values: values[total * each..].as_mut_ptr() as u64,
            count: room as u32,
            fd: fd.cast_unsigned(),
            elem_flags: 0,
            flags: 0,
        };
        // SAFETY: there is room for `count` keys and values.
        let answer = unsafe {
            bpf(
                Cmd::MAP_LOOKUP_BATCH,
                (&raw mut attr).cast(),
                size_of::<Batch>(),
            )
        };
        total += attr.count as usize;
        is_first = false;
        if answer != 0 || total == keys.len() {
            return total;
        }
    }
}

/// Writes all elements with one call.
pub fn raw_update_batch(fd: RawFd, keys: &[u32], values: &[u64]) -> isize {
    let mut attr = Batch {
        before: 0,
        after: 0,
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count: keys.len() as u32,
        fd: fd.cast_unsigned(),
        elem_flags: 0,
        flags: 0,
    };
    // SAFETY: there are `count` keys and values.
    unsafe {
        bpf(
            Cmd::MAP_UPDATE_BATCH,
            (&raw mut attr).cast(),
            size_of::<Batch>(),
        )
    }
}

/// `bpf_map_lookup_elem`.
#[inline]
pub fn libbpf_lookup<K, V>(fd: RawFd, key: &K, value: &mut V) -> c_int {
    // SAFETY: the benchmarks pass types that are as large as the map's.
    unsafe {
        c::bpf_map_lookup_elem(
            fd,
            std::ptr::from_ref(key).cast(),
            std::ptr::from_mut(value).cast(),
        )
    }
}

/// `bpf_map_update_elem`.
#[inline]
pub fn libbpf_update<K, V>(fd: RawFd, key: &K, value: &V) -> c_int {
    // SAFETY: the benchmarks pass types that are as large as the map's.
    unsafe {
        c::bpf_map_update_elem(
            fd,
            std::ptr::from_ref(key).cast(),
            std::ptr::from_ref(value).cast(),
            0,
        )
    }
}

/// Reads a whole map with `bpf_map_lookup_batch`; the number of elements. `values` has as many for
/// each key as the map.
pub fn libbpf_batches(fd: RawFd, keys: &mut [u32], values: &mut [u64], at_once: usize) -> usize {
    let (mut cursor, mut is_first, mut total) = (0_u64, true, 0);
    let each = values.len() / keys.len();
    loop {
        let mut count = at_once.min(keys.len() - total) as u32;
        let before = if is_first {
            std::ptr::null_mut()
        } else {
            (&raw mut cursor).cast()
        };
        // SAFETY: there is room for `count` keys and values.
        let answer = unsafe {
            c::bpf_map_lookup_batch(
                fd,
                before,
                (&raw mut cursor).cast(),
                keys[total..].as_mut_ptr().cast(),
                values[total * each..].as_mut_ptr().cast(),
                &raw mut count,
                std::ptr::null(),
            )
        };
        total += count as usize;
        is_first = false;
        if answer != 0 || total == keys.len() {
            return total;
        }
    }
}

/// Writes all elements with `bpf_map_update_batch`.
pub fn libbpf_update_batch(fd: RawFd, keys: &[u32], values: &[u64]) -> c_int {
    let mut count = keys.len() as u32;
    // SAFETY: there are `count` keys and values.
    unsafe {
        c::bpf_map_update_batch(
            fd,
            keys.as_ptr().cast(),
            values.as_ptr().cast(),
            &raw mut count,
            std::ptr::null(),
        )
    }
}

/// libbpf's ring buffer reader, with a callback in C's calling convention.
pub struct LibbpfRing {
    ring: *mut c::ring_buffer,
    sum: Box<Sum>,
}

#[derive(Default)]
struct Sum {
    count: u64,
    words: u64,
}

extern "C" fn add_up(sum: *mut c_void, data: *mut c_void, len: u64) -> c_int {
    if len == 48 {
        // SAFETY: libbpf passes what was given to it, and a record of `len` bytes.
        unsafe {
            let (sum, words) = (sum.cast::<Sum>(), data.cast::<u64>());
            (*sum).count += 1;
            (*sum).words = (*sum)
                .words
                .wrapping_add(*words)
                .wrapping_add(*words.add(5));
        }
    }
    0
}

impl LibbpfRing {
    /// Opens the ring buffer.
    ///
    /// # Panics
    /// When libbpf cannot.
    #[must_use]
    pub fn new(fd: RawFd) -> LibbpfRing {
        let mut sum = Box::<Sum>::default();
        let context = std::ptr::from_mut(sum.as_mut()).cast();
        // SAFETY: the sum outlives the ring buffer.
        let ring = unsafe { c::ring_buffer__new(fd, Some(add_up), context, std::ptr::null()) };
        assert!(!ring.is_null(), "libbpf opens the ring buffer");
        LibbpfRing { ring, sum }
    }

    /// Consumes all records; their number and the sum of two words of each.
    pub fn drain(&mut self) -> (u64, u64) {
        *self.sum = Sum::default();
        // SAFETY: the ring buffer is open.
        unsafe { c::ring_buffer__consume(self.ring) };
        (self.sum.count, self.sum.words)
    }
}

impl Drop for LibbpfRing {
    fn drop(&mut self) {
        // SAFETY: it is freed once.
        unsafe { c::ring_buffer__free(self.ring) };
    }
}

/// `bpf_prog_load` with instructions as they are; the fd, or a negative number.
pub fn libbpf_load(insns: &[u8]) -> c_int {
    // SAFETY: there are `insn_cnt` instructions, and names are zero-terminated.
    unsafe {
        c::bpf_prog_load(
            c::BPF_PROG_TYPE_SOCKET_FILTER,
            c"sock1k".as_ptr(),
            c"GPL".as_ptr(),
            insns.as_ptr().cast(),
            (insns.len() / 8) as c::size_t,
            std::ptr::null_mut(),
        )
    }
}
