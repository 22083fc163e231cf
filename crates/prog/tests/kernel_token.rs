//! Rights lent to a user namespace. There is no harness around these tests: one runs this file again
//! as the borrower, and only a process with one thread may enter a user namespace.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use bpfsmith_asm::dsl::*;
use bpfsmith_gate::{deadline, needs};
use bpfsmith_maps::{Handle, Map, Options};
use bpfsmith_net::{IfIndex, Netlink};
use bpfsmith_prog::target::Xdp;
use bpfsmith_prog::{Error, Load, Maps};
use bpfsmith_sys::{delegate, misc};
use nix::sched::{CloneFlags, unshare};
use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Tells the child that it is the borrower.
const ROLE: &str = "BS_TOKEN_ROLE";
/// What the child says when it has opened the file system, before the number.
const OPENED: &str = "bs-token opened ";

static SEEN: MapDef<u32, u64> = MapDef::array("bs_token_seen", 1).described();
static TOTAL: Global<u64> = Global::bss("total");

/// Counts packets in a map and in global data, and drops none.
fn count() -> Code {
    code![
        kit::map::count_at(&SEEN, 0, 1),
        ld_global(R1, &TOTAL),
        mov(R2, 1),
        atomic_add(R1.u64(0), R2),
        ret(XDP_PASS),
    ]
}

fn main() {
    if std::env::var_os(ROLE).is_some() {
        return borrow();
    }
    let tests: [(&str, fn()); 2] = [
        (
            "a_token_lends_what_was_delegated_and_no_more",
            a_token_lends_what_was_delegated_and_no_more,
        ),
        (
            "a_descriptor_that_is_no_token_is_refused",
            a_descriptor_that_is_no_token_is_refused,
        ),
    ];
    let wanted = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    for (name, test) in tests {
        if wanted.as_ref().is_none_or(|wanted| name.contains(wanted)) {
            test();
            println!("test {name} ... ok");
        }
    }
}

fn a_token_lends_what_was_delegated_and_no_more() {
    needs!(Root, Token);
    let mut child = Command::new("/proc/self/exe")
        .env(ROLE, "borrower")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lent = lend(&mut child);
    // It ends also where lending failed: its next read answers nothing.
    drop(child.stdin.take());
    let status = child.wait().unwrap();
    lent.unwrap_or_else(|why| panic!("{why}, the borrower: {status}"));
    assert!(status.success(), "the borrower: {status}");
}

/// Configures the child's file system: all commands and maps, but of programs only XDP.
fn lend(child: &mut Child) -> Result<(), String> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said = lines.map_while(Result::ok);
    let number = said.find_map(|line| {
        let number = line.split_once(OPENED)?.1;
        number.trim().parse::<i32>().ok()
    });
    let number = number.ok_or("it opened no file system")?;
    let failed = |refused: bpfsmith_sys::Refused| refused.to_string();
    let process = misc::pidfd(child.id()).map_err(failed)?;
    let fs = misc::pidfd_take(process.as_fd(), number).map_err(failed)?;
    let xdp = std::ffi::CString::new(format!("{:#x}", 1_u64 << ProgType::XDP.0)).unwrap();
    for (option, value) in [
        (c"delegate_cmds", c"any"),
        (c"delegate_maps", c"any"),
        (c"delegate_progs", xdp.as_c_str()),
        (c"delegate_attachs", c"any"),
    ] {
        delegate::set(fs.as_fd(), option, value).map_err(failed)?;
    }
    delegate::create(fs.as_fd()).map_err(failed)?;
    let mut stdin = child.stdin.take().unwrap();
    stdin
        .write_all(b"go\n")
        .map_err(|error| error.to_string())?;
    drop(stdin);
    // What it prints from now on is for people.
    said.for_each(|line| eprintln!("borrower: {line}"));
    Ok(())
}

/// A root of namespaces of its own, without a right outside of them.
fn become_root_of_nothing() {
    unshare(CloneFlags::CLONE_NEWUSER).unwrap();
    std::fs::write("/proc/self/setgroups", "deny").unwrap();
    std::fs::write("/proc/self/uid_map", "0 0 1").unwrap();
    std::fs::write("/proc/self/gid_map", "0 0 1").unwrap();
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).unwrap();
}

fn borrow() {
    become_root_of_nothing();
    let program = Program::new(ProgType::XDP, "count", count()).unwrap();
    let refused = Maps::of(&program).unwrap_err();
    assert_eq!(refused.errno(), Some(Errno::EPERM), "{refused}");

    let fs = delegate::open(c"bpf").unwrap();
    // Not its own to lend.
    let refused = delegate::set(fs.as_fd(), c"delegate_cmds", c"any").unwrap_err();
    assert_eq!((refused.call, refused.errno), ("fsconfig", Errno::EPERM));
    println!("\n{OPENED}{}", fs.as_raw_fd());
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    assert_eq!(line, "go\n", "root lent nothing");
    let dir = delegate::mount(fs.as_fd()).unwrap();
    let token = misc::create_token(dir.as_fd()).unwrap();

    let options = Options {
        token: Some(token.as_fd()),
        ..Options::default()
    };
    let mut maps = Maps::new();
    let shape = SEEN.shape();
    maps.insert(shape.name, Handle::create_with(shape, &options).unwrap());
    let lo = Xdp::on(IfIndex::LOOPBACK).generic();
    let load = Load::new(&program).maps(&maps).token(token.as_fd());
    let prog = load.to(&lo).unwrap().load();
    let prog = prog.unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(prog.account().lines_refused, None);

    Netlink::open().unwrap().set_up(IfIndex::LOOPBACK).unwrap();
    let link = prog.attach(&lo).unwrap();
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let seen: Map<u32, u64> = maps.open(&SEEN).unwrap();
    let send = || {
        let mut packet = [0; 8];
        client
            .send_to(b"counted?", server.local_addr().unwrap())
            .unwrap();
        assert_eq!(server.recv(&mut packet).unwrap(), 8);
    };
    (0..3).for_each(|_| send());
    let counted = || (seen.lookup(&0).unwrap().unwrap() >= 3).then_some(());
    deadline(Duration::from_secs(20), counted);
    let total = prog.read(&TOTAL).unwrap();
    assert!(total >= 3, "{total}");
    link.detach().unwrap();
    let before = prog.read(&TOTAL).unwrap();
    send();
    assert_eq!(prog.read(&TOTAL).unwrap(), before, "detached");

    // Programs of other types were not lent, and without the token nothing was.
    let other = Program::new(ProgType::SCHED_CLS, "other", code![ret(0)]).unwrap();
    for load in [
        Load::new(&other).token(token.as_fd()),
        Load::new(&program).maps(&maps),
    ] {
        let error = load.load().unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EPERM), "{error}");
        let text = error.to_string();
        assert!(text.contains("CAP_BPF") || text.contains("oken"), "{text}");
    }
}

fn a_descriptor_that_is_no_token_is_refused() {
    needs!(Root, Token);
    let program = Program::new(ProgType::XDP, "pass", code![ret(XDP_PASS)]).unwrap();
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let error = Load::new(&program).token(file.as_fd()).load().unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EINVAL), "{error}");
    let Error::Refused(_) = error else {
        panic!("{error}")
    };
}
