//! Who may ask.

use super::message::{Request, Response};
use super::peer::Peer;
use std::fmt;

/// A word that whoever knows it may ask with. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Vec<u8>);

/// Why text is no [`Token`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadToken {
    /// It could be guessed.
    #[error(
        "the token has less than {} characters (make one: head -c 24 /dev/urandom | base64)",
        Token::SHORTEST
    )]
    Short,
    /// It could not stand in a head.
    #[error(
        "the token has characters besides letters, digits and -._~+/= (make one: head -c 24 /dev/urandom | base64)"
    )]
    Characters,
}

impl Token {
    /// So many characters at least.
    pub const SHORTEST: usize = 16;

    /// Takes it from text, without the space around it that a file may have.
    ///
    /// # Errors
    /// When it is too short, or has characters that tokens do not have.
    pub fn new(text: &str) -> Result<Token, BadToken> {
        let text = text.trim();
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
        if !text.bytes().all(allowed) {
            return Err(BadToken::Characters);
        }
        if text.len() < Token::SHORTEST {
            return Err(BadToken::Short);
        }
        Ok(Token(text.as_bytes().to_vec()))
    }

    /// True if it is the same. How long that takes does not depend on what was said.
    fn is(&self, said: &[u8]) -> bool {
        let mut differs = u8::from(self.0.len() != said.len());
        for (at, byte) in self.0.iter().enumerate() {
            // What is too short is compared with something, too.
            let other = said.get(at).copied().unwrap_or(!byte);
            differs = std::hint::black_box(differs | (byte ^ other));
        }
        std::hint::black_box(differs) == 0
    }

    /// True if the request has it: `Authorization: Bearer …`.
    pub fn is_in(&self, request: &Request) -> bool {
        let said = request
            .field("authorization")
            .and_then(|value| value.split_once(' '));
        said.is_some_and(|(scheme, said)| {
            scheme.eq_ignore_ascii_case("bearer") && self.is(said.trim_start().as_bytes())
        })
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

type Public = Box<dyn Fn(&Request) -> bool + Send + Sync>;

/// Says who may ask what. It is asked as soon as a head is complete, so that nobody's body is read
/// who may not.
///
/// ```
/// use bpfsmith_proxy::http::{Guard, Token};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // Counters for everybody, and nothing else.
/// let metrics = Guard::closed().public(|request| request.segments() == ["metrics"]);
/// // All of it for who knows the token.
/// let admin = Guard::token(Token::new("Zm9yIHRoZSBkb2N1bWVudGF0aW9u")?);
/// # Ok(())
/// # }
/// ```
pub struct Guard {
    users: Vec<u32>,
    token: Option<Token>,
    public: Option<Public>,
}

impl Guard {
    /// Nobody may anything.
    pub fn closed() -> Guard {
        Guard {
            users: Vec::new(),
            token: None,
            public: None,
        }
    }

    /// Processes of this machine may that belong to root, or to the user that this one runs as.
    pub fn owner() -> Guard {
        Guard {
            users: vec![0, nix::unistd::geteuid().as_raw()],
            ..Guard::closed()
        }
    }

    /// Who has the token, may.
    pub fn token(token: Token) -> Guard {
        Guard {
            token: Some(token),
            ..Guard::closed()
        }
    }

    /// Besides, everybody may what the function says yes to. The request has no body yet.
    #[must_use]
    pub fn public(mut self, may: impl Fn(&Request) -> bool + Send + Sync + 'static) -> Guard {
        self.public = Some(Box::new(may));
        self
    }

    /// Lets the request pass, or says what it is answered.
    ///
    /// # Errors
    /// 403 for a process of another user, 401 for somebody without the token, 403 where there is none.
    pub fn admit(&self, request: &Request, peer: &Peer) -> Result<(), Response> {
        if self.public.as_ref().is_some_and(|may| may(request)) {
            return Ok(());
        }
        match (peer, &self.token) {
            (Peer::Unix { uid, .. }, _) if self.users.contains(uid) => Ok(()),
            (_, Some(token)) if token.is_in(request) => Ok(()),
            (Peer::Tcp(_), Some(_)) => Err(Response::error(
                401,
                "a token is needed: Authorization: Bearer TOKEN",
            )
            .with("WWW-Authenticate", "Bearer")),
            (Peer::Unix { .. }, _) => Err(Response::error(
                403,
                "only root and the user of this process may",
            )),
            (Peer::Tcp(_), None) => Err(Response::error(403, "nothing is served here")),
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("users", &self.users)
            .field("token", &self.token)
            .field("public", &self.public.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Method;

    const WORD: &str = "0123456789abcdef";

    fn with(value: &str) -> Request {
        let mut request = Request::new(Method::GET, &["a"]);
        request
            .fields
            .push(("authorization".to_owned(), value.to_owned()));
        request
    }

    fn status(guard: &Guard, request: &Request, peer: &Peer) -> u16 {
        guard
            .admit(request, peer)
            .map_or_else(|no| no.status, |()| 200)
    }

    const TCP: Peer = Peer::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1));
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};

    const fn user(uid: u32) -> Peer {
        Peer::Unix {
            uid,
            gid: 0,
            pid: 1,
        }
    }

    #[test]
    fn a_token_is_long_and_plain() {
        assert_eq!(Token::new("0123456789abcde"), Err(BadToken::Short));
        assert_eq!(Token::new("0123456789 abcdef"), Err(BadToken::Characters));
        assert!(Token::new(" 0123456789abcdef\n").is_ok());
        assert_eq!(format!("{:?}", Token::new(WORD).unwrap()), "Token(…)");
    }

    #[test]
    fn only_the_very_token_opens() {
        let guard = Guard::token(Token::new(WORD).unwrap());
        let rows = [
            ("Bearer 0123456789abcdef", 200),
            ("bearer  0123456789abcdef", 200),
            ("Bearer 0123456789abcdeF", 401),
            ("Bearer 0123456789abcde", 401),
            ("Bearer 0123456789abcdef0", 401),
            ("Bearer ", 401),
            ("Bearer", 401),
            ("Basic 0123456789abcdef", 401),
            ("0123456789abcdef", 401),
        ];
        for (value, expected) in rows {
            assert_eq!(status(&guard, &with(value), &TCP), expected, "{value:?}");
        }
        let none = Request::new(Method::GET, &[]);
        let no = guard.admit(&none, &TCP).unwrap_err();
        assert_eq!(no.fields, [("WWW-Authenticate", "Bearer")]);
    }

    #[test]
    fn who_owns_the_process_may_and_nobody_else() {
        let guard = Guard::owner();
        let request = with("Bearer 0123456789abcdef");
        let own = nix::unistd::geteuid().as_raw();
        assert_eq!(status(&guard, &request, &user(0)), 200);
        assert_eq!(status(&guard, &request, &user(own)), 200);
        assert_eq!(status(&guard, &request, &user(own + 1)), 403);
        assert_eq!(status(&guard, &request, &TCP), 403);
    }

    #[test]
    fn what_is_public_is_for_all() {
        let guard = Guard::closed().public(|request| request.segments() == ["metrics"]);
        let metrics = Request::new(Method::GET, &["metrics"]);
        for peer in [TCP, user(7)] {
            assert_eq!(status(&guard, &metrics, &peer), 200);
            assert_eq!(status(&guard, &Request::new(Method::GET, &[]), &peer), 403);
        }
    }
}
