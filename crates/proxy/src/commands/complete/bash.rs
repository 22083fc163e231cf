//! The script for bash.

use super::{families, filled, operand_rows, option_lists, option_rows, quoted, word_lists};

/// It walks the words before the cursor as the parser does. Words are taken from the whole line, as bash would
/// break addresses at their colons; what bash replaces is only behind the last break. Names that come from the
/// daemon are never expanded.
const SCRIPT: &str = r#"# Completions of bpfsmith-proxy for bash.

_bpfsmith_proxy_option() {
    case $1:$2 in
@OPTION_ROWS@
    *) kind= ;;
    esac
}

_bpfsmith_proxy_operand() {
    case $1:$2 in
@OPERAND_ROWS@
    *) kind=any ;;
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
    local line=${COMP_LINE:0:COMP_POINT}
    local -a words list=()
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    local last=$((${#words[@]} - 1))
    local command= kind= wants= rest= help= operand=0 word i
    local -a socket=()
    for ((i = 1; i < last; i++)); do
        word=${words[i]}
        if [[ $wants ]]; then
            [[ ${words[i - 1]} == --socket ]] && socket=(--socket "$word")
            wants=
            continue
        fi
        if [[ ! $rest ]]; then
            case $word in
            --) rest=1 && continue ;;
            --*=*) continue ;;
            -?*)
                _bpfsmith_proxy_option "$command" "$word"
                wants=$kind
                continue
                ;;
            esac
        fi
        case $command in
        '') [[ $word == help ]] && help=1 || command=$word ;;
        @FAMILIES@) command+=" $word" ;;
        *) operand=$((operand + 1)) ;;
        esac
    done
    local full=${words[last]} cur=${words[last]} prefix=
    if [[ $wants ]]; then
        kind=$wants
    elif [[ ! $rest && $cur == --*=* ]]; then
        _bpfsmith_proxy_option "$command" "${cur%%=*}"
        prefix=${cur%%=*}=
        cur=${cur#*=}
    elif [[ ! $rest && $cur == -* ]]; then
        kind=options
    else
        case $command in
        '' | @FAMILIES@) kind=command ;;
        *) [[ $help ]] || _bpfsmith_proxy_operand "$command" "$operand" ;;
        esac
    fi
    case $kind in
    file) mapfile -t list < <(compgen -f -- "$cur") && compopt -o filenames 2>/dev/null ;;
    directory) mapfile -t list < <(compgen -d -- "$cur") && compopt -o filenames 2>/dev/null ;;
    words*) read -ra list <<<"${kind#words}" ;;
    several*)
        read -ra list <<<"${kind#several}"
        [[ $cur == *,* ]] && prefix+=${cur%,*}, && cur=${cur##*,}
        ;;
    names*) mapfile -t list < <("${words[0]}" "${socket[@]}" __names "${kind#names }" 2>/dev/null) ;;
    options) _bpfsmith_proxy_options "$command" ;;
    command) _bpfsmith_proxy_words "$command" ;;
    esac
    local breaks= head= candidate
    [[ $COMP_WORDBREAKS == *:* ]] && breaks+=:
    [[ $COMP_WORDBREAKS == *=* ]] && breaks+==
    [[ $breaks ]] && head=${full%"${full##*[$breaks]}"}
    COMPREPLY=()
    for candidate in "${list[@]}"; do
        [[ $candidate == "$cur"* ]] || continue
        candidate=$prefix$candidate
        COMPREPLY+=("${candidate#"$head"}")
    done
}

complete -F _bpfsmith_proxy bpfsmith-proxy
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
        format!("    {key}) kind={} ;;\n", quoted(kind))
    };
    let list = |(name, words): (&str, Vec<String>)| {
        format!("    {}) list=({}) ;;\n", quoted(name), words.join(" "))
    };
    let words = word_lists().into_iter().map(|(name, words)| {
        let words = words.iter().map(|(word, _)| (*word).to_owned());
        list((name, words.collect()))
    });
    let options = option_lists().into_iter().map(|(name, options)| {
        let options = options.into_iter().map(|(option, _)| option);
        list((name, options.collect()))
    });
    let tables = [
        ("@OPTION_ROWS@", option_rows(row)),
        ("@OPERAND_ROWS@", operand_rows(row)),
        ("@WORD_ROWS@", words.collect()),
        ("@OPTION_LISTS@", options.collect()),
    ];
    filled(SCRIPT, &tables).replace("@FAMILIES@", &families(" | "))
}
