//! What values may be read as.

use crate::desired::{Place, Source};
use crate::value::{Kind, Value};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// What a value may be read as.
pub trait Read: Sized {
    /// What is allowed, as errors say it: "a port is 1 to 65535".
    fn allowed() -> String;

    /// Itself, if the value is one.
    fn read(value: &Value) -> Option<Self>;
}

impl Read for bool {
    fn allowed() -> String {
        "it is true or false".to_owned()
    }

    fn read(value: &Value) -> Option<bool> {
        match value.kind {
            Kind::Bool(it) => Some(it),
            _ => None,
        }
    }
}

impl Read for String {
    fn allowed() -> String {
        "it is text in quotes".to_owned()
    }

    fn read(value: &Value) -> Option<String> {
        match &value.kind {
            Kind::Text(it) => Some(it.clone()),
            _ => None,
        }
    }
}

macro_rules! whole {
    ($($number:ty, $allowed:literal;)+) => {$(
        impl Read for $number {
            fn allowed() -> String {
                $allowed.to_owned()
            }

            fn read(value: &Value) -> Option<$number> {
                match value.kind {
                    Kind::Int(it) => it.try_into().ok(),
                    _ => None,
                }
            }
        }
    )+};
}

whole! {
    u8, "it is a whole number from 0 to 255";
    u16, "it is a whole number from 0 to 65535";
    u32, "it is a whole number from 0 to 4294967295";
    u64, "it is a whole number, 0 or more";
    i64, "it is a whole number";
}

/// Where something listens at an address: none is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port(pub u16);

impl Read for Port {
    fn allowed() -> String {
        "it is from 1 to 65535".to_owned()
    }

    fn read(value: &Value) -> Option<Port> {
        let port = u16::read(value)?;
        (port > 0).then_some(Port(port))
    }
}

impl Read for f64 {
    fn allowed() -> String {
        "it is a number".to_owned()
    }

    fn read(value: &Value) -> Option<f64> {
        match value.kind {
            Kind::Float(it) => Some(it),
            Kind::Int(it) => i32::try_from(it).ok().map(f64::from),
            _ => None,
        }
    }
}

/// Whatever reads itself from text.
macro_rules! by_text {
    ($($what:ty, $allowed:literal;)+) => {$(
        impl Read for $what {
            fn allowed() -> String {
                $allowed.to_owned()
            }

            fn read(value: &Value) -> Option<$what> {
                match &value.kind {
                    Kind::Text(it) => it.parse().ok(),
                    _ => None,
                }
            }
        }
    )+};
}

by_text! {
    Place, "it is \"10.0.0.1:8080\", \"[fd00::1]:8080\" or \"host.example:8080\"";
    Source, "it is a prefix like \"10.0.0.0/8\" with nothing set behind its bits, an address, or the name of a host";
    PathBuf, "it is a path in quotes";
    IpAddr, "it is an address like \"192.0.2.1\" or \"2001:db8::1\"";
    SocketAddr, "it is an address with a port, like \"192.0.2.1:80\" or \"[2001:db8::1]:80\"";
}

impl Read for Duration {
    fn allowed() -> String {
        "it is a time like \"500ms\", \"30s\", \"5m\", \"6h\" or \"1d\", or a number of seconds"
            .to_owned()
    }

    fn read(value: &Value) -> Option<Duration> {
        let text = match &value.kind {
            Kind::Int(it) => return it.to_owned().try_into().ok().map(Duration::from_secs),
            Kind::Text(it) => it,
            _ => return None,
        };
        let unit = text.find(|it: char| !it.is_ascii_digit())?;
        let (number, unit) = text.split_at(unit);
        let number: u64 = number.parse().ok()?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        number.checked_mul(millis).map(Duration::from_millis)
    }
}
