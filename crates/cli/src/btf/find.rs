//! `btf find`: names of types, members, functions and constants.

use super::glob::Glob;
use super::layout::{self, Field, Step};
use super::pick::{all, hint, kind_word, near};
use super::source::{Bytes, Source};
use super::{brief, printable};
use crate::args::Form;
use crate::json::Json;
use crate::{Failure, Out, visible};
use bpfsmith_btf::{Btf, Enumerator, Kind, Shape, Type, TypeId};

/// Something that was found.
struct Hit {
    kind: String,
    /// The type, or the one that it belongs to.
    id: TypeId,
    /// Its name; that of a member starts with the name of the structure.
    name: String,
    /// Its bits, if it has any.
    bits: Option<u32>,
    /// In C.
    text: String,
    place: Place,
}

/// What only some have.
enum Place {
    Nothing,
    /// Where a member is, whether it is a bit field, and its type.
    Member(u32, Option<u8>, String),
    /// What a constant is.
    Value(i128),
}

impl Hit {
    fn line(&self) -> String {
        let size = match (self.bits, &self.place) {
            (Some(1), Place::Member(_, Some(_), _)) => "1 bit".to_owned(),
            (Some(bits), Place::Member(_, Some(_), _)) => format!("{bits} bits"),
            (Some(bits), _) => (bits / 8).to_string(),
            (None, _) => "-".to_owned(),
        };
        let id = format!("#{}", self.id.0);
        format!("{:<8} {id:>8} {size:>8}  {}\n", self.kind, self.text)
    }

    fn json(&self) -> Json {
        let mut object = vec![
            ("kind", Json::from(self.kind.as_str())),
            ("id", self.id.0.into()),
            ("name", self.name.as_str().into()),
            ("bits", self.bits.into()),
            ("text", self.text.as_str().into()),
        ];
        match &self.place {
            Place::Nothing => {}
            Place::Member(bit_offset, field, ty) => {
                object.push(("bit_offset", (*bit_offset).into()));
                object.push(("bit_field", field.is_some().into()));
                object.push(("type", ty.as_str().into()));
            }
            Place::Value(value) => object.push(("value", Json::Number(*value))),
        }
        Json::Object(object)
    }
}

/// What is looked for.
struct Wanted<'a> {
    word: &'a str,
    /// Names of a structure, of its member, of a member of that.
    parts: Vec<Glob>,
    kind: Option<&'static str>,
}

