//! Smaller enumerations: socket events and states, answers and modes of single helpers.

use crate::uapi_enum;

uapi_enum! {
    /// Why a `SOCK_OPS` program is called.
    pub SockOp: u32, "BPF_SOCK_OPS_" {
        /// Never a reason.
        VOID = 0,
        /// Asks for the SYN retransmission timeout; -1 for the default.
        TIMEOUT_INIT = 1,
        /// Asks for the first receive window in packets; -1 for the default.
        RWND_INIT = 2,
        /// A connection is about to be opened.
        TCP_CONNECT_CB = 3,
        /// A connection that this side opened stands.
        ACTIVE_ESTABLISHED_CB = 4,
        /// A connection that the peer opened stands.
        PASSIVE_ESTABLISHED_CB = 5,
        /// Asks whether congestion control needs ECN.
        NEEDS_ECN = 6,
        /// Asks for a round trip time below which there is no congestion.
        BASE_RTT = 7,
        /// The retransmission timer fired.
        RTO_CB = 8,
        /// A packet was retransmitted.
        RETRANS_CB = 9,
        /// The TCP state changes.
        STATE_CB = 10,
        /// The socket starts to listen.
        TCP_LISTEN_CB = 11,
        /// A round trip time was measured.
        RTT_CB = 12,
        /// TCP options of a received packet are to be read.
        PARSE_HDR_OPT_CB = 13,
        /// Room for TCP options is to be reserved.
        HDR_OPT_LEN_CB = 14,
        /// TCP options are to be written.
        WRITE_HDR_OPT_CB = 15,
        /// Time stamp: the packet entered the queueing discipline. Linux 6.15.
        TSTAMP_SCHED_CB = 16,
        /// Time stamp: the packet went to the driver. Linux 6.15.
        TSTAMP_SND_SW_CB = 17,
        /// Time stamp: the device sent the packet. Linux 6.15.
        TSTAMP_SND_HW_CB = 18,
        /// Time stamp: the peer acknowledged the packet. Linux 6.15.
        TSTAMP_ACK_CB = 19,
        /// Time stamp: user space sent the data. Linux 6.15.
        TSTAMP_SENDMSG_CB = 20,
    }
}

uapi_enum! {
    /// The state of a TCP socket.
    pub TcpState: u32, "BPF_TCP_" {
        /// Open in both directions.
        ESTABLISHED = 1,
        /// SYN sent, waiting for the answer.
        SYN_SENT = 2,
        /// SYN received and answered.
        SYN_RECV = 3,
        /// Closed here, FIN not yet acknowledged.
        FIN_WAIT1 = 4,
        /// Closed here, waiting for the peer's FIN.
        FIN_WAIT2 = 5,
        /// Done, waiting for stray packets to die.
        TIME_WAIT = 6,
        /// Not in use.
        CLOSE = 7,
        /// The peer closed, this side has not.
        CLOSE_WAIT = 8,
        /// The peer closed, this side's FIN is not yet acknowledged.
        LAST_ACK = 9,
        /// Waiting for connections.
        LISTEN = 10,
        /// Both closed at the same time.
        CLOSING = 11,
        /// A request that has no full socket yet.
        NEW_SYN_RECV = 12,
        /// Bound, not connected; only in socket dumps.
        BOUND_INACTIVE = 13,
    }
}

uapi_enum! {
    /// What `fib_lookup` found.
    pub FibResult: i32, "BPF_FIB_LKUP_RET_" {
        /// A route and a neighbour.
        SUCCESS = 0 => BPF_FIB_LKUP_RET_SUCCESS,
        /// The route drops silently.
        BLACKHOLE = 1 => BPF_FIB_LKUP_RET_BLACKHOLE,
        /// The route says unreachable.
        UNREACHABLE = 2 => BPF_FIB_LKUP_RET_UNREACHABLE,
        /// The route says prohibited.
        PROHIBIT = 3 => BPF_FIB_LKUP_RET_PROHIBIT,
        /// The packet is not to be forwarded, for example local.
        NOT_FWDED = 4 => BPF_FIB_LKUP_RET_NOT_FWDED,
        /// Forwarding is off on the device.
        FWD_DISABLED = 5 => BPF_FIB_LKUP_RET_FWD_DISABLED,
        /// The route needs a lightweight tunnel.
        UNSUPP_LWT = 6 => BPF_FIB_LKUP_RET_UNSUPP_LWT,
        /// A route, and no MAC address for the neighbour.
        NO_NEIGH = 7 => BPF_FIB_LKUP_RET_NO_NEIGH,
        /// The packet is too big.
        FRAG_NEEDED = 8 => BPF_FIB_LKUP_RET_FRAG_NEEDED,
        /// No source address could be chosen.
        NO_SRC_ADDR = 9 => BPF_FIB_LKUP_RET_NO_SRC_ADDR,
    }
}

