//! Questions that records of events are asked, whatever their bytes are: for tests and the fuzzer.

use bpfsmith_config::desired::Format;
use bpfsmith_config::json;
use bpfsmith_datapath::clock::Clock;
use bpfsmith_datapath::config::{Family, Protocol};
use bpfsmith_datapath::event::{Event, Flow, Record, What};
use bpfsmith_proxy::access_log;
use bpfsmith_proxy::feed::{Sink, Told};
use bpfsmith_proxy::metrics::Tally;
use bpfsmith_proxy::{show, status};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes of a record.
pub(crate) const SIZE: usize = size_of::<Record>();

/// Where the proxy listens.
const LISTENER: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 443);

/// Its ticks are whole nanoseconds, so that times can be turned back into them.
const CLOCK: Clock = Clock::new(250);

/// Reads bytes as a record, and what is left of them as the name of a proxy; whether they were an event.
pub(crate) fn ask(bytes: &[u8]) -> bool {
    decode(bytes);
    let Some((record, name)) = bytes.split_at_checked(SIZE) else {
        return false;
    };
    let Some(event) = decode(record) else {
        return false;
    };
    // What a configuration would refuse is no name.
    let mut name = String::from_utf8_lossy(name).into_owned();
    name.retain(|it| !it.is_control());
    for proxy in [None, Some(name.as_str())] {
        for read in [
            UNIX_EPOCH,
            UNIX_EPOCH + event.at.min(Duration::from_secs(1 << 33)),
            SystemTime::now(),
        ] {
            tell(&Told {
                read,
                proxy: proxy.map(Arc::from),
                listener: proxy.is_some().then_some(LISTENER),
                event,
            });
        }
    }
    true
}

/// What bytes say, or one line about why they say nothing.
fn decode(bytes: &[u8]) -> Option<Event> {
    // Clocks of other kernels change nothing but the age.
    for hz in [0, 100, 300, 1000, u32::MAX] {
        let other = Event::read(bytes, Clock::new(hz));
        assert_eq!(other.is_ok(), Event::read(bytes, CLOCK).is_ok());
    }
    match Event::read(bytes, CLOCK) {
        Ok(event) => {
            assert_eq!(bytes.len(), SIZE);
            let again = Event::read(&written(&event), CLOCK);
            assert_eq!(again, Ok(event), "as it was read, it is written");
            Some(event)
        }
        Err(malformed) => {
            let text = malformed.to_string();
            assert!(!text.is_empty() && !text.contains('\n'), "{text:?}");
            None
        }
    }
}

/// As a program would have written it.
fn written(event: &Event) -> Vec<u8> {
    let family = Family::of(event.client.ip());
    let mut bytes = vec![0; SIZE];
    let mut put = |at: u16, value: &[u8]| {
        let at = usize::from(at);
        bytes[at..at + value.len()].copy_from_slice(value);
    };
    let (why, flow) = match event.what {
        What::New(flow) | What::Periodic(flow) => (0, Some(flow)),
        What::Closed(flow, end) => (end.number(), Some(flow)),
        What::Refused(reason) => (reason.number().try_into().expect("a few dozen"), None),
    };
    put(Record::kind.offset, &[event.what.kind().number()]);
    put(Record::why.offset, &[why]);
    let four_or_six = match family {
        Family::V4 => 4,
        Family::V6 => 6,
    };
    put(Record::family.offset, &[four_or_six]);
    let protocol = match event.protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    };
    put(Record::protocol.offset, &[protocol]);
    let at = u64::try_from(event.at.as_nanos()).expect("it was a number of 64 bits");
    put(Record::at.offset, &at.to_ne_bytes());
    put(Record::client.offset, &address(event.client));
    put(Record::service.offset, &address(event.service));
    put(Record::ports.offset, &ports(event.client, event.service));
    if let Some(flow) = flow {
        put_flow(&mut put, &flow);
    }
    bytes
}

fn put_flow(put: &mut impl FnMut(u16, &[u8]), flow: &Flow) {
    let listener = flow.listener.unwrap_or(u16::MAX);
    put(Record::listener.offset, &listener.to_ne_bytes());
    put(Record::backend.offset, &flow.backend.0.to_ne_bytes());
    for (field, time) in [
        (Record::age, flow.age),
        (Record::idle, flow.idle),
    ] {
        let ticks = u32::try_from(time.as_millis() / 4).expect("it was a number of 32 bits");
        put(field.offset, &ticks.to_ne_bytes());
    }
    put(Record::source.offset, &address(flow.source));
    put(Record::target.offset, &address(flow.target));
    put(Record::rewritten.offset, &ports(flow.source, flow.target));
    for (field, number) in [
        (Record::packets, flow.there.packets),
        (Record::bytes, flow.there.bytes),
        (Record::answer_packets, flow.back.packets),
        (Record::answer_bytes, flow.back.bytes),
    ] {
        put(field.offset, &number.to_ne_bytes());
    }
}

fn address(socket: SocketAddr) -> Vec<u8> {
    match socket.ip() {
        IpAddr::V4(it) => it.octets().to_vec(),
        IpAddr::V6(it) => it.octets().to_vec(),
    }
}

fn ports(first: SocketAddr, second: SocketAddr) -> Vec<u8> {
    [
        first.port().to_be_bytes(),
        second.port().to_be_bytes(),
    ]
    .concat()
}

/// All that is printed of an event: JSON that can be read, lines that are one line.
fn tell(told: &Told) {
    let value = status::event(told.read, told.proxy.as_deref(), &told.event);
    let text = json::write(&value);
    one_line(&text);
    let read = json::read(&text).unwrap_or_else(|problems| panic!("{text}\n{problems}"));
    assert_eq!(json::write(&read), text);
    let has = |name, wanted: String| assert_eq!(show::cell(&read, name), wanted, "{text}");
    has("client", told.event.client.to_string());
    has("service", told.event.service.to_string());
    has(
        "event",
        status::kind_name(told.event.what.kind()).to_owned(),
    );
    has(
        "proxy",
        told.proxy.as_deref().unwrap_or_default().to_owned(),
    );
    one_line(&show::event(&read));
    one_line(&access_log::line(Format::Json, told));
    one_line(&access_log::line(Format::Common, told));
    let mut tally = Tally::default();
    for _ in 0..3 {
        assert!(tally.take(told).is_continue());
    }
}

/// Nothing of it breaks the line, or speaks to a terminal.
fn one_line(text: &str) {
    assert!(!text.is_empty());
    assert!(!text.chars().any(char::is_control), "{text:?}");
}
