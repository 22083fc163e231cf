//! HTTP/1.1, as much of it as commands, counters and an administrator need: no more, and strictly.
//!
//! | to … | see |
//! |---|---|
//! | read requests out of bytes, without a socket | [`Parser`] |
//! | answer requests on a Unix socket or over TCP | [`Server`] |
//! | say who may | [`Guard`], [`Token`] |
//! | ask a server on a Unix socket | [`Client`] |
//!
//! What can be understood in two ways is refused: a length that is told twice, a line that ends
//! without a carriage return, a request in chunks, a folded field. No answer ever allows other
//! origins to read it, and no answer repeats what the request said.
//!
//! ```
//! use bpfsmith_proxy::http::{Answer, Client, Guard, Limits, Listener, Method, Response, Server};
//! use std::sync::Arc;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let path = std::env::temp_dir().join(format!("bs-http-doc-{}", std::process::id()));
//! let server = Server::start(
//!     Listener::unix(&path)?,
//!     Limits::default(),
//!     Guard::owner(),
//!     Arc::new(|request, _peer| match (request.method, request.segments().as_slice()) {
//!         (Method::GET, ["status"]) => Response::json(200, "{\"up\":true}").into(),
//!         _ => Answer::Whole(Response::error(404, "there is nothing here")),
//!     }),
//! )?;
//! let reply = Client::unix(&path).request(Method::GET, "/status", b"")?;
//! assert_eq!((reply.status, reply.body.as_slice()), (200, b"{\"up\":true}".as_slice()));
//! drop(server);
//! assert!(!path.exists());
//! # Ok(())
//! # }
//! ```

mod chunks;
mod client;
mod connection;
mod error;
mod feed;
mod fields;
mod guard;
mod listener;
mod message;
mod parse;
mod peer;
mod reply;
mod server;
mod socket_file;
mod stream;
mod target;
mod wire;

pub use client::{Client, Hangup, Lines};
pub use error::{Error, Garbled, Result};
pub use guard::{BadToken, Guard, Token};
pub use listener::Listener;
pub use message::{Method, Request, Response};
pub use parse::{BadRequest, Parser, Sizes, Stage, Step};
pub use peer::Peer;
pub use reply::Reply;
pub use server::{Handler, Limits, Server, Status, Stopped};
pub use stream::{Answer, Next, Stream};
pub use target::target;
