//! What the running kernel can do: answers that are known otherwise, all questions, no traces.
//!
//! One test, because it compares the open descriptors of the whole process.

use bpfsmith_gate::{Need, State, needs, open_fds};
use bpfsmith_prog::probe::{self, Group, Report, Support};
use bpfsmith_uapi::{AttachType, HELPERS, Helper, LinkType, MapType, ProgType};
use std::time::Instant;

fn helper(name: &str) -> &'static Helper {
    Helper::by_name(name).unwrap_or_else(|| panic!("{name} is a helper"))
}

/// What every kernel that the tests boot answers, and what follows from the meaning of a question.
fn certain() {
    for kind in [
        ProgType::SOCKET_FILTER,
        ProgType::XDP,
        ProgType::SCHED_CLS,
        ProgType::SYSCALL,
    ] {
        assert_eq!(probe::prog_type(kind), Support::Yes, "{kind}");
    }
    assert!(matches!(probe::prog_type(ProgType(250)), Support::No(_)));
    for kind in [
        MapType::HASH,
        MapType::RINGBUF,
        MapType::LPM_TRIE,
        MapType::ARRAY_OF_MAPS,
    ] {
        assert_eq!(probe::map_type(kind), Support::Yes, "{kind}");
    }
    assert!(matches!(probe::map_type(MapType(250)), Support::No(_)));
    assert!(matches!(
        probe::attach_type(AttachType(250)),
        Support::No(_)
    ));
    assert!(matches!(probe::link(LinkType(250)), Support::No(_)));

    let lookup = helper("map_lookup_elem");
    assert_eq!(probe::helper(lookup, ProgType::XDP), Support::Yes);
    let peer = probe::helper(helper("redirect_peer"), ProgType::XDP);
    assert!(
        matches!(&peer, Support::No(reason) if reason.contains("redirect_peer")),
        "{peer}"
    );
    assert_eq!(
        probe::helper(helper("redirect_peer"), ProgType::SCHED_CLS),
        Support::Yes
    );
    // Among typed programs only iterators may, which the question covers.
    let write = probe::helper(helper("seq_write"), ProgType::TRACING);
    assert_eq!(
        write.is_yes(),
        Need::Iterators.state() == State::Here,
        "{write}"
    );
    // XDP programs never sleep.
    let copy = probe::helper(helper("copy_from_user"), ProgType::XDP);
    assert!(matches!(copy, Support::No(_)), "{copy}");
    assert_eq!(
        probe::helper(helper("copy_from_user"), ProgType::SYSCALL),
        Support::Yes
    );
    let late = Helper {
        id: 4711,
        ..*lookup
    };
    assert!(matches!(
        probe::helper(&late, ProgType::XDP),
        Support::No(_)
    ));

    assert!(matches!(
        probe::kfunc("bs_no_such_function"),
        Support::No(_)
    ));
    // Metadata of a packet is for XDP, and only on a device.
    let hash = probe::kfunc_in("bpf_xdp_metadata_rx_hash", ProgType::XDP);
    assert_eq!(
        hash.is_yes(),
        Need::XdpMetadata.state() == State::Here,
        "{hash}"
    );
    let hash = probe::kfunc_in("bpf_xdp_metadata_rx_hash", ProgType::SCHED_CLS);
    assert!(matches!(hash, Support::No(_)), "{hash}");
    // A function of the kernel that is not for programs.
    assert!(matches!(probe::kfunc("vfs_read"), Support::No(_)));
    assert_eq!(probe::isa("v1"), Some(Support::Yes));
    assert_eq!(probe::isa("v9"), None);
    assert_eq!(probe::feature("bounded loops"), Some(Support::Yes));
    assert_eq!(probe::feature("telepathy"), None);
    for name in [
        "bpf_loop with a callback",
        "programs of more than 4096 instructions",
    ] {
        let is_here = Need::BpfLoop.state() == State::Here;
        let answer = probe::feature(name).expect(name);
        assert_eq!(answer.is_yes(), is_here, "{name}: {answer}");
    }
}

