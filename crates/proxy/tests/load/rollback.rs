//! What cannot be applied is not, and traffic goes on as before.

use super::model::{self, FILE, Model};
use super::{Api, Chance, Load, under_load};
use crate::rig::support::world::{LIMIT, World};
use crate::rig::{Daemon, SERVED};
use bpfsmith_gate::{deadline, is_long, needs};
use bpfsmith_net::{Device, Kind};
use bpfsmith_proxy::http::Method;
use std::fs;
use std::process::Command;

/// A change of which the kernel gets to see all: other programs, other tables.
pub(super) const CHANGE: [&str; 2] = [
    r#"{"targets": ["10.20.2.2:8080"], "algorithm": "turns"}"#,
    r#"{"targets": ["10.20.0.2:8080", "10.20.1.2:8080"], "algorithm": "maglev"}"#,
];

/// Only the third backend answers, or those of the file do.
pub(super) fn allowed(is_third: bool) -> super::Allowed {
    let mut allowed = Model::default().allowed();
    if is_third {
        for client in [0, 1] {
            allowed.insert((client, super::v4(80)), ["b2".to_owned()].into());
        }
    }
    allowed
}

/// Changes from one to the other, which has to go well.
#[track_caller]
pub(super) fn swap(api: &Api, load: &Load<'_>, to_third: bool) {
    load.truth.may_become(&allowed(to_third));
    let body = CHANGE[usize::from(!to_third)];
    api.ok(Method::PATCH, &["v1", "groups", "web"], Some(body));
    load.truth.is(allowed(to_third));
    load.goes_on();
}

/// Changes that make no sense, and tables that no kernel has room for.
#[test]
fn refused_changes() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(2, model::BACKENDS);
    let _servers = world.serve(SERVED);
    let daemon = Daemon::start(&world, FILE);
    let api = Api::of(&daemon);
    let mut chance = Chance::new("refused_changes");
    under_load(&world, allowed(false), &mut chance, |load| {
        let before = daemon.ok(&["config"]);
        let huge = r#"{"rate": 1000000, "burst": 1000000, "room": 4000000000}"#;
        let wrong: [(&[&str], Method, &str, &str); 4] = [
            // The kernel says no to this one, when other maps are there already.
            (
                &[
                    "v1",
                    "values",
                    "settings",
                    "source_limit",
                ],
                Method::PUT,
                huge,
                "E",
            ),
            (
                &["v1", "values", "settings", "sources"],
                Method::PUT,
                "[]",
                "settings.sources",
            ),
            (
                &["v1", "values", "settings", "devices"],
                Method::PUT,
                r#"["bs-none"]"#,
                "bs-none",
            ),
            (
                &["v1", "proxies"],
                Method::POST,
                r#"{"name": "x", "port": 1, "group": "y"}"#,
                "y",
            ),
        ];
        for (path, method, body, word) in wrong {
            let generation = daemon.generation();
            let said = api.fails(method, path, Some(body));
            println!("refused: {}", said.trim());
            assert!(said.contains(word), "{said}");
            assert_eq!(daemon.generation(), generation);
            assert_eq!(daemon.ok(&["config"]), before);
            load.goes_on();
        }
        // It still does what is possible.
        swap(&api, load, true);
        swap(&api, load, false);
        load.all_are_known(&daemon);
    });
}

/// How many descriptors a process may have, from now on.
fn may_have(pid: u32, descriptors: usize) {
    let mut command = Command::new("prlimit");
    command.args(["--pid", &pid.to_string()]);
    let done = command.arg(format!("--nofile={descriptors}:")).status();
    assert!(done.unwrap().success());
}

