//! The script for fish.

use super::{brief, filled, operand_rows, option_lists, option_rows, word_lists};
use crate::commands::table::FAMILIES;

/// It walks the words before the cursor as the parser does, and prints candidates with what they are.
const SCRIPT: &str = r#"# Completions of bpfsmith-proxy for fish.

function __bpfsmith_proxy_option
    switch "$argv[1]:$argv[2]"
@OPTION_ROWS@
    end
end

function __bpfsmith_proxy_operand
    switch "$argv[1]:$argv[2]"
@OPERAND_ROWS@
    end
end

function __bpfsmith_proxy_words
    switch "$argv[1]"
@WORD_ROWS@
    end
end

function __bpfsmith_proxy_options
    switch "$argv[1]"
@OPTION_LISTS@
    end
end

function __bpfsmith_proxy
    set -l words (commandline -opc)
    set -l cur (commandline -ct)
    set -l command ''
    set -l wants ''
    set -l rest ''
    set -l before ''
    set -l help ''
    set -l socket
    set -l operand 0
    for word in $words[2..-1]
        if test -n "$wants"
            test "$before" = --socket; and set socket --socket $word
            set wants ''
            continue
        end
        if test -z "$rest"
            set before $word
            switch $word
                case --
                    set rest 1
                    continue
                case '--*=*'
                    continue
                case '-*'
                    if test "$word" != -
                        set wants (__bpfsmith_proxy_option "$command" $word)
                        continue
                    end
            end
        end
        switch "$command"
            case ''
                if test $word = help
                    set help 1
                else
                    set command $word
                end
            case @FAMILIES@
                set command "$command $word"
            case '*'
                set operand (math $operand + 1)
        end
    end
    set -l kind ''
    set -l prefix ''
    if test -n "$wants"
        set kind $wants
    else if test -z "$rest"; and string match -q -- '--*=*' $cur
        set -l parts (string split -m 1 = -- $cur)
        set kind (__bpfsmith_proxy_option "$command" $parts[1])
        set prefix $parts[1]=
        set cur $parts[2]
    else if test -z "$rest"; and string match -q -- '-*' $cur
        set kind options
    else
        switch "$command"
            case '' @FAMILIES@
                set kind command
            case '*'
                test -z "$help"; and set kind (__bpfsmith_proxy_operand "$command" $operand)
        end
    end
    set -l list
    switch "$kind"
        case file
            set list (__fish_complete_path "$cur")
        case directory
            set list (__fish_complete_directories "$cur" '')
        case 'words *'
            set list (string split ' ' -- (string sub -s 7 -- $kind))
        case 'several *'
            set list (string split ' ' -- (string sub -s 9 -- $kind))
            set prefix $prefix(string replace -r '[^,]*$' '' -- "$cur")
        case 'names *'
            set list ($words[1] $socket __names (string sub -s 7 -- $kind) 2>/dev/null)
        case options
            set list (__bpfsmith_proxy_options "$command")
        case command
            set list (__bpfsmith_proxy_words "$command")
    end
    for candidate in $list
        printf '%s%s\n' "$prefix" "$candidate"
    end
end

complete -c bpfsmith-proxy -f -a '(__bpfsmith_proxy)'
"#;

/// A text with quotes around it for fish.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

pub(super) fn script() -> String {
    let row = |key: &str, kind: &str| {
        format!(
            "        case {}\n            echo {}\n",
            quoted(key),
            quoted(kind)
        )
    };
    let line = |name: &str, text: &str| {
        let (name, text) = (quoted(name), quoted(brief(text)));
        format!("            printf '%s\\t%s\\n' {name} {text}\n")
    };
    let case = |name: &str| format!("        case {}\n", quoted(name));
    let words = word_lists().into_iter().map(|(name, words)| {
        let lines: String = words.iter().map(|(word, text)| line(word, text)).collect();
        case(name) + &lines
    });
    let options = option_lists().into_iter().map(|(name, options)| {
        let lines: String = options
            .iter()
            .map(|(option, text)| line(option, text))
            .collect();
        case(name) + &lines
    });
    let names: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
    let tables = [
        ("@OPTION_ROWS@", option_rows(row)),
        ("@OPERAND_ROWS@", operand_rows(row)),
        ("@WORD_ROWS@", words.collect()),
        ("@OPTION_LISTS@", options.collect()),
    ];
    filled(SCRIPT, &tables).replace("@FAMILIES@", &names.join(" "))
}
