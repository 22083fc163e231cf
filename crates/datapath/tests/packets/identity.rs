//! Any packet: what is done to it on the way there is undone on the way back.

use super::row::{check, is, story};
use super::stage::{At, Ground, Stage, Verdict};
use super::talk::{LANES, Plan, Talk, back, backend, name};
use crate::support::judge::good;
use crate::support::packet::Frame;
use bpfsmith_datapath::config::{Algorithm, Family, Mode, Protocol};
use bpfsmith_gate::{needs, rounds};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};

/// What is not in the tuple.
#[derive(Clone, Debug)]
struct Dress {
    ttl: u8,
    tos: u8,
    ident: u32,
    options: Vec<u8>,
    tcp_options: Vec<u8>,
    seq: u32,
    payload: Vec<u8>,
    checked: bool,
}

fn dress() -> impl Strategy<Value = Dress> {
    (
        2_u8..,
        any::<u8>(),
        0_u32..0x1_0000,
        vec(any::<u8>(), 0..=40),
        vec(any::<u8>(), 0..=40),
        any::<u32>(),
        vec(any::<u8>(), 0..200),
        any::<bool>(),
    )
        .prop_map(
            |(ttl, tos, ident, options, tcp_options, seq, payload, checked)| Dress {
                ttl,
                tos,
                ident,
                options,
                tcp_options,
                seq,
                payload,
                checked,
            },
        )
}

impl Dress {
    fn on(&self, frame: Frame, talk: &Talk) -> Frame {
        let frame = frame.ttl(self.ttl).tos(self.tos).ident(self.ident);
        let frame = match talk.family() {
            Family::V4 => frame.options(&self.options),
            Family::V6 => frame.flow(self.seq & 0xf_ffff),
        };
        let frame = frame.payload(&self.payload);
        match (talk.protocol, talk.family()) {
            (Protocol::Tcp, _) => frame.seq(self.seq).tcp_options(&self.tcp_options),
            (Protocol::Udp, Family::V4) if !self.checked => frame.unchecked(),
            (Protocol::Udp, _) => frame,
        }
    }
}

/// A unicast address.
fn address(family: Family, bits: u128) -> IpAddr {
    match family {
        Family::V4 => {
            let bits = u32::try_from(bits & 0x0fff_ffff).unwrap();
            IpAddr::V4((bits | 0x4000_0000).into())
        }
        Family::V6 => IpAddr::V6((bits >> 3 | 1 << 125).into()),
    }
}

/// There with one packet, back with another. Each must become what a builder makes of the same.
fn there_and_back(
    stage: &mut Stage<'_>,
    begin: Talk,
    ask: &Dress,
    answer: &Dress,
) -> Result<(), String> {
    let shape = |dress: &Dress, frame: Frame, flags: &str, talk: &Talk| {
        dress.on(talk.flagged(frame, flags), talk)
    };
    let asks = shape(ask, begin.asks(), "S", &begin);
    let out = stage.send(At::Front, &asks.build());
    is("there", out.verdict, Verdict::Sent)?;
    let view = good(&out.frame);
    let mut talk = begin.on(out.frame[4]);
    if talk.seen.ip() != talk.client.ip() {
        talk.seen = SocketAddr::new(view.src(), view.ports().unwrap().0);
    }
    let asked = shape(ask, talk.asked(), "S", &talk).ttl(ask.ttl - 1);
    is("there", view, good(&asked.build()))?;
    // The way back of this very packet: the same tuple, as the backend would turn it round.
    let macs = (backend(talk.host), back(talk.host));
    let answers = shape(answer, talk.answers(), "SA", &talk).macs(macs.0, macs.1);
    let out = stage.send(At::Back(talk.host), &answers.build());
    is("back", out.verdict, Verdict::Sent)?;
    let answered = shape(answer, talk.answered(), "SA", &talk).ttl(answer.ttl - 1);
    is("back", good(&out.frame), good(&answered.build()))?;
    let out = stage.send(At::Front, &shape(answer, talk.asks(), "PA", &talk).build());
    let asked = shape(answer, talk.asked(), "PA", &talk).ttl(answer.ttl - 1);
    is("there again", good(&out.frame), good(&asked.build()))
}

#[test]
fn the_way_back_undoes_the_way_there() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    // Whoever answers, answers by way of the first device.
    let node = &ground.world.proxy.node;
    for (family, prefix) in [
        (Family::V4, "64.0.0.0/4"),
        (Family::V6, "2000::/3"),
    ] {
        let route = bpfsmith_net::Route {
            via: Some(super::talk::client(family)),
            dev: Some(ground.device(At::Front)),
            ..bpfsmith_net::Route::to(prefix.parse().unwrap())
        };
        node.net.add_route(&route).unwrap();
    }
    for mode in [Mode::Dnat, Mode::FullNat] {
        let rows = LANES.map(|lane| {
            story(name(lane), move |stage| {
                let config = Config {
                    cases: rounds(250),
                    failure_persistence: None,
                    ..Config::default()
                };
                let input = (any::<u128>(), any::<u16>(), dress(), dress());
                let stage = RefCell::new(stage);
                TestRunner::new(config)
                    .run(&input, |(bits, port, ask, answer)| {
                        stage.borrow().forget();
                        let mut talk = Talk::new(lane, port);
                        talk.client.set_ip(address(lane.0, bits));
                        talk.seen = talk.client;
                        let mut talk = talk.mode(mode);
                        talk.client.set_port(port);
                        there_and_back(&mut stage.borrow_mut(), talk, &ask, &answer)
                            .map_err(TestCaseError::fail)
                    })
                    .map_err(|error| error.to_string())
            })
        });
        let plan = Plan::with(mode, Algorithm::Maglev, &[0, 1, 2]);
        check(&ground, &plan, &rows);
    }
}
