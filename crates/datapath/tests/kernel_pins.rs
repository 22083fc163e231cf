//! What has names goes on without the handles that made it, is adopted, changed and taken away.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

mod support;

use bpfsmith_asm::dsl::*;
use bpfsmith_datapath::IfIndex;
use bpfsmith_datapath::attach::Attached;
use bpfsmith_datapath::choice::{Obstacle, Wish, Xdp};
use bpfsmith_datapath::config::{Config, Events, Mode, Room};
use bpfsmith_datapath::error::Error;
use bpfsmith_datapath::event::{Event, Kind as Told, What};
use bpfsmith_datapath::events::Events as Reader;
use bpfsmith_datapath::generation::Generation;
use bpfsmith_datapath::look::Look;
use bpfsmith_datapath::pins::{Adopted, Pins, Removed};
use bpfsmith_datapath::reason::Reason;
use bpfsmith_gate::{Need, State, deadline, is_slow, needs};
use bpfsmith_maps::Handle;
use bpfsmith_net::{Device, Kind, Netlink};
use bpfsmith_prog::target::Tcx;
use bpfsmith_prog::{Link, Load, Prog};
use bpfsmith_sys::rights::{self, Caps};
use bpfsmith_uapi::map::MapDef;
use bpfsmith_uapi::{AttachType, Errno};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use support::kept::{Home, at_proxy, config, devices, keep};
use support::people::{Server, Session, try_who, who, who_udp};
use support::serving::{SERVED, asked, sources};
use support::world::{LIMIT, World};

const ALL: [&str; 3] = ["front", "back0", "back1"];

/// How many programs are on what a device receives.
fn programs(device: IfIndex) -> usize {
    Tcx::ingress(device).query().unwrap().progs.len()
}

#[track_caller]
fn kept(world: &World, home: &Home, backends: &[u8], names: &[&str]) -> (Generation, Attached) {
    at_proxy(world, || {
        let pins = home.pins();
        let config = config(&pins.adopted().unwrap(), backends);
        keep(&pins, &config, &devices(names)).unwrap_or_else(|error| panic!("{error}"))
    })
}

#[test]
fn it_goes_on_without_its_handles_and_is_adopted_with_another_configuration() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let (world, home) = (World::new(1, 2), Home::new());
    let servers = world.serve(SERVED);
    let node = &world.client().node;
    let mut sessions = Vec::new();
    {
        let (generation, _attached) = kept(&world, &home, &[0], &ALL);
        for to in asked() {
            sessions.push(Session::open(node, to).unwrap());
        }
        assert!(generation.counters().unwrap()[&Reason::Opened] >= 2);
    }
    for session in &mut sessions {
        assert_eq!(session.server, servers[0].name);
        session.echo(b"nobody holds it").unwrap();
    }
    for to in asked() {
        assert_eq!(who(node, to), "b0");
        assert_eq!(who_udp(node, to), "b0");
    }
    let known = home.pins().adopted().unwrap();
    assert_eq!(known.backends.len(), 2);
    assert_eq!(known.listeners.len(), 4);
    let links = home.names();
    let (generation, attached) = kept(&world, &home, &[1], &ALL);
    assert_eq!(attached.choices().len(), 3);
    for choice in attached.choices() {
        // Programs of the same proxy are nobody else's.
        assert_eq!(choice.notes, [], "{choice}");
    }
    for (session, to) in sessions.iter_mut().zip(asked()) {
        session.echo(b"the old ones stay where they are").unwrap();
        assert_eq!(who(node, to), "b1");
    }
    // From the first generation on.
    assert!(generation.counters().unwrap()[&Reason::Opened] >= 8);
    let now = home.pins_of(&attached, &generation);
    assert_eq!(now.backends.len(), 4);
    for (number, address) in &known.backends {
        assert_eq!(now.backends.get(number), Some(address));
    }
    assert_eq!(now.listeners, known.listeners);
    let renamed = |name: &str| name.replace("generations/2/", "generations/1/");
    let names: Vec<String> = home.names().iter().map(|it| renamed(it)).collect();
    assert_eq!(names, links);
    for session in sessions {
        session.end().unwrap();
    }
}

