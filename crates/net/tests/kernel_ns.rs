//! Namespaces: where code runs, who sees the names, what is left.

#![expect(clippy::unwrap_used, reason = "a test says by a panic that it failed")]

mod support;

use bpfsmith_gate::{deadline, needs};
use bpfsmith_net::{Device, Errno, IfIndex, Kind, NetNs, Netlink, Operation, Reason};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use support::private_mounts;

fn name(what: &str) -> String {
    format!("bs-net-{what}-{}", std::process::id())
}

#[test]
fn a_new_namespace_is_another_one_with_only_loopback() {
    needs!(NetNs);
    let here = NetNs::current().unwrap().id().unwrap();
    let ns = NetNs::new().unwrap();
    assert_ne!(ns.id().unwrap(), here);
    assert_eq!(
        ns.run(|| NetNs::current().unwrap().id().unwrap()).unwrap(),
        ns.id().unwrap()
    );
    assert_eq!(
        NetNs::current().unwrap().id().unwrap(),
        here,
        "the caller has not moved"
    );
    let links = Netlink::open_in(&ns).unwrap().links().unwrap();
    assert_eq!(links.len(), 1, "{links:?}");
    assert_eq!(
        (links[0].name.as_str(), links[0].index),
        ("lo", IfIndex::LOOPBACK)
    );
    assert!(links[0].flags.is_loopback() && !links[0].flags.is_up());
}

#[test]
fn closures_borrow_return_and_panic() {
    needs!(NetNs);
    let ns = NetNs::new().unwrap();
    let words = ["a".to_owned(), "b".to_owned()];
    assert_eq!(ns.run(|| words.concat()).unwrap(), "ab");
    let panic = std::panic::catch_unwind(|| ns.run(|| panic!("inside {}", words.len())));
    let panic = panic.unwrap_err();
    assert_eq!(
        panic.downcast_ref::<String>().map(String::as_str),
        Some("inside 2")
    );
    assert_eq!(ns.run(|| 7).unwrap(), 7, "the namespace is as it was");
}

#[test]
fn a_name_is_seen_by_others_and_goes_with_its_handle() {
    needs!(NetNs);
    private_mounts();
    let name = name("seen");
    let ns = NetNs::named(&name).unwrap();
    let path = ns.path().unwrap().to_owned();
    assert_eq!(NetNs::open(&name).unwrap().id().unwrap(), ns.id().unwrap());
    assert_eq!(NetNs::at(&path).unwrap().id().unwrap(), ns.id().unwrap());
    if let Ok(output) = Command::new("ip")
        .args([
            "netns", "exec", &name, "ip", "-br", "link",
        ])
        .output()
    {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success() && text.lines().count() == 1,
            "{text}"
        );
    }
    let taken = NetNs::named(&name).unwrap_err();
    assert_eq!(
        (taken.operation, taken.errno()),
        (Operation::CREATE, Some(Errno::EEXIST))
    );
    drop(ns);
    assert!(!path.exists());
    let gone = NetNs::open(&name).unwrap_err();
    assert_eq!(gone.errno(), Some(Errno::ENOENT));
    assert!(gone.to_string().contains(&name), "{gone}");
}

#[test]
fn a_kept_name_stays_until_it_is_removed() {
    needs!(NetNs);
    private_mounts();
    let name = name("kept");
    let path = NetNs::named(&name)
        .unwrap()
        .keep()
        .path()
        .unwrap()
        .to_owned();
    let id = NetNs::open(&name).unwrap().id().unwrap();
    assert_eq!(NetNs::open(&name).unwrap().id().unwrap(), id);
    // What `ip netns del` does.
    nix::mount::umount2(&path, nix::mount::MntFlags::MNT_DETACH).unwrap();
    std::fs::remove_file(&path).unwrap();

    let ns = NetNs::named(&name).unwrap();
    ns.remove().unwrap();
    assert!(!path.exists());
}

#[test]
fn what_is_no_namespace_is_refused() {
    needs!(NetNs);
    let wrong = NetNs::at(Path::new("/proc/self/ns/uts")).unwrap_err();
    assert_eq!(
        (wrong.operation, wrong.errno()),
        (Operation::SETNS, Some(Errno::EINVAL))
    );
    assert_eq!(
        wrong.to_string(),
        "setns(CLONE_NEWNET) /proc/self/ns/uts: EINVAL (the file is no network namespace)"
    );
    let bad = NetNs::named("a/b").unwrap_err();
    assert!(matches!(bad.reason, Reason::BadName { .. }), "{bad}");
}

#[test]
fn a_namespace_lives_as_long_as_something_holds_it() {
    needs!(NetNs, Veth);
    let (near, far) = (NetNs::new().unwrap(), NetNs::new().unwrap());
    let net = Netlink::open_in(&near).unwrap();
    net.add_link(&Device::new("a"), &Kind::Veth(Device::new("b").netns(&far)))
        .unwrap();
    let inside = Netlink::open_in(&far).unwrap();
    drop(far);
    assert_eq!(
        inside.link("b").unwrap().kind.as_deref(),
        Some("veth"),
        "the socket holds it"
    );
    drop(inside);
    // The kernel takes namespaces down on a thread of its own.
    deadline(Duration::from_secs(20), || {
        net.link("a").is_err().then_some(())
    });
}

#[test]
fn settings_belong_to_their_namespace() {
    needs!(NetNs);
    let (one, other) = (NetNs::new().unwrap(), NetNs::new().unwrap());
    one.set_sysctl("ipv4/ip_forward", "1").unwrap();
    assert_eq!(one.sysctl("ipv4/ip_forward").unwrap(), "1");
    assert_eq!(other.sysctl("ipv4/ip_forward").unwrap(), "0");
    let missing = one.sysctl("ipv4/no_such_setting").unwrap_err();
    assert_eq!(missing.errno(), Some(Errno::ENOENT));
    let wrong = one.set_sysctl("ipv4/ip_forward", "x").unwrap_err();
    assert_eq!(wrong.errno(), Some(Errno::EINVAL), "{wrong}");
}

#[test]
fn namespaces_have_numbers_in_each_other() {
    needs!(NetNs);
    let (near, far) = (NetNs::new().unwrap(), NetNs::new().unwrap());
    let net = Netlink::open_in(&near).unwrap();
    assert_eq!(net.nsid(&far).unwrap(), None);
    net.assign_nsid(&far).unwrap();
    assert!(net.nsid(&far).unwrap().is_some_and(|id| id >= 0));
    assert_eq!(
        net.assign_nsid(&far).unwrap_err().errno(),
        Some(Errno::EEXIST)
    );
}
