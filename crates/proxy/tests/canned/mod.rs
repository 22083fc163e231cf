//! A daemon that answers what was written down before, and the program that asks it.

use bpfsmith_proxy::http::{
    Answer, Guard, Handler, Limits, Listener, Next, Response, Server, Stream,
};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The program, which cargo builds before it runs the tests of the crate.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_bpfsmith-proxy");

/// The daemon, in a directory of its own.
pub(crate) struct Canned {
    pub(crate) dir: PathBuf,
    /// How often the status was asked for. Each time there are 1000 packets more.
    pub(crate) looks: Arc<AtomicU64>,
    _server: Server,
}

impl Canned {
    pub(crate) fn new(name: &str) -> Canned {
        let dir = std::env::temp_dir().join(format!("bs-canned-{name}-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let looks = Arc::new(AtomicU64::new(0));
        let server = Server::start(
            Listener::unix(&dir.join("sock")).unwrap(),
            Limits::default(),
            Guard::owner(),
            handler(&looks),
        );
        Canned {
            dir,
            looks,
            _server: server.unwrap(),
        }
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> String {
        self.dir.join("sock").to_str().unwrap().to_owned()
    }
}

impl Drop for Canned {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn handler(looks: &Arc<AtomicU64>) -> Handler {
    let looks = Arc::clone(looks);
    Arc::new(move |request, _| {
        match request.segments().as_slice() {
        ["v1", "status"] => {
            let look = looks.fetch_add(1, Ordering::SeqCst);
            Response::json(200, status(look)).into()
        }
        ["v1", "connections"] => Response::json(
            200,
            r#"{"connections":3,"sums":[{"name":"web","connections":3,"there":{"packets":9,"bytes":900},"back":{"packets":9,"bytes":9000}}]}"#,
        )
        .into(),
        ["v1", "events"] => {
            let line = r#"{"time":1.0,"event":"new","proxy":"web","protocol":"tcp","client":"198.51.100.7:4000","service":"192.0.2.80:80"}"#;
            let mut first = Some(format!("{line}\n").into_bytes());
            Answer::Stream(Stream::new("application/x-ndjson", move |time| {
                std::thread::sleep(time);
                first.take().map_or(Next::Nothing, Next::Piece)
            }))
        }
        _ => Response::error(404, "there is no such proxy").into(),
    }
    })
}

fn status(look: u64) -> String {
    let packets = look * 1000;
    format!(
        r#"{{"version":"9.9.9","pid":4711,"uptime":61.0,"generation":7,
        "devices":[{{"name":"eth0","programs":"eth0: TCX: as wished"}}],"notes":[],
        "proxies":[{{"name":"web","listens":[{{"address":"192.0.2.80:80","protocol":"tcp"}}],"group":"app","routes":0}}],
        "groups":[{{"name":"app","algorithm":"maglev","nat":"dnat","all_down":false,
        "targets":[{{"address":"10.0.0.2:8080","weight":1,"share":100,"state":"up","last":"1 ms","connections":3}}]}}],
        "counters":{{"forwarded":{packets},"no route":{look}}},"events":{{"read":0,"malformed":0,"dropped":0}}}}"#
    )
}
