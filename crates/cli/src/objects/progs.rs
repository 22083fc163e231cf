//! Programs that are loaded.

use super::kind_name;
use crate::args::Form;
use crate::columns::{self, Side};
use crate::json::Json;
use crate::{Failure, kernel, picture, visible};
use bpfsmith_prog::list::{self, ProgInfo};

const COLUMNS: &[(&str, Side)] = &[
    ("id", Side::Right),
    ("type", Side::Left),
    ("name", Side::Left),
    ("tag", Side::Left),
    ("xlated", Side::Right),
    ("jited", Side::Right),
    ("runs", Side::Right),
    ("maps", Side::Left),
];

fn kind(prog: &ProgInfo) -> String {
    kind_name(prog.kind.name(), prog.kind.0)
}

fn tag(prog: &ProgInfo) -> String {
    prog.tag.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn ids(ids: &[u32]) -> String {
    let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
    ids.join(" ")
}

/// One line for each.
#[must_use]
pub fn table(progs: &[ProgInfo]) -> String {
    let row = |prog: &ProgInfo| {
        vec![
            prog.id.to_string(),
            kind(prog),
            visible(&prog.name),
            tag(prog),
            prog.xlated.to_string(),
            prog.jited.to_string(),
            prog.runs.to_string(),
            ids(&prog.maps),
        ]
    };
    let rows: Vec<Vec<String>> = progs.iter().map(row).collect();
    columns::table(COLUMNS, &rows)
}

/// All about one.
#[must_use]
pub fn fields(prog: &ProgInfo) -> Vec<(&'static str, String)> {
    let optional = |id: Option<u32>| id.map_or_else(|| "-".to_owned(), |id| id.to_string());
    vec![
        ("id", prog.id.to_string()),
        ("type", kind(prog)),
        ("name", visible(&prog.name)),
        ("tag", tag(prog)),
        (
            "loaded",
            format!("{:.3} s after boot", prog.loaded.as_secs_f64()),
        ),
        ("uid", prog.uid.to_string()),
        ("xlated", format!("{} bytes", prog.xlated)),
        ("jited", format!("{} bytes", prog.jited)),
        ("maps", ids(&prog.maps)),
        ("btf", optional(prog.btf)),
        ("verified", format!("{} instructions", prog.verified)),
        ("runs", prog.runs.to_string()),
        ("run_time", format!("{} ns", prog.run_time.as_nanos())),
        ("misses", prog.misses.to_string()),
        ("gpl", if prog.is_gpl { "yes" } else { "no" }.to_owned()),
    ]
}

/// One for programs.
#[must_use]
pub fn json(prog: &ProgInfo) -> Json {
    Json::Object(vec![
        ("id", prog.id.into()),
        ("type", kind(prog).into()),
        ("name", prog.name.as_str().into()),
        ("tag", tag(prog).into()),
        ("loaded_ns", prog.loaded.as_nanos().into()),
        ("uid", prog.uid.into()),
        ("xlated", prog.xlated.into()),
        ("jited", prog.jited.into()),
        ("maps", Json::list(prog.maps.iter().copied())),
        ("btf", prog.btf.into()),
        ("verified", prog.verified.into()),
        ("runs", prog.runs.into()),
        ("run_time_ns", prog.run_time.as_nanos().into()),
        ("misses", prog.misses.into()),
        ("gpl", prog.is_gpl.into()),
    ])
}

fn empty(id: u32, what: &str) -> Failure {
    Failure::Failed(format!(
        "the kernel does not show the {what} of program {id}: it may be kept secret \
         (kernel.kptr_restrict, net.core.bpf_jit_harden) or this user may not see it"
    ))
}

/// The instructions as the verifier left them.
pub(crate) fn dump(id: u32, form: Form) -> Result<String, Failure> {
    let fd = list::open_prog(id).map_err(|error| kernel(&error))?;
    let text = list::xlated_text(&fd).map_err(|error| kernel(&error))?;
    if text.is_empty() {
        return Err(empty(id, "instructions"));
    }
    if form == Form::Text {
        return Ok(text);
    }
    let insn = |line: &str| {
        let (slot, text) = line.split_once(": ").unwrap_or(("", line));
        let slot: Option<u32> = slot.trim().parse().ok();
        Json::Object(vec![
            ("slot", slot.into()),
            ("text", text.into()),
        ])
    };
    let insns = text.lines().map(insn).collect();
    let object = Json::Object(vec![
        ("id", id.into()),
        ("insns", Json::List(insns)),
    ]);
    Ok(format!("{object}\n"))
}

/// The machine code.
pub(crate) fn dump_jited(id: u32, form: Form) -> Result<String, Failure> {
    let fd = list::open_prog(id).map_err(|error| kernel(&error))?;
    let functions = list::jited(&fd).map_err(|error| kernel(&error))?;
    if functions.iter().all(|function| function.code.is_empty()) {
        return Err(empty(id, "machine code"));
    }
    if form == Form::Json {
        let function = |function: &list::Jited| {
            Json::Object(vec![
                ("address", format!("{:#x}", function.address).into()),
                ("code", Json::hex(&function.code)),
            ])
        };
        let functions = functions.iter().map(function).collect();
        let object = Json::Object(vec![
            ("id", id.into()),
            ("functions", Json::List(functions)),
        ]);
        return Ok(format!("{object}\n"));
    }
    let mut out = String::new();
    for (index, function) in functions.iter().enumerate() {
        let count = function.code.len();
        out.push_str(&format!(
            "function {index} at {:#x}, {count} bytes\n",
            function.address
        ));
        // Compared with itself: nothing changed.
        out.push_str(&picture::picture(&function.code, &function.code));
    }
    Ok(out)
}
