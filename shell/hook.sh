# shellcheck shell=sh disable=SC3067
# (SC3067: test -O is not in POSIX, but in dash, ksh and ash.)
# secret-agent in a POSIX shell (dash, ksh, busybox ash): source this, or
# eval "$(secret-agent shell-init sh)".
#
# It attaches this shell to the user's agent.  Such a shell runs nothing before a prompt, so that an
# agent which was replaced is joined again by `eval $(secret-agent start)`; the end of the shell is
# seen by the kernel.  For a segment: PS1='$(__secret_agent_prompt)$ '.
# Rules: only words of ours are shown.  Traps, PS1, $? and options of the shell stay the user's.
# It holds no value, makes no alias, waits for nobody.

__secret_agent_soon_s=60 # a lease is about to end so many seconds before its end

__secret_agent_digits() { # whether $1 is a number above 0 of at most $2 digits
  case $1 in '' | 0* | *[!0-9]*) return 1 ;; esac
  [ "${#1}" -le "$2" ]
}

__secret_agent_read() { # the line beside the socket $1, "STATE SESSION-ENDS LEASE-ENDS PID"
  __secret_agent_state='' __secret_agent_pid='' __secret_agent_locks='' __secret_agent_ends=''
  [ -f "${1%/*}/prompt" ] || return 0 # not a FIFO, which would hold the prompt up
  {
    IFS=' ' read -r __secret_agent_state __secret_agent_locks __secret_agent_ends \
      __secret_agent_pid __secret_agent_rest || :
  } 2>/dev/null <"${1%/*}/prompt" || :
  case $__secret_agent_state in
    locked | unlocked)
      __secret_agent_digits "$__secret_agent_pid" 10 && kill -0 "$__secret_agent_pid" 2>/dev/null &&
        return 0
      ;;
  esac
  __secret_agent_state='' __secret_agent_pid=''
}

__secret_agent_try() { # attach to the agent at the socket $1, if it is alive
  [ -S "$1" ] || return 1
  __secret_agent_read "$1"
  # A scoped socket has no line beside it; an agent with one must be alive, and ours.
  if [ -z "$__secret_agent_state" ] || [ ! -O "$1" ]; then
    [ ! -e "${1%/*}/prompt" ] || return 1
  fi
  export SECRET_AGENT_SOCK="$1"
  [ -z "$__secret_agent_pid" ] || export SECRET_AGENT_PID="$__secret_agent_pid"
  command secret-agent register --pid "$$" </dev/null >/dev/null 2>&1 || :
}

__secret_agent_attach() { # export where a living agent is and register this shell with it
  ! __secret_agent_try "${SECRET_AGENT_SOCK-}" || return 0
  __secret_agent_run=${SECRET_AGENT_HOME:-${XDG_RUNTIME_DIR-}/secret-agent}/agent.sock
  if [ -O "$__secret_agent_run" ] && __secret_agent_try "$__secret_agent_run"; then return 0; fi
  unset SECRET_AGENT_SOCK SECRET_AGENT_PID # of an agent that is gone: a tmux keeps them
  case $-${SECRET_AGENT_AUTOSTART-1} in
    *i*1) eval "$(command secret-agent start --shell posix --pid "$$" </dev/null)" || : ;;
  esac
}

__secret_agent_prompt() { # locked, unlocked, or ending where the shell knows the time
  [ -n "${SECRET_AGENT_SOCK-}" ] || return 0
  __secret_agent_read "$SECRET_AGENT_SOCK"
  [ -n "$__secret_agent_state" ] || return 0
  # shellcheck disable=SC3028  # asked for, not relied on: dash and ksh do not know the time
  for __secret_agent_rest in "$__secret_agent_locks" "$__secret_agent_ends"; do
    __secret_agent_digits "${EPOCHSECONDS-}" 12 || break
    __secret_agent_digits "$__secret_agent_rest" 12 || continue
    # shellcheck disable=SC3028  # known to be set here
    if [ $((EPOCHSECONDS + __secret_agent_soon_s)) -ge "$__secret_agent_rest" ]; then
      __secret_agent_state=ending
    fi
  done
  printf '%s ' "$__secret_agent_state"
}

__secret_agent_attach
