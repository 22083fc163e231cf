//! All questions of a group, and all groups.

use super::calls::{callers, calls_helper, kfunc_names, kfuncs_of};
use super::{Support, attach, features, isa, links, map_types, prog_types};
use bpfsmith_uapi::{AttachType, HELPERS, LinkType, MapType, ProgType};
use std::fmt;
use std::str::FromStr;

macro_rules! groups {
    ($($(#[$doc:meta])* $group:ident = $name:literal, $title:literal;)+) => {
        /// A kind of questions.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Group {
            $($(#[$doc])* $group,)+
        }

        impl Group {
            /// Each, in the order of reports.
            pub const ALL: &[Group] = &[$(Group::$group),+];

            /// Its name: `prog`, `map`, …
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Group::$group => $name,)+
                }
            }

            /// Its name over a table.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self {
                    $(Group::$group => $title,)+
                }
            }
        }
    };
}

groups! {
    /// Program types.
    Progs = "prog", "program types";
    /// Map types.
    Maps = "map", "map types";
    /// Attach types.
    Attach = "attach", "attach types";
    /// Kinds of links.
    Links = "link", "links";
    /// Instructions.
    Isa = "isa", "instructions";
    /// Abilities of other kinds.
    Features = "feature", "features";
    /// Kernel interfaces that BPF can implement.
    StructOps = "struct_ops", "interfaces for BPF";
    /// Helpers, in every program type.
    Helpers = "helper", "helpers";
    /// Kernel functions, in every program type.
    Kfuncs = "kfunc", "kernel functions";
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that no group has.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown group {0}: use prog, map, attach, link, isa, feature, struct_ops, helper or kfunc"
)]
pub struct UnknownGroup(pub String);

bpfsmith_uapi::debug_as_display!(UnknownGroup);

impl FromStr for Group {
    type Err = UnknownGroup;

    fn from_str(name: &str) -> Result<Group, UnknownGroup> {
        let found = Group::ALL.iter().find(|group| group.name() == name);
        found.copied().ok_or_else(|| UnknownGroup(name.to_owned()))
    }
}

/// A question and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    /// What kind of question.
    pub group: Group,
    /// What was asked for: `XDP`, `ringbuf_output`, `v4 gotol`.
    pub name: String,
    /// The program type that it was asked for in, for helpers and kernel functions.
    pub within: Option<ProgType>,
    /// The answer.
    pub support: Support,
}

/// How far a report is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The group that is asked.
    pub group: Group,
    /// The program type, for helpers and kernel functions.
    pub within: Option<ProgType>,
}

/// Answers in a fixed order: by group, then as the kernel numbers what was asked for; helpers and
/// kernel functions by name and then by program type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The answers.
    pub rows: Vec<Row>,
}

impl Report {
    /// Asks all questions of these groups, and tells before each part what comes.
    #[must_use]
    pub fn ask(groups: &[Group], mut progress: impl FnMut(Progress)) -> Report {
        let mut rows = Vec::new();
        for &group in Group::ALL {
            if !groups.contains(&group) {
                continue;
            }
            progress(Progress {
                group,
                within: None,
            });
            match group {
                Group::Helpers => helpers(&mut rows, &mut progress),
                Group::Kfuncs => kfuncs(&mut rows, &mut progress),
                _ => plain(group, &mut rows),
            }
        }
        Report { rows }
    }

    /// The answer to one question, if it was asked.
    #[must_use]
    pub fn find(&self, group: Group, name: &str, within: Option<ProgType>) -> Option<&Support> {
        self.rows
            .iter()
            .find(|row| row.group == group && row.name == name && row.within == within)
            .map(|row| &row.support)
    }
}

/// Groups whose questions have a name and nothing else.
fn plain(group: Group, rows: &mut Vec<Row>) {
    let mut push = |name: &str, support| {
        rows.push(Row {
            group,
            name: name.to_owned(),
            within: None,
            support,
        });
    };
    match group {
        Group::Progs => {
            for kind in prog_kinds() {
                push(kind.name().unwrap_or_default(), prog_types::prog_type(kind));
            }
        }
        Group::Maps => {
            for &kind in MapType::ALL.iter().filter(|&&kind| kind != MapType::UNSPEC) {
                push(kind.name().unwrap_or_default(), map_types::map_type(kind));
            }
        }
        Group::Attach => {
            for &place in AttachType::ALL {
                push(place.name().unwrap_or_default(), attach::attach_type(place));
            }
        }
        Group::Links => {
            for &kind in LinkType::ALL
                .iter()
                .filter(|&&kind| kind != LinkType::UNSPEC)
            {
                push(kind.name().unwrap_or_default(), links::link(kind));
            }
        }
        Group::Isa => isa::ROWS
            .iter()
            .for_each(|row| push(row.name, isa::ask(row))),
        Group::Features => features::ROWS
            .iter()
            .for_each(|row| push(row.name, (row.ask)())),
        Group::StructOps => {
            for name in features::struct_ops_names() {
                push(&name, features::struct_ops(&name));
            }
        }
        Group::Helpers | Group::Kfuncs => {}
    }
}

fn prog_kinds() -> impl Iterator<Item = ProgType> {
    let real = |kind: &ProgType| *kind != ProgType::UNSPEC;
    ProgType::ALL.iter().copied().filter(real)
}

fn helpers(rows: &mut Vec<Row>, progress: &mut impl FnMut(Progress)) {
    let names: Vec<&str> = HELPERS.iter().map(|helper| helper.name).collect();
    matrix(
        Group::Helpers,
        &names,
        rows,
        progress,
        |kind| match callers(kind) {
            Ok(trials) => HELPERS
                .iter()
                .map(|helper| calls_helper(&trials, helper))
                .collect(),
            Err(support) => HELPERS.iter().map(|_| support.clone()).collect(),
        },
    );
}

fn kfuncs(rows: &mut Vec<Row>, progress: &mut impl FnMut(Progress)) {
    let names = kfunc_names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    matrix(Group::Kfuncs, &names, rows, progress, |kind| {
        kfuncs_of(kind, &names)
    });
}

/// Every name in every program type: asked by type, told by name.
fn matrix(
    group: Group,
    names: &[&str],
    rows: &mut Vec<Row>,
    progress: &mut impl FnMut(Progress),
    ask: impl Fn(ProgType) -> Vec<Support>,
) {
    let mut columns: Vec<(ProgType, std::vec::IntoIter<Support>)> = prog_kinds()
        .map(|kind| {
            progress(Progress {
                group,
                within: Some(kind),
            });
            (kind, ask(kind).into_iter())
        })
        .collect();
    for name in names {
        for (kind, answers) in &mut columns {
            rows.extend(answers.next().map(|support| Row {
                group,
                name: (*name).to_owned(),
                within: Some(*kind),
                support,
            }));
        }
    }
}
