//! The entries of a map: in C where the map says what its bytes mean, else in hex.

use super::maps::open;
use crate::args::Form;
use crate::json::Json;
use crate::picture::pairs;
use crate::{Failure, Out, kernel, visible};
use bpfsmith_btf::{Btf, TypeId};
use bpfsmith_maps::Handle;
use bpfsmith_prog::list;
use bpfsmith_uapi::{Errno, MapType};

/// Bytes and what they mean, if that is known.
struct Value {
    bytes: Vec<u8>,
    text: Option<String>,
}

impl Value {
    fn new(types: Option<&Types>, id: impl Fn(&Types) -> TypeId, bytes: &[u8]) -> Value {
        // A type that does not fit its bytes leaves them as they are.
        let shown = types.and_then(|types| types.btf.show(id(types), bytes).ok());
        Value {
            bytes: bytes.to_vec(),
            text: shown,
        }
    }

    fn text(&self) -> String {
        match &self.text {
            Some(text) => visible(text),
            None => pairs(&self.bytes),
        }
    }

    fn json(&self) -> Json {
        Json::Object(vec![
            ("hex", Json::hex(&self.bytes)),
            ("text", self.text.clone().into()),
        ])
    }
}

/// What the bytes of a map mean.
struct Types {
    btf: Btf,
    key: TypeId,
    value: TypeId,
}

impl Types {
    fn of(map: &Handle) -> Result<Option<Types>, Failure> {
        let info = map.info().map_err(|error| kernel(&error))?;
        if info.btf_id == 0 || info.btf_value_type_id == 0 {
            return Ok(None);
        }
        Ok(Some(Types {
            btf: list::btf(info.btf_id).map_err(|error| kernel(&error))?,
            key: TypeId(info.btf_key_type_id),
            value: TypeId(info.btf_value_type_id),
        }))
    }
}

/// An entry, or why its value cannot be read.
struct Entry {
    key: Value,
    values: Result<Vec<Value>, Errno>,
}

impl Entry {
    fn text(&self, is_per_cpu: bool) -> String {
        let key = self.key.text();
        match &self.values {
            Err(errno) => format!("{key}: cannot be read ({errno})\n"),
            Ok(values) if is_per_cpu => {
                let mut out = format!("{key}:\n");
                for (cpu, value) in values.iter().enumerate() {
                    out.push_str(&format!("  cpu {cpu}: {}\n", value.text()));
                }
                out
            }
            Ok(values) => {
                let values: Vec<String> = values.iter().map(Value::text).collect();
                format!("{key}: {}\n", values.join(" "))
            }
        }
    }

    fn json(&self) -> Json {
        let (values, error) = match &self.values {
            Ok(values) => (values.iter().map(Value::json).collect(), None),
            Err(errno) => (Vec::new(), Some(errno.to_string())),
        };
        Json::Object(vec![
            ("key", self.key.json()),
            ("values", Json::List(values)),
            ("error", error.into()),
        ])
    }
}

/// A map that is walked.
struct Dump {
    map: Handle,
    types: Option<Types>,
    is_per_cpu: bool,
}

impl Dump {
    fn new(id: u32) -> Result<Dump, Failure> {
        let map = open(id)?;
        let kind = map.facts().kind;
        if map.facts().key == 0 {
            return Err(no_walk(id, kind));
        }
        Ok(Dump {
            types: Types::of(&map)?,
            is_per_cpu: matches!(
                kind,
                MapType::PERCPU_HASH
                    | MapType::PERCPU_ARRAY
                    | MapType::LRU_PERCPU_HASH
                    | MapType::PERCPU_CGROUP_STORAGE
            ),
            map,
        })
    }

    /// The key behind `last`, or the first.
    fn next(&self, id: u32, last: Option<&[u8]>) -> Result<Option<Vec<u8>>, Failure> {
        let mut key = vec![0; self.map.facts().key as usize];
        match self.map.raw().next_key(last, &mut key) {
            Ok(()) => Ok(Some(key)),
            Err(failed) if failed.errno == Errno::ENOENT => Ok(None),
            Err(failed) if matches!(failed.errno, Errno::ENOTSUPP | Errno::EOPNOTSUPP) => {
                Err(no_walk(id, self.map.facts().kind))
            }
            Err(failed) => Err(Failure::Failed(format!("map id {id}: {failed}"))),
        }
    }