/// The answers and the gate's own trials, which are made otherwise, agree.
fn as_the_gate_says(report: &Report) {
    let rows = [
        (Need::XdpLink, Group::Links, "XDP"),
        (Need::Tcx, Group::Links, "TCX"),
        (Need::Netkit, Group::Links, "NETKIT"),
        (Need::KprobeMulti, Group::Links, "KPROBE_MULTI"),
        (Need::UprobeMulti, Group::Links, "UPROBE_MULTI"),
        (Need::Netfilter, Group::Links, "NETFILTER"),
        (Need::StructOpsLink, Group::Links, "STRUCT_OPS"),
        (Need::Iterators, Group::Links, "ITER"),
        (Need::TpBtf, Group::Links, "TRACING"),
        (Need::RawTracepoint, Group::Links, "RAW_TRACEPOINT"),
        (Need::Fentry, Group::Attach, "TRACE_FENTRY"),
        (Need::KprobeSession, Group::Attach, "TRACE_KPROBE_SESSION"),
        (Need::LsmCgroup, Group::Attach, "LSM_CGROUP"),
        (Need::SkLookup, Group::Attach, "SK_LOOKUP"),
        (Need::Arena, Group::Maps, "ARENA"),
        (Need::Arena, Group::Isa, "addr_space_cast"),
        (Need::UserRingbuf, Group::Maps, "USER_RINGBUF"),
        (Need::Bloom, Group::Maps, "BLOOM_FILTER"),
        (Need::XdpFrags, Group::Features, "XDP frags"),
        (Need::XdpMetadata, Group::Features, "device-bound XDP"),
        (Need::ProgStream, Group::Features, "program streams"),
        (Need::MmapArray, Group::Features, "array as shared memory"),
        (Need::Kprobe, Group::Features, "kprobe events"),
        (Need::Uprobe, Group::Features, "uprobe events"),
        (Need::Freplace, Group::Features, "function replacement"),
        (Need::LiveFrames, Group::Features, "live frames"),
        (Need::Token, Group::Features, "token"),
        (Need::Batch, Group::Features, "map batch operations"),
    ];
    for (need, group, name) in rows {
        let support = report.find(group, name, None).expect(name);
        let is_here = need.state() == State::Here;
        assert_eq!(support.is_yes(), is_here, "{name}: {support}, but {need:?}");
    }
}

/// The table of helpers says which program types certainly may not call one.
fn as_the_table_says(report: &Report) {
    let mut asked = 0;
    for row in report.rows.iter().filter(|row| row.group == Group::Helpers) {
        let kind = row.within.expect("a program type");
        asked += 1;
        if row.support.is_yes() {
            assert!(helper(&row.name).allows(kind), "{} in {kind}", row.name);
        }
    }
    assert_eq!(asked, HELPERS.len() * (ProgType::ALL.len() - 1));
}

#[test]
fn the_kernel_is_asked_and_nothing_is_left() {
    needs!(Root, Bpf, Btf, NetNs, Veth);
    // The kernel's BTF is read once and stays; so does what the first namespace needs.
    certain();
    let before = open_fds();
    certain();
    let started = Instant::now();
    let mut steps = 0;
    let report = Report::ask(Group::ALL, |_| steps += 1);
    println!(
        "{} answers in {:?}, {steps} steps",
        report.rows.len(),
        started.elapsed()
    );
    println!("{report}");
    let left = open_fds().opened_since(&before);
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(steps, Group::ALL.len() + 2 * (ProgType::ALL.len() - 1));
    as_the_gate_says(&report);
    as_the_table_says(&report);
    // The order is fixed, and so are the answers.
    let groups = [
        Group::Features,
        Group::Maps,
        Group::Links,
    ];
    let again = Report::ask(&groups, |_| {});
    let same = report.rows.iter().filter(|row| groups.contains(&row.group));
    assert!(same.eq(again.rows.iter()));
}