impl Home {
    fn pins_of(&self, _attached: &Attached, generation: &Generation) -> Adopted {
        let pins = generation.pins().unwrap();
        assert_eq!(pins.path(), self.dir());
        pins.adopted().unwrap()
    }
}

#[test]
fn detaching_leaves_nothing_but_what_others_put_there() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let (world, home) = (World::new(1, 2), Home::new());
    let _servers = world.serve(SERVED);
    let foreign = Program::new(ProgType::SCHED_CLS, "foreign", code![ret(-1)]).unwrap();
    let load = Load::new(&foreign).attach_type(AttachType::TCX_INGRESS);
    let foreign = load.load().unwrap();
    let front = world.proxy.front.index;
    let put =
        |prog: &Prog| -> Link { at_proxy(&world, || prog.attach(&Tcx::ingress(front))).unwrap() };
    let _link = put(&foreign);
    let count = |device: IfIndex| at_proxy(&world, || programs(device));
    // By hand, and by who comes later.
    let (generation, attached) = kept(&world, &home, &[0, 1], &ALL);
    assert_eq!(count(front), 2);
    attached.detach().unwrap();
    assert_eq!((count(front), home.dir().exists()), (1, false));
    assert_eq!(count(world.proxy.backs[0].index), 0);
    drop(generation);
    drop(kept(&world, &home, &[0, 1], &ALL));
    assert_eq!(who(&world.client().node, asked()[0])[..1], *"b");
    let removed = home.pins().detach().unwrap();
    assert_eq!(removed.links, 3);
    assert!(removed.maps > 10, "{removed:?}");
    assert_eq!((count(front), home.dir().exists()), (1, false));
    assert_eq!(home.pins().detach().unwrap(), Removed::default());
    assert!(try_who(&world.client().node, asked()[0]).is_err());
}

#[test]
fn devices_come_and_go() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let (world, home) = (World::new(1, 2), Home::new());
    let _servers = world.serve(SERVED);
    let [to, _] = asked();
    let node = &world.client().node;
    for is_kept in [false, true] {
        let first = at_proxy(&world, || match is_kept {
            true => Generation::kept(&home.pins(), &config(&Adopted::default(), &[0])),
            false => Generation::first(&config(&Adopted::default(), &[0])),
        });
        let first = first.unwrap();
        let new = |names: &[&str]| Attached::new(&Look::here()?, &first, &devices(names));
        let mut attached = at_proxy(&world, || new(&ALL[..2])).unwrap();
        let counts = || {
            at_proxy(&world, || {
                devices(&ALL).iter().map(|it| programs(it.0)).collect()
            })
        };
        let counts = || -> Vec<usize> { counts() };
        assert_eq!(counts(), [1, 1, 0]);
        let mut old = Session::open(node, to).unwrap();
        let known = config_known(&first, is_kept);
        let second = first.next(&config(&known, &[1])).unwrap();
        let on = |attached: &mut Attached, generation: &Generation, names: &[&str]| {
            at_proxy(&world, || {
                attached.replace_on(&Look::here()?, generation, &devices(names))
            })
        };
        assert_eq!(on(&mut attached, &second, &ALL).unwrap(), []);
        assert_eq!(counts(), [1, 1, 1]);
        let mut new = Session::open(node, to).unwrap();
        for (session, name) in [(&mut old, "b0"), (&mut new, "b1")] {
            assert_eq!(session.server, name);
            session.echo(b"through old and new devices").unwrap();
        }
        old.end().unwrap();
        // The same generation, on fewer.
        assert_eq!(on(&mut attached, &second, &["front", "back1"]).unwrap(), []);
        assert_eq!(counts(), [1, 0, 1]);
        assert_eq!(attached.choices().len(), 2);
        new.echo(b"still").unwrap();
        // One that is not there, and one that cannot be.
        let names = home.names();
        let nowhere = [(IfIndex(9999), Wish::Visible)];
        let look = at_proxy(&world, || {
            attached.replace_on(&Look::here()?, &second, &nowhere)
        });
        assert_eq!(look.unwrap_err().errno(), Some(Errno::ENODEV));
        let elsewhere = attached.replace_on(&Look::here().unwrap(), &second, &[]);
        assert!(matches!(elsewhere, Err(Error::OtherNamespace)));
        let forwarding = |value| {
            let path = "ipv4/conf/back0/forwarding";
            world.proxy.node.ns.set_sysctl(path, value).unwrap();
        };
        forwarding("0");
        let refused = on(&mut attached, &second, &ALL).unwrap_err();
        let obstacle = matches!(refused, Error::Obstacle(Obstacle::NotForwarding { .. }));
        assert!(obstacle, "{refused}");
        forwarding("1");
        assert_eq!((counts(), home.names()), (vec![1, 0, 1], names));
        new.echo(b"as if nothing had been").unwrap();
        new.end().unwrap();
        attached.detach().unwrap();
        assert_eq!(counts(), [0, 0, 0]);
    }
}

