//! A report for people.

use super::Support;
use super::report::{Group, Report, Row};
use bpfsmith_uapi::{Errno, ProgType};
use std::fmt;

/// A report as a table: `Display` prints one line for each question, helpers and kernel functions
/// with the program types that may call them.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a>(pub &'a Report);

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Table(self).fmt(f)
    }
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut is_first = true;
        for &group in Group::ALL {
            let rows: Vec<&Row> = self
                .0
                .rows
                .iter()
                .filter(|row| row.group == group)
                .collect();
            if rows.is_empty() {
                continue;
            }
            if !std::mem::take(&mut is_first) {
                writeln!(f)?;
            }
            writeln!(f, "{}:", group.title())?;
            if rows.iter().any(|row| row.within.is_some()) {
                matrix(f, &rows)?;
            } else {
                list(f, &rows)?;
            }
        }
        Ok(())
    }
}

fn list(f: &mut fmt::Formatter<'_>, rows: &[&Row]) -> fmt::Result {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    for row in rows {
        let name = row.name.as_str();
        match &row.support {
            Support::Yes => writeln!(f, "  yes      {name}")?,
            Support::No(reason) => writeln!(f, "  no       {name:width$}  {reason}")?,
            Support::Unknown(errno) => writeln!(f, "  unknown  {name:width$}  {errno}")?,
        }
    }
    Ok(())
}

fn lower(kind: ProgType) -> String {
    kind.name().unwrap_or("?").to_ascii_lowercase()
}

/// The program types of which something is known, but no yes.
fn without(rows: &[&Row]) -> Vec<ProgType> {
    let is_yes = |kind| {
        rows.iter()
            .any(|row| row.within == Some(kind) && row.support.is_yes())
    };
    let is_no = |kind| {
        let no = |row: &Row| row.within == Some(kind) && matches!(row.support, Support::No(_));
        rows.iter().any(|row| no(row))
    };
    let all = ProgType::ALL.iter().copied();
    all.filter(|&kind| is_no(kind) && !is_yes(kind)).collect()
}

/// The program types of which nothing is known, with the reason.
fn unknown(rows: &[&Row]) -> Vec<(ProgType, Errno)> {
    let mut kinds: Vec<(ProgType, Errno)> = Vec::new();
    for row in rows {
        if let (Some(kind), Support::Unknown(errno)) = (row.within, &row.support)
            && !kinds.iter().any(|known| known.0 == kind)
        {
            kinds.push((kind, *errno));
        }
    }
    kinds
}

fn matrix(f: &mut fmt::Formatter<'_>, rows: &[&Row]) -> fmt::Result {
    for (kind, errno) in unknown(rows) {
        writeln!(f, "  not known for {}: {errno}", lower(kind))?;
    }
    let without = without(rows);
    if !without.is_empty() {
        let names: Vec<String> = without.iter().copied().map(lower).collect();
        writeln!(f, "  none in {}", names.join(" "))?;
    }
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let mut rest = rows;
    while let Some(first) = rest.first() {
        let count = rest.iter().take_while(|row| row.name == first.name).count();
        let (same, behind) = rest.split_at(count);
        rest = behind;
        writeln!(f, "  {:width$}  {}", first.name, callers(same, &without))?;
    }
    Ok(())
}

/// Where fewer types than these may not, they are told instead of those that may.
const FEW: usize = 6;

/// `all`, the types that may or may not, or why none may.
fn callers(rows: &[&Row], without: &[ProgType]) -> String {
    let known = rows.iter().copied();
    let known = known.filter(|row| !matches!(row.support, Support::Unknown(_)));
    let (yes, mut no): (Vec<&Row>, Vec<&Row>) = known.partition(|row| row.support.is_yes());
    if yes.is_empty() {
        return match no.first().map(|row| &row.support) {
            Some(Support::No(reason)) => format!("none: {reason}"),
            _ => "unknown".to_owned(),
        };
    }
    no.retain(|row| row.within.is_none_or(|kind| !without.contains(&kind)));
    let names = |rows: &[&Row]| {
        let names: Vec<String> = rows
            .iter()
            .filter_map(|row| row.within.map(lower))
            .collect();
        names.join(" ")
    };
    match no.len() {
        0 => "all".to_owned(),
        few if few < FEW && few < yes.len() => format!("all but {}", names(&no)),
        _ => names(&yes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(group: Group, name: &str, within: Option<ProgType>, support: Support) -> Row {
        Row {
            group,
            name: name.to_owned(),
            within,
            support,
        }
    }

    #[test]
    fn a_report_is_a_table() {
        let no = || Support::No("unknown func bpf_late#9".to_owned());
        let (xdp, filter, ext) = (ProgType::XDP, ProgType::SOCKET_FILTER, ProgType::EXT);
        let unknown = || Support::Unknown(Errno::EOPNOTSUPP);
        let rows = vec![
            row(Group::Maps, "ARRAY", None, Support::Yes),
            row(
                Group::Maps,
                "RINGBUF",
                None,
                Support::No("EINVAL".to_owned()),
            ),
            row(Group::Maps, "ARENA", None, Support::Unknown(Errno::EPERM)),
            row(Group::Helpers, "both", Some(filter), Support::Yes),
            row(Group::Helpers, "both", Some(xdp), Support::Yes),
            row(Group::Helpers, "both", Some(ProgType::LIRC_MODE2), no()),
            row(Group::Helpers, "both", Some(ext), unknown()),
            row(Group::Helpers, "late", Some(filter), no()),
            row(Group::Helpers, "late", Some(xdp), no()),
            row(Group::Helpers, "late", Some(ext), unknown()),
            row(Group::Helpers, "one", Some(filter), no()),
            row(Group::Helpers, "one", Some(xdp), Support::Yes),
            row(Group::Helpers, "one", Some(ext), unknown()),
        ];
        let text = Report { rows }.to_string();
        let expected = "\
map types:
  yes      ARRAY
  no       RINGBUF  EINVAL
  unknown  ARENA    EPERM

helpers:
  not known for ext: EOPNOTSUPP
  none in lirc_mode2
  both  all
  late  none: unknown func bpf_late#9
  one   xdp
";
        assert_eq!(text, expected);
    }
}
