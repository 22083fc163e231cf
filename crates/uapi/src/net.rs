//! Packet headers and the numbers in them.
//!
//! The numbers are in host order. A header holds network order, so a 16 or 32 bit number has to be
//! swapped before it is compared with a loaded field.

crate::layout! {
    /// Every header in this module.
    pub const HEADERS;

    /// Ethernet.
    pub mod eth = "ethhdr": 14 {
        /// Destination address.
        dst = "h_dest": [u8; 6],
        /// Source address.
        src = "h_source": [u8; 6],
        /// What follows, an `ETH_P_` number.
        proto = "h_proto": be16,
    }

    /// A VLAN tag, behind an ether type of [`ETH_P_8021Q`].
    pub mod vlan = "vlan_hdr": 4 {
        /// Priority (3 bits), drop mark (1 bit), VLAN number (12 bits).
        tci = "h_vlan_TCI": be16,
        /// What follows, an `ETH_P_` number.
        proto = "h_vlan_encapsulated_proto": be16,
    }

    /// ARP for IPv4 over Ethernet.
    pub mod arp = "": 28 {
        /// Kind of link; 1 for Ethernet.
        hw_type = "": be16,
        /// Kind of address; [`ETH_P_IP`](super::ETH_P_IP).
        proto = "": be16,
        /// Length of a link address; 6.
        hw_len = "": u8,
        /// Length of a protocol address; 4.
        proto_len = "": u8,
        /// Request (1) or reply (2).
        op = "": be16,
        /// The sender's link address.
        sha = "": [u8; 6],
        /// The sender's IPv4 address.
        spa = "": be32 @ 14,
        /// The target's link address.
        tha = "": [u8; 6],
        /// The target's IPv4 address.
        tpa = "": be32,
    }

    /// IPv4 without options.
    pub mod ipv4 = "iphdr": 20 {
        /// Version (upper half) and header length in words (lower half).
        ver_ihl = "": u8,
        /// Type of service.
        tos: u8,
        /// Bytes of header and payload.
        tot_len: be16,
        /// Number that fragments of one packet share.
        id: be16,
        /// [`IP_DF`](super::IP_DF), [`IP_MF`](super::IP_MF) and the offset in units of 8 bytes.
        frag_off: be16,
        /// Time to live.
        ttl: u8,
        /// What follows, an `IPPROTO_` number.
        proto = "protocol": u8,
        /// Checksum of the header.
        check: be16,
        /// Source address.
        saddr: be32,
        /// Destination address.
        daddr: be32,
    }

    /// IPv6.
    pub mod ipv6 = "ipv6hdr": 40 {
        /// Version (4 bits), traffic class (8 bits), flow label (20 bits).
        ver_tc_flow = "": be32,
        /// Bytes behind this header.
        payload_len: be16,
        /// What follows, an `IPPROTO_` number.
        next_header = "nexthdr": u8,
        /// Time to live.
        hop_limit: u8,
        /// Source address.
        saddr: [be32; 4],
        /// Destination address.
        daddr: [be32; 4],
    }

    /// How most IPv6 extension headers start.
    pub mod ipv6_ext = "ipv6_opt_hdr": 2 {
        /// What follows, an `IPPROTO_` number.
        next_header = "nexthdr": u8,
        /// Length in units of 8 bytes, without the first.
        len = "hdrlen": u8,
    }

    /// What all IPv6 routing headers begin with.
    pub mod ipv6_route = "ipv6_rt_hdr": 4 {
        /// What follows, an `IPPROTO_` number.
        next_header = "nexthdr": u8,
        /// Length in units of 8 bytes, without the first.
        len = "hdrlen": u8,
        /// Which kind of route.
        kind = "type": u8,
        /// Stations that are still to come: if there are any, the packet has not arrived.
        segments_left: u8,
    }

    /// The IPv6 fragment header.
    pub mod ipv6_frag = "frag_hdr": 8 {
        /// What follows, an `IPPROTO_` number.
        next_header = "nexthdr": u8,
        /// Must be 0.
        reserved: u8,
        /// Offset (13 bits, units of 8 bytes), two spare bits, more fragments (1 bit).
        frag_off: be16,
        /// Number that fragments of one packet share.
        id = "identification": be32,
    }

    /// TCP without options.
    pub mod tcp = "tcphdr": 20 {
        /// Source port.
        sport = "source": be16,
        /// Destination port.
        dport = "dest": be16,
        /// Sequence number of the first byte.
        seq: be32,
        /// Next sequence number expected.
        ack_seq: be32,
        /// `data_off` and `flags` together.
        off_flags = "": be16,
        /// Header length in words (upper half).
        data_off = "": u8 @ 12,
        /// The `TCP_` bits.
        flags = "": u8 @ 13,
        /// Bytes the sender has room for.
        window: be16,
        /// Checksum of header, payload and addresses.
        check: be16,
        /// Where urgent data ends.
        urg_ptr: be16,
    }

    /// UDP.
    pub mod udp = "udphdr": 8 {
        /// Source port.
        sport = "source": be16,
        /// Destination port.
        dport = "dest": be16,
        /// Bytes of header and payload.
        len: be16,
        /// Checksum of header, payload and addresses; 0 for none on IPv4.
        check: be16,
    }

    /// ICMP.
    pub mod icmp = "icmphdr": 8 {
        /// Kind of message, an `ICMP_` number.
        kind = "type": u8,
        /// Kind of the kind.
        code: u8,
        /// Checksum of header and payload.
        check = "checksum": be16,
        /// Echo: number of the asker.
        id = "un.echo.id": be16,
        /// Echo: number of the question.
        seq = "un.echo.sequence": be16,
        /// Redirect: the better gateway.
        gateway = "un.gateway": be32 @ 4,
        /// Fragmentation needed: what the next hop can carry.
        mtu = "un.frag.mtu": be16 @ 6,
    }

    /// ICMPv6.
    pub mod icmpv6 = "icmp6hdr": 8 {
        /// Kind of message, an `ICMPV6_` number.
        kind = "icmp6_type": u8,
        /// Kind of the kind.
        code = "icmp6_code": u8,
        /// Checksum of header, payload and addresses.
        check = "icmp6_cksum": be16,
        /// Echo: number of the asker.
        id = "": be16,
        /// Echo: number of the question.
        seq = "": be16,
        /// Packet too big: what the next hop can carry.
        mtu = "": be32 @ 4,
    }

    /// GRE without options.
    pub mod gre = "gre_base_hdr": 4 {
        /// Which options follow, and the version.
        flags: be16,
        /// Ether type of the payload.
        proto = "protocol": be16,
    }

    /// VXLAN.
    pub mod vxlan = "vxlanhdr": 8 {
        /// Bit 27 says that the network number counts.
        flags = "vx_flags": be32,
        /// Network number in the upper 24 bits.
        vni = "vx_vni": be32,
    }
}

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident = $value:literal,)+) => {
        $($(#[$doc])* pub const $name: i32 = $value;)+
    };
}

numbers! {
    /// Ether type: IPv4.
    ETH_P_IP = 0x0800,
    /// Ether type: ARP.
    ETH_P_ARP = 0x0806,
    /// Ether type: VLAN tag.
    ETH_P_8021Q = 0x8100,
    /// Ether type: IPv6.
    ETH_P_IPV6 = 0x86dd,
    /// Ether type: MPLS.
    ETH_P_MPLS_UC = 0x8847,
    /// Ether type: outer VLAN tag of two.
    ETH_P_8021AD = 0x88a8,
    /// Ether type as a socket filter: every packet.
    ETH_P_ALL = 0x0003,
    /// Bytes of an Ethernet address.
    ETH_ALEN = 6,

    /// Options of an IPv6 packet for every hop.
    IPPROTO_HOPOPTS = 0,
    /// ICMP.
    IPPROTO_ICMP = 1,
    /// IGMP.
    IPPROTO_IGMP = 2,
    /// IPv4 in IP.
    IPPROTO_IPIP = 4,
    /// TCP.
    IPPROTO_TCP = 6,
    /// UDP.
    IPPROTO_UDP = 17,
    /// IPv6 in IP.
    IPPROTO_IPV6 = 41,
    /// The IPv6 routing header.
    IPPROTO_ROUTING = 43,
    /// The IPv6 fragment header.
    IPPROTO_FRAGMENT = 44,
    /// GRE.
    IPPROTO_GRE = 47,
    /// IPsec, encrypted.
    IPPROTO_ESP = 50,
    /// IPsec, authenticated.
    IPPROTO_AH = 51,
    /// ICMPv6.
    IPPROTO_ICMPV6 = 58,
    /// Nothing follows.
    IPPROTO_NONE = 59,
    /// Options of an IPv6 packet for the destination.
    IPPROTO_DSTOPTS = 60,
    /// SCTP.
    IPPROTO_SCTP = 132,
    /// Multipath TCP, as a socket protocol.
    IPPROTO_MPTCP = 262,

    /// Bit of [`ipv4::frag_off`]: do not fragment.
    IP_DF = 0x4000,
    /// Bit of [`ipv4::frag_off`]: more fragments follow.
    IP_MF = 0x2000,
    /// Bits of [`ipv4::frag_off`]: the offset.
    IP_OFFSET = 0x1fff,
    /// Bit of [`ipv6_frag::frag_off`]: more fragments follow.
    IP6_MF = 0x0001,
    /// Bits of [`ipv6_frag::frag_off`]: the offset.
    IP6_OFFSET = 0xfff8,

    /// Bit of [`tcp::flags`]: the sender is done.
    TCP_FIN = 0x01,
    /// Bit of [`tcp::flags`]: sequence numbers start here.
    TCP_SYN = 0x02,
    /// Bit of [`tcp::flags`]: the connection is dead.
    TCP_RST = 0x04,
    /// Bit of [`tcp::flags`]: hand the data on.
    TCP_PSH = 0x08,
    /// Bit of [`tcp::flags`]: `ack_seq` counts.
    TCP_ACK = 0x10,
    /// Bit of [`tcp::flags`]: `urg_ptr` counts.
    TCP_URG = 0x20,
    /// Bit of [`tcp::flags`]: congestion was seen.
    TCP_ECE = 0x40,
    /// Bit of [`tcp::flags`]: the sender slowed down.
    TCP_CWR = 0x80,

    /// ICMP: answer to an echo request.
    ICMP_ECHOREPLY = 0,
    /// ICMP: the packet could not be delivered.
    ICMP_DEST_UNREACH = 3,
    /// ICMP: there is a better gateway.
    ICMP_REDIRECT = 5,
    /// ICMP: please answer.
    ICMP_ECHO = 8,
    /// ICMP: time to live ran out.
    ICMP_TIME_EXCEEDED = 11,
    /// ICMP: something in the header is wrong.
    ICMP_PARAMETERPROB = 12,
    /// Code of [`ICMP_DEST_UNREACH`]: no way to the network.
    ICMP_NET_UNREACH = 0,
    /// Code of [`ICMP_DEST_UNREACH`]: no way to the host.
    ICMP_HOST_UNREACH = 1,
    /// Code of [`ICMP_DEST_UNREACH`]: the host does not speak the protocol.
    ICMP_PROT_UNREACH = 2,
    /// Code of [`ICMP_DEST_UNREACH`]: nobody listens on the port.
    ICMP_PORT_UNREACH = 3,
    /// Code of [`ICMP_DEST_UNREACH`]: too big, and must not be fragmented.
    ICMP_FRAG_NEEDED = 4,

    /// ICMPv6: the packet could not be delivered.
    ICMPV6_DEST_UNREACH = 1,
    /// ICMPv6: the packet is bigger than the next hop can carry.
    ICMPV6_PKT_TOOBIG = 2,
    /// ICMPv6: hop limit ran out.
    ICMPV6_TIME_EXCEED = 3,
    /// ICMPv6: something in a header is wrong.
    ICMPV6_PARAMPROB = 4,
    /// ICMPv6: please answer.
    ICMPV6_ECHO_REQUEST = 128,
    /// ICMPv6: answer to an echo request.
    ICMPV6_ECHO_REPLY = 129,
    /// ICMPv6: who is a router here?
    ICMPV6_ROUTER_SOLICITATION = 133,
    /// ICMPv6: I am a router here.
    ICMPV6_ROUTER_ADVERTISEMENT = 134,
    /// ICMPv6: who has this address?
    ICMPV6_NEIGHBOUR_SOLICITATION = 135,
    /// ICMPv6: I have this address.
    ICMPV6_NEIGHBOUR_ADVERTISEMENT = 136,

    /// Address family: Unix sockets.
    AF_UNIX = 1,
    /// Address family: IPv4.
    AF_INET = 2,
    /// Address family: IPv6.
    AF_INET6 = 10,
    /// Socket type: a stream.
    SOCK_STREAM = 1,
    /// Socket type: datagrams.
    SOCK_DGRAM = 2,
    /// Socket type: whole packets.
    SOCK_RAW = 3,
}
