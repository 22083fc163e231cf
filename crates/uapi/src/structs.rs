//! Structures that helpers take and give, and special members of map values.

crate::layout! {
    /// Every structure in this module.
    pub const STRUCTS;

    /// Headers as a flow dissector reports them.
    pub mod bpf_flow_keys = "bpf_flow_keys": 56 {
        /// Offset of the network header.
        nhoff: u16,
        /// Offset of the transport header.
        thoff: u16,
        /// Ether type that says which addresses follow, in host order.
        addr_proto: u16,
        /// Whether it is a fragment.
        is_frag: u8,
        /// Whether it is the first fragment.
        is_first_frag: u8,
        /// Whether the packet is tunnelled.
        is_encap: u8,
        /// IP protocol.
        ip_proto: u8,
        /// Ether type.
        n_proto: be16,
        /// Source port.
        sport: be16,
        /// Destination port.
        dport: be16,
        /// Source IPv4 address.
        ipv4_src: be32,
        /// Destination IPv4 address.
        ipv4_dst: be32,
        /// Source IPv6 address.
        ipv6_src: [be32; 4] @ 16,
        /// Destination IPv6 address.
        ipv6_dst: [be32; 4],
        /// How far to parse.
        flags: u32,
        /// IPv6 flow label.
        flow_label: be32,
    }

    /// A socket as programs see it.
    pub mod bpf_sock = "bpf_sock": 80 {
        /// Device the socket is bound to.
        bound_dev_if: u32,
        /// Address family.
        family: u32,
        /// Socket type.
        kind = "type": u32,
        /// IP protocol.
        protocol: u32,
        /// The firewall mark.
        mark: u32,
        /// Priority in queueing.
        priority: u32,
        /// Its own IPv4 address.
        src_ip4: be32,
        /// Its own IPv6 address.
        src_ip6: [be32; 4],
        /// Its own port, in host order.
        src_port: u32,
        /// The peer's port.
        dst_port: be16,
        /// The peer's IPv4 address.
        dst_ip4: be32,
        /// The peer's IPv6 address.
        dst_ip6: [be32; 4],
        /// TCP state, a [`TcpState`](crate::TcpState).
        state: u32,
        /// Receive queue of the last packet, or -1.
        rx_queue_mapping: i32,
    }

    /// TCP's side of a socket.
    pub mod bpf_tcp_sock = "bpf_tcp_sock": 112 {
        /// Congestion window in packets.
        snd_cwnd: u32,
        /// Smoothed round trip time, eighths of a microsecond.
        srtt_us: u32,
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
        /// Bytes received.
        bytes_received: u64,
        /// Bytes acknowledged.
        bytes_acked: u64,
        /// Duplicates that the peer reported.
        dsack_dups: u32,
        /// Packets delivered.
        delivered: u32,
        /// Packets delivered with a congestion mark.
        delivered_ce: u32,
        /// Retransmissions without progress.
        icsk_retransmits: u32,
    }

    /// Question and answer of `fib_lookup`.
    pub mod bpf_fib_lookup = "bpf_fib_lookup": 64 {
        /// Address family.
        family: u8,
        /// IP protocol.
        l4_protocol: u8,
        /// Source port.
        sport: be16,
        /// Destination port.
        dport: be16,
        /// In: packet length to check against the MTU, or 0.
        tot_len: u16,
        /// Out: MTU of the route.
        mtu_result: u16 @ 6,
        /// In: device the packet is on. Out: device to send it through.
        ifindex: u32,
        /// In: IPv4 type of service.
        tos: u8,
        /// In: IPv6 traffic class and flow label.
        flowinfo: be32 @ 12,
        /// Out: metric of the route.
        rt_metric: u32 @ 12,
        /// Source IPv4 address.
        ipv4_src: be32,
        /// Source IPv6 address.
        ipv6_src: [be32; 4] @ 16,
        /// Destination IPv4 address; out: the gateway.
        ipv4_dst: be32,
        /// Destination IPv6 address; out: the gateway.
        ipv6_dst: [be32; 4] @ 32,
        /// Out: protocol of the VLAN tag.
        h_vlan_proto: be16,
        /// Out: VLAN tag.
        h_vlan_tci = "h_vlan_TCI": be16,
        /// In: routing table, with `BPF_FIB_LOOKUP_TBID`.
        tbid: u32 @ 48,
        /// In: firewall mark, with `BPF_FIB_LOOKUP_MARK`.
        mark: u32,
        /// Out: source MAC address.
        smac: [u8; 6] @ 52,
        /// Out: destination MAC address.
        dmac: [u8; 6],
    }

    /// A tunnel, for `skb_get_tunnel_key` and `skb_set_tunnel_key`.
    pub mod bpf_tunnel_key = "bpf_tunnel_key": 44 {
        /// The tunnel's own number, such as a VNI.
        tunnel_id: u32,
        /// The other end's IPv4 address, in host order.
        remote_ipv4: u32,
        /// The other end's IPv6 address.
        remote_ipv6: [be32; 4] @ 4,
        /// Type of service of the outer header.
        tunnel_tos: u8,
        /// Time to live of the outer header.
        tunnel_ttl: u8,
        /// Padding.
        tunnel_ext: u16,
        /// Flags of the tunnel header, with `BPF_F_TUNINFO_FLAGS`.
        tunnel_flags: be16 @ 22,
        /// IPv6 flow label of the outer header.
        tunnel_label: u32,
        /// This end's IPv4 address, in host order.
        local_ipv4: u32,
        /// This end's IPv6 address.
        local_ipv6: [be32; 4] @ 28,
    }

    /// An IPsec transformation, for `skb_get_xfrm_state`.
    pub mod bpf_xfrm_state = "bpf_xfrm_state": 28 {
        /// Request id.
        reqid: u32,
        /// Security parameter index.
        spi: be32,
        /// Address family.
        family: u16,
        /// Padding.
        ext: u16,
        /// The other end's IPv4 address.
        remote_ipv4: be32,
        /// The other end's IPv6 address.
        remote_ipv6: [be32; 4] @ 12,
    }

    /// Addresses and ports to look a socket up by. Its size as an argument says which half counts:
    /// 12 for IPv4, 36 for IPv6.
    pub mod bpf_sock_tuple = "bpf_sock_tuple": 36 {
        /// Source IPv4 address.
        ipv4_saddr = "ipv4.saddr": be32,
        /// Destination IPv4 address.
        ipv4_daddr = "ipv4.daddr": be32,
        /// Source port beside IPv4 addresses.
        ipv4_sport = "ipv4.sport": be16,
        /// Destination port beside IPv4 addresses.
        ipv4_dport = "ipv4.dport": be16,
        /// Source IPv6 address.
        ipv6_saddr = "ipv6.saddr": [be32; 4] @ 0,
        /// Destination IPv6 address.
        ipv6_daddr = "ipv6.daddr": [be32; 4],
        /// Source port beside IPv6 addresses.
        ipv6_sport = "ipv6.sport": be16,
        /// Destination port beside IPv6 addresses.
        ipv6_dport = "ipv6.dport": be16,
    }

    /// Result of `get_ns_current_pid_tgid`.
    pub mod bpf_pidns_info = "bpf_pidns_info": 8 {
        /// Thread id.
        pid: u32,
        /// Process id.
        tgid: u32,
    }

    /// Result of `perf_event_read_value`.
    pub mod bpf_perf_event_value = "bpf_perf_event_value": 24 {
        /// What was counted.
        counter: u64,
        /// Nanoseconds the event was enabled.
        enabled: u64,
        /// Nanoseconds it was really counting.
        running: u64,
    }

    /// Value of a device map.
    pub mod bpf_devmap_val = "bpf_devmap_val": 8 {
        /// The device.
        ifindex: u32,
        /// Fd of a program for frames that leave, when written.
        prog_fd = "bpf_prog.fd": i32,
        /// Id of that program, when read.
        prog_id = "bpf_prog.id": u32 @ 4,
    }

    /// Value of a CPU map.
    pub mod bpf_cpumap_val = "bpf_cpumap_val": 8 {
        /// Frames that may wait.
        qsize: u32,
        /// Fd of a program that runs on the CPU, when written.
        prog_fd = "bpf_prog.fd": i32,
        /// Id of that program, when read.
        prog_id = "bpf_prog.id": u32 @ 4,
    }

    /// The next hop of `redirect_neigh`.
    pub mod bpf_redir_neigh = "bpf_redir_neigh": 20 {
        /// Address family.
        nh_family: u32,
        /// IPv4 address.
        ipv4_nh: be32,
        /// IPv6 address.
        ipv6_nh: [be32; 4] @ 4,
    }

    /// A kernel object to print, for `snprintf_btf`.
    pub mod btf_ptr = "btf_ptr": 16 {
        /// Its address.
        ptr: ptr,
        /// Its BTF type.
        type_id: u32,
        /// Must be 0.
        flags: u32,
    }

    /// One frame of a stack trace with build ids.
    pub mod bpf_stack_build_id = "bpf_stack_build_id": 32 {
        /// What the rest holds, a [`StackBuildIdStatus`](crate::StackBuildIdStatus).
        status: i32,
        /// Build id of the file.
        build_id: [u8; 20],
        /// Offset in the file.
        offset: u64,
        /// Address instead of the offset.
        ip: u64 @ 24,
    }

    /// Start of a key of a longest prefix map; the bytes follow.
    pub mod bpf_lpm_trie_key = "bpf_lpm_trie_key_u8": 4 {
        /// How many bits count.
        prefixlen: u32,
    }

    /// Key of the older cgroup storage map.
    pub mod bpf_cgroup_storage_key = "bpf_cgroup_storage_key": 16 {
        /// Id of the cgroup.
        cgroup_inode_id: u64,
        /// An [`AttachType`](crate::AttachType).
        attach_type: u32,
    }

    /// A lock in a map value.
    pub mod bpf_spin_lock = "bpf_spin_lock": 4 {
        /// Not to be touched.
        val: u32,
    }

    /// A timer in a map value.
    pub mod bpf_timer = "bpf_timer": 16 {
        /// Not to be touched.
        opaque = "__opaque": [u64; 2],
    }

    /// A work item in a map value. Linux 6.10.
    pub mod bpf_wq = "bpf_wq": 16 {
        /// Not to be touched.
        opaque = "__opaque": [u64; 2],
    }

    /// A dynptr on the stack.
    pub mod bpf_dynptr = "bpf_dynptr": 16 {
        /// Not to be touched.
        opaque = "__opaque": [u64; 2],
    }

    /// A counting iterator on the stack.
    pub mod bpf_iter_num = "bpf_iter_num": 8 {
        /// Not to be touched.
        opaque = "__opaque": [u64; 1],
    }

    /// Head of a list in a map value.
    pub mod bpf_list_head = "bpf_list_head": 16 {
        /// Not to be touched.
        opaque = "__opaque": [u64; 2],
    }

    /// Node of a list in an allocated object.
    pub mod bpf_list_node = "bpf_list_node": 24 {
        /// Not to be touched.
        opaque = "__opaque": [u64; 3],
    }

    /// Root of a tree in a map value.
    pub mod bpf_rb_root = "bpf_rb_root": 16 {
        /// Not to be touched.
        opaque = "__opaque": [u64; 2],
    }

    /// Node of a tree in an allocated object.
    pub mod bpf_rb_node = "bpf_rb_node": 32 {
        /// Not to be touched.
        opaque = "__opaque": [u64; 4],
    }

    /// A reference count in an allocated object.
    pub mod bpf_refcount = "bpf_refcount": 4 {
        /// Not to be touched.
        opaque = "__opaque": [u32; 1],
    }
}