fn config_known(generation: &Generation, is_kept: bool) -> Adopted {
    match generation.pins().filter(|_| is_kept) {
        Some(pins) => pins.adopted().unwrap(),
        None => Adopted {
            // As the first configuration had it.
            backends: config(&Adopted::default(), &[0])
                .backends
                .iter()
                .map(|it| (it.id.0, it.address))
                .collect(),
            listeners: Vec::new(),
        },
    }
}

#[test]
fn what_fails_leaves_programs_and_names_as_they_were() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let (world, home) = (World::new(1, 2), Home::new());
    let _servers = world.serve(SERVED);
    let node = &world.client().node;
    let [to, _] = asked();
    let (generation, mut attached) = kept(&world, &home, &[0], &ALL);
    let mut session = Session::open(node, to).unwrap();
    let names = home.names();
    let ids = || -> Vec<u32> {
        at_proxy(&world, || {
            let progs = |it: &(IfIndex, Wish)| Tcx::ingress(it.0).query().unwrap().progs;
            devices(&ALL).iter().flat_map(progs).collect()
        })
    };
    let before = ids();
    // The last device in the row has no room: links, then programs, then names are taken back.
    let mut full = Vec::new();
    let pass = Program::new(ProgType::SCHED_CLS, "pass", code![ret(-1)]).unwrap();
    let back1 = world.proxy.backs[1].index;
    at_proxy(&world, || {
        let egress = Tcx::egress(back1);
        loop {
            let load = Load::new(&pass).attach_type(AttachType::TCX_EGRESS);
            match load.load().unwrap().attach(&egress) {
                Ok(link) => full.push(link),
                Err(error) => break assert_eq!(error.errno(), Some(Errno::ERANGE), "{error}"),
            }
        }
    });
    let mut next = config(&generation.pins().unwrap().adopted().unwrap(), &[1]);
    // A backend of the proxy's own: a program for what leaves, and one place too few for it.
    for (family, address) in world.proxy.backs[0].addresses().into_iter().enumerate() {
        let id = next.groups[family].members[0].backend;
        let backend = next.backends.iter_mut().find(|it| it.id == id).unwrap();
        backend.address.set_ip(address);
    }
    let next = generation.next(&next).unwrap();
    let error = attached.replace(&next).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::ERANGE), "{error}");
    assert_eq!((ids(), home.names()), (before.clone(), names.clone()));
    assert_eq!(who(node, to), "b0");
    session.echo(b"the old ones work").unwrap();
    // The same where it is adopted.
    drop((attached, generation, next));
    let error = at_proxy(&world, || {
        let pins = home.pins();
        let mut next = config(&pins.adopted().unwrap(), &[0]);
        for (family, address) in world.proxy.backs[0].addresses().into_iter().enumerate() {
            let id = next.groups[family].members[0].backend;
            let backend = next.backends.iter_mut().find(|it| it.id == id).unwrap();
            backend.address.set_ip(address);
        }
        keep(&pins, &next, &devices(&ALL)).unwrap_err()
    });
    assert_eq!(error.errno(), Some(Errno::ERANGE), "{error}");
    assert_eq!((ids(), home.names()), (before, names));
    drop(full);
    session.echo(b"and work").unwrap();
    let (_generation, attached) = kept(&world, &home, &[1], &ALL);
    assert_eq!(who(node, to), "b1");
    session.echo(b"and know it").unwrap();
    session.end().unwrap();
    attached.detach().unwrap();
}

