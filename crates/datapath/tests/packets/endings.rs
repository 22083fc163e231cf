//! TCP connections that open, close, and open again.

use super::row::{Row, all, check, is, opened, row, story};
use super::stage::{Ground, Stage};
use super::talk::{Plan, Talk};
use bpfsmith_datapath::config::{Algorithm, Family, MidStream, Mode, Protocol};
use bpfsmith_datapath::reason::Reason;
use bpfsmith_datapath::shape::{BACKEND_FLOWS, Path};
use bpfsmith_gate::needs;
use bpfsmith_maps::Map;

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

fn talk(family: Family) -> Talk {
    Talk::new((family, Protocol::Tcp), 1234)
}

fn path(family: Family) -> Path {
    Path::new(family, Protocol::Tcp)
}

/// How many flows the backends count.
fn flows(stage: &Stage<'_>) -> u32 {
    let flows: Map<u32, u32> = stage.generation.maps().open(&BACKEND_FLOWS).unwrap();
    (0..6)
        .map(|number| flows.lookup(&number).unwrap().unwrap())
        .sum()
}

/// Packets of an established connection, the client's with `>`, the backend's with `<`.
fn goes_on(family: Family, title: &str, packets: &[&str]) -> Row {
    let talk = talk(family);
    let mut steps = talk.established();
    for packet in packets {
        let (side, flags) = packet.split_at(1);
        let (flags, len) = match flags.strip_suffix('+') {
            Some(flags) => (flags, 1000),
            None => (flags, 0),
        };
        let shape = |frame: crate::support::packet::Frame| frame.flags(flags).bytes(len);
        steps.push(match side {
            ">" => talk.there(shape),
            _ => talk.back(shape),
        });
    }
    row(format!("{family:?} {title}"), steps)
}

#[test]
fn connections_close() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let long: Vec<&str> = [">FA", "<A"]
        .into_iter()
        .chain(["<PA+", ">A"].into_iter().cycle().take(60))
        .chain(["<FA", ">A"])
        .collect();
    let back: Vec<&str> = ["<FA", ">A"]
        .into_iter()
        .chain([">PA+", "<A"].into_iter().cycle().take(60))
        .chain([">FA", "<A"])
        .collect();
    let cases: [(&str, &[&str]); 16] = [
        ("client first", &[">FA", "<FA", ">A"]),
        ("backend first", &["<FA", ">FA", "<A"]),
        ("both at once", &[">FA", "<FA", ">A", "<A"]),
        (
            "both at once, and again",
            &[">FA", "<FA", ">FA", "<FA", ">A", "<A"],
        ),
        ("the client's half, and then long answers", &long),
        ("the backend's half, and then long requests", &back),
        (
            "late data",
            &[
                ">FA", "<FA", ">A", "<PA+", ">A", ">PA+", "<A",
            ],
        ),
        ("FIN with data", &[">FPA+", "<A", "<FPA+", ">A"]),
        ("the client's reset", &[">RA"]),
        ("the backend's reset", &["<R"]),
        ("resets from both", &[">R", "<RA", ">R"]),
        (
            "the client's reset, which nobody heard",
            &[">R", "<PA+", ">A", ">PA+", "<A"],
        ),
        (
            "the backend's reset, which nobody heard",
            &["<R", ">PA+", "<A", "<PA+", ">A"],
        ),
        (
            "resets out of window, data in between",
            &[">R", ">PA+", "<R", "<PA+", ">R", ">A"],
        ),
        ("reset while closing", &[">FA", "<A", "<R", "<R"]),
        (
            "SYN and SYN with ACK again",
            &[">S", "<SA", ">A", ">S", "<A", ">PA+"],
        ),
    ];
    let rows: Vec<Row> = FAMILIES
        .into_iter()
        .flat_map(|family| cases.map(|(title, packets)| goes_on(family, title, packets)))
        .collect();
    check(&ground, &Plan::new(Mode::Dnat), &rows);
}

/// A reset that is followed by data ended nothing: the entries say so.
#[test]
fn a_reset_in_somebodys_name_ends_nothing() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let rows = FAMILIES.map(|family| {
        story(format!("{family:?}"), move |stage| {
            let talk = talk(family);
            all(stage, &talk.established())?;
            let before = flows(stage);
            all(
                stage,
                &[
                    talk.there_with("R"),
                    talk.back_with("A"),
                    talk.there_with("PA"),
                ],
            )?;
            // One that had ended would begin anew.
            all(
                stage,
                &[
                    talk.there_with("S"),
                    talk.there_with("PA"),
                ],
            )?;
            is("entries", stage.entries(path(family)), [2, 0])?;
            is("flows of backends", flows(stage), before)
        })
    });
    check(&ground, &Plan::new(Mode::Dnat), &rows);
}

