//! The process is killed, or told to end, whenever chance has it.

use super::model::{self, FILE, Model};
use super::{Api, Chance, Load, Over, count, under_load};
use crate::rig::support::world::World;
use crate::rig::{Daemon, SERVED, at, number};
use bpfsmith_gate::needs;
use nix::sys::signal::Signal;
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// Changes as fast as they are answered, until nobody answers: it is as before the last one then, or as after it.
fn hurry(
    api: &Api,
    load: &Load<'_>,
    mut model: Model,
    chance: &mut Chance,
    made: &AtomicU32,
    is_over: &AtomicBool,
) -> [Model; 2] {
    while !is_over.load(Ordering::Acquire) {
        let mut next = model.clone();
        let change = next.next(chance);
        if ["save", "reload"].contains(&change.path[1].as_str()) {
            // The file stays as it is: what was changed outlives the process without it.
            continue;
        }
        load.truth.may_become(&next.allowed());
        let Ok(reply) = change.ask(api) else {
            return [model, next];
        };
        model = next;
        let said = String::from_utf8_lossy(&reply.body);
        assert!(reply.is_success(), "{change:?}: {said}");
        load.truth.is(model.allowed());
        made.fetch_add(1, Ordering::Release);
    }
    [model.clone(), model]
}

#[test]
fn killed_at_random() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    stopped("killed_at_random", count(50, 6), |daemon, _| daemon.kill9());
}

/// Who tells it to end gets that, whatever it does just then.
#[test]
fn ended_at_random() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    stopped("ended_at_random", count(50, 4), |daemon, has_begun| {
        let status = daemon.end();
        // Before it listens for signals, they do what they do to any process.
        let is_early = !has_begun && status.signal() == Some(Signal::SIGTERM as i32);
        assert!(status.success() || is_early, "{status}: {}", daemon.log());
    });
}

/// It is stopped so many times in the middle of changes, and begins anew; nobody notices.
fn stopped(test: &str, times: u32, stop: impl Fn(&mut Daemon<'_>, bool)) {
    let world = World::new(2, model::BACKENDS);
    let servers = world.serve(SERVED);
    let mut daemon = Daemon::start(&world, FILE);
    let mut chance = Chance::new(test);
    let mut other = chance.another();
    let (made, mut at_start) = (AtomicU32::new(0), 0);
    under_load(&world, Model::default().allowed(), &mut chance, |load| {
        let (mut model, mut before) = (Model::default(), 0);
        for _ in 0..times {
            let api = Api::of(&daemon);
            let is_over = AtomicBool::new(false);
            let mut theirs = other.another();
            let now = model.clone();
            let either = std::thread::scope(|scope| {
                let changes = scope.spawn(|| hurry(&api, load, now, &mut theirs, &made, &is_over));
                let over = Over(&is_over);
                // Whatever it does then, it does not end it.
                std::thread::sleep(Duration::from_millis(other.below(1500)));
                stop(&mut daemon, true);
                drop(over);
                changes.join().unwrap()
            });
            // Some do not even live until they have begun.
            for _ in 0..other.below(3) {
                daemon.run();
                std::thread::sleep(Duration::from_millis(other.below(250)));
                stop(&mut daemon, false);
                at_start += 1;
            }
            daemon.restart();
            model = model::done(&daemon, either);
            load.truth.is(model.allowed());
            load.goes_on();
            load.all_are_known(&daemon);
            let now = number(at(&daemon.status(), &["counters"]), &["opened"]);
            assert!(now > before, "{now} were counted after {before}");
            before = now;
        }
    });
    let failed: Vec<String> = servers.iter().flat_map(|it| it.failed()).collect();
    assert!(failed.is_empty(), "{failed:?}");
    let made = made.load(Ordering::Acquire);
    println!("{test}: {times} times after {made} changes, and {at_start} times while it began");
}
