//! Numbers of the netlink protocol itself; those of a family stand beside the code that uses them.

macro_rules! numbers {
    ($($(#[$meta:meta])* $name:ident = $value:expr;)+) => {
        $($(#[$meta])* pub const $name: u16 = $value;)+
    };
}

numbers! {
    /// The message asks for something.
    NLM_F_REQUEST = 0x1;
    /// More messages follow, up to `NLMSG_DONE`.
    NLM_F_MULTI = 0x2;
    /// Answer even if all is well.
    NLM_F_ACK = 0x4;
    /// The table changed while it was listed.
    NLM_F_DUMP_INTR = 0x10;
    /// List the whole table.
    NLM_F_DUMP = 0x300;
    /// Replace what exists.
    NLM_F_REPLACE = 0x100;
    /// Fail if it exists.
    NLM_F_EXCL = 0x200;
    /// Make it if it is missing.
    NLM_F_CREATE = 0x400;
    /// In an acknowledgement: the request is not quoted in full.
    NLM_F_CAPPED = 0x100;
    /// In an acknowledgement: attributes follow the quoted request.
    NLM_F_ACK_TLVS = 0x200;
    /// Nothing.
    NLMSG_NOOP = 1;
    /// An error number, 0 for success.
    NLMSG_ERROR = 2;
    /// The end of a list.
    NLMSG_DONE = 3;
    /// Data was lost.
    NLMSG_OVERRUN = 4;
    /// The attribute holds attributes.
    NLA_F_NESTED = 0x8000;
    /// The bits of an attribute's type that are its number.
    NLA_TYPE_MASK = 0x3fff;
}
