//! Who asks. Every message must come back as it went, and every byte of a stream must have arrived.

use super::place::Idle;
use super::server::{HELLO, hello};
use super::work::{Shape, Work};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

/// How long a client waits for a byte, before it says that nothing moves.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long it waits for a datagram, before it sends the next one.
const LOST: Duration = Duration::from_millis(250);

/// What it came to.
#[derive(Clone, Debug)]
pub struct Load {
    /// Bytes of streams, packets in both directions, or else requests.
    pub units: f64,
    /// How many in a second: the sum of what each client came to in its own time.
    pub rate: f64,
    /// Seconds that processors worked meanwhile.
    pub work: f64,
    /// How long each request took, in nanoseconds, sorted.
    pub times: Vec<u32>,
    /// Datagrams that did not come back.
    pub lost: usize,
}

/// Requests that take longer than this were not answered at once: something was sent again.
const SLOW: u32 = 180_000_000;

impl Load {
    /// How many requests were not answered at once.
    #[must_use]
    pub fn slow(&self) -> usize {
        self.times.len() - self.times.partition_point(|nanos| *nanos < SLOW)
    }

    /// How long so large a part of requests took at most, in µs; nothing if there were none.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Option<f64> {
        let last = self.times.len().checked_sub(1)?;
        let nanos = self.times[(last as f64 * part).round() as usize];
        Some(f64::from(nanos) / 1e3)
    }
}

impl Work {
    /// Does it for that long, through whatever listens there.
    ///
    /// # Errors
    /// When somebody does not listen or answer, or something else arrives than what was sent.
    pub fn run(&self, to: SocketAddr, lasting: Duration) -> io::Result<Load> {
        self.place.client().keep_this_thread();
        let clients = (0..self.clients).map(|number| Client::new(self, number, to));
        let mut clients = clients.collect::<io::Result<Vec<Client>>>()?;
        let idle = Idle::now();
        let until = Instant::now() + lasting;
        let done = thread::scope(|scope| {
            let run = |client| scope.spawn(move || Client::run(client, until));
            let threads: Vec<_> = clients.iter_mut().map(run).collect();
            let joined = threads.into_iter().map(|it| it.join().expect("no panic"));
            joined.collect::<io::Result<Vec<Done>>>()
        })?;
        let work = idle.work_since();
        let mut load = Load {
            units: 0.0,
            rate: 0.0,
            work,
            times: Vec::new(),
            lost: 0,
        };
        for mut done in done {
            let units = done.units(self.shape) as f64;
            load.units += units;
            load.rate += units / done.took.as_secs_f64();
            load.lost += done.lost;
            load.times.append(&mut done.times);
        }
        load.times.sort_unstable();
        Ok(load)
    }
}

/// What one client did.
#[derive(Default)]
struct Done {
    took: Duration,
    bytes: usize,
    times: Vec<u32>,
    lost: usize,
}

impl Done {
    fn units(&self, shape: Shape) -> usize {
        match shape {
            Shape::Stream => self.bytes,
            Shape::Datagram => 2 * self.times.len(),
            Shape::PingPong | Shape::Connect => self.times.len(),
        }
    }

    fn request(&mut self, begun: Instant) {
        let nanos = begun.elapsed().as_nanos();
        self.times.push(u32::try_from(nanos).unwrap_or(u32::MAX));
    }
}

struct Client {
    way: Way,
    message: Vec<u8>,
}

enum Way {
    Stream(TcpStream),
    PingPong(TcpStream),
    Connect(SocketAddr),
    Datagram(UdpSocket),
}

