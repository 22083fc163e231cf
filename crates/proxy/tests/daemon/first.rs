//! It runs, ends, is killed and comes back; at last all is gone.

use crate::rig::support::people::{Session, try_who, who};
use crate::rig::support::world::{LIMIT, World};
use crate::rig::{Daemon, asked};
use bpfsmith_asm::dsl::*;
use bpfsmith_gate::needs;
use bpfsmith_net::IfIndex;
use bpfsmith_prog::Load;
use bpfsmith_prog::target::Tcx;
use bpfsmith_uapi::AttachType;
use nix::sys::signal::Signal;
use std::os::unix::net::UnixDatagram;

const CONFIG: &str = "port = 80\ntargets = [\"10.20.0.2:8080\"]\n";

/// A killed daemon's connections go on, a new one adopts them, and one that ends leaves them.
#[test]
fn connections_outlive_the_process() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 2);
    let _servers = world.serve(crate::rig::SERVED);
    let mut daemon = Daemon::start(&world, CONFIG);
    let client = &world.client().node;
    let mut session = Session::open(client, asked(80)).unwrap();
    assert_eq!(session.server, "b0");
    session.echo(b"at first").unwrap();
    daemon.kill9();
    session.echo(b"without a daemon").unwrap();
    assert_eq!(who(client, asked(80)), "b0");
    daemon.restart();
    session.echo(b"with another one").unwrap();
    let known = daemon.conns(&["--state", "established"]);
    assert_eq!(known.len(), 1, "{known:?}");
    assert_eq!(daemon.end().code(), Some(0), "{}", daemon.log());
    assert!(!daemon.socket().exists());
    session.echo(b"without one again").unwrap();
    assert_eq!(who(client, asked(80)), "b0");
}

/// `detach` leaves nothing, but for what others have put there.
#[test]
fn detaching_leaves_what_others_put_there() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 2);
    let _servers = world.serve(crate::rig::SERVED);
    let foreign = Program::new(ProgType::SCHED_CLS, "foreign", code![ret(-1)]).unwrap();
    let load = Load::new(&foreign).attach_type(AttachType::TCX_INGRESS);
    let foreign = load.load().unwrap();
    let proxy = &world.proxy;
    let front = proxy.front.index;
    let attach = || foreign.attach(&Tcx::ingress(front)).unwrap();
    let _link = proxy.node.run(attach).unwrap();
    let mut daemon = Daemon::start(&world, CONFIG);
    let client = &world.client().node;
    let mut session = Session::open(client, asked(80)).unwrap();
    let count = |device: IfIndex| {
        let query = || Tcx::ingress(device).query().unwrap().progs.len();
        proxy.node.run(query).unwrap()
    };
    assert_eq!((count(front), count(proxy.backs[0].index)), (2, 1));
    assert_eq!(daemon.end().code(), Some(0));
    assert_eq!((count(front), count(proxy.backs[0].index)), (2, 1));
    session.echo(b"there is no daemon any more").unwrap();
    let said = daemon.detach();
    assert!(said.contains("programs are off their devices"), "{said}");
    assert_eq!((count(front), count(proxy.backs[0].index)), (1, 0));
    assert!(!daemon.pins().exists());
    // The proxy's machine knows no way to the address.
    assert!(try_who(client, asked(80)).is_err());
}

/// A service manager hears when the daemon is ready, reads its file again, and ends.
#[test]
fn the_service_manager_is_told() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 1);
    let mut daemon = Daemon::prepare(&world, CONFIG);
    let place = daemon.dir().join("notify");
    let manager = UnixDatagram::bind(&place).unwrap();
    manager.set_read_timeout(Some(LIMIT)).unwrap();
    let hear = || {
        let mut bytes = [0; 512];
        let len = manager.recv(&mut bytes).expect("nothing was told");
        String::from_utf8(bytes[..len].to_vec()).unwrap()
    };
    daemon.run_as(|command| command.env("NOTIFY_SOCKET", &place));
    assert_eq!(hear(), "READY=1");
    // Who is told so can ask.
    daemon.ok(&["status"]);
    daemon.signal(Signal::SIGHUP);
    assert!(hear().starts_with("RELOADING=1"));
    assert_eq!(hear(), "READY=1");
    assert_eq!(daemon.end().code(), Some(0));
    assert_eq!(hear(), "STOPPING=1");
}
