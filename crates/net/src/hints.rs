//! What to do about a refusal: a table.

use crate::error::{Operation, Refusal};
use bpfsmith_uapi::Errno;

/// A row: for operations that start with `operation`, this error number, and (unless empty) this
/// part of the kernel's sentence. The first row that matches counts.
pub(crate) struct Hint {
    operation: &'static str,
    errno: Errno,
    sentence: &'static str,
    text: &'static str,
}

macro_rules! hints {
    ($($operation:literal, $errno:ident, $sentence:literal => $text:literal;)+) => {
        pub(crate) const HINTS: &[Hint] = &[$(Hint {
            operation: $operation,
            errno: Errno::$errno,
            sentence: $sentence,
            text: $text,
        }),+];
    };
}

hints! {
    "unshare", EPERM, "" => "making a network namespace needs CAP_SYS_ADMIN";
    "unshare", ENOSPC, "" => "user.max_net_namespaces is reached; drop namespaces that are not used";
    "setns", EPERM, "" => "entering a network namespace needs CAP_SYS_ADMIN";
    "setns", EINVAL, "" => "the file is no network namespace";
    "open(O_CREAT)", EEXIST, "" => "a namespace of that name exists; open it or remove it first";
    "open", ENOENT, "" => "no such namespace; those with names are in /run/netns";
    "mount", EPERM, "" => "naming a namespace needs CAP_SYS_ADMIN; one without a name does not mount";
    "clone", EAGAIN, "" => "no thread could be started; the limit of threads is reached";
    "read sysctl", ENOENT, "" => "this kernel or namespace has no such sysctl";
    "write sysctl", ENOENT, "" => "this kernel or namespace has no such sysctl";
    "write sysctl", EINVAL, "" => "the value is out of range";
    "RTM_SETLINK IFLA_XDP", EBADF, "" => "the fd is no loaded program";
    "RTM_SETLINK IFLA_XDP", EINVAL, "" => "the program is of another type than XDP, or the flags contradict each other";
    "RTM_SETLINK IFLA_XDP", EBUSY, "" => "a program or link is attached; detach it, or replace it by naming what is expected";
    "RTM_SETLINK IFLA_XDP", EEXIST, "" => "a program is attached in another mode, or another one than expected; detach it first";
    "RTM_SETLINK IFLA_XDP", EOPNOTSUPP, "" => "the driver has no XDP; attach in generic mode";
    "RTM_SETLINK IFLA_XDP", ENOSPC, "" => "the peer sends on more queues than this device receives on; make both ends with equal queues";
    "RTM_SETLINK IFLA_XDP", ERANGE, "" => "the mtu is too large for a program without fragments; lower it or load with BPF_F_XDP_HAS_FRAGS";
    "RTM_NEWLINK", EOPNOTSUPP, "Unknown device type" => "this kernel is built without that kind of device";
    "RTM_NEWLINK", EEXIST, "" => "a device of that name exists in that namespace; delete it or choose another name";
    "RTM_", ENODEV, "" => "no such device in this namespace; numbers of devices mean nothing in another one";
    "RTM_GETLINK", EINVAL, "" => "numbers of devices begin with 1: `ip link` shows them";
    "RTM_NEWROUTE", ENETUNREACH, "" => "the gateway is not reachable; add the address and set the device up first";
    "RTM_NEWROUTE", EHOSTUNREACH, "" => "the gateway is not reachable; add the address and set the device up first";
    "RTM_NEWROUTE", ENETDOWN, "" => "set the device up first";
    "RTM_DELROUTE", ESRCH, "" => "no such route";
    "RTM_DELADDR", EADDRNOTAVAIL, "" => "the device has no such address";
    "RTM_NEWQDISC", ENOENT, "" => "this kernel is built without that qdisc, or its module is not loaded";
    "RTM_NEWTFILTER", EINVAL, "Parent Qdisc" => "add the clsact qdisc first";
    "RTM_NEWTFILTER", EINVAL, "" => "the fd is a loaded program of a traffic control type, and clsact is added to the device";
    "RTM_NEWTFILTER", EBADF, "" => "the fd is no loaded program";
    "RTM_", EEXIST, "" => "it exists already; replace it or delete it first";
    "ETHTOOL_", EOPNOTSUPP, "" => "the device or this kernel has no such feature";
    "NETDEV_CMD_DEV_GET", ENODEV, "" => "no such device in this namespace; numbers of devices mean nothing in another one";
    "CTRL_CMD_GETFAMILY", ENOENT, "" => "this kernel is built without that family, or too old: ethtool needs Linux 5.8, netdev Linux 6.3";
    "", EPERM, "" => "needs CAP_NET_ADMIN in that network namespace";
}

/// The text of the first row that matches.
pub(crate) fn find(operation: Operation, refusal: &Refusal) -> Option<&'static str> {
    let sentence = refusal.sentence.as_deref().unwrap_or_default();
    HINTS
        .iter()
        .find(|hint| {
            operation.0.starts_with(hint.operation)
                && hint.errno == refusal.errno
                && sentence.contains(hint.sentence)
        })
        .map(|hint| hint.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_first_for_its_own_case() {
        for hint in HINTS {
            let operation = Operation::ALL
                .iter()
                .find(|operation| operation.0.starts_with(hint.operation))
                .expect("a row belongs to an operation");
            let named = Operation(if hint.operation.is_empty() {
                "x"
            } else {
                hint.operation
            });
            let refusal = Refusal {
                sentence: Some(hint.sentence.to_string()),
                ..Refusal::plain(hint.errno)
            };
            assert_eq!(find(named, &refusal), Some(hint.text), "{operation}");
        }
    }

    #[test]
    fn hints_are_short_and_have_no_full_stop() {
        for hint in HINTS {
            assert!(
                hint.text.len() < 110 && !hint.text.ends_with('.'),
                "{}",
                hint.text
            );
        }
    }

    #[test]
    fn an_unknown_case_has_no_hint() {
        assert_eq!(
            find(Operation::NEW_LINK, &Refusal::plain(Errno(4000))),
            None
        );
    }
}
