r"""The completion scripts of bash, zsh and fish, written from the table of commands.

Each is functions of the shell with the words in them; only names of secrets are asked for when Tab
is pressed, by `secret-agent complete names`.  Texts go in quoted, whatever they hold.
"""

from secret_agent_client.cli.completion_words import Option, Words

Table = list[Words]

_BASH = r"""# Completion of secret-agent for bash, made by: secret-agent completions bash
_secret_agent() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} key=${COMP_WORDS[1]-}
  local words='' kind=nothing word
  COMPREPLY=()
  if ((COMP_CWORD == 1)); then
    COMPREPLY=($(compgen -W '@VERBS@' -- "$cur"))
    return
  fi
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    [[ $word != -- ]] || return 0 # what follows belongs to another command
  done
  case $key in
    @PARENTS@) ((COMP_CWORD == 2)) || key="$key ${COMP_WORDS[2]}" ;;
  esac
  case $key:$prev in
@AFTER@
    *) case $key in
@THEN@
      esac ;;
  esac
  case $kind in
    names) words="$words $(command secret-agent complete names 2>/dev/null </dev/null)" ;;
    files) [[ $cur == -* ]] || return 0 ;; # readline's own, by -o default
    *) compopt +o default 2>/dev/null ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o default -F _secret_agent secret-agent
"""

_ZSH = r"""#compdef secret-agent
# Completion of secret-agent for zsh, made by: secret-agent completions zsh
_secret_agent() {
  local kind=nothing key=$words[2]
  local -a found options
  if ((CURRENT == 2)); then
    found=(@VERBS@)
    _describe -t commands command found
    return
  fi
  if ((${words[(I)--]} && ${words[(I)--]} < CURRENT)); then
    _files
    return
  fi
  case $key in
    (@PARENTS@) ((CURRENT == 3)) || key="$key $words[3]" ;;
  esac
  case $key:$words[CURRENT-1] in
@AFTER@
    (*) case $key in
@THEN@
      esac ;;
  esac
  if [[ $PREFIX == -* ]]; then
    _describe -o option options
    return
  fi
  ((!$#found)) || _describe -t words word found
  case $kind in
    (names) compadd -- ${(f)"$(command secret-agent complete names 2>/dev/null </dev/null)"} ;;
    (files) _files ;;
  esac
}
compdef _secret_agent secret-agent
"""

_FISH = r"""# Completion of secret-agent for fish, made by: secret-agent completions fish
function __secret_agent_at --description 'whether the command line begins with these words'
    set -l words (commandline -opc)
    set -l last (math 1 + (count $argv))
    not contains -- -- $words
    and test "$words[2..$last]" = "$argv"
end
function __secret_agent_only --description 'whether the command line is these words so far'
    __secret_agent_at $argv
    and test (count (commandline -opc)) -eq (math 1 + (count $argv))
end
function __secret_agent_names
    command secret-agent complete names 2>/dev/null </dev/null
end
complete --command secret-agent --erase
complete --command secret-agent --no-files
"""


def bash(table: Table) -> str:
    """For bash 3.2 and later."""
    after, then = [], []
    for words in table:
        for option in _with_word(words):
            places = "|".join(_quote(f"{_key(words)}:{name}") for name in option.names)
            after.append(f"    {places}) {_bash_kind(option.takes, option.choices)} ;;")
        fixed = [word for word, _ in words.choices]
        options = [name for option in words.options for name in option.names]
        kind = _bash_kind(words.takes, (*fixed, *options))
        then.append(f"      {_quote(_key(words))}) {kind} ;;")
    return _fill(_BASH, table, " ".join(_verbs(table)), after, then)


def zsh(table: Table) -> str:
    """For zsh 5.0 and later, with compinit."""
    after, then = [], []
    for words in table:
        for option in _with_word(words):
            places = "|".join(_quote(f"{_key(words)}:{name}") for name in option.names)
            fixed = " ".join(map(_quote, option.choices))
            after.append(f"    ({places}) kind={option.takes}; found=({fixed}) ;;")
        fixed = " ".join(_zsh_item(word, text) for word, text in words.choices)
        options = " ".join(
            _zsh_item(n, option.help) for option in words.options for n in option.names
        )
        then.append(
            f"      ({_quote(_key(words))}) kind={words.takes}; found=({fixed})\n"
            f"        options=({options}) ;;"
        )
    verbs = " ".join(_zsh_item(*item) for item in _verbs(table).items())
    return _fill(_ZSH, table, verbs, after, then)


def fish(table: Table) -> str:
    """For fish 3.1 and later."""
    lines = [
        f"complete -c secret-agent -n __fish_use_subcommand -a {verb} -d {_fish_quote(text)}"
        for verb, text in _verbs(table).items()
    ]
    for words in table:
        has_below = any(other.path[:-1] == words.path for other in table)
        test = "__secret_agent_only" if has_below else "__secret_agent_at"
        at = f"complete -c secret-agent -n '{test} {_key(words)}'"
        lines += [f"{at} -a {word} -d {_fish_quote(text)}" for word, text in words.choices]
        lines += [f"{at} {_fish_option(option)}" for option in words.options]
        lines += [f"{at} {kind}" for kind in _FISH_KINDS.get(words.takes, ())]
    return _FISH + "\n".join(lines) + "\n"


SHELLS = {"bash": bash, "zsh": zsh, "fish": fish}

_FISH_KINDS = {"names": ("-a '(__secret_agent_names)'",), "files": ("-F",)}


def _fish_option(option: Option) -> str:
    spelt = [
        f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names
    ]
    if option.takes != "nothing":
        spelt.append("-r" if option.takes == "files" else "-x")  # -x: and no files
        spelt += _FISH_KINDS.get(option.takes, ())
    if option.choices:
        spelt.append(f"-a {_fish_quote(' '.join(option.choices))}")
    return " ".join((*spelt, "-d", _fish_quote(option.help)))


def _fill(script: str, table: Table, verbs: str, after: list[str], then: list[str]) -> str:
    parents = "|".join(dict.fromkeys(words.path[0] for words in table if len(words.path) > 1))
    for mark, text in (
        ("@VERBS@", verbs),
        ("@PARENTS@", parents or "''"),
        ("@AFTER@", "\n".join(after)),
        ("@THEN@", "\n".join(then)),
    ):
        script = script.replace(mark, text)
    return script


def _key(words: Words) -> str:
    return " ".join(words.path)


def _verbs(table: Table) -> dict[str, str]:
    return {words.path[0]: words.help for words in table if len(words.path) == 1}


def _with_word(words: Words) -> list[Option]:
    return [option for option in words.options if option.takes != "nothing"]


def _bash_kind(takes: str, words: tuple[str, ...]) -> str:
    return f"kind={takes} words={_quote(' '.join(words))}"


def _zsh_item(word: str, text: str) -> str:
    return _quote(word.replace(":", "\\:") + ":" + text)


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _fish_quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