uapi_enum! {
    /// What `check_mtu` found.
    pub MtuResult: i32, "BPF_MTU_CHK_RET_" {
        /// The packet fits.
        SUCCESS = 0 => BPF_MTU_CHK_RET_SUCCESS,
        /// The packet is too big.
        FRAG_NEEDED = 1 => BPF_MTU_CHK_RET_FRAG_NEEDED,
        /// A segment of a large packet is too big.
        SEGS_TOOBIG = 2 => BPF_MTU_CHK_RET_SEGS_TOOBIG,
    }
}

uapi_enum! {
    /// Where `skb_load_bytes_relative` counts from.
    pub HdrStart: i32, "BPF_HDR_START_" {
        /// The link header.
        MAC = 0 => BPF_HDR_START_MAC,
        /// The network header.
        NET = 1 => BPF_HDR_START_NET,
    }
}

uapi_enum! {
    /// Behind which header `skb_adjust_room` makes room.
    pub AdjRoomMode: i32, "BPF_ADJ_ROOM_" {
        /// The network header.
        NET = 0 => BPF_ADJ_ROOM_NET,
        /// The link header.
        MAC = 1 => BPF_ADJ_ROOM_MAC,
    }
}

uapi_enum! {
    /// What `lwt_push_encap` puts around the packet.
    pub LwtEncapMode: i32, "BPF_LWT_ENCAP_" {
        /// An IPv6 header with a segment routing header.
        SEG6 = 0 => BPF_LWT_ENCAP_SEG6,
        /// A segment routing header inside the existing IPv6 header.
        SEG6_INLINE = 1 => BPF_LWT_ENCAP_SEG6_INLINE,
        /// An IP header.
        IP = 2 => BPF_LWT_ENCAP_IP,
    }
}

uapi_enum! {
    /// What `csum_level` does.
    pub CsumLevel: i32, "BPF_CSUM_LEVEL_" {
        /// Ask.
        QUERY = 0 => BPF_CSUM_LEVEL_QUERY,
        /// One more checked.
        INC = 1 => BPF_CSUM_LEVEL_INC,
        /// One less checked.
        DEC = 2 => BPF_CSUM_LEVEL_DEC,
        /// None checked.
        RESET = 3 => BPF_CSUM_LEVEL_RESET,
    }
}

uapi_enum! {
    /// The clock of a packet's time stamp, for `skb_set_tstamp`.
    pub SkbClock: i32, "BPF_SKB_CLOCK_" {
        /// Wall time; also "unspecified".
        REALTIME = 0 => BPF_SKB_CLOCK_REALTIME,
        /// Time since boot, as departure times use it.
        MONOTONIC = 1 => BPF_SKB_CLOCK_MONOTONIC,
        /// International atomic time. Linux 6.11.
        TAI = 2 => BPF_SKB_CLOCK_TAI,
    }
    aliases {
        /// The name of `REALTIME` before Linux 6.11.
        BPF_SKB_TSTAMP_UNSPEC = REALTIME,
        /// The name of `MONOTONIC` before Linux 6.11.
        BPF_SKB_TSTAMP_DELIVERY_MONO = MONOTONIC,
    }
}

uapi_enum! {
    /// What `ringbuf_query` tells.
    pub RingbufQuery: i32, "BPF_RB_" {
        /// Bytes not yet consumed.
        AVAIL_DATA = 0 => BPF_RB_AVAIL_DATA,
        /// Bytes of the whole ring.
        RING_SIZE = 1 => BPF_RB_RING_SIZE,
        /// Where the consumer is.
        CONS_POS = 2 => BPF_RB_CONS_POS,
        /// Where the producers are.
        PROD_POS = 3 => BPF_RB_PROD_POS,
    }
}

uapi_enum! {
    /// What the first argument of a `WRITE_HDR_OPT` event says.
    pub WriteHdrTcp: u32, "BPF_WRITE_HDR_TCP_" {
        /// The packet is not built yet; reserve for the current segment size.
        CURRENT_MSS = 1,
        /// The SYN-ACK carries a cookie.
        SYNACK_COOKIE = 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    macro_rules! check_tables {
        ($($ty:ident)*) => {
            $(
                let values: HashSet<_> = $ty::ALL.iter().collect();
                assert_eq!(values.len(), $ty::ALL.len(), stringify!($ty));
                for value in $ty::ALL {
                    assert_eq!($ty::from_name(&value.to_string()), Some(*value));
                }
            )*
        };
    }

    #[test]
    fn rows_are_unique_and_names_lead_back() {
        check_tables! {
            SockOp TcpState FibResult MtuResult HdrStart AdjRoomMode LwtEncapMode CsumLevel SkbClock
            RingbufQuery WriteHdrTcp
        }
        assert_eq!(FibResult(77).to_string(), "BPF_FIB_LKUP_RET_77");
    }
}