#[test]
fn promoted_flows_are_found_from_both_sides() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let mut rows = Vec::new();
    for lane in super::talk::LANES {
        rows.push(story(super::talk::name(lane), move |stage| {
            let talk = Talk::new(lane, 1234);
            let path = Path::new(lane.0, lane.1);
            all(stage, &[talk.opens()])?;
            is("entries before the answer", stage.entries(path), [0, 2])?;
            all(stage, &[talk.accepts()])?;
            // Of TCP, only when the client has seen it.
            let established = match lane.1 {
                Protocol::Tcp => [0, 2],
                Protocol::Udp => [2, 0],
            };
            is("entries after the answer", stage.entries(path), established)?;
            all(
                stage,
                &[
                    talk.there_with("A"),
                    talk.back_with("PA"),
                    talk.there_with("PA"),
                ],
            )?;
            is("entries later", stage.entries(path), [2, 0])
        }));
    }
    check(&ground, &Plan::new(Mode::Dnat), &rows);
}

#[test]
fn a_refusal_establishes_nothing() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let rows = FAMILIES.map(|family| {
        story(format!("{family:?}"), move |stage| {
            let before = flows(stage);
            let talk = opened(stage, talk(family))?;
            all(stage, &[talk.back_with("RA")])?;
            is("established", stage.entries(path(family))[0], 0)?;
            is("flows of backends", flows(stage), before)?;
            let again = opened(stage, self::talk(family))?;
            is("another host", again.host != talk.host, true)?;
            all(stage, &[again.accepts(), again.there_with("A")])
        })
    });
    let plan = Plan::with(Mode::Dnat, Algorithm::RoundRobin, &[0, 1, 2]);
    check(&ground, &plan, &rows);
}

/// A client that was refused may ask again from the same port at once, and gets whoever is there now. What
/// was sent in a backend's name takes nobody away from one that has answered.
#[test]
fn who_was_refused_begins_anew() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let modes = [Mode::Dnat, Mode::FullNat];
    for (mode, family) in modes
        .into_iter()
        .flat_map(|mode| [(mode, Family::V4), (mode, Family::V6)])
    {
        let begin = talk(family).mode(mode);
        let moved = move |stage: &mut Stage<'_>| {
            stage.change(&Plan::with(mode, Algorithm::Maglev, &[2]).0);
        };
        let rows = [
            story(format!("{mode:?} {family:?} refused"), move |stage| {
                let old = opened(stage, begin)?;
                all(stage, &[old.back_with("RA"), old.back_with("RA")])?;
                moved(stage);
                let new = opened(stage, begin)?;
                is("hosts", (old.host, new.host), (0, 2))?;
                is("counted before", flows(stage), 0)?;
                all(
                    stage,
                    &[
                        new.accepts(),
                        new.there_with("A"),
                        new.back_with("PA"),
                    ],
                )?;
                is("counted", flows(stage), 1)
            }),
            story(
                format!("{mode:?} {family:?} refused, then accepted"),
                move |stage| {
                    let old = opened(stage, begin)?;
                    all(stage, &[old.back_with("RA"), old.accepts()])?;
                    moved(stage);
                    let steps = [
                        old.there_with("S"),
                        old.there_with("A"),
                        old.back_with("PA"),
                        old.there_with("PA"),
                    ];
                    all(stage, &steps)?;
                    is("counted", flows(stage), 1)
                },
            ),
            story(
                format!("{mode:?} {family:?} accepted, then refused"),
                move |stage| {
                    let old = opened(stage, begin)?;
                    all(stage, &[old.accepts(), old.back_with("R")])?;
                    moved(stage);
                    all(stage, &[old.there_with("S"), old.there_with("A")])?;
                    is("counted", flows(stage), 1)
                },
            ),
            story(format!("{mode:?} {family:?} not refused"), move |stage| {
                let old = opened(stage, begin)?;
                moved(stage);
                all(stage, &[old.there_with("S"), old.accepts()])
            }),
        ];
        // Each changes the configuration.
        for row in rows {
            check(&ground, &Plan::new(mode), &[row]);
        }
    }
}

