//! What goes through a proxy: messages to and fro, or a stream.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};
use std::{fmt, thread};

/// How bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A message goes to the server and comes back; then the next one.
    PingPong,
    /// The client sends, and the server says at the end that it has everything.
    Stream,
}

/// What clients do.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// How bytes go.
    pub shape: Shape,
    /// The size of a message, or of what a stream is written in.
    pub size: usize,
    /// How many connections do so at once.
    pub connections: usize,
    /// How many messages each sends.
    pub messages: usize,
}

impl fmt::Display for Workload {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (size, unit) = match self.size {
            size if size >= 1 << 20 => (size >> 20, "MiB"),
            size => (size >> 10, "KiB"),
        };
        let shape = match self.shape {
            Shape::PingPong => "to and fro",
            Shape::Stream => "one way",
        };
        let plural = if self.connections == 1 { "" } else { "s" };
        write!(
            out,
            "{size} {unit} {shape}, {} connection{plural}",
            self.connections
        )
    }
}

/// What it came to.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Bytes that arrived, in both directions.
    pub bytes: usize,
    /// From the first byte to the last.
    pub took: Duration,
}

/// What a connection begins with: the shape, and the size of messages.
const HELLO: usize = 9;

/// Answers clients until the listener fails.
pub fn answer(listener: &TcpListener) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else { return };
        thread::spawn(move || answer_one(stream));
    }
}

/// Nobody waits for it: what goes wrong, the client sees as an end that comes too early.
fn answer_one(mut stream: TcpStream) {
    let mut hello = [0; HELLO];
    if stream.set_nodelay(true).is_err() || stream.read_exact(&mut hello).is_err() {
        return;
    }
    let mut size = [0; 8];
    size.copy_from_slice(&hello[1..]);
    let size = usize::try_from(u64::from_le_bytes(size)).expect("a size that fits");
    if hello[0] == 0 {
        let mut message = vec![0; size];
        // The hello is answered as well: so the client knows that the whole way is there.
        let mut next = Ok(());
        let mut first = stream.write_all(&hello);
        while next.is_ok() && first.is_ok() {
            next = stream.read_exact(&mut message);
            first = match next {
                Ok(()) => stream.write_all(&message),
                Err(_) => return,
            };
        }
    } else if stream.write_all(&hello).is_ok() {
        let mut buffer = vec![0; 1 << 18];
        let mut seen = 0_u64;
        while let Ok(got @ 1..) = stream.read(&mut buffer) {
            seen += got as u64;
        }
        // A client that is gone sees nothing anyway.
        let _ = stream.write_all(&seen.to_le_bytes());
    }
}

impl Workload {
    /// Does it, through whatever listens there. Every message must come back as it went, and every
    /// byte of a stream must have arrived.
    ///
    /// # Panics
    /// If it is otherwise.
    #[must_use]
    pub fn run(&self, to: SocketAddr) -> Load {
        let mut clients: Vec<Client> = (0..self.connections)
            .map(|number| Client::new(self, number, to))
            .collect();
        let begun = Instant::now();
        thread::scope(|scope| {
            for client in &mut clients {
                scope.spawn(|| client.run(self));
            }
        });
        let took = begun.elapsed();
        let ways = match self.shape {
            Shape::PingPong => 2,
            Shape::Stream => 1,
        };
        Load {
            bytes: ways * self.size * self.messages * self.connections,
            took,
        }
    }
}

struct Client {
    stream: TcpStream,
    message: Vec<u8>,
}

impl Client {
    fn new(work: &Workload, number: usize, to: SocketAddr) -> Client {
        let mut stream = TcpStream::connect(to).expect("somebody listens");
        stream.set_nodelay(true).expect("a TCP socket");
        let mut hello = [0; HELLO];
        hello[0] = u8::from(work.shape == Shape::Stream);
        hello[1..].copy_from_slice(&(work.size as u64).to_le_bytes());
        stream.write_all(&hello).expect("the way to the server");
        let mut back = [0; HELLO];
        stream.read_exact(&mut back).expect("the way back");
        assert_eq!(back, hello);
        let message = (0..work.size).map(|at| (at * 31 + number) as u8).collect();
        Client { stream, message }
    }

    fn run(&mut self, work: &Workload) {
        match work.shape {
            Shape::PingPong => self.ping_pong(work.messages),
            Shape::Stream => self.stream(work.messages),
        }
    }

    fn ping_pong(&mut self, messages: usize) {
        let mut back = vec![0; self.message.len()];
        for number in 0..messages {
            // No two messages in a row are the same.
            self.message[0] = number as u8;
            self.stream
                .write_all(&self.message)
                .expect("a whole message");
            self.stream.read_exact(&mut back).expect("a whole answer");
            assert!(back == self.message, "the answer is not what was sent");
        }
    }

    fn stream(&mut self, messages: usize) {
        for _ in 0..messages {
            self.stream
                .write_all(&self.message)
                .expect("a whole message");
        }
        let stream = &mut self.stream;
        stream.shutdown(std::net::Shutdown::Write).expect("an end");
        let mut seen = [0; 8];
        stream.read_exact(&mut seen).expect("a word at the end");
        let sent = (messages * self.message.len()) as u64;
        assert_eq!(u64::from_le_bytes(seen), sent, "bytes that arrived");
    }
}