#[test]
fn there_is_one_at_a_time() {
    needs!(Root, Tcx, Bpffs);
    let home = Home::new();
    let first = home.pins();
    let error = Pins::open(home.dir()).unwrap_err();
    assert!(
        matches!(error, Error::Busy { process: Some(id), .. } if id == std::process::id()),
        "{error}"
    );
    assert!(error.to_string().contains("end that first"), "{error}");
    let clone = first.clone();
    drop(first);
    assert!(matches!(Pins::open(home.dir()), Err(Error::Busy { .. })));
    drop(clone);
    home.pins();
}

#[test]
fn a_directory_that_is_not_for_names_says_what_to_do() {
    needs!(Root, Tcx, Bpffs);
    let home = Home::new();
    let outside = std::env::temp_dir().join("bs-pins-none");
    let error = Pins::open(&outside).unwrap_err();
    assert!(matches!(error, Error::NotBpffs { .. }), "{error}");
    assert!(error.to_string().contains("mount -t bpf bpf "), "{error}");
    assert!(!outside.exists());
    let deep = home.dir().join("a/b");
    let error = Pins::open(&deep).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::ENOENT), "{error}");
    use std::os::unix::fs::PermissionsExt;
    drop(home.pins());
    let about = std::fs::metadata(home.dir()).unwrap();
    assert_eq!(about.permissions().mode() & 0o777, 0o700);
    std::fs::set_permissions(home.dir(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let error = Pins::open(home.dir()).unwrap_err();
    assert!(matches!(error, Error::Unsafe { .. }), "{error}");
}

/// Where it cannot be, it is said before anything is done.
#[test]
fn an_older_kernel_is_named() {
    needs!(Root, Bpffs);
    if Need::Tcx.state() == State::Here {
        return;
    }
    let home = Home::new();
    let error = Pins::open(home.dir()).unwrap_err();
    assert!(matches!(error, Error::OldKernel), "{error}");
    assert!(error.to_string().contains("Linux 6.6"), "{error}");
    assert!(!home.dir().exists());
}

#[test]
fn what_is_not_of_this_version_is_refused() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let (world, home) = (World::new(1, 2), Home::new());
    let _servers = world.serve(SERVED);
    let node = &world.client().node;
    drop(kept(&world, &home, &[0], &ALL));
    let adopt = || -> Error {
        at_proxy(&world, || {
            let pins = home.pins();
            let config = config(&Adopted::default(), &[0]);
            keep(&pins, &config, &devices(&ALL)).unwrap_err()
        })
    };
    let maps = home.dir().join("v1/maps");
    let swap = |name: &str, def: &dyn Fn() -> Handle| {
        let (path, aside) = (maps.join(name), home.dir().join("aside"));
        std::fs::rename(&path, &aside).unwrap();
        def().pin(&path).unwrap();
        let error = adopt();
        assert!(
            matches!(&error, Error::OtherShape { path: at, .. } if *at == path),
            "{error}"
        );
        assert!(error.to_string().contains("detach first"), "{error}");
        std::fs::rename(&aside, &path).unwrap();
    };
    swap("counters", &|| {
        let other = MapDef::<u32, u64>::array("counters", 3);
        Handle::create(other.shape()).unwrap()
    });
    swap("flows4_tcp", &|| {
        let other = MapDef::<u32, [u8; 640]>::array("flows4_tcp", 7);
        Handle::create(other.shape()).unwrap()
    });
    // One of the names is lost, of another layout, or of nobody.
    let (secret, aside) = (maps.join("secret"), home.dir().join("aside"));
    std::fs::rename(&secret, &aside).unwrap();
    let error = adopt();
    assert!(matches!(error, Error::Incomplete { .. }), "{error}");
    std::fs::rename(&aside, &secret).unwrap();
    let other = home.dir().join("v2");
    std::fs::create_dir(&other).unwrap();
    let error = adopt();
    assert!(
        matches!(&error, Error::OtherLayout { found, .. } if found == "v2"),
        "{error}"
    );
    std::fs::remove_dir(&other).unwrap();
    let strange = home.dir().join("v1/links/strange");
    std::fs::create_dir(&strange).unwrap();
    let error = adopt();
    assert!(
        error.errno().is_some() || matches!(error, Error::Foreign { .. }),
        "{error}"
    );
    std::fs::remove_dir(&strange).unwrap();
    // All the time it works.
    assert_eq!(who(node, asked()[0]), "b0");
    std::fs::create_dir(&other).unwrap();
    assert_eq!(home.pins().detach().unwrap().links, 3);
    assert!(!home.dir().exists());
}

