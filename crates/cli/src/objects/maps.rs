//! Maps that are loaded.

use super::kind_name;
use crate::columns::{self, Side};
use crate::json::Json;
use crate::{Failure, kernel, visible};
use bpfsmith_maps::Handle;
use bpfsmith_prog::list::MapInfo;
use bpfsmith_uapi::MapType;

const COLUMNS: &[(&str, Side)] = &[
    ("id", Side::Right),
    ("type", Side::Left),
    ("name", Side::Left),
    ("key", Side::Right),
    ("value", Side::Right),
    ("entries", Side::Right),
    ("flags", Side::Right),
    ("btf", Side::Right),
];

/// Every map, as the kernel describes it.
pub(crate) fn all() -> Result<Vec<MapInfo>, Failure> {
    bpfsmith_maps::list::all()
        .map(|map| {
            map.and_then(|(_, map)| map.info())
                .map_err(|error| kernel(&error))
        })
        .collect()
}

/// Opens a map by its number.
pub(crate) fn open(id: u32) -> Result<Handle, Failure> {
    Handle::open_id(id).map_err(|error| kernel(&error))
}

fn name(map: &MapInfo) -> String {
    let end = map.name.iter().position(|&byte| byte == 0);
    let bytes = &map.name[..end.unwrap_or(map.name.len())];
    String::from_utf8_lossy(bytes).into_owned()
}

fn kind(map: &MapInfo) -> String {
    kind_name(MapType(map.kind).name(), map.kind)
}

fn btf(map: &MapInfo) -> Option<u32> {
    (map.btf_id != 0).then_some(map.btf_id)
}

fn optional(id: Option<u32>) -> String {
    id.map_or_else(|| "-".to_owned(), |id| id.to_string())
}

/// One line for each.
#[must_use]
pub fn table(maps: &[MapInfo]) -> String {
    let row = |map: &MapInfo| {
        vec![
            map.id.to_string(),
            kind(map),
            visible(&name(map)),
            map.key_size.to_string(),
            map.value_size.to_string(),
            map.max_entries.to_string(),
            format!("{:#x}", map.map_flags),
            optional(btf(map)),
        ]
    };
    let rows: Vec<Vec<String>> = maps.iter().map(row).collect();
    columns::table(COLUMNS, &rows)
}

/// All about one.
#[must_use]
pub fn fields(map: &MapInfo) -> Vec<(&'static str, String)> {
    vec![
        ("id", map.id.to_string()),
        ("type", kind(map)),
        ("name", visible(&name(map))),
        ("key", format!("{} bytes", map.key_size)),
        ("value", format!("{} bytes", map.value_size)),
        ("entries", map.max_entries.to_string()),
        ("flags", format!("{:#x}", map.map_flags)),
        ("extra", format!("{:#x}", map.map_extra)),
        ("btf", optional(btf(map))),
    ]
}

/// One for programs.
#[must_use]
pub fn json(map: &MapInfo) -> Json {
    Json::Object(vec![
        ("id", map.id.into()),
        ("type", kind(map).into()),
        ("name", name(map).into()),
        ("key", map.key_size.into()),
        ("value", map.value_size.into()),
        ("entries", map.max_entries.into()),
        ("flags", map.map_flags.into()),
        ("extra", map.map_extra.into()),
        ("btf", btf(map).into()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_a_table_and_objects() {
        let mut map = MapInfo::default();
        map.kind = MapType::PERCPU_HASH.0;
        (map.id, map.key_size, map.value_size) = (9, 4, 16);
        (map.max_entries, map.map_flags) = (1024, 1);
        map.name[..4].copy_from_slice(b"hits");
        let expected = "
id  type         name  key  value  entries  flags  btf
 9  percpu_hash  hits    4     16     1024    0x1    -
";
        assert_eq!(table(&[map]), expected.trim_start());
        let expected = "{\"id\":9,\"type\":\"percpu_hash\",\"name\":\"hits\",\"key\":4,\"value\":16,\
                        \"entries\":1024,\"flags\":1,\"extra\":0,\"btf\":null}";
        assert_eq!(json(&map).to_string(), expected);
    }
}
