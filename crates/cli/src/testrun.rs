//! `run`: a program, loaded and run on given input.

use crate::args::{Form, Trial};
use crate::json::Json;
use crate::source::Source;
use crate::{Failure, columns, findings, hex, kernel, picture, visible};
use bpfsmith_asm::program::{Program, Reloc, Target};
use bpfsmith_asm::text;
use bpfsmith_prog::{Error, Load, Maps};
use bpfsmith_uapi::flags::prog_load::BPF_F_SLEEPABLE;
use bpfsmith_uapi::{LwtAction, NfAction, ProgSet, ProgType, SkAction, TcAction, XdpAction};
use std::ffi::{OsStr, OsString};
use std::time::Duration;

/// What a run did: all that is printed of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// The program's name.
    pub program: String,
    /// Its type.
    pub kind: ProgType,
    /// How often it ran.
    pub repeat: u32,
    /// What it answered.
    pub retval: u32,
    /// The average time of a run.
    pub duration: Duration,
    /// The packet before.
    pub data_in: Vec<u8>,
    /// The packet afterwards.
    pub data_out: Vec<u8>,
    /// The context before.
    pub ctx_in: Vec<u8>,
    /// The context afterwards.
    pub ctx_out: Vec<u8>,
}

/// The name of an answer, where the program type has names for them.
#[must_use]
pub fn action(kind: ProgType, retval: u32) -> Option<String> {
    let value = retval.cast_signed();
    let name = match kind {
        ProgType::XDP => XdpAction(value)
            .name()
            .map(|name| (XdpAction::PREFIX, name)),
        ProgType::SCHED_CLS | ProgType::SCHED_ACT => {
            TcAction(value).name().map(|name| (TcAction::PREFIX, name))
        }
        ProgType::SK_SKB | ProgType::SK_MSG | ProgType::SK_LOOKUP | ProgType::SK_REUSEPORT => {
            SkAction(value).name().map(|name| (SkAction::PREFIX, name))
        }
        ProgType::LWT_IN | ProgType::LWT_OUT | ProgType::LWT_XMIT | ProgType::FLOW_DISSECTOR => {
            LwtAction(value)
                .name()
                .map(|name| (LwtAction::PREFIX, name))
        }
        ProgType::NETFILTER => NfAction(value).name().map(|name| (NfAction::PREFIX, name)),
        _ => None,
    };
    name.map(|(prefix, name)| format!("{prefix}{name}"))
}

impl Ran {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let retval = match action(self.kind, self.retval) {
            Some(action) => format!("{} ({action})", self.retval),
            None => self.retval.to_string(),
        };
        let average = match self.repeat {
            1 => String::new(),
            times => format!(", average of {times} runs"),
        };
        let mut fields = vec![
            ("retval", retval),
            (
                "duration",
                format!("{} ns{average}", self.duration.as_nanos()),
            ),
        ];
        if !self.data_in.is_empty() || !self.data_out.is_empty() {
            fields.push(("data_out", picture::summary(&self.data_in, &self.data_out)));
        }
        let mut out = columns::fields(&fields);
        out.push_str(&picture::picture(&self.data_in, &self.data_out));
        if !self.ctx_out.is_empty() {
            let summary = picture::summary(&self.ctx_in, &self.ctx_out);
            out.push_str(&format!("ctx_out   {summary}\n"));
            out.push_str(&picture::picture(&self.ctx_in, &self.ctx_out));
        }
        out
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Json {
        Json::Object(vec![
            ("program", self.program.as_str().into()),
            (
                "type",
                crate::objects::kind_name(self.kind.name(), self.kind.0).into(),
            ),
            ("retval", self.retval.into()),
            ("action", action(self.kind, self.retval).into()),
            ("duration_ns", self.duration.as_nanos().into()),
            ("repeat", self.repeat.into()),
            ("data_in", Json::hex(&self.data_in)),
            ("data_out", Json::hex(&self.data_out)),
            ("ctx_out", Json::hex(&self.ctx_out)),
        ])
    }
}