#[test]
fn another_namespace_s_devices_are_not_taken_for_these() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let (world, home) = (World::new(1, 2), Home::new());
    let twin = World::new(1, 2);
    let _servers = world.serve(SERVED);
    drop(kept(&world, &home, &[0], &ALL));
    let error = at_proxy(&twin, || {
        let config = config(&Adopted::default(), &[0]);
        keep(&home.pins(), &config, &devices(&ALL)).unwrap_err()
    });
    assert!(matches!(error, Error::Elsewhere { .. }), "{error}");
    assert_eq!(who(&world.client().node, asked()[0]), "b0");
    // From anywhere.
    assert_eq!(home.pins().detach().unwrap().links, 3);
}

/// Names are given in an order, and a process may be killed after each of them.
#[test]
fn a_first_start_that_was_broken_off_is_gone_on_with() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let (world, home) = (World::new(1, 1), Home::new());
    let _servers = world.serve(SERVED);
    let node = &world.client().node;
    let order: Vec<&str> =
        "secret backend_flows swept sweeper counters settings devices flows4_tcp flows4_udp \
        flows6_tcp flows6_udp"
            .split_whitespace()
            .collect();
    let step = if is_slow() { 4 } else { 1 };
    for has in (0..=order.len()).rev().step_by(step) {
        drop(kept(&world, &home, &[0], &ALL[..2]));
        let all = home.names();
        let is_kept = |name: &str| {
            order[..has].iter().any(|it| name == format!("v1/maps/{it}"))
                // Numbers of a generation that was on its way.
                || has == order.len() && name.ends_with("/backends")
        };
        assert!(
            order
                .iter()
                .all(|it| all.contains(&format!("v1/maps/{it}")))
        );
        for name in all.iter().filter(|name| !is_kept(name)) {
            std::fs::remove_file(home.dir().join(name)).unwrap();
        }
        let (_generation, attached) = kept(&world, &home, &[0], &ALL[..2]);
        assert_eq!(who(node, asked()[0]), "b0");
        let now = home
            .names()
            .iter()
            .filter(|it| it.contains("generations"))
            .count();
        assert_eq!((home.names().len(), now), (all.len(), 4));
        attached.detach().unwrap();
    }
}

/// What tables a later configuration has, where an earlier one had others.
#[test]
fn tables_stay_as_large_as_they_are() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let (world, home) = (World::new(1, 1), Home::new());
    let _servers = world.serve(SERVED);
    let mut first = config(&Adopted::default(), &[0]);
    first.sources = sources();
    first.groups[0].mode = Mode::FullNat;
    first.events = Some(Events {
        bytes: 1 << 16,
        ..Events::default()
    });
    let small = first.room;
    let keep_it = |config: &Config| {
        at_proxy(&world, || {
            keep(&home.pins(), config, &devices(&ALL[..2])).unwrap()
        })
    };
    drop(keep_it(&first));
    let mut other = config(&Adopted::default(), &[0]);
    other.listeners.retain(|it| it.address.is_ipv4());
    other.room = Room::default();
    let (second, _attached) = keep_it(&other);
    let shape = second.shape();
    assert!(
        small.flows.abs_diff(shape.room.flows) < 12,
        "{:?}",
        shape.room
    );
    // Flows outlive listeners.
    assert_eq!(shape.paths.len(), 4);
    assert!(shape.modes.contains(&Mode::FullNat));
    assert_eq!(shape.events, None);
    other.events = Some(Events::default());
    let third = second.next(&other).unwrap();
    assert_eq!(third.shape().events.map(|it| it.bytes), Some(1 << 16));
    assert_eq!(who(&world.client().node, asked()[0]), "b0");
}

