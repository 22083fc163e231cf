//! The table of all BPF helpers, as a macro that hands its rows to another macro.

/// Calls the macro `$callback` once, with one row per BPF helper of Linux 6.18, in order of id.
///
/// A row has the shape
///
/// ```text
/// /// One line on what the helper does.
/// id name(argument: ArgKind, ...) -> RetKind, "first Linux version", Any;
/// id name(argument: ArgKind, ...) -> RetKind, "first Linux version", Only[SET, ...];
/// ```
///
/// with the names of [`ArgKind`](crate::ArgKind) and [`RetKind`](crate::RetKind) variants, and in
/// the brackets those of [`ProgSet`](crate::ProgSet) constants. `Any` stands for every program
/// type. The lists are generous: a type that is missing is certainly refused by the kernel (of
/// [`ProgType::EXT`](crate::ProgType::EXT) nothing is known, so it is always allowed), while a type
/// that is present may still depend on the attach type, the kernel's configuration or privilege.
/// The helper `loop` is spelled `r#loop`, so that a callback may define a function of that name.
///
/// A callback matches the rows with
///
/// ```
/// macro_rules! count {
///     ($(
///         $(#[$doc:meta])*
///         $id:literal $name:ident($($arg:ident: $kind:ident),* $(,)?)
///             -> $ret:ident, $since:literal, $allowed:ident $([$($set:ident),* $(,)?])?;
///     )*) => {
///         const COUNT: usize = [$($id),*].len();
///     };
/// }
/// bpfsmith_uapi::for_each_helper!(count);
/// assert_eq!(COUNT, 211);
/// ```
#[macro_export]
macro_rules! for_each_helper {
    ($callback:path) => {
        $callback! {
            /// Pointer to the value under `key`, or null.
            1 map_lookup_elem(map: MapPtr, key: Key) -> PtrOrNull, "3.19", Any;
            /// Stores `value` under `key`; `flags` say whether the key must or must not exist.
            2 map_update_elem(map: MapPtr, key: Key, value: Value, flags: Scalar)
                -> Errno, "3.19", Any;
            /// Removes `key` and its value.
            3 map_delete_elem(map: MapPtr, key: Key) -> Errno, "3.19", Any;
            /// Copies from any address; use `probe_read_kernel` or `probe_read_user`.
            4 probe_read(dst: MemOut, size: SizeOrZero, unsafe_ptr: Scalar)
                -> Errno, "4.1", Only[TRACE];
            /// Nanoseconds since boot, not counting suspend.
            5 ktime_get_ns() -> Scalar, "4.1", Any;
            /// Prints to the trace pipe; up to three numbers may follow in R3 to R5.
            6 trace_printk(fmt: Mem, fmt_size: Size) -> Scalar, "4.1", Any;
            /// A pseudo-random 32-bit number.
            7 get_prandom_u32() -> Scalar, "4.1", Any;
            /// Number of the CPU that runs the program.
            8 get_smp_processor_id() -> Scalar, "4.1", Any;
            /// Writes bytes into the packet at `offset`, copying shared data first.
            9 skb_store_bytes(skb: Ctx, offset: Scalar, from: Mem, len: Size, flags: Scalar)
                -> Errno, "4.1", Only[TC, LWT_XMIT, SK_SKB];
            /// Corrects the IP checksum at `offset` for a changed field.
            10 l3_csum_replace(skb: Ctx, offset: Scalar, from: Scalar, to: Scalar, size: Scalar)
                -> Errno, "4.1", Only[TC, LWT_XMIT];
            /// Corrects the TCP, UDP or ICMP checksum at `offset` for a changed field.
            11 l4_csum_replace(skb: Ctx, offset: Scalar, from: Scalar, to: Scalar, flags: Scalar)
                -> Errno, "4.1", Only[TC, LWT_XMIT];
            /// Continues in another program; comes back only when there is none.
            12 tail_call(ctx: Ctx, prog_array_map: MapPtr, index: Scalar) -> Errno, "4.2", Any;
            /// Sends a copy of the packet through another device.
            13 clone_redirect(skb: Ctx, ifindex: Scalar, flags: Scalar)
                -> Errno, "4.2", Only[TC, LWT_XMIT];
            /// Process id in the upper half, thread id in the lower.
            14 get_current_pid_tgid() -> Scalar, "4.2", Any;
            /// Group id in the upper half, user id in the lower.
            15 get_current_uid_gid() -> Scalar, "4.2", Any;
            /// Name of the current task, null-terminated.
            16 get_current_comm(buf: MemOut, size_of_buf: Size) -> Errno, "4.2", Any;
            /// The `net_cls` class that belongs to the packet's sender.
            17 get_cgroup_classid(skb: Ctx) -> Scalar, "4.3", Any;
            /// Adds a VLAN tag; the protocol is in network order.
            18 skb_vlan_push(skb: Ctx, vlan_proto: Scalar, vlan_tci: Scalar)
                -> Errno, "4.3", Only[TC];
            /// Takes the outer VLAN tag off.
            19 skb_vlan_pop(skb: Ctx) -> Errno, "4.3", Only[TC];
            /// Reads the tunnel the packet came through.
            20 skb_get_tunnel_key(skb: Ctx, key: MemOut, size: Size, flags: Scalar)
                -> Errno, "4.3", Only[TC, LWT_XMIT];
            /// Chooses the tunnel the packet will leave through.
            21 skb_set_tunnel_key(skb: Ctx, key: Mem, size: Size, flags: Scalar)
                -> Errno, "4.3", Only[TC, LWT_XMIT];
            /// A perf counter's value; errors cannot be told apart, see `perf_event_read_value`.
            22 perf_event_read(map: MapPtr, flags: Scalar) -> Scalar, "4.3", Any;
            /// Sends the packet to another device once the program returns this result.
            23 redirect(ifindex: Scalar, flags: Scalar) -> Scalar, "4.4", Only[TC, LWT_XMIT, XDP];
            /// Realm of the packet's route, or 0.
            24 get_route_realm(skb: Ctx) -> Scalar, "4.4", Only[TC, LWT];
            /// Copies a record into a perf buffer.
            25 perf_event_output(ctx: Ctx, map: MapPtr, flags: Scalar, data: Mem, size: SizeOrZero)
                -> Errno, "4.4", Any;
            /// Copies packet bytes at `offset` to memory, wherever they lie.
            26 skb_load_bytes(skb: Ctx, offset: Scalar, to: MemOut, len: Size)
                -> Errno, "4.5", Only[
                    TC, LWT, SOCKET_FILTER, CGROUP_SKB, SK_SKB, SK_REUSEPORT, FLOW_DISSECTOR
                ];
            /// Stores the stack trace in a map and returns its id.
            27 get_stackid(ctx: Ctx, map: MapPtr, flags: Scalar) -> Scalar, "4.6", Only[TRACE];
            /// Folds removed and added bytes into a running checksum.
            28 csum_diff(
                from: MemOrNull, from_size: SizeOrZero, to: MemOrNull, to_size: SizeOrZero,
                seed: Scalar,
            ) -> Scalar, "4.6", Only[TC, LWT, XDP];
            /// Reads the options of the tunnel the packet came through; returns their size.
            29 skb_get_tunnel_opt(skb: Ctx, opt: MemOut, size: Size)
                -> Scalar, "4.6", Only[TC, LWT_XMIT];
            /// Sets options for the tunnel the packet will leave through.
            30 skb_set_tunnel_opt(skb: Ctx, opt: Mem, size: Size)
                -> Errno, "4.6", Only[TC, LWT_XMIT];
            /// Turns an IPv4 packet into room for an IPv6 one, or back.
            31 skb_change_proto(skb: Ctx, proto: Scalar, flags: Scalar) -> Errno, "4.8", Only[TC];
            /// Changes who the packet counts as addressed to.
            32 skb_change_type(skb: Ctx, kind: Scalar) -> Errno, "4.8", Only[TC];
            /// Whether the packet's socket is below a cgroup: 1, 0 or an error.
            33 skb_under_cgroup(skb: Ctx, map: MapPtr, index: Scalar)
                -> Scalar, "4.8", Only[TC, LWT];
            /// The packet's flow hash, computed when missing.
            34 get_hash_recalc(skb: Ctx) -> Scalar, "4.8", Only[TC, LWT];
            /// Address of the current task, as a number.
            35 get_current_task() -> Scalar, "4.8", Any;
            /// Overwrites user memory of the current task; for experiments only.
            36 probe_write_user(dst: Scalar, src: Mem, len: Size) -> Errno, "4.8", Only[TRACE];
            /// Whether the current task is below a cgroup: 1, 0 or an error.
            37 current_task_under_cgroup(map: MapPtr, index: Scalar) -> Scalar, "4.9", Any;
            /// Shortens or lengthens the packet to `len` bytes.
            38 skb_change_tail(skb: Ctx, len: Scalar, flags: Scalar)
                -> Errno, "4.9", Only[TC, LWT_XMIT, SK_SKB];
            /// Makes the first `len` bytes readable directly; 0 means all headers.
            39 skb_pull_data(skb: Ctx, len: Scalar) -> Errno, "4.9", Only[TC, LWT, SK_SKB];
            /// Adds to the checksum that the device computed.
            40 csum_update(skb: Ctx, csum: Scalar) -> Scalar, "4.9", Only[TC, LWT_XMIT];
            /// Forgets the flow hash, so that it is computed again.
            41 set_hash_invalid(skb: Ctx) -> Void, "4.9", Only[TC, LWT_XMIT];
            /// Number of the NUMA node that runs the program.
            42 get_numa_node_id() -> Scalar, "4.10", Any;
            /// Grows room in front of the packet.
            43 skb_change_head(skb: Ctx, len: Scalar, flags: Scalar)
                -> Errno, "4.10", Only[TC, LWT_XMIT, SK_SKB];
            /// Moves the start of the frame by `delta`; all packet pointers must be loaded anew.
            44 xdp_adjust_head(xdp_md: Ctx, delta: Scalar) -> Errno, "4.10", Only[XDP];
            /// Copies a string from any address; see `probe_read_kernel_str`.
            45 probe_read_str(dst: MemOut, size: SizeOrZero, unsafe_ptr: Scalar)
                -> Scalar, "4.11", Only[TRACE];
            /// A number that identifies the socket for as long as the machine is up.
            46 get_socket_cookie(ctx: CtxOrPtr)
                -> Scalar, "4.12", Only[
                    TC, SOCKET_FILTER, CGROUP_SKB, CGROUP_SOCK, CGROUP_SOCK_ADDR, SOCK_OPS, SK_SKB,
                    SK_REUSEPORT, TYPED
                ];
            /// User id that owns the packet's socket.
            47 get_socket_uid(skb: Ctx)
                -> Scalar, "4.12", Only[TC, SOCKET_FILTER, CGROUP_SKB, SK_SKB];
            /// Sets the packet's flow hash.
            48 set_hash(skb: Ctx, hash: Scalar) -> Errno, "4.13", Only[TC];
            /// Sets an option of the socket, as the system call does.
            49 setsockopt(
                bpf_socket: CtxOrPtr, level: Scalar, optname: Scalar, optval: Mem, optlen: Size,
            ) -> Errno, "4.13", Only[CGROUP_SOCKOPT, CGROUP_SOCK_ADDR, SOCK_OPS, TYPED];
            /// Inserts or removes bytes behind the MAC or network header.
            50 skb_adjust_room(skb: Ctx, len_diff: Scalar, mode: Scalar, flags: Scalar)
                -> Errno, "4.13", Only[TC, SK_SKB];
            /// Sends the frame to a map entry; the low flag bits are returned when there is none.
            51 redirect_map(map: MapPtr, key: Scalar, flags: Scalar) -> Scalar, "4.14", Only[XDP];
            /// Hands the message to a socket of a sockmap.
            52 sk_redirect_map(skb: Ctx, map: MapPtr, key: Scalar, flags: Scalar)
                -> Scalar, "4.14", Only[SK_SKB];
            /// Puts the socket of the event into a sockmap.
            53 sock_map_update(skops: Ctx, map: MapPtr, key: Key, flags: Scalar)
                -> Errno, "4.14", Only[SOCK_OPS];
            /// Moves the start of the metadata in front of the frame.
            54 xdp_adjust_meta(xdp_md: Ctx, delta: Scalar) -> Errno, "4.15", Only[XDP];
            /// Reads a perf counter with the times it was enabled and running.
            55 perf_event_read_value(map: MapPtr, flags: Scalar, buf: MemOut, buf_size: Size)
                -> Errno, "4.15", Any;
            /// Reads the counter of the event that started the program.
            56 perf_prog_read_value(ctx: Ctx, buf: MemOut, buf_size: Size)
                -> Errno, "4.15", Only[PERF_EVENT];
            /// Reads an option of the socket, as the system call does.
            57 getsockopt(
                bpf_socket: CtxOrPtr, level: Scalar, optname: Scalar, optval: MemOut, optlen: Size,
            ) -> Errno, "4.15", Only[CGROUP_SOCKOPT, CGROUP_SOCK_ADDR, SOCK_OPS, TYPED];
            /// Skips the probed function and returns `rc` for it, where that is permitted.
            58 override_return(regs: Ctx, rc: Scalar) -> Errno, "4.16", Only[KPROBE];
            /// Chooses the optional events; returns the bits the kernel does not know.
            59 sock_ops_cb_flags_set(bpf_sock: Ctx, argval: Scalar)
                -> Scalar, "4.16", Only[SOCK_OPS];
            /// Hands the message to a socket of a sockmap.
            60 msg_redirect_map(msg: Ctx, map: MapPtr, key: Scalar, flags: Scalar)
                -> Scalar, "4.17", Only[SK_MSG];
            /// Applies the verdict to the next `bytes` bytes without asking again.
            61 msg_apply_bytes(msg: Ctx, bytes: Scalar) -> Errno, "4.17", Only[SK_MSG];
            /// Waits until `bytes` bytes are there before asking again.
            62 msg_cork_bytes(msg: Ctx, bytes: Scalar) -> Errno, "4.17", Only[SK_MSG];
            /// Makes a range of the message readable directly.
            63 msg_pull_data(msg: Ctx, start: Scalar, end: Scalar, flags: Scalar)
                -> Errno, "4.17", Only[SK_MSG];
            /// Binds the socket to a local address before it connects.
            64 bind(ctx: Ctx, addr: Mem, addr_len: Size) -> Errno, "4.17", Only[CGROUP_SOCK_ADDR];
            /// Moves the end of the frame by `delta`.
            65 xdp_adjust_tail(xdp_md: Ctx, delta: Scalar) -> Errno, "4.18", Only[XDP];
            /// Reads one IPsec transformation that the packet went through.
            66 skb_get_xfrm_state(
                skb: Ctx, index: Scalar, xfrm_state: MemOut, size: Size, flags: Scalar,
            ) -> Errno, "4.18", Only[TC];
            /// Copies a stack trace to memory; returns its size.
            67 get_stack(ctx: Ctx, buf: MemOut, size: SizeOrZero, flags: Scalar)
                -> Scalar, "4.18", Only[TRACE];
            /// Copies bytes counted from the MAC or network header.
            68 skb_load_bytes_relative(
                skb: Ctx, offset: Scalar, to: MemOut, len: Size, start_header: Scalar,
            ) -> Errno, "4.18", Only[TC, SOCKET_FILTER, CGROUP_SKB, SK_REUSEPORT];
            /// Asks the routing table; the answer replaces fields of `params`.
            69 fib_lookup(ctx: Ctx, params: Mem, plen: Size, flags: Scalar)
                -> Scalar, "4.18", Only[TC, XDP];
            /// Puts the socket of the event into a sockhash.
            70 sock_hash_update(skops: Ctx, map: MapPtr, key: Key, flags: Scalar)
                -> Errno, "4.18", Only[SOCK_OPS];
            /// Hands the message to a socket of a sockhash.
            71 msg_redirect_hash(msg: Ctx, map: MapPtr, key: Key, flags: Scalar)
                -> Scalar, "4.18", Only[SK_MSG];
            /// Hands the message to a socket of a sockhash.
            72 sk_redirect_hash(skb: Ctx, map: MapPtr, key: Key, flags: Scalar)
                -> Scalar, "4.18", Only[SK_SKB];
            /// Puts a header around the packet.
            73 lwt_push_encap(skb: Ctx, kind: Scalar, hdr: Mem, len: Size)
                -> Errno, "4.18", Only[LWT_IN, LWT_XMIT];
            /// Writes to the changeable parts of the segment routing header.
            74 lwt_seg6_store_bytes(skb: Ctx, offset: Scalar, from: Mem, len: Size)
                -> Errno, "4.18", Only[LWT_SEG6LOCAL];
            /// Grows or shrinks the options of the segment routing header.
            75 lwt_seg6_adjust_srh(skb: Ctx, offset: Scalar, delta: Scalar)
                -> Errno, "4.18", Only[LWT_SEG6LOCAL];
            /// Carries out a standard segment routing action.
            76 lwt_seg6_action(skb: Ctx, action: Scalar, param: Mem, param_len: Size)
                -> Errno, "4.18", Only[LWT_SEG6LOCAL];
            /// Reports that the last key is still held down.
            77 rc_repeat(ctx: Ctx) -> Errno, "4.18", Only[LIRC_MODE2];
            /// Reports a decoded key press.
            78 rc_keydown(ctx: Ctx, protocol: Scalar, scancode: Scalar, toggle: Scalar)
                -> Errno, "4.18", Only[LIRC_MODE2];
            /// Id of the cgroup that owns the packet's socket.
            79 skb_cgroup_id(skb: Ctx) -> Scalar, "4.18", Only[TC, CGROUP_SKB];
            /// Id of the current task's cgroup.
            80 get_current_cgroup_id() -> Scalar, "4.18", Any;
            /// The memory of this cgroup and program; never null.
            81 get_local_storage(map: MapPtr, flags: Scalar) -> Ptr, "4.19", Only[CGROUP];
            /// Picks the socket under `key` for the packet.
            82 sk_select_reuseport(reuse: Ctx, map: MapPtr, key: Key, flags: Scalar)
                -> Errno, "4.19", Only[SK_REUSEPORT];
            /// Id of the ancestor at a given depth of the packet's cgroup.
            83 skb_ancestor_cgroup_id(skb: Ctx, ancestor_level: Scalar)
                -> Scalar, "4.19", Only[TC, CGROUP_SKB];
            /// Finds a TCP socket by addresses; give it back with `sk_release`.
            84 sk_lookup_tcp(ctx: Ctx, tuple: Mem, tuple_size: Size, netns: Scalar, flags: Scalar)
                -> PtrOrNull, "4.20", Only[TC, XDP, CGROUP_SKB, CGROUP_SOCK_ADDR, SK_SKB];
            /// Finds a UDP socket by addresses; give it back with `sk_release`.
            85 sk_lookup_udp(ctx: Ctx, tuple: Mem, tuple_size: Size, netns: Scalar, flags: Scalar)
                -> PtrOrNull, "4.20", Only[TC, XDP, CGROUP_SKB, CGROUP_SOCK_ADDR, SK_SKB];
            /// Gives a looked-up socket back.
            86 sk_release(sock: Ptr)
                -> Errno, "4.20", Only[TC, XDP, CGROUP_SKB, CGROUP_SOCK_ADDR, SK_SKB, SK_LOOKUP];
            /// Appends to a queue or stack, or adds to a bloom filter.
            87 map_push_elem(map: MapPtr, value: Value, flags: Scalar) -> Errno, "4.20", Any;
            /// Takes the next element of a queue or stack.
            88 map_pop_elem(map: MapPtr, value: ValueOut) -> Errno, "4.20", Any;
            /// Reads the next element, or asks a bloom filter.
            89 map_peek_elem(map: MapPtr, value: ValueOut) -> Errno, "4.20", Any;
            /// Inserts room into the message.
            90 msg_push_data(msg: Ctx, start: Scalar, len: Scalar, flags: Scalar)
                -> Errno, "4.20", Only[SK_MSG];
            /// Removes bytes from the message.
            91 msg_pop_data(msg: Ctx, start: Scalar, len: Scalar, flags: Scalar)
                -> Errno, "5.0", Only[SK_MSG];
            /// Reports a decoded pointer movement.
            92 rc_pointer_rel(ctx: Ctx, rel_x: Scalar, rel_y: Scalar)
                -> Errno, "5.0", Only[LIRC_MODE2];
            /// Takes a lock that lies in a map value or allocated object.
            93 spin_lock(lock: SpinLock) -> Void, "5.1", Any;
            /// Releases the lock.
            94 spin_unlock(lock: SpinLock) -> Void, "5.1", Any;
            /// The full socket, or null for a request or time-wait one.
            95 sk_fullsock(sk: Ptr) -> PtrOrNull, "5.1", Only[TC, CGROUP_SKB];
            /// The TCP view of a socket, or null.
            96 tcp_sock(sk: Ptr)
                -> PtrOrNull, "5.1", Only[TC, CGROUP_SKB, CGROUP_SOCKOPT, SOCK_OPS];
            /// Marks congestion on the packet; 1 when it now carries the mark.
            97 skb_ecn_set_ce(skb: Ctx) -> Scalar, "5.1", Only[TC, CGROUP_SKB];
            /// The listening socket behind a connection, or null.
            98 get_listener_sock(sk: Ptr) -> PtrOrNull, "5.1", Only[TC, CGROUP_SKB];
            /// Like `sk_lookup_tcp`, and finds request and time-wait sockets too.
            99 skc_lookup_tcp(ctx: Ctx, tuple: Mem, tuple_size: Size, netns: Scalar, flags: Scalar)
                -> PtrOrNull, "5.2", Only[TC, XDP, CGROUP_SKB, CGROUP_SOCK_ADDR, SK_SKB];
            /// Whether the ACK carries a cookie that the listener sent: 0 when it does.
            100 tcp_check_syncookie(sk: Ptr, iph: Mem, iph_len: Size, th: Mem, th_len: Size)
                -> Errno, "5.2", Only[TC, XDP];
            /// Name of the sysctl file; returns its length.
            101 sysctl_get_name(ctx: Ctx, buf: MemOut, buf_len: Size, flags: Scalar)
                -> Scalar, "5.2", Only[CGROUP_SYSCTL];
            /// The value before the access; returns its length.
            102 sysctl_get_current_value(ctx: Ctx, buf: MemOut, buf_len: Size)
                -> Scalar, "5.2", Only[CGROUP_SYSCTL];
            /// The value about to be written; returns its length.
            103 sysctl_get_new_value(ctx: Ctx, buf: MemOut, buf_len: Size)
                -> Scalar, "5.2", Only[CGROUP_SYSCTL];
            /// Replaces the value about to be written.
            104 sysctl_set_new_value(ctx: Ctx, buf: Mem, buf_len: Size)
                -> Errno, "5.2", Only[CGROUP_SYSCTL];
            /// Parses a signed number; returns the characters consumed.
            105 strtol(buf: Mem, buf_len: Size, flags: Scalar, res: FixedMemOut)
                -> Scalar, "5.2", Any;
            /// Parses an unsigned number; returns the characters consumed.
            106 strtoul(buf: Mem, buf_len: Size, flags: Scalar, res: FixedMemOut)
                -> Scalar, "5.2", Any;
            /// The memory of a socket, made on request.
            107 sk_storage_get(map: MapPtr, sk: Ptr, value: ValueOrNull, flags: Scalar)
                -> PtrOrNull, "5.2", Only[
                    TC, CGROUP_SKB, CGROUP_SOCK, CGROUP_SOCK_ADDR, CGROUP_SOCKOPT, SOCK_OPS, SK_MSG,
                    TYPED
                ];
            /// Frees the memory of a socket.
            108 sk_storage_delete(map: MapPtr, sk: Ptr)
                -> Errno, "5.2", Only[
                    TC, CGROUP_SKB, CGROUP_SOCK, CGROUP_SOCK_ADDR, CGROUP_SOCKOPT, SOCK_OPS, SK_MSG,
                    TYPED
                ];
            /// Sends a signal to the current process.
            109 send_signal(sig: Scalar) -> Errno, "5.3", Any;
            /// A SYN cookie in the low half, the segment size above it.
            110 tcp_gen_syncookie(sk: Ptr, iph: Mem, iph_len: Size, th: Mem, th_len: Size)
                -> Scalar, "5.4", Only[TC, XDP];
            /// Copies a record and packet bytes into a perf buffer, from a traced function.
            111 skb_output(ctx: Ptr, map: MapPtr, flags: Scalar, data: Mem, size: SizeOrZero)
                -> Errno, "5.5", Only[TYPED];
            /// Copies user memory of the current task.
            112 probe_read_user(dst: MemOut, size: SizeOrZero, unsafe_ptr: Scalar)
                -> Errno, "5.5", Any;
            /// Copies kernel memory; a bad address is an error, not a fault.
            113 probe_read_kernel(dst: MemOut, size: SizeOrZero, unsafe_ptr: Scalar)
                -> Errno, "5.5", Any;
            /// Copies a user string; returns its length with the final null.
            114 probe_read_user_str(dst: MemOut, size: SizeOrZero, unsafe_ptr: Scalar)
                -> Scalar, "5.5", Any;
            /// Copies a kernel string; returns its length with the final null.
            115 probe_read_kernel_str(dst: MemOut, size: SizeOrZero, unsafe_ptr: Scalar)
                -> Scalar, "5.5", Any;
            /// Sends an ACK, from a congestion control.
            116 tcp_send_ack(tp: Ptr, rcv_nxt: Scalar) -> Errno, "5.6", Only[TYPED];
            /// Sends a signal to the current thread.
            117 send_signal_thread(sig: Scalar) -> Errno, "5.6", Any;
            /// The kernel's tick counter.
            118 jiffies64() -> Scalar, "5.6", Any;
            /// Copies the CPU's branch records of the event; returns their size.
            119 read_branch_records(ctx: Ctx, buf: MemOutOrNull, size: SizeOrZero, flags: Scalar)
                -> Scalar, "5.7", Only[PERF_EVENT];
            /// Process and thread id as a given pid namespace sees them.
            120 get_ns_current_pid_tgid(dev: Scalar, ino: Scalar, nsdata: MemOut, size: Size)
                -> Errno, "5.7", Any;
            /// Copies a record and frame bytes into a perf buffer, from a traced function.
            121 xdp_output(ctx: Ptr, map: MapPtr, flags: Scalar, data: Mem, size: SizeOrZero)
                -> Errno, "5.7", Only[TYPED];
            /// A number that identifies the network namespace; null asks for the first one.
            122 get_netns_cookie(ctx: CtxOrNull)
                -> Scalar, "5.7", Only[
                    TC, SOCKET_FILTER, CGROUP_SKB, CGROUP_SOCK, CGROUP_SOCK_ADDR, CGROUP_SOCKOPT,
                    SOCK_OPS, SK_MSG
                ];
            /// Id of the ancestor at a given depth of the current cgroup.
            123 get_current_ancestor_cgroup_id(ancestor_level: Scalar) -> Scalar, "5.7", Any;
            /// Directs the packet to a socket; null withdraws an earlier choice in `SK_LOOKUP`.
            124 sk_assign(ctx: Ctx, sk: PtrOrNull, flags: Scalar)
                -> Errno, "5.7", Only[TC, SK_LOOKUP];
            /// Nanoseconds since boot, counting suspend.
            125 ktime_get_boot_ns() -> Scalar, "5.8", Any;
            /// Prints to the output of an iterator.
            126 seq_printf(m: Ptr, fmt: Mem, fmt_size: Size, data: MemOrNull, data_len: SizeOrZero)
                -> Errno, "5.8", Only[TYPED];
            /// Writes bytes to the output of an iterator.
            127 seq_write(m: Ptr, data: Mem, len: SizeOrZero) -> Errno, "5.8", Only[TYPED];
            /// Id of the socket's cgroup.
            128 sk_cgroup_id(sk: Ptr) -> Scalar, "5.8", Only[CGROUP_SKB];
            /// Id of the ancestor at a given depth of the socket's cgroup.
            129 sk_ancestor_cgroup_id(sk: Ptr, ancestor_level: Scalar)
                -> Scalar, "5.8", Only[CGROUP_SKB];
            /// Copies a record into a ring buffer.
            130 ringbuf_output(ringbuf: MapPtr, data: Mem, size: SizeOrZero, flags: Scalar)
                -> Errno, "5.8", Any;
            /// Reserves a record; submit or discard it on every path.
            131 ringbuf_reserve(ringbuf: MapPtr, size: ConstSize, flags: Scalar)
                -> PtrOrNull, "5.8", Any;
            /// Publishes a reserved record.
            132 ringbuf_submit(data: Ptr, flags: Scalar) -> Void, "5.8", Any;
            /// Throws a reserved record away.
            133 ringbuf_discard(data: Ptr, flags: Scalar) -> Void, "5.8", Any;
            /// Size or position of a ring buffer; a snapshot only.
            134 ringbuf_query(ringbuf: MapPtr, flags: Scalar) -> Scalar, "5.8", Any;
            /// Asks or changes how many checksums the device has checked.
            135 csum_level(skb: Ctx, level: Scalar) -> Scalar, "5.8", Only[TC, LWT_XMIT];
            /// The socket as the kernel's `tcp6_sock`, or null.
            136 skc_to_tcp6_sock(sk: Ptr) -> PtrOrNull, "5.9", Only[SOCKET_CAST];
            /// The socket as the kernel's `tcp_sock`, or null.
            137 skc_to_tcp_sock(sk: Ptr) -> PtrOrNull, "5.9", Only[SOCKET_CAST];
            /// The socket as the kernel's `tcp_timewait_sock`, or null.
            138 skc_to_tcp_timewait_sock(sk: Ptr) -> PtrOrNull, "5.9", Only[SOCKET_CAST];
            /// The socket as the kernel's `tcp_request_sock`, or null.
            139 skc_to_tcp_request_sock(sk: Ptr) -> PtrOrNull, "5.9", Only[SOCKET_CAST];
            /// The socket as the kernel's `udp6_sock`, or null.
            140 skc_to_udp6_sock(sk: Ptr) -> PtrOrNull, "5.9", Only[SOCKET_CAST];
            /// Copies the stack trace of a task; returns its size.
            141 get_task_stack(task: Ptr, buf: MemOut, size: SizeOrZero, flags: Scalar)
                -> Scalar, "5.9", Any;
            /// Finds a TCP option; the buffer says which and receives it.
            142 load_hdr_opt(skops: Ctx, searchby_res: MemOut, len: Size, flags: Scalar)
                -> Scalar, "5.10", Only[SOCK_OPS];
            /// Writes a TCP option into reserved space.
            143 store_hdr_opt(skops: Ctx, from: Mem, len: Size, flags: Scalar)
                -> Errno, "5.10", Only[SOCK_OPS];
            /// Reserves space for a TCP option.
            144 reserve_hdr_opt(skops: Ctx, len: Scalar, flags: Scalar)
                -> Errno, "5.10", Only[SOCK_OPS];
            /// The memory of an inode, made on request.
            145 inode_storage_get(map: MapPtr, inode: Ptr, value: ValueOrNull, flags: Scalar)
                -> PtrOrNull, "5.10", Only[TYPED];
            /// Frees the memory of an inode.
            146 inode_storage_delete(map: MapPtr, inode: Ptr) -> Errno, "5.10", Only[TYPED];
            /// Writes the full path of a `path`; returns its length with the final null.
            147 d_path(path: Ptr, buf: MemOut, sz: SizeOrZero) -> Scalar, "5.10", Only[TYPED];
            /// Copies user memory; may sleep, so only in sleepable programs.
            148 copy_from_user(dst: MemOut, size: SizeOrZero, user_ptr: Scalar)
                -> Errno, "5.10", Any;
            /// Prints a kernel object by its BTF type; returns the length it needs.
            149 snprintf_btf(
                str: MemOut, str_size: Size, ptr: Mem, btf_ptr_size: Size, flags: Scalar,
            ) -> Scalar, "5.10", Any;
            /// Prints a kernel object by its BTF type to an iterator's output.
            150 seq_printf_btf(m: Ptr, ptr: Mem, ptr_size: Size, flags: Scalar)
                -> Errno, "5.10", Only[TYPED];
            /// The `net_cls` class of the packet's socket.
            151 skb_cgroup_classid(skb: Ctx) -> Scalar, "5.10", Only[TC];
            /// Redirects and lets the kernel fill in the MAC addresses.
            152 redirect_neigh(ifindex: Scalar, params: MemOrNull, plen: SizeOrZero, flags: Scalar)
                -> Scalar, "5.10", Only[TC];
            /// A per-CPU kernel variable on the given CPU, or null.
            153 per_cpu_ptr(percpu_ptr: PerCpuPtr, cpu: Scalar) -> PtrOrNull, "5.10", Any;
            /// A per-CPU kernel variable on this CPU.
            154 this_cpu_ptr(percpu_ptr: PerCpuPtr) -> Ptr, "5.10", Any;
            /// Moves the packet straight to the other end of a veth or netkit pair.
            155 redirect_peer(ifindex: Scalar, flags: Scalar) -> Scalar, "5.10", Only[TC];
            /// The memory of a task, made on request.
            156 task_storage_get(map: MapPtr, task: Ptr, value: ValueOrNull, flags: Scalar)
                -> PtrOrNull, "5.11", Any;
            /// Frees the memory of a task.
            157 task_storage_delete(map: MapPtr, task: Ptr) -> Errno, "5.11", Any;
            /// The current task as a typed pointer.
            158 get_current_task_btf() -> Ptr, "5.11", Any;
            /// Sets options of the program about to be executed.
            159 bprm_opts_set(bprm: Ptr, flags: Scalar) -> Errno, "5.11", Only[LSM];
            /// Nanoseconds since boot as of the last tick: cheap and coarse.
            160 ktime_get_coarse_ns() -> Scalar, "5.11", Any;
            /// The hash that IMA stored for an inode; returns the algorithm.
            161 ima_inode_hash(inode: Ptr, dst: MemOut, size: Size) -> Scalar, "5.11", Only[LSM];
            /// The socket behind a file, or null.
            162 sock_from_file(file: Ptr) -> PtrOrNull, "5.11", Only[TYPED];
            /// Whether the packet would fit through a device; also tells its MTU.
            163 check_mtu(
                ctx: Ctx, ifindex: Scalar, mtu_len: FixedMemOut, len_diff: Scalar, flags: Scalar,
            ) -> Scalar, "5.12", Only[TC, XDP];
            /// Calls a function for every element; returns how many it visited.
            164 for_each_map_elem(
                map: MapPtr, callback_fn: Func, callback_ctx: StackOrNull, flags: Scalar,
            ) -> Scalar, "5.13", Any;
            /// Prints to memory; returns the length it needs.
            165 snprintf(
                str: MemOutOrNull, str_size: SizeOrZero, fmt: ConstStr, data: MemOrNull,
                data_len: SizeOrZero,
            ) -> Scalar, "5.13", Any;
            /// Issues a bpf(2) command.
            166 sys_bpf(cmd: Scalar, attr: Mem, attr_size: Size) -> Scalar, "5.14", Only[SYSCALL];
            /// Finds a kernel BTF type by name and kind.
            167 btf_find_by_name_kind(name: Mem, name_sz: Size, kind: Scalar, flags: Scalar)
                -> Scalar, "5.14", Only[SYSCALL];
            /// Closes an fd of the current task.
            168 sys_close(fd: Scalar) -> Errno, "5.14", Only[SYSCALL];
            /// Prepares a timer that lies in a value of `map`; on Linux 6.18 `-ENOMEM` may be no want of memory.
            169 timer_init(timer: Timer, map: MapPtr, flags: Scalar) -> Errno, "5.15", Any;
            /// Chooses the function that the timer calls.
            170 timer_set_callback(timer: Timer, callback_fn: Func) -> Errno, "5.15", Any;
            /// Starts the timer.
            171 timer_start(timer: Timer, nsecs: Scalar, flags: Scalar) -> Errno, "5.15", Any;
            /// Stops the timer and waits for a running callback; 1 when it was active.
            172 timer_cancel(timer: Timer) -> Scalar, "5.15", Any;
            /// Address of the traced function.
            173 get_func_ip(ctx: Ctx) -> Scalar, "5.15", Only[TRACE];
            /// The number that was given when the program was attached.
            174 get_attach_cookie(ctx: Ctx) -> Scalar, "5.15", Only[TRACE];
            /// The registers that a task had in user space.
            175 task_pt_regs(task: Ptr) -> Ptr, "5.15", Any;
            /// Copies the CPU's branch records right now; returns their size.
            176 get_branch_snapshot(entries: MemOut, size: SizeOrZero, flags: Scalar)
                -> Scalar, "5.16", Any;
            /// Prints to the trace pipe, arguments in an array.
            177 trace_vprintk(fmt: Mem, fmt_size: Size, data: MemOrNull, data_len: SizeOrZero)
                -> Scalar, "5.16", Any;
            /// The socket as the kernel's `unix_sock`, or null.
            178 skc_to_unix_sock(sk: Ptr) -> PtrOrNull, "5.16", Only[SOCKET_CAST];
            /// Address of a kernel symbol.
            179 kallsyms_lookup_name(
                name: Mem, name_sz: SizeOrZero, flags: Scalar, res: FixedMemOut,
            ) -> Errno, "5.16", Only[SYSCALL];
            /// Calls a function with the memory area that holds an address.
            180 find_vma(
                task: Ptr, addr: Scalar, callback_fn: Func, callback_ctx: StackOrNull,
                flags: Scalar,
            ) -> Errno, "5.17", Any;
            /// Calls a function `nr_loops` times or until it returns 1; returns the rounds done.
            181 r#loop(
                nr_loops: Scalar, callback_fn: Func, callback_ctx: StackOrNull, flags: Scalar,
            ) -> Scalar, "5.17", Any;
            /// Compares with a constant string: negative, 0 or positive.
            182 strncmp(s1: Mem, s1_sz: Size, s2: ConstStr) -> Scalar, "5.17", Any;
            /// Argument number `n` of the traced function.
            183 get_func_arg(ctx: Ctx, n: Scalar, value: FixedMemOut) -> Errno, "5.17", Only[TYPED];
            /// Result of the traced function.
            184 get_func_ret(ctx: Ctx, value: FixedMemOut) -> Errno, "5.17", Only[TYPED];
            /// Number of arguments of the traced function.
            185 get_func_arg_cnt(ctx: Ctx) -> Scalar, "5.17", Only[TYPED];
            /// The result that the system call has so far.
            186 get_retval() -> Scalar, "5.18", Only[CGROUP];
            /// Replaces the result of the system call.
            187 set_retval(retval: Scalar) -> Errno, "5.18", Only[CGROUP];
            /// Length of the frame with all its fragments.
            188 xdp_get_buff_len(xdp_md: CtxOrPtr) -> Scalar, "5.18", Only[XDP, TYPED];
            /// Copies bytes out of a frame that may have fragments.
            189 xdp_load_bytes(xdp_md: Ctx, offset: Scalar, buf: MemOut, len: Size)
                -> Errno, "5.18", Only[XDP];
            /// Copies bytes into a frame that may have fragments.
            190 xdp_store_bytes(xdp_md: Ctx, offset: Scalar, buf: Mem, len: Size)
                -> Errno, "5.18", Only[XDP];
            /// Copies user memory of another task; only in sleepable programs.
            191 copy_from_user_task(
                dst: MemOut, size: SizeOrZero, user_ptr: Scalar, tsk: Ptr, flags: Scalar,
            ) -> Errno, "5.18", Any;
            /// Sets the packet's time stamp and its clock.
            192 skb_set_tstamp(skb: Ctx, tstamp: Scalar, tstamp_type: Scalar)
                -> Errno, "5.18", Only[TC];
            /// The hash of a file, computed when missing; returns the algorithm.
            193 ima_file_hash(file: Ptr, dst: MemOut, size: Size) -> Scalar, "5.18", Only[LSM];
            /// Puts a pointer into a map value and returns the one it replaces.
            194 kptr_xchg(dst: KptrSlot, ptr: PtrOrNull) -> PtrOrNull, "5.19", Any;
            /// Pointer to the value of one CPU under `key`, or null.
            195 map_lookup_percpu_elem(map: MapPtr, key: Key, cpu: Scalar)
                -> PtrOrNull, "5.19", Any;
            /// The socket as the kernel's `mptcp_sock`, or null.
            196 skc_to_mptcp_sock(sk: Ptr) -> PtrOrNull, "5.19", Only[SOCKET_CAST];
            /// Makes a dynptr over memory of a map value.
            197 dynptr_from_mem(data: Mem, size: SizeOrZero, flags: Scalar, ptr: DynptrOut)
                -> Errno, "5.19", Any;
            /// Reserves a record of any size; submit or discard it on every path.
            198 ringbuf_reserve_dynptr(ringbuf: MapPtr, size: Scalar, flags: Scalar, ptr: DynptrOut)
                -> Errno, "5.19", Any;
            /// Publishes a record reserved as a dynptr.
            199 ringbuf_submit_dynptr(ptr: Dynptr, flags: Scalar) -> Void, "5.19", Any;
            /// Throws a record reserved as a dynptr away.
            200 ringbuf_discard_dynptr(ptr: Dynptr, flags: Scalar) -> Void, "5.19", Any;
            /// Copies out of a dynptr.
            201 dynptr_read(
                dst: MemOut, len: SizeOrZero, src: Dynptr, offset: Scalar, flags: Scalar,
            ) -> Errno, "5.19", Any;
            /// Copies into a dynptr.
            202 dynptr_write(dst: Dynptr, offset: Scalar, src: Mem, len: SizeOrZero, flags: Scalar)
                -> Errno, "5.19", Any;
            /// Direct pointer to a constant-size part of a dynptr, or null.
            203 dynptr_data(ptr: Dynptr, offset: Scalar, len: ConstSize) -> PtrOrNull, "5.19", Any;
            /// A SYN cookie for IPv4, without a listening socket.
            204 tcp_raw_gen_syncookie_ipv4(iph: FixedMem, th: Mem, th_len: Size)
                -> Scalar, "6.0", Only[TC, XDP];
            /// A SYN cookie for IPv6, without a listening socket.
            205 tcp_raw_gen_syncookie_ipv6(iph: FixedMem, th: Mem, th_len: Size)
                -> Scalar, "6.0", Only[TC, XDP];
            /// Whether an ACK carries a cookie of `tcp_raw_gen_syncookie_ipv4`.
            206 tcp_raw_check_syncookie_ipv4(iph: FixedMem, th: FixedMem)
                -> Errno, "6.0", Only[TC, XDP];
            /// Whether an ACK carries a cookie of `tcp_raw_gen_syncookie_ipv6`.
            207 tcp_raw_check_syncookie_ipv6(iph: FixedMem, th: FixedMem)
                -> Errno, "6.0", Only[TC, XDP];
            /// Nanoseconds of international atomic time, without leap seconds.
            208 ktime_get_tai_ns() -> Scalar, "6.1", Any;
            /// Calls a function for every record that user space sent; returns how many.
            209 user_ringbuf_drain(map: MapPtr, callback_fn: Func, ctx: StackOrNull, flags: Scalar)
                -> Scalar, "6.1", Any;
            /// The memory of a cgroup, made on request.
            210 cgrp_storage_get(map: MapPtr, cgroup: Ptr, value: ValueOrNull, flags: Scalar)
                -> PtrOrNull, "6.2", Any;
            /// Frees the memory of a cgroup.
            211 cgrp_storage_delete(map: MapPtr, cgroup: Ptr) -> Errno, "6.2", Any;
        }
    };
}