/// Loads and runs; gives what is printed.
pub(crate) fn run(trial: &Trial, source: &Source) -> Result<String, Failure> {
    let program = program(trial, source)?;
    let given = |arg: &Option<OsString>, what| match arg {
        Some(arg) => bytes(arg, what),
        None => Ok(Vec::new()),
    };
    let mut packet = given(&trial.packet, "--input")?;
    let ctx = given(&trial.ctx, "--ctx")?;
    if trial.packet.is_none() && PACKETS.contains(program.kind()) {
        packet = vec![0; 64];
    }
    let maps = Maps::of(&program).map_err(|error| kernel(&error))?;
    let mut load = Load::new(&program).maps(&maps);
    if program.kind() == ProgType::SYSCALL {
        // There are no others of this type.
        load = load.flags(BPF_F_SLEEPABLE);
    }
    let prog = match load.load() {
        Ok(prog) => prog,
        Err(error) => return Err(refused(source, &error)),
    };
    let mut run = prog.run().data(&packet).ctx(ctx.clone());
    if trial.repeat > 1 {
        // Types that cannot repeat refuse even once.
        run = run.repeat(trial.repeat);
    }
    let outcome = run.go().map_err(|error| kernel(&error))?;
    let ran = Ran {
        program: program.name().to_owned(),
        kind: program.kind(),
        repeat: trial.repeat,
        retval: outcome.retval,
        duration: outcome.duration,
        data_in: packet,
        data_out: outcome.data,
        ctx_in: ctx,
        ctx_out: outcome.ctx,
    };
    Ok(match trial.form {
        Form::Text => ran.text(),
        Form::Json => format!("{}\n", ran.json()),
    })
}

/// The types whose test runs want a packet.
const PACKETS: ProgSet = ProgSet::SOCKET_FILTER
    .or(ProgSet::SCHED_CLS)
    .or(ProgSet::SCHED_ACT)
    .or(ProgSet::XDP)
    .or(ProgSet::CGROUP_SKB)
    .or(ProgSet::LWT_IN)
    .or(ProgSet::LWT_OUT)
    .or(ProgSet::LWT_XMIT)
    .or(ProgSet::LWT_SEG6LOCAL)
    .or(ProgSet::FLOW_DISSECTOR)
    .or(ProgSet::NETFILTER);

/// The program of an input. What the checker refuses goes to the kernel all the same, for its own
/// word, unless maps are missing.
fn program(trial: &Trial, source: &Source) -> Result<Program, Failure> {
    let Some(kind) = trial.kind.or(source.listing.as_ref().map(|own| own.0)) else {
        let message = "the program's type is not known: give --type, or start the text with \
                       `program NAME XDP`";
        return Err(Failure::Refused(vec![format!(
            "{}: {message}",
            source.name
        )]));
    };
    if let Some((own, text)) = &source.listing {
        if *own != kind {
            let (own, kind) = (own.to_string(), kind.to_string());
            let message =
                format!("its `program` line says {own}, --type says {kind}: leave one out");
            return Err(Failure::Refused(vec![format!(
                "{}: {message}",
                source.name
            )]));
        }
        if let Ok(program) = text::program(text) {
            return Ok(program);
        }
    }
    if source.relocs.is_empty() {
        return Ok(Program::from_slots(kind, "main", source.insns.clone()));
    }
    let (lines, is_refused) = findings(source, Some(kind));
    if is_refused {
        return Err(Failure::Refused(lines.lines().map(str::to_owned).collect()));
    }
    // What only the kernel knows needs no description.
    let is_kernels = |reloc: &Reloc| {
        matches!(
            reloc.target,
            Target::Kernel(_) | Target::Kfunc(_) | Target::Ksym(_)
        )
    };
    if let Some(bare) = source
        .bare
        .as_ref()
        .filter(|_| source.relocs.iter().all(is_kernels))
        && let Some(name) = kind.name()
        && let Ok(program) = text::program(&format!("program main {name}\n{bare}"))
    {
        return Ok(program);
    }
    let name = kind.name().unwrap_or("TYPE");
    let message = format!(
        "refers to maps or data by name: start the text with `program NAME {name}` and describe its \
         maps, `map hits ARRAY key 4 value 8 entries 1`"
    );
    Err(Failure::Refused(vec![format!(
        "{}: {message}",
        source.name
    )]))
}

