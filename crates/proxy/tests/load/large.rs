//! A configuration of ten thousand listeners: it is right, and how long it takes is told.

use super::{Api, Chance};
use crate::rig::support::people::try_who;
use crate::rig::support::world::{LIMIT, World};
use crate::rig::{Daemon, number};
use bpfsmith_gate::{is_long, needs};
use bpfsmith_net::Node;
use bpfsmith_proxy::http::Method;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Machines that backends are on.
const MACHINES: u32 = 4;

/// Backends of each group.
const SHARE: u32 = 10;

/// Routes of each listener.
const ROUTES: u32 = 10;

struct Size {
    listeners: u32,
    backends: u32,
}

fn narrow<T: TryFrom<u32>>(number: u32) -> T {
    T::try_from(number).ok().expect("a small number")
}

impl Size {
    fn groups(&self) -> u32 {
        self.backends / SHARE
    }

    fn backend(number: u32) -> SocketAddr {
        let machine: u8 = narrow(number % MACHINES);
        let port = 9000 + narrow::<u16>(number / MACHINES);
        SocketAddr::new(Ipv4Addr::new(10, 20, machine, 2).into(), port)
    }

    fn listener(number: u32) -> SocketAddr {
        let ip = Ipv4Addr::new(10, 99, narrow(number / 250), narrow(number % 250 + 1));
        SocketAddr::new(IpAddr::from(ip), 80)
    }

    /// The group of a listener's route; that of the listener itself comes before the first.
    fn group(&self, listener: u32, route: u32) -> u32 {
        (listener + route) % self.groups()
    }

    /// The second client is led elsewhere by the last of a listener's routes, and networks that nobody is in by others.
    fn text(&self) -> String {
        let mut text = String::new();
        for number in 0..self.listeners {
            let at = Size::listener(number).ip();
            let group = self.group(number, 0);
            let head = "\n[[proxies]]\nname = \"p";
            writeln!(
                text,
                "{head}{number}\"\naddress = \"{at}\"\nport = 80\ngroup = \"g{group}\""
            )
            .unwrap();
            text += "routes = [\n";
            for route in 1..=ROUTES {
                let source = match route {
                    ROUTES => "10.10.0.11".to_owned(),
                    _ => format!("172.{}.{}.0/24", 16 + route, number % 256),
                };
                let group = self.group(number, route);
                writeln!(text, "  {{ source = \"{source}\", group = \"g{group}\" }},").unwrap();
            }
            text += "]\n";
        }
        for group in 0..self.groups() {
            let targets = (0..SHARE).map(|it| Size::backend(group * SHARE + it));
            let targets: Vec<String> = targets.map(|it| format!("\"{it}\"")).collect();
            let targets = targets.join(", ");
            writeln!(text, "\n[groups.g{group}]\ntargets = [{targets}]").unwrap();
        }
        text
    }
}

/// Says at each of many ports of one machine which backend it is, until it is over.
fn serve(node: &Node, backends: &[u32], is_over: &AtomicBool) {
    let bind = |number: &u32| (*number, TcpListener::bind(Size::backend(*number)).unwrap());
    let all = || backends.iter().map(bind).collect::<Vec<_>>();
    let listeners = node.run(all).unwrap();
    for (_, listener) in &listeners {
        listener.set_nonblocking(true).unwrap();
    }
    while !is_over.load(Ordering::Acquire) {
        let fds = listeners.iter();
        let fds = fds.map(|(_, it)| PollFd::new(it.as_fd(), PollFlags::POLLIN));
        let mut fds: Vec<PollFd<'_>> = fds.collect();
        poll(&mut fds, PollTimeout::from(50_u8)).unwrap();
        let ready = fds.iter().map(|it| it.any() == Some(true));
        for ((number, listener), is_ready) in listeners.iter().zip(ready) {
            if !is_ready {
                continue;
            }
            let Ok((mut stream, _)) = listener.accept() else {
                continue;
            };
            stream.set_nonblocking(false).unwrap();
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            stream.write_all(format!("b{number}\n").as_bytes()).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            // The client says nothing.
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        }
    }
}

/// Kilobytes of the most memory that a process has had.
fn most_memory(pid: u32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace()
        .skip(1)
        .collect::<Vec<_>>()
        .join(" ")
}

/// How long CPUs have worked for a process: other than the time of a clock, this is the same on a busy machine.
fn worked(pid: u32) -> Duration {
    /// What the kernel counts in, for all programs.
    const TICK: Duration = Duration::from_millis(10);
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // Its name is in parentheses, and may be anything.
    let (_, fields) = text.rsplit_once(") ").unwrap();
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks.map(|it| TICK * it.parse::<u32>().unwrap()).sum()
}