#[test]
fn events_that_nobody_read_are_read_by_who_comes_later() {
    needs!(NetNs, Veth, Tcx, Bpffs, RingBuf);
    let (world, home) = (World::new(1, 1), Home::new());
    let _servers = world.serve(SERVED);
    let node = &world.client().node;
    let mut telling = config(&Adopted::default(), &[0]);
    telling.events = Some(Events::default());
    let keep_it = || {
        at_proxy(&world, || {
            keep(&home.pins(), &telling, &devices(&ALL[..2])).unwrap()
        })
    };
    {
        let (generation, _attached) = keep_it();
        generation.want(&[Told::New]).unwrap();
    }
    let opened = Session::open(node, asked()[0]).unwrap();
    let (generation, _attached) = keep_it();
    let mut reader = Reader::open(&generation).unwrap();
    let mut seen = Vec::new();
    deadline(LIMIT, || {
        let each = |event: Event| {
            if matches!(event.what, What::New(_)) {
                seen.push(event.client);
            }
            ControlFlow::Continue(())
        };
        reader.read(each).unwrap();
        (!seen.is_empty()).then_some(())
    });
    assert_eq!(seen, [opened.local()]);
}

/// A device goes, and another one comes.
#[test]
fn names_of_devices_that_are_gone_are_given_up() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let (world, home) = (World::new(1, 2), Home::new());
    let _servers = world.serve(SERVED);
    let node = &world.client().node;
    let (generation, mut attached) = kept(&world, &home, &[0], &ALL);
    let links = || -> Vec<String> {
        let mut names = home.names();
        names.retain(|name| name.contains("links"));
        names
    };
    let again = || {
        at_proxy(&world, || {
            let net = Netlink::open().unwrap();
            net.delete_link(net.link("back1").unwrap().index).unwrap();
            let pair = Kind::Veth(Device::new("far"));
            net.add_link(&Device::new("back1"), &pair).unwrap();
            net.link("back1").unwrap().index
        })
    };
    let new = again();
    assert_eq!(links().len(), 3);
    // While it runs.
    let lost = attached.replace(&generation).unwrap();
    let lost: Vec<IfIndex> = lost.iter().map(|it| it.device).collect();
    assert_eq!(lost, [world.proxy.backs[1].index]);
    assert_eq!(links().len(), 2);
    let on = |attached: &mut Attached| {
        at_proxy(&world, || {
            attached.replace_on(&Look::here()?, &generation, &devices(&ALL))
        })
    };
    assert_eq!(on(&mut attached).unwrap(), []);
    assert!(links().contains(&format!("v1/links/{}-tcx", new.0)));
    // Those that are named: the one that is gone is not.
    again();
    assert_eq!(on(&mut attached).unwrap(), []);
    assert_eq!((links().len(), attached.choices().len()), (3, 3));
    // By who comes later.
    drop((attached, generation));
    let new = again();
    let (_generation, attached) = kept(&world, &home, &[0], &ALL);
    assert_eq!(at_proxy(&world, || programs(new)), 1);
    assert_eq!((links().len(), attached.choices().len()), (3, 3));
    assert_eq!(who(node, asked()[0]), "b0");
    attached.detach().unwrap();
}