impl Client {
    fn new(work: &Work, number: usize, to: SocketAddr) -> io::Result<Client> {
        let mut message: Vec<u8> = (0..work.size).map(|at| (at * 31 + number) as u8).collect();
        let connect = || -> io::Result<TcpStream> {
            let mut stream = connect(to)?;
            stream.set_nodelay(true)?;
            stream.set_write_timeout(Some(PATIENCE))?;
            ask(&mut stream, &hello(work.shape, work.size))?;
            Ok(stream)
        };
        let way = match work.shape {
            Shape::Stream => Way::Stream(connect()?),
            Shape::PingPong => Way::PingPong(connect()?),
            Shape::Connect => {
                message = hello(work.shape, work.size).to_vec();
                Way::Connect(to)
            }
            Shape::Datagram => {
                let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
                socket.connect(to)?;
                socket.set_read_timeout(Some(LOST))?;
                Way::Datagram(socket)
            }
        };
        Ok(Client { way, message })
    }

    fn run(&mut self, until: Instant) -> io::Result<Done> {
        let message = &mut self.message;
        let begun = Instant::now();
        let mut done = match &mut self.way {
            Way::Stream(stream) => bulk(stream, message, until),
            Way::PingPong(stream) => requests(stream, message, until),
            Way::Connect(to) => connections(*to, message, until),
            Way::Datagram(socket) => datagrams(socket, message, until),
        }?;
        done.took = begun.elapsed();
        Ok(done)
    }
}

/// Gives up after a few seconds: the namespace says when.
fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn ask(stream: &mut TcpStream, message: &[u8; HELLO]) -> io::Result<()> {
    stream.write_all(message)?;
    let mut back = [0; HELLO];
    stream.read_exact(&mut back)?;
    same(&back, message)
}

fn same(back: &[u8], message: &[u8]) -> io::Result<()> {
    match back == message {
        true => Ok(()),
        false => Err(io::Error::other("the answer is not what was sent")),
    }
}

fn bulk(stream: &mut TcpStream, message: &[u8], until: Instant) -> io::Result<Done> {
    let mut done = Done::default();
    while Instant::now() < until {
        stream.write_all(message)?;
        done.bytes += message.len();
    }
    stream.shutdown(Shutdown::Write)?;
    let mut seen = [0; 8];
    stream.read_exact(&mut seen)?;
    match u64::from_le_bytes(seen) == done.bytes as u64 {
        true => Ok(done),
        false => Err(io::Error::other("not every byte arrived")),
    }
}

fn requests(stream: &mut TcpStream, message: &mut [u8], until: Instant) -> io::Result<Done> {
    let mut done = Done::default();
    let mut back = vec![0; message.len()];
    let mut begun = Instant::now();
    while begun < until {
        // No two messages in a row are the same.
        message[0] = message[0].wrapping_add(1);
        stream.write_all(message)?;
        stream.read_exact(&mut back)?;
        same(&back, message)?;
        done.request(begun);
        begun = Instant::now();
    }
    Ok(done)
}

fn connections(to: SocketAddr, message: &[u8], until: Instant) -> io::Result<Done> {
    let message = message.try_into().expect("a hello");
    let mut done = Done::default();
    let mut begun = Instant::now();
    while begun < until {
        let mut stream = connect(to)?;
        ask(&mut stream, message)?;
        if stream.read(&mut [0])? > 0 {
            return Err(io::Error::other("more than the server had to say"));
        }
        drop(stream);
        done.request(begun);
        begun = Instant::now();
    }
    Ok(done)
}

fn datagrams(socket: &UdpSocket, message: &mut [u8], until: Instant) -> io::Result<Done> {
    let mut done = Done::default();
    let mut back = vec![0; message.len()];
    let mut number = 0_u64;
    let mut begun = Instant::now();
    while begun < until {
        number += 1;
        message[..8].copy_from_slice(&number.to_le_bytes());
        socket.send(message)?;
        loop {
            match socket.recv(&mut back) {
                Ok(_) if back == message => done.request(begun),
                // One that was thought to be lost.
                Ok(_) => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => done.lost += 1,
                Err(error) => return Err(error),
            }
            break;
        }
        begun = Instant::now();
    }
    match done.times.is_empty() {
        true => Err(io::Error::other("no datagram came back")),
        false => Ok(done),
    }
}
