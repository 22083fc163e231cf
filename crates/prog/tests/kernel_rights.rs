//! What a process may load with some capabilities and not with others. A thread gives up its own: the
//! others of this test program keep theirs.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use bpfsmith_asm::dsl::*;
use bpfsmith_gate::needs;
use bpfsmith_prog::{Error, Load};
use bpfsmith_sys::rights::{Caps, keep};

/// Runs something as a thread that has these capabilities alone.
fn with<T: Send>(caps: Caps, body: impl FnOnce() -> T + Send) -> T {
    let run = || {
        keep(caps).unwrap();
        body()
    };
    std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}

const NETWORK: Caps = Caps::BPF.union(Caps::NET_ADMIN);

/// What it says when it is refused: its hint.
#[track_caller]
fn refusal(name: &str, code: Code) -> (&'static str, String) {
    let program = Program::new(ProgType::XDP, name, code).unwrap();
    with(NETWORK | Caps::PERFMON, || {
        Load::new(&program).load().unwrap();
    });
    let error = with(NETWORK, || Load::new(&program).load().unwrap_err());
    let Error::Refused(refusal) = &error else {
        panic!("{error}")
    };
    assert_eq!(refusal.errno, Errno::EACCES, "{error}");
    let hint = refusal.hint.clone().unwrap_or_else(|| panic!("{error}"));
    let text = format!("{error:#}");
    assert!(text.contains(&hint.text), "{text}");
    (hint.name, hint.text)
}

/// How long a packet is.
fn length() -> Code {
    code![
        load(R2, R1.get(xdp_md::data)),
        load(R3, R1.get(xdp_md::data_end)),
        sub(R3, R2),
        and(R3, 1),
        mov(R0, XDP_PASS),
        add(R0, R3),
        and(R0, 3),
        exit(),
    ]
}

#[test]
fn what_pointers_may_do_depends_on_perfmon() {
    needs!(Root);
    let (name, text) = refusal("length", length());
    assert_eq!(name, "perfmon");
    assert!(text.starts_with("CAP_PERFMON is missing"), "{text}");
    let compared = code![
        mov(R2, R10),
        add(R2, -8),
        R2.eq(5).then(ret(XDP_DROP)),
        ret(XDP_PASS),
    ];
    assert_eq!(refusal("compared", compared).0, "perfmon");
    let cut = code![mov(W2, W1), ret(XDP_PASS)];
    assert_eq!(refusal("cut", cut).0, "perfmon");
}

#[test]
fn without_any_it_is_said_which_are_needed() {
    needs!(Root);
    let program = Program::new(ProgType::XDP, "pass", code![ret(XDP_PASS)]).unwrap();
    let error = with(Caps::empty(), || Load::new(&program).load().unwrap_err());
    assert_eq!(error.errno(), Some(Errno::EPERM));
    let text = error.to_string();
    for capability in [
        "CAP_BPF",
        "CAP_NET_ADMIN",
        "CAP_PERFMON",
    ] {
        assert!(text.contains(capability), "{text}");
    }
}
