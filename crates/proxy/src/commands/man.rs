//! The manual page, as roff of the `man` macros, made from the table.

use super::help::{begun, explained, placed};
use super::table::{
    self, ABOUT, CONFIG, GLOBAL, Opt, PINS, PROGRAM, SOCKET, SUMMARY, Section, Spec, VERSION,
};
use super::words::Exit;

/// The name of the page's file.
pub const FILE: &str = "bpfsmith-proxy.8";

/// The page.
#[must_use]
pub fn page() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut page = format!(
        ".TH {} 8 \"\" \"{PROGRAM} {version}\" \"System administration\"\n",
        escaped(&PROGRAM.to_uppercase())
    );
    page += &format!(".SH NAME\n{} \\- {}\n", escaped(PROGRAM), escaped(SUMMARY));
    page += &format!(
        ".SH SYNOPSIS\n.B {}\n.I COMMAND\n[\\fIOPTION\\fR...]\n",
        escaped(PROGRAM)
    );
    page += &format!(".SH DESCRIPTION\n{}", paragraphs(ABOUT));
    page += ".SH OPTIONS\nThese belong to all commands, and stand in front of the command or behind it.\n";
    for option in GLOBAL.iter().chain([&VERSION]) {
        page += &of_option(option);
    }
    for section in Section::SHOWN {
        page += &format!(".SH {}\n", quoted(&section.title().to_uppercase()));
        for spec in table::all().filter(|spec| spec.section == *section) {
            page += &of_command(spec);
        }
    }
    page += ".SH EXIT STATUS\n";
    for exit in Exit::ALL {
        page += &format!(
            ".TP\n.B {}\n{}.\n",
            exit.code(),
            marked(&begun(exit.meaning()))
        );
    }
    page += ".SH ENVIRONMENT\n";
    page += &named(
        "BPFSMITH_PROXY_SOCKET",
        "Where the daemon listens, unless `--socket` says.",
    );
    page += &named(
        "NO_COLOR",
        "If it is set to anything, nothing is printed in colors.",
    );
    page += ".SH FILES\n";
    page += &named(CONFIG, "The configuration.");
    page += &named(SOCKET, "The control socket, which only its owner may use.");
    page += &named(PINS, "Maps and programs that outlive the daemon.");
    page + ".SH SEE ALSO\n.BR tc (8),\n.BR bpf (2),\n.BR systemd (1)\n"
}

fn of_command(spec: &Spec) -> String {
    let mut page = format!(".SS {}\n", quoted(spec.name));
    for (number, usage) in spec.usages().iter().enumerate() {
        let between = if number == 0 { "" } else { ".br\n" };
        let arguments = usage.strip_prefix(spec.name).unwrap_or(usage);
        let (program, name) = (escaped(PROGRAM), escaped(spec.name));
        page += &format!("{between}\\fB{program} {name}\\fR{}\n", escaped(arguments));
    }
    page += ".PP\n";
    page += &paragraphs(spec.text);
    for operand in spec.operands {
        let name = escaped(&placed(operand));
        page += &format!(".TP\n\\fI{name}\\fR\n{}.\n", marked(&begun(operand.text)));
    }
    for option in spec.options {
        page += &of_option(option);
    }
    for (number, (line, what)) in spec.examples.iter().enumerate() {
        page += if number == 0 { ".PP\nExamples:\n" } else { "" };
        page += ".PP\n.RS 4\n.nf\n";
        if !what.is_empty() {
            page += &format!("# {}\n", escaped(what));
        }
        page += &format!("{} {}\n.fi\n.RE\n", escaped(PROGRAM), escaped(line));
    }
    let exits: Vec<String> = spec
        .exits
        .iter()
        .map(|exit| exit.code().to_string())
        .collect();
    let exits = table::either(&exits.iter().map(String::as_str).collect::<Vec<_>>());
    page + &format!(".PP\nThe exit status is {exits}.\n")
}

fn of_option(option: &Opt) -> String {
    let mut name = match option.short {
        Some(letter) => format!("\\fB\\-{letter}\\fR, "),
        None => String::new(),
    };
    name += &format!("\\fB{}\\fR", escaped(option.long));
    if let Some((value, _)) = option.value {
        name += &format!(" \\fI{}\\fR", escaped(value));
    }
    format!(".TP\n{name}\n{}.\n", marked(&begun(&explained(option))))
}

fn named(name: &str, text: &str) -> String {
    format!(".TP\n.B {}\n{}\n", escaped(name), marked(text))
}

fn paragraphs(text: &str) -> String {
    let each = text
        .split("\n\n")
        .map(|paragraph| format!("{}\n", marked(paragraph)));
    each.collect::<Vec<_>>().join(".PP\n")
}

/// Text whose parts between backticks are bold.
fn marked(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let part = |(number, part)| match number % 2 {
        0 => escaped(part),
        _ => format!("\\fB{}\\fR", escaped(part)),
    };
    let text: String = parts.map(part).collect();
    initial(text)
}

/// An argument of a macro.
fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text).replace('"', "\\(dq"))
}

/// Text as it is: nothing in it means anything to roff.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            '\\' => out += "\\e",
            '-' => out += "\\-",
            '\'' => out += "\\(aq",
            '`' => out += "\\(ga",
            '~' => out += "\\(ti",
            '^' => out += "\\(ha",
            '…' => out += "...",
            other => out.push(other),
        }
    }
    initial(out)
}

/// A line that begins with a dot is no request.
fn initial(text: String) -> String {
    match text.starts_with('.') {
        true => format!("\\&{text}"),
        false => text,
    }
}