impl<'a> Wanted<'a> {
    fn new(word: &'a str, kind: Option<&'static str>) -> Wanted<'a> {
        Wanted {
            word,
            parts: word.split('.').map(Glob::new).collect(),
            kind,
        }
    }

    fn takes(&self, kind: &str) -> bool {
        self.kind.is_none_or(|wanted| wanted == kind)
    }

    /// Calls `each` with all that fits in one type, in order.
    fn look(&self, btf: &Btf<Bytes>, ty: &Type<'_>, each: &mut dyn FnMut(Hit)) {
        let Some((first, rest)) = self.parts.split_first() else {
            return;
        };
        let name = ty.name().to_string();
        match rest {
            [] => {
                let kind = kind_word(ty.kind());
                if !name.is_empty() && first.fits(&name) && self.takes(&kind) {
                    each(described(btf, ty, kind, name.clone()));
                }
                if self.takes("constant") {
                    let values = ty.enumerators();
                    let values = values.filter(|value| first.fits(&value.name.to_string()));
                    values.for_each(|value| each(constant(ty, value)));
                }
                // Only on request: nearly every name is that of a member somewhere.
                if self.kind == Some("member") && !name.is_empty() {
                    self.members(btf, ty, &self.parts, each);
                }
            }
            _ if name.is_empty() || !first.fits(&name) || !self.takes("member") => {}
            _ if self.word.contains('[') => self.element(btf, ty, each),
            rest => self.members(btf, ty, rest, each),
        }
    }

    /// A member by its exact path, with indices.
    fn element(&self, btf: &Btf<Bytes>, ty: &Type<'_>, each: &mut dyn FnMut(Hit)) {
        let path = self.word.split_once('.').map_or("", |(_, path)| path);
        if let Ok(place) = btf.member(ty.id(), path) {
            let field = Field {
                path: path.to_owned(),
                bit_offset: place.bit_offset,
                bits: place.bits,
                ty: place.ty,
            };
            each(member(btf, ty, &field));
        }
    }

    fn members(&self, btf: &Btf<Bytes>, ty: &Type<'_>, parts: &[Glob], each: &mut dyn FnMut(Hit)) {
        // A name for a structure without one is as good as its own.
        let root = match ty.kind() {
            Kind::STRUCT | Kind::UNION => *ty,
            Kind::TYPEDEF if layout::is_nameless(btf, ty.target().unwrap_or(TypeId::VOID)) => {
                match btf.resolve(ty.id()) {
                    Ok(root) => root,
                    Err(_) => return,
                }
            }
            _ => return,
        };
        let found = layout::walk(btf, &root, |level, name, _| {
            match parts.get(level) {
                Some(part) if part.fits(&name.to_string()) => {}
                _ => return Step::Skip,
            }
            match level + 1 == parts.len() {
                true => Step::Take,
                false => Step::Enter,
            }
        });
        for field in found.unwrap_or_default() {
            each(member(btf, ty, &field));
        }
    }

    /// Why nothing was found, and what to do.
    fn missing(&self, source: &Source) -> Failure {
        let (word, place) = (visible(self.word), &source.name);
        let what = match self.kind {
            None => "type, function or constant",
            Some(kind) => kind,
        };
        let name = self.word.split('.').next().unwrap_or("");
        let btf = &source.btf;
        let structs = || {
            let is_it = |ty: &Type<'_>| {
                matches!(ty.kind(), Kind::STRUCT | Kind::UNION | Kind::TYPEDEF) && ty.name() == name
            };
            all(btf).filter(is_it).collect::<Vec<_>>()
        };
        let hint = if self.parts.len() > 1 {
            match structs()[..] {
                [] => hint(&near([btf].into_iter(), name, |_, _| {})),
                [ref first, ..] => near_members(btf, first, self.word),
            }
        } else {
            hint(&near([btf].into_iter(), name, |ty, nearest| {
                let values = ty.enumerators();
                values.for_each(|value| nearest.see(&value.name.to_string()));
            }))
        };
        match self.parts.len() {
            1 => Failure::Failed(format!("no {what} {word} in {place}: {hint}")),
            _ => Failure::Failed(format!("no member {word} in {place}: {hint}")),
        }
    }
}

/// Members of a structure that look like one that it lacks.
fn near_members(btf: &Btf<Bytes>, ty: &Type<'_>, word: &str) -> String {
    let name = ty.name().to_string();
    let wanted = word.rsplit('.').next().unwrap_or("");
    let mut nearest = bpfsmith_prog::near::Nearest::to(wanted);
    let root = btf.resolve(ty.id()).unwrap_or(*ty);
    let members = layout::walk(btf, &root, |_, _, _| Step::Take).unwrap_or_default();
    members.iter().for_each(|field| nearest.see(&field.path));
    let near = nearest.names();
    match near.is_empty() {
        true => format!(
            "`bpfsmith btf find '{}.*'` shows those that it has",
            visible(&name)
        ),
        false => {
            let near: Vec<String> = near.iter().map(|near| format!("{name}.{near}")).collect();
            hint(&near)
        }
    }
}

