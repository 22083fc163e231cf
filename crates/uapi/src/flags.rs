//! Flag bits, one module per place where they are used.
//!
//! Flags of bpf(2) have the width of their attribute; flags of helpers are `u64`.

use core::fmt;

/// A set of flags as text: `BPF_F_A|BPF_F_B|0x40`, or `0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    bits: u64,
    known: &'static [(&'static str, u64)],
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.bits;
        let mut bar = "";
        for (name, bit) in self.known {
            if bit.is_power_of_two() && rest & bit != 0 {
                write!(f, "{bar}{name}")?;
                rest &= !bit;
                bar = "|";
            }
        }
        match (rest, bar) {
            (0, "") => f.write_str("0"),
            (0, _) => Ok(()),
            _ => write!(f, "{bar}{rest:#x}"),
        }
    }
}

/// Defines a module of flag constants with `ALL` and `names`.
#[macro_export]
macro_rules! uapi_flags {
    ($(
        $(#[$meta:meta])*
        $vis:vis mod $module:ident: $ty:ty {
            $($(#[$flag_meta:meta])* $flag:ident = $value:expr,)+
        }
    )+) => {$(
        $(#[$meta])*
        $vis mod $module {
            $($(#[$flag_meta])* pub const $flag: $ty = $value;)+

            /// Every name and value of this module.
            pub const ALL: &[(&str, u64)] = &[$((stringify!($flag), $value)),+];

            /// The names of the bits that are set.
            #[must_use]
            pub fn names(bits: $ty) -> $crate::flags::Names {
                $crate::flags::Names::new(bits.into(), ALL)
            }
        }
    )+};
}

impl Names {
    /// Pairs bits with the table that names them.
    #[must_use]
    pub const fn new(bits: u64, known: &'static [(&'static str, u64)]) -> Names {
        Names { bits, known }
    }
}

uapi_flags! {
    /// `map_flags` of `MAP_CREATE`.
    pub mod map_create: u32 {
        /// Allocate elements one by one instead of up front.
        BPF_F_NO_PREALLOC = 1 << 0,
        /// Keep one LRU list per CPU.
        BPF_F_NO_COMMON_LRU = 1 << 1,
        /// Allocate on the given NUMA node.
        BPF_F_NUMA_NODE = 1 << 2,
        /// User space may only read; also for opening by name or id.
        BPF_F_RDONLY = 1 << 3,
        /// User space may only write; also for opening by name or id.
        BPF_F_WRONLY = 1 << 4,
        /// A stack trace map stores build ids instead of addresses.
        BPF_F_STACK_BUILD_ID = 1 << 5,
        /// Hash without a random seed; for tests.
        BPF_F_ZERO_SEED = 1 << 6,
        /// Programs may only read.
        BPF_F_RDONLY_PROG = 1 << 7,
        /// Programs may only write.
        BPF_F_WRONLY_PROG = 1 << 8,
        /// A new connection inherits the storage of its listener.
        BPF_F_CLONE = 1 << 9,
        /// User space may map an array into its memory.
        BPF_F_MMAPABLE = 1 << 10,
        /// Perf events stay in the array when the fd that put them there is closed.
        BPF_F_PRESERVE_ELEMS = 1 << 11,
        /// Arrays of other sizes may replace this one as an inner map.
        BPF_F_INNER_MAP = 1 << 12,
        /// A `STRUCT_OPS` map is attached by a link.
        BPF_F_LINK = 1 << 13,
        /// `path_fd` is the folder that a path starts from; for pinning.
        BPF_F_PATH_FD = 1 << 14,
        /// `value_type_btf_obj_fd` names the BTF of the value type.
        BPF_F_VTYPE_BTF_OBJ_FD = 1 << 15,
        /// A token is passed; also for loading programs and BTF.
        BPF_F_TOKEN_FD = 1 << 16,
        /// A fault of user space in an arena is a signal.
        BPF_F_SEGV_ON_FAULT = 1 << 17,
        /// The arena does not translate pointers for user space.
        BPF_F_NO_USER_CONV = 1 << 18,
    }

    /// `flags` of element updates and lookups, by bpf(2) and by helpers.
    pub mod map_elem: u64 {
        /// Create or replace.
        BPF_ANY = 0,
        /// Only create.
        BPF_NOEXIST = 1,
        /// Only replace.
        BPF_EXIST = 2,
        /// Hold the value's spin lock while copying.
        BPF_F_LOCK = 4,
    }

    /// `prog_flags` of `PROG_LOAD`.
    pub mod prog_load: u32 {
        /// Check alignment on every processor.
        BPF_F_STRICT_ALIGNMENT = 1 << 0,
        /// Do not check alignment; for tests.
        BPF_F_ANY_ALIGNMENT = 1 << 1,
        /// Fill upper halves with random bits; for tests.
        BPF_F_TEST_RND_HI32 = 1 << 2,
        /// Verify states often; for tests.
        BPF_F_TEST_STATE_FREQ = 1 << 3,
        /// The program may sleep.
        BPF_F_SLEEPABLE = 1 << 4,
        /// The program can handle frames with fragments.
        BPF_F_XDP_HAS_FRAGS = 1 << 5,
        /// The program is tied to a device for its metadata, not offloaded.
        BPF_F_XDP_DEV_BOUND_ONLY = 1 << 6,
        /// Fail instead of correcting register bounds; for tests.
        BPF_F_TEST_REG_INVARIANTS = 1 << 7,
    }

    /// `attach_flags` of `PROG_ATTACH` and flags of links.
    pub mod attach: u32 {
        /// A cgroup below may attach its own program instead.
        BPF_F_ALLOW_OVERRIDE = 1 << 0,
        /// Programs of cgroups below run too.
        BPF_F_ALLOW_MULTI = 1 << 1,
        /// Replace the given program.
        BPF_F_REPLACE = 1 << 2,
        /// Insert before the given program or link.
        BPF_F_BEFORE = 1 << 3,
        /// Insert after the given program or link.
        BPF_F_AFTER = 1 << 4,
        /// The given program or link is an id, not an fd.
        BPF_F_ID = 1 << 5,
        /// Run before the programs of cgroups below. Linux 6.15.
        BPF_F_PREORDER = 1 << 6,
        /// The given object is a link, not a program.
        BPF_F_LINK = 1 << 13,
    }

    /// Flags of single kinds of links.
    pub mod link: u32 {
        /// Run on return from kernel functions.
        BPF_F_KPROBE_MULTI_RETURN = 1 << 0,
    }

    /// Flags of links on many user functions.
    pub mod uprobe_multi: u32 {
        /// Run on return from user functions.
        BPF_F_UPROBE_MULTI_RETURN = 1 << 0,
    }

    /// Flags of netfilter links.
    pub mod netfilter: u32 {
        /// Put fragments together first.
        BPF_F_NETFILTER_IP_DEFRAG = 1 << 0,
    }

    /// `query_flags` of `PROG_QUERY`.
    pub mod query: u32 {
        /// Ask for what takes effect, inherited programs included.
        BPF_F_QUERY_EFFECTIVE = 1 << 0,
    }

    /// `flags` of `PROG_TEST_RUN`.
    pub mod test_run: u32 {
        /// Run on the given CPU.
        BPF_F_TEST_RUN_ON_CPU = 1 << 0,
        /// Really send the frames of an XDP program.
        BPF_F_TEST_XDP_LIVE_FRAMES = 1 << 1,
        /// Check the packet's checksum. Linux 6.15.
        BPF_F_TEST_SKB_CHECKSUM_COMPLETE = 1 << 2,
    }

    /// How an XDP program is attached, in netlink and links.
    pub mod xdp: u32 {
        /// Fail when a program is attached already.
        XDP_FLAGS_UPDATE_IF_NOEXIST = 1 << 0,
        /// Run behind the driver, on any device.
        XDP_FLAGS_SKB_MODE = 1 << 1,
        /// Run in the driver.
        XDP_FLAGS_DRV_MODE = 1 << 2,
        /// Run in the device.
        XDP_FLAGS_HW_MODE = 1 << 3,
        /// Replace only the expected program.
        XDP_FLAGS_REPLACE = 1 << 4,
    }

    /// `skb_store_bytes`.
    pub mod skb_store_bytes: u64 {
        /// Correct the checksum that the device computed.
        BPF_F_RECOMPUTE_CSUM = 1 << 0,
        /// Forget the flow hash.
        BPF_F_INVALIDATE_HASH = 1 << 1,
    }

    /// `l3_csum_replace` and `l4_csum_replace`.
    pub mod csum_replace: u64 {
        /// Bits with the size of the changed field.
        BPF_F_HDR_FIELD_MASK = 0xf,
        /// The field belongs to the pseudo header.
        BPF_F_PSEUDO_HDR = 1 << 4,
        /// A checksum of 0 means none and stays 0.
        BPF_F_MARK_MANGLED_0 = 1 << 5,
        /// Write a computed 0 as its other form.
        BPF_F_MARK_ENFORCE = 1 << 6,
        /// The packet is IPv6.
        BPF_F_IPV6 = 1 << 7,
    }

    /// `redirect`, `clone_redirect` and the redirects of sockets and maps.
    pub mod redirect: u64 {
        /// Towards the receiving side.
        BPF_F_INGRESS = 1 << 0,
        /// To every entry of the device map.
        BPF_F_BROADCAST = 1 << 3,
        /// Not to the device that the frame came from.
        BPF_F_EXCLUDE_INGRESS = 1 << 4,
    }

    /// `skb_get_tunnel_key` and `skb_set_tunnel_key`.
    pub mod tunnel_key: u64 {
        /// The addresses are IPv6.
        BPF_F_TUNINFO_IPV6 = 1 << 0,
        /// Set: leave the outer UDP checksum out.
        BPF_F_ZERO_CSUM_TX = 1 << 1,
        /// Set: do not fragment.
        BPF_F_DONT_FRAGMENT = 1 << 2,
        /// Set: count packets.
        BPF_F_SEQ_NUMBER = 1 << 3,
        /// Set: leave the tunnel key out.
        BPF_F_NO_TUNNEL_KEY = 1 << 4,
        /// Get: report `tunnel_flags`.
        BPF_F_TUNINFO_FLAGS = 1 << 4,
    }

    /// `get_stackid` and `get_stack`.
    pub mod stack: u64 {
        /// Bits with the number of frames to leave out.
        BPF_F_SKIP_FIELD_MASK = 0xff,
        /// The user's stack instead of the kernel's.
        BPF_F_USER_STACK = 1 << 8,
        /// Compare stacks by hash only.
        BPF_F_FAST_STACK_CMP = 1 << 9,
        /// Replace a stack that has the same hash.
        BPF_F_REUSE_STACKID = 1 << 10,
        /// Build ids instead of addresses.
        BPF_F_USER_BUILD_ID = 1 << 11,
    }

    /// `perf_event_output`, `perf_event_read` and their kin.
    pub mod perf_event: u64 {
        /// Bits with the index of the map.
        BPF_F_INDEX_MASK = 0xffff_ffff,
        /// As the index: this CPU.
        BPF_F_CURRENT_CPU = 0xffff_ffff,
        /// Bits with the number of context bytes to append.
        BPF_F_CTXLEN_MASK = 0xf_ffff << 32,
    }

    /// `read_branch_records`.
    pub mod branch_records: u64 {
        /// Only tell the size.
        BPF_F_GET_BRANCH_RECORDS_SIZE = 1 << 0,
    }

    /// `ringbuf_output`, `ringbuf_submit` and `ringbuf_discard`.
    pub mod ringbuf: u64 {
        /// Do not wake the reader.
        BPF_RB_NO_WAKEUP = 1 << 0,
        /// Wake the reader in any case.
        BPF_RB_FORCE_WAKEUP = 1 << 1,
    }

    /// `sk_storage_get` and the storage helpers of inodes, tasks and cgroups.
    pub mod storage: u64 {
        /// Make the storage when it is missing.
        BPF_LOCAL_STORAGE_GET_F_CREATE = 1 << 0,
        /// The older name of the same.
        BPF_SK_STORAGE_GET_F_CREATE = 1 << 0,
    }

    /// `skb_adjust_room`.
    pub mod adjust_room: u64 {
        /// Leave the segment size alone.
        BPF_F_ADJ_ROOM_FIXED_GSO = 1 << 0,
        /// An outer IPv4 header comes in.
        BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 = 1 << 1,
        /// An outer IPv6 header comes in.
        BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 = 1 << 2,
        /// A GRE header comes in.
        BPF_F_ADJ_ROOM_ENCAP_L4_GRE = 1 << 3,
        /// An outer UDP header comes in.
        BPF_F_ADJ_ROOM_ENCAP_L4_UDP = 1 << 4,
        /// Keep what is known of the checksum.
        BPF_F_ADJ_ROOM_NO_CSUM_RESET = 1 << 5,
        /// The inner packet starts with Ethernet.
        BPF_F_ADJ_ROOM_ENCAP_L2_ETH = 1 << 6,
        /// An outer IPv4 header goes.
        BPF_F_ADJ_ROOM_DECAP_L3_IPV4 = 1 << 7,
        /// An outer IPv6 header goes.
        BPF_F_ADJ_ROOM_DECAP_L3_IPV6 = 1 << 8,
        /// Bits with the length of the inner link header, before the shift.
        BPF_ADJ_ROOM_ENCAP_L2_MASK = 0xff,
        /// How far that length is shifted.
        BPF_ADJ_ROOM_ENCAP_L2_SHIFT = 56,
    }

    /// `sk_assign` of a socket lookup program.
    pub mod sk_lookup: u64 {
        /// Replace an earlier choice.
        BPF_SK_LOOKUP_F_REPLACE = 1 << 0,
        /// Do not spread over the reuseport group.
        BPF_SK_LOOKUP_F_NO_REUSEPORT = 1 << 1,
    }

    /// `sock_ops_cb_flags_set`: the optional events.
    pub mod sock_ops: u64 {
        /// Retransmission timer.
        BPF_SOCK_OPS_RTO_CB_FLAG = 1 << 0,
        /// Retransmission.
        BPF_SOCK_OPS_RETRANS_CB_FLAG = 1 << 1,
        /// Change of state.
        BPF_SOCK_OPS_STATE_CB_FLAG = 1 << 2,
        /// Round trip time.
        BPF_SOCK_OPS_RTT_CB_FLAG = 1 << 3,
        /// Options of every packet.
        BPF_SOCK_OPS_PARSE_ALL_HDR_OPT_CB_FLAG = 1 << 4,
        /// Options that the kernel does not know.
        BPF_SOCK_OPS_PARSE_UNKNOWN_HDR_OPT_CB_FLAG = 1 << 5,
        /// Writing options.
        BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG = 1 << 6,
        /// All of these.
        BPF_SOCK_OPS_ALL_CB_FLAGS = 0x7f,
    }

    /// `load_hdr_opt`.
    pub mod hdr_opt: u64 {
        /// Look in the stored SYN.
        BPF_LOAD_HDR_OPT_TCP_SYN = 1 << 0,
    }

    /// `fib_lookup`.
    pub mod fib_lookup: u64 {
        /// Skip policy rules.
        BPF_FIB_LOOKUP_DIRECT = 1 << 0,
        /// Look from the sending side.
        BPF_FIB_LOOKUP_OUTPUT = 1 << 1,
        /// Do not ask for the neighbour.
        BPF_FIB_LOOKUP_SKIP_NEIGH = 1 << 2,
        /// Use the table in `tbid`.
        BPF_FIB_LOOKUP_TBID = 1 << 3,
        /// Choose a source address.
        BPF_FIB_LOOKUP_SRC = 1 << 4,
        /// Use `mark` in policy rules.
        BPF_FIB_LOOKUP_MARK = 1 << 5,
    }

    /// `check_mtu`.
    pub mod check_mtu: u64 {
        /// Check every segment of a large packet.
        BPF_MTU_CHK_SEGS = 1 << 0,
    }

    /// `timer_start`.
    pub mod timer: u64 {
        /// The time is absolute.
        BPF_F_TIMER_ABS = 1 << 0,
        /// The timer stays on this CPU.
        BPF_F_TIMER_CPU_PIN = 1 << 1,
    }

    /// `sysctl_get_name`.
    pub mod sysctl: u64 {
        /// Only the last part of the path.
        BPF_F_SYSCTL_BASE_NAME = 1 << 0,
    }

    /// `bprm_opts_set`.
    pub mod bprm: u64 {
        /// Run as if the file had privileges.
        BPF_F_BPRM_SECUREEXEC = 1 << 0,
    }

    /// Flags in [`bpf_flow_keys`](crate::structs::bpf_flow_keys).
    pub mod flow_dissector: u64 {
        /// Parse the first fragment.
        BPF_FLOW_DISSECTOR_F_PARSE_1ST_FRAG = 1 << 0,
        /// Stop at a flow label.
        BPF_FLOW_DISSECTOR_F_STOP_AT_FLOW_LABEL = 1 << 1,
        /// Stop at a tunnel.
        BPF_FLOW_DISSECTOR_F_STOP_AT_ENCAP = 1 << 2,
    }
}

/// As the `netns` of socket lookups: the program's own network namespace.
pub const BPF_F_CURRENT_NETNS: i64 = -1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_print_as_names() {
        assert_eq!(map_create::names(0).to_string(), "0");
        assert_eq!(
            map_create::names(map_create::BPF_F_NO_PREALLOC | map_create::BPF_F_MMAPABLE)
                .to_string(),
            "BPF_F_NO_PREALLOC|BPF_F_MMAPABLE"
        );
        assert_eq!(
            map_create::names(1 << 30 | 1).to_string(),
            "BPF_F_NO_PREALLOC|0x40000000"
        );
        assert_eq!(prog_load::names(1 << 31).to_string(), "0x80000000");
    }
}
