//! The table of commands says enough, and all that it says is so.

use bpfsmith_datapath::event::Kind as EventKind;
use bpfsmith_proxy::commands::table::{self, Count, FAMILIES, GLOBAL, Kind, Section, Spec};
use bpfsmith_proxy::commands::words::{EVENTS, Names, Word};
use bpfsmith_proxy::commands::{Exit, Parsed, Surroundings, UsageError, parse};
use proptest::prelude::*;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

fn asked(line: &str) -> Result<Parsed, UsageError> {
    let args = line.split_whitespace().map(OsString::from).collect();
    parse(args, &Surroundings::default())
}

/// Something that a value of the kind may be.
fn sample(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "there.toml",
        Kind::Directory => "/there",
        Kind::Words(words) | Kind::Several(words) => words[words.len() - 1],
        Kind::Number { .. } => "17",
        Kind::Time => "17s",
        Kind::Address => "192.0.2.17",
        Kind::Client | Kind::Source => "192.0.2.0/24",
        Kind::Known(Names::Targets) | Kind::Place | Kind::Weighted => "192.0.2.17:80",
        Kind::Peer => "192.0.2.17",
        Kind::Known(_) | Kind::New => "web",
        Kind::Path => "settings.events",
        Kind::Any => "true",
        Kind::Command => "status",
    }
}

/// The shortest line that the command is content with.
fn shortest(spec: &Spec) -> String {
    match spec.name {
        "add" => return "add web --port 80 --target 192.0.2.1:80".to_owned(),
        "update" => return "update web --address 192.0.2.1".to_owned(),
        "route add" => return "route add web 192.0.2.0/24 --target 192.0.2.1:80".to_owned(),
        _ => {}
    }
    let needed = spec
        .operands
        .iter()
        .filter(|it| it.count != Count::Optional);
    let operands = needed.map(|operand| format!(" {}", sample(operand.kind)));
    format!("{}{}", spec.name, operands.collect::<String>())
}

#[test]
fn every_command_is_read() {
    for spec in table::all() {
        let line = shortest(spec);
        asked(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn every_option_has_an_effect() {
    for spec in table::all() {
        for option in spec.options {
            let line = match (spec.name, option.long) {
                // What excludes the usual line stands alone, and what it needs cannot be added.
                ("add", "--file") => "add".to_owned(),
                ("add", "--format") => "add --file there.toml".to_owned(),
                ("add", "--group") => "add web --port 80".to_owned(),
                ("add", "--port") => "add web --target 192.0.2.1:80".to_owned(),
                ("route add", "--group") => "route add web 192.0.2.0/24".to_owned(),
                _ => shortest(spec),
            };
            let value = option
                .value
                .map(|(_, kind)| sample(kind))
                .unwrap_or_default();
            let with = asked(&format!("{line} {} {value}", option.long));
            assert!(with.is_ok(), "{line} {}: {with:?}", option.long);
            assert_ne!(with, asked(&line), "{line} and {}", option.long);
            if let Some(letter) = option.short {
                assert_eq!(asked(&format!("{line} -{letter} {value}")), with);
            }
        }
    }
}

#[test]
fn examples_are_right() {
    for spec in table::all() {
        for (line, _) in spec.examples {
            let line = line.split(['|', '>']).next().unwrap_or_default();
            asked(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }
}

#[test]
fn the_table_says_enough() {
    for spec in table::all() {
        let name = spec.name;
        assert!(!spec.summary.is_empty() && !spec.text.is_empty(), "{name}");
        assert!(spec.summary.len() <= 60, "{name}: {}", spec.summary);
        assert!(!spec.summary.ends_with('.'), "{name}");
        assert!(
            spec.section == Section::Hidden || !spec.examples.is_empty(),
            "{name}"
        );
        assert!(
            spec.exits.contains(&Exit::Done) && spec.exits.contains(&Exit::Usage),
            "{name}"
        );
        assert!(spec.exits.is_sorted(), "{name}");
        let options = || spec.options.iter().chain(GLOBAL);
        for option in options() {
            assert!(
                option.long.starts_with("--") && !option.text.is_empty(),
                "{name}"
            );
            let is_same = |it: &&table::Opt| {
                it.long == option.long || (it.short.is_some() && it.short == option.short)
            };
            assert_eq!(
                options().filter(is_same).count(),
                1,
                "{name} {}",
                option.long
            );
        }
        for usage in spec.usage {
            for word in usage.split(' ').filter(|word| word.contains("--")) {
                let word = word.trim_matches(['[', ']']);
                assert!(spec.option(word).is_some(), "{name}: {word} in {usage}");
            }
        }
        if let Some((_, most)) = spec.operands.split_last() {
            assert!(most.iter().all(|it| it.count == Count::One), "{name}");
        }
        assert_eq!(name.contains(' '), spec.family().is_some(), "{name}");
    }
    for family in FAMILIES {
        assert!(family.commands().count() > 1, "{}", family.name);
        assert!(table::find(family.name).is_none());
    }
}

#[test]
fn events_have_words() {
    let kinds: Vec<_> = EVENTS
        .iter()
        .filter_map(|word| EventKind::of(word))
        .collect();
    assert_eq!(kinds, EventKind::ALL);
}

/// Words that mean something somewhere, so that chance gets deep.
fn known_words() -> Vec<String> {
    let odd = [
        "--",
        "-",
        "",
        "=",
        "web",
        "10.0.0.1:80",
        "-h",
        "-5",
    ];
    let mut words: Vec<String> = odd.map(str::to_owned).into();
    for spec in table::all() {
        words.extend(spec.name.split(' ').map(str::to_owned));
        for option in spec.options.iter().chain(GLOBAL) {
            words.push(option.long.to_owned());
            let value = option
                .value
                .map(|(_, kind)| sample(kind))
                .unwrap_or_default();
            words.push(format!("{}={value}", option.long));
        }
        words.extend(spec.operands.iter().map(|it| sample(it.kind).to_owned()));
    }
    words
}

proptest! {
    #[test]
    fn any_bytes_are_read(
        args in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..8)
    ) {
        let args = args.into_iter().map(OsString::from_vec).collect();
        if let Err(error) = parse(args, &Surroundings::default()) {
            prop_assert!(!error.to_string().chars().any(char::is_control));
        }
    }

    #[test]
    fn any_words_are_read(args in prop::collection::vec(
        prop_oneof![9 => prop::sample::select(known_words()), 1 => ".{0,12}"], 0..9)
    ) {
        let args = args.into_iter().map(OsString::from).collect();
        if let Err(error) = parse(args, &Surroundings::default()) {
            prop_assert!(!error.to_string().chars().any(char::is_control));
        }
    }
}
