//! What R1 points to when a program starts.
//!
//! Pointers to packet data are 32 bits wide in the older structures; the kernel widens the load.
//! Ports and ether types that fill 32 bits hold a 16-bit number in network order: the whole field is
//! not a swapped 32-bit number, so it is typed `u32` and compared with the swapped 16-bit number.

crate::layout! {
    /// Every context in this module.
    pub const CONTEXTS;

    /// Context of an XDP program.
    pub mod xdp_md = "xdp_md": 24 {
        /// Start of the frame.
        data: u32,
        /// Behind the last byte of the frame.
        data_end: u32,
        /// Start of the metadata; equal to `data` when there is none.
        data_meta: u32,
        /// Device that received the frame.
        ingress_ifindex: u32,
        /// Receive queue.
        rx_queue_index: u32,
        /// Device that sends the frame, in a device map program. Linux 5.8.
        egress_ifindex: u32,
    }

    /// Context of programs that see a socket buffer.
    pub mod __sk_buff = "__sk_buff": 192 {
        /// Bytes in the packet.
        len: u32,
        /// To whom it is addressed: this host, all, another.
        pkt_type: u32,
        /// The firewall mark.
        mark: u32,
        /// Transmit queue.
        queue_mapping: u32,
        /// Ether type; 16 bits in network order, so compare with `be16`.
        protocol: u32,
        /// Whether a VLAN tag is kept beside the packet.
        vlan_present: u32,
        /// That tag.
        vlan_tci: u32,
        /// That tag's protocol; 16 bits in network order, so compare with `be16`.
        vlan_proto: u32,
        /// Priority in queueing.
        priority: u32,
        /// Device that received the packet.
        ingress_ifindex: u32,
        /// Device where the packet is now.
        ifindex: u32,
        /// Class index of queueing disciplines.
        tc_index: u32,
        /// Room for notes, passed along by some hooks.
        cb: [u32; 5],
        /// Flow hash.
        hash: u32,
        /// Class that a classifier chose.
        tc_classid: u32,
        /// Start of the directly readable bytes.
        data: u32,
        /// Behind the last directly readable byte.
        data_end: u32,
        /// Id of the polling instance that received the packet.
        napi_id: u32,
        /// Address family of the socket.
        family: u32,
        /// The peer's IPv4 address.
        remote_ip4: be32,
        /// The socket's own IPv4 address.
        local_ip4: be32,
        /// The peer's IPv6 address.
        remote_ip6: [be32; 4],
        /// The socket's own IPv6 address.
        local_ip6: [be32; 4],
        /// The peer's port; four bytes in network order, so compare with `be32`.
        remote_port: u32,
        /// The socket's own port, in host order.
        local_port: u32,
        /// Start of the metadata that XDP left.
        data_meta: u32,
        /// Parsed headers, in a flow dissector.
        flow_keys: ptr,
        /// Departure or arrival time in nanoseconds.
        tstamp: u64,
        /// Bytes on the wire, all segments with their headers.
        wire_len: u32,
        /// Segments of a large packet.
        gso_segs: u32,
        /// The socket; may be null.
        sk: ptr,
        /// Bytes of payload per segment.
        gso_size: u32,
        /// Clock of `tstamp`. Linux 5.18.
        tstamp_type: u8,
        /// The device's own time stamp. Linux 5.16.
        hwtstamp: u64,
    }

    /// Context of a socket lookup program.
    pub mod bpf_sk_lookup = "bpf_sk_lookup": 72 {
        /// The socket chosen so far; may be null.
        sk: ptr,
        /// Cookie of the chosen socket, in a test run.
        cookie: u64 @ 0,
        /// Address family.
        family: u32,
        /// IP protocol.
        protocol: u32,
        /// The sender's IPv4 address.
        remote_ip4: be32,
        /// The sender's IPv6 address.
        remote_ip6: [be32; 4],
        /// The sender's port, in network order, unlike `local_port`.
        #[deprecated(
            note = "of its ports, this structure has one in network order and one in the machine's: \
                    `kit::lookup::load_port` and `port` take the number for either"
        )]
        remote_port: be16,
        /// The destination's IPv4 address.
        local_ip4: be32,
        /// The destination's IPv6 address.
        local_ip6: [be32; 4],
        /// The destination's port, in host order, unlike `remote_port`.
        #[deprecated(
            note = "of its ports, this structure has one in network order and one in the machine's: \
                    `kit::lookup::load_port` and `port` take the number for either"
        )]
        local_port: u32,
        /// Device that received the packet. Linux 5.17.
        ingress_ifindex: u32,
    }

    /// Context of a message program on a socket.
    pub mod sk_msg_md = "sk_msg_md": 80 {
        /// Start of the directly readable bytes.
        data: ptr,
        /// Behind the last directly readable byte.
        data_end: ptr,
        /// Address family.
        family: u32,
        /// The peer's IPv4 address.
        remote_ip4: be32,
        /// The socket's own IPv4 address.
        local_ip4: be32,
        /// The peer's IPv6 address.
        remote_ip6: [be32; 4],
        /// The socket's own IPv6 address.
        local_ip6: [be32; 4],
        /// The peer's port; four bytes in network order, so compare with `be32`.
        remote_port: u32,
        /// The socket's own port, in host order.
        local_port: u32,
        /// Bytes in the message.
        size: u32,
        /// The socket.
        sk: ptr,
    }

    /// Context of a reuseport program.
    pub mod sk_reuseport_md = "sk_reuseport_md": 56 {
        /// Start of the packet, from the transport header on.
        data: ptr,
        /// Behind the last directly readable byte.
        data_end: ptr,
        /// Bytes from the transport header on.
        len: u32,
        /// Ether type; 16 bits in network order, so compare with `be16`.
        eth_protocol: u32,
        /// IP protocol.
        ip_protocol: u32,
        /// Whether the group is bound to the wildcard address.
        bind_inany: u32,
        /// Hash of addresses and ports.
        hash: u32,
        /// A socket of the group.
        sk: ptr,
        /// The socket that is going away, or null. Linux 5.14.
        migrating_sk: ptr,
    }

    /// Context of a TCP event program.
    pub mod bpf_sock_ops = "bpf_sock_ops": 224 {
        /// The event, a [`SockOp`](crate::SockOp).
        op: u32,
        /// Arguments of the event.
        args: [u32; 4],
        /// The program's answer.
        reply: u32 @ 4,
        /// The program's answer, when it is longer.
        replylong: [u32; 4] @ 4,
        /// Address family.
        family: u32,
        /// The peer's IPv4 address.
        remote_ip4: be32,
        /// The socket's own IPv4 address.
        local_ip4: be32,
        /// The peer's IPv6 address.
        remote_ip6: [be32; 4],
        /// The socket's own IPv6 address.
        local_ip6: [be32; 4],
        /// The peer's port; four bytes in network order, so compare with `be32`.
        remote_port: u32,
        /// The socket's own port, in host order.
        local_port: u32,
        /// Whether all fields of the socket are there.
        is_fullsock: u32,
        /// Congestion window in packets.
        snd_cwnd: u32,
        /// Smoothed round trip time, eighths of a microsecond.
        srtt_us: u32,
        /// Events that are switched on.
        bpf_sock_ops_cb_flags: u32,
        /// TCP state, a [`TcpState`](crate::TcpState).
        state: u32,
        /// Smallest round trip time, microseconds.
        rtt_min: u32,
        /// Slow start threshold.
        snd_ssthresh: u32,
        /// Next sequence number expected.
        rcv_nxt: u32,
        /// Next sequence number to send.
        snd_nxt: u32,
        /// Oldest sequence number without acknowledgement.
        snd_una: u32,
        /// Segment size in use.
        mss_cache: u32,
        /// State of explicit congestion notification.
        ecn_flags: u32,
        /// Packets of the last delivery rate sample.
        rate_delivered: u32,
        /// Duration of that sample.
        rate_interval_us: u32,
        /// Packets on their way.
        packets_out: u32,
        /// Retransmitted packets on their way.
        retrans_out: u32,
        /// Retransmissions so far.
        total_retrans: u32,
        /// Segments received.
        segs_in: u32,
        /// Segments with data received.
        data_segs_in: u32,
        /// Segments sent.
        segs_out: u32,
        /// Segments with data sent.
        data_segs_out: u32,
        /// Packets believed lost.
        lost_out: u32,
        /// Packets acknowledged selectively.
        sacked_out: u32,
        /// Hash that picks the transmit queue.
        sk_txhash: u32,
        /// Bytes received.
        bytes_received: u64,
        /// Bytes acknowledged.
        bytes_acked: u64,
        /// The socket; may be null.
        sk: ptr,
        /// Start of the packet's TCP header.
        skb_data: ptr,
        /// Behind the last directly readable byte.
        skb_data_end: ptr,
        /// Bytes in the packet.
        skb_len: u32,
        /// Flags of the packet's TCP header.
        skb_tcp_flags: u32,
        /// The device's time stamp of the packet. Linux 6.2.
        skb_hwtstamp: u64,
    }

    /// Context of an address rewriting program.
    pub mod bpf_sock_addr = "bpf_sock_addr": 72 {
        /// Address family of the address that user space passed.
        user_family: u32,
        /// The IPv4 address; writable.
        user_ip4: be32,
        /// The IPv6 address; writable.
        user_ip6: [be32; 4],
        /// The port; writable; 16 bits in network order, so compare with `be16`.
        user_port: u32,
        /// Address family of the socket.
        family: u32,
        /// Socket type.
        kind = "type": u32,
        /// IP protocol.
        protocol: u32,
        /// Source IPv4 address of a sent message; writable.
        msg_src_ip4: be32,
        /// Source IPv6 address of a sent message; writable.
        msg_src_ip6: [be32; 4],
        /// The socket.
        sk: ptr,
    }

    /// Context of a sysctl program.
    pub mod bpf_sysctl = "bpf_sysctl": 8 {
        /// Whether the file is written, not read.
        write: u32,
        /// Position in the file; writable.
        file_pos: u32,
    }

    /// Context of a socket option program.
    pub mod bpf_sockopt = "bpf_sockopt": 40 {
        /// The socket.
        sk: ptr,
        /// Start of the option's value.
        optval: ptr,
        /// Behind the value.
        optval_end: ptr,
        /// Level of the option.
        level: i32,
        /// Number of the option.
        optname: i32,
        /// Length of the value.
        optlen: i32,
        /// Result of getsockopt.
        retval: i32,
    }

    /// Context of a device access program.
    pub mod bpf_cgroup_dev_ctx = "bpf_cgroup_dev_ctx": 12 {
        /// Kind of access in the upper half, type of device in the lower.
        access_type: u32,
        /// Major device number.
        major: u32,
        /// Minor device number.
        minor: u32,
    }

    /// Context of a raw tracepoint. The kernel declares no length; a tracepoint has at most 12
    /// arguments.
    pub mod bpf_raw_tracepoint_args = "bpf_raw_tracepoint_args": 96 {
        /// Arguments of the tracepoint.
        args: [u64; 12],
    }
}
