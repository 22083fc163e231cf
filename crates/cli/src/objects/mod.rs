//! `progs`, `maps` and `links`: what the kernel holds.

mod entries;
pub mod links;
pub mod maps;
pub mod progs;

use crate::args::{Action, Form, Objects};
use crate::json::Json;
use crate::{Failure, Out, columns, kernel};
use bpfsmith_prog::{Link, list};

/// The name of a type as commands write it, or its number.
pub(crate) fn kind_name(name: Option<&str>, number: u32) -> String {
    name.map_or_else(|| number.to_string(), str::to_ascii_lowercase)
}

/// Does what a command line asks for.
pub(crate) fn run(
    kind: Objects,
    action: Action,
    form: Form,
    out: &mut Out<'_>,
) -> Result<(), Failure> {
    match (kind, action) {
        (Objects::Progs, Action::List) => {
            let progs = list::progs().map_err(|error| kernel(&error))?;
            out.write(&listed(form, "progs", &progs, progs::table, progs::json))
        }
        (Objects::Maps, Action::List) => {
            let maps = maps::all()?;
            out.write(&listed(form, "maps", &maps, maps::table, maps::json))
        }
        (Objects::Links, Action::List) => {
            let links = list::links().map_err(|error| kernel(&error))?;
            out.write(&listed(form, "links", &links, links::table, links::json))
        }
        (Objects::Progs, Action::Show(id)) => {
            let fd = list::open_prog(id).map_err(|error| kernel(&error))?;
            let prog = list::prog_info(&fd).map_err(|error| kernel(&error))?;
            out.write(&shown(form, &progs::fields(&prog), || progs::json(&prog)))
        }
        (Objects::Maps, Action::Show(id)) => {
            let map = maps::open(id)?;
            let map = map.info().map_err(|error| kernel(&error))?;
            out.write(&shown(form, &maps::fields(&map), || maps::json(&map)))
        }
        (Objects::Links, Action::Show(id) | Action::Dump(id) | Action::Jited(id)) => {
            let link = Link::open_id(id).and_then(|link| link.info());
            let link = link.map_err(|error| kernel(&error))?;
            out.write(&shown(form, &links::fields(&link), || links::json(&link)))
        }
        (Objects::Progs, Action::Dump(id)) => out.write(&progs::dump(id, form)?),
        (Objects::Progs, Action::Jited(id)) => out.write(&progs::dump_jited(id, form)?),
        (Objects::Maps, Action::Dump(id) | Action::Jited(id)) => entries::dump(id, form, out),
    }
}

/// A list in either form.
fn listed<T>(
    form: Form,
    name: &'static str,
    items: &[T],
    table: impl Fn(&[T]) -> String,
    json: impl Fn(&T) -> Json,
) -> String {
    match form {
        Form::Text => table(items),
        Form::Json => {
            let items = items.iter().map(json).collect();
            format!("{}\n", Json::Object(vec![(name, Json::List(items))]))
        }
    }
}

/// One object in either form.
fn shown(form: Form, fields: &[(&str, String)], json: impl FnOnce() -> Json) -> String {
    match form {
        Form::Text => columns::fields(fields),
        Form::Json => format!("{}\n", json()),
    }
}