/// Bytes of all maps that a process holds.
fn map_memory(pid: u32) -> u64 {
    let mut maps = std::collections::BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap() {
        let Ok(text) = fs::read_to_string(entry.unwrap().path()) else {
            continue;
        };
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().parse::<u64>().ok()
        };
        if let (Some(id), Some(bytes)) = (value("map_id:"), value("memlock:")) {
            maps.insert(id, bytes);
        }
    }
    maps.values().sum()
}

struct Over<'l>(&'l AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn large() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let size = match is_long() {
        true => Size {
            listeners: 10_000,
            backends: 1000,
        },
        false => Size {
            listeners: 1000,
            backends: 200,
        },
    };
    let world = World::new(2, narrow(MACHINES));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _over = Over(&is_over);
        for (machine, host) in (0..MACHINES).zip(&world.backends) {
            let own = (0..size.backends).filter(|it| it % MACHINES == machine);
            let own: Vec<u32> = own.collect();
            let is_over = &is_over;
            scope.spawn(move || serve(&host.node, &own, is_over));
        }
        act(&world, &size);
    });
}

fn act(world: &World, size: &Size) {
    let mut daemon = Daemon::prepare(world, &size.text());
    let file = daemon.config();
    let told = |what: &str, time: Duration| println!("large: {what}: {time:?}");
    println!(
        "large: {} listeners, {} routes, {} backends: {} bytes",
        size.listeners,
        size.listeners * ROUTES,
        size.backends,
        fs::metadata(&file).unwrap().len()
    );
    let begun = Instant::now();
    daemon.ok(&["check", file.to_str().unwrap()]);
    told("check", begun.elapsed());
    let begun = Instant::now();
    daemon.restart();
    told("start", begun.elapsed());
    println!("large: that had {} at most", most_memory(daemon.pid()));
    let sample = |chance: &mut Chance| {
        for _ in 0..200 {
            let number = u32::try_from(chance.below(size.listeners.into())).unwrap();
            for (client, route) in [(0, 0), (1, ROUTES)] {
                let group = size.group(number, route);
                let to = Size::listener(number);
                let name = try_who(&world.clients[client].node, to);
                let name = name.unwrap_or_else(|error| panic!("{to}: {error}"));
                let backend: u32 = name[1..].parse().unwrap();
                assert_eq!(
                    backend / SHARE,
                    group,
                    "client {client} at p{number}: {name}"
                );
            }
        }
    };
    let mut chance = Chance::new("large");
    sample(&mut chance);
    let api = Api::of(&daemon);
    let pid = daemon.pid();
    let told_of = |what: &str, (begun, before): (Instant, Duration)| {
        let (time, work) = (begun.elapsed(), worked(pid).saturating_sub(before));
        println!("large: {what}: {time:?}, of which the daemon worked {work:?}");
    };
    let begin = || (Instant::now(), worked(pid));
    let weigh = |weight: u32| {
        let targets = (0..SHARE).map(|it| {
            let weight = if it == 0 { weight } else { 1 };
            format!(
                r#"{{"address": "{}", "weight": {weight}}}"#,
                Size::backend(it)
            )
        });
        let targets: Vec<String> = targets.collect();
        let body = format!(r#"{{"targets": [{}]}}"#, targets.join(", "));
        let begun = begin();
        let turn = api.ok(Method::PATCH, &["v1", "groups", "g0"], Some(&body));
        told_of("a change of one weight", begun);
        println!(
            "large: of that in the kernel's part: {:?} ms",
            turn.get("milliseconds").map(|it| &it.kind)
        );
    };
    weigh(3);
    weigh(5);
    for (what, path) in [
        ("status", &["v1", "status"][..]),
        ("metrics", &["metrics"]),
    ] {
        let begun = begin();
        let reply = api.ask(Method::GET, path, None).unwrap();
        assert!(reply.is_success(), "{what}: {}", reply.status);
        told_of(what, begun);
    }
    let begun = begin();
    api.ok(Method::POST, &["v1", "reload"], None);
    told_of("reload, which takes the weight back", begun);
    println!(
        "large: the daemon had {} at most, and its maps have {} KiB",
        most_memory(pid),
        map_memory(pid) / 1024
    );
    daemon.kill9();
    let begun = Instant::now();
    daemon.restart();
    told("start, going on with what is there", begun.elapsed());
    println!(
        "large: adopted by process {}",
        number(&daemon.status(), &["pid"])
    );
    sample(&mut chance);
}