#[test]
fn the_same_backend_until_the_end() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let mut rows = Vec::new();
    for family in FAMILIES {
        rows.push(story(format!("{family:?} SYN again"), move |stage| {
            let talk = opened(stage, talk(family))?;
            all(stage, &vec![talk.there_with("S"); 5])?;
            all(
                stage,
                &[
                    talk.accepts(),
                    talk.there_with("S"),
                    talk.there_with("A"),
                ],
            )
        }));
        rows.push(story(format!("{family:?} takes turns"), move |stage| {
            let mut hosts = Vec::new();
            for port in 2000..2006 {
                let talk = opened(stage, Talk::new((family, Protocol::Tcp), port))?;
                hosts.push(talk.host);
            }
            is("round", hosts[..3].to_vec(), hosts[3..].to_vec())?;
            hosts.sort_unstable();
            is("hosts", hosts, vec![0, 0, 1, 1, 2, 2])
        }));
        for (title, ends) in [
            ("closed", ["F", "f"]),
            ("reset by the client", ["R", ""]),
            ("reset by the backend", ["r", ""]),
        ] {
            rows.push(story(
                format!("{family:?} SYN after {title}"),
                move |stage| {
                    let first = opened(stage, talk(family))?;
                    all(stage, &[first.accepts(), first.there_with("A")])?;
                    let before = flows(stage);
                    for end in ends {
                        let step = match end {
                            "F" => first.there_with("FA"),
                            "f" => first.back_with("FA"),
                            "R" => first.there_with("R"),
                            "r" => first.back_with("R"),
                            _ => continue,
                        };
                        step.run(stage)?;
                    }
                    let second = opened(stage, talk(family))?;
                    if first.host == second.host {
                        return Err("it was not chosen anew".into());
                    }
                    is(
                        "established while it opens",
                        stage.entries(path(family)),
                        [0, 2],
                    )?;
                    all(
                        stage,
                        &[
                            second.accepts(),
                            second.there_with("PA"),
                            second.back_with("A"),
                        ],
                    )?;
                    is("flows of backends", flows(stage), before)
                },
            ));
        }
        rows.push(story(
            format!("{family:?} SYN while half closed"),
            move |stage| {
                let talk = opened(stage, talk(family))?;
                all(stage, &[talk.accepts(), talk.there_with("FA")])?;
                all(
                    stage,
                    &[
                        talk.there_with("S"),
                        talk.back_with("PA"),
                    ],
                )
            },
        ));
    }
    let plan = Plan::with(Mode::Dnat, Algorithm::RoundRobin, &[0, 1, 2]);
    check(&ground, &plan, &rows);
}

#[test]
fn packets_in_the_middle() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let begins = ["S", "SEC", "SP", "SU"];
    let others = [
        "A", "PA", "FA", "R", "RA", "SA", "", "F", "SF", "SR", "SRFA", "FPU",
    ];
    for policy in [
        MidStream::Pass,
        MidStream::Drop,
        MidStream::Adopt,
    ] {
        let mut rows = Vec::new();
        for family in FAMILIES {
            let talk = talk(family);
            let opens = |flags: &str| {
                let step = talk.there_with(flags);
                step.counts(&[Reason::Opened, Reason::Forwarded])
            };
            for flags in begins {
                rows.push(row(
                    format!("{policy:?} {family:?} {flags}"),
                    [opens(flags)],
                ));
            }
            for flags in others {
                let step = match policy {
                    MidStream::Pass => talk.there_with(flags).passes(Reason::MidStream),
                    MidStream::Drop => talk.there_with(flags).drops(Reason::MidStream),
                    MidStream::Adopt => opens(flags),
                };
                rows.push(row(format!("{policy:?} {family:?} {flags:?}"), [step]));
            }
            if policy == MidStream::Adopt {
                rows.push(row(
                    format!("{family:?} adopted, then answered"),
                    [
                        opens("PA"),
                        talk.back_with("PA")
                            .counts(&[Reason::Answered, Reason::Forwarded]),
                        talk.there_with("A"),
                        talk.back_with("FA"),
                    ],
                ));
            }
        }
        check(&ground, &Plan::new(Mode::Dnat).mid_stream(policy), &rows);
    }
}
