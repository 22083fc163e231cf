//! The script for zsh.

use super::{brief, families, filled, operand_rows, option_lists, option_rows, quoted, word_lists};

/// It walks the words before the cursor as the parser does.
const SCRIPT: &str = r#"#compdef bpfsmith-proxy
# Completions of bpfsmith-proxy for zsh.

_bpfsmith_proxy_option() {
    case $1:$2 in
@OPTION_ROWS@
    (*) kind= ;;
    esac
}

_bpfsmith_proxy_operand() {
    case $1:$2 in
@OPERAND_ROWS@
    (*) kind=any ;;
    esac
}

_bpfsmith_proxy_words() {
    case $1 in
@WORD_ROWS@
    esac
}

_bpfsmith_proxy_options() {
    case $1 in
@OPTION_LISTS@
    esac
}

_bpfsmith_proxy() {
    local command= kind= wants= rest= help= word
    local -a list socket
    integer operand=0 i
    for ((i = 2; i < CURRENT; i++)); do
        word=$words[i]
        if [[ -n $wants ]]; then
            [[ $words[i-1] == --socket ]] && socket=(--socket $word)
            wants=
            continue
        fi
        if [[ -z $rest ]]; then
            case $word in
            (--) rest=1; continue ;;
            (--*=*) continue ;;
            (-?*) _bpfsmith_proxy_option "$command" "$word"; wants=$kind; continue ;;
            esac
        fi
        case $command in
        ('') if [[ $word == help ]]; then help=1; else command=$word; fi ;;
        (@FAMILIES@) command+=" $word" ;;
        (*) ((operand += 1)) ;;
        esac
    done
    local cur=$words[CURRENT]
    if [[ -n $wants ]]; then
        kind=$wants
    elif [[ -z $rest && $cur == --*=* ]]; then
        _bpfsmith_proxy_option "$command" "${cur%%=*}"
        compset -P '*='
    elif [[ -z $rest && $cur == -* ]]; then
        kind=options
    else
        case $command in
        (''|@FAMILIES@) kind=command ;;
        (*) [[ -n $help ]] || _bpfsmith_proxy_operand "$command" "$operand" ;;
        esac
    fi
    case $kind in
    (file) _files ;;
    (directory) _files -/ ;;
    (words*) compadd -- ${=kind#words} ;;
    (several*) compset -P '*,'; compadd -- ${=kind#several} ;;
    (names*)
        list=(${(f)"$($words[1] $socket __names ${kind#names } 2>/dev/null)"})
        compadd -a list
        ;;
    (options) _bpfsmith_proxy_options "$command"; _describe -o option list ;;
    (command)
        _bpfsmith_proxy_words "$command"
        _describe command list
        ;;
    esac
}

if [[ $funcstack[1] == _bpfsmith-proxy ]]; then
    _bpfsmith_proxy "$@"
else
    compdef _bpfsmith_proxy bpfsmith-proxy
fi
"#;

pub(super) fn script() -> String {
    let row = |key: &str, kind: &str| {
        let key = match key.strip_prefix("*:") {
            Some(option) => format!("*:{option}"),
            None => match key.strip_suffix(":*") {
                Some(command) => format!("{}:*", quoted(command)),
                None => quoted(key),
            },
        };
        format!("    ({key}) kind={} ;;\n", quoted(kind))
    };
    let described = |name: &str, text: &str| quoted(&format!("{name}:{}", brief(text)));
    let list = |name: &str, words: Vec<String>| {
        format!("    ({}) list=({}) ;;\n", quoted(name), words.join(" "))
    };
    let words = word_lists().into_iter().map(|(name, words)| {
        let words = words.iter().map(|(word, text)| described(word, text));
        list(name, words.collect())
    });
    let options = option_lists().into_iter().map(|(name, options)| {
        let options = options.iter().map(|(option, text)| described(option, text));
        list(name, options.collect())
    });
    let tables = [
        ("@OPTION_ROWS@", option_rows(row)),
        ("@OPERAND_ROWS@", operand_rows(row)),
        ("@WORD_ROWS@", words.collect()),
        ("@OPTION_LISTS@", options.collect()),
    ];
    filled(SCRIPT, &tables).replace("@FAMILIES@", &families("|"))
}
