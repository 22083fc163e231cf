//! XDP sockets: the numbers and layouts of `linux/if_xdp.h`.

/// The address family.
pub const AF_XDP: i32 = 44;
/// The level of its socket options.
pub const SOL_XDP: i32 = 283;

crate::uapi_flags! {
    /// `sxdp_flags` of `bind`.
    pub mod bind: u16 {
        /// Use the frames of another socket.
        XDP_SHARED_UMEM = 1 << 0,
        /// Copy between frames and the driver.
        XDP_COPY = 1 << 1,
        /// The driver works in the frames themselves, or the call fails.
        XDP_ZEROCOPY = 1 << 2,
        /// The rings say when the kernel has to be woken. Linux 5.4.
        XDP_USE_NEED_WAKEUP = 1 << 3,
        /// A packet may take several frames. Linux 6.6.
        XDP_USE_SG = 1 << 4,
    }

    /// `flags` of `struct xdp_umem_reg`.
    pub mod umem: u32 {
        /// Frames need not start at multiples of their size. Linux 5.4.
        XDP_UMEM_UNALIGNED_CHUNK_FLAG = 1 << 0,
        /// The kernel computes checksums that a packet asks for. Linux 6.8.
        XDP_UMEM_TX_SW_CSUM = 1 << 1,
        /// `tx_metadata_len` counts. Linux 6.11.
        XDP_UMEM_TX_METADATA_LEN = 1 << 2,
    }

    /// What the kernel says in the flag word of a ring.
    pub mod ring: u32 {
        /// It sleeps until it is called.
        XDP_RING_NEED_WAKEUP = 1 << 0,
    }

    /// What `XDP_OPTIONS` says.
    pub mod options: u32 {
        /// The driver works in the frames themselves.
        XDP_OPTIONS_ZEROCOPY = 1 << 0,
    }

    /// `options` of a descriptor.
    pub mod desc: u32 {
        /// The packet goes on in the next descriptor. Linux 6.6.
        XDP_PKT_CONTD = 1 << 0,
        /// Something about sending stands before the packet. Linux 6.8.
        XDP_TX_METADATA = 1 << 1,
    }
}

/// Socket options.
pub mod option {
    /// Where things are in the maps of rings; read.
    pub const XDP_MMAP_OFFSETS: i32 = 1;
    /// How many entries the ring of received frames has.
    pub const XDP_RX_RING: i32 = 2;
    /// How many entries the ring of frames to send has.
    pub const XDP_TX_RING: i32 = 3;
    /// Registers the memory of frames.
    pub const XDP_UMEM_REG: i32 = 4;
    /// How many entries the ring of frames to receive into has.
    pub const XDP_UMEM_FILL_RING: i32 = 5;
    /// How many entries the ring of frames that were sent has.
    pub const XDP_UMEM_COMPLETION_RING: i32 = 6;
    /// What was lost, and why; read.
    pub const XDP_STATISTICS: i32 = 7;
    /// How the socket works; read. Linux 5.3.
    pub const XDP_OPTIONS: i32 = 8;
}

/// Offsets by which rings are mapped.
pub mod page {
    /// Received frames.
    pub const XDP_PGOFF_RX_RING: u64 = 0;
    /// Frames to send.
    pub const XDP_PGOFF_TX_RING: u64 = 0x8000_0000;
    /// Frames to receive into.
    pub const XDP_UMEM_PGOFF_FILL_RING: u64 = 0x1_0000_0000;
    /// Frames that were sent.
    pub const XDP_UMEM_PGOFF_COMPLETION_RING: u64 = 0x1_8000_0000;
}

/// In unaligned mode, how far left the offset stands in an address.
pub const XSK_UNALIGNED_BUF_OFFSET_SHIFT: u32 = 48;
/// In unaligned mode, the bits of an address that say where the frame starts.
pub const XSK_UNALIGNED_BUF_ADDR_MASK: u64 = (1 << XSK_UNALIGNED_BUF_OFFSET_SHIFT) - 1;
/// Bytes that the kernel leaves free in front of a received packet.
pub const XDP_PACKET_HEADROOM: u32 = 256;
/// A frame has at least so many bytes.
pub const XDP_UMEM_MIN_CHUNK_SIZE: u32 = 2048;