/// With each wish, in this order, on all devices: by the same process, and by one after the other.
#[test]
fn programs_in_drivers_are_adopted_and_change_places() {
    needs!(NetNs, Veth, Tcx, Bpffs, XdpFrags);
    let (world, home) = (World::new(1, 1), Home::new());
    world.suit_xdp();
    let _servers = world.serve(SERVED);
    let node = &world.client().node;
    let [to, _] = asked();
    let wish = |wish: Wish| devices(&ALL[..2]).into_iter().map(move |it| (it.0, wish));
    let mut session = None;
    let mut check = |attached: &Attached, xdp: Option<Xdp>| {
        let session = session.get_or_insert_with(|| Session::open(node, to).unwrap());
        session.echo(b"by whatever programs").unwrap();
        assert_eq!(who(node, to), "b0");
        for choice in attached.choices() {
            assert_eq!(choice.xdp, xdp, "{choice}");
        }
        let links = home.names().into_iter();
        let links: Vec<String> = links.filter(|it| it.contains("links")).collect();
        let of = |name: &str| links.iter().filter(|it| it.ends_with(name)).count();
        let has = |it: Xdp| if xdp == Some(it) { 2 } else { 0 };
        let counts = [
            of("-tcx"),
            of("-native"),
            of("-generic"),
        ];
        assert_eq!(counts, [2, has(Xdp::Native), has(Xdp::Generic)]);
    };
    let row = [
        (Wish::Native, Some(Xdp::Native)),
        (Wish::Native, Some(Xdp::Native)),
        (Wish::Generic, Some(Xdp::Generic)),
        (Wish::Visible, None),
        (Wish::Native, Some(Xdp::Native)),
    ];
    for (wanted, xdp) in row {
        let (_generation, attached) = at_proxy(&world, || {
            let devices: Vec<_> = wish(wanted).collect();
            keep(&home.pins(), &config(&Adopted::default(), &[0]), &devices).unwrap()
        });
        check(&attached, xdp);
    }
    let (generation, mut attached) = at_proxy(&world, || {
        let devices: Vec<_> = wish(Wish::Native).collect();
        keep(&home.pins(), &config(&Adopted::default(), &[0]), &devices).unwrap()
    });
    for (wanted, xdp) in row {
        let replaced = at_proxy(&world, || {
            let devices: Vec<_> = wish(wanted).collect();
            attached.replace_on(&Look::here()?, &generation, &devices)
        });
        assert_eq!(replaced.unwrap(), []);
        check(&attached, xdp);
    }
    attached.detach().unwrap();
}

/// What was there of the same proxy is no reason for another choice, nor are its programs for what leaves.
#[test]
fn who_adopts_chooses_as_who_was_first() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let (world, home) = (World::new(1, 1), Home::new());
    let own = world.proxy.backs[0].addresses();
    let at = own.map(|ip| SocketAddr::new(ip, SERVED));
    let _local = Server::start(&world.proxy.node, "local", &at);
    let mut config = config(&Adopted::default(), &[0]);
    for (backend, own) in config.backends.iter_mut().zip(own) {
        backend.address.set_ip(own);
    }
    let choices = || {
        let (_generation, attached) = at_proxy(&world, || {
            let devices = devices(&ALL[..2]).into_iter().map(|it| (it.0, Wish::Best));
            let devices: Vec<_> = devices.collect();
            keep(&home.pins(), &config, &devices).unwrap()
        });
        assert_eq!(attached.on(world.proxy.front.index).count(), 2);
        attached.choices().to_vec()
    };
    let first = choices();
    assert!(first.iter().all(|choice| choice.goes_to_peer));
    assert_eq!(choices(), first);
    for to in asked() {
        assert_eq!(who(&world.client().node, to), "local");
    }
    assert_eq!(home.pins().detach().unwrap().links, 4);
}

/// What is taken over is changed without the right to open programs by their numbers; only the way back takes it.
#[test]
fn three_capabilities_are_enough_to_adopt() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let (world, home) = (World::new(1, 2), Home::new());
    let _servers = world.serve(SERVED);
    let node = &world.client().node;
    let [to, _] = asked();
    drop(kept(&world, &home, &[0], &ALL));
    let mut session = Session::open(node, to).unwrap();
    let with = |backends: &[u8]| {
        at_proxy(&world, || {
            rights::keep(Caps::BPF | Caps::NET_ADMIN | Caps::PERFMON).unwrap();
            let pins = home.pins();
            let config = config(&pins.adopted().unwrap(), backends);
            keep(&pins, &config, &devices(&ALL))
        })
    };
    drop(with(&[1]).unwrap_or_else(|error| panic!("{error}")));
    session
        .echo(b"adopted by somebody with few rights")
        .unwrap();
    assert_eq!(who(node, to), "b1");
    session.end().unwrap();
    // They take it away, too.
    let removed = at_proxy(&world, || {
        rights::keep(Caps::BPF | Caps::NET_ADMIN | Caps::PERFMON).unwrap();
        home.pins().detach()
    });
    assert_eq!(removed.unwrap().links, 3);
}
