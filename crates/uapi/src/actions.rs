//! What a program answers, as types and as plain constants for immediates.

use crate::uapi_enum;

uapi_enum! {
    /// What becomes of a frame after an XDP program.
    pub XdpAction: i32, "XDP_" {
        /// Drop it and report an error of the program.
        ABORTED = 0 => XDP_ABORTED,
        /// Drop it.
        DROP = 1 => XDP_DROP,
        /// Hand it to the network stack.
        PASS = 2 => XDP_PASS,
        /// Send it back through the device it came from.
        TX = 3 => XDP_TX,
        /// Send it where `redirect` or `redirect_map` said.
        REDIRECT = 4 => XDP_REDIRECT,
    }
}

uapi_enum! {
    /// What becomes of a packet after a classifier in direct action mode.
    pub TcAction: i32, "TC_ACT_" {
        /// Ask the next classifier.
        UNSPEC = -1 => TC_ACT_UNSPEC,
        /// Let it pass.
        OK = 0 => TC_ACT_OK,
        /// Classify it again.
        RECLASSIFY = 1 => TC_ACT_RECLASSIFY,
        /// Drop it.
        SHOT = 2 => TC_ACT_SHOT,
        /// Go on with the next action.
        PIPE = 3 => TC_ACT_PIPE,
        /// The packet is consumed without being dropped.
        STOLEN = 4 => TC_ACT_STOLEN,
        /// Like stolen, and queued elsewhere.
        QUEUED = 5 => TC_ACT_QUEUED,
        /// Go round again.
        REPEAT = 6 => TC_ACT_REPEAT,
        /// Send it where `redirect` said.
        REDIRECT = 7 => TC_ACT_REDIRECT,
        /// Consumed by hardware rules; not for programs.
        TRAP = 8 => TC_ACT_TRAP,
    }
}

uapi_enum! {
    /// What becomes of a packet after a tcx or netkit program. Linux 6.6.
    pub TcxAction: i32, "TCX_" {
        /// Ask the next program.
        NEXT = -1 => TCX_NEXT,
        /// Let it pass.
        PASS = 0 => TCX_PASS,
        /// Drop it.
        DROP = 2 => TCX_DROP,
        /// Send it where `redirect` said.
        REDIRECT = 7 => TCX_REDIRECT,
    }
}

uapi_enum! {
    /// The verdict of socket programs: sockmap, socket lookup and reuseport.
    pub SkAction: i32, "SK_" {
        /// Drop it.
        DROP = 0 => SK_DROP,
        /// Let it pass, or use the chosen socket.
        PASS = 1 => SK_PASS,
    }
}

uapi_enum! {
    /// What becomes of a packet after a lightweight tunnel or flow dissector program.
    pub LwtAction: i32, "BPF_" {
        /// Carry on; for a flow dissector, the headers are found.
        OK = 0 => BPF_OK,
        /// Drop it.
        DROP = 2 => BPF_DROP,
        /// Send it where `redirect` said.
        REDIRECT = 7 => BPF_REDIRECT,
        /// Route it again, because its header changed.
        LWT_REROUTE = 128 => BPF_LWT_REROUTE,
        /// Let the kernel's own flow dissector do the work. Linux 6.1.
        FLOW_DISSECTOR_CONTINUE = 129 => BPF_FLOW_DISSECTOR_CONTINUE,
    }
}

uapi_enum! {
    /// What becomes of a packet after a netfilter program.
    pub NfAction: i32, "NF_" {
        /// Drop it.
        DROP = 0 => NF_DROP,
        /// Let it pass.
        ACCEPT = 1 => NF_ACCEPT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_and_names_come_from_the_same_row() {
        assert_eq!(i32::from(XdpAction::PASS), XDP_PASS);
        assert_eq!(XdpAction::REDIRECT.to_string(), "XDP_REDIRECT");
        assert_eq!(
            TcAction::from_name("TC_ACT_SHOT"),
            Some(TcAction(TC_ACT_SHOT))
        );
        assert_eq!(TcxAction(-1), TcxAction::NEXT);
        assert_eq!(SkAction(5).to_string(), "SK_5");
    }
}