/// The bytes of an argument: digits, or a file.
fn bytes(arg: &OsStr, what: &str) -> Result<Vec<u8>, Failure> {
    if let Some(text) = arg.to_str()
        && let Ok(read) = hex::read(text)
    {
        return Ok(read.bytes);
    }
    std::fs::read(arg).map_err(|error| {
        let name = visible(&arg.to_string_lossy());
        Failure::Failed(format!(
            "{what} {name} is not hex (`b7 00`), and as a file cannot be read: {error}"
        ))
    })
}

/// The picture of a refusal, with the place in the input.
fn refused(source: &Source, error: &Error) -> Failure {
    let slot = match error {
        Error::Refused(refusal) => refusal.slot,
        Error::Name { point, .. } => Some(point.slot),
        _ => return kernel(error),
    };
    let slot = slot.and_then(|slot| u32::try_from(slot).ok());
    let place = slot.map_or_else(|| source.name.clone(), |slot| source.place(slot));
    let picture = format!("{place}: {error:#}");
    Failure::Refused(picture.lines().map(visible).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran() -> Ran {
        Ran {
            program: "p".to_owned(),
            kind: ProgType::XDP,
            repeat: 1,
            retval: 2,
            duration: Duration::from_nanos(31),
            data_in: vec![0; 4],
            data_out: vec![0, 7, 0, 0],
            ctx_in: Vec::new(),
            ctx_out: Vec::new(),
        }
    }

    #[test]
    fn a_run_is_told_with_the_name_of_its_answer() {
        let expected = "\
retval    2 (XDP_PASS)
duration  31 ns
data_out  4 bytes, 1 changed
  0000  00 07 00 00
   was     00
";
        assert_eq!(ran().text(), expected);
        let json = "{\"program\":\"p\",\"type\":\"xdp\",\"retval\":2,\"action\":\"XDP_PASS\",\
                    \"duration_ns\":31,\"repeat\":1,\"data_in\":\"00000000\",\
                    \"data_out\":\"00070000\",\"ctx_out\":\"\"}";
        assert_eq!(ran().json().to_string(), json);
    }

    #[test]
    fn runs_without_packets_or_names_are_told_too() {
        let ran = Ran {
            kind: ProgType::SYSCALL,
            repeat: 10,
            data_in: Vec::new(),
            data_out: Vec::new(),
            ctx_in: vec![1],
            ctx_out: vec![2],
            ..ran()
        };
        let expected = "\
retval    2
duration  31 ns, average of 10 runs
ctx_out   1 byte, 1 changed
  0000  02
   was  01
";
        assert_eq!(ran.text(), expected);
    }

    #[test]
    fn answers_have_the_names_of_their_type() {
        for (kind, retval, name) in [
            (ProgType::XDP, 1, Some("XDP_DROP")),
            (ProgType::XDP, 77, None),
            (ProgType::SCHED_CLS, u32::MAX, Some("TC_ACT_UNSPEC")),
            (ProgType::SK_LOOKUP, 1, Some("SK_PASS")),
            (ProgType::LWT_XMIT, 128, Some("BPF_LWT_REROUTE")),
            (ProgType::NETFILTER, 1, Some("NF_ACCEPT")),
            (ProgType::SOCKET_FILTER, 1, None),
        ] {
            assert_eq!(action(kind, retval).as_deref(), name, "{kind} {retval}");
        }
    }
}
