# shellcheck shell=bash
# `use secret-agent` for direnv.  Install it once, after mkdir -p ~/.config/direnv/lib:
#   secret-agent shell-init direnv >~/.config/direnv/lib/secret-agent.sh
#
# Usage, in .envrc: use secret-agent [--stage STAGE] [--values]
#
# It exports what the trusted secrets.toml names: references, which `secret-agent run` resolves, and
# with --values the values themselves.
# Rules: all or nothing; whatever fails, fails the whole .envrc.  References take no lease.  Values
# do, bound to the shell and told of by SECRET_AGENT_LEASES, so that the shell's hook can end them.
# It must never write a value anywhere but into the environment that direnv makes.

use_secret-agent() {
  local -a options=()
  local values='' manifest exports status
  while (($#)); do
    case $1 in
      --values) values=1 ;;
      --stage) options+=(--stage "${2-}") && shift ;;
      --stage=*) options+=("$1") ;;
      *) __secret_agent_fail 'use secret-agent [--stage STAGE] [--values]' ;;
    esac
    shift || __secret_agent_fail '--stage needs a name'
  done
  command -v secret-agent >/dev/null || __secret_agent_fail 'secret-agent is not on PATH'
  manifest=$(find_up secrets.toml) || __secret_agent_fail 'no secrets.toml here or above'
  watch_file "$manifest"
  [[ -z $values ]] || options+=(--reveal)
  # No prompt: direnv runs before the prompt, where nobody expects a question.
  exports=$(secret-agent env --no-input --shell posix ${options[@]+"${options[@]}"}) || {
    status=$?
    __secret_agent_fail "nothing was exported (exit $status); once mended: direnv reload"
  }
  eval "$exports"
  [[ -z $values ]] || __secret_agent_warn_of_values
}

__secret_agent_fail() { # a failing `use` alone would let the .envrc go on
  log_error "secret-agent: $1"
  exit 1
}

__secret_agent_warn_of_values() {
  log_error "secret-agent: --values: the values are in this shell's environment and in DIRENV_DIFF;"
  log_error '  every program started here, and every process of yours, can read them.'
  log_error "  Without --values they stay references, which \"secret-agent run -- CMD\" resolves."
}
