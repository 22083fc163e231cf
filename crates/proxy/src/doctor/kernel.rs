//! The kernel, and what this process may.

use super::{Report, said};
use crate::error::Error;
use bpfsmith_config::desired::Settings;
use bpfsmith_sys::rights::{self, Caps};
use std::io::ErrorKind;
use std::path::Path;

/// What a proxy needs.
const NEEDED: [(Caps, &str); 3] = [
    (Caps::BPF, "CAP_BPF"),
    (Caps::NET_ADMIN, "CAP_NET_ADMIN"),
    (Caps::PERFMON, "CAP_PERFMON"),
];

pub(super) fn look(report: &mut Report, settings: &Settings) {
    match said("/proc/sys/kernel/osrelease") {
        Ok(release) => version(report, &release),
        Err(error) => report.note("kernel", format!("its version is not known: {error}")),
    }
    match rights::capabilities() {
        Ok(caps) => may(report, caps),
        Err(errno) => report.note("rights", format!("they are not known: {errno}")),
    }
    match said("/proc/self/mounts") {
        Ok(mounts) => mounted(report, &mounts, &settings.pins),
        Err(error) => report.note("mounts", format!("they are not known: {error}")),
    }
    match Path::new("/sys/kernel/btf/vmlinux").exists() {
        true => report.right("types", "the kernel describes its types (BTF)"),
        false => report.note(
            "types",
            "the kernel does not describe its types (BTF): connections by cookie need that",
        ),
    }
    match said("/proc/sys/net/core/bpf_jit_enable") {
        Ok(level) => compiled(report, &level),
        // Only the first network namespace shows it.
        Err(Error::File { error, .. }) if error.kind() == ErrorKind::NotFound => report.note_to(
            "compiler",
            "it is not known: this network namespace does not show it",
            "nsenter --net=/proc/1/ns/net sysctl net.core.bpf_jit_enable",
        ),
        Err(error) => report.note("compiler", format!("it is not known: {error}")),
    }
}

/// Its first two numbers.
fn numbers(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|it: char| !it.is_ascii_digit());
    let major = parts.next()?.parse().ok()?;
    Some((major, parts.next()?.parse().ok()?))
}

fn version(report: &mut Report, release: &str) {
    match numbers(release) {
        Some(it) if it >= (6, 6) => report.right(
            "kernel",
            format!(
                "Linux {release}: programs behind drivers have links (TCX), and outlive the process"
            ),
        ),
        Some(_) => report.wrong(
            "kernel",
            format!("Linux {release}: what the daemon leaves in the kernel takes TCX"),
            "run Linux 6.6 or a newer one",
        ),
        None => report.note("kernel", format!("nothing is known of version {release}")),
    }
}

fn may(report: &mut Report, caps: Caps) {
    let lacks: Vec<&str> = NEEDED
        .into_iter()
        .filter(|(cap, _)| !caps.contains(*cap) && !caps.contains(Caps::SYS_ADMIN))
        .map(|(_, name)| name)
        .collect();
    if lacks.is_empty() {
        report.right("rights", "this process may load and attach programs");
    } else {
        report.note_to(
            "rights",
            format!(
                "this process has no {}: not all can be looked at, and the daemon could not begin like this",
                lacks.join(", ")
            ),
            "sudo bpfsmith-proxy doctor",
        );
    }
    if lacks.is_empty() && !caps.contains(Caps::SYS_ADMIN) {
        report.note(
            "rights",
            "without CAP_SYS_ADMIN, far ends of cables and names of other programs are not seen",
        );
    }
}

/// Whether names of programs can be there.
fn mounted(report: &mut Report, mounts: &str, pins: &Path) {
    let places = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (place, kind) = (words.nth(1)?, words.next()?);
        Some((Path::new(place), kind))
    });
    // What is mounted last hides what was there.
    let holding = places.filter(|(place, _)| pins.starts_with(place));
    let holding = holding.fold(None, |best: Option<(&Path, &str)>, it| match best {
        Some(best) if best.0.components().count() > it.0.components().count() => Some(best),
        _ => Some(it),
    });
    let pins = pins.display();
    match holding {
        Some((place, "bpf")) => report.right(
            "names",
            format!("{pins} is in the BPF file system at {}", place.display()),
        ),
        _ => report.wrong(
            "names",
            format!("{pins} is in no BPF file system: nothing would outlive the process"),
            "mount -t bpf bpf /sys/fs/bpf",
        ),
    }
}

fn compiled(report: &mut Report, level: &str) {
    match level {
        "0" => report.wrong(
            "compiler",
            "programs are interpreted: ten times slower",
            "sysctl -w net.core.bpf_jit_enable=1",
        ),
        "2" => report.note_to(
            "compiler",
            "programs are compiled, and each is written to the kernel's log",
            "sysctl -w net.core.bpf_jit_enable=1",
        ),
        _ => report.right("compiler", "programs are compiled"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Grade;
    use super::*;

    fn grades(look: impl FnOnce(&mut Report)) -> Vec<Grade> {
        let mut report = Report::default();
        look(&mut report);
        report.findings.iter().map(|it| it.grade).collect()
    }

    #[test]
    fn versions() {
        for (release, grade) in [
            ("6.18.5-generic", Grade::Right),
            ("6.6.0", Grade::Right),
            ("10.0-rc1", Grade::Right),
            ("6.5.13", Grade::Wrong),
            ("5.15", Grade::Wrong),
            ("next", Grade::Note),
            ("", Grade::Note),
        ] {
            assert_eq!(
                grades(|report| version(report, release)),
                [grade],
                "{release}"
            );
        }
    }

    #[test]
    fn rights_that_lack() {
        let all = Caps::BPF | Caps::NET_ADMIN | Caps::PERFMON;
        assert_eq!(grades(|it| may(it, Caps::all())), [Grade::Right]);
        assert_eq!(grades(|it| may(it, all)), [Grade::Right, Grade::Note]);
        assert_eq!(grades(|it| may(it, Caps::BPF)), [Grade::Note]);
    }

    #[test]
    fn places_of_names() {
        let pins = Path::new("/sys/fs/bpf/bpfsmith-proxy");
        for (mounts, grade) in [
            (
                "sysfs /sys sysfs rw 0 0\nbpf /sys/fs/bpf bpf rw 0 0\n",
                Grade::Right,
            ),
            (
                "bpf /sys/fs/bpf bpf rw 0 0\nsysfs /sys sysfs rw 0 0\n",
                Grade::Right,
            ),
            (
                "bpf /sys/fs/bpf bpf rw 0 0\ntmpfs /sys/fs/bpf tmpfs rw 0 0\n",
                Grade::Wrong,
            ),
            (
                "sysfs /sys sysfs rw 0 0\nbpf /sys/fs/bpf2 bpf rw 0 0\n",
                Grade::Wrong,
            ),
            ("bpf\n\n", Grade::Wrong),
        ] {
            assert_eq!(grades(|it| mounted(it, mounts, pins)), [grade], "{mounts}");
        }
    }

    #[test]
    fn compilers() {
        let all = ["0", "1", "2"].map(|level| grades(|it| compiled(it, level)));
        assert_eq!(all.concat(), [Grade::Wrong, Grade::Right, Grade::Note]);
    }
}