/// Maps, programs and links each take a descriptor: one after the other is the one that the kernel refuses.
#[test]
fn every_step_fails_once() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(2, model::BACKENDS);
    let _servers = world.serve(SERVED);
    let mut daemon = Daemon::prepare(&world, FILE);
    daemon.restart();
    may_have(daemon.pid(), 1024);
    let mut chance = Chance::new("every_step_fails_once");
    under_load(&world, allowed(false), &mut chance, |load| {
        let pid = daemon.pid();
        let had = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        let api = Api::of(&daemon);
        let (mut refused, mut reasons) = (0, Vec::new());
        for more in (0..).step_by(if is_long() { 1 } else { 4 }) {
            // One of them is the connection that asks.
            may_have(pid, had + 1 + more);
            load.truth.may_become(&allowed(true));
            let path = ["v1", "groups", "web"];
            let reply = api.ask(Method::PATCH, &path, Some(CHANGE[0]));
            may_have(pid, 1024);
            let Ok(reply) = reply else {
                // It was not even heard.
                load.truth.is(allowed(false));
                continue;
            };
            if reply.is_success() {
                load.truth.is(allowed(true));
                break;
            }
            // Everything is as it was.
            load.truth.is(allowed(false));
            let said = String::from_utf8_lossy(&reply.body).into_owned();
            assert!(
                said.contains("EMFILE") || said.contains("open files"),
                "{said}"
            );
            refused += 1;
            reasons.push(said.split(':').take(2).collect::<String>());
            load.goes_on();
        }
        reasons.sort();
        reasons.dedup();
        println!("{refused} applies were refused, each at another step: {reasons:#?}");
        assert!(refused > 2);
        load.goes_on();
        swap(&api, load, false);
        load.all_are_known(&daemon);
        // And the next one finds all of it.
        daemon.kill9();
        daemon.restart();
        load.goes_on();
        load.all_are_known(&daemon);
    });
}

/// A device goes while a configuration is applied that has it, and afterwards.
#[test]
fn a_device_goes_meanwhile() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(2, model::BACKENDS);
    let _servers = world.serve(SERVED);
    let daemon = Daemon::start(&world, FILE);
    let api = Api::of(&daemon);
    let mut chance = Chance::new("a_device_goes_meanwhile");
    let mut other = chance.another();
    let net = &world.proxy.node.net;
    under_load(&world, allowed(false), &mut chance, |load| {
        let mut known = vec![world.proxy.front.name.clone()];
        known.extend(world.proxy.backs.iter().map(|it| it.name.clone()));
        let names = |more: &[&str]| {
            let all = known.iter().map(String::as_str).chain(more.iter().copied());
            let all: Vec<String> = all.map(|it| format!("{it:?}")).collect();
            format!("[{}]", all.join(", "))
        };
        let path = ["v1", "values", "settings", "devices"];
        let (mut well, mut reasons) = (0, std::collections::BTreeSet::new());
        for _ in 0..super::count(30, 5) {
            let peer = Device::new("bs-load-1");
            net.add_link(&Device::new("bs-load-0"), &Kind::Veth(peer))
                .unwrap();
            let index = net.link("bs-load-0").unwrap().index;
            net.set_up(index).unwrap();
            let wait = other.below(400);
            std::thread::scope(|scope| {
                let asked =
                    scope.spawn(|| api.ask(Method::PUT, &path, Some(&names(&["bs-load-0"]))));
                std::thread::sleep(std::time::Duration::from_millis(wait));
                net.delete_link(index).unwrap();
                let reply = asked.join().unwrap().unwrap();
                match reply.is_success() {
                    true => well += 1,
                    false => {
                        reasons.insert(String::from_utf8_lossy(&reply.body).into_owned());
                    }
                }
            });
            load.goes_on();
            // It is gone by now, and the others change as ever.
            api.ok(Method::PUT, &path, Some(&names(&[])));
            load.goes_on();
        }
        println!(
            "{well} applies had the device, others were refused because it went: {reasons:#?}"
        );
        swap(&api, load, true);
        load.all_are_known(&daemon);
    });
}

/// Somebody takes the names in the kernel away.
#[test]
fn names_go_meanwhile() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(2, model::BACKENDS);
    let _servers = world.serve(SERVED);
    let daemon = Daemon::start(&world, FILE);
    let api = Api::of(&daemon);
    let mut chance = Chance::new("names_go_meanwhile");
    under_load(&world, allowed(false), &mut chance, |load| {
        fs::remove_dir_all(daemon.pins()).unwrap();
        load.goes_on();
        load.truth.may_become(&allowed(true));
        let reply = api.ask(Method::PATCH, &["v1", "groups", "web"], Some(CHANGE[0]));
        let reply = reply.unwrap();
        println!(
            "without names: {}",
            String::from_utf8_lossy(&reply.body).trim()
        );
        load.truth.is(allowed(reply.is_success()));
        load.goes_on();
        load.all_are_known(&daemon);
        deadline(LIMIT, || {
            daemon.cli(&["status"]).status.success().then_some(())
        });
    });
}
