//! A server on loopback that answers as a test says.

use super::Reply;
use bpfsmith_proxy::dns::Name;
use bpfsmith_proxy::dns::message::{Family, Question};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// How a question came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Datagram,
    Stream,
}

/// A question that came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) question: Question,
    pub(crate) host: String,
    pub(crate) way: Way,
    pub(crate) from: SocketAddr,
}

/// What the server sends.
pub(crate) enum Packet {
    /// From its own port.
    Own(Vec<u8>),
    /// From another one.
    Elsewhere(Vec<u8>),
    /// Nothing: it closes the connection.
    Close,
}

impl From<Reply> for Packet {
    fn from(reply: Reply) -> Packet {
        Packet::Own(reply.bytes())
    }
}

type Script = Box<dyn FnMut(&Asked) -> Vec<Packet> + Send>;

struct Shared {
    script: Mutex<Script>,
    asked: Mutex<Vec<Asked>>,
    is_over: AtomicBool,
}

pub(crate) struct Server {
    pub(crate) place: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(script: impl FnMut(&Asked) -> Vec<Packet> + Send + 'static) -> Server {
        Server::at("127.0.0.1:0".parse().unwrap(), script)
    }

    /// Binds both sockets to one port; which may be taken for one of them.
    pub(crate) fn at(
        place: SocketAddr,
        script: impl FnMut(&Asked) -> Vec<Packet> + Send + 'static,
    ) -> Server {
        let (datagrams, streams) = bpfsmith_gate::deadline(Duration::from_secs(20), || {
            let datagrams = UdpSocket::bind(place).ok()?;
            let streams = TcpListener::bind(datagrams.local_addr().ok()?).ok()?;
            Some((datagrams, streams))
        });
        let place = datagrams.local_addr().unwrap();
        datagrams
            .set_read_timeout(Some(Duration::from_millis(2)))
            .unwrap();
        streams.set_nonblocking(true).unwrap();
        let shared = Arc::new(Shared {
            script: Mutex::new(Box::new(script)),
            asked: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || serve(&shared, &datagrams, &streams)
        });
        Server {
            place,
            shared,
            thread: Some(thread),
        }
    }

    /// From now on it answers otherwise.
    pub(crate) fn script(&self, script: impl FnMut(&Asked) -> Vec<Packet> + Send + 'static) {
        *self.shared.script.lock().unwrap() = Box::new(script);
    }

    /// All questions so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        let ended = self.thread.take().unwrap().join();
        assert!(
            ended.is_ok() || std::thread::panicking(),
            "the server panicked"
        );
    }
}

fn serve(shared: &Shared, datagrams: &UdpSocket, streams: &TcpListener) {
    let mut buffer = [0; 2048];
    let mut open = Vec::new();
    while !shared.is_over.load(Ordering::SeqCst) {
        if let Ok((length, from)) = datagrams.recv_from(&mut buffer) {
            for packet in shared.answer(&buffer[..length], Way::Datagram, from) {
                match packet {
                    Packet::Own(bytes) => datagrams.send_to(&bytes, from).unwrap(),
                    Packet::Elsewhere(bytes) => {
                        let other = UdpSocket::bind((datagrams.local_addr().unwrap().ip(), 0));
                        other.unwrap().send_to(&bytes, from).unwrap()
                    }
                    Packet::Close => panic!("there is no connection"),
                };
            }
        }
        let stream = streams.accept();
        open.extend(stream.ok().and_then(|(it, from)| shared.stream(it, from)));
    }
}

impl Shared {
    /// Answers one question; the connection, if it stays open.
    fn stream(&self, mut stream: TcpStream, from: SocketAddr) -> Option<TcpStream> {
        stream.set_nonblocking(false).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut bytes = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut bytes).unwrap();
        for packet in self.answer(&bytes, Way::Stream, from) {
            let Packet::Own(bytes) = packet else {
                return None;
            };
            let length = u16::try_from(bytes.len()).unwrap();
            stream.write_all(&length.to_be_bytes()).unwrap();
            // In two parts, which the reader has to put together.
            let (first, second) = bytes.split_at(bytes.len() / 2);
            stream.write_all(first).unwrap();
            stream.write_all(second).unwrap();
        }
        Some(stream)
    }

    fn answer(&self, bytes: &[u8], way: Way, from: SocketAddr) -> Vec<Packet> {
        let question = parse(bytes);
        let asked = Asked {
            host: question.name.to_string(),
            question,
            way,
            from,
        };
        self.asked.lock().unwrap().push(asked.clone());
        (self.script.lock().unwrap())(&asked)
    }
}

/// A question that this project wrote: it is not compressed.
fn parse(bytes: &[u8]) -> Question {
    let id = u16::from_be_bytes([bytes[0], bytes[1]]);
    assert_eq!(bytes[2..12], [1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    let mut at = 12;
    let mut labels = Vec::new();
    while bytes[at] > 0 {
        let end = at + 1 + usize::from(bytes[at]);
        labels.push(String::from_utf8(bytes[at + 1..end].to_vec()).unwrap());
        at = end;
    }
    let family = match bytes[at + 1..] {
        [0, 1, 0, 1] => Family::V4,
        [0, 28, 0, 1] => Family::V6,
        ref other => panic!("{other:?}"),
    };
    let name: Name = labels.join(".").parse().unwrap();
    Question { id, name, family }
}
