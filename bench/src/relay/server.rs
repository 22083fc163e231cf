//! Who answers.

use super::work::Shape;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread;

/// How many connections it talks to at once. A connection waits until another one ends.
const THREADS: usize = 48;

/// How long it waits for a client, in seconds: rules may be gone before a connection's last packets are.
const PATIENCE: i64 = 5;

/// What a connection begins with: the shape, and the size of messages. It comes back.
pub const HELLO: usize = 64;

/// The hello of clients that do so.
#[must_use]
pub fn hello(shape: Shape, size: usize) -> [u8; HELLO] {
    let mut hello = [0; HELLO];
    hello[0] = shape as u8;
    hello[1..9].copy_from_slice(&(size as u64).to_le_bytes());
    hello
}

/// Answers at this address on threads of its own, over TCP and UDP.
///
/// # Errors
/// When the address is not free.
pub fn answer(at: SocketAddr) -> io::Result<()> {
    let socket = UdpSocket::bind(at)?;
    thread::Builder::new().spawn(move || datagrams(&socket))?;
    let listener = TcpListener::bind(at)?;
    // Accepted connections have them from it: no call for each.
    setsockopt(&listener, sockopt::TcpNoDelay, &true)?;
    let patience = TimeVal::new(PATIENCE, 0);
    setsockopt(&listener, sockopt::ReceiveTimeout, &patience)?;
    setsockopt(&listener, sockopt::SendTimeout, &patience)?;
    let listener = Arc::new(listener);
    for _ in 0..THREADS {
        let listener = Arc::clone(&listener);
        thread::Builder::new().spawn(move || connections(&listener))?;
    }
    Ok(())
}

/// One after the other, for ever. Waiting for the next one ends now and then: it has the same patience.
fn connections(listener: &TcpListener) {
    loop {
        if let Ok((stream, _)) = listener.accept() {
            // What goes wrong, the client sees as an end that comes too early.
            let _ = converse(stream);
        }
    }
}

fn converse(mut stream: TcpStream) -> io::Result<()> {
    let mut hello = [0; HELLO];
    stream.read_exact(&mut hello)?;
    stream.write_all(&hello)?;
    let [shape, size @ ..] = hello.first_chunk::<9>().expect("a shape and a size");
    let size = usize::try_from(u64::from_le_bytes(*size)).expect("a size that fits");
    if *shape == Shape::PingPong as u8 {
        let mut message = vec![0; size];
        loop {
            stream.read_exact(&mut message)?;
            stream.write_all(&message)?;
        }
    }
    if *shape == Shape::Stream as u8 {
        let mut buffer = vec![0; 1 << 18];
        let mut seen = 0_u64;
        while let got @ 1.. = stream.read(&mut buffer)? {
            seen += got as u64;
        }
        stream.write_all(&seen.to_le_bytes())?;
    }
    Ok(())
}

fn datagrams(socket: &UdpSocket) {
    let mut buffer = [0; 1 << 11];
    loop {
        if let Ok((len, client)) = socket.recv_from(&mut buffer) {
            // A client that is gone misses nothing.
            let _ = socket.send_to(&buffer[..len], client);
        }
    }
}
