//! Types for programs.

use super::source::Bytes;
use crate::json::Json;
use bpfsmith_btf::{Btf, Error, Linkage, Shape, Type, TypeId};

/// Everything about a type, with the names of the types that it refers to.
pub(super) fn ty(btf: &Btf<Bytes>, id: TypeId) -> Result<Json, Error> {
    let ty = btf.ty(id)?;
    let mut object = vec![
        ("id", Json::from(id.0)),
        ("kind", super::pick::kind_word(ty.kind()).into()),
        ("name", name(ty.name())),
        ("size", btf.size_of(id).ok().into()),
    ];
    match ty.shape() {
        Shape::Int(int) => {
            object.push(("signed", int.is_signed().into()));
            object.push(("bits", u32::from(int.bits).into()));
        }
        Shape::Array(array) => {
            object.push(("length", array.len.into()));
            reference(btf, array.element, &mut object)?;
        }
        Shape::Struct(..) | Shape::Union(..) => object.push(("members", members(btf, &ty)?)),
        Shape::Enum(_, values) => {
            object.push(("signed", ty.flag().into()));
            let values = values.map(|value| {
                Json::Object(vec![
                    ("name", name(value.name)),
                    ("value", Json::Number(value.value)),
                ])
            });
            object.push(("constants", Json::List(values.collect())));
        }
        Shape::Func(proto, linkage) | Shape::Var(proto, linkage) => {
            object.push(("linkage", word(linkage).into()));
            reference(btf, proto, &mut object)?;
        }
        Shape::FuncProto(result, _) => {
            reference(btf, result, &mut object)?;
            object.push(("params", params(btf, &ty)?));
        }
        Shape::DataSec(..) => object.push(("variables", variables(btf, &ty)?)),
        Shape::DeclTag(target, part) => {
            object.push(("part", part.into()));
            reference(btf, target, &mut object)?;
        }
        _ => {
            if let Some(target) = ty.target() {
                reference(btf, target, &mut object)?;
            }
        }
    }
    Ok(Json::Object(object))
}

fn members(btf: &Btf<Bytes>, ty: &Type<'_>) -> Result<Json, Error> {
    let mut list = Vec::with_capacity(ty.members().len());
    for member in ty.members() {
        let whole = btf
            .size_of(member.ty)
            .ok()
            .map(|size| size.saturating_mul(8));
        let mut object = vec![
            ("name", name(member.name)),
            ("bit_offset", member.bit_offset.into()),
            ("bits", member.bits.map(u32::from).or(whole).into()),
            ("bit_field", member.bits.is_some().into()),
        ];
        reference(btf, member.ty, &mut object)?;
        list.push(Json::Object(object));
    }
    Ok(Json::List(list))
}

fn params(btf: &Btf<Bytes>, ty: &Type<'_>) -> Result<Json, Error> {
    let mut list = Vec::with_capacity(ty.params().len());
    for param in ty.params() {
        let mut object = vec![("name", name(param.name))];
        reference(btf, param.ty, &mut object)?;
        list.push(Json::Object(object));
    }
    Ok(Json::List(list))
}

fn variables(btf: &Btf<Bytes>, ty: &Type<'_>) -> Result<Json, Error> {
    let mut list = Vec::new();
    for variable in ty.variables() {
        let mut object = vec![
            ("name", name(btf.ty(variable.ty)?.name())),
            ("offset", variable.offset.into()),
            ("size", variable.size.into()),
        ];
        reference(btf, variable.ty, &mut object)?;
        list.push(Json::Object(object));
    }
    Ok(Json::List(list))
}

/// A name; none if it has none.
pub(super) fn name(name: bpfsmith_btf::Name<'_>) -> Json {
    (!name.is_empty()).then(|| name.to_string()).into()
}

/// The number of a type and how C spells it.
fn reference(
    btf: &Btf<Bytes>,
    id: TypeId,
    object: &mut Vec<(&'static str, Json)>,
) -> Result<(), Error> {
    object.push(("type_id", id.0.into()));
    object.push(("type", super::brief(&btf.spell(id, "")?).into()));
    Ok(())
}

fn word(linkage: Linkage) -> String {
    crate::objects::kind_name(linkage.name(), linkage.0)
}
