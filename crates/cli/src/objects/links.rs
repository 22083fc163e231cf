//! Links.

use super::kind_name;
use crate::columns::{self, Side};
use crate::json::Json;
use crate::visible;
use bpfsmith_prog::list::{LinkInfo, Place};

const COLUMNS: &[(&str, Side)] = &[
    ("id", Side::Right),
    ("type", Side::Left),
    ("prog", Side::Right),
    ("place", Side::Left),
];

fn kind(link: &LinkInfo) -> String {
    kind_name(link.kind.name(), link.kind.0)
}

/// Where the program is, as names and values.
#[must_use]
pub fn place(place: &Place) -> Vec<(&'static str, Json)> {
    match place {
        Place::RawTracepoint { name, cookie } => vec![
            ("name", name.as_str().into()),
            ("cookie", (*cookie).into()),
        ],
        Place::Tracing {
            attach,
            object,
            btf_id,
            cookie,
        } => vec![
            ("attach", kind_name(attach.name(), attach.0).into()),
            ("object", (*object).into()),
            ("btf_id", (*btf_id).into()),
            ("cookie", (*cookie).into()),
        ],
        Place::Cgroup { id, attach } => vec![
            ("cgroup", (*id).into()),
            ("attach", kind_name(attach.name(), attach.0).into()),
        ],
        Place::Iter { name, map } => vec![
            ("name", name.as_str().into()),
            ("map", (*map).into()),
        ],
        Place::Netns { inode, attach } => vec![
            ("netns", (*inode).into()),
            ("attach", kind_name(attach.name(), attach.0).into()),
        ],
        Place::Xdp { ifindex } => vec![("ifindex", (*ifindex).into())],
        Place::StructOps { map } => vec![("map", (*map).into())],
        Place::Netfilter {
            family,
            hook,
            priority,
            flags,
        } => vec![
            ("family", (*family).into()),
            ("hook", (*hook).into()),
            ("priority", (*priority).into()),
            ("flags", (*flags).into()),
        ],
        Place::Kprobes {
            count,
            flags,
            missed,
        } => vec![
            ("functions", (*count).into()),
            ("flags", (*flags).into()),
            ("missed", (*missed).into()),
        ],
        Place::Uprobes {
            path,
            count,
            flags,
            pid,
        } => vec![
            ("path", path.as_str().into()),
            ("places", (*count).into()),
            ("flags", (*flags).into()),
            ("pid", (*pid).into()),
        ],
        Place::Perf {
            kind,
            name,
            offset,
            cookie,
        } => vec![
            ("event", kind_name(kind.name(), kind.0).into()),
            ("name", name.as_str().into()),
            ("offset", (*offset).into()),
            ("cookie", (*cookie).into()),
        ],
        Place::Device { ifindex, attach } => vec![
            ("ifindex", (*ifindex).into()),
            ("attach", kind_name(attach.name(), attach.0).into()),
        ],
        Place::Sockmap { map, attach } => vec![
            ("map", (*map).into()),
            ("attach", kind_name(attach.name(), attach.0).into()),
        ],
        // A kind of link that was added since.
        _ => Vec::new(),
    }
}

fn plain(value: &Json) -> String {
    match value {
        Json::Text(text) => visible(text),
        other => other.to_string(),
    }
}

/// One line for each.
#[must_use]
pub fn table(links: &[LinkInfo]) -> String {
    let row = |link: &LinkInfo| {
        let place = place(&link.place);
        let place: Vec<String> = place
            .iter()
            .map(|(name, value)| format!("{name} {}", plain(value)))
            .collect();
        vec![
            link.id.to_string(),
            kind(link),
            link.prog.to_string(),
            place.join(", "),
        ]
    };
    let rows: Vec<Vec<String>> = links.iter().map(row).collect();
    columns::table(COLUMNS, &rows)
}

/// All about one.
#[must_use]
pub fn fields(link: &LinkInfo) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("id", link.id.to_string()),
        ("type", kind(link)),
        ("prog", link.prog.to_string()),
    ];
    let place = place(&link.place);
    fields.extend(place.iter().map(|(name, value)| (*name, plain(value))));
    fields
}

/// One for programs.
#[must_use]
pub fn json(link: &LinkInfo) -> Json {
    Json::Object(vec![
        ("id", link.id.into()),
        ("type", kind(link).into()),
        ("prog", link.prog.into()),
        ("place", Json::Object(place(&link.place))),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use bpfsmith_uapi::{AttachType, LinkType};

    fn links() -> Vec<LinkInfo> {
        let link = |id, kind, place| LinkInfo {
            kind,
            id,
            prog: 40 + id,
            place,
        };
        vec![
            link(3, LinkType::XDP, Place::Xdp { ifindex: 7 }),
            link(
                12,
                LinkType::TCX,
                Place::Device {
                    ifindex: 7,
                    attach: AttachType::TCX_INGRESS,
                },
            ),
            link(
                13,
                LinkType::RAW_TRACEPOINT,
                Place::RawTracepoint {
                    name: "sched\u{1b}".to_owned(),
                    cookie: 5,
                },
            ),
            link(14, LinkType(99), Place::Other),
        ]
    }

    #[test]
    fn links_are_a_table() {
        let expected = "
id  type            prog  place
 3  xdp               43  ifindex 7
12  tcx               52  ifindex 7, attach tcx_ingress
13  raw_tracepoint    53  name sched\\u{1b}, cookie 5
14  99                54
";
        assert_eq!(table(&links()), expected.trim_start());
        let text = columns::fields(&fields(&links()[1]));
        assert_eq!(
            text,
            "id       12\ntype     tcx\nprog     52\nifindex  7\nattach   tcx_ingress\n"
        );
    }

    #[test]
    fn a_link_is_an_object() {
        let expected = "{\"id\":13,\"type\":\"raw_tracepoint\",\"prog\":53,\
                        \"place\":{\"name\":\"sched\\u001b\",\"cookie\":5}}";
        assert_eq!(json(&links()[2]).to_string(), expected);
        assert_eq!(
            json(&links()[3]).to_string(),
            "{\"id\":14,\"type\":\"99\",\"prog\":54,\"place\":{}}"
        );
    }
}