fn described(btf: &Btf<Bytes>, ty: &Type<'_>, kind: String, name: String) -> Hit {
    let spelled = |id, name: &str| {
        btf.spell(id, name)
            .unwrap_or_else(|error| error.to_string())
    };
    let text = match ty.shape() {
        Shape::Func(proto, _) => spelled(proto, &name),
        Shape::Var(to, _) => spelled(to, &name),
        Shape::Typedef(to) => format!("typedef {}", spelled(to, &name)),
        Shape::DeclTag(to, _) => match btf.get(to) {
            Some(to) => format!("{name} on {} {}", kind_word(to.kind()), to.name()),
            None => name.clone(),
        },
        Shape::TypeTag(to) => spelled(to, &format!("/* {name} */")),
        Shape::DataSec(..) => name.clone(),
        _ => spelled(ty.id(), ""),
    };
    Hit {
        kind,
        id: ty.id(),
        bits: btf.size_of(ty.id()).ok().map(|size| size.saturating_mul(8)),
        name,
        text: brief(&text),
        place: Place::Nothing,
    }
}

fn member(btf: &Btf<Bytes>, ty: &Type<'_>, field: &Field) -> Hit {
    let name = format!("{}.{}", ty.name(), field.path);
    let spelled = btf.spell(field.ty, "");
    let spelled = brief(&spelled.unwrap_or_else(|error| error.to_string()));
    let whole = btf.size_of(field.ty).ok();
    let whole = whole.map(|size| size.saturating_mul(8));
    let at = layout::place(field.bit_offset, field.bits);
    Hit {
        kind: "member".to_owned(),
        id: ty.id(),
        bits: field.bits.map(u32::from).or(whole),
        text: format!("{} at {at}: {spelled}", brief(&name)),
        name,
        place: Place::Member(field.bit_offset, field.bits, spelled),
    }
}

fn constant(ty: &Type<'_>, value: Enumerator<'_>) -> Hit {
    let of = match ty.name() {
        name if name.is_empty() => "an enum without a name".to_owned(),
        name => format!("enum {name}"),
    };
    Hit {
        kind: "constant".to_owned(),
        id: ty.id(),
        name: value.name.to_string(),
        bits: ty.own_size().map(|size| size.saturating_mul(8)),
        text: brief(&format!("{} = {} in {of}", value.name, value.value)),
        place: Place::Value(value.value),
    }
}

/// Prints what was found, as it is found.
struct Printer<'o, 'w> {
    out: &'o mut Out<'w>,
    form: Form,
    count: usize,
    failed: Option<Failure>,
}

impl Printer<'_, '_> {
    fn print(&mut self, hit: &Hit) {
        let text = match (self.form, self.count) {
            (Form::Text, _) => printable(&hit.line()).into_owned(),
            (Form::Json, 0) => format!("{{\"found\":[{}", hit.json()),
            (Form::Json, _) => format!(",{}", hit.json()),
        };
        self.count += 1;
        if let Err(failure) = self.out.write(&text) {
            self.failed.get_or_insert(failure);
        }
    }

    fn is_over(&self) -> bool {
        self.out.is_closed() || self.failed.is_some()
    }
}

pub(super) fn run(
    source: &Source,
    words: &[String],
    kind: Option<&'static str>,
    form: Form,
    out: &mut Out<'_>,
) -> Result<(), Failure> {
    let mut printer = Printer {
        out,
        form,
        count: 0,
        failed: None,
    };
    let mut missing = None;
    for word in words {
        let wanted = Wanted::new(word, kind);
        let before = printer.count;
        for ty in all(&source.btf) {
            if printer.is_over() {
                break;
            }
            wanted.look(&source.btf, &ty, &mut |hit| printer.print(&hit));
        }
        if printer.count == before && !printer.is_over() {
            missing.get_or_insert_with(|| wanted.missing(source));
        }
    }
    if form == Form::Json && printer.count > 0 {
        printer.out.write("]}\n")?;
    }
    match printer.failed.or(missing) {
        None => Ok(()),
        Some(failure) => {
            // What was found is worth something all the same.
            printer.out.flush()?;
            Err(failure)
        }
    }
}