    /// The entry of a key; none if it went meanwhile, or is an empty place.
    fn entry(&self, key: &[u8]) -> Option<Entry> {
        let facts = self.map.facts();
        let mut bytes = vec![0; facts.stride];
        let values = match self.map.raw().lookup(key, &mut bytes, 0) {
            Ok(()) => Ok(self.values(&bytes)),
            Err(failed) if failed.errno == Errno::ENOENT => return None,
            Err(failed) => Err(failed.errno),
        };
        Some(Entry {
            key: Value::new(self.types.as_ref(), |types| types.key, key),
            values,
        })
    }

    fn values(&self, bytes: &[u8]) -> Vec<Value> {
        let value = |bytes| Value::new(self.types.as_ref(), |types| types.value, bytes);
        if !self.is_per_cpu {
            return vec![value(bytes)];
        }
        // Each CPU's value starts at a multiple of 8 bytes.
        let size = self.map.facts().value as usize;
        let all = bytes.chunks(size.next_multiple_of(8).max(8));
        all.map(|bytes| value(bytes.get(..size).unwrap_or(bytes)))
            .collect()
    }
}

fn no_walk(id: u32, kind: MapType) -> Failure {
    let kind = super::kind_name(kind.name(), kind.0);
    Failure::Failed(format!(
        "map {id} is a {kind}, whose entries cannot be walked: see `bpfsmith maps show {id}`"
    ))
}

/// Prints every entry.
pub(super) fn dump(id: u32, form: Form, out: &mut Out<'_>) -> Result<(), Failure> {
    let dump = Dump::new(id)?;
    let mut last = dump.next(id, None)?;
    if form == Form::Json {
        let per_cpu = Json::from(dump.is_per_cpu);
        out.write(&format!(
            "{{\"id\":{id},\"per_cpu\":{per_cpu},\"entries\":["
        ))?;
    }
    let mut seen: u64 = 0;
    let mut gap = "";
    while let Some(key) = last {
        if let Some(entry) = dump.entry(&key) {
            match form {
                Form::Text => out.write(&entry.text(dump.is_per_cpu))?,
                Form::Json => out.write(&format!("{gap}{}", entry.json()))?,
            }
            gap = ",";
        }
        // A hash whose keys come and go may lead round for ever.
        seen += 1;
        if out.is_closed() || seen >= u64::from(dump.map.facts().entries.max(1)) {
            break;
        }
        last = dump.next(id, Some(&key))?;
    }
    if form == Form::Json {
        out.write("]}\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(bytes: &[u8], text: Option<&str>) -> Value {
        Value {
            bytes: bytes.to_vec(),
            text: text.map(str::to_owned),
        }
    }

    #[test]
    fn entries_are_lines_or_objects() {
        let plain = Entry {
            key: value(&[7, 0], Some("7")),
            values: Ok(vec![value(&[1, 2], None)]),
        };
        assert_eq!(plain.text(false), "7: 01 02\n");
        let expected = "{\"key\":{\"hex\":\"0700\",\"text\":\"7\"},\
                        \"values\":[{\"hex\":\"0102\",\"text\":null}],\"error\":null}";
        assert_eq!(plain.json().to_string(), expected);

        let per_cpu = Entry {
            key: value(&[7], None),
            values: Ok(vec![
                value(&[1], Some("1")),
                value(&[2], Some("2")),
            ]),
        };
        assert_eq!(per_cpu.text(true), "07:\n  cpu 0: 1\n  cpu 1: 2\n");

        let secret = Entry {
            key: value(&[7], None),
            values: Err(Errno::EOPNOTSUPP),
        };
        assert_eq!(secret.text(false), "07: cannot be read (EOPNOTSUPP)\n");
    }
}
