//! What has to hold for any text, asked by tests and by the fuzzer alike. A text that is refused is no failure.

use bpfsmith_config::desired::Desired;
use bpfsmith_config::{Document, Value, edn, json};

/// A text of TOML.
pub(crate) fn toml(text: &str) {
    let Ok(document) = Document::read(text) else {
        return;
    };
    assert_eq!(document.text(), text);
    comes_back(document.desired());
    // Shown as JSON it says the same.
    let shown = json::write(document.value());
    let read = json::read(&shown).unwrap_or_else(|problems| panic!("{shown}\n{problems}"));
    let read = Desired::read(&read).unwrap_or_else(|problems| panic!("{shown}\n{problems}"));
    assert_eq!(read.bare(), document.desired().bare());
}

/// A text of JSON.
pub(crate) fn json(text: &str) {
    if let Ok(value) = json::read(text)
        && let Ok(desired) = Desired::read(&value)
    {
        comes_back(&desired);
    }
}

/// A configuration of clj-ebpf.
pub(crate) fn edn(text: &str) {
    if let Ok(value) = edn::read(text)
        && let Ok(desired) = Desired::import(&value)
    {
        comes_back(&desired);
    }
}

/// What is wanted, written and read again.
fn comes_back(desired: &Desired) {
    let text = desired
        .text()
        .unwrap_or_else(|problems| panic!("{desired:?}\n{problems}"));
    let read = Document::read(&text).unwrap_or_else(|problems| panic!("{text}\n{problems}"));
    assert_eq!(read.desired().bare(), desired.bare(), "{text}");
}

/// A configuration, and on each line behind `---` an edit: its name, the names that it takes, and a value.
pub(crate) fn edit(text: &str) {
    let (text, edits) = text.split_once("\n---\n").unwrap_or(("", text));
    let Ok(mut document) = Document::read(text) else {
        return;
    };
    for line in edits.lines() {
        edit_one(&mut document, line);
    }
}

/// One edit; whether it was done. All that it is not about is as before.
pub(crate) fn edit_one(document: &mut Document, line: &str) -> bool {
    let mut words = line.splitn(3, ' ');
    let (edit, name) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let rest = words.next().unwrap_or("");
    let value = json::read(rest).unwrap_or_else(|_| Value::from(rest));
    let before = document.clone();
    let done = match edit {
        "add_proxy" => document.add_proxy(&value),
        "update_proxy" => document.update_proxy(name, &value),
        "remove_proxy" => document.remove_proxy(name),
        "add_route" => document.add_route(name, &value),
        "remove_route" => document.remove_route(name, rest),
        "put_group" => document.put_group(name, &value),
        "update_group" => document.update_group(name, &value),
        "remove_group" => document.remove_group(name),
        "add_target" => document.add_target(name, &value),
        "remove_target" => document.remove_target(name, rest),
        "set" => document.set(name, &value),
        _ => return false,
    };
    let effect = match done {
        Ok(effect) => effect,
        Err(error) => {
            assert!(!error.to_string().contains('\n'), "{error}");
            assert_eq!(*document, before);
            return false;
        }
    };
    let text = document.text();
    let read = Document::read(text).unwrap_or_else(|problems| panic!("{line}\n{text}\n{problems}"));
    assert_eq!(read, *document);
    for group in &effect.idle {
        assert!(document.desired().group(group).is_some(), "{line}");
    }
    for (old, new) in &effect.renamed {
        assert!(before.desired().group(old).is_some(), "{line} {old}");
        assert!(document.desired().group(new).is_some(), "{line} {new}");
    }
    let (was, is) = (before.desired().bare(), document.desired().bare());
    match edit {
        "add_proxy" | "set" => {}
        _ => others_stay(&was, &is, edit, name, line),
    }
    match edit {
        "add_proxy" => {
            assert_eq!(is.proxies.len(), was.proxies.len() + 1, "{line}");
            assert_eq!(is.proxies[..was.proxies.len()], was.proxies[..], "{line}");
            assert!(was.groups.iter().all(|it| is.groups.contains(it)), "{line}");
            assert_eq!(is.settings, was.settings, "{line}");
        }
        "remove_proxy" => assert!(is.proxy(name).is_none(), "{line}"),
        "remove_group" => assert!(is.group(name).is_none(), "{line}"),
        "set" if name.starts_with("settings") => {
            assert_eq!(is.proxies, was.proxies, "{line}");
            assert_eq!(is.groups, was.groups, "{line}");
        }
        _ => {}
    }
    true
}

/// That an edit of a proxy or a group leaves all others as they were.
fn others_stay(was: &Desired, is: &Desired, edit: &str, name: &str, line: &str) {
    assert_eq!(is.settings, was.settings, "{line}");
    let is_of_group = edit.ends_with("group") || edit.ends_with("target");
    let others = |it: &Desired| {
        let proxies = it.proxies.iter();
        let proxies = proxies.filter(|it| is_of_group || it.name != name);
        proxies.cloned().collect::<Vec<_>>()
    };
    let (before, after) = (others(was), others(is));
    match edit {
        // It may have another name.
        "update_proxy" => assert!(before.iter().all(|it| after.contains(it)), "{line}"),
        _ => assert_eq!(before, after, "{line}"),
    }
    let own = format!("{name}-route-");
    for group in &was.groups {
        let is_own = group.name == name || !is_of_group && group.name.starts_with(&own);
        assert!(
            is_own || is.groups.contains(group),
            "{line}: {}",
            group.name
        );
    }
}
